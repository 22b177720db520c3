"""test_enqueue.py - POST /jobs by many clients at a time, whose requests share a transaction: each has its own answer, what was
acknowledged is there once, and each stands in the audit log. Clients that go, a daemon that is stopped or killed, a database that is away.
test-tsan: yes"""
import collections
import http.client
import json
import os
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import Rig, done, eventually, is_, like, ok  # noqa: E402
from servers import Cluster, Line  # noqa: E402

CLIENTS, PER_MINUTE = 12, 200
CONF = """
[plugin http]
[plugin queue]
max_payload = 1KiB
max_enqueue_per_minute = %d
[daemon]
drain_timeout = 20s
""" % PER_MINUTE


class Client(threading.Thread):
    """Sends the jobs that it is given, or like jobs for ever, on one connection; notes the answers: (status, body, request id). None: there was none."""

    def __init__(self, rig, jobs):
        super().__init__(daemon=True)
        self.rig, self.jobs, self.answers = rig, jobs, []
        self.token = rig.token()
        self.start()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.rig.admin_port, timeout=60)
        try:
            for job in self.jobs:
                connection.request("POST", "/jobs", json.dumps(job), {"Content-Type": "application/json", "Authorization": "Bearer " + self.token})
                reply = connection.getresponse()
                self.answers.append((reply.status, json.loads(reply.read()), reply.getheader("X-Request-Id")))
        except (OSError, http.client.HTTPException):
            self.answers.append(None)
        finally:
            connection.close()


def job(queue, n=0, **more):
    return dict({"queue": queue, "job_type": "nobody.serves", "payload_json": {"n": n}}, **more)


def for_ever(queue):
    """Long runs of jobs that somebody serves, and of others: those that come together are of one type, mostly."""
    n = 0
    while True:
        n += 1
        yield job(queue, job_type="e.quick" if n // 50 % 2 else "nobody.serves")


def answers_of(clients, seconds=120):
    until = time.monotonic() + seconds
    for c in clients:
        c.join(max(0, until - time.monotonic()))
    return [a for c in clients for a in c.answers]


def statuses(answers):
    return dict(collections.Counter(a[0] if a else None for a in answers))


def made(answers):
    return [a[1]["job_id"] for a in answers if a and a[0] == 200]


def there(pg, queue):
    return pg.sql("select id from pgflow.jobs where queue = '%s'" % queue).split()


def audited(pg, queue):
    """Answers by status, as the audit log has them."""
    rows = pg.sql("select detail ->> 'status', count(*) from depot.audit a, jsonb_array_elements(coalesce(detail -> 'requests',"
                  " jsonb_build_array(detail || jsonb_build_object('request_id', a.request_id)))) r"
                  " where action = 'POST /jobs' and r -> 'args' ->> 'queue' = '%s' and r ->> 'request_id' <> '' group by 1" % queue).split()
    return {int(status): int(n) for status, n in (row.split("|") for row in rows)}


def metric(rig, name):
    line = [t for t in rig.admin("GET", "/metrics/prom").text.splitlines() if t.startswith(name + " ")]
    return float(line[0].split()[1]) if line else 0


def burst(rig, pg):
    before = metric(rig, "depot_queue_groups_total")
    clients = [Client(rig, [job("burst", 15 * c + n) for n in range(15)]) for c in range(CLIENTS)]
    answers = answers_of(clients)
    is_(statuses(answers), {200: CLIENTS * 15}, "all are taken")
    is_(sorted(made(answers)), sorted(there(pg, "burst")), "each is there, once")
    rows = [tuple(line.split()) for line in pg.sql("select id || ' ' || (payload_json ->> 'n') || ' ' || request_id from pgflow.jobs where queue = 'burst'").splitlines()]
    is_(sorted(rows), sorted((a[1]["job_id"], str(15 * c + n), a[2]) for c, client in enumerate(clients) for n, a in enumerate(client.answers)),
        "under the id of its answer, with its request's")
    is_(audited(pg, "burst"), {200: CLIENTS * 15}, "and in the audit log")
    ok(int(pg.sql("select count(*) from depot.audit where detail ? 'requests'")) > 0, "whose rows may tell of several")
    is_(pg.sql("select count(distinct request_id) from pgflow.jobs where queue = 'burst'"), str(CLIENTS * 15), "with its own request id")
    groups = metric(rig, "depot_queue_groups_total") - before
    ok(0 < groups < CLIENTS * 15 / 2, "in fewer transactions", "%d" % groups)


def mixed(rig, pg):
    """One of each kind in each client's turn."""
    kinds = [job("mixed"), job("mixed", job_type=" "), job("mixed", priority="high"), job("mixed", payload_json="x" * 2000),
             job("mixed", key="same"), job("mixed", unique={"key": "only", "on_conflict": "reject"}),
             job("mixed", unique={"key": "first"}), job("mixed", after=["00000000-0000-7000-8000-000000000000"]), job("mixed", payload_json=None)]
    clients = [Client(rig, kinds * 2) for _ in range(6)]
    answers = answers_of(clients)
    by_kind = [[c.answers[i] for c in clients for i in range(k, len(kinds) * 2, len(kinds))] for k in range(len(kinds))]
    is_([statuses(a) for a in by_kind], [{200: 12}, {422: 12}, {422: 12}, {413: 12}, {200: 12}, {200: 1, 409: 11}, {200: 12}, {422: 12}, {200: 12}],
        "each has its own answer")
    is_([len(set(made(a))) for a in by_kind], [12, 0, 0, 0, 1, 1, 1, 0, 12], "with a key there is one job")
    like(by_kind[5][-1][1]["detail"] + by_kind[7][0][1]["detail"], "only.*there is no job 00000000-0000-7000", "with the reason")
    is_(sorted(set(made(answers))), sorted(there(pg, "mixed")), "what was taken is there, and nothing else")
    is_(audited(pg, "mixed"), {k: v for k, v in statuses(answers).items() if k != 422} | {422: 24}, "the audit log has what a handler saw")
    is_(pg.sql("select count(*) from queue.ingest_decisions where queue = 'mixed' and reason_code = 'PAYLOAD_TOO_LARGE'"), "12", "refusals are kept")
    is_(pg.sql("select count(*) from pgflow.jobs where queue = 'mixed' and payload_json = 'null'"), "12", "arguments may be null")


def encrypted_elsewhere(rig, pg):
    """A queue whose arguments other daemons encrypt, and this one cannot."""
    pg.sql("insert into queue.queue_policies (queue, encrypt_args) values ('vault', true)")
    clients = [Client(rig, [job("vault"), job("open")] * 3) for _ in range(6)]
    answers = answers_of(clients)
    by_queue = [statuses(a for c in clients for a in c.answers[k::2]) for k in range(2)]
    is_(by_queue, [{409: 18}, {200: 18}], "plain arguments are refused where they are to be encrypted, and nobody else's")
    like(clients[0].answers[0][1]["detail"], "takes encrypted arguments only", "with the reason")
    is_((len(there(pg, "vault")), len(there(pg, "open"))), (0, 18), "what was taken is there")
    is_(len(answers), 36, "all have an answer")


def rate(rig, pg):
    answers = answers_of([Client(rig, [job("rate")] * (PER_MINUTE // 5)) for _ in range(7)])
    if len(set(pg.sql("select window_start from queue.enqueue_rate_counters where queue = 'rate'").splitlines())) == 1:
        is_(statuses(answers), {200: PER_MINUTE, 429: PER_MINUTE // 5 * 2}, "a minute's allowance is not exceeded")
    is_(len(there(pg, "rate")), statuses(answers)[200], "what was taken is there")
    is_(pg.sql("select count(*) from queue.ingest_decisions where queue = 'rate'"), str(statuses(answers).get(429, 0)), "the rest is recorded")
    is_(audited(pg, "rate"), statuses(answers), "and audited")


def clients_go(rig, pg):
    body = json.dumps(job("gone")).encode()
    head = ("POST /jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % (rig.token(), len(body))).encode()
    def send_and_go(what):
        with socket.create_connection(("127.0.0.1", rig.admin_port)) as s:
            s.sendall(what)
    for _ in range(20):
        send_and_go(head + body)
    ok(eventually(10, lambda: metric(rig, "depot_http_in_flight") <= 1), "requests of clients that went end")
    for _ in range(5):
        send_and_go(head + body[:10])
    n = len(there(pg, "gone"))
    ok(0 <= n <= 20, "what came whole may have been done, and nothing else", n)
    is_(audited(pg, "gone").get(200, 0), n, "what was done is in the audit log")


def database_away(rig, pg, line):
    line.cut()
    began = time.monotonic()
    answers = answers_of([Client(rig, [job("away")] * 2) for _ in range(6)])
    ok(time.monotonic() - began < 20, "the answer comes in time")
    is_(statuses(answers), {503: 12}, "503 while the database is away")
    ok({a[1]["code"] for a in answers} <= {"DB_UNAVAILABLE", "DB_COMMIT_UNKNOWN"}, "with the documented codes", answers[:2])
    line.restore()
    ok(eventually(30, lambda: rig.admin("POST", "/jobs", job("back")).status == 200), "afterwards it goes on")
    known = {a[1]["code"] for a in answers} == {"DB_UNAVAILABLE"}
    ok(not known or there(pg, "away") == [], "what was refused has not been done")


def stopped(rig, pg):
    clients = [Client(rig, for_ever("stop")) for _ in range(CLIENTS)]
    ok(eventually(30, lambda: all(len(c.answers) > 3 for c in clients)), "a burst is under way")
    is_(rig.stop(), 0, "the daemon stops in order")
    answers = answers_of(clients)
    ok(set(statuses(answers)) <= {200, 503, None}, "each request is taken or refused, or its connection was closed before", statuses(answers))
    is_(sorted(made(answers)), sorted(there(pg, "stop")), "what is there was acknowledged, and the other way round")


def killed(rig, pg):
    rig.start()
    clients = [Client(rig, for_ever("kill")) for _ in range(CLIENTS)]
    ok(eventually(30, lambda: all(len(c.answers) > 3 for c in clients)), "a burst is under way")
    rig.kill()
    answers = answers_of(clients)
    is_(set(statuses(answers)), {200, None}, "until the kill all were taken")
    rows = there(pg, "kill")
    ok(set(made(answers)) <= set(rows) and len(set(rows)) == len(rows), "what was acknowledged is there, once")
    ok(len(rows) - len(made(answers)) <= CLIENTS, "beside it at most what each client waited for", "%d, %d" % (len(rows), len(made(answers))))
    is_(audited(pg, "kill"), {200: len(rows)}, "the audit log has exactly what was done")
    is_(pg.sql("select broken_id is null from depot.audit_verify()"), "t", "its chain holds")


def at_once(rig, pg):
    """Jobs that find somebody idle."""
    ok(eventually(20, lambda: pg.sql("select count(*) from queue.job_types where job_type = 'e.quick'") == "1"), "a script serves them")
    before = metric(rig, "depot_queue_handed_off_total")
    for n in range(8):
        rig.admin("POST", "/jobs", job("idle", n, job_type="e.quick"))
        time.sleep(0.1)
    ok(eventually(20, lambda: pg.sql("select count(*) from pgflow.jobs where queue = 'idle' and status = 'succeeded'") == "8"), "they run")
    ok(metric(rig, "depot_queue_handed_off_total") - before >= 4, "leased by the transaction that makes them", metric(rig, "depot_queue_handed_off_total"))
    is_(pg.sql("select count(*), max(attempt_no) from pgflow.jobs j, queue.tries(j.id) where queue = 'idle'"), "8|1", "each once")
    pg.sql("select queue.pause('held', 'me'); select queue.set_policy('full', '{\"max_in_flight\": 0}', 'me')")
    for queue in ("held", "full"):
        rig.admin("POST", "/jobs", job(queue, job_type="e.quick"))
    time.sleep(1)
    is_(pg.sql("select status, count(*) from pgflow.jobs where queue in ('held', 'full') group by 1"), "queued|2", "a paused queue and a full one hold them")
    pg.sql("select queue.resume('held', 'me')")
    ok(eventually(20, lambda: pg.sql("select status from pgflow.jobs where queue = 'held'") == "succeeded"), "until it goes on")


def main():
    with Cluster() as pg, Line(pg) as line, Rig(conf=None, env=line.env()) as rig:
        rig.write_script("handlers/e.lua", 'depot.job("e.quick") { run = function(job) return job.args.n end }')
        rig.write_conf("10-queue.ini", CONF)
        rig.start()
        at_once(rig, pg)
        burst(rig, pg)
        mixed(rig, pg)
        encrypted_elsewhere(rig, pg)
        rate(rig, pg)
        clients_go(rig, pg)
        database_away(rig, pg, line)
        rig.write_conf("10-queue.ini", CONF.replace(str(PER_MINUTE), "0"))
        rig.signal(signal.SIGHUP)
        stopped(rig, pg)
        killed(rig, pg)
    done()


main()
