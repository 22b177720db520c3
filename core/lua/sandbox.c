/* sandbox.c - the environment of scripts, built from nothing by the list below; a name that is not listed does not
 * exist. All its tables are read-only, so nothing that one script does is seen by the next. */
#include <string.h>

#include "lua/run.h"

/* What is taken from Lua's library as it is. tests/golden/lua-names.txt says the same from the script's side. */
/* clang-format off */
static const char *const base_names[] = {
    "assert", "error", "getmetatable", "ipairs", "next", "pairs", "rawequal", "rawget", "rawlen", "select", "tonumber",
    "tostring", "type", "_VERSION",
};
static const char *const string_names[] = {
    "byte", "char", "format", "len", "lower", "pack", "packsize", "reverse", "sub", "unpack", "upper",
};
static const char *const table_names[] = { "pack", "sort", "unpack" };
static const char *const math_names[] = {
    "abs", "acos", "asin", "atan", "ceil", "cos", "deg", "exp", "floor", "fmod", "huge", "log", "max", "maxinteger", "min",
    "mininteger", "modf", "pi", "rad", "random", "randomseed", "sin", "sqrt", "tan", "tointeger", "type", "ult",
};
static const char *const utf8_names[] = { "char", "charpattern", "codepoint", "codes", "len", "offset" };
static const char *const os_names[] = { "clock", "date", "difftime", "time" };
/* clang-format on */

typedef struct library {
    const char        *name; /* NULL: the environment itself */
    lua_CFunction      open;
    const char *const *names;
    size_t             n;
    const luaL_Reg    *own; /* replaces or adds */
} library;
static const library libraries[] = {
    { NULL, luaopen_base, base_names, DEPOT_N(base_names), lib_base },
    { "string", luaopen_string, string_names, DEPOT_N(string_names), lib_string },
    { "table", luaopen_table, table_names, DEPOT_N(table_names), lib_table },
    { "math", luaopen_math, math_names, DEPOT_N(math_names), NULL },
    { "utf8", luaopen_utf8, utf8_names, DEPOT_N(utf8_names), NULL },
    { "os", luaopen_os, os_names, DEPOT_N(os_names), NULL },
    { "coroutine", NULL, NULL, 0, lib_coroutine },
};

static const char seed_key = 'r', late_key = 't';

/* ---- tables of which parts are made when a script first asks for them: most scripts use little of what there is ---- */

void sandbox_late(lua_State *L, lua_CFunction find, lua_CFunction make_all)
{
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, find);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, make_all);
    lua_rawsetp(L, -2, &late_key);
    lua_setmetatable(L, -2);
}

/* The table is on top. */
static void make_all(lua_State *L)
{
    if (!lua_getmetatable(L, -1)) {
        return;
    }
    if (lua_rawgetp(L, -1, &late_key) == LUA_TFUNCTION) {
        lua_pushvalue(L, -3);
        lua_call(L, 1, 0);
        lua_pop(L, 1);
    } else {
        lua_pop(L, 2);
    }
}

/* ---- read-only tables: an empty table in front, whose metatable leads to the real one ---- */

static int refuse_write(lua_State *L)
{
    return luaL_error(L, "the table is read-only (field '%s')", luaL_tolstring(L, 2, NULL));
}

/* Upvalue 1: the real table. It must not fall into the hands of the script, as next's state would. */
static int sealed_next(lua_State *L)
{
    lua_settop(L, 2);
    if (lua_next(L, lua_upvalueindex(1)) != 0) {
        return 2;
    }
    lua_pushnil(L);
    return 1;
}

static int sealed_pairs(lua_State *L)
{
    luaL_getmetafield(L, 1, "__index");
    make_all(L);
    lua_pushcclosure(L, sealed_next, 1);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

void sandbox_complete(lua_State *L)
{
    luaL_getmetafield(L, -1, "__index");
    make_all(L);
    lua_pop(L, 1);
}

/* No script gets hold of that function, to make a table of its own look like one. */
bool sandbox_is_sealed(lua_State *L, int index)
{
    bool sealed;

    if (!lua_getmetatable(L, index)) {
        return false;
    }
    lua_pushliteral(L, "__pairs");
    lua_rawget(L, -2);
    sealed = lua_tocfunction(L, -1) == sealed_pairs;
    lua_pop(L, 2);
    return sealed;
}

/* The proxy of the table at the top takes its place. */
static void seal_one(lua_State *L)
{
    lua_newtable(L);
    lua_createtable(L, 0, 4);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, refuse_write);
    lua_setfield(L, -2, "__newindex");
    lua_pushcfunction(L, sealed_pairs);
    lua_setfield(L, -2, "__pairs");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_remove(L, -2);
}

void sandbox_seal(lua_State *L)
{
    int table = lua_gettop(L);

    luaL_checkstack(L, 8, "nested too deep");
    lua_pushnil(L);
    while (lua_next(L, table) != 0) {
        if (lua_istable(L, -1) && !sandbox_is_sealed(L, lua_gettop(L))) {
            sandbox_seal(L);
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, table); /* an existing key: lua_next goes on */
        } else {
            lua_pop(L, 1);
        }
    }
    seal_one(L);
}

/* ---- the environment ---- */

static int refuse_global(lua_State *L)
{
    return luaL_error(L, "variable '%s' is not declared: write local", luaL_tolstring(L, 2, NULL));
}

/* Stack: the library's own table on top. Adds the listed names to the table at `target`. */
static void take_names(lua_State *L, const library *lib, int target)
{
    for (size_t i = 0; i < lib->n; i++) {
        lua_getfield(L, -1, lib->names[i]);
        if (lib->own == lib_table && strcmp(lib->names[i], "sort") == 0) {
            lib_sort(L);
        }
        lua_setfield(L, target, lib->names[i]);
    }
}

/* Its names, into the table at `target`. */
static void add_library(lua_State *L, const library *lib, int target)
{
    if (lib->open != NULL) {
        lua_pushcfunction(L, lib->open);
        lua_call(L, 0, 1);
        take_names(L, lib, target);
        lua_pop(L, 1);
    }
    if (lib->own != NULL) {
        lua_pushvalue(L, target);
        luaL_setfuncs(L, lib->own, 0);
        lua_pop(L, 1);
    }
}

/* The table on top is where Lua looks for the names of functions in messages and tracebacks. Scripts cannot get at it. */
static void name_functions(lua_State *L, const char *name)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

static void seed(lua_State *L)
{
    uint64_t numbers[2];

    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &seed_key) == LUA_TNIL) {
        lua_pop(L, 1); /* nobody has asked for a number yet */
        return;
    }
    depot_random(numbers, sizeof(numbers));
    lua_pushinteger(L, (lua_Integer)numbers[0]);
    lua_pushinteger(L, (lua_Integer)numbers[1]);
    lua_call(L, 2, 0);
}

/* Pushes the library's table, and makes it a member of the environment's. */
static void open_library(lua_State *L, const library *lib, int env)
{
    lua_newtable(L);
    add_library(L, lib, lua_gettop(L));
    name_functions(L, lib->name);
    if (lib->open == luaopen_math) {
        lua_getfield(L, -1, "randomseed");
        lua_rawsetp(L, LUA_REGISTRYINDEX, &seed_key);
        seed(L);
    }
    sandbox_seal(L);
    lua_pushstring(L, lib->name);
    lua_pushvalue(L, -2);
    lua_rawset(L, env);
}

/* Stack: the environment's real table, a name that it does not have. */
static int find_library(lua_State *L)
{
    const char *name = luaL_tolstring(L, 2, NULL);

    for (size_t i = 0; i < DEPOT_N(libraries); i++) {
        if (libraries[i].name != NULL && strcmp(libraries[i].name, name) == 0) {
            open_library(L, &libraries[i], 1);
            return 1;
        }
    }
    return luaL_error(L, "there is no variable '%s'", name);
}

static int open_libraries(lua_State *L)
{
    for (size_t i = 0; i < DEPOT_N(libraries); i++) {
        if (libraries[i].name != NULL) {
            lua_getfield(L, 1, libraries[i].name);
            lua_pop(L, 1);
        }
    }
    return 0;
}

/* A text's method, when `string` has not been asked for yet. From then on it is the sandbox's table that is looked at. */
static int find_method(lua_State *L)
{
    lua_pushglobaltable(L);
    lua_getfield(L, -1, "string");
    lua_getmetatable(L, 1);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushvalue(L, 2);
    lua_gettable(L, -2);
    return 1;
}

/* Methods of texts are the sandbox's string functions. */
static void set_string_methods(lua_State *L)
{
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_pushcfunction(L, find_method);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
}

void sandbox_open(lua_State *L)
{
    lua_newtable(L);
    int env = lua_gettop(L);
    add_library(L, &libraries[0], env); /* it writes into the globals: a table that is thrown away below */
    lua_pushcfunction(L, luaopen_string); /* for what it makes texts able to, such as arithmetic */
    lua_call(L, 0, 0);
    bind_open(L);
    lua_setfield(L, env, "depot");
    name_functions(L, LUA_GNAME);
    sandbox_late(L, find_library, open_libraries);
    sandbox_seal(L);
    lua_getmetatable(L, env); /* a better text than for other tables */
    lua_pushcfunction(L, refuse_global);
    lua_setfield(L, -2, "__newindex");
    lua_pop(L, 1);
    set_string_methods(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_gc(L, LUA_GCCOLLECT, 0);
}

void sandbox_begin_run(lua_State *L)
{
    lib_base_begin_run(L);
    seed(L);
}
