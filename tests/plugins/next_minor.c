/* next_minor.c - a plugin that was built with a later header of the same major. */
#include "depot/plugin.h"

static const depot_plugin descriptor = { .version = "1.0", .summary = "needs what is not there yet" };

DEPOT_API extern const depot_entry depot_plugin_abi1;
const depot_entry depot_plugin_abi1 = { DEPOT_ABI_MAJOR, DEPOT_ABI_MINOR + 1, sizeof(depot_plugin) + 64, sizeof(depot_field),
                                        "next_minor", &descriptor };
