/* migrate.h - numbered SQL files below sql/<set>/, applied once, in order, each in one transaction. */
#ifndef DB_MIGRATE_H
#define DB_MIGRATE_H

#include "db/pool.h"

typedef struct migration {
    const char *set;    /* "core", "queue": folder below sql/ */
    int         number; /* 1 for 0001_init.sql */
    const char *name, *file;
    char        checksum[65];
    bool        applied;
    const char *applied_at; /* NULL: not yet */
} migration;

/* What there is and what is applied, in order of application. sets: NULL terminated, "core" first. Fails with MIGRATION
 * when an applied file is missing or changed (names file, both checksums and the way out), when numbers repeat or leave
 * gaps, or when the database has a newer migration than the folder. */
bool migrate_status(depot_db *db, depot_arena *arena, const char *sql_dir, const char *const *sets, migration **out,
                    size_t *out_n, depot_err *err) DEPOT_MUST_USE;
/* Applies what is pending under one advisory lock; progress is called after each (may be NULL). A failing file names
 * file:line of the statement, rolls that file back and stops. Needs a direct connection of the owner role. */
bool migrate_up(depot_db *db, depot_arena *arena, const char *sql_dir, const char *const *sets,
                void (*progress)(void *arg, const migration *m), void *arg, size_t *out_applied,
                depot_err *err) DEPOT_MUST_USE;

#endif
