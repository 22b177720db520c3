# The HTTP door against clients that do not play by the rules, byte by byte.
# test-timeout: 300
import os
import re
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, Rig, done, eventually, is_, like, ok  # noqa: E402

WEB = """[plugin http]
[plugin web]
file = %s
[listen api]
header_timeout = 2s
body_timeout = 2s
idle_timeout = 3s
max_connections = 60
[daemon]
threads = 2
queue = 16
[listen few]
address = 127.0.0.1:%%d
max_per_ip = 3
""" % os.path.join(BUILD, "tests", "plugins", "web.so")


class Client:
    def __init__(self, port, timeout=15):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.data = b""

    def send(self, data):
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)
        return self

    def more(self):
        try:
            got = self.sock.recv(65536)
        except ConnectionResetError:
            got = b""
        self.data += got
        return bool(got)

    def reply(self):
        """(status, headers in lower case, body) of the next reply; None when the connection ends first."""
        while b"\r\n\r\n" not in self.data:
            if not self.more():
                return None
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        n = int(headers.get("content-length", "0"))
        while len(self.data) < n:
            if not self.more():
                break
        body, self.data = self.data[:n], self.data[n:]
        return int(lines[0].split()[1]), headers, body

    def closed(self, seconds=5):
        """The server closes within that time; what still comes is thrown away."""
        self.sock.settimeout(seconds)
        try:
            while self.more():
                pass
            return True
        except socket.timeout:
            return False

    def close(self):
        self.sock.close()


def once(port, data):
    c = Client(port)
    try:
        c.send(data)
        r = c.reply()
        return r[0] if r else None
    finally:
        c.close()


def framing(port, auth):
    head = "POST /t/echo/1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + auth
    for data, what in (
            (head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Content-Length and Transfer-Encoding"),
            (head + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "the other way round"),
            (head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", "two Content-Lengths"),
            (head + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", "two equal Content-Lengths"),
            (head + "Content-Length: -2\r\n\r\n{}", "a negative Content-Length"),
            (head + "Content-Length: +2\r\n\r\n{}", "a Content-Length with a plus"),
            (head + "Content-Length: 0x2\r\n\r\n{}", "a hexadecimal Content-Length"),
            (head + "Content-Length: 99999999999999999999\r\n\r\n{}", "a huge Content-Length"),
            (head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "an unknown encoding"),
            (head + "Transfer-Encoding: identity\r\n\r\n", "another unknown encoding"),
            (head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "two encodings"),
            ("GET /health HTTP/1.1\r\n\r\n", "no Host"),
            ("GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "two Hosts"),
            ("GET /health HTTP/1.1\r\nHost: x\r\nX-A : b\r\n\r\n", "a blank before the colon"),
            ("GET /health\x00x HTTP/1.1\r\nHost: x\r\n\r\n", "a raw NUL in the path"),
            ("GET /hea\x00lth?a=b HTTP/1.1\r\nHost: x\r\n\r\n", "another one"),
            ("GET /health?a=\x00 HTTP/1.1\r\nHost: x\r\n\r\n", "one in the query"),
            ("GET /health HTTP/1.1\r\nHost: x\r\nX\x00A: b\r\n\r\n", "a NUL in a header's name"),
            ("GET /health HTTP/1.1\r\nHost: x\r\nX A: b\r\n\r\n", "a blank in a header's name"),
            ("GET /health\r\nHost: x\r\n\r\n", "no version"),
            ("GET /health HTTP/3.7\r\nHost: x\r\n\r\n", "an unknown version"),
            ("GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", "%00"),
            ("GET /a/../health HTTP/1.1\r\nHost: x\r\n\r\n", ".."),
            ("GET /%2e%2e/health HTTP/1.1\r\nHost: x\r\n\r\n", "an encoded .."),
            ("GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n", "bytes that are not UTF-8"),
            ("GET health HTTP/1.1\r\nHost: x\r\n\r\n", "no slash")):
        status = once(port, data)
        ok(status in (400, 413, 505) or (status is None), "refused: " + what, "got %s" % status)
    is_(once(port, "GET http://other/health HTTP/1.1\r\nHost: x\r\n\r\n"), 200, "the absolute form of a target is fine")
    is_(once(port, head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), 200, "a chunked body is fine")
    is_(once(port, "GET /health HTTP/1.0\r\n\r\n"), 200, "HTTP/1.0 needs no Host")
    c = Client(port)
    c.send(head + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/whoami HTTP/1.1\r\nHost: x\r\n" + auth + "\r\n")
    first, second = c.reply(), c.reply()
    ok(first[0] == 400 and second is None, "what follows a refused framing is not taken for a request", first, second)
    c.close()


def sizes(port, auth):
    status = once(port, "GET /" + "a" * 40000 + " HTTP/1.1\r\nHost: x\r\n\r\n")
    ok(status in (414, 431, 413), "a huge target", status)
    is_(once(port, "GET /" + "a" * 9000 + " HTTP/1.1\r\nHost: x\r\n\r\n"), 413, "a long target")
    status = once(port, "GET /health HTTP/1.1\r\nHost: x\r\n" + "".join("X-%d: %s\r\n" % (i, "v" * 100) for i in range(1000)) + "\r\n")
    ok(status in (431, 413, None), "many headers", status)
    status = once(port, "GET /health HTTP/1.1\r\nHost: x\r\nX: " + "v" * 100000 + "\r\n\r\n")
    ok(status in (431, 413, None), "a huge header", status)
    head = "POST /t/echo/1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + auth
    c = Client(port)
    c.send(head + "Content-Length: 3000000\r\n\r\n" + "x" * 3000000)
    r = c.reply()
    is_((r[0], "connection" in r[1]), (413, False), "a body above the limit is read to its end, refused, and the connection stays")
    is_(c.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").reply()[0], 200, "for the next request")
    c.close()
    c = Client(port)
    c.send(head + "Content-Length: 3000000000\r\n\r\n")
    r = c.reply()
    is_((r[0], r[1].get("connection")), (413, "close"), "one far above it is refused at once")
    c.close()
    c = Client(port)
    c.send(head + "Expect: 100-continue\r\nContent-Length: 3000000\r\n\r\n")
    is_(c.reply()[0], 413, "and at once when the client asks first")
    c.close()
    c = Client(port)
    c.send(head + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    is_(c.reply()[0], 100, "else it is told to go on")
    is_(c.send("{}").reply()[0], 200, "and gets its reply")
    c.close()
    c = Client(port)
    c.send(head + "Transfer-Encoding: chunked\r\n\r\n")
    try:
        for _ in range(400):
            c.send("10000\r\n" + "x" * 65536 + "\r\n")
        status = c.reply()
    except OSError:
        status = None
    ok(status is None or status[0] == 413, "a chunked body without end is cut off", status)
    c.close()


def keep_alive(port, auth):
    c = Client(port)
    c.send(("GET /v1/whoami HTTP/1.1\r\nHost: x\r\n" + auth + "\r\n") * 50)
    is_([c.reply()[0] for _ in range(50)], [200] * 50, "fifty requests at once are answered in order")
    mixed = ("GET /t/sleep?wait=20ms HTTP/1.1\r\nHost: x\r\n" + auth + "\r\n"
             "POST /t/echo/7 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 12\r\n" + auth + "\r\n{\"name\":\"n\"}"
             "GET /v1/nothing HTTP/1.1\r\nHost: x\r\n" + auth + "\r\n"
             "HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n")
    c.send(mixed)
    got = [c.reply() for _ in range(3)]
    is_([r[0] for r in got], [200, 200, 404], "slow ones, bodies and refusals too")
    ok(b'"name":"n"' in got[1][2], "with their own bodies", got[1])
    while b"\r\n\r\n" not in c.data and c.more():
        pass
    like(c.data.decode(), r"^HTTP/1.1 200 OK\r\n", "HEAD has no body that could be taken for a reply")
    c.close()
    c = Client(port)
    c.send("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    ok(c.reply()[0] == 200 and c.closed(2), "the connection is closed when asked for")


def slow_clients(port, auth):
    def trickle(head, text, seconds):
        """Sends the text a byte at a time; gives back after how long the connection was cut."""
        c = Client(port)
        c.send(head)
        started = time.monotonic()
        try:
            while time.monotonic() < started + seconds:
                c.send(text[0:1])
                c.sock.settimeout(0.25)
                try:
                    if not c.more():
                        return time.monotonic() - started
                except socket.timeout:
                    pass
        except OSError:
            return time.monotonic() - started
        finally:
            c.close()
        return None

    results = {}
    tasks = {
        "a head that does not end": ("GET /health HTTP/1.1\r\nHost: x\r\nX-A: ", "a", 10),
        "a connection that says nothing": ("", "", 10),
        "the head of a second request": ("GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nX-A: ", "a", 12),
        "a body that does not end": ("POST /t/echo/1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n" +
                                     auth + "\r\n", " ", 10),
        "an upload that does not end": ("PUT /t/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n" + auth + "\r\n", "u", 10),
    }
    threads = [threading.Thread(target=lambda k=k, v=v: results.__setitem__(k, trickle(*v))) for k, v in tasks.items()]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for what in tasks:
        ok(results[what] is not None and results[what] < 9, "cut off: " + what, "after %s s" % results[what])
    is_(once(port, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"), 200, "others are served meanwhile")


def limits(rig, few, auth):
    clients = [Client(few) for _ in range(3)]
    for c in clients:
        is_(c.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").reply()[0], 200, "within the limit of connections of one address")
    late = Client(few)
    try:
        late.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        refused = late.reply() is None
    except OSError:
        refused = True
    ok(refused, "the fourth is closed")
    for c in clients + [late]:
        c.close()
    ok(eventually(5, lambda: once(few, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n") == 200), "room again when they have gone")

    many = [Client(rig.api_port) for _ in range(90)]
    for c in many:
        c.send("GET /v1/whoami HTTP/1.1\r\nHost: x\r\n" + auth + "Connection: close\r\n\r\n")
    is_([c.reply()[0] for c in many], [200] * 90, "more connections than allowed at a time wait and are served")
    for c in many:
        c.close()


def overload(rig, auth):
    """More slow requests than threads and places in line: each is answered, some by being sent away."""
    clients = [Client(rig.api_port) for _ in range(40)]
    for c in clients:
        c.send("GET /t/sleep?wait=300ms HTTP/1.1\r\nHost: x\r\n" + auth + "\r\n")
    got = [c.reply() for c in clients]
    # 2 threads and 16 places; housekeeping of the daemon may hold some of them just then
    served, sent_away = [r for r in got if r[0] == 200], [r for r in got if r[0] == 503]
    ok(len(served) >= 12 and len(sent_away) >= 10 and len(served) + len(sent_away) == 40, "some served, the others sent away",
       [r[0] for r in got])
    ok(all(r[1].get("retry-after") for r in sent_away), "with the time to come back")
    for c in clients:
        c.close()
    is_(rig.api("GET", "/t/sleep").status, 200, "and soon there is room again")


def made_up_tokens(rig):
    """Hundreds of tokens that do not exist, from many threads: neither they nor others see anything but 401 or 503."""
    import random
    seen, honest = set(), set()
    stop = threading.Event()

    def flood():
        while not stop.is_set():
            token = "dpt_%012x_%s" % (random.getrandbits(48), "A" * 43)
            seen.add(rig.api("GET", "/v1/whoami", token=token).status)

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for t in threads:
        t.start()
    for _ in range(100):
        honest.add(rig.api("GET", "/v1/whoami").status)
    stop.set()
    for t in threads:
        t.join()
    ok(seen <= {401, 503} and 401 in seen, "made-up tokens are refused", seen)
    is_(honest, {200}, "a real one is not held up by them")


with Rig(conf=None) as rig:
    s = socket.create_server(("127.0.0.1", 0))
    few = s.getsockname()[1]
    s.close()
    rig.write_conf("10-web.ini", WEB % few)
    rig.start()
    auth = "Authorization: Bearer %s\r\n" % rig.token()
    framing(rig.api_port, auth)
    sizes(rig.api_port, auth)
    keep_alive(rig.api_port, auth)
    slow_clients(rig.api_port, auth)
    limits(rig, few, auth)
    overload(rig, auth)
    made_up_tokens(rig)
    ok(re.search(r'connections_cut_total\{listener="api"\} [1-9]', rig.api("GET", "/metrics").text), "cut connections are counted")
    is_(rig.stop(), 0, "a clean stop")
done()
