/* test_events.c - the event bus with a real executor; what hooks run is recorded by functions of the test. */
#include <pthread.h>
#include <string.h>

#include "base/log.h"
#include "base/metrics.h"
#include "run/events_parts.h"

#include "tap.h"

static depot_arena *arena; /* of the main thread */
static executor    *threads;

/* ---- conf.d of the test ---- */
typedef struct section {
    const char  *name;
    hook_options o;
} section;
typedef struct section_list {
    const section *rows;
    size_t         n;
} section_list;
static section_list        written;  /* by the test */
static const section_list *_Atomic in_force, *reloaded; /* reloaded: in force as soon as anybody has seen the last section */

static const void *sections(void)
{
    return in_force;
}

static const void *next_section(const void *now, size_t *it, const char **out_name)
{
    const section_list *list = now;

    if (*it >= list->n) {
        in_force = reloaded == NULL ? in_force : reloaded;
        return NULL;
    }
    *out_name = list->rows[*it].name;
    return &list->rows[(*it)++].o;
}

/* ---- what was called, by any thread ---- */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the rest */
static depot_buf       calls;
static size_t          n_calls, n_delivered;
static int             fail_jobs, pause_us, eval_code; /* eval_code: error of eval; 0: it works */
static bool            subscribed;

static void note(const char *fmt, ...) DEPOT_PRINTF(1, 2);
static void note(const char *fmt, ...)
{
    char    text[4096];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&lock);
    depot_buf_addf(&calls, "%s\n", text);
    n_calls++;
    pthread_mutex_unlock(&lock);
}

static bool task(const char *name, const depot_json *args, depot_arena *a, const depot_json **out, depot_err *err)
{
    *out = NULL;
    if (pause_us > 0) {
        usleep((useconds_t)pause_us);
    }
    note("task %s %s", name, depot_json_text(a, args));
    if (strcmp(name, "loop.again") == 0) {
        return events_emit("loop.turned", args, err);
    }
    return strcmp(name, "bad.one") != 0 || DEPOT_FAIL(err, IO, "it failed");
}

static bool script(const char *file, const depot_json *arg, int64_t timeout_ms, depot_arena *a, const depot_json **out, depot_err *err)
{
    (void)err;
    *out = NULL;
    note("script %s %s %lld", file, depot_json_text(a, arg), (long long)timeout_ms);
    return true;
}

static bool jobs(const action_job *rows, size_t n, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *a = depot_arena_new();

    if (fail_jobs) {
        return DEPOT_FAIL(err, DB_DOWN, "the database is away");
    }
    for (size_t i = 0; i < n; i++) {
        note("job %zu/%zu %s %s %s", i + 1, n, rows[i].queue, rows[i].type, depot_json_text(a, rows[i].args));
    }
    return true;
}

/* An expression is `yes`, or a member of the event that has to be true. */
static bool eval(const char *expression, const depot_json *names, bool *out, depot_err *err)
{
    if (eval_code != 0) {
        return depot_fail(err, (depot_code)eval_code, __FILE__, __LINE__, "no worker runs");
    }
    *out = strcmp(expression, "yes") == 0 || depot_json_get_bool(depot_json_get(names, "event"), expression, false);
    return true;
}

static const depot_json *pick(const char *name, const depot_json *payload, depot_arena *a)
{
    if (strcmp(name, "demo.only_n") != 0) {
        return NULL;
    }
    return depot_json_pack(a, "{s:o}", "n", depot_json_get(payload, "n"));
}

static bool exists(const action *a, const depot_json *args, depot_err *err)
{
    (void)args;
    return strcmp(a->name, "no.such") != 0 || DEPOT_FAIL(err, CONFIG, "there is no %s", a->name);
}

static bool compiles(const char *expression, depot_err *err)
{
    return strchr(expression, '(') == NULL || DEPOT_FAIL(err, LUA_SYNTAX, "cannot be read");
}

static const action_ops ops = { .task = task, .script = script, .jobs = jobs, .eval = eval, .exists = exists, .pick = pick,
                                .compiles = compiles };

static const depot_event_row declared = { "demo.found", NULL, "found" };

static const depot_event_row *row(const char *event)
{
    return strcmp(event, "demo.found") == 0 ? &declared : NULL;
}

static bool check_payload(const char *event, const depot_json *payload, depot_arena *a, depot_err *err)
{
    (void)a;
    return strcmp(event, "demo.found") != 0 || depot_json_get(payload, "n") != NULL || DEPOT_FAIL(err, INVALID, "n is missing");
}

static bool wanted(const char *event)
{
    (void)event;
    return subscribed;
}

static void delivered(const depot_event *event)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *a = depot_arena_new();

    note("subscription %s %s %zu", depot_event_name(event), depot_json_text(a, depot_event_payload(event)), strlen(depot_event_id(event)));
    pthread_mutex_lock(&lock);
    n_delivered++;
    pthread_mutex_unlock(&lock);
}

/* ---- around each test ---- */
static events_env env;

static void begin(const section *list, size_t n)
{
    written = (section_list){ list, n };
    in_force = &written;
    reloaded = NULL;
    depot_buf_reset(&calls);
    n_calls = n_delivered = 0;
    fail_jobs = pause_us = eval_code = 0;
    subscribed = false;
    threads = executor_new(4, 64);
    env = (events_env){ .executor = threads, .ops = &ops, .row = row, .check = check_payload, .wanted = wanted, .deliver = delivered,
                        .sections = sections, .next = next_section };
    events_open(&env);
}
#define BEGIN(list) begin((list), DEPOT_N(list))

/* Everything that was handed to the executor has run; the calls, one a line. */
static const char *all_calls(void)
{
    executor_drain(threads, 20000);
    executor_free(threads);
    return calls.data == NULL ? "" : calls.data;
}

static bool emit(const char *event, const char *payload, depot_err *err)
{
    return events_emit(event, depot_json_parse(arena, payload, strlen(payload), err), err);
}

static size_t count_of(const char *text, const char *part)
{
    size_t n = 0;

    for (const char *p = text; (p = strstr(p, part)) != NULL; p += strlen(part)) {
        n++;
    }
    return n;
}

#define HOOK(n, pattern, what, ...) { n, { .on = pattern, .run = what, .enabled = true, .timeout = 5000, __VA_ARGS__ } }

/* ---- tests ---- */

static void hooks_react_by_name_and_glob(void)
{
    static const section list[] = {
        HOOK("exact", "demo.found", "a.exact", .when = NULL), HOOK("star", "demo.*", "a.star", .when = NULL),
        HOOK("mark", "demo.foun?", "a.mark", .when = NULL),   HOOK("other", "demo", "a.other", .when = NULL),
        { "off", { .on = "*", .run = "a.off", .timeout = 5000 } },
    };
    depot_err err = { 0 };

    BEGIN(list);
    ok_err(emit("demo.found", "{\"n\": 1}", &err), &err, "emit");
    const char *got = all_calls();
    is_int(n_calls, 3, "three hooks match");
    contains(got, "task a.exact {\"n\":1}", "by name, with the payload");
    contains(got, "task a.star {\"n\":1}", "by a star");
    contains(got, "task a.mark {\"n\":1}", "by a question mark");
}

static void conditions_see_the_payload(void)
{
    static const section list[] = {
        HOOK("big", "*", "a.big", .when = "big"), HOOK("small", "*", "a.small", .when = "small"), HOOK("any", "*", "a.any", .when = ""),
    };
    depot_err err = { 0 };

    BEGIN(list);
    ok_err(emit("demo.found", "{\"n\": 1, \"big\": true}", &err), &err, "emit");
    const char *got = all_calls();
    is_int(n_calls, 2, "the hook whose condition does not hold stays quiet");
    contains(got, "task a.big", "the one whose condition holds does not");
    contains(got, "task a.any", "an empty condition is none");
}

static void an_action_gets_what_it_can_use(void)
{
    static const section list[] = {
        HOOK("s", "*", "lua:hooks/x.lua", .when = NULL),
        HOOK("sa", "*", "lua:hooks/y.lua", .args = "{\"a\": 1}"),
        HOOK("t", "*", "demo.only_n", .when = NULL),
        HOOK("j", "*", "job:default/x", .when = NULL),
        HOOK("ja", "*", "job:default/y", .args = "{\"a\": 1}"),
    };
    depot_err err = { 0 };

    BEGIN(list);
    ok_err(emit("demo.found", "{\"n\": 1, \"id\": \"mine\", \"name\": \"x\", \"args\": 2, \"k\": [1]}", &err), &err, "emit");
    const char *got = all_calls();
    contains(got, "script hooks/x.lua {\"name\":\"demo.found\",\"id\":\"", "a script gets the event; its own name and id win");
    contains(got, ",\"n\":1,\"args\":2,\"k\":[1]} 5000", "with the payload's other members and the timeout");
    contains(got, "\"args\":{\"a\":1},\"n\":1,\"k\":[1]} 5000", "arguments of the hook are event.args");
    contains(got, "task demo.only_n {\"n\":1}", "a task gets what it takes");
    contains(got, "default x {\"n\":1,\"id\":\"mine\",\"name\":\"x\",\"args\":2,\"k\":[1]}", "a job gets the payload");
    contains(got, "default y {\"a\":1}", "or the hook's arguments");
}

static void durable_hooks_are_jobs_before_emit_returns(void)
{
    static const section list[] = {
        HOOK("keep", "*", "a.keep", .durable = true), HOOK("make", "*", "job:q/make", .durable = true),
        HOOK("no", "*", "a.no", .durable = true, .when = "never"),
    };
    depot_err err = { 0 };

    BEGIN(list);
    ok_err(emit("demo.found", "{\"n\": 1}", &err), &err, "emit");
    is_int(n_calls, 2, "both jobs are there already");
    const char *got = all_calls();
    contains(got, "job 1/2 hooks hook:keep {\"hook\":\"keep\",\"event\":\"demo.found\",\"id\":\"", "a task waits in the queue of hooks");
    contains(got, "job 2/2 q make {\"n\":1}", "a job is made straight away");
    is_int(count_of(got, "task"), 0, "nothing runs by itself");
}

static void all_durable_hooks_or_an_error(void)
{
    static const section list[] = { HOOK("keep", "*", "a.keep", .durable = true), HOOK("quick", "*", "a.quick", .when = NULL) };
    depot_err err = { 0 };

    BEGIN(list);
    fail_jobs = 1;
    ok(!emit("demo.found", "{\"n\": 1}", &err), "emit fails with the queue");
    is_int(err.code, DEPOT_E_DB_DOWN, "with its error");
    contains(err.msg, "durable hooks of event demo.found", "that says what could not be kept");
    all_calls();
    is_int(n_calls, 0, "and no other hook has run");
}

static void a_reload_in_the_middle_drops_no_hook(void)
{
    static const section      before[] = { HOOK("loose", "*", "a.loose", .when = NULL), HOOK("last", "*", "job:q/last", .durable = true) };
    static const section      after[] = { HOOK("last", "*", "job:q/last", .durable = true) };
    static const section_list rest = { after, DEPOT_N(after) }, more = { before, DEPOT_N(before) };
    depot_err                 err = { 0 };

    BEGIN(before);
    reloaded = &rest;
    ok_err(emit("demo.found", "{\"n\": 1}", &err), &err, "an event while hooks go");
    const char *told = all_calls();
    contains(told, "q last", "the durable hook that moved up is there");
    contains(told, "a.loose", "and the one that goes saw its last event");

    BEGIN(after);
    reloaded = &more;
    ok_err(emit("demo.found", "{\"n\": 1}", &err), &err, "an event while hooks come");
    told = all_calls();
    contains(told, "q last", "the durable hook that moved down is there");
    ok(strstr(told, "a.loose") == NULL, "and the one that comes will see the next event");
}

static void a_condition_that_cannot_be_judged_loses_nothing(void)
{
    static const section list[] = { HOOK("keep", "*", "a.keep", .durable = true, .when = "big"),
                                    HOOK("make", "*", "job:q/make", .durable = true, .when = "big") };
    depot_err err = { 0 };

    BEGIN(list);
    eval_code = DEPOT_E_UNAVAILABLE;
    ok_err(emit("demo.found", "{\"n\": 1, \"big\": true}", &err), &err, "emit works without workers");
    const char *got = all_calls();
    contains(got, "hooks hook:keep", "the job judges the condition");
    contains(got, "hooks hook:make", "also that of a hook which makes a job");
    is_int(count_of(got, "\"judged\":false"), 2, "both know that they have to");
}

static const char *durable_arg(const char *hook_name, const char *judged, const char *payload)
{
    return depot_strf(arena, "{\"hook\": \"%s\", \"event\": \"demo.found\", \"id\": \"i\", \"at\": \"t\", \"depth\": 0, \"judged\": %s, "
                             "\"payload\": %s}", hook_name, judged, payload);
}

static bool run_durable(const char *arg, depot_err *err)
{
    return events_run_durable(depot_json_parse(arena, arg, strlen(arg), err), arena, err);
}

static void a_leased_job_runs_its_hook(void)
{
    static const section list[] = {
        HOOK("keep", "*", "a.keep", .durable = true, .when = "big"), HOOK("bad", "*", "bad.one", .durable = true),
        { "off", { .on = "*", .run = "a.off", .durable = true, .timeout = 5000 } },
    };
    depot_err err = { 0 };

    BEGIN(list);
    ok_err(run_durable(durable_arg("keep", "true", "{\"n\": 2}"), &err), &err, "judged already: it runs");
    ok_err(run_durable(durable_arg("keep", "false", "{\"n\": 3}"), &err), &err, "not judged, and it does not hold: done");
    ok_err(run_durable(durable_arg("keep", "false", "{\"n\": 4, \"big\": true}"), &err), &err, "not judged, and it holds: it runs");
    ok(!run_durable(durable_arg("bad", "true", "{}"), &err) && err.code == DEPOT_E_IO, "a failure is the job's failure");
    contains(err.msg, "hook bad on demo.found", "that names hook and event");
    err = (depot_err){ 0 };
    ok(!run_durable(durable_arg("gone", "true", "{}"), &err) && err.code == DEPOT_E_NOT_FOUND, "a hook that went away is an error");
    ok(depot_err_retry(&err) == DEPOT_RETRY_NO, "that is not tried again");
    err = (depot_err){ 0 };
    ok(!run_durable(durable_arg("off", "true", "{}"), &err) && err.code == DEPOT_E_NOT_FOUND, "one that is switched off too");
    err = (depot_err){ 0 };
    ok(!run_durable("{\"hook\": \"keep\"}", &err) && err.code == DEPOT_E_BAD_PAYLOAD, "a job without an event is refused");
    const char *got = all_calls();
    contains(got, "{\"n\":2}", "first run");
    contains(got, "{\"n\":4,\"big\":true}", "third run");
    is_int(count_of(got, "task a.keep"), 2, "two runs in all");
}

static void endless_loops_end(void)
{
    static const section list[] = { HOOK("again", "loop.turned", "loop.again", .when = NULL) };
    depot_err err = { 0 };

    BEGIN(list);
    ok_err(emit("loop.turned", "{}", &err), &err, "the first one");
    usleep(300000);
    const char *got = all_calls();
    is_int(count_of(got, "task loop.again"), EVENTS_DEPTH_MAX, "sixteen turns, then the emit of the last fails");
}

static void a_loop_through_the_queue_ends_too(void)
{
    static const section list[] = { HOOK("again", "loop.turned", "loop.again", .durable = true) };
    depot_err err = { 0 };
    const char *arg = depot_strf(arena, "{\"hook\": \"again\", \"event\": \"loop.turned\", \"id\": \"i\", \"at\": \"t\", \"depth\": %d, "
                                        "\"judged\": true, \"payload\": {}}", EVENTS_DEPTH_MAX - 1);

    BEGIN(list);
    ok(!run_durable(arg, &err), "the sixteenth job in a row emits in vain");
    is_int(err.code, DEPOT_E_LIMIT, "LIMIT");
    contains(err.msg, "loop.turned", "the event is named");
    contains(err.hint, "its own action causes", "and the cause");
    err = (depot_err){ 0 };
    ok_err(emit("demo.other", "{}", &err), &err, "afterwards this thread may emit again");
    all_calls();
}

static void subscriptions_get_the_event(void)
{
    depot_err err = { 0 };

    begin(NULL, 0);
    subscribed = true;
    ok_err(emit("own.event", "{\"a\": {\"b\": 9007199254740993}}", &err), &err, "emit");
    const char *got = all_calls();
    is_str(got, "subscription own.event {\"a\":{\"b\":9007199254740993}} 36\n", "name, payload and id");
}

static void nobody_interested_costs_nothing(void)
{
    depot_err err = { 0 };

    begin(NULL, 0);
    ok_err(emit("own.event", "{}", &err), &err, "emit");
    ok_err(events_emit("own.event", NULL, &err), &err, "without a payload");
    is_int(executor_queued(threads) + executor_busy(threads), 0, "no thread is bothered");
    all_calls();
}

static void what_is_no_event_is_refused(void)
{
    static const struct { const char *name, *payload; } rows[] = {
        { "", "{}" }, { "Demo.Found", "{}" }, { "demo found", "{}" }, { "demo.found\n", "{}" }, { "demo.*", "{}" }, { "x", "[]" }, { "x", "1" },
        { "demo.found", "{}" },
    };

    begin(NULL, 0);
    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err err = { 0 };
        ok(!emit(rows[i].name, rows[i].payload, &err) && err.code == DEPOT_E_INVALID, depot_strf(arena, "\"%s\" %s", rows[i].name, rows[i].payload));
    }
    all_calls();
}

/* 3000 events with slow hooks on four threads: none is lost, no line grows without end, the emitter is slowed down. */
static void a_flood_is_slowed_down_not_dropped(void)
{
    static const section list[] = { HOOK("slow", "flood.*", "a.slow", .when = NULL) };
    depot_err err = { 0 };
    size_t    most = 0;
    bool      good = true;

    BEGIN(list);
    pause_us = 200;
    for (int i = 0; i < 3000; i++) {
        good = good && emit("flood.drop", depot_strf(arena, "{\"n\": %d}", i), &err);
        size_t queued = executor_queued(threads);
        most = queued > most ? queued : most;
    }
    ok(good, "every emit succeeds");
    ok(most <= 4, "the executor's queue stays free for others");
    all_calls();
    is_int(n_calls, 3000, "every hook has run");
}

typedef struct emitter {
    pthread_t thread;
    bool      ok;
} emitter;

static void *emit_many(void *arg)
{
    emitter  *e = arg;
    depot_err err = { 0 };

    e->ok = true;
    for (int i = 0; i < 200; i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *a = depot_arena_new();
        e->ok = e->ok && events_emit("many.emitted", depot_json_pack(a, "{s:i}", "n", i), &err);
    }
    return NULL;
}

static void many_threads_may_emit(void)
{
    static const section list[] = { HOOK("a", "many.*", "a.a", .when = "yes"), HOOK("b", "many.*", "job:q/b", .durable = true) };
    emitter emitters[8];
    bool    good = true;

    BEGIN(list);
    subscribed = true;
    for (size_t i = 0; i < DEPOT_N(emitters); i++) {
        pthread_create(&emitters[i].thread, NULL, emit_many, &emitters[i]);
    }
    for (size_t i = 0; i < DEPOT_N(emitters); i++) {
        pthread_join(emitters[i].thread, NULL);
        good = good && emitters[i].ok;
    }
    ok(good, "every emit succeeds");
    all_calls();
    is_int(n_calls, 3 * 1600, "each event: a task, a job, a subscription");
    is_int(n_delivered, 1600, "each event is delivered once");
}

static void after_the_close_the_emitter_runs_its_hooks(void)
{
    static const section list[] = { HOOK("a", "*", "a.a", .when = NULL) };
    depot_err err = { 0 };

    BEGIN(list);
    events_close();
    ok_err(emit("late.event", "{}", &err), &err, "emit");
    is_int(n_calls, 1, "the hook has run already");
    all_calls();
}

static void the_status_counts(void)
{
    static const section list[] = { HOOK("good", "*", "a.a", .when = NULL), HOOK("bad", "*", "bad.one", .when = NULL) };
    depot_err err = { 0 };

    BEGIN(list);
    ok_err(emit("x.y", "{}", &err) && emit("x.y", "{}", &err), &err, "two events");
    all_calls();
    const depot_json *status = events_status(arena);
    is_int(depot_json_len(status), 2, "every hook is listed");
    const depot_json *good = depot_json_at(status, 0), *bad = depot_json_at(status, 1);
    is_str(depot_json_get_str(good, "name", ""), "good", "in the order of the files");
    is_int(depot_json_get_int(good, "runs", -1), 2, "runs");
    is_int(depot_json_get_int(good, "failures", -1), 0, "none failed");
    is_int(depot_json_get_int(bad, "failures", -1), 2, "the other one failed twice");
    contains(depot_json_get_str(bad, "last_message", ""), "it failed", "and says why");
    ok(depot_json_get_str(bad, "last_at", NULL) != NULL, "and when");
}

static double series(const char *line)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };

    metrics_prom(&text);
    const char *p = strstr(text.data, line);
    return p == NULL ? -1 : strtod(p + strlen(line), NULL);
}

static void metrics_name_only_what_is_declared(void)
{
    static const section list[] = { HOOK("m", "*", "a.a", .when = "big"), HOOK("mj", "*", "a.j", .durable = true) };
    depot_err err = { 0 };

    for (size_t i = 0; i < events_metrics_n; i++) {
        ok_err(metrics_register("core", &events_metrics[i], &err), &err, events_metrics[i].name);
    }
    BEGIN(list);
    ok_err(emit("demo.found", "{\"n\": 1, \"big\": true}", &err) && emit("made.up_1", "{}", &err) && emit("made.up_2", "{}", &err), &err,
           "three events");
    all_calls();
    is_int((int)series("depot_events_total{event=\"demo.found\"} "), 1, "a declared event by its name");
    is_int((int)series("depot_events_total{event=\"other\"} "), 2, "all others together");
    is_int((int)series("depot_hook_runs_total{hook=\"m\",result=\"ok\"} "), 1, "a run");
    is_int((int)series("depot_hook_runs_total{hook=\"m\",result=\"passed\"} "), 2, "conditions that did not hold");
    is_int((int)series("depot_hook_runs_total{hook=\"mj\",result=\"queued\"} "), 3, "jobs");
}

static void note_problem(void *arg, const char *name, const char *option, const depot_err *err)
{
    (void)arg;
    note("%s %s: %s", name, option, err->msg);
}

static void the_check_reports_every_problem(void)
{
    static const section list[] = {
        HOOK("fine", "*", "a.b", .when = "x"),          HOOK("action", "*", "no.such", .when = NULL),
        HOOK("form", "*", "bash:rm", .when = NULL),     HOOK("args", "*", "a.b", .args = "[]"),
        HOOK("when", "*", "a.b", .when = "f("),         HOOK("two", "*", "no.such", .when = "f("),
    };

    BEGIN(list);
    events_check(&env, note_problem, NULL);
    is_str(all_calls(),
           "action run: there is no no.such\nform run: \"bash:rm\": there is no such kind of action\n"
           "args args: arguments are one JSON object, {...}\nwhen when: cannot be read\ntwo run: there is no no.such\n"
           "two when: cannot be read\n", "hook, option and reason of each");
}

int main(void)
{
    log_set_fd(STDERR_FILENO);
    arena = depot_arena_new();
    run(hooks_react_by_name_and_glob);
    run(conditions_see_the_payload);
    run(an_action_gets_what_it_can_use);
    run(durable_hooks_are_jobs_before_emit_returns);
    run(all_durable_hooks_or_an_error);
    run(a_reload_in_the_middle_drops_no_hook);
    run(a_condition_that_cannot_be_judged_loses_nothing);
    run(a_leased_job_runs_its_hook);
    run(endless_loops_end);
    run(a_loop_through_the_queue_ends_too);
    run(subscriptions_get_the_event);
    run(nobody_interested_costs_nothing);
    run(what_is_no_event_is_refused);
    run(a_flood_is_slowed_down_not_dropped);
    run(many_threads_may_emit);
    run(after_the_close_the_emitter_runs_its_hooks);
    run(the_status_counts);
    run(metrics_name_only_what_is_declared);
    run(the_check_reports_every_problem);
    depot_buf_free(&calls);
    depot_arena_free(arena);
    return done();
}
