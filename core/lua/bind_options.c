/* bind_options.c - options of calls that take a table. */
#include <string.h>

#include "lua/run.h"

void bind_options(lua_State *L, int index, const char *call, const char *const *known)
{
    size_t n = 0;

    while (known[n] != NULL) {
        n++;
    }
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
        bool        found = name == NULL; /* what stands by its place is the call's to read */
        for (size_t i = 0; i < n; i++) {
            found = found || strcmp(known[i], name) == 0;
        }
        if (!found) {
            const char *near = depot_suggest(name, known, n);
            luaL_error(L, "%s has no option '%s'%s%s%s", call, name, near == NULL ? "" : " (did you mean ",
                       near == NULL ? "" : near, near == NULL ? "" : "?)");
        }
        lua_pop(L, 1);
    }
}

const char *bind_text(lua_State *L, int index, const char *what, depot_arena *arena)
{
    size_t      n = 0;
    const char *text = lua_type(L, index) == LUA_TSTRING || lua_type(L, index) == LUA_TNUMBER
        ? lua_tolstring(L, index, &n) : NULL;

    if (text == NULL || strlen(text) != n) {
        luaL_error(L, "%s must be a text without NUL", what);
    }
    return depot_strndup(arena, text, n);
}

int64_t bind_due(lua_State *L, int index, int64_t otherwise)
{
    const run *r = vm_run(L);
    int64_t    now = depot_now_ms(), left = r->deadline_ms - now;
    int64_t    own = lua_getfield(L, index, "timeout") == LUA_TNIL ? otherwise
                                                                   : bind_duration(L, lua_gettop(L), "timeout");

    lua_pop(L, 1);
    return now + (own < left ? own : left > 0 ? left : 0);
}
