"""test_lua_jobs.py - what handlers can do in a running daemon: arguments, grants, programs, requests, progress, checkpoints,
transactions that a late worker cannot commit. test-timeout: 300"""
import http.server
import json
import os
import ssl
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import Rig, done, eventually, is_, like, ok
from servers import embedded_sql as sql

HANDLERS = """
depot.job("l.args") { args = { width = { type = "integer", min = 1, default = 7 } }, run = function(job) return job.args end }
depot.job("l.see") { run = function(job) local keys = {} for k in pairs(job) do keys[#keys + 1] = k end table.sort(keys) return keys end }
depot.job("l.exec") { needs = { "exec:/bin/echo" }, run = function() return depot.exec { "/bin/echo", "hello" }.out end }
depot.job("l.more") { needs = { "exec:/bin/cat" }, max_attempts = 1, run = function() return depot.exec { "/bin/cat" } end }
depot.job("l.get") { needs = { "http" }, max_attempts = 1, run = function(job) return depot.http.get(job.args.url).json() end }
depot.job("l.snooze") { max_attempts = 1, run = function(job)
  if job.attempt == 1 then job:snooze("10ms", "not yet") end
  return job.attempt
end }
depot.job("l.steps") { run = function(job)
  job:progress(0.5, "half")
  local a = job:checkpoint("a", function() depot.event.emit("l.a", { n = 1 }) return { at = job.attempt } end)
  local b = job:checkpoint("b", function() return nil end)
  if job.attempt == 1 then job:fail("DEPENDENCY_DOWN", "after the checkpoints") end
  local ok, e = depot.try(job.checkpoint, job, "c", function() return ("x"):rep(70000) end)
  job:progress("nearly")
  job:heartbeat()
  return { a, b == nil, ok == nil, job:recorded("a"), job:recorded("none") == nil }
end }
depot.job("l.fan") { run = function(job)
  local v, e = depot.try(job.tx, job, function(tx) job:enqueue("lanes", "l.args", { width = 1 }) error("no") end)
  return job:tx(function(tx)
    return { job:enqueue("lanes", "l.args", { width = 2 }, { delay = "10ms" }), job:enqueue("lanes", "l.args", {}, { key = "k", delay = 0.01 }) }
  end)
end }
depot.job("l.late") { timeout = "60s", run = function(job)
  local v, e = depot.try(job.tx, job, function(tx)
    depot.event.emit("l.in", {})
    for i = 1, 600 do
      depot.sleep(0.05)
      if tx:value("select count(*) from queue.checkpoints where name = 'go'") > 0 then break end
    end
    tx:exec("insert into queue.checkpoints values ($1, 'effect', '1', $1)", job.id)
  end)
  local ok, h = depot.try(job.heartbeat, job)
  depot.log.warn("late: " .. e.code .. " " .. h.code)
  return true
end }
"""

CONF = """
[plugin http]
[plugin queue]
reap_interval = 300ms
[handler echo]
types = l.exec
grant = exec:/bin/echo
[handler l.get]
grant = http:127.0.0.1
[hook a]
on = l.a
run = lua:hooks/a.lua
[hook in]
on = l.in
run = lua:hooks/in.lua
"""


def enqueue(rig, job_type, payload):
    reply = rig.admin("POST", "/jobs", {"job_type": job_type, "payload_json": payload})
    return reply.json()["job_id"] if ok(reply.status == 200, "enqueue %s" % job_type, reply) else None


def ended(rig, job_id):
    def look():
        job = rig.admin("GET", "/jobs/" + job_id).json()
        return job if job["status"] in ("succeeded", "dlq", "canceled") else None
    return eventually(20, look) or rig.admin("GET", "/jobs/" + job_id).json()


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path, "agent": self.headers["User-Agent"]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def serve(folder=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    if folder:
        key, cert = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "1", "-subj",
                        "/CN=127.0.0.1"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def arguments_and_what_is_seen(rig):
    is_(ended(rig, enqueue(rig, "l.args", {}))["result"], {"width": 7}, "defaults are filled in")
    bad = ended(rig, enqueue(rig, "l.args", {"width": 0}))
    is_((bad["status"], bad["dlq_reason_code"], bad["last_error_code"]), ("dlq", "NON_RETRYABLE", "BAD_PAYLOAD"), "a bad one is dead at once")
    like(bad["last_error_message"], r"width: 0 is out of range", "naming the argument")
    is_(ended(rig, enqueue(rig, "l.see", {}))["result"], ["args", "attempt", "id", "max_attempts", "queue"], "no script sees the token")


def grants(rig):
    is_(ended(rig, enqueue(rig, "l.exec", {}))["result"], "hello\n", "what is granted works")
    more = ended(rig, enqueue(rig, "l.more", {}))
    is_((more["status"], more["last_error_code"]), ("dlq", "CAPABILITY"), "what is not does not")
    like(more["last_error_message"], r"types = l\.more and grant = exec:/bin/cat", "and says what to write")
    like(rig.log_text(), r"the job l\.more \(handlers/l\.lua\) needs exec:/bin/cat, which conf\.d does not grant", "the log has warned")
    status, text = rig.run("--check")
    is_(status, 0, "--check passes")
    like(text, r"handlers/l\.lua: warning: the job l\.more needs exec:/bin/cat", "and warns")
    rig.write_conf("70-more.ini", "[handler l.more]\ngrant = exec:/bin/cat, exec\n")
    is_(rig.ctl("config", "reload")[0], 0, "a grant comes by a reload")
    more = ended(rig, enqueue(rig, "l.more", {}))
    ok(more["status"] == "succeeded", "and counts", more)
    rig.write_conf("70-more.ini", "[handler l.more]\ngrant = exce:/bin/cat\n")
    status, text = rig.run("--check")
    is_(status, 78, "a grant that is none is refused")
    like(text, r"70-more\.ini:2: error: grant: there is no capability exce", "with its place")
    os.remove(os.path.join(rig.conf, "70-more.ini"))


def requests(rig):
    plain, secret = serve(), serve(rig.dir)
    url = "http://127.0.0.1:%d/x" % plain.server_address[1]
    got = ended(rig, enqueue(rig, "l.get", {"url": url}))
    is_((got["result"] or {}).get("path"), "/x", "a request is answered")
    like((got["result"] or {}).get("agent", ""), r"^depotd/", "and says who asks")
    got = ended(rig, enqueue(rig, "l.get", {"url": "https://127.0.0.1:%d/" % secret.server_address[1]}))
    is_(got["last_error_code"], "DEPENDENCY_DOWN", "a certificate that nobody vouches for is refused")
    like(got["last_error_message"], r"certificate", "in these words")
    plain.shutdown()
    secret.shutdown()


def steps(rig):
    snoozed = ended(rig, enqueue(rig, "l.snooze", {}))
    is_((snoozed["status"], snoozed["result"]), ("succeeded", 2), "a snooze is no failed attempt")
    job = ended(rig, enqueue(rig, "l.steps", {}))
    is_(job["result"], [{"at": 1}, True, True, [{"at": 1}], True], "checkpoints come from the first attempt")
    is_(sql(rig, "select doc from queue.job_progress where job_id = '%s'" % job["id"]), [('{"text": "nearly"}',)], "progress is there")
    is_(eventually(10, lambda: rig.log_text().count("checkpoint a ran")), 1, "what was recorded is not run again")
    fan = ended(rig, enqueue(rig, "l.fan", {}))
    is_([ended(rig, i)["result"]["width"] for i in fan["result"]], [2, 7], "jobs are made in the job's own transaction")
    is_(sql(rig, "select count(*), min(enqueued_by) from queue.jobs where queue = 'lanes'"), [("2", "job:" + fan["id"])], "and none by one that failed")


def late(rig):
    job_id = enqueue(rig, "l.late", {})
    ok(eventually(20, lambda: "late is inside" in rig.log_text()), "the transaction is open")
    ok(eventually(20, lambda: sql(rig, "select count(*) from queue.jobs where id = '%s'" % job_id) == [("1",)]), "after a second it is a row")
    sql(rig, "with j as (update queue.jobs set status = 'canceled', lease_token = null, lock_expires_at = null, locked_at = null, locked_by = null "
             "where id = '%s' returning id) insert into queue.checkpoints select id, 'go', '1', id from j" % job_id)
    ok(eventually(20, lambda: "late: LEASE_LOST LEASE_LOST" in rig.log_text()), "it is told that its lease is lost")
    is_(sql(rig, "select count(*) from queue.checkpoints where name = 'effect'"), [("0",)], "and what it did is undone")


with Rig(conf=None) as r:
    for folder, name, text in (("handlers", "l.lua", HANDLERS), ("hooks", "a.lua", 'depot.log.info("checkpoint a ran")'),
                               ("hooks", "in.lua", 'depot.log.info("late is inside")')):
        os.makedirs(os.path.join(r.dir, "lua", folder), exist_ok=True)
        with open(os.path.join(r.dir, "lua", folder, name), "w", encoding="utf-8") as file:
            file.write(text)
    r.write_conf("50-test.ini", CONF)
    r.start()
    arguments_and_what_is_seen(r)
    grants(r)
    requests(r)
    steps(r)
    late(r)
    log, tokens = r.log_text(), sql(r, "select token from queue.attempts")
    ok(not any(token in log for token, in tokens) and tokens, "no token is in the log")
    is_(r.stop(), 0, "it stops well")
done()
