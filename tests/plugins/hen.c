/* hen.c - needs egg, which needs hen. */
#include "depot/plugin.h"

static const struct hen_v1 {
    uint32_t size;
} service = { sizeof(struct hen_v1) };
static const depot_service services[] = { { "hen", 1, &service } };
static const depot_need    needs[] = { { "egg", 1, false } };

DEPOT_PLUGIN(hen) { .version = "1.0", .summary = "one half of a circle", .services = DEPOT_TABLE(services), .needs = DEPOT_TABLE(needs) };
