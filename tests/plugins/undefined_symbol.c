/* undefined_symbol.c - calls what no depotd has. */
#include "depot/plugin.h"

DEPOT_API void depot_call_of_another_year(depot_ctx *ctx);

static void stop(depot_ctx *ctx)
{
    depot_call_of_another_year(ctx);
}

DEPOT_PLUGIN(undefined_symbol) { .version = "1.0", .summary = "calls what is not there", .stop = stop };
