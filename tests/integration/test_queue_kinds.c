/* test_queue_kinds.c - jobs that are rows beside jobs in chunks: what is made, claimed, canceled and counted is the same for both. */
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
    is_str(ask_on(other, "select sum(n) from queue.finish_chunks((select jsonb_build_array(jsonb_build_object('token', token, 'chunk', chunk,"
                         " 'busy_us', 1, 'going', '[1]'::jsonb)) from queue.chunk_leases))"), "2", "the range ends, but for this one");
    is_str(ask("select string_agg(distinct outcome, ' ') from queue.finish_chunks((select jsonb_build_array(jsonb_build_object('token', token, 'chunk',"
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

static void what_ended_late_stays_as_long(void)
{
    clean();
    (void)ask("select queue.keep_partitions('1 year')");
    (void)ask("insert into queue.chunks (id, queue, job_type, n, args, run_at, priority, max_attempts) values "
              "(queue.chunk_of(queue.id_at(now() - interval '1 day')), 'q', 's', 1, '[1]', now(), 0, 1)");
    (void)ask("insert into queue.chunk_attempts (chunk, lo, n, token, worker, started_at, finished_at) "
              "select id, 0, 1, queue.new_id(), 'w', now(), now() from queue.chunks");
    (void)ask("select queue.maintain('{\"succeeded\": 1000}', 1000, null)");
    is_str(ask("select count(*) from queue.chunks"), "1", "a chunk of yesterday that has just ended is kept");
    (void)ask("update queue.chunk_attempts set finished_at = now() - interval '1 hour'");
    (void)ask("insert into queue.queue_policies (queue, keep_succeeded_ms) values ('long', 1000000000)");
    (void)ask("select queue.maintain('{\"succeeded\": 1000}', 1000, null)");
    is_str(ask("select count(*) from queue.chunks"), "1", "as long as the queue that keeps longest says");
    (void)ask("delete from queue.queue_policies");
    (void)ask("select queue.maintain('{\"succeeded\": 1000}', 1000, null)");
    is_str(ask("select count(*) from queue.chunks"), "0", "then it goes with its day");
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
    run(what_ended_late_stays_as_long);
    pgt_end();
    return done();
}
