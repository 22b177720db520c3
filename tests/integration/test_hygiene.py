"""What a daemon owes its surroundings: descriptors that were closed, paths as people type them, secrets of its workers, a reload
without a plugin that may be missing, tasks that run one at a time."""
# test-plain: yes
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, Rig, done, eventually, is_, like, ok, skip  # noqa: E402

CLOSED = 'exec "$0" "$@" <&- >&- 2>&-'


def environment_is_closed(pid):
    try:
        with open("/proc/%s/environ" % pid, "rb") as file:
            file.read()
    except PermissionError:
        return True
    return False


with Rig(conf=None) as rig:
    rig.write_conf("10.ini", "[daemon]\ndrain_timeout = 2s\n[plugin http]\n[plugin slow]\nfile = %s\n"
                   "[plugin not_there]\nrequired = no\n" % os.path.join(BUILD, "tests", "plugins", "slow.so"))
    os.makedirs(os.path.join(rig.dir, "lua", "handlers"))
    with open(os.path.join(rig.dir, "lua", "handlers", "site.lua"), "w", encoding="utf-8") as file:
        file.write('depot.job("site.job") { run = function() end }\n')
    command = [os.path.join(BUILD, "depotd"), "--config", rig.conf + "/", "--state", rig.state + "//", "--foreground"]
    rig.process = subprocess.Popen(["/bin/sh", "-c", CLOSED, *command], env=rig.env)
    ok(eventually(60, rig.ready), "it starts with its first three descriptors closed")
    with open(os.path.join(rig.state, "depotd.lock"), encoding="utf-8") as file:
        is_(file.read(), "%d\n" % rig.process.pid, "no line of the log ends up in a file of its own")
    for fd in ("0", "1", "2"):
        if os.geteuid() == 0:
            is_(os.readlink("/proc/%d/fd/%s" % (rig.process.pid, fd)), "/dev/null", "descriptor %s leads nowhere" % fd)
        else:
            skip("descriptor %s leads nowhere" % fd, "the daemon lets none of its user's processes look")
    handlers = [row["name"] for row in rig.admin("GET", "/v1/handlers").json()]
    ok("site.job" in handlers, "a slash behind the folder's name does not hide the scripts beside it", handlers)

    is_(rig.admin("POST", "/v1/config/reload", {}).status, 200, "a missing plugin that may be missing does not stand in a reload's way")
    rig.write_conf("11.ini", "[plugin also_not_there]\n")
    like(rig.admin("POST", "/v1/config/reload", {}).text, "also_not_there", "one that may not, does")
    os.unlink(os.path.join(rig.conf, "11.ini"))

    pids = rig.workers()
    ok(len(pids) > 0, "there are workers")
    if os.geteuid() == 0:
        skip("their environment cannot be read by others of the same user", "root may read everything")
    else:
        # a program is open until it closes itself, which one that has just begun may still have to do
        ok(eventually(20, lambda: all(environment_is_closed(pid) for pid in pids)), "their environment cannot be read by others of the same user")

    first = []
    thread = threading.Thread(target=lambda: first.append(rig.admin("POST", "/v1/tasks/slow.alone/run", {})))
    thread.start()
    time.sleep(0.7)
    second = rig.admin("POST", "/v1/tasks/slow.alone/run", {})
    thread.join()
    is_(first[0].status, 200, "a task that runs alone")
    is_((second.status, second.json().get("code")), (409, "LOCKED"), "is not run a second time meanwhile")
    is_(rig.admin("POST", "/v1/tasks/slow.alone/run", {}).status, 200, "but afterwards")
    is_(rig.stop(), 0, "it stops")

with Rig(conf=None) as rig:
    rig.write_conf("10.ini", "[plugin http]\n")
    os.makedirs(os.path.join(rig.dir, "lua", "handlers"))
    with open(os.path.join(rig.dir, "lua", "handlers", "slow.lua"), "w", encoding="utf-8") as file:
        file.write("for i = 1, 2e7 do local _ = i end\ndepot.job 'slow' { run = function() end }\n")
    rig.spawn()
    for n in (1, 2):
        pids = eventually(60, rig.workers)
        ok(pids, "worker %d loads the scripts of a daemon that starts" % n)
        os.kill(pids[0], signal.SIGKILL)
        eventually(10, lambda: pids[0] not in rig.workers())
    ok(eventually(60, lambda: rig.ready() or not rig.alive()) and rig.alive(), "both are killed, and it starts nevertheless")
    like(rig.log_text(), "worker.lost", "the log has them")
    is_(rig.stop(), 0, "it stops")
done()
