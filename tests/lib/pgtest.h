/* pgtest.h - for C tests against a real PostgreSQL: a throw-away cluster for the program's life, and short ways to look
 * at it. Include it after tap.h. */
#ifndef PGTEST_H
#define PGTEST_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unit.h"
#include "db/migrate.h"
#include "db/pool.h"
#include "pg/cluster.h"

static pg_cluster  *pgt_cluster;
static char         pgt_root[64];
static depot_arena *pgt_arena; /* of what tests read; freed at the end */

/* A new empty folder below /tmp, removed by pgt_end. */
static inline const char *pgt_dir(const char *name)
{
    const char *dir = depot_strf(pgt_arena, "%s/%s", pgt_root, name);

    if (mkdir(dir, 0700) != 0) {
        perror(dir);
        exit(1);
    }
    return dir;
}

static inline void pgt_folders(void)
{
    log_set_fd(STDERR_FILENO); /* stdout is TAP's */
    pgt_arena = depot_arena_new();
    (void)snprintf(pgt_root, sizeof(pgt_root), "/tmp/depot-test-XXXXXX");
    if (mkdtemp(pgt_root) == NULL) {
        perror("mkdtemp");
        exit(1);
    }
}

static inline pg_cluster *pgt_start(const char *name, const char *const *settings)
{
    pg_cluster_options options = { .dir = pgt_dir(name), .throwaway = true, .settings = settings };
    pg_cluster        *cluster = NULL;
    depot_err          err = { 0 };

    if (!pg_cluster_start(&options, &cluster, &err)) {
        printf("Bail out! no PostgreSQL: %s (%s)\n", err.msg, err.hint);
        exit(1);
    }
    return cluster;
}

static inline void pgt_begin(void)
{
    pgt_folders();
    pgt_cluster = pgt_start("pg", NULL);
}

/* As the owner; there is no going on without. */
static inline void pgt_migrate(const char *const *sets)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
    const char                         *src = getenv("DEPOT_SRC");
    depot_err                           err = { 0 };
    size_t                              n = 0;

    bool good = db_connect(pg_cluster_owner_url(pgt_cluster), "test", 10000, &db, &err) &&
                migrate_up(db, pgt_arena, depot_strf(pgt_arena, "%s/sql", src == NULL ? "." : src), sets, NULL, NULL, &n, &err);

    if (!ok(good, "the migrations apply")) {
        printf("# %s (%s)\n", err.msg, err.hint);
        exit(1);
    }
}

static inline void pgt_do(const char *sql);

/* What the test makes from here on, the daemon's role may use; else it has no rights but those that are given to it. */
static inline void pgt_share(void)
{
    pgt_do("alter default privileges grant select, insert, update, delete on tables to depot");
}

static inline void pgt_end(void)
{
    depot_err err = { 0 };

    pg_cluster_free(pgt_cluster);
    if (!depot_remove_tree(pgt_root, &err)) {
        printf("# %s\n", err.msg);
    }
    depot_arena_free(pgt_arena);
}

/* The first column of the first row, by a connection of its own as the superuser; NULL when there is none. */
static inline const char *pgt_ask(const char *sql)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
    depot_err   err = { 0 };
    depot_rows *rows = NULL;

    if (!db_connect(pg_cluster_super_url(pgt_cluster), "test", 10000, &db, &err) ||
        !depot_db_sql(db, pgt_arena, sql, DEPOT_NO_VALS, &rows, &err)) {
        printf("# %s: %s\n", sql, err.msg);
        return NULL;
    }
    return depot_rows_count(rows) == 0 || depot_rows_cols(rows) == 0 ? NULL
                                                                     : depot_text(rows, 0, depot_rows_name(rows, 0));
}

static inline void pgt_do(const char *sql)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
    depot_err err = { 0 };

    if (!db_connect(pg_cluster_owner_url(pgt_cluster), "test", 10000, &db, &err) || !db_script(db, sql, &err)) {
        printf("Bail out! %s: %s\n", sql, err.msg);
        exit(1);
    }
}

/* Waits at most 15 s for the answer to become `want`. */
static inline bool pgt_eventually(const char *sql, const char *want)
{
    for (int i = 0; i < 300; i++) {
        const char *got = pgt_ask(sql);
        if (got != NULL && strcmp(got, want) == 0) {
            return true;
        }
        usleep(50000);
    }
    return false;
}

/* The process id of the server's postmaster. */
static inline pid_t pgt_postmaster(const char *data)
{
    char     *text = NULL;
    depot_err err = { 0 };

    if (!depot_read_file(pgt_arena, depot_strf(pgt_arena, "%s/postmaster.pid", data), 4096, &text, NULL, &err)) {
        return 0;
    }
    return (pid_t)strtol(text, NULL, 10);
}

#endif
