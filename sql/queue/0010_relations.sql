-- What ties jobs to others: keys of which only one may be there, jobs that wait for jobs, batches with a callback.

create function queue.has_ended(status text) returns boolean
language sql immutable as $$
    select status in ('succeeded', 'dlq', 'canceled')
$$;

-- What a job was given of its own, as options of queue.enqueue.
create function queue.own_options(j queue.jobs) returns jsonb
language sql immutable as $$
    select nullif(jsonb_strip_nulls(jsonb_build_object('timeout_ms', j.timeout_ms, 'concurrency_key', j.concurrency_key,
        'backoff', nullif(jsonb_strip_nulls(jsonb_build_object('base_ms', j.backoff_base_ms, 'max_ms', j.backoff_max_ms,
                                                              'jitter', j.backoff_jitter)), '{}'))), '{}')
$$;

create function queue.bad_option(what text, how text default null) returns void
language plpgsql as $$
begin
    raise invalid_parameter_value using message = what, hint = coalesce(how, '');
end
$$;

-- The job that has a unique key already; null: nobody has, and `made` has it now, but for scopes that the row itself claims.
create function queue.claim_unique(made queue.jobs, u jsonb) returns uuid
language plpgsql volatile as $$
declare
    scope  text := coalesce(u ->> 'scope', 'active');
    period bigint := (u ->> 'period_ms')::bigint;
    span   bigint := floor(extract(epoch from queue.id_time(made.id)) * 1000 / greatest(period, 1));
    known  uuid;
begin
    loop
        if scope = 'period' then
            insert into queue.period_keys (key, period_ms, number, job_id, ends_at)
            values (u ->> 'key', period, span, made.id, timestamptz 'epoch' + (span + 1) * period * interval '1 millisecond')
            on conflict do nothing;
        else
            insert into queue.job_keys (key, job_id) values (u ->> 'key', made.id) on conflict do nothing;
        end if;
        if found then
            return null;
        end if;
        select k.job_id into known from queue.job_keys k where scope = 'forever' and k.key = u ->> 'key'
        union all
        select k.job_id from queue.period_keys k where scope = 'period' and k.key = u ->> 'key' and k.period_ms = period and k.number = span;
        if known is not null then
            return known;
        end if; -- it was there, and has been deleted meanwhile
    end loop;
end
$$;

create function queue.check_unique(u jsonb) returns void
language plpgsql immutable as $$
begin
    if jsonb_typeof(u) <> 'object' or coalesce(length(u ->> 'key'), 0) not between 1 and 512 then
        perform queue.bad_option('unique must be an object with a key of 1 to 512 characters');
    elsif coalesce(u ->> 'scope', 'active') not in ('queued', 'active', 'period', 'forever') then
        perform queue.bad_option(format('unique.scope is %s; it must be queued, active, period or forever', u ->> 'scope'));
    elsif (u ->> 'scope' = 'period') <> (u ? 'period_ms') or (u ->> 'period_ms')::bigint <= 0 then
        perform queue.bad_option('unique.period_ms must be above 0 with scope period, and absent with others');
    elsif coalesce(u ->> 'on_conflict', 'existing') not in ('existing', 'reject') then
        perform queue.bad_option(format('unique.on_conflict is %s; it must be existing or reject', u ->> 'on_conflict'));
    end if;
end
$$;

-- Makes the row, or gives the id of the job that has its unique key.
create function queue.insert_unique(made queue.jobs, u jsonb) returns uuid
language plpgsql volatile as $$
declare
    known uuid;
begin
    perform queue.check_unique(u);
    if u ->> 'scope' in ('period', 'forever') then
        known := queue.claim_unique(made, u);
        if known is null then
            insert into queue.jobs values (made.*);
            return made.id;
        end if;
    else
        made.unique_key := u ->> 'key';
        made.unique_scope := coalesce(u ->> 'scope', 'active');
        loop
            insert into queue.jobs values (made.*) on conflict do nothing;
            if found then
                return made.id;
            end if;
            select j.id into known from queue.jobs j
            where j.unique_key = made.unique_key and j.unique_scope = made.unique_scope
              and (j.status = 'queued' or (j.status = 'running' and made.unique_scope = 'active'));
            exit when known is not null; -- else it has ended meanwhile
        end loop;
    end if;
    if u ->> 'on_conflict' = 'reject' then
        raise unique_violation using message = format('job %s has the unique key %s already', known, u ->> 'key'),
            hint = 'on_conflict = "existing" gives its id instead';
    end if;
    return known;
end
$$;

-- Sets what the jobs in `after` mean for a new job; returns those that it waits for.
create function queue.set_after(inout made queue.jobs, after uuid[], out needs uuid[])
language plpgsql volatile as $$
declare
    d record;
begin
    needs := '{}';
    for d in select a.id, j.status from (select distinct unnest(after) as id) a left join lateral queue.find(a.id) j on true loop
        if d.status is null then
            perform queue.bad_option(format('there is no job %s to wait for', d.id), 'enqueue what comes first first');
        elsif not queue.has_ended(d.status) or (d.status <> 'succeeded' and made.on_dependency_failure = 'wait') then
            needs := needs || d.id;
        elsif d.status <> 'succeeded' and made.on_dependency_failure = 'cancel' then
            made.status := 'canceled';
            made.canceled_by := 'job:' || d.id;
        end if;
    end loop;
    if made.status = 'canceled' then
        needs := '{}';
        insert into queue.tally (queue, canceled) values (made.queue, 1);
    end if;
    made.waits_for := cardinality(needs);
end
$$;

-- options: unique {key, scope: queued (until it is begun) | active (until it ends; default) | period (one in each span of period_ms)
-- | forever, on_conflict: existing (default) | reject}; backoff {base_ms, max_ms, jitter}; timeout_ms; concurrency_key; after
-- [ids]; on_dependency_failure cancel (default) | run | wait; batch. made: everything else.
create function queue.enqueue_with(made queue.jobs, options jsonb) returns uuid
language plpgsql volatile as $$
declare
    unknown text := (select min(k) from jsonb_object_keys(options) k where k not in ('unique', 'backoff', 'timeout_ms', 'concurrency_key',
                                                                                     'after', 'on_dependency_failure', 'batch'));
    tied    record;
    needs   uuid[] := '{}';
    id      uuid;
begin
    if unknown is not null then
        perform queue.bad_option(format('there is no option %s', unknown), 'known: unique, backoff, timeout_ms, concurrency_key, after, on_dependency_failure');
    end if;
    if options ? 'batch' and not exists (select from queue.batches b where b.id = (options ->> 'batch')::uuid and b.total = 0 and b.ended_at is null) then
        perform queue.bad_option(format('batch %s is complete', options ->> 'batch'), 'jobs come into a batch by depot.batch alone');
    end if;
    made.status := 'queued'; made.attempts := 0; made.uncharged := 0; made.key_held := false; made.waits_for := 0;
    made.created_at := queue.id_time(made.id); made.updated_at := made.created_at;
    made.timeout_ms := options ->> 'timeout_ms'; made.concurrency_key := options ->> 'concurrency_key'; made.batch_id := options ->> 'batch';
    made.backoff_base_ms := options #>> '{backoff,base_ms}'; made.backoff_max_ms := options #>> '{backoff,max_ms}';
    made.backoff_jitter := options #>> '{backoff,jitter}';
    if options ? 'after' then
        made.on_dependency_failure := coalesce(options ->> 'on_dependency_failure', 'cancel');
        select * into tied from queue.set_after(made, array(select jsonb_array_elements_text(options -> 'after'))::uuid[]);
        made := tied.made;
        needs := tied.needs;
    end if;
    if options -> 'unique' is not null and options -> 'unique' <> 'null' then
        id := queue.insert_unique(made, options -> 'unique');
    else
        insert into queue.jobs values (made.*);
        id := made.id;
    end if;
    if id = made.id then
        insert into queue.dependencies (job_id, needs) select id, unnest(needs);
    end if;
    return id;
end
$$;

-- ---- what the end of a job means for others ----

-- Locks the jobs that wait for those that ended, and those that would be canceled with them, in order: each wave locks in order, but
-- the waves of two transactions could meet crosswise. also: others that wait for jobs.
create function queue.lock_dependents(ended queue.ending[], also uuid[] default '{}') returns void
language plpgsql volatile as $$
begin
    perform from queue.jobs j
    where j.id in (
        with recursive fate(id, falls) as (
            select d.job_id, e.status in ('dlq', 'canceled') and w.on_dependency_failure = 'cancel'
            from unnest(ended) e join queue.dependencies d on d.needs = e.id join queue.jobs w on w.id = d.job_id
            union
            select d.job_id, w.on_dependency_failure = 'cancel'
            from fate f join queue.dependencies d on d.needs = f.id join queue.jobs w on w.id = d.job_id where f.falls
        ) select id from fate union all select unnest(also))
    order by j.id for update;
end
$$;

-- Jobs that wait for those that ended: one less to wait for, or canceled with it, and theirs in turn. Returns the canceled ones.
-- A dependency that is committed before the caller locked the job that ended is seen here; of any other tend_dependencies sees that
-- the job has ended. Deleting its row is what settles it, so that it is settled once.
create function queue.release_dependents(ended queue.ending[]) returns queue.ending[]
language plpgsql volatile as $$
declare
    wave     queue.ending[] := array(select e from unnest(ended) e where queue.has_ended(e.status));
    canceled queue.ending[];
    all_of   queue.ending[] := '{}';
begin
    while cardinality(wave) > 0 loop
        perform queue.lock_dependents(wave);
        with settled as (
            delete from queue.dependencies d using unnest(wave) w, queue.jobs j
            where d.needs = w.id and j.id = d.job_id and (w.status = 'succeeded' or j.on_dependency_failure = 'run') returning d.job_id
        )
        update queue.jobs j set waits_for = greatest(0, j.waits_for - s.n)
        from (select job_id, count(*) as n from settled group by job_id) s where j.id = s.job_id;
        if found then
            perform queue.wake(null);
        end if;
        with hit as (
            select d.job_id, min(d.needs::text) as needs from queue.dependencies d join unnest(wave) w on w.id = d.needs group by d.job_id
        ), gone as (
            update queue.jobs j set status = 'canceled', canceled_by = 'job:' || h.needs, key_held = false, updated_at = clock_timestamp()
            from hit h where j.id = h.job_id and j.status = 'queued' and j.on_dependency_failure = 'cancel'
            returning j.id, j.queue, j.concurrency_key, j.batch_id, j.status
        ), counted as (
            insert into queue.tally (queue, canceled) select queue, count(*) from gone group by queue
        )
        select array_agg((g.id, g.queue, g.concurrency_key, g.batch_id, g.status)::queue.ending order by g.id) into canceled from gone g;
        wave := coalesce(canceled, '{}');
        all_of := all_of || wave;
    end loop;
    delete from queue.dependencies d using unnest(ended || all_of) e where d.job_id = e.id and queue.has_ended(e.status);
    return all_of;
end
$$;

-- Each batch of which jobs ended: counted, and its callback made when none is left. The batch's row is locked, so that this
-- happens once.
create function queue.count_batches(ended queue.ending[]) returns void
language plpgsql volatile as $$
declare
    b queue.batches;
begin
    for b in select x.* from queue.batches x where x.id in (select e.batch_id from unnest(ended) e where queue.has_ended(e.status))
             order by x.id for update loop
        update queue.batches x
        set succeeded = x.succeeded + n.succeeded, dlq = x.dlq + n.dlq, canceled = x.canceled + n.canceled
        from (select count(*) filter (where e.status = 'succeeded') as succeeded, count(*) filter (where e.status = 'dlq') as dlq,
                     count(*) filter (where e.status = 'canceled') as canceled from unnest(ended) e where e.batch_id = b.id) n
        where x.id = b.id;
        perform queue.end_batch(b.id);
    end loop;
end
$$;

create function queue.end_batch(batch uuid) returns void
language plpgsql volatile as $$
declare
    b queue.batches;
begin
    select * into b from queue.batches x where x.id = batch and x.ended_at is null and x.succeeded + x.dlq + x.canceled >= x.total;
    if not found then
        return;
    end if;
    update queue.batches x
    set ended_at = clock_timestamp(), callback_job_id = case when b.callback is not null then
            queue.enqueue(b.callback ->> 'queue', b.callback ->> 'type', jsonb_build_object(
                'batch', jsonb_build_object('id', b.id, 'total', b.total, 'succeeded', b.succeeded, 'dlq', b.dlq, 'canceled', b.canceled),
                'args', coalesce(b.callback -> 'args', '{}')), actor => 'batch:' || b.id) end
    where x.id = batch;
end
$$;

-- Everything that follows from jobs that stopped running or will not run: callers have locked their rows. Once in a transaction, so that
-- all take locks in one order: ranges that wait, leases of ranges, jobs, jobs that wait for them, keys, batches, policies, limits.
create function queue.after_end(ended queue.ending[]) returns void
language plpgsql volatile as $$
begin
    if ended is null then
        return;
    end if;
    if exists (select from queue.dependencies) then
        ended := ended || queue.release_dependents(ended);
    end if;
    if exists (select from unnest(ended) e where e.concurrency_key is not null) then
        perform queue.release_keys(ended);
    end if;
    if exists (select from unnest(ended) e where e.batch_id is not null) then
        perform queue.count_batches(ended);
    end if;
end
$$;

-- Jobs that others wait for, of ranges that have ended.
create function queue.needed_of(ends queue.range_end[]) returns queue.ending[]
language plpgsql stable as $$
begin
    if cardinality(ends) = 0 or not exists (select from queue.dependencies) then
        return null;
    end if;
    return (select array_agg(distinct (d.needs, e.queue, null, null, 'succeeded')::queue.ending)
            from unnest(ends) e join queue.chunk_attempts a on a.chunk = e.chunk and a.token = e.token
            join queue.dependencies d on d.needs >= queue.job_at(e.chunk, a.lo) and d.needs <= queue.job_at(e.chunk, a.lo + a.n - 1)
            where e.outcome = 'succeeded' and queue.place_of(d.needs) <> all (a.others));
end
$$;

-- New dependencies, once: whoever ended the job just before did not see them. Returns how many it looked at.
create function queue.tend_dependencies(most integer default 1000) returns bigint
language plpgsql volatile as $$
declare
    needed uuid[];
    sure   queue.ending[];
    n      bigint;
begin
    needed := array(select distinct d.needs from (select x.needs from queue.dependencies x where not x.checked limit most) d);
    if cardinality(needed) = 0 then
        return 0;
    end if;
    perform queue.single(s.u) from (select u from unnest(needed) u where exists (select from queue.chunk_ready w where w.chunk = queue.chunk_of(u))
                                    order by u) s;
    needed := array(select j.id from (select j.id from queue.jobs j where j.id = any (needed) order by j.id for update skip locked) j
                    union select u from unnest(needed) u where exists (select from queue.jobs_archive a where a.id = u)
                    -- a job that runs in a range is looked at again: it may end before this commits
                    union select u from unnest(needed) u, queue.chunk_jobs(queue.chunk_of(u), queue.place_of(u), queue.place_of(u), false) c
                    where c.status = 'succeeded');
    select array_agg((j.id, j.queue, j.concurrency_key, null, j.status)::queue.ending) into sure
    from unnest(needed) u cross join lateral queue.find(u) j;
    perform queue.lock_dependents(sure);
    update queue.dependencies d set checked = true where d.needs = any (needed) and not d.checked;
    get diagnostics n = row_count;
    perform queue.after_end(array(select (e.id, e.queue, null, null, e.status)::queue.ending from unnest(sure) e where queue.has_ended(e.status)));
    return n;
end
$$;

-- ---- batches ----

-- jobs: as queue.enqueue_many takes them; callback: {queue, type, args}, enqueued once when all have ended. Returns {batch_id, job_ids}.
create function queue.make_batch(jobs jsonb, callback jsonb, actor text, from_node text default null) returns json
language plpgsql volatile as $$
declare
    batch uuid := queue.new_id();
    ids   uuid[];
begin
    if coalesce(jsonb_array_length(jobs), 0) = 0 then
        perform queue.bad_option('a batch needs at least one job');
    elsif callback is not null and coalesce(callback ->> 'type', '') !~ '\S' then
        perform queue.bad_option('the callback of a batch needs a type');
    end if;
    if callback is not null then
        perform queue.fit_args(callback ->> 'queue', '{}'); -- what it gets is put together here, where nothing can be encrypted
    end if;
    insert into queue.batches (id, total, callback, created_by) values (batch, 0, callback, actor);
    ids := queue.enqueue_many((select jsonb_agg(j || jsonb_build_object('options', coalesce(nullif(j -> 'options', 'null'), '{}')
                                                                                   || jsonb_build_object('batch', batch)) order by place)
                               from jsonb_array_elements(jobs) with ordinality as x(j, place)), from_node);
    update queue.batches b set total = n.total, canceled = n.canceled
    from (select count(*) as total, count(*) filter (where j.status = 'canceled') as canceled
          from queue.jobs j where j.id = any (ids) and j.batch_id = batch) n
    where b.id = batch;
    perform queue.end_batch(batch);
    return json_build_object('batch_id', batch, 'job_ids', ids);
end
$$;

create function queue.batch(of_id uuid) returns json
language sql stable as $$
    select json_build_object('id', b.id, 'total', b.total, 'open', b.total - b.succeeded - b.dlq - b.canceled, 'succeeded', b.succeeded,
        'dlq', b.dlq, 'canceled', b.canceled, 'callback', b.callback, 'callback_job_id', b.callback_job_id, 'created_by', b.created_by,
        'created_at', queue.iso(b.created_at), 'ended_at', queue.iso(b.ended_at))
    from queue.batches b where b.id = of_id
$$;

-- For producers, as depot.enqueue.
create function depot.batch(jobs jsonb, callback jsonb default null) returns json
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select queue.make_batch((select jsonb_agg(j || jsonb_build_object('args', queue.plain_args(j ->> 'queue', coalesce(j -> 'args', '{}')))
                                              order by place) from jsonb_array_elements(jobs) with ordinality x(j, place)),
                            callback, 'sql:' || session_user)
$$;
