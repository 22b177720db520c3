/* wait.c - the one place where scripts wait: they yield to the loop, or, where Lua cannot yield (comparison functions
 * of sort, replacement functions of gsub, __tostring), they block it with their own deadline. */
#include <stdlib.h>
#include <time.h>

#include "lua/run.h"

enum { SLICE_MS = 500 };

bool run_may_wait(lua_State *L)
{
    const run *r = vm_run(L);

    if (r->mode == RUN_DECLARE) {
        fail_raisef(L, DEPOT_E_FORBIDDEN,
                    "this cannot be called at the top of a handler's file, only while a job runs");
    }
    if (r->mode == RUN_EVAL) {
        fail_raisef(L, DEPOT_E_FORBIDDEN, "this cannot be called in an expression");
    }
    return true;
}

void op_keep(run *r, op *o)
{
    if (r->last != NULL) {
        r->last->kind->free(r->last);
    }
    r->last = o;
}

void op_done(op *o)
{
    run *r = o->run;

    o->finished = true;
    if (r == NULL) {
        o->kind->free(o);
    } else if (r->op == o && !r->blocking) {
        engine_step(r);
    }
}

void op_orphan(run *r)
{
    op *o = r->op;

    r->op = NULL;
    if (o == NULL) {
        return;
    }
    o->run = NULL;
    if (o->finished) {
        o->kind->free(o);
    } else {
        o->kind->abandon(o);
    }
}

static int finish(lua_State *L)
{
    run *r = vm_run(L);
    op  *o = r->op;

    vm_check(L);
    r->op = NULL;
    op_keep(r, o);
    return o->kind->push(L, o);
}

static int resumed(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return finish(L);
}

void run_wait_here(lua_State *L)
{
    run *r = vm_run(L);
    op  *o = r->op;

    r->blocking = true;
    while (!o->finished && r->killed == KILL_NONE) {
        int64_t now = depot_now_ms();
        if (now >= r->deadline_ms) {
            r->killed = KILL_WALL;
            break;
        }
        if (r->engine->opt.beat != NULL) {
            r->engine->opt.beat(r->engine->opt.arg);
        }
        o->kind->block(o, now + SLICE_MS < r->deadline_ms ? now + SLICE_MS : r->deadline_ms);
    }
    r->blocking = false;
    if (r->killed != KILL_NONE) {
        op_orphan(r);
    }
}

int run_wait(lua_State *L, op *o)
{
    run *r = vm_run(L);

    r->last = NULL;
    r->op = o;
    if (lua_isyieldable(L)) {
        return lua_yieldk(L, 0, 0, resumed);
    }
    run_wait_here(L);
    return finish(L);
}

/* ---- sleep ---- */

typedef struct sleep_op {
    op         base;
    engine    *engine;
    uv_timer_t timer;
    int64_t    due_ms;
    bool       is_open; /* the timer is the loop's */
} sleep_op;

static void sleep_closed(uv_handle_t *handle)
{
    sleep_op *s = handle->data;

    s->engine->n_busy--;
    free(s);
}

static void sleep_free(op *o)
{
    sleep_op *s = (sleep_op *)(void *)o;

    if (s->is_open) {
        uv_close((uv_handle_t *)&s->timer, sleep_closed);
    } else {
        free(s);
    }
}

static void sleep_block(op *o, int64_t until_ms)
{
    sleep_op       *s = (sleep_op *)(void *)o;
    int64_t         end = s->due_ms < until_ms ? s->due_ms : until_ms;
    int64_t         left = end - depot_now_ms();
    struct timespec t = { left > 0 ? left / 1000 : 0, left > 0 ? (long)(left % 1000) * 1000000 : 0 };

    nanosleep(&t, NULL); /* shorter after a signal: the caller looks at the clock and comes back */
    o->finished = depot_now_ms() >= s->due_ms;
}

static int sleep_push(lua_State *L, op *o)
{
    (void)L;
    (void)o;
    return 0;
}

static const op_kind sleep_kind = { "sleep", sleep_block, sleep_push, sleep_free, sleep_free };

static void on_time(uv_timer_t *timer)
{
    sleep_op *s = timer->data;

    op_done(&s->base);
}

int run_sleep(lua_State *L, int64_t ms)
{
    run      *r = vm_run(L);
    sleep_op *s = depot_xalloc(sizeof(*s));

    s->base.kind = &sleep_kind;
    s->base.run = r;
    s->engine = r->engine;
    op_keep(r, &s->base);
    s->due_ms = depot_now_ms() + ms;
    s->timer.data = s;
    uv_update_time(r->engine->opt.loop); /* the script may have run for a while */
    uv_timer_init(r->engine->opt.loop, &s->timer);
    uv_timer_start(&s->timer, on_time, (uint64_t)ms, 0);
    s->is_open = true;
    r->engine->n_busy++;
    return run_wait(L, &s->base);
}
