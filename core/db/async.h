/* async.h - PostgreSQL for one libuv loop: a pool whose calls return at once and report on the loop. For the workers,
 * where many scripts wait at the same time on one thread. Every function is called on the loop's thread. */
#ifndef DB_ASYNC_H
#define DB_ASYNC_H

#include <uv.h>

#include "depot/db.h"

typedef struct db_async    db_async;
typedef struct db_async_tx db_async_tx; /* a transaction on a connection that is held for it */
typedef struct db_request  db_request;  /* under way; valid until its done was called */

typedef struct db_async_options {
    const char *url, *name; /* as in db_pool_options; may be a transaction pooler */
    size_t      max;        /* connections; default 4 */
    size_t      queue_max;  /* requests that wait for one; default 1000, more fail with UNAVAILABLE */
    int64_t     connect_timeout_ms, acquire_timeout_ms, statement_timeout_ms, lock_timeout_ms, idle_tx_timeout_ms;
} db_async_options;

/* Connects when first needed, on libuv's thread pool. While the server is away requests wait, at most acquire_timeout
 * and their own deadline, and connecting is tried again with backoff. Copies the options. */
db_async *db_async_new(uv_loop_t *loop, const db_async_options *options);
/* Ends what is under way with CANCELED (a statement that commits by itself may still take effect, a commit that runs is
 * DB_COMMIT_UNKNOWN), then everything; closed (may be NULL) runs on the loop when nothing is left. Transactions must
 * have been ended before, or be ended in the done of one of their requests. */
void db_async_free(db_async *a, void (*closed)(void *arg), void *arg);

/* Called once for each request, never from inside the call that made it. rows is NULL when err is not. */
typedef void (*db_async_done)(void *arg, depot_rows *rows, const depot_err *err);

typedef struct db_query {
    depot_arena     *arena; /* takes the rows; lives until done. NULL: rows are not wanted (done gets NULL) */
    const char      *sql;   /* copied, with the values; ignored by begin and commit */
    const depot_val *vals;
    size_t           n;
    int64_t          deadline_ms; /* on depot_now_ms()'s clock; 0: statement_timeout alone bounds it */
    db_async_done    done;
    void            *arg;
} db_query;

/* One statement that is a transaction of its own. tx may be NULL; serializable needs db_async_begin. */
db_request *db_async_sql(db_async *a, const depot_tx *tx, const db_query *query);

/* Statements of one transaction run in the order of the calls. When one has failed, the server refuses all that follow
 * it (but for "rollback to" a savepoint). The caller must end the transaction in every case, also when begin fails. */
db_async_tx *db_async_begin(db_async *a, const depot_tx *tx, const db_query *query);
db_request  *db_tx_sql(db_async_tx *tx, const db_query *query);
/* Both end tx: it must not be used any more. Rollback cancels what is under way (whose done is still called) and has no
 * result of its own. */
db_request *db_tx_commit(db_async_tx *tx, const db_query *query);
void        db_tx_rollback(db_async_tx *tx);

/* Ends it with CANCELED soon (or as if not canceled, if that is what happened). A commit goes on regardless. */
void db_request_cancel(db_request *request);

size_t db_async_in_use(const db_async *a);
size_t db_async_idle(const db_async *a);
size_t db_async_waiting(const db_async *a);
bool   db_async_healthy(const db_async *a); /* the last contact succeeded */

#endif
