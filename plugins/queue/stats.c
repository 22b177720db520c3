/* stats.c - depths and rates, asked of the database when somebody scrapes. */
#include "queue.h"

static void gauge_queue(depot_ctx *ctx, const depot_json *row)
{
    const char *of = depot_json_get_str(row, "queue", "");
    int64_t     queued = depot_json_get_int(row, "queued", 0), runnable = depot_json_get_int(row, "runnable", 0);

    depot_gauge(ctx, "depot_queue_depth", DEPOT_LABELS(of, "runnable"), (double)runnable);
    depot_gauge(ctx, "depot_queue_depth", DEPOT_LABELS(of, "scheduled"), (double)(queued - runnable));
    depot_gauge(ctx, "depot_queue_depth", DEPOT_LABELS(of, "running"), (double)depot_json_get_int(row, "running", 0));
    depot_gauge(ctx, "depot_queue_oldest_runnable_seconds", DEPOT_LABELS(of),
                (double)depot_json_get_int(row, "oldest_runnable_ms", 0) / 1e3);
}

void queue_scrape(depot_ctx *ctx)
{
    static const char sql[] = "select queue.list_queues() as queues, (select coalesce(sum(succeeded), 0) from "
                              "queue.last_minute()) as succeeded,"
                              " (select coalesce(sum(dlq), 0) from queue.last_minute()) as dead";
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_rows                               *rows = NULL;
    depot_err                                 err = { 0 };
    int64_t                                   queued = 0, running = 0;

    if (!depot_sql(ctx, arena, sql, DEPOT_NO_VALS, &rows, &err)) {
        depot_log_err(ctx, DEPOT_LOG_DEBUG, "queue.no_stats",
                      &err); /* the database's own metric says that it is away */
        return;
    }
    const depot_json *queues = depot_rows_json(rows, 0, "queues", arena);
    for (size_t i = 0; i < depot_json_len(queues); i++) {
        const depot_json *row = depot_json_at(queues, i);
        gauge_queue(ctx, row);
        queued += depot_json_get_int(row, "queued", 0);
        running += depot_json_get_int(row, "running", 0);
    }
    depot_gauge(ctx, "pgflow_queue_depth", NULL, (double)queued);
    depot_gauge(ctx, "pgflow_running_jobs", NULL, (double)running);
    depot_gauge(ctx, "pgflow_jobs_succeeded_last_60s", NULL, depot_real(rows, 0, "succeeded"));
    depot_gauge(ctx, "pgflow_jobs_failed_last_60s", NULL, depot_real(rows, 0, "dead"));
}
