/* child.c - start programs and wait for them: fork, a few async-signal-safe calls, exec; ends are seen through a pidfd. */
#include "run/child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/unit.h"

enum { GROUPS_MAX = 64, ENV_MAX = 8, FD_ABOVE = 16, READ_BLOCK = 65536, SESSION_ROUNDS = 5 };

/* What is worked out before the fork, because only async-signal-safe calls may come after it. */
typedef struct plan {
    const child_spec *spec;
    const char *const *env;
    gid_t groups[GROUPS_MAX];
    int   n_groups;
    int   report; /* write end: errno of what failed in the child */
    pid_t parent;
} plan;

static bool use_fds(const child_spec *spec)
{
    const int want[] = { spec->in, spec->out, spec->err, spec->keep };
    int       moved[DEPOT_N(want)];
    size_t    n = spec->keep >= 0 ? 4 : 3;

    for (size_t i = 0; i < n; i++) {
        int fd = want[i] >= 0 ? want[i] : open("/dev/null", O_RDWR);
        moved[i] = fd < 0 ? -1 : fcntl(fd, F_DUPFD, FD_ABOVE);
        if (moved[i] < 0) {
            return false;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (dup2(moved[i], (int)i) < 0) {
            return false;
        }
    }
    return true;
}

static bool use_limits(const plan *p)
{
    const child_spec *spec = p->spec;

    if (spec->memory_limit > 0) {
        struct rlimit limit = { (rlim_t)spec->memory_limit, (rlim_t)spec->memory_limit };
        if (setrlimit(RLIMIT_AS, &limit) != 0) {
            return false;
        }
    }
    if (spec->die_with_parent && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != p->parent)) {
        return false; /* or it has died meanwhile */
    }
    return !spec->no_new_privs || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

static bool use_user(const plan *p)
{
    const child_spec *spec = p->spec;

    if (spec->uid == (uid_t)-1 || geteuid() != 0) {
        return true;
    }
    return setgroups((size_t)p->n_groups, p->groups) == 0 && setresgid(spec->gid, spec->gid, spec->gid) == 0 &&
           setresuid(spec->uid, spec->uid, spec->uid) == 0;
}

/* Runs in the child. The report pipe is above FD_ABOVE and closes itself at exec. */
static _Noreturn void become(const plan *p)
{
    const child_spec *spec = p->spec;
    sigset_t          none;

    /* the handlers of the daemon must not run here: they would tell it of signals that were meant for this process */
    for (int sig = 1; sig < NSIG; sig++) {
        (void)signal(sig, SIG_DFL); /* KILL and STOP cannot be changed, and need not */
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* NOLINT(concurrency-mt-unsafe): the child has one thread */
    int report = fcntl(p->report, F_DUPFD_CLOEXEC, FD_ABOVE * 4);
    bool alone = spec->own_session ? setsid() >= 0 : setpgid(0, 0) == 0;
    bool ok = report >= 0 && alone && use_fds(spec) && chdir(spec->cwd == NULL ? "/" : spec->cwd) == 0;

    if (ok) {
        unsigned first = spec->keep >= 0 ? 4 : 3;
        ok = close_range(first, (unsigned)report - 1, 0) == 0 && close_range((unsigned)report + 1, ~0U, 0) == 0;
    }
    /* privileges go last: PDEATHSIG is cleared by a change of user, so limits follow it */
    if (ok && use_user(p) && use_limits(p)) {
        execve(spec->argv[0], (char *const *)(uintptr_t)spec->argv, (char *const *)(uintptr_t)p->env);
    }
    int     code = errno;
    ssize_t told = write(report, &code, sizeof(code));
    _exit(told == (ssize_t)sizeof(code) ? 127 : 126);
}

static const char **default_env(depot_arena *arena)
{
    static const char *const names[] = { "LANG", "LC_ALL", "TZ" };
    const char             **env = depot_alloc(arena, sizeof(*env) * ENV_MAX);
    size_t                   n = 0;

    env[n++] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    for (size_t i = 0; i < DEPOT_N(names); i++) {
        const char *value = getenv(names[i]);
        if (value != NULL) {
            env[n++] = depot_strf(arena, "%s=%s", names[i], value);
        }
    }
    return env;
}

static bool is_set(const char *const *extra, const char *name, size_t n)
{
    for (size_t i = 0; extra != NULL && extra[i] != NULL; i++) {
        if (strncmp(extra[i], name, n) == 0 && extra[i][n] == '=') {
            return true;
        }
    }
    return false;
}

const char *const *child_env(depot_arena *arena, const char *const *extra)
{
    const char  *zone = getenv("TZ");
    const char  *own[] = { "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8",
                           zone == NULL ? NULL : depot_strf(arena, "TZ=%s", zone) };
    const char **env = depot_alloc(arena, (CHILD_ENV_MAX + DEPOT_N(own) + 1) * sizeof(*env));
    size_t       n = 0;

    for (size_t i = 0; i < DEPOT_N(own); i++) {
        if (own[i] != NULL && !is_set(extra, own[i], strcspn(own[i], "="))) {
            env[n++] = own[i];
        }
    }
    for (size_t i = 0; extra != NULL && extra[i] != NULL && i < CHILD_ENV_MAX; i++) {
        env[n++] = extra[i];
    }
    return env;
}

static bool wait_for_exec(int report, pid_t pid, const char *program, depot_err *err)
{
    int     code = 0;
    ssize_t n;

    do {
        n = read(report, &code, sizeof(code));
    } while (n < 0 && errno == EINTR);
    if (n == 0) {
        return true;
    }
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    errno = code;
    return DEPOT_FAIL(err, EXEC, "cannot run %s: %m", program);
}

bool child_start(const child_spec *spec, child *out, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_fd_close) int            read_end = -1;
    plan                                      p = { .spec = spec, .env = spec->env };
    int                                       pipe_fd[2];
    sigset_t                                  all, before;

    *out = (child){ .pidfd = -1 };
    if (p.env == NULL) {
        p.env = default_env(arena);
    }
    if (spec->user != NULL) {
        p.n_groups = GROUPS_MAX;
        if (getgrouplist(spec->user, spec->gid, p.groups, &p.n_groups) < 0) {
            return DEPOT_FAIL(err, EXEC, "user %s is in more than %d groups", spec->user, GROUPS_MAX);
        }
    }
    if (pipe2(pipe_fd, O_CLOEXEC) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot make a pipe");
    }
    read_end = pipe_fd[0];
    p.report = pipe_fd[1];
    p.parent = getpid();
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* until the child has put its handlers away */
    pid_t pid = fork();
    if (pid == 0) {
        become(&p);
    }
    int fork_errno = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(pipe_fd[1]);
    if (pid < 0) {
        errno = fork_errno;
        return DEPOT_FAIL_ERRNO(err, "cannot fork");
    }
    if (!wait_for_exec(read_end, pid, spec->argv[0], err)) {
        return false;
    }
    out->pid = pid;
    out->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (out->pidfd < 0) {
        int status = 0;
        DEPOT_FAIL_ERRNO(err, "cannot watch %s", spec->argv[0]);
        child_stop(out, SIGKILL, 1000, &status);
        return false;
    }
    return true;
}

static void reaped(child *c, int wait_status, int *out_status)
{
    if (out_status != NULL) {
        *out_status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
    }
    if (c->pidfd >= 0) {
        close(c->pidfd);
    }
    *c = (child){ .pidfd = -1 };
}

bool child_wait(child *c, int64_t timeout_ms, int *out_status)
{
    int64_t until = clock_until(timeout_ms);

    while (c->pid > 0) {
        int status;
        pid_t got = waitpid(c->pid, &status, WNOHANG);
        if (got == c->pid || (got < 0 && errno == ECHILD)) {
            reaped(c, got == c->pid ? status : 0, out_status);
            return true;
        }
        int64_t left = until - depot_now_ms();
        if (left <= 0) {
            return false;
        }
        /* without a pidfd (start failed half-way) fall back to a short sleep */
        struct pollfd fd = { .fd = c->pidfd, .events = POLLIN };
        int           slice = c->pidfd >= 0 ? (left > INT_MAX ? INT_MAX : (int)left) : 10;
        if (poll(&fd, c->pidfd >= 0 ? 1 : 0, slice) < 0 && errno != EINTR) {
            return false;
        }
    }
    return true;
}

void child_kill(child *c, int sig)
{
    if (c->pid > 0 && kill(-c->pid, sig) != 0) {
        kill(c->pid, sig); /* it has left its group; if it has ended this does nothing */
    }
}

/* The session of a process; -1: it is gone. */
static pid_t session_of(const char *pid)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_err                                 gone = { 0 };
    char                                     *text = NULL;

    if (!depot_read_file(arena, depot_strf(arena, "/proc/%s/stat", pid), 4096, &text, NULL, &gone)) {
        return -1;
    }
    const char *at = strrchr(text, ')'); /* behind the name: state, parent, group, session */
    for (int i = 0; i < 4 && at != NULL; i++) {
        at = strchr(at + 1, ' ');
    }
    return at == NULL ? -1 : (pid_t)strtol(at, NULL, 10);
}

static size_t kill_members(pid_t session)
{
    DIR                 *all = opendir("/proc");
    const struct dirent *entry;
    size_t               n = 0;

    while (all != NULL && (entry = readdir(all)) != NULL) { /* NOLINT(concurrency-mt-unsafe): a stream of our own */
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && pid != session && session_of(entry->d_name) == session) {
            n += kill(pid, SIGKILL) == 0;
        }
    }
    if (all != NULL) {
        closedir(all);
    }
    return n;
}

/* Its number stays its session's as long as it is not reaped. Again, as they may have started others meanwhile. */
void child_end_session(child *c, int64_t grace_ms)
{
    struct pollfd end = { .fd = c->pidfd, .events = POLLIN };

    if (c->pid <= 0 || c->pidfd < 0) {
        return;
    }
    if (poll(&end, 1, (int)grace_ms) <= 0) {
        child_kill(c, SIGKILL);
        (void)poll(&end, 1, (int)grace_ms); /* one that cannot be killed is left to child_wait */
    }
    for (int i = 0; i < SESSION_ROUNDS && kill_members(c->pid) > 0; i++) {
    }
}

void child_stop(child *c, int sig, int64_t grace_ms, int *out_status)
{
    child_kill(c, sig);
    if (!child_wait(c, grace_ms, out_status)) {
        child_kill(c, SIGKILL);
        while (!child_wait(c, 60000, out_status)) {
        }
    }
}

/* ---- child_run ---- */

typedef struct stream {
    int       fd;
    depot_buf kept;
    bool      cut;
} stream;

static void stream_drop(stream *s)
{
    depot_fd_close(&s->fd);
    depot_buf_free(&s->kept);
}

static void stream_read(stream *s, size_t max)
{
    char    block[READ_BLOCK];
    ssize_t n = read(s->fd, block, sizeof(block));

    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    if (n <= 0) {
        depot_fd_close(&s->fd);
        s->fd = -1;
        return;
    }
    size_t room = max - s->kept.len;
    size_t take = (size_t)n < room ? (size_t)n : room;
    depot_buf_add(&s->kept, block, take);
    s->cut = s->cut || take < (size_t)n;
}

typedef struct talk {
    stream      out, err;
    int         in;
    const char *input;
    size_t      input_len, output_max;
} talk;

static void talk_drop(talk *t)
{
    stream_drop(&t->out);
    stream_drop(&t->err);
    depot_fd_close(&t->in);
}

static void feed(talk *t)
{
    ssize_t n = write(t->in, t->input, t->input_len);

    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    if (n > 0) {
        t->input += n;
        t->input_len -= (size_t)n;
    }
    if (n < 0 || t->input_len == 0) { /* a program that closes its input early has read what it wants */
        depot_fd_close(&t->in);
        t->in = -1;
    }
}

/* Until both output streams are closed or time is up. */
static bool converse(talk *t, int64_t until)
{
    while (t->out.fd >= 0 || t->err.fd >= 0) {
        struct pollfd fds[] = { { t->out.fd, POLLIN, 0 }, { t->err.fd, POLLIN, 0 }, { t->in, POLLOUT, 0 } };
        int64_t       left = until - depot_now_ms();
        if (left <= 0 || unit_canceled()) {
            return false;
        }
        if (poll(fds, DEPOT_N(fds), left > 200 ? 200 : (int)left) < 0 && errno != EINTR) {
            return false;
        }
        if (t->out.fd >= 0 && fds[0].revents != 0) {
            stream_read(&t->out, t->output_max);
        }
        if (t->err.fd >= 0 && fds[1].revents != 0) {
            stream_read(&t->err, t->output_max);
        }
        if (t->in >= 0 && fds[2].revents != 0) {
            feed(t);
        }
    }
    return true;
}

static bool open_pipes(talk *t, int theirs[3], depot_err *err)
{
    int in[2], out[2], errs[2];

    if (pipe2(in, O_CLOEXEC) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot make a pipe");
    }
    t->in = in[1];
    theirs[0] = in[0];
    if (pipe2(out, O_CLOEXEC) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot make a pipe");
    }
    t->out.fd = out[0];
    theirs[1] = out[1];
    if (pipe2(errs, O_CLOEXEC) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot make a pipe");
    }
    t->err.fd = errs[0];
    theirs[2] = errs[1];
    /* both sides may be full at once: ours must never block */
    if (fcntl(t->in, F_SETFL, O_NONBLOCK) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot set a pipe non-blocking");
    }
    return true;
}

static char *keep(depot_arena *arena, const stream *s, size_t *out_len)
{
    *out_len = s->kept.len;
    return depot_strndup(arena, s->kept.data == NULL ? "" : s->kept.data, s->kept.len);
}

bool child_run(depot_arena *arena, const child_spec *spec, const void *input, size_t input_len, size_t output_max,
               int64_t timeout_ms, child_result *out, depot_err *err)
{
    DEPOT_AUTO(talk_drop) talk t = { .out.fd = -1, .err.fd = -1, .in = -1, .input = input, .input_len = input_len,
                                     .output_max = output_max };
    int        theirs[3] = { -1, -1, -1 };
    child_spec mine = *spec;
    child      c = { .pidfd = -1 };
    int64_t    until = clock_until(unit_remaining_ms(timeout_ms));

    *out = (child_result){ 0 };
    bool started = open_pipes(&t, theirs, err);
    if (started) {
        mine.in = theirs[0];
        mine.out = theirs[1];
        mine.err = theirs[2];
        started = child_start(&mine, &c, err);
    }
    for (size_t i = 0; i < DEPOT_N(theirs); i++) {
        depot_fd_close(&theirs[i]);
    }
    if (!started) {
        return false;
    }
    if (input_len == 0) {
        depot_fd_close(&t.in);
        t.in = -1;
    }
    bool    heard = converse(&t, until);
    int64_t left = until - depot_now_ms();
    /* while the streams are open something of the group still runs, even when the program itself has ended: the kill comes before
     * the reaping, as long as the group's number is ours */
    if (!heard || !child_wait(&c, left > 0 ? left : 0, &out->status)) {
        child_stop(&c, SIGKILL, 0, &out->status);
        if (unit_canceled()) {
            return DEPOT_FAIL(err, CANCELED, "%s was stopped because its work was canceled", spec->argv[0]);
        }
        DEPOT_FAIL(err, TIMEOUT, "%s was still running after %lld ms and was killed", spec->argv[0], (long long)timeout_ms);
        return false;
    }
    out->out = keep(arena, &t.out, &out->out_len);
    out->err_out = keep(arena, &t.err, &out->err_len);
    out->truncated = t.out.cut || t.err.cut;
    return true;
}
