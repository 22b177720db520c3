/* lib_string.c - string.find, match, gmatch, gsub and rep, as in Lua 5.4 but bounded: patterns by steps, plain searches
 * by an algorithm that is linear in the worst case. */
#include <ctype.h>
#include <limits.h>
#include <string.h>

#include "lua/match.h"
#include "lua/run.h"

static void start(lua_State *L, match *m, const char *s, size_t n, const char *p, size_t pn)
{
    const run *r = vm_of(L)->run;

    match_init(m, s, n, p, pn, r == NULL ? NULL : &r->killed);
}

/* One try; raises what the matcher found wrong. */
static const char *try_at(lua_State *L, match *m, const char *s, const char *p)
{
    m->level = 0;
    const char *end = match_at(m, s, p);
    if (m->error != NULL) {
        vm_check(L);
        if (m->error_index != 0) {
            luaL_error(L, "invalid capture index %%%d in pattern", m->error_index);
        }
        luaL_error(L, "%s", m->error);
    }
    return end;
}

static void push_capture(lua_State *L, const match *m, int i, const char *s, const char *end)
{
    if (i >= m->level) {
        if (i != 0) {
            luaL_error(L, "invalid capture index %%%d", i + 1);
        }
        lua_pushlstring(L, s, (size_t)(end - s)); /* without captures the whole match is the first */
    } else if (m->captures[i].n == MATCH_UNFINISHED) {
        luaL_error(L, "unfinished capture");
    } else if (m->captures[i].n == MATCH_POSITION) {
        lua_pushinteger(L, m->captures[i].start - m->src + 1);
    } else {
        lua_pushlstring(L, m->captures[i].start, (size_t)m->captures[i].n);
    }
}

/* s NULL: no whole match in place of captures. */
static int push_captures(lua_State *L, const match *m, const char *s, const char *end)
{
    int n = m->level == 0 && s != NULL ? 1 : m->level;

    luaL_checkstack(L, n, "too many captures");
    for (int i = 0; i < n; i++) {
        push_capture(L, m, i, s, end);
    }
    return n;
}

/* The start argument, counted from the end when negative; offset of it. */
static size_t start_offset(lua_State *L, int arg, size_t n)
{
    lua_Integer at = luaL_optinteger(L, arg, 1);

    if (at > 0) {
        return (size_t)at - 1;
    }
    return at == 0 || at < -(lua_Integer)n ? 0 : n - (size_t)-at;
}

static int find_plain(lua_State *L, const char *s, size_t n, const char *p, size_t pn, size_t from)
{
    const char *found = pn == 0 ? s + from : memmem(s + from, n - from, p, pn);

    if (found == NULL) {
        luaL_pushfail(L);
        return 1;
    }
    lua_pushinteger(L, found - s + 1);
    lua_pushinteger(L, found - s + (lua_Integer)pn);
    return 2;
}

static int find_or_match(lua_State *L, bool find)
{
    size_t      n, pn;
    const char *s = luaL_checklstring(L, 1, &n);
    const char *p = luaL_checklstring(L, 2, &pn);
    size_t      from = start_offset(L, 3, n);
    match       m;

    if (from > n) {
        luaL_pushfail(L);
        return 1;
    }
    if (find && (lua_toboolean(L, 4) || match_is_plain(p, pn))) {
        return find_plain(L, s, n, p, pn, from);
    }
    bool anchored = pn > 0 && *p == '^';
    start(L, &m, s, n, anchored ? p + 1 : p, anchored ? pn - 1 : pn);
    for (const char *at = s + from; at <= s + n; at++) {
        const char *end = try_at(L, &m, at, anchored ? p + 1 : p);
        if (end != NULL && !find) {
            return push_captures(L, &m, at, end);
        }
        if (end != NULL) {
            lua_pushinteger(L, at - s + 1);
            lua_pushinteger(L, end - s);
            return push_captures(L, &m, NULL, NULL) + 2;
        }
        if (anchored) {
            break;
        }
    }
    luaL_pushfail(L);
    return 1;
}

static int lib_find(lua_State *L)
{
    return find_or_match(L, true);
}

static int lib_match(lua_State *L)
{
    return find_or_match(L, false);
}

/* Upvalues: subject, pattern, offset to go on at, offset of the last match's end (-1: none yet). */
static int gmatch_next(lua_State *L)
{
    size_t      n, pn;
    const char *s = lua_tolstring(L, lua_upvalueindex(1), &n);
    const char *p = lua_tolstring(L, lua_upvalueindex(2), &pn);
    lua_Integer last = lua_tointeger(L, lua_upvalueindex(4));
    match       m;

    start(L, &m, s, n, p, pn);
    for (size_t at = (size_t)lua_tointeger(L, lua_upvalueindex(3)); at <= n; at++) {
        const char *end = try_at(L, &m, s + at, p);
        if (end != NULL && end - s != last) {
            lua_pushinteger(L, end - s);
            lua_copy(L, -1, lua_upvalueindex(3));
            lua_replace(L, lua_upvalueindex(4));
            return push_captures(L, &m, s + at, end);
        }
    }
    lua_pushinteger(L, (lua_Integer)n + 1); /* stays at its end */
    lua_replace(L, lua_upvalueindex(3));
    return 0;
}

static int lib_gmatch(lua_State *L)
{
    size_t n;

    luaL_checklstring(L, 1, &n);
    luaL_checkstring(L, 2);
    size_t from = start_offset(L, 3, n);
    lua_settop(L, 2);
    lua_pushinteger(L, from > n ? (lua_Integer)n + 1 : (lua_Integer)from);
    lua_pushinteger(L, -1);
    lua_pushcclosure(L, gmatch_next, 4);
    return 1;
}

/* ---- gsub: stack 1 subject, 2 pattern, 3 replacement ---- */

static void add_template(lua_State *L, const match *m, luaL_Buffer *b, const char *s, const char *end)
{
    size_t      n;
    const char *text = lua_tolstring(L, 3, &n);
    const char *stop = text + n;

    while (text < stop) {
        const char *mark = memchr(text, '%', (size_t)(stop - text));
        if (mark == NULL) {
            luaL_addlstring(b, text, (size_t)(stop - text));
            return;
        }
        luaL_addlstring(b, text, (size_t)(mark - text));
        mark++;
        if (mark < stop && *mark == '%') {
            luaL_addchar(b, '%');
        } else if (mark < stop && *mark == '0') {
            luaL_addlstring(b, s, (size_t)(end - s));
        } else if (mark < stop && isdigit((unsigned char)*mark)) {
            push_capture(L, m, *mark - '1', s, end);
            luaL_tolstring(L, -1, NULL); /* a position is a number */
            lua_remove(L, -2);
            luaL_addvalue(b);
        } else {
            luaL_error(L, "invalid use of '%%' in replacement string");
        }
        text = mark + 1;
    }
}

/* false: the match stays as it is. */
static bool add_replacement(lua_State *L, const match *m, luaL_Buffer *b, const char *s, const char *end)
{
    switch (lua_type(L, 3)) {
    case LUA_TFUNCTION:
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(L, m, s, end), 1);
        break;
    case LUA_TTABLE:
        push_capture(L, m, 0, s, end);
        lua_gettable(L, 3);
        break;
    default:
        add_template(L, m, b, s, end);
        return true;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(b, s, (size_t)(end - s));
        return false;
    }
    if (!lua_isstring(L, -1)) {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    }
    luaL_addvalue(b);
    return true;
}

static int lib_gsub(lua_State *L)
{
    size_t      n, pn;
    const char *s = luaL_checklstring(L, 1, &n);
    const char *p = luaL_checklstring(L, 2, &pn);
    int         type = lua_type(L, 3);
    lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)n + 1);
    lua_Integer done = 0;
    bool        anchored = pn > 0 && *p == '^', changed = false;
    const char *at = s, *last = NULL;
    luaL_Buffer b;
    match       m;

    luaL_argexpected(L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TTABLE || type == LUA_TFUNCTION, 3,
                     "string/function/table");
    start(L, &m, s, n, anchored ? p + 1 : p, anchored ? pn - 1 : pn);
    luaL_buffinit(L, &b);
    while (done < most) {
        const char *end = try_at(L, &m, at, anchored ? p + 1 : p);
        if (end != NULL && end != last) {
            done++;
            changed = add_replacement(L, &m, &b, at, end) || changed;
            at = last = end;
        } else if (at < s + n) {
            luaL_addchar(&b, *at);
            at++;
        } else {
            break;
        }
        if (anchored) {
            break;
        }
    }
    if (!changed) {
        lua_pushvalue(L, 1);
    } else {
        luaL_addlstring(&b, at, (size_t)(s + n - at));
        luaL_pushresult(&b);
    }
    lua_pushinteger(L, done);
    return 2;
}

/* ---- rep ---- */

static int lib_rep(lua_State *L)
{
    size_t      n, sep_n, filled;
    const char *s = luaL_checklstring(L, 1, &n);
    lua_Integer times = luaL_checkinteger(L, 2);
    const char *sep = luaL_optlstring(L, 3, "", &sep_n);
    luaL_Buffer b;

    if (times <= 0 || n + sep_n == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if (n + sep_n < n || n + sep_n > (size_t)INT_MAX / (size_t)times) {
        return luaL_error(L, "resulting string too large");
    }
    size_t total = (size_t)times * n + (size_t)(times - 1) * sep_n;
    char  *out = luaL_buffinitsize(L, &b, total);
    memcpy(out, s, n);
    filled = n;
    if (times > 1) {
        memcpy(out + n, sep, sep_n);
        filled += sep_n;
    }
    while (filled < total) { /* doubles what is there */
        size_t more = filled < total - filled ? filled : total - filled;
        memcpy(out + filled, out, more);
        filled += more;
    }
    luaL_pushresultsize(&b, total);
    return 1;
}

const luaL_Reg lib_string[] = {
    { "find", lib_find },   { "gmatch", lib_gmatch }, { "gsub", lib_gsub },
    { "match", lib_match }, { "rep", lib_rep },       { NULL, NULL },
};
