/* local_version.c - what this depotctl is. */
#include "config.h"
#include "ctl/internal.h"

int local_version(ctl *c, const verb_call *call)
{
    const char *abi = depot_strf(c->arena, "%u.%u", DEPOT_ABI_MAJOR, DEPOT_ABI_MINOR);

    return ctl_print(c, call, depot_json_pack(c->arena, "{s:s, s:s}", "version", DEPOT_VERSION, "plugin_abi", abi));
}
