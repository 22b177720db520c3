"""rig.py - TAP and private daemons for tests in Python, standard library only. The shell twin is rig.sh.

    import os, sys
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
    from rig import Rig, done, is_, like, ok, skip

    with Rig() as rig:
        rig.start()
        is_(rig.api("GET", "/health").json(), {"status": "ok"}, "health")
    done()

Without done() there is no plan, so a test that dies early fails. KEEP=1 leaves the folders of the rigs.
"""
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

SRC = os.environ.get("DEPOT_SRC") or os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.environ.get("DEPOT_BUILD") or os.path.join(SRC, "build")
_points = {"made": 0, "failed": 0}
_chance = random.SystemRandom()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the runner's deadline: leave by way of __exit__


def note(text):
    lines = str(text).splitlines() or [""]
    print("\n".join("# " + line for line in lines[-100:]), flush=True)


def ok(good, name, *more):
    """One point; what is in `more` is shown when it fails."""
    _points["made"] += 1
    _points["failed"] += 0 if good else 1
    text = str(name).replace("\n", " ").replace("#", "\\#")
    print("%s %d - %s" % ("ok" if good else "not ok", _points["made"], text), flush=True)
    if not good:
        for text in more or ("at " + _caller(),):
            note(text)
    return bool(good)


def _caller():
    for frame in reversed(traceback.extract_stack()):
        if frame.filename != __file__:
            return "%s:%d: %s" % (frame.filename, frame.lineno, frame.line)
    return "?"


def is_(got, want, name):
    return ok(got == want, name, "at " + _caller(), "got:  %r" % (got,), "want: %r" % (want,))


def like(text, pattern, name):
    """The regular expression is found in the text."""
    return ok(re.search(pattern, str(text), re.M), name, "at " + _caller(), "no match for %r in:" % pattern, text)


def skip(name, why):
    _points["made"] += 1
    print("ok %d - %s # SKIP %s" % (_points["made"], name, why), flush=True)


def done():
    """Prints the plan and ends the test."""
    print("1..%d" % _points["made"], flush=True)
    sys.exit(1 if _points["failed"] or not _points["made"] else 0)


def eventually(seconds, condition):
    """Calls condition until it gives something true; gives back what it gave last."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() >= deadline:
            return value
        time.sleep(0.05)


_reserved = []  # sockets without a use but their names, for the life of this process


def _reserve(port):
    """True when nobody listens there and no other test has it. The name vanishes with the process, however that ends."""
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind("\0depotd-test-port-%d" % port)
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        mark.close()
        return False
    _reserved.append(mark)
    return True


def free_ports(n):
    """Ports of loopback that stay ours also while nobody listens on them: below those that the system gives to outgoing
    connections (32768 and up), of which any could take the port of a daemon that was just killed."""
    found = []
    while len(found) < n:
        port = _chance.randrange(10000, 32768)
        if _reserve(port):
            found.append(port)
    return found


def runs(pid):
    """It exists and is no zombie; who should ask for its status may be slow or, in a container, missing."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Reply:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return "%d %s" % (self.status, self.text[:2000])


class Rig:
    """A depotd with a configuration, a state folder and ports of its own. Stopped, by pid, when the block ends."""

    def __init__(self, conf=os.path.join(SRC, "conf.d"), env=None):
        self.dir = tempfile.mkdtemp(prefix="depot-rig.")
        os.chmod(self.dir, 0o755)  # PostgreSQL's service user must be able to pass
        self.state, self.conf, self.log = (os.path.join(self.dir, n) for n in ("state", "conf.d", "depotd.log"))
        os.mkdir(self.state)
        os.mkdir(self.conf)
        for name in sorted(os.listdir(conf)) if conf and os.path.isdir(conf) else []:
            if name.endswith(".ini"):
                shutil.copy(os.path.join(conf, name), self.conf)
        self.api_port, self.admin_port = free_ports(2)
        self.env = dict(os.environ, DEPOT_API_ADDR="127.0.0.1:%d" % self.api_port,
                        PGFLOW_ADMIN_ADDR="127.0.0.1:%d" % self.admin_port, **(env or {}))
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self._clean()
        if value is not None and not isinstance(value, SystemExit):
            ok(False, "the test ended by an exception", "".join(traceback.format_exception(kind, value, trace)))
        if _points["failed"]:
            note("last lines of %s:\n%s" % (self.log, self.log_text()))
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)

    def write_conf(self, name, text):
        with open(os.path.join(self.conf, name), "w", encoding="utf-8") as file:
            file.write(text)

    def write_script(self, path, text):
        """Below lua/, where the configuration of rigs looks for scripts: handlers/x.lua."""
        path = os.path.join(self.dir, "lua", path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def command(self, *args):
        return [os.path.join(BUILD, "depotd"), "--config", self.conf, "--state", self.state, *args]

    def run(self, *args, timeout=60):
        """depotd to its end (--check and the like): status, output of both streams."""
        p = subprocess.run(self.command(*args), env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=timeout, check=False)
        return p.returncode, p.stdout.decode("utf-8", "replace")

    def spawn(self, *args):
        """Starts it and does not wait."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command("--foreground", *args), env=self.env,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start(self, *args, seconds=60):
        """Starts it and waits until /ready answers 200."""
        self.spawn(*args)
        if not eventually(seconds, lambda: self.process.poll() is not None or self.ready()) or not self.alive():
            raise RuntimeError("depotd was not ready after %d s, or ended (%s)" % (seconds, self.process.poll()))

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def ready(self):
        try:
            return self.api("GET", "/ready", timeout=2).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def signal(self, number):
        if self.alive():
            self.process.send_signal(number)

    def stop(self, seconds=60):
        """TERM; gives back the exit status, -9 when it had to be killed."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self):
        """KILL for the daemon alone; its server and workers are on their own."""
        self.signal(signal.SIGKILL)
        return self.wait(10)

    def wait(self, seconds):
        if self.process is None:
            return None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def ctl(self, *args, timeout=60, stdin=None):
        """depotctl: status, standard output, standard error."""
        p = subprocess.run([os.path.join(BUILD, "depotctl"), "--state", self.state, *args], env=self.env, input=stdin,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, check=False, text=True)
        return p.returncode, p.stdout, p.stderr

    def token(self):
        try:
            with open(os.path.join(self.state, "admin.token"), encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return None

    def request(self, port, method, path, body=None, headers=None, token=True, timeout=30):
        headers = dict(headers or {})
        if token and self.token():
            headers.setdefault("Authorization", "Bearer " + (token if isinstance(token, str) else self.token()))
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        try:
            try:
                connection.request(method, path, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before all of it was sent: the reply is there
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def api(self, method, path, body=None, **more):
        return self.request(self.api_port, method, path, body, **more)

    def admin(self, method, path, body=None, **more):
        return self.request(self.admin_port, method, path, body, **more)

    def log_text(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def postmaster(self):
        """Pid of the embedded server, None when there is none."""
        for place, _, names in os.walk(os.path.join(self.state, "postgres")):
            if "postmaster.pid" in names:
                try:
                    with open(os.path.join(place, "postmaster.pid"), encoding="ascii") as file:
                        pid = int(file.readline())
                except (OSError, ValueError):
                    return None  # it is coming or going
                return pid if runs(pid) else None
        return None

    def workers(self):
        """Pids of the worker processes that work on this state folder, of dead daemons too."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if b"--worker" in words and self.state.encode() in words and runs(int(pid)):
                found.append(int(pid))
        return found

    def _clean(self):
        self.stop(20)
        pid = self.postmaster()
        if pid:  # left behind by a daemon that was killed
            for number in (signal.SIGINT, signal.SIGQUIT):
                os.kill(pid, number)
                if eventually(10, lambda: not runs(pid)):
                    break
