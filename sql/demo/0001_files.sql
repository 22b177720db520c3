-- What the tutorial's handler finds out about files (lua/handlers/demo_store.lua), and its reports (lua/hooks/demo_report.lua).
create schema demo;

create table demo.file (
    path         text primary key,
    sha          text not null,               -- SHA-256 of the content: its name in the store
    bytes        bigint not null,
    stored_bytes bigint not null,             -- size of the object file
    duplicate    boolean not null,            -- the store had this content already
    kind         text not null,               -- png, text, gzip, html, other …
    width        integer,                     -- of a PNG, in pixels
    height       integer,
    lines        bigint,                      -- of a text
    job_id       uuid not null unique,        -- the job that recorded it: at most one row each
    attempt      integer not null,            -- on which try it succeeded
    recorded_at  timestamptz not null default now()
);

create table demo.report (
    at     timestamptz not null default now(),
    files  bigint not null,
    bytes  bigint not null
);

grant usage on schema demo to depot;
grant select, insert, update on demo.file, demo.report to depot;
