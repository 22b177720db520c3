-- Schema queue: jobs, their attempts, what limits them. Runs as depot_owner, who owns everything here.
--
-- A job's attempt that is under way lives in the job's own row (lease_token, locked_*): no attempt can be left running by a
-- crash. It becomes a row of queue.attempts when it ends. The view job_attempts shows both.

create schema queue;
grant usage on schema queue to depot;

-- UUID version 7 of that moment: milliseconds, then 12 bits of the microseconds within, then random bits. Orders by time.
create function queue.id_at(at timestamptz) returns uuid
language plpgsql volatile as $$
declare
    us bigint := extract(epoch from at) * 1000000;
begin
    return encode(int8send((us / 1000 << 16) | 28672 | (us % 1000 * 4096 / 1000)) || substring(uuid_send(gen_random_uuid()) from 9),
                  'hex')::uuid;
end
$$;

create function queue.new_id() returns uuid
language plpgsql volatile as $$
begin
    return queue.id_at(clock_timestamp());
end
$$;

-- The moment that id_at was given, to the microsecond.
create function queue.id_time(id uuid) returns timestamptz
language plpgsql immutable as $$
declare
    bits bigint := ('x' || substr(replace(id::text, '-', ''), 1, 16))::bit(64)::bigint;
begin
    return timestamptz 'epoch' + ((bits >> 16) * 1000 + ((bits & 4095) * 1000 + 4095) / 4096) * interval '1 microsecond';
end
$$;

-- 2026-11-20T09:23:33.459721Z
create function queue.iso(at timestamptz) returns text
language sql stable as $$
    select to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

create table queue.jobs (
    id                 uuid primary key default queue.new_id(),
    queue              text not null default 'default' check (length(queue) between 1 and 128),
    job_type           text not null check (length(job_type) between 1 and 200 and job_type ~ '\S'),
    payload_json       jsonb not null default '{}',
    run_at             timestamptz not null default now() check (run_at between '1970-01-01Z' and '9999-12-30Z'),
    status             text not null default 'queued'
                       check (status in ('queued', 'running', 'succeeded', 'failed', 'dlq', 'canceled')),
    priority           integer not null default 0 check (priority > -2147483648), -- higher first
    max_attempts       integer not null default 25 check (max_attempts > 0),
    attempts           integer not null default 0, -- begun so far
    uncharged          integer not null default 0, -- of these, do not count against max_attempts: snoozed, cut off by a shutdown
    lease_token        uuid,                       -- one per attempt; every change of a running job is checked against it
    locked_at          timestamptz,
    locked_by          text,
    lock_expires_at    timestamptz,
    last_error_code    text,
    last_error_message text,
    dlq_reason_code    text,
    dlq_at             timestamptz,
    announced_at       timestamptz, -- when job.dead was emitted
    result             jsonb,       -- what the handler returned
    replay_of_job_id   uuid,
    job_key            text,        -- at most one job is ever made with it
    enqueued_by        text,
    request_id         text,
    canceled_by        text,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),
    constraint running_has_lease check ((status = 'running') = (lease_token is not null)
        and (lease_token is null) = (lock_expires_at is null) and (lease_token is null) = (locked_at is null))
);
-- Claims step from group to group (queue, type, priority) and look only into those that are served: -priority, so that one
-- direction of the index serves all columns.
create index jobs_queued on queue.jobs (queue, job_type, (-priority), run_at, id) where status = 'queued';
create index jobs_running on queue.jobs (lock_expires_at) where status = 'running';
create index jobs_dlq on queue.jobs (id) where status = 'dlq';
create index jobs_unannounced on queue.jobs (id) where status = 'dlq' and announced_at is null;
create index jobs_replays on queue.jobs (replay_of_job_id) where replay_of_job_id is not null;

-- Attempts that have ended.
create table queue.attempts (
    job_id        uuid not null,
    attempt_no    integer not null,
    token         uuid not null, -- of its lease
    status        text not null check (status in ('succeeded', 'failed', 'snoozed')),
    charged       boolean not null,
    started_at    timestamptz not null,
    finished_at   timestamptz not null,
    retry_at      timestamptz, -- when the job was to run again
    worker_id     text,
    error_code    text,
    error_message text,
    error_place   text, -- file and line inside the script
    error_trace   text,
    cpu_us        bigint,
    primary key (job_id, attempt_no)
);

create view queue.job_attempts as
    select token as id, job_id, attempt_no, started_at, finished_at, status, error_code, error_message,
           (extract(epoch from finished_at - started_at) * 1000)::integer as latency_ms, worker_id, null::text as reason_code
    from queue.attempts
    union all
    select lease_token, id, attempts, locked_at, null, 'running', null, null, null, locked_by, null
    from queue.jobs where status = 'running';

-- Results that came after their lease had passed to somebody else: refused, and kept for the timeline.
create table queue.late_results (
    id         bigint generated always as identity primary key,
    at         timestamptz not null default clock_timestamp(),
    job_id     uuid not null,
    token      uuid not null,
    outcome    text not null,
    error_code text
);
create index late_results_job on queue.late_results (job_id);

create table queue.job_keys (
    key        text primary key check (length(key) between 1 and 512),
    job_id     uuid not null,
    created_at timestamptz not null default now()
);

-- Limits of a queue; null: none. A queue without a row is free.
create table queue.queue_policies (
    queue                   text primary key,
    max_attempts_per_minute integer default 60 check (max_attempts_per_minute >= 0),
    max_in_flight           integer default 50 check (max_in_flight >= 0),
    throttle_delay_ms       integer default 500,
    max_attempts            integer check (max_attempts > 0),
    lease_ms                bigint check (lease_ms > 0),
    paused                  boolean not null default false,
    source                  text not null default 'sql' -- conf: a [queue NAME] section made it, and removes it
);

create table queue.policy_decisions (
    id           uuid primary key default queue.new_id(),
    job_id       uuid not null,
    decision     text not null,
    reason_code  text not null,
    details_json jsonb not null default '{}',
    created_at   timestamptz not null default now()
);
create index policy_decisions_job on queue.policy_decisions (job_id);

create table queue.ingest_decisions (
    id           uuid primary key default queue.new_id(),
    queue        text not null,
    decision     text not null,
    reason_code  text not null,
    details_json jsonb not null default '{}',
    created_at   timestamptz not null default now()
);

create table queue.enqueue_rate_counters (
    queue        text not null,
    window_start timestamptz not null, -- a minute
    count        bigint not null,
    primary key (queue, window_start)
);

-- What happened, one row per batch, so that nobody ever counts the history; reap() adds up what is older than two minutes.
create table queue.tally (
    at         timestamptz not null default clock_timestamp(),
    queue      text not null,
    started    bigint not null default 0,
    restarted  bigint not null default 0, -- of these, second and later attempts
    succeeded  bigint not null default 0,
    failed     bigint not null default 0, -- attempts
    dlq        bigint not null default 0,
    canceled   bigint not null default 0,
    latency_ms bigint not null default 0  -- of the attempts that ended
);

-- Daemons that take jobs. idle_until: it has nothing to do and wants to be told of new jobs.
create table queue.dispatchers (
    instance   uuid primary key, -- of the state folder
    worker_id  text not null unique, -- changes with every start
    node       text not null,
    started_at timestamptz not null default now(),
    seen_at    timestamptz not null default now(),
    idle_until timestamptz,
    queues     text[], -- null: all
    types      text[] not null default '{}' -- names and globs
) with (fillfactor = 50);

-- Job types that scripts have declared, and what they say about them.
create table queue.job_types (
    job_type     text primary key,
    max_attempts integer, -- null: the queue's
    handler      text not null,
    seen_at      timestamptz not null default now()
);

create table queue.error_advice (
    code      text primary key,
    retryable boolean not null,
    advice    text not null
);
insert into queue.error_advice (code, retryable, advice) values
    ('TIMEOUT', true, 'raise the handler''s timeout or shrink the work of one job'),
    ('DEPENDENCY_DOWN', true, 'retry later; look at what the handler depends on, stop calling it while it is down'),
    ('RATE_LIMIT', true, 'back off: lower the queue''s concurrency or its attempts a minute'),
    ('DB_DEADLOCK', true, 'a retry is fine; take rows in one order and keep transactions small'),
    ('SERIALIZATION', true, 'a retry is fine; let fewer writers work on the same rows at a time'),
    ('PANIC', true, 'a fault of the handler: investigate; perhaps it should not be retried'),
    ('BAD_PAYLOAD', false, 'not retried: correct the producer, then enqueue again with arguments that the handler takes'),
    ('UNKNOWN_JOB_TYPE', false, 'not retried: add a handler for the type, then replay'),
    ('WORKER_LOST', true, 'the worker died in the middle: look for crashes, memory limits and restarts at that time'),
    ('WORKER_SHUTDOWN', true, 'cut off by a shutdown; it runs again and is not charged for it'),
    ('LUA_ERROR', true, 'an error in the script: see the place in the timeline, correct the handler, then replay'),
    ('MEMORY_LIMIT', true, 'raise [lua] memory or let the handler hold less at a time'),
    ('EXEC', true, 'the program that the handler ran ended badly: see its message'),
    ('NO_SPACE', true, 'make room on the disk'),
    ('DB_UNAVAILABLE', true, 'the database did not answer: see its log'),
    ('UNKNOWN', true, 'look at the message and the log, then give the error a code of its own in the handler');

create function queue.advice(error_code text) returns text
language sql stable as $$
    select advice from queue.error_advice where code in (upper(btrim(error_code)), 'UNKNOWN') order by code = 'UNKNOWN' limit 1
$$;

grant select, insert, update, delete on all tables in schema queue to depot;
revoke all on all functions in schema queue from public;
grant execute on all functions in schema queue to depot;
