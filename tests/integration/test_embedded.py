"""depotd's own PostgreSQL: who runs it, what it is set to, and that it comes back after every way to die. See docs/operations.md,
"The database" and "When something dies"."""
# test-plain: yes, test-asan: no
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import Rig, done, eventually, is_, like, note, ok, runs, skip  # noqa: E402
from servers import embedded_sql  # noqa: E402

HANDLER = """
depot.job("test.nap") { timeout = "20s", run = function(job) depot.sleep(job.args.seconds) return { ok = true } end }
"""
RELOCATED = "/var/lib/depotd-embedded"


def psql(rig, sql):
    """One value."""
    rows = embedded_sql(rig, sql)
    return rows[0][0] if rows else ""


def what_it_is(rig):
    pid = rig.postmaster()
    owner = os.stat("/proc/%d" % pid).st_uid
    if os.geteuid() == 0:
        ok(owner != 0, "started by root, the server runs as the user " + pwd.getpwuid(owner).pw_name)
    else:
        is_(owner, os.geteuid(), "the server runs as we do")
    is_(psql(rig, "show data_checksums"), "on", "checksums are on")
    is_(psql(rig, "show password_encryption"), "scram-sha-256", "passwords are scram")
    is_(psql(rig, "select count(*) from pg_hba_file_rules where auth_method <> 'scram-sha-256'"), "0", "and nothing else lets in")
    addresses = psql(rig, "show listen_addresses")
    ok(addresses in ("127.0.0.1", "localhost", ""), "it listens on loopback alone", addresses)
    is_(psql(rig, "select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls from pg_roles where rolname = 'depot'"), "f",
        "the daemon's role may nothing special")
    is_(psql(rig, "select count(*) from pg_class c join pg_roles r on r.oid = c.relowner where r.rolname = 'depot'"), "0",
        "and owns nothing")
    before = int(psql(rig, "select archived_count from pg_stat_archiver"))
    psql(rig, "select pg_switch_wal()")
    ok(eventually(15, lambda: int(psql(rig, "select archived_count from pg_stat_archiver")) > before), "WAL is archived",
       psql(rig, "select * from pg_stat_archiver"))
    home = os.path.realpath(os.path.join(rig.state, "postgres"))
    ok(os.listdir(os.path.join(home, "wal")), "to postgres/wal")
    for name in os.listdir(os.path.join(home, "secrets")):
        is_(stat.S_IMODE(os.stat(os.path.join(home, "secrets", name)).st_mode) & 0o077, 0, "secrets/%s is for its owner alone" % name)


def enqueue(rig, seconds):
    reply = rig.admin("POST", "/jobs", {"job_type": "test.nap", "payload_json": {"seconds": seconds}})
    return reply.json()["job_id"] if reply.status in (200, 201, 202) else None


def job(rig, name):
    reply = rig.admin("GET", "/jobs/%s" % name)
    return reply.json() if reply.status == 200 else {}


def ends_once(rig, name, what, attempts):
    ok(eventually(45, lambda: job(rig, name).get("status") == "succeeded"), "%s: the job of before succeeds" % what, job(rig, name))
    closed = psql(rig, "select string_agg(coalesce(error_code, status), ',' order by attempt_no) from queue.attempts where job_id = '%s'" % name)
    like(closed, attempts, "with its attempts explained: " + closed)


def server_dies(rig):
    name = enqueue(rig, 3)
    eventually(10, lambda: job(rig, name).get("status") == "running")
    pid, daemon = rig.postmaster(), rig.process.pid
    os.kill(pid, signal.SIGKILL)
    ok(eventually(10, lambda: not runs(pid)), "the server is killed")
    ok(eventually(30, lambda: rig.postmaster() not in (None, pid) and rig.ready()), "it is started again and the daemon is ready")
    is_((rig.process.pid, rig.alive()), (daemon, True), "the daemon is the same")
    ends_once(rig, name, "server killed", r"^(WORKER_LOST,)*succeeded$")
    ok(eventually(5, lambda: "\ndepot_database_restarts_total 1\n" in rig.admin("GET", "/metrics/prom").text), "and it is counted")


def daemon_dies(rig):
    name = enqueue(rig, 3)
    eventually(10, lambda: job(rig, name).get("status") == "running")
    server = rig.postmaster()
    rig.kill()
    began = time.monotonic()
    rig.start()
    note("ready again %.1f s after the start" % (time.monotonic() - began))
    ok(rig.postmaster() == server or not runs(server), "daemon killed: one server, taken over or replaced")
    ends_once(rig, name, "daemon killed", r"^WORKER_LOST,succeeded$")


def both_die(rig):
    name = enqueue(rig, 3)
    eventually(10, lambda: job(rig, name).get("status") == "running")
    server = rig.postmaster()
    rig.signal(signal.SIGKILL)
    os.kill(server, signal.SIGKILL)
    rig.wait(10)
    rig.start()
    ends_once(rig, name, "both killed", r"^WORKER_LOST,succeeded$")


def stale_pid(rig):
    is_(rig.stop(), 0, "stopped")
    home = os.path.realpath(os.path.join(rig.state, "postgres"))
    sleeper = subprocess.Popen(["sleep", "300"])  # a process that has the number by now and is no server
    try:
        path = os.path.join(home, "data", "postmaster.pid")
        with open(path, "w", encoding="ascii") as file:
            file.write("%d\n%s\n1700000000\n5432\n%s\n127.0.0.1\n  5432001    163840\nready\n" % (
                sleeper.pid, os.path.join(home, "data"), os.path.join(home, "run")))
        shutil.chown(path, *os.stat(os.path.join(home, "data"))[4:6])
        os.chmod(path, 0o600)
        rig.start()
        ok(sleeper.poll() is None, "a stale postmaster.pid: it starts, and the process that has the number now lives")
    finally:
        sleeper.kill()
        sleeper.wait()


def half_made(rig):
    """Killed in the middle of initdb, with all that it had started."""
    rig.spawn()
    data = os.path.join(rig.state, "postgres")
    ok(eventually(20, lambda: any("PG_VERSION" in names for _, _, names in os.walk(data))), "initdb is at work")
    rig.kill()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as file:
                words = file.read()
        except OSError:
            continue
        if rig.state.encode() in words and b"postgres" in words:
            os.kill(int(pid), signal.SIGKILL)
    time.sleep(0.2)
    rig.start()
    ok(rig.ready(), "a half-made data folder heals")
    is_(rig.stop(), 0, "it stops")


def unreachable():
    """A state folder that the service user cannot reach: the cluster lies elsewhere, `postgres` is a link to it."""
    if os.geteuid() != 0:
        skip("a folder that the service user cannot reach", "needs root")
        return
    with Rig() as rig:
        os.chmod(rig.dir, 0o700)
        rig.start()
        link = os.path.join(rig.state, "postgres")
        ok(os.path.islink(link) and os.readlink(link).startswith(RELOCATED + "/"), "unreachable for the service user: relocated", link)
        name = os.readlink(link) if os.path.islink(link) else ""
        rig.kill()
        rig.start()
        is_(os.path.islink(link) and os.readlink(link), name, "and found again after a kill")
        is_(rig.stop(), 0, "it stops")
    if name.startswith(RELOCATED + "/"):  # ours alone: others may have theirs beside it
        shutil.rmtree(name)
    try:
        os.rmdir(RELOCATED)
    except OSError:
        pass  # others have


def main():
    with Rig() as rig:
        rig.write_script("handlers/nap.lua", HANDLER)
        rig.write_conf("95-test.ini", "[plugin queue]\nlease = 5s\n")
        rig.start()
        for part in (what_it_is, server_dies, daemon_dies, both_die, stale_pid):
            part(rig)
        is_(rig.stop(), 0, "it stops")
    with Rig() as rig:
        half_made(rig)
    unreachable()
    done()


main()
