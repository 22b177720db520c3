"""Schedules and hooks from the outside: two daemons on one database, scripts, jobs, reloads, a daemon that is killed in the middle."""
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import Rig, done, eventually, is_, like, ok  # noqa: E402
from servers import Cluster  # noqa: E402

SCRIPTS = {
    "hooks/tick.lua": 'local args = ...\ndepot.db:exec("insert into seen (what, detail) values ($1, $2)", "tick", args.note)\n'
                      'return { note = args.note }\n',
    "hooks/nap.lua": 'local args = ...\ndepot.sleep(args.seconds)\nreturn "slept"\n',
    "hooks/note.lua": 'local event = ...\n'
                      'depot.db:exec("insert into seen (what, detail) values ($1, $2)", event.args and event.args.as or "note", '
                      'event.name .. " " .. event.id .. " " .. event.kind)\n',
    "hooks/bad.lua": 'depot.fail { code = "MAIL_REFUSED", message = "the post office is closed" }\n',
    "hooks/failed.lua": 'local event = ...\n'
                        'depot.db:exec("insert into seen (what, detail) values ($1, $2)", "failed", '
                        'event.schedule .. " " .. event.code .. " " .. event.message)\n',
    "handlers/note.lua": 'depot.job("test.note") {\n  run = function(job)\n'
                         '    depot.db:exec("insert into seen (what, detail) values ($1, $2)", "job", job.args.kind)\n  end,\n}\n',
}

CONF = """
[daemon]
drain_timeout = 2s

[schedule tick]
cron    = @every 1s
run     = lua:hooks/tick.lua
args    = {"note": "hello"}
overlap = allow
missed  = none

[schedule nap]
cron = @yearly
run  = lua:hooks/nap.lua
args = {"seconds": 60}

[schedule bad]
cron    = @yearly
run     = lua:hooks/bad.lua
missed  = once

[hook failed]
on  = schedule.failed
run = lua:hooks/failed.lua

[hook dumps]
on   = test.*
when = event.kind == "dump"
run  = lua:hooks/note.lua

[hook durable]
on      = test.added
run     = lua:hooks/note.lua
args    = {"as": "durable"}
durable = yes

[hook jobs]
on      = test.added
when    = event.kind == "dump" and event.size > 10
run     = job:default/test.note
durable = yes
"""


def rows(pg, sql):
    return pg.sql(sql).splitlines()


def one(pg, sql):
    return pg.sql(sql)


def write_scripts(rig):
    for name, text in SCRIPTS.items():
        path = os.path.join(rig.dir, "lua", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def new_rig(pg, node):
    rig = Rig(env=dict(pg.env(), DEPOT_NODE=node))
    write_scripts(rig)
    rig.write_conf("80-test.ini", CONF)
    return rig


def each_due_time_once(pg):
    time.sleep(6)
    runs = int(one(pg, "select count(*) from depot.schedule_run where schedule = 'tick' and status = 'ok'"))
    ok(runs >= 5, "two daemons, six seconds: %d runs" % runs)
    is_(one(pg, "select count(*) from (select due_at - lag(due_at) over (order by due_at) as gap from depot.schedule_run"
                " where schedule = 'tick') g where gap <> interval '1 second'"), "0", "each second has its own")
    ok(eventually(5, lambda: one(pg, "select (select count(*) from seen where what = 'tick' and detail = 'hello')"
                                     " - (select count(*) from depot.schedule_run where schedule = 'tick' and status = 'ok')") == "0"),
       "the script ran once for each, with its arguments")
    like(one(pg, "select result from depot.schedule_run where schedule = 'tick' and status = 'ok' limit 1"), r'"note": "hello"', "results are kept")


def switched_off_by_reload(pg, rigs):
    for rig in rigs:
        rig.write_conf("80-test.ini", CONF.replace("missed  = none", "missed  = none\nenabled = no"))
        status, out, err = rig.ctl("config", "reload")
        is_(status, 0, "reload")
    time.sleep(1.2)
    before = one(pg, "select count(*) from depot.schedule_run where schedule = 'tick'")
    time.sleep(2.2)
    is_(one(pg, "select count(*) from depot.schedule_run where schedule = 'tick'"), before, "switched off, it is due no more")
    rigs[0].write_conf("81-bad.ini", "[schedule typo]\ncron = @daily\nrun = storage.scurb\n[hook typo]\non = *\nrun = lua:hooks/none.lua\n"
                                     "[schedule nap2]\ncron = @daily\nzone = Europe/Berlni\nrun = lua:hooks/nap.lua\n"
                                     "[hook half]\non = x\nwhen = event.x ==\nrun = job:default/test.note\n")
    is_(rigs[0].ctl("config", "reload")[0], 78, "a reload with faults is refused")
    status, out = rigs[0].run("--check")
    is_((status, len(re.findall(r": error: ", out))), (78, 4), "--check says why")
    for pattern in (r"81-bad\.ini:3: error: run: no plugin has a task named storage\.scurb", r"did you mean \"storage\.scrub\"\?",
                    r"81-bad\.ini:6: error: run: there is no script hooks/none\.lua", r"81-bad\.ini:9: error: zone: .*Europe/Berlni",
                    r"81-bad\.ini:13: error: when: "):
        like(out, pattern, "all at once: " + pattern)
    os.unlink(os.path.join(rigs[0].conf, "81-bad.ini"))
    is_(rigs[0].ctl("schedule", "list")[0], 0, "and the daemon goes on")


def by_hand(pg, rig):
    status, out, err = rig.ctl("--json", "schedule", "run", "tick")
    is_(status, 0, "schedule run")
    like(out, r'"note": ?"hello"', "gives the result")
    is_(one(pg, "select count(*) from depot.schedule_run where by_hand"), "1", "recorded as by hand")
    status, out, err = rig.ctl("schedule", "run", "tikc")
    is_(status, 1, "one that there is not")
    like(err, r'did you mean "tick"', "gets a suggestion")
    status, out, err = rig.ctl("schedule", "run", "bad")
    ok(status != 0, "one that fails fails")
    like(err, r"the post office is closed", "with the script's message")
    is_(one(pg, "select status || ' ' || code || ' ' || message from depot.schedule_run where schedule = 'bad'"),
        "failed MAIL_REFUSED the post office is closed", "and is recorded")
    status, out, err = rig.ctl("schedule", "list")
    like(out, r"^tick .*", "schedule list")
    like(out, r"^bad .*failed", "tells how the last run ended")


def failures_are_events(pg):
    pg.sql("update depot.schedule set last_due = last_due - interval '2 years' where name = 'bad'")
    ok(eventually(40, lambda: one(pg, "select detail from seen where what = 'failed'") == "bad MAIL_REFUSED the post office is closed"),
       "a hook on schedule.failed hears of it", one(pg, "select * from depot.schedule_run where schedule = 'bad'"))


def hooks(pg, rig):
    before = time.time()
    for name, payload in (("test.added", '{"kind": "dump", "size": 11}'), ("test.added", '{"kind": "dump", "size": 1}'),
                          ("test.added", '{"kind": "log", "size": 11}'), ("other.added", '{"kind": "dump", "size": 11}')):
        is_(rig.ctl("event", "emit", name, payload)[0], 0, "event emit %s %s" % (name, payload))
    ok(eventually(20, lambda: one(pg, "select count(*) from seen where what = 'durable'") == "3"), "the durable hook ran for each of its events")
    ok(eventually(20, lambda: one(pg, "select count(*) from seen where what = 'job'") == "1"), "the one with a condition made one job")
    ok(eventually(20, lambda: one(pg, "select count(*) from seen where what = 'note'") == "2"), "the plain one ran where its condition held")
    ok(time.time() - before < 20, "soon")
    is_(one(pg, "select count(distinct detail) from seen where what = 'durable'"), "3", "each event once, with its own id")
    like(one(pg, "select detail from seen where what = 'note' limit 1"), r"^test\.added [0-9a-f-]{36} dump$", "name, id and payload")
    is_(one(pg, "select string_agg(distinct queue || ' ' || job_type, ', ') from queue.jobs where job_type like 'hook:%'"),
        "hooks hook:durable", "a durable hook is a job of the queue hooks")
    status, out, _ = rig.ctl("--json", "hook", "list")
    is_(status, 0, "hook list")
    like(out, r'"name": ?"dumps"', "shows the hooks")
    metrics = rig.admin("GET", "/metrics/prom").text
    like(metrics, r'^depot_events_total\{event="other"\} [4-9]', "events that nobody declares are counted together")
    like(metrics, r'^depot_hook_runs_total\{hook="dumps",result="ok"\} 2', "runs of a hook")
    like(metrics, r'^depot_hook_runs_total\{hook="dumps",result="passed"\} 1', "and when its condition did not hold")
    like(metrics, r'^depot_schedule_runs_total\{schedule="tick",status="ok"\} ', "runs of a schedule")
    refused = rig.ctl("event", "emit", "Not An Event", "{}")
    ok(refused[0] != 0, "a name that cannot be is refused")


def killed_in_the_middle(pg, rigs):
    pg.sql("update depot.schedule set last_due = last_due - interval '2 years' where name = 'nap'")
    ok(eventually(40, lambda: one(pg, "select node from depot.schedule_run where schedule = 'nap' and status = 'running'")), "a long run begins")
    node = one(pg, "select node from depot.schedule_run where schedule = 'nap'")
    rig = rigs[0] if node == "n1" else rigs[1]
    status, _, err = rigs[1 if rig is rigs[0] else 0].ctl("schedule", "run", "nap")
    is_(status, 3, "nobody else may run it meanwhile, on either daemon")
    like(err, r"schedule nap is running on %s since" % node, "and is told where it runs")
    rig.kill()
    rig.start()
    ok(eventually(30, lambda: one(pg, "select status || ' ' || code from depot.schedule_run where schedule = 'nap'") == "lost WORKER_LOST"),
       "after the kill the run is closed as lost")
    ok(eventually(10, lambda: "nap WORKER_LOST daemon %s went away in the middle of it" % node in rows(pg, "select detail from seen where what = 'failed'")),
       "and an event tells")
    return rig


def stopped_in_the_middle(pg, rig):
    pg.sql("delete from depot.schedule_run where schedule = 'nap'")
    pg.sql("update depot.schedule set last_due = last_due - interval '2 years' where name = 'nap'")
    ok(eventually(40, lambda: one(pg, "select count(*) from depot.schedule_run where schedule = 'nap' and status = 'running'") == "1"), "another long run")
    is_(rig.stop(30), 0, "SIGTERM ends the daemon in time")
    ended = one(pg, "select status || ' ' || code from depot.schedule_run where schedule = 'nap'")
    ok(ended in ("failed CANCELED", "failed UNAVAILABLE", "failed WORKER_LOST"), "the run is canceled, and its end recorded: " + ended)


def main():
    with Cluster() as pg, new_rig(pg, "n1") as first, new_rig(pg, "n2") as second:
        pg.sql("create table public.seen (what text, detail text, at timestamptz default clock_timestamp());"
               " grant insert, select on public.seen to depot", "super_url")
        first.start()
        second.start()
        each_due_time_once(pg)
        switched_off_by_reload(pg, (first, second))
        by_hand(pg, first)
        failures_are_events(pg)
        hooks(pg, first)
        killed_in_the_middle(pg, (first, second))
        second.stop()
        stopped_in_the_middle(pg, first)
    done()


main()
