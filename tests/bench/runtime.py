"""runtime.py - how fast depotd is ready and how little it holds: start with an existing cluster, first start with initdb against
initdb's own time, memory of the daemon and its workers at rest. Called by runtime.sh with the build folder as its argument."""
import glob
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

build, source = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
ROUNDS = 7


class Daemon:
    """One depotd that says READY on a notification socket, as under a service manager."""

    def __init__(self, top, state):
        path = os.path.join(top, "notify")
        if os.path.exists(path):
            os.unlink(path)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(path)
        self.notify.settimeout(120)
        env = dict(os.environ, NOTIFY_SOCKET=path, DEPOT_API_ADDR="127.0.0.1:0", PGFLOW_ADMIN_ADDR="127.0.0.1:0")
        self.log = open(os.path.join(top, "log"), "ab")
        began = time.monotonic()
        self.process = subprocess.Popen(
            [build + "/depotd", "--config", top + "/conf.d", "--state", state, "--foreground"],
            env=env, stdout=self.log, stderr=self.log)
        while b"READY=1" not in self.notify.recv(4096):
            pass
        self.seconds = time.monotonic() - began

    def memory(self):
        """Proportional set size of the daemon and its workers, without PostgreSQL, in bytes; resident size of the daemon alone."""
        total = 0
        exe = os.path.realpath(build + "/depotd")
        for folder in glob.glob("/proc/[0-9]*"):
            try:
                if os.readlink(folder + "/exe") != exe:
                    continue
                with open(folder + "/status", encoding="ascii") as status:
                    group = {line.split(":")[0]: line.split()[1] for line in status if ":" in line and len(line.split()) > 1}
                if int(folder[6:]) != self.process.pid and group["PPid"] != str(self.process.pid):
                    continue
                with open(folder + "/smaps_rollup", encoding="ascii") as maps:
                    total += sum(int(line.split()[1]) * 1024 for line in maps if line.startswith("Pss:"))
            except OSError:
                continue
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            rss = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))
        return total, rss

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.notify.close()
        self.log.close()


def initdb_seconds(top):
    """The same initdb that depotd runs, by itself."""
    bindir = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[4]))[-1]
    data = os.path.join(top, "bare")
    as_user = []
    if os.geteuid() == 0:
        os.mkdir(data)
        shutil.chown(data, "postgres", "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    began = time.monotonic()
    subprocess.run(as_user + [bindir + "/initdb", "-D", data, "--data-checksums", "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust"],
                   check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    shutil.rmtree(data)
    return seconds


def main():
    top = tempfile.mkdtemp(prefix="depotd-bench.")
    os.chmod(top, 0o755)
    shutil.copytree(source + "/conf.d", top + "/conf.d")
    cold, bare, warm = [], [], []
    for n in range(3):
        bare.append(initdb_seconds(top))
        state = f"{top}/state{n}"
        daemon = Daemon(top, state)
        cold.append(daemon.seconds)
        daemon.stop()
    for _ in range(ROUNDS):
        daemon = Daemon(top, state)
        warm.append(daemon.seconds)
        if len(warm) == ROUNDS:
            time.sleep(5)
            pss, rss = daemon.memory()
        daemon.stop()
    cold_s, bare_s, warm_s = statistics.median(cold), statistics.median(bare), statistics.median(warm)
    print(f"# {os.cpu_count()} cores, {ROUNDS} warm starts, 3 first starts; goals: ready < 1 s, first start < initdb + 1 s, idle < 30 MB")
    print(f"BENCH runtime.ready {warm_s:.3f} s peer=goal peer_value=1.000 ratio={1 / warm_s:.2f}")
    print(f"BENCH runtime.first_start {cold_s:.3f} s peer=initdb+1s peer_value={bare_s + 1:.3f} ratio={(bare_s + 1) / cold_s:.2f}")
    print(f"BENCH runtime.idle_rss {rss / 1e6:.1f} MB peer=goal peer_value=30.0 ratio={30e6 / rss:.2f}")
    print(f"BENCH runtime.idle_pss_with_workers {pss / 1e6:.1f} MB peer=goal peer_value=30.0 ratio={30e6 / pss:.2f}")
    shutil.rmtree(top, ignore_errors=True)


main()
