/* again.c - may a job run in the state that another one has used? As if the handler's file had run anew before it: only then. All that
 * `run` can reach must be what no script can change (the environment, functions of the sandbox), or variables of the file whose values
 * can be put back: numbers, texts, functions. A table that the file keeps is neither. */
#include "lua/run.h"

enum { VARIABLES_MAX = 100 };

static const char list_key = 'a';

/* Stack: `list` holds function, number of the variable, value, and so on; `seen` has the functions as keys. */
typedef struct look {
    int list, seen, n;
} look;

static bool visit(lua_State *L, look *at, int depth);

/* The value on top. of_c: a C function has it, which may count in it (an iterator does), and it cannot be put back. */
static bool is_constant(lua_State *L, look *at, int depth, bool of_c)
{
    switch (lua_type(L, -1)) {
    case LUA_TNIL:
    case LUA_TBOOLEAN:
    case LUA_TNUMBER:
    case LUA_TSTRING:
        return !of_c;
    case LUA_TLIGHTUSERDATA:
        return true;
    case LUA_TTABLE:
        return sandbox_is_sealed(L, lua_gettop(L));
    case LUA_TFUNCTION:
        return visit(L, at, depth + 1);
    default:
        return false; /* a coroutine, the state of a generator of numbers */
    }
}

static void keep(lua_State *L, look *at, int function, int i)
{
    lua_pushvalue(L, function);
    lua_rawseti(L, at->list, 3 * at->n + 1);
    lua_pushinteger(L, i);
    lua_rawseti(L, at->list, 3 * at->n + 2);
    lua_pushvalue(L, -1);
    lua_rawseti(L, at->list, 3 * at->n + 3); /* nil leaves a hole: rawgeti gives nil */
    at->n++;
}

/* The function on top: its variables, and what they lead to. */
static bool visit(lua_State *L, look *at, int depth)
{
    int  function = lua_gettop(L);
    bool of_c = lua_iscfunction(L, function);

    lua_pushvalue(L, function);
    if (lua_rawget(L, at->seen) != LUA_TNIL) {
        lua_settop(L, function);
        return true;
    }
    lua_settop(L, function);
    lua_pushvalue(L, function);
    lua_pushboolean(L, true);
    lua_rawset(L, at->seen);
    if (depth > VARIABLES_MAX) {
        return false;
    }
    luaL_checkstack(L, 8, "nested too deep");
    for (int i = 1; lua_getupvalue(L, function, i) != NULL; i++) {
        if (at->n == VARIABLES_MAX || !is_constant(L, at, depth, of_c)) {
            return false;
        }
        if (!of_c) {
            keep(L, at, function, i);
        }
        lua_settop(L, function);
    }
    return true;
}

bool again_look(lua_State *L)
{
    int  top = lua_gettop(L);
    look at = { .list = top + 1, .seen = top + 2 };

    luaL_checkstack(L, 8, "nested too deep");
    lua_newtable(L);
    lua_newtable(L);
    lua_pushvalue(L, top);
    bool ok = visit(L, &at, 0);
    lua_settop(L, top + 1);
    lua_pushinteger(L, at.n);
    lua_rawseti(L, top + 1, 0);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &list_key);
    return ok;
}

void again_restore(lua_State *L)
{
    int top = lua_gettop(L);

    lua_rawgetp(L, LUA_REGISTRYINDEX, &list_key);
    lua_rawgeti(L, -1, 0);
    lua_Integer n = lua_tointeger(L, -1);
    for (lua_Integer i = 0; i < n; i++) {
        lua_rawgeti(L, top + 1, 3 * i + 1);
        lua_rawgeti(L, top + 1, 3 * i + 2);
        int number = (int)lua_tointeger(L, -1);
        lua_rawgeti(L, top + 1, 3 * i + 3);
        (void)lua_setupvalue(L, -3, number); /* it has that variable: it was found there */
        lua_settop(L, top + 2);
    }
    lua_settop(L, top);
    if (vm_of(L)->has_loaded) {
        lib_base_begin_run(L);
    }
}
