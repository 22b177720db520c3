/* test_lua_vm.c - scripts under limits: loops, patterns, memory, depth; and scripts that take turns. */
#include "lua_plugin.h"
#include "tap.h"

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
        if (!ok(!good && r.err.code == DEPOT_E_TIMEOUT && took < 4500, rows[i][0])) {
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
        ok(depot_now_ms() - began < 4900, rows[i]);
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
        /* time enough, sanitized and on a busy machine, to come to the end of the memory first */
        bool good = run_with_cpu(&r, rows[i][1], "{}", 20000, 20000);
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
    ok(r.ok && depot_now_ms() - began < 3000, "a quick one ends while two compute");
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
    ok(r.err.code == DEPOT_E_TIMEOUT && depot_now_ms() - began < 10000, "and meets its deadline");
    rig_free(&r);
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
    host_free(h);
    return done();
}
