/* sources.c - reading the script folders; see sources.h. */
#include "lua/sources.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 8, FILES_MAX = 4096, FILE_BYTES_MAX = 4 << 20, PATH_BYTES_MAX = 1024 };

void sources_add(depot_arena *arena, sources *s, const char *path, const char *text, size_t n)
{
    uint8_t digest[32];

    if (s->n == s->cap) {
        source *more = depot_alloc(arena, (s->cap * 2 + 64) * sizeof(*more));
        if (s->n > 0) {
            memcpy(more, s->files, s->n * sizeof(*more));
        }
        s->files = more;
        s->cap = s->cap * 2 + 64;
    }
    source *f = &s->files[s->n++];
    f->path = depot_strdup(arena, path);
    f->text = text;
    f->n = n;
    depot_sha256(text, n, digest);
    depot_hex(digest, sizeof(digest), f->revision);
}

void sources_put(depot_arena *arena, sources *s, const char *path, const char *text, size_t n)
{
    size_t at = 0;

    while (at < s->n && strcmp(s->files[at].path, path) != 0) {
        at++;
    }
    if (at < s->n) {
        s->files[at] = s->files[--s->n];
    }
    sources_add(arena, s, path, text, n);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const source *)a)->path, ((const source *)b)->path);
}

void sources_seal(sources *s)
{
    DEPOT_AUTO(depot_buf_free) depot_buf list = { 0 };
    uint8_t                              digest[32];

    if (s->n > 0) {
        qsort(s->files, s->n, sizeof(s->files[0]), by_path);
    }
    for (size_t i = 0; i < s->n; i++) {
        depot_buf_addf(&list, "%s %s\n", s->files[i].revision, s->files[i].path);
    }
    depot_sha256(list.len == 0 ? "" : list.data, list.len, digest);
    depot_hex(digest, sizeof(digest), s->revision);
}

const source *sources_find(const sources *s, const char *path)
{
    source key = { .path = path };

    return s->n == 0 ? NULL : bsearch(&key, s->files, s->n, sizeof(s->files[0]), by_path);
}

static bool is_below(const source *s, const char *folder)
{
    size_t n = strlen(s->path);
    bool   is_test = n > 9 && strcmp(s->path + n - 9, "_test.lua") == 0;

    return strncmp(s->path, folder, strlen(folder)) == 0 && !is_test;
}

bool source_is_handler(const source *s)
{
    return is_below(s, "handlers/");
}

bool source_is_example(const source *s)
{
    return is_below(s, "examples/");
}

/* Before sealing the list has no order yet. */
static bool is_masked(const sources *s, const char *path)
{
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->files[i].path, path) == 0) {
            return true;
        }
    }
    return false;
}

static bool read_one(depot_arena *arena, const char *full, const char *path, sources *out, depot_err *err)
{
    char  *text;
    size_t n;

    if (is_masked(out, path)) {
        return true;
    }
    if (out->n >= FILES_MAX) {
        return DEPOT_FAIL(err, LIMIT, "more than %d script files", FILES_MAX);
    }
    if (!depot_read_file(arena, full, FILE_BYTES_MAX, &text, &n, err)) {
        return false;
    }
    sources_add(arena, out, path, text, n);
    return true;
}

static bool is_lua(const char *name)
{
    size_t n = strlen(name);

    return n > 4 && strcmp(name + n - 4, ".lua") == 0;
}

static bool read_dir(depot_arena *arena, const char *dir, const char *prefix, int depth, sources *out, depot_err *err);

static bool read_entry(depot_arena *arena, const char *dir, const char *prefix, const char *name, int depth,
                       sources *out, depot_err *err)
{
    const char *full = depot_strf(arena, "%s/%s", dir, name);
    const char *path = depot_strf(arena, "%s%s", prefix, name);
    struct stat st;

    if (strlen(path) > PATH_BYTES_MAX) {
        return DEPOT_FAIL(err, LIMIT, "%s: the path is longer than %d bytes", full, PATH_BYTES_MAX);
    }
    if (stat(full, &st) != 0) {
        if (errno == ENOENT) {
            return true; /* taken away since the folder was listed, or a dangling link of an editor */
        }
        return DEPOT_FAIL_ERRNO(err, "cannot look at %s", full);
    }
    if (S_ISDIR(st.st_mode)) {
        return read_dir(arena, full, depot_strf(arena, "%s/", path), depth + 1, out, err);
    }
    return !S_ISREG(st.st_mode) || !is_lua(name) || read_one(arena, full, path, out, err);
}

static void dir_close(DIR **dir)
{
    if (*dir != NULL) {
        closedir(*dir);
    }
}

static bool read_dir(depot_arena *arena, const char *dir, const char *prefix, int depth, sources *out, depot_err *err)
{
    DEPOT_AUTO(dir_close) DIR *d = opendir(dir);

    if (d == NULL) {
        return (depth == 0 && errno == ENOENT) || DEPOT_FAIL_ERRNO(err, "cannot read the script folder %s", dir);
    }
    if (depth > DEPTH_MAX) {
        return DEPOT_FAIL(err, LIMIT, "%s: script folders are nested more than %d deep", dir, DEPTH_MAX);
    }
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(d);
        if (entry == NULL) {
            return errno == 0 || DEPOT_FAIL_ERRNO(err, "cannot read the script folder %s", dir);
        }
        if (entry->d_name[0] != '.' && !read_entry(arena, dir, prefix, entry->d_name, depth, out, err)) {
            return false;
        }
    }
}

bool sources_read(depot_arena *arena, const char *dirs, sources *out, depot_err *err)
{
    char *list = depot_strdup(arena, dirs == NULL ? "" : dirs);
    char *rest = NULL;

    *out = (sources){ 0 };
    for (char *dir = strtok_r(list, ":", &rest); dir != NULL; dir = strtok_r(NULL, ":", &rest)) {
        if (!read_dir(arena, dir, "", 0, out, err)) {
            return false;
        }
    }
    sources_seal(out);
    return true;
}
