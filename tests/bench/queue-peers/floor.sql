-- The least that a queue in PostgreSQL can do by rows: one statement claims 500, deletes them and writes a row of history for each.
with claimed as materialized (
    select id from floor.jobs where queue = 1 and run_at <= now() order by prio, run_at, id limit 500 for update skip locked
), gone as (
    delete from floor.jobs j using claimed c where j.id = c.id returning j.id
)
insert into floor.history (id, worker, started, outcome) select id, 1, now(), 0 from gone;
