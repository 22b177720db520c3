/* no_symbol.c - a shared object that is no plugin at all. */
#include "depot/plugin.h"

DEPOT_API int depot_plugin_of_nobody(void);
int depot_plugin_of_nobody(void)
{
    return 1;
}
