"""Stops and reloads that come at an awkward time: while requests run, while a reload runs, while the daemon still starts."""
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, Rig, done, eventually, is_, like, ok  # noqa: E402

SLOW = "[plugin slow]\nfile = %s\n" % os.path.join(BUILD, "tests", "plugins", "slow.so")


class Call(threading.Thread):
    """A request on a thread of its own."""

    def __init__(self, function):
        super().__init__(daemon=True)
        self.function, self.reply, self.fault = function, None, None
        self.start()

    def run(self):
        try:
            self.reply = self.function()
        except OSError as fault:
            self.fault = fault

    def result(self, seconds):
        self.join(seconds)
        return self.reply


def configure(rig, more=""):
    rig.write_conf("10-http.ini", "[plugin http]\n")
    rig.write_conf("11-daemon.ini", "[daemon]\ndrain_timeout = 1s\n")
    rig.write_conf("12-slow.ini", SLOW + more)


def long_requests(rig):
    configure(rig)
    rig.start()
    call = Call(lambda: rig.admin("POST", "/v1/slow", {}, timeout=60))
    ok(eventually(10, lambda: "slow.request" in rig.log_text()), "a long request runs")
    began = time.monotonic()
    is_(rig.stop(), 0, "the daemon stops in order")
    took = time.monotonic() - began
    ok(took < 40, "soon after the drain timeout, although the request would last a minute: %.1f s" % took)
    reply = call.result(5)
    is_(reply.status if reply else call.fault, 503, "the client is told")
    text = rig.log_text()
    like(text, r'"slow\.request","msg":"ends: (ok|CANCELED)"', "the handler's last statement still found the database")
    ok(0 < text.find("ends: ") < text.find("slow.stop"), "it had ended before its plugin was stopped")
    ok("audit.not_written" not in text, "and who asked for it stands in the audit log")


def reloads(rig):
    configure(rig, "reload = 2s\n")
    rig.start()
    first = Call(lambda: rig.admin("POST", "/v1/config/reload", {}, timeout=60))
    ok(eventually(20, lambda: "slow.reload" in rig.log_text()), "a reload is under way")
    rig.write_conf("20-bad.ini", "[daemon]\ndrain_timeout = soon\n")
    second = Call(lambda: rig.admin("POST", "/v1/config/reload", {}, timeout=60))
    is_(first.result(30).status, 200, "it succeeds")
    reply = second.result(30)
    ok(reply is not None and reply.status != 200, "one that was asked for meanwhile sees what was written meanwhile", reply)
    like(reply.text, r"20-bad\.ini:2", "and names it")
    os.unlink(os.path.join(rig.conf, "20-bad.ini"))
    before = rig.log_text().count("slow.reload")
    rig.write_conf("12-slow.ini", SLOW + "reload = 8s\n")
    first = Call(lambda: rig.admin("POST", "/v1/config/reload", {}, timeout=60))
    ok(eventually(20, lambda: rig.log_text().count("slow.reload") > before), "another one is under way")
    second = Call(lambda: rig.admin("POST", "/v1/config/reload", {}, timeout=60))
    time.sleep(0.3)
    began = time.monotonic()
    rig.signal(signal.SIGTERM)
    reply = second.result(30)
    ok(time.monotonic() - began < 6, "who waits for a reload when the daemon is told to stop does not wait on")
    is_(reply.status if reply else second.fault, 503, "but is told so")
    is_(rig.wait(60), 0, "the daemon stops in order")


def while_starting(rig):
    """The status is 0 whenever the signal comes, and nothing is left."""
    configure(rig, "start = 1s\n")
    for moment in (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.1, 1.5, 2.0, 2.6):
        with open(rig.log, "w", encoding="ascii"):
            pass  # what earlier starts said
        rig.spawn()
        eventually(20, lambda: "daemon.start" in rig.log_text())
        rig.signal(signal.SIGHUP)  # a reload that comes too early waits
        time.sleep(moment)
        is_(rig.stop(), 0, "told to stop %.2f s after the start: status 0" % moment)
        is_(rig.postmaster(), None, "no server is left")


def hanging_start(rig):
    configure(rig, "start = 60s\n")
    rig.spawn()
    ok(eventually(60, lambda: "worker.ready" in rig.log_text()), "a plugin that does not come back from its start")
    time.sleep(0.5)
    began = time.monotonic()
    is_(rig.stop(40), 1, "does not keep the daemon")
    ok(time.monotonic() - began < 25, "for long")
    like(rig.log_text(), "daemon.overdue", "and the log says so")


with Rig(conf=None) as r:
    long_requests(r)
    reloads(r)
    while_starting(r)
with Rig(conf=None) as r:
    hanging_start(r)
done()
