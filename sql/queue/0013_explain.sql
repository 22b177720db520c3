-- Why a job that waits does not run, the weightiest first; empty when nothing but its place in line keeps it.
create function queue.gates(j queue.jobs) returns json
language plpgsql stable set plan_cache_mode = force_generic_plan as $$
begin
    return (
        with live as (select * from queue.dispatchers where seen_at > now() - interval '30 seconds'), gates(place, code, doc) as (
            select 1, 'QUEUE_PAUSED', format('queue %s is paused%s', p.queue,
                case when p.paused_by = 'conf' then format(' by the section [queue %s]', p.queue)
                     when p.paused_by is not null then format(' by %s since %s', p.paused_by, queue.iso(p.paused_at)) else '' end)
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
            from queue.queue_policies p, lateral (select queue.running_in(p.queue) as n) c
            where p.queue = j.queue and n >= p.max_in_flight
            union all
            select 6, 'RETRY_RATE_EXCEEDED', format('%s of at most %s attempts of queue %s have begun in the last minute', n,
                                                    p.max_attempts_per_minute, p.queue)
            from queue.queue_policies p, lateral (select coalesce(sum(t.started), 0) as n from queue.tally t
                                                  where t.queue = p.queue and t.at > now() - interval '1 minute') c
            where p.queue = j.queue and n >= p.max_attempts_per_minute
            union all
            select 2, 'WAITS_FOR_JOBS', format('it waits for %s job(s): %s', j.waits_for, n.names)
            from (select string_agg(format('%s (%s)', d.needs, o.status), ', ' order by d.needs) as names
                  from (select x.needs from queue.dependencies x where x.job_id = j.id order by x.needs limit 5) d
                  left join lateral queue.find(d.needs) o on true) n
            where j.waits_for > 0
            union all
            select 5, 'KEY_BUSY', format('concurrency key %s of queue %s is held by %s; at most %s of its jobs run at a time', j.concurrency_key, j.queue,
                                         h.names, case when p.key_fifo then 1 else p.max_per_key end)
            from queue.queue_policies p
            cross join lateral (select count(*) filter (where x.status = 'running') as running, min(x.id::text) as first_id,
                                       string_agg('job ' || x.id, ', ' order by x.id) as names
                                from (select r.id, r.status from queue.jobs r
                                      where r.status in ('queued', 'running') and r.queue = j.queue and r.concurrency_key = j.concurrency_key
                                        and (r.status = 'running' or (p.key_fifo and r.id < j.id)) order by r.id limit 5) x) h
            where p.queue = j.queue and j.concurrency_key is not null
              and (h.running >= p.max_per_key or (p.key_fifo and h.first_id is not null))
            union all
            select 6, 'RATE_LIMITED', format('limit %s lets %s jobs a second begin (%s at once); the next may in %s s', l.name, l.per_second, l.burst,
                                             round(((1 - t.amount) / l.per_second)::numeric, 1))
            from queue.limits l
            cross join lateral queue.tokens_now(l, case l.on_kind when 'key' then j.queue || '/' || j.concurrency_key else '' end) t(amount)
            where t.amount < 1 and case l.on_kind when 'queue' then l.on_name = j.queue when 'type' then l.on_name = j.job_type
                                                  else j.concurrency_key is not null and coalesce(l.on_name, j.queue) = j.queue end
        )
        select coalesce(json_agg(json_build_object('code', code, 'why', doc) order by place), '[]') from gates where j.status = 'queued');
end
$$;

create function queue.summary(j queue.jobs, gates json) returns text
language sql stable as $$
    select case j.status
        when 'succeeded' then format('succeeded after %s attempt(s)', j.attempts)
        when 'canceled' then format('canceled by %s', coalesce(j.canceled_by, 'somebody'))
        when 'running' then format('running on %s%s; its lease lasts another %s s', j.locked_by,
                                   case when j.cancel_requested_at is not null then format(' and to end, as %s wants', j.canceled_by) else '' end,
                                   round(extract(epoch from j.lock_expires_at - now())::numeric, 1))
        when 'dlq' then format('moved to the DLQ after %s attempt(s): %s', j.attempts, j.dlq_reason_code)
        when 'queued' then case when j.last_error_code is not null then format('failed with %s; a retry is scheduled at %s',
                                                                               j.last_error_code, queue.iso(j.run_at))
                                else 'waiting' end || coalesce(': ' || (gates -> 0 ->> 'why'), '')
        else j.status end
$$;

create function queue.explain(job uuid) returns json
language plpgsql stable set plan_cache_mode = force_generic_plan as $$
begin
    return (
        select json_build_object('job_id', j.id, 'status', j.status, 'queue', j.queue, 'job_type', j.job_type,
            'summary', queue.summary(j, g), 'attempts', j.attempts,
            'failed_attempts', (select count(*) from queue.attempts a where a.job_id = j.id and a.status = 'failed'),
            'next_run_at', case when j.status = 'queued' then queue.iso(j.run_at) end, 'last_error', queue.last_error(j.id),
            'dlq_reason_code', j.dlq_reason_code, 'encrypted_with', queue.key_of(j.payload_json),
            'suggested_action', case when j.last_error_code is not null then queue.advice(j.last_error_code) end,
            'waits_for', g, 'lease_owner', j.locked_by, 'lease_expires_at', queue.iso(j.lock_expires_at),
            'ahead', case when j.status = 'queued' and j.run_at <= now() then (
                select count(*) from (select from queue.jobs a where a.status = 'queued' and a.waits_for = 0 and not a.key_held
                                      and a.queue = j.queue and a.run_at <= now()
                                      and (-a.priority, a.run_at, a.id) < (-j.priority, j.run_at, j.id) limit 10000) c)
                + (select coalesce(sum(case when w.chunk = queue.chunk_of(j.id) then least(w.n, greatest(queue.place_of(j.id) - w.lo, 0)) else w.n end), 0)
                   from (select w.chunk, w.lo, w.n from queue.chunk_ready w where w.queue = j.queue and w.run_at <= now()
                         and (w.rank, w.run_at, w.chunk) <= (-j.priority, j.run_at, queue.chunk_of(j.id)) limit 10000) w) end)
        from queue.find(job) j, lateral queue.gates(j) g);
end
$$;


revoke all on all functions in schema queue from public;
revoke all on function depot.batch(jsonb, jsonb) from public;
grant execute on all functions in schema queue to depot;
grant execute on function depot.batch(jsonb, jsonb) to depot;
grant select, insert, update, delete on all tables in schema queue to depot;
