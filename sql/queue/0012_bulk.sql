-- Many jobs at once, by what they have in common. What is meant is frozen first (upto): jobs that are made later are not in it.

-- Of the live jobs, and for a replay of the archive too, those in a state that the action is for. filter: {queue, type, status, code,
-- before, after}; before and after are about the making, whose time the id holds. Jobs of chunks are found by bulk_chunks: a cancel comes to
-- those that wait or run, which become rows for it, a replay to those that have succeeded.
create function queue.bulk_sql(action text, filter jsonb) returns text
language plpgsql immutable as $$
declare
    unknown text := (select min(k) from jsonb_object_keys(filter) k where k not in ('queue', 'type', 'status', 'code', 'before', 'after'));
    states  text[] := case action when 'retry' then '{dlq,canceled}' when 'replay' then '{succeeded,dlq,canceled}'
                                  when 'discard' then '{dlq}' when 'cancel' then '{queued,running}' end;
begin
    if states is null then
        perform queue.bad_option(format('there is no action %s', action), 'known: retry, replay, discard, cancel');
    elsif unknown is not null then
        perform queue.bad_option(format('there is no filter %s', unknown), 'known: queue, type, status, code, before, after');
    elsif not coalesce(filter ->> 'status' = any (states), true) then
        perform queue.bad_option(format('%s is not for jobs that are %s', action, filter ->> 'status'),
                                 format('%s is for jobs that are %s', action, array_to_string(states, ' or ')));
    end if;
    return case action when 'replay' then 'from (select * from queue.jobs union all select * from queue.jobs_archive) j' else 'from queue.jobs j' end
        || format(' where j.status = any (%L) and j.id > $1 and j.id < $2', case when filter ->> 'status' is null then states else array[filter ->> 'status'] end)
        || coalesce((select string_agg(format(' and j.%I %s %L', c.name, c.op, c.value), '')
                     from (values ('queue', '=', filter ->> 'queue'), ('job_type', '=', filter ->> 'type'),
                                  ('last_error_code', '=', filter ->> 'code'),
                                  ('id', '<', queue.first_id((filter ->> 'before')::timestamptz)::text),
                                  ('id', '>=', queue.first_id((filter ->> 'after')::timestamptz)::text)) c(name, op, value)
                     where c.value is not null), '');
end
$$;

-- Jobs of chunks that match and are no rows, by ranges, in order; a filter that bulk_sql has accepted. others: places that are not meant.
create function queue.bulk_chunks(action text, filter jsonb, since uuid, upto uuid, most integer default null)
    returns table (chunk uuid, lo integer, n integer, status text, others integer[])
language plpgsql stable as $$
#variable_conflict use_column
declare
    first uuid := greatest(queue.chunk_of(since), queue.first_id((filter ->> 'after')::timestamptz));
    ends  uuid := least(upto, queue.first_id((filter ->> 'before')::timestamptz));
begin
    if filter ->> 'code' is not null then
        return; -- none has had an error
    elsif action = 'cancel' then
        return query
        select r.* from (
            select w.chunk, w.lo, w.n, 'queued' as status, '{}'::integer[] as others from queue.chunk_ready w
            where w.chunk >= first and w.chunk < ends
              and (filter ->> 'queue' is null or w.queue = filter ->> 'queue') and (filter ->> 'type' is null or w.job_type = filter ->> 'type')
            union all
            select l.chunk, l.lo, l.n, 'running', queue.singled(l) from queue.chunk_leases l join queue.chunks c on c.id = l.chunk
            where l.chunk >= first and l.chunk < ends
              and (filter ->> 'queue' is null or l.queue = filter ->> 'queue') and (filter ->> 'type' is null or c.job_type = filter ->> 'type')) r
        where coalesce(filter ->> 'status', r.status) = r.status and r.n > cardinality(r.others) order by r.chunk, r.lo limit most;
    elsif action = 'replay' and coalesce(filter ->> 'status', 'succeeded') = 'succeeded' then
        return query
        select a.chunk, a.lo, a.n, 'succeeded', a.others from queue.chunk_attempts a join queue.chunks c on c.id = a.chunk
        where a.chunk >= first and a.chunk < ends
          and (filter ->> 'queue' is null or c.queue = filter ->> 'queue') and (filter ->> 'type' is null or c.job_type = filter ->> 'type')
          and a.n > cardinality(a.others) and queue.job_at(a.chunk, a.lo + a.n - 1) > since
        order by a.chunk, a.lo limit most;
    end if;
end
$$;

-- Before a cancel the first of them become rows, as many as it takes for `most` of them: those that wait, then those that run.
create function queue.bulk_rows(filter jsonb, since uuid, upto uuid, most integer) returns void
language plpgsql volatile as $$
declare
    found_ uuid[];
    one    uuid;
    r      queue.chunk_ready;
    l      queue.chunk_leases;
    made   bigint := 0;
begin
    found_ := array(select u.chunk from (select b.chunk, sum(sum(b.n - cardinality(b.others))) over (order by b.chunk) - sum(b.n) as before
                                         from queue.bulk_chunks('cancel', filter, since, upto, most) b group by b.chunk) u
                    where u.before < most order by u.chunk);
    foreach one in array found_ loop
        exit when made >= most or filter ->> 'status' = 'running';
        loop
            for r in delete from queue.chunk_ready w where w.chunk = one returning w.* loop
                made := made + queue.make_rows(r.chunk, r.lo, r.n);
            end loop;
            -- while this waited for a range, somebody may have parted it: the parts are seen by a new statement only
            exit when not exists (select from queue.chunk_ready w where w.chunk = one);
        end loop;
    end loop;
    for l in select o.* from queue.chunk_leases o where o.chunk = any (found_) and filter ->> 'status' is distinct from 'queued'
             order by o.token for no key update loop
        perform queue.single_out(l, array(select generate_series(l.lo, l.lo + l.n - 1)));
    end loop;
end
$$;

create function queue.bulk_count(action text, filter jsonb, upto uuid) returns bigint
language plpgsql stable as $$
declare
    least constant uuid := '00000000-0000-0000-0000-000000000000';
    n     bigint;
begin
    execute 'select count(*) ' || queue.bulk_sql(action, filter) into n using least, upto;
    return n + (select coalesce(sum(c.n - cardinality(c.others)), 0) from queue.bulk_chunks(action, filter, least, upto) c);
end
$$;

-- The first ids above since; last: up to where nothing is left to do, null at the end.
create function queue.bulk_ids(action text, filter jsonb, since uuid, upto uuid, most integer, out ids uuid[], out last uuid)
language plpgsql volatile as $$
declare
    mine    uuid[];
    slipped uuid;
begin
    execute 'select array_agg(x.id order by x.id) from (select j.id ' || queue.bulk_sql(action, filter) || ' order by j.id limit $3'
        || case when action in ('replay', 'cancel') then '' else ' for no key update' end || ') x' into ids using since, upto, most;
    if action = 'replay' then
        ids := array(select u.id from (
            select unnest(ids) as id
            union all
            select s.id from queue.bulk_chunks(action, filter, since, upto, most + 1) c -- of the first all that is above since may be others
            cross join lateral (select queue.job_at(c.chunk, p) as id from generate_series(c.lo, c.lo + c.n - 1) p where p <> all (c.others)) s
            where s.id > since and s.id < upto) u order by u.id limit most);
        perform from queue.jobs j where j.id in (select d.job_id from queue.dependencies d where d.needs = any (ids)) order by j.id for update;
    elsif action = 'cancel' then
        -- in the order of results: what runs, then what waits for others. What can be claimed is waited for by nobody who holds any of these,
        -- and so waits for nobody: what somebody else has at this moment is left to the next piece.
        mine := array(select r.id from (select j.id from queue.jobs j where j.id = any (ids) and j.status = 'running' order by j.id for no key update) r);
        if exists (select from queue.dependencies) then
            perform queue.lock_dependents(array_agg((j.id, j.queue, null, null, 'canceled')::queue.ending),
                                          coalesce(array_agg(j.id) filter (where j.waits_for > 0), '{}'))
            from queue.jobs j where j.id = any (ids) and j.status = 'queued';
        end if;
        mine := mine || array(select w.id from (select j.id from queue.jobs j where j.id = any (ids) and j.status = 'queued'
                                                for no key update skip locked) w);
        slipped := (select j.id from queue.jobs j where j.id = any (ids) and j.id <> all (mine) and j.status in ('queued', 'running') order by j.id limit 1);
        last := case when slipped is null then ids[cardinality(ids)]
                     else (select coalesce((select i from unnest(ids) i where i < slipped order by i desc limit 1), since)) end;
        ids := array(select i from unnest(mine) i where i <= last order by i);
        return;
    end if;
    ids := coalesce(ids, '{}');
    last := ids[cardinality(ids)];
end
$$;

-- Dead or canceled jobs run again as themselves, with all their attempts anew. Their batch has counted them already. Where another
-- has their unique key by now they stay. Returns how many run again.
create function queue.retry(ids uuid[], actor text, request_id text) returns bigint
language plpgsql volatile as $$
declare
    one  uuid;
    done bigint := 0;
begin
    foreach one in array ids loop
        begin
            update queue.jobs set status = 'queued', run_at = clock_timestamp(), uncharged = attempts, dlq_reason_code = null, dlq_at = null,
                announced_at = null, cancel_requested_at = null, canceled_by = null, waits_for = 0, batch_id = null,
                updated_at = clock_timestamp()
            where id = one;
            insert into queue.events (job_id, kind, actor, request_id) values (one, 'Retried', actor, request_id);
            done := done + 1;
        exception when unique_violation then
            null;
        end;
    end loop;
    return done;
end
$$;

create function queue.discard(ids uuid[], actor text, request_id text) returns bigint
language plpgsql volatile as $$
begin
    update queue.jobs set status = 'canceled', canceled_by = actor, updated_at = clock_timestamp() where id = any (ids);
    insert into queue.events (job_id, kind, actor, request_id) select id, 'Discarded', actor, request_id from unnest(ids) id;
    return cardinality(ids);
end
$$;

-- One piece: at most `most` jobs with ids above since. seen: how many it came to; done: of these, changed; last: where to go on.
create function queue.bulk(action text, filter jsonb, since uuid, upto uuid, most integer, actor text, request_id text, from_node text,
                           out seen bigint, out done bigint, out last uuid)
language plpgsql volatile as $$
declare
    ids uuid[];
    one uuid;
    n   bigint;
begin
    if action = 'cancel' then
        perform queue.bulk_rows(filter, since, upto, most);
    end if;
    select b.ids, b.last into ids, last from queue.bulk_ids(action, filter, since, upto, most) b;
    seen := cardinality(ids);
    done := 0;
    if action = 'retry' and seen > 0 then
        done := queue.retry(ids, actor, request_id);
        perform queue.wake(from_node);
    elsif action = 'discard' and seen > 0 then
        done := queue.discard(ids, actor, request_id);
    elsif action = 'replay' then
        foreach one in array ids loop
            perform queue.replay(one, null, null, actor, request_id, from_node);
            done := done + 1;
        end loop;
    elsif action = 'cancel' and seen > 0 then
        update queue.jobs set cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()), canceled_by = coalesce(canceled_by, actor)
        where id = any (ids) and status = 'running';
        get diagnostics n = row_count;
        if n > 0 then
            perform pg_notify('depot_queue', 'cancel');
        end if;
        done := n + queue.cancel_waiting(ids, actor);
    end if;
end
$$;
