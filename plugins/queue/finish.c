/* finish.c - results to the database: in batches, kept until the database has accepted or refused each. */
#include <string.h>

#include "queue.h"

enum { RESULTS_MAX = 500, RESULTS_BYTES = 4 << 20, RETRY_MS = 200 };

const char finish_sql[] = "select job, accepted, status, queue, outcome, n from queue.finish($1, $2)";

void finish_batch_drop(finish_batch *b)
{
    depot_buf_free(&b->jobs);
    depot_buf_free(&b->chunks);
}

void finish_collect(queue *q, finish_batch *out)
{
    pthread_mutex_lock(&q->lock);
    for (const job *j = q->ended.first;
         j != NULL && out->n < RESULTS_MAX && out->jobs.len + out->chunks.len < RESULTS_BYTES; j = j->next) {
        depot_buf *to = j->n > 0 ? &out->chunks : &out->jobs;
        depot_buf_adds(to, to->len == 0 ? "[" : ",");
        depot_buf_add(to, j->result.data, j->result.len);
        out->n++;
    }
    pthread_mutex_unlock(&q->lock);
    depot_buf_adds(&out->jobs, out->jobs.len > 0 ? "]" : "");
    depot_buf_adds(&out->chunks, out->chunks.len > 0 ? "]" : "");
}

/* The database has the rows of its jobs that go on, under its lease until now. */
static void keep_alive(queue *q, const job *range)
{
    const job_list *lists[] = { &q->running[1], &q->ended };

    for (size_t i = 0; i < DEPOT_N(lists); i++) {
        for (job *j = lists[i]->first; j != NULL; j = j->next) {
            bool is_of_it = j->n == 0 && strcmp(j->token, range->token) == 0;
            j->beat_ms = is_of_it ? depot_now_ms() + j->lease_ms / 3 : j->beat_ms;
        }
    }
}

static void drop_first(queue *q)
{
    pthread_mutex_lock(&q->lock);
    job *j = q->ended.first;
    job_take(&q->ended, j);
    if (j->has_going) {
        keep_alive(q, j);
    }
    pthread_mutex_unlock(&q->lock);
    if (j->n > 0) {
        pace_learn(q, j);
    }
    job_free(j);
}

/* What became of it, as the metric's label. */
static const char *label_of(const depot_rows *rows, size_t row)
{
    static const struct {
        const char *outcome, *status, *label;
    } labels[] = {
        { "succeeded", "succeeded", "succeeded" },
        { "failed", "queued", "retried" },
        { "failed", "dlq", "dead" },
        { "released", "queued", "released" },
        { "snoozed", "queued", "snoozed" },
        { "failed", "canceled", "canceled" },
        { "released", "canceled", "canceled" },
        { "snoozed", "canceled", "canceled" },
    };
    const char *outcome = depot_text(rows, row, "outcome"), *status = depot_text(rows, row, "status");

    for (size_t i = 0; i < DEPOT_N(labels); i++) {
        if (status != NULL && strcmp(outcome, labels[i].outcome) == 0 && strcmp(status, labels[i].status) == 0) {
            return labels[i].label;
        }
    }
    return "other";
}

/* Returns whether any job has died. */
static bool judged(queue *q, const depot_rows *rows)
{
    const queue_options *o = depot_options(q->ctx);
    bool                 any_dead = false;

    for (size_t i = 0; i < depot_rows_count(rows); i++) {
        bool        accepted = depot_bool(rows, i, "accepted");
        const char *label = accepted ? label_of(rows, i) : "late", *of = depot_text(rows, i, "queue");
        int64_t     n = depot_int(rows, i, "n");
        if (!accepted && strcmp(depot_text(rows, i, "outcome"), "released") != 0) {
            depot_log(q->ctx, DEPOT_LOG_WARN, "queue.late_result",
                      "job %s: its result came after the lease was lost, and is refused", depot_text(rows, i, "job"));
        }
        if (n > 0 && o->verbose) {
            depot_log(q->ctx, DEPOT_LOG_INFO, "queue.attempt_ended", "job %s of queue %s: %s%s", depot_text(rows, i, "job"),
                      of == NULL ? "?" : of, label, n > 1 ? ", with others of its range" : "");
        }
        if (n > 0) {
            depot_count(q->ctx, "depot_queue_jobs_total", DEPOT_LABELS(of == NULL ? "" : of, label), (double)n);
        }
        any_dead = any_dead || (n > 0 && strcmp(label, "dead") == 0);
    }
    return any_dead;
}

void finish_settle(queue *q, size_t n, const depot_rows *rows)
{
    bool any_dead = judged(q, rows);

    for (size_t i = 0; i < n; i++) {
        drop_first(q);
    }
    if (any_dead) {
        care_announce(q);
    }
}

static bool send_first(queue *q, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_rows                               *rows = NULL;

    pthread_mutex_lock(&q->lock);
    const char *text = depot_strf(arena, "[%s]", q->ended.first->result.data);
    bool        is_range = q->ended.first->n > 0;
    pthread_mutex_unlock(&q->lock);
    if (!depot_sql(q->ctx, arena, finish_sql,
                   DEPOT_VALS(DEPOT_TEXT(is_range ? NULL : text), DEPOT_TEXT(is_range ? text : NULL)), &rows, err)) {
        return false;
    }
    finish_settle(q, 1, rows);
    return true;
}

/* The database does not take what this one says: the job fails by it. */
static void blame_first(queue *q, const depot_err *why)
{
    depot_err bad = { 0 };

    (void)depot_fail(&bad, DEPOT_E_BAD_PAYLOAD, __FILE__, __LINE__, "the result cannot be stored: %s", why->msg);
    pthread_mutex_lock(&q->lock);
    job *j = q->ended.first;
    depot_buf_reset(&j->result);
    job_set_failed(j, &bad, false);
    pthread_mutex_unlock(&q->lock);
}

/* False: the database is away. What it refuses twice is let go: the lease runs out, and the reaper ends the attempt. */
static bool settle_first(queue *q, depot_err *err)
{
    for (int try = 0; try < 2; try++) {
        depot_err why = { 0 };
        if (send_first(q, &why)) {
            return true;
        }
        if (why.code != DEPOT_E_DB) {
            *err = why;
            return depot_wrap(err, "write results");
        }
        depot_log_err(q->ctx, DEPOT_LOG_ERROR, "queue.result_refused", &why);
        blame_first(q, &why);
    }
    drop_first(q);
    return true;
}

bool finish_one_by_one(queue *q, size_t n, depot_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!settle_first(q, err)) {
            return false;
        }
    }
    return true;
}

bool finish_all(queue *q, int64_t until_ms, depot_err *err)
{
    for (;;) {
        pthread_mutex_lock(&q->lock);
        size_t n = q->ended.n;
        pthread_mutex_unlock(&q->lock);
        *err = (depot_err){ 0 };
        if (n == 0 || finish_one_by_one(q, n, err)) {
            return true;
        }
        if (depot_now_ms() >= until_ms) {
            return false;
        }
        struct timespec pause = { .tv_nsec = RETRY_MS * 1000000L };
        (void)nanosleep(&pause, NULL); /* a signal that cuts it short does no harm */
    }
}
