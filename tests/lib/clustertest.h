/* clustertest.h - helpers of the tests of core/pg, which start clusters of their own. Include it after pgtest.h. */
#ifndef CLUSTERTEST_H
#define CLUSTERTEST_H

#include "run/child.h"

static inline pg_cluster *start(const pg_cluster_options *options, depot_err *err)
{
    pg_cluster *c = NULL;

    return pg_cluster_start(options, &c, err) ? c : NULL;
}

static inline bool answers(const char *url)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
    depot_err err = { 0 };

    return db_connect(url, "test", 5000, &db, &err) && depot_db_sql(db, NULL, "select 1", DEPOT_NO_VALS, NULL, &err);
}

/* The first column of the first row; "" when something fails. */
static inline const char *ask(const char *url, const char *sql)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
    depot_err   err = { 0 };
    depot_rows *rows = NULL;

    if (!db_connect(url, "test", 5000, &db, &err) || !depot_db_sql(db, pgt_arena, sql, DEPOT_NO_VALS, &rows, &err)) {
        printf("# %s: %s\n", sql, err.msg);
        return "";
    }
    return depot_rows_count(rows) == 0 ? "" : depot_text(rows, 0, depot_rows_name(rows, 0));
}

static inline const char *read_text(const char *path)
{
    char     *text = NULL;
    depot_err err = { 0 };

    return depot_read_file(pgt_arena, path, 1 << 20, &text, NULL, &err) ? text : "";
}

static inline void write_text(const char *path, const char *text)
{
    depot_err err = { 0 };

    if (!depot_write_file(path, text, strlen(text), 0600, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
}

static inline const char *in(const char *dir, const char *name)
{
    return depot_strf(pgt_arena, "%s/%s", dir, name);
}

static inline bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static inline unsigned mode_of(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

/* Processes whose working folder is dir/data. */
static inline int servers_in(const char *dir)
{
    const char *const argv[] = { "/bin/sh", "-c",
                                 "d=$(realpath \"$0\"); n=0; for c in /proc/[0-9]*/cwd; do"
                                 " [ \"$(readlink $c)\" = \"$d\" ] && n=$((n+1)); done; echo $n",
                                 in(dir, "data"), NULL };
    child_spec   spec = CHILD_SPEC_INIT;
    child_result result;
    depot_err    err = { 0 };

    spec.argv = argv;
    return child_run(pgt_arena, &spec, NULL, 0, 100, 20000, &result, &err) ? (int)strtol(result.out, NULL, 10) : -1;
}

/* As root, clusters below a folder of ours alone are put elsewhere, with a link to them: removes those below pgt_root. */
static inline void remove_moved(void)
{
    const char *const argv[] = { "/bin/sh", "-c",
                                 "find \"$0\" -type l -lname '/var/lib/depotd-embedded/*' -exec sh -c"
                                 " 'rm -r \"$(readlink \"$1\")\"' x {} ';'", pgt_root, NULL };
    child_spec   spec = CHILD_SPEC_INIT;
    child_result result = { 0 };
    depot_err    err = { 0 };

    spec.argv = argv;
    if (!child_run(pgt_arena, &spec, NULL, 0, 1000, 20000, &result, &err)) {
        printf("# %s\n", err.msg);
    }
}

#endif
