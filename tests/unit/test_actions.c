/* test_actions.c - the text of `run =`, and who is called for each kind of action. */
#include <string.h>

#include "run/actions.h"

#include "tap.h"

static depot_arena *arena;

static const char *kinds[] = { "task", "lua", "runbook", "job" };

/* "job default thumbs", or the message. */
static const char *parsed(const char *text)
{
    depot_err err = { 0 };
    action    a;

    if (!action_parse(arena, text, &a, &err)) {
        return depot_strdup(arena, err.msg);
    }
    return depot_strf(arena, "%s %s%s%s", kinds[a.kind], a.queue == NULL ? "" : a.queue, a.queue == NULL ? "" : " ", a.name);
}

static void every_form_is_read(void)
{
    static const struct { const char *text, *want; } rows[] = {
        { "backup.dump", "task backup.dump" },
        { "lua:hooks/report.lua", "lua hooks/report.lua" },
        { "lua:a.lua", "lua a.lua" },
        { "runbook:fail-over", "runbook fail-over" },
        { "job:default/thumbs.make", "job default thumbs.make" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        is_str(parsed(rows[i].text), rows[i].want, rows[i].text);
    }
}

static void what_is_none_is_refused(void)
{
    static const char *const texts[] = {
        "", ":", "lua:", "lua:report", "lua:/etc/x.lua", "lua:../x.lua", "lua:a/../../x.lua", "lua:.lua", "runbook:", "runbook:a b",
        "job:", "job:default", "job:default/", "job:/thumbs", "job:a/b/c", "script:x.lua", "LUA:x.lua", "backup dump", "backup.dump;x",
    };

    for (size_t i = 0; i < DEPOT_N(texts); i++) {
        depot_err err = { 0 };
        action    a;
        ok(!action_parse(arena, texts[i], &a, &err) && err.code == DEPOT_E_INVALID, texts[i]);
        contains(err.hint, "job:QUEUE/TYPE", "the hint shows the forms");
    }
}

/* ---- what is called with what ---- */

static const char *called;

static bool task(const char *name, const depot_json *args, depot_arena *a, const depot_json **out, depot_err *err)
{
    called = depot_strf(arena, "task %s %s", name, depot_json_text(arena, args));
    *out = depot_json_int(a, 7);
    return strcmp(name, "bad.one") != 0 || DEPOT_FAIL(err, IO, "it failed");
}

static bool script(const char *file, const depot_json *arg, int64_t timeout_ms, depot_arena *a, const depot_json **out, depot_err *err)
{
    (void)err;
    called = depot_strf(arena, "script %s %s %lld", file, depot_json_text(arena, arg), (long long)timeout_ms);
    *out = depot_json_str(a, "done");
    return true;
}

static bool jobs(const action_job *rows, size_t n, depot_err *err)
{
    (void)err;
    called = depot_strf(arena, "jobs %zu %s %s %s %s", n, rows[0].queue, rows[0].type, depot_json_text(arena, rows[0].args), rows[0].key);
    return true;
}

static bool runbook(const char *name, const depot_json *args, depot_err *err)
{
    (void)err;
    called = depot_strf(arena, "runbook %s %s", name, depot_json_text(arena, args));
    return true;
}

static const action_ops ops = { .task = task, .script = script, .jobs = jobs, .runbook = runbook };

static bool run_text(const char *text, const depot_json **out, depot_err *err)
{
    action a;

    called = "nobody";
    return action_parse(arena, text, &a, err) &&
           action_run(&a, &ops, depot_json_pack(arena, "{s:i}", "n", 1), "key", 1234, arena, out, err);
}

static void each_kind_goes_to_its_own(void)
{
    static const struct { const char *text, *want, *result; } rows[] = {
        { "a.b", "task a.b {\"n\":1}", "7" },
        { "lua:x.lua", "script x.lua {\"n\":1} 1234", "\"done\"" },
        { "runbook:r", "runbook r {\"n\":1}", NULL },
        { "job:q/t", "jobs 1 q t {\"n\":1} key", NULL },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        const depot_json *result = NULL;
        depot_err         err = { 0 };
        ok_err(run_text(rows[i].text, &result, &err), &err, rows[i].text);
        is_str(called, rows[i].want, "is called with its arguments");
        is_str(result == NULL ? NULL : depot_json_text(arena, result), rows[i].result, "and its result is given back");
    }
}

static void a_failure_is_passed_on(void)
{
    const depot_json *result = NULL;
    depot_err         err = { 0 };

    ok(!run_text("bad.one", &result, &err) && err.code == DEPOT_E_IO, "the action's own error");
}

int main(void)
{
    arena = depot_arena_new();
    run(every_form_is_read);
    run(what_is_none_is_refused);
    run(each_kind_goes_to_its_own);
    run(a_failure_is_passed_on);
    depot_arena_free(arena);
    return done();
}
