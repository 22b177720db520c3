"""test_reload.py - the configuration in force and the files of conf.d, which may be half edited at any time."""
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


def main():
    with Rig(conf=None) as rig:
        rig.write_conf("10-plugins.ini", PLUGINS)
        rig.write_conf("20-storage.ini", "[plugin storage]\nscript_max = ${secret:limit}\n")
        write(os.path.join(rig.state, "secrets", "limit"), "16777216\n", 0o600)
        write(os.path.join(rig.dir, "lua", "handlers", "keep.lua"), HANDLER)
        rig.start()
        workers_run_with_what_is_in_force(rig)
        like(rig.stop(), "^0$", "it stops")
    done()


main()
