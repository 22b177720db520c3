-- For trials: jobs to look at, and everything gone again.

-- n jobs, every other one of a type whose handler fails (lua/examples/demo.lua).
create function queue.seed(n integer, actor text, from_node text) returns json
language sql volatile as $$
    select json_build_object('job_ids', queue.enqueue_many((
        select jsonb_agg(jsonb_build_object('type', case when i % 2 = 1 then 'demo_ok' else 'fail_me' end, 'max_attempts', 5, 'actor', actor) order by i)
        from generate_series(1, n) i), from_node))
$$;

-- Jobs of every state, what is known of them, and limits that no section of the configuration has set. What runs just now has lost its
-- lease. As the owner, as the daemon's role may not truncate; waits for nobody.
create function queue.reset() returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
begin
    truncate queue.jobs, queue.jobs_archive, queue.attempts, queue.chunks, queue.chunk_ready, queue.chunk_leases, queue.chunk_attempts,
             queue.job_progress, queue.checkpoints, queue.late_results, queue.job_keys, queue.period_keys, queue.parked_keys,
             queue.dependencies, queue.batches, queue.events, queue.policy_decisions, queue.ingest_decisions,
             queue.enqueue_rate_counters, queue.tally;
    delete from queue.queue_policies where source <> 'conf';
end
$$;

revoke all on all functions in schema queue from public;
grant execute on all functions in schema queue to depot;
