"""queue_peers.py - the peers of the queue bench, each with the settings in which it is best."""
import os
import re
import resource
import subprocess
import time

from queue_lab import PEERS, Driver, Session, node

TOKEN = "bench-token"


class Peer:
    """A contestant with a database of its own and nothing in it."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name

    def open(self):
        self.database = self.lab.database()
        self.session = Session(self.url())
        self.make_schema()
        return self

    def url(self):
        return self.lab.url(self.database)

    def fill(self, n):
        began = time.monotonic()
        self.insert(n)
        took = time.monotonic() - began
        self.session.sql("vacuum analyze")
        return n / took

    @staticmethod
    def processor_seconds():
        """Of the drivers, which end with their run."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def check(self, n):
        """Nothing is left of the n that it was given."""
        left = int(self.session.value(self.left_sql))
        if left != 0:
            raise RuntimeError("%s: %d of %d jobs are left" % (self.name, left, n))

    def close(self):
        self.session.close()
        self.lab.drop(self.database)


class Graphile(Peer):
    left_sql = "select count(*) from graphile_worker._private_jobs"

    def __init__(self, lab, mode, processes):
        super().__init__(lab, "graphile-worker-%s-%d" % (mode, processes))
        self.env, self.processes = {"GW_MODE": mode, "BENCH_TOKEN": TOKEN, "NO_LOG_SUCCESS": "1"}, processes

    def make_schema(self):
        node("graphile.mjs", "schema", url=self.url())

    def insert(self, n):
        self.session.sql("""do $$ begin for chunk in 0 .. %d loop
            perform graphile_worker.add_jobs(array(select json_populate_record(null::graphile_worker.job_spec,
                json_build_object('identifier', 'noop', 'payload', json_build_object('id', i)))
                from generate_series(chunk * 10000, least(%d, (chunk + 1) * 10000) - 1) i));
        end loop; end $$""" % ((n - 1) // 10000, n))

    def run(self, n):
        got = node("graphile.mjs", "work", n, self.processes, url=self.url(), env=self.env)
        return got["n"] / got["seconds"]

    def delays(self, n, gap):
        return [us / 1000 for us in node("graphile.mjs", "latency", n, gap, url=self.url(), env=self.env)["delays"]]

    def serve(self):
        return Driver("graphile.mjs", "http", url=self.url(), env=self.env)

    def enqueued_by_http(self):
        return int(self.session.value(self.left_sql))


class Boss(Peer):
    left_sql = "select count(*) from pgboss.job where state < 'completed'"

    def __init__(self, lab, notify=False):
        super().__init__(lab, "pg-boss" + ("-notify" if notify else ""))
        self.notify = notify

    def make_schema(self):
        node("boss.mjs", "schema", *(["notify"] if self.notify else []), url=self.url())

    def insert(self, n):
        node("boss.mjs", "fill", n, url=self.url())

    def run(self, n):
        got = node("boss.mjs", "work", n, url=self.url())
        if got["n"] < n:
            raise RuntimeError("pg-boss: only %d of %d jobs were there" % (got["n"], n))
        return got["n"] / got["seconds"]

    def delays(self, n, gap):
        return [us / 1000 for us in node("boss.mjs", "latency", n, gap, url=self.url())["delays"]]

    def serve(self):
        return Driver("boss.mjs", "http", url=self.url(), env={"BENCH_TOKEN": TOKEN})

    def enqueued_by_http(self):
        return int(self.session.value(self.left_sql))


class Floor(Peer):
    """No queue at all: one statement for 500 jobs, from two clients."""
    left_sql = "select count(*) from floor.jobs"

    def __init__(self, lab):
        super().__init__(lab, "sql-floor")

    def make_schema(self):
        self.session.sql("""create schema floor;
            create table floor.jobs (id bigint generated always as identity primary key, queue int not null default 1, prio int not null default 0,
                                     run_at timestamptz not null default now(), payload jsonb not null);
            create index on floor.jobs (queue, prio, run_at, id);
            create table floor.history (id bigint, worker int, started timestamptz, finished timestamptz default clock_timestamp(), outcome int2)""")

    def insert(self, n):
        self.session.sql("insert into floor.jobs (payload) select jsonb_build_object('id', i) from generate_series(1, %d) i" % n)

    def run(self, n):
        rounds = -(-n // 1000)
        out = subprocess.run(["pgbench", "-n", "-M", "prepared", "-c", "2", "-j", "2", "-t", str(rounds), "-f", os.path.join(PEERS, "floor.sql"),
                              self.url()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout
        return float(re.search(r"^tps = ([\d.]+)", out, re.M).group(1)) * 500
