/* exec.c - the state machine of exec.h and the loop that drives it. Several statements go in libpq's pipeline mode;
 * results are read while statements are still being sent, as both sides could wait on full buffers otherwise. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/unit.h"
#include "db/exec.h"

#define FLUSH_EVERY 32       /* statements between two looks at whether the server still takes them */
#define CANCEL_GRACE_MS 2000 /* for the server's answer to a cancel request */
#define SLICE_MS 100         /* how late a cancel flag may be noticed: nothing wakes poll for it */

void db_run_init(db_run *run, depot_db *db, const depot_stmt *stmts, size_t n, db_effect effect)
{
    *run = (db_run){ .db = db, .stmts = stmts, .n = n, .effect = effect, .started_ms = depot_now_ms() };
    run->scratch = depot_arena_new();
    run->results = depot_alloc(run->scratch, n * sizeof(PGresult *));
    run->pipelined = n > 1;
}

void db_run_init_script(db_run *run, depot_db *db, const char *sql)
{
    db_run_init(run, db, NULL, 1, db->in_tx ? DB_EFFECT_NONE : DB_EFFECT_AUTO);
    run->script = sql;
}

void db_run_free(db_run *run)
{
    for (size_t i = 0; i < run->n && run->results != NULL; i++) {
        PQclear(run->results[i]);
    }
    depot_arena_drop(&run->scratch);
    run->results = NULL;
}

void db_run_stop(db_run *run, depot_code reason)
{
    if (run->stop_reason != DEPOT_OK || run->ended) {
        return;
    }
    run->stop_reason = reason;
    if (run->sent < run->n) {
        /* Without a sync the server commits nothing of what it has: it rolls back when the connection closes. */
        run->ended = true;
        run->failed = true;
        run->failed_at = run->sent;
        run->db->broken = true;
        (void)depot_fail(&run->err, reason, __FILE__, __LINE__, "stopped before every statement was sent");
    }
}

static void run_lost(db_run *run)
{
    char line[sizeof(run->err.msg)];

    if (!run->failed) {
        run->failed = true;
        run->failed_at = run->finished;
        db_text_line(PQerrorMessage(run->db->conn), line, sizeof(line));
        DEPOT_FAIL(&run->err, DB_DOWN, "%s", line[0] != '\0' ? line : "the connection to PostgreSQL was lost");
    }
    run->lost = true;
    run->ended = true;
}

static bool send_next(db_run *run)
{
    PGconn *conn = run->db->conn;

    if (run->script != NULL) {
        return PQsendQuery(conn, run->script) == 1;
    }
    const depot_stmt *stmt = &run->stmts[run->sent];
    db_params         p;
    db_params_make(run->scratch, stmt->vals, stmt->n, &p);
    return PQsendQueryParams(conn, stmt->sql, p.n, p.types, p.values, p.lengths, p.formats, 0) == 1;
}

static void run_send(db_run *run)
{
    PGconn *conn = run->db->conn;

    if (run->pipelined && run->sent == 0 && PQpipelineStatus(conn) == PQ_PIPELINE_OFF &&
        PQenterPipelineMode(conn) != 1) {
        run_lost(run);
        return;
    }
    while (run->sent < run->n) {
        if (!send_next(run)) {
            run_lost(run);
            return;
        }
        run->sent++;
        if (run->sent % FLUSH_EVERY == 0 && PQflush(conn) == 1) {
            return;
        }
    }
    if (run->pipelined && !run->synced) {
        run->synced = true;
        if (PQpipelineSync(conn) != 1) {
            run_lost(run);
        }
    }
}

static void run_refused(db_run *run, PGresult *res)
{
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *position = PQresultErrorField(res, PG_DIAG_STATEMENT_POSITION);

    if (severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0)) {
        run->server_ended = true;
    }
    if (run->failed) {
        return;
    }
    run->failed = true;
    run->failed_at = run->finished;
    run->position = position == NULL ? 0 : strtoul(position, NULL, 10);
    run->lost = PQresultErrorField(res, PG_DIAG_SQLSTATE) == NULL && PQstatus(run->db->conn) == CONNECTION_BAD;
    db_fail_result(run->db, res, &run->err);
}

static void run_take(db_run *run, PGresult *res)
{
    size_t at = run->finished < run->n ? run->finished : 0;

    switch (PQresultStatus(res)) {
    case PGRES_PIPELINE_SYNC:
        run->ended = true;
        break;
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_EMPTY_QUERY:
        PQclear(run->results[at]);
        run->results[at] = res;
        run->done++;
        return;
    case PGRES_PIPELINE_ABORTED:
        break;
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        run->failed = true;
        run->ended = true;
        run->db->broken = true; /* it waits for data that nobody has */
        DEPOT_FAIL(&run->err, DB, "COPY from or to the client cannot be run this way");
        break;
    default:
        run_refused(run, res);
        break;
    }
    PQclear(res);
}

/* Reads every result that is there. After a statement's last result libpq gives NULL, after a pipeline's a sync. */
static void run_collect(db_run *run)
{
    PGconn *conn = run->db->conn;

    while (!run->ended && (run->finished < run->sent || run->synced)) {
        if (PQstatus(conn) != CONNECTION_BAD && PQisBusy(conn) != 0) {
            return;
        }
        PGresult *res = PQgetResult(conn);
        if (res != NULL) {
            run_take(run, res);
        } else if (PQstatus(conn) == CONNECTION_BAD) {
            run_lost(run);
        } else {
            run->finished++;
            run->ended = !run->pipelined;
        }
    }
}

db_want db_run_step(db_run *run)
{
    PGconn *conn = run->db->conn;
    int     more = 0;

    if (run->sent > 0 && !run->ended && PQconsumeInput(conn) != 1) {
        run_collect(run); /* what had arrived before the end, such as the reason */
    }
    if (!run->ended) {
        run_send(run);
    }
    if (!run->ended) {
        more = PQflush(conn); /* -1: the connection's end shows when reading */
        run_collect(run);
    }
    if (run->ended) {
        return DB_WANT_NOTHING;
    }
    return more == 1 || run->sent < run->n ? DB_WANT_WRITE : DB_WANT_READ;
}

/* Whether the work may be done although the answer is missing. A server that ended the session in the middle of a
 * statement has rolled it back; it tells a statement's success before it commits what commits by itself. */
static bool outcome_unknown(const db_run *run)
{
    if (run->sent == 0 || (run->db->read_only && run->effect != DB_EFFECT_AUTO)) {
        return false;
    }
    switch (run->effect) {
    case DB_EFFECT_NONE:
        return false;
    case DB_EFFECT_AUTO:
        return !(run->server_ended && run->done < run->n) || run->script != NULL;
    case DB_EFFECT_COMMIT:
        return true;
    }
    return true;
}

/* Ended without an answer: the wait for it was given up. */
static void run_abandon(db_run *run)
{
    run->failed = true;
    run->lost = true;
    if (run->stop_reason == DEPOT_E_CANCELED) {
        DEPOT_FAIL(&run->err, CANCELED, "canceled, and the server did not answer the cancel request");
    } else {
        DEPOT_FAIL(&run->err, TIMEOUT, "no answer from PostgreSQL before the deadline");
    }
}

bool db_run_finish(db_run *run, depot_err *err)
{
    depot_db *db = run->db;

    if (!run->ended) {
        run_abandon(run);
    }
    db->broken = db->broken || run->lost || run->server_ended || PQstatus(db->conn) == CONNECTION_BAD;
    if (run->pipelined && !db->broken && PQexitPipelineMode(db->conn) != 1) {
        db->broken = true;
    }
    if (!run->failed) {
        return true;
    }
    *err = run->err;
    if ((run->lost || run->server_ended) && outcome_unknown(run)) {
        err->code = DEPOT_E_DB_UNKNOWN;
        return depot_hint(err, "whether it took effect is not known: look before doing it again");
    }
    if (strcmp(err->sqlstate, "57014") == 0) {
        int64_t took_ms = depot_now_ms() - run->started_ms;
        bool    own_limit = db->statement_ms > 0 && took_ms >= db->statement_ms;
        err->code = run->stop_reason != DEPOT_OK ? run->stop_reason : own_limit ? DEPOT_E_TIMEOUT : DEPOT_E_CANCELED;
    }
    return false;
}

static depot_code stop_reason(const db_run *run, int64_t deadline_ms)
{
    if (!run->uninterrupted && unit_canceled()) {
        return DEPOT_E_CANCELED;
    }
    return depot_now_ms() >= deadline_ms ? DEPOT_E_TIMEOUT : DEPOT_OK;
}

static void wait_socket(const db_run *run, db_want want, int64_t until_ms)
{
    struct pollfd p = { .fd = PQsocket(run->db->conn), .events = POLLIN };
    int64_t       left = until_ms - depot_now_ms();

    if (want == DB_WANT_WRITE) {
        p.events = POLLIN | POLLOUT;
    }
    /* A signal or an error wakes it early: the next step finds out. */
    (void)poll(&p, 1, (int)(left < 0 ? 0 : left > SLICE_MS ? SLICE_MS : left));
}

static void cancel_release(db_cancel **cancel)
{
    db_cancel_release(*cancel);
}

/* Cancels on the server and steps on until it answers. A connection that a late cancel could still hit is given up. */
static void run_cancel(db_run *run, depot_code reason)
{
    DEPOT_AUTO(cancel_release) db_cancel *cancel = db_cancel_start(run->db->conn);
    int64_t until_ms = depot_now_ms() + CANCEL_GRACE_MS;

    db_run_stop(run, reason);
    db_want want = db_run_step(run);
    while (want != DB_WANT_NOTHING && depot_now_ms() < until_ms) {
        wait_socket(run, want, until_ms);
        want = db_run_step(run);
    }
    while (cancel != NULL && !db_cancel_done(cancel) && depot_now_ms() < until_ms) {
        (void)poll(NULL, 0, 1);
    }
    run->db->broken = run->db->broken || !db_cancel_done(cancel);
}

bool db_run_drive(db_run *run, int64_t timeout_ms, depot_err *err)
{
    int64_t deadline_ms = run->uninterrupted ? INT64_MAX : unit_deadline();

    if (timeout_ms > 0 && run->started_ms + timeout_ms < deadline_ms) {
        deadline_ms = run->started_ms + timeout_ms;
    }
    for (db_want want = db_run_step(run); want != DB_WANT_NOTHING; want = db_run_step(run)) {
        depot_code reason = stop_reason(run, deadline_ms);
        if (reason != DEPOT_OK && !run->uninterrupted) {
            run_cancel(run, reason);
        }
        if (reason != DEPOT_OK) {
            break;
        }
        wait_socket(run, want, deadline_ms);
    }
    return db_run_finish(run, err);
}
