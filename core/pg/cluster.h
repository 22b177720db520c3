/* cluster.h - a PostgreSQL cluster of our own: the embedded one of the daemon, and throw-away ones for tests and
 * drills.
 *
 * The server is a direct child, run as the service user when we are root, watched by a thread and restarted when it
 * crashes. A half-made data folder or a stale postmaster.pid is healed at start. */
#ifndef PG_CLUSTER_H
#define PG_CLUSTER_H

#include "depot/base.h"

typedef struct pg_cluster pg_cluster;

typedef struct pg_cluster_options {
    const char *dir;     /* becomes <dir>/data, <dir>/run, <dir>/secrets …; "<state>/postgres" for the embedded one */
    const char *bindir;  /* NULL: found ($PG_BINDIR, newest /usr/lib/postgresql/N/bin, pg_config, PATH) */
    const char *user;    /* service user when root; NULL: "depotd" if it exists, else "postgres" */
    const char *archive_command; /* NULL: archiving off */
    int64_t     start_timeout_ms; /* default 60 s */
    bool        throwaway; /* fsync off, removed by pg_cluster_free */
    bool        settle_later; /* the caller fills a new cluster first and calls pg_cluster_settle; till then the strings live */
    bool        tcp;       /* also listen on 127.0.0.1 at a free port (kept in <dir>/port) */
    const char *const *settings; /* "name = value" lines for depotd.conf included by postgresql.conf; NULL terminated */
} pg_cluster_options;

/* Makes it if needed (initdb --data-checksums, scram, random passwords, roles depot_owner and depot, database depot
 * owned by depot_owner), starts it, waits until it answers. Blocks; observes the unit's cancel flag. */
bool pg_cluster_start(const pg_cluster_options *options, pg_cluster **out, depot_err *err) DEPOT_MUST_USE;
/* Puts a new cluster on the disk as a whole, which was filled without a sync till here; nothing in it may be relied on
 * before: a start that was cut off makes the cluster anew. Does nothing to one that is settled. */
bool pg_cluster_settle(pg_cluster *c, depot_err *err) DEPOT_MUST_USE;
const char *pg_cluster_url(const pg_cluster *c);       /* role depot (no superuser, owns nothing), database depot */
const char *pg_cluster_owner_url(const pg_cluster *c); /* role depot_owner: migrations */
const char *pg_cluster_super_url(const pg_cluster *c); /* superuser: maintenance and replication only */
bool        pg_cluster_running(const pg_cluster *c);
int         pg_cluster_restarts(const pg_cluster *c);  /* after crashes */
const char *pg_cluster_version(const pg_cluster *c);   /* "15.18" */
/* Fast shutdown, after grace_ms immediate; ends the watcher. */
void pg_cluster_stop(pg_cluster *c, int64_t grace_ms);
void pg_cluster_free(pg_cluster *c); /* stops if needed; removes the folder of a throw-away one */

/* Where the binaries are; the error lists what was tried and which package to install. */
bool pg_find_bindir(depot_arena *arena, const char *wanted, char **out, int *out_major, depot_err *err) DEPOT_MUST_USE;

#endif
