/* sched.c - the scheduler's thread: sleeps until something is due, asks the database what the time is and what has been
 * decided, claims, and leaves the work to the executor. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/unit.h"
#include "run/sched_parts.h"

enum { TALK_MS = 20000, BACKOFF_MIN_MS = 250, BACKOFF_MAX_MS = 5000, AGAIN_MS = 1000, END_MS = 5000 };

/* ---- references ---- */

void sched_ref(sched *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
}

void sched_unref(sched *s)
{
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    run_takers_free(s);
    task_free(s);
    sched_plan_free(s->plan);
    pthread_mutex_destroy(&s->lock);
    free(s->node);
    free(s->holder);
    free(s);
}

void sched_wake(sched *s)
{
    pthread_mutex_lock(&s->lock);
    if (s->service != NULL) {
        service_wake(s->service);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- one turn ---- */

static void take_reload(sched *s)
{
    pthread_mutex_lock(&s->lock);
    bool wanted = s->reload || s->plan == NULL;
    s->reload = false;
    pthread_mutex_unlock(&s->lock);
    if (!wanted) {
        return;
    }
    sched_plan *plan = sched_plan_new(&s->env), *before;
    pthread_mutex_lock(&s->lock);
    before = s->plan;
    s->plan = plan;
    pthread_mutex_unlock(&s->lock);
    sched_plan_free(before);
    s->synced = false;
}

static bool is_idle(sched *s)
{
    bool idle = s->synced;

    for (size_t i = 0; i < s->plan->n; i++) {
        idle = idle && !s->plan->entries[i].enabled;
    }
    pthread_mutex_lock(&s->lock);
    idle = idle && s->runs == NULL;
    pthread_mutex_unlock(&s->lock);
    return idle;
}

static void say_missed(sched *s, const sched_entry *e, const sched_decision *d)
{
    const sched_claim *c = &d->claims[0];

    for (size_t i = 0; i < d->n; i++) {
        if (strcmp(d->claims[i].status, "pending") != 0) {
            metrics_add("depot_schedule_runs_total", DEPOT_LABELS(e->name, d->claims[i].status), 1);
        }
    }
    if (d->missed == 0) {
        return;
    }
    log_write("core", DEPOT_LOG_WARN, "schedule.missed",
              "schedule %s: %lld due times passed while no daemon could run them", e->name, (long long)d->missed);
    run_emit(s, "schedule.missed", e->name, c->due_us, NULL,
             c->message != NULL ? c->message : "the due times before passed unseen");
}

static bool claim_due(sched *s, sched_entry *e, int64_t now_us, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    bool                                      mine = false;

    if (!e->enabled || !e->known) {
        return true;
    }
    sched_decision d = sched_decide(e, now_us, arena);
    if (d.n == 0) {
        return true;
    }
    if (!store_claim(s, e, &d, &mine, err)) {
        return false;
    }
    e->cursor_us = d.to_us; /* if somebody else was first: not earlier than this, and the next look tells */
    for (size_t i = 0; mine && i < d.n; i++) {
        bool waits = strcmp(d.claims[i].status, "pending") == 0;
        e->catch_up += waits && d.claims[i].catch_up ? 1 : 0;
        e->pending += waits && !d.claims[i].catch_up ? 1 : 0;
    }
    if (mine) {
        say_missed(s, e, &d);
    }
    return true;
}

/* Whether a pending run could begin, or be judged. */
static bool has_work(const sched_entry *e)
{
    bool may_begin = e->running == 0 || (e->catch_up == 0 && e->overlap != OVERLAP_QUEUE);

    return e->enabled && may_begin && e->pending + e->catch_up > 0;
}

static int64_t wait_of(const sched *s)
{
    int64_t now_us = depot_now_us() + s->offset_us, wait_ms = SCHED_POLL_MS, fire_us;

    for (size_t i = 0; i < s->plan->n; i++) {
        const sched_entry *e = &s->plan->entries[i];
        if (e->enabled && e->known && sched_next_fire(e, &fire_us)) {
            int64_t ms = fire_us <= now_us ? 0 : (fire_us - now_us) / 1000 + 1;
            wait_ms = ms < wait_ms ? ms : wait_ms;
        }
    }
    return wait_ms;
}

static bool has_runs(sched *s)
{
    pthread_mutex_lock(&s->lock);
    bool has = s->runs != NULL;
    pthread_mutex_unlock(&s->lock);
    return has;
}

static bool talk(sched *s, int64_t *out_wait_ms, depot_err *err)
{
    int64_t   now_us = 0;
    bool      again = false;
    depot_err full = { 0 };

    if (!s->synced && !store_sync(s, err)) {
        return false;
    }
    s->synced = true;
    if (!run_record_ended(s, err) || !store_look(s, &now_us, err)) {
        return false;
    }
    pthread_mutex_lock(&s->lock);
    s->ready = true;
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < s->plan->n; i++) {
        if (!claim_due(s, &s->plan->entries[i], now_us, err)) {
            return false;
        }
    }
    for (size_t i = 0; i < s->plan->n; i++) {
        const sched_entry *e = &s->plan->entries[i];
        if (has_work(e)) {
            again = true;
            if (!run_offer(s, e, &full)) {
                log_err("core", DEPOT_LOG_WARN, "schedule.waits", &full);
            }
        }
    }
    int64_t lease_ms = s->env.lease_ms > 0 ? s->env.lease_ms : SCHED_LEASE_MS;
    *out_wait_ms = wait_of(s);
    *out_wait_ms = again && *out_wait_ms > AGAIN_MS ? AGAIN_MS : *out_wait_ms;
    *out_wait_ms = has_runs(s) && *out_wait_ms > lease_ms / 3 ? lease_ms / 3 : *out_wait_ms;
    return true;
}

/* What the database part of a turn comes to: how long until the next one. */
static int64_t turn(sched *s, const run_service *service)
{
    unit      u = { .deadline_ms = depot_now_ms() + TALK_MS };
    depot_err err = { 0 };
    int64_t   wait_ms = SCHED_POLL_MS;

    take_reload(s);
    if (is_idle(s)) {
        return INT64_MAX;
    }
    if (depot_now_ms() < s->retry_at_ms) {
        return s->retry_at_ms - depot_now_ms();
    }
    unit_enter(&u);
    bool ok = talk(s, &wait_ms, &err);
    unit_leave(&u);
    if (ok) {
        if (s->away) {
            log_write("core", DEPOT_LOG_INFO, "schedule.database_back", "schedules go on");
        }
        s->away = false;
        s->backoff_ms = 0;
        return wait_ms;
    }
    if (!s->away && !service_stopping(service)) {
        depot_wrap(&err, "schedules wait for the database");
        log_err("core", DEPOT_LOG_WARN, "schedule.database_away", &err);
        s->away = true;
    }
    s->backoff_ms = s->backoff_ms == 0                   ? BACKOFF_MIN_MS
                    : s->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS
                                                         : s->backoff_ms * 2;
    s->retry_at_ms = depot_now_ms() + s->backoff_ms;
    return s->backoff_ms;
}

static bool loop(void *arg, run_service *service, depot_err *err)
{
    sched *s = arg;

    (void)err; /* every failure is met here: the thread goes on */
    while (!service_stopping(service)) {
        int64_t tasks_ms = task_run_due(s);
        int64_t turn_ms = turn(s, service);
        int64_t wait_ms = tasks_ms < turn_ms ? tasks_ms : turn_ms;
        if (!service_wait(service, wait_ms < SCHED_POLL_MS ? wait_ms : SCHED_POLL_MS)) {
            break;
        }
    }
    return true;
}

/* ---- life cycle ---- */

sched *sched_new(const sched_env *env)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    sched                                    *s = depot_xalloc(sizeof(*s));

    s->env = *env;
    s->node = depot_xstrdup(env->node);
    s->holder = depot_xstrdup(depot_strf(arena, "%s %s", env->node, depot_uuid(arena)));
    pthread_mutex_init(&s->lock, NULL);
    atomic_init(&s->refs, 1);
    task_load(s);
    return s;
}

void sched_begin(sched *s)
{
    pthread_mutex_lock(&s->lock); /* the thread waits here until service is known */
    s->service = service_start("core", "schedules", loop, s);
    pthread_mutex_unlock(&s->lock);
}

void sched_reread(sched *s)
{
    pthread_mutex_lock(&s->lock);
    s->reload = true;
    pthread_mutex_unlock(&s->lock);
    sched_wake(s);
}

void sched_end(sched *s)
{
    unit      u = { .deadline_ms = depot_now_ms() + END_MS };
    depot_err err = { 0 };

    pthread_mutex_lock(&s->lock);
    run_service *service = s->service;
    s->service = NULL;
    pthread_mutex_unlock(&s->lock);
    if (service != NULL) {
        service_stop(service);
    }
    unit_enter(&u);
    if (!run_record_ended(s, &err)) {
        depot_wrap(&err, "ends of runs are not recorded");
        log_err("core", DEPOT_LOG_ERROR, "schedule.not_recorded", &err);
        run_forget_ended(s);
    }
    unit_leave(&u);
    sched_unref(s);
}

/* ---- the one of this process ---- */

static pthread_mutex_t self_lock = PTHREAD_MUTEX_INITIALIZER; /* guards self */
static sched          *self;

static sched *borrow(depot_err *err)
{
    pthread_mutex_lock(&self_lock);
    sched *s = self;
    if (s != NULL) {
        sched_ref(s);
    }
    pthread_mutex_unlock(&self_lock);
    if (s == NULL) {
        (void)DEPOT_FAIL(err, UNAVAILABLE, "schedules are not running");
    }
    return s;
}

bool sched_start(const sched_env *env, depot_err *err)
{
    pthread_mutex_lock(&self_lock);
    bool is_free = self == NULL;
    if (is_free) {
        self = sched_new(env);
        sched_begin(self);
    }
    pthread_mutex_unlock(&self_lock);
    return is_free || DEPOT_FAIL(err, BUG, "schedules are running already");
}

void sched_reload(void)
{
    depot_err err = { 0 };
    sched    *s = borrow(&err);

    if (s != NULL) {
        sched_reread(s);
        sched_unref(s);
    }
}

void sched_stop(void)
{
    pthread_mutex_lock(&self_lock);
    sched *s = self;
    self = NULL;
    pthread_mutex_unlock(&self_lock);
    if (s != NULL) {
        sched_end(s);
    }
}

bool sched_run_now(const char *name, depot_arena *arena, const depot_json **out_result, depot_err *err)
{
    sched *s = borrow(err);
    bool   ok = s != NULL && run_by_hand(s, name, arena, out_result, err);

    if (s != NULL) {
        sched_unref(s);
    }
    return ok;
}

bool sched_list(depot_arena *arena, depot_json **out, depot_err *err)
{
    sched *s = borrow(err);
    bool   ok = s != NULL && sched_list_of(s, arena, out, err);

    if (s != NULL) {
        sched_unref(s);
    }
    return ok;
}
