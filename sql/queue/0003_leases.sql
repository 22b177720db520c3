-- What dispatchers call: claim, finish, heartbeat, reap. Times are the database's; a lease is its token. All of it has plans for any arguments, as to
-- make one for those at hand takes longer than to use it; and joins by index alone, as a plan may be older than what is in the tables.

-- base, twice that, four times … at most `most`, give or take the share `jitter`; 2 s to 900 s and a fifth unless somebody says;
-- never more than a hundred years, as a job whose next time cannot be written could not end.
create function queue.backoff(attempt integer, base_ms bigint default null, most_ms bigint default null, jitter real default null)
    returns interval
language sql volatile as $$
    select least(m, least(m, b * 2 ^ least(greatest(attempt, 1) - 1, 30)) * (1 - j + 2 * j * random())) * interval '1 millisecond'
    from (select coalesce(base_ms, 2000)::double precision as b, least(coalesce(most_ms, 900000), 3155760000000)::double precision as m,
                 coalesce(jitter, 0.2)::double precision as j) x
$$;

create function queue.glob_like(glob text) returns text
language sql immutable as $$
    select translate(regexp_replace(glob, '([\\%_])', '\\\1', 'g'), '*?', '%_')
$$;

-- Each dispatcher at its start, and when its handlers change. Leases that the same state folder held before it was started
-- anew are over: nobody works on them. Returns how many of rows. handlers: [{type, max_attempts, handler}]
create function queue.hello(of_instance uuid, worker text, of_node text, of_queues text[], of_types text[], handlers jsonb)
    returns bigint
language plpgsql volatile as $$
declare
    before text;
    lost   uuid[];
begin
    select worker_id into before from queue.dispatchers where instance = of_instance for update;
    if before <> worker then
        select array_agg(id) into lost
        from (select r.id from queue.jobs r where r.status = 'running' and r.locked_by = before
                 and not exists (select from queue.chunk_leases l where l.token = r.lease_token) for update skip locked) j;
        perform queue.after_end(queue.close_lost(lost, 'the daemon that worked on it was started anew'));
        -- ranges may be a million jobs, too many for one statement: whoever reaps closes them bit by bit
        update queue.chunk_leases l set expires_at = '-infinity'
        where l.token in (select o.token from queue.chunk_leases o where o.worker = before for update skip locked);
    end if;
    insert into queue.dispatchers (instance, worker_id, node, queues, types) values (of_instance, worker, of_node, of_queues, of_types)
    on conflict (instance) do update set worker_id = excluded.worker_id, node = excluded.node, queues = excluded.queues,
        types = excluded.types, seen_at = now(), idle_until = null;
    insert into queue.job_types (job_type, max_attempts, handler)
    select h.type, h.max_attempts, h.handler from jsonb_to_recordset(handlers) as h(type text, max_attempts integer, handler text)
    on conflict (job_type) do update set max_attempts = excluded.max_attempts, handler = excluded.handler, seen_at = now();
    return coalesce(cardinality(lost), 0);
end
$$;

-- How many jobs of a queue are under way.
create function queue.running_in(of_queue text) returns bigint
language sql stable as $$
    select (select count(*) from queue.jobs j where j.status = 'running' and j.queue = of_queue)
         + (select coalesce(sum(l.n), 0) from queue.chunk_leases l where l.queue = of_queue)
$$;

-- How many of `n` jobs each limited queue may start now. Their rows stay locked until the claim commits, so that the
-- limits are hard under any number of daemons.
create function queue.budgets(worker_queues text[], n integer, out queues text[], out left_over integer[])
language plpgsql volatile as $$
begin
    if not exists (select from queue.queue_policies where max_in_flight is not null or max_attempts_per_minute is not null) then
        return;
    end if;
    perform from queue.queue_policies
    where (max_in_flight is not null or max_attempts_per_minute is not null) and (worker_queues is null or queue = any (worker_queues))
    order by queue for update;
    select array_agg(b.queue), array_agg(greatest(0, least(b.slots, b.rate))) into queues, left_over
    from (select p.queue,
                 coalesce(p.max_in_flight - queue.running_in(p.queue), n) as slots,
                 case when p.max_attempts_per_minute is null then n
                      else p.max_attempts_per_minute - (select coalesce(sum(t.started), 0) from queue.tally t
                           where t.queue = p.queue and t.at > clock_timestamp() - interval '1 minute') end as rate
          from queue.queue_policies p
          where (p.max_in_flight is not null or p.max_attempts_per_minute is not null)
            and (worker_queues is null or p.queue = any (worker_queues))) b;
end
$$;

-- Says once a minute of the job at the head of a throttled queue why it waits. Whether it has been said comes first: finding
-- the head costs as much as the queue is long.
create function queue.note_throttled(of_queues text[]) returns void
language plpgsql volatile as $$
begin
    insert into queue.policy_decisions (job_id, decision, reason_code, details_json)
    select h.id, 'THROTTLED', w.reason,
           jsonb_build_object('queue', p.queue, 'in_flight', w.running, 'max_in_flight', p.max_in_flight, 'attempts_last_minute', w.started,
                              'max_attempts_per_minute', p.max_attempts_per_minute, 'throttle_delay_ms', p.throttle_delay_ms)
    from (select q.* from queue.queue_policies q
          where q.queue = any (of_queues) and not q.paused
            and not exists (select from queue.policy_decisions d where d.id > (select queue.id_at(clock_timestamp() - interval '1 minute'))
                            and d.decision = 'THROTTLED' and d.details_json ->> 'queue' = q.queue)
          offset 0) p
    cross join lateral (
        select o.id from (
            (select j.id, -j.priority as rank, j.run_at from queue.jobs j where j.status = 'queued' and j.waits_for = 0 and not j.key_held
                and j.queue = p.queue and j.run_at <= clock_timestamp() order by j.priority desc, j.run_at, j.id limit 1)
            union all
            (select queue.job_at(r.chunk, r.lo), r.rank, r.run_at from queue.chunk_ready r
             where r.queue = p.queue and r.run_at <= clock_timestamp() order by r.rank, r.run_at, r.chunk, r.lo limit 1)) o
        order by o.rank, o.run_at limit 1) h
    cross join lateral (
        select s.running, s.started, case when s.running >= p.max_in_flight then 'IN_FLIGHT_EXCEEDED'
                                                when s.started >= p.max_attempts_per_minute then 'RETRY_RATE_EXCEEDED' end as reason
        from (select queue.running_in(p.queue) as running,
                     (select coalesce(sum(t.started), 0) from queue.tally t
                      where t.queue = p.queue and t.at > clock_timestamp() - interval '1 minute') as started) s) w
    where w.reason is not null;
end
$$;

-- ---- where claims begin ----
--
-- A claim steps over the groups of what waits (queue, type, rank) by index. As long as somebody holds an old snapshot, all entries of jobs that
-- were taken since then stay in front of those that wait, and every look walks over them. So where a look finds many of them, the session
-- remembers where each group begins (queue.head) and the next ones start there, for twenty times as long as that look took, or four times when
-- there is nothing else to do. What comes before: a job that somebody gave back, one whose producer took more than two seconds to commit, a
-- group that is new: all of these are found by the next look from the beginning.

create type queue.memory as (heads queue.head[], seen_at timestamptz, took interval, is_busy boolean);

create function queue.recall(lane text) returns queue.memory
language plpgsql stable as $$
begin
    return nullif(current_setting('depot_queue.' || lane, true), '')::queue.memory;
end
$$;

create function queue.is_fresh(m queue.memory) returns boolean
language sql volatile as $$
    select coalesce(clock_timestamp() < m.seen_at + m.took * case when m.is_busy then 20 else 4 end, false)
$$;

-- After a look from the beginning that came to `walked` entries.
create function queue.remember(lane text, heads queue.head[], walked bigint, since timestamptz) returns void
language plpgsql volatile as $$
declare
    many constant integer := 1000;
    old  queue.memory := queue.recall(lane);
begin
    if walked < many + 2 * cardinality(heads) or cardinality(heads) > many then
        if old is not null then
            perform set_config('depot_queue.' || lane, '', false);
        end if;
        return;
    end if;
    heads := heads || array(select h from unnest(old.heads) h where not exists (
        select from unnest(heads) n where (n.queue, n.job_type, n.rank) = (h.queue, h.job_type, h.rank))); -- empty at the moment
    perform set_config('depot_queue.' || lane, ((heads, clock_timestamp(), clock_timestamp() - since, true)::queue.memory)::text, false);
end
$$;

-- The first that waits of a group, as its head: not later than what somebody may commit yet.
create function queue.head_at(h queue.head, at timestamptz, id uuid) returns queue.head
language sql volatile as $$
    select case when at <= m then (h.queue, h.job_type, h.rank, at, id)::queue.head
                else (h.queue, h.job_type, h.rank, greatest(h.run_at, m), '00000000-0000-0000-0000-000000000000')::queue.head end
    from (select clock_timestamp() - interval '2 seconds' as m) x
$$;

create function queue.row_heads() returns queue.head[]
language plpgsql volatile set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
    since  timestamptz := clock_timestamp();
    before bigint;
    heads  queue.head[] := (queue.recall('rows')).heads;
begin
    if heads is not null and queue.is_fresh(queue.recall('rows')) then
        return heads;
    end if;
    before := pg_stat_get_xact_tuples_returned('queue.jobs_queued'::regclass);
    with recursive g as (
        (select j.queue, j.job_type, -j.priority as rank, j.run_at, j.id from queue.jobs j
         where j.status = 'queued' and j.waits_for = 0 and not j.key_held order by j.queue, j.job_type, -j.priority, j.run_at, j.id limit 1)
        union all
        select x.* from g cross join lateral (
            select j.queue, j.job_type, -j.priority, j.run_at, j.id from queue.jobs j
            where j.status = 'queued' and j.waits_for = 0 and not j.key_held and (j.queue, j.job_type, -j.priority) > (g.queue, g.job_type, g.rank)
            order by j.queue, j.job_type, -j.priority, j.run_at, j.id limit 1) x
    )
    select coalesce(array_agg((g.queue, g.job_type, g.rank, g.run_at, g.id)::queue.head), '{}') into heads from g;
    perform queue.remember('rows', heads, pg_stat_get_xact_tuples_returned('queue.jobs_queued'::regclass) - before, since);
    return heads;
end
$$;

-- After a claim: where the next one begins, if that is remembered at all.
create function queue.advance_rows(is_busy boolean) returns void
language plpgsql volatile set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
    m queue.memory := queue.recall('rows');
begin
    if m.heads is null then
        return;
    end if;
    m.heads := array(
        select queue.head_at(h, n.run_at, n.id)
        from unnest(m.heads) h left join lateral (
            select j.run_at, j.id from queue.jobs j
            where j.status = 'queued' and j.waits_for = 0 and not j.key_held and j.queue = h.queue and j.job_type = h.job_type
              and -j.priority = h.rank and (j.run_at, j.id) >= (h.run_at, h.id) order by j.run_at, j.id limit 1) n on true);
    m.is_busy := advance_rows.is_busy;
    perform set_config('depot_queue.rows', m::text, false);
end
$$;

-- As queue.row_heads, of ranges that wait.
create function queue.chunk_heads() returns queue.head[]
language plpgsql volatile set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
    since  timestamptz := clock_timestamp();
    before bigint;
    heads  queue.head[] := (queue.recall('chunks')).heads;
begin
    if heads is not null and queue.is_fresh(queue.recall('chunks')) then
        return heads;
    end if;
    before := pg_stat_get_xact_tuples_returned('queue.chunk_ready_order'::regclass);
    with recursive g as (
        (select r.queue, r.job_type, r.rank, r.run_at, r.chunk from queue.chunk_ready r
         order by r.queue, r.job_type, r.rank, r.run_at, r.chunk, r.lo limit 1)
        union all
        select x.* from g cross join lateral (
            select r.queue, r.job_type, r.rank, r.run_at, r.chunk from queue.chunk_ready r
            where (r.queue, r.job_type, r.rank) > (g.queue, g.job_type, g.rank)
            order by r.queue, r.job_type, r.rank, r.run_at, r.chunk, r.lo limit 1) x
    )
    select coalesce(array_agg((g.queue, g.job_type, g.rank, g.run_at, g.chunk)::queue.head), '{}') into heads from g;
    perform queue.remember('chunks', heads, pg_stat_get_xact_tuples_returned('queue.chunk_ready_order'::regclass) - before, since);
    return heads;
end
$$;

create function queue.advance_chunks(is_busy boolean) returns void
language plpgsql volatile set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
    m queue.memory := queue.recall('chunks');
begin
    if m.heads is null then
        return;
    end if;
    m.heads := array(
        select queue.head_at(h, n.run_at, n.chunk)
        from unnest(m.heads) h left join lateral (
            select r.run_at, r.chunk from queue.chunk_ready r
            where r.queue = h.queue and r.job_type = h.job_type and r.rank = h.rank and (r.run_at, r.chunk) >= (h.run_at, h.id)
            order by r.run_at, r.chunk, r.lo limit 1) n on true);
    m.is_busy := advance_chunks.is_busy;
    perform set_config('depot_queue.chunks', m::text, false);
end
$$;

-- Up to n jobs that are due, by priority and time, each with a lease of its own. queues: null means all. types: names and
-- globs. unpack: the last claim had fewer than it wanted, so look for more where queue.unpack does.
-- Steps over the groups of waiting jobs (queue, type, priority) by index, so that jobs which nobody serves, jobs that
-- are not due and jobs that are held back cost nothing. In three steps, as locks that a key needs must be held before what runs is
-- counted: pick, admit, lease.
create function queue.claim(worker text, queues text[], types text[], n integer, lease interval, unpack boolean default false)
    returns table (id uuid, token uuid, queue text, job_type text, args jsonb, attempt integer, max_attempts integer, lease_ms bigint,
                   timeout_ms bigint)
language plpgsql volatile set enable_seqscan = off set enable_bitmapscan = off set jit = off
    set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
    names     text[] := array(select t from unnest(types) t where t !~ '[*?]');
    patterns  text[] := array(select queue.glob_like(t) from unnest(types) t where t ~ '[*?]');
    limited   text[];
    budget    integer[];
    rates     queue.limits[];
    picks     queue.pick[];
    started   bigint;
    ceiling   integer;
    heads     queue.head[];
    moment    timestamptz; -- a value, as an index is not asked for what changes while it is read
begin
    if unpack then
        perform queue.unpack(claim.queues, types, n);
    end if;
    perform queue.tend();
    select b.queues, b.left_over into limited, budget from queue.budgets(claim.queues, n) b;
    ceiling := queue.best_chunk(claim.queues, names, patterns, limited, budget);
    rates := queue.lock_limits(claim.queues);
    heads := queue.row_heads();
    moment := clock_timestamp();
    with open as materialized (
        select g.*, least(n, coalesce(b.budget, n)) as budget, coalesce(p.lease_ms * interval '1 millisecond', lease) as lease
        from unnest(heads) g
        left join queue.queue_policies p on p.queue = g.queue
        left join unnest(limited, budget) b(queue, budget) on b.queue = g.queue
        where (claim.queues is null or g.queue = any (claim.queues)) and not coalesce(p.paused, false)
          and (g.job_type = any (names) or g.job_type like any (patterns)) and g.rank <= coalesce(ceiling, g.rank)
    ), due as materialized (
        select j.id, j.run_at, o.queue, o.rank, o.budget, o.lease, o.job_type, j.concurrency_key
        from open o cross join lateral (
            select d.id, d.run_at, d.concurrency_key from queue.jobs d
            where d.status = 'queued' and d.waits_for = 0 and not d.key_held and d.queue = o.queue and d.job_type = o.job_type
              and -d.priority = o.rank and (d.run_at, d.id) >= (o.run_at, o.id) and d.run_at <= moment
            order by d.run_at, d.id limit least(o.budget, case when rates is not null then queue.tokens_left(rates, o.queue, o.job_type) end)
            for update skip locked) j
    ), chosen as (
        select d.id, d.rank, d.run_at, d.lease, d.queue, d.job_type, d.concurrency_key
        from (select due.*, row_number() over (partition by due.queue order by due.rank, due.run_at, due.id) as place,
                     row_number() over (partition by due.job_type order by due.rank, due.run_at, due.id) as type_place from due) d
        where d.place <= least(d.budget, case when rates is not null then queue.tokens_left(rates, d.queue, null) end)
          and d.type_place <= least(n, case when rates is not null then queue.tokens_left(rates, null, d.job_type) end)
        order by d.rank, d.run_at, d.id limit n
    )
    select array_agg((c.id, c.rank, c.run_at, c.lease, c.queue, c.concurrency_key)::queue.pick order by c.rank, c.run_at, c.id)
    into picks from chosen c;
    if exists (select from unnest(picks) k where k.concurrency_key is not null) then
        picks := queue.admit_keys(picks);
    end if;
    return query
    with leased as (
        update queue.jobs j
        set status = 'running', attempts = j.attempts + 1, lease_token = gen_random_uuid(), locked_at = clock_timestamp(),
            locked_by = worker, lock_expires_at = clock_timestamp() + c.lease, updated_at = clock_timestamp(),
            unique_scope = nullif(j.unique_scope, 'queued') -- that key is free from here on, even if this attempt fails
        from unnest(picks) c where j.id = c.id
        returning j.id, j.lease_token, j.queue, j.job_type, j.payload_json, j.attempts, j.max_attempts, j.timeout_ms, c.lease, c.rank,
                  c.run_at
    ), counted as (
        insert into queue.tally (queue, started, restarted)
        select l.queue, count(*), count(*) filter (where l.attempts > 1) from leased l group by l.queue
    ), paid as (
        update queue.tokens t set amount = t.amount - u.n
        from (select r.name, count(*) as n from unnest(rates) r join leased l on case r.on_kind when 'queue' then l.queue else l.job_type end = r.on_name
              group by r.name) u
        where t.name = u.name and t.subject = ''
    )
    select l.id, l.lease_token, l.queue, l.job_type, l.payload_json, l.attempts, l.max_attempts,
           (extract(epoch from l.lease) * 1000)::bigint, coalesce(l.timeout_ms, p.timeout_ms)
    from leased l left join queue.queue_policies p on p.queue = l.queue order by l.rank, l.run_at, l.id;
    get diagnostics started = row_count;
    perform queue.advance_rows(started = n);
    if limited is not null and started < n then
        perform queue.note_throttled(limited);
    end if;
    if started < n then
        update queue.dispatchers d set idle_until = now() + interval '5 seconds'
        where d.worker_id = worker and (d.idle_until is null or d.idle_until < now() + interval '2 seconds');
    else
        update queue.dispatchers d set idle_until = null where d.worker_id = worker and d.idle_until is not null;
    end if;
end
$$;

-- The leases of a worker: for one that cannot know whether its claim was committed.
create function queue.held(worker text, lease interval)
    returns table (id uuid, token uuid, queue text, job_type text, args jsonb, attempt integer, max_attempts integer, lease_ms bigint,
                   timeout_ms bigint)
language sql stable as $$
    select j.id, j.lease_token, j.queue, j.job_type, j.payload_json, j.attempts, j.max_attempts,
           coalesce(p.lease_ms, (extract(epoch from lease) * 1000)::bigint), coalesce(j.timeout_ms, p.timeout_ms)
    from queue.jobs j left join queue.queue_policies p on p.queue = j.queue
    where j.status = 'running' and j.locked_by = worker
      and not exists (select from queue.chunk_leases l where l.token = j.lease_token) -- it belongs to a range, which is one of held_chunks
$$;

-- Extends the leases; returns the jobs whose lease is lost. What a job holds in a transaction (queue.hold) is extended too: its lease
-- must not be over when that ends. A row that somebody changes right now is passed over.
create function queue.heartbeat(jobs uuid[], tokens uuid[], lease interval) returns setof uuid
language plpgsql volatile set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off
    set enable_mergejoin = off as $$
begin
    return query
    with held as materialized (select * from unnest(jobs, tokens) as h(id, token)), free as materialized (
        select j.id from queue.jobs j join held h on h.id = j.id and h.token = j.lease_token for no key update of j skip locked
    ), kept as (
        update queue.jobs j set lock_expires_at = clock_timestamp() + coalesce(p.lease_ms * interval '1 millisecond', lease)
        from free f join queue.jobs o on o.id = f.id left join queue.queue_policies p on p.queue = o.queue
        where j.id = f.id
    )
    select h.id from held h where not exists (select from queue.jobs j where j.id = h.id and j.lease_token = h.token);
end
$$;

-- Attempts whose worker is gone: closed as WORKER_LOST. Their rows must be locked by the caller, who tells queue.after_end what ended.
create function queue.close_lost(lost uuid[], why text, charged boolean default true) returns queue.ending[]
language plpgsql volatile as $$
declare
    ended queue.ending[];
begin
    with ended as materialized (
        select e.*, case when e.new_status = 'queued' then e.at + queue.backoff(e.attempts - e.uncharged,
                             coalesce(e.backoff_base_ms, p.backoff_base_ms), coalesce(e.backoff_max_ms, p.backoff_max_ms),
                             coalesce(e.backoff_jitter, p.backoff_jitter)) end as retry_at
        from (select j.*, clock_timestamp() as at,
                     case when j.cancel_requested_at is not null then 'canceled'
                          when charged and j.attempts - j.uncharged >= j.max_attempts then 'dlq' else 'queued' end as new_status
              from queue.jobs j where j.id = any (lost) and j.status = 'running') e
        left join queue.queue_policies p on p.queue = e.queue
    ), history as (
        insert into queue.attempts (job_id, attempt_no, token, status, charged, started_at, finished_at, retry_at, worker_id, error_code,
                                    error_message)
        select e.id, e.attempts, e.lease_token, 'failed', charged, e.locked_at, e.at, e.retry_at, e.locked_by, 'WORKER_LOST', why from ended e
    ), counted as (
        insert into queue.tally (queue, failed, dlq, canceled, latency_ms)
        select e.queue, count(*), count(*) filter (where e.new_status = 'dlq'), count(*) filter (where e.new_status = 'canceled'),
               sum(extract(epoch from e.at - e.locked_at) * 1000)::bigint
        from ended e group by e.queue
    ), moved as (
        update queue.jobs j
        set status = e.new_status, run_at = coalesce(e.retry_at, j.run_at), uncharged = j.uncharged + (not charged)::integer,
            dlq_reason_code = case when e.new_status = 'dlq' then 'MAX_ATTEMPTS_EXCEEDED' end,
            dlq_at = case when e.new_status = 'dlq' then e.at end,
            last_error_code = 'WORKER_LOST', last_error_message = why,
            lease_token = null, locked_at = null, locked_by = null, lock_expires_at = null, updated_at = e.at
        from ended e where j.id = e.id
        returning j.id, j.queue, j.concurrency_key, j.batch_id, j.status
    )
    select array_agg((m.id, m.queue, m.concurrency_key, m.batch_id, m.status)::queue.ending order by m.id) into ended from moved m;
    return ended;
end
$$;

-- The jobs of a worker that are to end: somebody canceled them.
create function queue.canceling(worker text) returns setof uuid
language sql stable as $$
    select id from queue.jobs where status = 'running' and cancel_requested_at is not null and locked_by = worker
$$;

-- Leases that have run out, at most `most` of rows and a few of ranges, as each of these makes up to 1024 rows, and the housekeeping that
-- any daemon may do. lost: how many jobs; has_dead: there are dead jobs to announce; has_more: there may be more leases that have run out.
-- in_touch: for how long the caller has reached the database without a break. After an outage every lease looks run out: whoever is back
-- first leaves them alone for `grace`, in which those that live extend theirs.
create function queue.reap(worker text, in_touch interval, grace interval, most integer default 500, out lost bigint, out has_dead boolean,
                           out has_more boolean)
language plpgsql volatile as $$
declare
    few    constant integer := 8;
    ids    uuid[];
    ranges uuid[] := '{}';
    ended  queue.ending[];
    n      bigint := 0;
begin
    if in_touch >= grace then
        ranges := array(select l.token from queue.chunk_leases l where l.expires_at < clock_timestamp() and l.n > 0 limit few for update skip locked);
        select l.lost, l.ended into n, ended
        from queue.lose_chunks(ranges || array(select l.token from queue.chunk_leases l where l.expires_at < clock_timestamp() and l.n = 0
                                               limit most for update skip locked), 'its lease ran out: the worker that held it is gone') l;
        select array_agg(id) into ids
        from (select r.id from queue.jobs r where r.status = 'running' and r.lock_expires_at < clock_timestamp()
                 and (select l.token from queue.chunk_leases l where l.token = r.lease_token) is null -- else its range's lease is what counts
              order by r.lock_expires_at limit most for update skip locked) j;
        perform queue.after_end(ended || queue.close_lost(ids, 'its lease ran out: the worker that held it is gone'));
    end if;
    update queue.dispatchers set seen_at = now() where worker_id = worker;
    if pg_try_advisory_xact_lock(7233176823642) then
        delete from queue.dispatchers where seen_at < now() - interval '1 day';
        delete from queue.enqueue_rate_counters where window_start < now() - interval '5 minutes';
        delete from queue.ingest_decisions where id < (select queue.id_at(now() - interval '7 days'));
        delete from queue.policy_decisions where id < (select queue.id_at(now() - interval '7 days'));
        with old as (
            delete from queue.tally t where t.at < now() - interval '2 minutes' and t.queue in (
                select n.queue from queue.tally n where n.at < now() - interval '2 minutes' and n.at > 'epoch') returning t.*
        )
        insert into queue.tally (at, queue, started, restarted, succeeded, failed, dlq, canceled, latency_ms)
        select 'epoch', queue, sum(started), sum(restarted), sum(succeeded), sum(failed), sum(dlq), sum(canceled), sum(latency_ms)
        from old group by queue;
    end if;
    lost := coalesce(cardinality(ids), 0) + n;
    has_more := cardinality(ranges) = few or coalesce(cardinality(ids), 0) = most;
    has_dead := exists (select from queue.jobs where status = 'dlq' and announced_at is null);
end
$$;
