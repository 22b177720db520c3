/* storage.h - private to the storage plugin. */
#ifndef STORAGE_H
#define STORAGE_H

#include "depot/svc_storage.h"

enum { BLOCK = 65536 };

typedef struct storage_options {
    const char        *root;
    int64_t            level;
    const char *const *import;
    int64_t            script_max;
} storage_options;

/* Where the store is; fixed while the process lives. */
typedef struct store {
    depot_ctx  *ctx;
    const char *root, *tmp;
    int         level;
} store;

extern const depot_storage_v1 storage_service;
extern store                  storage_self; /* one store per process: services have no handle argument */

/* store.c */
bool store_open(depot_ctx *ctx, depot_err *err) DEPOT_MUST_USE;
bool store_put(depot_read_fn read, void *arg, depot_object *out, depot_err *err);
bool store_get(const char *sha, depot_write_fn write, void *arg, depot_err *err);
bool store_stat(const char *sha, depot_object *out, depot_err *err);
bool store_verify(const char *sha, depot_err *err);
bool store_is_sha(const char *sha);
/* false with CANCELED or TIMEOUT: the unit of work is to end. Asked between blocks, as an object may be of any size. */
bool store_may_go_on(depot_err *err) DEPOT_MUST_USE;

/* manifest.c */
bool store_ref(const char *project, const char *asset, const char *filename, const depot_object *object, char *out_pointer,
               depot_err *err);

/* scrub.c */
bool storage_scrub(depot_ctx *ctx, depot_task *task, depot_err *err);
bool storage_sweep(depot_ctx *ctx, depot_task *task, depot_err *err);

/* routes.c, lua.c: rows */
extern const depot_route  storage_routes[5];
extern const depot_lua_fn storage_lua[4];

#endif
