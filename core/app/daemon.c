/* daemon.c - depotd from its lock to its last log line. The main thread runs the loop; a life-cycle thread boots, reloads and
 * stops, because all three may block. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "app/internal.h"
#include "app/notify.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/unit.h"
#include "config.h"
#include "lua/scripts.h"

enum { SECOND_MS = 1000, STATE_MODE = 0755, OVERDUE_GRACE_MS = 5000 };

app *app_self;

static void print_problems(const conf_problems *problems)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };

    conf_problems_print(problems, &text);
    fputs(text.data == NULL ? "" : text.data, stderr);
}

int app_check(const app_paths *paths)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    conf_problems                            *problems = conf_problems_new(arena);
    host_env                                  env = { 0 };
    const conf                               *c = NULL;
    DEPOT_AUTO(depot_buf_free) depot_buf      warnings = { 0 };

    host *h = app_open(arena, paths, &env, problems, &c);
    bool  scripts_ok = scripts_check(paths->lua_dirs, app_grants(arena, c), problems, &warnings);
    print_problems(problems);
    fputs(warnings.len == 0 ? "" : warnings.data, stderr);
    bool ok = scripts_ok && conf_problem_count(problems) == 0;
    if (ok) {
        printf("%s: configuration is fine\n", paths->conf_dir);
    }
    host_free(h);
    return ok ? 0 : 78;
}

/* The lock lasts as long as the process; the descriptor is left open on purpose. */
static bool lock_state(const char *dir, depot_err *err)
{
    char path[4096], pid[32];

    if (!depot_mkdirs(dir, STATE_MODE, err)) {
        return depot_hint(err, "the state folder must be writable: check its owner, or choose another with --state");
    }
    snprintf(path, sizeof(path), "%s/depotd.lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        DEPOT_FAIL_ERRNO(err, "cannot open %s", path);
        return depot_hint(err, "the state folder must be writable: check its owner, or choose another with --state");
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);
        pid[n > 0 ? n : 0] = '\0';
        pid[strcspn(pid, "\n")] = '\0';
        DEPOT_FAIL(err, LOCKED, "another depotd (process %s) works on %s", pid, dir);
        return depot_hint(err, "stop it first, or give this one another state folder with --state");
    }
    snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, strlen(pid), 0) != (ssize_t)strlen(pid)) {
        return DEPOT_FAIL_ERRNO(err, "cannot write %s", path);
    }
    return true;
}

bool app_wait(app *a, int64_t ms)
{
    int64_t until = depot_now_ms() + ms;

    pthread_mutex_lock(&a->lock);
    while (!a->stop_wanted && clock_cond_wait(&a->cond, &a->lock, until)) {
    }
    bool go_on = !a->stop_wanted;
    pthread_mutex_unlock(&a->lock);
    return go_on;
}

static void apply_log_options(host *h)
{
    const app_log_options *log = conf_get(host_conf(h), "log", NULL);

    log_set_level((depot_level)log->level);
    log_set_format((log_format)log->format);
}

static void reload_now(app *a)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf      text = { 0 };
    conf_problems                            *problems = conf_problems_new(arena);

    notify_reloading();
    bool ok = app_reload(a, problems);
    if (ok) {
        apply_log_options(a->host);
        log_write("core", DEPOT_LOG_INFO, "daemon.reloaded", "configuration reloaded");
    } else {
        conf_problems_print(problems, &text);
        log_write("core", DEPOT_LOG_ERROR, "daemon.reload_refused", "the running configuration stays: %s", text.data);
    }
    metrics_add("depot_reloads_total", DEPOT_LABELS(ok ? "ok" : "refused"), 1);
    notify_send("READY=1\nSTATUS=%s", ok ? "ready" : "ready; the last reload was refused, see the log");
    pthread_mutex_lock(&a->lock);
    for (app_reload_wait *w = a->reload_waits; w != NULL; w = w->next) {
        if (!w->done && w->number <= a->reloads_begun) {
            w->done = true;
            w->ok = ok;
            w->problems = ok ? NULL : depot_xstrdup(depot_json_text(arena, conf_problems_texts(arena, problems)));
        }
    }
    pthread_cond_broadcast(&a->cond);
    pthread_mutex_unlock(&a->lock);
}

static void serve(app *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->stop_wanted) {
        if (!a->reload_wanted) {
            pthread_cond_wait(&a->cond, &a->lock);
            continue;
        }
        a->reload_wanted = false;
        a->reloads_begun++;
        pthread_mutex_unlock(&a->lock);
        reload_now(a);
        pthread_mutex_lock(&a->lock);
    }
    pthread_mutex_unlock(&a->lock);
}

static void *life(void *arg)
{
    app      *a = arg;
    depot_err err = { 0 };
    unit      u = { .deadline_ms = INT64_MAX, .canceled = &a->stopping };

    unit_enter(&u);
    if (app_boot(a, &err)) {
        atomic_store(&a->running, true);
        log_write("core", DEPOT_LOG_INFO, "daemon.ready", "ready after %lld ms", (long long)(depot_now_ms() - a->started_ms));
        notify_send("READY=1\nSTATUS=ready");
        serve(a);
    } else if (!atomic_load(&a->stopping)) {
        log_err("core", DEPOT_LOG_ERROR, "daemon.start_failed", &err);
        a->status = depot_err_exit(&err);
    }
    unit_leave(&u);
    notify_send("STOPPING=1");
    app_shutdown(a);
    loop_stop(a->env.loop);
    return NULL;
}

/* ---- signals and ticks, on the loop ---- */

static void want_stop(app *a)
{
    const app_daemon_options *options = conf_get(host_conf(a->host), "daemon", NULL);
    bool                      again = atomic_exchange(&a->stopping, true);

    if (again) {
        log_write("core", DEPOT_LOG_WARN, "daemon.killed", "second signal to stop: leaving without waiting");
        log_finish();
        _exit(1);
    }
    /* from here on, as the life-cycle thread may be held up by a plugin that starts or reloads; app_shutdown counts anew */
    int64_t none = 0;
    (void)atomic_compare_exchange_strong(&a->leave_by_ms, &none, depot_now_ms() + options->drain_timeout + APP_OVERDUE_MS);
    pthread_mutex_lock(&a->lock);
    a->stop_wanted = true;
    pthread_cond_broadcast(&a->cond);
    pthread_mutex_unlock(&a->lock);
}

static void on_signal(uv_signal_t *handle, int sig)
{
    app *a = handle->data;

    if (sig == SIGHUP) {
        pthread_mutex_lock(&a->lock);
        a->reload_wanted = true;
        pthread_cond_broadcast(&a->cond);
        pthread_mutex_unlock(&a->lock);
        return;
    }
    log_write("core", DEPOT_LOG_INFO, "daemon.stopping", "%s: draining", sig == SIGTERM ? "SIGTERM" : "SIGINT");
    want_stop(a);
}

/* A plugin or a task that does not come back must not keep the daemon: by then it has lost no more than a kill would take. */
static void leave_when_overdue(app *a)
{
    int64_t     by = atomic_load(&a->leave_by_ms);
    const char *who = host_leaving(a->host);

    if (by <= 0 || depot_now_ms() < by || !atomic_compare_exchange_strong(&a->leave_by_ms, &by, APP_LEAVING)) {
        return;
    }
    log_write("core", DEPOT_LOG_ERROR, "daemon.overdue", "%s%s does not end: leaving without it", who == NULL ? "running work" : "plugin ",
              who == NULL ? "" : who);
    if (a->cluster != NULL) {
        pg_cluster_stop(a->cluster, OVERDUE_GRACE_MS);
    }
    log_finish();
    _exit(1);
}

static void on_second(void *arg)
{
    app *a = arg;

    leave_when_overdue(a);
    log_tick();
    metrics_set("depot_loop_lag_seconds", NULL, (double)loop_lag_us(a->env.loop) / 1e6);
}

static void on_watchdog(void *arg)
{
    (void)arg; /* sent from the loop itself: a loop that stands still feeds no watchdog */
    notify_send("WATCHDOG=1");
}

static const int signals[] = { SIGTERM, SIGINT, SIGHUP };

/* Blocked from the first moment until the main thread can hear them: a reload that comes early must not end the daemon. Threads
 * that are made in between keep them blocked, and so are never interrupted by them. */
static void mask_signals(int how)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < DEPOT_N(signals); i++) {
        sigaddset(&set, signals[i]);
    }
    if (pthread_sigmask(how, &set, NULL) != 0) {
        abort(); /* cannot fail with these arguments */
    }
}

static void watch_signals(app *a, uv_signal_t handles[DEPOT_N(signals)])
{
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < DEPOT_N(signals); i++) {
        uv_signal_init(loop_uv(a->env.loop), &handles[i]);
        handles[i].data = a;
        uv_signal_start(&handles[i], on_signal, signals[i]);
    }
}

static void scrape(void *arg)
{
    app *a = arg;

    metrics_set("depot_executor_queued", NULL, (double)executor_queued(a->env.executor));
    metrics_set("depot_executor_busy", NULL, (double)executor_busy(a->env.executor));
    if (a->env.db != NULL) {
        metrics_set("depot_database_up", NULL, db_pool_healthy(a->env.db) ? 1 : 0);
        metrics_set("depot_database_connections", DEPOT_LABELS("in_use"), (double)db_pool_in_use(a->env.db));
        metrics_set("depot_database_connections", DEPOT_LABELS("idle"), (double)db_pool_idle(a->env.db));
    }
    if (a->cluster != NULL) {
        int restarts = pg_cluster_restarts(a->cluster);
        metrics_add("depot_database_restarts_total", NULL, restarts - atomic_exchange(&a->restarts_counted, restarts));
    }
}

void app_protect(void)
{
    const struct rlimit none = { 0, 0 };

    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0) {
        log_write("core", DEPOT_LOG_WARN, "daemon.unprotected", "cannot switch off core files: %m");
    }
}

static int run(app *a)
{
    const app_daemon_options *options = conf_get(host_conf(a->host), "daemon", NULL);
    uv_signal_t               handles[DEPOT_N(signals)];

    a->env.executor = executor_new((size_t)options->threads, (size_t)options->queue);
    a->env.loop = loop_new();
    watch_signals(a, handles);
    metrics_collector_add(scrape, a);
    loop_every(a->env.loop, SECOND_MS, on_second, a);
    if (notify_watchdog_ms() > 0) {
        loop_every(a->env.loop, notify_watchdog_ms(), on_watchdog, a);
    }
    pthread_mutex_init(&a->lock, NULL);
    clock_cond_init(&a->cond);
    if (pthread_create(&a->life, NULL, life, a) != 0) {
        return 1;
    }
    mask_signals(SIG_UNBLOCK);
    loop_run(a->env.loop);
    pthread_join(a->life, NULL);
    metrics_collector_remove(scrape, a);
    loop_free(a->env.loop);
    return a->status;
}

int app_daemon(const app_paths *paths)
{
    static app     self;
    app           *a = &self;
    depot_err      err = { 0 };
    const conf    *c = NULL;

    mask_signals(SIG_BLOCK);
    *a = (app){ .paths = paths, .arena = depot_arena_new(), .started_ms = depot_now_ms() };
    app_self = a;
    conf_problems *problems = conf_problems_new(a->arena);
    if (!lock_state(paths->state_dir, &err)) {
        log_err("core", DEPOT_LOG_ERROR, "daemon.start_failed", &err);
        return depot_err_exit(&err);
    }
    a->host = app_open(a->arena, paths, &a->env, problems, &c);
    if (conf_problem_count(problems) > 0) {
        print_problems(problems);
        return 78;
    }
    apply_log_options(a->host);
    app_protect();
    log_write("core", DEPOT_LOG_INFO, "daemon.start", "depotd %s, node %s, configuration %s, state %s", DEPOT_VERSION, a->env.node,
              paths->conf_dir, paths->state_dir);
    int status = run(a);
    log_write("core", DEPOT_LOG_INFO, "daemon.stopped", "stopped with status %d", status);
    log_finish();
    host_free(a->host);
    for (size_t i = 0; i < CONFS_KEPT; i++) {
        depot_arena_free(a->confs[i]);
    }
    depot_arena_free(a->arena);
    return status;
}
