/* lib_table.c - table.concat, insert, move, remove and sort, as in Lua 5.4 but stoppable: their loops need no memory
 * and, with a false length, would go on for years. */
#include <limits.h>

#include "lua/run.h"

enum { CHECK_EVERY = 4096 };

static void check_sometimes(lua_State *L, lua_Integer i)
{
    if (i % CHECK_EVERY == 0) {
        vm_check(L);
    }
}

/* A table, or what behaves like one. */
static void check_table(lua_State *L, int arg)
{
    if (lua_type(L, arg) != LUA_TTABLE && luaL_getmetafield(L, arg, "__index") == LUA_TNIL) {
        luaL_checktype(L, arg, LUA_TTABLE);
    }
}

static lua_Integer length(lua_State *L, int arg)
{
    check_table(L, arg);
    return luaL_len(L, arg);
}

static int lib_insert(lua_State *L)
{
    lua_Integer end = (lua_Integer)((lua_Unsigned)length(L, 1) + 1);
    lua_Integer at = end;

    switch (lua_gettop(L)) {
    case 2:
        break;
    case 3:
        at = luaL_checkinteger(L, 2);
        luaL_argcheck(L, (lua_Unsigned)at - 1U < (lua_Unsigned)end, 2, "position out of bounds");
        for (lua_Integer i = end; i > at; i--) {
            check_sometimes(L, i);
            lua_geti(L, 1, i - 1);
            lua_seti(L, 1, i);
        }
        break;
    default:
        return luaL_error(L, "wrong number of arguments to 'insert'");
    }
    lua_seti(L, 1, at);
    return 0;
}

static int lib_remove(lua_State *L)
{
    lua_Integer size = length(L, 1);
    lua_Integer at = luaL_optinteger(L, 2, size);

    luaL_argcheck(L, at == size || (lua_Unsigned)at - 1U <= (lua_Unsigned)size, 2, "position out of bounds");
    lua_geti(L, 1, at);
    for (; at < size; at++) {
        check_sometimes(L, at);
        lua_geti(L, 1, at + 1);
        lua_seti(L, 1, at);
    }
    lua_pushnil(L);
    lua_seti(L, 1, at);
    return 1;
}

static int lib_move(lua_State *L)
{
    lua_Integer from = luaL_checkinteger(L, 2);
    lua_Integer end = luaL_checkinteger(L, 3);
    lua_Integer to = luaL_checkinteger(L, 4);
    int         target = !lua_isnoneornil(L, 5) ? 5 : 1;

    check_table(L, 1);
    check_table(L, target);
    if (end >= from) {
        luaL_argcheck(L, from > 0 || end < LUA_MAXINTEGER + from, 3, "too many elements to move");
        lua_Integer n = end - from + 1;
        luaL_argcheck(L, to <= LUA_MAXINTEGER - n + 1, 4, "destination wrap around");
        bool forward = to > end || to <= from || (target != 1 && !lua_compare(L, 1, target, LUA_OPEQ));
        for (lua_Integer i = 0; i < n; i++) {
            lua_Integer at = forward ? i : n - 1 - i;
            check_sometimes(L, i);
            lua_geti(L, 1, from + at);
            lua_seti(L, target, to + at);
        }
    }
    lua_pushvalue(L, target);
    return 1;
}

static void add_field(lua_State *L, luaL_Buffer *b, lua_Integer i)
{
    lua_geti(L, 1, i);
    if (!lua_isstring(L, -1)) {
        luaL_error(L, "invalid value (at index %I) in table for 'concat'", (LUAI_UACINT)i);
    }
    luaL_addvalue(b);
}

static int lib_concat(lua_State *L)
{
    lua_Integer last = length(L, 1);
    size_t      sep_n;
    const char *sep = luaL_optlstring(L, 2, "", &sep_n);
    lua_Integer i = luaL_optinteger(L, 3, 1);
    luaL_Buffer b;

    last = luaL_optinteger(L, 4, last);
    luaL_buffinit(L, &b);
    for (; i < last; i++) {
        check_sometimes(L, i);
        add_field(L, &b, i);
        luaL_addlstring(&b, sep, sep_n);
    }
    if (i == last) {
        add_field(L, &b, i);
    }
    luaL_pushresult(&b);
    return 1;
}

static int less(lua_State *L)
{
    lua_pushboolean(L, lua_compare(L, 1, 2, LUA_OPLT));
    return 1;
}

/* The library's own sort, always with a comparison function: each call is a place where the deadline can stop it.
 * Upvalue 1: the library's sort. */
static int sort(lua_State *L)
{
    luaL_argcheck(L, length(L, 1) < INT_MAX, 1, "array too big");
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_pushcfunction(L, less);
        lua_replace(L, 2);
    }
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 2, 0);
    return 0;
}

int lib_sort(lua_State *L)
{
    lua_pushcclosure(L, sort, 1);
    return 1;
}

const luaL_Reg lib_table[] = {
    { "concat", lib_concat }, { "insert", lib_insert }, { "move", lib_move }, { "remove", lib_remove }, { NULL, NULL },
};
