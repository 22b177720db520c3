"""Every thread of the daemon waits for a script, and every script waits for the daemon: nobody may starve."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import Rig, done, eventually, is_, ok  # noqa: E402

SCRIPT = """
depot.sleep(0.3)
depot.event.emit("demo.file_found", { path = "/x", n = 1 })
return { ok = true }
"""
SCHEDULE = """[schedule %s]
cron = @every 1s
run = lua:hooks/emit.lua
timeout = 8s
overlap = allow
"""

with Rig(conf=None) as rig:
    rig.write_conf("10-plugins.ini", "[daemon]\nthreads = 2\ndrain_timeout = 2s\n[plugin http]\n[plugin demo]\n")
    rig.write_conf("20-schedules.ini", "".join(SCHEDULE % name for name in ("one", "two", "three", "four")))
    os.makedirs(os.path.join(rig.dir, "lua", "hooks"))
    with open(os.path.join(rig.dir, "lua", "hooks", "emit.lua"), "w", encoding="utf-8") as file:
        file.write(SCRIPT)
    rig.start()

    def states():
        return {row["name"]: row["last_status"] for row in rig.api("GET", "/v1/schedules").json()}

    ok(eventually(20, lambda: set(states().values()) <= {"ok", "running"} and "ok" in states().values()),
       "scripts of 0.3 s that emit end in time although they hold every thread", states())
    ok("schedule.failed" not in rig.log_text(), "none is stopped at its deadline")
    is_(rig.stop(), 0, "and the daemon stops in order")
done()
