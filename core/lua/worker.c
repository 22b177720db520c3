/* worker.c - the worker process: one loop, one engine, and the channel to the daemon, over which come sources and work,
 * and go results, log lines, events and metrics. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/metrics.h"
#include "db/async.h"
#include "lua/channel.h"
#include "lua/emit.h"
#include "lua/engine.h"
#include "lua/outcome.h"
#include "lua/scripts.h"

enum {
    GREET_MS = 10000,
    BEAT_MS = 1000,
    METRICS_EVERY = 5,
    RESULT_MAX = 64 << 10,
    LOG_MAX = 1 << 20,
    LOG_WAITING_MAX = 8 << 20,
    THREADS_LEAST = 4,
    THREADS_MOST = 16,
    CONNECTIONS = 4,
    END_MS = 2000,
    OVERDUE_MOST = 2,
    SLICE_US = 20000
};

typedef struct worker {
    host             *host;
    loop             *loop;
    channel          *channel;
    engine           *engine;
    db_async         *db;
    depot_arena      *arena;
    wire_reader       reader; /* until the channel has it */
    const depot_json *hello;
    sources           sources;
    uint64_t          beats;
    int               status;
} worker;

/* One per process: host_env.emit has no place for it. */
static worker self;

/* ---- the first frame ---- */

static void take_environment(const depot_json *env)
{
    const char       *name;
    const depot_json *value;

    for (size_t it = 0; env != NULL && depot_json_next(env, &it, &name, &value);) {
        const char *text = depot_json_string(value, NULL);
        if (text != NULL && setenv(name, text, 1) != 0) { /* NOLINT(concurrency-mt-unsafe): no other thread yet */
            log_write("lua", DEPOT_LOG_WARN, "worker.environment", "the variable %s cannot be set: %m", name);
        }
    }
}

bool worker_greet(int fd, const char **out_conf, depot_err *err)
{
    wire_frame  frame;
    const char *text;
    size_t      n;

    self.arena = depot_arena_new();
    if (!wire_receive(fd, &self.reader, GREET_MS, &frame, err)) {
        return depot_wrap(err, "no word from the daemon");
    }
    if (frame.type != WIRE_HELLO) {
        return DEPOT_FAIL(err, MALFORMED, "the daemon's first word is of type %d", (int)frame.type);
    }
    if (!wire_parse(self.arena, &frame, &self.hello, &text, &n, err)) {
        return false;
    }
    take_environment(depot_json_get(self.hello, "env"));
    *out_conf = depot_strndup(self.arena, text, n);
    return true;
}

/* ---- what goes to the daemon ---- */

static void send_end(uint64_t id, const depot_script_result *res)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    channel_send(self.channel, WIRE_DONE, id, outcome_head(arena, res), res->json, strlen(res->json));
}

static void on_ranged(void *arg, uint64_t id, const depot_range_result *res)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const char                               *results = res->results;

    (void)arg;
    channel_send(self.channel, WIRE_RANGED, id, outcome_range_head(arena, res), results, results == NULL ? 0 : strlen(results));
}

static void on_done(void *arg, uint64_t id, const depot_script_result *res)
{
    (void)arg;
    send_end(id, res);
}

static void on_log(void *arg, uint64_t id, depot_level level, const char *label, const char *where, const char *text,
                   size_t n, const char *fields)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = NULL;
    depot_err                                 ignored = { 0 };

    (void)arg;
    if (!log_wants(level) || channel_waiting(self.channel) > LOG_WAITING_MAX) {
        return; /* a daemon that does not read loses log lines, not results */
    }
    arena = depot_arena_new();
    depot_json *head = depot_json_pack(arena, "{s:i, s:s, s:s}", "level", (int)level, "label", label, "where", where);
    if (fields != NULL) {
        depot_json_set(head, "fields", depot_json_parse(arena, fields, strlen(fields), &ignored)); /* was made by us */
    }
    channel_send(self.channel, WIRE_LOG, id, head, text, n);
}

static int64_t resident_bytes(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_err                                 err = { 0 };
    char                                     *text = NULL;

    if (!depot_read_file(arena, "/proc/self/statm", 4096, &text, NULL, &err)) {
        return 0;
    }
    const char *second = strchr(text, ' ');
    return second == NULL ? 0 : strtoll(second, NULL, 10) * sysconf(_SC_PAGESIZE);
}

static void send_metrics(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_json                               *head = depot_json_object(arena);

    depot_json_set(head, "metrics", metrics_json(arena));
    channel_send(self.channel, WIRE_METRICS, 0, head, NULL, 0);
}

static void send_beat(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    bool                                      stuck = engine_overdue(self.engine) > OVERDUE_MOST;

    channel_send(self.channel, WIRE_BEAT, 0,
                 depot_json_pack(arena, "{s:I, s:b}", "rss_bytes", resident_bytes(), "stuck", (int)stuck), NULL, 0);
}

static void on_beat(void *arg)
{
    (void)arg;
    send_beat();
    if (self.beats++ % METRICS_EVERY == METRICS_EVERY - 1) {
        send_metrics();
    }
    log_tick();
}

/* A script blocks the loop: the channel is kept going by hand. */
static void on_blocked(void *arg)
{
    (void)arg;
    send_beat();
    channel_flush(self.channel);
}

/* ---- start ---- */

static void connect_database(const depot_json *db)
{
    const char *name = depot_json_get_str(db, "name", "depotd/worker");

    if (db == NULL || depot_json_get_str(db, "url", NULL) == NULL) {
        return;
    }
    const db_pool_options pool = {
        .url = depot_json_get_str(db, "url", NULL),
        .name = name,
        .max = CONNECTIONS,
        .connect_timeout_ms = depot_json_get_int(db, "connect_ms", 0),
        .acquire_timeout_ms = depot_json_get_int(db, "acquire_ms", 0),
        .statement_timeout_ms = depot_json_get_int(db, "statement_ms", 0),
        .lock_timeout_ms = depot_json_get_int(db, "lock_ms", 0),
        .idle_tx_timeout_ms = depot_json_get_int(db, "idle_tx_ms", 0),
    };
    const db_async_options async = {
        .url = pool.url,
        .name = name,
        .max = CONNECTIONS,
        .connect_timeout_ms = pool.connect_timeout_ms,
        .acquire_timeout_ms = pool.acquire_timeout_ms,
        .statement_timeout_ms = pool.statement_timeout_ms,
        .lock_timeout_ms = pool.lock_timeout_ms,
        .idle_tx_timeout_ms = pool.idle_tx_timeout_ms,
    };
    host_environment(self.host)->db = db_pool_new(&pool);
    self.db = db_async_new(loop_uv(self.loop), &async);
}

/* The first fault is the one that is told; the others are logged. */
static void on_fault(void *arg, const char *file, int line, const depot_err *err)
{
    depot_err *first = arg;

    if (first->code == DEPOT_OK) {
        *first = *err;
        (void)depot_wrap(first, "%s:%d", file, line);
    } else {
        log_write("lua", DEPOT_LOG_ERROR, "script.not_loaded", "%s:%d: %s", file, line, err->msg);
    }
}

static bool start(const depot_json *options, depot_err *err)
{
    host_env   *env = host_environment(self.host);
    const char *grants = depot_json_get_str(options, "grants", "{}");

    sources_seal(&self.sources);
    connect_database(depot_json_get(self.hello, "db"));
    env->emit = emit_event;
    if (!host_start(self.host, true, err) || !host_start(self.host, false, err)) {
        return false;
    }
    const engine_options o = {
        .loop = loop_uv(self.loop),
        .host = self.host,
        .sources = &self.sources,
        .db = self.db,
        .grants = depot_json_parse(self.arena, grants, strlen(grants), err),
        .memory_max = depot_json_get_int(options, "memory_max", 0),
        .cpu_max_ms = depot_json_get_int(options, "cpu_max_ms", 0),
        .slice_us = SLICE_US,
        .result_max = RESULT_MAX,
        .log_max = LOG_MAX,
        .done = on_done,
        .ranged = on_ranged,
        .log = on_log,
        .beat = on_blocked,
    };
    if (o.grants == NULL || !engine_new(&o, &self.engine, err)) {
        return false;
    }
    return engine_load(self.engine, on_fault, err);
}

static depot_json *needs_json(depot_arena *arena, const char *const *needs)
{
    depot_json *list = depot_json_array(arena);

    for (; needs != NULL && *needs != NULL; needs++) {
        depot_json_add(list, depot_json_str(arena, *needs));
    }
    return list;
}

static void send_ready(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_json                               *list = depot_json_array(arena);
    depot_json                               *head = depot_json_object(arena);

    for (size_t i = 0; i < engine_handlers(self.engine); i++) {
        const handler *h = engine_handler(self.engine, i);
        depot_json_add(list,
                       depot_json_pack(arena, "{s:s, s:s, s:s, s:I, s:I, s:o}", "name", h->name, "file", h->file,
                                       "revision", h->revision, "timeout_ms", h->timeout_ms, "max_attempts",
                                       h->max_attempts, "needs", needs_json(arena, h->needs)));
    }
    depot_json_set(head, "handlers", list);
    channel_send(self.channel, WIRE_READY, 0, head, NULL, 0);
    (void)loop_every(self.loop, BEAT_MS, on_beat, NULL); /* freed with the loop */
}

static void on_start(const depot_json *options)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_json                               *head = depot_json_object(arena);
    depot_err                                 err = { 0 };

    log_set_level((depot_level)depot_json_get_int(options, "log_level", DEPOT_LOG_INFO));
    if (start(options, &err)) {
        send_ready();
        return;
    }
    wire_put_err(arena, head, &err);
    channel_send(self.channel, WIRE_FAILED, 0, head, NULL, 0);
    self.status = depot_err_exit(&err);
    loop_stop(self.loop);
}

/* ---- frames ---- */

static void on_run(uint64_t id, const depot_json *head, const char *text, size_t n)
{
    run_spec            spec = { .id = id,
                                 .name = depot_json_get_str(head, "name", ""),
                                 .label = depot_json_get_str(head, "label", NULL),
                                 .arg = text,
                                 .arg_len = n,
                                 .timeout_ms = depot_json_get_int(head, "deadline_ms", 0) - depot_now_ms() };
    depot_script_result res = { .json = "null", .where = "", .trace = "" };

    if (self.engine == NULL || !run_mode_by_name(depot_json_get_str(head, "kind", ""), &spec.mode)) {
        (void)DEPOT_FAIL(&res.err, BUG, "a script of unknown kind");
        send_end(id, &res);
    } else if (!engine_run(self.engine, &spec, &res.err)) {
        send_end(id, &res);
    }
}

static void on_range(uint64_t id, const depot_json *head, const char *text, size_t n)
{
    DEPOT_AUTO(depot_buf_free) depot_buf args = { 0 };
    depot_range_result                   res = { 0 };

    depot_buf_add(&args, text, n); /* ends in NUL */
    const range_spec spec = { .id = id,
                              .name = depot_json_get_str(head, "name", ""),
                              .job_id = depot_json_get_str(head, "job_id", ""),
                              .token = depot_json_get_str(head, "token", ""),
                              .job = depot_json_get(head, "job"),
                              .args = args.data,
                              .first = depot_json_get_int(head, "first", 0),
                              .n = depot_json_get_int(head, "n", 0),
                              .room = depot_json_get_int(head, "room", 0),
                              .timeout_ms = depot_json_get_int(head, "timeout_ms", 0) };
    if (self.engine == NULL) {
        (void)DEPOT_FAIL(&res.err, BUG, "jobs before the scripts");
        on_ranged(NULL, id, &res);
    } else if (!engine_range(self.engine, &spec, &res.err)) {
        on_ranged(NULL, id, &res);
    }
}

static void on_frame(void *arg, const wire_frame *frame)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_err                                 err = { 0 };
    const depot_json                         *head;
    const char                               *text;
    size_t                                    n;

    (void)arg;
    if (!wire_parse(arena, frame, &head, &text, &n, &err)) {
        log_err("lua", DEPOT_LOG_ERROR, "worker.frame", &err);
        return;
    }
    switch ((int)frame->type) {
    case WIRE_SOURCE:
        sources_add(self.arena, &self.sources, depot_json_get_str(head, "path", ""), depot_strndup(self.arena, text, n),
                    n);
        break;
    case WIRE_START:
        on_start(head);
        break;
    case WIRE_RUN:
        on_run(frame->id, head, text, n);
        break;
    case WIRE_RANGE:
        on_range(frame->id, head, text, n);
        break;
    case WIRE_ENOUGH:
        if (self.engine != NULL) {
            engine_enough(self.engine, frame->id);
        }
        break;
    case WIRE_CANCEL:
        engine_cancel(self.engine, frame->id);
        break;
    case WIRE_EMITTED:
        emit_answer(frame->id, head);
        break;
    case WIRE_STOP:
        send_metrics();
        loop_stop(self.loop);
        break;
    default:
        log_write("lua", DEPOT_LOG_ERROR, "worker.frame", "the daemon sent a frame of type %d", (int)frame->type);
    }
}

/* The daemon is gone: nobody waits for results, leases run out by themselves. */
static void on_end(void *arg, const depot_err *err)
{
    (void)arg;
    (void)err;
    self.status = 1;
    loop_stop(self.loop);
}

/* ---- the process ---- */

static void ignore_signals(void)
{
    static const int ignored[] = { SIGPIPE, SIGHUP, SIGINT, SIGTERM }; /* the daemon decides when workers end */

    for (size_t i = 0; i < DEPOT_N(ignored); i++) {
        signal(ignored[i], SIG_IGN);
    }
}

/* Each request of a script is a socket. */
static void allow_files(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* up to the hard limit always works */
    }
}

/* Before the first use of libuv's thread pool, which reads this variable then. */
static void size_thread_pool(int64_t concurrency)
{
    char    text[24];
    int64_t n = concurrency < THREADS_LEAST ? THREADS_LEAST : concurrency > THREADS_MOST ? THREADS_MOST : concurrency;

    snprintf(text, sizeof(text), "%lld", (long long)n);
    if (setenv("UV_THREADPOOL_SIZE", text, 1) != 0) { /* NOLINT(concurrency-mt-unsafe): no other thread yet */
        log_write("lua", DEPOT_LOG_WARN, "worker.threads", "the thread pool keeps its size: %m");
    }
}

/* Whether everything could be given back; a call that hangs in the pool may keep its memory, the process ends anyway.
 */
static bool wind_down(void)
{
    int64_t until = depot_now_ms() + END_MS;

    while (self.engine != NULL && !engine_is_idle(self.engine) && depot_now_ms() < until) {
        uv_run(loop_uv(self.loop), UV_RUN_NOWAIT);
        usleep(1000);
    }
    return self.engine == NULL || engine_is_idle(self.engine);
}

int worker_main(host *h, int fd)
{
    const channel_calls calls = { on_frame, on_end, NULL };

    ignore_signals();
    allow_files();
    size_thread_pool(depot_json_get_int(self.hello, "concurrency", THREADS_LEAST));
    self.host = h;
    self.loop = loop_new();
    self.channel = channel_new(self.loop, fd, &self.reader, &calls);
    emit_open(self.channel);
    loop_run(self.loop);
    host_drain(h);
    bool idle = wind_down();
    host_stop(h);
    channel_flush(self.channel);
    log_finish();
    if (!idle) {
        _exit(self.status);
    }
    return self.status;
}
