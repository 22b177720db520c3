"""test_encrypted.py - queues that encrypt their jobs' arguments: every door, keys that change, what shows and what must not. test-timeout: 180"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import Rig, done, eventually, is_, like, note, ok
from servers import embedded_sql

CANARY = "canary-7f3a-do-not-show"  # in all arguments; must be found nowhere in plain
OLD, NEW = "0" * 62 + "a1", "f" * 62 + "b2"

HANDLERS = """
depot.job("t.check") { run = function(job) return { n = #job.args.secret, same = job.args.secret == "%s" } end }
depot.job("t.typed") { args = { secret = "integer" }, run = function(job) return true end }
depot.job("t.never") { max_attempts = 1, run = function(job) job:fail("OUT_OF_CHEESE", "there is none") end }
depot.job("t.make") { run = function(job)
  local ids = { depot.queue.enqueue("vault", "t.check", job.args), job:enqueue("vault", "t.check", job.args) }
  job:tx(function() ids[3] = job:enqueue("vault", "t.check", job.args) end)
  local b = depot.queue.batch({ { queue = "vault", type = "t.check", args = job.args } }, { type = "t.check", args = { secret = "x" } })
  ids[4] = b.job_ids[1]
  return ids
end }
""" % CANARY

CONF = """
[plugin http]
[plugin queue]
reap_interval = 500ms
encryption_keys = %s
[queue vault]
encrypt_args = yes
"""
ARGS = {"secret": CANARY}


def job(rig, job_id):
    return rig.admin("GET", "/jobs/" + job_id).json()


def ended(rig, job_id, seconds=20):
    return eventually(seconds, lambda: (lambda j: j if j["status"] in ("succeeded", "dlq", "canceled") else None)(job(rig, job_id))) or job(rig, job_id)


def enqueue(rig, job_type="t.check", queue="vault", **more):
    reply = rig.admin("POST", "/jobs", dict(job_type=job_type, payload_json=ARGS, queue=queue, **more))
    return reply.json()["job_id"] if ok(reply.status == 200, "enqueue %s" % job_type, reply) else None


def key_of(rig, job_id):
    return job(rig, job_id)["encrypted_with"]


def sql(rig, text):
    """As a producer in a session of its own: one value, or what the server said."""
    try:
        rows = embedded_sql(rig, text)
    except RuntimeError as error:
        return str(error)
    return rows[0][0] if rows else ""


def use_keys(rig, *keys):
    with open(os.path.join(rig.state, "secrets", "queue"), "w", encoding="ascii") as file:
        file.write(", ".join(keys) + "\n")
    is_(rig.ctl("config", "reload")[0], 0, "the keys are changed")


def handlers_get_plain_arguments(rig):
    made = enqueue(rig)
    j = ended(rig, made)
    is_((j["status"], j["result"]), ("succeeded", {"n": len(CANARY), "same": True}), "the handler got what was enqueued")
    is_(list(j["payload_json"]["$encrypted"]), ["key"], "who looks at the job sees the key's id alone")
    is_(j["payload_json"]["$encrypted"]["key"], j["encrypted_with"], "which is told")
    for path in ("/timeline", "/explain"):
        is_(rig.admin("GET", "/jobs/" + made + path).json()["encrypted_with"], j["encrypted_with"], "as in" + path)
    is_(rig.admin("GET", "/jobs?queue=vault").json()["items"][0]["encrypted_with"], j["encrypted_with"], "and in lists")
    is_(rig.admin("GET", "/v1/queues/vault/policy").json()["encrypt_args"], True, "the policy says so")
    is_(key_of(rig, enqueue(rig, queue="open")), None, "other queues do not")
    return j["encrypted_with"]


def every_door_encrypts(rig):
    makes = ended(rig, enqueue(rig, "t.make"))
    is_(makes["status"], "succeeded", "a script makes jobs of all four kinds")
    for made in makes["result"] or []:
        j = ended(rig, made)
        is_((j["status"], j["result"]["same"], j["encrypted_with"] is not None), ("succeeded", True, True), "one of them")
    for path in ("/v1/jobs/bulk-enqueue", "/v1/batches"):
        reply = rig.admin("POST", path, {"jobs": [{"job_type": "t.check", "queue": "vault", "payload_json": ARGS}] * 2})
        is_([(j["result"] or {}).get("same") for j in [ended(rig, i) for i in reply.json()["job_ids"]]], [True, True], "POST " + path)
    status, out, err = rig.ctl("--json", "job", "enqueue", "t.check", "--queue", "vault", "--payload-json", json.dumps(ARGS))
    ok(status == 0 and ended(rig, json.loads(out)["job_id"])["result"]["same"], "depotctl", err)
    reply = rig.admin("POST", "/jobs", {"job_type": "t.check", "payload_json": {"$encrypted": {"key": "x"}}})
    is_((reply.status, reply.json()["code"]), (422, "INVALID"), "nobody passes off their own as encrypted")
    reply = rig.admin("POST", "/v1/batches", {"jobs": [{"job_type": "t.check", "payload_json": ARGS}], "callback": {"type": "t.check", "queue": "vault"}})
    is_((reply.status, reply.json()["code"]), (409, "CONFLICT"), "a callback cannot go there")
    like(reply.json()["detail"], "encrypted arguments only", "which is said")


def sql_sessions_are_refused(rig):
    for call in ("depot.enqueue('vault', 't.check', '%s')" % json.dumps(ARGS), "depot.enqueue_many('vault', 't.check', '[1, 2]')",
                 "depot.batch('[{\"queue\": \"vault\", \"type\": \"t.check\"}]')"):
        like(sql(rig, "select " + call), r"queue vault takes encrypted arguments only[^$]*HINT: +enqueue through a daemon", call.split("(")[0])
    for call in ("enqueue('open', 't.check', '{\"$encrypted\": {}}')", "enqueue_many('open', 't.check', '[1, {\"$encrypted\": {}}]')",
                 "enqueue_many('open', 't.check', '[{\"\\u0024encrypted\": {}}]')"):
        like(sql(rig, "select depot." + call), "must not have a member", "nor do they pass off theirs as encrypted")


def dead_ones_are_replayed_and_retried(rig):
    dead = ended(rig, enqueue(rig, "t.never"))
    is_((dead["status"], dead["last_error_code"]), ("dlq", "OUT_OF_CHEESE"), "a job that dies")
    is_(rig.admin("GET", "/dlq?queue=vault").json()["items"][0]["encrypted_with"], dead["encrypted_with"], "shows in the DLQ as encrypted")
    again = rig.admin("POST", "/jobs/%s/replay" % dead["id"], {"queue": "elsewhere"}).json()["new_job_id"]
    j = ended(rig, again)
    is_((j["last_error_code"], j["encrypted_with"]), ("OUT_OF_CHEESE", dead["encrypted_with"]), "a replay is as encrypted, in another queue too")
    typed = ended(rig, enqueue(rig, "t.typed"))
    is_(typed["last_error_code"], "BAD_PAYLOAD", "arguments are checked once they are open")


def keys_rotate(rig, old_id):
    rig.ctl("queue", "pause", "vault")
    before = enqueue(rig)
    use_keys(rig, NEW, OLD)
    after = eventually(5, lambda: (lambda i: i if key_of(rig, i) != old_id else None)(enqueue(rig)))
    is_(key_of(rig, before), old_id, "what waits keeps its key")
    rig.ctl("queue", "resume", "vault")
    is_([ended(rig, i)["status"] for i in (before, after)], ["succeeded"] * 2, "jobs of both keys run")
    rig.ctl("queue", "pause", "vault")
    late = enqueue(rig)
    use_keys(rig, OLD)
    eventually(5, lambda: key_of(rig, enqueue(rig)) == old_id)
    rig.ctl("queue", "resume", "vault")
    lost = ended(rig, late)
    is_((lost["status"], lost["last_error_code"], lost["dlq_reason_code"], lost["attempts"]), ("dlq", "KEY_UNKNOWN", "NON_RETRYABLE", 1), "without its key a job is not tried twice")
    like(lost["last_error_message"], "does not hold key [0-9a-f]{8}; add it to the list", "and says which key it was, and what to do")
    is_(ended(rig, enqueue(rig))["status"], "succeeded", "others go on")
    use_keys(rig, OLD, NEW)
    eventually(10, lambda: rig.ctl("job", "bulk", "retry", "--filter", '{"code": "KEY_UNKNOWN"}')[0] == 0 and ended(rig, late, 3)["status"] == "succeeded")
    is_(job(rig, late)["status"], "succeeded", "with the key back, a retry does it")


def changed_ones_fail(rig):
    rig.ctl("queue", "pause", "vault")
    moved, cut = enqueue(rig), enqueue(rig)
    sql(rig, "update queue.jobs set job_type = 't.make' where id = '%s'" % moved)
    sql(rig, "update queue.jobs set payload_json = jsonb_set(payload_json, '{$encrypted,data}', '\"AAAA\"') where id = '%s'" % cut)
    rig.ctl("queue", "resume", "vault")
    for made, what in ((moved, "moved to another type"), (cut, "cut short")):
        j = ended(rig, made)
        is_((j["status"], j["last_error_code"], j["attempts"]), ("dlq", "DECRYPT_FAILED", 1), what)
    is_(ended(rig, enqueue(rig))["status"], "succeeded", "the worker lives")


def nothing_has_leaked(rig):
    dump = sql(rig, "select (select string_agg(j::text, '') from queue.jobs j where queue <> 'open') || (select string_agg(a::text, '') from depot.audit a)"
               " || coalesce((select string_agg(a::text, '') from queue.attempts a), '')")
    ok(len(dump) > 5000, "the tables are read", dump)
    ok(CANARY not in dump, "no table holds it in plain", dump[max(0, dump.find(CANARY) - 400):][:800])
    ok(CANARY not in rig.log_text() and NEW not in rig.log_text() and OLD not in rig.log_text(), "nor does the log")
    shown = rig.ctl("config", "show")[1]
    ok(NEW not in shown and OLD not in shown, "the keys are not shown", shown)


with Rig(conf=None) as r:
    r.write_script("handlers/t.lua", HANDLERS)
    for keys, why in (("", "there is no key to encrypt with"), ("abc", "a key of 3 characters is not one of 64")):
        r.write_conf("50-test.ini", CONF % keys)
        like(r.run("--check")[1], why, "a check finds it: " + why)
    os.makedirs(os.path.join(r.state, "secrets"), exist_ok=True)
    with open(os.path.join(r.state, "secrets", "queue"), "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as file_:
        file_.write(OLD + "\n")
    r.write_conf("50-test.ini", CONF % "${secret:queue}")
    r.start()
    first = handlers_get_plain_arguments(r)
    for part in (every_door_encrypts, sql_sessions_are_refused, dead_ones_are_replayed_and_retried):
        note(part.__name__)
        part(r)
    keys_rotate(r, first)
    changed_ones_fail(r)
    nothing_has_leaked(r)
done()
