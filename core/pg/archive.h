/* archive.h - WAL segments of the embedded cluster, copied durably into a folder; what archive_command runs. */
#ifndef PG_ARCHIVE_H
#define PG_ARCHIVE_H

#include "depot/base.h"

/* Copies the file `source` to <wal_dir>/<name> so that it survives a power cut before this returns. An identical file
 * that is there already is fine; one with other content fails with CONFLICT and stays. Fails with INVALID for a name
 * that is no file name of PostgreSQL's. Safe to run twice at the same time. */
bool pg_archive_wal(const char *wal_dir, const char *source, const char *name, depot_err *err) DEPOT_MUST_USE;

/* Makes <dir>/wal for the service user and gives back the archive_command that fills it by `<exe> --archive-wal`. Where
 * that user cannot run exe in place (a build below a private home), it is copied to <dir>/bin. Arguments as in
 * pg_cluster_options; before pg_cluster_start. */
bool pg_archive_setup(depot_arena *arena, const char *exe, const char *dir, const char *user, char **out_command,
                      depot_err *err) DEPOT_MUST_USE;

/* Removes segments that were archived longer than keep_ms ago. */
bool pg_archive_prune(const char *wal_dir, int64_t keep_ms, int64_t *out_removed, depot_err *err) DEPOT_MUST_USE;

#endif
