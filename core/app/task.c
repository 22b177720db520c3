/* task.c - running a task by name: arguments checked, deadline set, result kept. */
#include "api/api.h"
#include "app/app.h"
#include "base/unit.h"

enum { TASK_TIMEOUT_MS = 60000 };

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
    unit       u = { .deadline_ms = depot_now_ms() + (row->timeout_ms > 0 ? row->timeout_ms : TASK_TIMEOUT_MS) };
    unit_enter(&u);
    bool ok = row->fn(ctx, &task, err);
    unit_leave(&u);
    *out_result = task.result;
    return ok || depot_wrap(err, "task %s", name);
}
