/* bind_sql.c - rows whose function is a statement, among them methods of the job; and what is made of these: job:tx and
 * job:checkpoint. */
#include <string.h>

#include "lua/bind_db.h"

enum { JSON_MAX = 16 << 20 };

/* ---- arguments: those of a method begin behind the job itself ---- */

static int wrong_type(lua_State *L, const bound_fn *fn, size_t i, int at)
{
    return fail_raisef(L, DEPOT_E_INVALID, "%s: argument %zu (%s) must be a %s, not %s", fn->row->name, i + 1,
                       fn->sig.args[i].name, arg_type_name(fn->sig.args[i].type),
                       lua_isnoneornil(L, at) ? "nothing" : luaL_typename(L, at));
}

static depot_val json_val(lua_State *L, int at, depot_arena *arena)
{
    run *r = vm_run(L);

    depot_buf_reset(&r->scratch);
    value_encode(L, at, &r->scratch, JSON_MAX);
    return DEPOT_TEXT(depot_strndup(arena, r->scratch.data, r->scratch.len));
}

static depot_val read_val(lua_State *L, const bound_fn *fn, size_t i, int at, depot_arena *arena)
{
    int type = lua_type(L, at), exact = 1;

    switch (fn->sig.args[i].type) {
    case ARG_STRING:
        return type == LUA_TSTRING ? DEPOT_TEXT(bind_text(L, at, fn->sig.args[i].name, arena))
                                   : (wrong_type(L, fn, i, at), DEPOT_NULL);
    case ARG_INTEGER:
        (void)lua_tointegerx(L, at, &exact);
        return type == LUA_TNUMBER && exact ? DEPOT_INT(lua_tointeger(L, at)) : (wrong_type(L, fn, i, at), DEPOT_NULL);
    case ARG_NUMBER:
        return type == LUA_TNUMBER ? DEPOT_REAL(lua_tonumber(L, at)) : (wrong_type(L, fn, i, at), DEPOT_NULL);
    case ARG_BOOLEAN:
        return type == LUA_TBOOLEAN ? DEPOT_BOOL(lua_toboolean(L, at)) : (wrong_type(L, fn, i, at), DEPOT_NULL);
    case ARG_TABLE:
        return type == LUA_TTABLE ? json_val(L, at, arena) : (wrong_type(L, fn, i, at), DEPOT_NULL);
    case ARG_ANY:
        break;
    }
    return json_val(L, at, arena);
}

static void read_call(lua_State *L, depot_arena *arena, const void *arg, statement *out)
{
    const bound_fn *fn = arg;
    const run      *r = vm_run(L);
    bool            is_method = (fn->row->flags & DEPOT_LUA_JOB) != 0;
    int             first = is_method ? 2 : 1, n = lua_gettop(L) - first + 1;

    if (n > (int)fn->sig.n) {
        fail_raisef(L, DEPOT_E_INVALID, "%s takes at most %zu arguments, not %d", fn->row->name, fn->sig.n, n);
    }
    *out = (statement){ .sql = fn->row->sql, .want = (fn->row->flags & DEPOT_LUA_LEASE) != 0 ? SHAPE_LEASE : SHAPE_VALUE };
    out->vals = depot_alloc(arena, (fn->sig.n + 2) * sizeof(*out->vals));
    if (is_method) {
        out->vals[out->n++] = DEPOT_TEXT(r->job_id);
        out->vals[out->n++] = DEPOT_TEXT(r->token);
    }
    for (size_t i = 0; i < fn->sig.n; i++) {
        int at = first + (int)i;
        if (lua_isnoneornil(L, at) && !fn->sig.args[i].optional) {
            wrong_type(L, fn, i, at);
        }
        out->vals[out->n++] = lua_isnoneornil(L, at) ? DEPOT_NULL : read_val(L, fn, i, at, arena);
    }
    depot_err err = { 0 };
    if (fn->row->prepare != NULL && !fn->row->prepare(fn->ctx, arena, out->vals, out->n, &err)) {
        (void)fail_raise(L, &err);
    }
}

/* There is no job: what it would do becomes a line of the log. */
static int only_tell(lua_State *L, const bound_fn *fn)
{
    run *r = vm_run(L);

    depot_buf_reset(&r->scratch);
    depot_buf_addf(&r->scratch, "%s", fn->row->name);
    for (int i = 2; i <= lua_gettop(L); i++) {
        depot_buf_addf(&r->scratch, " %s", luaL_tolstring(L, i, NULL));
        lua_pop(L, 1);
    }
    (void)bind_log(L, DEPOT_LOG_INFO, r->scratch.data, r->scratch.len, NULL); /* what is over the limit is told there */
    lua_pushboolean(L, true);
    return (fn->row->flags & DEPOT_LUA_LEASE) != 0;
}

int bind_sql_fn(lua_State *L)
{
    const bound_fn *fn = lua_touserdata(L, lua_upvalueindex(1));
    const run      *r = vm_run(L);

    run_may_wait(L);
    if (r->engine->opt.offline && (fn->row->flags & DEPOT_LUA_JOB) != 0) {
        return only_tell(L, fn);
    }
    if ((fn->row->flags & DEPOT_LUA_JOB) != 0 && (r->token == NULL || r->job_id == NULL)) {
        return fail_raisef(L, DEPOT_E_UNAVAILABLE, "%s: this run is no leased job", fn->row->name);
    }
    return statement_run(L, read_call, fn);
}

/* ---- methods that are made of these ---- */

void bind_sql_push(lua_State *L, const char *name)
{
    engine *e = vm_of(L)->engine;

    for (size_t i = 0; i < e->n_bound; i++) {
        if (strcmp(e->bound[i].row->name, name) == 0) {
            lua_pushlightuserdata(L, &e->bound[i]);
            lua_pushcclosure(L, bind_sql_fn, 1);
            lua_pushnil(L); /* in the place of the job */
            return;
        }
    }
    fail_raisef(L, DEPOT_E_UNAVAILABLE, "no plugin that runs has %s", name);
}

enum { CHECKED, DONE, HELD, ASKED, COMPUTED, KEPT };

/* The function's results stand above the transaction itself. Upvalue 1: the function. */
static int in_tx(lua_State *L, int status, lua_KContext phase)
{
    (void)status;
    switch (phase) {
    case CHECKED:
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_pushvalue(L, 1);
        lua_callk(L, 1, LUA_MULTRET, DONE, in_tx);
        return in_tx(L, LUA_OK, DONE);
    case DONE: /* last of all, so that the job's row is locked for no longer than the commit takes */
        bind_sql_push(L, "job.hold");
        lua_callk(L, 1, 0, HELD, in_tx);
        return in_tx(L, LUA_OK, HELD);
    default:
        return lua_gettop(L) - 1;
    }
}

static int tx_body(lua_State *L)
{
    lua_settop(L, 1);
    bind_sql_push(L, "job.heartbeat");
    lua_callk(L, 1, 0, CHECKED, in_tx);
    return in_tx(L, LUA_OK, CHECKED);
}

static int all_results(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return lua_gettop(L);
}

int bind_sql_job_tx(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 3);
    lua_pushcfunction(L, bind_db_tx);
    lua_insert(L, 1);
    lua_pushvalue(L, 3);
    lua_pushcclosure(L, tx_body, 1);
    lua_replace(L, 3);
    lua_remove(L, 2); /* the job */
    lua_callk(L, 2, LUA_MULTRET, 0, all_results);
    return all_results(L, LUA_OK, 0);
}

static void drop_null(lua_State *L)
{
    if (value_is_null(L, -1)) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
}

/* Stack: 1 job, 2 name, 3 function, 4 what the phase before gave. */
static int checkpoint(lua_State *L, int status, lua_KContext phase)
{
    run *r = vm_run(L);

    (void)status;
    if (phase == ASKED && lua_istable(L, 4)) {
        lua_rawgeti(L, 4, 1);
        drop_null(L);
        return 1;
    }
    if (phase == ASKED) {
        lua_settop(L, 3);
        lua_pushvalue(L, 3);
        lua_callk(L, 0, 1, COMPUTED, checkpoint);
        return checkpoint(L, LUA_OK, COMPUTED);
    }
    if (phase == COMPUTED) {
        if (lua_isnil(L, 4)) {
            value_push_null(L);
            lua_replace(L, 4);
        }
        depot_buf_reset(&r->scratch);
        value_encode(L, 4, &r->scratch, r->engine->opt.result_max); /* raises when it is larger than a result may be */
        bind_sql_push(L, "job.record");
        lua_pushvalue(L, 2);
        lua_pushvalue(L, 4);
        lua_callk(L, 3, 0, KEPT, checkpoint);
    }
    value_push(L, value_json(L, 4, run_scratch(r))); /* as a later attempt will see it */
    drop_null(L);
    return 1;
}

int bind_sql_checkpoint(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TSTRING);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    lua_settop(L, 3);
    bind_sql_push(L, "job.recorded");
    lua_pushvalue(L, 2);
    lua_callk(L, 2, 1, ASKED, checkpoint);
    return checkpoint(L, LUA_OK, ASKED);
}
