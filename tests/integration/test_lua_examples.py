"""test_lua_examples.py - shipped examples in a running daemon: a schedule that writes a report, calls to an API that has had enough. test-timeout: 120"""
import http.server
import os
import shutil
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import SRC, Rig, done, eventually, is_, like, ok
from servers import embedded_sql as sql

CONF = """
[plugin http]
[plugin queue]
encryption_keys = ${secret:queue}
[plugin storage]
[handler api.call]
grant = http:127.0.0.1
[limit api]
rate = 4/s
burst = 2
on = type:api.call
[queue api]
encrypt_args = yes
[schedule nightly-report]
cron = @yearly
run = job:reports/report.daily
args = {"project": "nightly"}
"""


class Api(http.server.BaseHTTPRequestHandler):
    """The third call is one too many."""
    calls = []
    lock = threading.Lock()

    def do_GET(self):
        with self.lock:
            self.calls.append((time.monotonic(), self.headers["Authorization"], self.headers["Idempotency-Key"]))
            too_many = len(self.calls) == 3
        body = b'{"thing": 1}'
        self.send_response(429 if too_many else 200)
        if too_many:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def ended(rig, job_id):
    def look():
        job = rig.admin("GET", "/jobs/" + job_id).json()
        return job if job["status"] in ("succeeded", "dlq", "canceled") else None
    return eventually(30, look) or rig.admin("GET", "/jobs/" + job_id).json()


def calls_are_spread(rig):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = "http://127.0.0.1:%d/things" % server.server_address[1]
    made = [rig.admin("POST", "/jobs", {"job_type": "api.call", "queue": "api", "payload_json": {"url": url, "token": "open-sesame"}}).json()["job_id"]
            for _ in range(8)]
    jobs = [ended(rig, i) for i in made]
    is_([(j["status"], j["result"]) for j in jobs], [("succeeded", {"status": 200, "value": {"thing": 1}})] * 8, "all calls are made")
    is_(len(Api.calls), 9, "one of them twice: the API had said 429")
    is_({c[1] for c in Api.calls}, {"Bearer open-sesame"}, "with their token")
    twice = [j for j in jobs if j["attempts"] == 2]
    is_(len(twice), 1, "that one was leased again")
    is_(sql(rig, "select status, charged from queue.attempts where job_id = '%s' order by attempt_no" % twice[0]["id"]), [("snoozed", "f"), ("succeeded", "t")],
        "and not charged for it")
    times = sorted(c[0] for c in Api.calls)
    ok(times[-1] - times[0] > (len(times) - 2) / 4 - 0.5, "no more a second than the limit allows", times)
    ok("open-sesame" not in rig.log_text(), "the token is in no log")
    server.shutdown()


def the_report_is_written(rig):
    sql(rig, "update queue.attempts set started_at = started_at - interval '1 day', finished_at = finished_at - interval '1 day'")
    status, _, err = rig.ctl("schedule", "run", "nightly-report")
    is_(status, 0, "the schedule is run by hand")
    job_id = eventually(20, lambda: (rig.admin("GET", "/jobs?queue=reports").json()["items"] or [{}])[0].get("id"))
    report = ended(rig, job_id) if ok(job_id, "it makes a job", err) else {"result": {}}
    like(report["result"]["pointer"], r"^depot://refs/nightly/.*_daily-\d{4}-\d\d-\d\d\.json", "the page has a name")
    status, out, err = rig.ctl("storage", "get", report["result"]["sha"])
    ok("| api | api.call | 9 | 0 | 0 |" in out, "and says what was done", status, out, err)


with Rig(conf=None) as r:
    os.makedirs(os.path.join(r.dir, "lua", "handlers"))
    for name in ("report.lua", "api.lua"):
        shutil.copy(os.path.join(SRC, "lua", "examples", name), os.path.join(r.dir, "lua", "handlers"))
    os.makedirs(os.path.join(r.state, "secrets"))
    with open(os.path.join(r.state, "secrets", "queue"), "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        file.write("ab" * 32)
    r.write_conf("50-test.ini", CONF)
    r.start()
    calls_are_spread(r)
    the_report_is_written(r)
done()
