/* jobs.c - a good plugin for tests of the queue: serves job types in C and makes jobs through the service. */
#include <time.h>

#include "depot/svc_queue.h"

static const depot_queue_v1 *served_by; /* set once, before there are jobs */

static bool need_queue(depot_ctx *ctx, const depot_queue_v1 **out, depot_err *err)
{
    *out = depot_require(ctx, "queue", 1, err);
    return *out != NULL;
}

static bool echo(void *arg, const depot_job *job, depot_arena *arena, const depot_json **out_result, depot_err *err)
{
    (void)arg;
    (void)err;
    *out_result = depot_json_pack(arena, "{s:s, s:s, s:I, s:o}", "id", job->id, "queue", job->queue, "attempt",
                                  job->attempt, "args", job->args);
    return true;
}

static bool refuse(void *arg, const depot_job *job, depot_arena *arena, const depot_json **out_result, depot_err *err)
{
    (void)arg;
    (void)arena;
    (void)out_result;
    return DEPOT_FAIL(err, CONFLICT, "job %s is not wanted", job->id);
}

static bool noop(void *arg, const depot_job *job, depot_arena *arena, const depot_json **out_result, depot_err *err)
{
    (void)arg;
    (void)job;
    (void)arena;
    (void)out_result;
    (void)err;
    return true;
}

static bool busy(void *arg, const depot_job *job, depot_arena *arena, const depot_json **out_result, depot_err *err)
{
    (void)arg;
    (void)arena;
    (void)out_result;
    return DEPOT_FAIL(err, TIMEOUT, "job %s took too long", job->id);
}

static bool large(void *arg, const depot_job *job, depot_arena *arena, const depot_json **out_result, depot_err *err)
{
    (void)arg;
    (void)job;
    (void)err;
    *out_result = depot_json_str(arena, depot_strf(arena, "%060000d", 0));
    return true;
}

static bool slow(void *arg, const depot_job *job, depot_arena *arena, const depot_json **out_result, depot_err *err)
{
    const struct timespec pause = { .tv_nsec = 10000000 };

    (void)arg;
    (void)job;
    (void)arena;
    (void)out_result;
    (void)err;
    (void)nanosleep(&pause, NULL); /* one that a signal cuts short is as good */
    return true;
}

/* Until it is canceled, for at most 30 s. */
static bool until(void *arg, const depot_job *job, depot_arena *arena, const depot_json **out_result, depot_err *err)
{
    const struct timespec pause = { .tv_nsec = 10000000 };

    (void)arg;
    for (int i = 0; i < 3000 && !served_by->canceled(job); i++) {
        (void)nanosleep(&pause, NULL);
    }
    *out_result = depot_json_null(arena);
    return served_by->canceled(job) ? DEPOT_FAIL(err, CANCELED, "somebody wanted it so") : true;
}

/* Result: microseconds since the moment "at" (microseconds since 1970) that the producer has noted. */
static bool delay(void *arg, const depot_job *job, depot_arena *arena, const depot_json **out_result, depot_err *err)
{
    struct timespec now;

    (void)arg;
    (void)err;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    *out_result = depot_json_int(arena, us - depot_json_get_int(job->args, "at", us));
    return true;
}

static const depot_field make_args[] = {
    { .name = "rows", .type = DEPOT_T_INT, .flags = DEPOT_REQUIRED, .doc = "how many jobs" },
    { .name = "commit", .type = DEPOT_T_BOOL, .flags = DEPOT_REQUIRED, .doc = "or roll back" },
    { .name = NULL },
};

/* In a transaction of its own: one with a key, the others together. */
static bool make(depot_ctx *ctx, depot_task *task, depot_err *err)
{
    depot_arena        *arena = depot_task_arena(task);
    const depot_json   *args = depot_task_args(task);
    size_t              n = (size_t)depot_json_get_int(args, "rows", 0);
    depot_enqueue      *jobs = depot_alloc(arena, n * sizeof(*jobs));
    const depot_enqueue keyed = { .queue = "made", .type = "c.echo", .key = "made once", .actor = "test" };
    DEPOT_AUTO(depot_db_close) depot_db *db = NULL;
    const depot_queue_v1                *queue = NULL;
    char                                 id[37];

    for (size_t i = 0; i < n; i++) {
        jobs[i] = (depot_enqueue){
            .queue = "made", .type = "c.echo", .args = depot_json_int(arena, (int64_t)i), .actor = "test"
        };
    }
    if (!need_queue(ctx, &queue, err) || !depot_db_open(ctx, &db, err) || !depot_db_begin(db, NULL, err) ||
        !queue->enqueue(&keyed, db, id, err) || !queue->enqueue_many(jobs, n, db, err)) {
        return false;
    }
    depot_task_result(task, depot_json_pack(arena, "{s:s}", "id", id));
    return !depot_json_get_bool(args, "commit", false) || depot_db_commit(db, err);
}

static bool start(depot_ctx *ctx, depot_err *err)
{
    const depot_queue_v1 *queue = NULL;

    if (!need_queue(ctx, &queue, err)) {
        return false;
    }
    served_by = queue;
    return queue->serve("c.echo", echo, NULL, err) && queue->serve("c.until", until, NULL, err) &&
           queue->serve("c.refuse*", refuse, NULL, err) && queue->serve("c.slow", slow, NULL, err) &&
           queue->serve("c.busy", busy, NULL, err) && queue->serve("c.noop", noop, NULL, err) &&
           queue->serve("c.delay", delay, NULL, err) && queue->serve("c.large", large, NULL, err);
}

static const depot_need     needs[] = { { "queue", 1, false } };
static const depot_task_row tasks[] = { { .name = "jobs.make", .args = make_args, .fn = make, .doc = "makes jobs" } };

DEPOT_PLUGIN(jobs){
    .version = "1.0",
    .summary = "C handlers for tests",
    .needs = DEPOT_TABLE(needs),
    .tasks = DEPOT_TABLE(tasks),
    .start = start,
};
