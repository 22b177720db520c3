-- Concurrency keys and rate limits, hard under any number of claimers.
--
-- Whoever counts what runs with a key, or spends its tokens, holds the lock of the key's stripe until it commits. A claim only
-- tries these locks and leaves what it cannot have to the next one: finishing waits for them with row locks held and is in one
-- transaction with the claim after it, so that claims that waited could wait in a circle. A job whose key has no room is parked
-- (key_held): claims do not see it, and whoever makes room takes the first of the parked jobs back.

create function queue.key_stripe(queue text, key text) returns integer
language sql immutable as $$
    select (hashtextextended(key, hashtextextended(queue, 0)) & 255)::integer
$$;

-- What is left of a limit by now.
create function queue.tokens_now(l queue.limits, of_subject text) returns double precision
language sql volatile as $$
    select coalesce((select least(l.burst, t.amount + l.per_second * greatest(0, extract(epoch from clock_timestamp() - t.at)::double precision))
                     from queue.tokens t where t.name = l.name and t.subject = of_subject), l.burst)
$$;

create function queue.spend(l queue.limits, of_subject text, n double precision) returns void
language sql volatile as $$
    insert into queue.tokens as t (name, subject, amount, at)
    values (l.name, of_subject, queue.tokens_now(l, of_subject) - n, clock_timestamp())
    on conflict (name, subject) do update set amount = excluded.amount, at = excluded.at
$$;

-- The limits of queues and types, their rows locked until the claim commits; burst: whole tokens that are left.
create function queue.lock_limits(worker_queues text[]) returns queue.limits[]
language plpgsql volatile as $$
declare
    l    queue.limits;
    left_over queue.limits[];
begin
    if not exists (select from queue.limits where on_kind <> 'key') then
        return null;
    end if;
    for l in select * from queue.limits x
             where x.on_kind = 'type' or (x.on_kind = 'queue' and (worker_queues is null or x.on_name = any (worker_queues)))
             order by x.name for no key update loop
        perform queue.spend(l, '', 0);
        l.burst := floor((select t.amount from queue.tokens t where t.name = l.name and t.subject = ''));
        left_over := left_over || l;
    end loop;
    return left_over;
end
$$;

create function queue.tokens_left(rates queue.limits[], of_queue text, of_type text) returns integer
language sql immutable as $$
    select coalesce(min(greatest(r.burst, 0)), 1000000)::integer from unnest(rates) r
    where (r.on_kind = 'queue' and r.on_name = of_queue) or (r.on_kind = 'type' and r.on_name = of_type)
$$;

-- How many jobs more may start with a key. head: the one that is next where order counts. look_at: when to look again.
create function queue.key_room(of_queue text, key text, out room integer, out head uuid, out look_at timestamptz)
language plpgsql volatile as $$
declare
    p       queue.queue_policies;
    l       queue.limits;
    running bigint;
    amount  double precision;
begin
    select * into p from queue.queue_policies q where q.queue = of_queue;
    select count(*) into running from queue.jobs j where j.status = 'running' and j.queue = of_queue and j.concurrency_key = key;
    look_at := clock_timestamp() + interval '5 seconds';
    room := greatest(0, coalesce(case when p.key_fifo then 1 else p.max_per_key end - running, 1000000));
    if p.key_fifo then
        select j.id into head from queue.jobs j
        where j.status in ('queued', 'running') and j.queue = of_queue and j.concurrency_key = key order by j.id limit 1;
    end if;
    for l in select * from queue.limits x where x.on_kind = 'key' and (x.on_name is null or x.on_name = of_queue) loop
        amount := queue.tokens_now(l, of_queue || '/' || key);
        room := least(room, floor(greatest(amount, 0)));
        if amount < 1 then
            look_at := least(look_at, clock_timestamp() + (1 - amount) / l.per_second * interval '1 second');
        end if;
    end loop;
end
$$;

create function queue.park(of_queue text, key text, at timestamptz) returns void
language sql volatile as $$
    insert into queue.parked_keys as k (queue, concurrency_key, look_at) values (of_queue, key, at)
    on conflict (queue, concurrency_key) do update set look_at = excluded.look_at where k.look_at <> excluded.look_at
$$;

-- Of the jobs that a claim has picked those that may start; the others of their keys are parked. Every statement here sees what was
-- committed before the stripes were locked.
create function queue.admit_keys(picks queue.pick[]) returns queue.pick[]
language plpgsql volatile as $$
declare
    stripes integer[];
    k       record;
    r       record;
    may     uuid[];
    ids     uuid[] := '{}';
begin
    select array_agg(s.stripe) into stripes
    from (select distinct queue.key_stripe(x.queue, x.concurrency_key) as stripe from unnest(picks) x where x.concurrency_key is not null) s
    where pg_try_advisory_xact_lock(723317682, s.stripe);
    for k in select x.queue, x.concurrency_key as key, array_agg(x.id order by x.rank, x.run_at, x.id) as all_ids
             from unnest(picks) x
             where x.concurrency_key is not null and queue.key_stripe(x.queue, x.concurrency_key) = any (stripes)
             group by x.queue, x.concurrency_key loop
        select * into r from queue.key_room(k.queue, k.key);
        may := case when r.head is null then k.all_ids[1:r.room] when r.room > 0 and r.head = any (k.all_ids) then array[r.head] else '{}' end;
        ids := ids || may;
        perform queue.spend(l, k.queue || '/' || k.key, cardinality(may))
        from queue.limits l where l.on_kind = 'key' and (l.on_name is null or l.on_name = k.queue);
        if cardinality(may) < cardinality(k.all_ids) then
            update queue.jobs j set key_held = true where j.id = any (k.all_ids) and not j.id = any (may);
            perform queue.park(k.queue, k.key, (queue.key_room(k.queue, k.key)).look_at);
        end if;
    end loop;
    return array(select x from unnest(picks) x where x.concurrency_key is null or x.id = any (ids));
end
$$;

-- Takes parked jobs of a key back as far as there is room. The caller holds the key's stripe, and so waits for no row: whoever has
-- locked one cancels it, and comes here itself.
create function queue.unpark(of_queue text, key text) returns void
language plpgsql volatile as $$
declare
    r record;
begin
    select * into r from queue.key_room(of_queue, key);
    if r.head is not null then
        update queue.jobs j set key_held = false
        where j.id in (select h.id from queue.jobs h where h.id = r.head and h.key_held and r.room > 0 for update skip locked);
    else
        update queue.jobs j set key_held = false
        where j.id in (select h.id from queue.jobs h where h.status = 'queued' and h.key_held and h.queue = of_queue and h.concurrency_key = key
                       order by -h.priority, h.run_at, h.id limit r.room for update skip locked);
    end if;
    if found then
        perform queue.wake(null);
    end if;
    if exists (select from queue.jobs h where h.status = 'queued' and h.key_held and h.queue = of_queue and h.concurrency_key = key) then
        perform queue.park(of_queue, key, r.look_at);
    else
        delete from queue.parked_keys k where k.queue = of_queue and k.concurrency_key = key;
    end if;
end
$$;

-- Parked keys whose time has come: tokens that are there again, limits that were raised. Costs a look at an empty index else.
create function queue.tend() returns void
language plpgsql volatile as $$
declare
    k record;
begin
    if exists (select from queue.parked_keys p where p.look_at <= clock_timestamp()) then
        for k in select p.queue, p.concurrency_key as key from queue.parked_keys p where p.look_at <= clock_timestamp()
                 order by p.look_at limit 100 loop
            if pg_try_advisory_xact_lock(723317682, queue.key_stripe(k.queue, k.key)) then
                perform queue.unpark(k.queue, k.key);
            end if;
        end loop;
    end if;
end
$$;

-- Jobs with keys have stopped running, or will never run: the next of their keys go on.
create function queue.release_keys(ended queue.ending[]) returns void
language plpgsql volatile as $$
declare
    k record;
begin
    perform pg_advisory_xact_lock(723317682, s.stripe)
    from (select distinct queue.key_stripe(e.queue, e.concurrency_key) as stripe from unnest(ended) e where e.concurrency_key is not null
          order by 1) s;
    for k in select distinct e.queue, e.concurrency_key as key
             from unnest(ended) e join queue.parked_keys p on p.queue = e.queue and p.concurrency_key = e.concurrency_key loop
        perform queue.unpark(k.queue, k.key);
    end loop;
end
$$;
