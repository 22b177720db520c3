-- Schema pgflow: the tables of postgresflow, as its dashboards and producers know them: `set search_path = pgflow`. Views that show every job,
-- also those that are no rows of queue.jobs but places in a chunk; what is inserted into `jobs` is enqueued.

create schema pgflow;
grant usage on schema pgflow to depot;

create view pgflow.jobs as
    select j.id, j.queue, j.job_type, j.payload_json, j.run_at, j.status, j.priority, j.max_attempts, j.locked_at, j.locked_by, j.lock_expires_at,
           j.last_error_code, j.last_error_message, j.dlq_reason_code, j.dlq_at, j.replay_of_job_id, j.created_at, j.updated_at,
           'legacy'::text as dataset_id, j.attempts, j.enqueued_by, j.request_id
    from queue.jobs j
    union all
    select queue.job_at(c.id, e.place::integer - 1), c.queue, c.job_type, e.value::jsonb, c.run_at,
           case when w.chunk is not null then 'queued' when l.chunk is not null then 'running' else 'succeeded' end, c.priority, c.max_attempts,
           l.started_at, l.worker, l.expires_at, null, null, null, null, null, queue.id_time(c.id),
           coalesce(a.finished_at, l.started_at, queue.id_time(c.id)), 'legacy', case when w.chunk is null then 1 else 0 end, c.enqueued_by,
           queue.request_at(c.request_ids, e.place::integer - 1)
    from queue.chunks c
    cross join lateral json_array_elements(c.args) with ordinality e(value, place)
    left join queue.chunk_ready w on w.chunk = c.id and e.place > w.lo and e.place <= w.lo + w.n
    left join queue.chunk_leases l on l.chunk = c.id and e.place > l.lo and e.place <= l.lo + l.n
    left join queue.chunk_attempts a on a.chunk = c.id and e.place > a.lo and e.place <= a.lo + a.n and not e.place - 1 = any (a.others)
    where coalesce(w.chunk, l.chunk, a.chunk) is not null
      and not exists (select from queue.jobs j where j.id = queue.job_at(c.id, e.place::integer - 1));

create view pgflow.job_attempts as
    select a.*, 'legacy'::text as dataset_id from queue.job_attempts a
    union all
    select t.token, queue.job_at(t.chunk, p), 1, t.started_at, t.finished_at, t.status, null, null,
           least(extract(epoch from t.finished_at - t.started_at) * 1000, 2147483647)::integer, t.worker, null, 'legacy'
    from (select chunk, token, lo, n, started_at, null::timestamptz as finished_at, 'running' as status, worker, '{}'::integer[] as others
          from queue.chunk_leases
          union all
          select chunk, token, lo, n, started_at, finished_at, 'succeeded', worker, others from queue.chunk_attempts) t
    cross join lateral generate_series(t.lo, t.lo + t.n - 1) p
    where p <> all (t.others) and not (t.status = 'running' and exists (select from queue.jobs j where j.id = queue.job_at(t.chunk, p)));

create view pgflow.queue_policies as select * from queue.queue_policies;
create view pgflow.policy_decisions as select d.*, 'legacy'::text as dataset_id from queue.policy_decisions d;
create view pgflow.ingest_decisions as select * from queue.ingest_decisions;
create view pgflow.enqueue_rate_counters as select * from queue.enqueue_rate_counters;
create view pgflow.jobs_archive as
    select id, replay_of_job_id, queue, job_type, payload_json, run_at, status, priority, max_attempts, dlq_reason_code, dlq_at, created_at,
           updated_at, archived_at
    from queue.jobs_archive;

-- A producer's own row: what it leaves out is as queue.enqueue has it.
create function pgflow.insert_job() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if coalesce(new.status, 'queued') <> 'queued' then
        raise invalid_parameter_value using message = format('a new job is queued, not %s', new.status),
            hint = 'leave status out';
    end if;
    if exists (select from queue.find(new.id)) then
        raise unique_violation using message = format('there is a job %s already', new.id), hint = 'leave id out';
    end if;
    insert into queue.jobs (id, queue, job_type, payload_json, run_at, priority, max_attempts, replay_of_job_id, enqueued_by)
    values (coalesce(new.id, queue.new_id()), coalesce(new.queue, 'default'), new.job_type,
            queue.plain_args(new.queue, coalesce(new.payload_json, '{}')), coalesce(new.run_at, now()), coalesce(new.priority, 0),
            coalesce(new.max_attempts, (select t.max_attempts from queue.job_types t where t.job_type = new.job_type),
                     (select p.max_attempts from queue.queue_policies p where p.queue = coalesce(new.queue, 'default')), 25), new.replay_of_job_id, 'sql:' || session_user)
    returning id, queue, job_type, payload_json, run_at, status, priority, max_attempts, created_at, updated_at
    into new.id, new.queue, new.job_type, new.payload_json, new.run_at, new.status, new.priority, new.max_attempts, new.created_at, new.updated_at;
    perform queue.wake(null);
    return new;
end
$$;
create trigger insert_job instead of insert on pgflow.jobs for each row execute function pgflow.insert_job();

revoke all on all functions in schema pgflow from public;
-- A view calls functions with the rights of whoever reads it.
grant usage on schema queue to public;
grant execute on function queue.job_at(uuid, integer), queue.id_time(uuid), queue.request_at(text[], integer) to public;
grant select, insert, update, delete on all tables in schema pgflow to depot;
