/* test_sched_runs.c - single runs of schedules: by hand, failing, too slow, canceled, while the database restarts or all
 * threads are busy; housekeeping, duties and what depotctl shows. */
#include "run/sched_parts.h"

#include "tap.h"

#include "pgtest.h"

#include "schedtest.h"

#define ONE(sql) pgt_ask("select (" sql ")::text")

static node a, b;

static bool ready(void)
{
    pthread_mutex_lock(&a.sched->lock);
    bool is = a.sched->ready;
    pthread_mutex_unlock(&a.sched->lock);
    return is;
}

static bool by_hand(const char *name, const depot_json **out, depot_err *err)
{
    (void)st_eventually(ready, 10);
    return run_by_hand(a.sched, name, pgt_arena, out, err);
}

static void by_hand_waits_for_the_result(void)
{
    const depot_json *result = NULL;
    depot_err         err = { 0 };

    st_fresh();
    st_add("report", "@yearly", "test.wait")->args = "{\"ms\": 50, \"x\": 1}";
    st_add("off", "@yearly", "test.wait")->enabled = false;
    node_up(&a, "a", 2, 0);
    ok_err(by_hand("report", &result, &err), &err, "it runs");
    is_str(depot_json_get_str(result, "said", ""), "done", "its result comes back");
    is_str(st_last_args, "{\"ms\":50,\"x\":1}", "it got its arguments");
    is_str(ONE("select status || ' ' || by_hand || ' ' || node from depot.schedule_run"), "ok true a", "and is recorded as by hand");
    ok_err(by_hand("off", &result, &err), &err, "also one that is switched off");
    ok(!by_hand("reprot", &result, &err) && err.code == DEPOT_E_NOT_FOUND, "one that there is not does not");
    contains(err.hint, "\"report\"", "the hint names one that there is");
    node_down(&a, 5000);
}

static void *by_hand_slowly(void *arg)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const depot_json                         *result = NULL;
    depot_err                                 err = { 0 };

    (void)arg;
    return run_by_hand(a.sched, "slow", arena, &result, &err) ? a.sched : NULL;
}

static void by_hand_keeps_to_overlap(void)
{
    const depot_json *result = NULL;
    depot_err         err = { 0 };
    pthread_t         thread;
    void             *good = NULL;

    st_fresh();
    st_add("slow", "@yearly", "test.wait")->args = "{\"ms\": 1500}";
    node_up(&a, "a", 2, 0);
    (void)st_eventually(ready, 10);
    pthread_create(&thread, NULL, by_hand_slowly, NULL);
    ok(pgt_eventually("select status from depot.schedule_run", "running"), "one runs");
    ok(!by_hand("slow", &result, &err) && err.code == DEPOT_E_LOCKED, "a second one is refused");
    contains(err.msg, "schedule slow is running on a since 2", "it says where and since when");
    pthread_join(thread, &good);
    ok(good != NULL, "the first one ends well");
    err = (depot_err){ 0 };
    ok_err(by_hand("slow", &result, &err), &err, "then another may run");
    node_down(&a, 5000);
}

static void a_failure_is_recorded_and_told(void)
{
    const depot_json *result = NULL;
    depot_err         err = { 0 };

    st_fresh();
    st_add("bad", "@every 1s", "test.fail");
    node_up(&a, "a", 2, 0);
    ok(pgt_eventually("select status || ' ' || code || ' ' || message from depot.schedule_run where finished_at is not null limit 1",
                      "failed EXEC the program ended with status 3"), "status, code and message");
    ST_CHANGE(enabled = false);
    sched_reread(a.sched);
    node_down(&a, 5000);
    contains(st_events_text(), "schedule.failed {\"schedule\":\"bad\",\"due_at\":\"2", "an event tells");
    contains(st_events_text(), "\"message\":\"the program ended with status 3\",\"code\":\"EXEC\"", "why");
    node_up(&a, "a", 2, 0);
    depot_buf_reset(&st_events);
    ok(!by_hand("bad", &result, &err) && err.code == DEPOT_E_EXEC, "by hand the caller gets the error");
    node_down(&a, 5000);
    is_str(st_events_text(), "", "and nobody else");
}

static void a_run_ends_at_its_timeout(void)
{
    const depot_json *result = NULL;
    depot_err         err = { 0 };

    st_fresh();
    sched_options *o = st_add("slow", "@yearly", "test.wait");
    o->args = "{\"ms\": 60000}";
    o->timeout = 1000;
    node_up(&a, "a", 2, 0);
    int64_t began = depot_now_ms();
    ok(!by_hand("slow", &result, &err) && err.code == DEPOT_E_TIMEOUT, "TIMEOUT");
    ok(depot_now_ms() - began < 30000, "in time");
    is_str(ONE("select status || ' ' || code from depot.schedule_run"), "failed TIMEOUT", "recorded as failed");
    node_down(&a, 5000);
}

static void a_canceled_run_is_recorded(void)
{
    st_fresh();
    sched_options *o = st_add("slow", "@every 1s", "test.wait");
    o->args = "{\"ms\": 60000}";
    node_up(&a, "a", 2, 0);
    ok(pgt_eventually("select status from depot.schedule_run order by id limit 1", "running"), "it runs");
    node_down(&a, 100);
    is_str(ONE("select status || ' ' || code from depot.schedule_run order by id limit 1"), "failed CANCELED",
           "the drain cancels it, and its end is recorded all the same");
}

static void busy_threads_delay_but_lose_nothing(void)
{
    st_fresh();
    sched_options *o = st_add("slow", "@every 1s", "test.wait");
    o->overlap = OVERLAP_ALLOW;
    o->args = "{\"ms\": 1800}";
    node_up(&a, "a", 1, 0); /* one thread for twice the work */
    usleep(5200000);
    ST_CHANGE(overlap = OVERLAP_QUEUE);
    pgt_do("update depot.schedule set last_due = clock_timestamp() + interval '1 hour'"); /* nothing new */
    ok(pgt_eventually("select count(*)::text from depot.schedule_run where status <> 'ok'", "0"), "all of them run in the end");
    ok(strtol(ONE("select count(*) from depot.schedule_run where status = 'ok'"), NULL, 10) >= 4, "each of them");
    node_down(&a, 5000);
    is_int(st_calls_now(), strtol(ONE("select count(*) from depot.schedule_run"), NULL, 10), "once");
}

/* A run that a daemon has taken, and was killed before it did anything. */
static void begin_and_die(const char *schedule, const char *who, const char *lease_ms, const char *repeatable)
{
    pgt_do(depot_strf(pgt_arena, "insert into depot.schedule (name, definition, node, last_due) values ('%s', '@yearly UTC', '%s', clock_timestamp());"
                                 " insert into depot.schedule_run (schedule, due_at, status) values ('%s', '2026-01-01T00:00:00Z', 'pending');"
                                 " select depot.schedule_take('%s', '%s', gen_random_uuid(), %s, 'skip', %s)",
                      schedule, who, schedule, schedule, who, lease_ms, repeatable));
}

static bool all_decided(void)
{
    sched_wake(a.sched);
    return strcmp(ONE("select string_agg(schedule || ' ' || status, ', ' order by schedule) from depot.schedule_run where"
                      " due_at = '2026-01-01T00:00:00Z'"), "mine ok, theirs ok, work lost") == 0;
}

static void a_job_is_made_though_its_daemon_was_killed(void)
{
    st_fresh();
    st_add("mine", "@yearly", "job:q/mine");
    st_add("theirs", "@yearly", "job:q/theirs");
    st_add("work", "@yearly", "test.wait");
    begin_and_die("mine", "a", "60000", "true");  /* this daemon is started anew: the lease need not run out */
    begin_and_die("theirs", "z", "1", "true");    /* another one, which does not come back */
    begin_and_die("work", "z", "1", "false");     /* nobody knows how much of it was done */
    pgt_do("insert into depot.schedule_run (schedule, due_at, status, node, token, started_at, lease_until) values ('theirs',"
           " '2026-01-02T00:00:00Z', 'running', 'y', gen_random_uuid(), clock_timestamp(), clock_timestamp() + interval '1 second')");
    node_up(&a, "a", 2, 0);
    ok(st_eventually(all_decided, 15), "both jobs are made, the task is lost");
    node_down(&a, 5000);
    const char *made = st_text(&st_jobs), *mine = "q/mine schedule:mine:2026-01-01T00:00:00.000000Z\n",
               *theirs = "q/theirs schedule:theirs:2026-01-01T00:00:00.000000Z\n";
    contains(made, mine, "one job, by the key of its due time");
    contains(made, theirs, "the other one, though a later run was going");
    is_int((int64_t)strlen(made), (int64_t)(strlen(mine) + strlen(theirs)), "each once");
}

static void a_job_is_made_when_the_database_is_back(void)
{
    st_fresh();
    st_add("j", "@yearly", "job:q/j");
    pgt_do("insert into depot.schedule (name, definition, node, last_due) values ('j', '@yearly UTC', 'a', clock_timestamp());"
           " insert into depot.schedule_run (schedule, due_at, status) values ('j', '2026-01-01T00:00:00Z', 'pending')");
    st_jobs_fail = 1;
    node_up(&a, "a", 2, 0);
    ok(pgt_eventually("select string_agg(status, ', ') from depot.schedule_run", "ok"), "its run ends well");
    node_down(&a, 5000);
    contains(st_text(&st_jobs), "no q/j schedule:j:2026-01-01T00:00:00.000000Z\nq/j schedule:j:2026-01-01T00:00:00.000000Z\n", "at the second try");
    is_str(st_events_text(), "", "and nobody is told of a failure");
}

static pid_t postmaster(void)
{
    return pgt_postmaster(depot_strf(pgt_arena, "%s/pg/data", pgt_root));
}

static void a_database_restart_loses_nothing(void)
{
    st_fresh();
    sched_options *o = st_add("tick", "@every 1s", "test.wait");
    o->overlap = OVERLAP_ALLOW;
    o->args = "{\"ms\": 1200}";
    node_up(&a, "a", 6, 0);
    node_up(&b, "b", 6, 0);
    usleep(2500000);
    int   before = st_calls_now();
    pid_t server = postmaster();
    ok(server > 0 && kill(server, SIGKILL) == 0, "the postmaster is killed in the middle of it");
    usleep(6000000);
    ok(pgt_eventually("select (count(*) > 0)::text from depot.schedule_run where started_at > clock_timestamp() - interval '2 s'", "true"),
       "schedules go on");
    node_down(&a, 5000);
    node_down(&b, 5000);
    ok(st_calls_now() > before, "more runs since");
    is_str(ONE("select count(*) from depot.schedule_run where status in ('running', 'lost', 'failed')"), "0",
           "what ran meanwhile is recorded as it ended");
    is_int(st_calls_now(), strtol(ONE("select count(*) from depot.schedule_run where status = 'ok'"), NULL, 10), "each run once");
    is_str(ONE("select (max(extract(epoch from due_at)) - min(extract(epoch from due_at)))::int + 1 = (select sum(passed_over) + count(*)"
               " from depot.schedule_run) from depot.schedule_run"), "true", "each due time was run or counted as missed");
}

/* Nobody gets in for longer than a lease lasts; runs end meanwhile, and whoever is back first finds leases that are over. */
static void an_outage_longer_than_a_lease_loses_nothing(void)
{
    st_fresh();
    sched_options *o = st_add("tick", "@every 1s", "test.wait");
    o->overlap = OVERLAP_ALLOW;
    o->args = "{\"ms\": 1200}";
    node_up(&a, "a", 6, 1200);
    node_up(&b, "b", 6, 1200);
    usleep(3200000);
    (void)pgt_ask("alter role depot nologin");
    (void)pgt_ask("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'depot'");
    usleep(4000000);
    is_str(ONE("select count(*) > 0 from depot.schedule_run where status = 'running' and lease_until < clock_timestamp()"), "true",
           "leases have ended meanwhile");
    (void)pgt_ask("alter role depot login");
    ok(pgt_eventually("select (count(*) > 0)::text from depot.schedule_run where started_at > clock_timestamp() - interval '2 s'", "true"),
       "schedules go on");
    ST_CHANGE(enabled = false);
    sched_reread(a.sched);
    sched_reread(b.sched);
    ok(pgt_eventually("select count(*)::text from depot.schedule_run where status in ('running', 'lost')", "0"), "every run's end is known");
    node_down(&a, 5000);
    node_down(&b, 5000);
    is_str(ONE("select count(*) from depot.schedule_run where status not in ('ok', 'missed', 'skipped')"), "0", "all went well");
    is_int(st_calls_now(), strtol(ONE("select count(*) from depot.schedule_run where status = 'ok'"), NULL, 10), "each once");
}

/* ---- housekeeping ---- */
static void housekeeping_runs_on_each_daemon_or_on_one(void)
{
    st_fresh();
    st_tasks[0] = (depot_task_row){ .name = "test.tick0", .every = "200ms" };
    st_tasks[1] = (depot_task_row){ .name = "test.tick1", .every = "200ms", .flags = DEPOT_TASK_SINGLETON };
    st_n_tasks = 2;
    node_up(&a, "a", 4, 0);
    node_up(&b, "b", 4, 0);
    usleep(4000000);
    node_down(&a, 5000);
    node_down(&b, 5000);
    ok(st_ticks[0] >= 30 && st_ticks[0] <= 42, depot_strf(pgt_arena, "each for itself: %d turns in 4 s", st_ticks[0]));
    ok(st_ticks[1] >= 12 && st_ticks[1] <= 25, depot_strf(pgt_arena, "one for both: %d turns in 4 s", st_ticks[1]));
    is_str(ONE("select count(*) from depot.schedule_run"), "0", "they are no schedules");
}

static void another_daemon_takes_over(void)
{
    st_fresh();
    pgt_do("insert into depot.duty values ('task test.tick1', 'gone', now(), clock_timestamp() + interval '2 s')");
    st_tasks[0] = (depot_task_row){ .name = "test.tick1", .every = "200ms", .flags = DEPOT_TASK_SINGLETON };
    st_n_tasks = 1;
    node_up(&a, "a", 4, 0);
    usleep(1200000);
    is_int(st_read(&st_ticks[1]), 0, "not while the lease of the other lasts");
    usleep(1800000);
    ok(st_read(&st_ticks[1]) > 0, "then it does");
    node_down(&a, 5000);
}

static bool take(const char *holder, int64_t ms)
{
    bool      mine = false;
    depot_err err = { 0 };

    return ok_err(duty_take(a.pool, "d", holder, ms, &mine, &err), &err, "duty_take") && mine;
}

static void a_duty_has_one_holder(void)
{
    st_fresh();
    node_up(&a, "a", 2, 0);
    ok(take("x", 60000), "the first one gets it");
    ok(!take("y", 60000), "the second one does not");
    ok(take("x", 1), "who has it may take it again, for less");
    usleep(20000);
    ok(take("y", 60000), "after its time another gets it");
    ok(!take("x", 60000), "and the first one has lost it");
    node_down(&a, 5000);
}

/* ---- what is kept and shown ---- */
static void old_runs_go(void)
{
    int64_t   n = 0;
    depot_err err = { 0 };

    st_fresh();
    node_up(&a, "a", 2, 0);
    pgt_do("insert into depot.schedule_run (schedule, due_at, status, finished_at) select 'often', now() - n * interval '1 minute', 'ok', now()"
           " from generate_series(1500, 1, -1) n");
    pgt_do("insert into depot.schedule_run (schedule, due_at, status) select 'seldom', now() - n * interval '60 days', 'ok'"
           " from generate_series(5, 1, -1) n");
    pgt_do("insert into depot.schedule_run (schedule, due_at, status) values ('never', now() - interval '3 years', 'ok'),"
           " ('waiting', now() - interval '8 days', 'pending'), ('waits', now() - interval '6 days', 'pending')");
    ok_err(sched_prune(a.pool, &n, &err), &err, "prune");
    is_int(n, 504, "500 too many, 4 too old");
    is_str(ONE("select count(*) || ' ' || bool_or(due_at > now() - interval '2 minutes') from depot.schedule_run where schedule = 'often'"),
           "1000 true", "the newest 1000 stay");
    is_str(ONE("select count(*) from depot.schedule_run where schedule = 'seldom'"), "1", "of old ones what is younger than 90 days");
    is_str(ONE("select count(*) from depot.schedule_run where schedule = 'never'"), "1", "the very last one stays, however old");
    is_str(ONE("select string_agg(schedule || ' ' || status, ', ' order by schedule) from depot.schedule_run where schedule like 'wait%'"),
           "waiting skipped, waits pending", "what waits for a week waits for nobody");
    node_down(&a, 5000);
}

static void the_list_tells_last_and_next(void)
{
    depot_json       *list = NULL;
    const depot_json *result = NULL;
    depot_err         err = { 0 };

    st_fresh();
    st_add("nightly", "5 3 * * *", "test.wait");
    st_add("off", "@daily", "lua:x.lua")->enabled = false;
    node_up(&a, "a", 2, 0);
    ok_err(by_hand("nightly", &result, &err) && sched_list_of(a.sched, pgt_arena, &list, &err), &err, "list");
    const depot_json *first = depot_json_at(list, 0), *second = depot_json_at(list, 1);
    is_int(depot_json_len(list), 2, "every schedule");
    is_str(depot_json_get_str(first, "name", ""), "nightly", "name");
    is_str(depot_json_get_str(first, "describe", ""), "at 03:05 every day", "plain words");
    is_str(depot_json_get_str(first, "last_status", ""), "ok", "how the last run ended");
    contains(depot_json_get_str(first, "next_due", ""), "T03:05:00", "the next one");
    ok(depot_json_get_int(first, "last_duration_ms", -1) >= 0, "how long it took");
    ok(!depot_json_get_bool(second, "enabled", true), "the other one is off");
    ok(depot_json_get_str(second, "next_due", NULL) == NULL, "and never due");
    node_down(&a, 5000);
}

static void the_one_of_the_process_starts_once(void)
{
    const depot_json *result = NULL;
    depot_json       *list = NULL;
    depot_err         err = { 0 };

    st_fresh();
    st_add("x", "@yearly", "test.wait");
    node_up(&a, "a", 2, 0);
    const sched_env env = { .db = a.pool, .executor = a.threads, .node = "z", .ops = &st_ops, .sections = st_now, .next = st_next, .next_task = st_next_task,
                            .emit = st_emit };
    ok(!sched_list(pgt_arena, &list, &err) && err.code == DEPOT_E_UNAVAILABLE, "before its start there is nothing to see");
    err = (depot_err){ 0 };
    ok_err(sched_start(&env, &err), &err, "start");
    ok(!sched_start(&env, &err) && err.code == DEPOT_E_BUG, "not twice");
    err = (depot_err){ 0 };
    sched_reload();
    for (int i = 0; i < 100 && !sched_run_now("x", pgt_arena, &result, &err); i++) {
        usleep(20000);
    }
    is_str(ONE("select node from depot.schedule_run"), "z", "by hand, on this one");
    sched_stop();
    err = (depot_err){ 0 };
    ok(!sched_run_now("x", pgt_arena, &result, &err) && err.code == DEPOT_E_UNAVAILABLE, "after its stop it does nothing any more");
    node_down(&a, 5000);
}

static void metrics_count_how_runs_end(void)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };

    metrics_prom(&text);
    contains(text.data, "depot_schedule_runs_total{schedule=\"report\",status=\"ok\"} 1", "a run that went well");
    contains(text.data, "depot_schedule_runs_total{schedule=\"bad\",status=\"failed\"}", "one that failed");
    contains(text.data, "depot_task_runs_total{task=\"test.tick0\",status=\"ok\"}", "housekeeping");
}

int main(void)
{
    st_begin();
    run(by_hand_waits_for_the_result);
    run(by_hand_keeps_to_overlap);
    run(a_failure_is_recorded_and_told);
    run(a_run_ends_at_its_timeout);
    run(a_canceled_run_is_recorded);
    run(busy_threads_delay_but_lose_nothing);
    run(a_job_is_made_though_its_daemon_was_killed);
    run(a_job_is_made_when_the_database_is_back);
    run(a_database_restart_loses_nothing);
    run(an_outage_longer_than_a_lease_loses_nothing);
    run(housekeeping_runs_on_each_daemon_or_on_one);
    run(another_daemon_takes_over);
    run(a_duty_has_one_holder);
    run(old_runs_go);
    run(the_list_tells_last_and_next);
    run(the_one_of_the_process_starts_once);
    run(metrics_count_how_runs_end);
    st_end();
    return done();
}
