/* test_lua_vm.c - scripts under limits: loops, memory, depth; waits; errors; calls of C functions; handlers. */
#include <stdatomic.h>

#include "lua/scripts.h"
#include "lua_rig.h"
#include "tap.h"

/* ---- a plugin's functions ---- */

static atomic_int calls;

static bool fn_all(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    size_t      n;
    const char *text = depot_arg_str(call, 0, &n);

    (void)ctx;
    atomic_fetch_add(&calls, 1);
    if (depot_arg_int(call, 1) == -1) {
        DEPOT_FAIL(err, CONFLICT, "minus one");
        return depot_hint(err, "use another");
    }
    depot_return_str(call, text, n);
    depot_return_int(call, depot_arg_int(call, 1));
    depot_return_bool(call, depot_arg_bool(call, 3));
    depot_return_json(call, depot_arg_given(call, 4) ? depot_arg_json(call, 4) : NULL);
    depot_return_json(call, depot_arg_given(call, 5) ? depot_arg_json(call, 5) : depot_json_str(depot_call_arena(call), "not given"));
    return true;
}

static bool fn_until_canceled(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    (void)ctx;
    (void)call;
    while (!depot_canceled() && depot_now_ms() < depot_deadline()) {
        usleep(1000);
    }
    atomic_fetch_add(&calls, 1);
    return DEPOT_FAIL(err, CANCELED, "canceled");
}

static const depot_lua_fn fns[] = {
    { "test.all", "(s: string, i: integer, n: number, b: boolean, t?: table, a?: any): string, integer, boolean, any, any", 0, fn_all, "" },
    { "test.wait", "()", 0, fn_until_canceled, "" },
};
static const depot_plugin core = { .version = "1", .summary = "test", .lua = DEPOT_TABLE(fns) };
static host_env env = { .state_dir = "/tmp", .node = "n", .data_dir = "/tmp", .conf_dir = "/tmp", .plugin_dir = "/tmp", .worker = true };
static host    *h;

/* With 200 ms of CPU time and 16 MiB. */
static bool run_text(rig *r, const char *text, const char *arg, int64_t timeout_ms)
{
    rig_init(r);
    rig_file(r, "t.lua", text);
    return rig_start(r, &(rig_options){ .host = h, .cpu_max_ms = 200, .memory_max = 16 << 20, .log_max = 4096 }) &&
           rig_run(r, RUN_FILE, "t.lua", arg, timeout_ms);
}

static bool run_calmly(rig *r, const char *text)
{
    rig_init(r);
    rig_file(r, "t.lua", text);
    return rig_start(r, &(rig_options){ .host = h }) && rig_run(r, RUN_FILE, "t.lua", "{}", 20000);
}

/* ---- limits ---- */

static void everything_that_runs_on_is_stopped(void)
{
    static const char *const rows[][2] = {
        { "a loop", "while true do end" },
        { "a loop of jumps", "::top:: goto top" },
        { "pcall in a loop", "while true do pcall(function() while true do end end) end" },
        { "depot.try in a loop", "while true do depot.try(function() while true do end end) end" },
        { "xpcall with a handler that loops", "xpcall(function() while true do end end, function() while true do end end)" },
        { "a handler that loops after an error", "xpcall(error, function() while true do end end)" },
        { "a handler that fails, and again", "while true do xpcall(error, function() error('x') end) end" },
        { "a close variable that loops", "local x <close> = setmetatable({}, { __close = function() while true do end end }) error('x')" },
        { "the same, caught", "while true do pcall(function() local x <close> = setmetatable({}, { __close = function() while true do end end }) "
                              "error('x') end) end" },
        { "a loop in a coroutine", "coroutine.wrap(function() while true do end end)()" },
        { "coroutines in coroutines, all catching",
          "local function nest(n) return function() while true do if n > 0 then pcall(coroutine.wrap(nest(n - 1))) else while true do end end end "
          "end end nest(20)()" },
        { "a coroutine that is closed and loops", "local c = coroutine.create(function() local x <close> = setmetatable({}, { __close = "
                                                  "function() while true do end end }) coroutine.yield() end) coroutine.resume(c) "
                                                  "while true do pcall(coroutine.close, c) end" },
        { "an endless iterator", "for _ in function() return 1 end do end" },
        { "a coroutine as endless iterator", "for _ in coroutine.wrap(function() while true do coroutine.yield(1) end end) do end" },
        { "a comparison function", "table.sort({ 3, 2, 1 }, function() while true do end end)" },
        { "a comparison in C", "table.sort(setmetatable({}, { __len = function() return 2^31 - 2 end, __index = rawlen }), rawequal)" },
        { "sorting large texts", "local big = ('x'):rep(3000000) local a, b, t = big .. 'a', big .. 'b', {} for i = 1, 50000 do "
                                 "t[i] = i % 2 == 0 and a or b end table.sort(t)" },
        { "table.move", "table.move({}, 1, 2^40, 2)" },
        { "table.insert with a false length", "table.insert(setmetatable({}, { __len = function() return 2^40 end }), 1, 2)" },
        { "table.remove with a false length", "table.remove(setmetatable({}, { __len = function() return 2^40 end }), 1)" },
        { "table.concat of nothing", "table.concat(setmetatable({}, { __index = function() return '' end }), '', 1, 2^40)" },
        { "a replacement function", "('x'):gsub('x', function() while true do end end)" },
        { "a metamethod", "local t = setmetatable({}, { __index = function() while true do end end }) return t.x" },
        { "__tostring at the end", "error(setmetatable({}, { __tostring = function() while true do end end }))" },
        { "a reader of load", "load(function() while true do end end)" },
        { "loading without end", "while true do load('return 1') end" },
        { "string.rep without end", "while true do (''):rep(1 << 62) end" },
        { "catching the end of a wait", "while true do pcall(function() while true do end end) pcall(depot.sleep, 100) end" },
        { "a library function that catches", "while true do pcall(string.rep) end" },
        { "tail calls", "local function f() return f() end f()" },
        { "numeric for", "for i = 1, math.maxinteger do end" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        rig     r;
        int64_t began = depot_now_ms();
        bool    good = run_text(&r, rows[i][1], "{}", 5000);
        int64_t took = depot_now_ms() - began;
        if (!ok(!good && r.err.code == DEPOT_E_TIMEOUT && took < 1500, rows[i][0])) {
            printf("# %d %s after %lld ms\n", (int)r.err.code, r.err.msg, (long long)took);
        }
        rig_free(&r);
    }
}

static void patterns_and_searches_end(void)
{
    static const char *const rows[] = {
        "return (('a'):rep(1000)):find(('.-'):rep(3) .. 'b')",
        "return (('a'):rep(100000)):gsub('a*b', '')",
        "return (('a'):rep(4000000)):find(('a'):rep(2000000) .. 'b', 1, true)",
        "return ('x'):rep(1 << 20):find('^' .. ('x?'):rep(180) .. 'y')",
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        rig     r;
        int64_t began = depot_now_ms();
        run_text(&r, rows[i], "{}", 5000);
        ok(depot_now_ms() - began < 3000, rows[i]);
        rig_free(&r);
    }
}

static void memory_is_limited(void)
{
    static const char *const rows[][2] = {
        { "a growing table", "local t = {} while true do t[#t + 1] = ('x'):rep(10000) end" },
        { "a long text", "return #('x'):rep(1 << 30)" },
        { "a growing text", "local s = 'x' while true do s = s .. s end" },
        { "deep recursion", "local function f(n) return 1 + f(n + 1) end return f(1)" },
        { "many coroutines", "local t = {} while true do local c = coroutine.create(function() coroutine.yield() end) coroutine.resume(c) "
                             "t[#t + 1] = c end" },
        { "string.format", "local s = ('x'):rep(5000000) return #(('%s%s%s%s'):format(s, s, s, s))" },
        { "table.concat", "local t = {} for i = 1, 1000 do t[i] = ('x'):rep(20) end while true do t[1] = table.concat(t) for i = 2, 1000 do "
                          "t[i] = t[1] end end" },
        { "gsub", "return #(('x'):rep(1000000)):gsub('x', ('y'):rep(1000))" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        rig  r;
        bool good = run_text(&r, rows[i][1], "{}", 5000);
        if (!ok(!good && (r.err.code == DEPOT_E_MEMORY || strstr(r.err.msg, "overflow") != NULL), rows[i][0])) {
            printf("# %d %s\n", (int)r.err.code, r.err.msg);
        }
        rig_free(&r);
    }
}

static void scripts_survive_what_they_catch(void)
{
    static const char *const rows[][3] = {
        { "a text that was too long", "return pcall(string.rep, 'x', 1 << 28)", "false" },
        { "recursion in C", "local s = ('('):rep(1000) return load('return ' .. s) == nil", "true" },
        { "nested patterns", "return pcall(string.find, ('a'):rep(300), ('(a'):rep(250))", "false" },
        { "metamethods in metamethods", "local mt = {} mt.__index = function(t, k) return t[k + 1] end return pcall(function() return "
                                        "setmetatable({}, mt)[1] end)", "false" },
        { "coroutines in coroutines without end", "local function f() return coroutine.wrap(f)() end return (pcall(f))", "false" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        rig  r;
        bool good = run_text(&r, rows[i][1], "{}", 5000);
        ok_err(good, &r.err, rows[i][0]);
        is_str(r.json, rows[i][2], rows[i][0]);
        rig_free(&r);
    }
}

static void one_script_cannot_starve_another(void)
{
    rig r;

    rig_init(&r);
    rig_file(&r, "hog.lua", "local t = {} for i = 1, 100 do t[i] = ('x'):rep(100000 + i) end depot.sleep(0.3) return #t");
    rig_file(&r, "small.lua", "local t = {} for i = 1, 1000 do t[i] = i end return #t");
    rig_file(&r, "bomb.lua", "local t = {} while true do t[#t + 1] = ('x'):rep(100000 + #t) end");
    ok(rig_start(&r, &(rig_options){ .memory_max = 16 << 20 }), "loads");
    ok(rig_begin(&r, 1, RUN_FILE, "hog.lua", "{}", 5000), "one holds 10 MB and waits");
    ok(rig_begin(&r, 2, RUN_FILE, "bomb.lua", "{}", 5000) && !r.ok && r.err.code == DEPOT_E_MEMORY, "another takes too much and fails");
    ok(rig_begin(&r, 3, RUN_FILE, "small.lua", "{}", 5000) && r.ok, "a third has its own memory");
    rig_drain(&r);
    ok(r.ok && strcmp(r.json, "100") == 0, "the first ends well");
    rig_free(&r);
}

/* ---- time slices ---- */

static const char work_text[] =
    "local out = {}\n"
    "local function say(...) out[#out + 1] = table.concat({ ... }, ',') end\n"
    "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end\n"
    "say(fib(21))\n"
    "local function pass(...) return ... end\n"
    "local function count(...) return select('#', ...) end\n"
    "local n = 0\n"
    "for i = 1, 3000 do\n"
    "  local t = { pass(i, i + 1, pass(i + 2, nil, i)) }\n"
    "  n = n + #t + count(pass(table.unpack(t, 1, 5))) + count(pass(), pass(1), (pass(1, 2)))\n"
    "  local a, b, c = pass(i, pass(i * 2, i * 3)) n = n + a - b + c\n"
    "end\n"
    "say(n)\n"
    "local function permute(a, k)\n"
    "  k = k or #a\n"
    "  if k <= 1 then coroutine.yield(table.concat(a)) end\n"
    "  for i = 1, k do a[k], a[i] = a[i], a[k] permute(a, k - 1) a[k], a[i] = a[i], a[k] end\n"
    "end\n"
    "local h = 0\n"
    "for p in coroutine.wrap(function() permute { 1, 2, 3, 4, 5, 6 } end) do h = (h * 31 + tonumber(p)) % 1000003 end\n"
    "say(h)\n"
    "local V = {}\n"
    "V.__index = function(t, k) return rawget(V, k) or k end\n"
    "V.__add = function(a, b) return setmetatable({ x = a.x + b.x }, V) end\n"
    "V.__lt = function(a, b) local s = 0 for i = 1, 5 do s = s + i end return a.x < b.x end\n"
    "V.__le = function(a, b) return not (b < a) end\n"
    "V.__eq = function(a, b) return a.x == b.x end\n"
    "V.__concat = function(a, b) return (type(a) == 'table' and a.x or a) .. ':' .. (type(b) == 'table' and b.x or b) end\n"
    "V.__len = function(a) return a.x end\n"
    "V.__call = function(self, ...) return count(...) + self.x end\n"
    "V.__close = function(v) n = n + v.x end\n"
    "local sum, less = setmetatable({ x = 0 }, V), 0\n"
    "for i = 1, 2000 do\n"
    "  local v = setmetatable({ x = i }, V)\n"
    "  sum = sum + v\n"
    "  if v < sum then less = less + 1 end if v <= sum then less = less + 2 end if v == sum then less = less + 4 end\n"
    "  less = less + #v + v(pass(1, 2, 3)) + #(v .. 'a' .. v .. 1) + #v.name\n"
    "end\n"
    "say(sum.x, less)\n"
    "local function closing(i) local a <close> = setmetatable({ x = i }, V) local b <close> = setmetatable({ x = 1 }, V) if i % 3 == 0 then error(i) end "
    "return pass(i, i) end\n"
    "local errors = 0\n"
    "for i = 1, 2000 do if not pcall(closing, i) then errors = errors + 1 end end\n"
    "say(n, errors)\n"
    "local t = {} for i = 1, 400 do t[i] = (i * 7919) % 1009 end table.sort(t, function(a, b) return a > b end) say(table.unpack(t, 1, 20))\n"
    "say((('abc'):rep(500):gsub('%w', function(c) local k = 0 for i = 1, 20 do k = k + i end return string.char(c:byte() + k % 3) end)):sub(1, 30))\n"
    "local function loop(i, acc) if i == 0 then return acc end return loop(i - 1, (acc * 3 + i) % 65537) end say(loop(20000, 1))\n"
    "local acc = {} for i = 1, 300 do acc[i] = coroutine.wrap(function(...) local s = 0 for k = 1, 30 do s = s + coroutine.yield(s, ...) end return 'end' end) "
    "acc[i](i) end\n"
    "local total = 0 for k = 1, 29 do for i = 1, 300 do total = total + acc[i](k) end end say(total)\n"
    "local x, y = 0, 1 do local i = 0 ::top:: if i < 5000 then x, y, i = y, (x + y) % 10007, i + 1 goto top end end say(x, y)\n"
    "local fl = 0.5 for i = 1, 5000 do fl = 3.9 * fl * (1 - fl) end say(('%.12f'):format(fl))\n"
    "return table.concat(out, ' ')\n";

static void slices_change_no_result(void)
{
    rig   r;
    char *want;

    rig_init(&r);
    rig_file(&r, "t.lua", work_text);
    rig_start(&r, &(rig_options){ 0 });
    ok_err(rig_run(&r, RUN_FILE, "t.lua", "{}", 20000), &r.err, "work in one piece");
    want = r.json;
    for (int64_t slice_us = 20; slice_us < 400; slice_us += 37) {
        rig q;
        rig_init(&q);
        rig_file(&q, "t.lua", work_text);
        rig_start(&q, &(rig_options){ .slice_us = slice_us });
        ok_err(rig_run(&q, RUN_FILE, "t.lua", "{}", 60000), &q.err, "work in slices");
        is_str(q.json, want, "has the same result");
        rig_free(&q);
    }
    rig_free(&r);
}

static void busy_scripts_let_others_run(void)
{
    rig     r;
    int64_t began;

    rig_init(&r);
    rig_file(&r, "hog.lua", "while true do pcall(function() for i = 1, 1000 do end end) end");
    rig_file(&r, "nest.lua", "local function f(n) if n > 0 then return coroutine.wrap(f)(n - 1) end while true do end end f(20)");
    rig_file(&r, "quick.lua", "depot.sleep(0.01) return 1");
    rig_start(&r, &(rig_options){ .slice_us = 5000, .cpu_max_ms = 1500 });
    rig_begin(&r, 1, RUN_FILE, "hog.lua", "{}", 60000);
    rig_begin(&r, 2, RUN_FILE, "nest.lua", "{}", 60000);
    began = depot_now_ms();
    rig_begin(&r, 3, RUN_FILE, "quick.lua", "{}", 60000);
    while (!r.done) {
        uv_run(&r.loop, UV_RUN_ONCE);
    }
    ok(r.ok && depot_now_ms() - began < 1000, "a quick one ends while two compute");
    is_int(engine_running(r.engine), 2, "which go on");
    rig_drain(&r);
    ok(!r.ok && r.err.code == DEPOT_E_TIMEOUT, "and end at their limit");
    ok(r.cpu_us >= 1500000 && r.cpu_us < 2500000, "of CPU time, over all slices");
    began = depot_now_ms();
    rig_begin(&r, 4, RUN_FILE, "hog.lua", "{}", 60000);
    engine_cancel(r.engine, 4);
    ok(r.done && r.err.code == DEPOT_E_CANCELED, "one that computes can be canceled");
    rig_begin(&r, 5, RUN_FILE, "nest.lua", "{}", 100);
    rig_drain(&r);
    ok(r.err.code == DEPOT_E_TIMEOUT && depot_now_ms() - began < 2000, "and meets its deadline");
    rig_free(&r);
}

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
        ok(depot_now_ms() - began < 1000, "soon");
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
    ok(depot_now_ms() - began < 2000, "in the time of a few");
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
                         "for i = 1, 8000 do\n"
                         "  local args = bad[i % #bad + 1]\n"
                         "  local ok = pcall(depot.test.all, table.unpack(args, 1, 7))\n"
                         "  if ok then error('call ' .. i % #bad + 1 .. ' was taken') end\n"
                         "  n = n + 1\n"
                         "  if i % 500 == 0 then depot.sleep(0) end\n"
                         "end\n"
                         "return n", "{}", 60000);
    ok_err(good, &r.err, "8000 wrong calls raise");
    is_str(r.json, "8000", "each");
    rig_free(&r);
}

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
    ok(run_text(&r, "for i = 1, 100000 do depot.log.info('line ' .. i) end return 1", "{}", 5000), "a flood does no harm");
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
    run(everything_that_runs_on_is_stopped);
    run(patterns_and_searches_end);
    run(memory_is_limited);
    run(scripts_survive_what_they_catch);
    run(one_script_cannot_starve_another);
    run(slices_change_no_result);
    run(busy_scripts_let_others_run);
    run(waits_work_everywhere);
    run(waits_end_at_the_deadline);
    run(scripts_wait_side_by_side);
    run(cancel_ends_what_waits);
    run(arguments_and_results_are_exact);
    run(wrong_arguments_leak_nothing);
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
