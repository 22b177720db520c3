# Where the HTTP door listens: addresses that cannot be had, sockets left behind, and changes by reload.
# test-timeout: 300
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import Rig, done, eventually, free_ports, is_, like, ok  # noqa: E402


def starts_not(rig, name, *patterns):
    """The daemon ends by itself, not well, and says why."""
    rig.spawn()
    status = eventually(30, lambda: rig.process.poll() is not None) and rig.process.poll()
    ok(status not in (0, None, False), name + ": it does not start", status)
    rig.kill()
    text = rig.log_text()
    for pattern in patterns:
        like(text, pattern, name + ": it says so")


def port_in_use():
    with Rig(conf=None) as rig, socket.create_server(("127.0.0.1", 0)) as taken:
        rig.write_conf("10-http.ini", "[plugin http]\n")
        rig.env["DEPOT_API_ADDR"] = "127.0.0.1:%d" % taken.getsockname()[1]
        starts_not(rig, "a port in use", r"cannot listen on 127\.0\.0\.1:%d: another program does" % taken.getsockname()[1],
                   r"\[listen api\] address or DEPOT_API_ADDR")
        ok(not os.path.exists(os.path.join(rig.state, "depotd.sock")), "nothing of it is left behind")


def bad_addresses():
    for address, pattern in (("127.0.0.1", "is not an address"), ("127.0.0.1:http", "is not an address"), ("127.0.0.1:70000", "is not an address"),
                             ("unix:relative", "not an absolute path"), ("unix:/" + "x" * 110, "the system allows 107")):
        with Rig(conf=None) as rig:
            rig.write_conf("10-http.ini", "[plugin http]\n[listen more]\naddress = %s\n" % address)
            starts_not(rig, "address " + address[:20], pattern)
    with Rig(conf=None) as rig:
        rig.write_conf("10-http.ini", "[plugin http]\n[listen more]\naddress = 127.0.0.1:0\ntls_cert = /nowhere\n")
        starts_not(rig, "a certificate without a key", "tls_key is missing beside tls_cert")
    with Rig(conf=None) as rig:
        rig.write_conf("10-http.ini", "[plugin http]\n[listen more]\naddress = 192.0.2.1:80\n")
        starts_not(rig, "an address of another machine", r"cannot listen on 192\.0\.2\.1:80: ")


def state_folder_too_deep():
    with Rig(conf=None) as rig:
        rig.write_conf("10-http.ini", "[plugin http]\n")
        rig.state = os.path.join(rig.dir, "s" * 60, "t" * 60)
        os.makedirs(rig.state)
        starts_not(rig, "a long state folder", "the system allows 107", "shorter state folder")


def stale_socket():
    with Rig(conf=None) as rig:
        rig.write_conf("10-http.ini", "[plugin http]\n")
        path = os.path.join(rig.state, "depotd.sock")
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(path)
        rig.start()
        ok(rig.api("GET", "/health").status == 200, "a socket that nobody answers on is replaced")
        rig.stop()
        ok(not os.path.exists(path), "and removed at the end")
        with open(path, "w", encoding="ascii") as file:
            file.write("mine")
        starts_not(rig, "a file in its place", "exists and is not a socket")
        is_(open(path, encoding="ascii").read(), "mine", "which is left alone")


def switched_off():
    with Rig(conf=None) as rig:
        rig.write_conf("10-http.ini", "[plugin http]\n")
        rig.env["PGFLOW_ADMIN_ADDR"] = "off"
        rig.start()
        try:
            rig.admin("GET", "/health")
            there = True
        except OSError:
            there = False
        ok(not there and rig.api("GET", "/health").status == 200, "PGFLOW_ADMIN_ADDR=off: no admin listener")


def certificate(folder, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=" + name, "-keyout", os.path.join(folder, "key.pem"), "-out", os.path.join(folder, "cert.pem")],
                   check=True, stderr=subprocess.DEVNULL)


def shown_name(port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain, context.wrap_socket(plain) as s:
        text = subprocess.run(["openssl", "x509", "-inform", "der", "-noout", "-subject"], input=s.getpeercert(True),
                              stdout=subprocess.PIPE, check=True).stdout.decode()
        return re.search(r"CN ?= ?(\S+)", text).group(1)


def reload():
    with Rig(conf=None) as rig:
        first, second, secure = free_ports(3)
        conf = "[plugin http]\n[listen api]\nmax_body = %s\n[listen more]\naddress = 127.0.0.1:%d\n[listen tls]\naddress = 127.0.0.1:%d\n" \
               "tls_cert = %s/cert.pem\ntls_key = %s/key.pem\n[listen local]\naddress = unix:%s/more.sock\n"
        certificate(rig.dir, "one")
        rig.write_conf("10-http.ini", conf % ("1MiB", first, secure, rig.dir, rig.dir, rig.dir))
        rig.start()

        def again():
            seen = rig.log_text().count("RELOADED") + len(re.findall(r'"event":"[a-z.]*reload', rig.log_text()))
            rig.signal(signal.SIGHUP)
            eventually(10, lambda: rig.log_text().count("RELOADED") + len(re.findall(r'"event":"[a-z.]*reload', rig.log_text())) > seen)
            time.sleep(0.2)

        def answers(port):
            try:
                return rig.request(port, "GET", "/health", token=False, timeout=5).status == 200
            except OSError:
                return False

        big = {"name": "x", "expires_in": "1h", "role": "viewer", "pad": "y" * 1500000}
        is_(rig.api("POST", "/v1/tokens", big).status, 413, "a body above the listener's limit")
        is_(shown_name(secure), "one", "the first certificate")
        kept = socket.create_connection(("127.0.0.1", rig.api_port), timeout=10)
        kept.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        kept.recv(4096)

        certificate(rig.dir, "two")
        rig.write_conf("10-http.ini", (conf % ("4MiB", second, secure, rig.dir, rig.dir, rig.dir)).replace("more.sock", "moved.sock"))
        again()
        ok(eventually(10, lambda: answers(second)), "a listener moves to another address")
        ok(eventually(10, lambda: not answers(first)), "and leaves the old one")
        is_((os.path.exists(os.path.join(rig.dir, "moved.sock")), os.path.exists(os.path.join(rig.dir, "more.sock"))), (True, False),
            "a local socket moves too")
        is_(rig.api("POST", "/v1/tokens", big).status, 422, "another limit holds at once")
        is_(shown_name(secure), "two", "a new certificate is shown")
        ok(rig.api("GET", "/health").status == 200, "the port was never given up")
        kept.settimeout(5)
        is_(kept.recv(10), b"", "an idle connection of before is closed")
        kept.close()

        with open(os.path.join(rig.dir, "cert.pem"), "w", encoding="ascii") as file:
            file.write("nonsense")
        rig.write_conf("10-http.ini", conf % ("8MiB", first, secure, rig.dir, rig.dir, rig.dir))
        again()
        is_(shown_name(secure), "two", "a bad certificate is refused, the old one stays")
        ok(answers(second) and not answers(first), "and nothing else of that reload happens")
        like(rig.log_text(), "TLS cannot be set up", "the log says why")
        certificate(rig.dir, "three")
        rig.write_conf("10-http.ini", "[plugin http]\n")
        again()
        ok(eventually(10, lambda: not answers(second)), "a section that goes takes its listener along")
        ok(rig.api("GET", "/health").status == 200, "what needs no section stays")
        is_(rig.stop(), 0, "a clean stop")


port_in_use()
bad_addresses()
state_folder_too_deep()
stale_socket()
switched_off()
reload()
done()
