-- What people and dashboards read: lists, one job, its timeline, why it is where it is. Documents in the seeds' shape with more
-- members; every function returns JSON text as it goes out. What reads one job is in PL/pgSQL with plans for any job, made once in a session: making
-- them takes longer than using them.

create function queue.item(j queue.jobs) returns json
language sql stable as $$
    select json_build_object('id', j.id, 'queue', j.queue, 'job_type', j.job_type, 'status', j.status, 'run_at', queue.iso(j.run_at),
        'priority', j.priority, 'max_attempts', j.max_attempts, 'last_error_code', j.last_error_code,
        'last_error_message', j.last_error_message, 'dlq_reason_code', j.dlq_reason_code, 'created_at', queue.iso(j.created_at),
        'updated_at', queue.iso(j.updated_at), 'attempts', j.attempts, 'encrypted_with', queue.key_of(j.payload_json),
        'progress', case when j.status = 'running' then (select g.doc from queue.job_progress g where g.job_id = j.id) end)
$$;

-- Jobs of chunks as rows, without their arguments, newest first. Goes by the table that a state is in: of those that wait there may be few
-- among many that have ended.
create function queue.list_chunk_jobs(of_queue text, of_status text, before uuid, most integer) returns setof queue.jobs
language plpgsql stable set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
    set enable_hashagg = off as $$
declare
    of_state text := case coalesce(of_status, '') when '' then 'select id as chunk from queue.chunks' when 'queued' then 'select chunk from queue.chunk_ready'
                     when 'running' then 'select chunk from queue.chunk_leases where n > 0' when 'succeeded' then 'select chunk from queue.chunk_attempts' end;
    c        queue.chunks;
    last     integer;
    n        integer;
    left_    integer := most;
begin
    if of_state is null then
        return; -- a job in another state is a row
    end if;
    for c in execute format('select k.* from (select distinct s.chunk from (%s) s where $1 is null or s.chunk <= $1 order by s.chunk desc) u'
                            ' join queue.chunks k on k.id = u.chunk where $2 is null or k.queue = $2 order by u.chunk desc', of_state)
             using before, of_queue loop
        last := c.n - 1;
        while left_ > 0 and last >= 0 loop
            return query select * from queue.chunk_jobs(c.id, last - most + 1, last, false) j
                         where (of_status is null or j.status = of_status) and (before is null or j.id < before)
                         order by j.id desc limit left_;
            get diagnostics n = row_count;
            left_ := left_ - n;
            last := last - most;
        end loop;
        exit when left_ = 0;
    end loop;
end
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
    execute 'select array_agg(t order by t.id desc) from (select * from (select * from queue.jobs union all select * from queue.jobs_archive) j where true'
        || case when of_status is not null then format(' and status = %L', of_status) else '' end
        || case when of_queue is not null then ' and queue = $1' else '' end
        || case when before is not null then ' and id < $2' else '' end || ' order by id desc limit $3) t'
        into page using of_queue, before, n;
    page := array(select t from (select u.* from unnest(page) u union all select c.* from queue.list_chunk_jobs(of_queue, of_status, before, n) c) t
                  order by t.id desc limit n);
    last := page[cardinality(page)];
    items := (select json_agg(queue.item(u)) from unnest(page) u);
    return json_build_object('items', coalesce(items, '[]'), 'next_cursor_created_at', queue.iso(last.created_at), 'next_cursor_id', last.id);
end
$$;

create function queue.job(job uuid) returns json
language plpgsql stable set plan_cache_mode = force_generic_plan as $$
begin
    return (
        select json_build_object('id', j.id, 'queue', j.queue, 'job_type', j.job_type, 'status', j.status, 'run_at', queue.iso(j.run_at),
            'priority', j.priority, 'attempts', j.attempts, 'max_attempts', j.max_attempts, 'last_error_code', j.last_error_code,
            'last_error_message', j.last_error_message, 'dlq_reason_code', j.dlq_reason_code, 'dlq_at', queue.iso(j.dlq_at),
            'worker_id', j.locked_by, 'lock_expires_at', queue.iso(j.lock_expires_at), 'replay_of_job_id', j.replay_of_job_id,
            'key', j.job_key, 'enqueued_by', j.enqueued_by, 'request_id', j.request_id, 'created_at', queue.iso(j.created_at),
            'updated_at', queue.iso(j.updated_at), 'payload_json', queue.shown_args(j.payload_json),
            'encrypted_with', queue.key_of(j.payload_json), 'result', j.result,
            'progress', (select g.doc || jsonb_build_object('at', queue.iso(g.at)) from queue.job_progress g where g.job_id = j.id),
            'checkpoints', (select json_agg(json_build_object('name', c.name, 'at', queue.iso(c.at), 'value', c.value) order by c.at)
                            from queue.checkpoints c where c.job_id = j.id),
            'batch_id', j.batch_id, 'concurrency_key', j.concurrency_key, 'unique_key', j.unique_key, 'timeout_ms', j.timeout_ms,
            'cancel_requested_at', queue.iso(j.cancel_requested_at), 'canceled_by', j.canceled_by, 'archived_at', queue.iso(j.archived_at),
            'after', (select json_agg(d.needs order by d.needs) from queue.dependencies d where d.job_id = j.id))
        from queue.find(job) j);
end
$$;

create function queue.last_error(job uuid) returns json
language plpgsql stable set plan_cache_mode = force_generic_plan as $$
begin
    return (
        select json_build_object('error_code', error_code, 'error_message', error_message)
        from queue.attempts where job_id = job and status = 'failed' order by attempt_no desc limit 1);
end
$$;

create function queue.attempts_of(job uuid) returns json
language plpgsql stable set plan_cache_mode = force_generic_plan as $$
begin
    return (
        select coalesce(json_agg(json_build_object('id', a.id, 'attempt_no', a.attempt_no, 'status', a.status,
            'started_at', queue.iso(a.started_at), 'finished_at', queue.iso(a.finished_at), 'error_code', a.error_code,
            'error_message', a.error_message, 'latency_ms', a.latency_ms, 'worker_id', a.worker_id,
            'suggested_action', case when a.error_code is not null then queue.advice(a.error_code) end,
            'error_place', t.error_place, 'error_trace', t.error_trace, 'log', queue.log_of(job, a.attempt_no)) order by a.attempt_no), '[]')
        from queue.tries(job) a left join queue.attempts t using (job_id, attempt_no));
end
$$;

-- Everything that is known to have happened, in order: kind, then what belongs to it.
create function queue.story(job uuid) returns json
language plpgsql stable set plan_cache_mode = force_generic_plan as $$
begin
    return (
        with j as materialized (select * from queue.find(job)), events(at, place, attempt_no, doc) as (
            select j.created_at, 0, 0, json_build_object('kind', 'Enqueued', 'at', queue.iso(j.created_at), 'by', j.enqueued_by,
                'request_id', j.request_id, 'replay_of_job_id', j.replay_of_job_id, 'key', j.job_key, 'encrypted_with', queue.key_of(j.payload_json))
            from j
            union all
            select d.created_at, 1, 0, json_build_object('kind', 'PolicyDecision', 'at', queue.iso(d.created_at), 'id', d.id,
                'decision', d.decision, 'reason_code', d.reason_code, 'details_json', d.details_json)
            from queue.policy_decisions d where d.job_id = job
            union all
            select a.started_at, 2, a.attempt_no, json_build_object('kind', 'Attempt', 'at', queue.iso(a.started_at), 'id', a.id,
                'attempt_no', a.attempt_no, 'status', a.status, 'worker_id', a.worker_id, 'error_code', a.error_code,
                'error_message', a.error_message, 'suggested_action', case when a.error_code is not null then queue.advice(a.error_code) end,
                'latency_ms', a.latency_ms, 'log', queue.log_of(job, a.attempt_no))
            from queue.tries(job) a
            union all
            select c.at, 3, t.attempt_no, json_build_object('kind', 'Checkpoint', 'at', queue.iso(c.at), 'name', c.name, 'attempt_no', t.attempt_no)
            from queue.checkpoints c left join queue.tries(job) t on t.id = c.token where c.job_id = job
            union all
            select g.at, 3, 0, json_build_object('kind', 'Progress', 'at', queue.iso(g.at), 'fraction', g.doc -> 'fraction', 'text', g.doc -> 'text')
            from queue.job_progress g where g.job_id = job
            union all
            select a.finished_at, 3, a.attempt_no, json_build_object('kind', 'LeaseLost', 'at', queue.iso(a.finished_at),
                'attempt_no', a.attempt_no, 'worker_id', a.worker_id, 'why', a.error_message)
            from queue.attempts a where a.job_id = job and a.error_code = 'WORKER_LOST'
            union all
            select a.finished_at, 3, a.attempt_no, json_build_object('kind', 'Rescheduled', 'at', queue.iso(a.finished_at),
                'attempt_no', a.attempt_no, 'run_at', queue.iso(a.retry_at), 'charged', a.charged)
            from queue.attempts a where a.job_id = job and a.retry_at is not null
            union all
            select j.dlq_at, 4, j.attempts, json_build_object('kind', 'Dead', 'at', queue.iso(j.dlq_at), 'reason_code', j.dlq_reason_code)
            from j where j.dlq_at is not null
            union all
            select j.cancel_requested_at, 4, j.attempts, json_build_object('kind', 'CancelRequested', 'at', queue.iso(j.cancel_requested_at),
                'by', j.canceled_by)
            from j where j.cancel_requested_at is not null
            union all
            select e.at, 4, 0, json_build_object('kind', e.kind, 'at', queue.iso(e.at), 'by', e.actor, 'request_id', e.request_id)
            from queue.events e where e.job_id = job
            union all
            select j.archived_at, 8, 0, json_build_object('kind', 'Archived', 'at', queue.iso(j.archived_at))
            from j where j.archived_at is not null
            union all
            select j.updated_at, 5, 0, json_build_object('kind', 'Canceled', 'at', queue.iso(j.updated_at), 'by', j.canceled_by)
            from j where j.status = 'canceled'
            union all
            select l.at, 6, 0, json_build_object('kind', 'LateResult', 'at', queue.iso(l.at), 'outcome', l.outcome,
                'error_code', l.error_code, 'refused_as', 'LEASE_LOST')
            from queue.late_results l where l.job_id = job
            union all
            select r.created_at, 7, 0, json_build_object('kind', 'Replayed', 'at', queue.iso(r.created_at), 'new_job_id', r.id, 'by', r.enqueued_by)
            from (select * from queue.jobs union all select * from queue.jobs_archive) r where r.replay_of_job_id = job
        )
        select json_agg(doc order by at, place, attempt_no) from events);
end
$$;

create function queue.timeline(job uuid) returns json
language plpgsql stable set plan_cache_mode = force_generic_plan as $$
begin
    return (
        select json_build_object('job_id', j.id, 'status', j.status, 'queue', j.queue, 'job_type', j.job_type, 'run_at', queue.iso(j.run_at),
            'next_run_at', case when j.status = 'queued' then queue.iso(j.run_at) end,
            'last_worker_id', (select a.worker_id from queue.tries(job) a order by a.attempt_no desc limit 1),
            'last_error', queue.last_error(j.id), 'attempts', queue.attempts_of(j.id), 'encrypted_with', queue.key_of(j.payload_json),
            'story', queue.story(j.id))
        from queue.find(job) j);
end
$$;

-- What waits as rows, by queue. Counted up to a hundred thousand each, as looking at a queue must not cost what is in it; runnable and the
-- oldest are of those that were counted.
create function queue.waiting_rows() returns table (queue text, n bigint, due bigint, oldest timestamptz)
language plpgsql stable set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
begin
    return query
    with recursive q(queue) as (
        (select j.queue from queue.jobs j where j.status = 'queued' and j.waits_for = 0 and not j.key_held order by j.queue limit 1)
        union all
        select x.* from q cross join lateral (
            select j.queue from queue.jobs j where j.status = 'queued' and j.waits_for = 0 and not j.key_held and j.queue > q.queue
            order by j.queue limit 1) x
    )
    select q.queue, c.* from q cross join lateral (
        select count(*), count(*) filter (where w.run_at <= now()), min(w.run_at)
        from (select j.run_at from queue.jobs j where j.status = 'queued' and j.waits_for = 0 and not j.key_held and j.queue = q.queue
              limit 100000) w) c;
end
$$;

-- The same of what waits in chunks: up to a hundred thousand ranges each.
create function queue.waiting_places() returns table (queue text, n bigint, due bigint, oldest timestamptz)
language plpgsql stable set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
begin
    return query
    with recursive q(queue) as (
        (select r.queue from queue.chunk_ready r order by r.queue limit 1)
        union all
        select x.* from q cross join lateral (select r.queue from queue.chunk_ready r where r.queue > q.queue order by r.queue limit 1) x
    )
    select q.queue, c.* from q cross join lateral (
        select sum(w.n), coalesce(sum(w.n) filter (where w.run_at <= now()), 0)::bigint, min(w.run_at)
        from (select r.n, r.run_at from queue.chunk_ready r where r.queue = q.queue limit 100000) w) c;
end
$$;

-- One object per queue; counts of final states are over all time.
create function queue.list_queues() returns json
language sql stable as $$
    with waiting as (
        select queue, sum(n) as queued, sum(due) as runnable, min(oldest) as oldest
        from (select * from queue.waiting_rows()
              union all
              select * from queue.waiting_places()
              union all
              select queue, count(*), 0, null from queue.jobs where status = 'queued' and (waits_for > 0 or key_held) group by queue) q
        group by queue
    ), busy as (
        select r.queue, sum(r.n) as running
        from (select queue, 1 as n from queue.jobs where status = 'running' union all select queue, n from queue.chunk_leases) r
        group by r.queue
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
        union select x.q ->> 'queue' from json_array_elements(queue.list_queues()) x(q) where of_queue is null
    ), runnable as (
        select queue, sum(n) as n
        from (select w.queue, w.due as n from queue.waiting_rows() w where of_queue is null or w.queue = of_queue
              union all
              select w.queue, w.due from queue.waiting_places() w where of_queue is null or w.queue = of_queue) b
        group by queue
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
