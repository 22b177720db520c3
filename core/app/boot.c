/* boot.c - the order in which the daemon comes up and goes down. Runs on the life-cycle thread. */
#include <unistd.h>

#include "app/internal.h"
#include "app/notify.h"
#include "base/log.h"
#include "lua/scripts.h"

enum { MAX_BODY = 2 << 20, REQUEST_TIMEOUT_MS = 30000 };

scripts_options app_scripts_options(const app *a, const conf *c, depot_arena *arena)
{
    /* what the daemon alone makes use of */
    static const char *const not_workers[] = { "schedule", "hook", NULL };
    const app_lua_options   *lua = conf_get(c, "lua", NULL);

    return (scripts_options){
        .exe = a->paths->exe,
        .lua_dirs = a->paths->lua_dirs,
        .workers = lua->workers,
        .concurrency = lua->concurrency,
        .memory_max = lua->memory,
        .cpu_max_ms = lua->cpu,
        .default_timeout_ms = lua->timeout,
        .grants = app_grants(arena, c),
        .db = &a->pool,
        .conf = c,
        .values = conf_values(arena, c, not_workers),
    };
}

static bool start_scripts(app *a, depot_err *err)
{
    const scripts_options options = app_scripts_options(a, host_conf(a->host), a->arena);
    const host_scripts   *scripts = NULL;

    if (!scripts_start(a->host, &options, &scripts, err)) {
        return false;
    }
    a->env.scripts = scripts;
    return true;
}

bool app_boot(app *a, depot_err *err)
{
    const api_limits limits = { .max_body = MAX_BODY, .request_timeout_ms = REQUEST_TIMEOUT_MS };

    /* first what answers without a database: /health, and /ready that says what is awaited */
    if (!api_open(a->host, &limits, err) || !api_admin_token(a->paths->state_dir, err)) {
        return false;
    }
    const app_daemon_options *options = conf_get(host_conf(a->host), "daemon", NULL);
    api_own_token(options->token);
    api_set_ready(false, "starting");
    if (!host_start(a->host, true, err)) {
        return false;
    }
    api_set_ready(false, "waiting for the database");
    if (!app_database_start(a, err)) {
        return false;
    }
    api_set_ready(false, "starting plugins");
    if (!start_scripts(a, err) || !host_start(a->host, false, err) || !app_work_start(a, err)) {
        return false;
    }
    api_set_ready(true, NULL);
    return true;
}

/* Does not come back when it is too late: then the main thread is leaving, and stops the database by itself. */
static void set_leave_by(app *a, int64_t ms)
{
    while (atomic_exchange(&a->leave_by_ms, ms) == APP_LEAVING) {
        atomic_store(&a->leave_by_ms, APP_LEAVING);
        pause();
    }
}

static int64_t left_until(int64_t until)
{
    int64_t left = until - depot_now_ms();

    return left > 0 ? left : 0;
}

void app_shutdown(app *a)
{
    const app_daemon_options *options = conf_get(host_conf(a->host), "daemon", NULL);
    int64_t                   until = depot_now_ms() + options->drain_timeout;

    set_leave_by(a, until + APP_OVERDUE_MS);
    notify_send("STATUS=draining");
    api_set_ready(false, "shutting down");
    app_work_stop();
    host_drain(a->host);
    if (a->env.scripts != NULL) {
        scripts_stop(left_until(until));
    }
    /* streams first: they may give work to the executor, and nobody may still run when plugins stop */
    api_drain(left_until(until));
    executor_drain(a->env.executor, left_until(until));
    api_settle(left_until(until));
    host_stop(a->host);
    executor_free(a->env.executor);
    set_leave_by(a, INT64_MAX); /* the database's stop has limits of its own */
    app_database_stop(a);
    api_close();
}
