/* queuetest.h - for tests of sql/queue: a migrated cluster, and questions as the daemon's role asks them. */
#ifndef QUEUETEST_H
#define QUEUETEST_H

#include "db/pool.h"

#include "tap.h"

#include "pgtest.h"

static inline depot_db *connect_as(const char *url)
{
    depot_db *db = NULL;
    depot_err err = { 0 };

    if (!db_connect(url, "test", 10000, &db, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    return db;
}

static inline depot_db *as_depot(void)
{
    return connect_as(pg_cluster_url(pgt_cluster));
}

static inline void migrate(void)
{
    static const char *const sets[] = { "core", "queue", NULL };

    pgt_migrate(sets);
}

/* The first column of the first row as the daemon's role sees it; NULL for none. */
static inline const char *ask_on(depot_db *db, const char *sql)
{
    depot_err   err = { 0 };
    depot_rows *rows = NULL;

    if (!depot_db_sql(db, pgt_arena, sql, DEPOT_NO_VALS, &rows, &err)) {
        return depot_strf(pgt_arena, "%s %s", err.sqlstate, err.msg);
    }
    return depot_rows_count(rows) == 0 ? NULL : depot_text(rows, 0, depot_rows_name(rows, 0));
}

static inline const char *ask(const char *sql)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = as_depot();

    return ask_on(db, sql);
}

#endif
