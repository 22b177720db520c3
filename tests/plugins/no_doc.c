/* no_doc.c - a task that nobody explained. */
#include "depot/plugin.h"

static bool run_task(depot_ctx *ctx, depot_task *task, depot_err *err)
{
    (void)ctx, (void)task, (void)err;
    return true;
}

static const depot_task_row tasks[] = { { .name = "no_doc.run", .fn = run_task } };

DEPOT_PLUGIN(no_doc) { .version = "1.0", .summary = "explains nothing", .tasks = DEPOT_TABLE(tasks) };
