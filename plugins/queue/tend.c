/* tend.c - what is looked after from time to time: running jobs that somebody canceled, dependencies that were made just
 * when the other job ended, the archive. */
#include <string.h>

#include "queue.h"

enum { CANCEL_MS = 1000 };

/* ---- running jobs that are to end ---- */

/* Scripts to talk to; 0: none. */
typedef struct orders {
    uint64_t cancel, enough;
} orders;

/* What has not been handed out goes back unbegun, and ends as canceled. A range for scripts goes as a whole, as it would be handed out as
 * one; of one for C the place is marked. */
static void take_back(queue *q, int is_lua, const char *id)
{
    for (job *j = q->waiting[is_lua].first, *next; j != NULL; j = next) {
        next = j->next;
        int64_t place = range_place(j, id);
        if (place >= 0 && !is_lua) {
            job_skip(j, place);
        } else if (place >= 0 || (j->n == 0 && strcmp(j->id, id) == 0)) {
            job_take(&q->waiting[is_lua], j);
            job_set_released(j);
            job_push(&q->ended, j);
        }
    }
}

/* What runs is told to end, once. Of a range under way in a worker nothing more is begun: it may be what has not been yet. */
static void mark_running(queue *q, int is_lua, const char *id, orders *out)
{
    for (job *j = q->running[is_lua].first; j != NULL; j = j->next) {
        int64_t place = range_place(j, id);
        if (place >= 0 && !is_lua) {
            job_skip(j, place);
        } else if (place >= 0 && !j->was_told) {
            j->was_told = true;
            out->enough = j->script_id;
        } else if (j->n == 0 && !j->is_canceled && strcmp(j->id, id) == 0) {
            j->is_canceled = true;
            out->cancel = j->script_id;
        }
    }
}

static orders mark_canceled(queue *q, const char *id)
{
    orders out = { 0 };

    pthread_mutex_lock(&q->lock);
    for (int is_lua = 0; is_lua < 2; is_lua++) {
        take_back(q, is_lua, id);
        mark_running(q, is_lua, id, &out);
    }
    pthread_mutex_unlock(&q->lock);
    return out;
}

static bool is_busy(queue *q)
{
    pthread_mutex_lock(&q->lock);
    bool busy = q->running[0].n + q->running[1].n + q->waiting[0].n + q->waiting[1].n > 0;
    pthread_mutex_unlock(&q->lock);
    return busy;
}

/* A notification says so at once; where none comes through it is found by looking. */
bool tend_cancel(queue *q, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_rows                               *rows = NULL;
    bool                                      told = atomic_exchange(&q->must_cancel, false);

    if ((!told && depot_now_ms() < q->cancel_ms) || !is_busy(q)) {
        return true;
    }
    q->cancel_ms = depot_now_ms() + CANCEL_MS;
    if (!depot_sql(q->ctx, arena, "select * from queue.canceling($1) as id", DEPOT_VALS(DEPOT_TEXT(q->worker)), &rows,
                   err)) {
        atomic_store(&q->must_cancel, true);
        return depot_wrap(err, "look for running jobs that are to end");
    }
    for (size_t i = 0; i < depot_rows_count(rows); i++) {
        orders to = mark_canceled(q, depot_text(rows, i, "id"));
        if (to.cancel != 0) {
            depot_script_cancel(q->ctx, to.cancel);
        }
        if (to.enough != 0) {
            depot_script_enough(q->ctx, to.enough);
        }
    }
    return true;
}

bool tend_dependencies(queue *q, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    return depot_sql(q->ctx, arena, "select queue.tend_dependencies()", DEPOT_NO_VALS, NULL, err) ||
           depot_wrap(err, "look at new dependencies");
}

/* ---- the archive ---- */

static depot_val never_if_0(int64_t ms)
{
    return ms == 0 ? DEPOT_NULL : DEPOT_INT(ms);
}

static bool archive_some(queue *q, bool *out_more, depot_err *err)
{
    enum { PIECE = 5000 };
    const queue_options                      *o = depot_options(q->ctx);
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_rows                               *rows = NULL;
    depot_json                               *keep =
        depot_json_pack(arena, "{s:I, s:I}", "succeeded", o->archive_after, "canceled", o->archive_after);

    if (o->archive_dlq_after > 0) {
        depot_json_set(keep, "dlq", depot_json_int(arena, o->archive_dlq_after));
    }
    if (!depot_sql(q->ctx, arena, "select archived, pruned from queue.maintain($1, $2, $3, $4)",
                   DEPOT_VALS(DEPOT_TEXT(depot_json_text(arena, keep)), never_if_0(o->prune_history_after),
                              never_if_0(o->prune_archive_after), DEPOT_INT(PIECE)),
                   &rows, err)) {
        return false;
    }
    int64_t archived = depot_int(rows, 0, "archived"), pruned = depot_int(rows, 0, "pruned");
    depot_count(q->ctx, "depot_queue_archived_total", NULL, (double)archived);
    *out_more = archived >= PIECE || pruned >= PIECE;
    return true;
}

static void archive(depot_ctx *ctx, void *arg)
{
    queue    *q = arg;
    depot_err err = { 0 };
    bool      more = true;

    while (more && !queue_is_draining(q)) {
        if (!archive_some(q, &more, &err)) {
            depot_log_err(ctx, DEPOT_LOG_WARN, "queue.archive_failed", &err);
            break; /* it is tried again after the interval */
        }
    }
    atomic_store(&q->maintaining, false);
}

void tend_archive(queue *q)
{
    const queue_options *o = depot_options(q->ctx);
    depot_err            err = { 0 };

    if (depot_now_ms() < q->maintain_ms) {
        return;
    }
    q->maintain_ms = depot_now_ms() + o->maintenance_interval;
    if (!atomic_exchange(&q->maintaining, true) && !depot_submit(q->ctx, archive, q, &err)) {
        atomic_store(&q->maintaining, false); /* no thread is free: after the next interval */
    }
}
