/* egg.c - needs hen, which needs egg. */
#include "depot/plugin.h"

static const struct egg_v1 {
    uint32_t size;
} service = { sizeof(struct egg_v1) };
static const depot_service services[] = { { "egg", 1, &service } };
static const depot_need    needs[] = { { "hen", 1, false } };

DEPOT_PLUGIN(egg) { .version = "1.0", .summary = "one half of a circle", .services = DEPOT_TABLE(services), .needs = DEPOT_TABLE(needs) };
