"""test_queue_model.py - random interleavings of everything that can happen to jobs, over sessions that hold transactions open, against a
model. STEPS (400) and SEED change how many, and which. `make check-model STEPS=20000` is the long way."""
import json
import os
import random
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from queue_model import ENDED, LIMITS, Job, Model, Wrong, check  # noqa: E402
from rig import Rig, done, is_, note, ok  # noqa: E402
from servers import Cluster, Session  # noqa: E402

STEPS = int(os.environ.get("STEPS") or "400")
SEED = int(os.environ.get("SEED") or "0") or random.SystemRandom().randrange(1, 10 ** 9)
SESSIONS, PATIENCE, CALM = 4, 0.03, 40
RESULTS = ({"outcome": "succeeded"}, {"outcome": "succeeded"}, {"outcome": "failed", "code": "TIMEOUT"}, {"outcome": "failed", "code": "TIMEOUT", "retry": "no"},
           {"outcome": "failed", "code": "WORKER_SHUTDOWN"}, {"outcome": "snoozed", "delay_ms": 0}, {"outcome": "released"})


def text(value):
    return "'%s'" % (value if isinstance(value, str) else json.dumps(value)).replace("'", "''")


class Step:
    """What a session does in one transaction: statements, one after the other, and what their answers mean once it commits."""

    def __init__(self, *parts):
        self.parts, self.answers, self.commits = parts, [], True


class Play:
    def __init__(self, cluster, dice):
        self.cluster, self.dice, self.model = cluster, dice, Model()
        self.sessions = [Session(cluster.urls["url"]) for _ in range(SESSIONS)]
        self.look = Session(cluster.urls["super_url"])
        self.busy = {}  # session -> [step, part that is under way, time to commit at]
        self.serial = 0
        self.told = []  # committed statements and their answers, for who looks into a failure

    # ---- steps: pairs of a statement and a function of its answer ----

    def some(self, *states, n=1):
        names = [name for name, j in self.model.jobs.items() if j.status in states]
        return self.dice.sample(names, min(n, len(names)))

    def actor(self):
        self.serial += 1
        return "a%d" % self.serial

    def enqueue(self):
        dice, queue, options = self.dice, self.dice.choice(list(LIMITS)), {}
        needs = self.some("queued", "running", *ENDED, n=dice.choice((1, 2))) if dice.random() < 0.3 else []
        unique = dice.choice((None, None, "u1", "u2"))
        key = dice.choice(("k1", "k2", None if queue == "free" else "k1"))
        on_failure, tries = dice.choice(("cancel", "run", "wait")), dice.choice((1, 2, 5))
        over = {name for name, j in self.model.jobs.items() if j.status in ENDED}  # others may end until this commits: nothing is locked for an answer
        if needs:
            options.update(after=needs, on_dependency_failure=on_failure)
        if unique:
            options["unique"] = {"key": unique}
        if key:
            options["concurrency_key"] = key

        def made(rows):
            name = rows[0][0]
            if unique and name in self.model.jobs:
                self.model.known(name, unique, over)
            else:
                self.model.made(name, Job(queue, tries, key=key, unique=unique, needs=needs, on_failure=on_failure))
        return Step(("select depot.enqueue('%s', 't', priority => %d, max_attempts => %d, options => nullif(%s, '{}'::jsonb))" % (
            queue, dice.randrange(3), tries, text(options)), made))

    def enqueue_chunk(self):
        queue, n, tries = self.dice.choice(("free", "wide")), self.dice.randrange(1, 9), self.dice.choice((1, 3))

        def made(rows):
            for row in rows:
                self.model.made(row[0], Job(queue, tries, is_row=False))
        return Step(("select depot.job_at(c, p) from unnest(depot.enqueue_many('%s', '%s', (select json_agg(g) from generate_series(1, %d) g), priority => %d,"
                     " max_attempts => %d)) c, generate_series(0, %d) p" % (queue, self.dice.choice("tc"), n, self.dice.randrange(3), tries, n - 1), made))

    def batch(self):
        n = self.dice.randrange(1, 5)

        def made(rows):
            doc = json.loads(rows[0][0])
            self.model.batches[doc["batch_id"]] = {"succeeded": 0, "dlq": 0, "canceled": 0, "total": n}
            for name in doc["job_ids"]:
                self.model.made(name, Job("free", 2, batch=doc["batch_id"]))
        return Step(("select depot.batch((select jsonb_agg(jsonb_build_object('queue', 'free', 'type', 't', 'max_attempts', 2)) from generate_series(1, %d)),"
                     " '{\"queue\": \"free\", \"type\": \"t\"}')" % n, made))

    def adopt(self, name):
        """The callback of a batch is made by the database alone."""
        if name not in self.model.jobs:
            by = self.look.value("select coalesce((select enqueued_by from queue.jobs where id = '%s'), '')" % name)
            check(by.startswith("batch:"), "a job that nobody made:", name, by)
            self.model.made(name, Job("free", 25))

    def turn(self):
        """As a daemon's: results, then claims, in one transaction."""
        dice, model = self.dice, self.model
        lease = dice.choice(("1 ms", "1 h"))
        rows, by_token = [], {}
        for name in self.some("running", n=dice.randrange(8)):
            by_token.setdefault((name[:33], model.jobs[name].token), []).append(name)
        ranges = dict(self.ranges_of([t for _, t in by_token]))
        results = [dict(dice.choice(RESULTS), job=names[0], token=token) for (_, token), names in by_token.items() if token not in ranges]
        if model.old_tokens and dice.random() < 0.3:
            name, token = dice.choice(model.old_tokens)
            results.append(dict(dice.choice(RESULTS[:3]), job=name, token=token))
        told = [self.range_result(token, *ranges[token]) for token in ranges]

        def finished(rows):
            accepted = {(r[0], r[1]): r[2] == "t" for r in rows if r[1] not in ranges}
            for r in results:
                known = (r["job"], r["token"], r["outcome"], r.get("code")) in self.accepted
                good = model.finished(r["job"], r["token"], r)
                if good:
                    self.accepted.add((r["job"], r["token"], r["outcome"], r.get("code")))
                is_said = accepted[(r["job"], r["token"])]
                check(is_said == (good or (known and r["outcome"] != "released")), "a result is", "accepted" if is_said else "refused", r, model.jobs[r["job"]])
            refused = {r[1] for r in rows if r[4] in ("known", "late")}
            for t in told:
                for place in range(t["lo"], t["lo"] + t["n"]):
                    name, r = self.at(t["chunk"], place), t["of"][place]
                    if t["token"] in refused:
                        model.refused(name, t["token"])
                    elif r["outcome"] == "lost":
                        model.lost(name, t["token"], alone=t["n"] == 1)
                    elif r["outcome"] == "going":
                        model.goes_on(name, t["token"])
                    elif model.finished(name, t["token"], r) and r["outcome"] == "failed":
                        self.accepted.add((name, t["token"], r["outcome"], r.get("code")))

        def claimed(rows):
            for name, token, attempt in rows:
                self.adopt(name)
                model.claimed(name, token, int(attempt), is_short=lease == "1 ms")

        def claimed_ranges(rows):
            for chunk, token, lo, n in rows:
                for place in range(int(lo), int(lo) + int(n)):
                    model.claimed(self.at(chunk, place), token, None, is_short=lease == "1 ms", alone=n == "1")
        parts = [("select job, token, accepted, status, outcome from queue.finish(%s, %s)" % (text(results), text(told)), finished),
                 ("select queue.unpack(null, '{t,c}', %d)" % dice.randrange(1, 5), lambda rows: None),
                 ("select id, token, attempt from queue.claim('w%d', null, '{t,c}', %d, '%s')" % (dice.randrange(3), dice.randrange(1, 9), lease), claimed),
                 ("select id, token, lo, n from queue.claim_chunks('w%d', null, '%s', 2, %d, '%s')" % (dice.randrange(3), dice.choice(("{c}", "{t}", "{t,c}")), dice.randrange(1, 9), lease),
                  claimed_ranges)]
        return Step(*parts[:dice.randrange(1, 5)])

    accepted = set()

    def at(self, chunk, place):
        return chunk[:33] + "%03x" % (int(chunk[33:], 16) | place)

    def ranges_of(self, tokens):
        rows = self.look.sql("select token, chunk, lo, n from queue.chunk_leases where n > 0 and token = any ('{%s}')" % ",".join(tokens))
        return [(r[0], (r[1], int(r[2]), int(r[3]))) for r in rows]

    def range_result(self, token, chunk, lo, n):
        of, cut, going = {}, self.dice.choice((n, n, self.dice.randrange(n + 1))), self.dice.choice((0, 0, 0.3))
        if self.dice.random() < 0.1:
            return {"token": token, "chunk": chunk, "busy_us": 1, "lo": lo, "n": n, "lost": "the worker died",
                    "of": {place: {"outcome": "lost"} for place in range(lo, lo + n)}}
        for place in range(lo, lo + n):
            of[place] = {"outcome": "released" if place >= lo + cut else "going"}
            if place < lo + cut and self.dice.random() >= going:
                of[place] = self.dice.choice(RESULTS[:5])
        others = [dict(r, at=place) for place, r in of.items() if r["outcome"] == "failed"]
        return {"token": token, "chunk": chunk, "busy_us": 1, "lo": lo, "n": n, "of": of, "others": others,
                "going": [place for place, r in of.items() if r["outcome"] == "going"] or None,
                "released": [{"lo": lo + cut, "n": n - cut}] if cut < n else None}

    def cancel(self):
        name = (self.some("queued", "running", "running", "dlq") or [None])[0]
        if not name:
            return None

        def said(rows):
            status, job = rows[0][0], self.model.jobs[name]
            if status in ("canceled", "canceling") and job.status not in ENDED:
                check((status == "canceled") == (job.status == "queued"), "a cancel says", status, name, job)
                self.model.canceled(name)
            else:
                check(status == job.status, "a cancel of an ended job says", status, name, job)
        return Step(("select queue.cancel('%s', 'me')" % name, said))

    def bulk(self):
        action, who = self.dice.choice(("cancel", "cancel", "retry", "discard", "replay")), self.actor()
        if action == "replay" and len(self.model.jobs) > 20 * CALM:
            return None
        found = {
            "cancel": "select id from queue.jobs where canceled_by = '%s'",
            "retry": "select job_id from queue.events where actor = '%s' and kind = 'Retried'",
            "discard": "select job_id from queue.events where actor = '%s' and kind = 'Discarded'",
            "replay": "select replay_of_job_id, id, max_attempts from queue.jobs where enqueued_by = '%s'"}[action] % who

        def changed(rows):
            for row in rows:
                self.adopt(row[0])
                if action == "cancel" and not self.model.jobs[row[0]].to_end:
                    self.model.canceled(row[0])
                elif action == "replay":
                    self.model.replayed(row[0], row[1], int(row[2]))
                elif action != "cancel":
                    (self.model.retried if action == "retry" else self.model.discarded)(row[0])
        since = (self.some(*ENDED, "queued") or ["00000000-0000-0000-0000-000000000000"])[0]
        return Step(("select done from queue.bulk('%s', '{\"queue\": \"%s\"}', '%s', queue.new_id(), %d, '%s', null, null)" % (
            action, self.dice.choice(list(LIMITS)), since, self.dice.randrange(1, 6), who), lambda rows: None), (found, changed))

    def replay(self):
        name = (self.some(*ENDED) or [None])[0]
        if not name or len(self.model.jobs) > 20 * CALM:
            return None

        def made(rows):
            self.model.replayed(name, rows[0][0], self.model.jobs[name].max_attempts)
        return Step(("select queue.replay('%s', null, null, 'me', null, null)" % name, made))

    def reap(self):
        def lost(rows):
            for name, token in rows:
                if self.model.jobs[name].token == token:
                    self.model.lost(name, token)
        return Step(("select lost from queue.reap('w0', '1 h', '1 s', %d)" % self.dice.randrange(1, 9), lambda rows: None),
                    ("select job_id, token from queue.attempts where error_code = 'WORKER_LOST' and finished_at >= now()", lost))

    def heartbeat(self):
        names = self.some("running", n=4)
        tokens = {self.model.jobs[n].token for n in names}

        def beat(rows):
            gone = {r[0] for r in rows}  # of jobs their ids, of ranges their tokens
            for name, job in self.model.jobs.items():
                is_gone = (job.token in gone and not job.goes_on) or (name in gone and (name, job.token) in pairs)
                check(not (job.status == "running" and is_gone), "a lease is called lost that is held:", job)
                job.is_short = job.is_short or job.token in tokens
        pairs = [(n, self.model.jobs[n].token) for n in names]
        ranges = dict(self.ranges_of(tokens))
        pairs = [p for p in pairs if p[1] not in ranges]
        return Step(("select * from queue.heartbeat('{%s}', '{%s}', '1 ms') union all select * from queue.heartbeat_chunks('{%s}', '1 ms')" % (
            ",".join(n for n, _ in pairs), ",".join(t for _, t in pairs), ",".join(ranges)), beat))

    def tend(self):
        return Step((self.dice.choice(("select queue.tend_dependencies(%d)" % self.dice.randrange(1, 9),
                                       "select queue.archive('{\"succeeded\": 0, \"canceled\": 0, \"dlq\": 0}', 5)",
                                       "select count(*) from queue.unannounced(3)", "select queue.pause('wide', 'me')", "select queue.resume('wide', 'me')",
                                       "select queue.set_policy('key', '{\"backoff_base_ms\": 0}', 'me')")), lambda rows: None))

    # ---- the sessions ----

    def draw(self):
        kinds = (self.enqueue,) * 6 + (self.enqueue_chunk,) * 2 + (self.turn,) * 10 + (self.cancel,) * 2 + (self.bulk,) * 2 + (
            self.batch, self.replay, self.reap, self.reap, self.heartbeat, self.tend, self.tend)
        step = None
        while step is None:
            step = self.dice.choice(kinds)()
        step.commits = self.dice.random() > 0.1
        return step

    def begin(self, session):
        step = self.draw()
        self.busy[session] = [step, 0, 0]
        session.sql("begin")
        session.ask(step.parts[0][0])

    def go_on(self, session, seconds):
        """Takes an answer, asks the next question, or ends the transaction. False: the server waits for somebody."""
        state = self.busy[session]
        step, part, _ = state
        if part < len(step.parts):
            rows = session.answer(seconds)
            if rows is None:
                return False
            step.answers.append(rows)
            state[1] += 1
            if state[1] < len(step.parts):
                session.ask(step.parts[state[1]][0])
            return True
        session.sql("commit" if step.commits else "rollback")
        del self.busy[session]
        for (asked, means), rows in zip(step.parts, step.answers):
            if step.commits:
                self.told.append("%s\n    -> %s" % (asked, rows))
                means(rows)
        return True

    def calm_down(self):
        until = time.monotonic() + 20
        while self.busy:
            check(time.monotonic() < until, "the sessions wait for each other:", [s.asked for s in self.busy])
            for session in list(self.busy):
                self.go_on(session, PATIENCE)

    def run(self, steps):
        for i in range(steps):
            session = self.dice.choice(self.sessions)
            if session not in self.busy:
                self.begin(session)
            else:
                self.go_on(session, PATIENCE)
            if i % CALM == CALM - 1:
                self.calm_down()
                self.compare()
        self.calm_down()

    # ---- the comparison ----

    def compare(self):
        while int(self.look.value("select queue.tend_dependencies()")) > 0:
            pass
        self.look.sql("select queue.tend_dependencies()")
        for (name,) in self.look.sql("select callback_job_id from queue.batches where callback_job_id is not null"):
            self.adopt(name)
        names = sorted(self.model.jobs)
        rows = self.look.sql("""select u, j.status, j.attempts, j.uncharged, j.lease_token, j.waits_for, p.is_row, p.is_archived, p.ready, p.leased, p.done,
            (select count(*) from queue.tries(u)), (select count(distinct attempt_no) from queue.tries(u)), (select count(*) from queue.tries(u) t where t.status = 'running')
            from unnest('{%s}'::uuid[]) u left join lateral queue.find(u) j on true cross join lateral (select queue.chunk_of(u) as c, queue.place_of(u) as i) k
            cross join lateral (select (select count(*) from queue.jobs x where x.id = u) as is_row, (select count(*) from queue.jobs_archive x where x.id = u) as is_archived,
            (select count(*) from queue.chunk_ready r where r.chunk = k.c and k.i between r.lo and r.lo + r.n - 1) as ready,
            (select count(*) from queue.chunk_leases r where r.chunk = k.c and k.i between r.lo and r.lo + r.n - 1) as leased,
            (select count(*) from queue.chunk_attempts r where r.chunk = k.c and k.i between r.lo and r.lo + r.n - 1 and k.i <> all (r.others)) as done) p
            """ % ",".join(names))
        for row in rows:
            self.compare_job(row, self.model.jobs[row[0]])
        for batch, want in self.model.batches.items():
            got = self.look.sql("select succeeded, dlq, canceled, total, ended_at is not null, callback_job_id is not null from queue.batches where id = '%s'" % batch)[0]
            over = "t" if want["succeeded"] + want["dlq"] + want["canceled"] == want["total"] else "f"
            check(got == [str(want[k]) for k in ("succeeded", "dlq", "canceled", "total")] + [over, over], "a batch counts", got, "not", want)
        total = self.look.value("select count(*) from (select id from queue.jobs union all select id from queue.jobs_archive) j")
        known = sum(int(r[6]) + int(r[7]) for r in rows)
        check(int(total) == known, "there are jobs that nobody made:", total, known)

    def compare_job(self, row, job):
        _, status, attempts, uncharged, token, waits_for, is_row, archived, ready, leased, finished, tries, numbers, running = row
        check(status == job.status, "the state is", status, "not", job.status, row, job)
        check((int(attempts), token or None) == (job.attempts, job.token), "attempts and token", row, job)
        check(int(uncharged) == job.uncharged or is_row == archived == "0", "uncharged", row, job)
        check(status != "queued" or int(waits_for) == len(job.needs), "it waits for", row, job)
        check(tries == numbers == attempts and running == ("1" if status == "running" else "0"), "its attempts are not explained:", row, job)
        places = [int(is_row) + int(archived), int(ready), int(leased), int(finished)]
        check(sum(places) == 1 or places == [1, 0, 1, 0] and status == "running", "a job is in one place only:", places, row, job)


def drain(look):
    """Every lease is over, no queue is paused, and whoever takes jobs now succeeds: what is left that could run? (A job may wait for one that has died.)"""
    look.sql("update queue.jobs set lock_expires_at = '-infinity' where status = 'running'")
    look.sql("update queue.chunk_leases set expires_at = '-infinity'")
    look.sql("select queue.resume('wide', 'me')")
    for _ in range(1000):
        look.sql("select queue.tend_dependencies()")
        look.sql("select queue.reap('w0', '1 h', '0 s')")
        look.sql("update queue.jobs set run_at = now() where status = 'queued' and run_at > now()")
        rows = look.sql("select id, token from queue.claim('w0', null, '{t,c}', 100, '1 h')")
        ranges = look.sql("select id, token from queue.claim_chunks('w0', null, '{t,c}', 100, 10000, '1 h')")
        if not rows and not ranges and look.value("select count(*) from queue.chunk_leases") == "0":
            break
        look.sql("select queue.finish(%s, %s)" % (text([{"job": j, "token": t, "outcome": "succeeded"} for j, t in rows]),
                                                  text([{"token": t, "chunk": c, "busy_us": 1} for c, t in ranges])))
    return look.sql("select (select count(*) from queue.jobs where status = 'running'), (select count(*) from queue.chunk_ready), (select count(*) from queue.jobs j"
                    " where j.status = 'queued' and not exists (select from queue.dependencies d where d.job_id = j.id))")[0]


def main():
    note("SEED=%d STEPS=%d" % (SEED, STEPS))
    with Cluster() as cluster:
        with Rig(conf=None, env=cluster.env()) as rig:
            rig.write_conf("50-test.ini", "[plugin http]\n[plugin queue]\n")
            rig.start()  # makes the schema
            is_(rig.stop(), 0, "the schema is there")
        for queue, limits in LIMITS.items():
            cluster.sql("insert into queue.queue_policies (queue, max_attempts_per_minute, max_in_flight, max_per_key, key_fifo, backoff_base_ms) values"
                        " ('%s', null, %s, %s, %s, 0)" % (queue, limits.get("max_in_flight", "null"), limits.get("max_per_key", "null"), "key_fifo" in limits))
        play = Play(cluster, random.Random(SEED))
        try:
            play.run(STEPS)
            play.compare()
            ok(True, "%d steps, %d jobs: the database is what the model says" % (STEPS, len(play.model.jobs)))
            is_(drain(play.look), ["0", "0", "0"], "nothing is left that could run and does not")
            ok(int(play.look.value("select sum(succeeded) from queue.tally")) > 0, "jobs have succeeded")
        except Wrong as wrong:
            names = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", str(wrong))
            ok(False, "the database is what the model says", "SEED=%d" % SEED, wrong, *[t for t in play.told if any(n in t for n in names)][-20:])
        except RuntimeError as error:
            ok(False, "no step is refused", "SEED=%d" % SEED, error)
        states = [j.status for j in play.model.jobs.values()]
        note(" ".join("%s %d" % (s, states.count(s)) for s in sorted(set(states))))
        for session in play.sessions + [play.look]:
            session.process.kill()
            session.process.wait()
    done()


main()
