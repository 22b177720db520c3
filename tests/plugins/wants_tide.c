/* wants_tide.c - needs a service that nobody provides. */
#include "depot/plugin.h"

static const depot_need needs[] = { { "tide", 3, false } };

DEPOT_PLUGIN(wants_tide) { .version = "1.0", .summary = "waits for the tide", .needs = DEPOT_TABLE(needs) };
