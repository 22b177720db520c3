"""test_queue.py - the queue in a running daemon: HTTP, depotctl, Lua handlers, limits, shutdown. test-timeout: 300, test-tsan: yes"""
import glob
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, Rig, done, eventually, is_, like, ok

HANDLERS = """
depot.job("t.add") { run = function(job) return { sum = job.args.a + job.args.b, attempt = job.attempt, queue = job.queue } end }
depot.job("t.flaky") { max_attempts = 2, run = function(job)
  if job.attempt == 1 then job:fail("DEPENDENCY_DOWN", "not yet") end
  return job.attempt
end }
depot.job("t.never") { max_attempts = 2, run = function(job) job:fail("OUT_OF_CHEESE", "there is none") end }
depot.job("t.bad") { run = function(job) job:fail("BAD_PAYLOAD", "no") end }
depot.job("t.slow") { timeout = "60s", run = function(job) depot.sleep(job.args.s) return true end }
depot.job("t.loop") { timeout = "1s", max_attempts = 1, run = function() while true do end end }
depot.job("t.fan") { run = function(job)
  local ids = {}
  for i = 1, 3 do ids[i] = depot.queue.enqueue("fan", "t.add", { a = i, b = 1 }, { key = "fan " .. job.id .. " " .. i }) end
  ids[4] = depot.queue.enqueue("fan", "t.add", { a = 1, b = 1 }, { key = "fan " .. job.id .. " 1" })
  return ids
end }
depot.job("t.nul") { max_attempts = 1, run = function() return { text = "a\\0b" } end }
depot.job("t.mourn") { run = function(job) return job.args end }
"""

CONF = """
[plugin http]
[plugin storage]
[plugin queue]
lease = 2s
reap_interval = 500ms
max_payload = 1000
max_enqueue_per_minute = 100
[queue narrow]
max_in_flight = 2
[queue still]
paused = yes
[plugin jobs]
file = JOBS_SO
[hook mourn]
on = job.dead
run = job:wake/t.mourn
durable = yes
""".replace("JOBS_SO", os.path.join(BUILD, "tests", "plugins", "jobs.so"))


def sql(rig, text):
    """As the role that owns the schemas."""
    root = os.path.realpath(os.path.join(rig.state, "postgres"))
    with open(os.path.join(root, "secrets", "owner.pw"), encoding="ascii") as secret, open(os.path.join(root, "port"), encoding="ascii") as port:
        env = dict(os.environ, PGPASSWORD=secret.read().strip(), PGPORT=port.read().strip(), PGHOST="127.0.0.1")
    psql = sorted(glob.glob("/usr/lib/postgresql/*/bin/psql") or ["psql"])[-1]
    p = subprocess.run([psql, "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "depot_owner", "depot", "-c", text], env=env, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False)
    ok(p.returncode == 0, "psql", p.stdout)
    return p.stdout.strip()


def enqueue(rig, job_type, payload, **more):
    reply = rig.admin("POST", "/jobs", dict(job_type=job_type, payload_json=payload, **more))
    return reply.json()["job_id"] if ok(reply.status == 200, "enqueue %s" % job_type, reply) else None


def job(rig, job_id):
    return rig.admin("GET", "/jobs/" + job_id).json()


def ended(rig, job_id, seconds=20):
    return eventually(seconds, lambda: (lambda j: j if j["status"] in ("succeeded", "dlq", "canceled") else None)(job(rig, job_id))) or job(rig, job_id)


def story(rig, job_id):
    return [e["kind"] for e in rig.admin("GET", "/jobs/%s/timeline" % job_id).json()["story"]]


def jobs_end_as_they_should(rig):
    first = ended(rig, enqueue(rig, "t.add", {"a": 2 ** 53, "b": 1}, priority=7))
    is_(first["status"], "succeeded", "a handler runs")
    is_(first["result"], {"sum": 2 ** 53 + 1, "attempt": 1, "queue": "default"}, "its result is kept, integers exact")
    like(first["enqueued_by"], "token:", "it is known who made it")
    for kind, status, reason, code, attempts in (
            ("t.bad", "dlq", "NON_RETRYABLE", "BAD_PAYLOAD", 1), ("t.loop", "dlq", "MAX_ATTEMPTS_EXCEEDED", "TIMEOUT", 1),
            ("t.flaky", "succeeded", None, "DEPENDENCY_DOWN", 2), ("t.never", "dlq", "MAX_ATTEMPTS_EXCEEDED", "OUT_OF_CHEESE", 2)):
        j = ended(rig, enqueue(rig, kind, {}))
        is_((j["status"], j["dlq_reason_code"], j["last_error_code"], j["attempts"]), (status, reason, code, attempts), kind)
    never = rig.admin("GET", "/dlq?limit=1").json()["items"][0]
    is_(never["last_error_code"], "OUT_OF_CHEESE", "the newest dead job comes first")
    is_(story(rig, never["id"]), ["Enqueued", "Attempt", "Rescheduled", "Attempt", "Dead"], "its story is complete")
    explained = rig.admin("GET", "/jobs/%s/explain" % never["id"]).json()
    is_((explained["failed_attempts"], explained["dlq_reason_code"]), (2, "MAX_ATTEMPTS_EXCEEDED"), "and explained")
    mourned = eventually(20, lambda: rig.admin("GET", "/jobs?queue=wake&status=succeeded").json()["items"][:4])
    is_(len(eventually(20, lambda: len(rig.admin("GET", "/jobs?queue=wake&status=succeeded").json()["items"]) == 3
                       and rig.admin("GET", "/jobs?queue=wake&status=succeeded").json()["items"]) or mourned), 3,
        "job.dead was told once for each of the three dead")


def scripts_make_jobs(rig):
    fan = ended(rig, enqueue(rig, "t.fan", {}))
    ids = fan["result"]
    is_((len(ids), ids[0] == ids[3]), (4, True), "a script makes jobs; a key makes one only")
    is_([ended(rig, i)["result"]["sum"] for i in ids[:3]], [2, 3, 4], "they run")
    bad = ended(rig, enqueue(rig, "t.nul", {}))
    is_((bad["status"], bad["last_error_code"]), ("dlq", "LUA_ERROR"), "a result that is no JSON ends the job")


def c_code_handles_jobs(rig):
    echo = ended(rig, enqueue(rig, "c.echo", [1, {"a": None}], queue="c"))
    is_((echo["status"], echo["result"]), ("succeeded", {"id": echo["id"], "queue": "c", "attempt": 1, "args": [1, {"a": None}]}), "C code runs")
    longer = enqueue(rig, "c.until", {})
    eventually(10, lambda: rig.admin("GET", "/jobs/" + longer).json()["status"] == "running")
    is_(rig.admin("POST", "/jobs/%s/cancel" % longer).json()["status"], "canceling", "C code that runs can be canceled")
    j = ended(rig, longer)
    is_((j["status"], j["attempts"]), ("canceled", 1), "when it asks")
    refused = ended(rig, enqueue(rig, "c.refused", {}))
    is_((refused["status"], refused["last_error_code"], refused["attempts"]), ("dlq", "CONFLICT", 1), "and fails")
    sql(rig, """create function queue.taste() returns trigger language plpgsql as $$ begin
        if new.result #>> '{args,poison}' is not null then raise exception 'this result is not to be stored'; end if; return new; end $$;
        create trigger taste before update on queue.jobs for each row execute function queue.taste()""")
    several = [enqueue(rig, "c.echo", {"poison": 1} if i % 4 == 0 else {}, key="row %d" % i) for i in range(12)]
    is_([ended(rig, i)["status"] for i in several], ["dlq", "succeeded", "succeeded", "succeeded"] * 3,
        "results that the database refuses harm no others")
    is_(job(rig, several[0])["last_error_code"], "BAD_PAYLOAD", "and end their own job")
    rolled_back = rig.ctl("--json", "task", "run", "jobs.make", "--args", json.dumps({"rows": 10, "commit": False}))
    is_((rolled_back[0], rig.admin("GET", "/jobs?queue=made").json()["items"]), (0, []), "what is rolled back was never there")
    for _ in range(2):
        rig.ctl("task", "run", "jobs.make", "--args", json.dumps({"rows": 10, "commit": True}))
    made = eventually(10, lambda: (lambda i: i if len(i) == 21 else None)(rig.admin("GET", "/jobs?queue=made&status=succeeded").json()["items"]))
    is_(len(made or []), 21, "twice ten and one with a key were made")


def jobs_are_replayed_and_canceled(rig):
    dead = rig.admin("GET", "/dlq?limit=1").json()["items"][0]["id"]
    reply = rig.admin("POST", "/jobs/%s/replay" % dead, {"queue": "again"})
    is_((reply.status, reply.json()["replay_of_job_id"]), (200, dead), "a dead job is replayed")
    is_(job(rig, reply.json()["new_job_id"])["queue"], "again", "into another queue")
    is_(story(rig, dead)[-1], "Replayed", "the old one says so")
    later = enqueue(rig, "t.add", {"a": 1, "b": 1}, run_at="2099-01-01T00:00:00Z")
    is_(rig.admin("POST", "/jobs/%s/cancel" % later).status, 200, "a job that waits is canceled")
    is_(rig.admin("POST", "/jobs/%s/cancel" % dead).status, 409, "a dead one is not")
    nobody = "01000000-0000-7000-8000-000000000000"
    for method, path in (("POST", "/replay"), ("POST", "/cancel"), ("GET", "/timeline"), ("GET", "/explain"), ("GET", "")):
        is_(rig.admin(method, "/jobs/" + nobody + path, {} if method == "POST" else None).status, 404, "no such job: %s %s" % (method, path))


def producers_are_kept_in_bounds(rig):
    big = rig.admin("POST", "/jobs", {"job_type": "t.add", "payload_json": "x" * 2000})
    is_((big.status, big.json()["code"]), (413, "PAYLOAD_TOO_LARGE"), "a payload too large is refused")
    statuses = [rig.admin("POST", "/jobs", {"job_type": "t.add", "payload_json": {"a": 1, "b": 1}, "queue": "busy"}).status for _ in range(102)]
    counts = sorted({s: statuses.count(s) for s in statuses}.items())
    ok(counts == [(200, 100), (429, 2)] or (statuses[0] == 200 and time.localtime().tm_sec < 5), "the hundred-and-first of a minute is refused", counts)
    codes = {d["reason_code"] for d in rig.admin("GET", "/ingest/decisions").json()}
    ok({"PAYLOAD_TOO_LARGE", "ENQUEUE_RATE_EXCEEDED"} >= codes and "PAYLOAD_TOO_LARGE" in codes, "refusals are listed", codes)
    for name, body in (("no type", {"payload_json": {}}), ("a blank type", {"job_type": " ", "payload_json": {}}), ("no payload", {"job_type": "t.add"}),
                       ("no attempts", {"job_type": "t.add", "payload_json": {}, "max_attempts": 0}),
                       ("a time that is none", {"job_type": "t.add", "payload_json": {}, "run_at": "tomorrow"}),
                       ("a time in year 10000", {"job_type": "t.add", "payload_json": {}, "run_at": "10000-01-01T00:00:00Z"}),
                       ("a priority out of range", {"job_type": "t.add", "payload_json": {}, "priority": 2 ** 40})):
        is_(rig.admin("POST", "/jobs", body).status, 422, name)
    for name, text, status in (("no JSON", '{"job_type"', 400), ("a NUL", '{"job_type":"t.add","payload_json":"a\\u0000"}', 400)):
        is_(rig.admin("POST", "/jobs", text, headers={"Content-Type": "application/json"}).status, status, name)
    is_(rig.admin("GET", "/jobs?cursor_id=01000000-0000-7000-8000-000000000000").status, 422, "half a cursor")
    is_(rig.admin("GET", "/jobs?status=nonsense").json()["items"], [], "an unknown state has no jobs")


def limits_hold(rig):
    ids = [enqueue(rig, "t.slow", {"s": 0.3}, queue="narrow") for _ in range(6)]
    most = 0
    while any(job(rig, i)["status"] != "succeeded" for i in ids):
        row = next(q for q in rig.admin("GET", "/queues").json() if q["queue"] == "narrow")
        most = max(most, row["running"])
    is_(most, 2, "never more than two of the narrow queue run")
    still = enqueue(rig, "t.add", {"a": 1, "b": 1}, queue="still")
    unknown = enqueue(rig, "t.unheard-of", {})
    time.sleep(1)
    is_(rig.admin("GET", "/jobs/%s/explain" % still).json()["waits_for"][0]["code"], "QUEUE_PAUSED", "a paused queue is explained")
    is_(rig.admin("GET", "/jobs/%s/explain" % unknown).json()["waits_for"][0]["code"], "NO_HANDLER", "so is a type without handler")
    rig.write_conf("50-test.ini", CONF.replace("paused = yes", "paused = no"))
    is_(rig.ctl("config", "reload")[0], 0, "a reload opens the queue")
    is_(ended(rig, still)["status"], "succeeded", "its job runs")


def a_shutdown_is_not_the_jobs_fault(rig):
    longer = enqueue(rig, "t.slow", {"s": 4}, max_attempts=1)
    eventually(5, lambda: job(rig, longer)["status"] == "running")
    time.sleep(2.5)
    is_(job(rig, longer)["status"], "running", "a job that runs longer than its lease keeps it")
    cut = enqueue(rig, "t.slow", {"s": 50}, max_attempts=1)
    eventually(5, lambda: job(rig, cut)["status"] == "running")
    is_(rig.stop(), 0, "the daemon stops in time")
    rig.start()
    j = eventually(10, lambda: (lambda j: j if j["status"] == "running" else None)(job(rig, cut)))
    is_((j["attempts"], j["last_error_code"]), (2, "WORKER_SHUTDOWN"), "what the shutdown cut off runs again at once")
    is_(ended(rig, longer)["attempts"], 1, "what could end before it did")
    is_(rig.ctl("job", "cancel", cut)[0], 0, "depotctl cancels a running job")
    is_(ended(rig, cut)["status"], "canceled", "which ends")
    status, out, _ = rig.ctl("--json", "queue", "list")
    is_((status, {q["queue"] for q in json.loads(out)} >= {"default", "fan", "narrow", "wake"}), (0, True), "depotctl lists the queues")


with Rig(conf=None) as r:
    r.write_script("handlers/t.lua", HANDLERS)
    r.write_conf("50-test.ini", CONF)
    r.write_conf("60-stop.ini", "[daemon]\ndrain_timeout = 6s\n")
    r.start()
    for part in (jobs_end_as_they_should, scripts_make_jobs, c_code_handles_jobs, jobs_are_replayed_and_canceled, producers_are_kept_in_bounds, limits_hold,
                 a_shutdown_is_not_the_jobs_fault):
        print("# " + part.__name__)
        part(r)
done()
