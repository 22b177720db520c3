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

-- The arguments, if the queue takes them as they are. Every door to queue.enqueue asks, but for the callback of a batch, which the end of a job
-- makes: that must not fail.
create function queue.fit_args(of_queue text, args jsonb) returns jsonb
language plpgsql stable as $$
begin
    if args -> '$encrypted' is null and exists (select from queue.queue_policies p where p.queue = coalesce(of_queue, 'default') and p.encrypt_args) then
        raise object_not_in_prerequisite_state using message = format('queue %s takes encrypted arguments only, and these are not', coalesce(of_queue, 'default')),
            hint = format('enqueue through a daemon with encrypt_args in its section [queue %s]: POST /jobs, depotctl job enqueue, depot.queue.enqueue', coalesce(of_queue, 'default'));
    end if;
    return args;
end
$$;

-- The same for what comes from outside: it cannot have been encrypted by a daemon.
create function queue.plain_args(of_queue text, args jsonb) returns jsonb
language plpgsql stable as $$
begin
    if args -> '$encrypted' is not null then
        raise invalid_parameter_value using message = 'arguments must not have a member $encrypted: it marks those that a daemon has encrypted';
    end if;
    return queue.fit_args(of_queue, args);
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

-- Many at once: an array of {queue, type, args, run_at, priority, max_attempts, key, actor, request_id, options}. Returns the ids in
-- that order. Those that differ in their arguments and requests alone become chunks; those with keys are made in the order of their keys, so
-- that two of these transactions wait for each other in one direction.
create function queue.enqueue_many(jobs jsonb, from_node text default null) returns uuid[]
language plpgsql volatile set jit = off set plan_cache_mode = force_generic_plan as $$
declare
    ids uuid[];
begin
    if exists (select from queue.queue_policies p where p.encrypt_args) then
        perform queue.fit_args(j ->> 'queue', coalesce(j -> 'args', '{}')) from jsonb_array_elements(jobs) j;
    end if;
    with given as materialized (
        select j.*, coalesce(j.asked_attempts, t.max_attempts, p.max_attempts, 25) as max_attempts,
               case when j.key is not null or j.options is not null then 'tied' when j.args -> '$encrypted' is not null then 'row' else 'place' end as becomes
        from (select e.place, coalesce(e.j ->> 'queue', 'default') as queue, e.j ->> 'type' as type, coalesce(e.j -> 'args', '{}') as args,
                     (e.j ->> 'run_at')::timestamptz as run_at, coalesce((e.j ->> 'priority')::integer, 0) as priority,
                     (e.j ->> 'max_attempts')::integer as asked_attempts, e.j ->> 'key' as key, e.j ->> 'actor' as actor,
                     e.j ->> 'request_id' as request_id, nullif(e.j -> 'options', 'null') as options
              from jsonb_array_elements(jobs) with ordinality e(j, place) offset 0) j
        left join queue.job_types t on t.job_type = j.type
        left join queue.queue_policies p on p.queue = j.queue
    ), alike as (
        select g.*, g.args::text as text, row_number() over w - 1 as number, sum(octet_length(g.args::text)) over w / 1048576 as megabyte
        from given g where g.becomes = 'place'
        window w as (partition by g.queue, g.type, g.run_at, g.priority, g.max_attempts, g.actor order by g.place)
    ), pieces as materialized (
        select queue.chunk_of(queue.new_id()) as id, a.queue, a.type, count(*)::integer as n, a.run_at, a.priority, a.max_attempts, a.actor,
               ('[' || string_agg(a.text, ',' order by a.place) || ']')::json as args,
               array_agg(a.request_id order by a.place) as request_ids, array_agg(a.place order by a.place) as places
        from alike a group by a.queue, a.type, a.run_at, a.priority, a.max_attempts, a.actor, a.megabyte, a.number / 1024
    ), chunks as (
        insert into queue.chunks (id, queue, job_type, n, args, run_at, priority, max_attempts, enqueued_by, request_ids)
        select c.id, c.queue, c.type, c.n, c.args, coalesce(c.run_at, queue.id_time(c.id)), c.priority, c.max_attempts, c.actor, c.request_ids
        from pieces c
    ), ready as (
        insert into queue.chunk_ready (chunk, lo, n, queue, job_type, rank, run_at)
        select c.id, 0, c.n, c.queue, c.type, -c.priority, coalesce(c.run_at, queue.id_time(c.id)) from pieces c
    ), made as (
        select u.place, queue.job_at(c.id, u.at::integer - 1) as id from pieces c cross join unnest(c.places) with ordinality u(place, at)
        union all
        select g.place, queue.enqueue(g.queue, g.type, g.args, g.run_at, g.priority, g.max_attempts, null, g.actor, g.request_id, from_node)
        from given g where g.becomes = 'row'
        union all
        select o.* from (select g.place, queue.enqueue(g.queue, g.type, g.args, g.run_at, g.priority, g.asked_attempts, g.key, g.actor, g.request_id,
                                                       from_node, null, g.options)
                         from given g where g.becomes = 'tied' order by g.key, g.options -> 'unique' ->> 'key', g.place) o
    )
    select array_agg(m.id order by m.place) into ids from made m;
    perform queue.wake(from_node);
    return coalesce(ids, '{}');
end
$$;

-- The same, each for itself: one that cannot be made has a SQLSTATE, message and hint in place of an id, and the others are made.
create function queue.enqueue_each(jobs jsonb, from_node text default null) returns table (id uuid, state text, message text, hint text)
language plpgsql volatile as $$
declare
    job jsonb;
begin
    for job in select e.value from jsonb_array_elements(jobs) with ordinality e order by e.ordinality loop
        id := null; state := null; message := null; hint := null;
        begin
            id := (queue.enqueue_many(jsonb_build_array(job), from_node))[1];
        exception when data_exception or integrity_constraint_violation or object_not_in_prerequisite_state then
            get stacked diagnostics state = returned_sqlstate, message = message_text, hint = pg_exception_hint;
        end;
        return next;
    end loop;
end
$$;

-- For producers: runs as the owner, so that a role needs no more than the right to execute it and usage of schema depot. Where
-- pg_temp is not named it comes first, and a caller's own type called uuid would run code as the owner.
create function depot.enqueue(queue text, type text, args jsonb default '{}', run_at timestamptz default null,
                              priority integer default 0, max_attempts integer default null, key text default null,
                              options jsonb default null) returns uuid
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select queue.enqueue(queue, type, queue.plain_args(queue, args), run_at, priority, max_attempts, key, 'sql:' || session_user, options => options)
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

-- An array of {queue, reason, details}.
create function queue.refuse(refusals jsonb) returns void
language sql volatile as $$
    insert into queue.ingest_decisions (queue, decision, reason_code, details_json)
    select r.queue, 'DENIED', r.reason, r.details from jsonb_to_recordset(refusals) as r(queue text, reason text, details jsonb)
$$;

-- A new job like an old one, of whatever state. null: there is none. Jobs that wait for the old one to succeed wait for the new.
-- A job in a chunk whose arguments are JSON's null has none here.
create function queue.replay(job uuid, to_queue text, at timestamptz, actor text, request_id text, from_node text) returns uuid
language plpgsql volatile as $$
#variable_conflict use_variable
declare
    made uuid;
begin
    select queue.enqueue(coalesce(to_queue, j.queue), j.job_type,
                         queue.fit_args(coalesce(to_queue, j.queue), coalesce(j.payload_json, 'null')), at, j.priority, j.max_attempts, null, actor,
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
