/* test_lua_exec.c - what scripts may reach outside, and programs that they run. */
#include <signal.h>
#include <unistd.h>

#include "lua/grant.h"
#include "lua_rig.h"
#include "tap.h"

#define ALL "{\"*\":[\"exec\"]}"

static void capabilities_cover_what_they_should(void)
{
    static const struct {
        const char *have, *want;
        bool        covers;
    } rows[] = {
        { "http", "http:a.example:443", true },        { "http", "exec:/bin/sh", false },
        { "http:a.example", "http:a.example:443", true }, { "http:a.example", "http:A.EXAMPLE:80", true },
        { "http:a.example:443", "http:a.example:443", true }, { "http:a.example:443", "http:a.example:80", false },
        { "http:a.example:443", "http:a.example", false }, { "http:a.example", "http:b.a.example:443", false },
        { "http:*.example", "http:b.a.example:443", true }, { "http:*.example", "http:example:443", false },
        { "http:*.example", "http:a.example.evil:443", false }, { "http:a.example", "http", false },
        { "http:[::1]:80", "http:[::1]:80", true },    { "http:[::1]", "http:[::1]:80", true },
        { "exec", "exec:/bin/sh", true },              { "exec:/bin/sh", "exec:/bin/sh", true },
        { "exec:/bin/sh", "exec:/bin/shred", false },  { "exec:/bin/*", "exec:/bin/sh", false },
        { "exe", "exec:/bin/sh", false },
    };
    static const char *const bad[] = { "", "htp", "exec:sh", "http:", "http:a/b", "http:u@a", "HTTP", "http:a:", "http:a:*", "http:a:https", "http:a:080",
                                       "http::80", "http:::1", "http:fe80::1:80", "http:https://a" };
    static const char *const good[] = { "http", "http:a", "http:*:443", "http:[::1]", "http:[::1]:80", "http:10.0.0.7:65535", "exec:/bin/sh" };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        is_int(grant_covers(rows[i].have, rows[i].want), rows[i].covers, rows[i].want);
    }
    for (size_t i = 0; i < DEPOT_N(bad); i++) {
        depot_err err = { 0 };
        ok(!grant_check(bad[i], &err), bad[i]);
    }
    for (size_t i = 0; i < DEPOT_N(good); i++) {
        depot_err err = { 0 };
        ok(grant_check(good[i], &err), good[i]);
    }
}

static bool run_as(rig *r, const char *grants, const char *text, int64_t timeout_ms)
{
    rig_init(r);
    rig_file(r, "handlers/x.lua", text);
    ok(rig_start(r, &(rig_options){ .grants = grants }), "it loads");
    return rig_run(r, RUN_HANDLER, "j", "{}", timeout_ms);
}

#define JOB(needs, body) "depot.job('j') { " needs " run = function(job) " body " end }"
#define EXEC(body) JOB("needs = { 'exec' },", body)

static void calls_need_a_statement_and_a_grant(void)
{
    static const struct {
        const char *grants, *text, *message, *hint;
    } rows[] = {
        { ALL, JOB("", "depot.exec { '/bin/true' }"), "j does not say that it needs exec:/bin/true",
          "add needs = {\"exec:/bin/true\"} to depot.job(\"j\") in handlers/x.lua" },
        { ALL, JOB("needs = { 'exec:/bin/false' },", "depot.exec { '/bin/true' }"), "j does not say", "" },
        { NULL, EXEC("depot.exec { '/bin/true' }"), "j was not granted exec:/bin/true",
          "[handler NAME] with types = j and grant = exec:/bin/true" },
        { "{\"k\":[\"exec\"]}", EXEC("depot.exec { '/bin/true' }"), "j was not granted", "" },
        { "{\"j\":[\"exec:/bin/false\"]}", EXEC("depot.exec { '/bin/true' }"), "j was not granted", "" },
    };
    rig r;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        ok(!run_as(&r, rows[i].grants, rows[i].text, 5000), rows[i].text);
        is_str(depot_err_id(&r.err), "CAPABILITY", "CAPABILITY");
        contains(r.err.msg, rows[i].message, "what is missing");
        contains(r.err.hint, rows[i].hint, "and how to get it");
        rig_free(&r);
    }
    ok(run_as(&r, "{\"j*\":[\"exec:/bin/true\"]}", JOB("needs = { 'exec:/bin/true' },", "return depot.exec({ '/bin/true' }).status"), 5000),
       "with both it may");
    is_str(r.json, "0", "and does");
    rig_free(&r);
    rig_init(&r);
    rig_file(&r, "handlers/x.lua", "\ndepot.job('j') { needs = { 'exce' }, run = print }");
    ok(!rig_start(&r, &(rig_options){ 0 }), "a need that is no capability");
    contains(r.faults.data, "handlers/x.lua:2: INVALID there is no capability exce", "is found when loading");
    rig_free(&r);
}

static void files_state_their_needs_themselves(void)
{
    rig r;

    rig_init(&r);
    rig_file(&r, "hooks/a.lua", "depot.needs { 'exec:/bin/true' } return depot.exec({ '/bin/true' }).status");
    rig_file(&r, "hooks/c.lua", "while true do depot.needs { 'exec' } end");
    rig_file(&r, "hooks/d.lua", "depot.needs { 'exec:/' .. ('x'):rep(5000) }");
    rig_file(&r, "hooks/b.lua", "return depot.exec({ '/bin/true' }).status");
    ok(rig_start(&r, &(rig_options){ .grants = "{\"hooks/?.lua\":[\"exec\"]}" }), "they load");
    ok(rig_run(&r, RUN_FILE, "hooks/a.lua", "{}", 5000), "one that does may");
    ok(!rig_run(&r, RUN_FILE, "hooks/b.lua", "{}", 5000), "one that does not may not");
    contains(r.err.hint, "begin the file with depot.needs{\"exec:/bin/true\"}", "and is told how");
    ok(!rig_run(&r, RUN_FILE, "hooks/c.lua", "{}", 5000), "twice it cannot");
    contains(r.err.msg, "has been called before", "as one list is all");
    ok(!rig_run(&r, RUN_FILE, "hooks/d.lua", "{}", 5000), "nor at any length");
    contains(r.err.msg, "longer than 4096 bytes", "which is said");
    rig_free(&r);
}

static void programs_run_and_tell_how_they_ended(void)
{
    static const char *const rows[][2] = {
        { EXEC("return depot.exec { '/bin/echo', 'a b', 'c' }"), "{\"err\":\"\",\"out\":\"a b c\\n\",\"status\":0,\"truncated\":false}" },
        { EXEC("return depot.exec { '/bin/sh', '-c', 'echo no >&2; exit 3' }"), "{\"err\":\"no\\n\",\"out\":\"\",\"status\":3,\"truncated\":false}" },
        { EXEC("return depot.exec { '/bin/cat', stdin = 'in\\n' }.out"), "\"in\\n\"" },
        { EXEC("return #depot.exec { '/bin/cat', stdin = ('x'):rep(300000) }.out"), "300000" },
        { EXEC("return #depot.exec { '/bin/true', stdin = ('x'):rep(300000) }.out"), "0" },
        { EXEC("local r = depot.exec { '/bin/sh', '-c', 'kill -9 $$' } return { r.status, r.signal }"), "[137,9]" },
        { EXEC("local r = depot.exec { '/bin/sh', '-c', 'exit 137' } return { r.status, r.signal == nil }"), "[137,true]" },
        { EXEC("return depot.exec { '/bin/pwd', cwd = '/usr' }.out"), "\"/usr\\n\"" },
        { EXEC("return depot.exec { '/usr/bin/env', env = { A = '1', LANG = 'C' } }.out:gsub('TZ=[^\\n]*\\n', '')"), "\"PATH=/usr/local/bin:/usr/bin:/bin\\nA=1\\nLANG=C\\n\"" },
        { EXEC("local r = depot.exec { '/usr/bin/seq', '100000', max_output = 10 } return { r.out, r.truncated }"), "[\"1\\n2\\n3\\n4\\n5\\n\",true]" },
        { EXEC("local r = depot.exec { '/bin/sh', '-c', 'sleep 0.2; echo late & exit 0' } return r.out"), "\"late\\n\"" },
        { EXEC("return (('ab'):gsub('.', function(c) return depot.exec({ '/bin/echo', c .. c, stdin = 'x' }).out:sub(1, 2) end))"), "\"aabb\"" },
    };
    rig r;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        ok_err(run_as(&r, ALL, rows[i][0], 10000), &r.err, rows[i][0]);
        if (strstr(rows[i][0], "A = '1'") != NULL && strstr(r.json, "A=1\\nLANG=C") == NULL) {
            contains(r.json, "LANG=C\\nA=1", "in either order");
        } else {
            is_str(r.json, rows[i][1], "its result");
        }
        rig_free(&r);
    }
}

static void mistakes_are_told(void)
{
    static const char *const rows[][3] = {
        { EXEC("depot.exec { 'true' }"), "LUA_ERROR", "named by its whole path" },
        { EXEC("depot.exec { '/no/such' }"), "EXEC", "cannot run /no/such: No such file" },
        { EXEC("depot.exec { '/bin/true', timout = 1 }"), "LUA_ERROR", "no option 'timout' (did you mean timeout?)" },
        { EXEC("depot.exec { '/bin/true', 'a\\0b' }"), "LUA_ERROR", "without NUL" },
        { EXEC("depot.exec {}"), "LUA_ERROR", "a program" },
        { EXEC("depot.exec { '/bin/true', env = 'A=1' }"), "LUA_ERROR", "env must be a table" },
        { EXEC("local s, t = ('x'):rep(1 << 20), { '/bin/true' } for i = 2, 4000 do t[i] = s end depot.exec(t)"), "LUA_ERROR", "larger than 2 MiB" },
        { EXEC("depot.exec { '/bin/true', cwd = '/no/such' }"), "EXEC", "No such file" },
    };
    rig r;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        ok(!run_as(&r, ALL, rows[i][0], 5000), rows[i][0]);
        is_str(depot_err_id(&r.err), rows[i][1], "code");
        contains(r.err.msg, rows[i][2], "message");
        rig_free(&r);
    }
}

/* Everybody in the group is gone: the file that the grandchild would write stays away. */
static void they_are_killed_as_a_group(void)
{
    static const char *const rows[][2] = {
        { EXEC("depot.exec { '/bin/sh', '-c', '(sleep 1; touch MARK) & sleep 9', timeout = '100ms' }"), "still running after" },
        { EXEC("depot.exec { '/bin/sh', '-c', '(sleep 1; touch MARK) & sleep 9' }"), "stopped at its deadline" },
        { EXEC("('a'):gsub('.', function() depot.exec { '/bin/sh', '-c', '(sleep 1; touch MARK) & sleep 9', timeout = 0.1 } end)"), "still running after" },
        { EXEC("depot.exec { '/usr/bin/setsid', '/bin/sleep', '2', timeout = 0.1 }"), "still running after" },
    };
    char mark[64];
    rig  r;

    (void)snprintf(mark, sizeof(mark), "/tmp/depot-exec-%d", (int)getpid());
    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };
        const char *place = strstr(rows[i][0], "MARK");
        depot_buf_addf(&text, "%.*s%s%s", place == NULL ? 0 : (int)(place - rows[i][0]), rows[i][0], place == NULL ? "" : mark,
                       place == NULL ? rows[i][0] : place + 4);
        int64_t began = depot_now_ms();
        ok(!run_as(&r, ALL, text.data, 400), text.data);
        is_int(r.err.code, DEPOT_E_TIMEOUT, "TIMEOUT");
        contains(r.err.msg, rows[i][1], "which says why");
        rig_free(&r);
        ok(depot_now_ms() - began < 8000, "soon");
    }
    usleep(1200000);
    ok(access(mark, F_OK) != 0, "and nothing of it went on");
}

static void others_go_on_meanwhile(void)
{
    rig     r;
    int64_t began = depot_now_ms();

    rig_init(&r);
    rig_file(&r, "handlers/x.lua", EXEC("depot.exec { '/bin/sleep', '1' } return 1"));
    rig_start(&r, &(rig_options){ .grants = ALL });
    for (uint64_t i = 1; i <= 20; i++) {
        ok(rig_begin(&r, i, RUN_HANDLER, "j", "{}", 10000), "begun");
    }
    rig_drain(&r);
    is_int(r.ended, 20, "all end");
    ok(r.ok && depot_now_ms() - began < 10000, "side by side");
    rig_free(&r);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* as in a worker */
    run(capabilities_cover_what_they_should);
    run(calls_need_a_statement_and_a_grant);
    run(files_state_their_needs_themselves);
    run(programs_run_and_tell_how_they_ended);
    run(mistakes_are_told);
    run(they_are_killed_as_a_group);
    run(others_go_on_meanwhile);
    return done();
}
