/* pace.c - how many jobs of a type one range is to have. A range is the work of one thread or worker: where its jobs take their time the
 * others would stand by. What a type needs is learned from its ranges, and forgotten when they are quick again. */
#include <stdio.h>
#include <string.h>

#include "queue.h"

enum { QUICK_US = RANGE_US / 4 };

static pace *find(queue *q, const char *type)
{
    for (size_t i = 0; i < q->n_paces; i++) {
        if (strcmp(q->paces[i].type, type) == 0) {
            return &q->paces[i];
        }
    }
    return NULL;
}

/* The one that was learned first makes room: if it is slow still, its next range says so. */
static pace *add(queue *q, const char *type)
{
    if (q->n_paces == PACES_MAX) {
        memmove(q->paces, q->paces + 1, (PACES_MAX - 1) * sizeof(*q->paces));
        q->n_paces--;
    }
    pace *p = &q->paces[q->n_paces++];
    *p = (pace){ .jobs = CHUNK_JOBS };
    (void)snprintf(p->type, sizeof(p->type), "%s", type);
    return p;
}

static void forget(queue *q, pace *p)
{
    *p = q->paces[--q->n_paces];
}

void pace_learn(queue *q, const job *range)
{
    pace *p = find(q, range->type);
    bool  was_late = range->begun > 0 && range->begun < range->n && range->took_us >= RANGE_US;

    if (was_late && strlen(range->type) < sizeof(p->type)) {
        p = p == NULL ? add(q, range->type) : p;
        p->jobs = range->begun < 2 ? 1 : range->begun / 2;
    } else if (p != NULL && range->begun == range->n && range->n == p->jobs && range->took_us < QUICK_US) {
        p->jobs *= 2;
        if (p->jobs >= CHUNK_JOBS) {
            forget(q, p);
        }
    }
}

void pace_describe(const queue *q, depot_arena *arena, const char **out_types, const char **out_jobs)
{
    DEPOT_AUTO(depot_buf_free) depot_buf names = { 0 }, jobs = { 0 };

    for (size_t i = 0; i < q->n_paces; i++) {
        types_add_item(&names, q->paces[i].type);
        types_add_item(&jobs, depot_strf(arena, "%lld", (long long)q->paces[i].jobs));
    }
    *out_types = types_array(arena, &names);
    *out_jobs = types_array(arena, &jobs);
}
