-- What a running job does to its own record: progress, checkpoints, jobs of its own; each checks the token of its lease.

-- Is the lease held, and will it be until the transaction ends? Whoever would take it away passes over the job, and nobody leases it
-- anew before. The weakest lock that does this: the lease is extended under it, and a cancel is heard of.
-- Of a job of a range it is the range's lease that is held, whether it is a row or none: as long as that is there, nobody closes the row.
create function queue.hold(job uuid, token uuid) returns boolean
language plpgsql volatile as $$
#variable_conflict use_variable
begin
    perform from queue.chunk_leases l where l.token = token and l.chunk = queue.chunk_of(job)
        and queue.place_of(job) between l.lo and l.lo + l.n - 1 for key share;
    if not found then
        perform from queue.jobs j where j.id = job and j.lease_token = token for key share;
    end if;
    return found;
end
$$;

create function queue.is_held(job uuid, token uuid) returns boolean
language sql stable as $$
    select exists (select from queue.jobs j where j.id = job and j.lease_token = token)
        or exists (select from queue.chunk_leases l where l.token = is_held.token and l.chunk = queue.chunk_of(job)
                   and queue.place_of(job) between l.lo and l.lo + l.n - 1)
$$;

-- false: the lease is lost.
create function queue.progress(job uuid, token uuid, doc jsonb) returns boolean
language plpgsql volatile as $$
#variable_conflict use_column
begin
    if not queue.hold(job, token) then
        return false;
    end if;
    insert into queue.job_progress (job_id, doc) values (job, progress.doc)
    on conflict (job_id) do update set doc = excluded.doc, at = excluded.at;
    return true;
end
$$;

create function queue.checkpoint_get(job uuid, name text) returns jsonb
language sql stable as $$
    select c.value from queue.checkpoints c where c.job_id = job and c.name = checkpoint_get.name
$$;

-- false: the lease is lost.
create function queue.checkpoint_set(job uuid, token uuid, name text, value jsonb) returns boolean
language plpgsql volatile as $$
#variable_conflict use_column
begin
    if not queue.hold(job, token) then
        return false;
    end if;
    insert into queue.checkpoints (job_id, name, value, token) values (job, checkpoint_set.name, checkpoint_set.value, checkpoint_set.token)
    on conflict (job_id, name) do update set value = excluded.value, token = excluded.token, at = excluded.at;
    return true;
end
$$;

-- A job made by a job. opts: {delay ("10s" or seconds), run_at, priority, max_attempts, key} and what queue.enqueue takes as options.
-- null: the lease is lost.
create function queue.enqueue_from(job uuid, token uuid, to_queue text, type text, args jsonb, opts jsonb) returns uuid
language plpgsql volatile as $$
declare
    delay interval := case jsonb_typeof(opts -> 'delay') when 'number' then (opts ->> 'delay')::numeric * interval '1 second'
                           else (opts ->> 'delay')::interval end;
begin
    if not queue.hold(job, token) then
        return null;
    end if;
    return queue.enqueue(to_queue, type, queue.fit_args(to_queue, coalesce(args, '{}')), coalesce((opts ->> 'run_at')::timestamptz, clock_timestamp() + delay),
                         (opts ->> 'priority')::integer, (opts ->> 'max_attempts')::integer, opts ->> 'key', 'job:' || job,
                         options => nullif(opts - '{delay,run_at,priority,max_attempts,key}'::text[], '{}'));
end
$$;

revoke all on all functions in schema queue from public;
grant execute on all functions in schema queue to depot;
