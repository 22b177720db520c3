"""kill50.py [--kills 50] [--seed N], or KILLS and SEED in the environment - kills depotd, its PostgreSQL, a worker, or depotd and
PostgreSQL at random moments, start and recovery included, while the demo's jobs run; then all has to be right with no hand lent:

  - every job that was acknowledged exists, every job is in one final state, no attempt is left open, each has its reason;
  - a job that succeeded has its row in demo.file, once, with the SHA-256 of the file; no other job has one;
  - every stored object verifies; the daemon is ready and not degraded; no process of a dead daemon is left.

TAP, and a last comment with the seed and what happened. `make check-faults` runs it; the suite runs it with a few kills.
"""
import argparse
import collections
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, SRC, Rig, done, eventually, is_, like, note, ok  # noqa: E402
from servers import embedded_sql  # noqa: E402

TARGETS = ("depotd", "postmaster", "worker", "both")
WAVE = 60
SQL_REASONS = {"WORKER_LOST", "DEPENDENCY_DOWN", "DB_UNAVAILABLE", "DB_COMMIT_UNKNOWN", "CANCELED", "UNAVAILABLE", "LEASE_LOST", "TIMEOUT"}


class Load:
    """Files, and jobs for them: folders that demo.scan walks, and single jobs whose ids are acknowledged."""

    def __init__(self, rig, rng):
        self.rig, self.rng = rig, rng
        self.folder = os.path.join(rig.dir, "input")
        self.sums, self.acknowledged, self.scans = {}, set(), 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _file(self, folder, number):
        kind = self.rng.randrange(4)
        text = b"equal in all\n" * 40 if kind == 0 else b"line of %d\n" % number * self.rng.randrange(1, 400)
        body = text if kind < 3 else self.rng.randbytes(self.rng.randrange(1, 200000))
        path = os.path.join(folder, "%s-%05d.%s" % (os.path.basename(folder), number, ("txt", "html", "svg", "bin")[kind]))
        with open(path, "wb") as file:
            file.write(body)
        self.sums[path] = hashlib.sha256(body).hexdigest()
        return path

    def _wave(self):
        folder = os.path.join(self.folder, "wave%03d" % self.scans)
        os.makedirs(folder)
        self.scans += 1
        for i in range(WAVE):
            self._file(folder, i)
        try:
            self.rig.ctl("--json", "task", "run", "demo.scan", "--args", json.dumps({"place": folder}), timeout=30)
        except subprocess.TimeoutExpired:
            pass  # what was emitted before is in the table or is not: either is right

    def _single(self, number):
        path = self._file(self.single, number)
        try:
            reply = self.rig.admin("POST", "/jobs", {"job_type": "demo.store", "payload_json": {"path": path, "n": number + 1}}, timeout=5)
        except OSError:
            return
        except Exception as error:  # a reply that was cut off: not acknowledged
            if type(error).__module__ != "http.client":
                raise
            return
        if reply.status in (200, 201, 202):
            self.acknowledged.add(reply.json()["job_id"])

    def _run(self):
        self.single = os.path.join(self.folder, "single")
        os.makedirs(self.single)
        number = 0
        while not self.stopping.is_set():
            if number % 150 == 0:
                self._wave()
            self._single(number)
            number += 1
            self.stopping.wait(0.02)

    def stop(self):
        self.stopping.set()
        self.thread.join(60)
        return not self.thread.is_alive()


def kill(rig, target, rng):
    """What was really killed: a server that is not there at the moment cannot be."""
    victims = []
    if target in ("postmaster", "both"):
        victims.append(("postmaster", rig.postmaster()))
    if target in ("depotd", "both"):
        victims.append(("depotd", rig.process.pid if rig.alive() else None))
    if target == "worker":
        victims.append(("worker", rng.choice(rig.workers() or [None])))
    hit = []
    for name, pid in victims:
        if pid is not None:
            try:
                os.kill(pid, signal.SIGKILL)
                hit.append(name)
            except ProcessLookupError:
                pass
    if not rig.alive() or "depotd" in hit:
        rig.wait(10)
    return hit


def batter(rig, kills, rng):
    hits, ended = collections.Counter(), []
    for _ in range(kills):
        hit = []
        while not hit:
            time.sleep(min(4.0, 0.05 + rng.expovariate(1 / 0.9)))
            if not rig.alive():  # it ended by itself: that would be a fault
                ended.append(rig.process.poll())
                rig.spawn()
            hit = kill(rig, rng.choice(TARGETS), rng)
            if "depotd" in hit:
                rig.spawn()
        hits["+".join(sorted(hit))] += 1
    return hits, ended


def verify(rig, load):
    def open_jobs():
        return embedded_sql(rig, "select status, count(*) from pgflow.jobs where status not in ('succeeded', 'dlq', 'failed', 'canceled') group by 1")

    def all_ended():
        try:
            return not open_jobs()
        except RuntimeError:  # the last kill may have been the server's: it is on its way back
            return False

    began = time.monotonic()
    if not eventually(25, all_ended):
        note("after 25 s there are still: %s" % embedded_sql(
            rig, "select status, attempts, count(*), max(run_at - now()), max(lock_expires_at - now()), string_agg(distinct locked_by, ' '),"
            " string_agg(distinct last_error_code, ' ') from pgflow.jobs where status in ('queued', 'running') group by 1, 2"))
        eventually(95, all_ended)
    note("%.1f s until every job had ended" % (time.monotonic() - began))
    is_(open_jobs(), [], "every job is in a final state")
    jobs = {name: (status, int(attempts), code) for name, status, attempts, code in
            embedded_sql(rig, "select id, status, attempts, coalesce(dlq_reason_code, '') from pgflow.jobs")}
    lost = load.acknowledged - set(jobs)
    ok(not lost and load.acknowledged, "all %d acknowledged jobs exist" % len(load.acknowledged), *sorted(lost))

    tries = collections.Counter(name for name, in embedded_sql(rig, "select job_id from pgflow.job_attempts"))
    odd = [(name, jobs[name], tries[name]) for name in jobs if tries[name] != jobs[name][1]]
    ok(not odd, "each job has as many closed attempts as it began", *odd[:10])
    good = dict(embedded_sql(rig, "select job_id, count(*) from pgflow.job_attempts where status = 'succeeded' group by 1"))
    odd = [(name, jobs[name]) for name in jobs if (jobs[name][0] == "succeeded") != (good.get(name) == "1")]
    ok(not odd and set(good.values()) <= {"1"}, "one successful attempt for each job that succeeded, none for others", *odd[:10])
    reasons = dict((code, int(n)) for code, n in
                   embedded_sql(rig, "select coalesce(error_code, '-'), count(*) from pgflow.job_attempts where status <> 'succeeded' group by 1"))
    ok(set(reasons) <= SQL_REASONS, "every attempt that failed has one of the reasons that there were", reasons)

    recorded = {path: (sha, job) for path, sha, job in embedded_sql(rig, "select path, sha, job_id from demo.file")}
    succeeded = {name for name, in embedded_sql(rig, "select id from pgflow.jobs where status = 'succeeded' and job_type = 'demo.store'")}
    is_(len(recorded), len({job for _, job in recorded.values()}), "no job has two rows")
    missing = succeeded - {job for _, job in recorded.values()}
    ok(not missing, "each job that succeeded has its row", *sorted(missing)[:10])
    # a row of a job that did not succeed: its last attempt was cut off after the row was there, and its tries were used up
    odd = [(path, job) for path, (_, job) in recorded.items() if job not in succeeded and jobs.get(job, ("", 0, ""))[0] != "dlq"]
    ok(not odd, "and no other has one, but for jobs that lost their last try after it", *odd[:10])
    wrong = [path for path, (sha, _) in recorded.items() if load.sums.get(path) != sha]
    ok(recorded and not wrong, "all %d rows have the hash of their file" % len(recorded), *wrong[:10])
    return jobs, reasons, recorded


def store(rig, recorded):
    status, out, err = rig.ctl("--json", "task", "run", "storage.scrub", timeout=120)
    if not is_(status, 0, "storage.scrub runs"):
        note(out + err)
        return {}
    result = json.loads(out)["result"]
    is_(result["corrupt"], 0, "no object is damaged")
    ok(result["objects"] >= len({sha for sha, _ in recorded.values()}), "every recorded object is there", result)
    for path, (sha, _) in list(recorded.items())[:: max(1, len(recorded) // 5)]:
        out_file = os.path.join(rig.dir, "back")
        with open(out_file, "wb") as file:
            got = subprocess.run([os.path.join(BUILD, "depotctl"), "--state", rig.state, "storage", "get", sha], stdout=file,
                                 stdin=subprocess.DEVNULL, timeout=60, check=False).returncode
        with open(out_file, "rb") as file, open(path, "rb") as original:
            ok(got == 0 and file.read() == original.read(), "storage get gives back " + os.path.basename(path))
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=int(os.environ.get("KILLS") or 50))
    parser.add_argument("--seed", type=int, default=int(os.environ["SEED"]) if os.environ.get("SEED") else None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    note("seed %d" % seed)
    with Rig() as rig:
        with open(os.path.join(SRC, "conf.d", "90-demo.ini.disabled"), encoding="utf-8") as file:
            rig.write_conf("90-demo.ini", file.read())
        rig.write_conf("95-test.ini", "[plugin queue]\nlease = 10s\n")
        load = Load(rig, random.Random(seed + 1))
        rig.env["DEPOT_IMPORT"] = load.folder
        os.makedirs(load.folder)
        rig.start()
        load.thread.start()
        began = time.monotonic()
        hits, ended = batter(rig, options.kills, rng)
        battered = time.monotonic() - began
        eventually(60, lambda: load.acknowledged or not rig.alive())  # a few kills in a row may leave it no time before
        ok(load.stop(), "the producer ends")
        is_(ended, [], "depotd never ended by itself")
        is_(rig.process.poll(), None, "nor after the last kill")
        if not ok(eventually(60, lambda: not rig.alive() or rig.ready()) and rig.alive(), "ready after the last kill, with no hand lent",
                  "exit status %s" % rig.process.poll()):
            done()
        jobs, reasons, recorded = verify(rig, load)
        result = store(rig, recorded)
        is_(rig.api("GET", "/health").json(), {"status": "ok"}, "nothing is degraded")
        failed = [line for line in rig.log_text().splitlines() if "daemon.start_failed" in line]
        ok(not failed, "no start failed", *failed)
        is_(rig.stop(), 0, "it stops")
        ok(eventually(5, lambda: not rig.workers()), "no worker of a dead daemon is left", rig.workers())
        is_(rig.postmaster(), None, "and no server")
        like(rig.log_text(), r"daemon\.ready", "the log has each start")
        states = collections.Counter(job[0] for job in jobs.values())
        note("seed %d: %d kills in %.0f s (%s); %d jobs: %s; %d acknowledged one by one; attempts cut off: %s; %d files in %s objects" % (
            seed, sum(hits.values()), battered, ", ".join("%s %d" % hit for hit in sorted(hits.items())), len(jobs),
            ", ".join("%s %d" % state for state in sorted(states.items())), len(load.acknowledged),
            ", ".join("%s %d" % reason for reason in sorted(reasons.items())), len(recorded), result.get("objects")))
    done()


main()
