"""queue_bench.py - the queue beside its peers: throughput of jobs that do nothing, delay of a single job, enqueueing by HTTP, a long
backlog and a long history, an old snapshot. All on one durable PostgreSQL and two processors, runs taking turns, medians. Called by queue.sh;
BENCH_QUICK=1 makes short runs, BENCH_ROUNDS, BENCH_SECONDS, BENCH_BACKLOG, BENCH_ARCHIVED change the effort, BENCH_ONLY=c_noop,start runs some parts."""
import os
import platform
import re
import statistics
import subprocess
import sys
import time

from queue_lab import NODE, PEERS, SETTINGS, Lab, Session
from queue_ours import Depotd
from queue_peers import TOKEN, Boss, Floor, Graphile
from queue_steady import steady

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import BUILD  # noqa: E402

QUICK = os.environ.get("BENCH_QUICK", "") not in ("", "0")


def setting(name, quick, full):
    return int(os.environ.get(name) or (quick if QUICK else full))


ROUNDS, SECONDS = setting("BENCH_ROUNDS", 3, 5), setting("BENCH_SECONDS", 2, 5)
MINUTES = setting("BENCH_MINUTES", 3, 60)
ARCHIVED = setting("BENCH_ARCHIVED", 1000000, 50000000)
BACKLOG, SNAPSHOTS = setting("BENCH_BACKLOG", 200000, 10000000), setting("BENCH_SNAPSHOT_ROUNDS", 3, 5)
SAMPLES, GAP_MS, CONNECTIONS, TRIAL = setting("BENCH_SAMPLES", 300, 1000), 10, 64, 10000


def note(text):
    print(text, flush=True)


def report(name, unit, ours, peers, digits=0, less_is_better=False):
    """One line a peer, the strongest last."""
    for peer, value in sorted(peers.items(), key=lambda p: p[1], reverse=less_is_better):
        ratio = value / ours if less_is_better else ours / value
        note("BENCH %s %.*f %s peer=%s peer_value=%.*f ratio=%.2f" % (name, digits, ours, unit, peer, digits, value, ratio))


def taking_turns(contestants, measure, rounds=ROUNDS):
    """The runs of each by its name."""
    runs = {c.name: [] for c in contestants}
    for _ in range(rounds):
        for c in contestants:
            runs[c.name].append(measure(c))
    return runs


def show_runs(what, runs, form="%.0f"):
    for name, values in runs.items():
        note("runs: %s %s: %s" % (what, name, " ".join(form % v for v in values)))


def medians(runs):
    return {name: statistics.median(values) for name, values in runs.items()}


def drained(contestant, n):
    """Filled with n jobs, then worked off: jobs a second of both; microseconds of processor a job, of PostgreSQL and of the contestant."""
    contestant.open()
    try:
        filled = contestant.fill(n)
        before = contestant.lab.processor_seconds(), contestant.processor_seconds()
        rate = contestant.run(n)
        after = contestant.lab.processor_seconds(), contestant.processor_seconds()
        contestant.check(n)
        return filled, rate, (after[0] - before[0]) / n * 1e6, (after[1] - before[1]) / n * 1e6
    finally:
        contestant.close()


_sizes = {}


def size_for(contestant):
    """So many jobs that a run lasts about SECONDS; found by runs that also warm the machine up. A short one tells little, as whoever has just
    been started is not at its pace."""
    wanted, tried = TRIAL, 0
    while contestant.name not in _sizes:
        if wanted <= 2 * tried:
            _sizes[contestant.name] = wanted
            break
        tried = wanted
        wanted = max(TRIAL, min(5000000, int(drained(contestant, tried)[1] * SECONDS) // 1000 * 1000))
    return _sizes[contestant.name]


def warm_rate(contestant, n):
    """Jobs a second in a database that has seen work: the first run in a new one is slower, as files grow."""
    for _ in range(2):
        contestant.fill(n)
        rate = contestant.run(n)
    return rate


def throughput(lab):
    ours = [Depotd(lab, "depotd-c", "c.noop"), Depotd(lab, "depotd-lua", "lua.noop")]
    theirs = [Graphile(lab, "default", 1), Graphile(lab, "batch", 1), Graphile(lab, "batch", 2), Boss(lab), Floor(lab)]
    sizes = {c.name: size_for(c) for c in ours + theirs}
    note("jobs a run: " + ", ".join("%s %d" % s for s in sizes.items()))
    both = taking_turns(ours + theirs, lambda c: drained(c, sizes[c.name]))
    enqueued, worked, of_server, of_itself = ({name: [run[i] for run in runs] for name, runs in both.items()} for i in range(4))
    show_runs("worked off, jobs/s,", worked)
    show_runs("enqueued in bulk, jobs/s,", enqueued)
    show_runs("processor time of PostgreSQL, us a job,", of_server, "%.1f")
    show_runs("processor time besides (of the peers with the start of node), us a job,", of_itself, "%.1f")
    worked, enqueued = medians(worked), medians(enqueued)
    peers = [c.name for c in theirs]
    report("queue.c_noop", "jobs/s", worked["depotd-c"], {p: worked[p] for p in peers})
    report("queue.lua_noop", "jobs/s", worked["depotd-lua"], {p: worked[p] for p in peers})
    report("queue.bulk_enqueue", "jobs/s", enqueued["depotd-c"], {p: enqueued[p] for p in peers})


def start_delay(lab):
    def delays(contestant):
        contestant.open()
        try:
            return sorted(contestant.delays(SAMPLES, GAP_MS))
        finally:
            contestant.close()

    ours = [Depotd(lab, "depotd-c", "c.delay"), Depotd(lab, "depotd-lua", "lua.delay"), Depotd(lab, "depotd-c-post", "c.delay", by_post=True),
            Depotd(lab, "depotd-lua-post", "lua.delay", by_post=True)]
    theirs = [Graphile(lab, "default", 1), Graphile(lab, "batch", 1), Boss(lab, notify=True)]
    runs = taking_turns(ours + theirs, delays)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        values = {who: [r[int(share * len(r))] for r in lists] for who, lists in runs.items()}
        show_runs("%s of enqueue to start, ms," % name, values, "%.2f")
        values = medians(values)
        for suffix, who in (("", "depotd-c"), ("_lua", "depotd-lua"), ("_post", "depotd-c-post"), ("_lua_post", "depotd-lua-post")):
            report("queue.start_%s%s" % (name, suffix), "ms", values[who], {c.name: values[c.name] for c in theirs}, 2, less_is_better=True)


def posts(url, token):
    """Acknowledged jobs a second, and how many."""
    out = subprocess.run(["wrk", "-t1", "-c%d" % CONNECTIONS, "-d%ds" % SECONDS, "-s", os.path.join(PEERS, "post.lua"), url],
                         env=dict(os.environ, BENCH_TOKEN=token), stdout=subprocess.PIPE, check=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise RuntimeError("not every reply was a success:\n" + out)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)), int(re.search(r"(\d+) requests in", out).group(1))


def http_enqueue(lab):
    def rate(contestant):
        contestant.open()
        server = None
        try:
            if isinstance(contestant, Depotd):
                url, token = contestant.http()
            else:
                server = contestant.serve()
                url, token = "http://127.0.0.1:%d/" % server.said["port"], TOKEN
            value, acknowledged = posts(url, token)
            if contestant.enqueued_by_http() < acknowledged:
                raise RuntimeError("%s: %d jobs were acknowledged, %d are there" % (contestant.name, acknowledged, contestant.enqueued_by_http()))
            return value
        finally:
            if server:
                server.close()
            contestant.close()

    ours, theirs = Depotd(lab, "depotd"), [Graphile(lab, "batch", 1), Boss(lab)]
    runs = taking_turns([ours] + theirs, rate)
    show_runs("POST, acknowledged/s,", runs)
    values = medians(runs)
    report("queue.http_enqueue", "jobs/s", values[ours.name], {"goal": 20000, **{"node-http+" + c.name: values[c.name] for c in theirs}})


def backlog(lab):
    def share(contestant):
        n = size_for(contestant)
        contestant.open()
        try:
            empty = warm_rate(contestant, n)
            contestant.fill(BACKLOG + n)
            return contestant.run(n) / empty
        finally:
            contestant.close()

    contestants = [Depotd(lab, "depotd-c", "c.noop"), Graphile(lab, "batch", 1)]
    rounds = ROUNDS if BACKLOG < 1000000 else 1
    runs = taking_turns(contestants, share, rounds)
    show_runs("rate with %d queued as a share of the empty one's," % BACKLOG, runs, "%.2f")
    values = medians(runs)
    note("queued for queue.backlog_10m: %d" % BACKLOG)
    report("queue.backlog_10m", "x", values["depotd-c"], {"goal": 0.9, contestants[1].name: values[contestants[1].name]}, 2)


def scale(lab):
    """Much that has ended, much that waits: the rate, and how long it takes to look a job up by its id."""
    ours = Depotd(lab, "depotd-c", "c.noop")
    n = size_for(ours)
    ours.open()
    try:
        empty = warm_rate(ours, n)
        for left in range(ARCHIVED, 0, -5000000):
            ours.fill(min(left, 5000000))
            ours.run(min(left, 5000000))
        ours.fill(BACKLOG + n)
        share = ours.run(n) / empty
        note("ended for queue.scale and queue.lookup: %d, queued: %d" % (ARCHIVED, BACKLOG))
        report("queue.scale", "x", share, {"goal": 0.9}, 2)
        for name, path in (("lookup", "/jobs/%s"), ("timeline", "/jobs/%s/timeline")):
            took = sorted(ours.lookups(path, SAMPLES))
            for at, mark in (("p50", 0.5), ("p99", 0.99)):
                report("queue.%s_%s" % (name, at), "ms", took[int(mark * len(took))], {"goal": 5}, 2, less_is_better=True)
    finally:
        ours.close()


def old_snapshot(lab):
    def share(contestant):
        n = size_for(contestant)
        contestant.open()
        holder = Session(contestant.url())
        try:
            clean = warm_rate(contestant, n)
            holder.sql("begin isolation level repeatable read")
            holder.sql("select count(*) from pg_class")
            for _ in range(SNAPSHOTS):
                contestant.fill(n)
                rate = contestant.run(n)
            return rate / clean
        finally:
            holder.close()
            contestant.close()

    contestants = [Depotd(lab, "depotd-c", "c.noop"), Graphile(lab, "batch", 1), Boss(lab)]
    runs = taking_turns(contestants, share, max(1, ROUNDS // 2))
    show_runs("rate after %d rounds under a snapshot as a share of the clean one," % SNAPSHOTS, runs, "%.2f")
    values = medians(runs)
    report("queue.old_snapshot", "x", values["depotd-c"], {"goal": 0.9, **{c.name: values[c.name] for c in contestants[1:]}}, 2)


def steady_load(lab):
    samples = steady(lab, MINUTES, note)
    early, late = samples[:len(samples) // 5 + 1], samples[len(samples) // 2:]
    for name, at, unit, per in (("size", 0, "MB", 1e6), ("dead", 1, "tuples", 1)):
        report("queue.steady_" + name, unit, max(s[at] for s in late) / per, {"the first fifth": max(s[at] for s in early) / per}, 1, less_is_better=True)


def first_line(*command):
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True).stdout.strip()
    return out.splitlines()[0] if out else "?"


def introduce(lab):
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        cpu = re.search(r"model name\s*: (.*)", file.read())
    with open(os.path.join(PEERS, "package.json"), encoding="utf-8") as file:
        pins = re.findall(r'"(graphile-worker|pg|pg-boss)": "([^"]+)"', file.read())
    note("machine: %d processors (%s), 2 of them used, %s %s" % (os.cpu_count(), cpu.group(1) if cpu else "?", platform.system(), platform.release()))
    note("disk: %d writes of 8 kB a second, each made durable by fdatasync" % lab.syncs())
    note("versions: %s; PostgreSQL %s; node %s; %s" % (first_line(os.path.join(BUILD, "depotd"), "--version"), lab.admin.value("show server_version"),
                                                       first_line(NODE, "--version"), ", ".join("%s %s" % pin for pin in pins)))
    note("settings: %s; %d runs of about %d s each taking turns; single jobs every %d ms, %d of them; %d connections"
         % (", ".join(SETTINGS), ROUNDS, SECONDS, GAP_MS, SAMPLES, CONNECTIONS))
    note("graphile-worker: 24 jobs at a time, batch: local queue of 500 and batched completion, -N: processes; pg-boss: 2 loops of 1000")
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        if lab.admin.value("show " + name) != "on":
            sys.exit("bench queue: %s is not on" % name)


PARTS = {"throughput": throughput, "start": start_delay, "http_enqueue": http_enqueue, "backlog": backlog, "scale": scale, "old_snapshot": old_snapshot, "steady": steady_load}


def main():
    wanted = os.environ.get("BENCH_ONLY", "").replace(",", " ").split() or list(PARTS)
    unknown = [w for w in wanted if w not in PARTS]
    if unknown:
        sys.exit("bench queue: BENCH_ONLY: no part is called %s (%s)" % (unknown[0], ", ".join(PARTS)))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    with Lab() as lab:
        introduce(lab)
        for name in wanted:
            began = time.monotonic()
            PARTS[name](lab)
            note("part %s took %.0f s" % (name, time.monotonic() - began))


main()
