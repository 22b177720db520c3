/* slow.c - a plugin that takes its time: to start, to reload, to answer. What it does after that is said in the log. */
#include <unistd.h>

#include "depot/plugin.h"

typedef struct slow_options {
    int64_t start, reload;
} slow_options;

static const depot_field options[] = {
    DEPOT_OPT_DURATION(slow_options, start, "0", 0, 60000, .flags = DEPOT_RELOADABLE, .doc = "how long a start takes"),
    DEPOT_OPT_DURATION(slow_options, reload, "0", 0, 60000, .flags = DEPOT_RELOADABLE, .doc = "how long a reload takes"),
};

static void sleep_ms(int64_t ms)
{
    for (int64_t until = depot_now_ms() + ms; depot_now_ms() < until;) {
        usleep(10000);
    }
}

static bool start(depot_ctx *ctx, depot_err *err)
{
    const slow_options *o = depot_options(ctx);

    (void)err;
    sleep_ms(o->start);
    return true;
}

static bool reload(depot_ctx *ctx, depot_err *err)
{
    const slow_options *o = depot_options(ctx);

    (void)err;
    depot_log(ctx, DEPOT_LOG_INFO, "slow.reload", "begins");
    sleep_ms(o->reload);
    return true;
}

/* 60 s, or until somebody wants it to end; then one more look at the database, which must still be there. */
static bool wait_long(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_arena *arena = depot_req_arena(req);
    depot_rows  *rows = NULL;
    depot_err    why = { 0 };

    depot_log(ctx, DEPOT_LOG_INFO, "slow.request", "begins");
    for (int64_t until = depot_now_ms() + 60000; depot_now_ms() < until && !depot_canceled();) {
        usleep(10000);
    }
    bool ok = depot_sql(ctx, arena, "select 1 as one", DEPOT_NO_VALS, &rows, &why);
    depot_log(ctx, DEPOT_LOG_INFO, "slow.request", "ends: %s", ok ? "ok" : depot_err_id(&why));
    return ok ? depot_reply_json(req, 200, depot_json_object(arena)) : DEPOT_FAIL(err, CANCELED, "stopped");
}

static bool run_alone(depot_ctx *ctx, depot_task *task, depot_err *err)
{
    (void)ctx;
    (void)task;
    (void)err;
    sleep_ms(2000);
    return true;
}

static const depot_task_row tasks[] = {
    { .name = "slow.alone", .flags = DEPOT_TASK_SINGLETON, .fn = run_alone, .doc = "two seconds, one at a time in a group of daemons" },
};

static void stop(depot_ctx *ctx)
{
    depot_log(ctx, DEPOT_LOG_INFO, "slow.stop", "stops");
}

static const depot_field no_fields[] = { { .name = NULL } };
static const depot_route routes[] = {
    { .method = "POST", .path = "/v1/slow", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_LONG, .request = no_fields, .fn = wait_long,
      .doc = "wait until the daemon stops" },
};

DEPOT_PLUGIN(slow) {
    .version = "1.0", .summary = "takes its time", .options_size = sizeof(slow_options), .options = DEPOT_TABLE(options),
    .routes = DEPOT_TABLE(routes), .tasks = DEPOT_TABLE(tasks), .start = start, .reload = reload, .stop = stop,
};
