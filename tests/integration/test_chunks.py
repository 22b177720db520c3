"""Jobs made in bulk: one row for up to 1024, and each of them as good as any other job: retried, buried, canceled, replayed, explained,
limited, given back and closed when its worker is lost. Handlers in C and in Lua. One embedded cluster."""
import json
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, Rig, done, eventually, is_, like, ok  # noqa: E402
from servers import embedded_sql  # noqa: E402

CONF = """
[plugin jobs]
file = %s

[plugin queue]
lease = 3s
reap_interval = 500ms
maintenance_interval = 1s

[queue narrow]
max_in_flight = 7
""" % os.path.join(BUILD, "tests", "plugins", "jobs.so")

LUA = """
depot.job("lua.even") {
  run = function(job)
    if job.args.n %% 2 == 1 then job:fail("BAD_PAYLOAD", "odd", { retry = "no" }) end
    return job.args.n
  end,
}
""".replace("%%", "%")


def bulk(rig, queue, type_, args, more=""):
    """The ids of the jobs, in the order of their arguments."""
    rows = embedded_sql(rig, "select unnest(depot.enqueue_many('%s', '%s', '%s'%s))" % (queue, type_, json.dumps(args), more))
    return [embedded_sql(rig, "select depot.job_at('%s', %d)" % (rows[i // 1024][0], i % 1024))[0][0] for i in range(len(args))] \
        if len(args) < 50 else rows


def states(rig, queue):
    """How many jobs of a queue are in which state, by its figures over all time."""
    for row in rig.admin("GET", "/queues").json():
        if row["queue"] == queue:
            return {name: row[name] for name in ("queued", "running", "succeeded", "dlq", "canceled") if row[name]}
    return {}


def in_c(rig):
    ids = bulk(rig, "c", "c.echo", [{"n": 1}, [2, "]"], "a \"[,] b", None, 5.5])
    ok(eventually(20, lambda: states(rig, "c") == {"succeeded": 5}), "a handler in C runs each", states(rig, "c"))
    replies = [rig.admin("GET", "/jobs/" + name).json() for name in ids]
    is_([r["payload_json"] for r in replies], [{"n": 1}, [2, "]"], "a \"[,] b", None, 5.5], "each is found by its id, with its arguments")
    is_([r["result"]["args"] for r in replies], [{"n": 1}, [2, "]"], "a \"[,] b", None, 5.5], "got them")
    is_([r["result"]["id"] for r in replies], ids, "and its id")
    story = rig.admin("GET", "/jobs/%s/timeline" % ids[3]).json()
    is_([(a["attempt_no"], a["status"]) for a in story["attempts"]], [(1, "succeeded")], "the timeline has its attempt")
    is_([e["kind"] for e in story["story"]], ["Enqueued", "Attempt"], "and what happened")
    is_(embedded_sql(rig, "select count(*) from queue.jobs where queue = 'c'"), [("0",)], "no row was written for any of them")
    page = rig.admin("GET", "/jobs?queue=c&limit=3").json()
    is_([j["id"] for j in page["items"]], ids[:1:-1], "lists have them, newest first")
    page = rig.admin("GET", "/jobs?queue=c&limit=3&cursor_created_at=%s&cursor_id=%s" % (
        page["next_cursor_created_at"].replace("+", "%2B"), page["next_cursor_id"])).json()
    is_([j["id"] for j in page["items"]], ids[1::-1], "page by page")
    again = rig.admin("POST", "/jobs/%s/replay" % ids[0], {}).json()["new_job_id"]
    ok(eventually(10, lambda: rig.admin("GET", "/jobs/" + again).json()["status"] == "succeeded"), "one is replayed")
    again = rig.admin("POST", "/jobs/%s/replay" % ids[3], {}).json()["new_job_id"]
    is_(rig.admin("GET", "/jobs/" + again).json()["payload_json"], None, "with its arguments, null too")


def long_names(rig):
    ids = bulk(rig, "names", "hook:" + "\u00e9" * 150, [1], ", null, 0, 1")
    ok(eventually(20, lambda: rig.admin("GET", "/jobs/" + ids[0]).json()["status"] == "dlq"), "a type of 305 bytes ends as any other, as it is no hook")
    bulk(rig, "names", "c.echo", [1, 2])
    ok(eventually(20, lambda: states(rig, "names") == {"dlq": 1, "succeeded": 2}), "and does not keep others from running", states(rig, "names"))


def exceptions(rig):
    ids = bulk(rig, "bad", "c.busy", [1, 2, 3], ", null, 0, 1")
    ok(eventually(20, lambda: states(rig, "bad") == {"dlq": 3}), "jobs that fail at their last attempt are dead letters", states(rig, "bad"))
    job = rig.admin("GET", "/jobs/%s/explain" % ids[1]).json()
    is_((job["status"], job["dlq_reason_code"], job["last_error"]["error_code"]), ("dlq", "MAX_ATTEMPTS_EXCEEDED", "TIMEOUT"), "each with its reason")
    like(job["last_error"]["error_message"], ids[1], "and its own message")
    ids = bulk(rig, "bad3", "c.refuse", [1, 2])
    ok(eventually(20, lambda: states(rig, "bad3") == {"dlq": 2}), "so are those whose error would come again", states(rig, "bad3"))
    ids = bulk(rig, "bad2", "c.busy", [1, 2])
    ok(eventually(20, lambda: rig.admin("GET", "/jobs/" + ids[0]).json()["attempts"] >= 2), "others are tried again, one by one")
    later = bulk(rig, "later", "c.echo", list(range(9)), ", now() + interval '1 hour', 5")
    job = rig.admin("GET", "/jobs/%s/explain" % later[4]).json()
    is_((job["status"], job["waits_for"][0]["code"]), ("queued", "NOT_DUE"), "one that waits is explained")
    is_(rig.admin("POST", "/jobs/%s/cancel" % later[4], {}).json()["status"], "canceled", "and canceled")
    is_(states(rig, "later"), {"queued": 8, "canceled": 1}, "alone")
    is_(rig.admin("GET", "/jobs/%s" % later[3]).json()["priority"], 5, "its neighbour is as it was")
    gone = later[0][:-3] + "3ff"
    is_(rig.admin("GET", "/jobs/" + gone).status, 404, "there is no job at a place that the chunk does not have")


def producers(rig):
    rows = embedded_sql(rig, "begin; create role producer; grant usage on schema depot to producer; grant execute on function depot.enqueue_many,"
                             " depot.job_at to producer; set local role producer;"
                             " select depot.job_at(c, 0) = c from unnest(depot.enqueue_many('made', 'x', '[1]')) c; rollback")
    is_(rows, [("t",)], "a producer needs no more rights than those that the README names")


def canceled_together(rig):
    """One cancel holds the range of both until the other waits for it."""
    first, second = bulk(rig, "together", "c.echo", [1, 2], ", now() + interval '1 hour'")
    hold = threading.Thread(target=embedded_sql, args=(rig, """do $$ begin
        perform queue.cancel('%s', 'first');
        for i in 1 .. 500 loop
            exit when exists (select from pg_locks where not granted);
            perform pg_sleep(0.02);
        end loop;
    end $$""" % first))
    hold.start()
    eventually(10, lambda: embedded_sql(rig, "select count(*) from pg_stat_activity where wait_event = 'PgSleep'") != [("0",)])
    is_(embedded_sql(rig, "select queue.cancel('%s', 'second')" % second), [("canceled",)], "neighbours can be canceled at the same time")
    hold.join()
    is_(states(rig, "together"), {"canceled": 2}, "both are")


def canceled_under_way(rig):
    runs, follows = bulk(rig, "cut", "c.until", [1, 2])
    ok(eventually(20, lambda: embedded_sql(rig, "select n from queue.chunk_leases where queue = 'cut'") == [("2",)]), "two jobs run in a range, one by one")
    for name in (follows, runs):
        is_(rig.admin("POST", "/jobs/%s/cancel" % name, {}).json()["status"], "canceling", "both are canceled")
    ok(eventually(60, lambda: states(rig, "cut") == {"canceled": 2}), "the first is told, the second is not begun", states(rig, "cut"))
    is_(rig.admin("GET", "/jobs/%s" % follows).json()["status"], "canceled", "and ends as canceled")


def paced(rig):
    """Jobs that take 10 ms: the first range that is late says so."""
    embedded_sql(rig, "select depot.enqueue_many('paced', 'c.slow', (select json_agg(g) from generate_series(1, 300) g))")
    ok(eventually(20, lambda: int(embedded_sql(rig, "select count(*) from queue.chunk_leases where queue = 'paced' and n < 50")[0][0]) > 1),
       "slow jobs of one chunk run in several short ranges")
    ok(eventually(60, lambda: states(rig, "paced") == {"succeeded": 300}), "until all have ended", states(rig, "paced"))


def refused(rig):
    for arg in (r'"\u0000"', r'"\ud800"', "1e999999"):
        try:
            embedded_sql(rig, "select depot.enqueue_many('refused', 'lua.even', '[1, %s]')" % arg)
            why = "accepted"
        except RuntimeError as error:
            why = str(error)
        like(why, "ERROR", "%s, of which no row could be made, is refused" % arg)


def in_lua(rig):
    bulk(rig, "lua", "lua.even", [{"n": n} for n in range(60)])
    ok(eventually(30, lambda: states(rig, "lua") == {"succeeded": 30, "dlq": 30}), "a handler in Lua runs each", states(rig, "lua"))


def limits(rig):
    chunks = bulk(rig, "narrow", "c.echo", [{"n": n} for n in range(2500)])
    is_(len(chunks), 3, "2500 jobs are three chunks")
    most = 0

    def ended():
        nonlocal most
        most = max(most, int(embedded_sql(rig, "select queue.running_in('narrow')")[0][0]))
        return states(rig, "narrow") == {"succeeded": 2500}

    ok(eventually(60, ended), "a limit of 7 lets all of them run", states(rig, "narrow"))
    ok(most <= 7, "never more than 7 at a time", most)


def killed(rig):
    """Ranges under way when the daemon dies: none is lost, none is counted twice, none is charged that may not have run."""
    embedded_sql(rig, "select depot.enqueue_many('killed', 'c.slow', (select json_agg(g) from generate_series(1, 300) g), max_attempts => 1)")
    ok(eventually(20, lambda: int(embedded_sql(rig, "select coalesce(sum(n), 0) from queue.chunk_leases where queue = 'killed'")[0][0]) > 0),
       "a range is under way")
    rig.kill()
    rig.start()
    ok(eventually(60, lambda: states(rig, "killed") == {"succeeded": 300}), "after a kill all of them end well, with one attempt allowed",
       states(rig, "killed"))
    rows = embedded_sql(rig, "select status, charged, error_code, count(*) from queue.attempts t where exists (select from queue.jobs j"
                             " where j.id = t.job_id and j.queue = 'killed') group by 1, 2, 3 order by 1, 2")
    ok(any(r[:3] == ("failed", "f", "WORKER_LOST") for r in rows), "what was cut off is told, and not charged", rows)
    ok(not any(r[1] == "t" and r[0] == "failed" for r in rows), "as nobody knows which of them ran", rows)


def reaped(rig):
    """In one transaction, so that the daemon reaps none of them."""
    rows = embedded_sql(rig, "begin; select depot.enqueue_many('reaped', 'nobody.serves', '[1]') from generate_series(1, 20);"
                             " select count(*) from queue.claim_chunks('ghost', '{reaped}', '{nobody.serves}', 99, 99, '-1 s');"
                             " select (queue.reap('ghost', '1 min', '10 s')).has_more from generate_series(1, 3); rollback")
    is_(rows[20:], [("20",), ("t",), ("t",), ("f",)], "of many ranges that were lost only some are closed at once")


def large(rig):
    embedded_sql(rig, "select depot.enqueue_many('large', 'c.large', (select json_agg(g) from generate_series(1, 100) g))")
    ok(eventually(30, lambda: states(rig, "large") == {"succeeded": 100}), "jobs with large results", states(rig, "large"))
    is_(embedded_sql(rig, "select max(length(results::text)) < 5000000, count(*) > 1 from queue.chunk_attempts a join queue.chunks c on c.id = a.chunk"
                          " where c.queue = 'large'"), [("t", "t")], "are answered for in parts")


def days(rig):
    day = embedded_sql(rig, "select to_char(now() at time zone 'UTC' + interval '2 days', 'YYYYMMDD')")[0][0]
    embedded_sql(rig, "drop table queue.chunks_%s" % day)
    ok(eventually(20, lambda: embedded_sql(rig, "select to_regclass('queue.chunks_%s') is not null" % day) == [("t",)]),
       "daemons make the partitions of days to come")


def drained(rig):
    embedded_sql(rig, "select depot.enqueue_many('drained', 'c.slow', (select json_agg(g) from generate_series(1, 300) g))")
    ok(eventually(20, lambda: int(embedded_sql(rig, "select coalesce(sum(n), 0) from queue.chunk_leases where queue = 'drained'")[0][0]) > 0),
       "a range is under way")
    is_(rig.stop(), 0, "a stop waits for one job, not for the range")
    rig.start()
    is_(embedded_sql(rig, "select count(*) from queue.attempts t where exists (select from queue.jobs j where j.id = t.job_id"
                          " and j.queue = 'drained')"), [("0",)], "and nothing of it is lost")
    ok(eventually(60, lambda: states(rig, "drained") == {"succeeded": 300}), "what was given back runs after the start", states(rig, "drained"))


with Rig() as r:
    r.write_conf("50-test.ini", CONF)
    r.write_script("handlers/even.lua", LUA)
    r.start()
    in_c(r)
    long_names(r)
    exceptions(r)
    producers(r)
    canceled_together(r)
    canceled_under_way(r)
    paced(r)
    refused(r)
    in_lua(r)
    limits(r)
    reaped(r)
    large(r)
    days(r)
    drained(r)
    killed(r)
    is_(r.stop(), 0, "it stops")
done()
