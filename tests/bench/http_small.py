"""http_small.py - requests a second of GET /v1/whoami (keep-alive, token check) and of nginx serving a file with the same bytes,
runs taking turns, medians. Called by http.sh; RUNS=5 SECONDS_EACH=3 CLIENTS=32 change the effort."""
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD, Rig, eventually, free_ports  # noqa: E402

RUNS, SECONDS, CLIENTS = (int(os.environ.get(k, v)) for k, v in (("RUNS", "5"), ("SECONDS_EACH", "3"), ("CLIENTS", "32")))
NGINX = """daemon off; worker_processes 2; pid {dir}/pid; error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; types {{ application/json json; }}
    open_file_cache max=10 inactive=600s; open_file_cache_valid 600s;
    client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    server {{ listen 127.0.0.1:{port}; root {dir}; }}
}}
"""


def rate(url, token):
    """Requests a second by wrk; a reply that is no success ends the bench, as refusals are quick."""
    out = subprocess.run(["wrk", "-t1", "-c%d" % CLIENTS, "-d%ds" % SECONDS, "-H", "Authorization: Bearer " + token, url],
                         stdout=subprocess.PIPE, check=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit("bench http: not every reply was a success:\n" + out)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))


def version(*command):
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True)
    return p.stdout.strip().splitlines()[0] if p.stdout.strip() else "?"


def measure(rig, folder):
    rig.write_conf("10-http.ini", "[plugin http]\n")
    rig.start()
    body = rig.api("GET", "/v1/whoami").body
    with open(os.path.join(folder, "whoami.json"), "wb") as file:
        file.write(body)
    port = free_ports(1)[0]
    with open(os.path.join(folder, "nginx.conf"), "w", encoding="ascii") as file:
        file.write(NGINX.format(dir=folder, port=port))
    nginx = subprocess.Popen(["nginx", "-c", os.path.join(folder, "nginx.conf"), "-p", folder], stderr=subprocess.DEVNULL)
    try:
        def there():
            try:
                return rig.request(port, "GET", "/whoami.json", token=False).body == body
            except OSError:
                return False
        if not eventually(10, there):
            sys.exit("bench http: nginx does not serve the file")
        ours, theirs = [], []
        url, other = "http://127.0.0.1:%d/v1/whoami" % rig.api_port, "http://127.0.0.1:%d/whoami.json" % port
        for _ in range(RUNS):
            ours.append(rate(url, rig.token()))
            theirs.append(rate(other, rig.token()))
        return len(body), ours, theirs
    finally:
        nginx.terminate()
        nginx.wait()


def main():
    for tool in ("wrk", "nginx"):
        if not shutil.which(tool):
            sys.exit("bench http: %s is not installed: make deps-bench" % tool)
    with tempfile.TemporaryDirectory(prefix="depot-bench.") as folder, Rig(conf=None) as rig:
        os.chmod(folder, 0o755)
        size, ours, theirs = measure(rig, folder)
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        cpu = re.search(r"model name\s*: (.*)", file.read())
    print("machine: %d processors (%s), %s %s" % (os.cpu_count(), cpu.group(1) if cpu else "?", platform.system(), platform.release()))
    print("versions: %s; %s" % (version(os.path.join(BUILD, "depotd"), "--version"), version("nginx", "-v")))
    print("settings: %d bytes of JSON, %d connections with keep-alive, %d runs of %d s taking turns; nginx: 2 workers, open_file_cache"
          % (size, CLIENTS, RUNS, SECONDS))
    print("runs: depotd %s; nginx %s" % (" ".join("%.0f" % n for n in ours), " ".join("%.0f" % n for n in theirs)))
    a, b = statistics.median(ours), statistics.median(theirs)
    print("BENCH http.small_json %.0f req/s peer=nginx-static peer_value=%.0f ratio=%.2f" % (a, b, a / b))


main()
