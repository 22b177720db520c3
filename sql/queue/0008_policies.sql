-- What limits queues: rows made by [queue NAME] and [limit NAME] sections, over HTTP and by SQL.

-- The [queue NAME] sections: objects with the columns of queue.queue_policies; null or absent: not limited. Rows that came from a
-- section which is gone go too, but for an operator's pause; rows made otherwise stay unless a section names their queue.
create function queue.set_policies(sections jsonb) returns void
language plpgsql volatile as $$
begin
    perform from queue.queue_policies order by queue for update; -- in the order of claims
    update queue.queue_policies p
    set max_in_flight = null, max_attempts_per_minute = null, max_attempts = null, lease_ms = null, backoff_base_ms = null,
        backoff_max_ms = null, backoff_jitter = null, timeout_ms = null, max_per_key = null, key_fifo = false, keep_succeeded_ms = null,
        keep_canceled_ms = null, keep_dlq_ms = null, encrypt_args = false, source = 'api', updated_by = 'conf', updated_at = now()
    where p.source = 'conf' and p.paused_by <> 'conf' and p.queue not in (select s ->> 'queue' from jsonb_array_elements(sections) s);
    delete from queue.queue_policies p
    where p.source = 'conf' and p.queue not in (select s ->> 'queue' from jsonb_array_elements(sections) s);
    insert into queue.queue_policies as p (queue, max_in_flight, max_attempts_per_minute, max_attempts, lease_ms, backoff_base_ms,
        backoff_max_ms, backoff_jitter, timeout_ms, max_per_key, key_fifo, keep_succeeded_ms, keep_canceled_ms, keep_dlq_ms, encrypt_args,
        paused, paused_by, paused_at, source, updated_by)
    select s.queue, s.max_in_flight, s.max_attempts_per_minute, s.max_attempts, s.lease_ms, s.backoff_base_ms, s.backoff_max_ms,
           s.backoff_jitter, s.timeout_ms, s.max_per_key, coalesce(s.key_fifo, false), s.keep_succeeded_ms, s.keep_canceled_ms,
           s.keep_dlq_ms, coalesce(s.encrypt_args, false), coalesce(s.paused, false), case when s.paused then 'conf' end, case when s.paused then now() end, 'conf', 'conf'
    from jsonb_populate_recordset(null::queue.queue_policies, sections) s
    on conflict (queue) do update
    set max_in_flight = excluded.max_in_flight, max_attempts_per_minute = excluded.max_attempts_per_minute,
        max_attempts = excluded.max_attempts, lease_ms = excluded.lease_ms, backoff_base_ms = excluded.backoff_base_ms,
        backoff_max_ms = excluded.backoff_max_ms, backoff_jitter = excluded.backoff_jitter, timeout_ms = excluded.timeout_ms,
        max_per_key = excluded.max_per_key, key_fifo = excluded.key_fifo, keep_succeeded_ms = excluded.keep_succeeded_ms,
        keep_canceled_ms = excluded.keep_canceled_ms, keep_dlq_ms = excluded.keep_dlq_ms, encrypt_args = excluded.encrypt_args,
        paused = excluded.paused or coalesce(p.paused_by <> 'conf', false), -- an operator's pause ends when an operator ends it
        paused_by = coalesce(excluded.paused_by, nullif(p.paused_by, 'conf')), paused_at = coalesce(p.paused_at, excluded.paused_at),
        source = 'conf', updated_by = 'conf', updated_at = now();
end
$$;

-- What holds for a queue, and where it comes from. A queue without a row is free.
create function queue.policy(of_queue text) returns json
language sql stable as $$
    select json_build_object('queue', of_queue, 'source', coalesce(p.source, 'none'), 'paused', coalesce(p.paused, false),
        'paused_by', p.paused_by, 'paused_at', queue.iso(p.paused_at), 'max_in_flight', p.max_in_flight,
        'max_attempts_per_minute', p.max_attempts_per_minute, 'max_attempts', p.max_attempts, 'lease_ms', p.lease_ms,
        'backoff_base_ms', p.backoff_base_ms, 'backoff_max_ms', p.backoff_max_ms, 'backoff_jitter', p.backoff_jitter,
        'timeout_ms', p.timeout_ms, 'max_per_key', p.max_per_key, 'key_fifo', coalesce(p.key_fifo, false),
        'keep_succeeded_ms', p.keep_succeeded_ms, 'keep_canceled_ms', p.keep_canceled_ms, 'keep_dlq_ms', p.keep_dlq_ms,
        'encrypt_args', coalesce(p.encrypt_args, false), 'updated_by', p.updated_by, 'updated_at', queue.iso(p.updated_at),
        'limits', (select coalesce(json_agg(json_build_object('name', l.name, 'per_second', l.per_second, 'burst', l.burst, 'on', l.on_kind)
                                            order by l.name), '[]')
                   from queue.limits l where l.on_kind in ('queue', 'key') and coalesce(l.on_name, of_queue) = of_queue))
    from (values (1)) one left join queue.queue_policies p on p.queue = of_queue
$$;

-- Locks the queue's row, making it when there is none. A section of the configuration is changed in its file, not here.
create function queue.own_policy(of_queue text) returns void
language plpgsql volatile as $$
begin
    insert into queue.queue_policies (queue, max_attempts_per_minute, max_in_flight, source) values (of_queue, null, null, 'api')
    on conflict do nothing;
    perform from queue.queue_policies where queue = of_queue for update;
end
$$;

create function queue.refuse_if_conf(of_queue text) returns void
language plpgsql stable as $$
begin
    if exists (select from queue.queue_policies where queue = of_queue and source = 'conf') then
        raise object_not_in_prerequisite_state using message = format('the limits of queue %s come from the section [queue %s]', of_queue, of_queue),
            hint = format('change the section [queue %s] and reload, or take it out to set limits here', of_queue);
    end if;
end
$$;

-- given: any of the columns; null takes the limit away.
create function queue.set_policy(of_queue text, given jsonb, actor text) returns json
language plpgsql volatile as $$
begin
    perform queue.own_policy(of_queue);
    perform queue.refuse_if_conf(of_queue);
    update queue.queue_policies p
    set max_in_flight = n.max_in_flight, max_attempts_per_minute = n.max_attempts_per_minute, max_attempts = n.max_attempts,
        lease_ms = n.lease_ms, backoff_base_ms = n.backoff_base_ms, backoff_max_ms = n.backoff_max_ms, backoff_jitter = n.backoff_jitter,
        timeout_ms = n.timeout_ms, max_per_key = n.max_per_key, key_fifo = coalesce(n.key_fifo, false),
        keep_succeeded_ms = n.keep_succeeded_ms, keep_canceled_ms = n.keep_canceled_ms, keep_dlq_ms = n.keep_dlq_ms,
        source = 'api', updated_by = actor, updated_at = now()
    from queue.queue_policies o, lateral jsonb_populate_record(o, given) n
    where p.queue = of_queue and o.queue = of_queue;
    update queue.parked_keys k set look_at = now() -- those that somebody is at are looked at anyway
    where (k.queue, k.concurrency_key) in (select p.queue, p.concurrency_key from queue.parked_keys p where p.queue = of_queue
                                           for update skip locked);
    perform queue.wake(null);
    return queue.policy(of_queue);
end
$$;

-- Takes all limits away; a pause stays.
create function queue.clear_policy(of_queue text, actor text) returns json
language plpgsql volatile as $$
begin
    return queue.set_policy(of_queue, (select jsonb_object_agg(c, null::text) from unnest('{max_in_flight,max_attempts_per_minute,
        max_attempts,lease_ms,backoff_base_ms,backoff_max_ms,backoff_jitter,timeout_ms,max_per_key,key_fifo,keep_succeeded_ms,
        keep_canceled_ms,keep_dlq_ms}'::text[]) c), actor);
end
$$;

-- Any queue can be paused; only what a section of the configuration pauses is resumed there.
create function queue.pause(of_queue text, actor text) returns json
language plpgsql volatile as $$
begin
    perform queue.own_policy(of_queue);
    update queue.queue_policies set paused = true, paused_by = actor, paused_at = now() where queue = of_queue and not paused;
    return queue.policy(of_queue);
end
$$;

create function queue.resume(of_queue text, actor text) returns json
language plpgsql volatile as $$
begin
    if exists (select from queue.queue_policies where queue = of_queue and paused and paused_by = 'conf') then
        perform queue.refuse_if_conf(of_queue);
    end if;
    update queue.queue_policies set paused = false, paused_by = null, paused_at = null, updated_by = actor, updated_at = now()
    where queue = of_queue and paused;
    perform queue.wake(null);
    return queue.policy(of_queue);
end
$$;

-- The [limit NAME] sections: [{name, on_kind, on_name, per_second, burst}].
create function queue.set_limits(sections jsonb) returns void
language plpgsql volatile as $$
begin
    perform from queue.limits order by name for update; -- in the order of claims
    delete from queue.limits l where l.name not in (select s ->> 'name' from jsonb_array_elements(sections) s);
    insert into queue.limits as l select s.* from jsonb_populate_recordset(null::queue.limits, sections) s
    on conflict (name) do update set on_kind = excluded.on_kind, on_name = excluded.on_name, per_second = excluded.per_second,
        burst = excluded.burst
    where l.* is distinct from excluded.*;
end
$$;
