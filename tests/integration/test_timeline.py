"""test_timeline.py - everything that happens to a job stands in its timeline, while it is live and when it is in the archive. test-timeout: 120"""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import Rig, done, eventually, is_, like, ok

HANDLERS = """
depot.job("t.two") { run = function(job)
  job:log("info", "attempt " .. job.attempt, { n = job.attempt })
  depot.log.warn("bytes \\xff and \\0 end")
  job:progress(0.25, "a quarter")
  job:checkpoint("paid", function() return { invoice = 7 } end)
  if job.attempt == 1 then job:fail("RATE_LIMIT", "too often") end
  if job.attempt == 2 then job:snooze("10ms", "not yet") end
  job:progress(1)
end }
depot.job("t.chatty") { run = function(job) for i = 1, 2000 do job:log("info", ("x"):rep(100) .. i) end end }
depot.job("t.nap") { timeout = "60s", run = function(job) job:progress(0.5, "napping") job:log("info", "I sleep") depot.sleep(50) end }
depot.job("t.dead") { max_attempts = 1, run = function(job) job:fail("BAD_PAYLOAD", "no") end }
"""

CONF = """
[plugin http]
[plugin queue]
reap_interval = 300ms
maintenance_interval = 300ms
[lua]
workers = 1
[queue shut]
max_in_flight = 0
[queue quick]
archive_succeeded_after = 1s
archive_dlq_after = 1s
"""


def enqueue(rig, job_type, **more):
    reply = rig.admin("POST", "/jobs", dict(job_type=job_type, payload_json={}, **more), headers={"X-Request-Id": "timeline-test-1"})
    return (reply.json()["job_id"], reply.headers["X-Request-Id"]) if ok(reply.status == 200, "enqueue %s" % job_type, reply) else (None, None)


def job(rig, job_id):
    return rig.admin("GET", "/jobs/" + job_id).json()


def ended(rig, job_id, *states):
    return eventually(30, lambda: (lambda j: j if j["status"] in (states or ("succeeded", "dlq", "canceled")) else None)(job(rig, job_id))) or job(rig, job_id)


def story(rig, job_id, *kinds):
    return [e for e in rig.admin("GET", "/jobs/%s/timeline" % job_id).json()["story"] if not kinds or e["kind"] in kinds]


def kinds(rig, job_id):
    return [e["kind"] for e in story(rig, job_id)]


def a_job_that_took_three_attempts(rig):
    made, request = enqueue(rig, "t.two", queue="quick", backoff={"base_ms": 1, "jitter": 0})
    j = ended(rig, made)
    is_(j["status"], "succeeded", "it succeeds")
    is_(kinds(rig, made), ["Enqueued", "Attempt", "Checkpoint", "Rescheduled", "Attempt", "Rescheduled", "Attempt", "Progress"], "what happened, in order")
    first = story(rig, made)[0]
    like(first["by"], "^token:admin", "enqueued by whom")
    is_(first["request_id"], request, "by which request")
    tries = story(rig, made, "Attempt")
    is_([(t["attempt_no"], t["status"], t["error_code"]) for t in tries], [(1, "failed", "RATE_LIMIT"), (2, "snoozed", None), (3, "succeeded", None)], "its attempts")
    is_([(line["level"], line["message"], line.get("fields")) for line in tries[0]["log"]],
        [("info", "attempt 1", {"n": 1}), ("warn", "bytes \N{REPLACEMENT CHARACTER} and ", None)], "with log lines")
    ok(all(t["at"] and t["worker_id"] and t["id"] for t in tries), "leased when and by whom", tries)
    like(tries[0]["suggested_action"], "back off", "what to do")
    again = story(rig, made, "Rescheduled")
    is_([(e["attempt_no"], e["charged"], e["run_at"] is not None) for e in again], [(1, True, True), (2, False, True)], "rescheduled: for when, and whether it counts")
    is_([(e["name"], e["attempt_no"]) for e in story(rig, made, "Checkpoint")], [("paid", 1)], "what it kept, in which attempt")
    is_([(c["name"], c["value"]) for c in j["checkpoints"]], [("paid", {"invoice": 7})], "the job shows it, too")
    is_((j["progress"]["fraction"], j["progress"]["at"] is not None), (1, True), "and how far it was")
    status, out, _ = rig.ctl("job", "show", made)
    ok(status == 0 and "paid" in out and "progress" in out, "depotctl job show does", out)
    ok(eventually(15, lambda: kinds(rig, made)[-1] == "Archived"), "it goes to the archive", kinds(rig, made))
    is_(kinds(rig, made)[:-1], ["Enqueued", "Attempt", "Checkpoint", "Rescheduled", "Attempt", "Rescheduled", "Attempt", "Progress"], "and nothing of it is lost")


def logs_are_bounded(rig):
    made, _ = enqueue(rig, "t.chatty")
    ended(rig, made)
    log = story(rig, made, "Attempt")[0]["log"]
    ok(50 < len(log) < 300, "of many lines the first are kept", len(log))
    like(log[-1]["message"], r"^\d+ more lines are in the log of the daemon$", "and it is said how many more there are")


def a_worker_that_dies(rig):
    made, _ = enqueue(rig, "t.nap", max_attempts=1)
    ok(eventually(20, lambda: job(rig, made)["progress"]), "it runs")
    listed = [i for i in rig.admin("GET", "/jobs?status=running").json()["items"] if i["id"] == made]
    is_([(i["progress"] or {}).get("text") for i in listed], ["napping"], "the list shows how far it is")
    eventually(10, lambda: "I sleep" in rig.log_text())
    for pid in rig.workers():
        os.kill(pid, signal.SIGKILL)
    is_((ended(rig, made)["status"]), "dlq", "its worker dies")
    is_(kinds(rig, made), ["Enqueued", "Attempt", "Progress", "LeaseLost", "Dead"], "the lease is lost, and the job dead")
    is_([(e["attempt_no"], e["worker_id"] is not None) for e in story(rig, made, "LeaseLost")], [(1, True)], "by whom")
    is_([line["message"] for line in story(rig, made, "Attempt")[0]["log"]], ["I sleep"], "what it had said is kept")
    is_(story(rig, made, "Dead")[0]["reason_code"], "MAX_ATTEMPTS_EXCEEDED", "dead for which reason")


def dead_replayed_retried_discarded(rig):
    made, _ = enqueue(rig, "t.dead")
    ended(rig, made)
    again = rig.admin("POST", "/jobs/%s/replay" % made, {}).json()["new_job_id"]
    ended(rig, again)
    is_([e["new_job_id"] for e in story(rig, made, "Replayed")], [again], "replayed: to which job")
    is_(story(rig, again)[0]["replay_of_job_id"], made, "and from which")
    for action, kind in (("retry", "Retried"), ("discard", "Discarded")):
        rig.admin("POST", "/v1/jobs/bulk", {"action": action, "filter": {"type": "t.dead"}})
        eventually(10, lambda: job(rig, made)["status"] in ("dlq", "canceled"))
        event = story(rig, made, kind)
        ok(len(event) == 1 and event[0]["by"] and event[0]["request_id"], kind + ": by whom", event)


def throttled_and_canceled(rig):
    made, _ = enqueue(rig, "t.two", queue="shut")
    ok(eventually(20, lambda: "PolicyDecision" in kinds(rig, made)), "a queue that is full is told of")
    decision = story(rig, made, "PolicyDecision")[0]
    is_((decision["decision"], decision["reason_code"], decision["details_json"]["max_in_flight"]), ("THROTTLED", "IN_FLIGHT_EXCEEDED", 0), "with the figures")
    rig.admin("POST", "/jobs/%s/cancel" % made)
    last = story(rig, made)[-1]
    is_((last["kind"], last["by"] is not None), ("Canceled", True), "canceled by whom")
    longer, _ = enqueue(rig, "t.nap")
    ok(eventually(20, lambda: job(rig, longer)["progress"]), "another one runs")
    rig.admin("POST", "/jobs/%s/cancel" % longer)
    ended(rig, longer)
    is_(kinds(rig, longer), ["Enqueued", "Attempt", "Progress", "CancelRequested", "Canceled"], "canceled while it ran")


with Rig(conf=None) as r:
    r.write_script("handlers/t.lua", HANDLERS)
    r.write_conf("50-test.ini", CONF)
    r.start()
    for part in (a_job_that_took_three_attempts, logs_are_bounded, a_worker_that_dies, dead_replayed_retried_discarded, throttled_and_canceled):
        print("# " + part.__name__)
        part(r)
done()
