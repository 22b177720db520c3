/* task.c - running a task by name: arguments checked, deadline set, result kept. */
#include "api/api.h"
#include "app/app.h"
#include "base/log.h"
#include "base/unit.h"
#include "run/sched.h"

enum { TASK_TIMEOUT_MS = 60000, SLACK_MS = 5000, RELEASE_MS = 5000 };

struct depot_task {
    depot_arena      *arena;
    const depot_json *args, *result;
};

depot_arena *depot_task_arena(depot_task *task)
{
    return task->arena;
}

const depot_json *depot_task_args(depot_task *task)
{
    return task->args;
}

void depot_task_result(depot_task *task, const depot_json *result)
{
    task->result = result;
}

/* ---- one at a time in a group of daemons, whoever asks for it ---- */

static bool take_turn(db_pool *db, const char *duty, const char *holder, int64_t ms, depot_err *err)
{
    bool mine = false;

    if (db == NULL) {
        return DEPOT_FAIL(err, DB_DOWN, "the database, which says whose turn it is, is not there yet");
    }
    if (!duty_take(db, duty, holder, ms, &mine, err)) {
        return false;
    }
    return mine || DEPOT_FAIL(err, LOCKED, "it is running already, here or on another daemon");
}

/* Also when the work was canceled. If this fails the turn ends by itself, at the task's deadline. */
static void end_turn(db_pool *db, const char *duty, const char *holder)
{
    unit      u = { .deadline_ms = depot_now_ms() + RELEASE_MS, .apart = true };
    depot_err err = { 0 };
    bool      mine;

    unit_enter(&u);
    if (!duty_take(db, duty, holder, 0, &mine, &err)) {
        log_err("core", DEPOT_LOG_WARN, "task.turn_kept", &err);
    }
    unit_leave(&u);
}

static bool run_row(depot_ctx *ctx, const depot_task_row *row, depot_task *task, depot_err *err)
{
    int64_t     timeout_ms = row->timeout_ms > 0 ? row->timeout_ms : TASK_TIMEOUT_MS;
    bool        alone = (row->flags & DEPOT_TASK_SINGLETON) != 0;
    db_pool    *db = host_environment(ctx->host)->db;
    const char *duty = depot_strf(task->arena, "run %s", row->name);
    const char *holder = depot_strf(task->arena, "%s %s", depot_node(ctx), depot_uuid(task->arena));
    unit        u = { .deadline_ms = depot_now_ms() + timeout_ms };

    if (alone && !take_turn(db, duty, holder, timeout_ms + SLACK_MS, err)) {
        return false;
    }
    unit_enter(&u);
    bool ok = row->fn(ctx, task, err);
    unit_leave(&u);
    if (alone) {
        end_turn(db, duty, holder);
    }
    return ok;
}

bool app_run_task(host *h, const char *name, const depot_json *args, depot_arena *arena, const depot_json **out_result,
                  depot_err *err)
{
    static const depot_field none[] = { { 0 } };
    depot_ctx               *ctx = NULL;
    const depot_task_row    *row = host_task(h, name, &ctx);
    depot_json              *checked = NULL, *faults = NULL;

    if (row == NULL) {
        DEPOT_FAIL(err, NOT_FOUND, "no plugin has a task named %s", name);
        return depot_hint(err, "see depotctl task list");
    }
    if (ctx->state != PLUGIN_STARTED) {
        return DEPOT_FAIL(err, UNAVAILABLE, "task %s: plugin %s is not running", name, ctx->name);
    }
    const depot_json *given = args != NULL ? args : depot_json_object(arena);
    if (!api_validate(arena, row->args != NULL ? row->args : none, given, &checked, &faults, err)) {
        return depot_wrap(err, "task %s", name);
    }
    depot_task task = { arena, checked, NULL };
    bool       ok = run_row(ctx, row, &task, err);
    *out_result = task.result;
    return ok || depot_wrap(err, "task %s", name);
}
