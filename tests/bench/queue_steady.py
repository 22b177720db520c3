"""queue_steady.py - a load that does not end: do the tables that all work goes through stay as they were?"""
import time

from queue_ours import QUEUE, Depotd, bulk_sql

BULK, ROWS, TURN = 2500, 25, 0.5  # jobs of each kind a turn, made in bulk and one by one; seconds
CONF = """[queue %s]
archive_succeeded_after = 10s
""" % QUEUE
# all but what keeps history, which grows with it until it is dropped
HOT = """select coalesce(sum(pg_total_relation_size(relid)), 0), coalesce(sum(n_dead_tup), 0), (select count(*) from queue.jobs) from pg_stat_user_tables
    where schemaname = 'queue' and relname !~ '^(chunks|chunk_attempts|attempts|jobs_archive)'"""


def one_turn(ours):
    ours.session.sql(bulk_sql(ours.job_type, BULK))
    ours.session.sql("select count(depot.enqueue('%s', '%s', jsonb_build_object('id', g))) from generate_series(1, %d) g" % (QUEUE, ours.job_type, ROWS))


def steady(lab, minutes, note):
    """Samples of (bytes, dead tuples, rows of queue.jobs), one a minute."""
    ours = Depotd(lab, "depotd-c", "c.noop")
    ours.open()
    try:
        ours.rig.write_conf("20-steady.ini", CONF)
        if ours.rig.ctl("config", "reload")[0] != 0:
            raise RuntimeError("the daemon does not take its configuration")
        ours.pause(False)
        samples, made, begin = [], 0, time.monotonic()
        while time.monotonic() < begin + minutes * 60:
            one_turn(ours)
            made += BULK + ROWS
            if time.monotonic() - begin >= (len(samples) + 1) * 60:
                samples.append(tuple(int(v) for v in ours.session.sql(HOT)[0]))
                note("minute %d: %d jobs made; hot tables %.1f MB, %d dead tuples, %d rows in queue.jobs"
                     % (len(samples), made, samples[-1][0] / 1e6, samples[-1][1], samples[-1][2]))
            time.sleep(max(0.0, begin + made / (BULK + ROWS) * TURN - time.monotonic()))
        ours.settle()
        ours.check(made)
        return samples
    finally:
        ours.close()
