/* supervise.c - worker processes: started, watched, replaced. Runs on the supervisor's thread, whose loop nobody
 * blocks; that thread lives as long as the workers, which die with it. */
#include "lua/supervise.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

enum {
    SILENCE_MS = 5000, /* without a beat, past the CPU limit */
    GRACE_MS = 60000,  /* past a script's deadline, in a worker that beats but does not end it */
    START_MS = 60000,  /* from start to ready */
    STOP_MS = 5000,    /* from stop to end */
    REAP_MS = 500,
    BACKOFF_LEAST_MS = 100,
    BACKOFF_MOST_MS = 30000,
    STABLE_MS = 60000,   /* a worker that lived this long ends the backoff */
    LOAD_TRIES = 3,      /* workers that may end while they load a new set before the set is blamed */
    CAPS_PER_WORKER = 4, /* memory of all scripts of a worker, in limits of one */
};

#define ADDRESS_SPACE_BESIDES (4LL << 30) /* plugins, libraries, stacks of threads, results of queries */

void generation_release(generation *g)
{
    if (g != NULL && --g->refs == 0) {
        depot_arena_free(g->arena);
    }
}

int64_t supervise_capacity(const scripts *s)
{
    int64_t n = 0;

    for (const worker_proc *w = s->procs; w != NULL && !s->stopping; w = w->next) {
        if (w->state == WORKER_READY && w->gen == s->gen) {
            n += w->gen->opt.concurrency - (int64_t)w->running;
        }
    }
    return n;
}

ticket *supervise_take(worker_proc *w, uint64_t id)
{
    for (ticket **at = &w->tickets; *at != NULL; at = &(*at)->next) {
        if ((*at)->id == id) {
            ticket *t = *at;
            *at = t->next;
            w->running -= t->room;
            return t;
        }
    }
    return NULL;
}

void supervise_add(worker_proc *w, ticket *t)
{
    t->next = w->tickets;
    w->tickets = t;
    w->running += t->room;
}

void supervise_cancel(worker_proc *w, ticket *t)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    t->canceled = true;
    channel_send(w->channel, WIRE_CANCEL, t->id, depot_json_object(arena), NULL, 0);
}

void supervise_enough(worker_proc *w, ticket *t)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    channel_send(w->channel, WIRE_ENOUGH, t->id, depot_json_object(arena), NULL, 0);
}

void supervise_retire(worker_proc *w)
{
    w->state = WORKER_RETIRING;
    w->state_ms = depot_now_ms();
    for (ticket *t = w->tickets; t != NULL; t = t->next) {
        if (t->range_done != NULL) { /* its other jobs are for the new scripts */
            supervise_enough(w, t);
        }
    }
}

void supervise_changed(scripts *s)
{
    size_t n;

    pthread_mutex_lock(&s->lock);
    n = s->n_listeners;
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < n; i++) { /* rows are only added */
        s->listeners[i].fn(s->listeners[i].arg);
    }
}

/* ---- the end of a worker ---- */

static void lose(const worker_proc *w, const ticket *t, int64_t now)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_script_result res = { .json = "null", .log = ticket_said(t, arena), .where = "", .trace = "", .wall_us = (now - t->started_ms) * 1000 };

    if (t->canceled) {
        (void)DEPOT_FAIL(&res.err, CANCELED, "%s was canceled", t->label);
    } else if (now >= (t->n == 1 ? t->started_ms + t->timeout_ms : t->deadline_ms)) { /* of a range of one: as of a run */
        (void)DEPOT_FAIL(&res.err, TIMEOUT, "%s did not stop at its deadline; its worker (process %d) was killed",
                         t->label, (int)w->pid);
    } else {
        (void)DEPOT_FAIL(&res.err, WORKER_LOST, "the worker (process %d) ended while %s ran in it", (int)w->pid,
                         t->label);
    }
    if (t->range_done != NULL) {
        depot_range_result all = { .err = res.err, .logs = ticket_jobs_said(t, arena) };
        t->range_done(t->arg, &all);
    } else {
        t->done(t->arg, &res);
    }
}

static void log_end(const worker_proc *w, int status)
{
    if (w->hung) {
        log_write("lua", DEPOT_LOG_ERROR, "worker.hung", "worker %llu (process %d) did not answer and was killed",
                  (unsigned long long)w->number, (int)w->pid);
    } else if (w->state != WORKER_STOPPING && status > 128) {
        log_write("lua", DEPOT_LOG_ERROR, "worker.lost", "worker %llu (process %d) was ended by signal %d",
                  (unsigned long long)w->number, (int)w->pid, status - 128);
    } else if (w->state != WORKER_STOPPING) {
        log_write("lua", DEPOT_LOG_ERROR, "worker.lost", "worker %llu (process %d) ended with status %d",
                  (unsigned long long)w->number, (int)w->pid, status);
    }
}

static void unlink_worker(scripts *s, worker_proc *w)
{
    for (worker_proc **at = &s->procs; *at != NULL; at = &(*at)->next) {
        if (*at == w) {
            *at = w->next;
            return;
        }
    }
}

/* Under the lock: what the end of w means for its generation and for the next start. */
static void judge_end(scripts *s, worker_proc *w, int64_t now)
{
    if (w->gen == s->candidate && !w->gen->ready && !w->gen->failed && ++w->gen->lost == LOAD_TRIES) {
        (void)DEPOT_FAIL(&w->gen->err, WORKER_LOST, "the worker (process %d) ended while it loaded the scripts",
                         (int)w->pid);
        w->gen->failed = true;
    }
    if (w->state != WORKER_STOPPING) {
        bool stable = now - w->started_ms > STABLE_MS;
        s->backoff_ms = stable || s->backoff_ms == 0 ? BACKOFF_LEAST_MS : s->backoff_ms * 2;
        s->backoff_ms = s->backoff_ms > BACKOFF_MOST_MS ? BACKOFF_MOST_MS : s->backoff_ms;
        s->next_start_ms = now + s->backoff_ms;
    }
    pthread_cond_broadcast(&s->changed);
}

static void on_end(void *arg, const depot_err *err)
{
    worker_proc *w = arg;
    scripts     *s = w->scripts;
    int64_t      now = depot_now_ms();
    int          status = 0;

    (void)err;
    pthread_mutex_lock(&s->lock);
    unlink_worker(s, w);
    ticket *lost = w->tickets;
    judge_end(s, w, now);
    pthread_mutex_unlock(&s->lock);
    while (lost != NULL) { /* first: their leases wait */
        ticket *t = lost;
        lost = t->next;
        lose(w, t, now);
        ticket_free(t);
    }
    child_end_session(&w->child, REAP_MS); /* programs of its scripts, and what these have started */
    if (!child_wait(&w->child, REAP_MS, &status)) {
        child_stop(&w->child, SIGKILL, REAP_MS, &status);
    }
    log_end(w, status);
    channel_close(w->channel);
    pthread_mutex_lock(&s->lock);
    generation_release(w->gen);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    depot_arena_free(w->metrics_arena);
    free(w);
    if (!s->stopping) {
        supervise_changed(s);
    }
}

/* ---- the start of a worker ---- */

static void send_hello(worker_proc *w)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const generation                         *g = w->gen;
    depot_json                               *env = depot_json_object(arena);
    depot_json                               *head = depot_json_object(arena);

    for (char **at = environ; *at != NULL; at++) {
        const char *equals = strchr(*at, '=');
        if (equals != NULL && equals != *at && depot_utf8_valid(*at, strlen(*at))) {
            depot_json_set(env, depot_strndup(arena, *at, (size_t)(equals - *at)), depot_json_str(arena, equals + 1));
        }
    }
    depot_json_set(head, "env", env);
    depot_json_set(head, "concurrency", depot_json_int(arena, g->opt.concurrency));
    if (g->opt.db != NULL) {
        const db_pool_options *db = g->opt.db;
        depot_json_set(head, "db",
                       depot_json_pack(arena, "{s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "url", db->url, "name",
                                       depot_strf(arena, "%s/worker", db->name == NULL ? "depotd" : db->name),
                                       "connect_ms", db->connect_timeout_ms, "acquire_ms", db->acquire_timeout_ms,
                                       "statement_ms", db->statement_timeout_ms, "lock_ms", db->lock_timeout_ms,
                                       "idle_tx_ms", db->idle_tx_timeout_ms));
    }
    channel_send(w->channel, WIRE_HELLO, 0, head, g->conf, strlen(g->conf));
}

static int64_t level_in_force(void)
{
    int64_t level = DEPOT_LOG_DEBUG;

    while (level < DEPOT_LOG_ERROR && !log_wants((depot_level)level)) {
        level++;
    }
    return level;
}

static void send_sources(worker_proc *w)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const generation                         *g = w->gen;

    for (size_t i = 0; i < g->sources.n; i++) {
        const source *f = &g->sources.files[i];
        channel_send(w->channel, WIRE_SOURCE, 0, depot_json_pack(arena, "{s:s}", "path", f->path), f->text, f->n);
    }
    channel_send(w->channel, WIRE_START, 0,
                 depot_json_pack(arena, "{s:I, s:I, s:I, s:s?}", "memory_max", g->opt.memory_max, "cpu_max_ms",
                                 g->opt.cpu_max_ms, "log_level", level_in_force(), "grants", g->opt.grants),
                 NULL, 0);
}

static bool run_program(scripts *s, const generation *g, int fd, child *out, depot_err *err)
{
    const host_env   *env = host_environment(s->host);
    const char *const argv[] = { g->opt.exe, "--worker", "--config", env->conf_dir, "--state", env->state_dir, NULL };
    child_spec        spec = CHILD_SPEC_INIT;

    spec.argv = argv;
    spec.out = STDOUT_FILENO;
    spec.err = STDERR_FILENO;
    spec.keep = fd;
    spec.no_new_privs = true;
    spec.die_with_parent = true;
    spec.own_session = true;
#if !defined(__SANITIZE_ADDRESS__) &&                                                                                  \
    !defined(__SANITIZE_THREAD__) /* sanitizers reserve more addresses than there are */
    spec.memory_limit = CAPS_PER_WORKER * g->opt.memory_max + ADDRESS_SPACE_BESIDES;
#endif
    return child_start(&spec, out, err);
}

static bool spawn(scripts *s, generation *g, depot_err *err)
{
    const int    type = SOCK_STREAM | SOCK_CLOEXEC;
    worker_proc *w = depot_xalloc(sizeof(*w));
    int          pair[2];

    if (socketpair(AF_UNIX, type, 0, pair) != 0) {
        free(w);
        return DEPOT_FAIL_ERRNO(err, "cannot make a socket pair for a worker");
    }
    bool ok = run_program(s, g, pair[1], &w->child, err);
    depot_fd_close(&pair[1]);
    if (!ok) {
        depot_fd_close(&pair[0]);
        free(w);
        return depot_wrap(err, "worker");
    }
    const channel_calls calls = { supervise_frame, on_end, w };
    w->scripts = s;
    w->gen = g;
    w->pid = w->child.pid;
    w->started_ms = w->beat_ms = w->state_ms = depot_now_ms();
    w->channel = channel_new(s->loop, pair[0], NULL, &calls);
    pthread_mutex_lock(&s->lock);
    g->refs++;
    w->number = ++s->last_number;
    w->next = s->procs;
    s->procs = w;
    pthread_mutex_unlock(&s->lock);
    send_hello(w);
    send_sources(w);
    return true;
}

/* ---- watching ---- */

static void set_state(worker_proc *w, worker_state state)
{
    w->state = state;
    w->state_ms = depot_now_ms();
}

static bool is_overdue(const worker_proc *w, int64_t now)
{
    int64_t silence = now - w->beat_ms;
    int64_t in_state = now - w->state_ms;

    if (w->state == WORKER_STARTING || w->state == WORKER_STOPPING) {
        return in_state > (w->state == WORKER_STARTING ? START_MS : STOP_MS);
    }
    for (const ticket *t = w->tickets; t != NULL; t = t->next) {
        if (now > t->deadline_ms + w->gen->opt.cpu_max_ms + GRACE_MS) {
            return true;
        }
    }
    return silence > w->gen->opt.cpu_max_ms + SILENCE_MS;
}

static void stop_worker(worker_proc *w)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    set_state(w, WORKER_STOPPING);
    channel_send(w->channel, WIRE_STOP, 0, depot_json_object(arena), NULL, 0);
}

/* Under the lock. The end comes by the channel. */
static void look_at(scripts *s, worker_proc *w, int64_t now)
{
    if (is_overdue(w, now)) {
        w->hung = w->state != WORKER_STOPPING;
        child_kill(&w->child, SIGKILL);
        w->state_ms = w->beat_ms = now; /* once */
        return;
    }
    bool obsolete = w->gen != s->gen && w->gen != s->candidate;
    if (w->state == WORKER_READY && (obsolete || s->stopping)) {
        supervise_retire(w);
    }
    if (w->state == WORKER_RETIRING && w->running == 0) {
        stop_worker(w);
    }
    if (w->state == WORKER_STARTING && (obsolete || s->stopping)) {
        set_state(w, WORKER_STOPPING);
        child_kill(&w->child, SIGKILL);
    }
}

/* Under the lock: the generation of which a worker is missing, or NULL. */
static generation *missing(const scripts *s, int64_t now)
{
    int64_t have = 0, tried = 0;

    for (const worker_proc *w = s->procs; w != NULL; w = w->next) {
        have += w->gen == s->gen && (w->state == WORKER_STARTING || w->state == WORKER_READY);
        tried += w->gen == s->candidate;
    }
    if (s->stopping) {
        return NULL;
    }
    if (s->candidate != NULL && !s->candidate->failed && !s->candidate->ready && tried == 0) {
        return s->candidate;
    }
    return s->gen != NULL && have < s->gen->opt.workers && now >= s->next_start_ms ? s->gen : NULL;
}

static void spawn_failed(scripts *s, generation *g, const depot_err *err)
{
    log_err("lua", DEPOT_LOG_ERROR, "worker.not_started", err);
    pthread_mutex_lock(&s->lock);
    if (g == s->candidate) {
        g->failed = true;
        g->err = *err;
    }
    s->next_start_ms = depot_now_ms() + BACKOFF_MOST_MS / 10;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void supervise_tick(void *scripts_ptr)
{
    scripts    *s = scripts_ptr;
    depot_err   err = { 0 };
    int64_t     now = depot_now_ms();
    generation *wanted;

    pthread_mutex_lock(&s->lock);
    for (worker_proc *w = s->procs; w != NULL; w = w->next) {
        look_at(s, w, now);
    }
    wanted = missing(s, now);
    pthread_mutex_unlock(&s->lock);
    while (wanted != NULL) {
        if (!spawn(s, wanted, &err)) {
            spawn_failed(s, wanted, &err);
        }
        pthread_mutex_lock(&s->lock);
        wanted = missing(s, depot_now_ms());
        pthread_mutex_unlock(&s->lock);
    }
}

void supervise_stop_all(void *scripts_ptr)
{
    scripts *s = scripts_ptr;

    pthread_mutex_lock(&s->lock);
    for (worker_proc *w = s->procs; w != NULL; w = w->next) {
        if (w->running > 0 || w->state == WORKER_STARTING) {
            for (ticket *t = w->tickets; t != NULL; t = t->next) {
                t->canceled = true;
            }
            set_state(w, WORKER_STOPPING);
            child_kill(&w->child, SIGKILL);
        } else if (w->state != WORKER_STOPPING) {
            stop_worker(w);
        }
    }
    pthread_mutex_unlock(&s->lock);
}
