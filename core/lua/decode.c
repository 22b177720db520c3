/* decode.c - JSON text straight to Lua values: what arguments of jobs mostly are, in one pass. What is rarer (escapes, long numbers, faults)
 * is left to the parser. */
#include <stdlib.h>
#include <string.h>

#include "lua/run.h"

enum { DEPTH_MAX = 60, DIGITS_MAX = 18 };

typedef struct reader {
    const char *at, *end;
} reader;

static bool read_value(lua_State *L, reader *r, int depth);

static char next_char(reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) {
        r->at++;
    }
    return r->at < r->end ? *r->at : '\0';
}

static bool take(reader *r, char c)
{
    bool is = next_char(r) == c;

    r->at += is;
    return is;
}

static bool read_text(lua_State *L, reader *r)
{
    const char *from = ++r->at;

    while (r->at < r->end && *r->at != '"' && *r->at != '\\' && (unsigned char)*r->at >= ' ') {
        r->at++;
    }
    size_t n = (size_t)(r->at - from);
    if (r->at == r->end || *r->at != '"' || !depot_utf8_valid(from, n)) {
        return false;
    }
    r->at++;
    lua_pushlstring(L, from, n);
    return true;
}

static bool read_number(lua_State *L, reader *r)
{
    bool        negative = take(r, '-');
    const char *from = r->at;
    int64_t     n = 0;

    while (r->at < r->end && *r->at >= '0' && *r->at <= '9' && r->at - from < DIGITS_MAX) {
        n = n * 10 + (*r->at++ - '0');
    }
    bool is_whole = r->at == r->end || strchr(",]} \t\r\n", *r->at) != NULL;
    if (r->at == from || !is_whole || (*from == '0' && r->at - from > 1)) {
        return false;
    }
    lua_pushinteger(L, negative ? -n : n);
    return true;
}

static bool read_word(lua_State *L, reader *r)
{
    static const struct {
        const char *word;
        size_t      n;
    } words[] = { { "false", 5 }, { "true", 4 }, { "null", 4 } };

    for (size_t i = 0; i < DEPOT_N(words); i++) {
        if ((size_t)(r->end - r->at) >= words[i].n && memcmp(r->at, words[i].word, words[i].n) == 0) {
            r->at += words[i].n;
            if (i == 2) {
                value_push_null(L);
            } else {
                lua_pushboolean(L, i == 1);
            }
            return true;
        }
    }
    return false;
}

static bool read_array(lua_State *L, reader *r, int depth)
{
    r->at++;
    lua_newtable(L);
    value_mark_array(L);
    if (take(r, ']')) {
        return true;
    }
    for (lua_Integer i = 1;; i++) {
        if (!read_value(L, r, depth + 1)) {
            return false;
        }
        lua_rawseti(L, -2, i);
        if (!take(r, ',')) {
            return take(r, ']');
        }
    }
}

static bool read_object(lua_State *L, reader *r, int depth)
{
    r->at++;
    lua_newtable(L);
    if (take(r, '}')) {
        return true;
    }
    for (;;) {
        if (next_char(r) != '"' || !read_text(L, r) || !take(r, ':') || !read_value(L, r, depth + 1)) {
            return false;
        }
        lua_rawset(L, -3);
        if (!take(r, ',')) {
            return take(r, '}');
        }
    }
}

static bool read_value(lua_State *L, reader *r, int depth)
{
    char c = next_char(r);

    if (depth > DEPTH_MAX) {
        return false;
    }
    luaL_checkstack(L, 4, "nested too deep");
    return c == '"'   ? read_text(L, r)
           : c == '{' ? read_object(L, r, depth)
           : c == '[' ? read_array(L, r, depth)
           : c == '-' || (c >= '0' && c <= '9') ? read_number(L, r)
                                                : read_word(L, r);
}

void value_parse(lua_State *L, const char *text, size_t n)
{
    reader    r = { text, text + n };
    int       top = lua_gettop(L);
    depot_err err = { 0 };

    if (read_value(L, &r, 1) && next_char(&r) == '\0' && r.at == r.end) {
        return;
    }
    lua_settop(L, top);
    const depot_json *value = depot_json_parse(run_scratch(vm_run(L)), text, n, &err);
    if (value == NULL) {
        fail_raisef(L, DEPOT_E_BAD_PAYLOAD, "arguments: %s", err.msg);
    }
    value_push(L, value);
}
