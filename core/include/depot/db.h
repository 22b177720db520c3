/* depot/db.h - the one way to talk to PostgreSQL from C. Calls block: executor, task and service threads only.
 *
 * A connection belongs to one thread between open and close. Values never become SQL text. They go without a type (bytes
 * as bytea): the server takes the type of the place where each stands; where there is none, write $1::bigint. */
#ifndef DEPOT_DB_H
#define DEPOT_DB_H

#include "depot/table.h"

typedef struct depot_db   depot_db;   /* one connection borrowed from the pool */
typedef struct depot_rows depot_rows; /* the result of one statement, owned by an arena */

typedef struct depot_val {
    enum { DEPOT_V_NULL, DEPOT_V_TEXT, DEPOT_V_INT, DEPOT_V_REAL, DEPOT_V_BOOL, DEPOT_V_BYTES } type;
    union {
        const char *text;
        int64_t     i;
        double      d;
        bool        b;
        struct {
            const void *p;
            size_t      n;
        } bytes;
    } u;
} depot_val;

#define DEPOT_TEXT(s) ((depot_val){ .type = DEPOT_V_TEXT, .u.text = (s) }) /* NULL becomes SQL null; also for json, uuid … */
#define DEPOT_INT(n) ((depot_val){ .type = DEPOT_V_INT, .u.i = (n) })
#define DEPOT_REAL(x) ((depot_val){ .type = DEPOT_V_REAL, .u.d = (x) })
#define DEPOT_BOOL(v) ((depot_val){ .type = DEPOT_V_BOOL, .u.b = (v) })
#define DEPOT_BYTES(ptr, len) ((depot_val){ .type = DEPOT_V_BYTES, .u.bytes = { (ptr), (len) } })
#define DEPOT_NULL ((depot_val){ .type = DEPOT_V_NULL })
#define DEPOT_VALS(...) ((const depot_val[]){ __VA_ARGS__ }), (sizeof((const depot_val[]){ __VA_ARGS__ }) / sizeof(depot_val))
#define DEPOT_NO_VALS NULL, 0

/* One statement in a transaction of its own, on a connection borrowed for it. out may be NULL. */
DEPOT_API bool depot_sql(depot_ctx *ctx, depot_arena *arena, const char *sql, const depot_val *vals, size_t n,
                         depot_rows **out, depot_err *err) DEPOT_MUST_USE;

/* Waits for a free connection until the unit of work's deadline; fails with DB_UNAVAILABLE while the server is away. */
DEPOT_API bool depot_db_open(depot_ctx *ctx, depot_db **out, depot_err *err) DEPOT_MUST_USE;
/* Gives it back; an open transaction is rolled back. For DEPOT_AUTO; NULL is fine. */
DEPOT_API void depot_db_close(depot_db **db);

typedef struct depot_tx {
    const char *user;       /* UUID of the application user: set_app_user() for this transaction; NULL: none */
    int64_t     timeout_ms; /* statement_timeout; 0: what is left until the unit of work's deadline */
    bool        read_only, serializable;
} depot_tx;
/* tx may be NULL: all defaults. All settings are transaction-local, so a transaction pooler may stand between. */
DEPOT_API bool depot_db_begin(depot_db *db, const depot_tx *tx, depot_err *err) DEPOT_MUST_USE;
DEPOT_API bool depot_db_commit(depot_db *db, depot_err *err) DEPOT_MUST_USE;
DEPOT_API bool depot_db_sql(depot_db *db, depot_arena *arena, const char *sql, const depot_val *vals, size_t n,
                            depot_rows **out, depot_err *err) DEPOT_MUST_USE;

/* Several statements in one round trip, one implicit transaction unless one is open (libpq's pipeline mode). */
typedef struct depot_stmt {
    const char      *sql;
    const depot_val *vals;
    size_t           n;
} depot_stmt;
DEPOT_API bool depot_db_batch(depot_db *db, depot_arena *arena, const depot_stmt *stmts, size_t n, depot_rows **out,
                              depot_err *err) DEPOT_MUST_USE;

DEPOT_API size_t      depot_rows_count(const depot_rows *rows);
DEPOT_API int64_t     depot_rows_affected(const depot_rows *rows); /* of INSERT, UPDATE, DELETE */
DEPOT_API size_t      depot_rows_cols(const depot_rows *rows);
DEPOT_API const char *depot_rows_name(const depot_rows *rows, size_t col);
DEPOT_API bool        depot_is_null(const depot_rows *rows, size_t row, const char *col);
/* A column that the statement does not return is a programming error and aborts. NULL (SQL) gives NULL, 0 or false. */
DEPOT_API const char *depot_text(const depot_rows *rows, size_t row, const char *col);
DEPOT_API int64_t     depot_int(const depot_rows *rows, size_t row, const char *col);
DEPOT_API double      depot_real(const depot_rows *rows, size_t row, const char *col);
DEPOT_API bool        depot_bool(const depot_rows *rows, size_t row, const char *col);
/* json and jsonb columns parsed; NULL (SQL) gives JSON null, text that is no JSON to us (a key twice) a JSON string. */
DEPOT_API depot_json *depot_rows_json(const depot_rows *rows, size_t row, const char *col, depot_arena *arena);

/* Calls fn on the main loop for each notification of the channel, and once with payload NULL after each reconnect
 * (what was notified meanwhile is lost: look), until just before plugins are stopped. Fails with UNAVAILABLE when there is
 * no direct connection to the server. */
DEPOT_API bool depot_listen(depot_ctx *ctx, const char *channel, void (*fn)(void *arg, const char *payload), void *arg,
                            depot_err *err) DEPOT_MUST_USE;

#endif
