/* test_sched.c - schedules of a group of daemons on one real database: each due time once, whoever dies meanwhile. */
#include "run/sched_parts.h"

#include "tap.h"

#include "pgtest.h"

#include "schedtest.h"

#define ONE(sql) pgt_ask("select (" sql ")::text")

static node a, b, c;

static void the_group_fires_each_due_time_once(void)
{
    st_fresh();
    st_add("tick", "@every 1s", "test.wait")->overlap = OVERLAP_ALLOW;
    node_up(&a, "a", 4, 0);
    node_up(&b, "b", 4, 0);
    node_up(&c, "c", 4, 0);
    usleep(7500000);
    node_down(&a, 5000);
    node_down(&b, 5000);
    node_down(&c, 5000);
    long rows = strtol(ONE("select count(*) from depot.schedule_run"), NULL, 10);
    ok(rows >= 6 && rows <= 8, depot_strf(pgt_arena, "seven seconds, %ld runs", rows));
    is_str(ONE("select count(*) from depot.schedule_run where status <> 'ok'"), "0", "all of them went well");
    is_int(st_calls_now(), rows, "the action ran once for each");
    is_str(ONE("select count(*) from (select due_at - lag(due_at) over (order by due_at) as gap from depot.schedule_run) g"
               " where gap <> interval '1 second'"), "0", "every second has its own");
    is_str(ONE("select bool_and(started_at between due_at and due_at + interval '900 ms') from depot.schedule_run"), "true", "in time");
    is_str(ONE("select bool_and(result = '{\"said\": \"done\"}') from depot.schedule_run"), "true", "results are kept");
    is_str(ONE("select last_due = (select max(due_at) from depot.schedule_run) from depot.schedule"), "true", "the cursor is where they ended");
}

static void a_new_schedule_starts_now(void)
{
    st_fresh();
    st_add("yearly", "@yearly", "test.wait")->missed = MISSED_ALL;
    node_up(&a, "a", 2, 0);
    ok(pgt_eventually("select count(*)::text from depot.schedule", "1"), "it is known");
    usleep(300000);
    is_str(ONE("select count(*) from depot.schedule_run"), "0", "nothing of the past is made up for");
    ST_CHANGE(cron = "@daily");
    sched_reread(a.sched);
    ok(pgt_eventually("select definition from depot.schedule", "0 0 * * * UTC"), "a reload is noticed");
    is_str(ONE("select last_due > clock_timestamp() - interval '5 seconds' from depot.schedule"), "true", "a new plan starts now too");
    ST_CHANGE(enabled = false);
    sched_reread(a.sched);
    ok(pgt_eventually("select definition from depot.schedule", "off"), "switched off");
    pgt_do("update depot.schedule set last_due = last_due - interval '10 days'");
    ST_CHANGE(enabled = true);
    sched_reread(a.sched);
    ok(pgt_eventually("select definition from depot.schedule", "0 0 * * * UTC"), "switched on again");
    is_str(ONE("select last_due > clock_timestamp() - interval '5 seconds' from depot.schedule"), "true", "and starts now again");
    node_down(&a, 5000);
}

/* Hourly at the minute of five minutes ago; the cursor three hours back. */
static void three_hours_of_downtime(sched_missed missed)
{
    st_fresh();
    const char *minute = pgt_ask("select to_char(clock_timestamp() at time zone 'UTC' - interval '5 minutes', 'FMMI')");
    sched_options *o = st_add("hourly", depot_strf(pgt_arena, "%s * * * *", minute), "test.wait");
    o->missed = missed;
    o->args = "{\"ms\": 100}";
    node_up(&a, "a", 4, 0);
    (void)pgt_eventually("select count(*)::text from depot.schedule", "1");
    node_down(&a, 5000);
    pgt_do("update depot.schedule set last_due = clock_timestamp() - interval '3 hours'");
    node_up(&a, "a", 4, 0);
    node_up(&b, "b", 4, 0);
}

static void down(void)
{
    node_down(&a, 5000);
    node_down(&b, 5000);
}

static void missed_none_leaves_them_out(void)
{
    three_hours_of_downtime(MISSED_NONE);
    ok(pgt_eventually("select status from depot.schedule_run", "missed"), "the newest is recorded as missed");
    down();
    is_str(ONE("select count(*) || ' ' || sum(passed_over) from depot.schedule_run"), "1 2", "for the two before it as well");
    is_int(st_calls_now(), 0, "nothing has run");
    contains(st_events_text(), "schedule.missed {\"schedule\":\"hourly\",\"due_at\":\"", "and an event tells");
    contains(st_events_text(), "3 due times passed while no daemon could run them", "how many");
}

static void missed_once_runs_once(void)
{
    three_hours_of_downtime(MISSED_ONCE);
    ok(pgt_eventually("select status from depot.schedule_run", "ok"), "it runs");
    down();
    is_str(ONE("select count(*) || ' ' || sum(passed_over) from depot.schedule_run"), "1 2", "once for three");
    is_int(st_calls_now(), 1, "one call");
    is_str(st_events_text(), "", "nothing was missed");
}

static void missed_all_runs_each_in_order(void)
{
    three_hours_of_downtime(MISSED_ALL);
    ok(pgt_eventually("select count(*)::text from depot.schedule_run where status = 'ok'", "3"), "three runs");
    down();
    is_int(st_calls_now(), 3, "three calls");
    is_int(st_most, 1, "one after the other");
    is_str(ONE("select bool_and(in_order) from (select started_at >= lag(finished_at) over (order by due_at) as in_order"
               " from depot.schedule_run) x"), "true", "oldest first");
}

static void seconds_that_overlap(sched_overlap overlap)
{
    st_fresh();
    sched_options *o = st_add("slow", "@every 1s", "test.wait");
    o->overlap = overlap;
    o->args = "{\"ms\": 2300}";
    node_up(&a, "a", 8, 0);
    node_up(&b, "b", 8, 0);
    usleep(6200000);
}

static const char together_sql[] = "select count(*)::text from depot.schedule_run x join depot.schedule_run y on x.id < y.id"
                                   " and x.started_at < y.finished_at and y.started_at < x.finished_at";

static void overlap_skip_leaves_out(void)
{
    seconds_that_overlap(OVERLAP_SKIP);
    down();
    is_int(st_most, 1, "never two at a time");
    is_str(pgt_ask(together_sql), "0", "as the database sees it too");
    ok(strtol(ONE("select count(*) from depot.schedule_run where status = 'skipped'"), NULL, 10) >= 2, "some are skipped");
    is_str(ONE("select distinct message from depot.schedule_run where status = 'skipped'"), "an earlier run was still going", "and say why");
    is_str(ONE("select count(*) from depot.schedule_run where status not in ('ok', 'skipped', 'pending')"), "0", "nothing else happened");
}

static void overlap_queue_waits(void)
{
    seconds_that_overlap(OVERLAP_QUEUE);
    ST_CHANGE(enabled = false); /* what waits goes with it */
    sched_reread(a.sched);
    sched_reread(b.sched);
    ok(pgt_eventually("select count(*)::text from depot.schedule_run where status in ('pending', 'running')", "0"), "all come to an end");
    down();
    is_int(st_most, 1, "never two at a time");
    is_str(pgt_ask(together_sql), "0", "as the database sees it too");
    is_str(ONE("select count(*) from depot.schedule_run where status = 'skipped' and message like 'an earlier%'"), "0", "none is skipped for it");
    ok(strtol(ONE("select count(*) from depot.schedule_run where status = 'ok' and started_at > due_at + interval '1 s'"), NULL, 10) >= 1,
       "late ones have waited");
}

static void overlap_allow_runs_together(void)
{
    seconds_that_overlap(OVERLAP_ALLOW);
    down();
    ok(st_most >= 2, depot_strf(pgt_arena, "%d at a time", st_most));
    is_str(ONE("select count(*) from depot.schedule_run where status in ('skipped', 'failed', 'lost')"), "0", "none is left out");
}

/* ---- daemons that go away ---- */

#define RUNNING(schedule, node_name, lease)                                                                                \
    "insert into depot.schedule_run (schedule, due_at, status, node, token, started_at, lease_until) values ('" schedule    \
    "', clock_timestamp() - interval '1 hour', 'running', '" node_name "', gen_random_uuid(), clock_timestamp(),"           \
    " clock_timestamp() + interval '" lease "')"

static void a_run_of_a_dead_daemon_is_lost_after_its_lease(void)
{
    st_fresh();
    st_add("tick", "@every 1s", "test.wait");
    pgt_do(RUNNING("tick", "gone", "2500 ms"));
    node_up(&a, "a", 2, 3000);
    usleep(1500000);
    is_str(ONE("select status from depot.schedule_run where node = 'gone'"), "running", "nobody touches it before");
    is_int(st_calls_now(), 0, "it keeps others from running (overlap = skip)");
    ok(pgt_eventually("select status || ' ' || code from depot.schedule_run where node = 'gone'", "lost WORKER_LOST"), "then it is closed");
    is_str(ONE("select message from depot.schedule_run where node = 'gone'"), "daemon gone went away in the middle of it", "with the reason");
    ok(pgt_eventually("select (count(*) > 0)::text from depot.schedule_run where status = 'ok'", "true"), "and the schedule goes on");
    node_down(&a, 5000);
    contains(st_events_text(), "schedule.failed {\"schedule\":\"tick\"", "an event tells");
    contains(st_events_text(), "\"code\":\"WORKER_LOST\"", "with the code");
}

static void a_daemon_closes_its_own_runs_of_before(void)
{
    st_fresh();
    st_add("yearly", "@yearly", "test.wait");
    pgt_do(RUNNING("yearly", "a", "1 hour"));
    pgt_do(RUNNING("other", "b", "1 hour"));
    node_up(&a, "a", 2, 0);
    ok(pgt_eventually("select status from depot.schedule_run where node = 'a'", "lost"), "at start: nobody else can be running it");
    is_str(ONE("select status from depot.schedule_run where node = 'b'"), "running", "another daemon's is let alone");
    node_down(&a, 5000);
}

static void a_lease_is_renewed_while_it_runs(void)
{
    st_fresh();
    sched_options *o = st_add("once", "@yearly", "test.wait");
    o->missed = MISSED_ONCE;
    o->args = "{\"ms\": 7000}";
    node_up(&a, "a", 2, 3000);
    node_up(&b, "b", 2, 3000);
    (void)pgt_eventually("select count(*)::text from depot.schedule", "1");
    pgt_do("update depot.schedule set last_due = clock_timestamp() - interval '400 days'");
    sched_wake(a.sched);
    ok(pgt_eventually("select status from depot.schedule_run", "running"), "it runs");
    bool always = true;
    for (int64_t until = depot_now_ms() + 6000; depot_now_ms() < until;) {
        always = always && strcmp(pgt_ask("select status from depot.schedule_run"), "running") == 0;
        usleep(100000);
    }
    ok(always, "for twice its lease, and nobody calls it lost");
    ok(pgt_eventually("select status from depot.schedule_run", "ok"), "until it ends");
    down();
    is_int(st_calls_now(), 1, "one call");
}

static void a_run_that_was_called_lost_and_is_not_comes_back(void)
{
    st_fresh();
    sched_options *o = st_add("once", "@yearly", "test.wait");
    o->missed = MISSED_ONCE;
    o->args = "{\"ms\": 3000}";
    node_up(&a, "a", 2, 900);
    (void)pgt_eventually("select count(*)::text from depot.schedule", "1");
    pgt_do("update depot.schedule set last_due = clock_timestamp() - interval '400 days'");
    sched_wake(a.sched);
    (void)pgt_eventually("select status from depot.schedule_run", "running");
    pgt_do("update depot.schedule_run set status = 'lost', finished_at = clock_timestamp(), code = 'WORKER_LOST', message = 'x'");
    ok(pgt_eventually("select status || coalesce(code, '') || coalesce(message, '') from depot.schedule_run", "running"), "its daemon takes it back");
    ok(pgt_eventually("select status from depot.schedule_run", "ok"), "and records how it ended");
    node_down(&a, 5000);
}

static void the_same_token_gives_the_same_run(void)
{
    static const char take[] = "select id || ' ' || due_us from depot.schedule_take('s', 'n', '%s', 60000, 'allow')";
    const char *first = "11111111-1111-4111-8111-111111111111", *second = "22222222-2222-4222-8222-222222222222";

    st_fresh();
    pgt_do("insert into depot.schedule_run (schedule, due_at, status) values ('s', '2026-01-01', 'pending'), ('s', '2026-01-02', 'pending')");
    const char *one = pgt_ask(depot_strf(pgt_arena, take, first));
    is_str(pgt_ask(depot_strf(pgt_arena, take, first)), one, "whoever did not get the answer asks again");
    const char *two = pgt_ask(depot_strf(pgt_arena, take, second));
    ok(one != NULL && two != NULL && strcmp(one, two) != 0, "another token gives another run");
    is_str(pgt_ask(depot_strf(pgt_arena, take, "33333333-3333-4333-8333-333333333333")), NULL, "then there is none");
}

int main(void)
{
    st_begin();
    run(the_group_fires_each_due_time_once);
    run(a_new_schedule_starts_now);
    run(missed_none_leaves_them_out);
    run(missed_once_runs_once);
    run(missed_all_runs_each_in_order);
    run(overlap_skip_leaves_out);
    run(overlap_queue_waits);
    run(overlap_allow_runs_together);
    run(a_run_of_a_dead_daemon_is_lost_after_its_lease);
    run(a_daemon_closes_its_own_runs_of_before);
    run(a_lease_is_renewed_while_it_runs);
    run(a_run_that_was_called_lost_and_is_not_comes_back);
    run(the_same_token_gives_the_same_run);
    st_end();
    return done();
}
