/* engine.c - life of a script: state, steps between waits, end. */
#include "lua/engine.h"

#include <stdlib.h>
#include <string.h>

#include "lua/http.h"
#include "lua/range.h"

enum { IDLE_STATES_MAX = 64, TURN_MS = 500, ENGINE_SHARES = 4 /* all scripts together, in limits of one */ };

static const char *const mode_names[] = {
    [RUN_HANDLER] = "handler", [RUN_FILE] = "file", [RUN_EVAL] = "eval", [RUN_DECLARE] = "declare"
};

const char *run_mode_name(run_mode mode)
{
    return mode_names[mode];
}

bool run_mode_by_name(const char *name, run_mode *out)
{
    for (size_t i = 0; i < DEPOT_N(mode_names); i++) {
        if (strcmp(name, mode_names[i]) == 0) {
            *out = (run_mode)i;
            return true;
        }
    }
    return false;
}

depot_arena *run_scratch(run *r)
{
    depot_arena_free(r->scratch_arena);
    r->scratch_arena = depot_arena_new();
    return r->scratch_arena;
}

/* ---- the end of a run ---- */

static void explain_kill(run *r)
{
    switch ((kill_reason)r->killed) {
    case KILL_WALL:
        DEPOT_FAIL(&r->err, TIMEOUT, "%s was stopped at its deadline after %lld ms", r->label,
                   (long long)(depot_now_us() - r->started_us) / 1000);
        depot_hint(&r->err, "give it a longer timeout, or less to do at a time");
        break;
    case KILL_CPU:
        DEPOT_FAIL(&r->err, TIMEOUT, "%s was stopped after %lld ms of CPU time without a wait", r->label,
                   (long long)r->engine->opt.cpu_max_ms);
        depot_hint(&r->err, "an endless loop? long computations may call depot.sleep(0) now and then");
        break;
    case KILL_CANCEL:
        DEPOT_FAIL(&r->err, CANCELED, "%s was canceled", r->label);
        break;
    case KILL_NONE:
        DEPOT_FAIL(&r->err, LUA, "%s ended in a way that it should not", r->label);
        break;
    }
}

void run_free(run *r)
{
    if (r->last != NULL) {
        r->last->kind->free(r->last);
    }
    depot_buf_free(&r->scratch);
    depot_buf_free(&r->json);
    depot_buf_free(&r->trace);
    depot_arena_free(r->scratch_arena);
    depot_arena_free(r->args_arena);
    depot_arena_free(r->arena);
    free(r);
}

void engine_give_vm(engine *e, vm *v, bool good)
{
    size_t n = 0;

    for (const vm *i = e->idle; i != NULL; i = i->next) {
        n++;
    }
    if (!good || n >= IDLE_STATES_MAX || !vm_reset(v)) {
        vm_free(v);
        return;
    }
    v->next = e->idle;
    e->idle = v;
}

void engine_unlink(run *r)
{
    engine *e = r->engine;

    if (r->prev != NULL) {
        r->prev->next = r->next;
    } else {
        e->runs = r->next;
    }
    if (r->next != NULL) {
        r->next->prev = r->prev;
    }
    e->n_runs--;
}

depot_script_result engine_result(const run *r)
{
    return (depot_script_result){ .ok = r->ok,
                                  .json = r->ok ? r->json.data : "null",
                                  .err = r->err,
                                  .where = r->ok ? "" : r->where,
                                  .trace = r->ok || r->trace.data == NULL ? "" : r->trace.data,
                                  .cpu_us = r->cpu_us,
                                  .wall_us = depot_now_us() - r->started_us,
                                  .snoozed = !r->ok && r->is_snoozed && strcmp(depot_err_id(&r->err), SNOOZED) == 0,
                                  .delay_ms = r->snooze_ms };
}

static void run_end(run *r)
{
    engine *e = r->engine;

    op_orphan(r);
    bind_db_end(r);
    if (!r->ok && (r->killed != KILL_NONE || r->err.code == DEPOT_OK)) {
        explain_kill(r);
    }
    if (r->range != NULL && range_ended(r)) {
        return;
    }
    engine_unlink(r);
    engine_give_vm(e, r->vm, r->killed == KILL_NONE);
    r->vm = NULL;
    r->ended = true;
    if (r->mode == RUN_DECLARE) {
        return; /* engine_load looks at it */
    }
    depot_script_result res = engine_result(r);
    e->opt.done(e->opt.arg, r->id, &res);
    run_free(r);
}

/* ---- steps ---- */

bool run_is_parked(const run *r)
{
    return r->op != NULL || r->sliced;
}

void engine_interrupt(run *r, kill_reason reason)
{
    r->killed = reason;
    op_orphan(r);
    turn_remove(r);
    engine_step(r);
}

static void arm_wall(engine *e);

static run *overdue_run(const engine *e, int64_t now, int64_t *out_next_ms)
{
    *out_next_ms = INT64_MAX;
    for (run *r = e->runs; r != NULL; r = r->next) {
        if (run_is_parked(r) && r->deadline_ms <= now) {
            return r;
        }
        if (run_is_parked(r) && r->deadline_ms < *out_next_ms) {
            *out_next_ms = r->deadline_ms;
        }
    }
    return NULL;
}

static void end_overdue(engine *e)
{
    int64_t next;

    for (run *r; (r = overdue_run(e, depot_now_ms(), &next)) != NULL;) {
        engine_interrupt(r, KILL_WALL);
    }
}

static void on_wall(uv_timer_t *timer)
{
    engine *e = timer->data;

    e->wall_due_ms = INT64_MAX;
    end_overdue(e);
    arm_wall(e);
}

static void arm_wall(engine *e)
{
    int64_t now = depot_now_ms();
    int64_t next;

    if (overdue_run(e, now, &next) != NULL) {
        next = now;
    }
    if (next < e->wall_due_ms) {
        e->wall_due_ms = next;
        uv_update_time(e->opt.loop);
        uv_timer_start(e->wall, on_wall, (uint64_t)(next - now), 0);
    }
}

/* Several scripts may run one after the other before the loop turns: what the loop would do in time is done between
 * them. */
static void between_steps(engine *e)
{
    int64_t now = depot_now_ms();

    if (now - e->turned_ms < TURN_MS) {
        return;
    }
    e->turned_ms = now;
    if (e->opt.beat != NULL) {
        e->opt.beat(e->opt.arg);
    }
    end_overdue(e);
}

static stretch stretch_of(run *r)
{
    const engine *e = r->engine;
    bool          may_slice = r->mode == RUN_HANDLER || r->mode == RUN_FILE;

    return (stretch){
        .co = r->co,
        .reason = &r->killed,
        .wall_us = r->deadline_ms * 1000,
        .cpu_max_us = e->opt.cpu_max_ms * 1000 - r->cpu_since_wait_us,
        .slice_us = may_slice ? e->opt.slice_us : 0,
    };
}

static int go_on(run *r)
{
    int n;
    int status = lua_resume(r->co, r->vm->L, 0, &n);

    if (status == LUA_YIELD) {
        lua_pop(r->co, n);
    }
    return status;
}

static void add_cpu(run *r, int64_t cpu_us)
{
    r->cpu_us += cpu_us;
    r->cpu_since_wait_us = r->sliced ? r->cpu_since_wait_us + cpu_us : 0;
}

/* Runs it until it waits, its slice is over, or it ends. */
static int resume(run *r)
{
    engine       *e = r->engine;
    const stretch what = stretch_of(r);

    if (r->sliced && r->range != NULL) {
        range_sliced(r->range, -1);
    }
    r->sliced = false;
    deadline_begin(&e->deadline, &what);
    int status = go_on(r);
    add_cpu(r, deadline_end(&e->deadline));
    return status;
}

/* It has given back control. false: it was resumed again meanwhile, to its end. */
static bool look_after(run *r, int status)
{
    if (status != LUA_YIELD) {
        run_end(r);
    } else if (r->killed != KILL_NONE) {
        engine_interrupt(r, (kill_reason)r->killed); /* the deadline passed in the very moment of yielding */
        return false;
    } else if (run_is_parked(r)) {
        if (r->sliced) {
            turn_add(r);
        }
        if (r->sliced && r->range != NULL) {
            range_sliced(r->range, 1);
        }
        if (r->deadline_ms < r->engine->wall_due_ms) {
            arm_wall(r->engine);
        }
    } else {
        run_end(r); /* cannot be: nobody else yields to us */
    }
    return true;
}

void engine_step(run *r)
{
    engine *e = r->engine;
    bool    is_of_range = r->range != NULL;

    e->nested++;
    (void)look_after(r, resume(r));
    if (is_of_range) {
        range_wake(e);
    }
    if (--e->nested == 0) {
        between_steps(e);
    }
}

void engine_burst_begin(engine *e)
{
    e->nested++;
}

/* How long it computed is taken from the wall clock, which asks no kernel: nothing else was done meanwhile. */
bool engine_burst(run *r, bool is_first)
{
    engine       *e = r->engine;
    const stretch what = stretch_of(r);

    if (is_first) {
        deadline_begin(&e->deadline, &what);
    } else {
        deadline_next(&e->deadline, &what);
    }
    int status = go_on(r);
    deadline_pause(&e->deadline);
    add_cpu(r, depot_now_us() - r->started_us);
    return look_after(r, status);
}

void engine_burst_end(engine *e)
{
    (void)deadline_end(&e->deadline); /* each run has its own figures */
    if (--e->nested == 0) {
        between_steps(e);
    }
}

/* ---- starting ---- */

void engine_drop_idle(engine *e)
{
    while (e->idle != NULL) {
        vm *v = e->idle;
        e->idle = v->next;
        vm_free(v);
    }
}

vm *engine_take_vm(engine *e)
{
    vm *v = e->idle;

    if (v == NULL) {
        return vm_new(e);
    }
    e->idle = v->next;
    v->next = NULL;
    return v;
}

/* What is short lies in the run itself: an arena for it would be most of what a waiting script costs here. */
static const char *keep(run *r, char *place, size_t size, const char *text)
{
    size_t n = text == NULL ? 0 : strlen(text);

    if (text == NULL || n >= size) {
        return depot_strdup(r->arena, text);
    }
    return memcpy(place, text, n + 1);
}

static bool parse_arg(run *r, const run_spec *spec, depot_err *err)
{
    if (spec->arg_len == 0) {
        return true;
    }
    r->args_arena = depot_arena_new();
    r->arg = depot_json_parse(r->args_arena, spec->arg, spec->arg_len, err);
    if (r->arg == NULL) {
        return depot_wrap(err, "argument of %s", r->label);
    }
    if (r->mode == RUN_HANDLER) { /* nothing that the script has to see */
        r->token = keep(r, r->token_text, sizeof(r->token_text), depot_json_get_str(r->arg, "token", NULL));
        depot_json_unset(r->arg, "token");
        r->job_id = keep(r, r->id_text, sizeof(r->id_text), depot_json_get_str(r->arg, "id", NULL));
    }
    return true;
}

static const handler *find_handler(const engine *e, const char *name)
{
    for (size_t i = 0; i < e->n_handlers; i++) {
        if (strcmp(e->handlers[i].name, name) == 0) {
            return &e->handlers[i];
        }
    }
    return NULL;
}

run *run_new(engine *e, const run_spec *spec, depot_err *err)
{
    run *r = depot_xalloc(sizeof(*r));
    vm  *v;

    r->engine = e;
    r->arena = depot_arena_new();
    r->id = spec->id;
    r->mode = spec->mode;
    r->handler = spec->mode == RUN_HANDLER ? find_handler(e, spec->name) : NULL;
    r->needs = r->handler == NULL ? NULL : r->handler->needs;
    r->name = r->handler != NULL ? r->handler->name : depot_strdup(r->arena, spec->name);
    r->label = spec->label == NULL ? r->name : keep(r, r->label_text, sizeof(r->label_text), spec->label);
    r->started_us = depot_now_us();
    r->deadline_ms = depot_now_ms() + spec->timeout_ms;
    if (!parse_arg(r, spec, err)) {
        run_free(r);
        return NULL;
    }
    v = engine_take_vm(e);
    if (v == NULL || !vm_prepare(v, r, err)) {
        if (v == NULL) {
            DEPOT_FAIL(err, MEMORY, "no memory for a Lua state within the limit of %lld bytes",
                       (long long)e->opt.memory_max);
        } else {
            vm_free(v);
        }
        run_free(r);
        return NULL;
    }
    r->next = e->runs;
    if (r->next != NULL) {
        r->next->prev = r;
    }
    e->runs = r;
    e->n_runs++;
    return r;
}

bool engine_run(engine *e, const run_spec *spec, depot_err *err)
{
    run *r = run_new(e, spec, err);

    if (r == NULL) {
        return false;
    }
    engine_step(r);
    return true;
}

void engine_cancel(engine *e, uint64_t id)
{
    range_cancel(e, id);
    for (run *r = e->runs; r != NULL; r = r->next) {
        if (r->id == id && run_is_parked(r)) {
            engine_interrupt(r, KILL_CANCEL);
            return;
        }
    }
}

size_t engine_running(const engine *e)
{
    return e->n_runs + e->n_ranges;
}

bool engine_is_idle(const engine *e)
{
    return engine_running(e) == 0 && e->n_busy == 0;
}

size_t engine_overdue(const engine *e)
{
    return bind_call_overdue(e);
}

/* ---- the engine itself ---- */

static bool bind_one(engine *e, depot_ctx *ctx, const depot_lua_fn *row, depot_err *err)
{
    for (size_t i = 0; i < e->n_bound; i++) {
        if (strcmp(e->bound[i].row->name, row->name) == 0) {
            return DEPOT_FAIL(err, PLUGIN, "the function depot.%s is offered twice", row->name);
        }
    }
    if ((row->fn == NULL) == (row->sql == NULL) || (row->sql == NULL && (row->flags & DEPOT_LUA_JOB) != 0)) {
        return DEPOT_FAIL(err, PLUGIN, "depot.%s must have a function or a statement, a method of jobs a statement", row->name);
    }
    bound_fn *fn = &e->bound[e->n_bound];
    fn->ctx = ctx;
    fn->row = row;
    if (!signature_parse(row->signature, &fn->sig, err)) {
        return depot_wrap(err, "depot.%s", row->name);
    }
    e->n_bound++;
    return true;
}

static bool bind_all(engine *e, depot_err *err)
{
    host  *h = e->opt.host;
    size_t n = bind_row_count;

    for (size_t i = 0; h != NULL && i < host_count(h); i++) {
        n += host_plugin(h, i)->n_lua;
    }
    e->bound = depot_alloc(e->arena, n * sizeof(*e->bound));
    for (size_t i = 0; i < bind_row_count; i++) {
        if (!bind_one(e, h == NULL ? NULL : host_plugin(h, 0), &bind_rows[i], err)) {
            return false;
        }
    }
    for (size_t i = 0; h != NULL && i < host_count(h); i++) {
        depot_ctx *ctx = host_plugin(h, i);
        for (size_t f = 0; f < ctx->n_lua; f++) {
            if (!bind_one(e, ctx, &ctx->lua[f], err)) {
                return depot_wrap(err, "plugin %s", ctx->name);
            }
        }
    }
    return true;
}

bool engine_new(const engine_options *options, engine **out, depot_err *err)
{
    engine *e = depot_xalloc(sizeof(*e));

    *out = NULL;
    e->opt = *options;
    e->arena = depot_arena_new();
    e->wall_due_ms = INT64_MAX;
    e->used_max = ENGINE_SHARES * (size_t)options->memory_max;
    if (!bind_all(e, err) || !deadline_init(&e->deadline, err)) {
        depot_arena_free(e->arena);
        free(e);
        return false;
    }
    e->wall = depot_xalloc(sizeof(*e->wall));
    uv_timer_init(e->opt.loop, e->wall);
    uv_unref((uv_handle_t *)e->wall);
    e->wall->data = e;
    turn_open(e);
    range_open(e);
    *out = e;
    return true;
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void engine_free(engine *e)
{
    if (e == NULL) {
        return;
    }
    engine_drop_idle(e);
    http_close(e);
    uv_close((uv_handle_t *)e->wall, free_handle);
    turn_close(e);
    range_close(e);
    deadline_fini(&e->deadline);
    depot_arena_free(e->arena);
    free(e);
}
