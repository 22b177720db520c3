-- Jobs that ended go to the archive after a while, their history later still. In pieces: whoever calls goes on while a piece was full.

-- How far what is done in the order of time has come.
create table queue.progress (
    what text primary key,
    upto timestamptz not null
);

-- States and queues that have something that ended, by index.
create function queue.ended_groups() returns table (queue text, status text)
language sql stable as $$
    with recursive g(queue, status) as (
        (select j.queue, j.status from queue.jobs j where j.status in ('succeeded', 'dlq', 'canceled') order by j.queue, j.status limit 1)
        union all
        select x.* from g cross join lateral (
            select j.queue, j.status from queue.jobs j where j.status in ('succeeded', 'dlq', 'canceled')
               and (j.queue, j.status) > (g.queue, g.status) order by j.queue, j.status limit 1) x
    )
    select * from g
$$;

-- keep_ms: {succeeded, canceled, dlq}: how long they stay, where their queue does not say; null: for good. A dead job stays until it has
-- been announced. Returns how many went.
create function queue.archive(keep_ms jsonb, most integer default 5000) returns bigint
language plpgsql volatile set enable_seqscan = off set jit = off as $$
declare
    ids     uuid[];
    columns text := (select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
                     where attrelid = 'queue.jobs'::regclass and attnum > 0 and not attisdropped and attname <> 'archived_at');
begin
    ids := array(
        select o.id
        from queue.ended_groups() g left join queue.queue_policies p on p.queue = g.queue
        cross join lateral (select coalesce(case g.status when 'succeeded' then p.keep_succeeded_ms when 'canceled' then p.keep_canceled_ms
                                                          else p.keep_dlq_ms end, (keep_ms ->> g.status)::bigint) as ms) k
        cross join lateral (select j.id from queue.jobs j
                            where j.status in ('succeeded', 'dlq', 'canceled') and j.queue = g.queue and j.status = g.status
                              and j.updated_at < now() - k.ms * interval '1 millisecond' and (j.status <> 'dlq' or j.announced_at is not null)
                            order by j.updated_at limit most for update skip locked) o
        limit most);
    if cardinality(ids) > 0 then
        execute format('with gone as (delete from queue.jobs where id = any ($1) returning *)
            insert into queue.jobs_archive (%1$s, archived_at) select %1$s, clock_timestamp() from gone', columns) using ids;
    end if;
    return cardinality(ids);
end
$$;

-- The history of jobs that have been in the archive for history_ms, then the archive itself after archive_ms; null: never.
-- Returns how many jobs it came to.
create function queue.prune(history_ms bigint, archive_ms bigint, most integer default 5000) returns bigint
language plpgsql volatile set enable_seqscan = off set jit = off as $$
declare
    since timestamptz := coalesce((select p.upto from queue.progress p where p.what = 'prune history'), '-infinity');
    ids   uuid[];
    gone  uuid[];
    last  timestamptz;
begin
    select array_agg(a.id), max(a.archived_at) into ids, last
    from (select j.id, j.archived_at from queue.jobs_archive j
          where j.archived_at > since and j.archived_at < now() - history_ms * interval '1 millisecond'
          order by j.archived_at fetch first most rows with ties) a;
    if ids is not null then
        delete from queue.attempts a where a.job_id = any (ids);
        delete from queue.policy_decisions d where d.job_id = any (ids);
        delete from queue.late_results r where r.job_id = any (ids);
        delete from queue.events e where e.job_id = any (ids);
        delete from queue.checkpoints c where c.job_id = any (ids);
        delete from queue.job_progress g where g.job_id = any (ids);
        insert into queue.progress (what, upto) values ('prune history', last)
        on conflict (what) do update set upto = excluded.upto;
    end if;
    gone := array(select j.id from queue.jobs_archive j where j.archived_at < now() - archive_ms * interval '1 millisecond'
                  order by j.archived_at limit most);
    if cardinality(gone) > 0 then
        delete from queue.attempts a where a.job_id = any (gone);
        delete from queue.late_results r where r.job_id = any (gone);
        delete from queue.events e where e.job_id = any (gone);
        delete from queue.checkpoints c where c.job_id = any (gone);
        delete from queue.job_progress g where g.job_id = any (gone);
        delete from queue.job_keys k using queue.jobs_archive j where j.id = any (gone) and k.key = j.job_key and k.job_id = j.id;
        delete from queue.jobs_archive j where j.id = any (gone);
    end if;
    delete from queue.period_keys where ends_at < now();
    delete from queue.tokens t using queue.limits l
    where l.name = t.name and t.subject <> '' and t.at < now() - greatest(60, l.burst / l.per_second) * interval '1 second'; -- full again
    return greatest(coalesce(cardinality(ids), 0), cardinality(gone));
end
$$;

-- The history of jobs that stayed in chunks: what was kept beside them so long ago. Of rows it goes with them. null: never.
create function queue.prune_places(older interval) returns void
language plpgsql volatile set enable_seqscan = off set jit = off as $$
declare
    since timestamptz := coalesce((select p.upto from queue.progress p where p.what = 'prune places'), timestamptz 'epoch');
    until timestamptz := now() - older;
begin
    if until > since then
        delete from queue.checkpoints c where c.at >= since and c.at < until and not queue.is_row(c.job_id);
        delete from queue.job_progress g where g.at >= since and g.at < until and not queue.is_row(g.job_id);
        delete from queue.late_results r where r.at >= since and r.at < until and not queue.is_row(r.job_id);
        update queue.chunk_attempts a set logs = null where a.finished_at < until and a.logs is not null;
        insert into queue.progress (what, upto) values ('prune places', until) on conflict (what) do update set upto = excluded.upto;
    end if;
end
$$;

-- ---- partitions ----

-- Partitions of queue.chunks and queue.chunk_attempts with the moments between which their ids were made.
create function queue.partitions() returns table (parent text, name text, since timestamptz, upto timestamptz)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select p.relname, c.relname, queue.id_time((b.bound)[1]::uuid), queue.id_time((b.bound)[2]::uuid)
    from pg_inherits i join pg_class p on p.oid = i.inhparent join pg_class c on c.oid = i.inhrelid
    cross join lateral (select regexp_match(pg_get_expr(c.relpartbound, c.oid), $e$FROM \('([^']+)'\) TO \('([^']+)'\)$e$) as bound) b
    where i.inhparent in ('queue.chunks'::regclass, 'queue.chunk_attempts'::regclass) and b.bound is not null
$$;

-- Where a partition ends that begins at `since`. A statement that does not know its chunk's id beforehand locks all partitions there are, so
-- they are to be few: the longer they are kept, the longer each one is.
create function queue.partition_end(since timestamp, keep interval) returns timestamp
language sql immutable as $$
    select case when keep <= interval '60 days' then date_trunc('day', since) + interval '1 day'
                when keep <= interval '400 days' then date_trunc('week', since) + interval '1 week'
                else date_trunc('month', since) + interval '1 month' end
$$;

-- Makes those of a table that are missing from yesterday until the day after tomorrow is over. False: not now.
create function queue.make_partitions(of_parent text, keep interval) returns boolean
language plpgsql volatile as $$
declare
    today timestamp := date_trunc('day', now() at time zone 'UTC');
    since timestamp := greatest(today - interval '1 day', (select max(p.upto) at time zone 'UTC' from queue.partitions() p where p.parent = of_parent));
    upto  timestamp;
begin
    while since < today + interval '3 days' loop
        upto := queue.partition_end(since, keep);
        begin
            execute format('create table queue.%1$s_%2$s partition of queue.%1$s for values from (%3$L) to (%4$L)', of_parent,
                           to_char(since, 'YYYYMMDD'), queue.first_id(since at time zone 'UTC'), queue.first_id(upto at time zone 'UTC'));
        exception
            when check_violation then
                upto := since + interval '1 day'; -- *_rest holds some of that time already: they stay there together
            when lock_not_available then
                return false;
        end;
        since := upto;
    end loop;
    return true;
end
$$;

-- Makes partitions ahead, and drops those whole of which all ended more than `keep` ago, with nothing left that waits or runs. As the owner:
-- the daemon's role may not. It needs the tables for itself for a moment, and everybody would stand in line behind one that waits: it does not
-- wait, the next call tries again.
create function queue.keep_partitions(keep interval) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms' as $$
declare
    old   record;
    since uuid;
    upto  uuid;
begin
    if not pg_try_advisory_xact_lock(7233176823643) or not queue.make_partitions('chunks', keep)
       or not queue.make_partitions('chunk_attempts', keep) then
        return;
    end if;
    for old in select * from queue.partitions() p where p.upto < now() - keep order by p.parent desc, p.upto loop -- chunks first
        since := queue.first_id(old.since);
        upto := queue.first_id(old.upto);
        if not exists (select from queue.chunk_ready r where r.chunk >= since and r.chunk < upto)
           and not exists (select from queue.chunk_leases l where l.chunk >= since and l.chunk < upto)
           and not exists (select from queue.chunk_attempts a where a.chunk >= since and a.chunk < upto and a.finished_at > now() - keep) then
            begin
                delete from queue.checkpoints c where c.job_id >= since and c.job_id < upto and not queue.is_row(c.job_id);
                delete from queue.job_progress g where g.job_id >= since and g.job_id < upto and not queue.is_row(g.job_id);
                execute format('drop table queue.%I', old.name);
            exception when lock_not_available then
                return;
            end;
        end if;
    end loop;
end
$$;
select queue.keep_partitions('1 day');

-- ---- all of it ----

-- One piece of both; one daemon at a time. null: another is at it. Jobs that stayed in chunks are not moved: their partitions go whole, when
-- rows would have left the archive, of the queue that keeps longest.
create function queue.maintain(keep_ms jsonb, history_ms bigint, archive_ms bigint, most integer default 5000, out archived bigint,
                               out pruned bigint)
language plpgsql volatile as $$
declare
    longest bigint;
begin
    if pg_try_advisory_xact_lock(7233176823643) then
        archived := queue.archive(keep_ms, most);
        pruned := queue.prune(history_ms, archive_ms, most);
        longest := greatest((keep_ms ->> 'succeeded')::bigint, (select max(p.keep_succeeded_ms) from queue.queue_policies p));
        perform queue.prune_places((longest + history_ms) * interval '1 millisecond');
        perform queue.keep_partitions(coalesce((longest + archive_ms) * interval '1 millisecond', '1000 years'));
    end if;
end
$$;
