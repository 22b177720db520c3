/* sched_run.c - pending runs taken by threads of the executor, their actions run, their ends recorded. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/unit.h"
#include "run/sched_parts.h"

enum { RETRY_MS = 1000, RECORD_MS = 10000 };

/* ---- one run's memory ---- */

static void new_token(char out[37])
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    memcpy(out, depot_uuid(arena), 37);
}

/* A copy of what the entry says: the plan may be replaced meanwhile. */
static sched_run *run_new(sched *s, const sched_entry *e)
{
    sched_run   *r = depot_xalloc(sizeof(*r));
    depot_arena *arena = depot_arena_new();

    *r = (sched_run){
        .sched = s,
        .arena = arena,
        .name = depot_strdup(arena, e->name),
        .act = { e->act.kind, depot_strdup(arena, e->act.name), depot_strdup(arena, e->act.queue) },
        .args = depot_strdup(arena, e->args),
        .overlap = e->overlap,
        .timeout_ms = e->timeout_ms,
    };
    sched_ref(s);
    return r;
}

static void run_free(sched_run *r)
{
    sched *s = r->sched;

    depot_arena_free(r->arena);
    free(r);
    sched_unref(s);
}

static void list_add(sched *s, sched_run *r)
{
    pthread_mutex_lock(&s->lock);
    r->next = s->runs;
    s->runs = r;
    pthread_mutex_unlock(&s->lock);
}

static void list_remove(sched *s, const sched_run *r)
{
    pthread_mutex_lock(&s->lock);
    for (sched_run **at = &s->runs; *at != NULL; at = &(*at)->next) {
        if (*at == r) {
            *at = r->next;
            break;
        }
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- telling others ---- */

typedef struct notice {
    sched      *sched;
    const char *event;
    char       *payload;
} notice;

static void emit_notice(void *arg)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    notice                                   *n = arg;
    depot_err                                 err = { 0 };
    const depot_json *payload = depot_json_parse(arena, n->payload, strlen(n->payload), &err);

    if (payload == NULL || !n->sched->env.emit(n->event, payload, &err)) {
        depot_wrap(&err, "event %s", n->event);
        log_err("core", DEPOT_LOG_ERROR, "schedule.not_told", &err);
    }
    sched_unref(n->sched);
    free(n->payload);
    free(n);
}

void run_emit(sched *s, const char *event, const char *name, int64_t due_us, const char *code, const char *message)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    notice                                   *n = depot_xalloc(sizeof(*n));
    depot_err                                 err = { 0 };
    depot_json *payload = depot_json_pack(arena, "{s:s, s:s, s:s}", "schedule", name, "due_at",
                                          depot_format_time(arena, due_us), "message", message);

    if (code != NULL) {
        depot_json_set(payload, "code", depot_json_str(arena, code));
    }
    *n = (notice){ s, event, depot_xstrdup(depot_json_text(arena, payload)) };
    sched_ref(s);
    if (!executor_submit(s->env.executor, emit_notice, n, 0, &err)) {
        emit_notice(n); /* overloaded or draining: slower, but not lost */
    }
}

/* ---- running ---- */

/* A job's key lets only one be made, however often it is tried. */
static bool may_try_again(const sched_run *r)
{
    return !r->ok && !r->by_hand && r->act.kind == ACTION_JOB &&
           (r->err.code == DEPOT_E_DB_DOWN || r->err.code == DEPOT_E_DB_UNKNOWN);
}

static void execute(sched_run *r)
{
    const depot_json *args = NULL;
    const char       *key =
        depot_strf(r->arena, "schedule:%s:%s", r->name, r->by_hand ? r->token : depot_format_time(r->arena, r->due_us));
    unit              u = { .deadline_ms = depot_now_ms() + r->timeout_ms };

    log_context_set("schedule", r->name);
    unit_enter(&u);
    args =
        r->args == NULL ? depot_json_object(r->arena) : depot_json_parse(r->arena, r->args, strlen(r->args), &r->err);
    r->ok = args != NULL &&
            action_run(&r->act, r->sched->env.ops, args, key, r->timeout_ms, r->arena, &r->result, &r->err);
    unit_leave(&u);
    if (!r->ok && r->err.code == DEPOT_OK) {
        (void)DEPOT_FAIL(&r->err, BUG, "schedule %s failed without saying why", r->name);
    }
    r->again = may_try_again(r);
    log_context_set("schedule", NULL);
}

typedef struct record_args {
    const sched_run *run;
    depot_err       *err;
    bool             ok;
} record_args;

static void *record_within(void *arg)
{
    record_args *a = arg;
    unit         u = { .deadline_ms = depot_now_ms() + RECORD_MS };

    unit_enter(&u);
    a->ok = store_finish(a->run, a->err);
    unit_leave(&u);
    return NULL;
}

/* A canceled unit of work may not wait for anything, but its end has to be recorded: on a thread that is not canceled. */
static bool record(const sched_run *r, depot_err *err)
{
    record_args a = { r, err, false };
    pthread_t   thread;

    if (!unit_canceled() || pthread_create(&thread, NULL, record_within, &a) != 0) {
        record_within(&a);
        return a.ok;
    }
    pthread_join(thread, NULL);
    return a.ok;
}

static void tell(const sched_run *r)
{
    depot_err err = r->err;

    if (r->again) {
        depot_wrap(&err, "schedule %s waits for the database", r->name);
        log_err("core", DEPOT_LOG_WARN, "schedule.again", &err);
        return;
    }
    metrics_add("depot_schedule_runs_total", DEPOT_LABELS(r->name, r->ok ? "ok" : "failed"), 1);
    if (r->ok) {
        log_write("core", DEPOT_LOG_INFO, "schedule.ran", "schedule %s", r->name);
        return;
    }
    depot_wrap(&err, "schedule %s", r->name);
    log_err("core", DEPOT_LOG_ERROR, "schedule.failed", &err);
    if (!r->by_hand) {
        run_emit(r->sched, "schedule.failed", r->name, r->due_us, depot_err_id(&r->err), r->err.msg);
    }
}

static void leave(sched_run *r)
{
    list_remove(r->sched, r);
    run_free(r);
}

/* Its end goes into the database now, or, while that is away, when it is back. Frees the run, now or then. */
static void conclude(sched_run *r)
{
    sched    *s = r->sched;
    depot_err err = { 0 };

    tell(r);
    if (record(r, &err)) {
        sched_wake(s);
        leave(r);
        return;
    }
    pthread_mutex_lock(&s->lock);
    bool later = s->service != NULL && depot_err_retry(&err) != DEPOT_RETRY_NO;
    r->ended = later;
    pthread_mutex_unlock(&s->lock);
    if (later) {
        sched_wake(s); /* r is the service thread's from here on */
        return;
    }
    depot_wrap(&err, "the end of schedule %s is not recorded", r->name);
    log_err("core", DEPOT_LOG_ERROR, "schedule.not_recorded", &err);
    leave(r);
}

static sched_run *first_ended(sched *s)
{
    sched_run *r;

    pthread_mutex_lock(&s->lock);
    for (r = s->runs; r != NULL && !r->ended; r = r->next) {
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

void run_forget_ended(sched *s)
{
    for (sched_run *r; (r = first_ended(s)) != NULL;) {
        leave(r);
    }
}

bool run_record_ended(sched *s, depot_err *err)
{
    for (sched_run *r; (r = first_ended(s)) != NULL;) {
        if (!store_finish(r, err)) {
            if (depot_err_retry(err) != DEPOT_RETRY_NO) {
                return false;
            }
            depot_wrap(err, "the end of schedule %s is not recorded", r->name);
            log_err("core", DEPOT_LOG_ERROR, "schedule.not_recorded", err);
            *err = (depot_err){ 0 };
        }
        leave(r);
    }
    return true;
}

/* ---- taking ---- */

static sched_taker *taker_of(sched *s, const char *name)
{
    for (sched_taker *t = s->takers; t != NULL; t = t->next) {
        if (strcmp(t->name, name) == 0) {
            return t;
        }
    }
    sched_taker *t = depot_xalloc(sizeof(*t));
    t->name = depot_xstrdup(name);
    new_token(t->token);
    t->next = s->takers;
    s->takers = t;
    return t;
}

void run_takers_free(sched *s)
{
    while (s->takers != NULL) {
        sched_taker *t = s->takers;
        s->takers = t->next;
        free(t->name);
        free(t);
    }
}

static void release_taker(sched *s, const char *name, bool answered, bool taken)
{
    pthread_mutex_lock(&s->lock);
    sched_taker *t = taker_of(s, name);
    t->busy = false;
    t->not_before_ms = answered ? 0 : depot_now_ms() + RETRY_MS;
    if (taken) {
        new_token(t->token);
    }
    pthread_mutex_unlock(&s->lock);
}

static void take_and_run(void *arg)
{
    sched_run *r = arg;
    sched     *s = r->sched;
    depot_err  err = { 0 };
    bool       taken = false, answered = unit_check(&err) && store_take(r, &taken, &err);

    if (!answered) {
        depot_wrap(&err, "take a run of schedule %s", r->name);
        log_err("core", DEPOT_LOG_WARN, "schedule.not_taken", &err);
    }
    if (taken) {
        list_add(s, r);
    }
    release_taker(s, r->name, answered, taken);
    sched_wake(s);
    if (!taken) {
        run_free(r);
        return;
    }
    execute(r);
    conclude(r);
}

bool run_offer(sched *s, const sched_entry *e, depot_err *err)
{
    sched_run *r = NULL;

    pthread_mutex_lock(&s->lock);
    sched_taker *t = taker_of(s, e->name);
    bool         may = !t->busy && depot_now_ms() >= t->not_before_ms;
    t->busy = t->busy || may;
    char token[sizeof(t->token)];
    memcpy(token, t->token, sizeof(token));
    pthread_mutex_unlock(&s->lock);
    if (!may) {
        return true;
    }
    r = run_new(s, e);
    memcpy(r->token, token, sizeof(token));
    if (!executor_submit(s->env.executor, take_and_run, r, 0, err)) {
        release_taker(s, e->name, false, false);
        run_free(r);
        return false;
    }
    return true;
}

/* ---- by hand ---- */

/* With the lock held. */
static bool no_such(const sched *s, const char *name, depot_err *err)
{
    enum { NAMES_MAX = 256 };
    const char *names[NAMES_MAX];
    size_t      n = 0;

    for (; s->plan != NULL && n < NAMES_MAX && n < s->plan->n; n++) {
        names[n] = s->plan->entries[n].name;
    }
    const char *near = depot_suggest(name, names, n);
    (void)DEPOT_FAIL(err, NOT_FOUND, "no schedule is called %s", name);
    if (near != NULL) {
        return depot_hint(err, "did you mean \"%s\"?", near);
    }
    return depot_hint(err, "depotctl schedule list shows all");
}

static bool run_of(sched *s, const char *name, sched_run **out, depot_err *err)
{
    bool ok = false;

    pthread_mutex_lock(&s->lock);
    const sched_entry *e = sched_plan_find(s->plan, name);
    if (!s->ready) {
        (void)DEPOT_FAIL(err, UNAVAILABLE, "schedules wait for the database");
    } else if (e == NULL) {
        (void)no_such(s, name, err);
    } else {
        *out = run_new(s, e);
        ok = true;
    }
    pthread_mutex_unlock(&s->lock);
    return ok;
}

bool run_by_hand(sched *s, const char *name, depot_arena *arena, const depot_json **out_result, depot_err *err)
{
    sched_run *r = NULL;

    *out_result = NULL;
    if (!run_of(s, name, &r, err)) {
        return false;
    }
    r->by_hand = true;
    new_token(r->token);
    list_add(s, r);
    if (!store_take_by_hand(r, err)) {
        leave(r);
        return false;
    }
    sched_wake(s); /* which renews its lease from now on */
    execute(r);
    bool        ok = r->ok;
    const char *text = r->result == NULL ? NULL : depot_json_text(arena, r->result);
    *err = ok ? *err : r->err;
    conclude(r);
    if (ok && text != NULL) {
        *out_result = depot_json_parse(arena, text, strlen(text), err);
        return *out_result != NULL;
    }
    return ok;
}
