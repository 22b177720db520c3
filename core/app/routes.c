/* routes.c - the daemon's own work over HTTP and depotctl: schedules, hooks, tasks, scripts, migrations, reload. */
#include <stdlib.h>
#include <string.h>

#include "app/internal.h"
#include "base/clock.h"
#include "base/unit.h"
#include "db/migrate.h"
#include "lua/scripts.h"
#include "run/events.h"
#include "run/sched.h"

enum { RELOAD_WAIT_MS = 60000, CONNECT_MS = 10000 };

static bool list_schedules(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_json *list = NULL;

    (void)ctx;
    return sched_list(depot_req_arena(req), &list, err) && depot_reply_json(req, 200, list);
}

static depot_json *result_reply(depot_arena *arena, const depot_json *result)
{
    depot_json *reply = depot_json_pack(arena, "{s:s}", "status", "ok");

    if (result != NULL) {
        depot_json_set(reply, "result", (depot_json *)(uintptr_t)result); /* the reply shares it and dies with the same arena */
    }
    return reply;
}

static bool run_schedule(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_arena      *arena = depot_req_arena(req);
    const depot_json *result = NULL;

    (void)ctx;
    return sched_run_now(depot_json_get_str(depot_req_args(req), "name", ""), arena, &result, err) &&
           depot_reply_json(req, 200, result_reply(arena, result));
}

static bool list_hooks(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)ctx;
    (void)err;
    return depot_reply_json(req, 200, events_status(depot_req_arena(req)));
}

static bool list_tasks(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_arena *arena = depot_req_arena(req);
    depot_json  *list = depot_json_array(arena);

    (void)err;
    for (size_t i = 0; i < host_count(ctx->host); i++) {
        const depot_ctx *plugin = host_plugin(ctx->host, i);
        for (size_t t = 0; t < plugin->n_tasks; t++) {
            const depot_task_row *row = &plugin->tasks[t];
            depot_json_add(list, depot_json_pack(arena, "{s:s, s:s, s:s?, s:s}", "name", row->name, "plugin", plugin->name, "every",
                                                 row->every, "doc", row->doc));
        }
    }
    return depot_reply_json(req, 200, list);
}

static bool run_task(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_arena      *arena = depot_req_arena(req);
    const depot_json *args = depot_req_args(req), *result = NULL;

    return app_run_task(ctx->host, depot_json_get_str(args, "name", ""), depot_json_get(args, "args"), arena, &result, err) &&
           depot_reply_json(req, 200, result_reply(arena, result));
}

static bool list_workers(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)ctx;
    (void)err;
    return depot_reply_json(req, 200, scripts_status(depot_req_arena(req)));
}

static bool list_handlers(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_arena  *arena = depot_req_arena(req);
    depot_json   *list = depot_json_array(arena);
    depot_handler row;

    (void)err;
    for (size_t it = 0; depot_handler_next(ctx, arena, &it, &row);) {
        depot_json_add(list, depot_json_pack(arena, "{s:s, s:s, s:s, s:I, s:I}", "name", row.name, "file", row.file, "revision",
                                             row.revision, "timeout_ms", row.timeout_ms, "max_attempts", row.max_attempts));
    }
    return depot_reply_json(req, 200, list);
}

/* ---- migrations ---- */

static depot_json *migrations_json(depot_arena *arena, const migration *list, size_t n)
{
    depot_json *out = depot_json_array(arena);

    for (size_t i = 0; i < n; i++) {
        depot_json_add(out, depot_json_pack(arena, "{s:s, s:i, s:s, s:b, s:s?, s:s}", "set", list[i].set, "number", list[i].number,
                                            "name", list[i].name, "applied", (int)list[i].applied, "applied_at", list[i].applied_at,
                                            "checksum", list[i].checksum));
    }
    return out;
}

static bool with_migrations(depot_req *req, bool up, depot_err *err)
{
    depot_arena                        *arena = depot_req_arena(req);
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
    const char                         *sql_dir = depot_strf(arena, "%s/sql", app_self->paths->data_dir);
    const char *const                  *sets = app_migration_sets(app_self, arena);
    migration                          *list = NULL;
    size_t                              n = 0, applied = 0;

    if (up && app_self->owner_url == NULL) {
        DEPOT_FAIL(err, MIGRATION, "depotd does not know the role that owns the schemas");
        return depot_hint(err, "set [database] owner_url");
    }
    const char *url = app_self->owner_url != NULL ? app_self->owner_url : app_self->direct_url;
    if (!db_connect(url, "depotd/migrate", unit_remaining_ms(CONNECT_MS), &db, err)) {
        return false;
    }
    if (up && !migrate_up(db, arena, sql_dir, sets, NULL, NULL, &applied, err)) {
        return false;
    }
    return migrate_status(db, arena, sql_dir, sets, &list, &n, err) && depot_reply_json(req, 200, migrations_json(arena, list, n));
}

static bool list_migrations(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)ctx;
    return with_migrations(req, false, err);
}

static bool apply_migrations(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)ctx;
    return with_migrations(req, true, err);
}

/* ---- reload ---- */

/* Under the lock. */
static void forget_wait(app *a, const app_reload_wait *w)
{
    app_reload_wait **at = &a->reload_waits;

    while (*at != w) {
        at = &(*at)->next;
    }
    *at = w->next;
}

/* The message has the first problem, the document all of them. Frees the text. */
static bool refuse_reload(depot_req *req, char *text, depot_err *err)
{
    depot_json *problems = depot_json_parse(depot_req_arena(req), text, strlen(text), err);
    size_t      n = depot_json_len(problems);

    free(text);
    const char *first = n == 0 ? "" : depot_json_string(depot_json_at(problems, 0), NULL);
    DEPOT_FAIL(err, CONFIG, "the new configuration was refused: %.*s%s", (int)strcspn(first, "\n"), first,
               n > 1 ? depot_strf(depot_req_arena(req), " (and %zu more)", n - 1) : "");
    api_problems(req, problems);
    return depot_hint(err, "the running configuration stays in force; see depotctl config check");
}

static bool reload(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    app             *a = app_self;
    int64_t          until = depot_now_ms() + RELOAD_WAIT_MS;
    app_reload_wait *mine = depot_alloc(depot_req_arena(req), sizeof(*mine));

    (void)ctx;
    pthread_mutex_lock(&a->lock);
    mine->number = a->reloads_begun + 1;
    mine->next = a->reload_waits;
    a->reload_waits = mine;
    a->reload_wanted = true;
    pthread_cond_broadcast(&a->cond);
    while (!mine->done && !a->stop_wanted && clock_cond_wait(&a->cond, &a->lock, until)) {
    }
    bool stops = a->stop_wanted;
    forget_wait(a, mine);
    pthread_mutex_unlock(&a->lock);
    if (!mine->done && stops) {
        return DEPOT_FAIL(err, UNAVAILABLE, "depotd is shutting down");
    }
    if (!mine->done) {
        return DEPOT_FAIL(err, TIMEOUT, "the reload has not ended within %d s", RELOAD_WAIT_MS / 1000);
    }
    if (!mine->ok) {
        return refuse_reload(req, mine->problems, err);
    }
    return depot_reply_json(req, 200, result_reply(depot_req_arena(req), NULL));
}

/* clang-format off */
static const depot_field no_fields[] = { { .name = NULL } };
static const depot_field by_name[] = {
    { .name = "name", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 128, .doc = "its name" },
    { .name = NULL },
};
static const depot_field task_request[] = {
    { .name = "name", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 128, .doc = "the task's name" },
    { .name = "args", .type = DEPOT_T_OBJECT, .doc = "the task's arguments" },
    { .name = NULL },
};
static const depot_field result_fields[] = {
    { .name = "status", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "ok" },
    { .name = "result", .type = DEPOT_T_ANY, .doc = "what it returned" },
    { .name = NULL },
};
static const depot_field schedule_item[] = {
    { .name = "name", .type = DEPOT_T_STRING, .doc = "of the [schedule NAME] section" },
    { .name = "run", .type = DEPOT_T_STRING, .doc = "what it runs" },
    { .name = "cron", .type = DEPOT_T_STRING, .doc = "when" },
    { .name = "next_due", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "next due time" },
    { .name = "last_due", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "last due time that was handled" },
    { .name = "last_status", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "how that run ended" },
    { .name = "last_message", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "what it said" },
    { .name = "last_node", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "the daemon that ran it" },
    { .name = "last_duration_ms", .type = DEPOT_T_INT, .flags = DEPOT_NULLABLE, .doc = "how long it took" },
    { .name = "zone", .type = DEPOT_T_STRING, .doc = "whose clock the cron expression means" },
    { .name = "describe", .type = DEPOT_T_STRING, .doc = "the cron expression in words" },
    { .name = "enabled", .type = DEPOT_T_BOOL, .doc = "whether it is ever due" },
    { .name = NULL },
};
static const depot_field task_item[] = {
    { .name = "name", .type = DEPOT_T_STRING, .doc = "for run = and task run" },
    { .name = "plugin", .type = DEPOT_T_STRING, .doc = "who offers it" },
    { .name = "every", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "how often it runs by itself" },
    { .name = "doc", .type = DEPOT_T_STRING, .doc = "what it does" },
    { .name = NULL },
};
static const depot_field hook_item[] = {
    { .name = "name", .type = DEPOT_T_STRING, .doc = "of the [hook NAME] section" },
    { .name = "on", .type = DEPOT_T_STRING, .doc = "event or glob" },
    { .name = "run", .type = DEPOT_T_STRING, .doc = "what it runs" },
    { .name = "when", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "condition, a Lua expression" },
    { .name = "durable", .type = DEPOT_T_BOOL, .doc = "through the queue" },
    { .name = "enabled", .type = DEPOT_T_BOOL, .doc = "whether it reacts" },
    { .name = "runs", .type = DEPOT_T_INT, .doc = "since the daemon started" },
    { .name = "failures", .type = DEPOT_T_INT, .doc = "since the daemon started" },
    { .name = "last_at", .type = DEPOT_T_TIME, .flags = DEPOT_NULLABLE, .doc = "its last run" },
    { .name = "last_message", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "what that failed with" },
    { .name = NULL },
};
static const depot_field worker_item[] = {
    { .name = "worker", .type = DEPOT_T_INT, .doc = "number" },
    { .name = "pid", .type = DEPOT_T_INT, .doc = "process" },
    { .name = "state", .type = DEPOT_T_STRING, .doc = "starting, ready, retiring, stopping" },
    { .name = "running", .type = DEPOT_T_INT, .doc = "scripts under way; of a range of jobs, as many as may wait at a time" },
    { .name = "done", .type = DEPOT_T_INT, .doc = "scripts ended" },
    { .name = "rss_bytes", .type = DEPOT_T_INT, .doc = "resident memory" },
    { .name = "revision", .type = DEPOT_T_STRING, .doc = "of the set of scripts" },
    { .name = NULL },
};
static const depot_field handler_item[] = {
    { .name = "name", .type = DEPOT_T_STRING, .doc = "job type" },
    { .name = "file", .type = DEPOT_T_STRING, .doc = "script" },
    { .name = "timeout_ms", .type = DEPOT_T_INT, .doc = "deadline of a run" },
    { .name = "max_attempts", .type = DEPOT_T_INT, .doc = "0: the queue's" },
    { .name = "revision", .type = DEPOT_T_STRING, .doc = "SHA-256 of the script" },
    { .name = NULL },
};
static const depot_field migration_item[] = {
    { .name = "set", .type = DEPOT_T_STRING, .doc = "folder below sql/" },
    { .name = "number", .type = DEPOT_T_INT, .doc = "order within the set" },
    { .name = "name", .type = DEPOT_T_STRING, .doc = "what it makes" },
    { .name = "applied", .type = DEPOT_T_BOOL, .doc = "is it in the database" },
    { .name = "applied_at", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "since when" },
    { .name = "checksum", .type = DEPOT_T_SHA256, .doc = "SHA-256 of the file" },
    { .name = NULL },
};
const depot_route app_routes[] = {
    { .method = "GET", .path = "/v1/schedules", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_LIST, .request = no_fields, .reply = schedule_item,
      .fn = list_schedules, .cli = "schedule list", .doc = "schedules with their last and next due times" },
    { .method = "POST", .path = "/v1/schedules/{name}/run", .role = DEPOT_OPERATOR, .flags = DEPOT_ROUTE_LONG, .request = by_name,
      .reply = result_fields, .fn = run_schedule, .cli = "schedule run <name>",
      .doc = "run a schedule's action now, outside of its plan, and wait for it" },
    { .method = "GET", .path = "/v1/hooks", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_LIST, .request = no_fields, .reply = hook_item, .fn = list_hooks,
      .cli = "hook list", .doc = "hooks and how often they ran" },
    { .method = "GET", .path = "/v1/tasks", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_LIST, .request = no_fields, .reply = task_item, .fn = list_tasks,
      .cli = "task list", .doc = "tasks that schedules and hooks may run" },
    { .method = "POST", .path = "/v1/tasks/{name}/run", .role = DEPOT_OPERATOR, .flags = DEPOT_ROUTE_LONG, .request = task_request,
      .reply = result_fields, .fn = run_task, .cli = "task run <name>", .doc = "run a task and wait for it" },
    { .method = "GET", .path = "/v1/workers", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_LIST, .request = no_fields, .reply = worker_item, .fn = list_workers,
      .cli = "worker list", .doc = "worker processes that run scripts" },
    { .method = "GET", .path = "/v1/handlers", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_LIST, .request = no_fields, .reply = handler_item,
      .fn = list_handlers, .cli = "handler list", .doc = "job types that scripts handle" },
    { .method = "GET", .path = "/v1/migrations", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_LIST, .request = no_fields, .reply = migration_item,
      .fn = list_migrations, .doc = "migrations and whether they are applied" },
    { .method = "POST", .path = "/v1/migrations", .role = DEPOT_ADMIN, .flags = DEPOT_ROUTE_LONG | DEPOT_ROUTE_LIST, .request = no_fields,
      .reply = migration_item, .fn = apply_migrations, .doc = "apply pending migrations" },
    { .method = "POST", .path = "/v1/config/reload", .role = DEPOT_ADMIN, .flags = DEPOT_ROUTE_LONG, .request = no_fields,
      .reply = result_fields, .fn = reload, .cli = "config reload",
      .doc = "read the configuration and scripts again: everything is checked first, then all of it applies or nothing" },
};
/* clang-format on */
const size_t app_routes_n = DEPOT_N(app_routes);
