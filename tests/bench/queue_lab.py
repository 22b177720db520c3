"""queue_lab.py - one PostgreSQL for all contestants of the queue bench: durable, private, a fresh database for each run."""
import json
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD  # noqa: E402
from servers import Cluster, Session  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
SETTINGS = ("fsync = on", "full_page_writes = on", "synchronous_commit = on", "shared_buffers = 512MB", "max_wal_size = 8GB", "min_wal_size = 2GB",
            "checkpoint_timeout = 30min")
PEERS = os.path.join(os.environ.get("BENCH_PEERS") or os.path.join(BUILD, "bench", "queue-peers"))
NODE = os.path.join(PEERS, "node_modules", ".bin", "node")


def processor_seconds(pids):
    """User and system time so far, of ended children too."""
    ticks = 0
    for pid in pids:
        try:
            with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as file:
                ticks += sum(map(int, file.read().rpartition(")")[2].split()[11:15]))
        except OSError:
            pass  # it has ended, and its parent has its time
    return ticks / os.sysconf("SC_CLK_TCK")


def children(pid):
    """Of all its threads, as workers are started by one that is not the first."""
    found = []
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/children" % (pid, task), encoding="ascii") as file:
            found += [int(word) for word in file.read().split()]
    return found


class Lab:
    """The server, and databases in it."""

    def __init__(self):
        self.cluster = Cluster(*SETTINGS)
        self.made = 0
        self.admin = Session(self.cluster.urls["super_url"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.admin.close()
        self.cluster.__exit__()

    def url(self, database, role="super_url"):
        return self.cluster.urls[role].replace("/depot?", "/%s?" % database, 1)

    def database(self):
        """An empty one; what the run before left in memory is written out first, so that nobody pays for others."""
        self.made += 1
        name = "bench_%d" % self.made
        self.admin.sql("create database %s owner depot_owner" % name)
        self.admin.sql("checkpoint")
        return name

    def processor_seconds(self):
        postmaster = self.cluster.postmaster()
        return processor_seconds([postmaster, *children(postmaster)])

    def syncs(self):
        """How often a second a small write can be made durable where the server is: the measure of single commits."""
        path, n, began = os.path.join(self.cluster.dir, "sync"), 0, time.monotonic()
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.pwrite(file, bytes(1 << 20), 0)
        while time.monotonic() < began + 1:
            os.pwrite(file, bytes(8192), n % 128 * 8192)
            os.fdatasync(file)
            n += 1
        os.close(file)
        os.unlink(path)
        return n / (time.monotonic() - began)

    def drop(self, name):
        self.admin.sql("drop database %s with (force)" % name)


def node(script, *words, url=None, env=None):
    """A driver of the peers, to its end: its answer."""
    done = subprocess.run([NODE, os.path.join(PEERS, script), *map(str, words)], env=dict(os.environ, PEER_URL=url or "", **(env or {})),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=3600, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        raise RuntimeError("%s %s: status %d\n%s%s" % (script, " ".join(map(str, words)), done.returncode, done.stderr, done.stdout))
    return json.loads(done.stdout.splitlines()[-1])


class Driver:
    """A driver that serves until it is closed; `said` is its first answer."""

    def __init__(self, script, *words, url, env=None):
        self.process = subprocess.Popen([NODE, os.path.join(PEERS, script), *words], env=dict(os.environ, PEER_URL=url, **(env or {})),
                                        stdout=subprocess.PIPE, text=True)
        timer = threading.Timer(60, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            raise RuntimeError("%s did not start" % script)
        self.said = json.loads(line)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
