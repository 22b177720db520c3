/* test_lua_script.c - scripts as operators see them: values, errors, logs, handlers, expressions, types. */
#include "lua/scripts.h"
#include "lua_plugin.h"
#include "tap.h"

/* ---- values ---- */

static void json_is_exact_and_bounded(void)
{
    static const char *const rows[][3] = {
        { "integers", "return depot.json.decode('[9223372036854775807, -9223372036854775808, 1.0, 1e2]')", "[9223372036854775807,-9223372036854775808,1.0,100.0]" },
        { "keys are sorted", "return depot.json.encode({ b = 1, a = { y = 1, x = 2 } })", "\"{\\\"a\\\":{\\\"x\\\":2,\\\"y\\\":1},\\\"b\\\":1}\"" },
        { "null", "local v = depot.json.decode('{\"a\":null}') return { v.a == depot.null, tostring(v.a), v.b == nil }", "[true,\"null\",true]" },
        { "empty ones", "return { {}, depot.array(), depot.json.decode('[[],{}]') }", "[{},[],[[],{}]]" },
        { "texts", "return '\\u{e9}\\n\\t\"\\\\/'", "\"\xc3\xa9\\n\\t\\\"\\\\/\"" },
        { "true", "return { true, false }", "[true,false]" },
        { "nothing", "return", "null" },
        { "depth", "local t = {} for i = 1, 100 do t = { t } end return (pcall(depot.json.encode, t))", "false" },
        { "depth of texts", "return (pcall(depot.json.decode, ('['):rep(100) .. (']'):rep(100)))", "false" },
        { "a table in itself", "local t = {} t.t = t return (pcall(depot.json.encode, t))", "false" },
        { "one table many times", "local t = {} for i = 1, 50 do t = { t, t } end return (pcall(depot.json.encode, t))", "false" },
        { "also as argument", "local t = { 1 } for i = 1, 50 do t = { t, t } end return (pcall(depot.test.all, 'x', 1, 1, true, t))", "false" },
        { "functions", "return (pcall(depot.json.encode, { print }))", "false" },
        { "not-a-number", "return (pcall(depot.json.encode, 0/0))", "false" },
        { "broken text", "local ok, e = pcall(depot.json.decode, '{') return { ok, e.code }", "[false,\"MALFORMED\"]" },
        { "bytes", "return (pcall(depot.json.encode, '\\255'))", "false" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        rig  r;
        bool good = run_calmly(&r, rows[i][1]);
        ok_err(good, &r.err, rows[i][0]);
        is_str(r.json, rows[i][2], rows[i][0]);
        rig_free(&r);
    }
}

static void a_large_result_is_refused(void)
{
    rig r;

    ok(!run_text(&r, "return ('x'):rep(70000)", "{}", 5000), "more than 64 KiB");
    contains(r.err.msg, "larger than 65536 bytes", "says so");
    rig_free(&r);
}

/* ---- errors ---- */

static void errors_tell_code_place_and_trace(void)
{
    static const struct {
        const char *text, *code, *message, *where;
        depot_retry retry;
    } rows[] = {
        { "\nerror('boom')", "LUA_ERROR", "boom", "t.lua:2", DEPOT_RETRY_SAFE },
        { "\nlocal x = nil + 1", "LUA_ERROR", "attempt to perform arithmetic on a nil value", "t.lua:2", DEPOT_RETRY_SAFE },
        { "error('plain', 0)", "LUA_ERROR", "plain", "t.lua:1", DEPOT_RETRY_SAFE },
        { "error()", "LUA_ERROR", "nil", "t.lua:1", DEPOT_RETRY_SAFE },
        { "error({ code = 'MINE', message = 'm' })", "MINE", "m", "t.lua:1", DEPOT_RETRY_SAFE },
        { "error({ message = 'm' })", "LUA_ERROR", "m", "t.lua:1", DEPOT_RETRY_SAFE },
        { "error(setmetatable({}, { __tostring = function() return 'shown' end }))", "LUA_ERROR", "shown", "t.lua:1", DEPOT_RETRY_SAFE },
        { "\n\ndepot.fail{ code = 'MAIL_REFUSED', message = 'no' }", "MAIL_REFUSED", "no", "t.lua:3", DEPOT_RETRY_SAFE },
        { "depot.fail{ code = 'MAIL_REFUSED', message = 'no', retry = 'no' }", "MAIL_REFUSED", "no", "t.lua:1", DEPOT_RETRY_NO },
        { "depot.fail{ code = 'MAIL_REFUSED', message = 'no', retry = 'safe' }", "MAIL_REFUSED", "no", "t.lua:1", DEPOT_RETRY_SAFE },
        { "depot.fail{ code = 'X', message = 'no', retry = 'uncertain' }", "X", "no", "t.lua:1", DEPOT_RETRY_UNCERTAIN },
        { "depot.fail{ code = 'DEPENDENCY_DOWN', message = 'no', retry = 'safe' }", "DEPENDENCY_DOWN", "no", "t.lua:1", DEPOT_RETRY_SAFE },
        { "depot.fail{ code = 'BAD_PAYLOAD', message = 'no' }", "BAD_PAYLOAD", "no", "t.lua:1", DEPOT_RETRY_NO },
        { "depot.fail{ code = 'BAD_PAYLOAD', message = 'no', retry = 'safe' }", "BAD_PAYLOAD", "no", "t.lua:1", DEPOT_RETRY_SAFE },
        { "depot.fail{ code = 'small' }", "LUA_ERROR", "bad argument #1 to 'fail' (code must be", "t.lua:1", DEPOT_RETRY_SAFE },
        { "local v, e = depot.try(depot.fail, { code = 'A', message = 'b', hint = 'c' }) error(e)", "A", "b", "", DEPOT_RETRY_SAFE },
        { "local v, e = depot.try(error, 'x') error(e)", "LUA_ERROR", "x", "t.lua:1", DEPOT_RETRY_SAFE },
        { "require 'nothing'", "LUA_ERROR", "there is no module 'nothing'", "t.lua:1", DEPOT_RETRY_SAFE },
        { "coroutine.wrap(function() error('in co') end)()", "LUA_ERROR", "in co", "t.lua:1", DEPOT_RETRY_SAFE },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        rig r;
        ok(!run_text(&r, rows[i].text, "{}", 5000), rows[i].text);
        is_str(depot_err_id(&r.err), rows[i].code, "code");
        contains(r.err.msg, rows[i].message, "message");
        if (rows[i].where[0] != '\0') {
            is_str(r.where, rows[i].where, "place");
        }
        is_int(depot_err_retry(&r.err), rows[i].retry, "retry");
        contains(r.trace, "stack traceback", "trace");
        rig_free(&r);
    }
}

static void logs_are_told_and_bounded(void)
{
    rig r;

    run_text(&r, "print('a', 1)\ndepot.log.warn('b', { n = 1 })\nwarn('c')\ndepot.log.error(setmetatable({}, { __tostring = function() "
                 "depot.log.debug('in', { x = 2 }) return 'd' end }), { k = 'v' })", "{}", 5000);
    is_str(r.log.data, "1 test t.lua:1 a\t1\n2 test t.lua:2 b {\"n\":1}\n2 test t.lua:3 c\n0 test t.lua:4 in {\"x\":2}\n3 test t.lua:4 d {\"k\":\"v\"}\n",
           "level, place, text, fields");
    rig_free(&r);
    ok(run_text(&r, "for i = 1, 20000 do depot.log.info('line ' .. i) end return 1", "{}", 60000), "a flood does no harm");
    ok(r.log.len < 8192, "and is cut");
    contains(r.log.data, "has logged more than it may", "which is told");
    rig_free(&r);
}

/* ---- handlers ---- */

static void handlers_are_declared(void)
{
    rig r;

    rig_init(&r);
    rig_file(&r, "handlers/a.lua", "local n = 0 depot.job('a.one') { timeout = '30s', max_attempts = 3, run = function(job) n = n + 1 return { n, job.id, "
                                   "job.args } end } depot.job('a.two') { run = function(job) job:fail('NO_GOOD', 'bad ' .. job.attempt) end }");
    rig_file(&r, "handlers/sub/b.lua", "local put = depot.queue.enqueue depot.job 'b' { timeout = 1.5, run = function(job) job:log('info', 'hi') end }");
    rig_file(&r, "lib/x.lua", "return 1");
    ok(rig_start(&r, &(rig_options){ 0 }), "they load");
    is_int(engine_handlers(r.engine), 3, "three");
    is_str(engine_handler(r.engine, 0)->name, "a.one", "name");
    is_int(engine_handler(r.engine, 0)->timeout_ms, 30000, "timeout");
    is_int(engine_handler(r.engine, 0)->max_attempts, 3, "attempts");
    is_int(engine_handler(r.engine, 2)->timeout_ms, 1500, "timeout in seconds");
    for (int i = 0; i < 2; i++) {
        ok_err(rig_run(&r, RUN_HANDLER, "a.one", "{\"id\":\"x\",\"attempt\":1,\"args\":{\"k\":[]}}", 1000), &r.err, "it runs");
        is_str(r.json, "[1,\"x\",{\"k\":[]}]", "from its beginning each time");
    }
    ok(!rig_run(&r, RUN_HANDLER, "a.two", "{\"attempt\":4}", 1000), "another fails");
    is_str(depot_err_id(&r.err), "NO_GOOD", "with its code");
    is_str(r.err.msg, "bad 4", "and message");
    ok(rig_run(&r, RUN_HANDLER, "b", "{}", 1000), "a third logs");
    contains(r.log.data, "hi", "which is told");
    ok(!rig_run(&r, RUN_HANDLER, "c", "{}", 1000) && r.err.code == DEPOT_E_UNKNOWN_TYPE, "one that nobody declares does not run");
    rig_free(&r);
}

static void faults_are_found_when_loading(void)
{
    static const char *const rows[][3] = {
        { "handlers/x.lua", "local x = = 1", "handlers/x.lua:1: LUA_SYNTAX unexpected symbol near '='" },
        { "anything.lua", "\n\nend", "anything.lua:3: LUA_SYNTAX" },
        { "lib/x.lua", "return {", "lib/x.lua:1: LUA_SYNTAX" },
        { "handlers/x.lua", "\x1bLua", "LUA_SYNTAX attempt to load a binary chunk" },
        { "handlers/x.lua", "\nx = 1", "handlers/x.lua:2: LUA_ERROR variable 'x' is not declared" },
        { "handlers/x.lua", "\ndepot.sleep(1)", "handlers/x.lua:2: FORBIDDEN" },
        { "handlers/x.lua", "depot.event.emit('x')", "FORBIDDEN" },
        { "handlers/x.lua", "depot.anything.there()", "FORBIDDEN" },
        { "handlers/x.lua", "depot.job('a') {}", "run must be a function" },
        { "handlers/x.lua", "depot.job('a') { run = print, timout = 1 }", "no option 'timout' (did you mean timeout?)" },
        { "handlers/x.lua", "depot.job('a') { run = print, timeout = '5' }", "timeout" },
        { "handlers/x.lua", "depot.job('a') { run = print, max_attempts = 0 }", "max_attempts must be" },
        { "handlers/x.lua", "depot.job('a b') { run = print }", "no blanks" },
        { "handlers/x.lua", "depot.job('a') { run = print } depot.job('a') { run = print }", "CONFLICT the job a is declared twice" },
        { "handlers/x.lua", "while true do end", "TIMEOUT" },
        { "handlers/x.lua", "require 'gone'", "no module 'gone'" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        rig r;
        rig_init(&r);
        rig_file(&r, rows[i][0], rows[i][1]);
        ok(!rig_start(&r, &(rig_options){ .cpu_max_ms = 100 }), rows[i][1]);
        contains(r.faults.data, rows[i][2], rows[i][2]);
        rig_free(&r);
    }
}

static void expressions_see_what_is_bound(void)
{
    static const char *const rows[][2] = {
        { "event.kind == 'dump'", "true" }, { "event.n > 5", "false" }, { "event.missing", "false" },
        { "args[1] == 'a' and #args == 2", "true" }, { "event.kind:find('^du')", "true" }, { "nil", "false" }, { "0", "true" },
        { "event.none == depot.null", "true" }, { "event -- comment", "true" },
    };
    rig r;

    rig_init(&r);
    rig_start(&r, &(rig_options){ 0 });
    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        ok_err(rig_run(&r, RUN_EVAL, rows[i][0], "{\"event\":{\"kind\":\"dump\",\"n\":5,\"none\":null},\"args\":[\"a\",\"b\"]}", 1000), &r.err, rows[i][0]);
        is_str(r.json, rows[i][1], rows[i][0]);
    }
    ok(!rig_run(&r, RUN_EVAL, "event..", "{\"event\":1}", 1000) && r.err.code == DEPOT_E_LUA_SYNTAX, "a broken one is told");
    ok(!rig_run(&r, RUN_EVAL, "other.x", "{\"event\":1}", 1000), "what is not bound is an error");
    contains(r.err.msg, "no variable 'other'", "with its name");
    ok(!rig_run(&r, RUN_EVAL, "depot.sleep(1)", "{}", 1000) && r.err.code == DEPOT_E_FORBIDDEN, "none can wait");
    rig_free(&r);
}

static void types_are_made_from_the_tables(void)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };

    scripts_types(h, &out);
    contains(out.data, "---@meta\n", "a LuaLS file");
    contains(out.data, "---Waits: \"500ms\", \"10s\", or a number of seconds.\n---@param duration string|number\nfunction depot.sleep(duration) end\n",
             "a function of the core");
    contains(out.data, "depot.log = {}\n", "a table");
    contains(out.data, "---@param sql string\n---@param ... any\n---@return table?\nfunction depot.db:row(sql, ...) end\n", "a method");
    contains(out.data, "---@param s string\n---@param i integer\n---@param n number\n---@param b boolean\n---@param t? table\n---@param a? any\n"
                       "---@return string\n---@return integer\n---@return boolean\n---@return any\n---@return any\n"
                       "function depot.test.all(s, i, n, b, t, a) end\n", "a function of a plugin");
}

int main(void)
{
    h = host_new(&env, &core);
    setenv("TAP_SECONDS", "120", 0);
    run(json_is_exact_and_bounded);
    run(a_large_result_is_refused);
    run(errors_tell_code_place_and_trace);
    run(logs_are_told_and_bounded);
    run(handlers_are_declared);
    run(faults_are_found_when_loading);
    run(expressions_see_what_is_bound);
    run(types_are_made_from_the_tables);
    host_free(h);
    return done();
}
