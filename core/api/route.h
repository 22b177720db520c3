/* route.h - which route answers a method and a path: an index over the plugins' tables, built once, read by any thread. */
#ifndef API_ROUTE_H
#define API_ROUTE_H

#include "api/target.h"
#include "host/host.h"

enum { ROUTE_PARAMS = 8 };

typedef struct route_entry {
    const depot_route  *route;
    depot_ctx          *ctx; /* of the plugin that offers it */
    struct route_entry *next;
} route_entry;

typedef struct route_index route_index;

route_index *route_index_new(depot_arena *arena);
/* Fails with PLUGIN, naming the plugin, when the path is not a template or its {names} are not request fields, and with
 * CONFLICT, naming both plugins, when another route answers the same method and paths on the same listener, both or neither of
 * them with DEPOT_ROUTE_JSON. */
bool route_index_add(route_index *index, const depot_route *route, depot_ctx *ctx, depot_err *err) DEPOT_MUST_USE;

typedef struct route_match {
    const route_entry *entry; /* NULL: none with this method */
    size_t             n_params;
    const char        *names[ROUTE_PARAMS], *values[ROUTE_PARAMS]; /* of the entry's path; values belong to the target */
    char               allow[96]; /* methods that the path has on this listener, "" if there is no such path */
} route_match;

/* A literal segment beats a {name}; HEAD is answered by GET; listen "control" sees every route. Of two rows for the same the one
 * with DEPOT_ROUTE_JSON answers, on its own listener, unless text is asked for. */
void route_find(const route_index *index, const char *method, const req_target *t, const char *listen, bool text, route_match *out);

/* Each route in order of addition. */
size_t             route_count(const route_index *index);
const route_entry *route_at(const route_index *index, size_t i);

#endif
