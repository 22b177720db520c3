/* Programs that are run: output, status, deadline for the whole group, environment, descriptors, signals. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/unit.h"
#include "run/child.h"
#include "tap.h"

static depot_arena *arena;

static bool sh_with(child_spec *spec, const char *script, int64_t timeout_ms, child_result *out, depot_err *err)
{
    const char *const argv[] = { "/bin/sh", "-c", script, NULL };

    *err = (depot_err){ 0 };
    spec->argv = argv;
    return child_run(arena, spec, NULL, 0, 1 << 16, timeout_ms, out, err);
}

static bool sh(const char *script, int64_t timeout_ms, child_result *out, depot_err *err)
{
    child_spec spec = CHILD_SPEC_INIT;

    return sh_with(&spec, script, timeout_ms, out, err);
}

static bool is_gone(const char *pid_text)
{
    pid_t pid = (pid_t)strtol(pid_text, NULL, 10);

    for (int i = 0; i < 300; i++) {
        char  path[64], state = 'X';
        FILE *f;
        (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        f = fopen(path, "re");
        if (f == NULL) {
            return true;
        }
        int n = fscanf(f, "%*d %*s %c", &state);
        (void)fclose(f);
        if (n == 1 && state == 'Z') {
            return true; /* nobody reaps orphans in some containers */
        }
        usleep(10000);
    }
    return false;
}

static void output_and_status_come_back(void)
{
    child_result r;
    depot_err    err;

    ok(sh("echo out; echo err >&2; exit 3", 10000, &r, &err), "a program that ends by itself");
    is_str(r.out, "out\n", "its output");
    is_str(r.err_out, "err\n", "its errors");
    is_int(r.status, 3, "its status");
    ok(sh("kill -TERM $$", 10000, &r, &err) && r.status == 128 + SIGTERM, "or the signal that ended it");
}

static void the_deadline_is_for_the_whole_group(void)
{
    child_result r;
    depot_err    err;
    char         name[] = "/tmp/test-child.XXXXXX", text[32] = "";
    int          fd = mkstemp(name);
    int64_t      began = depot_now_ms();

    ok(!sh("sleep 60; true", 300, &r, &err), "a program that is late");
    is_int(err.code, DEPOT_E_TIMEOUT, "is killed");
    const char *script = depot_strf(arena, "sleep 60 & echo $! > %s; exit 0", name);
    ok(!sh(script, 500, &r, &err), "one that has ended but left somebody behind who holds its output");
    is_int(err.code, DEPOT_E_TIMEOUT, "is late too");
    ok(pread(fd, text, sizeof(text) - 1, 0) > 0 && is_gone(text), "and who was left behind is killed");
    ok(depot_now_ms() - began < 20000, "soon");
    (void)unlink(name);
    (void)close(fd);
}

static void a_canceled_unit_ends_it(void)
{
    atomic_bool  canceled = true;
    unit         u = { .deadline_ms = INT64_MAX, .canceled = &canceled };
    child_result r;
    depot_err    err;

    unit_enter(&u);
    ok(!sh("sleep 60; true", 60000, &r, &err), "a program whose work is canceled");
    unit_leave(&u);
    is_int(err.code, DEPOT_E_CANCELED, "is killed");
    ok(sh("exit 0", INT64_MAX, &r, &err), "no deadline is a deadline far away");
}

static void it_gets_nothing_that_it_should_not(void)
{
    child_result r;
    depot_err    err;
    int          open_fd = open("/dev/null", O_RDONLY); /* not close-on-exec, as a careless library might have it */

    (void)setenv("SECRET_OF_THE_TEST", "x", 1);
    ok(sh("ls /proc/self/fd | tr '\\n' ' '", 10000, &r, &err), "descriptors");
    is_str(r.out, "0 1 2 3 ", "are the three, and the folder that ls reads");
    ok(sh("env", 10000, &r, &err) && strstr(r.out, "SECRET_OF_THE_TEST") == NULL, "the environment is clean");
    (void)close(open_fd);
}

static void on_signal(int sig)
{
    (void)sig;
}

static void signals_are_as_at_login(void)
{
    child_result r;
    depot_err    err;

    (void)signal(SIGTERM, on_signal);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    ok(sh("sed -n 's/^SigBlk:.//p' /proc/self/status", 10000, &r, &err) && strtoull(r.out, NULL, 16) == 0, "no signal is blocked");
    /* 32 and 33 are the C library's own: what stands there comes from whoever started this test */
    ok(sh("sed -n 's/^SigIgn:.//p' /proc/self/status", 10000, &r, &err) && (strtoull(r.out, NULL, 16) & 0x7fffffff) == 0,
       "none is ignored");
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGHUP, SIG_DFL);
    (void)signal(SIGPIPE, SIG_DFL);
}

static void what_cannot_be_run_is_told(void)
{
    static const char *const argv[] = { "/no/such/program", NULL };
    child_spec               spec = CHILD_SPEC_INIT;
    child                    c;
    depot_err                err = { 0 };

    spec.argv = argv;
    ok(!child_start(&spec, &c, &err), "a program that is not there");
    contains(err.msg, "cannot run /no/such/program: No such file or directory", "is named");
    is_int(err.code, DEPOT_E_EXEC, "EXEC");
}

int main(void)
{
    arena = depot_arena_new();
    run(output_and_status_come_back);
    run(the_deadline_is_for_the_whole_group);
    run(a_canceled_unit_ends_it);
    run(it_gets_nothing_that_it_should_not);
    run(signals_are_as_at_login);
    run(what_cannot_be_run_is_told);
    depot_arena_free(arena);
    return done();
}
