/* conn.h - one PostgreSQL connection as the files of core/db see it. Nothing outside of core/db includes this. */
#ifndef DB_CONN_H
#define DB_CONN_H

#include <libpq-fe.h>
#include <pthread.h>

#include "depot/db.h"

/* 0: the server's own setting stays. */
typedef struct db_limits {
    int64_t statement_ms, lock_ms, idle_tx_ms;
} db_limits;

/* Belongs to one thread at a time. */
struct depot_db {
    PGconn         *conn;
    struct db_pool *pool; /* NULL: a plain connection */
    depot_db       *next; /* in the pool's list of idle ones */
    int64_t         idle_since_ms;
    pthread_t       user;         /* the last one, */
    unsigned        streak;       /* and how often in a row it has come again */
    db_limits       limits;       /* of every transaction; those of the session too when nothing stands between */
    int64_t         statement_ms; /* statement_timeout in force now; 0: not known to be limited */
    bool            pooled;       /* a pooler stands between: what a session keeps is lost or somebody else's */
    bool            broken;       /* to be closed, never used again */
    bool            in_tx, read_only;
};

/* Connects within timeout_ms (and the unit of work's deadline), finds out about a pooler, sets the limits. Fails with
 * DB_UNAVAILABLE, with CONFIG when url cannot be read, with TIMEOUT or CANCELED when the unit of work may not go on. */
bool db_conn_open(const char *url, const char *name, const db_limits *limits, int64_t timeout_ms, depot_db **out,
                  depot_err *err) DEPOT_MUST_USE;
void db_conn_close(depot_db *db);
/* Whether an idle connection still stands, as far as its socket tells. Costs one system call. */
bool db_conn_alive(depot_db *db);

/* ---- url.c ---- */
/* Fails with CONFIG when libpq cannot read url, or would take a part of the password for something else. No message
 * ever shows a part of url. */
bool db_url_check(const char *url, depot_err *err) DEPOT_MUST_USE;
/* The hosts that url lists, one entry for each; NULL stands for what url does not say. At least one. */
typedef struct db_host {
    const char *host, *hostaddr, *port;
} db_host;
size_t db_url_hosts(depot_arena *arena, const char *url, const db_host **out, const char **out_session_attrs);

/* ---- error.c ---- */
/* Fills err from what the server said; which code, the SQLSTATE decides. */
bool db_fail_result(const depot_db *db, const PGresult *res, depot_err *err);
/* The same for a connection that did not come about. */
bool db_fail_connect(PGconn *conn, depot_err *err);
/* libpq's text as one line: what follows a line end comes after a semicolon. */
void db_text_line(const char *text, char *out, size_t size);

/* ---- params.c ---- */
/* Values in the form that libpq takes them; valid as long as the arena and the values. */
typedef struct db_params {
    int          n;
    const char **values;
    int         *lengths, *formats;
    Oid         *types;
} db_params;
void db_params_make(depot_arena *arena, const depot_val *vals, size_t n, db_params *out);
/* A deep copy of statements: their texts and values may go away before they are sent. */
depot_stmt *db_stmts_copy(depot_arena *arena, const depot_stmt *stmts, size_t n);

/* ---- rows.c ---- */
/* Takes res over: it is cleared with the arena. */
depot_rows *db_rows_new(depot_arena *arena, PGresult *res);

/* ---- cancel.c ---- */
/* Asks the server to cancel what conn does, on a thread of its own, as libpq's call may block. */
typedef struct db_cancel db_cancel;
db_cancel *db_cancel_start(PGconn *conn); /* NULL: could not be started */
bool       db_cancel_done(const db_cancel *cancel); /* the server has had the request: no later statement can be hit */
void       db_cancel_release(db_cancel *cancel);    /* NULL is fine; does not wait */

/* ---- tx.c ---- */
/* What opens a transaction with its settings: the first statement begins it (left out when it is to be a single one),
 * the last one sets. There is room for one more. Fails with INVALID for a user that is no UUID. */
typedef struct db_opening {
    depot_stmt stmts[3];
    size_t     n;
    int64_t    statement_ms; /* the statement_timeout that it sets; 0: the server's own */
} db_opening;
bool db_tx_open(depot_arena *arena, const depot_db *db, const depot_tx *tx, int64_t remaining_ms, bool single,
                db_opening *out, depot_err *err) DEPOT_MUST_USE;
/* One statement that is a transaction with its settings, in one round trip. tx: user, timeout and read_only count. */
bool db_single(depot_db *db, depot_arena *arena, const depot_tx *tx, const depot_stmt *stmt, depot_rows **out,
               depot_err *err) DEPOT_MUST_USE;
/* Back to a state that the next borrower can use: an open transaction is rolled back. Does not observe the unit of
 * work, whose end is often the reason. */
void db_settle(depot_db *db);
/* db_script that tells where in the text it failed: *out_position is the character (from 1; 0: unknown), *out_done how
 * many statements were done before. */
bool db_script_at(depot_db *db, const char *sql, size_t *out_position, size_t *out_done, depot_err *err) DEPOT_MUST_USE;

#endif
