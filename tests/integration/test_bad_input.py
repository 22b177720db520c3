"""What operators and scripts do wrong: each has one clear message with its place, the documented exit status, and nothing is lost.
Files of conf.d by `depotd --check`; scripts by a running daemon."""
import json
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import Rig, done, eventually, is_, like, note, ok, skip  # noqa: E402
from servers import embedded_sql  # noqa: E402

FILES = [  # name, content, what the problem says, its line, what the hint says
    ("an unknown option", "[daemon]\nthreds = 4\n", r'unknown option "threds" in \[daemon\]', 2, r'did you mean "threads"\?'),
    ("an unknown section", "[deamon]\nthreads = 4\n", r"unknown section \[deamon\]", 1, r'did you mean "daemon"\?'),
    ("a section without its name", "[queue]\nlease = 5s\n", r"\[queue\] needs a name", 1, r"\[queue NAME\]"),
    ("a duration without a unit", "[daemon]\ndrain_timeout = 30\n", r"drain_timeout: \"30\" is not a duration", 2, "a unit"),
    ("a unit that there is not", "[daemon]\ndrain_timeout = 30fortnights\n", r"drain_timeout.*30fortnights", 2, None),
    ("a size with a wrong unit", "[lua]\nmemory = 64Mb\n", r"memory.*64Mb", 2, None),
    ("a number out of its range", "[daemon]\nthreads = 100000\n", r"threads.*100000.*2.*256", 2, None),
    ("a number that is none", "[daemon]\nthreads = many\n", r"threads.*many", 2, None),
    ("a choice that there is not", "[log]\nlevel = wran\n", r"level.*wran", 2, r'did you mean "warn"\?'),
    ("a cron expression that is none", "[schedule x]\ncron = 61 * * * *\nrun = lua:hooks/demo_report.lua\n", r"cron.*61", 2, None),
    ("a time zone that there is not", "[schedule x]\ncron = 1 * * * *\nzone = Europe/Berlni\nrun = lua:hooks/demo_report.lua\n",
     r"Europe/Berlni", 3, None),
    ("a schedule that runs nothing", "[schedule x]\ncron = 1 * * * *\n", r"run", 1, None),
    ("a task that there is not", "[schedule x]\ncron = 1 * * * *\nrun = storage.scurb\n", r"storage\.scurb", None, None),
    ("the same option twice", "[daemon]\nthreads = 4\nthreads = 5\n", r"threads", 3, None),
    ("a variable that is not set", "[daemon]\nnode = ${env:NO_SUCH_VARIABLE}\n", r"NO_SUCH_VARIABLE", 2, None),
    ("a secret that is not there", "[database]\nurl = postgresql://depot:${secret:db_password}@localhost/depot\n", r"db_password", 2, None),
    ("a file that is not there", "[database]\nurl = ${file:/run/secrets/no_such}\n", r"/run/secrets/no_such", 2, None),
    ("an interpolation without end", "[daemon]\nnode = ${env:HOME\n", r"node", 2, None),
    ("a line that is neither", "[daemon]\nthis is prose\n", r"", 2, None),
    ("an option before any section", "threads = 4\n", r"", 1, None),
    ("binary", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0>\0\x01\0\0\0\xff\xfe", r"", None, None),
    ("a NUL in a value", b"[daemon]\nnode = a\0b\n", r"", 2, None),
    ("text that is not UTF-8", b"[daemon]\nnode = caf\xe9\n", r"UTF-8", 2, None),
]

SCRIPTS = """
depot.job("test.ok") { run = function(job) return { n = job.args.n } end }
depot.job("test.loop") { timeout = "1s", max_attempts = 1, run = function() while true do end end }
depot.job("test.loop_caught") { timeout = "1s", max_attempts = 1,
  run = function() while true do pcall(function() while true do end end) depot.try(function() while true do end end) end end }
depot.job("test.match") { timeout = "1s", max_attempts = 1, run = function() return (("a"):rep(60)):find(("a?"):rep(60) .. ("a"):rep(60) .. "b") end }
depot.job("test.sleeps") { timeout = "1s", max_attempts = 1, run = function() depot.sleep(100) end }
depot.job("test.memory") { timeout = "20s", max_attempts = 1, run = function() local t = {} while true do t[#t + 1] = ("x"):rep(1000) .. #t end end }
depot.job("test.result") { max_attempts = 1, run = function() return { s = ("x"):rep(100000) } end }
depot.job("test.raise") { max_attempts = 1, run = function() local t = nil; return t.field end }
depot.job("test.payload") { max_attempts = 9, run = function(job) job:fail("BAD_PAYLOAD", "no path", { retry = "no" }) end }
depot.job("test.sql") { max_attempts = 1, run = function() depot.db:exec("select no_such_column") end }
depot.job("test.long") { timeout = "30s", max_attempts = 3, run = function(job) depot.sleep(job.args.seconds) return {} end }
"""


def check(rig):
    status, out = rig.run("--check")
    return status, out, [line for line in out.splitlines() if ": error: " in line]


def one_file(rig, name, content, error, line, hint):
    path = os.path.join(rig.conf, "80-bad.ini")
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    status, out, errors = check(rig)
    is_(status, 78, name + ": status 78")
    ok(len(errors) == 1, "one message", out)
    place = r"80-bad\.ini:%s: error: " % (line if line else r"\d+")
    like(out, "^.*" + place + ".*" + error, "with its place and what is wrong")
    ok(len(out) < 3000 and out.isprintable() or all(c.isprintable() or c == "\n" for c in out), "that can be printed", repr(out[:2000]))
    if hint:
        like(out, r"80-bad\.ini:\d+: hint: .*" + hint, "with a hint")
    os.unlink(path)


def long_lines(rig):
    rig.write_conf("80-bad.ini", "[queue default]\n; " + "x" * (1 << 20) + "\nlease = 10s\n")
    status, out, _ = check(rig)
    ok(status in (0, 78) and len(out) < 4000, "a comment of 1 MB: taken, or refused in one line (%d)" % status, out[:2000])
    rig.write_conf("80-bad.ini", "[daemon]\nnode = " + "x" * (2 << 20) + "\n")
    status, out, errors = check(rig)
    is_(status, 78, "a value of 2 MB: status 78")
    ok(len(errors) == 1 and len(out) < 4000, "one message that does not repeat it", out[:2000])
    rig.write_conf("80-bad.ini", "[hook x]\non = demo.file_found\nrun = lua:hooks/demo_report.lua\nwhen = " + " or ".join(["event.n == 1"] * 40000) + "\n")
    status, out, _ = check(rig)
    ok(status in (0, 78) and len(out) < 4000, "an expression of 600 kB: taken, or refused in one line (%d)" % status, out[:2000])
    os.unlink(os.path.join(rig.conf, "80-bad.ini"))


def unreadable(rig):
    path = os.path.join(rig.conf, "80-bad.ini")
    os.mkdir(path)
    status, out, errors = check(rig)
    is_((status, len(errors)), (78, 1), "a folder in a file's place: status 78, one message")
    like(out, r"80-bad\.ini", "that names it")
    os.rmdir(path)
    os.symlink("/no/such/place.ini", path)
    status, out, errors = check(rig)
    is_((status, len(errors)), (78, 1), "a link that leads nowhere: status 78, one message")
    os.unlink(path)
    if os.geteuid() == 0:
        skip("a file that may not be read", "root may read everything")
    else:
        rig.write_conf("80-bad.ini", "[daemon]\n")
        os.chmod(path, 0)
        status, out, errors = check(rig)
        is_((status, len(errors)), (78, 1), "a file that may not be read: status 78, one message")
        like(out, r"80-bad\.ini.*Permission denied", "that says so")
        os.unlink(path)
    whole, rig.conf = rig.conf, os.path.join(rig.dir, "nowhere")
    status, out, _ = check(rig)
    is_(status, 78, "no conf.d at all: status 78")
    like(out, "nowhere", "and it is named")
    rig.conf = whole


def all_at_once(rig):
    rig.write_conf("80-bad.ini", "".join("[schedule s%d]\ncron = nonsense\nrun = lua:x.lua\n" % n for n in range(20)))
    rig.write_conf("81-bad.ini", "[daemon]\nthreads = x\nqueue = y\n")
    status, out, errors = check(rig)
    is_(status, 78, "many problems in two files: status 78")
    ok(len(errors) >= 22, "all of them in one pass", out)
    places = [(m.group(1), int(m.group(2))) for m in (re.match(r".*(8\d-bad\.ini):(\d+):", line) for line in errors) if m]
    is_(places, sorted(places), "in the order of files and lines")
    status, out, err = rig.ctl("--config", rig.conf, "config", "check")
    is_(status, 78, "depotctl config check: status 78")
    ok(all(line in out + err for line in errors), "with the same messages", out, err)
    for name in ("80-bad.ini", "81-bad.ini"):
        os.unlink(os.path.join(rig.conf, name))


def bad_scripts(rig):
    for path, text, line, what in (("handlers/a.lua", "depot.job('x') {\n  run = function( end }\n", 2, "function|near|expected"),
                                   ("hooks/b.lua", "\n\nlocal x = = 1\n", 3, "near"),
                                   ("handlers/c.lua", "depot.job('x') { runs = function() end }\n", 1, "run"),
                                   ("handlers/d.lua", "\x1bLua\n", None, "binary"),
                                   ("handlers/e.lua", "error('at load')\n", 1, "at load"),
                                   ("handlers/f.lua", "while true do end\n", None, "TIMEOUT|too long|deadline|time")):
        name = os.path.join(rig.dir, "lua", path)
        rig.write_script(path, text)
        status, out, errors = check(rig)
        is_(status, 78, "%s: status 78" % path)
        like(out, r"%s%s: error: .*(%s)" % (re.escape(path), ":%d" % line if line else r"(:\d+)?", what), "with file, line and reason")
        is_(len(errors), 1, "one message")
        os.unlink(name)


def run(rig, job_type, args=None, seconds=30):
    reply = rig.admin("POST", "/jobs", {"job_type": job_type, "payload_json": args or {}})
    if reply.status not in (200, 201, 202):
        return {"enqueue": repr(reply)}
    name = reply.json()["job_id"]

    def ended():
        job = rig.admin("GET", "/jobs/" + name).json()
        return job if job["status"] in ("succeeded", "dlq", "failed") else None
    return eventually(seconds, ended) or rig.admin("GET", "/jobs/" + name).json()


def scripts_at_run(rig):
    ok(eventually(20, lambda: embedded_sql(rig, "select 1 from queue.job_types where job_type = 'test.loop' and max_attempts = 1")),
       "what the scripts declare is known")
    for job_type, code in (("test.loop", "TIMEOUT"), ("test.loop_caught", "TIMEOUT"), ("test.match", "TIMEOUT|LUA_ERROR"),
                           ("test.sleeps", "TIMEOUT"), ("test.memory", "MEMORY_LIMIT"), ("test.result", "LUA_ERROR|PAYLOAD_TOO_LARGE|LIMIT|INVALID"),
                           ("test.raise", "LUA_ERROR"), ("test.payload", "BAD_PAYLOAD"), ("test.sql", "DB")):
        began = time.monotonic()
        job = run(rig, job_type)
        is_(job.get("status"), "dlq", "%s ends in the dead letters after %.1f s" % (job_type, time.monotonic() - began))
        like(job.get("last_error_code"), "^(%s)$" % code, "with the code " + code)
        ok(job.get("last_error_message"), "and a message: %s" % job.get("last_error_message"), job)
    job = run(rig, "test.raise")
    timeline = rig.admin("GET", "/jobs/%s/timeline" % job.get("id")).text
    like(timeline, r"handlers/test\.lua:\d+", "the timeline has file and line")
    is_(run(rig, "test.payload").get("attempts"), 1, "retry = no is tried once")
    is_(run(rig, "test.ok", {"n": 9007199254740993}).get("status"), "succeeded", "others are not disturbed")
    pids = {w["pid"] for w in rig.ctl_json("worker", "list")}
    ok(pids, "workers are there: %s" % sorted(pids))


def worker_dies(rig):
    reply = rig.admin("POST", "/jobs", {"job_type": "test.long", "payload_json": {"seconds": 4}})
    name = reply.json()["job_id"]
    ok(eventually(10, lambda: rig.admin("GET", "/jobs/" + name).json()["status"] == "running"), "a job runs")
    busy = eventually(5, lambda: [w["pid"] for w in rig.ctl_json("worker", "list") if w["running"] > 0])
    began = time.monotonic()
    os.kill(busy[0], signal.SIGKILL)
    ok(eventually(10, lambda: rig.admin("GET", "/jobs/" + name).json()["last_error_code"] == "WORKER_LOST"), "its worker is killed: WORKER_LOST")
    ok(time.monotonic() - began < 8, "at once, not when the lease ends: %.1f s" % (time.monotonic() - began))
    ok(eventually(30, lambda: rig.admin("GET", "/jobs/" + name).json()["status"] == "succeeded"), "and it is tried again")
    ok(eventually(10, lambda: len(rig.ctl_json("worker", "list")) == 2), "a new worker has started")


def requests(rig):
    long_ago = {"job_type": "test.ok", "payload_json": {}}
    for body, status, code in ((b"{", 400, "MALFORMED"), (b"\xff\xfe", 400, "MALFORMED"), (b"[1]", None, None), (b"", None, None),
                               (json.dumps(dict(long_ago, job_type=7)).encode(), 422, "INVALID"),
                               (json.dumps(dict(long_ago, jobtype="x")).encode(), None, None),
                               (b'{"job_type": "test.ok", "payload_json": ' + b"[" * 100000 + b"]" * 100000 + b"}", 400, "MALFORMED"),
                               (json.dumps(dict(long_ago, payload_json={"x": "y" * (8 << 20)})).encode(), 413, "PAYLOAD_TOO_LARGE")):
        reply = rig.admin("POST", "/jobs", body, headers={"Content-Type": "application/json"})
        shown = body[:30]
        if status:
            is_(reply.status, status, "POST /jobs %r" % shown)
            is_(reply.json().get("code"), code, "with the code %s" % code)
        else:
            ok(400 <= reply.status < 500, "POST /jobs %r is refused: %d" % (shown, reply.status), reply)
        ok(reply.json().get("detail") is not None and "application/problem+json" in reply.headers["Content-Type"], "by a problem document", reply)
    is_(rig.admin("GET", "/jobs/not-a-uuid").status, 422, "an id that is none")
    is_(rig.admin("GET", "/jobs/00000000-0000-7000-8000-000000000000").status, 404, "an id of nothing")


def main():
    with Rig() as rig:
        rig.ctl_json = lambda *words: (lambda doc: doc["items"] if isinstance(doc, dict) else doc)(json.loads(rig.ctl("--json", *words)[1]))
        for row in FILES:
            one_file(rig, *row)
        for part in (long_lines, unreadable, all_at_once, bad_scripts):
            part(rig)
        is_(check(rig)[0], 0, "and without all that it is fine")
        rig.write_script("handlers/test.lua", SCRIPTS)
        rig.start()
        for part in (scripts_at_run, worker_dies, requests):
            part(rig)
        is_(rig.stop(), 0, "it stops")
        note("%d lines of log" % rig.log_text().count("\n"))
    done()


main()
