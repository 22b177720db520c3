/* test_lua_wait.c - scripts that wait: everywhere, side by side, until a deadline or a cancel; and calls of C functions. */
#include "lua_plugin.h"
#include "tap.h"

/* ---- waits ---- */

static void waits_work_everywhere(void)
{
    static const char *const rows[][3] = {
        { "at the top", "depot.sleep(0.01) return 1", "1" },
        { "in pcall", "return select('#', pcall(function() depot.sleep(0.01) return 1, nil, 3 end))", "4" },
        { "in depot.try", "return (depot.try(function() depot.sleep(0.01) return 5 end))", "5" },
        { "in xpcall", "return (select(2, xpcall(function() depot.sleep(0.01) error('x', 0) end, function(m) return m .. 'y' end)))", "\"xy\"" },
        { "in a handler of xpcall", "return (select(2, xpcall(error, function() depot.sleep(0.01) return 'h' end)))", "\"h\"" },
        { "in a coroutine", "local c = coroutine.wrap(function(a) depot.sleep(0.01) local b = coroutine.yield(a + 1) depot.sleep(0.01) return b * 2 "
                            "end) return c(1) + c(10)", "22" },
        { "in a coroutine of a coroutine", "return coroutine.wrap(function() return coroutine.wrap(function() depot.sleep(0.01) return 7 end)() end)()",
          "7" },
        { "in coroutine.resume", "local c = coroutine.create(function() depot.sleep(0.01) return 1, 2 end) local ok, a, b = coroutine.resume(c) "
                                 "return { ok, a, b }", "[true,1,2]" },
        { "and fails there", "local c = coroutine.create(function() depot.sleep(0.01) error('x', 0) end) local ok, e = coroutine.resume(c) return { "
                             "ok, e }", "[false,\"x\"]" },
        { "in an iterator", "local n = 0 for i in function(_, i) depot.sleep(0.001) i = (i or 0) + 1 if i < 4 then return i end end do n = n + i end "
                            "return n", "6" },
        { "in a metamethod", "return setmetatable({}, { __index = function() depot.sleep(0.01) return 3 end }).x", "3" },
        { "in a close variable", "do local x <close> = setmetatable({}, { __close = function() depot.sleep(0.01) end }) end return 4", "4" },
        { "in sort", "local t = { 3, 1, 2 } table.sort(t, function(a, b) depot.sleep(0.002) return a < b end) return t", "[1,2,3]" },
        { "in gsub", "return (('abc'):gsub('.', function(c) depot.sleep(0.002) return c .. '-' end))", "\"a-b-c-\"" },
        { "in __tostring", "return tostring(setmetatable({}, { __tostring = function() depot.sleep(0.002) return 'me' end }))", "\"me\"" },
        { "in sort in a coroutine", "return coroutine.wrap(function() local t = { 2, 1 } table.sort(t, function(a, b) depot.sleep(0.002) return a < b "
                                    "end) return t end)()", "[1,2]" },
        { "in a coroutine in sort", "local t = { 2, 1 } table.sort(t, function(a, b) return coroutine.wrap(function() depot.sleep(0.002) return a < b "
                                    "end)() end) return t", "[1,2]" },
        { "in a call of C in gsub", "return (('a'):gsub('.', function(c) return (depot.test.all(c .. '!', 1, 1, true)) end))", "\"a!\"" },
        { "for no time", "depot.sleep(0) depot.sleep('0s') return 1", "1" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        rig  r;
        bool good = run_text(&r, rows[i][1], "{}", 5000);
        ok_err(good, &r.err, rows[i][0]);
        is_str(r.json, rows[i][2], rows[i][0]);
        rig_free(&r);
    }
}

static void waits_end_at_the_deadline(void)
{
    static const char *const rows[] = {
        "depot.sleep(10)",
        "while true do pcall(depot.sleep, 10) end",
        "coroutine.wrap(function() while true do pcall(depot.sleep, 10) end end)()",
        "table.sort({ 2, 1 }, function() depot.sleep(10) return true end)",
        "('x'):gsub('x', function() pcall(depot.sleep, 10) while true do end end)",
        "local x <close> = setmetatable({}, { __close = function() depot.sleep(10) end }) depot.sleep(10)",
        "while true do depot.sleep(0.001) end",
        "depot.test.wait()",
        "('x'):gsub('x', function() depot.test.wait() end)",
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        rig     r;
        int64_t began = depot_now_ms();
        bool    good = run_text(&r, rows[i], "{}", 150);
        ok(!good && r.err.code == DEPOT_E_TIMEOUT, rows[i]);
        ok(depot_now_ms() - began < 8000, "soon");
        rig_free(&r);
    }
}

static void scripts_wait_side_by_side(void)
{
    rig     r;
    int64_t began = depot_now_ms();

    rig_init(&r);
    rig_file(&r, "t.lua", "depot.sleep(0.2) return 1");
    rig_start(&r, &(rig_options){ .host = h });
    for (uint64_t i = 1; i <= 50; i++) {
        rig_begin(&r, i, RUN_FILE, "t.lua", "{}", 5000);
    }
    is_int(engine_running(r.engine), 50, "50 wait");
    rig_drain(&r);
    is_int(r.ended, 50, "all end");
    ok(depot_now_ms() - began < 8000, "in the time of a few");
    rig_free(&r);
}

static void cancel_ends_what_waits(void)
{
    rig r;

    rig_init(&r);
    rig_file(&r, "t.lua", "local ok = pcall(depot.sleep, 10) depot.log.info('goes on') depot.sleep(10)");
    rig_file(&r, "c.lua", "depot.test.wait()");
    rig_start(&r, &(rig_options){ .host = h });
    rig_begin(&r, 9, RUN_FILE, "t.lua", "{}", 5000);
    engine_cancel(r.engine, 8);
    is_int(engine_running(r.engine), 1, "another id is another script");
    engine_cancel(r.engine, 9);
    ok(r.done && !r.ok && r.err.code == DEPOT_E_CANCELED, "it ends with CANCELED");
    is_int(r.log.len, 0, "and cannot catch it");
    rig_begin(&r, 10, RUN_FILE, "c.lua", "{}", 60000);
    atomic_store(&calls, 0);
    engine_cancel(r.engine, 10);
    ok(r.done && r.err.code == DEPOT_E_CANCELED, "so does one in a call of C");
    rig_drain(&r);
    is_int(atomic_load(&calls), 1, "whose function sees it");
    rig_free(&r);
}

/* ---- calls of C ---- */

static void arguments_and_results_are_exact(void)
{
    rig r;

    ok_err(run_text(&r, "return { depot.test.all('a\\0b' .. ('x'):rep(3), 9007199254740993, 1.5, true, { k = { 1, depot.null } }, depot.array()) }",
                    "{}", 5000) || r.err.code == DEPOT_E_LUA, &r.err, "called");
    contains(r.err.msg, "NUL byte", "bytes come back, but are no JSON");
    rig_free(&r);
    ok_err(run_text(&r, "local s, i, b, t, a = depot.test.all('x', 9007199254740993, 1, false, { k = { 1, depot.null } }, depot.array()) "
                        "return { s, i, b, t, a, t.k[2] == depot.null }", "{}", 5000), &r.err, "called");
    is_str(r.json, "[\"x\",9007199254740993,false,{\"k\":[1,null]},[],true]", "all as given");
    rig_free(&r);
    ok_err(run_text(&r, "return { depot.test.all('x', 1.0, 2, true) }", "{}", 5000), &r.err, "optional ones may be left out");
    is_str(r.json, "[\"x\",1,true,null,\"not given\"]", "and are not given");
    rig_free(&r);
    ok(!run_text(&r, "depot.test.all('x', -1, 0, true)", "{}", 5000), "its error is raised");
    is_int(r.err.code, DEPOT_E_CONFLICT, "with code");
    is_str(r.err.hint, "use another", "hint");
    is_str(r.where, "t.lua:1", "and place");
    rig_free(&r);
}

static void wrong_arguments_leak_nothing(void)
{
    rig  r;
    bool good = run_text(&r,
                         "local big, n = ('x'):rep(1000), 0\n"
                         "local bad = { { }, { 1 }, { 'x' }, { 'x', 'y' }, { big, 1.5, 1, true }, { big, 1, 'z', true }, { big, 1, 1, 1 }, { big, 1, 1, true, 5 },\n"
                         "  { big, 1, 1, true, { print } }, { big, 1, 1, true, { [1] = 1, x = 2 } }, { big, 1, 1, true, { [2] = 1 } }, { big, 1, 1, true, nil, print },\n"
                         "  { big, 1, 1, true, nil, { { { '\\255' } } } }, { big, -1, 1, true }, { big, 1, 1, true, {}, {}, {} }, { big, 1, 1, true, nil, 0/0 },\n"
                         "  { big, 1, 1, true, { ['\\0'] = 1 } }, { nil, 1 } }\n"
                         "for i = 1, 4000 do\n"
                         "  local args = bad[i % #bad + 1]\n"
                         "  local ok = pcall(depot.test.all, table.unpack(args, 1, 7))\n"
                         "  if ok then error('call ' .. i % #bad + 1 .. ' was taken') end\n"
                         "  n = n + 1\n"
                         "  if i % 100 == 0 then depot.sleep(0) end\n"
                         "end\n"
                         "return n", "{}", 60000);
    ok_err(good, &r.err, "4000 wrong calls raise");
    is_str(r.json, "4000", "each");
    rig_free(&r);
}

int main(void)
{
    h = host_new(&env, &core);
    setenv("TAP_SECONDS", "120", 0);
    run(waits_work_everywhere);
    run(waits_end_at_the_deadline);
    run(scripts_wait_side_by_side);
    run(cancel_ends_what_waits);
    run(arguments_and_results_are_exact);
    run(wrong_arguments_leak_nothing);
    host_free(h);
    return done();
}
