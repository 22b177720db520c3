/* wants_newer_clock.c - needs a later version of a service than the one that is there. */
#include "depot/plugin.h"

static const depot_need needs[] = { { "clock", 2, false } };

DEPOT_PLUGIN(wants_newer_clock) { .version = "1.0", .summary = "wants more of clock", .needs = DEPOT_TABLE(needs) };
