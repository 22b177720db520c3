/* sched_due.c - which due times have come, and what the missed policy makes of them. Reads no clock. */
#include <string.h>

#include "run/sched_parts.h"

int64_t sched_fire_us(const sched_entry *e, int64_t due_us)
{
    int64_t next_us, most_ms = e->jitter_ms;

    if (most_ms > 0 && cron_next(&e->when, e->zone, due_us, &next_us) && (next_us - due_us) / 1000 <= most_ms) {
        most_ms = (next_us - due_us) / 1000 - 1; /* so that due times fire in their order */
    }
    return due_us + (most_ms > 0 ? cron_jitter_ms(e->name, due_us, most_ms) * 1000 : 0);
}

bool sched_next_fire(const sched_entry *e, int64_t *out_us)
{
    int64_t due_us;

    if (!cron_next(&e->when, e->zone, e->cursor_us, &due_us)) {
        return false;
    }
    *out_us = sched_fire_us(e, due_us);
    return true;
}

/* The last due time d with after_us < d < before_us, in as many steps as the distance has bits. */
static bool last_due(const sched_entry *e, int64_t after_us, int64_t before_us, int64_t *out_us)
{
    int64_t low, high = before_us, due_us;

    if (!cron_next(&e->when, e->zone, after_us, &low) || low >= before_us) {
        return false;
    }
    /* low is a due time, and the last one lies in low <= d < high */
    while (cron_next(&e->when, e->zone, low, &due_us) && due_us < before_us) {
        low = due_us;
        int64_t middle = low + (high - low) / 2;
        if (cron_next(&e->when, e->zone, middle, &due_us) && due_us < before_us) {
            low = due_us;
        } else {
            high = middle + 1;
        }
    }
    *out_us = low;
    return true;
}

/* Due times d with after_us < d < before_us, counted up to SCHED_COUNT_MAX. */
static int64_t count_due(const sched_entry *e, int64_t after_us, int64_t before_us)
{
    int64_t n = 0;

    while (n < SCHED_COUNT_MAX && cron_next(&e->when, e->zone, after_us, &after_us) && after_us < before_us) {
        n++;
    }
    return n;
}

static const char *missed_text(depot_arena *arena, int64_t n)
{
    return n == 1 ? "it was due while no daemon could run it"
                  : depot_strf(arena, "%s%lld due times passed while no daemon could run them",
                               n >= SCHED_COUNT_MAX ? "at least " : "", (long long)n);
}

/* One claim for the newest due time; `earlier` ones went before it. */
static void decide_single(const sched_entry *e, sched_decision *d, bool on_time, int64_t earlier, depot_arena *arena)
{
    sched_claim *c = d->claims;

    d->n = 1;
    *c = (sched_claim){ .due_us = d->to_us, .status = "pending", .passed_over = earlier };
    if (e->missed == MISSED_NONE) {
        d->missed = earlier + (on_time ? 0 : 1);
        c->status = on_time ? "pending" : "missed";
        c->message = on_time ? NULL : missed_text(arena, d->missed);
    }
    if (strcmp(c->status, "pending") == 0 && e->pending >= SCHED_PENDING_MAX) {
        c->status = "skipped";
        c->message = depot_strf(arena, "%lld earlier runs wait already", (long long)e->pending);
    }
}

/* A claim for each of the newest due times, oldest first. */
static void decide_all(const sched_entry *e, sched_decision *d, depot_arena *arena)
{
    int64_t *dues = depot_alloc(arena, SCHED_CATCH_UP_MAX * sizeof(*dues));
    size_t   n = 0;

    for (int64_t at = d->to_us + 1; n < SCHED_CATCH_UP_MAX && last_due(e, e->cursor_us, at, &at);) {
        dues[n++] = at;
    }
    d->missed = count_due(e, e->cursor_us, dues[n - 1]);
    d->claims = depot_alloc(arena, n * sizeof(*d->claims));
    for (size_t i = 0; i < n; i++) {
        d->claims[d->n++] = (sched_claim){ .due_us = dues[n - 1 - i], .status = "pending", .catch_up = n > 1 };
    }
    d->claims[0].passed_over = d->missed;
}

sched_decision sched_decide(const sched_entry *e, int64_t now_us, depot_arena *arena)
{
    sched_decision d = { 0 };
    int64_t        first_us, newest_us;

    if (!cron_next(&e->when, e->zone, e->cursor_us, &first_us) || sched_fire_us(e, first_us) > now_us) {
        return d;
    }
    if (!last_due(e, e->cursor_us, now_us + 1, &newest_us)) {
        return d;
    }
    if (sched_fire_us(e, newest_us) > now_us && !last_due(e, e->cursor_us, newest_us, &newest_us)) {
        return d;
    }
    bool    on_time = now_us - sched_fire_us(e, newest_us) <= SCHED_LATE_MS * 1000LL;
    int64_t earlier = first_us == newest_us ? 0 : count_due(e, e->cursor_us, newest_us);
    d.to_us = newest_us;
    if (e->missed == MISSED_ALL && (earlier > 0 || !on_time)) {
        decide_all(e, &d, arena);
        return d;
    }
    d.claims = depot_alloc(arena, sizeof(*d.claims));
    decide_single(e, &d, on_time, earlier, arena);
    return d;
}
