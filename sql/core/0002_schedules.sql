-- Schedules: what is due is claimed, judged and recorded here, by the database's clock, so that a group of daemons runs
-- each due time once. Times pass between daemon and database as microseconds since 1970.

create function depot.time_us(at timestamptz) returns bigint
language sql stable strict set search_path = pg_catalog as $$ select (extract(epoch from at) * 1000000)::bigint $$;

create function depot.us_time(us bigint) returns timestamptz
language sql stable strict set search_path = pg_catalog as $$ select timestamptz 'epoch' + us * interval '1 microsecond' $$;

create table depot.schedule (
    name       text primary key,
    definition text not null,       -- cron and zone; 'off': no longer there, or switched off
    node       text not null,       -- the daemon that wrote the definition
    last_due   timestamptz not null -- every due time up to here has been decided
);

-- pending: claimed, not begun. running: while the lease lasts. skipped: an earlier run was still going. missed: nobody was
-- there. lost: its daemon went away in the middle of it.
create table depot.schedule_run (
    id          bigint generated always as identity primary key,
    schedule    text not null,
    due_at      timestamptz not null,
    by_hand     boolean not null default false,
    catch_up    boolean not null default false, -- made up for after downtime: one after the other, never skipped
    passed_over bigint not null default 0,      -- earlier due times that this run stands for
    repeatable  boolean not null default false, -- makes a job, of which its key lets only one be made: pending again instead of lost
    status      text not null check (status in ('pending', 'running', 'ok', 'failed', 'lost', 'skipped', 'missed')),
    node        text,
    token       uuid,                           -- of the daemon's try to take it
    started_at  timestamptz,
    finished_at timestamptz,
    lease_until timestamptz,
    code        text,
    message     text,
    result      jsonb,
    check (status <> 'running' or (node is not null and token is not null and started_at is not null and lease_until is not null))
);
create unique index schedule_run_once on depot.schedule_run (schedule, due_at) where not by_hand;
create unique index schedule_run_token on depot.schedule_run (token) where token is not null;
create index schedule_run_open on depot.schedule_run (schedule, due_at, id) where status in ('pending', 'running');
create index schedule_run_recent on depot.schedule_run (schedule, id desc);

-- Work of which only one daemon of a group may do at a time.
create table depot.duty (
    name        text primary key,
    holder      text not null,
    taken_at    timestamptz not null,
    lease_until timestamptz not null
);

-- At start and after a reload: entries is [{name, definition}] of this node. A new or changed schedule starts now: what
-- was due before plays no part.
create function depot.schedule_sync(entries jsonb, p_node text) returns void
language plpgsql set search_path = pg_catalog as $$
begin
    insert into depot.schedule as s (name, definition, node, last_due)
    select e ->> 'name', e ->> 'definition', p_node, clock_timestamp() from jsonb_array_elements(entries) e
    order by 1
    on conflict (name) do update
        set definition = excluded.definition, node = excluded.node, last_due = greatest(s.last_due, excluded.last_due)
        where s.definition <> excluded.definition;
    with gone as (
        update depot.schedule s set definition = 'off'
        where s.node = p_node and s.definition <> 'off'
            and not exists (select from jsonb_array_elements(entries) e where e ->> 'name' = s.name)
        returning s.name)
    update depot.schedule_run r
    set status = 'skipped', finished_at = clock_timestamp(), message = 'the schedule was taken away or switched off'
    from gone where r.schedule = gone.name and r.status = 'pending';
end
$$;

-- The next run of a schedule for this daemon, or none (id is null): the overlap policy is judged here. The same token
-- gives the same run again, for a caller who did not get the answer. skipped: runs that were skipped on the way.
create function depot.schedule_take(p_schedule text, p_node text, p_token uuid, p_lease_ms bigint, p_overlap text,
                                    p_repeatable boolean default false, out id bigint, out due_us bigint, out skipped bigint)
language plpgsql set search_path = pg_catalog as $$
declare
    r       record;
    is_busy boolean;
begin
    perform pg_advisory_xact_lock(hashtextextended('depot.schedule ' || p_schedule, 0));
    skipped := 0;
    select t.id, depot.time_us(t.due_at) into id, due_us from depot.schedule_run t where t.token = p_token;
    if found then
        return;
    end if;
    is_busy := exists (select from depot.schedule_run b
                       where b.schedule = p_schedule and b.status = 'running' and b.lease_until >= clock_timestamp());
    for r in select p.id, p.due_at, p.catch_up from depot.schedule_run p
             where p.schedule = p_schedule and p.status = 'pending' order by p.due_at, p.id loop
        if is_busy and p_overlap = 'skip' and not r.catch_up then
            update depot.schedule_run u
            set status = 'skipped', finished_at = clock_timestamp(), message = 'an earlier run was still going'
            where u.id = r.id;
            skipped := skipped + 1;
            continue;
        end if;
        if is_busy and (r.catch_up or p_overlap <> 'allow') then
            return;
        end if;
        update depot.schedule_run u
        set status = 'running', node = p_node, token = p_token, started_at = clock_timestamp(), repeatable = p_repeatable,
            lease_until = clock_timestamp() + p_lease_ms * interval '1 millisecond'
        where u.id = r.id;
        id := r.id;
        due_us := depot.time_us(r.due_at);
        return;
    end loop;
end
$$;

-- A run outside of the plan. id is null: one is running (busy_us since when, busy_node where), and two may not.
create function depot.schedule_take_by_hand(p_schedule text, p_node text, p_token uuid, p_lease_ms bigint, p_overlap text,
                                            out id bigint, out due_us bigint, out busy_us bigint, out busy_node text)
language plpgsql set search_path = pg_catalog as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('depot.schedule ' || p_schedule, 0));
    if p_overlap <> 'allow' then
        select depot.time_us(b.started_at), b.node into busy_us, busy_node from depot.schedule_run b
        where b.schedule = p_schedule and b.status = 'running' and b.lease_until >= clock_timestamp() limit 1;
        if found then
            return;
        end if;
    end if;
    insert into depot.schedule_run as n (schedule, due_at, by_hand, status, node, token, started_at, lease_until)
    values (p_schedule, clock_timestamp(), true, 'running', p_node, p_token, clock_timestamp(),
            clock_timestamp() + p_lease_ms * interval '1 millisecond')
    returning n.id, depot.time_us(n.due_at) into id, due_us;
end
$$;

-- Old runs go: of each schedule the last p_keep stay, but none older than p_days except for the very last.
create function depot.schedule_prune(p_keep bigint, p_days bigint) returns bigint
language plpgsql set search_path = pg_catalog as $$
declare
    n bigint;
begin
    update depot.schedule_run
    set status = 'skipped', finished_at = clock_timestamp(), message = 'no daemon has this schedule any more'
    where status = 'pending' and due_at < clock_timestamp() - interval '7 days';
    delete from depot.schedule_run r
    using (select a.id, a.due_at, row_number() over (partition by a.schedule order by a.id desc) as place
           from depot.schedule_run a) o
    where o.id = r.id and r.status not in ('pending', 'running')
        and (o.place > p_keep or (o.place > 1 and o.due_at < clock_timestamp() - p_days * interval '1 day'));
    get diagnostics n = row_count;
    return n;
end
$$;

revoke all on function depot.time_us(timestamptz), depot.us_time(bigint), depot.schedule_sync(jsonb, text),
    depot.schedule_take(text, text, uuid, bigint, text, boolean), depot.schedule_take_by_hand(text, text, uuid, bigint, text),
    depot.schedule_prune(bigint, bigint) from public;
grant execute on function depot.time_us(timestamptz), depot.us_time(bigint), depot.schedule_sync(jsonb, text),
    depot.schedule_take(text, text, uuid, bigint, text, boolean), depot.schedule_take_by_hand(text, text, uuid, bigint, text),
    depot.schedule_prune(bigint, bigint) to depot;
grant select, insert, update, delete on depot.schedule, depot.schedule_run, depot.duty to depot;
