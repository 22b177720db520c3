-- Many jobs at once, by what they have in common. What is meant is frozen first (upto): jobs that are made later are not in it.

-- Of the live jobs, and for a replay of the archive too, those in a state that the action is for. filter: {queue, type, status, code,
-- before, after}; before and after are about the making, whose time the id holds. Jobs of chunks: a cancel comes to those that wait, which
-- become rows for it; ranges that run, and those that have succeeded in their chunk, are not looked at.
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

-- Chunks with jobs that wait and match; a filter that bulk_sql has accepted.
create function queue.bulk_chunks(filter jsonb, since uuid, upto uuid) returns table (chunk uuid, n bigint)
language plpgsql stable as $$
begin
    return query
    select w.chunk, sum(w.n) from queue.chunk_ready w
    where w.chunk >= queue.chunk_of(since) and w.chunk < upto
      and coalesce(filter ->> 'status', 'queued') = 'queued' and filter ->> 'code' is null
      and (filter ->> 'queue' is null or w.queue = filter ->> 'queue') and (filter ->> 'type' is null or w.job_type = filter ->> 'type')
      and (filter ->> 'before' is null or w.chunk < queue.first_id((filter ->> 'before')::timestamptz))
      and (filter ->> 'after' is null or w.chunk >= queue.first_id((filter ->> 'after')::timestamptz))
    group by w.chunk order by w.chunk;
end
$$;

-- Of those the first become rows, as many as it takes for `most` of them.
create function queue.bulk_rows(filter jsonb, since uuid, upto uuid, most integer) returns void
language plpgsql volatile as $$
declare
    one   uuid;
    r     queue.chunk_ready;
    made  bigint := 0;
begin
    for one in select c.chunk from queue.bulk_chunks(filter, since, upto) c loop
        exit when made >= most;
        loop
            for r in delete from queue.chunk_ready w where w.chunk = one returning w.* loop
                made := made + queue.make_rows(r.chunk, r.lo, r.n);
            end loop;
            -- while this waited for a range, somebody may have parted it: the parts are seen by a new statement only
            exit when not exists (select from queue.chunk_ready w where w.chunk = one);
        end loop;
    end loop;
end
$$;

create function queue.bulk_count(action text, filter jsonb, upto uuid) returns bigint
language plpgsql stable as $$
declare
    n bigint;
begin
    execute 'select count(*) ' || queue.bulk_sql(action, filter) into n using '00000000-0000-0000-0000-000000000000'::uuid, upto;
    return n + case when action = 'cancel' then (select coalesce(sum(c.n), 0) from queue.bulk_chunks(filter, '00000000-0000-0000-0000-000000000000', upto) c)
                    else 0 end;
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
begin
    if action = 'cancel' then
        perform queue.bulk_rows(filter, since, upto, most);
    end if;
    execute 'select array_agg(x.id order by x.id) from (select j.id ' || queue.bulk_sql(action, filter) || ' order by j.id limit $3'
        || case action when 'replay' then '' else ' for no key update' end || ') x' into ids using since, upto, most;
    seen := coalesce(cardinality(ids), 0);
    last := ids[seen];
    done := 0;
    if action = 'retry' and seen > 0 then
        done := queue.retry(ids, actor, request_id);
        perform queue.wake(from_node);
    elsif action = 'discard' and seen > 0 then
        done := queue.discard(ids, actor, request_id);
    elsif action = 'replay' then
        foreach one in array coalesce(ids, '{}') loop
            perform queue.replay(one, null, null, actor, request_id, from_node);
            done := done + 1;
        end loop;
    elsif action = 'cancel' and seen > 0 then
        update queue.jobs set cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()), canceled_by = coalesce(canceled_by, actor)
        where id = any (ids) and status = 'running';
        if found then
            perform pg_notify('depot_queue', 'cancel');
        end if;
        perform queue.cancel_waiting(ids, actor);
        done := seen;
    end if;
end
$$;
