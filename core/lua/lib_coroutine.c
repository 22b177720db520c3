/* lib_coroutine.c - coroutines of scripts. Three things differ from Lua's library: the deadline always knows which one
 * runs, a coroutine that waits (depot.sleep, depot.db …) makes the whole script wait, and a script that is to end is
 * not caught. */
#include "lua/run.h"

static lua_State *check_coroutine(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);

    luaL_argexpected(L, co != NULL, 1, "coroutine");
    return co;
}

typedef enum condition { SUSPENDED, NORMAL, RUNNING, DEAD } condition;
static const char *const condition_names[] = { "suspended", "normal", "running", "dead" };

static condition condition_of(lua_State *L, lua_State *co)
{
    lua_Debug ar;

    if (L == co) {
        return RUNNING;
    }
    switch (lua_status(co)) {
    case LUA_YIELD:
        return SUSPENDED;
    case LUA_OK:
        if (lua_getstack(co, 0, &ar)) {
            return NORMAL; /* it is resuming somebody */
        }
        return lua_gettop(co) == 0 ? DEAD : SUSPENDED; /* an initial function waits to be started */
    default:
        return DEAD;
    }
}

/* Gives control to co until it yields to the script, ends or fails. Returns its status; *out_wait: it waits for
 * something outside, or for its next turn, and the caller may yield on its behalf. */
static int enter(lua_State *L, lua_State *co, int n_args, int *out_n, bool *out_wait)
{
    deadline *d = &vm_of(L)->engine->deadline;
    run      *r = vm_run(L);

    *out_wait = false;
    for (;;) {
        d->current = co;
        int status = lua_resume(co, L, n_args, out_n);
        d->current = L;
        vm_check(L);
        if (status != LUA_YIELD || (r->op == NULL && !r->sliced)) {
            return status;
        }
        lua_pop(co, *out_n);
        if (lua_isyieldable(L)) {
            *out_wait = true;
            return status;
        }
        if (r->sliced) {
            r->sliced = false; /* nobody can take over here: it goes on */
        } else {
            run_wait_here(L);
        }
        n_args = 0;
    }
}

/* Results of co, or its error, come to L. Returns their number; -1: one error value. */
static int take(lua_State *L, lua_State *co, int status, int n)
{
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(co, L, 1);
        return -1;
    }
    if (!lua_checkstack(L, n + 1)) {
        lua_pop(co, n);
        lua_pushliteral(L, "too many results to resume");
        return -1;
    }
    lua_xmove(co, L, n);
    return n;
}

/* ---- resume: stack 1 coroutine ---- */

static int resume_go_on(lua_State *L, int status, lua_KContext n_args);

static int resume(lua_State *L, lua_State *co, int n_args)
{
    bool wait;
    int  n, status;

    status = enter(L, co, n_args, &n, &wait);
    if (wait) {
        return lua_yieldk(L, 0, 0, resume_go_on);
    }
    n = take(L, co, status, n);
    lua_pushboolean(L, n >= 0);
    lua_insert(L, n >= 0 ? -(n + 1) : -2);
    return n >= 0 ? n + 1 : 2;
}

static int resume_go_on(lua_State *L, int status, lua_KContext n_args)
{
    (void)status;
    (void)n_args;
    vm_check(L);
    return resume(L, lua_tothread(L, 1), 0);
}

/* Moves the arguments over; false: co cannot be resumed and a message is on L's top. */
static bool pass_arguments(lua_State *L, lua_State *co, int n_args)
{
    condition is = condition_of(L, co);

    if (is != SUSPENDED) {
        lua_pushfstring(L, "cannot resume %s coroutine", is == DEAD ? "dead" : "non-suspended");
        return false;
    }
    if (!lua_checkstack(co, n_args)) {
        lua_pushliteral(L, "too many arguments to resume");
        return false;
    }
    lua_xmove(L, co, n_args);
    return true;
}

static int lib_resume(lua_State *L)
{
    lua_State *co = check_coroutine(L);
    int        n_args = lua_gettop(L) - 1;

    if (!pass_arguments(L, co, n_args)) {
        lua_pushboolean(L, false);
        lua_insert(L, -2);
        return 2;
    }
    return resume(L, co, n_args);
}

/* Closes its pending variables: their __close functions run there. Its error, if any, stays on its stack. */
static int reset(lua_State *L, lua_State *co)
{
    deadline *d = &vm_of(L)->engine->deadline;

    d->current = co;
    int status = lua_resetthread(co);
    d->current = L;
    vm_check(L);
    return status;
}

/* ---- wrap: upvalue 1 coroutine ---- */

static int raise_of(lua_State *L, lua_State *co, int status)
{
    if (status != LUA_OK && status != LUA_YIELD && reset(L, co) != LUA_OK) {
        lua_pop(L, 1);
        lua_xmove(co, L, 1); /* the same error, or one of a __close function */
    }
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int wrap_go_on(lua_State *L, int status, lua_KContext n_args);

static int wrap_resume(lua_State *L, lua_State *co, int n_args)
{
    bool wait;
    int  n, status;

    status = enter(L, co, n_args, &n, &wait);
    if (wait) {
        return lua_yieldk(L, 0, 0, wrap_go_on);
    }
    n = take(L, co, status, n);
    return n >= 0 ? n : raise_of(L, co, status);
}

static int wrap_go_on(lua_State *L, int status, lua_KContext n_args)
{
    (void)status;
    (void)n_args;
    vm_check(L);
    return wrap_resume(L, lua_tothread(L, lua_upvalueindex(1)), 0);
}

static int wrapped(lua_State *L)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    int        n_args = lua_gettop(L);

    return pass_arguments(L, co, n_args) ? wrap_resume(L, co, n_args) : raise_of(L, co, LUA_OK);
}

static int lib_create(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    return 1;
}

static int lib_wrap(lua_State *L)
{
    lib_create(L);
    lua_pushcclosure(L, wrapped, 1);
    return 1;
}

/* ---- the rest ---- */

static int lib_yield(lua_State *L)
{
    if (L == vm_run(L)->co) {
        return luaL_error(L, "attempt to yield from outside a coroutine");
    }
    return lua_yield(L, lua_gettop(L));
}

static int lib_status(lua_State *L)
{
    lua_pushstring(L, condition_names[condition_of(L, check_coroutine(L))]);
    return 1;
}

static int lib_running(lua_State *L)
{
    lua_pushboolean(L, lua_pushthread(L) == 1 || L == vm_run(L)->co);
    return 2;
}

static int lib_isyieldable(lua_State *L)
{
    lua_State *co = lua_isnone(L, 1) ? L : check_coroutine(L);

    lua_pushboolean(L, co != vm_run(L)->co && lua_isyieldable(co));
    return 1;
}

static int lib_close(lua_State *L)
{
    lua_State *co = check_coroutine(L);
    condition  is = condition_of(L, co);

    if (is != SUSPENDED && is != DEAD) {
        return luaL_error(L, "cannot close a %s coroutine", condition_names[is]);
    }
    int status = reset(L, co);
    lua_pushboolean(L, status == LUA_OK);
    if (status == LUA_OK) {
        return 1;
    }
    lua_xmove(co, L, 1);
    return 2;
}

const luaL_Reg lib_coroutine[] = {
    { "close", lib_close },   { "create", lib_create },   { "isyieldable", lib_isyieldable },
    { "resume", lib_resume }, { "running", lib_running }, { "status", lib_status },
    { "wrap", lib_wrap },     { "yield", lib_yield },     { NULL, NULL },
};
