/* handoff.c - jobs that come while somebody has nothing to do are leased by the transaction that makes them, so that they begin one commit
 * earlier. The claim is the same as the dispatcher's, which gets what it brought. */
#include <string.h>

#include "queue.h"

static const char claim_sql[] = RANGE_SELECT " from queue.claim_at_once($1, $2, $3, $4, $5 * interval '1 millisecond')";

static bool takes(const queue *q, const char *of_queue)
{
    const queue_options *o = depot_options(q->ctx);
    bool                 found = o->queues == NULL || o->queues[0] == NULL;

    for (size_t i = 0; !found && o->queues[i] != NULL; i++) {
        found = strcmp(o->queues[i], of_queue) == 0;
    }
    return found;
}

/* With the lock held. While it is not known which leases are ours nobody makes more of them. */
static bool is_idle(queue *q, bool is_lua, size_t n)
{
    const queue_options *o = depot_options(q->ctx);

    return q->loop != NULL && !q->draining && q->types.arena != NULL && !atomic_load(&q->is_unsure) && !atomic_load(&q->must_adopt) &&
           q->offered.n == 0 && q->waiting[is_lua].n == 0 && (is_lua || (int64_t)(q->running[0].n + n) <= o->c_jobs);
}

bool handoff_prepare(queue *q, depot_arena *arena, const char *of_queue, const char *type, size_t n, handoff *out)
{
    const queue_options *o = depot_options(q->ctx);
    const int            kind = n > HANDOFF_JOBS || !takes(q, of_queue) ? -1 : types_kind(q, arena, type);

    if (kind < 0 || (kind == 1 && queue_script_room(q) < (int64_t)n)) {
        return false;
    }
    pthread_mutex_lock(&q->lock);
    bool        idle = is_idle(q, kind == 1, n);
    const char *globs = idle ? depot_strdup(arena, q->types.of[kind]) : NULL;
    q->in_handoff += idle;
    pthread_mutex_unlock(&q->lock);
    if (!idle) {
        return false;
    }
    const depot_val vals[] = { DEPOT_TEXT(q->worker), DEPOT_TEXT(of_queue), DEPOT_TEXT(globs), DEPOT_INT((int64_t)n), DEPOT_INT(o->lease) };
    memcpy(out->vals, vals, sizeof(vals));
    out->stmt = (depot_stmt){ claim_sql, out->vals, DEPOT_N(out->vals) };
    return true;
}

void handoff_done(queue *q, const depot_rows *rows)
{
    for (size_t i = 0; rows != NULL && i < depot_rows_count(rows); i++) {
        job *j = job_new(rows, i, true);
        pthread_mutex_lock(&q->lock);
        job_push(&q->offered, j);
        pthread_mutex_unlock(&q->lock);
        depot_count(q->ctx, "depot_queue_handed_off_total", NULL, 1);
    }
    pthread_mutex_lock(&q->lock);
    q->in_handoff--;
    pthread_mutex_unlock(&q->lock);
}

/* What the server has refused is undone for certain, unless it said so at its own end. */
static bool is_undone(const depot_err *err)
{
    return err->sqlstate[0] != '\0' && strncmp(err->sqlstate, "57", 2) != 0 && strncmp(err->sqlstate, "08", 2) != 0;
}

void handoff_failed(queue *q, const depot_err *err)
{
    if (!is_undone(err)) {
        atomic_store(&q->must_adopt, true);
        queue_wake();
    }
    handoff_done(q, NULL);
}
