"""Jobs made in bulk for Lua handlers: given to a worker by ranges, and each of them as good as one that is alone, whatever it does and
whatever happens to its worker, its daemon or its script meanwhile. One embedded cluster."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import Rig, done, eventually, is_, like, ok  # noqa: E402
from servers import embedded_sql as sql  # noqa: E402

HANDLERS = """
depot.job("r.mixed") { timeout = "1500ms", max_attempts = 2, args = { n = { type = "integer", min = 0 } }, run = function(job)
  local n = job.args.n
  if n % 10 == 1 then job:log("warn", "about to fail: " .. n) error("one") end
  if n % 10 == 2 then job:fail("OWN", "two", { retry = "no" }) end
  if n == 3 then while true do end end
  if n == 4 then local s = ("x"):rep(1000000) while true do s = s .. s end end
  if n == 5 then depot.sleep(10) end
  if n == 6 and job.attempt == 1 then job:snooze("10ms") end
  return { n = n, attempt = job.attempt }
end }
depot.job("r.effects") { max_attempts = 1, run = function(job)
  job:log("info", "effect of " .. job.args)
  job:progress(0.5, "half of " .. job.args)
  local kept = job:checkpoint("step", function() return job.args end)
  depot.db:exec("insert into effects values ($1, $2, 'plain')", job.id, kept)
  job:tx(function(tx)
    tx:exec("insert into effects values ($1, $2, 'tx')", job.id, kept)
    job:enqueue("made", "r.made", { by = job.args })
  end)
  job:heartbeat()
  return kept
end }
depot.job("r.made") { run = function(job) return job.args.by end }
depot.job("r.long") { timeout = "60s", max_attempts = 1, run = function(job)
  depot.db:exec("insert into effects values ($1, $2, 'begun')", job.id, 0)
  if job.args == 0 then return 0 end
  job:log("info", "first")
  for i = 1, job.args * 20 do depot.sleep(0.05) end
  job:log("info", "last")
  job:heartbeat()
  return job.args
end }
depot.job("r.slow") { max_attempts = 1, run = function(job)
  local until_ = depot.now() + 0.01
  while depot.now() < until_ do end
  return VERSION
end }
depot.job("r.slower") { max_attempts = 1, run = function(job)
  local until_ = depot.now() + 0.15
  while depot.now() < until_ do end
end }
depot.job("r.wait") { max_attempts = 1, run = function(job)
  depot.db:exec("insert into effects values ($1, $2, 'before')", job.id, 0)
  depot.sleep(30)
end }
"""
CONF = """
[lua]
workers = 2
memory = 32M
[plugin queue]
lease = 2s
reap_interval = 300ms
"""


def bulk(rig, queue, type_, args, more=""):
    """The id of the first chunk."""
    return sql(rig, "select unnest(depot.enqueue_many('%s', '%s', '%s'%s))" % (queue, type_, json.dumps(args), more))[0][0]


def job_at(rig, chunk, place):
    return rig.admin("GET", "/jobs/" + sql(rig, "select depot.job_at('%s', %d)" % (chunk, place))[0][0]).json()


def states(rig, queue):
    for row in rig.admin("GET", "/queues").json():
        if row["queue"] == queue:
            return {name: row[name] for name in ("queued", "running", "succeeded", "dlq", "canceled") if row[name]}
    return {}


def write_scripts(rig, version):
    folder = os.path.join(rig.dir, "lua", "handlers")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "r.lua"), "w", encoding="utf-8") as file:
        file.write(HANDLERS.replace("VERSION", str(version)))


def begun(rig, queue, least=1):
    """Leases of ranges there are, and something of them runs."""
    return eventually(20, lambda: int(sql(rig, "select coalesce(sum(n), 0) from queue.chunk_leases where queue = '%s'" % queue)[0][0]) >= least)


def each_in_its_own_way(rig):
    args = [{"n": n} for n in range(200)] + [{"n": -1}, {"x": 1}, []]
    chunk = bulk(rig, "mixed", "r.mixed", args)
    # every tenth fails twice, every tenth at once; the loop, the memory and the sleep fail twice, three have wrong arguments
    bad = 20 + 20 + 3 + 3
    ok(eventually(40, lambda: states(rig, "mixed") == {"succeeded": len(args) - bad, "dlq": bad}), "each ends as it is", states(rig, "mixed"))
    seen = {n: job_at(rig, chunk, n) for n in (0, 11, 12, 3, 4, 5, 6, 199, 200, 201, 202)}
    is_([seen[n]["result"] for n in (0, 199)], [{"n": n, "attempt": 1} for n in (0, 199)], "results are kept")
    is_([(seen[n]["dlq_reason_code"], seen[n]["last_error_code"], seen[n]["attempts"]) for n in (11, 12, 3, 4, 5)],
        [("MAX_ATTEMPTS_EXCEEDED", "LUA_ERROR", 2), ("NON_RETRYABLE", "OWN", 1), ("MAX_ATTEMPTS_EXCEEDED", "TIMEOUT", 2),
         ("MAX_ATTEMPTS_EXCEEDED", "MEMORY_LIMIT", 2), ("MAX_ATTEMPTS_EXCEEDED", "TIMEOUT", 2)], "errors are retried or not, with their codes")
    is_([(seen[n]["last_error_code"], seen[n]["attempts"]) for n in (200, 201, 202)], [("BAD_PAYLOAD", 1)] * 3, "wrong arguments are found")
    is_(seen[6]["result"], {"n": 6, "attempt": 2}, "one that snoozed comes again")
    story = rig.admin("GET", "/jobs/%s/timeline" % seen[11]["id"]).json()["attempts"]
    is_([(a["attempt_no"], a["status"], a["error_place"]) for a in story], [(1, "failed", "handlers/r.lua:4"), (2, "failed", "handlers/r.lua:4")],
        "both attempts are there, with their place")
    is_([[line["message"] for line in a["log"]] for a in story], [["about to fail: 11"]] * 2, "and what each has logged")
    rows = int(sql(rig, "select count(*) from queue.jobs where queue = 'mixed'")[0][0])
    is_(rows, bad + 1, "those that went well are no rows")


def effects(rig):
    sql(rig, "create table if not exists effects (job uuid, n int, kind text); grant all on effects to public")
    chunk = bulk(rig, "effects", "r.effects", list(range(100)))
    ok(eventually(40, lambda: states(rig, "effects") == {"succeeded": 100}), "jobs that write, wait, report and make others", states(rig, "effects"))
    is_(sql(rig, "select kind, count(*), count(distinct job), count(distinct n), sum(n) from effects group by 1 order by 1"),
        [("plain", "100", "100", "100", "4950"), ("tx", "100", "100", "100", "4950")], "each has done it once")
    is_(sql(rig, "select count(*) from effects e where e.job <> depot.job_at('%s', e.n)" % chunk), [("0",)], "under its own id")
    ok(eventually(20, lambda: states(rig, "made") == {"succeeded": 100}), "and so have those that they made", states(rig, "made"))
    is_(sql(rig, "select count(*) from queue.attempts t join queue.jobs j on j.id = t.job_id where j.queue = 'effects' and attempt_no > 1"),
        [("0",)], "at its first attempt")
    said = job_at(rig, chunk, 42)["progress"]
    is_((said["text"], said["fraction"]), ("half of 42", 0.5), "what one said of itself is shown")
    like(rig.log_text(), r"effect of \d+\"", "and logged, though not each, as lines that are alike are folded")


def long_ones(rig):
    chunk = bulk(rig, "long", "r.long", [0, 5, 0, 40, 0])
    ok(eventually(20, lambda: states(rig, "long") == {"succeeded": 3, "running": 2}), "the short ones of a range do not wait for the others",
       states(rig, "long"))
    is_(rig.admin("POST", "/jobs/%s/cancel" % job_at(rig, chunk, 3)["id"], {}).json()["status"], "canceling", "one of these is canceled while it runs")
    ok(eventually(20, lambda: states(rig, "long") == {"succeeded": 4, "canceled": 1}), "the other one ends well, long after its first lease",
       states(rig, "long"))
    is_([(j["result"], j["attempts"]) for j in (job_at(rig, chunk, n) for n in (0, 1))], [(0, 1), (5, 1)], "each at its first attempt")
    is_(sql(rig, "select count(*) from effects where kind = 'begun'"), [("5",)], "none has run twice")
    story = rig.admin("GET", "/jobs/%s/timeline" % job_at(rig, chunk, 1)["id"]).json()["attempts"]
    is_([line["message"] for line in story[0]["log"]], ["first", "last"], "what it logged in its range and after is told together")
    is_(sql(rig, "select count(*) from queue.chunk_leases"), [("0",)], "no lease is left")


def canceled(rig):
    chunk = bulk(rig, "canceled", "r.slower", list(range(100)))
    ok(begun(rig, "canceled"), "a range is under way")
    # the last of each, in one statement: whoever looks first and asks then may be late
    said = sql(rig, "select queue.cancel(queue.job_at(chunk, lo + n - 1), 'me'), lo + n - 1 from (select * from queue.chunk_leases where queue = 'canceled' and n > 2) l")
    places = [int(place) for status, place in said if status == "canceling"]
    ok(places and {status for status, _ in said} <= {"canceling", "succeeded"}, "the last of each range that runs is canceled, or has just ended", said)
    n = len(places)
    ok(eventually(60, lambda: states(rig, "canceled") == {"succeeded": 100 - n, "canceled": n}), "the others end well", states(rig, "canceled"))
    ok(0 in [job_at(rig, chunk, place)["attempts"] for place in places], "those that had not begun are never begun")


def lost_worker(rig):
    bulk(rig, "killed", "r.slow", list(range(500)))
    ok(begun(rig, "killed"), "a range is under way")
    for worker in rig.admin("GET", "/v1/workers").json():
        os.kill(worker["pid"], signal.SIGKILL)
    ok(eventually(60, lambda: (lambda s: s.get("succeeded", 0) + s.get("dlq", 0) == 500)(states(rig, "killed"))), "after a kill of the workers all end",
       states(rig, "killed"))
    alone = states(rig, "killed").get("dlq", 0)  # the last piece of a chunk may be one job: then it is known which one was cut off
    ok(alone <= 2, "well, with one attempt allowed, but for who was alone in his range", alone)
    rows = sql(rig, "select t.charged, t.error_code, count(*) from queue.attempts t join queue.jobs j on j.id = t.job_id"
                    " where j.queue = 'killed' and t.status = 'failed' group by 1, 2 order by 1")
    is_([row[:2] for row in rows if row[0] == "f"], [("f", "WORKER_LOST")], "what was cut off is told, and not charged")
    is_([row for row in rows if row[0] == "t"], [("t", "WORKER_LOST", str(alone))] if alone else [], "but for those")


def lost_lease(rig):
    bulk(rig, "stolen", "r.wait", [0, 0, 0])
    ok(eventually(20, lambda: sql(rig, "select count(*) from effects where kind = 'before'") == [("3",)]), "three wait")
    sql(rig, "update queue.jobs set lease_token = gen_random_uuid() where queue = 'stolen'; update queue.chunk_leases set n = 0 where queue = 'stolen'")
    ok(eventually(20, lambda: "its result came after the lease was lost" in rig.log_text()), "who has lost the lease is told, and refused")


def new_script(rig):
    bulk(rig, "renewed", "r.slow", list(range(400)))
    ok(begun(rig, "renewed"), "a range is under way")
    write_scripts(rig, 2)
    is_(rig.ctl("config", "reload")[0], 0, "there is a new version")
    ok(eventually(60, lambda: states(rig, "renewed") == {"succeeded": 400}), "all end well", states(rig, "renewed"))
    rows = dict(sql(rig, "select r.value::text, count(*) from queue.chunk_attempts a join queue.chunks c on c.id = a.chunk,"
                         " json_array_elements(a.results) r(value) where c.queue = 'renewed' group by 1"))
    ok(int(rows.get("1", 0)) > 0 and int(rows.get("2", 0)) > 0, "those that had begun by the old one, the others by the new one", rows)


def stopped(rig):
    bulk(rig, "stopped", "r.slow", list(range(500)))
    ok(begun(rig, "stopped"), "a range is under way")
    is_(rig.stop(), 0, "a stop waits for one job, not for the range")
    rig.start()
    is_(sql(rig, "select count(*) from queue.attempts t join queue.jobs j on j.id = t.job_id where j.queue = 'stopped'"), [("0",)],
        "nothing of it is lost")
    ok(eventually(60, lambda: states(rig, "stopped") == {"succeeded": 500}), "what was given back runs after the start", states(rig, "stopped"))


def killed(rig):
    bulk(rig, "dead", "r.slow", list(range(500)))
    ok(begun(rig, "dead"), "a range is under way")
    rig.kill()
    rig.start()
    ok(eventually(60, lambda: states(rig, "dead") == {"succeeded": 500}), "after a kill of the daemon all of them end well, with one attempt allowed",
       states(rig, "dead"))


with Rig() as r:
    write_scripts(r, 1)
    r.write_conf("50-test.ini", CONF)
    r.start()
    each_in_its_own_way(r)
    effects(r)
    long_ones(r)
    lost_lease(r)
    canceled(r)
    lost_worker(r)
    new_script(r)
    stopped(r)
    killed(r)
    is_(r.stop(), 0, "it stops")
done()
