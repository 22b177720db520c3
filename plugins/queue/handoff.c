/* handoff.c - jobs that come while somebody has nothing to do are leased by the transaction that makes them, so that they begin one commit
 * earlier. The claim is the same as the dispatcher's, which gets what it brought. */
#include <string.h>

#include "queue.h"

static const char claim_sql[] = "select id, token, lo, n, queue, job_type, args, max_attempts, lease_ms, timeout_ms"
                                " from queue.claim_chunks($1, $2, $3, $4::integer, $4::integer, $5 * interval '1 millisecond', others => 1)";

/* With the lock held. */
static bool is_idle(queue *q, bool is_lua)
{
    const queue_options *o = depot_options(q->ctx);

    return q->loop != NULL && !q->draining && q->types.arena != NULL && q->offered.n == 0 && q->waiting[is_lua].n == 0 &&
           (is_lua || (int64_t)q->running[0].n < o->c_jobs);
}

bool handoff_prepare(queue *q, depot_arena *arena, const char *type, size_t n, handoff *out)
{
    const queue_options *o = depot_options(q->ctx);
    const int            kind = n > HANDOFF_JOBS ? -1 : types_kind(q, arena, type);

    if (kind < 0 || (kind == 1 && queue_script_room(q) < (int64_t)n)) {
        return false;
    }
    pthread_mutex_lock(&q->lock);
    bool        idle = is_idle(q, kind == 1);
    const char *queues = idle && q->types.queues != NULL ? depot_strdup(arena, q->types.queues) : NULL;
    const char *globs = idle ? depot_strdup(arena, q->types.of[kind]) : NULL;
    pthread_mutex_unlock(&q->lock);
    const depot_val vals[] = { DEPOT_TEXT(q->worker), DEPOT_TEXT(queues), DEPOT_TEXT(globs), DEPOT_INT((int64_t)n), DEPOT_INT(o->lease) };
    memcpy(out->vals, vals, sizeof(vals));
    out->stmt = (depot_stmt){ claim_sql, out->vals, DEPOT_N(out->vals) };
    return idle;
}

void handoff_done(queue *q, const depot_rows *rows)
{
    for (size_t i = 0; i < depot_rows_count(rows); i++) {
        job *j = job_new(rows, i, true);
        pthread_mutex_lock(&q->lock);
        job_push(&q->offered, j);
        pthread_mutex_unlock(&q->lock);
    }
}

void handoff_failed(queue *q)
{
    atomic_store(&q->must_adopt, true);
    queue_wake();
}
