/* async.c - requests, who gets the next connection, and what time brings about. done is never called from inside a
 * public function: what ends there is delivered by the timer. */
#include "db/async.h"

#include <stdlib.h>

#include "base/unit.h"
#include "db/async_parts.h"
#include "db/backoff.h"

#define MAX_DEFAULT 4
#define QUEUE_DEFAULT 1000
#define CONNECT_DEFAULT_MS 10000
#define ACQUIRE_DEFAULT_MS 30000

/* ---- queues ---- */

void async_queue_put(request_queue *queue, db_request *r)
{
    r->next = NULL;
    if (queue->last == NULL) {
        queue->first = r;
    } else {
        queue->last->next = r;
    }
    queue->last = r;
    queue->n++;
}

static db_request *queue_take(request_queue *queue)
{
    db_request *r = queue->first;

    if (r != NULL) {
        queue->first = r->next;
        queue->last = r->next == NULL ? NULL : queue->last;
        queue->n--;
        r->next = NULL;
    }
    return r;
}

/* false: it is not in there. */
static bool queue_remove(request_queue *queue, db_request *wanted)
{
    request_queue rest = { 0 };
    bool          found = false;

    for (db_request *r = queue_take(queue); r != NULL; r = queue_take(queue)) {
        if (r == wanted) {
            found = true;
        } else {
            async_queue_put(&rest, r);
        }
    }
    *queue = rest;
    return found;
}

/* ---- the timer ---- */

static void on_timer(uv_timer_t *timer)
{
    async_deliver(timer->data);
}

static void timer_at(db_async *a, int64_t at_ms)
{
    int64_t left = at_ms - depot_now_ms();

    if (!a->closing) {
        uv_update_time(a->loop); /* a loop that was kept busy would count from an old time */
        (void)uv_timer_start(&a->timer, on_timer, left > 0 ? (uint64_t)left : 0, 0); /* fails only when closing */
    }
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void timer_set(db_async *a)
{
    int64_t at_ms = INT64_MAX;

    for (const async_link *l = a->links; l != NULL; l = l->next) {
        at_ms = sooner(at_ms, l->stop_at_ms);
    }
    for (const db_request *r = a->waiting.first; r != NULL; r = r->next) {
        at_ms = sooner(at_ms, r->wait_until_ms);
    }
    if (a->waiting.first != NULL && a->connecting == NULL && a->open < a->max) {
        at_ms = sooner(at_ms, a->retry_at_ms);
    }
    if (at_ms == INT64_MAX) {
        (void)uv_timer_stop(&a->timer);
    } else {
        timer_at(a, at_ms);
    }
}

/* ---- the end of requests ---- */

void async_request_end(db_request *r, depot_rows *rows, const depot_err *err)
{
    if (r->is_finished) {
        return;
    }
    r->is_finished = true;
    r->rows = rows;
    if (err != NULL) {
        r->err = *err;
    }
    async_queue_put(&r->a->finished, r);
}

static void request_fail(db_request *r, depot_code code, const char *what)
{
    depot_err err = { 0 };

    (void)depot_fail(&err, code, __FILE__, __LINE__, "%s", what);
    async_request_end(r, NULL, &err);
}

static void request_free(db_request *r)
{
    depot_arena_free(r->scratch);
    free(r);
}

/* ---- connecting ---- */

static void job_run(uv_work_t *work)
{
    connect_job *job = work->data;
    unit         u = { .deadline_ms = INT64_MAX, .canceled = &job->canceled };

    unit_enter(&u);
    if (!db_conn_open(job->url, job->name, &job->limits, job->timeout_ms, &job->db, &job->err)) {
        job->db = NULL;
    }
    unit_leave(&u);
}

static void note_failure(db_async *a, const depot_err *err)
{
    a->healthy = false;
    a->last_error = *err;
    a->backoff_ms = backoff_next(a->backoff_ms);
    a->retry_at_ms = depot_now_ms() + backoff_jittered(a->backoff_ms);
}

static void job_free(connect_job *job)
{
    free(job->url);
    free(job->name);
    free(job);
}

static void job_done(uv_work_t *work, int status)
{
    connect_job *job = work->data;
    db_async    *a = job->a;

    a->connecting = NULL;
    a->handles--;
    if (a->closing) {
        db_conn_close(job->db);
    } else if (status == 0 && job->db != NULL && async_link_add(a, job->db) != NULL) {
        a->healthy = true;
        a->backoff_ms = 0;
        a->retry_at_ms = 0;
    } else {
        if (job->err.code == DEPOT_OK) {
            DEPOT_FAIL(&job->err, DB_DOWN, "the loop does not take another connection");
        }
        note_failure(a, &job->err);
    }
    job_free(job);
    if (a->closing) {
        async_maybe_free(a);
    } else {
        async_deliver(a);
    }
}

static void connect_if_needed(db_async *a)
{
    if (a->waiting.first == NULL || a->connecting != NULL || a->open >= a->max || depot_now_ms() < a->retry_at_ms) {
        return;
    }
    connect_job *job = depot_xalloc(sizeof(*job));
    job->a = a;
    job->url = depot_xstrdup(a->url);
    job->name = depot_xstrdup(a->name);
    job->limits = a->limits;
    job->timeout_ms = a->connect_ms;
    job->work.data = job;
    if (uv_queue_work(a->loop, &job->work, job_run, job_done) != 0) {
        job_free(job); /* only without a loop or function: waiting requests run into their limit */
        return;
    }
    a->connecting = job;
    a->handles++;
}

/* ---- who runs next ---- */

static async_link *idle_link(db_async *a)
{
    for (async_link *l = a->links; l != NULL; l = l->next) {
        if (l->current == NULL && l->tx == NULL) {
            return l;
        }
    }
    return NULL;
}

static void fail_waiting_too_long(db_async *a, db_request *r)
{
    bool is_away = !a->healthy && a->last_error.code != DEPOT_OK;

    if (is_away) {
        async_request_end(r, NULL, &a->last_error);
    } else if (r->wait_until_ms == r->deadline_ms) {
        request_fail(r, DEPOT_E_TIMEOUT, "the deadline passed while waiting for a connection to the database");
    } else {
        request_fail(r, DEPOT_E_UNAVAILABLE, "all connections to the database are in use");
    }
}

static void start_waiting(db_async *a)
{
    int64_t       now_ms = depot_now_ms();
    request_queue left = { 0 };

    for (db_request *r = queue_take(&a->waiting); r != NULL; r = queue_take(&a->waiting)) {
        async_link *l = idle_link(a);
        if (now_ms >= r->wait_until_ms) {
            fail_waiting_too_long(a, r);
        } else if (l == NULL) {
            async_queue_put(&left, r);
        } else {
            if (r->tx != NULL) {
                l->tx = r->tx;
                r->tx->on = l;
            }
            async_link_start(l, r);
        }
    }
    a->waiting = left;
}

static void tx_release(db_async_tx *tx)
{
    if (tx->on != NULL) {
        tx->on->tx = NULL;
    }
    free(tx);
}

/* The next statement of a transaction whose connection is free for it. */
static void tx_next(db_async_tx *tx)
{
    while (tx->queue.first != NULL && (tx->lost || (tx->on != NULL && tx->on->current == NULL))) {
        db_request *r = queue_take(&tx->queue);
        if (tx->lost) {
            if (r->kind == REQUEST_ROLLBACK) {
                async_request_end(r, NULL, NULL); /* the server has done it */
            } else {
                async_request_end(r, NULL, &tx->why_lost);
            }
        } else {
            async_link_start(tx->on, r);
        }
    }
}

/* A request of a transaction has ended. */
static void tx_after(db_request *r)
{
    db_async_tx *tx = r->tx;

    if (tx == NULL) {
        return;
    }
    if (r->kind == REQUEST_COMMIT || r->kind == REQUEST_ROLLBACK) {
        tx_release(tx);
        return;
    }
    if (r->kind == REQUEST_BEGIN) {
        tx->begin = NULL;
        if (r->err.code != DEPOT_OK) {
            tx->lost = true; /* what follows cannot run; a connection that had begun is given back rolled back */
            tx->why_lost = r->err;
            if (tx->on != NULL) {
                async_link_close(tx->on);
            }
        }
    }
    tx_next(tx);
}

void async_deliver(db_async *a)
{
    int64_t now_ms = depot_now_ms();

    if (a->is_delivering) {
        return;
    }
    a->is_delivering = true;
    for (async_link *l = a->links; l != NULL;) {
        async_link *next = l->next; /* a link that is given up leaves the list */
        async_link_time(l, now_ms);
        l = next;
    }
    do {
        for (db_request *r = queue_take(&a->finished); r != NULL; r = queue_take(&a->finished)) {
            tx_after(r);
            if (r->done != NULL) {
                r->done(r->arg, r->rows, r->err.code == DEPOT_OK ? NULL : &r->err);
            }
            request_free(r);
        }
        if (!a->closing) {
            start_waiting(a);
        }
    } while (a->finished.first != NULL);
    a->is_delivering = false;
    if (!a->closing) {
        connect_if_needed(a);
        timer_set(a);
    }
}

/* ---- the public side ---- */

/* Lets the timer do at once what must not happen inside of a call. */
static void deliver_soon(db_async *a)
{
    if (!a->is_delivering) {
        timer_at(a, 0);
    }
}

static db_request *request_new(db_async *a, request_kind kind, const depot_tx *tx, const db_query *query)
{
    db_request *r = depot_xalloc(sizeof(*r));

    r->a = a;
    r->kind = kind;
    r->scratch = depot_arena_new();
    r->deadline_ms = INT64_MAX;
    if (tx != NULL) {
        r->settings = *tx;
        r->settings.user = depot_strdup(r->scratch, tx->user);
    }
    if (query != NULL) {
        r->arena = query->arena;
        r->deadline_ms = query->deadline_ms > 0 ? query->deadline_ms : INT64_MAX;
        r->done = query->done;
        r->arg = query->arg;
    }
    r->wait_until_ms = sooner(depot_now_ms() + a->acquire_ms, r->deadline_ms);
    if (query != NULL && (kind == REQUEST_SINGLE || kind == REQUEST_SQL)) {
        const depot_stmt stmt = { .sql = query->sql, .vals = query->vals, .n = query->n };
        r->stmts[0] = *db_stmts_copy(r->scratch, &stmt, 1);
    } else {
        r->stmts[0].sql = kind == REQUEST_COMMIT ? "commit" : "rollback";
    }
    r->n = 1;
    return r;
}

static void request_wait(db_async *a, db_request *r)
{
    if (a->closing) {
        request_fail(r, DEPOT_E_CANCELED, "the process ends");
    } else if (a->waiting.n >= a->queue_max) {
        request_fail(r, DEPOT_E_UNAVAILABLE, "too many requests wait for a connection to the database");
    } else {
        async_queue_put(&a->waiting, r);
    }
    deliver_soon(a);
}

db_request *db_async_sql(db_async *a, const depot_tx *tx, const db_query *query)
{
    db_request *r = request_new(a, REQUEST_SINGLE, tx, query);

    if (tx != NULL && tx->serializable) {
        request_fail(r, DEPOT_E_BUG, "a serializable statement needs a transaction with a begin");
        deliver_soon(a);
    } else {
        request_wait(a, r);
    }
    return r;
}

db_async_tx *db_async_begin(db_async *a, const depot_tx *tx, const db_query *query)
{
    db_async_tx *t = depot_xalloc(sizeof(*t));
    db_request  *r = request_new(a, REQUEST_BEGIN, tx, query);

    t->a = a;
    t->begin = r;
    r->tx = t;
    request_wait(a, r);
    return t;
}

static db_request *tx_put(db_async_tx *tx, request_kind kind, const db_query *query)
{
    db_request *r = request_new(tx->a, kind, NULL, query);

    r->tx = tx;
    async_queue_put(&tx->queue, r);
    if (!tx->a->is_delivering && tx->begin == NULL) {
        tx_next(tx);
        if (r->is_finished || tx->a->finished.first != NULL) {
            deliver_soon(tx->a);
        } else {
            timer_set(tx->a);
        }
    } else if (tx->begin == NULL) {
        tx_next(tx);
    }
    return r;
}

db_request *db_tx_sql(db_async_tx *tx, const db_query *query)
{
    return tx_put(tx, REQUEST_SQL, query);
}

db_request *db_tx_commit(db_async_tx *tx, const db_query *query)
{
    return tx_put(tx, REQUEST_COMMIT, query);
}

void db_tx_rollback(db_async_tx *tx)
{
    db_async     *a = tx->a;
    request_queue dropped = tx->queue;

    tx->queue = (request_queue){ 0 };
    for (db_request *r = queue_take(&dropped); r != NULL; r = queue_take(&dropped)) {
        request_fail(r, DEPOT_E_CANCELED, "the transaction was rolled back before this statement");
    }
    if (tx->begin != NULL && queue_remove(&a->waiting, tx->begin)) {
        request_fail(tx->begin, DEPOT_E_CANCELED, "the transaction was rolled back before it began");
    }
    if (tx->on != NULL && tx->on->current != NULL) {
        async_link_stop(tx->on, DEPOT_E_CANCELED);
    }
    (void)tx_put(tx, REQUEST_ROLLBACK, NULL); /* nobody waits for it */
}

void db_request_cancel(db_request *r)
{
    db_async *a = r->a;

    if (r->is_finished || r->kind == REQUEST_COMMIT) {
        return;
    }
    if (r->on != NULL) {
        async_link_stop(r->on, DEPOT_E_CANCELED);
    } else if (queue_remove(r->tx != NULL && r->kind != REQUEST_BEGIN ? &r->tx->queue : &a->waiting, r)) {
        request_fail(r, DEPOT_E_CANCELED, "canceled");
    }
    deliver_soon(a);
}

db_async *db_async_new(uv_loop_t *loop, const db_async_options *options)
{
    db_async *a = depot_xalloc(sizeof(*a));

    a->loop = loop;
    a->url = depot_xstrdup(options->url);
    a->name = depot_xstrdup(options->name == NULL ? "depotd" : options->name);
    a->max = options->max > 0 ? options->max : MAX_DEFAULT;
    a->queue_max = options->queue_max > 0 ? options->queue_max : QUEUE_DEFAULT;
    a->connect_ms = options->connect_timeout_ms > 0 ? options->connect_timeout_ms : CONNECT_DEFAULT_MS;
    a->acquire_ms = options->acquire_timeout_ms > 0 ? options->acquire_timeout_ms : ACQUIRE_DEFAULT_MS;
    a->limits.statement_ms = options->statement_timeout_ms;
    a->limits.lock_ms = options->lock_timeout_ms;
    a->limits.idle_tx_ms = options->idle_tx_timeout_ms;
    if (uv_timer_init(loop, &a->timer) != 0) {
        abort(); /* always succeeds */
    }
    a->timer.data = a;
    a->handles = 1;
    return a;
}

void async_maybe_free(db_async *a)
{
    if (!a->closing || a->handles > 0) {
        return;
    }
    void (*closed)(void *arg) = a->closed;
    void *arg = a->closed_arg;
    free(a->url);
    free(a->name);
    free(a);
    if (closed != NULL) {
        closed(arg);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    db_async *a = handle->data;

    /* What was under way when the end came: told now, from the loop. */
    async_deliver(a);
    a->handles--;
    async_maybe_free(a);
}

/* Told at once; the server is asked to stop it, and nobody waits for that. */
static void end_running(async_link *l)
{
    if (l->current->kind == REQUEST_COMMIT) {
        request_fail(l->current, DEPOT_E_DB_UNKNOWN, "the process ends while a commit is under way");
    } else {
        request_fail(l->current, DEPOT_E_CANCELED, "the process ends");
        db_cancel_release(db_cancel_start(l->db->conn));
    }
    db_run_free(&l->run);
    l->current = NULL;
}

void db_async_free(db_async *a, void (*closed)(void *arg), void *arg)
{
    a->closing = true;
    a->closed = closed;
    a->closed_arg = arg;
    for (db_request *r = queue_take(&a->waiting); r != NULL; r = queue_take(&a->waiting)) {
        request_fail(r, DEPOT_E_CANCELED, "the process ends");
    }
    while (a->links != NULL) {
        async_link *l = a->links;
        if (l->tx != NULL) {
            l->tx->lost = true;
            (void)depot_fail(&l->tx->why_lost, DEPOT_E_CANCELED, __FILE__, __LINE__, "the process ends");
        }
        if (l->current != NULL) {
            end_running(l);
        }
        async_link_close(l);
    }
    if (a->connecting != NULL) {
        atomic_store(&a->connecting->canceled, true);
    }
    uv_close((uv_handle_t *)&a->timer, on_timer_closed);
}

size_t db_async_idle(const db_async *a)
{
    size_t n = 0;

    for (const async_link *l = a->links; l != NULL; l = l->next) {
        n += l->current == NULL && l->tx == NULL ? 1 : 0;
    }
    return n;
}

size_t db_async_in_use(const db_async *a)
{
    return a->open - db_async_idle(a);
}

size_t db_async_waiting(const db_async *a)
{
    return a->waiting.n;
}

bool db_async_healthy(const db_async *a)
{
    return a->healthy;
}
