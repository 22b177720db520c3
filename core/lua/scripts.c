/* scripts.c - the face of the workers for the rest of the daemon: start, reload, stop, and scripts handed to them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/unit.h"
#include "lua/engine.h"
#include "lua/supervise.h"

enum { TICK_MS = 200, WAIT_READY_MS = 70000, CANCEL_MS = 2000, END_MS = 8000, ARG_BYTES_MAX = 16 << 20 };
enum { RANGE_MOST_MS = 120000 /* until its worker gets at it, behind others, and a second */ };
enum { EMITTERS = 4, EMISSIONS_MAX = 1024 };

/* One per process, see scripts.h. Set by scripts_start before anybody can call the rest, never unset. */
static scripts *the_scripts;

/* ---- generations ---- */

static bool generation_new(const scripts_options *options, generation **out, depot_err *err)
{
    depot_arena *arena = depot_arena_new();
    generation  *g = depot_alloc(arena, sizeof(*g));

    g->arena = arena;
    g->refs = 1;
    g->opt = *options;
    g->opt.exe = depot_strdup(arena, options->exe);
    g->opt.lua_dirs = depot_strdup(arena, options->lua_dirs);
    g->opt.grants = depot_strdup(arena, options->grants);
    g->opt.values = depot_strdup(arena, options->values);
    if (options->db != NULL) {
        g->db = *options->db;
        g->db.url = depot_strdup(arena, g->db.url);
        g->db.direct_url = depot_strdup(arena, g->db.direct_url);
        g->db.name = depot_strdup(arena, g->db.name);
        g->opt.db = &g->db;
    }
    g->conf = options->conf == NULL ? "" : conf_pack(arena, options->conf);
    g->opt.conf = NULL; /* may go before this generation does */
    if (!sources_read(arena, options->lua_dirs, &g->sources, err)) {
        depot_arena_free(arena);
        return false;
    }
    *out = g;
    return true;
}

static void wake(void *scripts_ptr)
{
    supervise_tick(scripts_ptr);
}

/* Has the supervisor try the new set; true: it is in force. */
static bool try_generation(scripts *s, generation *g, depot_err *err)
{
    int64_t until = depot_now_ms() + WAIT_READY_MS;
    bool    ok;

    pthread_mutex_lock(&s->lock);
    if (s->candidate != NULL || s->stopping) {
        pthread_mutex_unlock(&s->lock);
        depot_arena_free(g->arena);
        return DEPOT_FAIL(err, CONFLICT, "scripts are being loaded or stopped already");
    }
    s->candidate = g;
    loop_post(s->loop, wake, s);
    while (!g->ready && !g->failed && !s->stopping && !unit_canceled() && depot_now_ms() < until) {
        (void)clock_cond_wait(&s->changed, &s->lock, depot_now_ms() + TICK_MS); /* a stop does not wait for scripts that load */
    }
    ok = g->ready;
    if (!ok) {
        *err = g->err;
        if (!g->failed && unit_canceled()) {
            (void)DEPOT_FAIL(err, CANCELED, "stopped while the scripts were loaded");
        } else if (!g->failed) {
            (void)DEPOT_FAIL(err, TIMEOUT, "no worker got ready");
        }
        s->candidate = NULL;
        generation_release(g);
    }
    pthread_mutex_unlock(&s->lock);
    loop_post(s->loop, wake, s);
    return ok;
}

/* ---- work ---- */

static worker_proc *least_busy(const scripts *s)
{
    worker_proc *best = NULL;

    for (worker_proc *w = s->procs; w != NULL; w = w->next) {
        bool fits = w->state == WORKER_READY && w->gen == s->gen && (int64_t)w->running < w->gen->opt.concurrency;
        if (fits && (best == NULL || w->running < best->running)) {
            best = w;
        }
    }
    return best;
}

static int64_t timeout_of(const scripts *s, const char *kind, const char *name, int64_t wanted)
{
    const generation *g = s->gen;

    for (size_t i = 0; wanted <= 0 && strcmp(kind, "handler") == 0 && i < g->n_handlers; i++) {
        if (strcmp(g->handlers[i].name, name) == 0) {
            wanted = g->handlers[i].timeout_ms;
        }
    }
    return wanted > 0 ? wanted : g->opt.default_timeout_ms;
}

/* Under the lock. */
static uint64_t hand_over(scripts *s, worker_proc *w, const char *kind, const char *name, const depot_script *script)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const char *label = script->label == NULL ? name : script->label;
    const char *arg = script->arg == NULL ? "{}" : script->arg;
    int64_t     timeout_ms = timeout_of(s, kind, name, script->timeout_ms);
    ticket     *t = depot_xalloc(sizeof(*t));

    t->id = ++s->last_id;
    t->started_ms = depot_now_ms();
    t->deadline_ms = t->started_ms + timeout_ms;
    t->done = script->done;
    t->arg = script->done_arg;
    memcpy(t->label, label, text_utf8_cut(label, strlen(label), sizeof(t->label) - 1));
    t->room = 1;
    supervise_add(w, t);
    channel_send(w->channel, WIRE_RUN, t->id,
                 depot_json_pack(arena, "{s:s, s:s, s:s, s:I}", "kind", kind, "name", name, "label", label, "deadline_ms",
                                 t->deadline_ms), arg, strlen(arg));
    return t->id;
}

static bool run_kind(const char *kind, const char *name, const depot_script *script, uint64_t *out_id, depot_err *err)
{
    scripts *s = the_scripts;
    uint64_t id = 0;

    if (s == NULL) {
        return DEPOT_FAIL(err, UNAVAILABLE, "no script workers are running");
    }
    if (script->arg != NULL && strlen(script->arg) > ARG_BYTES_MAX) {
        return DEPOT_FAIL(err, TOO_LARGE, "the argument of %s is larger than %d bytes", name, ARG_BYTES_MAX);
    }
    pthread_mutex_lock(&s->lock);
    worker_proc *w = s->stopping ? NULL : least_busy(s);
    if (w != NULL) {
        id = hand_over(s, w, kind, name, script);
    }
    pthread_mutex_unlock(&s->lock);
    if (w == NULL) {
        return DEPOT_FAIL(err, UNAVAILABLE, "no script worker is free for %s", name);
    }
    if (out_id != NULL) {
        *out_id = id;
    }
    return true;
}

static bool run(const depot_script *script, uint64_t *out_id, depot_err *err)
{
    if (script->handler != NULL) {
        return run_kind("handler", script->handler, script, out_id, err);
    }
    return run_kind("file", script->file, script, out_id, err);
}

bool scripts_eval(const char *expression, const char *arg_json, int64_t timeout_ms,
                  void (*done)(void *arg, const depot_script_result *res), void *done_arg, depot_err *err)
{
    const depot_script script = { .arg = arg_json, .label = "expression", .timeout_ms = timeout_ms, .done = done,
                                  .done_arg = done_arg };

    return run_kind("eval", expression, &script, NULL, err);
}

/* ---- ranges ---- */

/* Under the lock. Half of what the worker has room for, so that others find some too. */
static uint64_t hand_over_range(scripts *s, worker_proc *w, const depot_script_range *range, const depot_json *job, depot_arena *arena)
{
    int64_t free_room = w->gen->opt.concurrency - (int64_t)w->running;
    int64_t room = free_room / 2 < 1 ? 1 : free_room / 2 < range->n ? free_room / 2 : range->n;
    ticket *t = depot_xalloc(sizeof(*t));

    *t = (ticket){ .id = s->last_id + 1, .started_ms = depot_now_ms(), .room = (size_t)room, .done = range->job_done,
                   .range_done = range->done, .arg = range->done_arg, .first = range->first, .n = range->n };
    t->timeout_ms = timeout_of(s, "handler", range->handler, range->timeout_ms);
    t->deadline_ms = t->started_ms + RANGE_MOST_MS + t->timeout_ms;
    (void)snprintf(t->label, sizeof(t->label), "%s", range->id); /* an id: it fits */
    s->last_id += (uint64_t)range->n + 1;
    supervise_add(w, t);
    channel_send(w->channel, WIRE_RANGE, t->id,
                 depot_json_pack(arena, "{s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:I}", "name", range->handler, "job_id", range->id,
                                 "token", range->token, "job", job, "first", range->first, "n", range->n, "room", room,
                                 "timeout_ms", t->timeout_ms),
                 range->args, range->args_len);
    return t->id;
}

static bool run_range(const depot_script_range *range, uint64_t *out_id, int64_t *out_room, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    scripts                                  *s = the_scripts;
    const depot_json                         *job = depot_json_parse(arena, range->job, strlen(range->job), err);

    if (job == NULL) {
        return depot_wrap(err, "members of the jobs of type %s", range->handler);
    }
    if (range->args_len > ARG_BYTES_MAX) {
        return DEPOT_FAIL(err, TOO_LARGE, "the arguments of jobs of type %s are larger than %d bytes", range->handler, ARG_BYTES_MAX);
    }
    pthread_mutex_lock(&s->lock);
    worker_proc *w = s->stopping ? NULL : least_busy(s);
    if (w != NULL) {
        *out_id = hand_over_range(s, w, range, job, arena);
        *out_room = (int64_t)w->tickets->room;
    }
    pthread_mutex_unlock(&s->lock);
    return w != NULL || DEPOT_FAIL(err, UNAVAILABLE, "no script worker is free for %s", range->handler);
}

/* ---- what was handed over is to end ---- */

static void tell(uint64_t id, void (*what)(worker_proc *w, ticket *t))
{
    scripts *s = the_scripts;

    pthread_mutex_lock(&s->lock);
    for (worker_proc *w = s->procs; w != NULL; w = w->next) {
        for (ticket *t = w->tickets; t != NULL; t = t->next) {
            if (t->id == id) {
                what(w, t);
            }
        }
    }
    pthread_mutex_unlock(&s->lock);
}

static void cancel(uint64_t id)
{
    tell(id, supervise_cancel);
}

static void enough(uint64_t id)
{
    tell(id, supervise_enough);
}

static int64_t capacity(void)
{
    scripts *s = the_scripts;

    pthread_mutex_lock(&s->lock);
    int64_t n = supervise_capacity(s);
    pthread_mutex_unlock(&s->lock);
    return n;
}

static void on_change(void (*fn)(void *arg), void *arg)
{
    scripts *s = the_scripts;

    pthread_mutex_lock(&s->lock);
    if (s->n_listeners < LISTENERS_MAX) { /* plugins have one each */
        s->listeners[s->n_listeners].fn = fn;
        s->listeners[s->n_listeners].arg = arg;
        s->n_listeners++;
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- handlers ---- */

static void copy_handler(depot_arena *arena, const depot_handler *from, depot_handler *out)
{
    *out = *from;
    out->name = depot_strdup(arena, from->name);
    out->file = depot_strdup(arena, from->file);
    out->revision = depot_strdup(arena, from->revision);
}

static bool handler_find(depot_arena *arena, const char *name, depot_handler *out)
{
    scripts *s = the_scripts;
    bool     found = false;

    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; s->gen != NULL && i < s->gen->n_handlers && !found; i++) {
        if (strcmp(s->gen->handlers[i].name, name) == 0) {
            copy_handler(arena, &s->gen->handlers[i], out);
            found = true;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

static bool handler_next(depot_arena *arena, size_t *it, depot_handler *out)
{
    scripts *s = the_scripts;
    bool     found = false;

    pthread_mutex_lock(&s->lock);
    if (s->gen != NULL && *it < s->gen->n_handlers) {
        copy_handler(arena, &s->gen->handlers[*it], out);
        (*it)++;
        found = true;
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

depot_json *scripts_status(depot_arena *arena)
{
    static const char *const states[] = { "starting", "ready", "retiring", "stopping" };
    scripts    *s = the_scripts;
    depot_json *list = depot_json_array(arena);

    if (s == NULL) {
        return list;
    }
    pthread_mutex_lock(&s->lock);
    for (const worker_proc *w = s->procs; w != NULL; w = w->next) {
        depot_json_add(list, depot_json_pack(arena, "{s:I, s:i, s:s, s:I, s:I, s:I, s:s}", "worker", (int64_t)w->number, "pid",
                                             (int)w->pid, "state", states[w->state], "running", (int64_t)w->running, "done",
                                             (int64_t)w->done, "rss_bytes", w->rss_bytes, "revision", w->gen->sources.revision));
    }
    pthread_mutex_unlock(&s->lock);
    return list;
}

/* ---- start, reload, stop ---- */

static void *supervise(void *scripts_ptr)
{
    scripts *s = scripts_ptr;

    loop_run(s->loop);
    return NULL;
}

static size_t count(const scripts *s, bool processes)
{
    size_t n = 0;

    for (const worker_proc *w = s->procs; w != NULL; w = w->next) {
        n += processes ? 1 : w->running;
    }
    return n;
}

/* Waits until no script runs, or (processes) no worker is left. Under the lock. */
static bool wait_for_none(scripts *s, bool processes, int64_t ms)
{
    int64_t until = depot_now_ms() + ms;

    while (count(s, processes) > 0 && clock_cond_wait(&s->changed, &s->lock, until)) {
    }
    return count(s, processes) == 0;
}

void scripts_stop(int64_t grace_ms)
{
    scripts *s = the_scripts;

    if (s == NULL) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    if (!wait_for_none(s, false, grace_ms)) {
        for (worker_proc *w = s->procs; w != NULL; w = w->next) {
            for (ticket *t = w->tickets; t != NULL; t = t->next) {
                supervise_cancel(w, t);
            }
        }
        (void)wait_for_none(s, false, CANCEL_MS); /* those that are left lose their worker */
    }
    loop_post(s->loop, supervise_stop_all, s);
    while (!wait_for_none(s, true, END_MS)) { /* the tick kills what does not end by itself */
        loop_post(s->loop, wake, s);
    }
    pthread_mutex_unlock(&s->lock);
    loop_stop(s->loop);
    pthread_join(s->thread, NULL);
    executor_drain(s->emitters, 0); /* nobody waits for an answer any more */
    executor_free(s->emitters);
    loop_free(s->loop);
    s->loop = NULL;
    generation_release(s->gen);
    s->gen = NULL;
}

static const host_scripts operations = { .run = run, .run_range = run_range, .enough = enough, .cancel = cancel, .capacity = capacity,
                                         .on_change = on_change, .handler_find = handler_find, .handler_next = handler_next };

bool scripts_start(host *h, const scripts_options *options, const host_scripts **out, depot_err *err)
{
    generation *g;
    scripts    *s;

    if (!generation_new(options, &g, err)) {
        return false;
    }
    if (the_scripts != NULL && the_scripts->loop == NULL) {
        free(the_scripts); /* was stopped */
    }
    s = depot_xalloc(sizeof(*s));
    s->host = h;
    s->loop = loop_new();
    s->emitters = executor_new(EMITTERS, EMISSIONS_MAX);
    pthread_mutex_init(&s->lock, NULL);
    clock_cond_init(&s->changed);
    (void)loop_every(s->loop, TICK_MS, supervise_tick, s); /* freed with the loop */
    the_scripts = s;
    if (pthread_create(&s->thread, NULL, supervise, s) != 0) {
        abort(); /* no thread at start-up: nothing can run */
    }
    if (!try_generation(s, g, err)) {
        scripts_stop(0);
        return false;
    }
    *out = &operations;
    return true;
}

/* Options of scripts are among the values. */
static bool is_in_force(scripts *s, const generation *g)
{
    pthread_mutex_lock(&s->lock);
    bool same = s->gen != NULL && s->candidate == NULL && g->opt.values != NULL && s->gen->opt.values != NULL &&
                strcmp(s->gen->opt.values, g->opt.values) == 0 && strcmp(s->gen->sources.revision, g->sources.revision) == 0;
    if (same) { /* somebody may have repaired what kept workers from starting */
        s->backoff_ms = 0;
        s->next_start_ms = 0;
    }
    pthread_mutex_unlock(&s->lock);
    return same;
}

bool scripts_reload(const scripts_options *options, depot_err *err)
{
    generation *g;

    if (the_scripts == NULL) {
        return DEPOT_FAIL(err, UNAVAILABLE, "no script workers are running");
    }
    if (!generation_new(options, &g, err)) {
        return false;
    }
    if (is_in_force(the_scripts, g)) {
        depot_arena_free(g->arena);
        loop_post(the_scripts->loop, wake, the_scripts);
        return true;
    }
    return try_generation(the_scripts, g, err);
}
