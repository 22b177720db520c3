"""test_queue_more.py - policies, pause, cancel while running, unique jobs, keys, dependencies, batches, bulk, archive in a running daemon. test-timeout: 300"""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import Rig, done, eventually, is_, like, ok

HANDLERS = """
depot.job("t.ok") { run = function(job) return job.args end }
depot.job("t.sleep") { timeout = "60s", run = function(job) depot.sleep(job.args.s) return true end }
depot.job("t.never") { run = function(job) job:fail("OUT_OF_CHEESE", "there is none") end }
depot.job("t.fan") { run = function(job)
  local b = depot.queue.batch({ { type = "t.ok" }, { type = "t.ok", options = { concurrency_key = "x" } } }, { type = "t.ok", queue = "after", args = { n = 1 } })
  local last = depot.queue.enqueue("after", "t.ok", { last = true }, { after = b.job_ids, unique = { key = "last", scope = "active" } })
  return { batch = b.batch_id, last = last }
end }
"""

CONF = """
[plugin http]
[plugin queue]
reap_interval = 500ms
archive_after = 1s
maintenance_interval = 500ms
[queue fixed]
max_in_flight = 7
max_per_key = 2
[queue stopped]
paused = yes
[limit slow]
rate = 2/s
on = queue:slow
"""

NOBODY = "01000000-0000-7000-8000-000000000000"


def enqueue(rig, job_type, payload, **more):
    reply = rig.admin("POST", "/jobs", dict(job_type=job_type, payload_json=payload, **more))
    return reply.json()["job_id"] if ok(reply.status == 200, "enqueue %s" % job_type, reply) else None


def job(rig, job_id):
    return rig.admin("GET", "/jobs/" + job_id).json()


def ended(rig, job_id, seconds=20):
    return eventually(seconds, lambda: (lambda j: j if j["status"] in ("succeeded", "dlq", "canceled") else None)(job(rig, job_id))) or job(rig, job_id)


def story(rig, job_id):
    return [e["kind"] for e in rig.admin("GET", "/jobs/%s/timeline" % job_id).json()["story"]]


def why(rig, job_id):
    return {w["code"]: w["why"] for w in rig.admin("GET", "/jobs/%s/explain" % job_id).json()["waits_for"]}


def policies_are_read_and_set(rig):
    is_(rig.admin("GET", "/v1/queues/open/policy").json()["source"], "none", "a queue is free at first")
    reply = rig.admin("PATCH", "/v1/queues/open/policy", {"max_in_flight": 3, "backoff_base_ms": 10, "backoff_jitter": 0.5})
    is_((reply.status, reply.json()["max_in_flight"], reply.json()["source"]), (200, 3, "api"), "a limit is set")
    status, out, _ = rig.ctl("--json", "queue", "limit", "open", "--max-per-key", "2", "--none", "max_in_flight")
    is_((status, json.loads(out)["max_per_key"], json.loads(out)["max_in_flight"], json.loads(out)["backoff_base_ms"]), (0, 2, None, 10),
        "depotctl sets one and takes one away; what is not named stays")
    is_(rig.admin("PATCH", "/v1/queues/open/policy", {"backoff_jitter": 2}).status, 422, "a share above 1 is refused")
    is_(rig.admin("DELETE", "/v1/queues/open/policy").json()["max_per_key"], None, "all are taken away")
    refused = rig.admin("PATCH", "/v1/queues/fixed/policy", {"max_in_flight": 1})
    is_(refused.status, 409, "what a section says is not changed by HTTP")
    like(refused.json()["detail"], r"section \[queue fixed\]", "which is named")
    is_(rig.admin("GET", "/v1/queues/fixed/policy").json()["max_in_flight"], 7, "and holds")
    is_(rig.admin("GET", "/v1/queues/slow/policy").json()["limits"], [{"name": "slow", "per_second": 2, "burst": 2, "on": "queue"}], "a limit shows")


def queues_are_paused_and_resumed(rig):
    is_(rig.ctl("queue", "pause", "fixed")[0], 0, "any queue can be paused")
    waits = enqueue(rig, "t.ok", {}, queue="fixed")
    time.sleep(0.5)
    like(why(rig, waits).get("QUEUE_PAUSED", ""), "is paused by .* since", "explain says by whom")
    rig.write_conf("50-test.ini", CONF.replace("max_in_flight = 7", "max_in_flight = 8"))
    is_(rig.ctl("config", "reload")[0], 0, "a reload")
    eventually(5, lambda: rig.admin("GET", "/v1/queues/fixed/policy").json()["max_in_flight"] == 8)
    is_(job(rig, waits)["status"], "queued", "does not end the pause")
    is_(rig.ctl("queue", "resume", "fixed")[0], 0, "resume does")
    is_(ended(rig, waits)["status"], "succeeded", "and its job runs")
    is_(rig.admin("POST", "/v1/queues/stopped/resume").status, 409, "what a section pauses is resumed there")
    audit = [a["action"] for a in rig.admin("GET", "/v1/audit?limit=50").json()]
    ok(any("pause" in a for a in audit) and any("resume" in a for a in audit), "both are in the audit log", audit)


def running_jobs_are_canceled(rig):
    longer = enqueue(rig, "t.sleep", {"s": 50})
    eventually(10, lambda: job(rig, longer)["status"] == "running")
    reply = rig.admin("POST", "/jobs/%s/cancel" % longer)
    is_((reply.status, reply.json()["status"]), (200, "canceling"), "a running job is told to end")
    j = ended(rig, longer, 10)
    is_((j["status"], j["attempts"]), ("canceled", 1), "it ends, and is not retried")
    is_(story(rig, longer)[:4], ["Enqueued", "Attempt", "CancelRequested", "Canceled"], "its story says so")
    is_(rig.admin("POST", "/jobs/%s/cancel" % longer).status, 200, "again is as well")


def jobs_are_unique(rig):
    first = enqueue(rig, "t.sleep", {"s": 0.5}, unique={"key": "u"})
    is_(enqueue(rig, "t.sleep", {"s": 0.5}, unique={"key": "u"}), first, "one job has the key")
    refused = rig.admin("POST", "/jobs", {"job_type": "t.ok", "payload_json": {}, "unique": {"key": "u", "on_conflict": "reject"}})
    is_((refused.status, refused.json()["code"]), (409, "CONFLICT"), "or the second is refused")
    is_(ended(rig, first)["status"], "succeeded", "it ends")
    ok(enqueue(rig, "t.ok", {}, unique={"key": "u"}) != first, "its key is free then")
    is_(rig.admin("POST", "/jobs", {"job_type": "t.ok", "payload_json": {}, "unique": {"key": "u", "scope": "period"}}).status, 422, "a period needs its length")


def timeouts_and_backoff_can_be_the_jobs_own(rig):
    late = ended(rig, enqueue(rig, "t.sleep", {"s": 50}, timeout_ms=200, max_attempts=1))
    is_((late["status"], late["last_error_code"]), ("dlq", "TIMEOUT"), "its own timeout ends it")
    quick = ended(rig, enqueue(rig, "t.never", {}, max_attempts=4, backoff={"base_ms": 1, "max_ms": 5, "jitter": 0}))
    is_((quick["status"], quick["attempts"]), ("dlq", 4), "its own backoff is short")


def keys_hold_jobs_back(rig):
    ids = [enqueue(rig, "t.sleep", {"s": 0.5}, queue="fixed", concurrency_key="k") for _ in range(5)]
    most, seen = 0, False
    while any(job(rig, i)["status"] != "succeeded" for i in ids):
        most = max(most, next(q for q in rig.admin("GET", "/queues").json() if q["queue"] == "fixed")["running"])
        seen = seen or "KEY_BUSY" in why(rig, ids[4])
    ok(most <= 2, "never more than two of a key run", most)
    ok(seen, "explain says who holds it")


def rates_are_kept(rig):
    begin = time.time()
    ids = [enqueue(rig, "t.ok", {}, queue="slow") for _ in range(6)]
    is_([ended(rig, i)["status"] for i in ids], ["succeeded"] * 6, "six jobs of a queue with two a second run")
    ok(time.time() - begin > 1.5, "in two seconds: two at once, the others one by one", time.time() - begin)


def jobs_wait_for_others(rig):
    first = enqueue(rig, "t.sleep", {"s": 0.5})
    second = enqueue(rig, "t.ok", {}, after=[first])
    like(why(rig, second).get("WAITS_FOR_JOBS", ""), first, "explain names what it waits for")
    is_((ended(rig, second)["status"], job(rig, first)["status"]), ("succeeded", "succeeded"), "it runs after the other")
    dead = enqueue(rig, "t.never", {}, max_attempts=1)
    with_it = enqueue(rig, "t.ok", {}, after=[dead])
    anyway = enqueue(rig, "t.ok", {}, after=[dead], on_dependency_failure="run")
    wait = enqueue(rig, "t.ok", {}, after=[dead], on_dependency_failure="wait")
    is_((ended(rig, with_it)["status"], ended(rig, anyway)["status"], job(rig, wait)["status"]), ("canceled", "succeeded", "queued"), "a failure is handed on as asked")
    like(job(rig, with_it)["canceled_by"], dead, "with its cause")
    is_(rig.admin("POST", "/jobs/%s/cancel" % wait).status, 200, "what waits can be canceled")
    is_(rig.admin("POST", "/jobs", {"job_type": "t.ok", "payload_json": {}, "after": [NOBODY]}).status, 422, "what is not there cannot be waited for")


def batches_call_back(rig):
    fan = ended(rig, enqueue(rig, "t.fan", {}))["result"]
    is_(ended(rig, fan["last"])["status"], "succeeded", "a job after a batch made by a script")
    batch = eventually(10, lambda: (lambda b: b if b["ended_at"] else None)(rig.admin("GET", "/v1/batches/" + fan["batch"]).json()))
    is_((batch["total"], batch["succeeded"], batch["open"]), (2, 2, 0), "the batch is counted")
    back = ended(rig, batch["callback_job_id"])
    is_(back["result"], {"batch": {"id": fan["batch"], "total": 2, "succeeded": 2, "dlq": 0, "canceled": 0}, "args": {"n": 1}}, "and its callback told")
    made = rig.admin("POST", "/v1/batches", {"jobs": [{"job_type": "t.ok", "payload_json": {}}, {"job_type": "t.never", "payload_json": {}, "max_attempts": 1}],
                                             "callback": {"type": "t.ok"}})
    ok(made.status == 200, "a batch by HTTP", made)
    batch = eventually(10, lambda: (lambda b: b if b["ended_at"] else None)(rig.admin("GET", "/v1/batches/" + made.json()["batch_id"]).json()))
    is_((batch["succeeded"], batch["dlq"]), (1, 1), "with its dead")
    is_(rig.admin("GET", "/v1/batches/" + NOBODY).status, 404, "no such batch")


def many_at_once(rig):
    with open(os.path.join(rig.dir, "jobs.json"), "w", encoding="utf-8") as file:
        json.dump([{"job_type": "t.never", "payload_json": {"i": i}, "queue": "bulk", "max_attempts": 1} for i in range(20)], file)
    status, out, err = rig.ctl("--json", "job", "enqueue-many", "@" + os.path.join(rig.dir, "jobs.json"))
    ids = json.loads(out)["job_ids"] if ok(status == 0, "depotctl makes many", err) else []
    is_({ended(rig, i)["status"] for i in ids}, {"dlq"}, "all are dead")
    refused = rig.admin("POST", "/v1/jobs/bulk", {"action": "retry", "filter": {"queue": "bulk"}, "expect_count": 19})
    is_((refused.status, refused.json()["code"]), (412, "PRECONDITION"), "another number than expected is refused")
    part = rig.admin("POST", "/v1/jobs/bulk", {"action": "retry", "filter": {"queue": "bulk", "code": "OUT_OF_CHEESE"}, "expect_count": 20, "limit": 5})
    is_(part.json(), {"action": "retry", "matched": 20, "changed": 5, "left_over": 15}, "five are retried")
    eventually(10, lambda: all(job(rig, i)["attempts"] == 2 and job(rig, i)["status"] == "dlq" for i in ids[:5]))
    is_([job(rig, i)["attempts"] for i in ids[:6]], [2] * 5 + [1], "the oldest")
    ok("Retried" in story(rig, ids[0]), "their story says so")
    status, out, _ = rig.ctl("--json", "job", "bulk", "discard", "--filter", json.dumps({"queue": "bulk"}))
    is_((status, json.loads(out)["changed"]), (0, 20), "depotctl discards the dead")
    is_(rig.admin("POST", "/v1/jobs/bulk", {"action": "discard", "filter": {"status": "succeeded"}}).status, 422, "what has succeeded is not discarded")
    return ids


def archived_jobs_answer(rig, ids):
    j = eventually(15, lambda: (lambda j: j if j["archived_at"] else None)(job(rig, ids[0])))
    ok(j, "a job that ended goes to the archive")
    is_((j or {}).get("status"), "canceled", "and can be read")
    is_(story(rig, ids[0])[-1], "Archived", "its story goes on to the end")
    is_(len(rig.admin("GET", "/jobs/%s/timeline" % ids[0]).json()["attempts"]), 2, "its attempts are kept")
    ok(ids[0] in [i["id"] for i in rig.admin("GET", "/jobs?queue=bulk&status=canceled").json()["items"]], "it is listed")
    is_(rig.admin("GET", "/jobs/%s/explain" % ids[0]).status, 200, "explained")
    reply = rig.admin("POST", "/jobs/%s/replay" % ids[0], {})
    is_((reply.status, reply.json()["replay_of_job_id"]), (200, ids[0]), "and replayed")


with Rig(conf=None) as r:
    r.write_script("handlers/t.lua", HANDLERS)
    r.write_conf("50-test.ini", CONF)
    r.start()
    for part in (policies_are_read_and_set, queues_are_paused_and_resumed, running_jobs_are_canceled, jobs_are_unique, timeouts_and_backoff_can_be_the_jobs_own,
                 keys_hold_jobs_back, rates_are_kept, jobs_wait_for_others, batches_call_back):
        print("# " + part.__name__)
        part(r)
    archived_jobs_answer(r, many_at_once(r))
done()
