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

-- The history of jobs that stayed in chunks and were made so long ago: what is kept beside them. null: never.
create function queue.prune_places(older interval) returns void
language plpgsql volatile set enable_seqscan = off set jit = off as $$
declare
    since timestamptz := coalesce((select p.upto from queue.progress p where p.what = 'prune places'), timestamptz 'epoch');
    first uuid := queue.first_id(since);
    until uuid := queue.first_id(greatest(now() - older, since));
begin
    if until > first then
        delete from queue.checkpoints c where c.job_id >= first and c.job_id < until and not exists (select from queue.jobs j where j.id = c.job_id);
        delete from queue.job_progress g where g.job_id >= first and g.job_id < until and not exists (select from queue.jobs j where j.id = g.job_id);
        delete from queue.late_results r where r.job_id >= first and r.job_id < until and not exists (select from queue.jobs j where j.id = r.job_id);
        update queue.chunk_attempts a set logs = null where a.chunk >= first and a.chunk < until and a.logs is not null;
        insert into queue.progress (what, upto) values ('prune places', now() - older) on conflict (what) do update set upto = excluded.upto;
    end if;
end
$$;

-- One piece of both; one daemon at a time. null: another is at it. Jobs that stayed in chunks are not moved: their days go whole, when
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
