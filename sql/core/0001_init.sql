-- Schema depot: API tokens and the audit log. Runs as depot_owner, who owns everything here; the daemon's role `depot`
-- gets what it needs and no more.

create schema if not exists depot;
grant usage on schema depot to depot;
grant select on depot.migration to depot; -- made before the first migration runs

-- Only the SHA-256 of a token's secret is kept: it has 256 random bits, so that a fast hash is enough.
create table depot.token (
    id           text primary key check (id ~ '^[0-9a-f]{12}$'),
    name         text not null check (length(name) between 1 and 128),
    role         text not null check (role in ('viewer', 'operator', 'admin')),
    hash         bytea not null check (length(hash) = 32),
    created_at   timestamptz not null default now(),
    created_by   text not null,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);
create unique index token_name_in_force on depot.token (name) where revoked_at is null;
grant select, insert, update (revoked_at, last_used_at) on depot.token to depot;

-- Every change through any door: who, what, on what, with which outcome. Each row's hash covers its own content and the
-- hash before it, so that a row that was changed or taken out shows.
create table depot.audit (
    id         bigint generated always as identity primary key,
    at         timestamptz not null,
    actor      text not null,
    action     text not null,
    target     text,
    detail     jsonb,
    request_id text,
    prev       bytea not null,
    hash       bytea not null
);
create index audit_actor on depot.audit (actor, id desc);
grant select on depot.audit to depot;

create function depot.audit_refuse() returns trigger
language plpgsql as $$
begin
    raise exception 'the audit log is append-only' using errcode = 'insufficient_privilege';
end
$$;
create trigger audit_append_only before update or delete or truncate on depot.audit
    for each statement execute function depot.audit_refuse();

-- What a row's hash covers, as bytes that do not depend on any setting of the session. In PL/pgSQL, as plans of SQL functions that
-- cannot be inlined are made anew for each row.
create function depot.audit_digest(prev bytea, id bigint, at timestamptz, actor text, action text, target text, detail jsonb,
                                   request_id text) returns bytea
language plpgsql immutable as $$
begin
    return pg_catalog.sha256(prev operator(pg_catalog.||) pg_catalog.convert_to(pg_catalog.jsonb_build_array(
        id, pg_catalog.to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), actor, action, target, detail, request_id)::pg_catalog.text,
        'UTF8'));
end
$$;

-- The only way to new rows: an array of {actor, action, target, detail, request_id}. One writer at a time until the end of the
-- transaction: call it last. Returns the last row's id.
create function depot.audit_add_all(entries jsonb) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    r         depot.audit;
    made      depot.audit[];
    last_hash bytea;
begin
    perform pg_advisory_xact_lock(7233176823641);
    select a.hash into last_hash from depot.audit a order by a.id desc limit 1;
    last_hash := coalesce(last_hash, '\x');
    for r in
        select nextval('depot.audit_id_seq'), clock_timestamp(), e.*
        from jsonb_to_recordset(entries) as e(actor text, action text, target text, detail jsonb, request_id text)
    loop
        r.prev := last_hash;
        last_hash := depot.audit_digest(r.prev, r.id, r.at, r.actor, r.action, r.target, r.detail, r.request_id);
        r.hash := last_hash;
        made := made || r;
    end loop;
    insert into depot.audit overriding system value select m.* from unnest(made) m;
    return r.id;
end
$$;

create function depot.audit_add(actor text, action text, target text default null, detail jsonb default null,
                                request_id text default null) returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$
    select depot.audit_add_all(jsonb_build_array(jsonb_build_object('actor', actor, 'action', action, 'target', target,
                                                                    'detail', detail, 'request_id', request_id)))
$$;

-- Walks the chain; broken_id is the first row that does not follow, null when all do.
create function depot.audit_verify(out rows_seen bigint, out broken_id bigint)
language plpgsql stable set search_path = pg_catalog as $$
declare
    r        record;
    expected bytea := '\x';
begin
    rows_seen := 0;
    for r in select * from depot.audit order by id loop
        rows_seen := rows_seen + 1;
        if r.prev <> expected
            or r.hash <> depot.audit_digest(r.prev, r.id, r.at, r.actor, r.action, r.target, r.detail, r.request_id) then
            broken_id := r.id;
            return;
        end if;
        expected := r.hash;
    end loop;
end
$$;

revoke all on function depot.audit_add(text, text, text, jsonb, text), depot.audit_add_all(jsonb), depot.audit_verify(),
    depot.audit_digest(bytea, bigint, timestamptz, text, text, text, jsonb, text), depot.audit_refuse() from public;
grant execute on function depot.audit_add(text, text, text, jsonb, text), depot.audit_add_all(jsonb), depot.audit_verify(),
    depot.audit_digest(bytea, bigint, timestamptz, text, text, text, jsonb, text) to depot;

-- Names of the depot's own schemas resolve unqualified, for producers and dashboards that know no schemas. Who does not own
-- the database sets it himself.
do $$
begin
    execute format('alter database %I set search_path = depot, pgflow, queue, storage, public', current_database());
exception when insufficient_privilege then
    raise warning 'the search_path of database % stays as it is: depot_owner does not own it', current_database();
end
$$;
