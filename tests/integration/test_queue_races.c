/* test_queue_races.c - what sql/queue promises under many sessions at once: unique keys, concurrency keys, order within
 * a key, rate limits, dependencies, batches, cancels. test-plain: yes, test-asan: no (what it tests is SQL) */
#include "queuetest.h"

enum { SESSIONS = 4 };

static void clean(void)
{
    pgt_do("truncate queue.jobs, queue.attempts, queue.late_results, queue.job_keys, queue.queue_policies, queue.tally,"
           " queue.policy_decisions, queue.jobs_archive, queue.dependencies, queue.batches, queue.parked_keys,"
           " queue.limits, queue.tokens, queue.period_keys, queue.events");
}

/* ---- sessions that do the same at the same time ---- */

typedef struct session {
    pthread_t   thread;
    const char *sql; /* one statement, again and again */
    int         times;
    char        failed[256]; /* the first error */
} session;

/* A deadlock would be an error too: nothing here may end in one. */
static void *repeat(void *arg)
{
    session     *s = arg;
    depot_db    *db = connect_as(pg_cluster_url(pgt_cluster));
    depot_arena *arena = depot_arena_new();
    depot_err    err = { 0 };

    for (int i = 0; i < s->times && s->failed[0] == '\0'; i++) {
        if (!depot_db_sql(db, arena, s->sql, DEPOT_NO_VALS, NULL, &err)) {
            (void)snprintf(s->failed, sizeof(s->failed), "%s %.200s", err.sqlstate, err.msg);
        }
    }
    depot_arena_free(arena);
    db_disconnect(&db);
    return NULL;
}

static void together(session *sessions, size_t n, const char *what)
{
    const char *failed = "";

    for (size_t i = 0; i < n; i++) {
        pthread_create(&sessions[i].thread, NULL, repeat, &sessions[i]);
    }
    for (size_t i = 0; i < n; i++) {
        pthread_join(sessions[i].thread, NULL);
        failed = sessions[i].failed[0] != '\0' ? sessions[i].failed : failed;
    }
    is_str(failed, "", what);
}

static void all_do(const char *sql, int times, const char *what)
{
    session sessions[SESSIONS] = { 0 };

    for (size_t i = 0; i < SESSIONS; i++) {
        sessions[i].sql = sql;
        sessions[i].times = times;
    }
    together(sessions, SESSIONS, what);
}

/* A daemon's round: results of what it holds, then a claim, in one transaction. Each claim counts what now runs. A session
 * takes the first name that is free, so that the next one goes on with what it held. */
static void make_daemon(void)
{
    pgt_do("create table public.seen (key text, running bigint, fifo_broken boolean);"
           "grant insert, select, delete on public.seen to depot;"
           "create function public.round(outcome text, n integer) returns void language plpgsql as $$"
           " declare me text := current_setting('test.me', true);"
           " begin"
           "  if coalesce(me, '') = '' then"
           "   me := 'w#' || (select i from generate_series(1, 8) i where pg_try_advisory_lock(i) limit 1);"
           "   perform set_config('test.me', me, false);"
           "  end if;"
           "  perform queue.finish(coalesce((select jsonb_agg(jsonb_build_object('job', id, 'token', lease_token, "
           "'outcome',"
           "    case when random() < 0.2 then outcome else 'succeeded' end, 'delay_ms', 0))"
           "    from queue.jobs where status = 'running' and locked_by = me and random() < 0.7), '[]'));"
           "  perform queue.claim(me, null, '{*}', n, '60 s');"
           "  insert into public.seen select concurrency_key, count(*), bool_or(exists ("
           "    select from queue.jobs o where o.queue = 'fifo' and o.queue = j.queue and o.concurrency_key = "
           "j.concurrency_key"
           "    and o.id < j.id and o.status in ('queued', 'running')))"
           "    from queue.jobs j where status = 'running' and concurrency_key is not null group by concurrency_key;"
           " end $$");
}

static const char *rounds_until_done(const char *round, const char *what)
{
    const char *left = "";

    for (int i = 0; i < 40; i++) {
        all_do(round, 10, what);
        left = ask("select count(*) from queue.jobs where status in ('queued', 'running')");
        if (strcmp(left, "0") == 0) {
            break;
        }
    }
    return left;
}

/* ---- the promises ---- */

static void one_job_has_a_unique_key(void)
{
    clean();
    all_do("select depot.enqueue('q', 't', options => '{\"unique\": {\"key\": \"a\"}}')", 50, "many ask for one key");
    is_str(ask("select count(*) from queue.jobs"), "1", "one job has it");
    all_do("select depot.enqueue('q', 't', options => '{\"unique\": {\"key\": \"p\", \"scope\": \"period\","
           " \"period_ms\": 315360000000}}')",
           20, "many ask for one of a period");
    all_do("select depot.enqueue('q', 't', options => '{\"unique\": {\"key\": \"f\", \"scope\": \"forever\"}}')", 20,
           "and for one for good");
    is_str(ask("select count(*) from queue.jobs"), "3", "one each");
    session sessions[SESSIONS] = {
        { .sql = "select depot.enqueue('q', 't', options => '{\"unique\": {\"key\": \"a\"}}')", .times = 200 },
        { .sql = "select depot.enqueue('q', 't', options => '{\"unique\": {\"key\": \"s\", \"scope\": \"queued\"}}')",
          .times = 200 },
        { .sql = "select public.round('failed', 5)", .times = 100 },
        { .sql = "select public.round('snoozed', 5)", .times = 100 },
    };
    together(sessions, DEPOT_N(sessions), "while daemons run them and fail them");
    is_str(ask("select (count(*) > 6)::text from queue.jobs"), "true", "others followed");
    is_str(ask("select count(*) <= 1 from queue.jobs where unique_key = 'a' and status in ('queued', 'running')"), "t",
           "one at a time");
}

static void keys_hold_under_many_claimers(void)
{
    clean();
    pgt_do("delete from public.seen; insert into queue.queue_policies (queue, max_attempts_per_minute, max_in_flight,"
           " max_per_key, key_fifo, backoff_base_ms) values ('wide', null, null, 2, false, 0),"
           " ('fifo', null, null, null, true, 0)");
    (void)ask("select depot.enqueue(q, 't', options => jsonb_build_object('concurrency_key', q || g % 5))"
              " from generate_series(1, 60) g, unnest('{wide,fifo}'::text[]) q");
    is_str(rounds_until_done("select public.round('failed', 10)", "four daemons"), "0", "every job ends");
    is_str(ask("select max(running) || ' ' || count(distinct key) from public.seen where key like 'wide%'"), "2 5",
           "never more than two of a key run, and two do");
    is_str(ask("select max(running) from public.seen where key like 'fifo%'"), "1", "of an ordered key one");
    is_str(ask("select count(*) from public.seen where fifo_broken"), "0", "in the order of their making");
    is_str(ask("select count(*) from queue.parked_keys"), "0", "nothing is left parked");
}

static void rates_hold_under_many_claimers(void)
{
    clean();
    (void)ask("select queue.set_limits('[{\"name\": \"q\", \"on_kind\": \"queue\", \"on_name\": \"q\", \"per_second\": "
              "0.001, \"burst\": 17},"
              " {\"name\": \"t\", \"on_kind\": \"type\", \"on_name\": \"t\", \"per_second\": 0.001, \"burst\": 11},"
              " {\"name\": \"k\", \"on_kind\": \"key\", \"per_second\": 0.001, \"burst\": 3}]')");
    (void)ask("select depot.enqueue('q', 'u'), depot.enqueue('r', 't', priority => g % 3),"
              " depot.enqueue('k', 'v', options => jsonb_build_object('concurrency_key', g % 5))"
              " from generate_series(1, 60) g");
    all_do("select public.round('succeeded', 8)", 30, "four daemons");
    is_str(ask("select string_agg(queue || n, ' ' order by queue) from (select queue, count(*) as n from queue.jobs"
               " where attempts > 0 group by queue) x"),
           "k15 q17 r11", "exactly as many have begun as there were tokens");
}

static void dependencies_are_settled_once(void)
{
    clean();
    pgt_do("delete from public.seen");
    session sessions[SESSIONS] = {
        { .sql = "with a as materialized (select depot.enqueue('q', 'a') as id from generate_series(1, 3))"
                 " select count(*) from a",
          .times = 60 },
        { .sql = "select depot.enqueue('q', 'b', options => jsonb_build_object('after', (select jsonb_agg(id) from"
                 " (select id from queue.jobs where job_type in ('a', 'b') order by id desc limit 3) x)))"
                 " from (select from queue.jobs limit 1) y",
          .times = 100 },
        { .sql = "select public.round('snoozed', 6)", .times = 150 },
        { .sql = "select public.round('snoozed', 6)", .times = 150 },
    };
    (void)ask("select depot.enqueue('q', 'a')"); /* so that there is one to wait for from the beginning */
    together(sessions, DEPOT_N(sessions), "jobs are made that wait for others which end meanwhile");
    for (int i = 0;
         i < 40 && strcmp(ask("select count(*) from queue.jobs where status in ('queued', 'running')"), "0") != 0;
         i++) {
        all_do("select public.round('snoozed', 20)", 10, "daemons go on");
        (void)ask("select queue.tend_dependencies()");
    }
    is_str(ask("select string_agg(status || ' ' || (waits_for = 0), ', ') from (select distinct status, waits_for from "
               "queue.jobs) x"),
           "succeeded true", "every job ran, none waits for ever");
    is_str(ask("select count(*) from queue.dependencies"), "0", "all are settled");
    is_str(ask("select (count(*) > 0)::text from queue.jobs where job_type = 'b'"), "true", "there were some");
}

static void batches_call_back_once(void)
{
    clean();
    session sessions[SESSIONS] = {
        { .sql = "select depot.batch((select jsonb_agg(jsonb_build_object('queue', 'q', 'type', 't')) from "
                 "generate_series(1, 7)),"
                 " '{\"queue\": \"cb\", \"type\": \"cb\"}')",
          .times = 40 },
        { .sql = "select queue.cancel(id, 'me') from queue.jobs where status = 'queued' and batch_id is not null and "
                 "random() < 0.05 limit 1",
          .times = 60 },
        { .sql = "select public.round('failed', 9)", .times = 80 },
        { .sql = "select public.round('snoozed', 9)", .times = 80 },
    };
    pgt_do("insert into queue.queue_policies (queue, max_attempts_per_minute, max_in_flight, backoff_base_ms) values "
           "('q', null, null, 0)");
    together(sessions, DEPOT_N(sessions), "batches are made, run and canceled");
    is_str(rounds_until_done("select public.round('snoozed', 30)", "daemons go on"), "0", "every job ends");
    is_str(ask("select count(*) || ' ' || count(callback_job_id) || ' ' || count(ended_at) from queue.batches"),
           "40 40 40", "every batch ends");
    is_str(ask("select count(*) from queue.jobs where job_type = 'cb'"), "40", "with one callback each");
    ok(strncmp(ask("select depot.enqueue('q', 't', options => jsonb_build_object('batch', (select id from "
                   "queue.batches limit 1)))"),
               "22023", 5) == 0,
       "nobody else gets into one");
    is_str(ask("select bool_and(b.succeeded + b.canceled + b.dlq = 7 and b.succeeded = (select count(*) from "
               "queue.jobs j where j.batch_id"
               " = b.id and j.status = 'succeeded')) from queue.batches b"),
           "t", "and the right counts");
}

static void a_cancel_is_never_lost(void)
{
    clean();
    pgt_do("insert into queue.queue_policies (queue, max_attempts_per_minute, max_in_flight, backoff_base_ms) values "
           "('q', null, null, 0)");
    (void)ask("select depot.enqueue('q', 't', max_attempts => 1000) from generate_series(1, 300)");
    session sessions[SESSIONS] = {
        { .sql = "select queue.cancel(id, 'me') from queue.jobs where status in ('queued', 'running') and canceled_by "
                 "is null order by random() limit 1",
          .times = 100 },
        { .sql = "select queue.bulk('cancel', '{}', '00000000-0000-0000-0000-000000000000', id, 5, 'me', null, null)"
                 " from queue.jobs order by random() limit 1",
          .times = 20 },
        { .sql = "select public.round('failed', 10)", .times = 40 },
        { .sql = "select public.round('snoozed', 10)", .times = 40 },
    };
    together(sessions, DEPOT_N(sessions), "jobs are canceled while they run, fail and snooze");
    is_str(ask("select count(*) from queue.jobs where status = 'queued' and cancel_requested_at is not null"), "0",
           "none that was to end waits for another attempt");
    is_str(rounds_until_done("select public.round('failed', 50)", "daemons go on"), "0", "every job ends");
    is_str(ask("select count(*) from queue.jobs where status = 'canceled' and canceled_by is null"), "0",
           "with who canceled it");
    is_str(ask("select sum(canceled) = (select count(*) from queue.jobs where status = 'canceled') from queue.tally"),
           "t", "and the tally agrees");
}

/* Results of rows and of ranges come in any order, and what ends with them is tied to others by dependencies, keys and batches. */
static void nobody_waits_in_a_circle(void)
{
    clean();
    pgt_do("truncate queue.chunks, queue.chunk_ready, queue.chunk_leases, queue.chunk_attempts;"
           "insert into queue.queue_policies (queue, max_attempts_per_minute, max_in_flight, backoff_base_ms, max_per_key) values "
           "('q', null, null, 0, 3);"
           "create function public.end_all(me text) returns void language plpgsql as $$"
           " begin"
           "  perform queue.finish((select jsonb_agg(jsonb_build_object('job', id, 'token', lease_token, 'outcome', 'failed', 'retry', 'no')"
           "    order by id desc) from queue.jobs j where status = 'running' and not exists (select from queue.chunk_leases l"
           "    where l.token = j.lease_token) and random() < 0.5), (select jsonb_agg(jsonb_build_object('token', token, 'chunk', chunk, "
           "    'busy_us', 1, 'others', jsonb_build_array(jsonb_build_object('at', lo, 'outcome', 'failed', 'retry', 'no')))"
           "    order by token desc) from queue.chunk_leases where random() < 0.5));"
           "  perform queue.claim(me, null, '{t}', 20, '60 s'), queue.claim_chunks(me, null, '{c}', 3, 12, '60 s');"
           " end $$");
    session sessions[] = {
        { .sql = "with b as (select depot.batch((select jsonb_agg(jsonb_build_object('queue', 'q', 'type', 't', 'options',"
                 " jsonb_build_object('concurrency_key', 'k' || g % 3))) from generate_series(1, 12) g), '{\"queue\": \"q\", \"type\": \"t\"}') as d),"
                 " c as (select queue.job_at(u, 0) as id from unnest(depot.enqueue_many('q', 'c', '[1, 2, 3, 4, 5, 6, 7, 8]')) u),"
                 " a as (select depot.enqueue('q', 't', options => jsonb_build_object('after', jsonb_build_array(i))) as id"
                 " from b, json_array_elements_text(d -> 'job_ids') with ordinality x(i, p) where p % 3 = 0)"
                 " select count(depot.enqueue('q', 't', options => jsonb_build_object('after', jsonb_build_array(a.id)))), count(c.id) from a, c",
          .times = 60 },
        { .sql = "select queue.bulk('cancel', '{\"queue\": \"q\"}', '00000000-0000-0000-0000-000000000000', queue.new_id(), 500, 'me', null, null)"
                 " from pg_sleep(0.1)",
          .times = 20 },
        { .sql = "select public.end_all('w#1')", .times = 120 },
        { .sql = "select public.end_all('w#2')", .times = 120 },
        { .sql = "select queue.tend_dependencies()", .times = 120 },
    };
    together(sessions, DEPOT_N(sessions), "results, cancels and claims of much that hangs together");
}

int main(void)
{
    pgt_begin();
    migrate();
    make_daemon();
    run(one_job_has_a_unique_key);
    run(keys_hold_under_many_claimers);
    run(rates_hold_under_many_claimers);
    run(dependencies_are_settled_once);
    run(batches_call_back_once);
    run(a_cancel_is_never_lost);
    run(nobody_waits_in_a_circle);
    pgt_end();
    return done();
}
