/* pool.h - PostgreSQL connections for C threads: bounded, checked, reconnected with backoff. */
#ifndef DB_POOL_H
#define DB_POOL_H

#include "depot/db.h"

typedef struct db_pool db_pool;

typedef struct db_pool_options {
    const char *url;        /* libpq URI or keywords; may be a transaction pooler */
    const char *direct_url; /* for LISTEN; NULL: url if that is no pooler */
    const char *name;       /* application_name prefix: "depotd/node" */
    size_t      max;        /* connections; DB_POOL_MAX, default 10 */
    int64_t     connect_timeout_ms, acquire_timeout_ms, statement_timeout_ms, lock_timeout_ms, idle_tx_timeout_ms;
} db_pool_options;

/* Opens nothing yet: connections are made when first needed. Copies the options. */
db_pool *db_pool_new(const db_pool_options *options);
void     db_pool_free(db_pool *pool); /* every connection must have been given back */
/* Borrow; waits at most acquire_timeout and the unit's deadline. After a failed connect, further tries are refused at
 * once until the backoff (100 ms doubling to 5 s, jittered) is over, unless wait is true (start-up). */
bool db_pool_open(db_pool *pool, bool wait, depot_db **out, depot_err *err) DEPOT_MUST_USE;
bool db_pool_sql(db_pool *pool, depot_arena *arena, const char *sql, const depot_val *vals, size_t n, depot_rows **out,
                 depot_err *err) DEPOT_MUST_USE;
bool db_pool_healthy(const db_pool *pool); /* the last contact succeeded */
void db_pool_last_error(const db_pool *pool, depot_err *out);
size_t db_pool_in_use(const db_pool *pool);
size_t db_pool_idle(const db_pool *pool);
bool db_pool_is_pooler(const db_pool *pool); /* found out at the first connect: a transaction pooler stands between */

typedef struct db_pool_counts {
    uint64_t connects, connect_failures, lost; /* lost: connections that ended while in the pool or in use */
    uint64_t waits, timeouts;                  /* borrowers that had to wait, and those that waited in vain */
    size_t   in_use, idle, max;
    bool     healthy, is_pooler;
} db_pool_counts;
void db_pool_stats(const db_pool *pool, db_pool_counts *out);

/* A plain connection outside any pool (migrations as owner, LISTEN, tools). */
bool db_connect(const char *url, const char *name, int64_t timeout_ms, depot_db **out, depot_err *err) DEPOT_MUST_USE;
void db_disconnect(depot_db **db);
int  db_server_version(depot_db *db); /* 150018 */
/* What CREATE and ALTER ROLE take in place of a password: a SCRAM verifier, of base64 characters, '$' and ':'. */
bool db_password_verifier(depot_db *db, depot_arena *arena, const char *role, const char *password, char **out,
                          depot_err *err) DEPOT_MUST_USE;
/* Several statements in one simple query (migrations); no values. */
bool db_script(depot_db *db, const char *sql, depot_err *err) DEPOT_MUST_USE;

/* LISTEN on the direct connection, on a thread of its own. notify runs on that thread; payload NULL after a
 * (re)connect. */
typedef struct db_listener db_listener;
db_listener *db_listener_new(const char *url, const char *name);
bool db_listener_add(db_listener *l, const char *channel, void (*fn)(void *arg, const char *payload), void *arg,
                     depot_err *err) DEPOT_MUST_USE;
bool db_listener_live(const db_listener *l);
void db_listener_free(db_listener *l);

#endif
