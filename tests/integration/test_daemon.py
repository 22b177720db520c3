"""The daemon's manners, as docs/operations.md tells them: command line, exit statuses, the state folder, listeners, tokens, signals,
the service manager. One embedded cluster serves all of it."""
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, SRC, Rig, done, eventually, is_, like, note, ok  # noqa: E402
from servers import Manager  # noqa: E402

SLEEPER = """
depot.job("test.sleep") {
  timeout = "60s",
  run = function(job)
    depot.sleep(job.args.seconds)
    return { slept = job.args.seconds }
  end,
}
"""


def run(*args, env=None):
    done_ = subprocess.run([os.path.join(BUILD, "depotd"), *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env=env, timeout=60, check=False, text=True)
    return done_.returncode, done_.stdout, done_.stderr


def command_line():
    with open(os.path.join(SRC, "VERSION"), encoding="ascii") as file:
        is_(run("--version")[:2], (0, "depotd %s\n" % file.read().strip()), "--version")
    status, out, _ = run("--help")
    is_(status, 0, "--help")
    for word in ("--config DIR", "--state DIR", "--foreground", "--check", "--version", "SIGTERM", "SIGHUP", "Exit status", "78"):
        ok(word in out, "--help has " + word, out)
    for args in (["--chek"], ["--config"], ["--state"], ["extra"]):
        status, _, err = run(*args)
        is_(status, 2, "status 2 for " + " ".join(args))
        like(err, r"error: %s.*\n.*hint: see depotd --help" % args[-1], "and it is named")


def script(rig, name, text):
    os.makedirs(os.path.join(rig.dir, "lua", "handlers"), exist_ok=True)
    with open(os.path.join(rig.dir, "lua", "handlers", name), "w", encoding="utf-8") as file:
        file.write(text)


def checks(rig):
    status, out = rig.run("--check")
    is_(status, 0, "--check of the shipped configuration")
    like(out, r"configuration is fine", "says so")
    is_(os.listdir(rig.state), [], "and starts nothing")
    rig.write_conf("80-bad.ini", "[daemon]\ndrain_timout = 5s\nthreads = many\n")
    status, out = rig.run("--check")
    is_(status, 78, "--check of a wrong one is 78")
    like(out, r"80-bad\.ini:2: error: unknown option \"drain_timout\" in \[daemon\]\n.*80-bad\.ini:2: hint: did you mean \"drain_timeout\"\?",
         "with place and suggestion")
    like(out, r"80-bad\.ini:3: error: .*threads", "and the second problem in the same pass")
    status, out = rig.run("--foreground")
    is_(status, 78, "the daemon refuses it with 78 too")
    like(out, r"80-bad\.ini:3: error", "and prints the same")
    os.unlink(os.path.join(rig.conf, "80-bad.ini"))
    script(rig, "broken.lua", "-- a comment\nreturn {\n  x = = 1 }\n")
    status, out = rig.run("--check")
    is_(status, 78, "a script that cannot be compiled is 78")
    like(out, r"handlers/broken\.lua:3: error: ", "and its file and line are named")
    status, out = rig.run("--foreground")
    is_(status, 78, "the daemon does not start with it")
    like(out, r"handlers/broken\.lua:3: ", "and says where")
    os.unlink(os.path.join(rig.dir, "lua", "handlers", "broken.lua"))


def state_folder_refused(rig):
    blocked = os.path.join(rig.dir, "file")
    with open(blocked, "w", encoding="ascii"):
        pass
    places = [os.path.join(blocked, "state"), "/proc/depotd-test"]
    if os.geteuid() != 0:
        os.mkdir(os.path.join(rig.dir, "closed"), 0o500)
        places.append(os.path.join(rig.dir, "closed", "state"))
    for place in places:
        status, out, err = run("--config", rig.conf, "--state", place, env=rig.env)
        is_(status, 1, "a state folder that cannot be made: status 1 for " + place)
        like(out + err, os.path.dirname(place), "and it is named")
        like(out + err, r"state folder must be writable", "with what to do")


def port_in_use(rig):
    with socket.create_server(("127.0.0.1", rig.admin_port)):
        status, out = rig.run("--foreground")
    is_(status, 3, "a port in use: status 3")
    like(out, r"cannot listen on 127\.0\.0\.1:%d: another program does" % rig.admin_port, "and the address is named")
    like(out, r"listen admin|PGFLOW_ADMIN_ADDR", "with where it is set")
    is_(rig.postmaster(), None, "and no server is left behind")


def files(rig):
    mode = stat.S_IMODE(os.stat(os.path.join(rig.state, "admin.token")).st_mode)
    is_(oct(mode), "0o600", "admin.token is for its owner alone")
    for name in ("depotd.sock", "depotd.lock", "postgres", "depot"):
        ok(os.path.exists(os.path.join(rig.state, name)), "the state folder has " + name, os.listdir(rig.state))
    with open(os.path.join(rig.state, "depotd.lock"), encoding="ascii") as file:
        is_(int(file.read()), rig.process.pid, "the lock names the process")


def listeners(rig):
    reply = rig.api("GET", "/health", token=False)
    is_((reply.status, reply.json()), (200, {"status": "ok"}), "api /health")
    reply = rig.admin("GET", "/health", token=False)
    is_((reply.status, reply.text), (200, "ok"), "admin /health")
    for port in (rig.api, rig.admin):
        is_(port("GET", "/ready", token=False).status, 200, "/ready needs no token")
        is_(port("GET", "/openapi.json", token=False).status, 401, "/openapi.json needs one")
        is_(port("GET", "/openapi.json").json()["openapi"][:2], "3.", "/openapi.json")
        is_(port("GET", "/metrics", token=False).status, 401, "/metrics needs one")
        like(port("GET", "/metrics/prom").text, r"^# TYPE depot_\w+ ", "/metrics/prom")
        is_(port("GET", "/openapi.json", token=False, headers={"x-api-key": rig.token()}).status, 200, "x-api-key is as good")
        reply = port("GET", "/openapi.json", token="dpt_wrong")
        is_(reply.status, 401, "a wrong token is refused")
        like(reply.headers["Content-Type"], "application/problem\\+json", "by a problem document")
        ok({"type", "title", "status", "detail"} <= set(reply.json()), "that has what RFC 9457 wants", reply)
    like(rig.api("GET", "/metrics").text, r"^# TYPE depot_\w+ ", "api /metrics is Prometheus text")
    reply = rig.admin("GET", "/metrics?queue=mail", headers={"Accept": "application/json, */*"})
    is_((reply.status, set(reply.json())), (200, {"now_utc", "queues"}), "admin /metrics is the queue's JSON")
    is_([(q["queue"], q["runnable_queue_depth"], q["jobs_per_sec"]) for q in reply.json()["queues"]], [("mail", 0, 0)], "of one queue by ?queue=")
    is_(set(rig.admin("GET", "/metrics").json()), {"now_utc", "queues"}, "also when Accept says nothing")
    for accept in ("text/plain", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"):
        like(rig.admin("GET", "/metrics", headers={"Accept": accept}).text, r"^# TYPE depot_\w+ ", "or Prometheus text for " + accept)
    like(rig.admin("GET", "/metrics/prom", headers={"Accept": "application/json"}).text, r"^# TYPE depot_\w+ ", "/metrics/prom is always that")
    is_(rig.api("GET", "/no/such/path").status, 404, "an unknown path")
    is_(rig.api("DELETE", "/health").status, 405, "a known one by another method")
    listening = {socket.inet_ntoa(bytes.fromhex(line.split()[1].split(":")[0])[::-1]) for line in open("/proc/net/tcp", encoding="ascii")
                 if line.split()[1].endswith((":%04X" % rig.api_port, ":%04X" % rig.admin_port)) and line.split()[3] == "0A"}
    is_(listening, {"127.0.0.1"}, "they listen on loopback alone")


def tokens(rig):
    status, out, err = rig.ctl("--json", "token", "create", "--name", "ci", "--role", "viewer")
    if not is_(status, 0, "depotctl token create"):
        note(out + err)
        return
    secret = json.loads(out)["token"]
    is_(rig.admin("GET", "/jobs", token=secret).status, 200, "a viewer reads")
    reply = rig.admin("POST", "/jobs", {"job_type": "test.sleep", "payload_json": {"seconds": 0}}, token=secret)
    is_(reply.status, 403, "a viewer runs nothing")
    ok(secret not in rig.log_text() and rig.token() not in rig.log_text(), "no token is in the log")


def second_instance(rig):
    status, out = rig.run("--foreground")
    is_(status, 3, "a second depotd on the state folder: status 3")
    like(out, r"another depotd \(process %d\) works on %s" % (rig.process.pid, rig.state), "and the first one is named")
    ok(rig.ready(), "the first one goes on")


def reloads(rig):
    rig.write_conf("85-log.ini", "[log]\nlevel = debug\n")
    rig.signal(signal.SIGHUP)
    ok(eventually(20, lambda: "configuration reloaded" in rig.log_text()), "SIGHUP reloads")
    like(rig.ctl("--json", "config", "show")[1], r'"debug"', "the new value is in force")
    rig.write_conf("85-log.ini", "[log]\nlevel = debug\nlevl = info\n[daemon]\ndrain_timeout = 1s\n")
    rig.signal(signal.SIGHUP)
    ok(eventually(20, lambda: "daemon.reload_refused" in rig.log_text()), "a wrong one is refused")
    like(rig.log_text(), r'85-log\.ini:3: error: unknown option .*levl', "the log says where")
    status, _, err = rig.ctl("config", "reload")
    ok(status != 0 and "85-log.ini:3" in err, "so does depotctl config reload", status, err)
    shown = json.loads(rig.ctl("--json", "config", "show", "--origin")[1])
    rows = [r for r in (shown["items"] if isinstance(shown, dict) else shown) if r["option"] == "drain_timeout"]
    is_([r["value"] for r in rows], ["30s"], "and nothing of it is in force")
    rig.write_conf("85-log.ini", "[log]\nlevel = info\n[daemon]\nthreads = 9\n")
    status, _, err = rig.ctl("config", "reload")
    ok(status != 0 and "threads" in err and "restart" in err, "what needs a restart is named", status, err)
    os.unlink(os.path.join(rig.conf, "85-log.ini"))
    script(rig, "broken.lua", "x = = 1\n")
    rig.signal(signal.SIGHUP)
    ok(eventually(20, lambda: "handlers/broken.lua:1" in rig.log_text()), "a script with an error refuses the reload as well")
    os.unlink(os.path.join(rig.dir, "lua", "handlers", "broken.lua"))
    is_(rig.ctl("config", "reload")[0], 0, "a good one passes again")
    ok(rig.ready(), "and the daemon was ready all the time")


def enqueue(rig, seconds):
    reply = rig.admin("POST", "/jobs", {"job_type": "test.sleep", "payload_json": {"seconds": seconds}})
    if reply.status not in (200, 201, 202):
        raise RuntimeError("enqueue: %r" % reply)
    return reply.json()["job_id"]


def job(rig, name):
    reply = rig.admin("GET", "/jobs/" + name)
    return reply.json() if reply.status == 200 else {}


def status_of(rig, name):
    return job(rig, name).get("status")


def drains(rig):
    running = enqueue(rig, 3)
    ok(eventually(15, lambda: status_of(rig, running) == "running"), "a job is running", job(rig, running))
    began = time.monotonic()
    is_(rig.stop(), 0, "SIGTERM: status 0")
    took = time.monotonic() - began
    ok(took < 20, "within the deadline: %.1f s" % took)
    is_(rig.postmaster(), None, "the embedded server went with it")
    like(rig.log_text(), r"daemon.stopping", "the log says that it drains")
    rig.start()
    done_ = job(rig, running)
    is_((done_.get("status"), done_.get("attempts", done_.get("attempt"))), ("succeeded", 1), "the job that ran had ended by itself")
    return running


def drain_has_a_deadline(rig):
    rig.stop()
    rig.write_conf("85-drain.ini", "[daemon]\ndrain_timeout = 1s\n")
    rig.start()
    running = enqueue(rig, 50)
    ok(eventually(15, lambda: status_of(rig, running) == "running"), "a long job is running", job(rig, running))
    began = time.monotonic()
    is_(rig.stop(), 0, "SIGTERM with drain_timeout = 1s: status 0")
    took = time.monotonic() - began
    ok(took < 40, "it does not wait for the job: %.1f s" % took)
    os.unlink(os.path.join(rig.conf, "85-drain.ini"))
    rig.start()
    ok(eventually(30, lambda: status_of(rig, running) in ("queued", "running", "retrying", "scheduled")), "and the job is not lost", job(rig, running))
    is_(rig.admin("POST", "/jobs/%s/cancel" % running).status in (200, 202, 409), True, "it can be canceled or runs again")


def second_signal(rig):
    running = enqueue(rig, 6)
    eventually(15, lambda: status_of(rig, running) == "running")
    rig.signal(signal.SIGTERM)
    eventually(10, lambda: "daemon.stopping" in rig.log_text()[-4000:])
    time.sleep(0.3)
    began = time.monotonic()
    rig.signal(signal.SIGTERM)
    status = rig.wait(20)
    ok(status not in (None, -9) and time.monotonic() - began < 5, "a second SIGTERM leaves at once (%s)" % status)


def says_to_the_service_manager(rig):
    manager = Manager(rig.dir)
    rig.env = dict(rig.env, NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="2000000")
    rig.spawn()  # and what it says is read at once, as a service manager does: a full socket loses words
    ok(manager.wait_for("^READY=1$", 60), "READY=1", manager.messages)
    ok(manager.wait_for("^STATUS=.*PostgreSQL"), "and what it did before that", manager.messages)
    seen = manager.said("^WATCHDOG=1$")
    ok(manager.wait_for("^WATCHDOG=1$", 10, seen + 3), "WATCHDOG=1, again and again", manager.messages)
    times = [at for at, text in manager.messages if "WATCHDOG=1" in text]
    ok(max(b - a for a, b in zip(times, times[1:])) < 2.0, "more often than the watchdog asks for", times)
    ready = manager.said("^READY=1$")
    rig.signal(signal.SIGHUP)
    ok(manager.wait_for(r"^RELOADING=1\nMONOTONIC_USEC=\d+"), "RELOADING=1 with its time", manager.messages)
    ok(manager.wait_for("^READY=1$", 20, ready + 1), "READY=1 when it is done", manager.messages)
    rig.stop()
    ok(manager.wait_for("^STOPPING=1$"), "STOPPING=1", manager.messages)
    order = [text.split("\n")[0] for _, text in manager.read() if text.split("=")[0] in ("READY", "RELOADING", "STOPPING")]
    is_(order, ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"], "in this order")
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC"):
        del rig.env[name]


def log_is_json(rig):
    bad = []
    for line in rig.log_text().splitlines():
        try:
            entry = json.loads(line)
            if not {"time", "level", "plugin", "msg"} <= set(entry):
                bad.append(line)
        except ValueError:
            bad.append(line)
    ok(not bad, "every line of the log is a JSON object with time, level, plugin, msg", *bad[:5])


def off_disables(rig):
    rig.env = dict(rig.env, PGFLOW_ADMIN_ADDR="off")
    rig.start()
    ok(rig.ready(), "PGFLOW_ADMIN_ADDR=off: it starts")
    with socket.socket() as probe:
        ok(probe.connect_ex(("127.0.0.1", rig.admin_port)) != 0, "and does not listen there")
    is_(rig.ctl("job", "list")[0], 0, "depotctl reaches the queue by the socket")


def main():
    command_line()
    with Rig() as rig:
        checks(rig)
        script(rig, "sleep.lua", SLEEPER)
        state_folder_refused(rig)
        port_in_use(rig)
        began = time.monotonic()
        rig.start()
        note("cold start with initdb: %.1f s" % (time.monotonic() - began))
        for part in (files, listeners, tokens, second_instance, reloads, drains, drain_has_a_deadline, second_signal):
            part(rig)
        log_is_json(rig)
        says_to_the_service_manager(rig)
        off_disables(rig)
        is_(rig.stop(), 0, "it stops")
    done()


main()
