/* doctor.c - the checks behind GET /v1/doctor: one row each, every finding with what to do about it. */
#include "app/doctor.h"

#include <dirent.h>
#include <string.h>

#include "app/internal.h"
#include "db/migrate.h"
#include "lua/scripts.h"
#include "run/sched.h"

enum {
    CLOCK_WARN_MS = 1000,
    CLOCK_FAIL_MS = 30000,
    READY_WARN = 32,  /* WAL segments that wait to be archived: 512 MiB */
    READY_FAIL = 256, /* 4 GiB */
    TOKEN_WARN_DAYS = 14,
    OVERDUE_MS = 120000,
    LAG_WARN_US = 250000,
    XID_WARN = 1000000000, /* of the 2^31 that there are */
    XID_FAIL = 1800000000,
};

typedef struct doctor {
    depot_ctx   *ctx;
    depot_arena *arena;
    depot_db    *db;
    depot_json  *checks;
    const char  *check; /* under way */
} doctor;

typedef enum level { LEVEL_OK, LEVEL_WARN, LEVEL_FAIL } level;

/* fix and command say what to do when the level is not ok; both may be NULL. */
static void found(doctor *d, level how, const char *message, const char *fix, const char *command)
{
    static const char *const names[] = { "ok", "warn", "fail" };

    depot_json_add(d->checks, depot_json_pack(d->arena, "{s:s, s:s, s:s, s:s?, s:s?}", "check", d->check, "status",
                                              names[how], "message", message, "fix", how == LEVEL_OK ? NULL : fix,
                                              "command", how == LEVEL_OK ? NULL : command));
}

static level level_of(int64_t value, int64_t warn_from, int64_t fail_from)
{
    return value >= fail_from ? LEVEL_FAIL : value >= warn_from ? LEVEL_WARN : LEVEL_OK;
}

static bool ask(doctor *d, const char *sql, depot_rows **out, depot_err *err)
{
    return depot_db_sql(d->db, d->arena, sql, DEPOT_NO_VALS, out, err);
}

/* ---- the daemon ---- */
static bool check_plugins(doctor *d, depot_err *err)
{
    size_t started = 0;

    (void)err;
    for (size_t i = 1; i < host_count(d->ctx->host); i++) {
        const depot_ctx *plugin = host_plugin(d->ctx->host, i);

        started += plugin->state == PLUGIN_STARTED ? 1 : 0;
        if (plugin->state == PLUGIN_FAILED) {
            found(d, LEVEL_FAIL, depot_strf(d->arena, "%s did not start: %s", plugin->name, plugin->failure.msg),
                  plugin->failure.hint, depot_strf(d->arena, "depotctl plugin show %s", plugin->name));
        }
    }
    found(d, LEVEL_OK, depot_strf(d->arena, "%zu started", started), NULL, NULL);
    return true;
}

static bool check_degraded(doctor *d, depot_err *err)
{
    const depot_json *list = depot_json_get(host_health(d->ctx->host, d->arena), "degraded");

    (void)err;
    for (size_t i = 0; i < depot_json_len(list); i++) {
        const depot_json *row = depot_json_at(list, i);

        found(d, LEVEL_WARN,
              depot_strf(d->arena, "%s: %s: %s", depot_json_get_str(row, "plugin", ""),
                         depot_json_get_str(row, "what", ""), depot_json_get_str(row, "why", "")),
              NULL, "depotctl logs");
    }
    if (depot_json_len(list) == 0) {
        found(d, LEVEL_OK, "nothing", NULL, NULL);
    }
    return true;
}

static bool check_loop(doctor *d, depot_err *err)
{
    int64_t lag_us = loop_lag_us(host_environment(d->ctx->host)->loop);

    (void)err;
    found(d, lag_us > LAG_WARN_US ? LEVEL_WARN : LEVEL_OK,
          depot_strf(d->arena, "%lld ms late", (long long)(lag_us / 1000)),
          "the machine is overloaded, or something blocks the daemon's main loop", "depotctl status");
    return true;
}

static bool check_workers(doctor *d, depot_err *err)
{
    const host_scripts *scripts = host_environment(d->ctx->host)->scripts;
    size_t              n = scripts == NULL ? 0 : depot_json_len(scripts_status(d->arena));
    size_t              handlers = 0;
    depot_handler       row;

    (void)err;
    if (n == 0) {
        found(d, LEVEL_FAIL, "no worker process runs: no script can", "look for scripts that do not compile",
              "depotctl config check");
        return true;
    }
    for (size_t it = 0; scripts->handler_next(d->arena, &it, &row);) {
        handlers++;
    }
    int64_t     room = scripts->capacity();
    const char *said = depot_strf(d->arena, "%zu process%s, %zu job type%s, room for %lld more scripts", n,
                                  n == 1 ? "" : "es", handlers, handlers == 1 ? "" : "s", (long long)room);
    found(d, room == 0 ? LEVEL_WARN : LEVEL_OK, said, "all workers are full: raise [lua] workers or concurrency",
          "depotctl worker list");
    return true;
}

/* ---- the database ---- */
static bool check_database(doctor *d, depot_err *err)
{
    static const char sql[] = "select current_setting('server_version') as version,"
                              " current_setting('server_version_num')::int as number, pg_is_in_recovery() as standby";
    int64_t           before = depot_now_us();
    depot_rows       *rows = NULL;

    if (!ask(d, sql, &rows, err)) {
        return false;
    }
    bool        old = depot_int(rows, 0, "number") < 130000, standby = depot_bool(rows, 0, "standby");
    const char *said = depot_strf(d->arena, "PostgreSQL %s%s answers in %.1f ms", depot_text(rows, 0, "version"),
                                  standby ? " (standby)" : "", (double)(depot_now_us() - before) / 1000);
    found(d, old || standby ? LEVEL_FAIL : LEVEL_OK, said,
          old ? "13 or later is needed" : "a standby takes no writes: point [database] url at the primary", NULL);
    return true;
}

static bool check_role(doctor *d, depot_err *err)
{
    static const char sql[] =
        "select r.rolname, r.rolsuper, r.rolbypassrls, (select count(*) from pg_class c join pg_namespace n"
        " on n.oid = c.relnamespace where c.relowner = r.oid and n.nspname !~ '^pg_') as owned"
        " from pg_roles r where r.rolname = current_user";
    const char *fault = NULL;
    depot_rows *rows = NULL;

    if (!ask(d, sql, &rows, err)) {
        return false;
    }
    if (depot_bool(rows, 0, "rolsuper")) {
        fault = "is a superuser";
    } else if (depot_bool(rows, 0, "rolbypassrls")) {
        fault = "bypasses row security";
    } else if (depot_int(rows, 0, "owned") > 0) {
        fault = "owns tables, so row security does not bind it";
    }
    found(d, fault == NULL ? LEVEL_OK : LEVEL_FAIL,
          depot_strf(d->arena, "%s %s", depot_text(rows, 0, "rolname"),
                     fault == NULL ? "is no superuser and owns nothing" : fault),
          "log in as a plain role, and let another own the schemas ([database] owner_url)", NULL);
    return true;
}

static bool check_checksums(doctor *d, depot_err *err)
{
    static const char sql[] = "select current_setting('data_checksums') = 'on' as checked,"
                              " current_setting('fsync') = 'on' as fsync";
    depot_rows       *rows = NULL;

    if (!ask(d, sql, &rows, err)) {
        return false;
    }
    if (!depot_bool(rows, 0, "fsync")) {
        found(d, LEVEL_FAIL, "fsync is off: a crash of the machine loses data", "set fsync = on in postgresql.conf",
              NULL);
    }
    bool checked = depot_bool(rows, 0, "checked");
    found(d, checked ? LEVEL_OK : LEVEL_WARN, checked ? "on" : "off: a bad disk goes unnoticed",
          "stop the server and run pg_checksums", "pg_checksums --enable -D <data folder>");
    return true;
}

/* In our own cluster's folder; -1: it is not ours, or not ours to read. */
static int64_t waiting_files(doctor *d)
{
    const char *dir = depot_strf(d->arena, "%s/postgres/data/pg_wal/archive_status", depot_state_dir(d->ctx));
    DIR        *list = app_self->cluster == NULL ? NULL : opendir(dir);
    int64_t     n = 0;

    if (list == NULL) {
        return -1;
    }
    for (const struct dirent *file; (file = readdir(list)) != NULL;) {
        n += depot_glob("*.ready", file->d_name) ? 1 : 0;
    }
    (void)closedir(list); /* it was only read */
    return n;
}

/* Segments that wait; -1: neither files nor the role's rights tell. */
static int64_t waiting_segments(doctor *d)
{
    static const char sql[] = "select count(*) as n from pg_ls_archive_statusdir() where name like '%.ready'";
    depot_err         err = { 0 };
    depot_rows       *rows = NULL;
    int64_t           n = waiting_files(d);

    if (n >= 0 || !ask(d, sql, &rows, &err)) {
        return n;
    }
    return depot_int(rows, 0, "n");
}

static bool check_archiving(doctor *d, depot_err *err)
{
    static const char sql[] =
        "select current_setting('archive_mode') as mode, archived_count, failed_count, last_failed_wal,"
        " coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) as failing"
        " from pg_stat_archiver";
    depot_rows *rows = NULL;

    if (!ask(d, sql, &rows, err)) {
        return false;
    }
    if (strcmp(depot_text(rows, 0, "mode"), "off") == 0) {
        found(d, LEVEL_WARN, "off: the database cannot be brought back to a point in time",
              "set archive_mode and archive_command", NULL);
        return true;
    }
    if (depot_bool(rows, 0, "failing")) {
        found(d, LEVEL_FAIL,
              depot_strf(d->arena, "archiving %s fails (%lld failures)", depot_text(rows, 0, "last_failed_wal"),
                         (long long)depot_int(rows, 0, "failed_count")),
              "WAL piles up until the disk is full: the server's log says why", "depotctl logs");
        return true;
    }
    int64_t     ready = waiting_segments(d);
    const char *waiting = ready < 0 ? "nobody knows how many (grant pg_monitor)"
                                    : depot_strf(d->arena, "%lld", (long long)ready);
    found(d, level_of(ready, READY_WARN, READY_FAIL),
          depot_strf(d->arena, "%lld segments archived, %s waiting", (long long)depot_int(rows, 0, "archived_count"),
                     waiting),
          "archive_command is slower than the database writes", NULL);
    return true;
}

/* Half the round trip is what the two readings cannot be told apart by. */
static bool check_clock(doctor *d, depot_err *err)
{
    int64_t     before = depot_wall_us();
    depot_rows *rows = NULL;

    if (!ask(d, "select (extract(epoch from clock_timestamp()) * 1000000)::bigint as us", &rows, err)) {
        return false;
    }
    int64_t after = depot_wall_us(), there = depot_int(rows, 0, "us");
    int64_t off_ms = (there < before ? before - there : there > after ? there - after : 0) / 1000;
    found(d, level_of(off_ms, CLOCK_WARN_MS, CLOCK_FAIL_MS),
          depot_strf(d->arena, "the database's differs by %lld ms from ours", (long long)off_ms),
          "synchronise the clocks of both machines", "timedatectl");
    return true;
}

static bool check_migrations(doctor *d, depot_err *err)
{
    migration *list = NULL;
    size_t     n = 0, pending = 0;

    if (!migrate_status(d->db, d->arena, depot_strf(d->arena, "%s/sql", host_environment(d->ctx->host)->data_dir),
                        app_migration_sets(app_self, d->arena), &list, &n, err)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        pending += list[i].applied ? 0 : 1;
    }
    found(d, pending > 0 ? LEVEL_FAIL : LEVEL_OK,
          depot_strf(d->arena, "%zu applied, %zu pending", n - pending, pending), "apply them", "depotctl migrate up");
    return true;
}

static bool check_connections(doctor *d, depot_err *err)
{
    static const char sql[] = "select sum(numbackends)::int as used, current_setting('max_connections')::int as most"
                              " from pg_stat_database";
    depot_rows       *rows = NULL;

    if (!ask(d, sql, &rows, err)) {
        return false;
    }
    int64_t used = depot_int(rows, 0, "used"), most = depot_int(rows, 0, "most");
    found(d, level_of(used * 100 / most, 75, 90),
          depot_strf(d->arena, "%lld of %lld in use", (long long)used, (long long)most),
          "lower [database] max_connections, put a pooler in front, or raise the server's max_connections", NULL);
    return true;
}

static bool check_vacuum(doctor *d, depot_err *err)
{
    depot_rows *rows = NULL;

    if (!ask(d, "select datname, age(datfrozenxid) as age from pg_database order by 2 desc limit 1", &rows, err)) {
        return false;
    }
    found(d, level_of(depot_int(rows, 0, "age"), XID_WARN, XID_FAIL),
          depot_strf(d->arena, "oldest transaction id is %lld back (%s)", (long long)depot_int(rows, 0, "age"),
                     depot_text(rows, 0, "datname")),
          "autovacuum does not keep up, or something holds an old snapshot", "vacuumdb --all --freeze");
    return true;
}

static bool check_tokens(doctor *d, depot_err *err)
{
    static const char sql[] =
        "select name, expires_at <= now() as over, to_char(expires_at at time zone 'UTC', 'YYYY-MM-DD') as day"
        " from depot.token where revoked_at is null and expires_at < now() + make_interval(days => $1::int)"
        " order by expires_at";
    depot_rows *rows = NULL;

    if (!depot_db_sql(d->db, d->arena, sql, DEPOT_VALS(DEPOT_INT(TOKEN_WARN_DAYS)), &rows, err)) {
        return false;
    }
    for (size_t i = 0; i < depot_rows_count(rows); i++) {
        found(d, LEVEL_WARN,
              depot_strf(d->arena, "token %s %s on %s", depot_text(rows, i, "name"),
                         depot_bool(rows, i, "over") ? "expired" : "expires", depot_text(rows, i, "day")),
              "make a new one and revoke this one", "depotctl token list");
    }
    if (depot_rows_count(rows) == 0) {
        found(d, LEVEL_OK, depot_strf(d->arena, "none expires within %d days", TOKEN_WARN_DAYS), NULL, NULL);
    }
    return true;
}

static bool is_overdue(const depot_json *row)
{
    const char *due = depot_json_get_str(row, "next_due", NULL);
    depot_err   err = { 0 };
    int64_t     us = 0;

    return depot_json_get_bool(row, "enabled", true) && due != NULL && depot_parse_time(due, &us, &err) &&
           depot_wall_us() - us > (int64_t)OVERDUE_MS * 1000;
}

static bool check_schedules(doctor *d, depot_err *err)
{
    depot_json *list = NULL;
    size_t      overdue = 0;

    if (!sched_list(d->arena, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < depot_json_len(list); i++) {
        const depot_json *row = depot_json_at(list, i);
        const char       *name = depot_json_get_str(row, "name", "");

        if (is_overdue(row)) {
            overdue++;
            found(d, LEVEL_WARN,
                  depot_strf(d->arena, "%s was due at %s", name, depot_json_get_str(row, "next_due", "")),
                  "the scheduler does not keep up, or no daemon holds its duty", "depotctl schedule list");
        } else if (strcmp(depot_json_get_str(row, "last_status", ""), "failed") == 0) {
            overdue++;
            found(d, LEVEL_WARN,
                  depot_strf(d->arena, "%s failed last: %s", name, depot_json_get_str(row, "last_message", "")),
                  "run it by hand", depot_strf(d->arena, "depotctl schedule run %s", name));
        }
    }
    if (overdue == 0) {
        found(d, LEVEL_OK, depot_strf(d->arena, "%zu, none overdue", depot_json_len(list)), NULL, NULL);
    }
    return true;
}

/* ---- plugins' own checks ---- */
static bool is_doctor(const char *task)
{
    const char *dot = strrchr(task, '.');

    return dot != NULL && strcmp(dot, ".doctor") == 0;
}

static void run_plugin_check(doctor *d, const depot_task_row *task)
{
    const depot_json *result = NULL;
    depot_err         err = { 0 };

    if (!app_run_task(d->ctx->host, task->name, NULL, d->arena, &result, &err)) {
        found(d, LEVEL_FAIL, err.msg, err.hint, NULL);
        return;
    }
    const depot_json *checks = result == NULL ? NULL : depot_json_get(result, "checks");
    for (size_t i = 0; checks != NULL && i < depot_json_len(checks); i++) {
        const depot_json *row = depot_json_at(checks, i);
        const char       *status = depot_json_get_str(row, "status", "fail");

        d->check = depot_json_get_str(row, "check", task->name);
        found(d,
              strcmp(status, "ok") == 0     ? LEVEL_OK
              : strcmp(status, "warn") == 0 ? LEVEL_WARN
                                            : LEVEL_FAIL,
              depot_json_get_str(row, "message", ""), depot_json_get_str(row, "fix", NULL),
              depot_json_get_str(row, "command", NULL));
    }
}

static void check_by_plugins(doctor *d)
{
    for (size_t i = 1; i < host_count(d->ctx->host); i++) {
        const depot_ctx *plugin = host_plugin(d->ctx->host, i);

        for (size_t t = 0; plugin->state == PLUGIN_STARTED && t < plugin->n_tasks; t++) {
            if (is_doctor(plugin->tasks[t].name)) {
                d->check = plugin->name;
                run_plugin_check(d, &plugin->tasks[t]);
            }
        }
    }
}

/* ---- all of them ---- */
/* clang-format off */
static const struct {
    const char *name;
    bool        needs_db;
    bool (*run)(doctor *d, depot_err *err); /* false: the check itself failed, which is a finding */
} checks[] = {
    { "plugins running", false, check_plugins }, { "degraded", false, check_degraded },
    { "main loop", false, check_loop },          { "workers", false, check_workers },
    { "database", true, check_database },        { "database role", true, check_role },
    { "checksums", true, check_checksums },      { "WAL archiving", true, check_archiving },
    { "database clock", true, check_clock },     { "migrations", true, check_migrations },
    { "connections", true, check_connections },  { "vacuum", true, check_vacuum },
    { "tokens", true, check_tokens },            { "schedules", true, check_schedules },
};
/* clang-format on */

static bool examine(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    DEPOT_AUTO(depot_db_close) depot_db *db = NULL;
    depot_arena                         *arena = depot_req_arena(req);
    doctor    d = { .ctx = ctx, .arena = arena, .checks = depot_json_array(arena), .check = "database" };
    depot_err away = { 0 };

    (void)err;
    if (host_environment(ctx->host)->db == NULL) {
        found(&d, LEVEL_FAIL, "not there yet: depotd is starting", "wait, or see what it waits for", "depotctl status");
    } else if (!depot_db_open(ctx, &db, &away)) {
        found(&d, LEVEL_FAIL, away.msg, away.hint, "depotctl status");
    }
    d.db = db;
    for (size_t i = 0; i < DEPOT_N(checks); i++) {
        depot_err why = { 0 };

        d.check = checks[i].name;
        if ((!checks[i].needs_db || db != NULL) && !checks[i].run(&d, &why)) {
            found(&d, LEVEL_FAIL, why.msg, why.hint, NULL);
        }
    }
    check_by_plugins(&d);
    return depot_reply_json(req, 200,
                            depot_json_pack(arena, "{s:s, s:s, s:o}", "version", ctx->desc.version, "node",
                                            depot_node(ctx), "checks", d.checks));
}

/* clang-format off */
static const depot_field no_fields[] = { { .name = NULL } };
static const depot_field check_fields[] = {
    { .name = "check", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "what was looked at" },
    { .name = "status", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "ok, warn or fail" },
    { .name = "message", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "what was seen" },
    { .name = "fix", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "how to put it right" },
    { .name = "command", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "the command for that" },
    { .name = NULL },
};
static const depot_field check_item[] = {
    { .name = "check", .type = DEPOT_T_OBJECT, .fields = check_fields },
    { .name = NULL },
};
static const depot_field doctor_reply[] = {
    { .name = "version", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "of this depotd" },
    { .name = "node", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "its name" },
    { .name = "checks", .type = DEPOT_T_ARRAY, .flags = DEPOT_REQUIRED, .fields = check_item,
      .doc = "one row a finding" },
    { .name = NULL },
};

const depot_route doctor_routes[] = {
    { .method = "GET", .path = "/v1/doctor", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_EARLY, .request = no_fields,
      .reply = doctor_reply, .fn = examine, .doc = "examine daemon and database; each finding says what to do" },
};
/* clang-format on */
const size_t doctor_routes_n = DEPOT_N(doctor_routes);
