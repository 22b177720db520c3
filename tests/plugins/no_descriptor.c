/* no_descriptor.c - an entry that leads to nothing. */
#include "depot/plugin.h"

DEPOT_API extern const depot_entry depot_plugin_abi1;
const depot_entry depot_plugin_abi1 = { DEPOT_ABI_MAJOR, DEPOT_ABI_MINOR, sizeof(depot_plugin), sizeof(depot_field), "no_descriptor",
                                        NULL };
