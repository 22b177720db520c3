/* tx.c - statements, transactions and batches on a borrowed connection. Settings are local to the transaction and go
 * in one round trip with its begin, so that a transaction pooler may stand between. */
#include <string.h>

#include "base/unit.h"
#include "db/exec.h"
#include "db/pool.h"

#define ROLLBACK_MS 2000
#define COMMIT_LEAST_MS 5000
#define COMMIT_MOST_MS 60000
#define SERVER_GRACE_MS 5000 /* the server's own limit comes first; ours is for a server that does not answer */
#define PARAMS_MAX 65535     /* the protocol counts them in 16 bits */

static const char *const begin_sql[2][2] = { /* [serializable][read_only] */
    { "begin", "begin read only" },
    { "begin isolation level serializable", "begin isolation level serializable read only" },
};
/* A limit of null leaves the server's own. */
#define SETTINGS                                                                                                       \
    "select set_config('statement_timeout', coalesce($1, current_setting('statement_timeout')), true),"               \
    " set_config('lock_timeout', coalesce($2, current_setting('lock_timeout')), true),"                               \
    " set_config('idle_in_transaction_session_timeout',"                                                              \
    " coalesce($3, current_setting('idle_in_transaction_session_timeout')), true)"
#define AS_USER ", set_app_user($4::uuid)"
#define READ_ONLY ", set_config('transaction_read_only', 'on', true)"
static const char *const settings_sql[2][2] = { /* [has user][read only without a begin that says so] */
    { SETTINGS, SETTINGS READ_ONLY },
    { SETTINGS AS_USER, SETTINGS AS_USER READ_ONLY },
};

static depot_val limit_val(int64_t ms)
{
    return ms > 0 ? DEPOT_INT(ms) : DEPOT_NULL;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a == 0 ? b : b == 0 || a < b ? a : b;
}

bool db_tx_open(depot_arena *arena, const depot_db *db, const depot_tx *tx, int64_t remaining_ms, bool single,
                db_opening *out, depot_err *err)
{
    static const depot_tx defaults;
    const depot_tx       *t = tx == NULL ? &defaults : tx;
    uint8_t               uuid[16];

    *out = (db_opening){ 0 };
    if (t->user != NULL && !depot_parse_uuid(t->user, uuid)) {
        return DEPOT_FAIL(err, INVALID, "the application user \"%.60s\" is no UUID", t->user);
    }
    int64_t limit_ms = t->timeout_ms > 0 ? t->timeout_ms : db->limits.statement_ms;
    limit_ms = earlier(limit_ms, remaining_ms >= INT32_MAX ? 0 : remaining_ms < 1 ? 1 : remaining_ms);
    out->statement_ms = limit_ms > INT32_MAX ? INT32_MAX : limit_ms;
    depot_val *vals = depot_alloc(arena, 4 * sizeof(*vals));
    vals[0] = limit_val(out->statement_ms);
    vals[1] = limit_val(db->limits.lock_ms);
    vals[2] = limit_val(db->limits.idle_tx_ms);
    vals[3] = DEPOT_TEXT(t->user);
    if (!single) {
        out->stmts[out->n++].sql = begin_sql[t->serializable][t->read_only];
    }
    out->stmts[out->n++] = (depot_stmt){ .sql = settings_sql[t->user != NULL][single && t->read_only],
                                         .vals = vals,
                                         .n = t->user != NULL ? 4 : 3 };
    return true;
}

static bool db_usable(const depot_db *db, depot_err *err)
{
    if (db->broken) {
        return DEPOT_FAIL(err, DB_DOWN, "the connection was lost by an earlier statement");
    }
    return unit_check(err);
}

static bool stmts_fit(const depot_stmt *stmts, size_t n, depot_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (stmts[i].n > PARAMS_MAX) {
            return DEPOT_FAIL(err, INVALID, "a statement with %zu values; PostgreSQL takes %d", stmts[i].n, PARAMS_MAX);
        }
    }
    return true;
}

/* Runs statements and hands their results to the arena (out may be NULL: they are dropped). */
static bool run_all(depot_db *db, depot_arena *arena, const depot_stmt *stmts, size_t n, depot_rows **out,
                    depot_err *err)
{
    db_run  run;
    int64_t limit_ms = db->statement_ms > 0 ? db->statement_ms + SERVER_GRACE_MS : 0;

    if (!db_usable(db, err) || !stmts_fit(stmts, n, err)) {
        return false;
    }
    db_run_init(&run, db, stmts, n, db->in_tx ? DB_EFFECT_NONE : DB_EFFECT_AUTO);
    bool good = db_run_drive(&run, limit_ms, err);
    for (size_t i = 0; good && out != NULL && i < n; i++) {
        out[i] = db_rows_new(arena, run.results[i]);
        run.results[i] = NULL;
    }
    db_run_free(&run);
    return good;
}

bool depot_db_sql(depot_db *db, depot_arena *arena, const char *sql, const depot_val *vals, size_t n, depot_rows **out,
                  depot_err *err)
{
    const depot_stmt stmt = { .sql = sql, .vals = vals, .n = n };

    return run_all(db, arena, &stmt, 1, out, err);
}

/* The settings, then the statements, in the implicit transaction of a pipeline. */
static bool run_with_settings(depot_db *db, depot_arena *arena, const depot_tx *tx, const depot_stmt *stmts, size_t n,
                              depot_rows **out, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *scratch = depot_arena_new();
    depot_stmt  *all = depot_alloc(scratch, (n + 1) * sizeof(*all));
    depot_rows **rows = depot_alloc(scratch, (n + 1) * sizeof(*rows));
    db_opening   opening;
    int64_t      session_ms = db->statement_ms;

    if (!db_tx_open(scratch, db, tx, unit_remaining_ms(INT64_MAX), true, &opening, err)) {
        return false;
    }
    all[0] = opening.stmts[0];
    memcpy(all + 1, stmts, n * sizeof(*all));
    db->statement_ms = opening.statement_ms;
    bool good = run_all(db, out == NULL ? scratch : arena, all, n + 1, rows, err);
    if (good && out != NULL) {
        memcpy(out, rows + 1, n * sizeof(*out));
    }
    db->statement_ms = session_ms;
    return good;
}

bool depot_db_batch(depot_db *db, depot_arena *arena, const depot_stmt *stmts, size_t n, depot_rows **out,
                    depot_err *err)
{
    bool bare = db->in_tx || !db->pooled; /* the transaction, or the session, has the limits */

    return n == 0 || (bare ? run_all(db, arena, stmts, n, out, err) : run_with_settings(db, arena, NULL, stmts, n, out, err)) ||
           depot_wrap(err, "batch of %zu statements", n);
}

bool db_single(depot_db *db, depot_arena *arena, const depot_tx *tx, const depot_stmt *stmt, depot_rows **out,
               depot_err *err)
{
    return run_with_settings(db, arena, tx, stmt, 1, out, err);
}

bool depot_db_begin(depot_db *db, const depot_tx *tx, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    db_opening opening;

    if (db->in_tx || PQtransactionStatus(db->conn) == PQTRANS_INTRANS) {
        return DEPOT_FAIL(err, BUG, "a transaction is open already on this connection");
    }
    if (!db_tx_open(arena, db, tx, unit_remaining_ms(INT64_MAX), false, &opening, err)) {
        return false;
    }
    db->in_tx = true; /* a begin that fails commits nothing */
    db->read_only = tx != NULL && tx->read_only;
    if (!run_all(db, arena, opening.stmts, opening.n, NULL, err)) {
        return depot_wrap(err, "begin a transaction");
    }
    db->statement_ms = opening.statement_ms;
    return true;
}

/* Ends the open transaction; the connection's own limits are in force again. */
static bool tx_end(depot_db *db, const char *sql, db_effect effect, int64_t timeout_ms, char tag[16], depot_err *err)
{
    const depot_stmt stmt = { .sql = sql };
    db_run           run;

    db_run_init(&run, db, &stmt, 1, effect);
    run.uninterrupted = true;
    bool good = db_run_drive(&run, timeout_ms, err);
    if (good) {
        db_text_line(PQcmdStatus(run.results[0]), tag, 16);
    }
    db_run_free(&run);
    db->in_tx = false;
    db->read_only = false;
    db->statement_ms = db->pooled ? 0 : db->limits.statement_ms;
    return good;
}

bool depot_db_commit(depot_db *db, depot_err *err)
{
    char    tag[16] = "";
    int64_t left_ms = unit_remaining_ms(COMMIT_MOST_MS);

    if (!db->in_tx) {
        return DEPOT_FAIL(err, BUG, "there is no transaction to commit");
    }
    if (!db_usable(db, err)) {
        return depot_wrap(err, "commit");
    }
    /* Its outcome is worth waiting for beyond the deadline. */
    left_ms = left_ms < COMMIT_LEAST_MS ? COMMIT_LEAST_MS : left_ms;
    if (!tx_end(db, "commit", db->read_only ? DB_EFFECT_NONE : DB_EFFECT_COMMIT, left_ms, tag, err)) {
        return depot_wrap(err, "commit");
    }
    if (strcmp(tag, "ROLLBACK") == 0) {
        return DEPOT_FAIL(err, DB, "commit: a statement of the transaction had failed, so that it was rolled back");
    }
    return true;
}

void db_settle(depot_db *db)
{
    depot_err err = { 0 };
    char      tag[16];

    if (db->broken || (!db->in_tx && PQtransactionStatus(db->conn) == PQTRANS_IDLE)) {
        return;
    }
    if (!tx_end(db, "rollback", DB_EFFECT_NONE, ROLLBACK_MS, tag, &err)) {
        db->broken = true; /* closing it rolls back as well */
    }
}

bool db_script_at(depot_db *db, const char *sql, size_t *out_position, size_t *out_done, depot_err *err)
{
    db_run run;

    *out_position = 0;
    *out_done = 0;
    if (!db_usable(db, err)) {
        return false;
    }
    db_run_init_script(&run, db, sql);
    bool good = db_run_drive(&run, 0, err);
    *out_position = run.position;
    *out_done = run.done;
    db_run_free(&run);
    return good;
}

bool db_script(depot_db *db, const char *sql, depot_err *err)
{
    size_t position;
    size_t done;

    return db_script_at(db, sql, &position, &done, err);
}
