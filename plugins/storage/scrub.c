/* scrub.c - housekeeping of the store: every object read against its name, what crashes left behind removed. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "storage.h"

enum { PATH_SIZE = 4096, BAD_MAX = 1000, STALE_SECONDS = 3600, DEPTH = 2, SHA_HEX = 64 };

typedef struct tally {
    depot_arena *arena;
    int64_t      objects, stored_bytes;
    depot_json  *bad; /* [{sha, why}], the first BAD_MAX */
    int64_t      n_bad;
} tally;

static void note_bad(tally *t, const char *name, const char *why)
{
    t->n_bad++;
    if (t->n_bad <= BAD_MAX) {
        depot_json_add(t->bad, depot_json_pack(t->arena, "{s:s, s:s}", "sha", name, "why", why));
    }
}

/* false: the scrub is to end. */
static bool check_object(tally *t, const char *folder, const char *name, depot_err *err)
{
    char        sha[SHA_HEX + 1], path[PATH_SIZE];
    struct stat st;
    depot_err   why = { 0 };

    (void)snprintf(sha, sizeof(sha), "%.64s", name);
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    t->objects++;
    if (lstat(path, &st) == 0) {
        t->stored_bytes += st.st_size;
    }
    if (strcmp(name + strlen(sha), ".bin.gz") != 0) {
        note_bad(t, sha, "not a name of an object");
        return true;
    }
    if (store_verify(sha, &why)) {
        return true;
    }
    if (!store_may_go_on(err)) {
        return false;
    }
    note_bad(t, sha, why.msg);
    return true;
}

/* Depth is bounded by the layout: objects/aa/bb/. What cannot be looked into below objects/ is a finding, not the end. */
static bool walk(tally *t, const char *folder, int depth, depot_err *err)
{
    DIR *dir = opendir(folder);
    bool ok = true;

    if (dir == NULL) {
        depot_err why = { 0 };
        (void)DEPOT_FAIL_ERRNO(&why, "cannot read %s", folder);
        if (depth == 0) {
            *err = why;
            return false;
        }
        note_bad(t, strrchr(folder, '/') + 1, why.msg);
        return true;
    }
    for (struct dirent *e; ok && (e = readdir(dir)) != NULL;) {
        char path[PATH_SIZE];
        if (e->d_name[0] == '.') {
            continue;
        }
        if (!store_may_go_on(err)) {
            ok = false;
        } else if (depth < DEPTH) {
            (void)snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
            ok = walk(t, path, depth + 1, err);
        } else {
            ok = check_object(t, folder, e->d_name, err);
        }
    }
    closedir(dir);
    return ok;
}

bool storage_scrub(depot_ctx *ctx, depot_task *task, depot_err *err)
{
    depot_arena *arena = depot_task_arena(task);
    tally        t = { .arena = arena, .bad = depot_json_array(arena) };
    char         path[PATH_SIZE];

    (void)snprintf(path, sizeof(path), "%s/objects", storage_self.root);
    if (!walk(&t, path, 0, err)) {
        return depot_wrap(err, "scrub, after %lld objects", (long long)t.objects);
    }
    depot_gauge(ctx, "depot_storage_objects", NULL, (double)t.objects);
    depot_gauge(ctx, "depot_storage_stored_bytes", NULL, (double)t.stored_bytes);
    depot_gauge(ctx, "depot_storage_corrupt_objects", NULL, (double)t.n_bad);
    depot_degraded(ctx, "corrupt objects", t.n_bad == 0 ? NULL : depot_strf(arena, "%lld objects are damaged", (long long)t.n_bad));
    depot_task_result(task, depot_json_pack(arena, "{s:I, s:I, s:I, s:o}", "objects", t.objects, "stored_bytes", t.stored_bytes,
                                            "corrupt", t.n_bad, "bad", t.bad));
    for (size_t i = 0; i < depot_json_len(t.bad); i++) {
        const depot_json *row = depot_json_at(t.bad, i);
        if (!depot_emit(ctx, "storage.object_corrupt", row, err)) {
            return depot_wrap(err, "report object %s", depot_json_get_str(row, "sha", ""));
        }
    }
    return true;
}

/* Files in tmp/ that no writer can still hold: older than any put may take. */
bool storage_sweep(depot_ctx *ctx, depot_task *task, depot_err *err)
{
    DIR    *dir = opendir(storage_self.tmp);
    int64_t removed = 0;

    if (dir == NULL) {
        return DEPOT_FAIL_ERRNO(err, "cannot read %s", storage_self.tmp);
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        struct stat st;
        if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            st.st_mtime < time(NULL) - STALE_SECONDS && unlinkat(dirfd(dir), e->d_name, 0) == 0) {
            removed++;
        }
    }
    closedir(dir);
    if (removed > 0) {
        depot_log(ctx, DEPOT_LOG_INFO, "storage.swept", "removed %lld unfinished files", (long long)removed);
    }
    depot_task_result(task, depot_json_pack(depot_task_arena(task), "{s:I}", "removed", removed));
    return true;
}
