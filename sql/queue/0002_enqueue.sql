-- New jobs: from the daemon, from scripts, and from any SQL session in its own transaction (depot.enqueue).

-- Tells idle daemons. A notification costs a lock of the whole cluster at commit, so none is sent while all are busy: they
-- look again anyway when a job ends. from_node: the daemon that enqueues and wakes itself.
create function queue.wake(from_node text) returns void
language plpgsql volatile as $$
begin
    if exists (select from queue.dispatchers where idle_until > now() and node is distinct from from_node) then
        perform pg_notify('depot_queue', '');
    end if;
end
$$;

-- Returns the new job's id, or the id of the job that has this key already. Without max_attempts counts what the handler's file
-- says, else what the queue says, else 25. options: what else may be asked for, see queue.enqueue_with.
create function queue.enqueue(queue text, type text, args jsonb default '{}', run_at timestamptz default null,
                              priority integer default 0, max_attempts integer default null, key text default null,
                              actor text default null, request_id text default null, from_node text default null,
                              replay_of uuid default null, options jsonb default null) returns uuid
language plpgsql volatile as $$
#variable_conflict use_variable
declare
    new_id uuid := queue.new_id();
    known  uuid;
    made   queue.jobs;
begin
    while key is not null loop
        insert into queue.job_keys (key, job_id) values (key, new_id) on conflict do nothing;
        exit when found;
        select k.job_id into known from queue.job_keys k where k.key = enqueue.key;
        if known is not null then
            return known;
        end if; -- it was there, and has been deleted meanwhile
    end loop;
    max_attempts := coalesce(max_attempts, (select t.max_attempts from queue.job_types t where t.job_type = type),
                             (select p.max_attempts from queue.queue_policies p where p.queue = coalesce(enqueue.queue, 'default')), 25);
    if options is not null then
        made.id := new_id; made.queue := coalesce(queue, 'default'); made.job_type := type; made.payload_json := coalesce(args, '{}');
        made.run_at := coalesce(run_at, queue.id_time(new_id)); made.priority := coalesce(priority, 0); made.max_attempts := max_attempts;
        made.job_key := key; made.enqueued_by := actor; made.request_id := request_id; made.replay_of_job_id := replay_of;
        known := queue.enqueue_with(made, options);
        update queue.job_keys k set job_id = known where k.key = enqueue.key and known <> new_id; -- no job was made: another has its unique key
        perform queue.wake(from_node);
        return known;
    end if;
    insert into queue.jobs (id, queue, job_type, payload_json, run_at, priority, max_attempts, job_key, enqueued_by, request_id,
                            replay_of_job_id, created_at, updated_at)
    values (new_id, coalesce(queue, 'default'), type, coalesce(args, '{}'), coalesce(run_at, queue.id_time(new_id)),
            coalesce(priority, 0), max_attempts, key, actor, request_id, replay_of, queue.id_time(new_id), queue.id_time(new_id));
    perform queue.wake(from_node);
    return new_id;
end
$$;

-- Many at once: an array of {queue, type, args, run_at, priority, max_attempts, key, actor, options}. Returns the ids in that order.
create function queue.enqueue_many(jobs jsonb, from_node text default null) returns uuid[]
language plpgsql volatile as $$
declare
    ids uuid[];
begin
    with given as materialized (
        select r.*, queue.new_id() as id
        from rows from (jsonb_to_recordset(jobs) as (queue text, type text, args jsonb, run_at timestamptz, priority integer,
                                                     max_attempts integer, key text, actor text, options jsonb)) with ordinality
            as r(queue, type, args, run_at, priority, max_attempts, key, actor, options, place)
    ), made as (
        insert into queue.jobs (id, queue, job_type, payload_json, run_at, priority, max_attempts, enqueued_by, created_at, updated_at)
        select g.id, coalesce(g.queue, 'default'), g.type, coalesce(g.args, '{}'), coalesce(g.run_at, queue.id_time(g.id)),
               coalesce(g.priority, 0), coalesce(g.max_attempts, t.max_attempts, p.max_attempts, 25), g.actor,
               queue.id_time(g.id), queue.id_time(g.id)
        from given g left join queue.job_types t on t.job_type = g.type
        left join queue.queue_policies p on p.queue = coalesce(g.queue, 'default')
        where g.key is null and g.options is null order by g.place
    ), keyed as (
        select g.place, queue.enqueue(g.queue, g.type, g.args, g.run_at, g.priority, g.max_attempts, g.key, g.actor, null, from_node, null, g.options) as id
        from given g where g.key is not null or g.options is not null order by g.place
    )
    select array_agg(coalesce(k.id, g.id) order by g.place) into ids from given g left join keyed k using (place);
    perform queue.wake(from_node);
    return coalesce(ids, '{}');
end
$$;

-- For producers: runs as the owner, so that a role needs no more than the right to execute it and usage of schema depot. Where
-- pg_temp is not named it comes first, and a caller's own type called uuid would run code as the owner.
create function depot.enqueue(queue text, type text, args jsonb default '{}', run_at timestamptz default null,
                              priority integer default 0, max_attempts integer default null, key text default null,
                              options jsonb default null) returns uuid
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select queue.enqueue(queue, type, args, run_at, priority, max_attempts, key, 'sql:' || session_user, options => options)
$$;

-- A share of this minute's allowance: how many of `want` jobs may be enqueued, how many of it are taken by now, and how long
-- the minute lasts.
create function queue.take_rate(for_queue text, max_per_minute bigint, want bigint, out granted bigint, out total bigint,
                                out left_ms bigint)
language plpgsql volatile as $$
declare
    minute timestamptz := date_trunc('minute', clock_timestamp());
begin
    insert into queue.enqueue_rate_counters (queue, window_start, count) values (for_queue, minute, 0) on conflict do nothing;
    select count into total from queue.enqueue_rate_counters where queue = for_queue and window_start = minute for update;
    granted := greatest(0, least(want, max_per_minute - total));
    total := total + granted;
    update queue.enqueue_rate_counters set count = total where queue = for_queue and window_start = minute and granted > 0;
    left_ms := extract(epoch from minute + interval '1 minute' - clock_timestamp()) * 1000;
end
$$;

create function queue.refuse(of_queue text, reason text, details jsonb) returns void
language sql volatile as $$
    insert into queue.ingest_decisions (queue, decision, reason_code, details_json) values (of_queue, 'DENIED', reason, details)
$$;

-- A new job like an old one, of whatever state. null: there is none. Jobs that wait for the old one to succeed wait for the new.
-- A job in a chunk whose arguments are JSON's null has none here.
create function queue.replay(job uuid, to_queue text, at timestamptz, actor text, request_id text, from_node text) returns uuid
language plpgsql volatile as $$
#variable_conflict use_variable
declare
    made uuid;
begin
    select queue.enqueue(coalesce(to_queue, j.queue), j.job_type, coalesce(j.payload_json, 'null'), at, j.priority, j.max_attempts, null, actor,
                         request_id, from_node, j.id, queue.own_options(j))
    into made from queue.find(job) j;
    update queue.dependencies d set needs = made, checked = false
    where d.needs = job and made is not null
      and exists (select from queue.jobs w where w.id = d.job_id and w.status = 'queued' and w.on_dependency_failure = 'wait')
      and exists (select from queue.find(job) o where o.status in ('dlq', 'canceled'));
    return made;
end
$$;

-- A job that waits is canceled at once. One that runs is told to end, and ends as canceled unless it succeeds first. Returns its
-- state afterwards, `canceling` for one that runs; null: there is none.
create function queue.cancel(job uuid, actor text) returns text
language plpgsql volatile as $$
declare
    was text;
begin
    for i in 1 .. 3 loop -- a job of a chunk may be taken, or given back, between one look and the next
        exit when exists (select from queue.jobs j where j.id = job) or queue.single(job) or queue.single_running(job);
    end loop;
    select j.status into was from queue.jobs j where j.id = job for no key update;
    if was = 'queued' then
        perform queue.cancel_waiting(array[job], actor);
        return 'canceled';
    elsif was = 'running' then
        update queue.jobs set cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()), canceled_by = coalesce(canceled_by, actor)
        where id = job;
        perform pg_notify('depot_queue', 'cancel');
        return 'canceling';
    end if;
    return (select j.status from queue.find(job) j);
end
$$;

-- Jobs that wait and whose rows the caller has locked. Returns how many.
create function queue.cancel_waiting(ids uuid[], actor text) returns bigint
language plpgsql volatile as $$
declare
    ended queue.ending[];
begin
    with gone as (
        update queue.jobs set status = 'canceled', canceled_by = actor, key_held = false, updated_at = clock_timestamp()
        where id = any (ids) and status = 'queued' returning id, queue, concurrency_key, batch_id, 'canceled' as status
    ), counted as (
        insert into queue.tally (queue, canceled) select queue, count(*) from gone group by queue
    )
    select array_agg((id, queue, concurrency_key, batch_id, status)::queue.ending order by id) into ended from gone;
    perform queue.after_end(ended);
    return coalesce(cardinality(ended), 0);
end
$$;

revoke all on all functions in schema queue from public;
revoke all on function depot.enqueue(text, text, jsonb, timestamptz, integer, integer, text, jsonb) from public;
grant execute on all functions in schema queue to depot;
grant execute on function depot.enqueue(text, text, jsonb, timestamptz, integer, integer, text, jsonb) to depot;
