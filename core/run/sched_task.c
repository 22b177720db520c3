/* sched_task.c - plugins' housekeeping: tasks with `every`, by this daemon's own clock; of a singleton task the database
 * lets one daemon of the group do each turn. */
#include <stdlib.h>

#include "base/log.h"
#include "base/metrics.h"
#include "run/sched_parts.h"

enum { FIRST_MS = 5000, SLACK_MS = 5000, TIMEOUT_MS = 60000 };

static bool is_singleton(const sched_task *t)
{
    return (t->row->flags & DEPOT_TASK_SINGLETON) != 0;
}

/* While it runs the duty lasts as long as the task may take; afterwards until shortly before the next turn, so that nobody
 * else does this one again, and soon enough somebody else when this daemon is gone. */
static bool take_duty(const sched_task *t, bool running, bool *out_mine, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    int64_t timeout_ms = t->row->timeout_ms > 0 ? t->row->timeout_ms : TIMEOUT_MS;

    return duty_take(t->sched->env.db, depot_strf(arena, "task %s", t->row->name), t->sched->holder,
                     running ? timeout_ms + SLACK_MS : t->every_ms * 9 / 10, out_mine, err);
}

static bool run_task(const sched_task *t, bool *out_mine, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const depot_json                         *result = NULL;
    bool                                      still_mine;
    depot_err                                 none = { 0 };

    *out_mine = true;
    if (is_singleton(t) && (!take_duty(t, true, out_mine, err) || !*out_mine)) {
        return !*out_mine && err->code == DEPOT_OK;
    }
    bool ok = t->sched->env.ops->task(t->row->name, NULL, arena, &result, err);
    if (is_singleton(t) && !take_duty(t, false, &still_mine, &none)) {
        log_err("core", DEPOT_LOG_DEBUG, "task.duty_kept", &none); /* it ends by itself */
    }
    return ok;
}

static void work(void *arg)
{
    sched_task *t = arg;
    sched      *s = t->sched;
    depot_err   err = { 0 };
    bool        mine = false;

    bool ok = run_task(t, &mine, &err);
    if (!ok) {
        depot_wrap(&err, "housekeeping");
        log_err("core", DEPOT_LOG_WARN, "task.failed", &err);
    }
    if (mine || !ok) {
        metrics_add("depot_task_runs_total", DEPOT_LABELS(t->row->name, ok ? "ok" : "failed"), 1);
    }
    atomic_store_explicit(&t->busy, false, memory_order_release);
    sched_unref(s);
}

void task_load(sched *s)
{
    const depot_task_row *row;
    sched_task          **end = &s->tasks;

    for (size_t it = 0; (row = s->env.next_task(&it)) != NULL;) {
        depot_err err = { 0 };
        int64_t   every_ms = 0;
        uint32_t  random;
        if (!depot_parse_duration(row->every, &every_ms, &err) || every_ms < 1) {
            depot_wrap(&err, "task %s never runs by itself", row->name);
            log_err("core", DEPOT_LOG_ERROR, "task.invalid", &err);
            continue;
        }
        depot_random(&random, sizeof(random)); /* tasks, and daemons, shall not start in step */
        int64_t first_ms = every_ms < FIRST_MS ? every_ms : FIRST_MS;
        *end = depot_xalloc(sizeof(**end));
        **end = (sched_task){ .sched = s, .row = row, .every_ms = every_ms };
        (*end)->due_ms = depot_now_ms() + 1 + (int64_t)random % first_ms;
        end = &(*end)->next;
    }
}

void task_free(sched *s)
{
    while (s->tasks != NULL) {
        sched_task *t = s->tasks;
        s->tasks = t->next;
        free(t);
    }
}

static void run_one(sched *s, sched_task *t)
{
    depot_err err = { 0 };

    if (atomic_exchange_explicit(&t->busy, true, memory_order_acq_rel)) {
        return; /* the run before still goes on */
    }
    sched_ref(s);
    if (!executor_submit(s->env.executor, work, t, 0, &err)) {
        atomic_store_explicit(&t->busy, false, memory_order_release);
        sched_unref(s);
        depot_wrap(&err, "task %s", t->row->name);
        log_err("core", DEPOT_LOG_WARN, "task.not_started", &err);
    }
}

int64_t task_run_due(sched *s)
{
    int64_t now_ms = depot_now_ms(), wait_ms = INT64_MAX;

    for (sched_task *t = s->tasks; t != NULL; t = t->next) {
        if (t->due_ms <= now_ms) {
            t->due_ms = t->due_ms + t->every_ms > now_ms ? t->due_ms + t->every_ms : now_ms + t->every_ms;
            run_one(s, t);
        }
        wait_ms = t->due_ms - now_ms < wait_ms ? t->due_ms - now_ms : wait_ms;
    }
    return wait_ms;
}
