"""queue_model.py - the queue in a few lines of Python, to compare sql/queue with: what each job is after each committed step.

A step is applied when its transaction commits. Steps that touch the same job wait for each other in the database, so that the order of
commits is their order. A step that contradicts what is known here raises Wrong.
"""
ENDED = ("succeeded", "dlq", "canceled")
LIMITS = {"free": {}, "wide": {"max_in_flight": 5}, "key": {"max_per_key": 2}, "fifo": {"key_fifo": True}}


class Wrong(Exception):
    pass


def check(good, what, *more):
    if not good:
        raise Wrong("%s %s" % (what, " ".join(map(str, more))))


class Job:
    def __init__(self, queue, max_attempts, *, key=None, unique=None, needs=(), on_failure="cancel", batch=None, is_row=True):
        self.queue, self.max_attempts, self.key, self.unique = queue, max_attempts, key, unique
        self.needs, self.on_failure, self.batch = set(needs), on_failure, batch
        self.status, self.attempts, self.uncharged, self.is_row = "queued", 0, 0, is_row
        self.token, self.is_short, self.to_end, self.alone, self.goes_on = None, False, False, True, False

    def __repr__(self):
        return "{%s}" % ", ".join("%s %s" % item for item in vars(self).items())


class Model:
    def __init__(self):
        self.jobs, self.old_tokens, self.batches = {}, [], {}

    def running(self, queue, key=None):
        return sum(j.status == "running" and j.queue == queue and (key is None or j.key == key) for j in self.jobs.values())

    # ---- making ----

    def made(self, name, job):
        check(name not in self.jobs, "a job is made twice:", name)
        self.jobs[name] = job
        for need in sorted(job.needs):
            if self.jobs[need].status in ENDED:
                self.settle_need(name, need)
        self.is_alone(name)

    def is_alone(self, name):
        job = self.jobs[name]
        others = [n for n, j in self.jobs.items() if n != name and job.unique and j.unique == job.unique and j.status not in ENDED]
        check(not others or job.status in ENDED, "a second job has the unique key", job.unique, name, others)

    def known(self, name, unique, over):
        """over: what had ended when it was asked."""
        job = self.jobs.get(name)
        check(job and job.unique == unique and (job.status not in ENDED or name not in over), "a unique key leads to", name, job)

    # ---- running ----

    def claimed(self, name, token, attempt, *, is_short, alone=True):
        job = self.jobs.get(name)
        check(job is not None, "a job is claimed that nobody made:", name)
        check(job.status == "queued" and not job.needs, "a job is claimed that could not run:", name, job)
        limits = LIMITS.get(job.queue, {})
        check(self.running(job.queue) < limits.get("max_in_flight", 10 ** 9), "more run than max_in_flight allows:", name, job)
        if job.key:
            check(self.running(job.queue, job.key) < limits.get("max_per_key", 10 ** 9), "more of a key run than max_per_key allows:", name, job)
            older = [n for n, j in self.jobs.items() if limits.get("key_fifo") and j.queue == job.queue and j.key == job.key and n < name
                     and j.status not in ENDED]
            check(not older, "a job of an ordered key runs before its turn:", name, older)
        job.status, job.attempts, job.token, job.is_short, job.alone, job.goes_on = "running", job.attempts + 1, token, is_short, alone, False
        check(attempt in (None, job.attempts), "attempt", attempt, "of", name, job)
        check(job.attempts - job.uncharged <= job.max_attempts, "an attempt too many:", name, job)

    def finished(self, name, token, result):
        """result: {outcome, code, retry}. Returns what the database should say: whether it is accepted."""
        job = self.jobs[name]
        if job.status != "running" or job.token != token:
            return False
        outcome, code = result["outcome"], result.get("code")
        free = outcome == "snoozed" or code == "WORKER_SHUTDOWN"
        if outcome == "succeeded":
            status = "succeeded"
        elif job.to_end:
            status = "canceled"
        elif outcome == "failed" and not free and (result.get("retry") == "no" or job.attempts - job.uncharged >= job.max_attempts):
            status = "dlq"
        else:
            status = "queued"
        job.attempts -= outcome == "released"
        job.uncharged += free
        self.stop(name, status)
        return True

    def lost(self, name, token, *, alone=None):
        """alone: the daemon knows of it before the lease runs out."""
        job = self.jobs[name]
        if alone is None:
            check(job.status == "running" and job.token == token and job.is_short, "a lease is called lost that was not:", name, job)
        elif job.status != "running" or job.token != token:
            return
        charged = job.alone if alone is None else alone
        dead = charged and job.attempts - job.uncharged >= job.max_attempts
        job.uncharged += not charged
        self.stop(name, "canceled" if job.to_end else "dlq" if dead else "queued")

    def goes_on(self, name, token):
        """Its range ends without it."""
        job = self.jobs[name]
        if job.status == "running" and job.token == token:
            job.is_row = job.alone = job.goes_on = True

    def refused(self, name, token):
        """The answer of a range that has ended."""
        job = self.jobs[name]
        check(job.status != "running" or job.token != token or job.goes_on, "the answer of a range is refused whose lease is held:", name, job)

    def stop(self, name, status):
        job = self.jobs[name]
        if job.token:
            self.old_tokens.append((name, job.token))
        job.status, job.token = status, None
        if status in ENDED:
            self.ended(name)

    # ---- ending ----

    def ended(self, name):
        job = self.jobs[name]
        job.needs, job.is_row, job.to_end = set(), True if job.status != "succeeded" else job.is_row, False
        if job.batch:
            self.batches[job.batch][job.status] += 1
        for other in [n for n, j in self.jobs.items() if name in j.needs]:
            self.settle_need(other, name)

    def settle_need(self, name, need):
        job, status = self.jobs[name], self.jobs[need].status
        if status == "succeeded" or job.on_failure == "run":
            job.needs.discard(need)
        elif job.on_failure == "cancel" and job.status == "queued":
            self.stop(name, "canceled")

    def canceled(self, name):
        job = self.jobs[name]
        check(job.status in ("queued", "running"), "a job is canceled that has ended:", name, job)
        job.is_row = True
        if job.status == "queued":
            self.stop(name, "canceled")
        else:
            job.to_end = True

    def retried(self, name):
        job = self.jobs[name]
        check(job.status in ("dlq", "canceled"), "a job is tried again that is", name, job)
        job.status, job.uncharged, job.batch, job.needs = "queued", job.attempts, None, set()
        self.is_alone(name)

    def discarded(self, name):
        check(self.jobs[name].status == "dlq", "a job is discarded that is not dead:", name, self.jobs[name])
        self.jobs[name].status = "canceled"

    def replayed(self, name, new, max_attempts):
        old = self.jobs[name]
        self.made(new, Job(old.queue, max_attempts, key=old.key))
        if old.status in ("dlq", "canceled"):
            for job in self.jobs.values():
                if name in job.needs and job.on_failure == "wait" and job.status == "queued":
                    job.needs = job.needs - {name} | {new}
