"""Somebody else's PostgreSQL: wrong password, away at start, cut off, crashed, behind PgBouncer, another schema, a role that may too
much. Each has one clear message and nothing is lost. See docs/operations.md, "The database"."""
import os
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, SRC, Rig, done, eventually, is_, like, note, ok, skip  # noqa: E402
from servers import Bouncer, Cluster, Line  # noqa: E402

HANDLER = """
depot.job("test.add") {
  timeout = "30s", max_attempts = 20,
  run = function(job)
    depot.sleep(job.args.seconds or 0)
    depot.db:exec("insert into ran (job_id) values ($1)", job.id)
    return { n = job.args.n }
  end,
}
"""


def prepare(rig):
    rig.write_script("handlers/add.lua", HANDLER)
    return rig


def waiting(rig, pattern, name):
    """The daemon lives, is not ready, and says why: in /ready and in the log."""
    def says_why():
        try:
            reply = rig.api("GET", "/ready", token=False, timeout=2)
            return reply.status == 503 and pattern in reply.text and reply
        except OSError:
            return None
    reply = eventually(15, says_why)
    ok(reply, "%s: /ready is 503 and says why" % name, rig.api("GET", "/ready", token=False) if rig.alive() else rig.log_text())
    if reply:
        ok(reply.headers["Retry-After"], "with Retry-After")
    ok(rig.alive(), "the daemon stays")
    is_(rig.api("GET", "/health", token=False).status, 200, "/health answers")
    ok(pattern in rig.log_text(), "the log says why", rig.log_text())
    status, out, err = rig.ctl("status")
    is_(status, 3, "depotctl status is 3")
    ok(pattern in out + err, "and says why", out, err)


def jobs(rig, n, seconds=0):
    made = 0
    for i in range(n):
        reply = rig.admin("POST", "/jobs", {"job_type": "test.add", "payload_json": {"n": i, "seconds": seconds}})
        made += reply.status in (200, 201, 202)
    return made


def all_ran(pg, want, seconds=40):
    """Every job succeeded and ran once at least; a second run would show in the table, where it is counted."""
    eventually(seconds, lambda: pg.sql("select count(*) from jobs where status = 'succeeded'") == str(want))
    late = pg.sql("select j.id, j.status, j.attempts, j.run_at - now(), j.lock_expires_at - now(), j.last_error_code, j.last_error_message,"
                  " (select count(*) from ran r where r.job_id = j.id) from jobs j where status <> 'succeeded'")
    if late:
        note("not succeeded:\n" + late)
    return (pg.sql("select status, count(*) from jobs group by 1 order by 1"),
            pg.sql("select count(distinct job_id) from ran"))


def wrong_password(pg, line):
    with Rig(env=line.env(DATABASE_URL=line.url(password="not-the-secret"), DATABASE_DIRECT_URL=line.url(password="not-the-secret"))) as rig:
        rig.spawn()
        eventually(10, lambda: os.path.exists(os.path.join(rig.state, "depotd.sock")))
        waiting(rig, "password authentication failed for user", "wrong password")
        ok("not-the-secret" not in rig.log_text() + rig.ctl("config", "show")[1], "the password is shown nowhere")
        tries = rig.log_text().count("database.away")
        ok(tries < 20, "the log is not flooded: %d lines" % tries)
        pg.sql("alter role depot password 'not-the-secret'")
        ok(eventually(20, rig.ready), "corrected on the server, it goes on by itself", rig.log_text())
        is_(rig.stop(), 0, "it stops")
    pg.sql("alter role depot password '%s'" % pg.parts()[1])


def away_at_start(line):
    line.cut()
    with Rig(env=line.env()) as rig:
        rig.spawn()
        eventually(10, lambda: os.path.exists(os.path.join(rig.state, "depotd.sock")))
        waiting(rig, "Connection refused", "database away at start")
        began = time.monotonic()
        is_(rig.stop(), 0, "it can be stopped while it waits")
        ok(time.monotonic() - began < 20, "at once")
        rig.spawn()
        ok(not eventually(2, rig.ready), "not ready without a database")
        line.restore()
        ok(eventually(20, rig.ready), "ready when it comes", rig.log_text())
        is_(rig.stop(), 0, "it stops")


def cut_and_back(pg, line):
    with prepare(Rig(env=line.env())) as rig:
        rig.write_conf("95-test.ini", "[plugin queue]\nlease = 5s\n")  # a claim whose reply was lost waits for it
        rig.start()
        pg.sql("create table ran (job_id uuid); grant insert on ran to depot", "owner_url")
        made = jobs(rig, 8, 2)
        time.sleep(1)
        line.cut()
        ok(eventually(15, lambda: rig.api("GET", "/ready").status == 503), "the line is cut: /ready is 503")
        is_(rig.ctl("status")[0], 3, "and depotctl status says the same by its exit status")
        began = time.monotonic()
        reply = rig.admin("POST", "/jobs", {"job_type": "test.add", "payload_json": {"n": 99}}, timeout=60)
        is_((reply.status, reply.json().get("code")), (503, "DB_UNAVAILABLE"), "a request is answered by a problem document")
        ok(time.monotonic() - began < 30, "within its time: %.1f s" % (time.monotonic() - began))
        time.sleep(2)
        ok(rig.alive(), "the daemon stays")
        line.restore()
        ok(eventually(20, rig.ready), "restored: /ready is 200")
        made += jobs(rig, 2)
        is_(all_ran(pg, made), ("succeeded|%d" % made, str(made)), "every job ended exactly once in a final state")
        made += jobs(rig, 4, 1)
        ok(pg.crash(), "the server is killed and comes back")
        ok(eventually(20, rig.ready), "the daemon goes on")
        made += jobs(rig, 2)
        is_(all_ran(pg, made), ("succeeded|%d" % made, str(made)), "with every job")
        is_(pg.sql("select count(*) from job_attempts where status = 'running'"), "0", "no attempt is left open")
        is_(rig.stop(), 0, "it stops")


def behind_pgbouncer(pg):
    if not Bouncer.installed():
        skip("behind PgBouncer", "pgbouncer is not installed")
        return
    pg.sql("select queue.reset()")
    pg.sql("truncate ran")
    with Bouncer(pg) as pooler, prepare(Rig(env=dict(pg.env(), DATABASE_URL=pooler.url()))) as rig:
        rig.start()
        made = jobs(rig, 60)
        is_(all_ran(pg, made), ("succeeded|60", "60"), "behind PgBouncer in transaction mode: jobs run")
        for words in (("schedule", "list"), ("queue", "list"), ("token", "list"), ("plugin", "list"), ("migrate", "status")):
            is_(rig.ctl(*words)[0], 0, "depotctl " + " ".join(words))
        is_(rig.stop(), 0, "it stops")
        bad = [line for line in rig.log_text().splitlines() if '"level":"error"' in line.replace(" ", "")]
        ok(not bad, "and nothing in the log is an error", *bad[:5])
        rig.env = {k: v for k, v in rig.env.items() if k != "DATABASE_DIRECT_URL"}
        rig.start()
        jobs(rig, 20)
        is_(all_ran(pg, 80), ("succeeded|80", "80"), "also without direct_url, where nothing can listen")
        is_(rig.stop(), 0, "it stops")
    pg.sql("drop table ran", "owner_url")


class Tree:
    """A source tree and a build of its own, so that its migrations can be changed."""

    def __init__(self, folder):
        self.src, self.build = os.path.join(folder, "src"), os.path.join(folder, "build")
        for name in ("sql", "lua", "conf.d"):
            shutil.copytree(os.path.join(SRC, name), os.path.join(self.src, name))
        os.mkdir(self.build)
        for name in ("depotd", "depotctl"):
            shutil.copy(os.path.join(BUILD, name), self.build)
        os.symlink(os.path.join(BUILD, "plugins"), os.path.join(self.build, "plugins"))
        with open(os.path.join(self.build, "tree"), "w", encoding="utf-8") as file:
            file.write(self.src + "\n")

    def migration(self, name, text):
        path = os.path.join(self.src, "sql", "core", name)
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
        return path

    def use(self, rig):
        rig.command = lambda *args: [os.path.join(self.build, "depotd"), "--config", rig.conf, "--state", rig.state, *args]


def schema(pg):
    with Rig(env=pg.env()) as rig:
        plain = rig.command
        rig.start()
        rig.stop()
        first = sorted(os.listdir(os.path.join(SRC, "sql", "core")))[0]
        tree = Tree(rig.dir)
        tree.use(rig)
        tree.migration(first, "-- another thought\n")
        status, out = rig.run("--foreground")
        is_(status, 3, "an applied file that was changed: status 3")
        like(out, "core/" + first, "and it is named")
        shutil.copy(os.path.join(SRC, "sql", "core", first), os.path.join(tree.src, "sql", "core", first))

        next_number = "%04d" % (len(os.listdir(os.path.join(SRC, "sql", "core"))) + 1)
        broken = tree.migration(next_number + "_broken.sql", "create table depot.half (n int);\n\nselect no_such_column from depot.half;\n")
        status, out = rig.run("--foreground")
        is_(status != 0 and status != 78, True, "a migration that fails stops the start (%d)" % status)
        like(out, r"core/%s_broken\.sql" % next_number, "it is named")
        like(out, "no_such_column", "with the server's reason")
        is_(pg.sql("select to_regclass('depot.half') is null"), "t", "and nothing of it stays")
        os.unlink(broken)

        later = tree.migration(next_number + "_later.sql", "create table depot.later (n int);\n")
        rig.env["PGFLOW_MIGRATE_ON_STARTUP"] = "no"
        status, out = rig.run("--foreground")
        is_(status, 3, "one is pending and migrate = no: status 3")
        like(out, r"core/%s_later\.sql has not been applied" % next_number, "it is named")
        like(out, r"depotctl migrate up", "with what to do")
        del rig.env["PGFLOW_MIGRATE_ON_STARTUP"]
        owner = rig.env.pop("DATABASE_OWNER_URL")
        is_(rig.run("--foreground")[0], 3, "the same without owner_url")
        rig.env["DATABASE_OWNER_URL"] = owner
        rig.start()
        like(rig.log_text(), r"applied core/%s_later\.sql" % next_number, "with it, it is applied")
        rig.stop()

        rig.command = plain
        status, out = rig.run("--foreground")
        is_(status, 3, "a schema that is newer than the program: status 3")
        like(out, "core/%s|core.*%d" % (next_number, int(next_number)), "the migration is named")
        pg.sql("drop table depot.later", "owner_url")
        os.unlink(later)


def roles(pg):
    with Rig(env=dict(pg.env(), DATABASE_URL=pg.urls["super_url"])) as rig:
        rig.start()
        reply = rig.api("GET", "/health").json()
        ok("superuser" in str(reply.get("degraded")), "a superuser as the daemon's role: degraded in /health", reply)
        like(rig.ctl("status")[1], "superuser", "and in depotctl status")
        rig.stop()


def main():
    began = time.monotonic()
    with Cluster() as pg:
        note("server after %.1f s" % (time.monotonic() - began))
        with Line(pg) as line:
            wrong_password(pg, line)
            away_at_start(line)
            cut_and_back(pg, line)
        behind_pgbouncer(pg)
        roles(pg)
        schema(pg)
    done()


main()
