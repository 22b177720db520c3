/* test_lua_match.c - our pattern matcher beside Lua's own: the same results and the same errors, on chosen and on random
 * patterns; and the limit that Lua's has not. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "lua/match.h"
#include "lua_rig.h"
#include "tap.h"

enum { RANDOM_CASES = 60000, TEXT_MAX = 24 };

static lua_State *theirs;

/* Result of string.find(s, p) by Lua's library as text: start, end and captures, or "error: …". */
static void find_theirs(const char *s, size_t n, const char *p, size_t pn, depot_buf *out)
{
    int top = lua_gettop(theirs);

    lua_getglobal(theirs, "string");
    lua_getfield(theirs, -1, "find");
    lua_pushlstring(theirs, s, n);
    lua_pushlstring(theirs, p, pn);
    lua_pushinteger(theirs, 1);
    lua_pushboolean(theirs, 0);
    if (lua_pcall(theirs, 4, LUA_MULTRET, 0) != LUA_OK) {
        depot_buf_adds(out, "error");
    } else {
        for (int i = top + 2; i <= lua_gettop(theirs); i++) {
            size_t      len;
            const char *text = luaL_tolstring(theirs, i, &len);
            depot_buf_add(out, text, len);
            depot_buf_adds(out, "|");
            lua_pop(theirs, 1);
        }
    }
    lua_settop(theirs, top);
}

static void add_captures(const match *m, depot_buf *out)
{
    for (int i = 0; i < m->level; i++) {
        if (m->captures[i].n == MATCH_POSITION) {
            depot_buf_addf(out, "%d|", (int)(m->captures[i].start - m->src) + 1);
        } else if (m->captures[i].n == MATCH_UNFINISHED) {
            depot_buf_reset(out);
            depot_buf_adds(out, "error");
            return;
        } else {
            depot_buf_add(out, m->captures[i].start, (size_t)m->captures[i].n);
            depot_buf_adds(out, "|");
        }
    }
}

/* The same by our matcher, driven as lib_string.c does. */
static void find_ours(const char *s, size_t n, const char *p, size_t pn, depot_buf *out)
{
    bool  anchored = pn > 0 && *p == '^';
    match m;

    if (match_is_plain(p, pn)) {
        const char *at = pn == 0 ? s : memmem(s, n, p, pn);
        if (at == NULL) {
            depot_buf_adds(out, "nil|");
        } else {
            depot_buf_addf(out, "%d|%d|", (int)(at - s) + 1, (int)(at - s + (ptrdiff_t)pn));
        }
        return;
    }
    match_init(&m, s, n, p + anchored, pn - anchored, NULL);
    for (const char *at = s; at <= s + n; at++) {
        m.level = 0;
        const char *end = match_at(&m, at, p + anchored);
        if (m.error != NULL) {
            depot_buf_adds(out, "error");
            return;
        }
        if (end != NULL) {
            depot_buf_addf(out, "%d|%d|", (int)(at - s) + 1, (int)(end - s));
            add_captures(&m, out);
            return;
        }
        if (anchored) {
            break;
        }
    }
    depot_buf_adds(out, "nil|");
}

/* NULL: the same. */
static const char *compare(const char *s, size_t n, const char *p, size_t pn, depot_buf *a, depot_buf *b)
{
    depot_buf_reset(a);
    depot_buf_reset(b);
    find_theirs(s, n, p, pn, a);
    find_ours(s, n, p, pn, b);
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0 ? NULL : b->data;
}

static void chosen_patterns_give_what_lua_gives(void)
{
    static const char *const rows[][2] = {
        { "hello world", "o w" },        { "hello", "l+" },          { "hello", "(l)(l)" },        { "hello", "()ll()" },
        { "hello", "^h" },               { "hello", "o$" },          { "hello", "^(.-)l" },        { "  trim  ", "^%s*(.-)%s*$" },
        { "a.b", "%." },                 { "key = value", "(%w+)%s*=%s*(%w+)" },                    { "[[x]]", "%[(%b[])%]" },
        { "f(a(b)c)d", "%b()" },         { "THE (quick) fox", "%((%a+)%)" },                        { "abcabc", "(abc)%1" },
        { "x", "%z" },                   { "a-b", "[a%-]+" },        { "a]b", "[]]" },              { "a^b", "[b^]" },
        { "abc", "[^a]" },               { "THE QUICK", "%f[%a]%a+" },                              { "end", "%f[%z]" },
        { "abc", "[a-]" },               { "a-c", "[a-c-e]+" },      { "x%y", "%%" },               { "x", "[%" },
        { "x", "[" },                    { "x", "[^" },              { "x", "[]" },                 { "x", "%" },
        { "x", "(" },                    { "x", ")" },               { "x", "%1" },                 { "x", "(%1)" },
        { "x", "%f" },                   { "x", "%fa" },             { "x", "%b" },                 { "x", "%bx" },
        { "", "" },                      { "", ".*" },               { "", "%b()" },                { "aaa", "a-" },
        { "aaa", "a-$" },                { "aaa", "a?a?a?a?" },      { "0x1F", "0[xX](%x+)" },      { "\xff\xfe", "[\x80-\xff]+" },
        { "a\nb", "%c" },                { "$5", "%$%d" },           { "a$b", "a$b" },              { "a^b", "a^b" },
        { "abc", "(a)(b)(c)%3" },        { "()", "%(%)" },           { "x()", "()%1" },             { "a,b,,c", "([^,]*),([^,]*),([^,]*)" },
        { "alo", "%" "f[%w]%w+%f[%W]" }, { "_a", "[_%a][_%w]*" },    { "x", "(x" },                 { "x", "x)" },
        { "a.-b", "a.-b" },              { "aXb", "a%ub" },          { "xuxx uu ppar r", "()(.)%2" },
        { "alo\0alo", "%z" },            { "]]]", "[^]]" },          { "x^", "[%^x]+" },            { "-", "[%--/]" },
        { "(((((((((((((((((((((((((((((((((", "(((((((((((((((((((((((((((((((((" },
    };
    DEPOT_AUTO(depot_buf_free) depot_buf a = { 0 };
    DEPOT_AUTO(depot_buf_free) depot_buf b = { 0 };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        const char *other = compare(rows[i][0], strlen(rows[i][0]), rows[i][1], strlen(rows[i][1]), &a, &b);
        is_str(other == NULL ? a.data : other, a.data, rows[i][1]);
    }
}

static uint32_t seed = 2463534242U;

static uint32_t next_random(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed % below;
}

/* Mostly characters that mean something. */
static size_t random_text(char *out, const char *alphabet, size_t alphabet_n)
{
    size_t n = next_random(TEXT_MAX);

    for (size_t i = 0; i < n; i++) {
        out[i] = alphabet[next_random((uint32_t)alphabet_n)];
    }
    out[n] = '\0';
    return n;
}

static void random_patterns_give_what_lua_gives(void)
{
    static const char in_pattern[] = "aabbA1 \0[]()%%%.*+-?^$fbdwsauzxlpcg129]-";
    static const char in_subject[] = "aaabbA1 \0()[]%.";
    DEPOT_AUTO(depot_buf_free) depot_buf a = { 0 };
    DEPOT_AUTO(depot_buf_free) depot_buf b = { 0 };
    char   s[TEXT_MAX + 1], p[TEXT_MAX + 1];
    size_t wrong = 0, errors = 0, found = 0;

    for (size_t i = 0; i < RANDOM_CASES; i++) {
        size_t n = random_text(s, in_subject, sizeof(in_subject) - 1);
        size_t pn = random_text(p, in_pattern, sizeof(in_pattern) - 1);
        if (compare(s, n, p, pn, &a, &b) != NULL && wrong++ < 5) {
            printf("# subject \"%s\" pattern \"%s\": Lua %s, we %s\n", s, p, a.data, b.data);
        }
        errors += strcmp(a.data, "error") == 0;
        found += strncmp(a.data, "nil", 3) != 0 && strcmp(a.data, "error") != 0;
    }
    is_int(wrong, 0, "no difference");
    ok(errors > RANDOM_CASES / 20 && found > RANDOM_CASES / 20, "and there were matches and errors among them");
}

/* One text of calls run by both: the functions around the matcher. */
static void functions_give_what_lua_gives(void)
{
    static const char text[] =
        "local out = {}\n"
        "local function say(...)\n"
        "  local t = table.pack(...)\n"
        "  for i = 1, t.n do t[i] = tostring(t[i]) end\n"
        "  out[#out + 1] = table.concat(t, ',')\n"
        "end\n"
        "local function try(f, ...) local r = table.pack(pcall(f, ...)) say(r[1], r[1] and table.unpack(r, 2, r.n) or 'error') end\n"
        "for _, init in ipairs { 1, 2, 5, 6, 7, 0, -1, -5, -6, -100, 100 } do\n"
        "  try(string.find, 'hello', 'l', init) try(string.find, 'hello', 'l', init, true) try(string.match, 'hello', '(l)(.)', init)\n"
        "  try(string.find, 'hello', '', init)\n"
        "  for a, b in ('hello'):gmatch('()(.)', init) do say(a, b) end\n"
        "end\n"
        "try(string.gsub, 'hello world', 'o', '0') try(string.gsub, 'hello world', '(o)', '<%1>') try(string.gsub, 'hello', '', '-')\n"
        "try(string.gsub, 'hello', 'l', '%0%0', 1) try(string.gsub, 'hello', 'x*', '-') try(string.gsub, 'abc', '%w', '%%%0')\n"
        "try(string.gsub, 'abc', '%w', '%2') try(string.gsub, 'abc', '%w', '%') try(string.gsub, 'abc', '%w', '%x') try(string.gsub, 'abc', '()', '%1')\n"
        "try(string.gsub, 'abc', '%w', { a = '1', b = true, c = false }) try(string.gsub, 'abc', '%w', { a = 1, b = 2.5 })\n"
        "try(string.gsub, 'abc', '%w', function(c) if c == 'b' then return nil end return c:upper() end)\n"
        "try(string.gsub, 'abc', '(%w)(%w)', function(a, b) return b .. a end) try(string.gsub, 'abc', '%w', function() return {} end)\n"
        "try(string.gsub, 'abc def', '^%w+', 'x') try(string.gsub, 'abc', 'b', 'x', 0) try(string.gsub, 'abc', 'b', 'x', -1)\n"
        "try(string.gsub, 'abc', 'b') try(string.gsub, 'abc', 'b', true) try(string.gsub, 12321, 2, 3)\n"
        "for k, v in ('a=1, b=2'):gmatch('(%w+)=(%w+)') do say(k, v) end for w in ('one two'):gmatch('%a+') do say(w) end\n"
        "for w in ('abc'):gmatch('') do say('[' .. w .. ']') end for w in ('^a^b'):gmatch('^a') do say(w) end\n"
        "try(string.gmatch, 'x') try(string.gmatch, nil, 'x')\n"
        "try(string.rep, 'ab', 3) try(string.rep, 'ab', 3, ', ') try(string.rep, 'ab', 0) try(string.rep, 'ab', -1) try(string.rep, '', 10)\n"
        "try(string.rep, '', 3, 'x') try(string.rep, 'x', 1, 'yy') try(string.rep, 'x', 1 << 40) try(string.rep, 'x', 7, '--')\n"
        "local function list(...) return { ... } end\n"
        "local t = list(1, 2, 3) table.insert(t, 4) table.insert(t, 1, 0) table.insert(t, 6, 5) say(table.concat(t, ' '))\n"
        "try(table.insert, t, 9, 1) try(table.insert, t, 0, 1) try(table.insert, t) try(table.insert, t, 1, 2, 3) try(table.insert, nil, 1)\n"
        "say(table.remove(t), table.remove(t, 1), table.concat(t, ' ')) try(table.remove, t, 9) try(table.remove, {}) try(table.remove, {}, 0)\n"
        "try(table.remove, { 1, 2, 3 }, 4) try(table.remove, { 1, 2, 3 }, 3) try(table.remove, { n = 1, [0] = 'z' }, 0)\n"
        "try(table.concat, { 1, 2, {} }) try(table.concat, { 1, 2, 3 }, ', ', 2) try(table.concat, { 1, 2, 3 }, ', ', 2, 3)\n"
        "try(table.concat, { 1, 2, 3 }, ', ', 3, 2) try(table.concat, {}) try(table.concat, { 1 }, '', 1, 2)\n"
        "say(table.concat(table.move({ 1, 2, 3 }, 2, 3, 1), ' ')) say(table.concat(table.move({ 1, 2, 3 }, 1, 3, 2), ' '))\n"
        "say(table.concat(table.move({ 1, 2, 3 }, 1, 3, 1, {}), ' ')) say(table.concat(table.move({ 1, 2, 3 }, 1, 0, 1), ' '))\n"
        "try(table.move, {}, math.mininteger, math.maxinteger, 1) try(table.move, {}, 1, math.maxinteger, 2) try(table.move, {}, 1, 2)\n"
        "local s = list(3, 1, 2) table.sort(s) say(table.concat(s, ' ')) table.sort(s, function(a, b) return a > b end) say(table.concat(s, ' '))\n"
        "try(table.sort, { 1, 'x' }) try(table.sort, { 3, 2, 1 }, 5)\n"
        "local co = coroutine.create(function(a, b) local c = coroutine.yield(a + b) local d = coroutine.yield(c * 2) return d, 'end' end)\n"
        "try(coroutine.resume, co, 1, 2) try(coroutine.resume, co, 5) say(coroutine.status(co)) try(coroutine.resume, co, 6) say(coroutine.status(co))\n"
        "try(coroutine.resume, co) local w = coroutine.wrap(function() error('x', 0) end) try(w) try(w)\n"
        "say(select('#', coroutine.wrap(function() return coroutine.yield(1, nil, 3) end)()))\n"
        "local c2 = coroutine.create(function() local x <close> = setmetatable({}, { __close = function() say('closed') end }) coroutine.yield() end)\n"
        "coroutine.resume(c2) say(coroutine.close(c2), coroutine.status(c2)) try(coroutine.close, coroutine.running())\n"
        "local c3 = coroutine.create(function() error({}) end) coroutine.resume(c3) say(select('#', coroutine.close(c3)))\n"
        "say(pcall(pcall)) say(pcall(error)) say(xpcall(error, function(m) return 'handled ' .. tostring(m) end, 'x'))\n"
        "say(xpcall(function(...) return select('#', ...) end, print, 1, nil, nil)) say(pcall(xpcall)) say(select('#', pcall(function() return 1, nil, nil end)))\n"
        "say(load('return 1 + 1')()) say(load('return x', 'n', 't', { x = 3 })()) say(load('return +')) say(pcall(load, 'x', 'n', 't', nil))\n"
        "local pieces = list('return ', '4', nil) local at = 0 say(load(function() at = at + 1 return pieces[at] end)())\n"
        "say(setmetatable({}, { __tostring = function() return 'me' end }), getmetatable(setmetatable({}, { __metatable = 'locked' })))\n"
        "say(pcall(setmetatable, setmetatable({}, { __metatable = 1 }), {})) say(rawset({}, 1, 2)[1]) say(pcall(rawset, 1, 2, 3))\n"
        "return table.concat(out, '\\n')\n";
    rig r;

    rig_once(&r, text, "{}", 5000);
    ok_err(r.ok, &r.err, "the sandbox runs it");
    ok(luaL_dostring(theirs, text) == LUA_OK, "Lua runs it");
    depot_err         err = { 0 };
    const depot_json *got = depot_json_parse(r.arena, r.json, strlen(r.json), &err);
    is_str(got == NULL ? NULL : depot_json_string(got, NULL), lua_tostring(theirs, -1), "both say the same");
    rig_free(&r);
}

static void bad_patterns_end(void)
{
    static const char *const rows[][2] = {
        { "three lazy items", "return (('a'):rep(1000)):find(('.-'):rep(3) .. 'b')" },
        { "many lazy items", "return (('a'):rep(100)):find(('.-'):rep(30) .. 'b')" },
        { "many greedy items", "return (('a'):rep(100)):find(('a*'):rep(30) .. 'b')" },
        { "optional items", "return (('a'):rep(64)):find(('a?'):rep(64) .. ('a'):rep(65))" },
        { "gsub of them", "return (('a'):rep(1000)):gsub(('.-'):rep(3) .. 'b', '')" },
        { "gmatch of them", "for _ in (('a'):rep(1000)):gmatch(('.-'):rep(3) .. 'b') do end" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        rig r;
        rig_once(&r, rows[i][1], "{}", 5000);
        ok(!r.ok && strstr(r.err.msg, "too many steps") != NULL, rows[i][0]);
        rig_free(&r);
    }
}

static void large_texts_are_no_bad_patterns(void)
{
    rig r;

    rig_once(&r, "local s = ('line of text\\n'):rep(100000) local n = 0\n"
                 "for l in s:gmatch('(.-)\\n') do n = n + 1 end\n"
                 "local t, k = s:gsub('%w+', '%0!')\n"
                 "return { n, k, #t, s:find('nothing', 1, true) == nil, #(('  x  '):rep(100000):match('^%s*(.-)%s*$')) }", "{}", 20000);
    ok_err(r.ok, &r.err, "a megabyte is walked through");
    is_str(r.json, "[100000,300000,1600000,true,499996]", "with the right results");
    rig_free(&r);
}

static void plain_search_is_linear(void)
{
    rig r;

    rig_once(&r, "local s = ('a'):rep(4000000) return s:find(('a'):rep(2000000) .. 'b', 1, true)", "{}", 5000);
    ok_err(r.ok, &r.err, "a search that would take hours ends");
    rig_free(&r);
}

int main(void)
{
    theirs = luaL_newstate();
    luaL_openlibs(theirs);
    run(chosen_patterns_give_what_lua_gives);
    run(random_patterns_give_what_lua_gives);
    run(functions_give_what_lua_gives);
    run(bad_patterns_end);
    run(large_texts_are_no_bad_patterns);
    run(plain_search_is_linear);
    lua_close(theirs);
    return done();
}
