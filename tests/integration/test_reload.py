"""test_reload.py - the configuration in force and the files of conf.d, which may be half edited at any time."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import Rig, done, eventually, is_, like, ok  # noqa: E402

HANDLER = """
depot.job("t.keep") { max_attempts = 1, run = function(job)
  local object = depot.storage.put(("x"):rep(3000))
  return #depot.storage.get(object.sha)
end }
"""
PLUGINS = "[plugin http]\n[plugin queue]\n[lua]\nworkers = 1\n"
HALF = "[plugin storage]\nscript_max = \n[plugin sto\n"


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)


def workers_are_replaced(rig, why):
    """Kills all of them and waits for as many others that are ready."""
    before = rig.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)

    def replaced():
        rows = rig.api("GET", "/v1/workers").json()
        fresh = [w for w in rows if w["state"] == "ready" and w["pid"] not in before]
        return len(fresh) == len(before)
    ok(before and eventually(60, replaced), "killed workers are replaced " + why, rig.api("GET", "/v1/workers"))


def keep(rig):
    """Runs a job that reads 3000 bytes: how it ended."""
    made = rig.admin("POST", "/jobs", {"job_type": "t.keep", "payload_json": {}}).json()["job_id"]
    eventually(30, lambda: rig.admin("GET", "/jobs/" + made).json()["status"] in ("succeeded", "dlq"))
    job = rig.admin("GET", "/jobs/" + made).json()
    return job["status"], job["last_error_code"] or job["result"]


def workers_stay_when_nothing_changed_for_them(rig):
    before = set(rig.workers())
    rig.write_conf("95-more.ini", "[hook more]\non = test.x\nrun = job:default/t.keep\n; a comment\n[log]\n")
    is_(rig.ctl("config", "reload")[0], 0, "a hook is added")
    is_((len(before) > 0, set(rig.workers())), (True, before), "the workers stay")
    rig.write_conf("95-more.ini", "[lua]\ngrant = exec:/bin/true\n")
    is_(rig.ctl("config", "reload")[0], 0, "a grant is")
    ok(eventually(30, lambda: len(rig.workers()) == len(before) and not before & set(rig.workers())), "they are replaced", before, rig.workers())
    before = set(rig.workers())
    os.remove(os.path.join(rig.conf, "95-more.ini"))
    is_(rig.ctl("config", "reload")[0], 0, "it is taken away")
    ok(eventually(30, lambda: len(rig.workers()) == len(before) and not before & set(rig.workers())), "they are replaced again", before, rig.workers())


def workers_run_with_what_is_in_force(rig):
    place = os.path.join(rig.conf, "20-storage.ini")
    secret = os.path.join(rig.state, "secrets", "limit")
    is_(keep(rig), ("succeeded", 3000), "a job runs")
    os.unlink(secret)
    write(place, HALF)
    workers_are_replaced(rig, "while a file is half edited and a secret is gone")
    is_(keep(rig), ("succeeded", 3000), "and the next job runs")
    status, _, err = rig.ctl("config", "reload")
    ok(status != 0 and "20-storage.ini:3" in err, "a reload is refused", status, err)
    workers_are_replaced(rig, "after a reload that was refused")
    is_(keep(rig), ("succeeded", 3000), "with the values from before")
    write(place, "[plugin storage]\nscript_max = 1KiB\n")
    is_(rig.ctl("config", "reload")[0], 0, "a good one is accepted")
    is_(keep(rig), ("dlq", "PAYLOAD_TOO_LARGE"), "and its value counts in workers")
    write(place, HALF)
    workers_are_replaced(rig, "while the file is half edited again")
    is_(keep(rig), ("dlq", "PAYLOAD_TOO_LARGE"), "and have the new value")
    write(place, "[plugin storage]\nscript_max = 1KiB\n")
    ok("worker.lost" in rig.log_text() and "ended with status 78" not in rig.log_text(), "no worker stumbled over a file")


def a_refusal_names_every_problem(rig):
    place = os.path.join(rig.conf, "30-bad.ini")
    write(place, "[log]\nlevl = debug\n[daemon]\ndrain_timeout = soon\n[nonsense]\n")
    reply = rig.api("POST", "/v1/config/reload")
    document = reply.json()
    is_((reply.status, document["code"]), (422, "CONFIG"), "a reload of bad files is 422 CONFIG")
    problems = document["problems"]
    is_([p.split(": ")[:2] for p in problems], [["%s:%d" % (place, n), "error"] for n in (2, 4, 5)], "problems has each with its place")
    like(problems[0], r"unknown option \"levl\".*\n.*:2: hint: did you mean \"level\"\?$", "and its hint")
    ok(problems[0].split("\n")[0] in document["detail"] and "2 more" in document["detail"], "detail has the first one", document)
    status, out, err = rig.ctl("config", "reload")
    is_((status, out), (78, ""), "depotctl config reload: 78")
    ok(err.startswith(rig.run("--check")[1]), "it prints what depotd --check prints", err)
    is_(json.loads(rig.ctl("--json", "config", "reload")[2])["problems"], problems, "with --json the document")
    os.unlink(place)
    script = os.path.join(rig.dir, "lua", "broken.lua")
    write(script, "return\n  = 1\n")
    like("\n".join(rig.api("POST", "/v1/config/reload").json()["problems"]), r"\Abroken\.lua:2: error: .*unexpected", "a script's too")
    os.unlink(script)
    is_(rig.api("POST", "/v1/config/reload").status, 200, "without them it is accepted")


def main():
    with Rig(conf=None) as rig:
        rig.write_conf("10-plugins.ini", PLUGINS)
        rig.write_conf("20-storage.ini", "[plugin storage]\nscript_max = ${secret:limit}\n")
        write(os.path.join(rig.state, "secrets", "limit"), "16777216\n", 0o600)
        write(os.path.join(rig.dir, "lua", "handlers", "keep.lua"), HANDLER)
        rig.start()
        workers_stay_when_nothing_changed_for_them(rig)
        workers_run_with_what_is_in_force(rig)
        a_refusal_names_every_problem(rig)
        like(rig.stop(), "^0$", "it stops")
    done()


main()
