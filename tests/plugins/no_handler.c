/* no_handler.c - a route that leads nowhere. */
#include "depot/plugin.h"

static const depot_route routes[] = { { .method = "GET", .path = "/v1/nowhere", .role = DEPOT_VIEWER, .doc = "nothing" } };

DEPOT_PLUGIN(no_handler) { .version = "1.0", .summary = "has a route without a function", .routes = DEPOT_TABLE(routes) };
