/* queue.c - the queue plugin: jobs in PostgreSQL, leased, run by scripts or C code, retried, buried. Tables and life
 * cycle. */
#include <stdio.h>
#include <string.h>

#include "queue.h"

enum { DRAIN_MS = 5000, LAST_RESULTS_MS = 5000 };

queue queue_self = { .lock = PTHREAD_MUTEX_INITIALIZER, .quiet = PTHREAD_COND_INITIALIZER };

/* clang-format off */
static const depot_field options[] = {
    DEPOT_OPT_LIST(queue_options, queues, NULL, .flags = DEPOT_RELOADABLE, .env = "PGFLOW_QUEUE|QUEUE",
        .doc = "queues that this daemon takes jobs from; without it all"),
    DEPOT_OPT_DURATION(queue_options, lease, "10s", 1000, 3600000, .flags = DEPOT_RELOADABLE, .env = "PGFLOW_LEASE_SECONDS=s|LEASE_SECONDS=s",
        .doc = "how long a job that a daemon has taken stays its own without a sign of life; signs are given every third of it"),
    DEPOT_OPT_INT(queue_options, batch, "256", 1, 4096, .flags = DEPOT_RELOADABLE, .env = "PGFLOW_DEQUEUE_BATCH_SIZE",
        .doc = "jobs taken at a time, at most; never more than there is room for"),
    DEPOT_OPT_INT(queue_options, c_jobs, "4", 1, 256, .flags = DEPOT_RELOADABLE,
        .doc = "jobs of C handlers, such as durable hooks, at a time; each holds a thread of [daemon] threads"),
    DEPOT_OPT_DURATION(queue_options, reap_interval, "5s", 250, 60000, .flags = DEPOT_RELOADABLE, .env = "PGFLOW_REAP_INTERVAL_MS=ms",
        .doc = "how often leases that ran out are looked for"),
    DEPOT_OPT_SIZE(queue_options, max_payload, "256KiB", 1, 64LL << 20, .flags = DEPOT_RELOADABLE, .env = "PGFLOW_MAX_PAYLOAD_BYTES|MAX_PAYLOAD_BYTES",
        .doc = "largest arguments of a job, as JSON text"),
    DEPOT_OPT_SIZE(queue_options, max_result, "64KiB", 64, 16LL << 20, .flags = DEPOT_RELOADABLE,
        .doc = "largest result that is kept with a job, as JSON text; of a larger one only the size"),
    DEPOT_OPT_INT(queue_options, max_enqueue_per_minute, "10000", 0, 1000000000, .flags = DEPOT_RELOADABLE,
        .env = "PGFLOW_MAX_ENQUEUE_PER_MINUTE|MAX_ENQUEUE_PER_MINUTE",
        .doc = "jobs that POST /jobs takes a minute and queue, all daemons together; 0: any number"),
    DEPOT_OPT_DURATION(queue_options, archive_after, "7d", 1000, 315360000000, .flags = DEPOT_RELOADABLE, .env = "ARCHIVE_SUCCEEDED_AFTER_DAYS=d",
        .doc = "when jobs that succeeded or were canceled go to the archive, where they still can be read, listed and replayed"),
    DEPOT_OPT_DURATION(queue_options, archive_dlq_after, "0", 0, 315360000000, .flags = DEPOT_RELOADABLE,
        .doc = "when dead jobs go to the archive; 0: they stay until somebody retries or discards them"),
    DEPOT_OPT_DURATION(queue_options, prune_history_after, "7d", 0, 315360000000, .flags = DEPOT_RELOADABLE, .env = "PRUNE_HISTORY_AFTER_DAYS=d",
        .doc = "how long after its archiving a job's attempts and other history are kept; 0: for good"),
    DEPOT_OPT_DURATION(queue_options, prune_archive_after, "0", 0, 315360000000, .flags = DEPOT_RELOADABLE,
        .doc = "how long after its archiving a job itself is kept, and its key with it; 0: for good"),
    DEPOT_OPT_DURATION(queue_options, maintenance_interval, "60s", 250, 86400000, .flags = DEPOT_RELOADABLE, .env = "MAINTENANCE_INTERVAL_SECS=s",
        .doc = "how often jobs are archived and history is pruned; each time all that is due"),
    DEPOT_OPT_BOOL(queue_options, verbose, "no", .flags = DEPOT_RELOADABLE, .env = "PGFLOW_VERBOSE_JOB_LOGS",
        .doc = "a line in the log for each attempt that ends"),
    DEPOT_OPT_SECRET(queue_options, encryption_keys, NULL, .flags = DEPOT_RELOADABLE,
        .doc = "keys for [queue NAME] encrypt_args, each 64 hex digits, such as ${secret:queue-new}, ${secret:queue-old}: the first encrypts, all decrypt"),
};

static const depot_field section_options[] = {
    DEPOT_OPT_DURATION(queue_section, lease, "0", 0, 3600000, .flags = DEPOT_RELOADABLE, .doc = "lease of this queue's jobs; 0: as [plugin queue] lease"),
    DEPOT_OPT_INT(queue_section, max_attempts, "0", 0, 1000000, .flags = DEPOT_RELOADABLE,
        .doc = "attempts of a job when neither it nor its handler says; 0: 25"),
    DEPOT_OPT_INT(queue_section, max_in_flight, "-1", -1, 1000000, .flags = DEPOT_RELOADABLE,
        .doc = "jobs of this queue that run at a time, all daemons together; -1: any number"),
    DEPOT_OPT_INT(queue_section, max_attempts_per_minute, "-1", -1, 1000000000, .flags = DEPOT_RELOADABLE,
        .doc = "attempts that begin in a minute, all daemons together; -1: any number"),
    DEPOT_OPT_DURATION(queue_section, backoff_base, "0", 0, 86400000, .flags = DEPOT_RELOADABLE,
        .doc = "wait before the second attempt, doubled before each further one; 0: 2s"),
    DEPOT_OPT_DURATION(queue_section, backoff_max, "0", 0, 2592000000, .flags = DEPOT_RELOADABLE, .doc = "longest wait between attempts; 0: 15m"),
    DEPOT_OPT_INT(queue_section, backoff_jitter, "-1", -1, 100, .flags = DEPOT_RELOADABLE,
        .doc = "percent by which a wait is made longer or shorter at random; -1: 20"),
    DEPOT_OPT_DURATION(queue_section, timeout, "0", 0, 86400000, .flags = DEPOT_RELOADABLE,
        .doc = "how long a script may work on a job of this queue that has no timeout of its own; 0: as the handler says"),
    DEPOT_OPT_INT(queue_section, max_per_key, "0", 0, 1000000, .flags = DEPOT_RELOADABLE,
        .doc = "jobs with one concurrency_key that run at a time, all daemons together; 0: any number"),
    DEPOT_OPT_BOOL(queue_section, key_fifo, "no", .flags = DEPOT_RELOADABLE,
        .doc = "of the jobs with one concurrency_key one runs at a time, in the order of their making; one that waits for its retry holds up the others"),
    DEPOT_OPT_DURATION(queue_section, archive_succeeded_after, "0", 0, 315360000000, .flags = DEPOT_RELOADABLE,
        .doc = "when succeeded jobs of this queue go to the archive; 0: as [plugin queue] archive_after"),
    DEPOT_OPT_DURATION(queue_section, archive_canceled_after, "0", 0, 315360000000, .flags = DEPOT_RELOADABLE,
        .doc = "when its canceled jobs do; 0: as [plugin queue] archive_after"),
    DEPOT_OPT_DURATION(queue_section, archive_dlq_after, "0", 0, 315360000000, .flags = DEPOT_RELOADABLE,
        .doc = "when its dead jobs do; 0: as [plugin queue] archive_dlq_after"),
    DEPOT_OPT_BOOL(queue_section, encrypt_args, "no", .flags = DEPOT_RELOADABLE,
        .doc = "arguments of new jobs are stored encrypted, by the first of [plugin queue] encryption_keys; SQL sessions cannot enqueue here then"),
    DEPOT_OPT_BOOL(queue_section, paused, "no", .flags = DEPOT_RELOADABLE, .doc = "jobs are accepted but not begun"),
};

static const depot_field limit_options[] = {
    DEPOT_OPT_STRING(queue_limit, rate, NULL, .flags = DEPOT_REQUIRED | DEPOT_RELOADABLE, .doc = "how many jobs may begin on average: 100/s, 10/min, 5/h"),
    DEPOT_OPT_STRING(queue_limit, on, NULL, .flags = DEPOT_REQUIRED | DEPOT_RELOADABLE,
        .doc = "what is counted: queue:NAME, type:NAME, key (each concurrency key for itself) or key:QUEUE"),
    DEPOT_OPT_INT(queue_limit, burst, "0", 0, 1000000000, .flags = DEPOT_RELOADABLE,
        .doc = "how many may begin at once after a pause; 0: what the rate gives in a second, 1 at least"),
};

static const depot_section sections[] = {
    { "queue", true, sizeof(queue_section), DEPOT_TABLE(section_options), "limits of a queue; one that has no section is free" },
    { "limit", true, sizeof(queue_limit), DEPOT_TABLE(limit_options), "how often jobs begin, all daemons together" },
};

static const depot_field dead_payload[] = {
    { .name = "id", .type = DEPOT_T_UUID, .flags = DEPOT_REQUIRED, .doc = "the job" },
    { .name = "queue", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "its queue" },
    { .name = "type", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "its type" },
    { .name = "reason", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "NON_RETRYABLE or MAX_ATTEMPTS_EXCEEDED" },
    { .name = "code", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "code of its last error" },
    { .name = NULL },
};

static const depot_event_row events[] = { { "job.dead", dead_payload, "a job has gone to the DLQ; told at least once" } };

static const char *const by_outcome[] = { "queue", "outcome", NULL };
static const char *const by_state[] = { "queue", "state", NULL };
static const char *const by_queue[] = { "queue", NULL };
static const char *const by_reason[] = { "reason", NULL };

static const depot_metric metrics[] = {
    { .name = "depot_queue_jobs_total", .kind = DEPOT_COUNTER, .labels = by_outcome,
      .doc = "results written by this daemon, by queue and outcome: succeeded, retried, dead, canceled, released, snoozed, late" },
    { .name = "depot_queue_run_seconds", .kind = DEPOT_HISTOGRAM, .labels = by_queue, .doc = "from handing a job out to its result" },
    { .name = "depot_queue_refused_total", .kind = DEPOT_COUNTER, .labels = by_reason, .doc = "jobs that POST /jobs refused, by reason" },
    { .name = "depot_queue_groups_total", .kind = DEPOT_COUNTER,
      .doc = "transactions that carried out requests of POST /jobs; depot_http_requests_total by it is how many shared one" },
    { .name = "depot_queue_handed_off_total", .kind = DEPOT_COUNTER, .doc = "jobs that the transaction which made them has leased for this daemon" },
    { .name = "depot_queue_leases_lost_total", .kind = DEPOT_COUNTER, .doc = "leases of vanished workers that this daemon closed" },
    { .name = "depot_queue_archived_total", .kind = DEPOT_COUNTER, .doc = "jobs that this daemon has moved to the archive" },
    { .name = "depot_queue_depth", .kind = DEPOT_GAUGE, .labels = by_state, .doc = "jobs by queue and state: runnable, scheduled, running" },
    { .name = "depot_queue_oldest_runnable_seconds", .kind = DEPOT_GAUGE, .labels = by_queue, .doc = "how long the job that waits longest has been due" },
    { .name = "pgflow_queue_depth", .kind = DEPOT_GAUGE, .doc = "queued jobs, those for later included" },
    { .name = "pgflow_running_jobs", .kind = DEPOT_GAUGE, .doc = "running jobs" },
    { .name = "pgflow_jobs_succeeded_last_60s", .kind = DEPOT_GAUGE, .doc = "jobs that succeeded in the last 60 s" },
    { .name = "pgflow_jobs_failed_last_60s", .kind = DEPOT_GAUGE, .doc = "jobs that went to the DLQ in the last 60 s" },
};

const depot_queue_v1 queue_service = { sizeof(depot_queue_v1), enqueue_service, enqueue_many, types_serve, job_canceled };
static const depot_service services[] = { { "queue", 1, &queue_service } };
/* clang-format on */

void queue_wake(void)
{
    queue *q = &queue_self;

    pthread_mutex_lock(&q->lock);
    if (q->loop != NULL) {
        depot_loop_wake(q->loop);
    }
    pthread_mutex_unlock(&q->lock);
}

static void on_scripts_change(void *arg)
{
    queue *q = arg;

    atomic_store(&q->stale_types, true);
    queue_wake();
}

static void on_notify(void *arg, const char *payload)
{
    queue *q = arg;

    if (payload == NULL || strcmp(payload, "cancel") == 0) { /* NULL: some may have been missed */
        atomic_store(&q->must_cancel, true);
    }
    queue_wake();
}

/* A name for the state folder, and one for this start: what the last start had leased is over. */
static bool identify(queue *q, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const char                               *path = depot_strf(arena, "%s/queue.instance", depot_state_dir(q->ctx));
    depot_err                                 why = { 0 };
    uint8_t                                   random[4], uuid[16];
    char                                      hex[2 * sizeof(random) + 1], *text = NULL;

    bool known = depot_read_file(arena, path, ID_SIZE, &text, NULL, &why);
    if (!known || !depot_parse_uuid(text, uuid)) {
        text = depot_uuid(arena);
        if (!depot_write_file(path, text, strlen(text), 0600, err)) {
            return false;
        }
    }
    depot_random(random, sizeof(random));
    depot_hex(random, sizeof(random), hex);
    (void)snprintf(q->instance, sizeof(q->instance), "%s", text);
    (void)snprintf(q->worker, sizeof(q->worker), "%.80s#%s", depot_node(q->ctx), hex);
    return true;
}

static bool start(depot_ctx *ctx, depot_err *err)
{
    queue    *q = &queue_self;
    depot_err why = { 0 };

    q->ctx = ctx;
    if (!identify(q, err)) {
        return false;
    }
    if (!depot_listen(ctx, "depot_queue", on_notify, q, &why)) {
        depot_log(ctx, DEPOT_LOG_INFO, "queue.polling", "jobs that others enqueue are found by looking: %s", why.msg);
    }
    depot_on_scrape(ctx, queue_scrape);
    depot_script_on_change(ctx, on_scripts_change, q);
    atomic_store(&q->must_introduce, true);
    pthread_mutex_lock(&q->lock);
    q->draining = q->drained = false;
    q->loop = depot_loop_start(ctx, "queue.dispatch", queue_dispatch, q);
    pthread_mutex_unlock(&q->lock);
    gather_start(q);
    return true;
}

static bool start_in_worker(depot_ctx *ctx, depot_err *err)
{
    (void)err;
    queue_self.ctx = ctx;
    return true;
}

static bool reload(depot_ctx *ctx, depot_err *err)
{
    (void)ctx;
    (void)err;
    atomic_store(&queue_self.must_introduce, true);
    queue_wake();
    return true;
}

static void drain(depot_ctx *ctx)
{
    queue          *q = &queue_self;
    struct timespec until;

    (void)ctx;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += DRAIN_MS / 1000;
    pthread_mutex_lock(&q->lock);
    q->draining = true;
    if (q->loop != NULL) {
        depot_loop_wake(q->loop);
    }
    while (q->loop != NULL && !q->drained && pthread_cond_timedwait(&q->quiet, &q->lock, &until) == 0) {
    }
    pthread_mutex_unlock(&q->lock);
}

/* Scripts and C handlers have ended by now; what they left is written here, as the loop's own calls end with it. */
static void stop(depot_ctx *ctx)
{
    queue    *q = &queue_self;
    depot_err err = { 0 };

    gather_stop();
    pthread_mutex_lock(&q->lock);
    depot_loop *loop = q->loop;
    q->loop = NULL;
    pthread_mutex_unlock(&q->lock);
    if (loop == NULL) {
        return;
    }
    depot_loop_stop(loop);
    if (!queue_leave(q, &err)) {
        depot_log_err(ctx, DEPOT_LOG_WARN, "queue.leases_left", &err);
        err = (depot_err){ 0 };
    }
    if (!finish_all(q, depot_now_ms() + LAST_RESULTS_MS, &err)) {
        depot_wrap(&err, "%zu results could not be written: these jobs run again when their leases run out",
                   q->ended.n);
        depot_log_err(ctx, DEPOT_LOG_ERROR, "queue.results_lost", &err);
    }
    for (job *j; (j = q->ended.first) != NULL;) {
        job_take(&q->ended, j);
        job_free(j);
    }
    depot_arena_drop(&q->types.arena);
    q->types = (types){ 0 };
    q->n_served = 0;
}

static bool check(depot_ctx *ctx, depot_err *err)
{
    return limits_check(ctx, err) && seal_check(ctx, err);
}

DEPOT_PLUGIN(queue){
    .version = "1.0",
    .summary = "jobs in PostgreSQL: leases, retries, dead letters, replay, timelines",
    .options_size = sizeof(queue_options),
    .options = DEPOT_TABLE(options),
    .sections = DEPOT_TABLE(sections),
    .services = DEPOT_TABLE(services),
    .events = DEPOT_TABLE(events),
    .routes = DEPOT_TABLE(queue_routes),
    .lua = DEPOT_TABLE(queue_lua),
    .metrics = DEPOT_TABLE(metrics),
    .migrations = "queue",
    .check = check,
    .start = start,
    .worker = start_in_worker,
    .reload = reload,
    .drain = drain,
    .stop = stop,
};
