-- Results of attempts, in batches.

-- results: [{job, token, outcome, code, message, retry, place, trace, result, cpu_us, delay_ms}]
--   outcome  succeeded | failed | snoozed (again after delay_ms, not charged) | released (was never begun: as if not claimed)
--   retry    "no": straight to the DLQ; "yes": whatever the code says; else the code decides (queue.error_advice)
-- Each is accepted only with the token of the present lease; others change nothing and are kept as late. A result that had
-- been accepted before, and whose answer was lost, is accepted again.
create function queue.finish(results jsonb) returns table (job uuid, token uuid, accepted boolean, status text, queue text,
                                                            outcome text)
language plpgsql volatile set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
begin
    return query
    with given as materialized (
        select r.*, coalesce(a.retryable, true) as retryable
        from (select i.job, i.token, i.outcome, case when i.outcome = 'failed' then coalesce(i.code, 'UNKNOWN') end as code, i.message,
                     i.retry, i.place, i.trace, i.result, i.cpu_us, i.delay_ms
              from jsonb_to_recordset(results) as i(job uuid, token uuid, outcome text, code text, message text, retry text, place text,
                                                    trace text, result jsonb, cpu_us bigint, delay_ms bigint)) r
        left join queue.error_advice a on a.code = upper(btrim(r.code))
    ), judged as (
        select g.*, o.run_at, o.queue, o.attempts, o.uncharged, o.max_attempts, o.locked_at, o.locked_by, clock_timestamp() as at,
               g.outcome = 'released' as is_released,
               g.outcome = 'snoozed' or (g.outcome = 'failed' and g.code = 'WORKER_SHUTDOWN') as is_free,
               case when g.outcome <> 'failed' or g.code = 'WORKER_SHUTDOWN' then null
                    when g.retry = 'no' or (not g.retryable and g.retry is distinct from 'yes') then 'NON_RETRYABLE'
                    when o.attempts - o.uncharged >= o.max_attempts then 'MAX_ATTEMPTS_EXCEEDED' end as dead
        from given g join queue.jobs o on o.id = g.job and o.lease_token = g.token
    ), decided as materialized (
        select d.*, case when d.outcome = 'succeeded' or d.dead is not null then null
                         when d.is_released then d.run_at
                         when d.delay_ms is not null then d.at + d.delay_ms * interval '1 millisecond'
                         when d.is_free then d.at
                         else d.at + queue.backoff(d.attempts - d.uncharged) end as retry_at
        from judged d
    ), moved as (
        update queue.jobs j
        set status = case when d.outcome = 'succeeded' then 'succeeded' when d.dead is not null then 'dlq' else 'queued' end,
            run_at = coalesce(d.retry_at, j.run_at),
            attempts = j.attempts - d.is_released::integer,
            uncharged = j.uncharged + d.is_free::integer,
            result = case when d.outcome = 'succeeded' then d.result end,
            last_error_code = case when d.outcome = 'failed' then d.code else j.last_error_code end,
            last_error_message = case when d.outcome = 'failed' then d.message else j.last_error_message end,
            dlq_reason_code = d.dead, dlq_at = case when d.dead is not null then d.at end,
            lease_token = null, locked_at = null, locked_by = null, lock_expires_at = null, updated_at = d.at
        from decided d where j.id = d.job and j.lease_token = d.token
        returning j.id, j.status as new_status, d.*
    ), history as (
        insert into queue.attempts (job_id, attempt_no, token, status, charged, started_at, finished_at, retry_at, worker_id,
                                    error_code, error_message, error_place, error_trace, cpu_us)
        select m.id, m.attempts, m.token, m.outcome, not m.is_free, m.locked_at, m.at, m.retry_at, m.locked_by,
               m.code, m.message, m.place, m.trace, m.cpu_us
        from moved m where not m.is_released
    ), counted as (
        insert into queue.tally (queue, started, restarted, succeeded, failed, dlq, latency_ms)
        select m.queue, -count(*) filter (where m.is_released), -count(*) filter (where m.is_released and m.attempts > 1),
               count(*) filter (where m.new_status = 'succeeded'), count(*) filter (where m.outcome = 'failed'),
               count(*) filter (where m.new_status = 'dlq'),
               coalesce(sum(extract(epoch from m.at - m.locked_at) * 1000) filter (where not m.is_released), 0)::bigint
        from moved m group by m.queue
    ), refused as (
        select g.job, g.token, g.outcome, g.code, exists (
            select from queue.attempts t where t.job_id = g.job and t.token = g.token and t.status = g.outcome
               and t.error_code is not distinct from g.code) as is_known
        from given g where not exists (select from moved m where m.id = g.job and m.token = g.token)
    ), late as (
        insert into queue.late_results (job_id, token, outcome, error_code)
        select r.job, r.token, r.outcome, r.code from refused r where not r.is_known and r.outcome <> 'released'
    )
    select m.id, m.token, true, m.new_status, m.queue, m.outcome from moved m
    union all
    select r.job, r.token, r.is_known, j.status, j.queue, r.outcome from refused r left join queue.jobs j on j.id = r.job;
end
$$;

-- Dead jobs of which nobody has been told yet, locked until the caller commits that it has told.
create function queue.unannounced(most integer) returns table (id uuid, queue text, job_type text, reason text, code text)
language sql volatile as $$
    update queue.jobs j set announced_at = clock_timestamp()
    where j.id in (select id from queue.jobs where status = 'dlq' and announced_at is null order by id limit most for update skip locked)
    returning j.id, j.queue, j.job_type, j.dlq_reason_code, j.last_error_code
$$;

-- The [queue NAME] sections: [{queue, max_in_flight, max_attempts_per_minute, max_attempts, lease_ms, paused}]. Rows that came
-- from a section which is gone go too; rows made by SQL stay unless a section names their queue.
create function queue.set_policies(sections jsonb) returns void
language sql volatile as $$
    with given as materialized (
        select * from jsonb_to_recordset(sections) as s(queue text, max_in_flight integer, max_attempts_per_minute integer,
                                                        max_attempts integer, lease_ms bigint, paused boolean)
    ), gone as (
        delete from queue.queue_policies p where p.source = 'conf' and p.queue not in (select queue from given)
    )
    insert into queue.queue_policies as p (queue, max_in_flight, max_attempts_per_minute, max_attempts, lease_ms, paused, source)
    select queue, max_in_flight, max_attempts_per_minute, max_attempts, lease_ms, coalesce(paused, false), 'conf' from given
    on conflict (queue) do update
    set max_in_flight = excluded.max_in_flight, max_attempts_per_minute = excluded.max_attempts_per_minute,
        max_attempts = excluded.max_attempts, lease_ms = excluded.lease_ms, paused = excluded.paused, source = 'conf'
    where (p.max_in_flight, p.max_attempts_per_minute, p.max_attempts, p.lease_ms, p.paused, p.source) is distinct from
          (excluded.max_in_flight, excluded.max_attempts_per_minute, excluded.max_attempts, excluded.lease_ms, excluded.paused, 'conf')
$$;

revoke all on all functions in schema queue from public;
grant execute on all functions in schema queue to depot;
