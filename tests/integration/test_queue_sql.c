/* test_queue_sql.c - sql/queue against a real server, as dispatchers and producers call it: every transition, by the
 * role that owns nothing. test-plain: yes, test-asan: no (what it tests is SQL) */
#include "queuetest.h"

enum { JOBS = 2000, CLAIM = 37 };

static const char claim_sql[] = "select id, token, attempt, job_type from queue.claim($1, null, $2, $3, $4)";

static void clean(void)
{
    pgt_do("truncate queue.jobs, queue.attempts, queue.late_results, queue.job_keys, queue.queue_policies, "
           "queue.policy_decisions,"
           " queue.ingest_decisions, queue.enqueue_rate_counters, queue.tally, queue.dispatchers, queue.job_types,"
           " queue.jobs_archive, queue.dependencies, queue.batches, queue.parked_keys, queue.limits, queue.tokens,"
           " queue.period_keys, queue.events, queue.progress");
}

/* Claims one job of any type; *id is NULL when there is none. */
static void claim_one(const char *lease, const char **id, const char **token)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = as_depot();
    depot_err                           err = { 0 };
    depot_rows                         *rows = NULL;

    *id = *token = NULL;
    if (!ok_err(depot_db_sql(db, pgt_arena, claim_sql,
                             DEPOT_VALS(DEPOT_TEXT("w#1"), DEPOT_TEXT("{*}"), DEPOT_INT(1), DEPOT_TEXT(lease)), &rows,
                             &err),
                &err, "a claim")) {
        exit(1);
    }
    if (depot_rows_count(rows) > 0) {
        *id = depot_text(rows, 0, "id");
        *token = depot_text(rows, 0, "token");
    }
}

/* accepted/status of one result. rest: further members, such as ,"code":"TIMEOUT" */
static const char *finish(const char *id, const char *token, const char *outcome, const char *rest)
{
    return ask(depot_strf(pgt_arena,
                          "select accepted || ' ' || status from "
                          "queue.finish('[{\"job\":\"%s\",\"token\":\"%s\",\"outcome\":\"%s\"%s}]')",
                          id, token, outcome, rest));
}

static const char *job(const char *id, const char *columns)
{
    return ask(depot_strf(pgt_arena, "select %s from queue.jobs where id = '%s'", columns, id));
}

static const char *attempts(const char *id)
{
    return ask(depot_strf(
        pgt_arena,
        "select string_agg(attempt_no || ' ' || status || coalesce(' ' || error_code, ''), ', ' order by attempt_no)"
        " from job_attempts where job_id = '%s'",
        id));
}

static void job_runs_and_succeeds(void)
{
    const char *id, *token;

    clean();
    const char *made = ask("select depot.enqueue('q', 'ok', '{\"n\": 9007199254740993}')");
    claim_one("10 s", &id, &token);
    is_str(id, made, "the job that was enqueued is claimed");
    is_str(attempts(id), "1 running", "its attempt shows as running");
    is_str(finish(id, token, "succeeded", ",\"result\":{\"n\":1}"), "true succeeded", "its result is accepted");
    is_str(attempts(id), "1 succeeded", "the attempt has ended");
    is_str(job(id, "result::text"), "{\"n\": 1}", "the result is kept");
    is_str(job(id, "(lease_token is null and lock_expires_at is null)::text"), "true", "there is no lease any more");
    is_str(ask("select queue.list_queues() -> 0 ->> 'succeeded'"), "1", "the queue counts it");
}

static void late_result_is_refused(void)
{
    const char *id, *token, *again, *second;

    clean();
    (void)ask("select depot.enqueue('q', 'slow')");
    claim_one("1 ms", &id, &token);
    usleep(5000);
    is_str(ask("select lost from queue.reap('w#1', '1 min', '10 s')"), "1", "the lease has run out and is reaped");
    is_str(attempts(id), "1 failed WORKER_LOST", "its attempt was lost and is charged");
    is_str(finish(id, token, "failed", ",\"code\":\"TIMEOUT\""), "false queued", "a late failure is refused");
    pgt_do("update queue.jobs set run_at = now()");
    claim_one("10 s", &again, &second);
    is_str(again, id, "it runs again");
    is_str(finish(id, token, "succeeded", ""), "false running", "the first worker's late success is refused");
    is_str(ask(depot_strf(pgt_arena, "select count(*) from queue.heartbeat('{%s}', '{%s}', '10 s')", id, token)), "1",
           "and its heartbeat says that the lease is lost");
    is_str(finish(id, second, "succeeded", ""), "true succeeded", "the second worker's is accepted");
    is_str(finish(id, second, "succeeded", ""), "true succeeded", "again, when the first answer was lost on the way");
    is_str(finish(id, token, "failed", ",\"code\":\"TIMEOUT\""), "false succeeded", "no late failure brings it back");
    is_str(ask("select count(*) from queue.late_results"), "3", "late results are kept");
    is_str(attempts(id), "1 failed WORKER_LOST, 2 succeeded", "two attempts, both explained");
}

/* After an outage that was longer than the leases two daemons come back, one of them first. */
static void who_is_back_first_spares_the_others(void)
{
    const char *id, *token;

    clean();
    (void)ask("select depot.enqueue('q', 'long')");
    claim_one("1 ms", &id, &token);
    usleep(5000);
    is_str(ask("select lost from queue.reap('w#2', '200 ms', '10 s')"), "0", "who has just come back reaps nothing");
    is_str(ask(depot_strf(pgt_arena, "select count(*) from queue.heartbeat('{%s}', '{%s}', '10 s')", id, token)), "0",
           "the worker that lives extends its lease meanwhile");
    is_str(ask("select lost from queue.reap('w#2', '11 s', '10 s')"), "0", "and keeps it");
    is_str(finish(id, token, "succeeded", ""), "true succeeded", "its result is accepted");
    is_str(attempts(id), "1 succeeded", "it ran once");
    (void)ask("select depot.enqueue('q', 'long')");
    claim_one("1 ms", &id, &token);
    usleep(5000);
    is_str(ask("select lost from queue.reap('w#2', '9 s', '10 s')"), "0", "another lease is left alone");
    is_str(ask("select lost from queue.reap('w#2', '10 s', '10 s')"), "1", "until that time is over");
}

static void poison_job_reaches_the_dlq(void)
{
    const char *id = NULL, *token;

    clean();
    (void)ask("select depot.enqueue('q', 'poison', max_attempts => 3)");
    for (int i = 0; i < 3; i++) {
        pgt_do("update queue.jobs set run_at = now()");
        claim_one("1 ms", &id, &token);
        usleep(5000);
        (void)ask("select queue.reap('w#1', '1 min', '10 s')");
    }
    is_str(job(id, "status || ' ' || dlq_reason_code || ' ' || last_error_code"),
           "dlq MAX_ATTEMPTS_EXCEEDED WORKER_LOST", "dead after three");
    is_str(ask("select count(*) from queue.unannounced(10)"), "1", "it is to be announced");
    is_str(ask("select count(*) from queue.unannounced(10)"), "0", "once");
    is_str(ask("select queue.list_queues() -> 0 ->> 'dlq'"), "1", "the queue counts it");
}

static void failures_are_retried_or_not(void)
{
    static const struct {
        const char *rest, *want;
    } rows[] = {
        { ",\"code\":\"TIMEOUT\"", "queued TIMEOUT -" },
        { ",\"code\":\"MADE_UP\"", "queued MADE_UP -" },
        { "", "queued UNKNOWN -" }, /* no code at all */
        { ",\"code\":\"bad_payload \"", "dlq bad_payload  NON_RETRYABLE" },
        { ",\"code\":\"UNKNOWN_JOB_TYPE\"", "dlq UNKNOWN_JOB_TYPE NON_RETRYABLE" },
        { ",\"code\":\"TIMEOUT\",\"retry\":\"no\"", "dlq TIMEOUT NON_RETRYABLE" },
        { ",\"code\":\"BAD_PAYLOAD\",\"retry\":\"yes\"", "queued BAD_PAYLOAD -" },
    };
    const char *id, *token;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        clean();
        (void)ask("select depot.enqueue('q', 't')");
        claim_one("10 s", &id, &token);
        (void)finish(id, token, "failed", rows[i].rest);
        is_str(job(id, "status || ' ' || last_error_code || ' ' || coalesce(dlq_reason_code, '-')"), rows[i].want,
               rows[i].want);
    }
}

static void waits_grow_to_a_bound(void)
{
    is_str(ask("select bool_and(extract(epoch from queue.backoff(n)) between 0.8 * d and 1.2 * d and extract(epoch "
               "from queue.backoff(n)) <= 900)"
               " from generate_series(1, 70) n, lateral (select least(900, 2 * 2 ^ (n - 1)) as d) x"),
           "t", "2 s doubling to 900 s, give or take a fifth, for every attempt to 70");
}

static void attempt_64_is_an_attempt_like_others(void)
{
    const char *id, *token;

    clean();
    (void)ask("select depot.enqueue('q', 't', max_attempts => 100)");
    pgt_do("update queue.jobs set attempts = 63");
    claim_one("10 s", &id, &token);
    is_str(finish(id, token, "failed", ",\"code\":\"TIMEOUT\""), "true queued", "it is retried");
    is_str(job(id, "(attempts = 64 and run_at between now() + '700 s' and now() + '901 s')::text"), "true",
           "after some 900 s");
}

static void giving_back_is_not_charged(void)
{
    const char *id, *token;

    clean();
    (void)ask("select depot.enqueue('q', 't', max_attempts => 1)");
    claim_one("10 s", &id, &token);
    is_str(finish(id, token, "released", ""), "true queued", "what was never begun is given back");
    is_str(job(id, "attempts || ' ' || (run_at <= now())"), "0 true", "as if it had not been claimed");
    ok(attempts(id) == NULL, "no attempt is recorded");
    claim_one("10 s", &id, &token);
    is_str(finish(id, token, "snoozed", ",\"delay_ms\":60000"), "true queued", "a handler may snooze");
    is_str(job(id, "(run_at > now() + '50 s')::text"), "true", "until later");
    pgt_do("update queue.jobs set run_at = now()");
    claim_one("10 s", &id, &token);
    is_str(finish(id, token, "failed", ",\"code\":\"WORKER_SHUTDOWN\",\"retry\":\"no\""), "true queued",
           "a shutdown cuts it off");
    claim_one("10 s", &id, &token);
    is_str(finish(id, token, "failed", ",\"code\":\"TIMEOUT\""), "true dlq", "the first charged failure is the last");
    is_str(attempts(id), "1 snoozed, 2 failed WORKER_SHUTDOWN, 3 failed TIMEOUT", "all are recorded");
}

static void rollback_takes_the_job_with_it(void)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = as_depot();
    const char                         *id, *token;
    depot_err                           err = { 0 };

    clean();
    ok_err(depot_db_begin(db, NULL, &err), &err, "a transaction of the producer");
    (void)ask_on(db, "select depot.enqueue('q', 't', key => 'once')");
    claim_one("10 s", &id, &token);
    ok(id == NULL, "nobody sees the job before the commit");
    (void)ask_on(db, "rollback");
    is_str(ask("select count(*) from queue.jobs"), "0", "nor after the rollback");
    ok(strlen(ask("select depot.enqueue('q', 't', key => 'once')")) == 36, "its key is free again");
}

static void key_makes_one_job(void)
{
    clean();
    const char *first = ask("select depot.enqueue('q', 't', key => 'order 7')");
    is_str(ask("select depot.enqueue('other', 't', key => 'order 7')"), first, "the same job is named the second time");
    is_str(ask("select (queue.enqueue_many('[{\"type\":\"t\",\"key\":\"order "
               "7\"},{\"type\":\"t\"},{\"type\":\"u\",\"priority\":3,\"key\":\"order 8\"}]'))[1]"),
           first, "and among many");
    is_str(ask("select count(*) from pgflow.jobs"), "3", "it was made once");
    const char *id, *token;
    claim_one("10 s", &id, &token);
    is_str(job(id, "job_type"), "u", "the higher priority comes first");
    (void)finish(id, token, "succeeded", "");
    is_str(ask("select depot.enqueue('q', 't', key => 'order 7')"), first, "a key is for good");
}

static void what_cannot_be_a_job_is_refused(void)
{
    static const char *const rows[] = {
        "select depot.enqueue('', 't')",
        "select depot.enqueue('q', '  ')",
        "select depot.enqueue('q', 't', max_attempts => 0)",
        "select depot.enqueue('q', 't', run_at => 'infinity')",
        "select depot.enqueue('q', 't', run_at => '10000-01-01Z')",
        "select depot.enqueue('q', 't', priority => -2147483648)",
        "select depot.enqueue('q', 't', '\"\\u0000\"')",
    };

    clean();
    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        const char *got = ask(rows[i]);
        ok(strncmp(got, "22", 2) == 0 || strncmp(got, "23514", 5) == 0, rows[i]);
    }
    is_str(ask("select count(*) from queue.jobs"), "0", "no job came of it");
}

static void only_what_is_due_served_and_open_is_claimed(void)
{
    clean();
    (void)ask("select depot.enqueue('a', 'x'), depot.enqueue('a', 'nobody'), depot.enqueue('b', 'hook:y'), "
              "depot.enqueue('c', 'x'),"
              " depot.enqueue('a', 'x', run_at => now() + interval '1 h')");
    pgt_do("insert into queue.queue_policies (queue, max_attempts_per_minute, max_in_flight, paused) values ('c', "
           "null, null, true)");
    is_str(ask("select string_agg(queue || '/' || job_type, ' ' order by queue) from queue.claim('w#1', null, "
               "'{x,hook:*,no_such_t_pe}', 10, '10 s')"),
           "a/x b/hook:y", "by name and by glob, not what is paused, later or nobody's");
    is_str(ask("select count(*) from queue.claim('w#1', '{b}', '{*}', 10, '10 s')"), "0", "of the asked queues alone");
    is_str(ask("select queue.explain(id) -> 'waits_for' -> 0 ->> 'code' from queue.jobs where queue = 'c'"),
           "QUEUE_PAUSED", "explain: paused");
    (void)ask("select queue.hello(gen_random_uuid(), 'w#1', 'w', null, '{x,hook:*}', '[]')");
    is_str(ask("select queue.explain(id) -> 'waits_for' -> 0 ->> 'code' from queue.jobs where job_type = 'nobody'"),
           "NO_HANDLER", "explain: nobody serves it");
    is_str(
        ask("select queue.explain(id) -> 'waits_for' -> 0 ->> 'code' from queue.jobs where run_at > now() + '1 min'"),
        "NOT_DUE", "explain: not due");
}

static void jobs_for_later_cost_a_claim_nothing(void)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = as_depot();
    depot_err                           err = { 0 };

    clean();
    pgt_do("insert into queue.jobs (queue, job_type, run_at) select 'q', 't', now() + interval '1 day' from "
           "generate_series(1, 5000)");
    (void)ask("select depot.enqueue('q', 't')");
    ok_err(depot_db_begin(db, NULL, &err), &err, "a transaction");
    is_str(ask_on(db, "select count(*) from queue.claim('w#1', null, '{t}', 10, '10 s')"), "1", "what is due is found");
    is_str(ask_on(db, "select idx_tup_fetch < 100 from pg_stat_xact_user_tables where relid = 'queue.jobs'::regclass"),
           "t", "and what is due later is not even looked at");
}

/* What a claim walks over in an index, by the server's own count. */
static void claims_do_not_slow_down_under_an_old_snapshot(void)
{
    static const char round[] = "select count(*) from queue.claim('w#1', null, '{t}', 500, '10 s')";
    static const char chunks[] = "select count(*) from queue.claim_chunks('w#1', null, '{c}', 50, 50, '10 s')";
    static const char walked[] = "select pg_stat_get_xact_tuples_returned('queue.jobs_queued'::regclass) +"
                                 " pg_stat_get_xact_tuples_returned('queue.chunk_ready_order'::regclass)";
    static const char keep[] = "select count(set_config('depot_queue.' || l, ((m).heads, clock_timestamp(), interval '1 min', true)::queue.memory::text,"
                               " false)) from unnest('{rows,chunks}'::text[]) l, queue.recall(l) m where (m).heads is not null";
    DEPOT_AUTO(db_disconnect) depot_db *db = as_depot();
    DEPOT_AUTO(db_disconnect) depot_db *old = as_depot();
    depot_err                           err = { 0 };

    clean();
    pgt_do("truncate queue.chunk_ready, queue.chunk_leases");
    (void)ask_on(old, "begin isolation level repeatable read");
    is_str(ask_on(old, "select count(*) from queue.jobs"), "0", "somebody keeps a snapshot");
    (void)ask("select count(queue.enqueue('q', 't')) from generate_series(1, 6000)");
    (void)ask("select count(queue.enqueue_chunks('q', 'c', '[1]')) from generate_series(1, 3000)");
    for (int i = 0; i < 11; i++) {
        (void)ask_on(db, round);
    }
    for (int i = 0; i < 59; i++) {
        (void)ask_on(db, chunks);
    }
    is_str(ask_on(db, keep), "2", "where the next claim begins is remembered (for a minute here, whatever the machine does)");
    (void)ask("select queue.enqueue('q', 't')");
    ok_err(depot_db_begin(db, NULL, &err), &err, "a claim after thousands that were taken while the snapshot was held");
    long before = strtol(ask_on(db, walked), NULL, 10); /* what the server has not added up yet counts too */
    is_str(ask_on(db, round), "500", "finds jobs");
    is_str(ask_on(db, chunks), "50", "and ranges");
    ok(strtol(ask_on(db, walked), NULL, 10) - before < 3000, "without walking over what was taken");
    (void)ask_on(db, "commit");
    is_str(ask_on(db, round), "1", "what was made last is found at once");
    pgt_do("update queue.jobs set status = 'queued', lease_token = null, locked_at = null, lock_expires_at = null, locked_by = null"
           " where id = (select id from queue.jobs order by id limit 1)");
    (void)ask_on(db, "select set_config('depot_queue.rows', replace(current_setting('depot_queue.rows'), '00:01:00', '00:00:00'), false)");
    is_str(ask_on(db, round), "1", "and what was given back by the next look from the beginning");
    pgt_do("truncate queue.chunks, queue.chunk_ready, queue.chunk_leases");
}

static void rights_end_where_they_should(void)
{
    static const char *const refused[] = {
        "insert into depot.audit (at, actor, action, prev, hash) values (now(), 'x', 'y', '', '')",
        "update depot.token set role = 'admin'",
        "delete from depot.token",
        "delete from depot.migration",
        "update depot.migration set checksum = ''",
        "create table queue.mine (i int)",
        "drop table queue.jobs",
    };

    for (size_t i = 0; i < DEPOT_N(refused); i++) {
        const char *got = ask(refused[i]);
        ok(got != NULL && strncmp(got, "42501 ", 6) == 0, refused[i]);
    }
    pgt_do("grant usage on schema public to depot; create table public.ran_as (who text); grant insert on "
           "public.ran_as to depot");
    (void)pgt_ask("grant temp on database depot to depot");
    DEPOT_AUTO(db_disconnect) depot_db *db = as_depot();
    (void)ask_on(db, "create function pg_temp.evil(v pg_catalog.uuid) returns boolean language plpgsql as"
                     " $$ begin insert into public.ran_as values (current_user); return true; end $$");
    (void)ask_on(db, "create domain pg_temp.uuid as pg_catalog.uuid check (pg_temp.evil(value))");
    is_str(ask_on(db, "select depot.enqueue('q', 't') is not null"), "t", "a job");
    is_str(pgt_ask("select string_agg(who, ' ') from public.ran_as"), NULL, "a caller's types do not run as the owner");
    pgt_do("drop table public.ran_as");
}

static void limits_are_hard(void)
{
    clean();
    pgt_do("insert into queue.queue_policies (queue, max_attempts_per_minute, max_in_flight) values ('q', null, 2), "
           "('r', 3, null)");
    (void)ask("select depot.enqueue(q, 't') from unnest('{q,r}'::text[]) q, generate_series(1, 10)");
    is_str(ask("select string_agg(queue, '' order by queue) from queue.claim('w#1', null, '{t}', 100, '10 s')"),
           "qqrrr", "two in flight, three a minute");
    is_str(ask("select count(*) from queue.claim('w#2', null, '{t}', 100, '10 s')"), "0", "for all workers together");
    is_str(ask("select string_agg(reason_code, ' ' order by reason_code) from queue.policy_decisions"),
           "IN_FLIGHT_EXCEEDED RETRY_RATE_EXCEEDED", "the reason is recorded, once");
    (void)ask("select queue.hello(gen_random_uuid(), 'w#1', 'w', null, '{t}', '[]')");
    is_str(ask("select queue.explain(id) -> 'waits_for' -> 0 ->> 'code' from queue.jobs where queue = 'q' and status = "
               "'queued' limit 1"),
           "IN_FLIGHT_EXCEEDED", "and explained");
    pgt_do("delete from queue.policy_decisions; delete from queue.jobs");
    (void)ask("select depot.enqueue('q', 'nobodys')");
    is_str(ask("select count(*) from queue.claim('w#1', null, '{t}', 100, '10 s')"), "0",
           "what no daemon serves is not claimed");
    is_str(ask("select count(*) from queue.policy_decisions"), "0", "nor called throttled");
}

/* ---- many at a time ---- */

static atomic_int claimed;

static void *claim_all(void *arg)
{
    depot_db    *db = as_depot();
    depot_arena *arena = depot_arena_new();
    depot_err    err = { 0 };
    depot_rows  *rows = NULL;
    int          empty = 0;

    while (empty < 20 &&
           depot_db_sql(db, arena, claim_sql,
                        DEPOT_VALS(DEPOT_TEXT(arg), DEPOT_TEXT("{t*}"), DEPOT_INT(CLAIM), DEPOT_TEXT("60 s")), &rows,
                        &err)) {
        atomic_fetch_add(&claimed, (int)depot_rows_count(rows));
        empty = depot_rows_count(rows) == 0 ? empty + 1 : 0;
    }
    if (err.code != DEPOT_OK) {
        printf("# %s\n", err.msg);
    }
    depot_arena_free(arena);
    db_disconnect(&db);
    return NULL;
}

static void no_job_goes_to_two_claimers(void)
{
    static char names[4][8] = { "w#1", "w#2", "w#3", "w#4" };
    pthread_t   threads[4];

    clean();
    (void)ask(depot_strf(
        pgt_arena,
        "select depot.enqueue('q' || g %% 3, 't' || g %% 5, priority => g %% 2) from generate_series(1, %d) g", JOBS));
    atomic_store(&claimed, 0);
    for (size_t i = 0; i < DEPOT_N(threads); i++) {
        pthread_create(&threads[i], NULL, claim_all, names[i]);
    }
    for (size_t i = 0; i < DEPOT_N(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    is_int(atomic_load(&claimed), JOBS, "every job is claimed once");
    is_str(ask("select count(*) || ' ' || max(attempts) || ' ' || count(distinct lease_token) from queue.jobs where "
               "status = 'running'"),
           depot_strf(pgt_arena, "%d 1 %d", JOBS, JOBS), "each has one attempt and a lease of its own");
}

static void new_start_gives_back_old_leases(void)
{
    const char *id, *token;

    clean();
    (void)ask("select queue.hello('00000000-0000-4000-8000-000000000001', 'w#1', 'w', null, '{t}', '[]')");
    (void)ask("select depot.enqueue('q', 't')");
    claim_one("1 h", &id, &token);
    is_str(ask("select queue.hello('00000000-0000-4000-8000-000000000001', 'w#1', 'w', null, '{t,u}', '[]')"), "0",
           "the same start keeps them");
    is_str(ask("select queue.hello('00000000-0000-4000-8000-000000000002', 'v#1', 'w', null, '{t}', '[]')"), "0",
           "another daemon too");
    is_str(ask("select queue.hello('00000000-0000-4000-8000-000000000001', 'w#2', 'w', null, '{t}', '[]')"), "1",
           "a new start ends them");
    is_str(attempts(id), "1 failed WORKER_LOST", "and says so");
}

static void jobs_are_canceled_and_replayed(void)
{
    const char *id, *token;

    clean();
    (void)ask("select depot.enqueue('q', 't'), depot.enqueue('q', 't')");
    claim_one("10 s", &id, &token);
    is_str(ask(depot_strf(pgt_arena, "select queue.cancel('%s', 'me')", id)), "canceling",
           "one that runs is told to end");
    is_str(ask("select queue.canceling('w#1')"), id, "its worker can see it");
    is_str(ask("select queue.cancel(id, 'me') from queue.jobs where status = 'queued'"), "canceled",
           "one that waits is canceled");
    ok(ask("select queue.cancel(gen_random_uuid(), 'me')") == NULL, "one that is not there is not");
    is_str(ask("select count(*) from queue.claim('w#1', null, '{*}', 10, '10 s')"), "0", "it does not run any more");
    const char *source = ask("select id from queue.jobs where status = 'canceled'");
    const char *copy = ask(depot_strf(pgt_arena, "select queue.replay('%s', 'r', null, 'me', null, null)", source));
    is_str(job(copy, "queue || ' ' || job_type || ' ' || replay_of_job_id"), depot_strf(pgt_arena, "r t %s", source),
           "a replay is a new job");
    is_str(ask(depot_strf(
               pgt_arena,
               "select string_agg(e ->> 'kind', ' ') from json_array_elements(queue.timeline('%s') -> 'story') e",
               source)),
           "Enqueued Canceled Replayed", "the timeline has it all");
}

static void rate_is_shared_out_exactly(void)
{
    clean();
    /* within one minute of the clock, as that is what is counted */
    (void)ask("select pg_sleep(case when s > 50 then 60.1 - s else 0 end) from extract(second from clock_timestamp()) s");
    is_str(ask("select granted || ' ' || total from queue.take_rate('q', 5, 3)"), "3 3", "three of five");
    is_str(ask("select granted || ' ' || total from queue.take_rate('q', 5, 3)"), "2 5", "then the two that are left");
    is_str(ask("select granted || ' ' || total from queue.take_rate('q', 5, 3)"), "0 5", "then none");
}

static void lists_turn_pages(void)
{
    clean();
    (void)ask("select queue.enqueue_many((select jsonb_agg(jsonb_build_object('type', 't', 'queue', 'q' || g % 2)) "
              "from generate_series(1, 25) g))");
    is_str(ask("with recursive p(doc) as (select queue.list_jobs('q1', 'queued', null, 5) union all"
               " select queue.list_jobs('q1', 'queued', (doc ->> 'next_cursor_id')::uuid, 5) from p where doc ->> "
               "'next_cursor_id' is not null)"
               " select count(distinct i ->> 'id') || ' ' || count(*) from p, json_array_elements(doc -> 'items') i"),
           "13 13", "each job is on one page");
    is_str(ask("select bool_and(queue.id_time(id) = created_at)::text from pgflow.jobs"), "true",
           "an id holds its time to the microsecond");
    is_str(ask("select queue.list_jobs(null, 'nonsense', null, 5) ->> 'items'"), "[]", "an unknown state has no jobs");
}

static void sums_survive_the_adding_up(void)
{
    clean();
    pgt_do("insert into queue.tally (at, queue, succeeded, dlq) select now() - interval '5 min', 'q' || g % 2, 1, g % "
           "2 from generate_series(1, 100) g");
    (void)ask("select queue.reap('w#1', '1 min', '10 s'), queue.reap('w#1', '1 min', '10 s')");
    is_str(ask("select count(*) || ' ' || sum(succeeded) || ' ' || sum(dlq) from queue.tally"), "2 100 50",
           "a row a queue, nothing lost");
}

static void metrics_are_the_seeds(void)
{
    const char *id, *token;

    clean();
    for (int i = 0; i < 4; i++) {
        (void)ask("select depot.enqueue('m', 'one')");
    }
    claim_one("10 s", &id, &token);
    is_str(finish(id, token, "succeeded", ""), "true succeeded", "one succeeds");
    claim_one("10 s", &id, &token);
    is_str(finish(id, token, "failed", ",\"code\":\"TIMEOUT\""), "true queued", "one fails");
    pgt_do(depot_strf(pgt_arena, "update queue.jobs set run_at = now(), priority = 9 where id = '%s'", id));
    claim_one("10 s", &id, &token);
    pgt_do("update queue.tally set latency_ms = 50 where succeeded + failed > 0");
    is_str(ask("select (q.m -> 'queues' -> 0)::jsonb - 'at' from (select queue.metrics(null) as m) q"),
           "{\"queue\": \"m\", \"retry_rate\": 0.3333333333333333, \"jobs_per_sec\": 0.03333333333333333, \"success_rate\": 0.5, "
           "\"mean_latency_ms\": 50, \"runnable_queue_depth\": 2}", "depth and rates");
    is_str(ask("select string_agg(k, ' ' order by k) from json_object_keys(queue.metrics(null) -> 'queues' -> 0) k"),
           "at jobs_per_sec mean_latency_ms queue retry_rate runnable_queue_depth success_rate", "these members and no others");
    is_str(ask("select (q.m -> 'queues' -> 0)::jsonb - 'at' from (select queue.metrics('nobody') as m) q"),
           "{\"queue\": \"nobody\", \"retry_rate\": 0, \"jobs_per_sec\": 0, \"success_rate\": 0, \"mean_latency_ms\": 0, "
           "\"runnable_queue_depth\": 0}", "a queue that there is not");
    is_str(ask("select json_array_length(queue.metrics('m') -> 'queues')"), "1", "one queue when one is asked for");
    is_str(ask("select (queue.metrics(null) ->> 'now_utc')::timestamptz = now()"), "t", "and the database's time");
}

int main(void)
{
    pgt_begin();
    migrate();
    run(job_runs_and_succeeds);
    run(late_result_is_refused);
    run(who_is_back_first_spares_the_others);
    run(poison_job_reaches_the_dlq);
    run(failures_are_retried_or_not);
    run(waits_grow_to_a_bound);
    run(attempt_64_is_an_attempt_like_others);
    run(giving_back_is_not_charged);
    run(rollback_takes_the_job_with_it);
    run(key_makes_one_job);
    run(what_cannot_be_a_job_is_refused);
    run(only_what_is_due_served_and_open_is_claimed);
    run(jobs_for_later_cost_a_claim_nothing);
    run(claims_do_not_slow_down_under_an_old_snapshot);
    run(rights_end_where_they_should);
    run(limits_are_hard);
    run(no_job_goes_to_two_claimers);
    run(new_start_gives_back_old_leases);
    run(jobs_are_canceled_and_replayed);
    run(rate_is_shared_out_exactly);
    run(lists_turn_pages);
    run(sums_survive_the_adding_up);
    run(metrics_are_the_seeds);
    pgt_end();
    return done();
}
