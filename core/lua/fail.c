/* fail.c - errors as Lua sees them: tables {code, message, hint, where, retry, sqlstate} with a __tostring, raised by
 * every function of depot.*; and back again, when one of them ends a script. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "lua/run.h"

#define ERROR_META "depot.error"

static const char *const retry_names[] = {
    [DEPOT_RETRY_NO] = "no", [DEPOT_RETRY_SAFE] = "safe", [DEPOT_RETRY_UNCERTAIN] = "uncertain"
};
/* What a code that only the script knows counts as. */
static const depot_code retry_codes[] = { [DEPOT_RETRY_NO] = DEPOT_E_PRECONDITION,
                                          [DEPOT_RETRY_SAFE] = DEPOT_E_UNKNOWN,
                                          [DEPOT_RETRY_UNCERTAIN] = DEPOT_E_DB_UNKNOWN };

static int error_text(lua_State *L)
{
    lua_getfield(L, 1, "code");
    lua_getfield(L, 1, "message");
    lua_pushfstring(L, "%s: %s", lua_isstring(L, 2) ? lua_tostring(L, 2) : "error",
                    lua_isstring(L, 3) ? lua_tostring(L, 3) : "no message");
    return 1;
}

void fail_open(lua_State *L)
{
    luaL_newmetatable(L, ERROR_META);
    lua_pushcfunction(L, error_text);
    lua_setfield(L, -2, "__tostring");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

static void set_text(lua_State *L, const char *key, const char *text)
{
    if (text[0] != '\0') {
        lua_pushstring(L, text);
        lua_setfield(L, -2, key);
    }
}

void fail_push(lua_State *L, const depot_err *err, const char *where)
{
    lua_createtable(L, 0, 6);
    set_text(L, "code", depot_err_id(err));
    set_text(L, "message", err->msg);
    set_text(L, "hint", err->hint);
    set_text(L, "where", where);
    set_text(L, "retry", retry_names[depot_err_retry(err)]);
    set_text(L, "sqlstate", err->sqlstate);
    luaL_setmetatable(L, ERROR_META);
}

/* Length of "file:line: " at the start of a message; 0 if there is none. */
static size_t place_length(const char *text)
{
    const char *colon = strchr(text, ':');
    size_t      n = 1;

    while (colon != NULL && isdigit((unsigned char)colon[n])) {
        n++;
    }
    return colon != NULL && n > 1 && colon[n] == ':' && colon[n + 1] == ' ' ? (size_t)(colon - text) + n + 2 : 0;
}

static void cut(char *out, size_t size, const char *text, size_t n)
{
    n = text_utf8_cut(text, n, size - 1);
    memcpy(out, text, n);
    out[n] = '\0';
}

/* An error message with its place in front becomes an error value and the place. */
static void split(const char *text, depot_code code, depot_err *err, char *where, size_t where_size)
{
    size_t n = place_length(text);

    *err = (depot_err){ .code = code };
    cut(err->msg, sizeof(err->msg), text + n, strlen(text + n));
    if (n > 0) {
        cut(where, where_size, text, n - 2);
    }
}

int fail_raise(lua_State *L, const depot_err *err)
{
    char        where[160] = "";
    const char *place;

    luaL_where(L, 1);
    place = lua_tostring(L, -1);
    if (place[0] != '\0') {
        cut(where, sizeof(where), place, strlen(place) - 2);
    }
    lua_pop(L, 1);
    fail_push(L, err, where);
    return lua_error(L);
}

int fail_raisef(lua_State *L, depot_code code, const char *fmt, ...)
{
    depot_err err = { .code = code };
    va_list   ap;

    va_start(ap, fmt);
    (void)vsnprintf(err.msg, sizeof(err.msg), fmt, ap); /* long operands may be cut */
    va_end(ap);
    return fail_raise(L, &err);
}

int fail_syntax(lua_State *L)
{
    depot_err err;
    char      where[160] = "";

    split(lua_tostring(L, -1), DEPOT_E_LUA_SYNTAX, &err, where, sizeof(where));
    fail_push(L, &err, where);
    return lua_error(L);
}

void fail_wrap(lua_State *L)
{
    depot_err err;
    char      where[160] = "";

    if (lua_istable(L, -1)) {
        return;
    }
    split(luaL_tolstring(L, -1, NULL), DEPOT_E_LUA, &err, where, sizeof(where));
    fail_push(L, &err, where);
    lua_replace(L, -3);
    lua_pop(L, 1);
}

/* ---- from Lua to an error value ---- */

static const char *raw_text(lua_State *L, int index, const char *key)
{
    lua_pushstring(L, key);
    lua_rawget(L, index);
    return lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL; /* stays on the stack: the text stays valid */
}

static bool is_code(const char *text)
{
    size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

    return n > 0 && n < sizeof(((depot_err *)0)->id) && text[n] == '\0' && isupper((unsigned char)text[0]);
}

static bool find_retry(const char *name, depot_retry *out)
{
    for (size_t i = 0; name != NULL && i < DEPOT_N(retry_names); i++) {
        if (strcmp(name, retry_names[i]) == 0) {
            *out = (depot_retry)i;
            return true;
        }
    }
    return false;
}

/* A code of ours, when its class is the wanted one; else the script's own code, which counts as one of that class: as
 * one that may be tried again when the script says nothing. */
static void set_code(depot_err *err, const char *code, const char *retry)
{
    depot_err   known = { .code = depot_code_by_id(code) };
    depot_retry wanted = DEPOT_RETRY_SAFE;
    bool        given = find_retry(retry, &wanted);

    if ((known.code != DEPOT_E_UNKNOWN || strcmp(code, "UNKNOWN") == 0) &&
        (!given || depot_err_retry(&known) == wanted)) {
        err->code = known.code;
        return;
    }
    err->code = retry_codes[wanted];
    cut(err->id, sizeof(err->id), code, strlen(code));
}

static void read_table(lua_State *L, int index, depot_err *err, char *where, size_t where_size)
{
    const char *code = raw_text(L, index, "code");
    const char *message = raw_text(L, index, "message");
    const char *hint = raw_text(L, index, "hint");
    const char *place = raw_text(L, index, "where");
    const char *retry = raw_text(L, index, "retry");
    const char *sqlstate = raw_text(L, index, "sqlstate");

    *err = (depot_err){ .code = DEPOT_E_LUA };
    if (code != NULL && is_code(code)) {
        set_code(err, code, retry);
    }
    if (message == NULL) {
        message = luaL_tolstring(L, index, NULL);
    }
    cut(err->msg, sizeof(err->msg), message, strlen(message));
    cut(err->hint, sizeof(err->hint), hint == NULL ? "" : hint, hint == NULL ? 0 : strlen(hint));
    cut(err->sqlstate, sizeof(err->sqlstate), sqlstate == NULL ? "" : sqlstate,
        sqlstate == NULL ? 0 : strlen(sqlstate));
    if (place != NULL) {
        cut(where, where_size, place, strlen(place));
    }
}

void fail_read(lua_State *L, int index, run *r)
{
    depot_err err;

    if (lua_istable(L, index)) {
        read_table(L, index, &err, r->where, sizeof(r->where));
    } else {
        split(luaL_tolstring(L, index, NULL), DEPOT_E_LUA, &err, r->where, sizeof(r->where));
    }
    r->err = err;
}

int fail_depot_fail(lua_State *L)
{
    depot_err   err;
    char        where[160] = "";
    depot_retry retry;

    luaL_checktype(L, 1, LUA_TTABLE);
    const char *code = raw_text(L, 1, "code");
    const char *message = raw_text(L, 1, "message");
    const char *retry_name = raw_text(L, 1, "retry");
    if (code == NULL || !is_code(code)) {
        return luaL_argerror(L, 1, "code must be capital letters, digits and _, such as MAIL_REFUSED (at most 39)");
    }
    if (message == NULL) {
        return luaL_argerror(L, 1, "message must be a text");
    }
    if (retry_name != NULL && !find_retry(retry_name, &retry)) {
        return luaL_argerror(L, 1, "retry must be \"no\", \"safe\" or \"uncertain\"");
    }
    read_table(L, 1, &err, where, sizeof(where));
    return fail_raise(L, &err);
}
