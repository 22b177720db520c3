"""test_compat.py - what a producer, a dashboard or an operator's script of postgresflow finds here: routes, members, codes, states, tables,
variables, metrics, commands; and its known faults, which are not here. test-timeout: 240"""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, SRC, Rig, done, eventually, is_, like, note, ok
from servers import embedded_sql as sql

HANDLERS = """
depot.job("t.sleep") { timeout = "60s", run = function(job) depot.sleep(job.args.s) end }
depot.job("t.tell") { run = function(job) job:log("info", "it is " .. job.args.text) end }
depot.job("t.fail") { run = function(job) job:fail(job.args.code, "as asked") end }
"""
CONF = """
[plugin http]
[plugin queue]
maintenance_interval = 500ms
[lua]
workers = 1
[queue narrow]
max_in_flight = 2
[queue brief]
archive_succeeded_after = 1s
"""
TOKEN = "chosen-by-the-operator"
# name: value, the option that it sets, what that shows
VARIABLES = {
    "PGFLOW_WORKER_ID": ("node-x", "daemon", "node", "node-x"), "PGFLOW_LEASE_SECONDS": ("11", "plugin queue", "lease", "11s"),
    "PGFLOW_MAX_PAYLOAD_BYTES": ("1000", "plugin queue", "max_payload", "1000"),
    "PGFLOW_MAX_ENQUEUE_PER_MINUTE": ("40", "plugin queue", "max_enqueue_per_minute", "40"), "ARCHIVE_SUCCEEDED_AFTER_DAYS": ("5", "plugin queue", "archive_after", "5d"),
    "PRUNE_HISTORY_AFTER_DAYS": ("6", "plugin queue", "prune_history_after", "6d"), "MAINTENANCE_INTERVAL_SECS": (None, "plugin queue", "maintenance_interval", "500ms"),
    "PGFLOW_API_TOKEN": (TOKEN, "daemon", "token", "***"), "PGFLOW_DEQUEUE_BATCH_SIZE": ("33", "plugin queue", "batch", "33"),
    "PGFLOW_REAP_INTERVAL_MS": ("300", "plugin queue", "reap_interval", "300ms"), "PGFLOW_VERBOSE_JOB_LOGS": ("1", "plugin queue", "verbose", "yes"),
    "PGFLOW_DB_MAX_CONNECTIONS": ("9", "database", "max_connections", "9"), "PGFLOW_DB_ACQUIRE_TIMEOUT_SECS": ("7", "database", "acquire_timeout", "7s"),
    "PGFLOW_MIGRATE_ON_STARTUP": ("on", "database", "migrate", "yes"),
}
ITEM = {"id", "queue", "job_type", "status", "run_at", "priority", "max_attempts", "last_error_code", "last_error_message", "dlq_reason_code", "created_at",
        "updated_at"}
ATTEMPT = {"id", "attempt_no", "status", "started_at", "finished_at", "error_code", "error_message", "latency_ms", "worker_id", "suggested_action"}
TIMELINE = {"job_id", "status", "queue", "job_type", "run_at", "next_run_at", "last_worker_id", "last_error", "attempts", "story"}
EXPLAIN = {"job_id", "status", "queue", "job_type", "summary", "attempts", "failed_attempts", "next_run_at", "last_error", "dlq_reason_code", "suggested_action"}
COLUMNS = {
    "jobs": "id queue job_type payload_json run_at status priority max_attempts locked_at locked_by lock_expires_at last_error_code last_error_message "
            "dlq_reason_code dlq_at replay_of_job_id created_at updated_at",
    "job_attempts": "id job_id attempt_no started_at finished_at status error_code error_message latency_ms worker_id reason_code",
    "queue_policies": "queue max_attempts_per_minute max_in_flight throttle_delay_ms",
    "policy_decisions": "id job_id decision reason_code details_json created_at",
    "ingest_decisions": "id queue decision reason_code details_json created_at", "enqueue_rate_counters": "queue window_start count",
    "jobs_archive": "id replay_of_job_id queue job_type payload_json run_at status priority max_attempts dlq_reason_code dlq_at created_at updated_at archived_at",
}
NOBODY = "00000000-0000-4000-8000-000000000000"


def call(rig, method, path, body=None, **headers):
    """As a client of theirs: with its token in x-api-key."""
    return rig.admin(method, path, body, token=False, headers=dict({"x-api-key": TOKEN}, **{k.replace("_", "-"): v for k, v in headers.items()}))


def enqueue(rig, job_type="t.sleep", payload=None, **more):
    reply = call(rig, "POST", "/jobs", dict(job_type=job_type, payload_json={"s": 0} if payload is None else payload, **more))
    return reply.json()["job_id"] if ok(reply.status == 200 and set(reply.json()) == {"job_id"}, "POST /jobs gives {job_id}", reply) else NOBODY


def job(rig, job_id):
    return call(rig, "GET", "/jobs/" + job_id).json()


def ended(rig, job_id, seconds=20):
    return eventually(seconds, lambda: (lambda j: j if j["status"] in ("succeeded", "dlq", "canceled") else None)(job(rig, job_id))) or job(rig, job_id)


def shown(text):
    return {(o["section"], o["option"]): o["value"] for o in json.loads(text)}


def variables(rig):
    options = shown(rig.ctl("--json", "config", "show")[1])
    for name, (_, section, option, value) in VARIABLES.items():
        is_(options.get((section, option)), value, name)
    bare = {k: v for k, v in rig.env.items() if k not in VARIABLES and not k.startswith("PGFLOW_")}
    bare.update({"WORKER_ID": "bare", "QUEUE": "a,b", "LEASE_SECONDS": "12", "MAX_PAYLOAD_BYTES": "77", "MAX_ENQUEUE_PER_MINUTE": "5", "API_TOKEN": TOKEN})
    no_daemon = [os.path.join(BUILD, "depotctl"), "--state", os.path.join(rig.dir, "none"), "--config", rig.conf, "--json", "config", "show"]
    options = shown(subprocess.run(no_daemon, env=bare, stdout=subprocess.PIPE, timeout=30, check=True, text=True).stdout)
    is_([options.get(o) for o in (("daemon", "node"), ("plugin queue", "queues"), ("plugin queue", "lease"),
                                  ("plugin queue", "max_payload"), ("plugin queue", "max_enqueue_per_minute"), ("daemon", "token"))],
        ["bare", "a, b", "12s", "77", "5", "***"], "the names without PGFLOW_ count as well")


def who_may(rig):
    is_((rig.admin("GET", "/health", token=False).status, rig.admin("GET", "/health", token=False).text), (200, "ok"), "GET /health is open, and says ok")
    is_(rig.admin("GET", "/jobs", token=False).status, 401, "other routes are not")
    is_(call(rig, "GET", "/jobs").status, 200, "x-api-key lets in")
    is_(rig.admin("GET", "/jobs", token=TOKEN).status, 200, "and so does Authorization: Bearer")
    is_(rig.admin("GET", "/jobs", headers={"x-api-key": "wrong"}).status, 401, "a wrong x-api-key is not rescued by a right bearer")
    is_(call(rig, "POST", "/v1/tokens", {"name": "x", "role": "viewer"}).status, 403, "its holder is operator, not admin")


def enqueueing(rig):
    made = enqueue(rig)
    j = job(rig, made)
    is_((j["queue"], j["priority"], j["max_attempts"]), ("default", 0, 25), "its defaults")
    for body, status, what in (('{', 400, "no JSON"), ('{}', 422, "members are missing"), ('{"job_type": "x", "payload_json": 1, "priority": "a"}', 422, "a wrong type"),
                               ('{"job_type": " ", "payload_json": 1}', 422, "a blank type"), ('{"job_type": "x", "payload_json": 1, "max_attempts": 0}', 422, "no attempt")):
        is_(call(rig, "POST", "/jobs", body, Content_Type="application/json").status, status, what)
    is_(call(rig, "POST", "/jobs", '{"job_type": "x", "payload_json": 1}', Content_Type="text/plain").status, 415, "another content type")
    for payload in (1, "text", [1], None, True):
        reply = call(rig, "POST", "/jobs", {"job_type": "nobody.serves", "payload_json": payload})
        is_(job(rig, reply.json()["job_id"])["payload_json"], payload, "any JSON is a payload")
    large = call(rig, "POST", "/jobs", {"job_type": "x", "payload_json": "x" * 1000, "queue": "guarded"})
    is_((large.status, "PAYLOAD_TOO_LARGE" in large.text), (413, True), "too large: 413, by its code")
    replies = [call(rig, "POST", "/jobs", {"job_type": "nobody.serves", "payload_json": 1, "queue": "guarded"}) for _ in range(82)]  # over the turn of a minute
    refused = [r for r in replies if r.status != 200]
    ok(refused and all(r.status == 429 and "ENQUEUE_RATE_EXCEEDED" in r.text for r in refused), "too many: 429, by its code", [r.status for r in replies])
    decisions = call(rig, "GET", "/ingest/decisions?queue=guarded&limit=500").json()
    is_({(d["decision"], d["reason_code"]) for d in decisions}, {("DENIED", "PAYLOAD_TOO_LARGE"), ("DENIED", "ENQUEUE_RATE_EXCEEDED")}, "GET /ingest/decisions has both")
    is_(set(decisions[0]), {"id", "queue", "decision", "reason_code", "details_json", "created_at"}, "a bare array of them")
    is_({d["reason_code"]: set(d["details_json"]) for d in decisions}, {"PAYLOAD_TOO_LARGE": {"max_payload_bytes", "payload_bytes"},
                                                                       "ENQUEUE_RATE_EXCEEDED": {"max_per_minute", "count_this_minute"}}, "with the figures")
    is_([d["id"] for d in decisions], sorted((d["id"] for d in decisions), reverse=True), "newest first")


def lists(rig):
    page = call(rig, "GET", "/jobs?queue=guarded&limit=2").json()
    is_(set(page), {"items", "next_cursor_created_at", "next_cursor_id"}, "GET /jobs gives a page")
    ok(ITEM <= set(page["items"][0]) and "payload_json" not in page["items"][0], "of items without payload", page["items"][0])
    like(page["items"][0]["created_at"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", "times are RFC 3339 in UTC")
    last = page["items"][-1]
    is_((page["next_cursor_created_at"], page["next_cursor_id"]), (last["created_at"], last["id"]), "the cursor is the last item")
    more = call(rig, "GET", "/jobs?queue=guarded&limit=2&cursor_created_at=%s&cursor_id=%s" % (page["next_cursor_created_at"], page["next_cursor_id"])).json()
    ok(more["items"] and all(i["id"] < last["id"] for i in more["items"]), "and leads on", more)
    is_(call(rig, "GET", "/jobs?status=weird").json(), {"items": [], "next_cursor_created_at": None, "next_cursor_id": None}, "an unknown status is an empty list")
    for state in ("queued", "running", "succeeded", "failed", "dlq", "canceled"):
        is_(call(rig, "GET", "/jobs?status=" + state).status, 200, "state " + state)


def lives(rig):
    for code, reason, tries in (("BAD_PAYLOAD", "NON_RETRYABLE", 1), ("UNKNOWN_JOB_TYPE", "NON_RETRYABLE", 1), ("RATE_LIMIT", "MAX_ATTEMPTS_EXCEEDED", 2),
                                ("MADE_UP", "MAX_ATTEMPTS_EXCEEDED", 2)):
        j = ended(rig, enqueue(rig, "t.fail", {"code": code}, max_attempts=2, backoff={"base_ms": 1}))
        is_((j["status"], j["dlq_reason_code"], j["attempts"], j["last_error_code"]), ("dlq", reason, tries, code), "%s: %s" % (code, reason))
    dead = call(rig, "GET", "/dlq").json()
    ok(len(dead["items"]) >= 4 and {i["status"] for i in dead["items"]} == {"dlq"}, "GET /dlq lists them", dead)
    t = call(rig, "GET", "/jobs/%s/timeline" % j["id"]).json()
    ok(TIMELINE <= set(t) and ATTEMPT <= set(t["attempts"][0]), "the timeline has its members", t)
    is_(t["last_error"], {"error_code": "MADE_UP", "error_message": "as asked"}, "the last error")
    tries = [e for e in t["story"] if e["kind"] == "Attempt"]
    ok(tries and {"at", "id", "attempt_no", "status", "worker_id", "error_code", "error_message", "suggested_action", "latency_ms"} <= set(tries[0]), "its story attempts", tries)
    x = call(rig, "GET", "/jobs/%s/explain" % j["id"]).json()
    ok(EXPLAIN <= set(x), "explain has its members", x)
    is_((x["attempts"], x["failed_attempts"], x["dlq_reason_code"]), (2, 2, "MAX_ATTEMPTS_EXCEEDED"), "and figures")
    like(call(rig, "GET", "/jobs/%s/explain" % dead["items"][1]["id"]).json()["suggested_action"], "back off", "advice for RATE_LIMIT")
    for path in ("timeline", "explain"):
        reply = call(rig, "GET", "/jobs/%s/%s" % (NOBODY, path))
        is_((reply.status, "error" in reply.json()), (404, True), "no such job: 404 with {error}")
    again = call(rig, "POST", "/jobs/%s/replay" % j["id"], {"queue": "other", "run_at": "2031-01-01T00:00:00Z"}).json()
    is_((set(again), again["replay_of_job_id"]), ({"new_job_id", "replay_of_job_id"}, j["id"]), "a replay")
    made = job(rig, again["new_job_id"])
    is_((made["queue"], made["run_at"], made["max_attempts"], made["payload_json"], made["replay_of_job_id"]),
        ("other", "2031-01-01T00:00:00.000000Z", 2, {"code": "MADE_UP"}, j["id"]), "takes queue and time, and copies the rest")
    is_(call(rig, "POST", "/jobs/%s/replay" % NOBODY, {}).status, 404, "of nothing it is 404")


def metrics(rig):
    m = call(rig, "GET", "/metrics").json()
    is_(set(m), {"now_utc", "queues"}, "GET /metrics is JSON")
    is_(set(m["queues"][0]), {"at", "queue", "runnable_queue_depth", "jobs_per_sec", "success_rate", "retry_rate", "mean_latency_ms"}, "of each queue")
    nobody = call(rig, "GET", "/metrics?queue=nobody").json()["queues"]
    is_([(q["queue"], q["runnable_queue_depth"], q["jobs_per_sec"], q["success_rate"]) for q in nobody], [("nobody", 0, 0, 0)], "an unknown queue gives zeros")
    prom = call(rig, "GET", "/metrics/prom").text
    for name in ("pgflow_queue_depth", "pgflow_running_jobs", "pgflow_jobs_succeeded_last_60s", "pgflow_jobs_failed_last_60s"):
        like(prom, r"^%s \d+" % name, name)


def tables(rig):
    for table, columns in COLUMNS.items():
        there = {c for c, in sql(rig, "select column_name from information_schema.columns where table_schema = 'pgflow' and table_name = '%s'" % table)}
        is_(set(columns.split()) - there, set(), "table " + table)
    posted = enqueue(rig, "nobody.serves", 1)
    is_(sql(rig, "select job_type, status, payload_json, attempts from jobs where id = '%s'" % posted), [("nobody.serves", "queued", "1", "0")], "a job that was posted is in the table jobs")
    rows = sql(rig, "begin; create role dashboard; grant usage on schema pgflow to dashboard; grant select on all tables in schema pgflow to dashboard;"
                    " set role dashboard; select (select count(*) from pgflow.jobs where id = '%s') + (select count(*) * 0 from pgflow.job_attempts); rollback" % posted)
    is_(rows, [("1",)], "a role of its own can read them")
    made = sql(rig, "insert into jobs (queue, job_type, payload_json) values ('default', 't.sleep', '{\"s\": 0}') returning id")[0][0]
    is_(ended(rig, made)["status"], "succeeded", "a job that a plain insert has made runs")


def commands(rig):
    node = json.loads(rig.ctl("--json", "status")[1])["node"]
    status, out, err = rig.ctl("--json", "queue", "seed", "4")
    made = json.loads(out)["job_ids"] if ok(status == 0, "queue seed", err) else []
    is_([(job(rig, i)["job_type"], job(rig, i)["max_attempts"]) for i in made], [("demo_ok", 5), ("fail_me", 5)] * 2, "every other one is to fail")
    is_(ended(rig, made[0])["status"], "succeeded", "examples/demo.lua runs them")
    ok(eventually(20, lambda: job(rig, made[1])["last_error_code"] == "TIMEOUT"), "and fails them", job(rig, made[1]))
    status, out, _ = rig.ctl("job", "timeline", made[0])
    ok(status == 0 and "Enqueued" in out and "Attempt" in out, "job timeline", out)
    status, _, err = rig.ctl("queue", "reset", "--confirm", "yes")
    ok(status != 0 and "--confirm " + node in err, "queue reset asks whether it is meant", err)
    is_(rig.ctl("queue", "reset", "--confirm", node)[0], 0, "then it deletes")
    is_((call(rig, "GET", "/jobs").json()["items"], call(rig, "GET", "/ingest/decisions").json()), ([], []), "everything")
    is_(job(rig, enqueue(rig, "nobody.serves", 1))["status"], "queued", "and jobs can be made again")


# ---- known faults ----

def a_crash_consumes_an_attempt(rig):
    made = enqueue(rig, payload={"s": 50}, max_attempts=1)
    ok(eventually(20, lambda: job(rig, made)["status"] == "running"), "a job runs")
    time.sleep(0.2)
    for pid in rig.workers():
        os.kill(pid, signal.SIGKILL)
    j = ended(rig, made)
    is_((j["status"], j["last_error_code"], j["attempts"]), ("dlq", "WORKER_LOST", 1), "one that kills its worker is not run for ever")
    is_(sql(rig, "select count(*) from queue.job_attempts where status = 'running'"), [("0",)], "no attempt is left running")
    ok(eventually(20, lambda: any(w["state"] == "ready" for w in rig.api("GET", "/v1/workers").json())), "and another worker comes")


def late_results_change_nothing(rig):
    row, place = enqueue(rig, key="late"), enqueue(rig)
    for made in (row, place):
        ended(rig, made)
        sql(rig, "select queue.finish(jsonb_build_array(jsonb_build_object('job', '%s', 'token', gen_random_uuid(), 'outcome', 'failed', 'code', 'TIMEOUT')))" % made)
        is_(job(rig, made)["status"], "succeeded", "a failure that comes late does not queue it again")
    sql(rig, "select queue.finish(null, jsonb_build_array(jsonb_build_object('token', gen_random_uuid(), 'chunk', '%s', 'busy_us', 1, 'others',"
             " jsonb_build_array(jsonb_build_object('at', 0, 'outcome', 'failed', 'code', 'TIMEOUT')))))" % place)
    is_(job(rig, place)["status"], "succeeded", "nor one of a range")


def limits_hold(rig):
    ids = [enqueue(rig, payload={"s": 0.2}, queue="narrow") for _ in range(8)]
    is_({ended(rig, i)["status"] for i in ids}, {"succeeded"}, "eight jobs of a queue with max_in_flight 2 run")
    most = sql(rig, "with a as (select t.* from pgflow.job_attempts t join pgflow.jobs j on j.id = t.job_id where j.queue = 'narrow') select max(n) from "
                    "(select (select count(*) from a y where y.started_at <= x.started_at and y.finished_at > x.started_at) as n from a x) o")
    is_(most, [("2",)], "two at a time")


def time_makes_no_tables(rig):
    before = sql(rig, "select count(*) from pg_class where relkind = 'r' and relnamespace = 'queue'::regnamespace")
    ids = [enqueue(rig, "nobody.serves", 1, run_at="2031-01-%02dT%02d:00:00Z" % (1 + h // 24, h % 24)) for h in range(0, 30, 3)]
    begin = time.monotonic()
    is_(call(rig, "POST", "/jobs/%s/replay" % ids[0], {"run_at": "2032-06-01T00:00:00Z"}).status, 200, "a replay into an hour that nobody has used")
    ok(time.monotonic() - begin < 3, "waits for nobody")
    is_(sql(rig, "select count(*) from pg_class where relkind = 'r' and relnamespace = 'queue'::regnamespace"), before, "producers make no tables, whatever time they name")


def secrets_are_not_told(rig):
    made = enqueue(rig, "t.tell", {"text": TOKEN})
    ended(rig, made)
    told = call(rig, "GET", "/jobs/%s/timeline" % made).text
    ok("it is ***" in told and TOKEN not in told, "a secret that a script logs is in no timeline", told)


def archived_jobs_answer(rig):
    made = enqueue(rig, queue="brief", key="as a row")
    ok(eventually(20, lambda: job(rig, made)["archived_at"]), "a job goes to the archive")
    is_([call(rig, "GET", "/jobs/%s/%s" % (made, what)).status for what in ("timeline", "explain")], [200, 200], "it answers as before")
    is_(len(call(rig, "GET", "/jobs/%s/timeline" % made).json()["attempts"]), 1, "with its attempts")
    is_(call(rig, "POST", "/jobs/%s/replay" % made, {}).status, 200, "and is replayed")


with Rig(conf=None, env={name: row[0] for name, row in VARIABLES.items() if row[0]}) as r:
    r.write_script("handlers/t.lua", HANDLERS)
    shutil.copy(os.path.join(SRC, "lua", "examples", "demo.lua"), os.path.join(r.dir, "lua", "handlers"))
    r.write_conf("50-test.ini", CONF)
    r.start()
    for part in (variables, who_may, enqueueing, lists, lives, metrics, tables, commands, a_crash_consumes_an_attempt, late_results_change_nothing, limits_hold,
                 time_makes_no_tables, secrets_are_not_told, archived_jobs_answer):
        note(part.__name__)
        part(r)
    like(r.log_text(), r'"event":"queue\.attempt_ended"', "PGFLOW_VERBOSE_JOB_LOGS tells of each attempt")
    ok(TOKEN not in r.log_text(), "the token is in no log")
done()
