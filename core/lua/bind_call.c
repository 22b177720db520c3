/* bind_call.c - functions of plugins: arguments checked by the signature and copied, the C function run on the thread
 * pool while the script waits, its results pushed. The C function never sees Lua, and Lua owns nothing of it. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/abort.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/unit.h"
#include "lua/run.h"

enum { RESULTS_MAX = 8, OVERDUE_MS = 30000 };

typedef struct argument {
    bool              given;
    const char       *text;
    size_t            n;
    int64_t           integer;
    double            number;
    bool              boolean;
    const depot_json *json;
} argument;

typedef struct result {
    enum { RESULT_STR, RESULT_INT, RESULT_BOOL, RESULT_JSON } type;
    const char       *text;
    size_t            n;
    int64_t           integer;
    const depot_json *json;
} result;

struct depot_call {
    op              base;
    engine         *engine;
    const bound_fn *fn;
    depot_arena    *arena;
    argument        args[SIGNATURE_ARGS_MAX];
    result          results[RESULTS_MAX];
    size_t          n_results;
    bool            ok;
    depot_err       err;
    const char     *label;
    int64_t         deadline_ms;
    atomic_bool     canceled;
    uv_work_t       work;
    bool            in_pool;  /* on_work_done has not come yet */
    bool            released; /* the script has no use for it any more */
    pthread_mutex_t lock;     /* guards worked */
    pthread_cond_t  has_worked;
    bool            worked;
    depot_call     *next_orphan;
    void           *user; /* of functions with a push of their own */
};

static depot_call *call_of(op *o)
{
    return (depot_call *)(void *)o;
}

/* ---- what the C function sees ---- */

depot_arena *depot_call_arena(depot_call *call)
{
    return call->arena;
}

static const argument *arg_at(const depot_call *call, size_t i)
{
    if (i >= call->fn->sig.n) {
        base_abort("depot.%s asks for argument %zu, its signature has %zu", call->fn->row->name, i, call->fn->sig.n);
    }
    return &call->args[i];
}

bool depot_arg_given(depot_call *call, size_t i)
{
    return arg_at(call, i)->given;
}

const char *depot_arg_str(depot_call *call, size_t i, size_t *out_len)
{
    const argument *a = arg_at(call, i);

    if (out_len != NULL) {
        *out_len = a->n;
    }
    return a->text;
}

int64_t depot_arg_int(depot_call *call, size_t i)
{
    return arg_at(call, i)->integer;
}

double depot_arg_num(depot_call *call, size_t i)
{
    return arg_at(call, i)->number;
}

bool depot_arg_bool(depot_call *call, size_t i)
{
    return arg_at(call, i)->boolean;
}

const depot_json *depot_arg_json(depot_call *call, size_t i)
{
    return arg_at(call, i)->json;
}

static result *next_result(depot_call *call)
{
    if (call->n_results == RESULTS_MAX) {
        base_abort("depot.%s returns more than %d values", call->fn->row->name, RESULTS_MAX);
    }
    return &call->results[call->n_results++];
}

void depot_return_str(depot_call *call, const void *bytes, size_t n)
{
    *next_result(call) = (result){ .type = RESULT_STR, .text = depot_strndup(call->arena, bytes, n), .n = n };
}

void depot_return_int(depot_call *call, int64_t n)
{
    *next_result(call) = (result){ .type = RESULT_INT, .integer = n };
}

void depot_return_bool(depot_call *call, bool b)
{
    *next_result(call) = (result){ .type = RESULT_BOOL, .integer = b };
}

void depot_return_json(depot_call *call, const depot_json *value)
{
    *next_result(call) = (result){ .type = RESULT_JSON, .json = value };
}

/* ---- life ---- */

static void destroy(depot_call *call)
{
    pthread_mutex_destroy(&call->lock);
    pthread_cond_destroy(&call->has_worked);
    depot_arena_free(call->arena);
    free(call);
}

static void call_free(op *o)
{
    depot_call *call = call_of(o);

    call->released = true;
    if (!call->in_pool) {
        destroy(call);
    }
}

static void call_abandon(op *o)
{
    depot_call *call = call_of(o);

    atomic_store(&call->canceled, true);
    call->released = true;
    call->next_orphan = call->engine->orphans;
    call->engine->orphans = call;
}

static void forget_orphan(engine *e, const depot_call *call)
{
    for (depot_call **at = &e->orphans; *at != NULL; at = &(*at)->next_orphan) {
        if (*at == call) {
            *at = call->next_orphan;
            return;
        }
    }
}

size_t bind_call_overdue(const engine *e)
{
    size_t n = 0;

    for (const depot_call *call = e->orphans; call != NULL; call = call->next_orphan) {
        n += depot_now_ms() > call->deadline_ms + OVERDUE_MS;
    }
    return n;
}

/* On a thread of the pool. */
static void work(uv_work_t *req)
{
    depot_call *call = req->data;
    unit        u = { .deadline_ms = call->deadline_ms, .canceled = &call->canceled };

    unit_enter(&u);
    log_context_set("script", call->label);
    call->ok = call->fn->row->fn(call->fn->ctx, call, &call->err);
    log_context_clear();
    unit_leave(&u);
    pthread_mutex_lock(&call->lock);
    call->worked = true;
    pthread_cond_signal(&call->has_worked);
    pthread_mutex_unlock(&call->lock);
}

/* Back on the loop. */
static void on_work_done(uv_work_t *req, int status)
{
    depot_call *call = req->data;

    (void)status; /* nobody cancels what waits in the pool's queue */
    call->in_pool = false;
    call->engine->n_busy--;
    if (call->released) {
        forget_orphan(call->engine, call);
        destroy(call);
    } else if (!call->base.finished) {
        op_done(&call->base);
    }
}

static void call_block(op *o, int64_t until_ms)
{
    depot_call *call = call_of(o);

    pthread_mutex_lock(&call->lock);
    while (!call->worked && clock_cond_wait(&call->has_worked, &call->lock, until_ms)) {
    }
    o->finished = call->worked;
    pthread_mutex_unlock(&call->lock);
}

static int call_push(lua_State *L, op *o)
{
    depot_call *call = call_of(o);

    if (!call->ok) {
        return fail_raise(L, &call->err);
    }
    if (call->fn->push != NULL) {
        return call->fn->push(L, call);
    }
    luaL_checkstack(L, RESULTS_MAX, "too many results");
    for (size_t i = 0; i < call->n_results; i++) {
        const result *r = &call->results[i];
        switch (r->type) {
        case RESULT_STR:
            lua_pushlstring(L, r->text, r->n);
            break;
        case RESULT_INT:
            lua_pushinteger(L, r->integer);
            break;
        case RESULT_BOOL:
            lua_pushboolean(L, r->integer != 0);
            break;
        case RESULT_JSON:
            value_push(L, r->json);
            break;
        }
    }
    return (int)call->n_results;
}

static const op_kind call_kind = { "call", call_block, call_push, call_abandon, call_free };

/* ---- from Lua ---- */

static int wrong_type(lua_State *L, const bound_fn *fn, int i)
{
    const char *got = lua_isnoneornil(L, i + 1) ? "nothing" : luaL_typename(L, i + 1);

    return fail_raisef(L, DEPOT_E_INVALID, "depot.%s: argument %d (%s) must be a %s, not %s", fn->row->name, i + 1,
                       fn->sig.args[i].name, arg_type_name(fn->sig.args[i].type), got);
}

static void read_arg(lua_State *L, depot_call *call, int i)
{
    argument *a = &call->args[i];
    int       at = i + 1, exact = 1;

    switch (call->fn->sig.args[i].type) {
    case ARG_STRING:
        if (lua_type(L, at) != LUA_TSTRING) {
            wrong_type(L, call->fn, i);
        }
        a->text = lua_tolstring(L, at, &a->n);
        a->text = depot_strndup(call->arena, a->text, a->n);
        break;
    case ARG_INTEGER:
        a->integer = lua_type(L, at) == LUA_TNUMBER ? lua_tointegerx(L, at, &exact) : (exact = 0);
        break;
    case ARG_NUMBER:
        a->number = lua_type(L, at) == LUA_TNUMBER ? lua_tonumber(L, at) : (exact = 0);
        break;
    case ARG_BOOLEAN:
        exact = lua_isboolean(L, at);
        a->boolean = lua_toboolean(L, at);
        break;
    case ARG_TABLE:
        exact = lua_istable(L, at);
        a->json = exact ? value_json(L, at, call->arena) : NULL;
        break;
    case ARG_ANY:
        a->json = value_json(L, at, call->arena);
        break;
    }
    if (!exact) {
        wrong_type(L, call->fn, i);
    }
    a->given = true;
}

void **bind_call_place(depot_call *call)
{
    return &call->user;
}

void *bind_call_user(depot_call *call)
{
    return call->user;
}

depot_call *bind_call_new(run *r, const bound_fn *fn)
{
    depot_call *call = depot_xalloc(sizeof(*call));

    call->base.kind = &call_kind;
    call->base.run = r;
    call->engine = r->engine;
    call->fn = fn;
    call->arena = depot_arena_new();
    call->label = depot_strdup(call->arena, r->label);
    call->deadline_ms = r->deadline_ms;
    call->work.data = call;
    pthread_mutex_init(&call->lock, NULL);
    clock_cond_init(&call->has_worked);
    op_keep(r, &call->base);
    return call;
}

int bind_call_start(lua_State *L, depot_call *call)
{
    call->in_pool = true;
    call->engine->n_busy++;
    uv_queue_work(call->engine->opt.loop, &call->work, work, on_work_done); /* fails only without a function */
    return run_wait(L, &call->base);
}

int bind_call_fn(lua_State *L)
{
    const bound_fn *fn = lua_touserdata(L, lua_upvalueindex(1));
    run            *r = vm_run(L);
    int             n = lua_gettop(L);

    run_may_wait(L);
    if (r->engine->opt.offline) {
        return fail_raisef(L, DEPOT_E_UNAVAILABLE, "depot.%s works in the daemon only", fn->row->name);
    }
    if (n > (int)fn->sig.n) {
        return fail_raisef(L, DEPOT_E_INVALID, "depot.%s takes at most %zu arguments, not %d", fn->row->name, fn->sig.n,
                           n);
    }
    depot_call *call = bind_call_new(r, fn);
    for (int i = 0; i < (int)fn->sig.n; i++) {
        if (!lua_isnoneornil(L, i + 1)) {
            read_arg(L, call, i);
        } else if (!fn->sig.args[i].optional) {
            return wrong_type(L, fn, i);
        }
    }
    return bind_call_start(L, call);
}
