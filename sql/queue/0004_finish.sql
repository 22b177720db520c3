-- Results of attempts, in batches.

-- results: [{job, token, outcome, code, message, retry, place, trace, log, result, cpu_us, delay_ms, uncharged}]
--   outcome  succeeded | failed | snoozed (again after delay_ms, not charged) | released (was never begun: as if not claimed)
-- A job that was to be canceled while it ran ends as canceled unless it succeeded first.
--   retry    "no": straight to the DLQ; "yes": whatever the code says; else the code decides (queue.error_advice)
--   uncharged  it failed, but nobody knows whether by its own fault: the attempt does not count
-- Each is accepted only with the token of the present lease; others change nothing and are kept as late. A result that had
-- been accepted before, and whose answer was lost, is accepted again.
create type queue.verdict as (job uuid, token uuid, accepted boolean, has_moved boolean, status text, queue text, outcome text,
                              concurrency_key text, batch_id uuid);

-- Writes the results, in the order of the jobs' ids, as everybody does who changes several that run. What follows from it is the caller's.
create function queue.settle(results jsonb) returns queue.verdict[]
language plpgsql volatile set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
    verdicts queue.verdict[];
begin
    with given as materialized (
        select r.*, coalesce(a.retryable, true) as retryable
        from (select i.job, i.token, i.outcome, case when i.outcome = 'failed' then coalesce(i.code, 'UNKNOWN') end as code, i.message,
                     i.retry, i.place, i.trace, i.log, i.result, i.cpu_us, i.delay_ms, coalesce(i.uncharged, false) as is_unknown
              from jsonb_to_recordset(results) as i(job uuid, token uuid, outcome text, code text, message text, retry text, place text,
                                                    trace text, log jsonb, result jsonb, cpu_us bigint, delay_ms bigint,
                                                    uncharged boolean)) r
        left join queue.error_advice a on a.code = upper(btrim(r.code))
    ), judged as (
        select g.*, o.run_at, o.queue, o.attempts, o.uncharged, o.max_attempts, o.locked_at, o.locked_by, clock_timestamp() as at,
               o.concurrency_key, o.batch_id, coalesce(o.backoff_base_ms, p.backoff_base_ms) as base_ms,
               coalesce(o.backoff_max_ms, p.backoff_max_ms) as most_ms, coalesce(o.backoff_jitter, p.backoff_jitter) as jitter,
               g.outcome = 'released' as is_released,
               g.is_unknown or g.outcome = 'snoozed' or (g.outcome = 'failed' and g.code = 'WORKER_SHUTDOWN') as is_free,
               case when g.is_unknown or g.outcome <> 'failed' or g.code = 'WORKER_SHUTDOWN' then null
                    when g.retry = 'no' or (not g.retryable and g.retry is distinct from 'yes') then 'NON_RETRYABLE'
                    when o.attempts - o.uncharged >= o.max_attempts then 'MAX_ATTEMPTS_EXCEEDED' end as dead
        from given g join queue.jobs o on o.id = g.job and o.lease_token = g.token
        left join queue.queue_policies p on p.queue = o.queue
    ), decided as materialized (
        select d.*, case when d.outcome = 'succeeded' or d.dead is not null then null
                         when d.is_released then d.run_at
                         when d.delay_ms is not null then d.at + d.delay_ms * interval '1 millisecond'
                         when d.is_free and not d.is_unknown then d.at
                         else d.at + queue.backoff(d.attempts - d.uncharged, d.base_ms, d.most_ms, d.jitter) end as retry_at
        from judged d order by d.job
    ), moved as (
        update queue.jobs j
        set status = case when d.outcome = 'succeeded' then 'succeeded'
                          when j.cancel_requested_at is not null then 'canceled' -- asked of the row itself: it may have come this moment
                          when d.dead is not null then 'dlq' else 'queued' end,
            run_at = coalesce(d.retry_at, j.run_at),
            attempts = j.attempts - d.is_released::integer,
            uncharged = j.uncharged + d.is_free::integer,
            result = case when d.outcome = 'succeeded' then d.result end,
            last_error_code = case when d.outcome = 'failed' then d.code else j.last_error_code end,
            last_error_message = case when d.outcome = 'failed' then d.message else j.last_error_message end,
            dlq_reason_code = case when j.cancel_requested_at is null then d.dead end,
            dlq_at = case when j.cancel_requested_at is null and d.dead is not null then d.at end,
            lease_token = null, locked_at = null, locked_by = null, lock_expires_at = null, updated_at = d.at
        from decided d where j.id = d.job and j.lease_token = d.token
        returning j.id, j.status as new_status, d.*
    ), history as (
        insert into queue.attempts (job_id, attempt_no, token, status, charged, started_at, finished_at, retry_at, worker_id,
                                    error_code, error_message, error_place, error_trace, log, cpu_us)
        select m.id, m.attempts, m.token, m.outcome, not m.is_free, m.locked_at, m.at,
               case when m.new_status = 'queued' then m.retry_at end, m.locked_by,
               m.code, m.message, m.place, m.trace, m.log, m.cpu_us
        from moved m where not m.is_released
    ), counted as (
        insert into queue.tally (queue, started, restarted, succeeded, failed, dlq, canceled, latency_ms)
        select m.queue, -count(*) filter (where m.is_released), -count(*) filter (where m.is_released and m.attempts > 1),
               count(*) filter (where m.new_status = 'succeeded'), count(*) filter (where m.outcome = 'failed'),
               count(*) filter (where m.new_status = 'dlq'), count(*) filter (where m.new_status = 'canceled'),
               coalesce(sum(extract(epoch from m.at - m.locked_at) * 1000) filter (where not m.is_released), 0)::bigint
        from moved m group by m.queue
    )
    select coalesce(array_agg((m.id, m.token, true, true, m.new_status, m.queue, m.outcome, m.concurrency_key, m.batch_id)::queue.verdict), '{}')
    into verdicts from moved m;
    if cardinality(verdicts) = jsonb_array_length(results) then
        return verdicts;
    end if;
    -- a statement of its own: the same result may have been accepted while this one waited for the row
    with refused as (
        select i.job, i.token, i.outcome, c.code, exists (
            select from queue.attempts t where t.job_id = i.job and t.token = i.token and t.status = i.outcome
               and t.error_code is not distinct from c.code) as is_known
        from (select x.job, x.token, max(x.outcome) as outcome, max(x.code) as code
              from (select g.*, false as is_judged from jsonb_to_recordset(results) as g(job uuid, token uuid, outcome text, code text)
                    union all select v.job, v.token, null, null, true from unnest(verdicts) v) x
              group by x.job, x.token having not bool_or(x.is_judged)) i
        cross join lateral (select case when i.outcome = 'failed' then coalesce(i.code, 'UNKNOWN') end as code) c
    ), late as (
        insert into queue.late_results (job_id, token, outcome, error_code)
        select r.job, r.token, r.outcome, r.code from refused r where not r.is_known and r.outcome <> 'released'
    )
    select verdicts || array_agg((r.job, r.token, r.is_known, false, j.status, j.queue, r.outcome, null, null)::queue.verdict)
    into verdicts from refused r left join lateral queue.find(r.job) j on true;
    return verdicts;
end
$$;

-- What a daemon has to report, of jobs and of ranges of chunks (queue.settle_ranges): n jobs that came to the same end. All in one call, as
-- queue.after_end takes locks that are to be taken once in a transaction.
create function queue.finish(results jsonb, ranges jsonb default null) returns table (job uuid, token uuid, accepted boolean, status text,
                                                                                      queue text, outcome text, n bigint)
language plpgsql volatile set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off
    set enable_mergejoin = off as $$
#variable_conflict use_column
declare
    verdicts queue.verdict[];
    of_ranges record;
begin
    select * into of_ranges from queue.settle_ranges(ranges);
    verdicts := queue.settle(coalesce(results, '[]') || of_ranges.single);
    perform queue.after_end((select array_agg((v.job, v.queue, v.concurrency_key, v.batch_id, v.status)::queue.ending order by v.job)
                             from unnest(verdicts) v where v.has_moved) || queue.needed_of(of_ranges.ends));
    return query
    select v.job, v.token, v.accepted, v.status, v.queue, v.outcome, 1::bigint from unnest(verdicts) v
    union all
    select r.chunk, r.token, r.outcome <> 'late', r.status, r.queue, r.outcome, r.n from unnest(of_ranges.ends) r;
end
$$;

-- Dead jobs of which nobody has been told yet, locked until the caller commits that it has told.
create function queue.unannounced(most integer) returns table (id uuid, queue text, job_type text, reason text, code text)
language sql volatile as $$
    update queue.jobs j set announced_at = clock_timestamp()
    where j.id in (select id from queue.jobs where status = 'dlq' and announced_at is null order by id limit most for update skip locked)
    returning j.id, j.queue, j.job_type, j.dlq_reason_code, j.last_error_code
$$;

revoke all on all functions in schema queue from public;
grant execute on all functions in schema queue to depot;
