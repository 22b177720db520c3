/* fuzz_lua_match.c - any pattern on any subject: our matcher says what Lua's says. The first byte tells where the pattern
 * ends and the subject begins; both are short, as Lua's matcher has no limit. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "depot/base.h"
#include "lua/match.h"

enum { PATTERN_MAX = 14, SUBJECT_MAX = 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* string.match with position captures around, so that the whole match shows too. false: an error. */
static bool theirs(lua_State *L, const char *s, size_t n, const char *p, size_t pn, depot_buf *out)
{
    bool ok;

    lua_settop(L, 0);
    lua_getglobal(L, "string");
    lua_getfield(L, 1, "find");
    lua_pushlstring(L, s, n);
    lua_pushlstring(L, p, pn);
    ok = lua_pcall(L, 2, LUA_MULTRET, 0) == LUA_OK;
    for (int i = 2; ok && i <= lua_gettop(L); i++) {
        size_t      len;
        const char *text = luaL_tolstring(L, i, &len);
        depot_buf_add(out, text, len);
        depot_buf_add(out, "|", 1);
        lua_pop(L, 1);
    }
    return ok;
}

static bool add_captures(const match *m, depot_buf *out)
{
    for (int i = 0; i < m->level; i++) {
        if (m->captures[i].n == MATCH_UNFINISHED) {
            return false;
        }
        if (m->captures[i].n == MATCH_POSITION) {
            depot_buf_addf(out, "%d|", (int)(m->captures[i].start - m->src) + 1);
        } else {
            depot_buf_add(out, m->captures[i].start, (size_t)m->captures[i].n);
            depot_buf_add(out, "|", 1);
        }
    }
    return true;
}

static bool ours(const char *s, size_t n, const char *p, size_t pn, depot_buf *out, bool *out_gave_up)
{
    size_t anchored = pn > 0 && *p == '^';
    match  m;

    match_init(&m, s, n, p + anchored, pn - anchored, NULL);
    for (size_t at = 0; at <= n && (at == 0 || anchored == 0); at++) {
        m.level = 0;
        const char *end = match_at(&m, s + at, p + anchored);
        *out_gave_up = m.error != NULL && strstr(m.error, "steps") != NULL;
        if (m.error != NULL) {
            return false;
        }
        if (end != NULL) {
            depot_buf_addf(out, "%zu|%d|", at + 1, (int)(end - s));
            return add_captures(&m, out);
        }
    }
    depot_buf_adds(out, "nil|");
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State                    *L;
    DEPOT_AUTO(depot_buf_free) depot_buf a = { 0 };
    DEPOT_AUTO(depot_buf_free) depot_buf b = { 0 };
    char                                 p[PATTERN_MAX + 1] = "", s[SUBJECT_MAX + 1] = "";
    bool                                 gave_up = false;

    if (L == NULL) {
        L = luaL_newstate();
        luaL_openlibs(L);
    }
    if (size == 0) {
        return 0;
    }
    size_t pn = data[0] % (PATTERN_MAX + 1);
    pn = pn < size - 1 ? pn : size - 1;
    size_t n = size - 1 - pn < SUBJECT_MAX ? size - 1 - pn : SUBJECT_MAX;
    memcpy(p, data + 1, pn);
    memcpy(s, data + 1 + pn, n);
    if (match_is_plain(p, pn)) {
        return 0;
    }
    bool fine = ours(s, n, p, pn, &a, &gave_up);
    if (gave_up) {
        return 0;
    }
    if (theirs(L, s, n, p, pn, &b) != fine || (fine && (a.len != b.len || memcmp(a.data, b.data, a.len) != 0))) {
        abort();
    }
    return 0;
}
