/* lifecycle.c - says in the log what of its life cycle is called; `hang = yes` makes its drain stand still for ever. */
#include <unistd.h>

#include "depot/plugin.h"

typedef struct options_t {
    bool    hang;
    int64_t number;
} options_t;

static const depot_field options[] = {
    DEPOT_OPT_BOOL(options_t, hang, "no", .doc = "stand still in drain"),
    DEPOT_OPT_INT(options_t, number, "1", 0, 100, .flags = DEPOT_RELOADABLE, .doc = "said at each reload; 13 is refused"),
};

static const options_t *options_of(depot_ctx *ctx)
{
    return depot_options(ctx);
}

static bool check(depot_ctx *ctx, depot_err *err)
{
    if (options_of(ctx)->number == 13) {
        DEPOT_FAIL(err, INVALID, "lifecycle cannot count to 13");
        return depot_hint(err, "take another number");
    }
    return true;
}

static bool start(depot_ctx *ctx, depot_err *err)
{
    (void)err;
    depot_log(ctx, DEPOT_LOG_INFO, "lifecycle.start", "start with %lld", (long long)options_of(ctx)->number);
    return true;
}

static bool reload(depot_ctx *ctx, depot_err *err)
{
    (void)err;
    depot_log(ctx, DEPOT_LOG_INFO, "lifecycle.reload", "reload with %lld", (long long)options_of(ctx)->number);
    return true;
}

static void drain(depot_ctx *ctx)
{
    depot_log(ctx, DEPOT_LOG_INFO, "lifecycle.drain", "drain");
    while (options_of(ctx)->hang) {
        sleep(1);
    }
}

static void stop(depot_ctx *ctx)
{
    depot_log(ctx, DEPOT_LOG_INFO, "lifecycle.stop", "stop");
}

DEPOT_PLUGIN(lifecycle) {
    .version = "1.0", .summary = "tells its life", .options_size = sizeof(options_t), .options = DEPOT_TABLE(options),
    .check = check, .start = start, .reload = reload, .drain = drain, .stop = stop,
};
