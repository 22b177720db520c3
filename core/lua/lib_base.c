/* lib_base.c - the basic functions that a sandbox cannot take from Lua's library as they are. */
#include <string.h>

#include "lua/run.h"

enum { LOAD_BYTES_MAX = 256 << 10, NAME_BYTES_MAX = 200 };

static const char loaded_key = 'l', loading_mark = 'm';

/* ---- pcall and xpcall: what ends a script is no error that it may catch ---- */

static int finish_pcall(lua_State *L, int status, lua_KContext skipped)
{
    vm_check(L);
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_pushboolean(L, false);
        lua_pushvalue(L, -2);
        return 2;
    }
    return lua_gettop(L) - (int)skipped;
}

static int lib_pcall(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, true);
    lua_insert(L, 1);
    return finish_pcall(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, finish_pcall), 0);
}

/* Upvalue 1: the script's handler. Inside a hook Lua runs handlers with hooks off, so after the deadline it is not
 * called. */
static int guarded_handler(lua_State *L)
{
    const run *r = vm_of(L)->run;

    if (r != NULL && r->killed != KILL_NONE) {
        return 1;
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

static int lib_xpcall(lua_State *L)
{
    int n = lua_gettop(L);

    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, guarded_handler, 1);
    lua_replace(L, 2);
    lua_pushboolean(L, true); /* first result */
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2); /* f, handler, true, f, arguments… */
    return finish_pcall(L, lua_pcallk(L, n - 2, LUA_MULTRET, 2, 2, finish_pcall), 2);
}

/* ---- tables ---- */

static int lib_setmetatable(lua_State *L)
{
    int type = lua_type(L, 2);

    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) {
        return luaL_error(L, "cannot change a protected metatable");
    }
    if (type == LUA_TTABLE) {
        lua_pushliteral(L, "__gc"); /* finalizers run with hooks off: no deadline could stop them */
        lua_rawget(L, 2);
        luaL_argcheck(L, lua_isnil(L, -1), 2, "__gc is not available to scripts; use a <close> variable");
    }
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

static int lib_rawset(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkany(L, 3);
    luaL_argcheck(L, !sandbox_is_sealed(L, 1), 1, "the table is read-only");
    lua_settop(L, 3);
    lua_rawset(L, 1);
    return 1;
}

static int lib_collectgarbage(lua_State *L)
{
    const char *what = luaL_optstring(L, 1, "collect");

    luaL_argcheck(L, strcmp(what, "count") == 0, 1, "only \"count\" is available to scripts");
    lua_pushnumber(L, (lua_Number)lua_gc(L, LUA_GCCOUNT, 0) + (lua_Number)lua_gc(L, LUA_GCCOUNTB, 0) / 1024);
    return 1;
}

/* ---- load: text only, into the sandbox's environment ---- */

/* A function's pieces become one text at index 1. */
static void join_pieces(lua_State *L)
{
    luaL_Buffer b;
    size_t      n = 1;

    luaL_buffinit(L, &b);
    while (n > 0 && luaL_bufflen(&b) <= LOAD_BYTES_MAX) {
        lua_pushvalue(L, 1);
        lua_call(L, 0, 1);
        if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING) {
            luaL_error(L, "reader function must return a string");
        }
        n = lua_rawlen(L, -1) * !lua_isnil(L, -1);
        if (n == 0) {
            lua_pop(L, 1);
        } else {
            luaL_addvalue(&b);
        }
    }
    luaL_pushresult(&b);
    lua_replace(L, 1);
}

static int lib_load(lua_State *L)
{
    bool        has_env = !lua_isnone(L, 4);
    size_t      n;
    const char *name = luaL_optstring(L, 2, NULL);

    lua_settop(L, 4);
    if (lua_isfunction(L, 1)) {
        join_pieces(L);
    }
    const char *text = luaL_checklstring(L, 1, &n);
    luaL_argcheck(L, n <= LOAD_BYTES_MAX, 1, "a chunk may have at most 256 KiB");
    if (luaL_loadbufferx(L, text, n, name == NULL ? text : name, "t") != LUA_OK) {
        luaL_pushfail(L);
        lua_insert(L, -2);
        return 2;
    }
    if (has_env) {
        lua_pushvalue(L, 4);
        if (lua_setupvalue(L, -2, 1) == NULL) {
            lua_pop(L, 1);
        }
    }
    return 1;
}

/* ---- require: files below lib/, once per script ---- */

static const source *find_module(lua_State *L, const char *name)
{
    size_t n = strlen(name);
    char   path[NAME_BYTES_MAX + 16] = "lib/";

    luaL_argcheck(L, n > 0 && n <= NAME_BYTES_MAX, 1, "a module name has 1 to 200 bytes");
    for (size_t i = 0; i < n; i++) {
        path[4 + i] = name[i] == '.' ? '/' : name[i];
    }
    memcpy(path + 4 + n, ".lua", 5);
    return sources_find(vm_of(L)->engine->opt.sources, path);
}

static int finish_require(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, true);
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &loaded_key);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return 1;
}

static int lib_require(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);

    lua_settop(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &loaded_key);
    lua_pushvalue(L, 1);
    lua_rawget(L, 2);
    if (lua_islightuserdata(L, -1) && lua_touserdata(L, -1) == (const void *)&loading_mark) {
        return luaL_error(L, "module '%s' requires itself", name);
    }
    if (!lua_isnil(L, -1)) {
        return 1;
    }
    const source *file = find_module(L, name);
    if (file == NULL) {
        return luaL_error(L, "there is no module '%s' below lib/ of the script folders", name);
    }
    vm_of(L)->has_loaded = true;
    lua_pushvalue(L, 1);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&loading_mark);
    lua_rawset(L, 2);
    if (!vm_push_file(L, file)) {
        return fail_syntax(L);
    }
    lua_pushvalue(L, 1);
    lua_callk(L, 1, 1, 0, finish_require);
    return finish_require(L, LUA_OK, 0);
}

/* ---- print and warn go to the script's log ---- */

static int print_to_log(lua_State *L, depot_level level)
{
    int         n = lua_gettop(L);
    luaL_Buffer b;
    size_t      length;

    luaL_buffinit(L, &b);
    for (int i = 1; i <= n; i++) {
        if (i > 1) {
            luaL_addchar(&b, '\t');
        }
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    const char *text = lua_tolstring(L, -1, &length);
    (void)bind_log(L, level, text, length, NULL); /* what is over the limit is told there, once */
    return 0;
}

static int lib_print(lua_State *L)
{
    return print_to_log(L, DEPOT_LOG_INFO);
}

static int lib_warn(lua_State *L)
{
    luaL_checkstring(L, 1);
    return print_to_log(L, DEPOT_LOG_WARN);
}

void lib_base_begin_run(lua_State *L)
{
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &loaded_key);
    vm_of(L)->has_loaded = false;
}

const luaL_Reg lib_base[] = {
    { "collectgarbage", lib_collectgarbage },
    { "load", lib_load },
    { "pcall", lib_pcall },
    { "print", lib_print },
    { "rawset", lib_rawset },
    { "require", lib_require },
    { "setmetatable", lib_setmetatable },
    { "warn", lib_warn },
    { "xpcall", lib_xpcall },
    { NULL, NULL },
};
