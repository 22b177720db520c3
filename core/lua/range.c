/* range.c - jobs of a range: as many as wait at a time have a state each, and one that has ended leaves its state to the next. One computes
 * at a time. After a second no more begin: the range tells what has become of its jobs, and those that are not at their end go on by
 * themselves. */
#include "lua/range.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BURST_US = 10000,        /* of one range, before the loop and other scripts have their turn */
    RANGE_MS = 1000,         /* from its first job's beginning, after which no more begin */
    ANSWER_BYTES = 4 << 20,  /* of results and errors, after which they do not either: a frame and a document of the database have limits */
    KEEP_BYTES = 8 << 20,    /* a larger state serves no other job */
    PLACES = 1024,
    NO_PLACE = -1, /* of a state that waits for a job */
    ID_LENGTH = 36
};

struct range {
    engine           *engine;
    depot_arena      *arena;
    uint64_t          id;
    const char       *name, *job_id, *token;
    const depot_json *job;
    const char       *at; /* of the arguments: those of the jobs that have not begun */
    int64_t           first, n, room, timeout_ms;
    int64_t           begun;
    int64_t           until_ms; /* INT64_MAX: none has begun */
    bool              enough, bursting;
    size_t            open, sliced; /* jobs that have begun and not ended; of these, those that want to compute on */
    run              *idle;
    depot_range_job  *ended;
    size_t            n_ended, cap_ended;
    const char      **results; /* of all places; NULL: none has come yet */
    size_t            bytes; /* of results and errors */
    int64_t           busy_us;
    range            *next;
};

/* ---- what has become of a job ---- */

static void add_ended(range *g, int64_t place, const depot_script_result *res)
{
    if (g->n_ended == g->cap_ended) {
        g->cap_ended = g->cap_ended * 2 + 16;
        g->ended = depot_xrealloc(g->ended, g->cap_ended * sizeof(*g->ended));
    }
    depot_range_job *job = &g->ended[g->n_ended++];
    *job = (depot_range_job){ .place = place, .res = *res };
    job->res.json = "null";
    job->res.where = depot_strdup(g->arena, res->where);
    job->res.trace = depot_strdup(g->arena, res->trace);
    g->bytes += sizeof(*job) + strlen(res->where) + strlen(res->trace);
}

static void add_result(range *g, int64_t place, const depot_buf *json)
{
    if (json->len == 4 && memcmp(json->data, "null", 4) == 0) {
        return;
    }
    if (g->results == NULL) {
        g->results = depot_alloc(g->arena, (size_t)g->n * sizeof(*g->results));
    }
    g->results[place - g->first] = depot_strndup(g->arena, json->data, json->len);
    g->bytes += json->len;
}

static void drop(run *r)
{
    engine_unlink(r);
    engine_give_vm(r->engine, r->vm, r->killed == KILL_NONE);
    run_free(r);
}

/* As new, but for what is the same for all jobs of the range. */
static void tidy(run *r)
{
    if (r->last != NULL) {
        r->last->kind->free(r->last);
        r->last = NULL;
    }
    depot_buf_reset(&r->json);
    depot_buf_reset(&r->trace);
    r->where[0] = '\0';
    r->arg = NULL;
    r->args_text = NULL;
    r->err = (depot_err){ 0 };
    r->is_snoozed = r->ok = false;
    r->place = NO_PLACE;
    r->logged = 0;
    r->cpu_us = r->cpu_since_wait_us = 0;
}

static void answer(range *g);

/* Errors cost the state: a fault may have left it half changed. */
bool range_ended(run *r)
{
    range              *g = r->range;
    depot_script_result res = engine_result(r);

    if (g->bytes >= ANSWER_BYTES && !g->bursting) {
        answer(g);
        return false;
    }
    g->open--;
    g->busy_us += res.wall_us;
    if (res.ok) {
        add_result(g, r->place, &r->json);
    } else {
        add_ended(g, r->place, &res);
    }
    if (!res.ok || r->killed != KILL_NONE || r->vm->used > KEEP_BYTES) {
        drop(r);
        return true;
    }
    tidy(r);
    vm_again(r);
    r->next_idle = g->idle;
    g->idle = r;
    return true;
}

/* ---- the next job ---- */

static bool has_more(const range *g)
{
    return !g->enough && g->begun < g->n && g->bytes < ANSWER_BYTES && depot_now_ms() < g->until_ms;
}

static bool may_begin(const range *g)
{
    return g->sliced == 0 && g->open < (size_t)g->room && has_more(g);
}

static run *take_run(range *g, depot_err *err)
{
    const run_spec spec = { .id = g->id, .mode = RUN_HANDLER, .name = g->name };
    run           *r = g->idle;

    if (r != NULL) {
        g->idle = r->next_idle;
        return r;
    }
    r = run_new(g->engine, &spec, err);
    if (r != NULL) {
        r->range = g;
        r->token = r->token_text; /* nothing in the arena, which so takes no memory while thousands wait */
        r->members = g->job;
        r->job_id = r->id_text;
        r->label = r->label_text;
        (void)snprintf(r->token_text, sizeof(r->token_text), "%s", g->token); /* it fits */
    }
    return r;
}

void depot_range_id(const char *id, int64_t place, char out[ID_LENGTH + 1])
{
    size_t   last = ID_LENGTH - 3; /* three digits, of which ten bits are the place */
    unsigned base = (unsigned)strtoul(id + last, NULL, 16);

    memcpy(out, id, last);
    (void)snprintf(out + last, 4, "%03x", (base | (unsigned)place) & 0xfff);
}

static void set_id(const range *g, run *r)
{
    depot_range_id(g->job_id, r->place, r->id_text);
    (void)snprintf(r->label_text, sizeof(r->label_text), "job %s", r->id_text);
}

static void begin(range *g, run *r)
{
    r->place = g->first + g->begun;
    r->id = g->id + 1 + (uint64_t)g->begun;
    r->args_text = depot_json_item(&g->at, &r->args_len);
    set_id(g, r);
    r->started_us = depot_now_us();
    r->deadline_ms = r->started_us / 1000 + g->timeout_ms;
    if (g->begun++ == 0) {
        g->until_ms = r->started_us / 1000 + RANGE_MS;
    }
    g->open++;
}

static void fail_next(range *g, const depot_err *err)
{
    const depot_script_result res = { .err = *err, .json = "null", .where = "", .trace = "" };
    size_t                    n;

    (void)depot_json_item(&g->at, &n);
    add_ended(g, g->first + g->begun++, &res);
}

static void burst(range *g)
{
    int64_t until = depot_now_us() + BURST_US;
    bool    is_first = true, go_on = true;

    engine_burst_begin(g->engine);
    g->bursting = true;
    while (go_on && may_begin(g) && (is_first || depot_now_us() < until)) {
        depot_err err = { 0 };
        run      *r = take_run(g, &err);
        if (r == NULL && g->open > 0) {
            g->room = (int64_t)g->open; /* no memory for more of them */
        } else if (r == NULL) {
            fail_next(g, &err);
        } else {
            begin(g, r);
            go_on = engine_burst(r, is_first);
            is_first = false;
        }
    }
    g->bursting = false;
    engine_burst_end(g->engine);
}

/* ---- the answer ---- */

static void put_results(const range *g, depot_buf *out)
{
    for (int64_t i = 0; i < g->begun; i++) {
        depot_buf_adds(out, i == 0 ? "[" : ",");
        depot_buf_adds(out, g->results[i] == NULL ? "null" : g->results[i]);
    }
    depot_buf_adds(out, "]");
}

/* It does not need the range any more. */
static void let_go(run *r)
{
    const range *g = r->range;
    depot_err    ignored = { 0 }; /* it was JSON before */

    r->range = NULL;
    if (r->args_text != NULL) {
        const char *job = depot_json_text(r->arena, g->job);
        r->args_text = depot_strndup(r->arena, r->args_text, r->args_len);
        r->members = depot_json_parse(r->arena, job, strlen(job), &ignored);
    }
}

static depot_range_going *part(range *g)
{
    depot_range_going *going = depot_alloc(g->arena, (g->open + 1) * sizeof(*going));
    size_t             n = 0;

    for (run *r = g->engine->runs; r != NULL; r = r->next) {
        if (r->range == g && r->place != NO_PLACE && n < g->open) {
            going[n++] = (depot_range_going){ .place = r->place, .id = r->id };
            let_go(r);
        }
    }
    return going;
}

static void drop_idle(range *g)
{
    for (run *r; (r = g->idle) != NULL;) {
        g->idle = r->next_idle;
        drop(r);
    }
}

static void answer(range *g)
{
    engine                              *e = g->engine;
    DEPOT_AUTO(depot_buf_free) depot_buf results = { 0 };
    depot_range_result res = { .begun = g->begun, .ended = g->ended, .n_ended = g->n_ended, .n_going = g->open, .busy_us = g->busy_us };
    range            **at = &e->ranges;

    if (g->results != NULL) {
        put_results(g, &results);
        res.results = results.data;
    }
    res.going = part(g);
    while (*at != g) {
        at = &(*at)->next;
    }
    *at = g->next;
    e->n_ranges--;
    drop_idle(g);
    e->opt.ranged(e->opt.arg, g->id, &res);
    free(g->ended);
    depot_arena_free(g->arena);
    free(g);
}

/* ---- turns ---- */

static void on_timer(uv_timer_t *timer);

/* Answers where it is time, and sees to it that somebody looks again. */
static void settle(engine *e)
{
    int64_t now = depot_now_ms(), due = INT64_MAX;
    bool    any = false;

    for (range *g = e->ranges, *next; g != NULL; g = next) {
        next = g->next;
        if ((g->open == 0 && !has_more(g)) || now >= g->until_ms) {
            answer(g);
            continue;
        }
        any = any || may_begin(g);
        due = g->until_ms < due ? g->until_ms : due;
    }
    if (any) {
        range_wake(e);
    } else {
        uv_idle_stop(e->range_turns);
    }
    if (due < INT64_MAX) {
        uv_update_time(e->opt.loop);
        uv_timer_start(e->range_timer, on_timer, (uint64_t)(due - now), 0);
    }
}

static void on_timer(uv_timer_t *timer)
{
    settle(timer->data);
}

static void on_turn(uv_idle_t *idle)
{
    engine *e = idle->data;
    range  *g = e->ranges;

    while (g != NULL && !may_begin(g)) {
        g = g->next;
    }
    if (g != NULL) {
        burst(g);
    }
    settle(e);
}

void range_wake(engine *e)
{
    uv_idle_start(e->range_turns, on_turn); /* fails only without a function */
}

void range_sliced(range *g, int by)
{
    g->sliced += (size_t)by;
}

void range_drop_idle(engine *e)
{
    for (range *g = e->ranges; g != NULL; g = g->next) {
        drop_idle(g);
    }
}

/* ---- from outside ---- */

bool engine_range(engine *e, const range_spec *spec, depot_err *err)
{
    depot_arena *arena = depot_arena_new();
    range       *g = depot_xalloc(sizeof(*g)), **at = &e->ranges;

    *g = (range){ .engine = e, .arena = arena, .id = spec->id, .first = spec->first, .n = spec->n, .room = spec->room,
                  .timeout_ms = spec->timeout_ms, .until_ms = INT64_MAX };
    if (spec->n < 1 || spec->first < 0 || spec->first + spec->n > PLACES || spec->room < 1 ||
        strlen(spec->job_id) != ID_LENGTH || strlen(spec->token) > ID_LENGTH || spec->args == NULL) {
        depot_arena_free(arena);
        free(g);
        return DEPOT_FAIL(err, BUG, "a range of %lld jobs from %lld on", (long long)spec->n, (long long)spec->first);
    }
    g->name = depot_strdup(arena, spec->name);
    g->job_id = depot_strdup(arena, spec->job_id);
    g->token = depot_strdup(arena, spec->token);
    g->at = depot_strdup(arena, spec->args);
    g->job = depot_json_pack(arena, "o", spec->job);
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = g;
    e->n_ranges++;
    range_wake(e);
    return true;
}

static range *find(const engine *e, uint64_t id)
{
    range *g = e->ranges;

    while (g != NULL && g->id != id) {
        g = g->next;
    }
    return g;
}

void engine_enough(engine *e, uint64_t id)
{
    range *g = find(e, id);

    if (g != NULL) { /* else it has answered meanwhile */
        g->enough = true;
        range_wake(e);
    }
}

static run *parked_job(const range *g)
{
    run *r = g->engine->runs;

    while (r != NULL && !(r->range == g && run_is_parked(r))) {
        r = r->next;
    }
    return r;
}

void range_cancel(engine *e, uint64_t id)
{
    run *r;

    engine_enough(e, id);
    for (range *g; (g = find(e, id)) != NULL && (r = parked_job(g)) != NULL;) { /* the end of one may be the range's answer */
        engine_interrupt(r, KILL_CANCEL);
    }
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void range_open(engine *e)
{
    e->range_turns = depot_xalloc(sizeof(*e->range_turns));
    e->range_timer = depot_xalloc(sizeof(*e->range_timer));
    uv_idle_init(e->opt.loop, e->range_turns);
    uv_timer_init(e->opt.loop, e->range_timer);
    uv_unref((uv_handle_t *)e->range_timer);
    e->range_turns->data = e->range_timer->data = e;
}

void range_close(engine *e)
{
    uv_close((uv_handle_t *)e->range_turns, free_handle);
    uv_close((uv_handle_t *)e->range_timer, free_handle);
}
