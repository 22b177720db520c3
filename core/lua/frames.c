/* frames.c - what workers tell the daemon. On the supervisor's thread. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "lua/grant.h"
#include "lua/outcome.h"
#include "lua/supervise.h"

enum { FIELDS_MAX = 6 };

/* ---- results ---- */

/* Under the lock, which it gives back: the ticket is out of the list. */
static void tell_room(worker_proc *w, bool was_full)
{
    scripts *s = w->scripts;
    bool     has_room = was_full && supervise_capacity(s) > 0;
    bool     may_end = w->state == WORKER_RETIRING && w->running == 0;

    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (has_room) {
        supervise_changed(s);
    }
    if (may_end) {
        supervise_tick(s);
    }
}

static void log_unknown(const worker_proc *w)
{
    log_write("lua", DEPOT_LOG_ERROR, "worker.frame", "worker %llu tells the end of a script that it does not have",
              (unsigned long long)w->number);
}

static void on_done(worker_proc *w, uint64_t id, depot_arena *arena, depot_script_result *res)
{
    scripts *s = w->scripts;

    pthread_mutex_lock(&s->lock);
    bool    was_full = supervise_capacity(s) <= 0;
    ticket *t = supervise_take(w, id);
    w->done += t != NULL;
    pthread_mutex_unlock(&s->lock);
    if (t == NULL) {
        log_unknown(w);
        return;
    }
    res->log = ticket_said(t, arena);
    t->done(t->arg, res);
    ticket_free(t);
    pthread_mutex_lock(&s->lock);
    tell_room(w, was_full);
}

/* ---- ranges ---- */

/* A job that goes on has a ticket of its own, which gets its arg once the range's has been told. */
static void add_going(worker_proc *w, ticket *range, const depot_range_going *going)
{
    ticket *t = depot_xalloc(sizeof(*t));

    *t = (ticket){ .id = going->id, .started_ms = depot_now_ms(), .room = 1, .done = range->done };
    t->deadline_ms = t->started_ms + range->timeout_ms;
    (void)snprintf(t->label, sizeof(t->label), "the job at place %lld of %.40s", (long long)going->place, range->label); /* it fits */
    ticket_inherit(t, range);
    supervise_add(w, t);
    if (range->canceled) { /* that came too late for the range */
        supervise_cancel(w, t);
    }
}

static ticket *find_ticket(const worker_proc *w, uint64_t id)
{
    ticket *t = w->tickets;

    while (t != NULL && t->id != id) {
        t = t->next;
    }
    return t;
}

static void end_range(worker_proc *w, ticket *t, depot_arena *arena, depot_range_result *res)
{
    scripts *s = w->scripts;

    pthread_mutex_lock(&s->lock);
    bool was_full = supervise_capacity(s) <= 0;
    (void)supervise_take(w, t->id); /* t itself */
    for (size_t i = 0; i < res->n_going; i++) {
        add_going(w, t, &res->going[i]);
    }
    w->done += (uint64_t)(res->begun - (int64_t)res->n_going);
    pthread_mutex_unlock(&s->lock);
    res->logs = ticket_jobs_said(t, arena);
    t->range_done(t->arg, res);
    ticket_free(t);
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < res->n_going; i++) {
        find_ticket(w, res->going[i].id)->arg = res->going[i].arg;
    }
    tell_room(w, was_full);
}

/* On this thread alone tickets are taken out, so that what was found stays. */
static void on_ranged(worker_proc *w, uint64_t id, depot_arena *arena, const depot_json *head, const char *text, size_t n)
{
    scripts           *s = w->scripts;
    depot_range_result res;
    depot_err          err = { 0 };

    pthread_mutex_lock(&s->lock);
    ticket *t = find_ticket(w, id);
    pthread_mutex_unlock(&s->lock);
    if (t == NULL || t->range_done == NULL) {
        log_unknown(w);
        return;
    }
    const outcome_range of = { t->first, t->n, id };
    if (!outcome_range_read(arena, head, n == 0 ? NULL : depot_strndup(arena, text, n), &of, &res, &err)) {
        log_err("lua", DEPOT_LOG_ERROR, "worker.frame", &err);
        child_kill(&w->child, SIGKILL); /* what it did with the jobs, nobody knows */
    } else {
        end_range(w, t, arena, &res);
    }
}

/* ---- start ---- */

static void take_handlers(generation *g, const depot_json *list)
{
    size_t n = depot_json_len(list);

    g->handlers = depot_alloc(g->arena, n * sizeof(*g->handlers));
    for (size_t i = 0; i < n; i++) {
        const depot_json *row = depot_json_at(list, i);
        g->handlers[i] = (depot_handler){
            .name = depot_strdup(g->arena, depot_json_get_str(row, "name", "")),
            .file = depot_strdup(g->arena, depot_json_get_str(row, "file", "")),
            .revision = depot_strdup(g->arena, depot_json_get_str(row, "revision", "")),
            .timeout_ms = depot_json_get_int(row, "timeout_ms", 0),
            .max_attempts = depot_json_get_int(row, "max_attempts", 0),
        };
    }
    g->n_handlers = n;
}

/* Once for each new set of scripts. */
static void warn_of_needs(const generation *g, const depot_json *handlers)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const char                               *text = g->opt.grants == NULL ? "{}" : g->opt.grants;
    depot_err                                 ignored = { 0 };
    const depot_json                         *grants = depot_json_parse(arena, text, strlen(text), &ignored); /* ours */

    for (size_t i = 0; i < depot_json_len(handlers); i++) {
        const depot_json *row = depot_json_at(handlers, i), *needs = depot_json_get(row, "needs");
        const char       *name = depot_json_get_str(row, "name", "");
        for (size_t k = 0; k < depot_json_len(needs); k++) {
            const char *need = depot_json_string(depot_json_at(needs, k), NULL);
            if (!grants_meet(grants, name, need)) {
                log_write("lua", DEPOT_LOG_WARN, "handler.not_granted",
                          "the job %s (%s) needs %s, which conf.d does not grant: such calls will fail", name,
                          depot_json_get_str(row, "file", ""), need);
            }
        }
    }
}

static void on_ready(worker_proc *w, const depot_json *head)
{
    scripts *s = w->scripts;

    if (!w->gen->ready) {
        warn_of_needs(w->gen, depot_json_get(head, "handlers"));
    }
    pthread_mutex_lock(&s->lock);
    w->state = WORKER_READY;
    w->state_ms = w->beat_ms = depot_now_ms();
    if (!w->gen->ready) {
        take_handlers(w->gen, depot_json_get(head, "handlers"));
        w->gen->ready = true;
    }
    if (w->gen == s->candidate) {
        generation_release(s->gen);
        s->gen = s->candidate;
        s->candidate = NULL;
        s->backoff_ms = 0;
        s->next_start_ms = 0;
    }
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    log_write("lua", DEPOT_LOG_INFO, "worker.ready", "worker %llu (process %d) is ready, revision %.12s",
              (unsigned long long)w->number, (int)w->pid, w->gen->sources.revision);
    supervise_tick(s);
    supervise_changed(s);
}

static void on_failed(worker_proc *w, const depot_json *head)
{
    scripts  *s = w->scripts;
    depot_err err;

    wire_get_err(head, &err);
    pthread_mutex_lock(&s->lock);
    bool is_candidate = w->gen == s->candidate;
    if (is_candidate) {
        w->gen->err = err;
        w->gen->failed = true;
    }
    w->state = is_candidate ? WORKER_STOPPING : w->state; /* else it counts as lost: with backoff */
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (!is_candidate) {
        log_err("lua", DEPOT_LOG_ERROR, "worker.not_loaded", &err);
    }
}

/* ---- log, beats, metrics ---- */

static void log_fields(const depot_json *fields)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const char                               *key;
    const depot_json                         *value;
    size_t                                    n = 0;

    for (size_t it = 0; fields != NULL && n < FIELDS_MAX && depot_json_next(fields, &it, &key, &value); n++) {
        const char *text = depot_json_string(value, NULL);
        log_context_set(key, text != NULL ? text : depot_json_text(arena, value));
    }
}

static void on_log(worker_proc *w, uint64_t id, const depot_json *head, const char *text, size_t n)
{
    scripts    *s = w->scripts;
    int64_t     level = depot_json_get_int(head, "level", DEPOT_LOG_INFO);
    const char *where = depot_json_get_str(head, "where", "");

    pthread_mutex_lock(&s->lock);
    for (ticket *t = w->tickets; t != NULL; t = t->next) {
        ticket_hear(t, id, level, text, n, depot_json_get(head, "fields"));
    }
    pthread_mutex_unlock(&s->lock);
    log_context_set("script", depot_json_get_str(head, "label", ""));
    log_fields(depot_json_get(head, "fields"));
    /* the place is the event: what one line of a script says again and again is folded, what others say is not */
    log_write("lua", level < DEPOT_LOG_DEBUG || level > DEPOT_LOG_ERROR ? DEPOT_LOG_INFO : (depot_level)level,
              where[0] == '\0' ? "script.log" : where, "%.*s", (int)n, text);
    log_context_clear();
}

static void on_beat(worker_proc *w, const depot_json *head)
{
    scripts *s = w->scripts;

    pthread_mutex_lock(&s->lock);
    w->beat_ms = depot_now_ms();
    w->rss_bytes = depot_json_get_int(head, "rss_bytes", 0);
    if (depot_json_get_bool(head, "stuck", false) && w->state == WORKER_READY) {
        supervise_retire(w); /* calls of ended scripts hold its threads */
    }
    pthread_mutex_unlock(&s->lock);
}

static void on_metrics(worker_proc *w, depot_arena *arena, const depot_json *head)
{
    const depot_json *now = depot_json_get(head, "metrics");

    if (now == NULL) {
        depot_arena_free(arena);
        return;
    }
    absorb_metrics(w->metrics, now);
    depot_arena_free(w->metrics_arena);
    w->metrics_arena = arena;
    w->metrics = now;
}

/* ---- events ---- */

typedef struct emission {
    scripts          *scripts;
    uint64_t          worker, id;
    depot_arena      *arena;
    const char       *event;
    const depot_json *payload;
    depot_err         err;
} emission;

static void answer(emission *e, bool ok)
{
    depot_json *head = depot_json_object(e->arena);
    scripts    *s = e->scripts;

    if (!ok) {
        wire_put_err(e->arena, head, &e->err);
    }
    pthread_mutex_lock(&s->lock);
    for (worker_proc *w = s->procs; w != NULL; w = w->next) {
        if (w->number == e->worker) { /* it may have ended meanwhile */
            channel_send(w->channel, WIRE_EMITTED, e->id, head, NULL, 0);
        }
    }
    pthread_mutex_unlock(&s->lock);
    depot_arena_free(e->arena);
}

/* On a thread that may block: durable hooks write to the database. */
static void emit(void *arg)
{
    emission       *e = arg;
    const host_env *env = host_environment(e->scripts->host);
    bool            ok = false;

    if (env->emit == NULL) {
        (void)DEPOT_FAIL(&e->err, UNAVAILABLE, "the event bus is not running");
    } else {
        ok = env->emit(e->event, e->payload, &e->err);
    }
    answer(e, ok);
}

static void on_emit(worker_proc *w, uint64_t id, depot_arena *arena, const depot_json *head, const char *text, size_t n)
{
    emission *e = depot_alloc(arena, sizeof(*e));

    *e = (emission){ .scripts = w->scripts, .worker = w->number, .id = id, .arena = arena };
    e->event = depot_json_get_str(head, "event", "");
    e->payload = depot_json_parse(arena, text, n, &e->err);
    if (e->payload == NULL || !executor_submit(w->scripts->emitters, emit, e, 0, &e->err)) {
        answer(e, false);
    }
}

/* ---- all of them ---- */

void supervise_frame(void *worker_ptr, const wire_frame *frame)
{
    worker_proc        *w = worker_ptr;
    depot_arena        *arena = depot_arena_new();
    depot_script_result res = { 0 };
    depot_err           err = { 0 };
    const depot_json   *head;
    const char         *text;
    size_t              n;

    if (!wire_parse(arena, frame, &head, &text, &n, &err)) {
        log_err("lua", DEPOT_LOG_ERROR, "worker.frame", &err);
        child_kill(&w->child, SIGKILL);
        depot_arena_free(arena);
        return;
    }
    switch ((int)frame->type) {
    case WIRE_METRICS:
        on_metrics(w, arena, head);
        return; /* these two keep the arena */
    case WIRE_EMIT:
        on_emit(w, frame->id, arena, head, text, n);
        return;
    case WIRE_READY:
        on_ready(w, head);
        break;
    case WIRE_FAILED:
        on_failed(w, head);
        break;
    case WIRE_LOG:
        on_log(w, frame->id, head, text, n);
        break;
    case WIRE_BEAT:
        on_beat(w, head);
        break;
    case WIRE_DONE:
        outcome_read(arena, head, text, n, &res);
        on_done(w, frame->id, arena, &res);
        break;
    case WIRE_RANGED:
        on_ranged(w, frame->id, arena, head, text, n);
        break;
    default:
        log_write("lua", DEPOT_LOG_ERROR, "worker.frame", "worker %llu sent a frame of type %d",
                  (unsigned long long)w->number, (int)frame->type);
    }
    depot_arena_free(arena);
}
