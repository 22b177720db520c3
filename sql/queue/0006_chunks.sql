-- Jobs made in bulk (see queue.chunks): made, leased and ended by ranges; one that goes its own way becomes a row of queue.jobs.

-- ---- making ----

-- args: a JSON array, one job each. Returns the ids of the chunks, in order; job i of a chunk has the id queue.job_at(chunk, i). A chunk
-- holds 1024 jobs, or as many as have a megabyte of arguments. request_ids: of all, or, of at most one chunk, of each.
create function queue.enqueue_chunks(queue text, type text, args json, run_at timestamptz default null, priority integer default 0,
                                     max_attempts integer default null, actor text default null, request_ids text[] default null,
                                     from_node text default null) returns uuid[]
language plpgsql volatile set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_variable
declare
    in_queue text := coalesce(queue, 'default');
    tries    integer := coalesce(max_attempts, (select t.max_attempts from queue.job_types t where t.job_type = type),
                                 (select p.max_attempts from queue.queue_policies p where p.queue = in_queue), 25);
    ids      uuid[];
begin
    if json_typeof(args) <> 'array' then
        raise exception 'the arguments of jobs in bulk are one array, this is of type %', json_typeof(args) using errcode = '22023';
    end if;
    perform queue.fit_args(in_queue, '{}'); -- a daemon encrypts job by job: those are never made in bulk here
    if args::text ~ '\\u|\$encrypted|[0-9][eE][+-]?[0-9]{3}|[0-9]{255}' then
        -- jsonb has no place for some characters and numbers and says so: here, as no job of them could ever become a row
        perform queue.plain_args(in_queue, e) from jsonb_array_elements(args::jsonb) e where e -> '$encrypted' is not null;
    end if;
    with pieces as materialized (
        select queue.chunk_of(queue.id_at(clock_timestamp())) as id, p.n, p.list
        from (select args as list, json_array_length(args) as n
              where json_array_length(args) between 1 and 1024 and length(args::text) <= 1048576
              union all
              select * from (select ('[' || string_agg(s.value, ',' order by s.place) || ']')::json, count(*)::integer
                             from (select e.value::text as value, e.place,
                                          sum(length(e.value::text)) over (order by e.place) / 1048576 as megabyte
                                   from json_array_elements(args) with ordinality e(value, place)
                                   where json_array_length(args) > 1024 or length(args::text) > 1048576) s
                             group by s.megabyte, (s.place - 1) / 1024 order by min(s.place)) g) p
    ), made as (
        insert into queue.chunks (id, queue, job_type, n, args, run_at, priority, max_attempts, enqueued_by, request_ids)
        select p.id, in_queue, type, p.n, p.list, coalesce(run_at, queue.id_time(p.id)), coalesce(priority, 0), tries, actor, request_ids
        from pieces p
    ), ready as (
        insert into queue.chunk_ready (chunk, lo, n, queue, job_type, rank, run_at)
        select p.id, 0, p.n, in_queue, type, -coalesce(priority, 0), coalesce(run_at, queue.id_time(p.id)) from pieces p
    )
    select array_agg(p.id order by p.id) into ids from pieces p;
    perform queue.wake(from_node);
    return coalesce(ids, '{}');
end
$$;

-- For producers, as depot.enqueue: in the caller's own transaction, as the owner.
create function depot.enqueue_many(queue text, type text, args json, run_at timestamptz default null, priority integer default 0,
                                   max_attempts integer default null) returns uuid[]
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select queue.enqueue_chunks(queue, type, args, run_at, priority, max_attempts, 'sql:' || session_user)
$$;
create function depot.job_at(chunk uuid, place integer) returns uuid
language sql immutable security definer set search_path = pg_catalog, pg_temp as $$ select queue.job_at(chunk, place) $$;

-- ---- taking ----

-- Of queues and types that have a rate limit?
create function queue.is_rated(of_queue text, of_type text) returns boolean
language plpgsql stable as $$
begin
    return exists (select from queue.limits r where (r.on_kind = 'queue' and r.on_name = of_queue) or (r.on_kind = 'type' and r.on_name = of_type));
end
$$;

-- The best rank of due chunks that could be taken now. Jobs that are rows and rank behind it wait for them. In PL/pgSQL, as all that is
-- called for each claim: its plans are kept, those of SQL functions are made anew each time. rated: as in take_ranges.
create function queue.best_chunk(of_queues text[], names text[], patterns text[], limited text[], budget integer[],
                                 rated boolean default null) returns integer
language plpgsql volatile set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
    heads queue.head[] := queue.chunk_heads();
begin
    if heads = '{}' then
        return null;
    end if;
    return (
        select min(g.rank) from unnest(heads) g
        left join queue.queue_policies p on p.queue = g.queue
        left join unnest(limited, budget) b(queue, left_over) on b.queue = g.queue
        where (of_queues is null or g.queue = any (of_queues)) and not coalesce(p.paused, false) and coalesce(b.left_over, 1) > 0
          and (g.job_type = any (names) or g.job_type like any (patterns))
          and (rated is null or rated = queue.is_rated(g.queue, g.job_type))
          and not exists (select from queue.limits l where ((l.on_kind = 'queue' and l.on_name = g.queue)
                                                            or (l.on_kind = 'type' and l.on_name = g.job_type)) and queue.tokens_now(l, '') < 1)
          and exists (select from queue.chunk_ready d where d.queue = g.queue and d.job_type = g.job_type and d.rank = g.rank
                      and (d.run_at, d.chunk) >= (g.run_at, g.id) and d.run_at <= clock_timestamp()));
end
$$;

-- Takes ranges of the best rank out of what waits: at most `ranges` of them with `jobs` jobs together, within the limits of their
-- queues. What is not taken of the last one waits on. rated: only of queues and types that have a rate limit, or only of others. paced, most:
-- job types, and how many jobs of each one range is to have at most; others: the same for all that are not among them; part: that number. A
-- range of more is cut into as many.
create function queue.take_ranges(of_queues text[], types text[], ranges integer, jobs bigint, rated boolean default null,
                                  paced text[] default '{}', most integer[] default '{}', others integer default 1024)
    returns table (chunk uuid, lo integer, n integer, queue text, part integer)
language plpgsql volatile set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
#variable_conflict use_column
declare
    names    text[] := array(select t from unnest(types) t where t !~ '[*?]');
    patterns text[] := array(select queue.glob_like(t) from unnest(types) t where t ~ '[*?]');
    limited  text[];
    budget   integer[];
    heads    queue.head[] := queue.chunk_heads();
    best     integer;
    cuts     bigint := 0;
    moment   timestamptz;
begin
    if heads = '{}' then
        return;
    end if;
    select b.queues, b.left_over into limited, budget from queue.budgets(of_queues, least(jobs, 2147483647)::integer) b;
    best := queue.best_chunk(of_queues, names, patterns, limited, budget, rated);
    moment := clock_timestamp();
    for chunk, lo, n, queue, part in
    with open as materialized (
        select g.*, coalesce(b.budget, jobs) as budget, coalesce(s.part, others) as part
        from unnest(heads) g
        left join unnest(paced, most) s(job_type, part) on s.job_type = g.job_type
        left join queue.queue_policies p on p.queue = g.queue
        left join unnest(limited, budget) b(queue, budget) on b.queue = g.queue
        where g.rank = best and (of_queues is null or g.queue = any (of_queues)) and not coalesce(p.paused, false) and coalesce(b.budget, 1) > 0
          and (g.job_type = any (names) or g.job_type like any (patterns))
          and (rated is null or rated = queue.is_rated(g.queue, g.job_type))
    ), due as materialized (
        select d.*, o.budget, o.part from open o cross join lateral (
            select r.chunk, r.lo, r.n, r.queue, r.run_at from queue.chunk_ready r
            where r.queue = o.queue and r.job_type = o.job_type and r.rank = best and (r.run_at, r.chunk) >= (o.run_at, o.id) and r.run_at <= moment
            order by r.run_at, r.chunk, r.lo limit ranges for update skip locked) d
    ), placed as (
        select d.*, sum((d.n + d.part - 1) / d.part) over w - (d.n + d.part - 1) / d.part as cut, sum(d.n) over w - d.n as before,
               sum(d.n) over (partition by d.queue order by d.run_at, d.chunk, d.lo) - d.n as before_in_queue
        from due d window w as (order by d.run_at, d.chunk, d.lo)
    ), chosen as (
        select p.chunk, p.lo, p.n, p.queue, p.part,
               least(p.n, jobs - p.before, p.budget - p.before_in_queue, p.part * (ranges - p.cut))::integer as take
        from placed p where p.cut < ranges and p.before < jobs and p.before_in_queue < p.budget
    ), whole as (
        delete from queue.chunk_ready r using chosen c where r.chunk = c.chunk and r.lo = c.lo and r.n = c.n and c.take = c.n
        returning c.chunk, c.lo, c.take, c.queue, c.part
    ), parted as (
        update queue.chunk_ready r set lo = r.lo + c.take, n = r.n - c.take from chosen c
        where r.chunk = c.chunk and r.lo = c.lo and r.n = c.n and c.take < c.n
        returning c.chunk, c.lo, c.take, c.queue, c.part
    )
    -- from what was written, not from what was chosen: a range that somebody split since this statement began is locked by us in
    -- its new shape and not found in its old one
    select * from whole union all select * from parted
    loop
        cuts := cuts + (n + part - 1) / part;
        return next;
    end loop;
    perform queue.advance_chunks(cuts >= ranges);
end
$$;

-- The arguments of n jobs of a chunk from `first` on, as arrays of `part` jobs each.
create function queue.args_of(c queue.chunks, first integer, n integer, part integer) returns table (lo integer, args text)
language plpgsql stable as $$
#variable_conflict use_variable
begin
    if n = c.n and part >= n then
        return query select first, c.args::text;
        return;
    end if;
    return query select min(e.place)::integer - 1, '[' || string_agg(e.value::text, ',' order by e.place) || ']'
                 from json_array_elements(c.args) with ordinality e(value, place)
                 where e.place > first and e.place <= first + n group by (e.place - 1 - first) / part;
end
$$;

-- Ranges with a lease each; paced, most, others: as in take_ranges. args: of the jobs in the range.
-- Looks its chunks up by index, as the plan may be older than what is in the tables.
create function queue.claim_chunks(worker text, queues text[], types text[], ranges integer, jobs bigint, lease interval,
                                   paced text[] default '{}', most integer[] default '{}', others integer default 1024)
    returns table (id uuid, token uuid, lo integer, n integer, queue text, job_type text, args text, max_attempts integer, lease_ms bigint,
                   timeout_ms bigint)
language plpgsql volatile set jit = off set plan_cache_mode = force_generic_plan set enable_seqscan = off
    set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
begin
    if ranges <= 0 then
        return;
    end if;
    return query
    with taken as materialized (
        select t.*, coalesce(p.lease_ms * interval '1 millisecond', lease) as lease, p.timeout_ms
        from queue.take_ranges(queues, types, ranges, jobs, false, paced, most, others) t left join queue.queue_policies p on p.queue = t.queue
    ), leased as (
        insert into queue.chunk_leases (token, chunk, lo, n, queue, worker, started_at, expires_at)
        select gen_random_uuid(), t.chunk, p, least(t.part, t.lo + t.n - p), t.queue, worker, clock_timestamp(), clock_timestamp() + t.lease
        from taken t cross join generate_series(t.lo, t.lo + t.n - 1, t.part) p
        returning *
    ), counted as (
        insert into queue.tally (queue, started) select l.queue, sum(l.n) from leased l group by l.queue
    )
    select l.chunk, l.token, l.lo, l.n, l.queue, c.job_type, a.args, c.max_attempts,
           (extract(epoch from l.expires_at - l.started_at) * 1000)::bigint, t.timeout_ms::bigint
    from taken t join queue.chunks c on c.id = t.chunk cross join lateral queue.args_of(c, t.lo, t.n, t.part) a
    join leased l on l.chunk = t.chunk and l.lo = a.lo order by c.run_at, l.chunk, l.lo;
end
$$;

-- As queue.claim_chunks, single jobs of a queue that may take any number of them: nothing is locked that somebody else may hold for long.
create function queue.claim_at_once(worker text, of_queue text, types text[], jobs integer, lease interval)
    returns table (id uuid, token uuid, lo integer, n integer, queue text, job_type text, args text, max_attempts integer, lease_ms bigint,
                   timeout_ms bigint)
language plpgsql volatile as $$
begin
    if not exists (select from queue.queue_policies p where p.queue = of_queue
                   and (p.paused or p.max_in_flight is not null or p.max_attempts_per_minute is not null)) then
        return query select * from queue.claim_chunks(worker, array[of_queue], types, jobs, jobs, lease, others => 1);
    end if;
end
$$;

-- Due rows of a queue and type that rank no worse than `rank`; at most `most`. Steps over their ranks, so that what is for later costs nothing.
create function queue.rows_due(heads queue.head[], of_queue text, of_type text, worst integer, most integer) returns bigint
language plpgsql stable set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
begin
    return (
        select count(*) from (
            select from unnest(heads) r cross join lateral (
                select from queue.jobs j where j.status = 'queued' and j.waits_for = 0 and not j.key_held and j.queue = of_queue
                and j.job_type = of_type and -j.priority = r.rank and (j.run_at, j.id) >= (r.run_at, r.id)
                and j.run_at <= clock_timestamp() limit most) d
            where r.queue = of_queue and r.job_type = of_type and r.rank <= worst limit most) c);
end
$$;

-- Jobs of a chunk become rows that wait. The caller has taken their places out of chunk_ready.
create function queue.make_rows(of_chunk uuid, first integer, places integer) returns bigint
language plpgsql volatile set jit = off as $$
declare
    made bigint;
begin
    insert into queue.jobs (id, queue, job_type, payload_json, run_at, priority, max_attempts, enqueued_by, request_id, created_at, updated_at)
    select queue.job_at(c.id, e.place::integer - 1), c.queue, c.job_type, e.value, c.run_at, c.priority, c.max_attempts, c.enqueued_by,
           queue.request_at(c.request_ids, e.place::integer - 1), queue.id_time(c.id), clock_timestamp()
    from queue.chunks c cross join lateral json_array_elements(c.args) with ordinality e(value, place)
    where c.id = of_chunk and e.place > first and e.place <= first + places;
    get diagnostics made = row_count;
    return made;
end
$$;

create function queue.unpack_some(of_queues text[], types text[], jobs integer) returns bigint
language plpgsql volatile as $$
begin
    return (select coalesce(sum(queue.make_rows(t.chunk, t.lo, t.n)), 0) from queue.take_ranges(of_queues, types, jobs, jobs) t);
end
$$;

-- When a claim of rows is to look further: jobs of chunks where a rate limit must be counted one by one become rows, until of each queue and type `jobs` rows
-- wait that rank with what is left of its chunks. Each for itself: rows of others may be paused, held back by a limit or of less weight, and
-- must not keep what could run from becoming rows.
create function queue.unpack(of_queues text[], types text[], jobs integer) returns bigint
language plpgsql volatile set enable_seqscan = off set enable_bitmapscan = off set jit = off
    set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    names    text[] := array(select t from unnest(types) t where t !~ '[*?]');
    patterns text[] := array(select queue.glob_like(t) from unnest(types) t where t ~ '[*?]');
    chunks   queue.head[];
    rows     queue.head[];
    waiting  record; -- a queue, a type, the best rank of its due chunks
    wanted   bigint;
    moved    bigint := 0;
begin
    if not exists (select from queue.limits r where r.on_kind <> 'key') then
        return 0;
    end if;
    chunks := queue.chunk_heads();
    if chunks = '{}' then
        return 0;
    end if;
    rows := queue.row_heads();
    perform queue.budgets(of_queues, jobs); -- locks all policies, in order: not one after the other as the queues come
    for waiting in
        select g.queue, g.job_type, min(g.rank) as rank from unnest(chunks) g
        where (of_queues is null or g.queue = any (of_queues)) and (g.job_type = any (names) or g.job_type like any (patterns))
          and queue.is_rated(g.queue, g.job_type)
          and exists (select from queue.chunk_ready d where d.queue = g.queue and d.job_type = g.job_type and d.rank = g.rank
                      and (d.run_at, d.chunk) >= (g.run_at, g.id) and d.run_at <= clock_timestamp())
        group by g.queue, g.job_type order by g.queue, g.job_type
    loop
        wanted := jobs - queue.rows_due(rows, waiting.queue, waiting.job_type, waiting.rank, jobs);
        if wanted > 0 then
            moved := moved + queue.unpack_some(array[waiting.queue], array[waiting.job_type], wanted::integer);
        end if;
    end loop;
    return moved;
end
$$;

-- Has it a row of its own, here or in the archive?
create function queue.is_row(job uuid) returns boolean
language plpgsql stable as $$
begin
    return exists (select from queue.jobs j where j.id = job) or exists (select from queue.jobs_archive a where a.id = job);
end
$$;

-- A job that waits in a chunk becomes a row. False: it does not wait there.
create function queue.single(job uuid) returns boolean
language plpgsql volatile as $$
declare
    r queue.chunk_ready;
    p integer := queue.place_of(job);
begin
    loop
        delete from queue.chunk_ready w where w.chunk = queue.chunk_of(job) and p between w.lo and w.lo + w.n - 1 returning * into r;
        exit when found;
        -- while this waited for it, somebody may have parted the range: the parts are new rows, which only a new statement sees
        if not exists (select from queue.chunk_ready w where w.chunk = queue.chunk_of(job) and p between w.lo and w.lo + w.n - 1) then
            return false;
        end if;
    end loop;
    insert into queue.chunk_ready (chunk, lo, n, queue, job_type, rank, run_at)
    select r.chunk, s.lo, s.n, r.queue, r.job_type, r.rank, r.run_at
    from (values (r.lo, p - r.lo), (p + 1, r.lo + r.n - p - 1)) s(lo, n) where s.n > 0;
    insert into queue.jobs (id, queue, job_type, payload_json, run_at, priority, max_attempts, enqueued_by, request_id, created_at, updated_at)
    select job, c.queue, c.job_type, c.args -> p, c.run_at, c.priority, c.max_attempts, c.enqueued_by, queue.request_at(c.request_ids, p),
           queue.id_time(c.id), clock_timestamp()
    from queue.chunks c where c.id = r.chunk;
    return true;
end
$$;

-- ---- ending ----

-- Jobs of a lease become rows that run under its token, so that whatever ends an attempt of a row ends theirs. Some may be rows already.
create function queue.single_out(l queue.chunk_leases, places integer[]) returns void
language sql volatile as $$
    insert into queue.jobs (id, queue, job_type, payload_json, run_at, status, priority, max_attempts, attempts, lease_token, locked_at, locked_by,
                            lock_expires_at, enqueued_by, request_id, created_at, updated_at)
    select queue.job_at(c.id, e.place::integer - 1), c.queue, c.job_type, e.value, c.run_at, 'running', c.priority, c.max_attempts, 1, l.token,
           l.started_at, l.worker, l.expires_at, c.enqueued_by, queue.request_at(c.request_ids, e.place::integer - 1), queue.id_time(c.id),
           clock_timestamp()
    from queue.chunks c cross join lateral json_array_elements(c.args) with ordinality e(value, place)
    where c.id = l.chunk and e.place - 1 = any (places) on conflict (id) do nothing
$$;

-- The lease as it was, which is none any more; null: it was none. Jobs that are cut off may hold it in transactions that have not ended yet,
-- and nobody waits for these: then it stays as one of no jobs, until the reaper finds it free.
create function queue.end_lease(of_token uuid, is_free boolean) returns queue.chunk_leases
language plpgsql volatile as $$
declare
    l queue.chunk_leases;
begin
    if is_free then
        delete from queue.chunk_leases d where d.token = of_token and d.n > 0 returning * into l;
        return l;
    end if;
    select * into l from queue.chunk_leases d where d.token = of_token and d.n > 0 for no key update;
    delete from queue.chunk_leases d where d.token = (select o.token from queue.chunk_leases o where o.token = l.token for update skip locked);
    update queue.chunk_leases d set n = 0, expires_at = clock_timestamp() where d.token = l.token;
    return l;
end
$$;

-- A job that runs in a range becomes a row beside it, so that a cancel can be written down. Its attempt ends with the range's. False: it does
-- not run in one.
create function queue.single_running(job uuid) returns boolean
language plpgsql volatile as $$
declare
    l queue.chunk_leases;
begin
    select * into l from queue.chunk_leases o
    where o.chunk = queue.chunk_of(job) and queue.place_of(job) between o.lo and o.lo + o.n - 1 for no key update;
    if l.token is null then
        return false;
    end if;
    perform queue.single_out(l, array[queue.place_of(job)]);
    return true;
end
$$;

-- Places of a lease that are rows already, as somebody has canceled them; of a lease of no jobs none.
create function queue.singled(l queue.chunk_leases) returns integer[]
language plpgsql stable as $$
begin
    return array(select queue.place_of(j.id) from queue.jobs j
                 where l.n > 0 and j.id >= queue.job_at(l.chunk, l.lo) and j.id <= queue.job_at(l.chunk, l.lo + l.n - 1));
end
$$;

-- How many jobs of a lease came to which end; `late` when the lease was lost, `known` when this result had been accepted before and the
-- answer was lost.
create type queue.range_end as (token uuid, chunk uuid, queue text, outcome text, status text, n bigint);

-- What a range says of a lease that was held, written down; members as in queue.settle_ranges. single: what is left to say of jobs that are
-- rows, for queue.settle.
create function queue.settle_range(l queue.chunk_leases, busy_us bigint, results json, told jsonb, going integer[], released jsonb,
                                   logs json, out single jsonb, out given bigint, out succeeded bigint)
language plpgsql volatile set jit = off as $$
declare
    asked integer[] := queue.singled(l);
    rows  integer[] := '{}';
    back  integer[] := '{}';
begin
    single := '[]';
    if asked <> '{}' or told <> '[]' or going <> '{}' or released <> '[]' then
        rows := array(select unnest(asked || going) union select (o ->> 'at')::integer from jsonb_array_elements(told) o);
        perform queue.single_out(l, rows);
        back := array(select p from jsonb_to_recordset(released) as g(lo integer, n integer), generate_series(g.lo, g.lo + g.n - 1) p);
        single := (select coalesce(jsonb_agg(o || jsonb_build_object('job', queue.job_at(l.chunk, (o ->> 'at')::integer), 'token', l.token,
                                                                     'log', logs -> (o ->> 'at'))), '[]')
                   from jsonb_array_elements(told) o)
               || (select coalesce(jsonb_agg(jsonb_build_object('job', queue.job_at(l.chunk, p), 'token', l.token, 'outcome',
                                       case when p = any (back) then 'released' else 'succeeded' end, 'result', results -> (p - l.lo), 'log', logs -> p::text)), '[]')
                   from unnest(asked) p
                   where p <> all (going) and not exists (select from jsonb_array_elements(told) o where (o ->> 'at')::integer = p));
        logs := nullif(logs::jsonb - array(select r::text from unnest(rows) r), '{}');
        back := array(select b from unnest(back) b where b <> all (asked)); -- those that are to end do not wait again
        insert into queue.chunk_ready (chunk, lo, n, queue, job_type, rank, run_at)
        select l.chunk, min(b.place), count(*), l.queue, c.job_type, -c.priority, c.run_at
        from (select place, place - row_number() over (order by place) as island from unnest(back) place) b join queue.chunks c on c.id = l.chunk
        group by b.island, c.job_type, c.priority, c.run_at;
    end if;
    given := cardinality(back);
    succeeded := l.n - given - cardinality(rows);
    if l.n > given then
        insert into queue.chunk_attempts (chunk, lo, n, token, worker, started_at, finished_at, others, results, logs)
        values (l.chunk, l.lo, l.n, l.token, l.worker, l.started_at, clock_timestamp(), rows || back, results, logs);
    end if;
end
$$;

-- Nobody knows which jobs of a lease have ended: in the words of queue.settle. As in queue.lose_chunks.
create function queue.settle_lost(l queue.chunk_leases, why text, logs json) returns jsonb
language plpgsql volatile as $$
begin
    perform queue.single_out(l, array(select generate_series(l.lo, l.lo + l.n - 1)));
    return (select jsonb_agg(jsonb_build_object('job', queue.job_at(l.chunk, p), 'token', l.token, 'outcome', 'failed', 'code', 'WORKER_LOST',
                                                'message', why, 'log', logs -> p::text, 'uncharged', l.n > 1))
            from generate_series(l.lo, l.lo + l.n - 1) p);
end
$$;

-- ranges: [{token, chunk, busy_us, results, logs, others, going, released, lost}], one for each lease. results: an array of what handlers
-- returned, or null when none did. logs: {place: lines} of those that have logged. others: [{at, outcome …}], at: its place, the rest as in queue.finish. going: [place] that run on by
-- themselves: rows under the lease's token from here on. released: [{lo, n}] that were never begun. All that is in none of them has
-- succeeded. lost: why nothing is known of any of them.
create function queue.settle_ranges(ranges jsonb, out ends queue.range_end[], out single jsonb)
language plpgsql volatile set jit = off as $$
declare
    r     record;
    l     queue.chunk_leases;
    s     record;
    known boolean; -- accepted before, and the answer was lost
    busy  queue.range_end[] := '{}'; -- n: milliseconds
begin
    ends := '{}';
    single := '[]';
    for r in select * from jsonb_to_recordset(ranges) as x(token uuid, chunk uuid, busy_us bigint, results json, logs json, others jsonb,
                                                           going jsonb, released jsonb, lost text) order by x.token loop
        l := queue.end_lease(r.token, r.others is null and r.going is null and r.lost is null);
        if l.token is null then
            known := exists (select from queue.chunk_attempts a where a.chunk = r.chunk and a.token = r.token)
                     or (r.lost is not null and exists (select from queue.attempts t where t.job_id >= r.chunk
                                                        and t.job_id <= queue.job_at(r.chunk, 1023) and t.token = r.token));
            insert into queue.late_results (job_id, token, outcome) select r.chunk, r.token, 'chunk' where not known and r.busy_us > 0;
            ends := ends || (r.token, r.chunk, null, case when known then 'known' else 'late' end, null, 1)::queue.range_end;
        elsif r.lost is not null then
            single := single || queue.settle_lost(l, r.lost, r.logs);
        else
            select * into s from queue.settle_range(l, r.busy_us, r.results, coalesce(r.others, '[]'),
                                                    array(select g::integer from jsonb_array_elements_text(r.going) g), coalesce(r.released, '[]'), r.logs);
            single := single || s.single;
            busy := busy || (l.token, l.chunk, l.queue, null, null, coalesce(r.busy_us, 0) / 1000)::queue.range_end;
            ends := ends || array(select v::queue.range_end from (values (l.token, l.chunk, l.queue, 'succeeded', 'succeeded', s.succeeded),
                                                             (l.token, l.chunk, l.queue, 'released', 'queued', s.given)) v(a, b, c, d, e, n)
                                  where v.n > 0);
        end if;
    end loop;
    insert into queue.tally (queue, started, succeeded, latency_ms)
    select e.queue, -coalesce(sum(e.n) filter (where e.outcome = 'released'), 0), coalesce(sum(e.n) filter (where e.outcome = 'succeeded'), 0),
           coalesce(sum(e.n) filter (where e.outcome is null), 0)
    from unnest(ends || busy) e where e.queue is not null group by e.queue;
end
$$;

-- Leases whose worker is gone, locked by the caller, who tells queue.after_end what ended. Every job of them becomes a row, so that each is
-- leased by itself from here on and one that kills its worker is found. It is charged when it was the only one of its lease: of several
-- nobody can say which it was. Of a lease of no jobs (queue.end_lease) nothing is left.
create function queue.lose_chunks(tokens uuid[], why text, out lost bigint, out ended queue.ending[])
language plpgsql volatile set jit = off as $$
declare
    l queue.chunk_leases;
begin
    lost := 0;
    for l in delete from queue.chunk_leases d where d.token = any (tokens) returning d.* loop
        continue when l.n = 0;
        perform queue.single_out(l, array(select generate_series(l.lo, l.lo + l.n - 1)));
        ended := ended || queue.close_lost(array(select j.id from queue.jobs j where j.id >= queue.job_at(l.chunk, l.lo)
                                                    and j.id <= queue.job_at(l.chunk, l.lo + l.n - 1) and j.lease_token = l.token), why, l.n = 1);
        lost := lost + l.n;
    end loop;
end
$$;

-- Extends the leases; returns those that are lost. One that somebody changes right now is passed over, as in queue.heartbeat.
create function queue.heartbeat_chunks(tokens uuid[], lease interval) returns setof uuid
language plpgsql volatile set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off
    set enable_mergejoin = off as $$
begin
    return query
    with free as materialized (
        select f.token from queue.chunk_leases f where f.token = any (tokens) and f.n > 0 for no key update skip locked
    ), kept as (
        update queue.chunk_leases l set expires_at = clock_timestamp() + coalesce(p.lease_ms * interval '1 millisecond', lease)
        from free f join queue.chunk_leases o on o.token = f.token left join queue.queue_policies p on p.queue = o.queue
        where l.token = f.token
    )
    select t from unnest(tokens) t where not exists (select from queue.chunk_leases l where l.token = t and l.n > 0);
end
$$;

-- The leases of a worker: for one that cannot know whether its claim was committed.
create function queue.held_chunks(of_worker text, lease interval)
    returns table (id uuid, token uuid, lo integer, n integer, queue text, job_type text, args text, max_attempts integer, lease_ms bigint,
                   timeout_ms bigint)
language sql stable as $$
    select l.chunk, l.token, l.lo, l.n, l.queue, c.job_type, a.args, c.max_attempts,
           coalesce(p.lease_ms, (extract(epoch from lease) * 1000)::bigint), p.timeout_ms::bigint
    from queue.chunk_leases l join queue.chunks c on c.id = l.chunk cross join lateral queue.args_of(c, l.lo, l.n, l.n) a
    left join queue.queue_policies p on p.queue = l.queue
    where l.worker = of_worker and l.n > 0
$$;

revoke all on all functions in schema queue from public;
revoke all on function depot.enqueue_many(text, text, json, timestamptz, integer, integer), depot.job_at(uuid, integer) from public;
grant execute on all functions in schema queue to depot;
grant execute on function depot.enqueue_many(text, text, json, timestamptz, integer, integer), depot.job_at(uuid, integer) to depot;
