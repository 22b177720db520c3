# The API over HTTP: routes, arguments, tokens and roles, problem documents, audit, OpenAPI.
# test-timeout: 300
import os
import re
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, Rig, done, eventually, is_, like, ok, skip  # noqa: E402

WEB = "[plugin http]\n[plugin web]\nfile = %s\n" % os.path.join(BUILD, "tests", "plugins", "web.so")


def health(rig):
    r = rig.api("GET", "/health", token=False)
    is_((r.status, r.json()["status"], r.headers["Content-Type"]), (200, "ok", "application/json"), "health on api is JSON")
    r = rig.admin("GET", "/health", token=False)
    is_((r.status, r.text), (200, "ok"), "health on admin is the text ok")
    r = rig.api("GET", "/ready", token=False)
    is_((r.status, r.json()["ready"]), (200, True), "ready needs no token")
    ok({d["name"] for d in r.json()["dependencies"]} >= {"database", "plugin http", "plugin web"}, "ready names each dependency", r)
    r = rig.api("HEAD", "/health", token=False)
    is_((r.status, r.body), (200, b""), "HEAD has no body")
    ok(int(r.headers["Content-Length"]) > 0, "but its length")


def problems(rig):
    r = rig.api("GET", "/v1/nothing")
    p = r.json()
    is_((r.status, r.headers["Content-Type"], p["code"], p["status"]), (404, "application/problem+json", "NOT_FOUND", 404),
        "an unknown path is a problem document")
    ok(isinstance(p["detail"], str) and p["detail"] and p["title"] and p["type"].startswith("urn:") and p["retry"] == "no",
       "with detail, title, type and retry", p)
    is_(r.headers["X-Request-Id"], p["request_id"], "the request id is in header and body")
    r = rig.api("GET", "/health", headers={"X-Request-Id": "abc-1.2_X"})
    is_(r.headers["X-Request-Id"], "abc-1.2_X", "a sane request id is kept")
    for bad in ("a b", "a" * 65, "a;b", "\xe4"):
        got = rig.api("GET", "/health", headers={"X-Request-Id": bad.encode("latin-1")}).headers["X-Request-Id"]
        ok(re.fullmatch("[0-9a-f]{16}", got), "an odd one is not: %r" % bad, got)
    r = rig.api("PUT", "/v1/tokens")
    is_((r.status, r.headers["Allow"], r.json()["code"]), (405, "POST, GET", "METHOD_NOT_ALLOWED"), "405 says what is allowed")
    r = rig.api("GET", "/t/database")
    is_((r.status, r.json()["detail"]), (500, "relation hidden_table does not exist"), "an admin sees what the database said")
    r = rig.api("GET", "/t/silent")
    is_((r.status, r.json()["code"]), (500, "BUG"), "a handler that fails without words is a bug")
    r = rig.api("GET", "/t/nothing")
    is_((r.status, r.body, r.headers["X-Said"]), (204, b"", "nothing"), "a handler without reply gives 204")
    r = rig.api("GET", "/t/headers", headers={"X-Probe": "p"})
    is_((r.headers["X-Echo"], r.headers["X-Bad"], r.headers["Cache-Control"]), ("p", None, "max-age=5"),
        "headers go in and out, split ones do not")
    is_(r.text, r.headers["X-Request-Id"], "the handler knows the request id")


def arguments(rig):
    r = rig.api("POST", "/t/echo/a%2Fb%20c?limit=7&tags=x,y", {"name": "n", "size": "1k", "any": None, "items": [{"key": "k"}]})
    is_((r.status, r.json()), (200, {"id": "a/b c", "limit": 7, "tags": ["x", "y"], "name": "n", "size": 1024, "any": None,
                                     "items": [{"key": "k"}]}), "path, query and body are one object")
    is_(rig.api("POST", "/t/echo/1").json(), {"id": "1", "limit": 10}, "defaults; a body that may be empty may be absent")
    is_(rig.api("POST", "/t/echo/1?tags=a&tags=b").json()["tags"], ["a", "b"], "a list may be given item by item")
    r = rig.api("POST", "/t/echo/1?limit=900&lmit=1", {"name": "", "colour": "gren", "nmae": 1, "items": [{"password": 1}]})
    got = {f["pointer"]: f["message"] for f in r.json()["fields"]}
    is_((r.status, sorted(got)), (422, ["/colour", "/items/0/key", "/items/0/password", "/limit", "/lmit", "/name", "/nmae"]),
        "all faults at once")
    like(got["/nmae"], 'did you mean "name"', "unknown members get a suggestion")
    like(got["/lmit"], 'did you mean "limit"', "and unknown parameters")
    like(got["/colour"], 'did you mean "green"', "and choices")
    like(r.json()["detail"], r"^limit: 900 is out of range 1\.\.500; ", "detail says it in words")
    is_(rig.api("POST", "/t/echo/1?limit=1&limit=2").status, 422, "a parameter given twice")
    like(rig.api("POST", "/t/echo/1", {"limit": 5}).text, "belongs into the query", "a query parameter in the body")
    like(rig.api("POST", "/t/echo/1", {"id": "2"}).text, "belongs into the path", "a path parameter in the body")
    like(rig.api("POST", "/t/echo/1?name=n").text, "belongs into the body", "a member of the body in the query")
    json = {"Content-Type": "application/json"}
    for body, status, what in (
            ("{\"name\":", 400, "half JSON"), ("[]", 422, "an array"), ("{\"name\":\"a\",\"name\":\"b\"}", 400, "a key twice"),
            ("{\"any\":" + "[" * 100 + "]" * 100 + "}", 400, "too deep"), (b"{\"name\":\"\xff\"}", 400, "no UTF-8"),
            ("{\"name\":\"\\u0000\"}", 400, "an escaped NUL"), ("", 200, "nothing"), ("null", 422, "null")):
        is_(rig.api("POST", "/t/echo/1", body, headers=json).status, status, "a body that is " + what)
    for kind, status in (("application/json; charset=utf-8", 200), ("application/vnd.x+json", 200), ("text/plain", 415),
                         ("application/x-www-form-urlencoded", 415), ("", 415), ("application/jsonx", 415)):
        is_(rig.api("POST", "/t/echo/1", "{}", headers={"Content-Type": kind}).status, status, "content type " + (kind or "empty"))
    is_(rig.api("POST", "/t/small", "{\"name\":\"a\"}" + " " * 2000, headers=json).status, 413, "larger than the route allows")
    is_(rig.api("POST", "/t/echo/1", "{\"any\":\"" + "a" * (2 << 20) + "\"}", headers=json).status, 413, "than the listener allows")
    is_(rig.api("POST", "/t/echo/1", "{\"any\":\"" + "a" * 2000000 + "\"}", headers=json).status, 200, "just within it")


def tokens(rig):
    is_(rig.api("GET", "/v1/whoami", token=False).status, 401, "no token")
    r = rig.api("GET", "/v1/whoami", token=False)
    like(r.headers["WWW-Authenticate"], "^Bearer", "401 names the scheme")
    is_(rig.api("GET", "/v1/whoami", token="nonsense").status, 401, "nonsense")
    made_up = "dpt_0123456789ab_" + "A" * 43
    is_([rig.api("GET", "/v1/whoami", token=made_up).status for _ in range(3)], [401] * 3, "a made-up token, seen again too")
    admin = rig.token()
    ok(os.stat(os.path.join(rig.state, "admin.token")).st_mode & 0o777 == 0o600, "admin.token is for its owner alone")
    wrong = admin[:-1] + ("A" if admin[-1] != "A" else "E")
    is_(rig.api("GET", "/v1/whoami", token=wrong).status, 401, "a right id with a wrong secret")
    r = rig.api("GET", "/v1/whoami", token=False, headers={"x-api-key": admin})
    is_(r.json()["role"], "admin", "x-api-key works")
    r = rig.api("GET", "/v1/whoami", headers={"x-api-key": made_up})
    is_(r.status, 401, "a wrong x-api-key is not rescued by a right bearer token")
    is_(rig.api("GET", "/health", token=made_up).status, 200, "open routes do not look at tokens")

    made = {}
    for role in ("viewer", "operator"):
        r = rig.api("POST", "/v1/tokens", {"name": "t-" + role, "role": role})
        is_(r.status, 201, "a token for a " + role)
        made[role] = r.json()
        is_(rig.api("GET", "/v1/whoami", token=made[role]["token"]).json()["actor"], "token:t-" + role, "it works")
    ok(re.fullmatch(r"dpt_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", made["viewer"]["token"]), "its shape", made["viewer"]["token"])
    viewer, operator = made["viewer"]["token"], made["operator"]["token"]
    r = rig.api("POST", "/t/echo/1", token=viewer)
    is_((r.status, r.json()["code"]), (403, "FORBIDDEN"), "a viewer may not operate")
    is_(rig.api("POST", "/t/echo/1", token=operator).status, 200, "an operator may")
    is_(rig.api("POST", "/v1/tokens", {"name": "x"}, token=operator).status, 403, "but makes no tokens")
    r = rig.api("GET", "/t/database", token=viewer)
    ok("hidden_table" not in r.text and r.status == 500, "who is no admin does not see what the database said", r)
    r = rig.api("POST", "/v1/tokens", {"name": "t-viewer"})
    is_(r.status, 409, "a name in force is taken")
    is_(rig.api("POST", "/v1/tokens", {"name": "x", "role": "root"}).status, 422, "an unknown role")
    listed = {t["name"]: t for t in rig.api("GET", "/v1/tokens").json()}
    ok("t-viewer" in listed and "hash" not in listed["t-viewer"] and "token" not in listed["t-viewer"], "the list has no secrets", listed)
    ok(eventually(5, lambda: {t["name"]: t for t in rig.api("GET", "/v1/tokens").json()}["t-viewer"]["last_used_at"]),
       "it says when a token was used")
    is_(rig.api("DELETE", "/v1/tokens/" + made["viewer"]["id"]).status, 200, "revoked")
    is_(rig.api("GET", "/v1/whoami", token=viewer).status, 401, "and at once without effect")
    is_(rig.api("DELETE", "/v1/tokens/" + made["viewer"]["id"]).status, 404, "not twice")
    is_(rig.api("POST", "/v1/tokens", {"name": "t-viewer"}).status, 201, "its name is free again")
    r = rig.api("POST", "/v1/tokens", {"name": "brief", "expires_in": "1s"})
    brief = r.json()["token"]
    ok(r.json()["expires_at"], "an expiry is told")
    is_(rig.api("GET", "/v1/whoami", token=brief).status, 200, "before it expires")
    time.sleep(1.1)
    is_(rig.api("GET", "/v1/whoami", token=brief).status, 401, "after it has expired")
    text = rig.log_text()
    ok(not any(t in text for t in (admin, viewer, operator, brief, made_up)), "no token stands in the log")
    return operator


def audit(rig, operator):
    rig.api("POST", "/t/echo/audited?limit=3", {"secret": "hunter2hunter2", "name": "n", "items": [{"key": "k", "password": "p"}]},
            headers={"X-Request-Id": "audit-me"})
    rows = rig.api("GET", "/v1/audit?limit=50").json()
    row = next((r for r in rows if r["request_id"] == "audit-me"), {})
    is_((row.get("actor"), row.get("action"), row.get("target")),
        ("token:" + rig.api("GET", "/v1/whoami").json()["actor"].split(":", 1)[1], "POST /t/echo/{id}", "/t/echo/audited"), "a change is written down")
    is_((row.get("detail") or {}).get("args"), {"id": "audited", "limit": 3, "name": "n", "secret": "***", "items": "***"},
        "with its arguments but without secrets")
    is_((row.get("detail") or {}).get("status"), 200, "and its outcome")
    rig.api("POST", "/v1/tokens", {"name": "x"}, token=operator, headers={"X-Request-Id": "refused-1"})
    found = eventually(5, lambda: [r for r in rig.api("GET", "/v1/audit?limit=50").json() if r["request_id"] == "refused-1"])
    ok(found and found[0]["detail"]["status"] == 403 and found[0]["actor"] == "token:t-operator", "so is a refusal", found)
    ok(not any(r["action"].startswith("GET") for r in rows), "reading is not")
    threads = [threading.Thread(target=lambda: [rig.api("POST", "/t/echo/many") for _ in range(10)]) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    rows = rig.api("GET", "/v1/audit?limit=500").json()
    is_(len([r for r in rows if r["target"] == "/t/echo/many"]), 80, "each of many at once has its row")
    r = rig.api("GET", "/v1/audit/verify")
    ok(r.status == 200 and r.json()["intact"] and r.json()["rows"] >= 5, "the chain holds", r)
    page = rig.api("GET", "/v1/audit?limit=2").json()
    is_([r["id"] for r in rig.api("GET", "/v1/audit?limit=2&before=%d" % page[1]["id"]).json()],
        [r["id"] for r in rig.api("GET", "/v1/audit?limit=4").json()][2:], "pages follow one another")


def seen_from_outside(rig):
    r = rig.api("GET", "/metrics")
    like(r.headers["Content-Type"], r"^text/plain; version=0\.0\.4", "metrics on api are Prometheus text")
    like(r.text, r'^depot_http_requests_total\{route="/t/echo/\{id\}",method="POST",code="200"\} \d+', "requests by route, method and code")
    like(r.text, r'^depot_http_request_seconds_count\{route="/health"\}', "and their time")
    like(r.text, r"^depot_http_in_flight 1", "and those under way")
    like(r.text, r'^depot_http_connections\{listener="api"\} \d', "and connections")
    ok(not re.search(r'route="/v1/nothing"', r.text), "paths that clients make up are no labels")
    r = rig.admin("GET", "/metrics")
    is_((r.headers["Content-Type"], "now_utc" in r.json()), ("application/json", True), "on admin JSON")
    like(rig.admin("GET", "/metrics", headers={"Accept": "text/plain"}).text, "^# TYPE", "unless text is asked for")
    like(rig.admin("GET", "/metrics/prom").text, "^# TYPE", "/metrics/prom is always text")
    is_(rig.api("GET", "/metrics", token=False).status, 401, "metrics need a token")
    ok(any(p["name"] == "http" for p in rig.api("GET", "/v1/plugins").json()), "plugins are listed")
    r = rig.api("GET", "/v1/plugins/web")
    ok(r.status == 200 and "/t/echo/{id}" in r.text, "and shown", r)
    is_(rig.api("GET", "/v1/plugins/wbe").status, 404, "an unknown one is not")
    ok(any(row["option"] == "max_body" or row["option"] == "threads" for row in rig.api("GET", "/v1/config").json()), "the configuration is shown")
    r = rig.api("GET", "/v1/status").json()
    ok(r["ready"] and r["database"] and r["uptime_ms"] > 0 and r["degraded"] == [], "status", r)
    lines = rig.api("GET", "/v1/logs?limit=1000").json()
    ok(any(line.get("event") == "http.listening" for line in lines), "the log is served", lines[:3])
    ok(any(line.get("event") == "http.request" and line.get("request_id") for line in lines), "its lines carry request ids", lines[:9])


def control(rig):
    import http.client
    import socket

    class Local(http.client.HTTPConnection):
        def connect(self):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.connect(os.path.join(rig.state, "depotd.sock"))

    def ask(path):
        c = Local("localhost", timeout=10)
        c.request("GET", path)
        r = c.getresponse()
        body = r.read()
        c.close()
        return r.status, body

    is_(os.stat(os.path.join(rig.state, "depotd.sock")).st_mode & 0o777, 0o600, "the control socket is for its owner alone")
    like(ask("/v1/whoami")[1], r'"actor":"uid:%d","role":"admin","listen":"control"' % os.getuid(), "whose user is admin without a token")
    is_(ask("/health")[0], 200, "it serves every route")


def resolve(doc, ref):
    node = doc
    for part in ref.lstrip("#/").split("/"):
        node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


def walk(node, path=""):
    yield path, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from walk(value, path + "/" + key)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from walk(value, "%s/%d" % (path, i))


def openapi(rig):
    r = rig.api("GET", "/openapi.json")
    doc = r.json()
    is_((r.status, doc["openapi"], doc["info"]["title"]), (200, "3.1.0", "depotd"), "the OpenAPI document")
    broken = [node["$ref"] for _, node in walk(doc) if isinstance(node, dict) and "$ref" in node and not resolves(doc, node["$ref"])]
    is_(broken, [], "every reference leads somewhere")
    ids, faults = [], []
    for path, item in doc["paths"].items():
        names = set(re.findall(r"\{(\w+)\}", path))
        for method, op in item.items():
            ids.append(op["operationId"])
            given = {p["name"] for p in op.get("parameters", []) if p["in"] == "path"}
            if given != names or any(p["in"] == "path" and not p["required"] for p in op.get("parameters", [])):
                faults.append("%s %s: path parameters %s" % (method, path, given))
            if method not in ("get", "put", "post", "delete", "patch", "head", "options") or not op["responses"] or not op.get("tags"):
                faults.append("%s %s" % (method, path))
            for p in op.get("parameters", []):
                if p["in"] not in ("path", "query") or "schema" not in p:
                    faults.append("%s %s %s" % (method, path, p["name"]))
            for status, response in op["responses"].items():
                if not re.fullmatch("[1-5](XX|[0-9][0-9])|default", status) or not ("$ref" in response or response.get("description")):
                    faults.append("%s %s %s" % (method, path, status))
    is_(faults, [], "operations are complete")
    is_(len(ids), len(set(ids)), "operation ids are unique")
    ok(doc["paths"]["/v1/tokens"]["post"]["x-depot-cli"] == "token create <name>", "verbs of depotctl are noted")
    ok(doc["paths"]["/t/upload"]["put"]["requestBody"]["content"] == {"application/octet-stream": {}}, "uploads are bytes")
    ok({"bearer": []} in doc["security"] and doc["paths"]["/health"]["get"]["security"] == [], "security is stated")
    try:
        import jsonschema
    except ImportError:
        skip("schemas are valid", "python3-jsonschema is not installed")
        return
    schemas = [node for path, node in walk(doc) if path.endswith("/schema")] + list(doc["components"]["schemas"].values())
    bad = []
    for schema in schemas:
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as e:
            bad.append("%s: %s" % (schema, e.message))
    ok(len(schemas) > 30 and not bad, "%d schemas are valid JSON Schema 2020-12" % len(schemas), *bad)
    problem = dict(doc["components"]["schemas"]["Problem"])
    errors = list(jsonschema.Draft202012Validator(problem).iter_errors(rig.api("POST", "/t/echo/1", {"nmae": 1}).json()))
    is_([e.message for e in errors], [], "problem documents fit theirs")
    schema = doc["paths"]["/t/echo/{id}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for body in ({"name": "n", "size": "1k"}, {"size": 5, "any": None}, {"nmae": 1}, {"name": ""}, {"items": [{}]}, {"colour": "x"}):
        fits = not list(jsonschema.Draft202012Validator(schema).iter_errors(body))
        is_(rig.api("POST", "/t/echo/1", body).status == 200, fits, "schema and server judge alike: %s" % body)


def resolves(doc, ref):
    try:
        return resolve(doc, ref) is not None
    except KeyError:
        return False


with Rig(conf=None) as rig:
    rig.write_conf("10-web.ini", WEB)
    rig.start()
    health(rig)
    problems(rig)
    arguments(rig)
    audit(rig, tokens(rig))
    seen_from_outside(rig)
    control(rig)
    openapi(rig)
    is_(rig.stop(), 0, "a clean stop")
done()
