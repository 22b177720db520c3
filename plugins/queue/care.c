/* care.c - leases kept alive while jobs run, leases of others that ran out reaped, dead jobs announced. */
#include <string.h>

#include "queue.h"

enum {
    ANNOUNCE_MAX = 20,
    BREAK_LEAST_MS = 2000, /* rounds of an idle dispatcher are up to a second apart */
    BACK_MOST_MS = 5000,   /* from a database that is back to a dispatcher that is: its longest pause, and a connection */
};

/* ---- heartbeat ---- */

typedef struct beats {
    depot_buf ids, tokens, ranges; /* items of PostgreSQL arrays: two of jobs, the tokens of ranges */
    size_t    n;
} beats;

static void beats_drop(beats *b)
{
    depot_buf_free(&b->ids);
    depot_buf_free(&b->tokens);
    depot_buf_free(&b->ranges);
}

static void add_text(depot_buf *to, const char *text)
{
    depot_buf_addf(to, "%s%s", to->len == 0 ? "" : ",", text);
}

static void add_beats(job_list *list, int64_t now, beats *b)
{
    for (job *j = list->first; j != NULL; j = j->next) {
        /* what is due a little later goes along, so that jobs taken together stay together */
        if (!j->is_lost && j->beat_ms - j->lease_ms / 10 <= now) {
            if (j->n > 0) {
                add_text(&b->ranges, j->token);
            } else {
                add_text(&b->ids, j->id);
                add_text(&b->tokens, j->token);
            }
            b->n++;
            j->beat_ms = now + j->lease_ms / 3;
        }
    }
}

/* They were not extended after all: due at once, as a wait of another third could be the lease's last. */
static void beats_again(queue *q, int64_t now)
{
    const job_list *lists[] = { &q->waiting[0], &q->waiting[1], &q->running[0], &q->running[1], &q->ended };

    pthread_mutex_lock(&q->lock);
    for (size_t i = 0; i < DEPOT_N(lists); i++) {
        for (job *j = lists[i]->first; j != NULL; j = j->next) {
            j->beat_ms = j->beat_ms == now + j->lease_ms / 3 ? now : j->beat_ms;
        }
    }
    pthread_mutex_unlock(&q->lock);
}

/* Of a range its token, of other jobs their id: jobs that have left a range share its token. */
static bool is_lease(const job *j, const char *name)
{
    return strcmp(j->n > 0 ? j->token : j->id, name) == 0;
}

static void drop_if_waiting(queue *q, const char *name)
{
    for (int is_lua = 0; is_lua < 2; is_lua++) {
        for (job *j = q->waiting[is_lua].first, *next; j != NULL; j = next) {
            next = j->next;
            if (is_lease(j, name)) {
                job_take(&q->waiting[is_lua], j);
                job_free(j);
            }
        }
    }
}

/* The lease has passed to somebody else: what runs is stopped, its result will be refused. */
static uint64_t mark_lost(queue *q, const char *name)
{
    uint64_t script = 0;

    pthread_mutex_lock(&q->lock);
    drop_if_waiting(q, name);
    for (int is_lua = 0; is_lua < 2; is_lua++) {
        for (job *j = q->running[is_lua].first; j != NULL; j = j->next) {
            if (is_lease(j, name)) {
                j->is_lost = true;
                script = j->script_id;
            }
        }
    }
    pthread_mutex_unlock(&q->lock);
    return script;
}

static int64_t next_beat(queue *q)
{
    const job_list *lists[] = { &q->waiting[0], &q->waiting[1], &q->running[0], &q->running[1], &q->ended };
    int64_t         due = INT64_MAX;

    pthread_mutex_lock(&q->lock);
    for (size_t i = 0; i < DEPOT_N(lists); i++) {
        for (const job *j = lists[i]->first; j != NULL; j = j->next) {
            due = !j->is_lost && j->beat_ms < due ? j->beat_ms : due;
        }
    }
    pthread_mutex_unlock(&q->lock);
    return due;
}

static depot_val array_of(depot_arena *arena, const depot_buf *items)
{
    return DEPOT_TEXT(depot_strf(arena, "{%s}", items->len == 0 ? "" : items->data));
}

bool care_heartbeat(queue *q, depot_err *err)
{
    const queue_options                      *o = depot_options(q->ctx);
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(beats_drop) beats              b = { 0 };
    depot_rows                               *rows = NULL;
    int64_t                                   now = depot_now_ms();

    if (next_beat(q) > now) {
        return true;
    }
    pthread_mutex_lock(&q->lock);
    for (int is_lua = 0; is_lua < 2; is_lua++) {
        add_beats(&q->waiting[is_lua], now, &b);
        add_beats(&q->running[is_lua], now, &b);
    }
    add_beats(&q->ended, now, &b);
    pthread_mutex_unlock(&q->lock);
    if (b.n == 0) {
        return true;
    }
    if (!depot_sql(q->ctx, arena,
                   "select * from queue.heartbeat($1, $2, $4 * interval '1 millisecond') as lost"
                   " union all select * from queue.heartbeat_chunks($3, $4 * interval '1 millisecond')",
                   DEPOT_VALS(array_of(arena, &b.ids), array_of(arena, &b.tokens), array_of(arena, &b.ranges),
                              DEPOT_INT(o->lease)),
                   &rows, err)) {
        beats_again(q, now);
        return depot_wrap(err, "extend %zu leases", b.n);
    }
    for (size_t i = 0; i < depot_rows_count(rows); i++) {
        uint64_t script = mark_lost(q, depot_text(rows, i, "lost"));
        if (script != 0) {
            depot_script_cancel(q->ctx, script);
        }
    }
    return true;
}

/* ---- announcing the dead ---- */

/* False: not told; it is tried again. An event that can never be told is logged and counts as told. */
static bool tell(queue *q, depot_arena *arena, const depot_rows *rows, size_t row, depot_err *err)
{
    const depot_json *payload =
        depot_json_pack(arena, "{s:s, s:s, s:s, s:s?, s:s?}", "id", depot_text(rows, row, "id"), "queue",
                        depot_text(rows, row, "queue"), "type", depot_text(rows, row, "job_type"), "reason",
                        depot_text(rows, row, "reason"), "code", depot_text(rows, row, "code"));

    const char *code = depot_text(rows, row, "code");

    depot_log(q->ctx, DEPOT_LOG_WARN, "queue.dead", "job %s of type %s is dead; its last error was %s",
              depot_text(rows, row, "id"), depot_text(rows, row, "job_type"), code == NULL ? "UNKNOWN" : code);
    if (depot_emit(q->ctx, "job.dead", payload, err)) {
        return true;
    }
    depot_log_err(q->ctx, DEPOT_LOG_ERROR, "queue.not_announced", err);
    return depot_err_retry(err) == DEPOT_RETRY_NO;
}

/* Marked as told in the transaction that ends after the telling: a crash in between tells again, never not at all. */
static bool announce_some(queue *q, size_t *out_n, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_db_close) depot_db      *db = NULL;
    depot_rows                               *rows = NULL;

    if (!depot_db_open(q->ctx, &db, err) || !depot_db_begin(db, NULL, err) ||
        !depot_db_sql(db, arena, "select * from queue.unannounced($1)", DEPOT_VALS(DEPOT_INT(ANNOUNCE_MAX)), &rows,
                      err)) {
        return false;
    }
    *out_n = depot_rows_count(rows);
    for (size_t i = 0; i < *out_n; i++) {
        if (!tell(q, arena, rows, i, err)) {
            return false;
        }
    }
    return depot_db_commit(db, err);
}

static void announce(depot_ctx *ctx, void *arg)
{
    queue    *q = arg;
    depot_err err = { 0 };
    size_t    n = 0;

    do {
        if (!announce_some(q, &n, &err)) {
            depot_log_err(ctx, DEPOT_LOG_WARN, "queue.announce_failed", &err);
            break; /* the next reap tries again */
        }
    } while (n == ANNOUNCE_MAX);
    atomic_store(&q->announcing, false);
}

void care_announce(queue *q)
{
    depot_err err = { 0 };

    if (!atomic_exchange(&q->announcing, true) && !depot_submit(q->ctx, announce, q, &err)) {
        atomic_store(&q->announcing, false); /* no thread is free: the next reap tries again */
    }
}

/* ---- reaping ---- */

/* For how long every round has reached the database. A pause that is shorter than what is left of a lease between two beats is no
 * break. */
static int64_t in_touch_ms(queue *q, int64_t lease_ms)
{
    int64_t now = depot_now_ms();

    if (now - q->touch_ms > (lease_ms / 2 > BREAK_LEAST_MS ? lease_ms / 2 : BREAK_LEAST_MS)) {
        q->back_ms = now;
    }
    q->touch_ms = now;
    return now - q->back_ms;
}

bool care_reap(queue *q, depot_err *err)
{
    const queue_options                      *o = depot_options(q->ctx);
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_rows                               *rows = NULL;
    int64_t                                   in_touch = in_touch_ms(q, o->lease);

    if (depot_now_ms() < q->reap_ms) {
        return true;
    }
    if (!depot_sql(q->ctx, arena,
                   "select lost, has_dead, has_more from queue.reap($1, $2 * interval '1 millisecond', $3 * interval '1 millisecond')",
                   DEPOT_VALS(DEPOT_TEXT(q->worker), DEPOT_INT(in_touch), DEPOT_INT(BACK_MOST_MS + o->lease / 3)), &rows, err)) {
        return depot_wrap(err, "reap leases");
    }
    q->reap_ms = depot_now_ms() + (depot_bool(rows, 0, "has_more") ? 0 : o->reap_interval);
    int64_t lost = depot_int(rows, 0, "lost");
    if (lost > 0) {
        depot_log(q->ctx, DEPOT_LOG_WARN, "queue.reaped",
                  "%lld leases had run out; their attempts are closed as WORKER_LOST", (long long)lost);
        depot_count(q->ctx, "depot_queue_leases_lost_total", NULL, (double)lost);
    }
    if (depot_bool(rows, 0, "has_dead")) {
        care_announce(q);
    }
    tend_archive(q);
    return tend_dependencies(q, err);
}

int64_t care_due_ms(queue *q)
{
    int64_t beat = next_beat(q);

    return beat < q->reap_ms ? beat : q->reap_ms;
}
