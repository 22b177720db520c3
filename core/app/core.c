/* core.c - the core as a plugin like any other: what it offers are rows, gathered from the layers that own them. */
#include <string.h>

#include "api/api.h"
#include "app/app.h"
#include "app/doctor.h"
#include "app/internal.h"
#include "config.h"
#include "pg/archive.h"
#include "run/events.h"
#include "run/sched.h"

enum { SECTIONS_MAX = 32, ROUTES_MAX = 128, METRICS_MAX = 64 };

static const char *const levels[] = { "debug", "info", "warn", "error", NULL };
static const char *const formats[] = { "auto", "json", "text", "journal", NULL };

/* clang-format off */
static const depot_field daemon_options[] = {
    DEPOT_OPT_STRING(app_daemon_options, node, NULL, .min = 1, .max = 64, .env = "DEPOT_NODE|PGFLOW_WORKER_ID|WORKER_ID",
        .doc = "name of this daemon, unique among those that share a database; without it the host's name and four digits "
               "that stand for the state folder"),
    DEPOT_OPT_INT(app_daemon_options, threads, "8", 2, 256,
        .doc = "threads for work that blocks: requests, tasks, hooks; each may hold a database connection"),
    DEPOT_OPT_INT(app_daemon_options, queue, "1024", 16, 1000000,
        .doc = "calls that may wait for a thread; more are answered with 503"),
    DEPOT_OPT_DURATION(app_daemon_options, drain_timeout, "30s", 0, 3600000, .flags = DEPOT_RELOADABLE,
        .doc = "how long a stop waits for running work before it is canceled"),
    DEPOT_OPT_SECRET(app_daemon_options, token, NULL, .min = 8, .max = 200, .env = "PGFLOW_API_TOKEN|API_TOKEN",
        .doc = "a token of your own making, besides those of depotctl token create: whoever sends it may do what operators may"),
};

static const depot_field database_options[] = {
    DEPOT_OPT_SECRET(app_database_options, url, NULL, .env = "DATABASE_URL",
        .doc = "libpq connection string of the role that the daemon works as, no superuser; may lead through a transaction "
               "pooler; without it depotd runs its own PostgreSQL in the state folder"),
    DEPOT_OPT_SECRET(app_database_options, direct_url, NULL, .env = "DATABASE_DIRECT_URL",
        .doc = "connection string past the pooler, for LISTEN; without it url, if that is no pooler"),
    DEPOT_OPT_SECRET(app_database_options, owner_url, NULL, .env = "DATABASE_OWNER_URL",
        .doc = "connection string of the role that owns the schemas, for migrations only; without it depotd does not migrate"),
    DEPOT_OPT_INT(app_database_options, max_connections, "10", 2, 500, .env = "DB_POOL_MAX|PGFLOW_DB_MAX_CONNECTIONS",
        .doc = "connections of this daemon's pool"),
    DEPOT_OPT_DURATION(app_database_options, connect_timeout, "10s", 100, 300000, .doc = "for one attempt to connect"),
    DEPOT_OPT_DURATION(app_database_options, acquire_timeout, "10s", 100, 300000, .env = "PGFLOW_DB_ACQUIRE_TIMEOUT_SECS=s",
        .doc = "how long a call waits for a free connection"),
    DEPOT_OPT_DURATION(app_database_options, statement_timeout, "30s", 0, 86400000, .doc = "of each transaction; 0: none"),
    DEPOT_OPT_DURATION(app_database_options, lock_timeout, "5s", 0, 86400000, .doc = "of each transaction; 0: none"),
    DEPOT_OPT_DURATION(app_database_options, idle_in_transaction_timeout, "60s", 0, 86400000, .doc = "of each transaction; 0: none"),
    DEPOT_OPT_BOOL(app_database_options, migrate, "yes", .env = "PGFLOW_MIGRATE_ON_STARTUP",
        .doc = "apply pending migrations at start; no: refuse to start while any is pending"),
    DEPOT_OPT_PATH(app_database_options, bindir, NULL, .env = "PG_BINDIR",
        .doc = "embedded cluster: folder of initdb and postgres; without it the newest found"),
    DEPOT_OPT_STRING(app_database_options, service_user, NULL, .max = 32,
        .doc = "embedded cluster, when depotd runs as root: user that runs PostgreSQL; without it depotd or postgres"),
    DEPOT_OPT_DURATION(app_database_options, wal_keep, "7d", 0, 315360000000LL, .flags = DEPOT_RELOADABLE,
        .doc = "embedded cluster: how long archived WAL is kept; 0: for ever, and then somebody else must make room"),
    DEPOT_OPT_BOOL(app_database_options, tcp, "yes", .doc = "embedded cluster: also listen on a free port of 127.0.0.1"),
};

static const depot_field log_options[] = {
    DEPOT_OPT_ENUM(app_log_options, level, "info", levels, .flags = DEPOT_RELOADABLE, .env = "DEPOT_LOG_LEVEL",
        .doc = "least level that is printed"),
    DEPOT_OPT_ENUM(app_log_options, format, "auto", formats, .flags = DEPOT_RELOADABLE, .env = "DEPOT_LOG_FORMAT",
        .doc = "auto: text on a terminal, journal under systemd, else one JSON object a line"),
};

static const depot_field lua_options[] = {
    DEPOT_OPT_INT(app_lua_options, workers, "2", 1, 64, .doc = "worker processes that run scripts"),
    DEPOT_OPT_INT(app_lua_options, concurrency, "64", 1, 10000, .doc = "scripts at a time in one worker; waiting ones cost little"),
    DEPOT_OPT_SIZE(app_lua_options, memory, "64MiB", 1 << 20, 4LL << 30, .doc = "memory that one script may have; those of one worker together may have four times as much"),
    DEPOT_OPT_DURATION(app_lua_options, cpu, "10s", 10, 3600000, .doc = "processor time that a script may take between two waits"),
    DEPOT_OPT_DURATION(app_lua_options, timeout, "60s", 10, 86400000, .doc = "deadline of a script that states none"),
    DEPOT_OPT_LIST(app_lua_options, grant, NULL, .flags = DEPOT_RELOADABLE,
        .doc = "what every script may reach outside when it says that it needs it: http:HOST, http:HOST:PORT, http, "
               "exec:/PATH, exec"),
};

static const depot_field handler_options[] = {
    DEPOT_OPT_LIST(app_handler_options, types, NULL, .flags = DEPOT_RELOADABLE,
        .doc = "job types, or files such as hooks/dumps.lua, * and ? as in a shell; without it NAME itself"),
    DEPOT_OPT_LIST(app_handler_options, grant, NULL, .flags = DEPOT_RELOADABLE,
        .doc = "what these scripts may reach outside: http:HOST, http:HOST:PORT, http, exec:/PATH, exec"),
};

static const depot_section own_sections[] = {
    { "daemon", false, sizeof(app_daemon_options), DEPOT_TABLE(daemon_options), "the daemon itself" },
    { "database", false, sizeof(app_database_options), DEPOT_TABLE(database_options), "PostgreSQL, the only truth for state" },
    { "log", false, sizeof(app_log_options), DEPOT_TABLE(log_options), "the log on standard output" },
    { "lua", false, sizeof(app_lua_options), DEPOT_TABLE(lua_options), "operators' scripts and the processes that run them" },
    { "handler", true, sizeof(app_handler_options), DEPOT_TABLE(handler_options), "what some scripts are allowed" },
};

static const depot_field schedule_payload[] = {
    { .name = "schedule", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "name of the schedule" },
    { .name = "due_at", .type = DEPOT_T_TIME, .flags = DEPOT_REQUIRED, .doc = "when it was due" },
    { .name = "code", .type = DEPOT_T_STRING, .doc = "error code; WORKER_LOST: its daemon went away in the middle of it" },
    { .name = "message", .type = DEPOT_T_STRING, .doc = "what went wrong" },
    { .name = NULL },
};

static const depot_event_row own_events[] = {
    { "schedule.failed", schedule_payload, "a schedule's run ended with an error" },
    { "schedule.missed", schedule_payload, "a due time passed while no daemon was running, and its policy is to skip it" },
};

static bool prune_wal(depot_ctx *ctx, depot_task *task, depot_err *err)
{
    const app_database_options *o = depot_section_get(ctx, "database", NULL);
    const char                 *dir = depot_strf(depot_task_arena(task), "%s/postgres/wal", depot_state_dir(ctx));
    int64_t                     removed = 0;

    if (o->url == NULL && o->wal_keep > 0 && !pg_archive_prune(dir, o->wal_keep, &removed, err)) {
        return false;
    }
    depot_task_result(task, depot_json_pack(depot_task_arena(task), "{s:I}", "removed", removed));
    return true;
}

static bool prune_schedule_runs(depot_ctx *ctx, depot_task *task, depot_err *err)
{
    int64_t n = 0;

    if (!sched_prune(host_environment(ctx->host)->db, &n, err)) {
        return false;
    }
    depot_task_result(task, depot_json_pack(depot_task_arena(task), "{s:I}", "runs", n));
    return true;
}

static const depot_metric own_metrics[] = {
    { .name = "depot_loop_lag_seconds", .kind = DEPOT_GAUGE, .doc = "how late the main loop's last tick was" },
    { .name = "depot_executor_queued", .kind = DEPOT_GAUGE, .doc = "calls that wait for a thread" },
    { .name = "depot_executor_busy", .kind = DEPOT_GAUGE, .doc = "threads at work" },
    { .name = "depot_database_up", .kind = DEPOT_GAUGE, .doc = "1: the last contact with the database succeeded" },
    { .name = "depot_database_connections", .kind = DEPOT_GAUGE, .labels = (const char *const[]){ "state", NULL },
      .doc = "connections of the pool by state: in_use, idle" },
    { .name = "depot_database_restarts_total", .kind = DEPOT_COUNTER, .doc = "restarts of the embedded PostgreSQL after a crash" },
    { .name = "depot_reloads_total", .kind = DEPOT_COUNTER, .labels = (const char *const[]){ "result", NULL },
      .doc = "configuration reloads by result: ok, refused" },
};
static const depot_task_row own_tasks[] = {
    { .name = "core.prune_schedule_runs", .flags = DEPOT_TASK_SINGLETON, .every = "1h", .timeout_ms = 300000, .fn = prune_schedule_runs,
      .doc = "forget runs of schedules: beyond the last 1000 of each, or older than 90 days" },
    { .name = "core.prune_wal", .every = "1h", .timeout_ms = 300000, .fn = prune_wal,
      .doc = "remove WAL that the embedded cluster archived longer than [database] wal_keep ago; result {removed}" },
};
/* clang-format on */

/* Adds rows that another layer owns; the arrays above are sized for all of them. */
static void append(void *rows, uint32_t *n, const void *more, size_t n_more, size_t row_size)
{
    memcpy((char *)rows + *n * row_size, more, n_more * row_size);
    *n += (uint32_t)n_more;
}

const depot_plugin *app_core(void)
{
    static depot_section sections[SECTIONS_MAX];
    static depot_route   routes[ROUTES_MAX];
    static depot_metric  metrics[METRICS_MAX];
    static depot_plugin  core;
    uint32_t             n_sections = 0, n_routes = 0, n_metrics = 0;

    append(sections, &n_sections, own_sections, DEPOT_N(own_sections), sizeof(*sections));
    append(sections, &n_sections, sched_sections, sched_sections_n, sizeof(*sections));
    append(sections, &n_sections, events_sections, events_sections_n, sizeof(*sections));
    append(routes, &n_routes, api_routes, api_routes_n, sizeof(*routes));
    append(routes, &n_routes, app_routes, app_routes_n, sizeof(*routes));
    append(routes, &n_routes, doctor_routes, doctor_routes_n, sizeof(*routes));
    append(metrics, &n_metrics, own_metrics, DEPOT_N(own_metrics), sizeof(*metrics));
    append(metrics, &n_metrics, api_metrics, api_metrics_n, sizeof(*metrics));
    append(metrics, &n_metrics, sched_metrics, sched_metrics_n, sizeof(*metrics));
    append(metrics, &n_metrics, events_metrics, events_metrics_n, sizeof(*metrics));
    core = (depot_plugin){
        .version = DEPOT_VERSION,
        .summary = "configuration, plugins, schedules, events, scripts, database, tokens",
        .sections = { sections, n_sections, sizeof(*sections) },
        .routes = { routes, n_routes, sizeof(*routes) },
        .events = DEPOT_TABLE(own_events),
        .tasks = DEPOT_TABLE(own_tasks),
        .metrics = { metrics, n_metrics, sizeof(*metrics) },
        .migrations = "core",
        .check = app_core_check,
    };
    return &core;
}
