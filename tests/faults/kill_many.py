"""kill_many.py - JOBS=100000 jobs, rows and chunks, in Lua and in C, with 8 workers, while the daemon, its PostgreSQL and workers are killed
at random for MINUTES=10, over which the jobs are made. Then every job must be in one final state, with every attempt explained, and no lease
may have had its effect twice: one by the attempt that succeeded, others only by attempts whose end was cut off. SEED repeats a run. `make check-kills` runs it. TAP."""
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, Rig, done, eventually, is_, note, ok  # noqa: E402
from servers import embedded_sql  # noqa: E402

JOBS, MINUTES = int(os.environ.get("JOBS") or "100000"), float(os.environ.get("MINUTES") or "10")
SEED = int(os.environ.get("SEED") or "0") or random.SystemRandom().randrange(1, 10 ** 9)
PIECE = 1000
HANDLER = """
depot.job("m.effect") { timeout = "30s", run = function(job)
  if job.args.n % 40 == 0 and job.attempt == 1 then job:fail("DEPENDENCY_DOWN", "once") end
  job:tx(function(tx) tx:exec("insert into public.effect (job_id, attempt) values ($1, $2)", job.id, job.attempt) end)
end }
"""
CONF = """
[lua]
workers = 8
[plugin http]
[plugin queue]
lease = 5s
reap_interval = 1s
[plugin jobs]
file = %s
""" % os.path.join(BUILD, "tests", "plugins", "jobs.so")


def patiently(rig, sql):
    """The server may be on its way back."""
    def asked():
        try:
            return [embedded_sql(rig, sql)]
        except (RuntimeError, OSError):
            return None
    rows = eventually(90, asked)
    if rows is None:
        raise RuntimeError("the server does not come back")
    return rows[0]


def enqueue(rig, i):
    """Piece i, once: of five one is rows for a handler in Lua, one a chunk for it, the others are chunks for one in C."""
    numbers = "generate_series(%d, %d) g" % (i * PIECE, i * PIECE + PIECE - 1)
    if i % 5 == 0:
        make = ("queue.enqueue_many((select jsonb_agg(jsonb_build_object('queue', 'k', 'type', 'm.effect', 'max_attempts', 1000, 'args',"
                " jsonb_build_object('n', g))) from %s))" % numbers)
    else:
        make = ("depot.enqueue_many('k', '%s', (select json_agg(json_build_object('n', g)) from %s), max_attempts => 1000)"
                % ("m.effect" if i % 5 == 1 else "c.echo", numbers))
    patiently(rig, "do $$ begin insert into public.piece values (%d) on conflict do nothing; if found then perform %s; end if; end $$" % (i, make))


def batter(rig, dice):
    """Makes the jobs piece by piece and kills in between; how often what was killed."""
    pieces, made, began, kills = JOBS // PIECE, 0, time.monotonic(), {}
    while made < pieces or time.monotonic() < began + 60 * MINUTES:
        due = min(pieces, 1 + int(pieces * (time.monotonic() - began) / (60 * MINUTES)))
        while made < due:
            enqueue(rig, made)
            made += 1
        time.sleep(dice.random() * 4)
        what = kill_something(rig, dice)
        if what:
            kills[what] = kills.get(what, 0) + 1
    least = {"worker", "daemon", "postgres"} if MINUTES >= 1 else {"worker"}
    ok(least <= set(kills), "workers, daemon and server were killed", kills)
    note("%d kills in %.0f s: %s; %d jobs were left" % (sum(kills.values()), time.monotonic() - began, kills, open_jobs(rig)))


def kill_something(rig, dice):
    what = dice.choice(("worker", "worker", "worker", "daemon", "postgres", "both"))
    victims = rig.workers() if what == "worker" else [rig.postmaster()] if what != "daemon" and rig.postmaster() else []
    try:
        if victims:
            os.kill(dice.choice(victims), signal.SIGKILL)
    except ProcessLookupError:
        victims = []  # it has ended by itself meanwhile
    if what in ("daemon", "both"):
        rig.kill()
        rig.start()
    return what if victims or what in ("daemon", "both") else None


def open_jobs(rig):
    return int(patiently(rig, "select (select count(*) from queue.jobs where status in ('queued', 'running'))"
                              " + (select coalesce(sum(n), 0) from queue.chunk_ready) + (select coalesce(sum(n), 0) from queue.chunk_leases)")[0][0])


def verify(rig):
    def count(sql):
        return int(patiently(rig, sql)[0][0])

    in_chunks = "(select coalesce(sum(n - cardinality(others)), 0) from queue.chunk_attempts)"
    is_(count("select (select count(*) from queue.jobs where status = 'succeeded') + " + in_chunks), JOBS, "every job has succeeded, in one place")
    places = ("(select queue.job_at(a.chunk, g) as id from queue.chunk_attempts a, generate_series(a.lo, a.lo + a.n - 1) g"
              " where g <> all (a.others) union all select id from queue.jobs where status = 'succeeded') p")
    is_(patiently(rig, "select count(*), count(distinct id) from " + places), [(str(JOBS), str(JOBS))], "each of them once")
    is_(count("select count(*) from queue.jobs where status <> 'succeeded'"), 0, "and none is in another state")
    is_(count("select coalesce(sum(succeeded), 0) from queue.tally"), JOBS, "the sums say so too")
    is_(count("select count(*) from queue.chunk_attempts a join queue.jobs j on j.id >= a.chunk and j.id <= queue.job_at(a.chunk, 1023)"
              " where queue.place_of(j.id) between a.lo and a.lo + a.n - 1 and queue.place_of(j.id) <> all (a.others)"), 0,
        "no row has succeeded in its chunk as well")
    is_(count("select count(*) from queue.jobs j where j.attempts <> (select count(*) from queue.attempts t where t.job_id = j.id)"
              " or 1 <> (select count(*) from queue.attempts t where t.job_id = j.id and t.status = 'succeeded')"), 0,
        "each attempt of a row is kept, one succeeded")
    is_(count("select count(*) from queue.attempts where status <> 'succeeded' and error_code is null"), 0, "those that failed have a reason")
    note("attempts that failed: %s" % patiently(rig, "select error_code, count(*) from queue.attempts where status <> 'succeeded' group by 1"))
    is_(count("select count(*) from (select from public.effect group by job_id, attempt having count(*) > 1) x"), 0, "no lease had its effect twice")
    is_(count("select count(*) from public.effect e left join queue.attempts t on t.job_id = e.job_id and t.attempt_no = e.attempt"
              " where coalesce(t.status, 'succeeded') = 'succeeded'"), sum(PIECE for i in range(JOBS // PIECE) if i % 5 < 2),
        "each attempt that succeeded had it")
    is_(count("select count(distinct job_id) from public.effect"), sum(PIECE for i in range(JOBS // PIECE) if i % 5 < 2), "and each job")
    note("effects of attempts whose end was cut off: %s" % patiently(
        rig, "select t.error_code, count(*) from public.effect e join queue.attempts t on t.job_id = e.job_id and t.attempt_no = e.attempt"
        " where t.status <> 'succeeded' group by 1"))
    is_(count("select count(*) from public.effect e join queue.attempts t on t.job_id = e.job_id and t.attempt_no = e.attempt"
              " where t.status <> 'succeeded' and t.error_code not in ('WORKER_LOST', 'DB_UNAVAILABLE', 'DB_COMMIT_UNKNOWN')"), 0, "no other had one")


def main():
    dice = random.Random(SEED)
    note("SEED=%d JOBS=%d MINUTES=%g" % (SEED, JOBS, MINUTES))
    with Rig(conf=None) as rig:
        rig.write_script("handlers/many.lua", HANDLER)
        rig.write_conf("50-test.ini", CONF)
        rig.start()
        patiently(rig, "create table public.effect (job_id uuid, attempt integer); create table public.piece (n integer primary key);"
                       " grant usage on schema public to depot; grant insert, select on public.effect to depot;"
                       " insert into queue.queue_policies (queue, max_attempts_per_minute, max_in_flight, backoff_base_ms) values ('k', null, null, 500)")
        batter(rig, dice)
        ok(eventually(600, lambda: open_jobs(rig) == 0), "every job comes to an end by itself", open_jobs(rig))
        verify(rig)
        is_(rig.stop(), 0, "the daemon stops as it should")
    done()


main()
