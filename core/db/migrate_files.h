/* migrate_files.h - the migration files of one set; for migrate.c alone. */
#ifndef DB_MIGRATE_FILES_H
#define DB_MIGRATE_FILES_H

#include "db/migrate.h"

/* Reads <sql_dir>/<set>: files "NNNN_name.sql", numbered 1, 2, 3 … without gaps, with their checksums. Files that do
 * not begin with a digit are no migrations. Fails with MIGRATION. */
bool migrate_files(depot_arena *arena, const char *sql_dir, const char *set, migration **out, size_t *out_n,
                   depot_err *err) DEPOT_MUST_USE;
bool migrate_read(depot_arena *arena, const char *sql_dir, const migration *m, char **out,
                  depot_err *err) DEPOT_MUST_USE;

#endif
