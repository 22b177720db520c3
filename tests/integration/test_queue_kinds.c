/* test_queue_kinds.c - jobs that are rows beside jobs in chunks: what is made, claimed, canceled and counted is the same for both.
 * test-plain: yes, test-asan: no (what it tests is SQL) */
#include "queuetest.h"

static void clean(void)
{
    pgt_do("truncate queue.jobs, queue.attempts, queue.queue_policies, queue.limits, queue.tokens, queue.tally, queue.job_keys,"
           " queue.chunks, queue.chunk_ready, queue.chunk_leases, queue.chunk_attempts");
}

static const char claimed[] = "select count(*) || ' ' || count(*) filter (where priority > 0) from queue.jobs where status = 'running'";

static void rows_of_less_weight_do_not_stop_chunks(void)
{
    clean();
    (void)ask("insert into queue.limits values ('s', 'type', 's', 1000, 1000)");
    (void)ask("select count(queue.enqueue('q', 's')) from generate_series(1, 20)");
    (void)ask("select queue.enqueue_chunks('q', 's', '[1, 2, 3, 4, 5]', priority => 5)");
    is_str(ask("select queue.unpack(null, '{s}', 10)"), "5", "a chunk of more weight becomes rows beside many rows of less");
    (void)ask("select count(*) from queue.claim('w', null, '{s}', 10, '10 s')");
    is_str(ask(claimed), "10 5", "and its jobs are claimed first");
    (void)ask("select queue.enqueue_chunks('q', 's', '[1]', now() + interval '1 hour', 9)");
    (void)ask("select queue.enqueue_chunks('q', 's', (select json_agg(g) from generate_series(1, 100) g))");
    is_str(ask("select queue.unpack(null, '{s}', 10) || ' ' || queue.unpack(null, '{s}', 10)"), "0 0",
           "no more become rows than are needed, whatever is there for later");
}

static void queues_that_stand_do_not_stop_others(void)
{
    clean();
    (void)ask("insert into queue.limits values ('s', 'type', 's', 1000, 1000)");
    (void)ask("select queue.pause('p', 'somebody')");
    (void)ask("select count(queue.enqueue('p', 's')) from generate_series(1, 20)");
    (void)ask("select queue.enqueue_chunks('q', 's', '[1, 2, 3]')");
    is_str(ask("select queue.unpack(null, '{s}', 10)"), "3", "rows of a paused queue do not keep a chunk of another one");
    is_str(ask("select count(*) from queue.claim('w', null, '{s}', 10, '10 s')"), "3", "whose jobs are claimed");
}

static void types_without_tokens_do_not_stop_others(void)
{
    clean();
    (void)ask("insert into queue.limits values ('slow', 'type', 'rated', 0.001, 1)");
    (void)ask("select queue.enqueue_chunks('q', 'rated', '[1, 2, 3, 4]', priority => 5)");
    (void)ask("select queue.enqueue_chunks('q', 'free', '[1, 2]')");
    (void)ask("select queue.enqueue('q', 'free')");
    is_str(ask("select sum(n) from queue.claim_chunks('w', null, '{rated,free}', 8, 1000, '10 s')"), "2",
           "ranges of a free type are taken beside a rated one of more weight");
    is_str(ask("select queue.unpack(null, '{rated,free}', 2)"), "2", "a rated one becomes rows");
    (void)ask("select count(*) from queue.claim('w', null, '{rated,free}', 10, '10 s')");
    is_str(ask("select count(*) from queue.claim('w', null, '{rated,free}', 10, '10 s')"), "1",
           "when its tokens are gone, rows of less weight are claimed though it waits");
}

static void a_range_ends_while_one_of_its_jobs_is_held(void)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = connect_as(pg_cluster_url(pgt_cluster));
    DEPOT_AUTO(db_disconnect) depot_db *other = connect_as(pg_cluster_url(pgt_cluster));

    clean();
    (void)ask_on(other, "set lock_timeout = '2 s'");
    (void)ask("select queue.enqueue_chunks('q', 's', '[1, 2, 3]')");
    (void)ask("select count(*) from queue.claim_chunks('w', null, '{s}', 1, 10, '1 ms')");
    (void)ask_on(db, "begin");
    is_str(ask_on(db, "select queue.hold(queue.job_at(chunk, 1), token) from queue.chunk_leases"), "t", "a job of a range holds its lease");
    is_str(ask("select queue.hold(queue.job_at(chunk, 3), token) from queue.chunk_leases"), "f", "for its places only");
    is_str(ask("select queue.is_held(queue.job_at(chunk, 2), token) from queue.chunk_leases"), "t", "and is told that it has it");
    is_str(ask_on(other, "select sum(n) from queue.finish(null, (select jsonb_build_array(jsonb_build_object('token', token, 'chunk', chunk,"
                         " 'busy_us', 1, 'going', '[1]'::jsonb)) from queue.chunk_leases))"), "2", "the range ends, but for this one");
    is_str(ask("select string_agg(distinct outcome, ' ') from queue.finish(null, (select jsonb_build_array(jsonb_build_object('token', token, 'chunk',"
               " chunk, 'busy_us', 1, 'going', '[1]'::jsonb)) from queue.chunk_leases))"), "known", "once");
    is_str(ask("select count(*) || ' ' || max(status) from queue.jobs"), "1 running", "which is a row now");
    is_str(ask_on(other, "select lost from queue.reap('w', '1 min', '10 s')"), "0", "whose lease has run out, but it is held");
    is_str(ask_on(db, "select queue.hold(id, lease_token) from queue.jobs"), "t", "and goes on to be");
    (void)ask_on(db, "commit");
    is_str(ask("select count(*) from queue.held_chunks('w', '1 s')"), "0", "nobody takes what is left of the range for one");
    is_str(ask("select lost from queue.reap('w', '1 min', '10 s')"), "1", "then it is reaped");
    is_str(ask("select count(*) from queue.chunk_leases"), "0", "with what was left");
}

static void a_lease_is_extended_while_it_is_held(void)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = connect_as(pg_cluster_url(pgt_cluster));
    DEPOT_AUTO(db_disconnect) depot_db *other = connect_as(pg_cluster_url(pgt_cluster));

    clean();
    (void)ask_on(other, "set lock_timeout = '2 s'");
    (void)ask("select queue.enqueue('q', 's')");
    (void)ask("select count(*) from queue.claim('w', null, '{s}', 1, '1 ms')");
    (void)ask_on(db, "begin");
    is_str(ask_on(db, "select queue.hold(id, lease_token) from queue.jobs"), "t", "a job holds its lease in a transaction");
    is_str(ask("select lost from queue.reap('v', '1 h', '1 s')"), "0", "for as long nobody takes it away, though it has run out");
    (void)ask("select count(*) from queue.jobs j, queue.heartbeat(array[j.id], array[j.lease_token], '1 h')");
    is_str(ask_on(other, "select queue.cancel(id, 'me') from queue.jobs"), "canceling", "it can be told to end");
    (void)ask_on(db, "commit");
    is_str(ask("select lost from queue.reap('v', '1 h', '1 s')"), "0", "and was extended meanwhile, so that it is not lost afterwards");
}

static void no_wait_is_too_long_to_be_written(void)
{
    clean();
    (void)ask("select queue.enqueue('q', 's', options => '{\"backoff\": {\"base_ms\": 9000000000000000000, \"max_ms\": "
              "9000000000000000000}}')");
    (void)ask("select count(*) from queue.claim('w', null, '{s}', 1, '-1 s')");
    is_str(ask("select lost from queue.reap('w', '1 h', '1 s')"), "1", "a lost job with an endless backoff does not stop the reaper");
    is_str(ask("select status || ' ' || (run_at < now() + interval '101 years') from queue.jobs"), "queued true", "it waits a century");
}

static void a_key_leads_to_a_job(void)
{
    clean();
    (void)ask("select queue.enqueue('q', 's', options => '{\"unique\": {\"key\": \"u\"}}')");
    (void)ask("select queue.enqueue('q', 's', key => 'k', options => '{\"unique\": {\"key\": \"u\"}}')");
    is_str(ask("select count(*) from queue.jobs where id = queue.enqueue('q', 's', key => 'k')"), "1",
           "a key of a job that its unique key kept from being made is that of the job which is there");
}

static void metrics_count_both_kinds(void)
{
    clean();
    (void)ask("select queue.enqueue_chunks('m', 's', '[1, 2, 3]')");
    (void)ask("select queue.enqueue('m', 's')");
    is_str(ask("select queue.metrics(null) -> 'queues' -> 0 ->> 'runnable_queue_depth'"), "4", "metrics count jobs of chunks");
    is_str(ask("select queue.metrics('m') -> 'queues' -> 0 ->> 'runnable_queue_depth'"), "4", "of one queue too");
    (void)ask("select queue.enqueue('m', 's', options => jsonb_build_object('after', array[queue.enqueue('m', 's')]))");
    is_str(ask("select queue.metrics('m') -> 'queues' -> 0 ->> 'runnable_queue_depth'"), "5", "and none that waits for others");
}

static void an_attempt_of_a_month_can_be_read(void)
{
    clean();
    (void)ask("insert into queue.attempts (job_id, attempt_no, token, status, charged, started_at, finished_at) values "
              "(queue.new_id(), 1, queue.new_id(), 'succeeded', true, now() - interval '30 days', now())");
    is_str(ask("select latency_ms from queue.job_attempts"), "2147483647", "an attempt of a month does not break the view");
}

static void a_bulk_cancel_comes_to_both_kinds(void)
{
    static const char some[] = "select seen || ' ' || done from queue.bulk('cancel', '{\"queue\": \"b\"}', "
                               "'00000000-0000-0000-0000-000000000000', queue.new_id(), 2, 'me', null, null)";
    static const char all[] = "select seen || ' ' || done from queue.bulk('cancel', '{\"queue\": \"b\"}', "
                              "'00000000-0000-0000-0000-000000000000', queue.new_id(), 100, 'me', null, null)";

    clean();
    (void)ask("select queue.enqueue_chunks('b', 's', '[1, 2, 3, 4, 5]')");
    (void)ask("select queue.enqueue('b', 's')");
    (void)ask("select queue.enqueue_chunks('other', 's', '[1]')");
    is_str(ask("select queue.bulk_count('cancel', '{\"queue\": \"b\"}', queue.new_id())"), "6", "jobs of chunks match too");
    is_str(ask("select queue.bulk_count('cancel', '{\"queue\": \"b\", \"code\": \"TIMEOUT\"}', queue.new_id())"), "0",
           "and none by an error that they cannot have had");
    is_str(ask(some), "2 2", "a piece cancels as many as it may");
    is_str(ask("select count(*) from queue.jobs where status = 'canceled'"), "2", "no more");
    is_str(ask(all), "4 4", "the next the others");
    is_str(ask("select sum(n) from queue.chunk_ready"), "1", "those of other queues wait on");
}

/* Five jobs of queue r under one lease; the chunk's id. */
static const char *five_in_a_range(void)
{
    clean();
    (void)ask("select queue.enqueue_chunks('r', 's', '[1, 2, 3, 4, 5]')");
    (void)ask("select count(*) from queue.claim_chunks('w', null, '{s}', 1, 1000, '1 h')");
    return ask("select id from queue.chunks");
}

static const char states[] = "select string_agg(s, ' ' order by p) from (select p, (select coalesce(j.status, '-') from"
                             " queue.find(queue.job_at(c.id, p)) j) as s from queue.chunks c, generate_series(0, 4) p) x";

static void a_job_that_runs_in_a_range_is_canceled(void)
{
    const char *chunk = five_in_a_range();

    is_str(ask("select string_agg(queue.cancel(queue.job_at(id, p), 'me'), ' ') from queue.chunks, generate_series(1, 4) p"),
           "canceling canceling canceling canceling", "jobs of a range that runs are to end");
    is_str(ask("select string_agg(c::text, ' ' order by c) from queue.canceling('w') c"),
           depot_strf(pgt_arena, "%s", ask("select string_agg(queue.job_at(id, p)::text, ' ' order by p) from queue.chunks,"
                                           " generate_series(1, 4) p")),
           "which their worker can see");
    is_str(ask("select count(*) from queue.held('w', '1 s')"), "0", "their leases are their range's");
    pgt_do("update queue.jobs set lock_expires_at = now() - interval '1 min'");
    is_str(ask("select lost from queue.reap('v', '1 h', '1 s')"), "0", "that alone may run out");
    is_str(ask(depot_strf(pgt_arena,
                          "select string_agg(outcome || ' ' || status || ' ' || n, ', ' order by outcome, status, n) from"
                          " queue.finish(null, jsonb_build_array(jsonb_build_object('token', (select token from queue.chunk_leases),"
                          " 'chunk', '%s', 'busy_us', 5, 'results', '[10, 11, null, null, null]'::jsonb, 'others',"
                          " '[{\"at\": 2, \"outcome\": \"failed\", \"code\": \"TIMEOUT\"}, {\"at\": 3, \"outcome\": \"released\"}]'::jsonb,"
                          " 'released', '[{\"lo\": 4, \"n\": 1}]'::jsonb)))",
                          chunk)),
           "failed canceled 1, released canceled 1, released canceled 1, succeeded succeeded 1, succeeded succeeded 1",
           "its result says what became of them");
    is_str(ask(states), "succeeded succeeded canceled canceled canceled",
           "one that had succeeded has, one that failed is not tried again, those that were not begun never are");
    is_str(ask("select string_agg(result::text, ' ') from queue.jobs where status = 'succeeded'"), "11", "with its result");
    is_str(ask("select sum(started) || ' ' || sum(succeeded) || ' ' || sum(canceled) || ' ' || sum(failed) from queue.tally"),
           "3 2 3 1", "each is counted once");
    is_str(ask("select count(*) from queue.chunk_ready"), "0", "nothing waits");
}

static void a_lost_range_does_not_bring_back_what_was_canceled(void)
{
    five_in_a_range();
    (void)ask("select queue.cancel(queue.job_at(id, 3), 'me') from queue.chunks");
    pgt_do("update queue.chunk_leases set expires_at = now() - interval '1 s'");
    is_str(ask("select lost from queue.reap('v', '1 h', '1 s')"), "5", "a range is lost");
    is_str(ask(states), "queued queued queued canceled queued", "the job that was canceled in it is not tried again");
}

static void a_bulk_cancel_comes_to_ranges_that_run(void)
{
    five_in_a_range();
    (void)ask("select queue.enqueue_chunks('r', 's', '[6]')");
    (void)ask("select queue.cancel(queue.job_at(chunk, 0), 'me') from queue.chunk_leases");
    is_str(ask("select queue.bulk_count('cancel', '{\"status\": \"running\"}', queue.new_id())"), "5", "of what runs all is counted once");
    is_str(ask("select seen || ' ' || done from queue.bulk('cancel', '{\"status\": \"running\"}', '00000000-0000-0000-0000-000000000000',"
               " queue.new_id(), 3, 'me', null, null)"), "3 3", "a piece cancels as many as it may");
    is_str(ask("select count(*) from queue.canceling('w')"), "3", "which are to end");
    is_str(ask("select sum(n) from queue.chunk_ready"), "1", "what waits is not meant");
}

static void a_bulk_replay_comes_to_what_succeeded_in_chunks(void)
{
    const char *chunk = five_in_a_range();

    (void)ask(depot_strf(pgt_arena,
                         "select count(*) from queue.finish(null, jsonb_build_array(jsonb_build_object('token', (select token from"
                         " queue.chunk_leases), 'chunk', '%s', 'busy_us', 5, 'others', '[{\"at\": 2, \"outcome\": \"failed\","
                         " \"retry\": \"no\"}]'::jsonb)))", chunk));
    is_str(ask("select queue.bulk_count('replay', '{\"queue\": \"r\", \"status\": \"succeeded\"}', queue.new_id()) || ' ' ||"
               " queue.bulk_count('replay', '{}', queue.new_id()) || ' ' || queue.bulk_count('replay', '{\"type\": \"x\"}', queue.new_id())"),
           "4 5 0", "jobs that succeeded in chunks match");
    is_str(ask("with recursive u(id) as (select queue.new_id()), p as (select 1 as i, b.* from u, queue.bulk('replay', '{\"queue\": \"r\"}',"
               " '00000000-0000-0000-0000-000000000000', u.id, 2, 'me', null, null) b union all select p.i + 1, b.* from p, u,"
               " queue.bulk('replay', '{\"queue\": \"r\"}', p.last, u.id, 2, 'me', null, null) b where p.last is not null)"
               " select string_agg(seen || ' ' || done, ', ' order by i) from p"), "2 2, 2 2, 1 1, 0 0", "piece by piece");
    is_str(ask("select string_agg(payload_json::text, ' ' order by payload_json::text) from queue.jobs where replay_of_job_id is not null"),
           "1 2 3 4 5", "each is made again once");
}

static void a_throttled_queue_of_chunks_says_so(void)
{
    five_in_a_range();
    pgt_do("truncate queue.policy_decisions");
    (void)ask("insert into queue.queue_policies (queue, max_in_flight, max_attempts_per_minute) values ('r', 5, null)");
    (void)ask("select queue.enqueue_chunks('r', 's', '[6, 7]')");
    (void)ask("select count(*) from queue.claim('w', null, '{s}', 10, '10 s')");
    is_str(ask("select d.reason_code || ' ' || j.status || ' ' || (j.payload_json = '6') from queue.policy_decisions d, queue.find(d.job_id) j"),
           "IN_FLIGHT_EXCEEDED queued true", "the first of its jobs has a THROTTLED decision");
}

/* One that was made so long ago, and whose job has just ended. */
static void old_chunk(const char *age)
{
    (void)ask(depot_strf(pgt_arena, "insert into queue.chunks (id, queue, job_type, n, args, run_at, priority, max_attempts) values "
                                    "(queue.chunk_of(queue.id_at(now() - interval '%s')), 'q', 's', 1, '[1]', now(), 0, 1)", age));
    (void)ask("insert into queue.chunk_attempts (chunk, lo, n, token, worker, started_at, finished_at, logs) "
              "select id, 0, 1, queue.new_id(), 'w', now(), now(), '{\"0\": []}' from queue.chunks");
}

static void what_ended_late_stays_as_long(void)
{
    clean();
    (void)ask("select queue.keep_partitions('1 year')");
    old_chunk("1 day");
    (void)ask("select queue.maintain('{\"succeeded\": 1000}', 1000, 1000)");
    is_str(ask("select count(*) from queue.chunks"), "1", "a chunk of yesterday that has just ended is kept");
    (void)ask("update queue.chunk_attempts set finished_at = now() - interval '1 hour'");
    (void)ask("insert into queue.queue_policies (queue, keep_succeeded_ms) values ('long', 1000000000)");
    (void)ask("select queue.maintain('{\"succeeded\": 1000}', 1000, 1000)");
    is_str(ask("select count(*) from queue.chunks"), "1", "as long as the queue that keeps longest says");
    (void)ask("delete from queue.queue_policies");
    (void)ask("select queue.maintain('{\"succeeded\": 1000}', 1000, null)");
    is_str(ask("select count(*) from queue.chunks"), "1", "for good, where the archive is for good");
    (void)ask("select queue.maintain('{\"succeeded\": 1000}', 1000, 1000)");
    is_str(ask("select count(*) from queue.chunks"), "0", "then it goes with its day");
}

static const char partitions[] = "select count(*) || ' ' || (max(upto) >= now() + interval '2 days') || ' ' || (min(since) <= now() - interval '1 day')"
                                 " || ' ' || coalesce(bool_and(upto - since = interval '1 day'), true) from queue.partitions() where parent = 'chunks'";

static const char drop_partitions[] =
    "do $$ declare p text; begin for p in select name from queue.partitions() loop execute 'drop table queue.' || p; end loop; end $$";

static void partitions_are_few(void)
{
    clean();
    is_str(ask("select string_agg(queue.partition_end('2026-11-27', k)::date::text, ' ' order by k) from unnest('{7 days,200 days,1000 years}'::interval[]) k"),
           "2026-11-28 2026-11-30 2026-12-01", "a partition ends with its day, week or month, by how long it is kept");
    is_str(ask("select array_agg(p order by p) = array(select p.name::text from queue.partitions() p order by 1) from"
               " (select c.relname::text as p from pg_class c join pg_inherits i on i.inhrelid = c.oid where c.relname ~ '^chunk.*\\d{8}$') c"), "t",
           "all are known by their bounds");
    pgt_do(drop_partitions);
    (void)ask("select queue.keep_partitions('7 days')");
    is_str(ask(partitions), "4 true true true", "days are made ahead");
    (void)ask("select queue.keep_partitions('1000 years')");
    is_str(ask(partitions), "4 true true true", "and not twice");
    pgt_do(drop_partitions);
    (void)ask("select queue.keep_partitions('1000 years')");
    is_str(ask("select count(*) <= 2 and max(upto) >= now() + interval '2 days' from queue.partitions() where parent = 'chunk_attempts'"), "t",
           "or one or two months");
    (void)ask("select queue.enqueue_chunks('q', 's', '[1]')");
    is_str(ask("select count(*) from queue.chunks_rest"), "0", "where what is made now has its place");
}

static void parts_have_their_own_arguments(void)
{
    static const char parts[] = "select string_agg(lo || ' ' || n || ' ' || args, ' ' order by lo) from queue.claim_chunks('w', null, '{s}', 8, 1000, '10 s',"
                                " '{}', '{}', %d)";

    clean();
    (void)ask("select queue.enqueue_chunks('q', 's', '[1, null, \"a\", {\"b\": 2}, 5]')");
    is_str(ask(depot_strf(pgt_arena, parts, 2)), "0 2 [1,null] 2 2 [\"a\",{\"b\": 2}] 4 1 [5]", "a range that is cut has the arguments of its jobs alone");
    (void)ask("select queue.enqueue_chunks('q', 's', '[1, 2]')");
    is_str(ask(depot_strf(pgt_arena, parts, 2)), "0 2 [1, 2]", "a whole one all of them");
    is_str(ask("select string_agg(lo || ' ' || args, ' ' order by id, lo) from queue.held_chunks('w', '10 s')"),
           "0 [1,null] 2 [\"a\",{\"b\": 2}] 4 [5] 0 [1, 2]", "also when they are asked for again");
}

static void who_waits_for_a_job_of_a_range_is_told_at_its_end(void)
{
    clean();
    (void)ask("select queue.enqueue_chunks('q', 's', '[1, 2, 3]')");
    (void)ask("select count(*) from queue.claim_chunks('w', null, '{s}', 8, 1000, '10 s')");
    (void)ask("select queue.enqueue('q', 't', options => jsonb_build_object('after', array[queue.job_at(chunk, 1)])) from queue.chunk_leases");
    (void)ask("select queue.enqueue('q', 't', options => jsonb_build_object('after', array[queue.job_at(chunk, 2)])) from queue.chunk_leases");
    is_str(ask("select string_agg(waits_for::text, ' ') from queue.jobs"), "1 1", "jobs wait for others that run in a range");
    (void)ask("select queue.finish(null, (select jsonb_build_array(jsonb_build_object('token', token, 'chunk', chunk, 'busy_us', 1, 'released',"
              " '[{\"lo\": 2, \"n\": 1}]'::jsonb)) from queue.chunk_leases))");
    is_str(ask("select string_agg(waits_for::text, ' ' order by id) from queue.jobs"), "0 1",
           "until these have succeeded, which one that was given back has not");
}

static void a_late_result_beside_good_ones_is_refused(void)
{
    clean();
    (void)ask("select count(queue.enqueue('q', 's')) from generate_series(1, 3)");
    (void)ask("select count(*) from queue.claim('w', null, '{s}', 3, '10 s')");
    is_str(ask("select string_agg(accepted::text, ' ' order by accepted) from queue.finish((select jsonb_agg(jsonb_build_object('job', id, 'token',"
               " case when n = 1 then gen_random_uuid() else lease_token end, 'outcome', 'succeeded')) from (select *, row_number() over () as n"
               " from queue.jobs) j))"), "false true true", "a late result beside good ones is refused alone");
    is_str(ask("select count(*) from queue.late_results r join queue.jobs j on j.id = r.job_id where j.status = 'running'"), "1", "and recorded");
}

static void what_is_kept_beside_jobs_goes_with_its_time(void)
{
    clean();
    pgt_do("truncate queue.checkpoints, queue.jobs_archive; delete from queue.progress");
    old_chunk("9 days");
    (void)ask("insert into queue.checkpoints (job_id, name, value, token, at) select id, 'new', '1', id, now() from queue.chunks");
    (void)ask("insert into queue.checkpoints (job_id, name, value, token, at) select id, 'old', '1', id, now() - interval '8 days' from queue.chunks");
    (void)ask("select queue.enqueue('q', 's')");
    (void)ask("insert into queue.checkpoints (job_id, name, value, token, at) select id, 'row', '1', id, now() - interval '8 days' from queue.jobs");
    (void)ask("update queue.jobs set status = 'succeeded', updated_at = now() - interval '8 days'");
    (void)ask("select queue.archive('{\"succeeded\": 0}')");
    (void)ask("select queue.prune_places('7 days')");
    is_str(ask("select string_agg(c.name, ' ' order by c.name) || ' ' || count(a.logs) from queue.checkpoints c left join queue.chunk_attempts a"
               " on a.chunk = c.job_id"), "new row 1", "what is new stays, however old its job is, and what a row of the archive has");
    (void)ask("update queue.chunk_attempts set finished_at = now() - interval '8 days'");
    (void)ask("select queue.prune_places('6 days')");
    is_str(ask("select count(logs) from queue.chunk_attempts"), "0", "log lines go in their time");
}

int main(void)
{
    pgt_begin();
    migrate();
    run(rows_of_less_weight_do_not_stop_chunks);
    run(queues_that_stand_do_not_stop_others);
    run(types_without_tokens_do_not_stop_others);
    run(a_range_ends_while_one_of_its_jobs_is_held);
    run(a_lease_is_extended_while_it_is_held);
    run(no_wait_is_too_long_to_be_written);
    run(a_key_leads_to_a_job);
    run(metrics_count_both_kinds);
    run(an_attempt_of_a_month_can_be_read);
    run(a_bulk_cancel_comes_to_both_kinds);
    run(a_job_that_runs_in_a_range_is_canceled);
    run(a_lost_range_does_not_bring_back_what_was_canceled);
    run(a_bulk_cancel_comes_to_ranges_that_run);
    run(a_bulk_replay_comes_to_what_succeeded_in_chunks);
    run(a_throttled_queue_of_chunks_says_so);
    run(what_ended_late_stays_as_long);
    run(partitions_are_few);
    run(parts_have_their_own_arguments);
    run(who_waits_for_a_job_of_a_range_is_told_at_its_end);
    run(a_late_result_beside_good_ones_is_refused);
    run(what_is_kept_beside_jobs_goes_with_its_time);
    pgt_end();
    return done();
}
