/* manifest.c - refs/<project>/<ts>_<asset>.json: what a stored object is to a project (seed-interfaces 2.6: names, order of
 * members, indent, time stamps; no newline at the end). */
#include <stdio.h>
#include <string.h>

#include "storage.h"

enum { TRIES = 100, MANIFEST_MODE = 0600, POINTER_SIZE = 256, NAME_MAX_BYTES = 96 };

/* Project and asset become names in the file system: letters, digits, dot, dash, underscore, and no leading dot. */
static bool check_name(const char *what, const char *name, depot_err *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t            n = name == NULL ? 0 : strlen(name);

    if (n == 0 || n > NAME_MAX_BYTES || name[0] == '.' || strspn(name, allowed) != n) {
        DEPOT_FAIL(err, INVALID, "%s \"%.100s\" cannot be part of a reference", what, name == NULL ? "" : name);
        return depot_hint(err, "use 1 to %d letters, digits, dots, dashes and underscores, not starting with a dot", NAME_MAX_BYTES);
    }
    return true;
}

/* 2026-11-20T09:23:33.459721Z as 20261120T092333459721 */
static const char *compact(depot_arena *arena, const char *iso)
{
    char  *out = depot_alloc(arena, strlen(iso) + 1);
    size_t n = 0;

    for (const char *c = iso; *c != '\0'; c++) {
        if (strchr("-:.Z", *c) == NULL) {
            out[n++] = *c;
        }
    }
    return out;
}

/* A manifest is never replaced: two of the same asset at the same microsecond get different names. */
static bool publish(const char *folder, const char *name, const char *text, bool *out_existed, depot_err *err)
{
    DEPOT_AUTO(depot_tmpfile_drop) depot_tmpfile tmp = { .fd = -1 };
    DEPOT_AUTO(depot_arena_drop) depot_arena    *arena = depot_arena_new();

    return depot_tmpfile_open(&tmp, storage_self.tmp, MANIFEST_MODE, err) && depot_write_all(tmp.fd, text, strlen(text), err) &&
           depot_tmpfile_link(&tmp, depot_strf(arena, "%s/%s", folder, name), out_existed, err);
}

static const char *describe(depot_arena *arena, const char *asset, const char *filename, const depot_object *object, const char *iso)
{
    return depot_json_pretty(arena, depot_json_pack(
        arena, "{s:s, s:s, s:s, s:s, s:I, s:I, s:s}", "asset_id", asset, "filename", filename, "object_path",
        depot_strf(arena, "objects/%.2s/%.2s/%s.bin.gz", object->sha, object->sha + 2, object->sha), "checksum", object->sha, "bytes",
        object->bytes, "compressed_bytes", object->stored_bytes, "created_at", iso));
}

bool store_ref(const char *project, const char *asset, const char *filename, const depot_object *object, char *out_pointer,
               depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    int64_t                                   wall_us = depot_wall_us();
    const char                               *name = NULL;
    bool                                      existed = true;

    if (!check_name("project", project, err) || !check_name("asset", asset, err)) {
        return false;
    }
    if (!store_is_sha(object->sha)) {
        return DEPOT_FAIL(err, INVALID, "the object has no SHA-256");
    }
    const char *folder = depot_strf(arena, "%s/refs/%s", storage_self.root, project);
    if (!depot_mkdirs(folder, 0755, err)) {
        return false;
    }
    for (int tries = 0; existed && tries < TRIES; tries++, wall_us++) {
        const char *iso = depot_format_time(arena, wall_us);
        name = depot_strf(arena, "%s_%s.json", compact(arena, iso), asset);
        if (!publish(folder, name, describe(arena, asset, filename, object, iso), &existed, err)) {
            return depot_wrap(err, "reference of %s", asset);
        }
    }
    if (existed) {
        return DEPOT_FAIL(err, CONFLICT, "%s/%s is there already", folder, name);
    }
    (void)snprintf(out_pointer, POINTER_SIZE, "depot://refs/%s/%s", project, name);
    return true;
}
