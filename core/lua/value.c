/* value.c - values between Lua and JSON. Integers stay integers, null is depot.null, an empty table is an object unless
 * it was made by depot.array or came from a JSON array. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "lua/run.h"

#define ARRAY_META "depot.array"

/* Depth: below JSON's own 64, as a value travels inside frames. Weight: a table that stands in many places costs each
 * time. */
enum { DEPTH_MAX = 60, NODE_WEIGHT = 64, WEIGHT_MAX = 64 << 20 };

static int null_text(lua_State *L)
{
    lua_pushliteral(L, "null");
    return 1;
}

void value_push_null(lua_State *L)
{
    lua_pushlightuserdata(L, NULL);
}

bool value_is_null(lua_State *L, int index)
{
    return lua_islightuserdata(L, index) && lua_touserdata(L, index) == NULL;
}

void value_open(lua_State *L)
{
    luaL_newmetatable(L, ARRAY_META);
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    value_push_null(L); /* all light userdata of a state share one metatable: scripts see no other than null */
    lua_createtable(L, 0, 3);
    lua_pushcfunction(L, null_text);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "null");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

int value_array(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) {
        return luaL_argerror(L, 1, "the table's metatable is protected");
    }
    lua_settop(L, 1);
    luaL_setmetatable(L, ARRAY_META);
    return 1;
}

void value_mark_array(lua_State *L)
{
    luaL_setmetatable(L, ARRAY_META);
}

void value_push(lua_State *L, const depot_json *value)
{
    const depot_json *member;
    const char       *key;
    size_t            n;

    luaL_checkstack(L, 4, "nested too deep");
    switch (value == NULL ? DEPOT_JSON_NULL : depot_json_typeof(value)) {
    case DEPOT_JSON_NULL:
        value_push_null(L);
        break;
    case DEPOT_JSON_BOOL:
        lua_pushboolean(L, depot_json_boolean(value));
        break;
    case DEPOT_JSON_INT:
        lua_pushinteger(L, depot_json_integer(value));
        break;
    case DEPOT_JSON_REAL:
        lua_pushnumber(L, depot_json_number(value));
        break;
    case DEPOT_JSON_STRING:
        key = depot_json_string(value, &n);
        lua_pushlstring(L, key, n);
        break;
    case DEPOT_JSON_ARRAY:
        n = depot_json_len(value);
        lua_createtable(L, (int)n, 0);
        for (size_t i = 0; i < n; i++) {
            value_push(L, depot_json_at(value, i));
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
        value_mark_array(L);
        break;
    case DEPOT_JSON_OBJECT:
        lua_createtable(L, 0, (int)depot_json_len(value));
        for (size_t it = 0; depot_json_next(value, &it, &key, &member);) {
            lua_pushstring(L, key);
            value_push(L, member);
            lua_rawset(L, -3);
        }
        break;
    }
}

/* ---- shapes of tables ---- */

typedef enum shape { SHAPE_ARRAY, SHAPE_OBJECT } shape;

static bool is_marked(lua_State *L, int table)
{
    if (!lua_getmetatable(L, table)) {
        return false;
    }
    luaL_getmetatable(L, ARRAY_META);
    bool marked = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return marked;
}

/* An array has the keys 1..n and no others, an object has strings only. */
static shape look_at(lua_State *L, int table, size_t *out_n)
{
    size_t integers = 0, strings = 0;
    size_t length = lua_rawlen(L, table);

    lua_pushnil(L);
    while (lua_next(L, table) != 0) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            strings++;
        } else if (lua_isinteger(L, -1) && lua_tointeger(L, -1) >= 1 && (size_t)lua_tointeger(L, -1) <= length) {
            integers++;
        } else {
            luaL_error(L, "a table with a key of type %s is neither an array nor an object", luaL_typename(L, -1));
        }
    }
    if (strings > 0 && integers > 0) {
        luaL_error(L, "a table with both texts and numbers as keys is neither an array nor an object");
    }
    if (integers != length) {
        luaL_error(L, "an array with holes cannot be JSON: use depot.null for what is not there");
    }
    *out_n = integers + strings;
    return integers > 0 || (strings == 0 && is_marked(L, table)) ? SHAPE_ARRAY : SHAPE_OBJECT;
}

static void check_depth(lua_State *L, int depth)
{
    if (depth > DEPTH_MAX) {
        luaL_error(L, "a value nested more than %d levels deep cannot be JSON", DEPTH_MAX);
    }
    luaL_checkstack(L, 8, "nested too deep");
    vm_check(L);
}

static const char *check_text(lua_State *L, int index, size_t *out_n)
{
    const char *text = lua_tolstring(L, index, out_n);

    if (!depot_utf8_valid(text, *out_n)) {
        luaL_error(L, "a text that is not UTF-8 cannot be JSON: encode its bytes first");
    }
    if (memchr(text, '\0', *out_n) != NULL) { /* allowed by JSON, refused by our own parser and by PostgreSQL's jsonb */
        luaL_error(L, "a text with a NUL byte cannot be JSON: encode its bytes first");
    }
    return text;
}

static lua_Number check_number(lua_State *L, int index)
{
    lua_Number n = lua_tonumber(L, index);

    if (!isfinite(n)) {
        luaL_error(L, "%s cannot be JSON", isnan(n) ? "not-a-number" : "infinity");
    }
    return n;
}

/* ---- to a depot_json ---- */

typedef struct maker {
    depot_arena *arena;
    size_t       weight; /* bytes, roughly, that may still be made */
} maker;

static depot_json *to_json(lua_State *L, maker *m, int index, int depth);

static void weigh(lua_State *L, maker *m, size_t bytes)
{
    if (bytes + NODE_WEIGHT > m->weight) {
        luaL_error(L, "larger than %d bytes as JSON", (int)WEIGHT_MAX);
    }
    m->weight -= bytes + NODE_WEIGHT;
}

static depot_json *text_to_json(lua_State *L, maker *m, int index)
{
    size_t      n;
    const char *text = check_text(L, index, &n);

    weigh(L, m, n);
    return depot_json_strn(m->arena, text, n);
}

static depot_json *table_to_json(lua_State *L, maker *m, int table, int depth)
{
    size_t      n;
    shape       is = look_at(L, table, &n);
    depot_json *out = is == SHAPE_ARRAY ? depot_json_array(m->arena) : depot_json_object(m->arena);

    for (size_t i = 1; is == SHAPE_ARRAY && i <= n; i++) {
        lua_rawgeti(L, table, (lua_Integer)i);
        depot_json_add(out, to_json(L, m, lua_gettop(L), depth + 1));
        lua_pop(L, 1);
    }
    if (is == SHAPE_ARRAY) {
        return out;
    }
    lua_pushnil(L);
    while (lua_next(L, table) != 0) {
        size_t      key_n;
        const char *key = check_text(L, -2, &key_n);
        weigh(L, m, key_n);
        depot_json_set(out, key, to_json(L, m, lua_gettop(L), depth + 1));
        lua_pop(L, 1);
    }
    return out;
}

static depot_json *to_json(lua_State *L, maker *m, int index, int depth)
{
    check_depth(L, depth);
    weigh(L, m, 0);
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        return depot_json_null(m->arena);
    case LUA_TBOOLEAN:
        return depot_json_bool(m->arena, lua_toboolean(L, index));
    case LUA_TNUMBER:
        return lua_isinteger(L, index) ? depot_json_int(m->arena, lua_tointeger(L, index))
                                       : depot_json_real(m->arena, check_number(L, index));
    case LUA_TSTRING:
        return text_to_json(L, m, index);
    case LUA_TTABLE:
        return table_to_json(L, m, index, depth);
    default:
        if (!value_is_null(L, index)) {
            luaL_error(L, "a %s cannot be JSON", luaL_typename(L, index));
        }
        return depot_json_null(m->arena);
    }
}

depot_json *value_json(lua_State *L, int index, depot_arena *arena)
{
    maker m = { arena, WEIGHT_MAX };

    return to_json(L, &m, lua_absindex(L, index), 1);
}

/* ---- to text ---- */

typedef struct writer {
    depot_buf *out;
    size_t     max;
} writer;

static void put(lua_State *L, const writer *w, const char *text, size_t n)
{
    if (n > w->max - w->out->len) {
        luaL_error(L, "larger than %d bytes as JSON", (int)w->max);
    }
    depot_buf_add(w->out, text, n);
}

static void put_text(lua_State *L, const writer *w, int index)
{
    size_t      n;
    const char *text = check_text(L, index, &n);

    put(L, w, "\"", 1);
    if (text_add_escaped(w->out, text, n, w->max - w->out->len) < n) {
        luaL_error(L, "larger than %d bytes as JSON", (int)w->max);
    }
    put(L, w, "\"", 1);
}

static void put_number(lua_State *L, const writer *w, int index)
{
    char text[TEXT_DOUBLE_SIZE + 4];

    if (lua_isinteger(L, index)) {
        const char *digits = lua_pushfstring(L, "%I", (LUAI_UACINT)lua_tointeger(L, index));
        put(L, w, digits, strlen(digits));
        lua_pop(L, 1);
        return;
    }
    text_format_double(check_number(L, index), text);
    put(L, w, text, strlen(text));
    if (strpbrk(text, ".e") == NULL) {
        put(L, w, ".0", 2); /* stays a float when it is read again */
    }
}

static void put_value(lua_State *L, const writer *w, int index, int depth);

typedef struct key {
    const char *text;
    size_t      n;
} key;

static int by_text(const void *a, const void *b)
{
    const key *x = a, *y = b;
    int        order = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);

    return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

/* Keys in byte order: equal values give equal texts. The strings are held by the table, the list by the stack. */
static void put_object(lua_State *L, const writer *w, int table, size_t n, int depth)
{
    key   *keys = lua_newuserdatauv(L, (n > 0 ? n : 1) * sizeof(*keys), 0);
    size_t i = 0;

    lua_pushnil(L);
    while (lua_next(L, table) != 0) {
        lua_pop(L, 1);
        keys[i].text = lua_tolstring(L, -1, &keys[i].n);
        i++;
    }
    qsort(keys, n, sizeof(*keys), by_text);
    put(L, w, "{", 1);
    for (i = 0; i < n; i++) {
        lua_pushlstring(L, keys[i].text, keys[i].n);
        put(L, w, ",", i > 0);
        put_text(L, w, -1);
        put(L, w, ":", 1);
        lua_rawget(L, table);
        put_value(L, w, lua_gettop(L), depth + 1);
        lua_pop(L, 1);
    }
    put(L, w, "}", 1);
    lua_pop(L, 1);
}

static void put_table(lua_State *L, const writer *w, int table, int depth)
{
    size_t n;

    if (look_at(L, table, &n) == SHAPE_OBJECT) {
        put_object(L, w, table, n, depth);
        return;
    }
    put(L, w, "[", 1);
    for (size_t i = 1; i <= n; i++) {
        put(L, w, ",", i > 1);
        lua_rawgeti(L, table, (lua_Integer)i);
        put_value(L, w, lua_gettop(L), depth + 1);
        lua_pop(L, 1);
    }
    put(L, w, "]", 1);
}

static void put_value(lua_State *L, const writer *w, int index, int depth)
{
    check_depth(L, depth);
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        put(L, w, lua_toboolean(L, index) ? "true" : "false", lua_toboolean(L, index) ? 4 : 5);
        break;
    case LUA_TNUMBER:
        put_number(L, w, index);
        break;
    case LUA_TSTRING:
        put_text(L, w, index);
        break;
    case LUA_TTABLE:
        put_table(L, w, index, depth);
        break;
    default:
        if (!lua_isnoneornil(L, index) && !value_is_null(L, index)) {
            luaL_error(L, "a %s cannot be JSON", luaL_typename(L, index));
        }
        put(L, w, "null", 4);
    }
}

void value_encode(lua_State *L, int index, depot_buf *out, size_t max)
{
    writer w = { out, max + out->len };

    if (lua_isnone(L, index)) {
        put(L, &w, "null", 4);
        return;
    }
    put_value(L, &w, lua_absindex(L, index), 1);
}
