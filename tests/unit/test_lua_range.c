/* test_lua_range.c - jobs of a range in one engine: what each of them sees, how each ends, what one leaves behind for the next, and what
 * goes over the wire about it. */
#include "lua/outcome.h"
#include "lua_plugin.h"
#include "tap.h"

#define ID "01890a5d-ac96-7000-8000-000000000000"

enum { ROOM = 8 };

static bool begin(rig *r, const char *args, int64_t first, int64_t n, int64_t room, int64_t timeout_ms)
{
    depot_err        err = { 0 };
    const range_spec spec = { .id = 100,
                              .name = "t",
                              .job_id = ID,
                              .token = "secret",
                              .job = depot_json_pack(r->arena, "{s:i, s:i, s:s}", "attempt", 1, "max_attempts", 3, "queue", "q"),
                              .args = args,
                              .first = first,
                              .n = n,
                              .room = room,
                              .timeout_ms = timeout_ms };

    r->has_answered = false;
    return engine_range(r->engine, &spec, &err);
}

static void until_answered(rig *r)
{
    while (!r->has_answered) {
        uv_run(&r->loop, UV_RUN_ONCE);
    }
}

/* A file with one handler `t`; body is that of run(job), before what stands above it. */
static void open_rig(rig *r, const char *before, const char *more, const char *body)
{
    rig_init(r);
    rig_file(r, "lib/m.lua", "local m = { n = 0 } function m.next() m.n = m.n + 1 return m.n end return m");
    rig_file(r, "handlers/t.lua",
             depot_strf(r->arena, "%s depot.job('t') { %s run = function(job) %s end }", before, more, body));
    if (!rig_start(r, &(rig_options){ .host = h, .slice_us = 20000, .memory_max = 4 << 20, .cpu_max_ms = 300 })) {
        printf("# %s\n", r->faults.data);
    }
}

static void run_all(rig *r, const char *args, int64_t n, int64_t timeout_ms)
{
    if (ok(begin(r, args, 0, n, ROOM, timeout_ms), "the range begins")) {
        until_answered(r);
    }
}

static void jobs_see_what_is_theirs(void)
{
    rig r;

    open_rig(&r, "", "", "return { job.id:sub(-3), job.attempt, job.max_attempts, job.queue, job.args, job.token == nil }");
    begin(&r, "{\"a\":[1,-2.5,\"x\\u00e9\"]}, null,\"]\" ] rest", 1021, 3, ROOM, 1000);
    until_answered(&r);
    is_str(r.answer.data,
           "begun 3 ended going results [[\"3fd\",1,3,\"q\",{\"a\":[1,-2.5,\"x\xc3\xa9\"]},true],[\"3fe\",1,3,\"q\",null,true],[\"3ff\",1,3,\"q\",\"]\",true]]",
           "each its id, its arguments and what the range says of all");
    rig_free(&r);
}

/* What comes in goes out as it was, by the short way and by the parser's. */
static void arguments_are_read_exactly(void)
{
    static const char *const rows[] = {
        "0", "-0.5", "-7", "123456789012345678", "9223372036854775807", "-9223372036854775808", "1.5e3", "true", "false", "null", "\"\"",
        "\"a\\nb\\u20ac\"", "[]", "{}", "[[],[{}],{\"a\":{\"b\":[null,1]}}]", "[0.1,1e-3,100000000000000000000.5]",
    };
    static const char *const wanted[DEPOT_N(rows)] = { [6] = "1500.0", [11] = "\"a\\nb\xe2\x82\xac\"", [15] = "[0.1,0.001,1e+20]" };
    static const char *const bad[] = { "9223372036854775808", "01", "-", "tru", "\"\\u0000\"", "nul1", "\"\xff\"", "[1 2]", "{\"a\" 1}" };
    rig                      r;

    open_rig(&r, "", "", "return job.args");
    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        const char *want = wanted[i] == NULL ? rows[i] : wanted[i];
        run_all(&r, rows[i], 1, 1000);
        is_str(r.answer.data, depot_strf(r.arena, "begun 1 ended going results %s",
                                         strcmp(want, "null") == 0 ? "-" : depot_strf(r.arena, "[%s]", want)), rows[i]);
    }
    for (size_t i = 0; i < DEPOT_N(bad); i++) {
        run_all(&r, bad[i], 1, 1000);
        is_str(r.answer.data, "begun 1 ended 0 BAD_PAYLOAD going results -", bad[i]);
    }
    char deep[141] = "";
    memset(deep, '[', 70);
    memset(deep + 70, ']', 70);
    run_all(&r, deep, 1, 1000);
    is_str(r.answer.data, "begun 1 ended 0 BAD_PAYLOAD going results -", "nested too deep");
    rig_free(&r);
}

static void add_value(depot_buf *out, unsigned *seed, int depth)
{
    static const char *const leaves[] = { "0", "-1", "12345678901234567", "999999999999999999", "-0.25", "1e-7", "true", "false", "null", "\"\"",
                                          "\"plain\"", "\"a\\\"b\\\\\"", "\"\\u00e9\xc3\xa9\"", "\"[,]{:}\"", " 7 ", "\t[ ]\n", "{ }" };
    int kind = depth > 4 ? 0 : rand_r(seed) % 4, n = rand_r(seed) % 4;

    if (kind < 2) {
        depot_buf_adds(out, leaves[(size_t)rand_r(seed) % DEPOT_N(leaves)]);
        return;
    }
    depot_buf_adds(out, kind == 2 ? "[" : "{");
    for (int i = 0; i < n; i++) {
        depot_buf_adds(out, i == 0 ? "" : rand_r(seed) % 2 == 0 ? "," : " ,\n");
        if (kind == 3) {
            depot_buf_addf(out, "\"k%d\"%s", i, rand_r(seed) % 2 == 0 ? ":" : " : ");
        }
        add_value(out, seed, depth + 1);
    }
    depot_buf_adds(out, kind == 2 ? "]" : "}");
}

/* The short way gives what the parser gives. */
static void any_arguments_are_read_as_by_the_parser(void)
{
    DEPOT_AUTO(depot_buf_free) depot_buf args = { 0 }, value = { 0 };
    unsigned                             seed = (unsigned)depot_now_us();
    rig                                  r;

    printf("# seed %u\n", seed);
    open_rig(&r, "", "", "local a, b = depot.json.encode(job.args[1]), depot.json.encode(depot.json.decode(job.args[2])) "
                         "if a ~= b then error(a .. ' is not ' .. b) end return 1");
    for (int i = 0; i < 200; i++) {
        depot_buf_reset(&value);
        add_value(&value, &seed, 0);
        depot_json *text = depot_json_strn(r.arena, value.data, value.len);
        depot_buf_addf(&args, "%s[%s,%s]", i == 0 ? "" : ",", value.data, depot_json_text(r.arena, text));
    }
    run_all(&r, args.data, 200, 5000);
    ok(strncmp(r.answer.data, "begun 200 ended going", 21) == 0, r.message == NULL ? "all of 200" : r.message);
    rig_free(&r);
}

static void each_job_ends_by_itself(void)
{
    rig r;

    open_rig(&r, "", "args = { n = { type = 'integer', min = 0 } },",
             "local n = job.args.n"
             " if n == 1 then error('no') end"
             " if n == 2 then job:fail('OWN', 'mine', { retry = 'no' }) end"
             " if n == 3 then while true do end end"
             " if n == 4 then return ('x'):rep(1 << 30) end"
             " if n == 5 then job:snooze('1s') end"
             " if n == 6 then return function() end end"
             " if n == 7 then while true do pcall(depot.sleep, 10) end end"
             " if n == 8 then depot.sleep(0.01) end"
             " return n");
    run_all(&r, "{\"n\":0},{\"n\":1},{\"n\":2},{\"n\":3},{\"n\":4},{\"n\":5},{\"n\":6},{\"n\":7},{\"n\":8},{\"n\":-1},{\"x\":1},[],{\"n\":11}", 13, 150);
    is_str(r.answer.data,
           "begun 13 ended 1 LUA_ERROR 2 OWN 3 TIMEOUT 4 MEMORY_LIMIT 5 SNOOZED! 6 LUA_ERROR 9 BAD_PAYLOAD 10 BAD_PAYLOAD 11 BAD_PAYLOAD 7 TIMEOUT "
           "going results [0,null,null,null,null,null,null,null,8,null,null,null,11]",
           "in its own way, and the others go on");
    rig_free(&r);
}

/* As if the file had run anew for each, whatever it keeps. */
static void nothing_is_left_for_the_next(void)
{
    static const char *const rows[][3] = {
        { "a number of the file", "local n = 0", "n = n + 1 return n" },
        { "one of a function of the file", "local n = 0 local function up() n = n + 1 return n end", "return up()" },
        { "a function of the file", "local function f() return 1 end", "local was = f f = function() return was() + 1 end return was()" },
        { "the environment", "", "local was = tostring ~= nil _ENV = { job = job } return was and 1" },
        { "a table of the file", "local t = { n = 0 }", "t.n = t.n + 1 return t.n" },
        { "a table that a function of the file has", "local t = {} local function up() t[#t + 1] = 1 return #t end", "return up()" },
        { "a module at the top", "local m = require 'm'", "return m.next()" },
        { "a module asked for in the job", "", "return require('m').next()" },
        { "a coroutine", "local c = coroutine.wrap(function() for i = 1, 99 do coroutine.yield(i) end end)", "return c()" },
        { "an iterator", "local i = ('1 2 3'):gmatch('%d')", "return tonumber(i())" },
        { "after a wait at the top", "local n = 0 pcall(depot.sleep, 0.001)", "n = n + 1 return n" },
        { "after a wait in the job", "local n = 0", "n = n + 1 if job.args == 2 then depot.sleep(0.001) end return n" },
        { "after an error", "local n = 0", "n = n + 1 local was = n if job.args == 2 then depot.try(error, 'x') end return was" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        rig r;
        open_rig(&r, rows[i][1], "", rows[i][2]);
        run_all(&r, "1,2,3,4", 4, 1000);
        is_str(r.answer.data, "begun 4 ended going results [1,1,1,1]", rows[i][0]);
        rig_free(&r);
    }
}

static void one_state_serves_many(void)
{
    rig r;

    open_rig(&r, "local log = depot.log.info log('at the top') local function id(x) return x end", "", "return id(job.args)");
    r.log.len = 0;
    run_all(&r, "1,2,3,4,5,6,7,8,9", 9, 1000);
    is_str(r.log.data, "1 job " ID " handlers/t.lua:1 at the top\n", "a file that keeps nothing runs once");
    is_int(engine_running(r.engine), 0, "and nothing runs any more");
    rig_free(&r);
}

static void a_state_is_small(void)
{
    rig r;

    open_rig(&r, "", "", "depot.sleep(0.001) return collectgarbage('count') // 1");
    run_all(&r, "1", 1, 1000);
    const char *at = strchr(r.answer.data, '[');
    ok(at != NULL && strtol(at + 1, NULL, 10) <= 16, "at most 16 KiB of Lua for a job that waits");
    rig_free(&r);
}

static void those_that_wait_do_so_together(void)
{
    rig     r;
    int64_t began = depot_now_ms();

    open_rig(&r, "", "", "depot.sleep(0.25) return job.args");
    run_all(&r, "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", 16, 5000);
    is_str(r.answer.data, "begun 16 ended going results [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]", "16 wait, 8 at a time");
    ok(depot_now_ms() - began < 3000, "in less time than one after the other");
    rig_free(&r);
}

static void what_takes_long_goes_on(void)
{
    rig r;

    open_rig(&r, "", "", "if job.args > 1 then depot.sleep(2.5) end return job.args");
    run_all(&r, "0,1,2,3,4", 5, 5000);
    is_str(r.answer.data, "begun 5 ended going 4 3 2 results [0,1,null,null,null]", "after a second the range answers");
    is_int(r.ended, 0, "while some of its jobs are under way");
    rig_drain(&r);
    is_str(r.ends.data, "103 2\n104 3\n105 4\n", "which tell their ends themselves");
    rig_free(&r);
}

static void one_computes_at_a_time(void)
{
    rig r;

    open_rig(&r, "", "", "local until_ = depot.now() + 0.2 while depot.now() < until_ do end return job.args");
    run_all(&r, "0,1,2,3,4,5,6,7", 8, 5000);
    contains(r.answer.data, "results [0,1,2,", "each goes on to its end before another one begins");
    ok(strncmp(r.answer.data, "begun 8", 7) != 0, "and after a second none does");
    rig_drain(&r);
    rig_free(&r);
}

static void large_results_are_told_in_parts(void)
{
    rig       r;
    depot_buf args = { 0 };

    open_rig(&r, "", "", "return ('x'):rep(60000)");
    for (int i = 0; i < 200; i++) {
        depot_buf_adds(&args, i == 0 ? "1" : ",1");
    }
    run_all(&r, args.data, 200, 5000);
    ok(strncmp(r.answer.data, "begun 70 ended going results", 28) == 0, "some, when they have come to 4 MiB");
    ok(r.answer.len < 5 << 20, "no more of them");
    rig_free(&r);
    open_rig(&r, "", "", "depot.sleep(0.05) return ('x'):rep(60000)");
    begin(&r, args.data, 0, 200, 200, 5000);
    until_answered(&r);
    ok(r.answer.len < 5 << 20, "nor when all end at a time");
    rig_drain(&r);
    long told = 0, begun = strtol(r.answer.data + strlen("begun "), NULL, 10);
    for (const char *at = r.answer.data; (at = strstr(at, "\"x")) != NULL; at++) {
        told++;
    }
    ok(told > 0 && begun > 0, "some of them do");
    is_int(r.ended, begun - told, "the others tell theirs by themselves");
    depot_buf_free(&args);
    rig_free(&r);
}

static void an_end_comes_soon(void)
{
    rig r;

    open_rig(&r, "", "", "if job.args == 1 then depot.sleep(10) end return job.args");
    begin(&r, "0,1,1,0", 0, 4, 2, 5000);
    for (int i = 0; i < 20; i++) {
        uv_run(&r.loop, UV_RUN_NOWAIT);
    }
    engine_cancel(r.engine, 100);
    until_answered(&r);
    is_str(r.answer.data, "begun 3 ended 2 CANCELED 1 CANCELED going results [0,null,null]", "when it is canceled");
    begin(&r, "0,0", 0, 2, 2, 5000);
    engine_enough(r.engine, 100);
    until_answered(&r);
    is_str(r.answer.data, "begun 0 ended going results -", "and when no more are to begin");
    depot_err        err = { 0 };
    const range_spec none = { .id = 1, .name = "t", .job_id = ID, .token = "", .args = "", .first = 1020, .n = 5, .room = 1 };
    ok(!engine_range(r.engine, &none, &err) && err.code == DEPOT_E_BUG, "one of places that no chunk has is refused");
    rig_free(&r);
}

/* ---- over the wire ---- */

static bool read_text(depot_arena *arena, const char *head, depot_range_result *out, depot_err *err)
{
    const depot_json *doc = depot_json_parse(arena, head, strlen(head), err);

    *err = (depot_err){ 0 };
    return doc != NULL && outcome_range_read(arena, doc, "[1,null,null]", &(outcome_range){ 4, 3, 200 }, out, err);
}

static void an_answer_reads_as_it_was_written(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_range_job    ended = { 5, { .json = "null", .where = "a.lua:1", .trace = "t", .cpu_us = 7, .snoozed = true, .delay_ms = 9 } };
    depot_range_going  going = { .place = 6 };
    depot_range_result in = { .begun = 3, .ended = &ended, .n_ended = 1, .going = &going, .n_going = 1, .busy_us = 11 }, out;
    depot_err          err = { 0 };

    DEPOT_FAIL(&ended.res.err, TIMEOUT, "late");
    depot_hint(&ended.res.err, "earlier");
    const char *text = depot_json_text(arena, outcome_range_head(arena, &in));
    ok_err(read_text(arena, text, &out, &err), &err, "it is read");
    is_int(out.begun * 100 + out.busy_us, 311, "begun, and how long they took");
    is_int(out.ended[0].place, 5, "what did not end well: its place");
    is_str(depot_strf(arena, "%s %s %s", out.ended[0].res.err.msg, out.ended[0].res.err.hint, out.ended[0].res.where), "late earlier a.lua:1", "why");
    ok(out.ended[0].res.snoozed && out.ended[0].res.delay_ms == 9 && out.ended[0].res.cpu_us == 7, "and when it comes again");
    is_int(out.going[0].id, 203, "what goes on has the id of its run");
    is_str(out.results, "[1,null,null]", "the results are passed on as they are");
}

static void answers_that_cannot_be_are_refused(void)
{
    static const char *const rows[] = {
        "{}", "{\"begun\":4}", "{\"begun\":-1}", "{\"begun\":3,\"going\":[7]}", "{\"begun\":3,\"going\":[3]}", "{\"begun\":2,\"going\":[6]}",
        "{\"begun\":3,\"going\":[4,4]}", "{\"begun\":3,\"going\":[\"4\"]}", "{\"begun\":3,\"ended\":[{\"place\":4}]}",
        "{\"begun\":3,\"ended\":[{\"number\":1}]}", "{\"begun\":3,\"ended\":[1]}", "{\"begun\":3,\"going\":[4],\"ended\":[{\"place\":4,\"number\":1}]}",
    };
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_range_result                        out;
    depot_err                                 err;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        ok(!read_text(arena, rows[i], &out, &err) && err.code == DEPOT_E_MALFORMED, rows[i]);
    }
}

int main(void)
{
    h = host_new(&env, &core);
    setenv("TAP_SECONDS", "120", 0);
    run(jobs_see_what_is_theirs);
    run(arguments_are_read_exactly);
    run(any_arguments_are_read_as_by_the_parser);
    run(each_job_ends_by_itself);
    run(nothing_is_left_for_the_next);
    run(one_state_serves_many);
    run(a_state_is_small);
    run(those_that_wait_do_so_together);
    run(what_takes_long_goes_on);
    run(one_computes_at_a_time);
    run(large_results_are_told_in_parts);
    run(an_end_comes_soon);
    run(an_answer_reads_as_it_was_written);
    run(answers_that_cannot_be_are_refused);
    host_free(h);
    return done();
}
