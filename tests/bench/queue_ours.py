"""queue_ours.py - depotd as a contestant of the queue bench."""
import http.client
import os
import sys
import time

from queue_lab import Session, children, node, processor_seconds

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, Rig, eventually  # noqa: E402

QUEUE = "bench"
CHUNK = 10000
SCRIPTS = """-- Handlers of the bench.
depot.job("lua.noop") { run = function() end }
depot.job("lua.delay") { run = function(job) return math.floor(depot.now() * 1e6 - job.args.at) end }
"""
CONF = """[plugin http]
[plugin storage]
[plugin queue]
max_enqueue_per_minute = 0
[plugin jobs]
file = %s
"""


def bulk_sql(job_type, n):
    """n jobs by one statement. The only place that knows how jobs are enqueued in bulk."""
    return """do $$ begin for chunk in 0 .. %d loop
        perform queue.enqueue_chunks('%s', '%s', (select json_agg(json_build_object('id', i))
            from generate_series(chunk * %d, least(%d, (chunk + 1) * %d) - 1) i));
    end loop; end $$""" % ((n - 1) // CHUNK, QUEUE, job_type, CHUNK, n, CHUNK)


def pause_sql(paused):
    """Holds the queue or opens it, with no other limit, and tells the daemon. The only place that knows how."""
    return """with p as (insert into queue.queue_policies (queue, paused, max_attempts_per_minute, max_in_flight) values ('%s', %s, null, null)
        on conflict (queue) do update set paused = excluded.paused returning 1)
        select pg_notify('depot_queue', '') from p""" % (QUEUE, paused)


def succeeded_sql():
    """Jobs that have succeeded so far. Cheap, as it is asked while they run; the only place that knows where it is counted."""
    return "select coalesce(sum(succeeded), 0)::bigint from queue.tally where queue = '%s'" % QUEUE


def kept_sql():
    """Attempts that are kept with their outcome."""
    return ("select (select count(*) from queue.attempts where status = 'succeeded')"
            " + (select coalesce(sum(n - cardinality(others)), 0) from queue.chunk_attempts)")


class Depotd:
    """One daemon with two workers on a database of its own. Its queue is paused but for the runs."""

    def __init__(self, lab, name, job_type=None, by_post=False):
        self.lab, self.name, self.job_type, self.by_post = lab, name, job_type, by_post
        self.finished = 0

    def open(self):
        self.database = self.lab.database()
        self.rig = Rig(conf=None, env={
            "DATABASE_URL": self.url(), "DATABASE_DIRECT_URL": self.url(), "DATABASE_OWNER_URL": self.lab.url(self.database, "owner_url")})
        self.rig.write_script("handlers/bench.lua", SCRIPTS)
        self.rig.write_conf("10-bench.ini", CONF % os.path.join(BUILD, "tests", "plugins", "jobs.so"))
        try:
            self.rig.start()
            self.session = Session(self.lab.url(self.database))
            self.pause(True)
        except RuntimeError:
            self.rig.__exit__(None, None, None)
            raise
        self.finished = 0
        return self

    def url(self):
        return self.lab.url(self.database, "url")

    def pause(self, paused):
        self.session.sql(pause_sql(paused))

    def fill(self, n):
        """Jobs a second."""
        began = time.monotonic()
        self.session.sql(bulk_sql(self.job_type, n))
        took = time.monotonic() - began
        self.session.sql("vacuum analyze")
        return n / took

    def run(self, n):
        """Jobs a second from the moment that the queue is opened until n more have succeeded."""
        until = time.monotonic() + 3600
        began = time.monotonic()
        self.pause(False)
        while True:
            now = int(self.session.value(succeeded_sql()))
            if now >= self.finished + n:
                break
            if time.monotonic() > until or not self.rig.alive():
                raise RuntimeError("only %d of %d jobs succeeded\n%s" % (now - self.finished, n, self.rig.log_text()[-2000:]))
            time.sleep(0.025)
        took = time.monotonic() - began
        n = now - self.finished
        self.pause(True)
        self.settle()
        return n / took

    def settle(self):
        """Waits until nothing runs."""
        seen = [-1]

        def quiet():
            time.sleep(0.2)
            before, seen[0] = seen[0], int(self.session.value(succeeded_sql()))
            return before == seen[0]
        if not eventually(60, quiet):
            raise RuntimeError("the paused queue goes on")
        self.finished = seen[0]

    def processor_seconds(self):
        """Of the daemon and its workers."""
        return processor_seconds([self.rig.process.pid, *children(self.rig.process.pid)])

    def check(self, n):
        kept = int(self.session.value(kept_sql()))
        if kept != n or self.finished != n:
            raise RuntimeError("%s: of %d jobs %d are counted and %d attempts kept" % (self.name, n, self.finished, kept))

    def delays(self, n, gap):
        """From the producer's clock before its statement or request to the handler's at its beginning, in ms."""
        self.pause(False)
        time.sleep(1)
        url, token = self.http() if self.by_post else (self.url(), "")
        ids = node("producer.mjs", QUEUE, self.job_type, n, gap, url=url, env={"BENCH_TOKEN": token})["ids"]
        return [self._delay(job_id) for job_id in ids]

    def _delay(self, job_id):
        job = eventually(30, lambda: (lambda j: j if j["status"] == "succeeded" else None)(self.rig.admin("GET", "/jobs/" + job_id).json()))
        if not job:
            raise RuntimeError("job %s has not succeeded" % job_id)
        return job["result"] / 1000

    def http(self):
        """Address and token of what takes jobs by POST."""
        return "http://127.0.0.1:%d/jobs" % self.rig.admin_port, self.rig.token()

    def lookups(self, path, n):
        """How long n requests for jobs here and there took, in ms; the path has a place for the id."""
        ids = self.session.sql("select queue.job_at(id, floor(random() * n)::integer) from queue.chunks order by random() limit %d" % n)
        connection = http.client.HTTPConnection("127.0.0.1", self.rig.admin_port, timeout=60)
        took = []
        for job_id, in ids:
            began = time.monotonic()
            connection.request("GET", path % job_id, headers={"Authorization": "Bearer " + self.rig.token()})
            reply = connection.getresponse()
            reply.read()
            took.append((time.monotonic() - began) * 1000)
            if reply.status != 200:
                raise RuntimeError("%s: status %d" % (path % job_id, reply.status))
        connection.close()
        return took

    def enqueued_by_http(self):
        return int(self.session.value("select (select count(*) from queue.jobs where queue = 'bench-http') + (select coalesce(sum(n), 0) from queue.chunks where queue = 'bench-http')"))

    def close(self):
        self.session.close()
        self.rig.__exit__(None, None, None)
        self.lab.drop(self.database)
