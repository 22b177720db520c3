/* async_link.c - one connection on the loop: the machine of exec.h, driven by libuv. */
#include <stdlib.h>
#include <string.h>

#include "db/async_parts.h"

#define CANCEL_GRACE_MS 2000
#define COMMIT_LEAST_MS 5000
#define COMMIT_MOST_MS 60000
#define SERVER_GRACE_MS 5000 /* the server's own limit comes first; ours is for a server that does not answer */

static void link_step(async_link *l);

static void on_poll(uv_poll_t *poll, int status, int events)
{
    async_link *l = poll->data;
    db_async   *a = l->a;

    (void)events;
    if (status < 0) {
        l->events = 0; /* libuv has stopped to look; the error itself shows when reading */
    }
    if (l->current != NULL) {
        link_step(l);
    } else if (!db_conn_alive(l->db)) {
        if (l->tx != NULL) {
            l->tx->lost = true;
            DEPOT_FAIL(&l->tx->why_lost, DB_DOWN, "the connection to PostgreSQL was lost inside of a transaction");
        }
        async_link_close(l);
    }
    async_deliver(a);
}

static void link_watch(async_link *l, int events)
{
    if (l->events != events && uv_poll_start(&l->poll, events, on_poll) == 0) {
        l->events = events;
    }
}

async_link *async_link_add(db_async *a, depot_db *db)
{
    async_link *l = depot_xalloc(sizeof(*l));

    l->a = a;
    l->db = db;
    if (uv_poll_init(a->loop, &l->poll, PQsocket(db->conn)) != 0) {
        db_conn_close(db);
        free(l);
        return NULL;
    }
    l->poll.data = l;
    a->handles++;
    a->open++;
    l->next = a->links;
    a->links = l;
    l->stop_at_ms = INT64_MAX;
    link_watch(l, UV_READABLE); /* an idle connection that ends is seen at once */
    return l;
}

static void on_closed(uv_handle_t *handle)
{
    async_link *l = handle->data;
    db_async   *a = l->a;

    db_conn_close(l->db);
    free(l);
    a->handles--;
    async_maybe_free(a);
}

void async_link_close(async_link *l)
{
    async_link **at = &l->a->links;

    if (l->closing) {
        return;
    }
    l->closing = true;
    while (*at != l) {
        at = &(*at)->next;
    }
    *at = l->next;
    l->a->open--;
    if (l->tx != NULL) {
        l->tx->on = NULL;
        l->tx = NULL;
    }
    db_cancel_release(l->cancel);
    l->cancel = NULL;
    uv_close((uv_handle_t *)&l->poll, on_closed);
}

/* ---- a request's way ---- */

static bool tag_is_rollback(const db_run *run)
{
    return strcmp(PQcmdStatus(run->results[0]), "ROLLBACK") == 0;
}

/* The transaction's state as the end of r leaves it. */
static void link_after(async_link *l, const db_request *r, bool good)
{
    depot_db *db = l->db;
    bool      ends = r->kind == REQUEST_COMMIT || r->kind == REQUEST_ROLLBACK || (r->kind == REQUEST_BEGIN && !good);

    if (r->kind == REQUEST_SINGLE || ends) {
        db->in_tx = false;
        db->read_only = false;
        db->statement_ms = db->pooled ? 0 : db->limits.statement_ms;
    }
    if (!db->broken && PQtransactionStatus(db->conn) != PQTRANS_IDLE &&
        (r->kind == REQUEST_SINGLE || r->kind == REQUEST_COMMIT)) {
        db->broken = true; /* a begin inside of a single statement's text; closing rolls back */
    }
}

static void link_finish(async_link *l)
{
    db_request *r = l->current;
    depot_err   err = { 0 };
    depot_rows *rows = NULL;
    bool        good = db_run_finish(&l->run, &err);

    if (good && r->kind == REQUEST_COMMIT && tag_is_rollback(&l->run)) {
        good = DEPOT_FAIL(&err, DB, "commit: a statement of the transaction had failed, so that it was rolled back");
    }
    if (good && r->arena != NULL && (r->kind == REQUEST_SINGLE || r->kind == REQUEST_SQL)) {
        rows = db_rows_new(r->arena, l->run.results[r->n - 1]);
        l->run.results[r->n - 1] = NULL;
    }
    db_run_free(&l->run);
    if (l->cancel != NULL) {
        /* A cancel that is still on its way could hit the next statement. */
        l->db->broken = l->db->broken || !db_cancel_done(l->cancel);
        db_cancel_release(l->cancel);
        l->cancel = NULL;
    }
    link_after(l, r, good);
    l->current = NULL;
    l->stop_at_ms = INT64_MAX;
    r->on = NULL;
    if (l->db->broken) {
        l->a->healthy = false;
        if (l->tx != NULL) {
            l->tx->lost = true;
            if (good) { /* this one succeeded, but what follows, such as the commit, must not seem to */
                DEPOT_FAIL(&l->tx->why_lost, DB_DOWN,
                           "the connection was given up after a statement of the transaction");
            } else {
                l->tx->why_lost = err;
            }
        }
        async_link_close(l);
    } else {
        l->a->healthy = true;
        link_watch(l, UV_READABLE);
    }
    async_request_end(r, rows, good ? NULL : &err);
}

static void link_step(async_link *l)
{
    switch (db_run_step(&l->run)) {
    case DB_WANT_NOTHING:
        link_finish(l);
        break;
    case DB_WANT_READ:
        link_watch(l, UV_READABLE);
        break;
    case DB_WANT_WRITE:
        link_watch(l, UV_READABLE | UV_WRITABLE);
        break;
    }
}

static int64_t bounded(int64_t ms, int64_t least, int64_t most)
{
    return ms < least ? least : ms > most ? most : ms;
}

/* Puts the statements in front that the request needs. */
static bool link_prepare(async_link *l, db_request *r, int64_t left_ms, depot_err *err)
{
    depot_db  *db = l->db;
    db_opening opening;
    bool       single = r->kind == REQUEST_SINGLE;

    if (!single && r->kind != REQUEST_BEGIN) {
        return true;
    }
    if (!db_tx_open(r->scratch, db, &r->settings, left_ms, single, &opening, err)) {
        return false;
    }
    if (single) {
        opening.stmts[opening.n++] = r->stmts[0];
    } else {
        db->in_tx = true;
        db->read_only = r->settings.read_only;
    }
    db->statement_ms = opening.statement_ms;
    memcpy(r->stmts, opening.stmts, sizeof(r->stmts));
    r->n = opening.n;
    return true;
}

void async_link_start(async_link *l, db_request *r)
{
    static const db_effect effects[] = { [REQUEST_SINGLE] = DB_EFFECT_AUTO, [REQUEST_COMMIT] = DB_EFFECT_COMMIT };
    int64_t   now_ms = depot_now_ms();
    int64_t   left_ms = r->deadline_ms == INT64_MAX ? INT64_MAX : r->deadline_ms - now_ms;
    bool      is_end = r->kind == REQUEST_COMMIT || r->kind == REQUEST_ROLLBACK;
    depot_err err = { 0 };

    if (!link_prepare(l, r, left_ms, &err)) {
        async_request_end(r, NULL, &err);
        return;
    }
    l->current = r;
    r->on = l;
    l->stop_at_ms = r->deadline_ms;
    if (is_end) {
        l->stop_at_ms = now_ms + bounded(left_ms, COMMIT_LEAST_MS, COMMIT_MOST_MS);
    } else if (l->db->statement_ms > 0 && l->stop_at_ms - now_ms > l->db->statement_ms + SERVER_GRACE_MS) {
        l->stop_at_ms = now_ms + l->db->statement_ms + SERVER_GRACE_MS;
    }
    bool no_effect = is_end && l->db->read_only;
    db_run_init(&l->run, l->db, r->stmts, r->n,
                r->kind >= DEPOT_N(effects) || no_effect ? DB_EFFECT_NONE : effects[r->kind]);
    l->run.uninterrupted = is_end;
    link_step(l);
}

void async_link_stop(async_link *l, depot_code reason)
{
    if (l->current == NULL || l->run.uninterrupted || l->cancel != NULL) {
        return;
    }
    l->cancel = db_cancel_start(l->db->conn);
    l->stop_at_ms = depot_now_ms() + (l->cancel == NULL ? 0 : CANCEL_GRACE_MS);
    db_run_stop(&l->run, reason);
    link_step(l);
}

void async_link_time(async_link *l, int64_t now_ms)
{
    if (l->current == NULL || now_ms < l->stop_at_ms) {
        return;
    }
    if (l->run.uninterrupted || l->run.stop_reason != DEPOT_OK) {
        link_finish(l); /* no answer: its connection is given up */
    } else {
        async_link_stop(l, DEPOT_E_TIMEOUT);
    }
}
