/* job.c - one leased job in this process: made from a claimed row, handed to a script worker or a C handler, its
 * result put into words for queue.finish. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue.h"

enum { TRACE_MAX = 4000 };

static const char *keep(char **at, const char *text)
{
    size_t n = strlen(text) + 1;
    char  *place = *at;

    memcpy(place, text, n);
    *at += n;
    return place;
}

job *job_new(const depot_rows *rows, size_t row, bool is_range)
{
    const char *in_queue = depot_text(rows, row, "queue");
    const char *type = depot_text(rows, row, "job_type");
    const char *args = depot_text(rows, row, "args");
    job        *j = depot_xalloc(sizeof(*j) + strlen(in_queue) + strlen(type) + strlen(args) + 3);
    char       *at = (char *)(j + 1);

    j->queue = keep(&at, in_queue);
    j->type = keep(&at, type);
    j->args = keep(&at, args);
    (void)snprintf(j->id, sizeof(j->id), "%s", depot_text(rows, row, "id"));
    (void)snprintf(j->token, sizeof(j->token), "%s", depot_text(rows, row, "token"));
    j->first = is_range ? depot_int(rows, row, "lo") : 0;
    j->n = is_range ? depot_int(rows, row, "n") : 0;
    j->attempt = is_range ? 1 : depot_int(rows, row, "attempt");
    j->max_attempts = depot_int(rows, row, "max_attempts");
    j->lease_ms = depot_int(rows, row, "lease_ms");
    j->timeout_ms = depot_int(rows, row, "timeout_ms");
    j->beat_ms = depot_now_ms() + j->lease_ms / 3;
    j->room = 1;
    return j;
}

job *job_of_range(const job *range, int64_t place)
{
    job  *j = depot_xalloc(sizeof(*j) + strlen(range->queue) + strlen(range->type) + 2);
    char *at = (char *)(j + 1);

    *j = (job){ .is_lua = true, .is_lost = range->is_lost, .room = 1, .attempt = range->attempt, .max_attempts = range->max_attempts,
                .lease_ms = range->lease_ms, .beat_ms = INT64_MAX, .started_us = range->started_us, .args = "" };
    j->queue = keep(&at, range->queue);
    j->type = keep(&at, range->type);
    depot_range_id(range->id, place, j->id);
    memcpy(j->token, range->token, ID_SIZE);
    return j;
}

void job_skip(job *j, int64_t place)
{
    if (j->skipped == NULL) {
        j->skipped = depot_xalloc(CHUNK_JOBS / 8);
    }
    j->skipped[place / 64] |= UINT64_C(1) << (place % 64);
}

bool job_is_skipped(const job *j, int64_t place)
{
    return j->skipped != NULL && (j->skipped[place / 64] >> (place % 64) & 1) != 0;
}

void job_free(job *j)
{
    depot_buf_free(&j->result);
    free(j->skipped);
    free(j);
}

void job_push(job_list *list, job *j)
{
    j->next = NULL;
    j->prev = list->last;
    *(list->last == NULL ? &list->first : &list->last->next) = j;
    list->last = j;
    list->n++;
}

void job_take(job_list *list, job *j)
{
    *(j->prev == NULL ? &list->first : &j->prev->next) = j->next;
    *(j->next == NULL ? &list->last : &j->next->prev) = j->prev;
    list->n--;
}

/* ---- results ---- */

void job_add_member(job *j, const char *name, const char *json)
{
    if (json != NULL) {
        j->result.len--; /* the brace that closes it */
        depot_buf_addf(&j->result, ",\"%s\":%s}", name, json);
    }
}

static depot_json *head_of(depot_arena *arena, const job *j, const char *outcome)
{
    return depot_json_pack(arena, "{s:s, s:s, s:s}", "job", j->id, "token", j->token, "outcome", outcome);
}

void job_set_released(job *j)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    if (j->n > 0) {
        range_set_released(j);
    } else {
        depot_json_write(&j->result, head_of(arena, j, "released"));
    }
}

/* What a shutdown cut off is not the job's fault. An error that would come again is not retried. */
depot_json *job_failure(depot_arena *arena, const depot_err *err, const char *place, const char *trace, int64_t cpu_us,
                        bool draining)
{
    bool        cut_off = draining && (err->code == DEPOT_E_CANCELED || err->code == DEPOT_E_WORKER_LOST);
    const char *message = err->hint[0] == '\0' ? err->msg : depot_strf(arena, "%s; %s", err->msg, err->hint);
    depot_json *doc =
        depot_json_pack(arena, "{s:s, s:s, s:s, s:I}", "outcome", "failed", "code",
                        cut_off ? "WORKER_SHUTDOWN" : depot_err_id(err), "message", message, "cpu_us", cpu_us);

    if (!cut_off) {
        depot_json_set(doc, "retry", depot_json_str(arena, depot_err_retry(err) == DEPOT_RETRY_NO ? "no" : "yes"));
    }
    if (place != NULL && place[0] != '\0') {
        depot_json_set(doc, "place", depot_json_str(arena, place));
    }
    if (trace != NULL && trace[0] != '\0') {
        depot_json_set(doc, "trace", depot_json_strn(arena, trace, strnlen(trace, TRACE_MAX)));
    }
    return doc;
}

static void set_named(job *j, depot_arena *arena, depot_json *outcome)
{
    depot_json_set(outcome, "job", depot_json_str(arena, j->id));
    depot_json_set(outcome, "token", depot_json_str(arena, j->token));
    depot_json_write(&j->result, outcome);
}

void job_set_failed(job *j, const depot_err *err, bool draining)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    if (j->n > 0) {
        range_set_failed(j, err, draining);
        return;
    }
    set_named(j, arena, job_failure(arena, err, NULL, NULL, 0, draining));
}

const char *job_result_text(queue *q, depot_arena *arena, const char *result)
{
    const queue_options *o = depot_options(q->ctx);
    size_t               n = strlen(result);

    return (int64_t)n <= o->max_result
               ? result
               : depot_strf(arena, "{\"dropped\":\"larger than [plugin queue] max_result\",\"bytes\":%zu}", n);
}

static void set_succeeded(queue *q, job *j, const char *result, int64_t cpu_us)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_json                               *head = head_of(arena, j, "succeeded");

    depot_json_set(head, "cpu_us", depot_json_int(arena, cpu_us));
    depot_json_write(&j->result, head);
    job_add_member(j, "result", job_result_text(q, arena, result));
}

/* What queue.finish is told of a script that did not succeed. */
depot_json *job_outcome(depot_arena *arena, const depot_script_result *res, bool draining)
{
    if (!res->snoozed) {
        return job_failure(arena, &res->err, res->where, res->trace, res->cpu_us, draining);
    }
    return depot_json_pack(arena, "{s:s, s:I, s:s, s:I}", "outcome", "snoozed", "delay_ms", res->delay_ms, "message", res->err.msg, "cpu_us",
                           res->cpu_us);
}

static void set_other(job *j, const depot_script_result *res, bool draining)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    set_named(j, arena, job_outcome(arena, res, draining));
}

/* ---- scripts ---- */

static void count_run(queue *q, const job *j)
{
    depot_observe(q->ctx, "depot_queue_run_seconds", DEPOT_LABELS(j->queue),
                  (double)(depot_now_us() - j->started_us) / 1e6);
}

/* On any thread. The result is put into words outside the lock: nobody else touches a job that runs but for its list.
 * */
void job_end(queue *q, job *j)
{
    count_run(q, j);
    pthread_mutex_lock(&q->lock);
    job_take(&q->running[j->is_lua], j);
    job_push(&q->ended, j);
    j->has_ended = true;
    q->in_scripts -= j->is_lua ? j->room : 0;
    pthread_mutex_unlock(&q->lock);
    queue_wake();
}

/* It may have ended before this is called, but only the dispatcher, which calls it, frees it. */
void job_set_script(queue *q, job *j, uint64_t id, int64_t room)
{
    pthread_mutex_lock(&q->lock);
    j->script_id = id;
    q->in_scripts += j->has_ended ? 0 : room - j->room;
    j->room = room;
    pthread_mutex_unlock(&q->lock);
}

bool queue_is_draining(queue *q)
{
    pthread_mutex_lock(&q->lock);
    bool draining = q->draining;
    pthread_mutex_unlock(&q->lock);
    return draining;
}

static void on_script_done(void *arg, const depot_script_result *res)
{
    job_end_script(&queue_self, arg, res);
}

void job_end_script(queue *q, job *j, const depot_script_result *res)
{
    if (res->ok) {
        set_succeeded(q, j, res->json, res->cpu_us);
    } else {
        set_other(j, res, queue_is_draining(q));
    }
    job_add_member(j, "log", res->log);
    job_end(q, j);
}

static bool run_script(queue *q, job *j, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    char                                      label[48];
    uint64_t                                  id = 0;
    const depot_json                         *in_queue = depot_json_str(arena, j->queue);
    const char                               *args;

    if (!seal_open(arena, j->type, j->args, &args, err)) {
        return false;
    }
    (void)snprintf(label, sizeof(label), "job %s", j->id);
    const depot_script script = {
        .handler = j->type,
        .arg =
            depot_strf(arena, "{\"id\":\"%s\",\"token\":\"%s\",\"attempt\":%lld,\"max_attempts\":%lld,\"queue\":%s,\"args\":%s}",
                       j->id, j->token, (long long)j->attempt, (long long)j->max_attempts, depot_json_text(arena, in_queue), args),
        .label = label,
        .timeout_ms = j->timeout_ms,
        .done = on_script_done,
        .done_arg = j,
    };

    if (!depot_script_run(q->ctx, &script, &id, err)) {
        return false;
    }
    job_set_script(q, j, id, 1);
    return true;
}

/* ---- C handlers ---- */

bool job_canceled(const depot_job *seen)
{
    const job *j = seen->handle;

    pthread_mutex_lock(&queue_self.lock);
    bool canceled = j->is_lost || (j->n > 0 ? job_is_skipped(j, range_place(j, seen->id)) : j->is_canceled);
    pthread_mutex_unlock(&queue_self.lock);
    return canceled;
}

static void run_handler(depot_ctx *ctx, void *arg)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    job                                      *j = arg;
    const depot_json                         *result = NULL;
    depot_err                                 err = { 0 };
    const char                               *args;
    depot_job                                 seen = { .id = j->id,
                                                       .queue = j->queue,
                                                       .type = j->type,
                                                       .attempt = j->attempt,
                                                       .max_attempts = j->max_attempts,
                                                       .handle = j };

    (void)ctx;
    j->started_us = depot_now_us(); /* it may have waited for this thread */
    bool is_open = seal_open(arena, j->type, j->args, &args, &err);
    seen.args = is_open ? depot_json_parse(arena, args, strlen(args), &err) : NULL;
    if (seen.args != NULL && j->handler->fn(j->handler->arg, &seen, arena, &result, &err)) {
        set_succeeded(&queue_self, j, result == NULL ? "null" : depot_json_text(arena, result), 0);
    } else {
        err.code = is_open && seen.args == NULL ? DEPOT_E_BAD_PAYLOAD : err.code == DEPOT_OK ? DEPOT_E_UNKNOWN : err.code;
        job_set_failed(j, &err, queue_is_draining(&queue_self));
    }
    job_end(&queue_self, j);
}

bool job_run(queue *q, job *j, depot_err *err)
{
    j->started_us = depot_now_us();
    if (j->is_lua) {
        return j->n > 0 ? lua_range_run(q, j, err) : run_script(q, j, err);
    }
    return depot_submit(q->ctx, j->n > 0 ? range_run : run_handler, j, err);
}
