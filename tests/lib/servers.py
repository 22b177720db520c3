"""servers.py - what stands around a daemon in tests: a throw-away PostgreSQL, the network to it, PgBouncer, a service manager.

    with Cluster() as pg, Line(pg) as line: rig = Rig(env=line.env()); line.cut(); ...
"""
import os
import re
import select
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse

from rig import BUILD, eventually, free_ports


class Session:
    """psql that stays connected: a transaction may be held open in it, and a question costs no connection."""

    def __init__(self, url):
        self.process = subprocess.Popen(["psql", "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", url],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.asked, self.heard = "", b""

    def ask(self, text):
        self.asked = text
        try:
            self.process.stdin.write((text.rstrip("; \n") + ";\n\\echo :::end\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def answer(self, seconds=None):
        """The rows as lists of texts; None: the server is not done after so many seconds."""
        until = None if seconds is None else time.monotonic() + seconds
        while not (self.heard == b":::end\n" or self.heard.endswith(b"\n:::end\n")):
            left = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                return None
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            if not piece:
                raise RuntimeError("psql: %s\n%s" % (self.process.stderr.read().decode("utf-8", "replace").strip(), self.asked))
            self.heard += piece
        lines, self.heard = self.heard.decode().splitlines()[:-1], b""
        return [line.split("\t") for line in lines]

    def sql(self, text):
        self.ask(text)
        return self.answer()

    def value(self, text):
        return self.sql(text)[0][0]

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
        self.process.stderr.close()


class Cluster:
    """A throw-away PostgreSQL, made by the same code as the embedded one."""

    def __init__(self, *settings):
        self.dir = tempfile.mkdtemp(prefix="depot-pg.")
        os.chmod(self.dir, 0o755)
        self.process = subprocess.Popen([os.path.join(BUILD, "tests/lib/pg-tmp"), os.path.join(self.dir, "pg"), *settings],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.urls = dict(line.split(None, 1) for line in (self.process.stdout.readline() for _ in range(3)) if line.strip())
        if len(self.urls) != 3:
            raise RuntimeError("pg-tmp did not start a server: status %s" % self.process.wait(10))
        self.urls = {name: url.strip() for name, url in self.urls.items()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def parts(self, name="url"):
        """user, password, database, folder of the socket, port"""
        url = urllib.parse.urlsplit(self.urls[name])
        query = urllib.parse.parse_qs(url.query)
        return url.username, url.password, url.path.lstrip("/"), query["host"][0], query["port"][0]

    def socket_path(self):
        _, _, _, folder, port = self.parts()
        return "%s/.s.PGSQL.%s" % (folder, port)

    def env(self):
        return {"DATABASE_URL": self.urls["url"], "DATABASE_DIRECT_URL": self.urls["url"],
                "DATABASE_OWNER_URL": self.urls["owner_url"]}

    def sql(self, text, name="super_url"):
        """psql: the rows, unaligned; raises when the server refuses."""
        done = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.urls[name], "-c", text],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise RuntimeError("psql: " + done.stderr.strip())
        return done.stdout.strip()

    def up(self):
        try:
            return self.sql("select 1") == "1"
        except RuntimeError:
            return False

    def postmaster(self):
        return int(self.sql("select pg_read_file('postmaster.pid')").splitlines()[0])

    def crash(self):
        """KILL for the whole server, as a machine that loses power; it comes back by itself."""
        pid = self.postmaster()
        os.kill(pid, signal.SIGKILL)
        return eventually(30, self.up)


def embedded_sql(rig, sql):
    """psql in a daemon's own cluster, as its superuser: the rows, columns parted by tabs. Raises when the server refuses."""
    home = os.path.realpath(os.path.join(rig.state, "postgres"))
    with open(os.path.join(home, "secrets", "super.pw"), encoding="ascii") as file:
        password = file.read().strip()
    with open(os.path.join(home, "port"), encoding="ascii") as file:  # a killed server may have left a socket of another port
        port = file.read().strip()
    ran = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h", os.path.join(home, "run"), "-p", port,
                          "-U", "depot_super", "-d", "depot", "-c", sql], env=dict(os.environ, PGPASSWORD=password),
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    if ran.returncode != 0:
        raise RuntimeError("psql: " + ran.stderr.strip())
    return [tuple(line.split("\t")) for line in ran.stdout.splitlines()]


class Line:
    """The network to a cluster: a TCP port of loopback that can be cut, restored, and made silent."""

    def __init__(self, cluster, connected=True):
        self.cluster, self.port = cluster, free_ports(1)[0]
        self._pairs, self._lock, self._listener = [], threading.Lock(), None
        self.silent = False  # guarded by nothing: one writer
        self._selector, self._ended = selectors.DefaultSelector(), False
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()
        if connected:
            self.restore()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()
        self._ended = True
        self._thread.join(5)

    def url(self, name="url", password=None, database=None):
        user, known, base, _, _ = self.cluster.parts(name)
        return "postgresql://%s:%s@127.0.0.1:%d/%s" % (user, password or known, self.port, database or base)

    def env(self, **more):
        return dict({"DATABASE_URL": self.url(), "DATABASE_DIRECT_URL": self.url(), "DATABASE_OWNER_URL": self.url("owner_url")},
                    **more)

    def cut(self):
        """New connections are refused, those that are there end."""
        with self._lock:
            listener, self._listener = self._listener, None
            pairs, self._pairs = self._pairs, []
            if listener:
                self._selector.unregister(listener)
                listener.close()
            for one in pairs:
                self._close(one)

    def restore(self):
        with self._lock:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
            self._listener.setblocking(False)
            self._selector.register(self._listener, selectors.EVENT_READ, None)

    def _close(self, pair):
        for one in pair:
            try:
                self._selector.unregister(one)
            except (KeyError, ValueError):
                pass
            one.close()

    def _accept(self, listener):
        here, _ = listener.accept()
        there = socket.socket(socket.AF_UNIX)
        try:
            there.connect(self.cluster.socket_path())
        except OSError:
            here.close()
            there.close()
            return
        self._pairs.append((here, there))
        self._selector.register(here, selectors.EVENT_READ, (here, there))
        self._selector.register(there, selectors.EVENT_READ, (here, there))

    def _move(self, pair, source):
        target = pair[1] if source is pair[0] else pair[0]
        try:
            data = source.recv(65536)
            if not data:
                raise OSError("ended")
            target.sendall(data)
        except OSError:
            if pair in self._pairs:
                self._pairs.remove(pair)
            self._close(pair)

    def _carry(self):
        while not self._ended:
            if self.silent:
                time.sleep(0.05)
                continue
            with self._lock:
                ready = self._selector.select(0) if self._selector.get_map() else []
                for key, _ in ready:
                    if key.data is None:
                        self._accept(key.fileobj)
                    elif key.fileobj.fileno() >= 0:
                        self._move(key.data, key.fileobj)
            if not ready:
                time.sleep(0.005)


class Bouncer:
    """PgBouncer in transaction mode in front of a cluster; as the user postgres when we are root."""

    def __init__(self, cluster, pool_size=5):
        self.cluster, self.port = cluster, free_ports(1)[0]
        self.dir = tempfile.mkdtemp(prefix="depot-bouncer.")
        _, _, _, folder, port = cluster.parts()
        names = sorted({cluster.parts(name)[:2] for name in cluster.urls})
        with open(os.path.join(self.dir, "users.txt"), "w", encoding="ascii") as file:
            file.write("".join('"%s" "%s"\n' % name for name in names))
        with open(os.path.join(self.dir, "bouncer.ini"), "w", encoding="ascii") as file:
            file.write("[databases]\n* = host=%s port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\n" % (
                folder, port, self.port))
            file.write("unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = %s/users.txt\npool_mode = transaction\n" % self.dir)
            file.write("default_pool_size = %d\nlogfile = %s/log\n" % (pool_size, self.dir))
        command = [shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin"), os.path.join(self.dir, "bouncer.ini")]
        if os.geteuid() == 0:
            shutil.chown(self.dir, "postgres")
            for name in os.listdir(self.dir):
                shutil.chown(os.path.join(self.dir, name), "postgres")
            command = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", *command]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not eventually(20, self._answers):
            raise RuntimeError("pgbouncer did not start")

    @staticmethod
    def installed():
        return shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin") is not None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.dir, ignore_errors=True)

    def _answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def url(self, name="url"):
        user, password, base, _, _ = self.cluster.parts(name)
        return "postgresql://%s:%s@127.0.0.1:%d/%s" % (user, password, self.port, base)


class Manager:
    """The service manager's end of sd_notify."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)
        self.messages = []  # (seconds, text)

    def read(self):
        while True:
            try:
                self.messages.append((time.monotonic(), self.socket.recv(4096).decode()))
            except BlockingIOError:
                return self.messages

    def said(self, pattern):
        """How many messages have a line that matches."""
        return sum(1 for _, text in self.read() if re.search(pattern, text, re.M))

    def wait_for(self, pattern, seconds=30, times=1):
        return eventually(seconds, lambda: self.said(pattern) >= times)
