/* next_major.c - a plugin as the next major of the ABI would have it: another entry symbol. */
#include "depot/plugin.h"

static const depot_plugin descriptor = { .version = "1.0", .summary = "from the future" };

DEPOT_API extern const depot_entry depot_plugin_abi2;
const depot_entry depot_plugin_abi2 = { DEPOT_ABI_MAJOR + 1, 3, sizeof(depot_plugin), sizeof(depot_field), "next_major", &descriptor };
