/* find.c - where PostgreSQL's server programs are. Debian keeps them out of PATH, one folder a major version. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/unit.h"
#include "pg/parts.h"

#define RUN_MS 10000
#define VERSION_LEAST 13

/* <parent>/<prefix>*<suffix> */
static const struct {
    const char *parent, *prefix;
} places[] = {
    { "/usr/lib/postgresql", "" }, { "/usr", "pgsql-" }, { "/usr/local", "pgsql" }, { "/opt", "postgresql" }
};

/* "postgres (PostgreSQL) 15.18 (Debian ...)": the first word that starts with a digit. */
static bool read_version(depot_arena *arena, const char *bindir, pg_programs *out, depot_err *err)
{
    const char *const argv[] = { depot_strf(arena, "%s/postgres", bindir), "--version", NULL };
    child_spec        spec = CHILD_SPEC_INIT;
    child_result      result;

    spec.argv = argv;
    if (!child_run(arena, &spec, NULL, 0, 1000, RUN_MS, &result, err)) {
        return false;
    }
    const char *at = strpbrk(result.out, "0123456789");
    if (result.status != 0 || at == NULL) {
        return DEPOT_FAIL(err, EXEC, "%s --version ended with %d", argv[0], result.status);
    }
    out->bindir = depot_strdup(arena, bindir);
    out->version = depot_strndup(arena, at, strcspn(at, " \n"));
    out->major = (int)strtol(at, NULL, 10);
    return true;
}

static bool has_programs(depot_arena *arena, const char *bindir)
{
    return access(depot_strf(arena, "%s/initdb", bindir), X_OK) == 0 &&
           access(depot_strf(arena, "%s/postgres", bindir), X_OK) == 0;
}

typedef struct search {
    depot_arena *arena;
    int          major; /* 0: any */
    pg_programs  best;
    depot_buf    tried;
} search;

static void search_drop(search *s)
{
    depot_buf_free(&s->tried);
}

static void consider(search *s, const char *bindir)
{
    pg_programs found = { 0 };
    depot_err   err = { 0 };

    if (!has_programs(s->arena, bindir) || !read_version(s->arena, bindir, &found, &err)) {
        return; /* the next place may have them; the list of those tried is in the error */
    }
    if ((s->major == 0 || found.major == s->major) && found.major > s->best.major) {
        s->best = found;
    }
}

static void consider_place(search *s, const char *parent, const char *prefix)
{
    DIR *dir = opendir(parent);

    depot_buf_addf(&s->tried, "%s%s/%s*/bin", s->tried.len == 0 ? "" : ", ", parent, prefix);
    for (struct dirent *entry = dir == NULL ? NULL : readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] != '.' && strncmp(entry->d_name, prefix, strlen(prefix)) == 0) {
            consider(s, depot_strf(s->arena, "%s/%s/bin", parent, entry->d_name));
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

/* The folders of PATH, and the one that pg_config in one of them names. */
static void consider_path(search *s)
{
    const char *path = getenv("PATH");
    char       *copy = depot_strdup(s->arena, path == NULL ? "/usr/local/bin:/usr/bin:/bin" : path);
    char       *rest = NULL;

    depot_buf_adds(&s->tried, ", PATH");

    for (char *dir = strtok_r(copy, ":", &rest); dir != NULL; dir = strtok_r(NULL, ":", &rest)) {
        const char *const argv[] = { depot_strf(s->arena, "%s/pg_config", dir), "--bindir", NULL };
        child_spec        spec = CHILD_SPEC_INIT;
        child_result      result;
        depot_err         err = { 0 };
        if (has_programs(s->arena, dir)) {
            consider(s, dir);
        }
        spec.argv = argv;
        if (dir[0] == '/' && access(argv[0], X_OK) == 0 &&
            child_run(s->arena, &spec, NULL, 0, 4096, RUN_MS, &result, &err) && result.status == 0) {
            result.out[strcspn(result.out, "\n")] = '\0';
            consider(s, result.out);
        }
    }
}

static bool not_found(const search *s, const char *named, depot_err *err)
{
    if (named != NULL) {
        DEPOT_FAIL(err, CONFIG, "%s has no PostgreSQL server programs (initdb, postgres)", named);
        return depot_hint(err, "correct [database] bindir (PG_BINDIR), or leave it out: the usual places are searched");
    }
    if (s->major > 0) {
        DEPOT_FAIL(err, CONFIG, "the programs of PostgreSQL %d are not there; tried %s", s->major, s->tried.data);
        return depot_hint(err, "apt-get install postgresql-%d, or move the cluster to a newer version with pg_upgrade",
                          s->major);
    }
    DEPOT_FAIL(err, CONFIG, "PostgreSQL's server programs are not there; tried %s", s->tried.data);
    return depot_hint(err, "apt-get install postgresql (or postgresql-15), or set [database] bindir or url");
}

bool pg_find_programs(depot_arena *arena, const char *wanted, int major, pg_programs *out, depot_err *err)
{
    DEPOT_AUTO(search_drop) search s = { .arena = arena, .major = major };
    const char *named = wanted != NULL && wanted[0] != '\0' ? wanted : getenv("PG_BINDIR");

    if (named != NULL && named[0] != '\0') {
        s.major = 0; /* the caller judges what was named */
        depot_buf_adds(&s.tried, named);
        consider(&s, named);
    } else {
        named = NULL;
        for (size_t i = 0; i < DEPOT_N(places); i++) {
            consider_place(&s, places[i].parent, places[i].prefix);
        }
        if (s.best.bindir == NULL) {
            consider_path(&s);
        }
    }
    if (s.best.bindir == NULL) {
        return unit_check(err) && not_found(&s, named, err);
    }
    if (s.best.major < VERSION_LEAST) {
        DEPOT_FAIL(err, CONFIG, "PostgreSQL %s in %s is too old", s.best.version, s.best.bindir);
        return depot_hint(err, "version %d or later is needed", VERSION_LEAST);
    }
    *out = s.best;
    return true;
}

bool pg_find_bindir(depot_arena *arena, const char *wanted, char **out, int *out_major, depot_err *err)
{
    pg_programs found;

    if (!pg_find_programs(arena, wanted, 0, &found, err)) {
        return false;
    }
    *out = depot_strdup(arena, found.bindir);
    *out_major = found.major;
    return true;
}

bool pg_major_of(depot_arena *arena, const char *data, int *out, depot_err *err)
{
    const char *path = depot_strf(arena, "%s/PG_VERSION", data);
    char       *text = NULL;

    *out = 0;
    if (access(path, F_OK) != 0) {
        return true;
    }
    if (!depot_read_file(arena, path, 64, &text, NULL, err)) {
        return false;
    }
    *out = (int)strtol(text, NULL, 10);
    return *out > 0 || DEPOT_FAIL(err, CORRUPT, "%s does not hold a version", path);
}
