/* depot/svc_storage.h - the service "storage", version 1: bytes by the SHA-256 of their content. */
#ifndef DEPOT_SVC_STORAGE_H
#define DEPOT_SVC_STORAGE_H

#include "depot/plugin.h"

/* Next bytes of the content; *out_n 0 at its end. */
typedef bool (*depot_read_fn)(void *arg, void *buf, size_t size, size_t *out_n, depot_err *err);
typedef bool (*depot_write_fn)(void *arg, const void *buf, size_t n, depot_err *err);

typedef struct depot_object {
    char    sha[65];      /* of the uncompressed bytes */
    int64_t bytes;        /* uncompressed */
    int64_t stored_bytes; /* size of the object file */
    bool    existed;      /* put: the store had it already */
} depot_object;

typedef struct depot_storage_v1 {
    uint32_t size;
    /* Durable when it returns true. */
    bool (*put)(depot_read_fn read, void *arg, depot_object *out, depot_err *err);
    /* Verified while it streams: CORRUPT at the end when the content does not match its name. */
    bool (*get)(const char *sha, depot_write_fn write, void *arg, depot_err *err);
    bool (*stat)(const char *sha, depot_object *out, depot_err *err);
    bool (*verify)(const char *sha, depot_err *err);
    /* Manifest in the seeds' layout: refs/<project>/<ts>_<asset>.json. out_pointer (256 bytes): depot://refs/… */
    bool (*ref)(const char *project, const char *asset, const char *filename, const depot_object *object, char *out_pointer,
                depot_err *err);
} depot_storage_v1;

#endif
