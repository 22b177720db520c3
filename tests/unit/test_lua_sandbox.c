/* test_lua_sandbox.c - what scripts can reach, and that each known hole of Lua's library is closed. */
#include "lua_rig.h"
#include "tap.h"

static host_env           env = { .state_dir = "/tmp", .node = "n", .data_dir = "/tmp", .conf_dir = "/tmp", .plugin_dir = "/tmp",
                                  .worker = true };
static const depot_plugin core = { .version = "1", .summary = "test" };

/* One chunk with a host that has no plugins, so that depot holds what the core offers and nothing else. */
static bool run_text(rig *r, const char *text)
{
    static host *h;

    if (h == NULL) {
        h = host_new(&env, &core);
    }
    rig_init(r);
    rig_file(r, "t.lua", text);
    rig_file(r, "lib/m.lua", "local M = { name = ... } function M.twice(n) return 2 * n end return M\n");
    rig_file(r, "lib/site/deep.lua", "return 'deep'\n");
    rig_file(r, "lib/loop.lua", "return require 'loop'\n");
    rig_file(r, "lib/waits.lua", "depot.sleep(0.01) return 'waited'\n");
    return rig_start(r, &(rig_options){ .host = h }) && rig_run(r, RUN_FILE, "t.lua", "{}", 2000);
}

static void every_reachable_name_is_on_the_list(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const char                               *root = getenv("DEPOT_SRC");
    char                                     *want = NULL;
    depot_err                                 err = { 0 };
    rig                                       r;

    ok_err(depot_read_file(arena, depot_strf(arena, "%s/tests/golden/lua-names.txt", root == NULL ? "." : root), 1 << 20, &want, NULL,
                           &err), &err, "the list is there");
    bool fine = run_text(&r, "local out = {}\n"
                             "local function walk(prefix, t)\n"
                             "  for k, v in pairs(t) do\n"
                             "    out[#out + 1] = prefix .. k .. ' ' .. type(v)\n"
                             "    if type(v) == 'table' then walk(prefix .. k .. '.', v) end\n"
                             "  end\n"
                             "end\n"
                             "walk('', _ENV)\n"
                             "table.sort(out)\n"
                             "return table.concat(out, '\\n') .. '\\n'\n");
    if (ok_err(fine, &r.err, "a script walks through all that it can reach")) {
        const depot_json *got = depot_json_parse(r.arena, r.json, strlen(r.json), &err);
        is_str(depot_json_string(got, NULL), want, "which is the list, no name more or less");
    }
    rig_free(&r);
}

typedef struct row {
    const char *name, *text, *want; /* want: the result as JSON, or what the error's message contains */
    depot_code  code;               /* OK: the script succeeds */
} row;

static void check_rows(const row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        rig  r;
        bool good = run_text(&r, rows[i].text);
        if (rows[i].code == DEPOT_OK) {
            ok_err(good, &r.err, rows[i].name);
            is_str(r.json, rows[i].want, rows[i].name);
        } else {
            is_int(good ? DEPOT_OK : r.err.code, rows[i].code, rows[i].name);
            contains(r.err.msg, rows[i].want, rows[i].name);
        }
        rig_free(&r);
    }
}

static void tables_are_read_only(void)
{
    static const row rows[] = {
        { "a library cannot be written to", "string.x = 1", "read-only (field 'x')", DEPOT_E_LUA },
        { "nor depot", "depot.log.info = print", "read-only (field 'info')", DEPOT_E_LUA },
        { "nor with rawset", "rawset(string, 'x', 1)", "the table is read-only", DEPOT_E_LUA },
        { "nor by table.insert", "table.insert(string, 1)", "read-only", DEPOT_E_LUA },
        { "nor by table.move", "table.move({1}, 1, 1, 1, string)", "read-only", DEPOT_E_LUA },
        { "nor what pairs gives", "local f, s = pairs(string) rawset(s, 'x', 1)", "read-only", DEPOT_E_LUA },
        { "pairs still shows what is in them", "local n = 0 for _ in pairs(os) do n = n + 1 end return n", "4", DEPOT_OK },
        { "a global cannot be made", "x = 1", "variable 'x' is not declared", DEPOT_E_LUA },
        { "nor by a function", "function f() end", "variable 'f' is not declared", DEPOT_E_LUA },
        { "nor with rawset", "rawset(_ENV, 'x', 1)", "the table is read-only", DEPOT_E_LUA },
        { "what is not there cannot be read", "return io", "there is no variable 'io'", DEPOT_E_LUA },
        { "a metatable of ours cannot be had", "return getmetatable(string)", "false", DEPOT_OK },
        { "nor that of texts", "return getmetatable('')", "false", DEPOT_OK },
        { "nor that of null", "return getmetatable(depot.null)", "false", DEPOT_OK },
        { "nor that of errors", "return getmetatable(select(2, depot.try(error, 'x')))", "false", DEPOT_OK },
        { "nor be changed", "setmetatable(string, {})", "protected metatable", DEPOT_E_LUA },
        { "methods of texts are ours", "return ('a'):rep(3)", "\"aaa\"", DEPOT_OK },
        { "an assignment to _ENV ends with the chunk", "local t = {} _ENV = { x = 1 } t.y = x return t.y", "1", DEPOT_OK },
    };

    check_rows(rows, DEPOT_N(rows));
}

static void holes_are_closed(void)
{
    static const row rows[] = {
        { "no finalizers", "setmetatable({}, { __gc = function() end })", "__gc is not available", DEPOT_E_LUA },
        { "nor later", "local mt = {} local t = setmetatable({}, mt) mt.__gc = print setmetatable(t, mt)", "__gc", DEPOT_E_LUA },
        { "no bytecode in load", "return load('\\27Lua') == nil", "true", DEPOT_OK },
        { "not even when asked for", "return (select(2, load('\\27Lua', 'x', 'b')))", "\"attempt to load a binary chunk (mode is 't')\"",
          DEPOT_OK },
        { "no string.dump", "return string.dump", "null", DEPOT_OK },
        { "no debug", "return debug", "no variable 'debug'", DEPOT_E_LUA },
        { "no collector", "collectgarbage('stop')", "only \"count\"", DEPOT_E_LUA },
        { "but its count", "return collectgarbage('count') > 10", "true", DEPOT_OK },
        { "os has clocks only", "return os.execute == nil and os.getenv == nil and os.exit == nil and os.remove == nil", "true", DEPOT_OK },
        { "load has the sandbox as environment", "return load('return io')()", "no variable 'io'", DEPOT_E_LUA },
        { "or the one given", "return load('return x', 'x', 't', { x = 5 })()", "5", DEPOT_OK },
        { "a large chunk is refused", "return load(('x'):rep(300000))", "at most 256 KiB", DEPOT_E_LUA },
        { "also in pieces", "local n = 0 load(function() n = n + 1 if n < 1000 then return (' '):rep(1000) end end)", "at most 256 KiB",
          DEPOT_E_LUA },
        { "a module comes from lib", "return require('m').twice(4) .. require('site.deep')", "\"8deep\"", DEPOT_OK },
        { "once", "return require('m') == require('m')", "true", DEPOT_OK },
        { "with its name as argument", "return require('m').name", "\"m\"", DEPOT_OK },
        { "not from elsewhere", "require('../t')", "no module", DEPOT_E_LUA },
        { "not by a path", "require('/etc/passwd')", "no module", DEPOT_E_LUA },
        { "not itself", "require('loop')", "requires itself", DEPOT_E_LUA },
        { "and may wait", "return require('waits')", "\"waited\"", DEPOT_OK },
        { "a script cannot fake the mark of its end", "local ok, e = pcall(error, depot.null) return ok == false and e == depot.null", "true",
          DEPOT_OK },
        { "yield at the top is an error", "coroutine.yield(1)", "outside a coroutine", DEPOT_E_LUA },
        { "and not possible", "return coroutine.isyieldable()", "false", DEPOT_OK },
        { "print goes to the log", "print('x', 1)", "null", DEPOT_OK },
    };

    check_rows(rows, DEPOT_N(rows));
}

/* What one script does is not seen by the next one in the same state. */
static void scripts_do_not_see_each_other(void)
{
    rig r;

    rig_init(&r);
    rig_file(&r, "a.lua", "_ENV = { leaked = true } local m = 1 return m");
    rig_file(&r, "b.lua", "local m = require 'm' m.n = (m.n or 0) + 1 return m.n");
    rig_file(&r, "c.lua", "math.randomseed(1) return math.random(1 << 60)");
    rig_file(&r, "d.lua", "return math.random(1 << 60)");
    rig_file(&r, "lib/m.lua", "return {}");
    ok(rig_start(&r, &(rig_options){ 0 }), "loads");
    ok(rig_run(&r, RUN_FILE, "a.lua", "{}", 1000) && rig_run(&r, RUN_FILE, "a.lua", "{}", 1000), "a new _ENV is gone at its end");
    ok(rig_run(&r, RUN_FILE, "b.lua", "{}", 1000) && rig_run(&r, RUN_FILE, "b.lua", "{}", 1000), "a module runs");
    is_str(r.json, "1", "afresh in each script");
    ok(rig_run(&r, RUN_FILE, "c.lua", "{}", 1000), "a script seeds its random numbers");
    char *first = r.json;
    ok(rig_run(&r, RUN_FILE, "c.lua", "{}", 1000), "again");
    is_str(r.json, first, "and gets the same");
    ok(rig_run(&r, RUN_FILE, "d.lua", "{}", 1000), "another one gets");
    first = r.json;
    ok(rig_run(&r, RUN_FILE, "c.lua", "{}", 1000) && rig_run(&r, RUN_FILE, "d.lua", "{}", 1000), "after it");
    ok(strcmp(r.json, first) != 0, "its own");
    rig_free(&r);
}

int main(void)
{
    run(every_reachable_name_is_on_the_list);
    run(tables_are_read_only);
    run(holes_are_closed);
    run(scripts_do_not_see_each_other);
    return done();
}
