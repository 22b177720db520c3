/* pace.c - how many jobs of a type one range is to have. A range is the work of one thread or worker: where its jobs take their time the
 * others would stand by. So it is a few at first, four times as many where that was quick, and half of what was begun where it was not. */
#include <stdio.h>
#include <string.h>

#include "queue.h"

enum { GROWTH = 4, QUICK_US = RANGE_US / GROWTH };

static pace *find(queue *q, const char *type)
{
    for (size_t i = 0; i < q->n_paces; i++) {
        if (strcmp(q->paces[i].type, type) == 0) {
            return &q->paces[i];
        }
    }
    return NULL;
}

/* The one that was learned first makes room. */
static pace *add(queue *q, const char *type)
{
    if (q->n_paces == PACES_MAX) {
        memmove(q->paces, q->paces + 1, (PACES_MAX - 1) * sizeof(*q->paces));
        q->n_paces--;
    }
    pace *p = &q->paces[q->n_paces++];
    *p = (pace){ .jobs = FIRST_JOBS };
    (void)snprintf(p->type, sizeof(p->type), "%s", type);
    return p;
}

/* Jobs of a script wait beside each other: only how many were begun counts. Types with longer names stay with the first few. */
void pace_learn(queue *q, const job *range)
{
    int64_t *usual = &q->range_us[range->is_lua];
    bool     was_late = range->begun > 0 && range->begun < range->n && range->took_us >= RANGE_US;
    bool     was_quick = range->begun == range->n && (range->is_lua || range->took_us < QUICK_US);

    if (range->begun > 0) {
        *usual += (range->took_us - *usual) / 4;
    }
    if (strlen(range->type) >= sizeof(q->paces[0].type)) {
        return;
    }
    pace *known = find(q, range->type), *p = known != NULL ? known : add(q, range->type);
    if (was_late) {
        p->jobs = range->begun < 2 ? 1 : range->begun / 2;
    } else if (was_quick && range->n >= p->jobs) {
        p->jobs = p->jobs * GROWTH > CHUNK_JOBS ? CHUNK_JOBS : p->jobs * GROWTH;
    }
}

int64_t pace_ahead(const queue *q, bool is_lua)
{
    int64_t n = q->range_us[is_lua] <= 0 ? RANGES_AHEAD : RANGE_US / q->range_us[is_lua];

    return n < 1 ? 1 : n > RANGES_AHEAD ? RANGES_AHEAD : n;
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
