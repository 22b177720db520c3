/* test_workers.c - scripts in real worker processes: results, crashes, hangs, memory, cancel, reload, stop. This program is
 * its own worker: with --worker it becomes what depotd becomes. test-tsan: yes, test-plain: yes */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "lua/scripts.h"
#include "tap.h"

enum { WORKERS = 2, CONCURRENCY = 4, WAIT_MS = 20000 };
#ifdef __SANITIZE_THREAD__ /* takes ten times the processor time */
enum { CPU_MS = 5000 };
#else
enum { CPU_MS = 500 };
#endif

/* ---- the one plugin of this host ---- */

static bool fn_block(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    int64_t until = depot_now_ms() + depot_arg_int(call, 0);

    (void)ctx;
    (void)err;
    while (depot_now_ms() < until) {
        usleep(10000);
    }
    depot_return_str(call, "slept", 5);
    return true;
}

static bool fn_crash(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    (void)ctx;
    (void)call;
    (void)err;
    raise(SIGKILL);
    return true;
}

static bool fn_variable(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    const char *value = getenv(depot_arg_str(call, 0, NULL));

    (void)ctx;
    (void)err;
    depot_return_str(call, value == NULL ? "-" : value, value == NULL ? 1 : strlen(value));
    return true;
}

static bool fn_count(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    (void)err;
    depot_count(ctx, "depot_core_pokes_total", DEPOT_LABELS("a"), (double)depot_arg_int(call, 0));
    return true;
}

static const depot_lua_fn fns[] = {
    { "test.block", "(ms: integer): string", 0, fn_block, "Blocks a thread of the pool.", NULL, NULL },
    { "test.crash", "()", 0, fn_crash, "Ends the process.", NULL, NULL },
    { "test.variable", "(name: string): string", 0, fn_variable, "A variable of the environment.", NULL, NULL },
    { "test.count", "(n: integer)", 0, fn_count, "Adds to a counter.", NULL, NULL },
};
static const depot_metric metric_rows[] = {
    { .name = "depot_core_pokes_total", .kind = DEPOT_COUNTER, .labels = (const char *const[]){ "who", NULL, NULL }, .doc = "pokes" },
};
static const depot_plugin core = { .version = "1", .summary = "test", .lua = DEPOT_TABLE(fns), .metrics = DEPOT_TABLE(metric_rows) };

static host_env env;

static host *make_host(bool worker)
{
    env = (host_env){ .state_dir = "/tmp", .node = "n", .data_dir = "/tmp", .conf_dir = "/tmp", .plugin_dir = "/tmp",
                      .worker = worker };
    return host_new(&env, &core);
}

/* ---- one script, waited for ---- */

typedef struct waiting {
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t  cond;
    int             done;
    bool            ok;
    char            json[4096], where[200];
    depot_err       err;
} waiting;

static const host_scripts *ops;
static host               *h;
static char                folder[64];

static void on_done(void *arg, const depot_script_result *res)
{
    waiting *w = arg;

    pthread_mutex_lock(&w->lock);
    w->done++;
    w->ok = res->ok;
    snprintf(w->json, sizeof(w->json), "%s", res->json);
    snprintf(w->where, sizeof(w->where), "%s", res->where);
    w->err = res->err;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

static void wait_init(waiting *w)
{
    memset(w, 0, sizeof(*w));
    pthread_mutex_init(&w->lock, NULL);
    clock_cond_init(&w->cond);
}

static bool wait_for(waiting *w, int64_t ms)
{
    int64_t until = depot_now_ms() + ms;

    pthread_mutex_lock(&w->lock);
    while (w->done == 0 && clock_cond_wait(&w->cond, &w->lock, until)) {
    }
    int n = w->done;
    pthread_mutex_unlock(&w->lock);
    return n == 1;
}

static uint64_t begin(waiting *w, const char *handler, const char *file, const char *arg, int64_t timeout_ms)
{
    const depot_script script = { .handler = handler, .file = file, .arg = arg, .label = "job 7", .timeout_ms = timeout_ms,
                                  .done = on_done, .done_arg = w };
    depot_err          err = { 0 };
    uint64_t           id = 0;

    wait_init(w);
    if (!ok_err((ops->run)(&script, &id, &err), &err, "a script is taken")) {
        w->done = 1;
        w->err = err;
    }
    return id;
}

static bool run_file(waiting *w, const char *file, const char *arg, int64_t timeout_ms)
{
    begin(w, NULL, file, arg, timeout_ms);
    return wait_for(w, WAIT_MS) && w->ok;
}

static void put(const char *path, const char *text)
{
    char      full[200];
    depot_err err = { 0 };

    snprintf(full, sizeof(full), "%s/%s", folder, path);
    char *slash = strrchr(full, '/');
    *slash = '\0';
    if (!depot_mkdirs(full, 0755, &err)) {
        printf("# %s\n", err.msg);
    }
    *slash = '/';
    if (!depot_write_file(full, text, strlen(text), 0644, &err)) {
        printf("# %s\n", err.msg);
    }
}

static scripts_options options(void)
{
    return (scripts_options){ .exe = "/proc/self/exe", .lua_dirs = folder, .workers = WORKERS, .concurrency = CONCURRENCY,
                              .memory_max = 16 << 20, .cpu_max_ms = CPU_MS, .default_timeout_ms = 5000,
                              .grants = "{\"program.lua\":[\"exec\"]}" };
}

static int64_t wait_capacity(int64_t wanted)
{
    int64_t until = depot_now_ms() + WAIT_MS;

    while (ops->capacity() != wanted && depot_now_ms() < until) {
        usleep(20000);
    }
    return ops->capacity();
}

/* ---- tests ---- */

static void a_broken_file_stops_the_start(void)
{
    depot_err             err = { 0 };
    const scripts_options o = options();

    put("handlers/bad.lua", "local x = \n\nreturn return\n");
    ok(!scripts_start(h, &o, &ops, &err), "scripts_start refuses");
    is_int(err.code, DEPOT_E_LUA_SYNTAX, "with LUA_SYNTAX");
    contains(err.msg, "handlers/bad.lua:3", "and names file and line");
    put("handlers/bad.lua", "-- mended\n");
}

static void a_missing_program_is_told(void)
{
    depot_err       err = { 0 };
    scripts_options o = options();

    o.exe = "/nonexistent/depotd";
    ok(!scripts_start(h, &o, &ops, &err), "scripts_start refuses");
    contains(err.msg, "/nonexistent/depotd", "and names the program");
}

static void workers_start(void)
{
    depot_err             err = { 0 };
    const scripts_options o = options();

    put("handlers/store.lua", "depot.job('demo.store') { timeout = '3s', max_attempts = 5, run = function(job)\n"
                              "  job:log('info', 'hello', { n = 1 })\n"
                              "  if job.args.fail then job:fail('MAIL_REFUSED', 'no', { retry = 'safe' }) end\n"
                              "  return { id = job.id, attempt = job.attempt, n = job.args.n } end }\n");
    put("echo.lua", "return ...\n");
    put("sleep.lua", "depot.sleep(...) return 'slept'\n");
    put("spin.lua", "while true do pcall(function() while true do end end) end\n");
    put("bomb.lua", "local t = {} while true do t[#t + 1] = ('x'):rep(100000) end\n");
    put("crash.lua", "depot.test.crash()\n");
    put("block.lua", "return depot.test.block(...)\n");
    put("variable.lua", "return depot.test.variable(...)\n");
    put("count.lua", "depot.test.count(...)\n");
    put("emit.lua", "depot.event.emit('thing.happened', { n = ... })\n");
    put("program.lua", "depot.needs { 'exec:/bin/sh' }\n"
                       "depot.exec { '/bin/sh', '-c', '(while :; do touch \"$0\"; sleep 0.1; done) & wait', ... }\n");
    put("types.lua", "depot.test.block('x')\n");
    setenv("TEST_SECRET", "value", 1);
    if (!ok_err(scripts_start(h, &o, &ops, &err), &err, "scripts_start")) {
        exit(done());
    }
    is_int(wait_capacity(WORKERS * CONCURRENCY), WORKERS * CONCURRENCY, "all workers get ready");
}

static void handlers_are_known(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_handler                             found;
    size_t                                    it = 0;

    ok(ops->handler_find(arena, "demo.store", &found), "demo.store is there");
    is_str(found.file, "handlers/store.lua", "its file");
    is_int(found.timeout_ms, 3000, "its timeout");
    is_int(found.max_attempts, 5, "its attempts");
    is_int(strlen(found.revision), 64, "its revision");
    ok(!ops->handler_find(arena, "demo.other", &found), "another is not");
    ok(ops->handler_next(arena, &it, &found), "the list has one");
    ok(!ops->handler_next(arena, &it, &found), "and no more");
}

static void a_handler_runs(void)
{
    waiting w;

    begin(&w, "demo.store", NULL, "{\"id\":\"7\",\"attempt\":2,\"queue\":\"q\",\"args\":{\"n\":9007199254740993}}", 0);
    ok(wait_for(&w, WAIT_MS) && w.ok, "it succeeds");
    is_str(w.json, "{\"attempt\":2,\"id\":\"7\",\"n\":9007199254740993}", "its result, integers exact");
    begin(&w, "demo.store", NULL, "{\"id\":\"7\",\"args\":{\"fail\":true}}", 0);
    ok(wait_for(&w, WAIT_MS) && !w.ok, "another one fails");
    is_str(depot_err_id(&w.err), "MAIL_REFUSED", "with its own code");
    is_int(depot_err_retry(&w.err), DEPOT_RETRY_SAFE, "that may be tried again");
    is_str(w.where, "handlers/store.lua:3", "and its place");
    begin(&w, "no.such", NULL, "{}", 0);
    ok(wait_for(&w, WAIT_MS) && !w.ok, "an unknown one fails");
    is_int(w.err.code, DEPOT_E_UNKNOWN_TYPE, "as such");
}

static void a_file_runs(void)
{
    waiting w;

    ok(run_file(&w, "echo.lua", "{\"a\":[1,2.5,null,\"x\"]}", 2000), "it gets its argument");
    is_str(w.json, "{\"a\":[1,2.5,null,\"x\"]}", "and gives it back");
    ok(!run_file(&w, "nothere.lua", "{}", 2000), "one that is not there fails");
    is_int(w.err.code, DEPOT_E_NOT_FOUND, "as such");
    ok(!run_file(&w, "types.lua", "{}", 2000), "a wrong argument raises");
    is_int(w.err.code, DEPOT_E_INVALID, "as such");
    contains(w.err.msg, "depot.test.block: argument 1 (ms) must be a integer, not string", "and says which");
}

static void the_environment_travels_in_the_first_frame(void)
{
    waiting w;

    ok(run_file(&w, "variable.lua", "\"TEST_SECRET\"", 2000), "asked for a variable of the daemon");
    is_str(w.json, "\"value\"", "it has its value");
}

static void an_expression_is_evaluated(void)
{
    waiting   w;
    depot_err err = { 0 };

    wait_init(&w);
    ok_err(scripts_eval("event.kind == 'dump' and args.n > 1", "{\"event\":{\"kind\":\"dump\"},\"args\":{\"n\":2}}", 1000, on_done, &w,
                        &err), &err, "taken");
    ok(wait_for(&w, WAIT_MS) && w.ok, "evaluated");
    is_str(w.json, "true", "true");
    wait_init(&w);
    ok(scripts_eval("event.kind ==", "{}", 1000, on_done, &w, &err), "a broken one is taken");
    ok(wait_for(&w, WAIT_MS) && !w.ok, "and fails");
    is_int(w.err.code, DEPOT_E_LUA_SYNTAX, "as LUA_SYNTAX");
    wait_init(&w);
    ok(scripts_eval("depot.sleep(1)", "{}", 1000, on_done, &w, &err), "one that waits is taken");
    ok(wait_for(&w, WAIT_MS) && !w.ok, "and fails");
    is_int(w.err.code, DEPOT_E_FORBIDDEN, "as FORBIDDEN");
}

static void limits_hold(void)
{
    waiting w;

    ok(!run_file(&w, "spin.lua", "{}", 5000), "an endless loop is stopped");
    is_int(w.err.code, DEPOT_E_TIMEOUT, "with TIMEOUT");
    ok(!run_file(&w, "sleep.lua", "\"10s\"", 300), "one that waits too long is stopped");
    is_int(w.err.code, DEPOT_E_TIMEOUT, "with TIMEOUT");
    ok(!run_file(&w, "bomb.lua", "{}", 15000), "one that eats memory is stopped");
    is_int(w.err.code, DEPOT_E_MEMORY, "with MEMORY_LIMIT");
    ok(!run_file(&w, "block.lua", "3000", 300), "one that blocks in C is left behind");
    is_int(w.err.code, DEPOT_E_TIMEOUT, "with TIMEOUT");
    ok(run_file(&w, "block.lua", "10", 2000), "and others go on");
}

static pid_t busy_worker(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const depot_json                         *list = scripts_status(arena);

    for (size_t i = 0; i < depot_json_len(list); i++) {
        if (depot_json_get_int(depot_json_at(list, i), "running", 0) > 0) {
            return (pid_t)depot_json_get_int(depot_json_at(list, i), "pid", 0);
        }
    }
    return 0;
}

static void a_killed_worker_loses_its_scripts_at_once(void)
{
    waiting w;

    begin(&w, NULL, "sleep.lua", "\"20s\"", 30000);
    usleep(100000);
    int64_t began = depot_now_ms();
    kill(busy_worker(), SIGKILL);
    ok(wait_for(&w, WAIT_MS) && !w.ok, "the script fails");
    is_int(w.err.code, DEPOT_E_WORKER_LOST, "with WORKER_LOST");
    ok(depot_now_ms() - began < 10000, "at once");
    is_int(wait_capacity(WORKERS * CONCURRENCY), WORKERS * CONCURRENCY, "and another worker takes its place");
    ok(!run_file(&w, "crash.lua", "{}", 5000), "a script that crashes its worker fails");
    is_int(w.err.code, DEPOT_E_WORKER_LOST, "with WORKER_LOST");
    is_int(wait_capacity(WORKERS * CONCURRENCY), WORKERS * CONCURRENCY, "and another worker takes its place");
}

/* Not only the program itself: its own children are of another parent, and nobody else knows of them. */
static void programs_end_with_their_worker(void)
{
    char    mark[200], arg[210];
    waiting w;
    int64_t until = depot_now_ms() + WAIT_MS;

    (void)snprintf(mark, sizeof(mark), "%s/mark", folder);
    (void)snprintf(arg, sizeof(arg), "\"%s\"", mark);
    begin(&w, NULL, "program.lua", arg, 30000);
    while (access(mark, F_OK) != 0 && depot_now_ms() < until) {
        usleep(20000);
    }
    ok(access(mark, F_OK) == 0, "a program has started another one");
    kill(busy_worker(), SIGKILL);
    ok(wait_for(&w, WAIT_MS) && !w.ok, "the script fails");
    is_int(wait_capacity(WORKERS * CONCURRENCY), WORKERS * CONCURRENCY, "another worker takes its place");
    ok(unlink(mark) == 0, "what is left would make it again");
    usleep(500000);
    ok(access(mark, F_OK) != 0, "nobody is left");
}

static void a_hanging_worker_is_killed(void)
{
    waiting w;

    begin(&w, NULL, "sleep.lua", "\"2s\"", 1000);
    usleep(100000);
    int64_t began = depot_now_ms();
    kill(busy_worker(), SIGSTOP);
    ok(wait_for(&w, WAIT_MS) && !w.ok, "the script fails");
    is_int(w.err.code, DEPOT_E_TIMEOUT, "with TIMEOUT, its own deadline has passed");
    ok(depot_now_ms() - began < 30000, "at its deadline and the grace, not only when the test gives up");
    begin(&w, NULL, "sleep.lua", "\"30s\"", 40000);
    usleep(100000);
    kill(busy_worker(), SIGSTOP);
    ok(wait_for(&w, WAIT_MS) && !w.ok, "one with a later deadline fails");
    is_int(w.err.code, DEPOT_E_WORKER_LOST, "with WORKER_LOST");
    is_int(wait_capacity(WORKERS * CONCURRENCY), WORKERS * CONCURRENCY, "and others take their places");
}

static void capacity_is_bounded(void)
{
    waiting            w[WORKERS * CONCURRENCY];
    const depot_script script = { .file = "echo.lua", .arg = "{}", .timeout_ms = 1000, .done = on_done, .done_arg = &w[0] };
    depot_err          err = { 0 };
    uint64_t           id;

    for (size_t i = 0; i < DEPOT_N(w); i++) {
        begin(&w[i], NULL, "sleep.lua", "\"500ms\"", 5000);
    }
    is_int(ops->capacity(), 0, "nothing is free");
    ok(!(ops->run)(&script, &id, &err), "one more is refused");
    is_int(err.code, DEPOT_E_UNAVAILABLE, "as UNAVAILABLE");
    for (size_t i = 0; i < DEPOT_N(w); i++) {
        ok(wait_for(&w[i], WAIT_MS) && w[i].ok, "each ends well");
    }
    is_int(ops->capacity(), WORKERS * CONCURRENCY, "all is free again");
}

static atomic_int changes;

static void on_change(void *arg)
{
    (void)arg;
    atomic_fetch_add(&changes, 1);
}

static void cancel_ends_a_script(void)
{
    waiting  w;
    uint64_t id = begin(&w, NULL, "sleep.lua", "\"20s\"", 30000);
    int64_t  began = depot_now_ms();

    usleep(50000);
    ops->cancel(id);
    ok(wait_for(&w, WAIT_MS) && !w.ok, "it fails");
    is_int(w.err.code, DEPOT_E_CANCELED, "with CANCELED");
    ok(depot_now_ms() - began < 10000, "soon");
}

static atomic_int emitted;

static bool take_event(const char *event, const depot_json *payload, depot_err *err)
{
    if (strcmp(event, "thing.happened") != 0 || depot_json_get_int(payload, "n", 0) == 13) {
        return DEPOT_FAIL(err, INVALID, "no such event");
    }
    atomic_fetch_add(&emitted, 1);
    return true;
}

static void events_reach_the_daemon(void)
{
    waiting w;

    ok(run_file(&w, "emit.lua", "1", 2000), "an event is emitted");
    is_int(atomic_load(&emitted), 1, "and arrives");
    ok(!run_file(&w, "emit.lua", "13", 2000), "one that is refused raises");
    is_int(w.err.code, DEPOT_E_INVALID, "with the daemon's error");
}

static void metrics_reach_the_daemon(void)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };
    waiting w;
    int64_t until = depot_now_ms() + WAIT_MS;

    ok(run_file(&w, "count.lua", "5", 2000), "a worker counts to 5");
    ok(run_file(&w, "count.lua", "2", 2000), "and 2 more");
    do {
        usleep(100000);
        depot_buf_reset(&text);
        metrics_prom(&text);
    } while (strstr(text.data, "depot_core_pokes_total{who=\"a\"} 7") == NULL && depot_now_ms() < until);
    contains(text.data, "depot_core_pokes_total{who=\"a\"} 7", "the daemon knows 7");
}

static void reload_replaces_workers_and_lets_scripts_finish(void)
{
    waiting               w, old;
    depot_err             err = { 0 };
    const scripts_options o = options();

    put("version.lua", "return 1\n");
    ok_err(scripts_reload(&o, &err), &err, "reload");
    ok(run_file(&w, "version.lua", "{}", 2000), "a new file runs");
    is_str(w.json, "1", "in its first version");
    put("late.lua", "depot.sleep('1s') return require('v')\n");
    put("lib/v.lua", "return 'old'\n");
    ok_err(scripts_reload(&o, &err), &err, "reload");
    begin(&old, NULL, "late.lua", "{}", 5000);
    put("lib/v.lua", "return 'new'\n");
    atomic_store(&changes, 0);
    ok_err(scripts_reload(&o, &err), &err, "reload while it runs");
    for (int64_t until = depot_now_ms() + WAIT_MS; atomic_load(&changes) == 0 && depot_now_ms() < until;) {
        usleep(1000); /* it is told by another thread, soon after */
    }
    ok(atomic_load(&changes) > 0, "the change is told");
    begin(&w, NULL, "late.lua", "{}", 5000);
    ok(wait_for(&old, WAIT_MS) && old.ok, "the running one ends well");
    is_str(old.json, "\"old\"", "on the files that it began with");
    ok(wait_for(&w, WAIT_MS) && w.ok, "the next one too");
    is_str(w.json, "\"new\"", "on the new ones");
    put("version.lua", "return return\n");
    ok(!scripts_reload(&o, &err), "a reload with a fault is refused");
    contains(err.msg, "version.lua:1", "naming the place");
    is_int(wait_capacity(WORKERS * CONCURRENCY), WORKERS * CONCURRENCY, "and the old set stays");
    ok(run_file(&w, "version.lua", "{}", 2000), "and works");
    put("version.lua", "return 2\n");
}

static void stop_cancels_what_runs(void)
{
    waiting            w, quick;
    const depot_script script = { .file = "echo.lua", .arg = "{}", .timeout_ms = 1000, .done = on_done, .done_arg = &w };
    depot_err          err = { 0 };
    uint64_t           id;

    begin(&w, NULL, "sleep.lua", "\"20s\"", 30000);
    begin(&quick, NULL, "sleep.lua", "\"200ms\"", 30000);
    int64_t began = depot_now_ms();
    scripts_stop(600);
    ok(depot_now_ms() - began < 15000, "stop returns soon");
    ok(w.done == 1 && w.err.code == DEPOT_E_CANCELED, "a long script is canceled");
    ok(quick.done == 1 && quick.ok, "a short one could end");
    ok(!(ops->run)(&script, &id, &err), "no more is taken");
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "--worker") == 0) {
        depot_err   err = { 0 };
        const char *packed;
        if (!worker_greet(3, &packed, &err)) {
            fprintf(stderr, "%s\n", err.msg);
            return 1;
        }
        h = make_host(true);
        int status = worker_main(h, 3);
        host_free(h);
        return status;
    }
    snprintf(folder, sizeof(folder), "/tmp/test_workers.%d", (int)getpid());
    setenv("TAP_SECONDS", "120", 0);
    h = make_host(false);
    env.executor = executor_new(2, 16);
    env.emit = take_event;
    log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
    run(a_broken_file_stops_the_start);
    run(a_missing_program_is_told);
    run(workers_start);
    ops->on_change(on_change, NULL);
    run(handlers_are_known);
    run(a_handler_runs);
    run(a_file_runs);
    run(the_environment_travels_in_the_first_frame);
    run(an_expression_is_evaluated);
    run(limits_hold);
    run(events_reach_the_daemon);
    run(cancel_ends_a_script);
    run(capacity_is_bounded);
    run(a_killed_worker_loses_its_scripts_at_once);
    run(programs_end_with_their_worker);
    run(a_hanging_worker_is_killed);
    run(metrics_reach_the_daemon);
    run(reload_replaces_workers_and_lets_scripts_finish);
    run(stop_cancels_what_runs);
    executor_free(env.executor);
    host_free(h);
    depot_err err = { 0 };
    ok_err(depot_remove_tree(folder, &err), &err, "the folder is removed");
    return done();
}
