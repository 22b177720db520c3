/* clock_one.c - one of two plugins that both provide the service clock. */
#include "depot/plugin.h"

static const struct clock_v1 {
    uint32_t size;
} service = { sizeof(struct clock_v1) };
static const depot_service services[] = { { "clock", 1, &service } };

DEPOT_PLUGIN(clock_one) { .version = "1.0", .summary = "has a clock", .services = DEPOT_TABLE(services) };
