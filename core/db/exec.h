/* exec.h - statements on their way through one connection: a state machine that never blocks, and the loop that drives
 * it for threads that may. The async pool drives the same machine from libuv. */
#ifndef DB_EXEC_H
#define DB_EXEC_H

#include "db/conn.h"

/* What a lost connection means for what was sent. */
typedef enum db_effect {
    DB_EFFECT_NONE,   /* inside a transaction: rolled back */
    DB_EFFECT_AUTO,   /* commits by itself: unknown, unless the server said that it gave up */
    DB_EFFECT_COMMIT, /* unknown */
} db_effect;

typedef enum db_want { DB_WANT_READ, DB_WANT_WRITE, DB_WANT_NOTHING } db_want; /* WRITE: write or read */

typedef struct db_run {
    depot_db         *db;
    const depot_stmt *stmts;  /* borrowed */
    const char       *script; /* instead of stmts: one simple query of any number of statements */
    size_t            n;
    db_effect         effect;
    depot_arena      *scratch;
    PGresult        **results;  /* n; owned */
    size_t            sent;     /* statements handed to libpq */
    size_t            finished; /* statements whose last result was read */
    size_t            done;     /* statements that succeeded; of a script, any number */
    size_t            failed_at, position;
    int64_t           started_ms;
    depot_code        stop_reason; /* OK; TIMEOUT or CANCELED: it is being stopped */
    bool              uninterrupted; /* never canceled, not bound to the unit of work: a commit, a rollback */
    bool              pipelined, synced, ended, failed, lost, server_ended;
    depot_err         err;
} db_run;

/* Starts from a connection that does nothing. */
void db_run_init(db_run *run, depot_db *db, const depot_stmt *stmts, size_t n, db_effect effect);
void db_run_init_script(db_run *run, depot_db *db, const char *sql);
/* Sends and reads what can be done now; tells what to wait for on PQsocket. NOTHING: it has ended. */
db_want db_run_step(db_run *run);
/* Remembers why it is to end early; the caller cancels on the server and goes on stepping. A run that has not sent all
 * of its statements ends at once, and its connection with it: nothing of it takes effect. */
void db_run_stop(db_run *run, depot_code reason);
/* The end, also of a run that did not get there (its connection is broken then). false with err filled: it failed. */
bool db_run_finish(db_run *run, depot_err *err) DEPOT_MUST_USE;
void db_run_free(db_run *run);

/* Drives a run to its end. At the unit of work's deadline, after timeout_ms (0: no limit of its own) or when canceled
 * it cancels on the server and waits a moment for the answer. An uninterrupted run is given up after timeout_ms. */
bool db_run_drive(db_run *run, int64_t timeout_ms, depot_err *err) DEPOT_MUST_USE;

#endif
