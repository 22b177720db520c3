# Bytes through the HTTP door: uploads, streamed replies, files, clients that go away, and stopping in the middle of it.
# test-timeout: 300
# test-tsan: yes
import http.client
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, Rig, done, eventually, is_, like, ok, skip  # noqa: E402

WEB = """[daemon]
drain_timeout = 3s
[plugin http]
[plugin web]
file = %s
[listen tls]
address = 127.0.0.1:%%d
tls_cert = %%s/cert.pem
tls_key = %%s/key.pem
""" % os.path.join(BUILD, "tests", "plugins", "web.so")


def connection(rig):
    return http.client.HTTPConnection("127.0.0.1", rig.api_port, timeout=30)


def auth(rig):
    return {"Authorization": "Bearer " + rig.token()}


def raw(rig, method, path, headers=""):
    s = socket.create_connection(("127.0.0.1", rig.api_port), timeout=30)
    s.sendall(("%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n" % (method, path, rig.token(), headers)).encode())
    return s


def in_flight(rig):
    return int(re.search(r"^depot_http_in_flight (\d+)", rig.api("GET", "/metrics").text, re.M).group(1))


def rss(rig):
    with open("/proc/%d/status" % rig.process.pid, encoding="ascii") as file:
        return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) // 1024


def uploads(rig):
    data = os.urandom(1 << 20) * 24 + b"the end"
    c = connection(rig)
    c.request("PUT", "/t/upload", data, auth(rig))
    r = c.getresponse()
    got = __import__("json").loads(r.read())
    is_(got, {"bytes": len(data), "adler": zlib.adler32(data), "said": len(data)}, "24 MiB arrive as they were sent")
    c.request("PUT", "/t/upload", (data[i:i + 70001] for i in range(0, len(data), 70001)), auth(rig), encode_chunked=True)
    got = __import__("json").loads(c.getresponse().read())
    is_(got, {"bytes": len(data), "adler": zlib.adler32(data), "said": -1}, "chunked too, on the same connection")
    c.request("PUT", "/t/upload", b"", auth(rig))
    is_(__import__("json").loads(c.getresponse().read())["bytes"], 0, "an empty one")
    c.close()
    small = data[:2 << 20]
    r = rig.api("PUT", "/t/upload?delay=5ms", small)
    is_(r.json()["adler"], zlib.adler32(small), "a handler that is slower than the client holds it back")
    ok(rss(rig) < 200, "memory stays bounded", "%d MB" % rss(rig))
    is_(rig.api("PUT", "/t/upload/small", data[:100000]).status, 200, "as large as the route allows")
    is_(rig.api("PUT", "/t/upload/small", data[:100001]).status, 413, "one byte more")
    c = connection(rig)
    c.request("PUT", "/t/upload/small", (data[i:i + 50000] for i in range(0, 400000, 50000)), auth(rig), encode_chunked=True)
    r = c.getresponse()
    is_((r.status, b"larger than 100000" in r.read()), (413, True), "more than allowed, and not said before")
    c.request("GET", "/health")
    is_(c.getresponse().read() != b"", True, "the connection goes on")
    c.close()
    r = rig.api("PUT", "/t/upload?stop_at=1000000", data[:6 << 20])
    is_((r.status, r.json()["detail"]), (409, "that is enough"), "a handler that refuses in the middle is heard")
    is_(rig.api("PUT", "/t/upload", data[:3 << 20], token=False).status, 401, "a refused upload is read to its end")
    threads, got = [], []
    for i in range(40):
        body = data[i * 1000:(2 << 20) + i]
        t = threading.Thread(target=lambda b=body: got.append(rig.api("PUT", "/t/upload", b).json()["adler"] == zlib.adler32(b)))
        t.start()
        threads.append(t)
    for t in threads:
        t.join()
    is_(got, [True] * 40, "forty at a time, more than there are threads")


def streams(rig):
    block = (bytes(range(97, 123)) * 400)[:10000]
    want = (block * 2101)[:21000003]
    for how in ("no", "yes"):
        r = rig.api("GET", "/t/stream?bytes=21000003&length=" + how)
        is_((r.status, len(r.body), r.body == want), (200, 21000003, True), "21 MB come as they were written, length said: " + how)
        is_(r.headers["Content-Length"], "21000003" if how == "yes" else None, "and the header says so")
    is_(rig.api("GET", "/t/stream?bytes=0").body, b"", "an empty one")
    r = rig.api("HEAD", "/t/stream?bytes=21000003&length=yes")
    is_((r.status, r.headers["Content-Length"], r.body), (200, "21000003", b""), "HEAD says the length and sends nothing")
    for how in ("no", "yes"):
        try:
            r = rig.api("GET", "/t/stream?bytes=5000000&break_at=1000000&length=" + how)
            broken = "got all"
        except (http.client.IncompleteRead, ConnectionResetError):
            broken = "broken"
        is_(broken, "broken", "a stream that fails does not look complete, length said: " + how)
    s = raw(rig, "GET", "/t/stream?bytes=3000000")
    got = b""
    while len(got) < 3000000:
        got += s.recv(20000)
        time.sleep(0.001)
    s.close()
    ok(len(got) >= 3000000, "a slow reader gets everything")


def files(rig):
    path = os.path.join(rig.dir, "file")
    data = os.urandom(3 << 20)
    with open(path, "wb") as file:
        file.write(data)
    is_(rig.api("GET", "/t/file?path=" + path).body == data, True, "a file")
    is_(rig.api("GET", "/t/file?path=%s&offset=1000&length=5" % path).body, data[1000:1005], "a part of it")
    is_(rig.api("GET", "/t/file?path=%s&offset=%d" % (path, len(data))).body, b"", "its end")
    if os.geteuid() != 0:
        skip("no descriptor stays open", "needs root to look at them: the process shows nothing of itself to others")
        return path, data
    before = len(os.listdir("/proc/%d/fd" % rig.process.pid))
    for _ in range(50):
        rig.api("GET", "/t/file?path=%s&length=100" % path)
    s = raw(rig, "GET", "/t/file?path=" + path)
    s.recv(1000)
    s.close()
    ok(eventually(10, lambda: len(os.listdir("/proc/%d/fd" % rig.process.pid)) <= before + 1), "no descriptor stays open")
    return path, data


def gone(rig):
    s = raw(rig, "PUT", "/t/upload", "Content-Length: 1000000\r\n")
    s.sendall(b"x" * 1000)
    time.sleep(0.2)
    s.close()
    ok(eventually(10, lambda: re.search("web.upload_failed.*after 1000 bytes: the client closed the connection", rig.log_text())),
       "an upload whose client has gone ends")
    s = raw(rig, "GET", "/t/stream?bytes=100000000000")
    s.recv(1000)
    s.close()
    ok(eventually(10, lambda: re.search("web.stream_failed.*the client closed the connection", rig.log_text())),
       "so does a stream")
    s = raw(rig, "GET", "/t/ticks")
    is_(b"tick" in s.recv(1000) + s.recv(1000), True, "events come while the handler runs")
    s.close()
    ok(eventually(10, lambda: "web.ticks_ended" in rig.log_text()), "and end when nobody listens")
    waiting = [raw(rig, "GET", "/t/sleep?wait=1s") for _ in range(20)]
    time.sleep(0.2)
    for s in waiting:
        s.close()
    ok(eventually(20, lambda: in_flight(rig) == 1), "requests without clients leave nothing behind", in_flight(rig))


def busy(rig):
    """Slow handlers hold no HTTP thread: the quick route answers at once beside them."""
    slow = [raw(rig, "GET", "/t/sleep?wait=700ms") for _ in range(6)]
    time.sleep(0.1)
    times = []
    for _ in range(50):
        started = time.monotonic()
        rig.api("GET", "/v1/whoami")
        times.append(time.monotonic() - started)
    ok(sorted(times)[45] < 0.15, "quick requests pass slow ones", sorted(times)[-5:])
    is_([s.recv(100)[:12] for s in slow], [b"HTTP/1.1 200"] * 6, "which are answered too")
    for s in slow:
        s.close()


def tls(rig, port, path, data):
    context = ssl.create_default_context(cafile=os.path.join(rig.dir, "cert.pem"))
    context.check_hostname = False
    c = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    c.request("GET", "/v1/whoami", headers=auth(rig))
    r = c.getresponse()
    is_((r.status, b'"listen":"api"' in r.read()), (200, True), "HTTPS")
    c.request("GET", "/t/file?path=" + path, headers=auth(rig))
    is_(c.getresponse().read() == data, True, "a file by HTTPS")
    c.request("GET", "/t/stream?bytes=5000000", headers=auth(rig))
    is_(len(c.getresponse().read()), 5000000, "a stream by HTTPS")
    c.request("PUT", "/t/upload", data, headers=auth(rig))
    is_(__import__("json").loads(c.getresponse().read())["adler"], zlib.adler32(data), "an upload by HTTPS")
    c.close()
    try:
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        c.request("GET", "/health")
        status = c.getresponse().status
    except (OSError, http.client.HTTPException) as e:
        status = type(e).__name__
    ok(status != 200, "plain HTTP is not answered there", status)


def stop_in_the_middle(rig):
    """One of each kind is under way when the daemon is told to stop."""
    slow = raw(rig, "GET", "/t/sleep?wait=500ms")
    up = raw(rig, "PUT", "/t/upload", "Content-Length: 1000000\r\n")
    up.sendall(b"x" * 1000)
    held = raw(rig, "PUT", "/t/upload?delay=100ms", "Content-Length: 100000000\r\n")
    held.setblocking(False)
    down = raw(rig, "GET", "/t/stream?bytes=100000000000")
    ticks = raw(rig, "GET", "/t/ticks")
    idle = raw(rig, "GET", "/health")
    try:
        for _ in range(1000):
            held.send(b"y" * 65536)
    except BlockingIOError:
        pass
    time.sleep(0.3)
    started = time.monotonic()
    status = rig.stop(60)
    took = time.monotonic() - started
    is_(status, 0, "it stops with clients in the middle of everything")
    ok(took < 25, "within its deadline", "%.1f s" % took)
    slow.settimeout(5)
    like(slow.recv(1000).decode(), r"^HTTP/1.1 200.*\r\n[^\0]*Connection: close", "what had begun is finished, and its connection closed")
    for s in (slow, up, held, down, ticks, idle):
        s.close()


with Rig(conf=None) as rig:
    s = socket.create_server(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-keyout", os.path.join(rig.dir, "key.pem"), "-out", os.path.join(rig.dir, "cert.pem")],
                   check=True, stderr=subprocess.DEVNULL)
    os.chmod(os.path.join(rig.dir, "key.pem"), 0o644)
    rig.write_conf("10-web.ini", WEB % (port, rig.dir, rig.dir))
    rig.start()
    uploads(rig)
    streams(rig)
    path, data = files(rig)
    gone(rig)
    busy(rig)
    tls(rig, port, path, data)
    stop_in_the_middle(rig)
done()
