-- What people and dashboards read: lists, one job, its timeline, why it is where it is. Documents in the seeds' shape with more
-- members; every function returns JSON text as it goes out.

create function queue.item(j queue.jobs) returns json
language sql stable as $$
    select json_build_object('id', j.id, 'queue', j.queue, 'job_type', j.job_type, 'status', j.status, 'run_at', queue.iso(j.run_at),
        'priority', j.priority, 'max_attempts', j.max_attempts, 'last_error_code', j.last_error_code,
        'last_error_message', j.last_error_message, 'dlq_reason_code', j.dlq_reason_code, 'created_at', queue.iso(j.created_at),
        'updated_at', queue.iso(j.updated_at), 'attempts', j.attempts)
$$;

-- Newest first. An id holds the time of its making, so that the cursor is the id alone.
create function queue.list_jobs(of_queue text, of_status text, before uuid, n integer) returns json
language plpgsql stable as $$
declare
    items json;
    last  queue.jobs;
    page  queue.jobs[];
begin
    if of_status is not null and of_status not in ('queued', 'running', 'succeeded', 'failed', 'dlq', 'canceled') then
        return json_build_object('items', '[]'::json, 'next_cursor_created_at', null, 'next_cursor_id', null);
    end if;
    execute 'select array_agg(t order by t.id desc) from (select * from queue.jobs j where true'
        || case when of_status is not null then format(' and status = %L', of_status) else '' end
        || case when of_queue is not null then ' and queue = $1' else '' end
        || case when before is not null then ' and id < $2' else '' end || ' order by id desc limit $3) t'
        into page using of_queue, before, n;
    last := page[cardinality(page)];
    items := (select json_agg(queue.item(u)) from unnest(page) u);
    return json_build_object('items', coalesce(items, '[]'), 'next_cursor_created_at', queue.iso(last.created_at), 'next_cursor_id', last.id);
end
$$;

create function queue.job(job uuid) returns json
language sql stable as $$
    select json_build_object('id', j.id, 'queue', j.queue, 'job_type', j.job_type, 'status', j.status, 'run_at', queue.iso(j.run_at),
        'priority', j.priority, 'attempts', j.attempts, 'max_attempts', j.max_attempts, 'last_error_code', j.last_error_code,
        'last_error_message', j.last_error_message, 'dlq_reason_code', j.dlq_reason_code, 'dlq_at', queue.iso(j.dlq_at),
        'worker_id', j.locked_by, 'lock_expires_at', queue.iso(j.lock_expires_at), 'replay_of_job_id', j.replay_of_job_id,
        'key', j.job_key, 'enqueued_by', j.enqueued_by, 'request_id', j.request_id, 'created_at', queue.iso(j.created_at),
        'updated_at', queue.iso(j.updated_at), 'payload_json', j.payload_json, 'result', j.result)
    from queue.jobs j where j.id = job
$$;

create function queue.last_error(job uuid) returns json
language sql stable as $$
    select json_build_object('error_code', error_code, 'error_message', error_message)
    from queue.attempts where job_id = job and status = 'failed' order by attempt_no desc limit 1
$$;

create function queue.attempts_of(job uuid) returns json
language sql stable as $$
    select coalesce(json_agg(json_build_object('id', a.id, 'attempt_no', a.attempt_no, 'status', a.status,
        'started_at', queue.iso(a.started_at), 'finished_at', queue.iso(a.finished_at), 'error_code', a.error_code,
        'error_message', a.error_message, 'latency_ms', a.latency_ms, 'worker_id', a.worker_id,
        'suggested_action', case when a.error_code is not null then queue.advice(a.error_code) end,
        'error_place', t.error_place, 'error_trace', t.error_trace) order by a.attempt_no), '[]')
    from queue.job_attempts a left join queue.attempts t using (job_id, attempt_no) where a.job_id = job
$$;

-- Everything that is known to have happened, in order: kind, then what belongs to it.
create function queue.story(job uuid) returns json
language sql stable as $$
    with events(at, place, attempt_no, doc) as (
        select j.created_at, 0, 0, json_build_object('kind', 'Enqueued', 'at', queue.iso(j.created_at), 'by', j.enqueued_by,
            'request_id', j.request_id, 'replay_of_job_id', j.replay_of_job_id, 'key', j.job_key)
        from queue.jobs j where j.id = job
        union all
        select d.created_at, 1, 0, json_build_object('kind', 'PolicyDecision', 'at', queue.iso(d.created_at), 'id', d.id,
            'decision', d.decision, 'reason_code', d.reason_code, 'details_json', d.details_json)
        from queue.policy_decisions d where d.job_id = job
        union all
        select a.started_at, 2, a.attempt_no, json_build_object('kind', 'Attempt', 'at', queue.iso(a.started_at), 'id', a.id,
            'attempt_no', a.attempt_no, 'status', a.status, 'worker_id', a.worker_id, 'error_code', a.error_code,
            'error_message', a.error_message, 'suggested_action', case when a.error_code is not null then queue.advice(a.error_code) end,
            'latency_ms', a.latency_ms)
        from queue.job_attempts a where a.job_id = job
        union all
        select a.finished_at, 3, a.attempt_no, json_build_object('kind', 'Rescheduled', 'at', queue.iso(a.finished_at),
            'attempt_no', a.attempt_no, 'run_at', queue.iso(a.retry_at), 'charged', a.charged)
        from queue.attempts a where a.job_id = job and a.retry_at is not null
        union all
        select j.dlq_at, 4, j.attempts, json_build_object('kind', 'Dead', 'at', queue.iso(j.dlq_at), 'reason_code', j.dlq_reason_code)
        from queue.jobs j where j.id = job and j.dlq_at is not null
        union all
        select j.updated_at, 5, 0, json_build_object('kind', 'Canceled', 'at', queue.iso(j.updated_at), 'by', j.canceled_by)
        from queue.jobs j where j.id = job and j.status = 'canceled'
        union all
        select l.at, 6, 0, json_build_object('kind', 'LateResult', 'at', queue.iso(l.at), 'outcome', l.outcome,
            'error_code', l.error_code, 'refused_as', 'LEASE_LOST')
        from queue.late_results l where l.job_id = job
        union all
        select r.created_at, 7, 0, json_build_object('kind', 'Replayed', 'at', queue.iso(r.created_at), 'new_job_id', r.id, 'by', r.enqueued_by)
        from queue.jobs r where r.replay_of_job_id = job
    )
    select json_agg(doc order by at, place, attempt_no) from events
$$;

create function queue.timeline(job uuid) returns json
language sql stable as $$
    select json_build_object('job_id', j.id, 'status', j.status, 'queue', j.queue, 'job_type', j.job_type, 'run_at', queue.iso(j.run_at),
        'next_run_at', case when j.status = 'queued' then queue.iso(j.run_at) end,
        'last_worker_id', (select a.worker_id from queue.job_attempts a where a.job_id = j.id order by a.attempt_no desc limit 1),
        'last_error', queue.last_error(j.id), 'attempts', queue.attempts_of(j.id), 'story', queue.story(j.id))
    from queue.jobs j where j.id = job
$$;

-- Why a job that waits does not run, the weightiest first; empty when nothing but its place in line keeps it.
create function queue.gates(j queue.jobs) returns json
language sql stable as $$
    with live as (select * from queue.dispatchers where seen_at > now() - interval '30 seconds'), gates(place, code, doc) as (
        select 1, 'QUEUE_PAUSED', format('queue %s is paused', p.queue)
        from queue.queue_policies p where p.queue = j.queue and p.paused
        union all
        select 2, 'NO_DAEMON', format('no daemon that runs takes jobs of queue %s', j.queue)
        where not exists (select from live d where d.queues is null or j.queue = any (d.queues))
        union all
        select 3, 'NO_HANDLER', format('no daemon that runs serves job type %s', j.job_type)
        where exists (select from live) and not exists (select from live d, unnest(d.types) t where j.job_type like queue.glob_like(t))
        union all
        select 4, 'NOT_DUE', format('it is due in %s s', ceil(extract(epoch from j.run_at - now()))) where j.run_at > now()
        union all
        select 5, 'IN_FLIGHT_EXCEEDED', format('%s of at most %s jobs of queue %s are running', n, p.max_in_flight, p.queue)
        from queue.queue_policies p, lateral (select count(*) as n from queue.jobs r where r.status = 'running' and r.queue = p.queue) c
        where p.queue = j.queue and n >= p.max_in_flight
        union all
        select 6, 'RETRY_RATE_EXCEEDED', format('%s of at most %s attempts of queue %s have begun in the last minute', n,
                                                p.max_attempts_per_minute, p.queue)
        from queue.queue_policies p, lateral (select coalesce(sum(t.started), 0) as n from queue.tally t
                                              where t.queue = p.queue and t.at > now() - interval '1 minute') c
        where p.queue = j.queue and n >= p.max_attempts_per_minute
    )
    select coalesce(json_agg(json_build_object('code', code, 'why', doc) order by place), '[]') from gates where j.status = 'queued'
$$;

create function queue.summary(j queue.jobs, gates json) returns text
language sql stable as $$
    select case j.status
        when 'succeeded' then format('succeeded after %s attempt(s)', j.attempts)
        when 'running' then format('running on %s; its lease lasts another %s s', j.locked_by,
                                   round(extract(epoch from j.lock_expires_at - now())::numeric, 1))
        when 'dlq' then format('moved to the DLQ after %s attempt(s): %s', j.attempts, j.dlq_reason_code)
        when 'queued' then case when j.last_error_code is not null then format('failed with %s; a retry is scheduled at %s',
                                                                               j.last_error_code, queue.iso(j.run_at))
                                else 'waiting' end || coalesce(': ' || (gates -> 0 ->> 'why'), '')
        else j.status end
$$;

create function queue.explain(job uuid) returns json
language sql stable as $$
    select json_build_object('job_id', j.id, 'status', j.status, 'queue', j.queue, 'job_type', j.job_type,
        'summary', queue.summary(j, g), 'attempts', j.attempts,
        'failed_attempts', (select count(*) from queue.attempts a where a.job_id = j.id and a.status = 'failed'),
        'next_run_at', case when j.status = 'queued' then queue.iso(j.run_at) end, 'last_error', queue.last_error(j.id),
        'dlq_reason_code', j.dlq_reason_code,
        'suggested_action', case when j.last_error_code is not null then queue.advice(j.last_error_code) end,
        'waits_for', g, 'lease_owner', j.locked_by, 'lease_expires_at', queue.iso(j.lock_expires_at),
        'ahead', case when j.status = 'queued' and j.run_at <= now() then (
            select count(*) from (select from queue.jobs a where a.status = 'queued' and a.queue = j.queue and a.run_at <= now()
                                  and (-a.priority, a.run_at, a.id) < (-j.priority, j.run_at, j.id) limit 10000) c) end)
    from queue.jobs j, lateral queue.gates(j) g where j.id = job
$$;

-- One object per queue; counts of final states are over all time.
create function queue.list_queues() returns json
language sql stable as $$
    with waiting as (
        select queue, count(*) as queued, count(*) filter (where run_at <= now()) as runnable, min(run_at) as oldest
        from queue.jobs where status = 'queued' group by queue
    ), busy as (
        select queue, count(*) as running from queue.jobs where status = 'running' group by queue
    ), past as (
        select queue, sum(succeeded) as succeeded, sum(dlq) as dlq, sum(canceled) as canceled from queue.tally group by queue
    ), names as (
        select queue from waiting union select queue from busy union select queue from past union select queue from queue.queue_policies
    )
    select coalesce(json_agg(json_build_object('queue', n.queue, 'queued', coalesce(w.queued, 0), 'runnable', coalesce(w.runnable, 0),
            'running', coalesce(b.running, 0), 'succeeded', coalesce(h.succeeded, 0), 'failed', 0, 'dlq', coalesce(h.dlq, 0),
            'canceled', coalesce(h.canceled, 0), 'paused', coalesce(p.paused, false), 'max_in_flight', p.max_in_flight,
            'max_attempts_per_minute', p.max_attempts_per_minute,
            'oldest_runnable_ms', case when w.runnable > 0 then (extract(epoch from now() - w.oldest) * 1000)::bigint else 0 end)
        order by n.queue), '[]')
    from names n left join waiting w using (queue) left join busy b using (queue) left join past h using (queue)
    left join queue.queue_policies p using (queue)
$$;

-- The last 60 seconds, per queue: what the seeds' metrics say.
create function queue.last_minute() returns table (queue text, started bigint, restarted bigint, succeeded bigint, failed bigint,
                                                   dlq bigint, latency_ms bigint)
language sql stable as $$
    select t.queue, sum(t.started)::bigint, sum(t.restarted)::bigint, sum(t.succeeded)::bigint, sum(t.failed)::bigint, sum(t.dlq)::bigint,
           sum(t.latency_ms)::bigint
    from queue.tally t where t.at > now() - interval '1 minute' group by t.queue
$$;

-- The seeds' metrics of each queue, or of one, which may be one that nobody has heard of. Rates are of the last 60 seconds.
create function queue.metrics(of_queue text) returns json
language sql stable as $$
    with names as (
        select of_queue as queue where of_queue is not null
        union select j.queue from (select distinct queue from queue.jobs where status in ('queued', 'running')
                                   union select queue from queue.tally union select queue from queue.queue_policies) j
        where of_queue is null
    ), runnable as (
        select queue, count(*) as n from queue.jobs where status = 'queued' and run_at <= now() group by queue
    )
    select json_build_object('now_utc', queue.iso(now()), 'queues', coalesce(json_agg(json_build_object(
            'at', queue.iso(now()), 'queue', n.queue, 'runnable_queue_depth', coalesce(r.n, 0),
            'jobs_per_sec', coalesce(m.ended, 0) / 60::float8,
            'success_rate', case when m.ended > 0 then m.succeeded / m.ended::float8 else 0 end,
            'retry_rate', case when m.started > 0 then m.restarted / m.started::float8 else 0 end,
            'mean_latency_ms', case when m.ended > 0 then m.latency_ms / m.ended::float8 else 0 end) order by n.queue), '[]'))
    from names n left join runnable r using (queue)
    left join (select *, succeeded + failed as ended from queue.last_minute()) m using (queue)
$$;

create function queue.list_ingest_decisions(of_queue text, n integer) returns json
language sql stable as $$
    select coalesce(json_agg(json_build_object('id', d.id, 'queue', d.queue, 'decision', d.decision, 'reason_code', d.reason_code,
                                               'details_json', d.details_json, 'created_at', queue.iso(d.created_at)) order by d.id desc), '[]')
    from (select * from queue.ingest_decisions where of_queue is null or queue = of_queue order by id desc limit n) d
$$;

revoke all on all functions in schema queue from public;
grant execute on all functions in schema queue to depot;
