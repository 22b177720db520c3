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

-- The least id of that moment.
create function queue.first_id(at timestamptz) returns uuid
language sql immutable as $$
    select (i || '0000-000000000000')::uuid
    from (select encode(int8send((floor(extract(epoch from at) * 1000)::bigint << 16) | 28672), 'hex') as h) e,
    lateral (select substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-' || substr(h, 13, 4) || '-' as i) u
$$;

-- 2026-11-20T09:23:33.459721Z
create function queue.iso(at timestamptz) returns text
language sql stable as $$
    select to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- Arguments that a daemon has encrypted are {"$encrypted": {key, queue, data}}: the id of the key that it was; null: they are not.
create function queue.key_of(args jsonb) returns text
language sql immutable as $$
    select args #>> '{$encrypted,key}'
$$;

-- As people see them.
create function queue.shown_args(args jsonb) returns jsonb
language sql immutable as $$
    select case when args -> '$encrypted' is not null then jsonb_build_object('$encrypted', jsonb_build_object('key', queue.key_of(args)))
                else args end
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
    cancel_requested_at timestamptz, -- it was to end while it ran; never set on a job that waits
    backoff_base_ms    bigint check (backoff_base_ms >= 0), -- these four and timeout_ms: null: as its queue says
    backoff_max_ms     bigint check (backoff_max_ms >= 0),
    backoff_jitter     real check (backoff_jitter between 0 and 1),
    timeout_ms         bigint check (timeout_ms > 0),
    unique_key         text check (length(unique_key) between 1 and 512),
    unique_scope       text check (unique_scope in ('queued', 'active')), -- how long no other job may have that key
    concurrency_key    text check (length(concurrency_key) between 1 and 512), -- counts against its queue's max_per_key
    key_held           boolean not null default false, -- parked until its key has room: claims do not see it
    waits_for          integer not null default 0 check (waits_for >= 0), -- jobs that must end first
    on_dependency_failure text check (on_dependency_failure in ('cancel', 'run', 'wait')),
    batch_id           uuid,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),
    archived_at        timestamptz, -- null: it is not in the archive
    constraint running_has_lease check ((status = 'running') = (lease_token is not null)
        and (lease_token is null) = (lock_expires_at is null) and (lease_token is null) = (locked_at is null))
);
-- Claims step from group to group (queue, type, priority) and look only into those that are served: -priority, so that one
-- direction of the index serves all columns.
create index jobs_queued on queue.jobs (queue, job_type, (-priority), run_at, id) where status = 'queued' and waits_for = 0 and not key_held;
-- What is queued and cannot be claimed, so that counting all that waits needs no scan of the table.
create index jobs_held on queue.jobs (queue) where status = 'queued' and (waits_for > 0 or key_held);
create index jobs_running on queue.jobs (lock_expires_at) where status = 'running';
create index jobs_dlq on queue.jobs (id) where status = 'dlq';
create index jobs_unannounced on queue.jobs (id) where status = 'dlq' and announced_at is null;
create index jobs_replays on queue.jobs (replay_of_job_id) where replay_of_job_id is not null;
create index jobs_canceling on queue.jobs (locked_by) where status = 'running' and cancel_requested_at is not null;
create unique index jobs_unique_queued on queue.jobs (unique_key) where status = 'queued' and unique_scope = 'queued';
create unique index jobs_unique_active on queue.jobs (unique_key) where status in ('queued', 'running') and unique_scope = 'active';
-- Of a key: what runs, what is parked in the order in which it goes on, everything that has not ended by age.
create index jobs_key_running on queue.jobs (queue, concurrency_key) where status = 'running' and concurrency_key is not null;
create index jobs_key_held on queue.jobs (queue, concurrency_key, (-priority), run_at, id) where status = 'queued' and key_held;
create index jobs_key_order on queue.jobs (queue, concurrency_key, id)
    where status in ('queued', 'running') and concurrency_key is not null;
create index jobs_ended on queue.jobs (queue, status, updated_at) where status in ('succeeded', 'dlq', 'canceled');

-- Jobs that ended long ago. Everything that reads a job looks here too: both tables have the same columns.
create table queue.jobs_archive (like queue.jobs including defaults including constraints);
alter table queue.jobs_archive add primary key (id);
create index jobs_archive_replays on queue.jobs_archive (replay_of_job_id) where replay_of_job_id is not null;
create index jobs_archive_at on queue.jobs_archive (archived_at);
create index jobs_archive_status on queue.jobs_archive (status, id);

-- A job that stopped running: what others wait for may be free. status: its new one.
create type queue.ending as (id uuid, queue text, concurrency_key text, batch_id uuid, status text);

-- A job that a claim may lease.
create type queue.pick as (id uuid, rank integer, run_at timestamptz, lease interval, queue text, concurrency_key text);

-- Where a claim begins among the waiting jobs of a queue, type and rank (-priority): nothing waits there before (run_at, id). See queue.row_heads.
create type queue.head as (queue text, job_type text, rank integer, run_at timestamptz, id uuid);

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
    log           jsonb, -- [{at, level, message, fields}]: what its script has logged, the first 16 KiB
    cpu_us        bigint,
    primary key (job_id, attempt_no)
);

create view queue.job_attempts as
    select token as id, job_id, attempt_no, started_at, finished_at, status, error_code, error_message,
           least(extract(epoch from finished_at - started_at) * 1000, 2147483647)::integer as latency_ms, worker_id, null::text as reason_code
    from queue.attempts
    union all
    select lease_token, id, attempts, locked_at, null, 'running', null, null, null, locked_by, null
    from queue.jobs where status = 'running';

-- ---- jobs made in bulk ----
--
-- Up to 1024 jobs that differ in their arguments (and requests) alone are one row of queue.chunks, and as long as all goes well nothing is ever
-- written for one of them: what waits, what is leased and what has succeeded are ranges of places in the chunk. The place is the
-- last ten bits of a job's id. A job that needs anything else (a retry, a dead letter, a cancel …) becomes a row of queue.jobs with
-- that id and lives on there: a row of queue.jobs wins over its place in the chunk. docs/decisions/0008 says why.

create function queue.place_of(id uuid) returns integer
language sql immutable as $$ select ('x' || right(id::text, 3))::bit(12)::integer & 1023 $$;

create function queue.job_at(chunk uuid, place integer) returns uuid
language sql immutable as $$
    select (left(chunk::text, 33) || lpad(to_hex(('x' || right(chunk::text, 3))::bit(12)::integer & 3072 | place), 3, '0'))::uuid
$$;

create function queue.chunk_of(id uuid) returns uuid
language sql immutable as $$ select queue.job_at(id, 0) $$;

create function queue.request_at(request_ids text[], place integer) returns text
language sql immutable as $$ select request_ids[case when cardinality(request_ids) = 1 then 1 else place + 1 end] $$;

-- Partitions by the time of the id: made ahead and dropped whole by queue.keep_partitions. What none is made for is in *_rest.
create table queue.chunks (
    id           uuid primary key check (queue.place_of(id) = 0), -- also the id of its first job
    queue        text not null check (length(queue) between 1 and 128),
    job_type     text not null check (length(job_type) between 1 and 200 and job_type ~ '\S'),
    n            integer not null check (n between 1 and 1024),
    args         json not null, -- an array of n
    run_at       timestamptz not null check (run_at between '1970-01-01Z' and '9999-12-30Z'),
    priority     integer not null check (priority > -2147483648),
    max_attempts integer not null check (max_attempts > 0),
    enqueued_by  text,
    request_ids  text[] -- of all, or of each of them
) partition by range (id);
create table queue.chunks_rest partition of queue.chunks default;

-- Places lo … lo + n - 1 wait. rank is -priority, as in the index of queue.jobs.
create table queue.chunk_ready (
    chunk    uuid not null,
    lo       integer not null,
    n        integer not null check (n > 0),
    queue    text not null,
    job_type text not null,
    rank     integer not null,
    run_at   timestamptz not null,
    primary key (chunk, lo)
);
create index chunk_ready_order on queue.chunk_ready (queue, job_type, rank, run_at, chunk, lo);

-- … are under way under one lease: the first attempt of each.
create table queue.chunk_leases (
    token      uuid primary key,
    chunk      uuid not null,
    lo         integer not null,
    n          integer not null check (n >= 0), -- 0: has ended; somebody may hold it still in a transaction (queue.hold)
    queue      text not null,
    worker     text not null,
    started_at timestamptz not null,
    expires_at timestamptz not null
);
create index chunk_leases_chunk on queue.chunk_leases (chunk);

-- … have succeeded at the first attempt, but for those in `others`, which were turned into rows or given back.
create table queue.chunk_attempts (
    chunk       uuid not null,
    lo          integer not null,
    n           integer not null,
    token       uuid not null,
    worker      text not null,
    started_at  timestamptz not null,
    finished_at timestamptz not null,
    others      integer[] not null default '{}',
    results     json, -- an array of n, when a handler returned anything
    logs        json, -- {place: lines as in attempts.log} of those that have logged
    primary key (chunk, token)
) partition by range (chunk);
create table queue.chunk_attempts_rest partition of queue.chunk_attempts default;
create index chunk_attempts_logs on queue.chunk_attempts (finished_at) where logs is not null; -- for queue.prune_places

-- The jobs of a chunk at places first … last that are not rows of queue.jobs, as if they were. Lists need no arguments, and finding
-- them costs as much as the chunk is long.
create function queue.chunk_jobs(of_chunk uuid, first integer, last integer, with_args boolean) returns setof queue.jobs
language plpgsql stable set jit = off as $$
begin
    return query
    select r.*
    from queue.chunks c
    cross join lateral generate_series(greatest(first, 0), least(last, c.n - 1)) p
    left join queue.chunk_ready w on w.chunk = c.id and p between w.lo and w.lo + w.n - 1
    left join queue.chunk_leases l on l.chunk = c.id and p between l.lo and l.lo + l.n - 1
    left join queue.chunk_attempts a on a.chunk = c.id and p between a.lo and a.lo + a.n - 1 and not p = any (a.others)
    cross join lateral jsonb_populate_record(null::queue.jobs, jsonb_build_object(
        'id', queue.job_at(c.id, p), 'queue', c.queue, 'job_type', c.job_type, 'payload_json', case when with_args then c.args -> p end,
        'run_at', c.run_at, 'status', case when w.n is not null then 'queued' when l.n is not null then 'running' else 'succeeded' end,
        'priority', c.priority, 'max_attempts', c.max_attempts, 'attempts', case when w.n is null then 1 else 0 end, 'uncharged', 0,
        'waits_for', 0, 'key_held', false, 'lease_token', l.token, 'locked_at', l.started_at, 'locked_by', l.worker, 'lock_expires_at', l.expires_at,
        'result', case when w.n is null and l.n is null then a.results -> (p - a.lo) end,
        'enqueued_by', c.enqueued_by, 'request_id', queue.request_at(c.request_ids, p), 'created_at', queue.id_time(c.id),
        'updated_at', coalesce(a.finished_at, l.started_at, queue.id_time(c.id)))) r
    where c.id = of_chunk and coalesce(w.chunk, l.chunk, a.chunk) is not null
      and not exists (select from queue.jobs j where j.id = queue.job_at(c.id, p));
end
$$;

-- The job, wherever it is.
create function queue.find(job uuid) returns setof queue.jobs
language plpgsql stable rows 1 as $$
begin
    return query select * from queue.jobs j where j.id = job union all select * from queue.jobs_archive a where a.id = job;
    if not found then
        return query select * from queue.chunk_jobs(queue.chunk_of(job), queue.place_of(job), queue.place_of(job), true);
    end if;
end
$$;

-- The attempts of a job, wherever it is.
create function queue.tries(job uuid) returns setof queue.job_attempts
language sql stable as $$
    select * from queue.job_attempts a where a.job_id = job
    union all
    select t.token, job, 1, t.started_at, t.finished_at, t.status, null, null,
           least(extract(epoch from t.finished_at - t.started_at) * 1000, 2147483647)::integer, t.worker, null
    from (select token, lo, n, started_at, null::timestamptz as finished_at, 'running' as status, worker, '{}'::integer[] as others
          from queue.chunk_leases where chunk = queue.chunk_of(job) and not exists (select from queue.jobs j where j.id = job)
          union all
          select token, lo, n, started_at, finished_at, 'succeeded', worker, others
          from queue.chunk_attempts where chunk = queue.chunk_of(job)) t
    where queue.place_of(job) between t.lo and t.lo + t.n - 1 and not queue.place_of(job) = any (t.others)
$$;

-- What an attempt has logged.
create function queue.log_of(job uuid, attempt_no integer) returns jsonb
language plpgsql stable as $$
#variable_conflict use_variable
begin
    return coalesce((select t.log from queue.attempts t where t.job_id = job and t.attempt_no = attempt_no),
                    (select (a.logs -> queue.place_of(job)::text)::jsonb from queue.chunk_attempts a
                     where a.chunk = queue.chunk_of(job) and a.logs is not null and attempt_no = 1 and not queue.place_of(job) = any (a.others)
                       and queue.place_of(job) between a.lo and a.lo + a.n - 1));
end
$$;

-- How far a job says it is.
create table queue.job_progress (
    job_id uuid primary key,
    doc    jsonb not null, -- {fraction, text}
    at     timestamptz not null default clock_timestamp()
);
create index job_progress_at on queue.job_progress using brin (at); -- as the next: for queue.prune_places

-- Values that a job has kept for its later attempts.
create table queue.checkpoints (
    job_id uuid not null,
    name   text not null check (length(name) between 1 and 200),
    value  jsonb not null,
    token  uuid not null, -- of the attempt that has recorded it
    at     timestamptz not null default clock_timestamp(),
    primary key (job_id, name)
);
create index checkpoints_at on queue.checkpoints using brin (at);

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
create index late_results_at on queue.late_results (at);

create table queue.job_keys (
    key        text primary key check (length(key) between 1 and 512),
    job_id     uuid not null,
    created_at timestamptz not null default now()
);

-- Keys of which one job is made in each span of period_ms; number: of the span, counted from 1970.
create table queue.period_keys (
    key       text not null check (length(key) between 1 and 512),
    period_ms bigint not null check (period_ms > 0),
    number    bigint not null,
    job_id    uuid not null,
    ends_at   timestamptz not null,
    primary key (key, period_ms, number)
);
create index period_keys_end on queue.period_keys (ends_at);

-- Limits of a queue; null: none. A queue without a row is free.
create table queue.queue_policies (
    queue                   text primary key,
    max_attempts_per_minute integer default 60 check (max_attempts_per_minute >= 0),
    max_in_flight           integer default 50 check (max_in_flight >= 0),
    throttle_delay_ms       integer default 500,
    max_attempts            integer check (max_attempts > 0),
    lease_ms                bigint check (lease_ms > 0),
    paused                  boolean not null default false,
    source                  text not null default 'sql', -- conf: a [queue NAME] section made it, and removes it; api: by HTTP
    backoff_base_ms         bigint check (backoff_base_ms >= 0),
    backoff_max_ms          bigint check (backoff_max_ms >= 0),
    backoff_jitter          real check (backoff_jitter between 0 and 1),
    timeout_ms              bigint check (timeout_ms > 0),
    max_per_key             integer check (max_per_key > 0), -- jobs with one concurrency_key that run at a time
    key_fifo                boolean not null default false,  -- of a key one at a time, in the order of their making
    keep_succeeded_ms       bigint check (keep_succeeded_ms >= 0), -- until they go to the archive
    keep_canceled_ms        bigint check (keep_canceled_ms >= 0),
    keep_dlq_ms             bigint check (keep_dlq_ms >= 0),
    paused_by               text,
    paused_at               timestamptz,
    encrypt_args            boolean not null default false, -- only arguments that a daemon has encrypted are taken
    updated_by              text,
    updated_at              timestamptz not null default now()
);

-- Keys that have parked jobs, and when to look again whether they may go on.
create table queue.parked_keys (
    queue           text not null,
    concurrency_key text not null,
    look_at         timestamptz not null,
    primary key (queue, concurrency_key)
);
create index parked_keys_due on queue.parked_keys (look_at);

-- [limit NAME]: so many starts a second on average, burst at once.
create table queue.limits (
    name       text primary key,
    on_kind    text not null check (on_kind in ('queue', 'type', 'key')),
    on_name    text, -- queue or job type; of a key limit the queue, null: each key of every queue
    per_second double precision not null check (per_second > 0),
    burst      double precision not null check (burst >= 1),
    check (on_kind = 'key' or on_name is not null)
);

-- What is left of a limit; subject: the queue and the key of a key limit, else ''.
create table queue.tokens (
    name    text not null references queue.limits on delete cascade,
    subject text not null default '',
    amount  double precision not null,
    at      timestamptz not null,
    primary key (name, subject)
);
create index tokens_at on queue.tokens (at) where subject <> '';

-- job_id does not run before needs has ended. checked: whoever ends `needs` from here on is sure to see this row.
create table queue.dependencies (
    job_id  uuid not null,
    needs   uuid not null,
    checked boolean not null default false,
    primary key (job_id, needs)
);
create index dependencies_needs on queue.dependencies (needs);
create index dependencies_unchecked on queue.dependencies (job_id) where not checked;

create table queue.batches (
    id              uuid primary key,
    total           integer not null,
    succeeded       integer not null default 0,
    dlq             integer not null default 0,
    canceled        integer not null default 0,
    callback        jsonb, -- {queue, type, args}
    callback_job_id uuid,
    created_by      text,
    created_at      timestamptz not null default now(),
    ended_at        timestamptz
);

-- What people did to jobs, for their timelines.
create table queue.events (
    job_id     uuid not null,
    at         timestamptz not null default clock_timestamp(),
    kind       text not null, -- Retried, Discarded
    actor      text,
    request_id text
);
create index events_job on queue.events (job_id);

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
    ('KEY_UNKNOWN', false, 'not retried: add the key that it names to [plugin queue] encryption_keys, reload, then retry'),
    ('DECRYPT_FAILED', false, 'not retried: the stored arguments were changed, or belong to another job type; enqueue it anew'),
    ('UNKNOWN', true, 'look at the message and the log, then give the error a code of its own in the handler');

create function queue.advice(error_code text) returns text
language plpgsql stable set plan_cache_mode = force_generic_plan as $$
begin
    return (
        select advice from queue.error_advice where code in (upper(btrim(error_code)), 'UNKNOWN') order by code = 'UNKNOWN' limit 1);
end
$$;

grant select, insert, update, delete on all tables in schema queue to depot;
revoke all on all functions in schema queue from public;
grant execute on all functions in schema queue to depot;
