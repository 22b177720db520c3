"""test_queue_kill.py - kill -9 of workers, the daemon and PostgreSQL while jobs run and producers go on. test-timeout: 280

Afterwards every job whose making was acknowledged has ended exactly once, and every attempt is explained. KILLS and SEED change
how many kills there are, and which."""
import http.client
import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, Rig, done, eventually, is_, note, ok

KILLS = int(os.environ.get("KILLS", "12"))
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 10 ** 9)
HANDLER = """
depot.job("k.work") { timeout = "30s", run = function(job)
  depot.sleep(job.args.s)
  if job.args.n % 50 == 0 and job.attempt == 1 then job:fail("DEPENDENCY_DOWN", "once") end
  return { n = job.args.n }
end }
"""
CONF = """
[plugin http]
[plugin queue]
lease = 2s
reap_interval = 500ms
max_enqueue_per_minute = 0
[plugin jobs]
file = %s
"""
stop = threading.Event()
acknowledged, unsure = {}, []


def produce(rig, which, chance):
    """Jobs with a key each, asked for again until the answer comes; the last one too. And jobs without, which may be there when no answer came."""
    n, is_open = 0, False
    while is_open or not stop.is_set():
        key = "%d-%d" % (which, n)
        body = {"job_type": "k.work" if n % 5 else "c.echo", "queue": "q%d" % which, "key": key, "max_attempts": 1000,
                "payload_json": {"n": n, "s": chance.random() * 0.2}}
        if n % 3 == 2:
            del body["key"]
        is_open = True
        try:
            reply = rig.admin("POST", "/jobs", body, timeout=10)
        except (OSError, http.client.HTTPException):
            reply = None
        if reply is None or reply.status >= 500:
            time.sleep(0.1)
            if "key" not in body:
                unsure.append(key)
                n, is_open = n + 1, False
            continue
        if reply.status != 200:
            note(reply)
            return
        acknowledged[key] = reply.json()["job_id"]
        n, is_open = n + 1, False
        time.sleep(chance.random() * 0.02)


def kill_something(rig, chance):
    what = chance.choice(("worker", "worker", "daemon", "postgres", "both"))
    note("kill: " + what)
    pids = rig.workers()
    if what == "worker" and pids:
        os.kill(chance.choice(pids), signal.SIGKILL)
    if what in ("postgres", "both") and rig.postmaster():
        os.kill(rig.postmaster(), signal.SIGKILL)
    if what in ("daemon", "both"):
        rig.kill()
        rig.start()


def queues(rig):
    try:
        reply = rig.admin("GET", "/queues")
        return reply.json() if reply.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None


def every_job(rig):
    jobs, path = [], "/jobs?limit=500"
    while True:
        page = rig.admin("GET", path).json()
        jobs += page["items"]
        if not page["items"]:
            return jobs
        path = "/jobs?limit=500&cursor_id=%s&cursor_created_at=%s" % (page["next_cursor_id"], page["next_cursor_created_at"])


def look_at_attempts(rig, jobs):
    bad, retried, lost = [], 0, 0
    for j in jobs:
        if j["attempts"] == 1:
            continue
        retried += 1
        attempts = rig.admin("GET", "/jobs/%s/timeline" % j["id"]).json()["attempts"]
        lost += sum(a["error_code"] == "WORKER_LOST" for a in attempts)
        fine = [a["attempt_no"] for a in attempts] == list(range(1, j["attempts"] + 1)) and attempts[-1]["status"] == "succeeded" and all(
            a["status"] == "failed" and a["error_code"] and a["finished_at"] for a in attempts[:-1])
        if not fine:
            bad.append((j, attempts))
    note("%d of %d jobs ran more than once; %d attempts were lost with their worker" % (retried, len(jobs), lost))
    is_(bad[:3], [], "every attempt is explained, the last one succeeded")


with Rig(conf=None) as r:
    note("SEED=%d" % SEED)
    r.write_script("handlers/k.lua", HANDLER)
    r.write_conf("50-test.ini", CONF % os.path.join(BUILD, "tests", "plugins", "jobs.so"))
    r.start()
    threads = [threading.Thread(target=produce, args=(r, i, random.Random(SEED + i))) for i in range(4)]
    for t in threads:
        t.start()
    dice = random.Random(SEED)
    for _ in range(KILLS):
        time.sleep(dice.random() * 2)
        kill_something(r, dice)
    time.sleep(1)
    stop.set()
    for t in threads:
        t.join()
    ok(len(acknowledged) > 100, "producers went on", len(acknowledged))
    is_(bool(eventually(90, lambda: (lambda q: q is not None and sum(x["queued"] + x["running"] for x in q) == 0)(queues(r)))), True,
        "every job comes to an end by itself")
    all_jobs = every_job(r)
    is_(len({j["id"] for j in all_jobs}), len(all_jobs), "each is listed once")
    is_(sorted(j["status"] for j in all_jobs if j["status"] != "succeeded"), [], "all have succeeded")
    is_(set(acknowledged.values()) - {j["id"] for j in all_jobs}, set(), "no job is lost whose making was acknowledged")
    ok(len(acknowledged) <= len(all_jobs) <= len(acknowledged) + len(unsure), "and none is there twice", len(all_jobs), len(acknowledged), len(unsure))
    is_(sum(q["succeeded"] for q in queues(r)), len(all_jobs), "the sums agree")
    look_at_attempts(r, all_jobs)
    is_(r.stop(), 0, "the daemon stops as it should")
done()
