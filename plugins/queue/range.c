/* range.c - the jobs of a range of a chunk: handed to their C handler one after the other on one thread, and answered for
 * together. What went well is said by being left out. */
#include <stdlib.h>
#include <string.h>

#include "queue.h"

enum {
    PARSED_AT_A_TIME = 64,  /* arguments that share an arena */
    RESULTS_BYTES = 4 << 20 /* of results, after which it is */
};

/* ---- what is answered ---- */

void range_answers_drop(range_answers *a)
{
    depot_buf_free(&a->others);
    depot_buf_free(&a->going);
    depot_buf_free(&a->results);
}

void range_add_other(range_answers *a, depot_arena *arena, int64_t place, depot_json *outcome)
{
    depot_json_set(outcome, "at", depot_json_int(arena, place)); /* "place" is one in a script */
    depot_buf_adds(&a->others, a->others.len == 0 ? "" : ",");
    depot_json_write(&a->others, outcome);
}

static void add_failure(range_answers *a, depot_arena *arena, int64_t place, const depot_err *err, bool draining)
{
    range_add_other(a, arena, place, job_failure(arena, err, NULL, NULL, 0, draining));
}

void range_add_result(range_answers *a, const char *text)
{
    depot_buf_adds(&a->results, a->results.len == 0 ? "" : ",");
    depot_buf_adds(&a->results, text == NULL ? "null" : text);
    a->with_result += text != NULL;
}

/* Of a job that succeeded, what it returned. jsonb, in which others read it, has no place for the character 0: the job fails by that. */
void range_add_success(queue *q, range_answers *a, depot_arena *arena, int64_t place, const char *text)
{
    depot_err err = { 0 };

    for (const char *at = text; at != NULL && (at = strchr(at, '\\')) != NULL; at += 2) {
        if (strncmp(at, "\\u0000", 6) == 0) {
            (void)DEPOT_FAIL(&err, BAD_PAYLOAD, "the result cannot be stored: a text in it holds the character 0");
            add_failure(a, arena, place, &err, false);
            range_add_result(a, NULL);
            return;
        }
    }
    range_add_result(a, text == NULL ? NULL : job_result_text(q, arena, text));
}

void range_answer(job *j, const range_answers *a)
{
    j->begun = a->begun;
    j->took_us = depot_now_us() - j->started_us;
    depot_buf_addf(&j->result, "{\"token\":\"%s\",\"chunk\":\"%s\",\"busy_us\":%lld", j->token, j->id,
                   (long long)a->busy_us);
    if (a->others.len > 0) {
        depot_buf_addf(&j->result, ",\"others\":[%s]", a->others.data);
    }
    if (a->going.len > 0) {
        depot_buf_addf(&j->result, ",\"going\":[%s]", a->going.data);
    }
    if (a->begun < j->n) {
        long long from = j->first + a->begun, left = j->n - a->begun;
        depot_buf_addf(&j->result, ",\"released\":[{\"lo\":%lld,\"n\":%lld}]", from, left);
    }
    if (a->logs != NULL) {
        depot_buf_addf(&j->result, ",\"logs\":%s", a->logs);
    }
    if (a->with_result > 0) {
        depot_buf_addf(&j->result, ",\"results\":[%s]", a->results.data);
    }
    depot_buf_adds(&j->result, "}");
}

void range_set_released(job *j)
{
    const range_answers none = { .begun = 0 };

    range_answer(j, &none);
}

void range_set_failed(job *j, const depot_err *err, bool draining)
{
    DEPOT_AUTO(range_answers_drop) range_answers a = { .begun = j->n };

    for (int64_t i = 0; i < j->n; i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        add_failure(&a, arena, j->first + i, err, draining);
    }
    range_answer(j, &a);
}

/* ---- running ---- */

/* Somebody has canceled it before it was begun: its row ends so. */
static void pass_over(const job *j, depot_arena *arena, range_answers *a)
{
    range_add_other(a, arena, j->first + a->begun, depot_json_pack(arena, "{s:s}", "outcome", "released"));
    range_add_result(a, NULL);
    a->begun++;
}

static bool is_skipped(queue *q, const job *j, int64_t place)
{
    pthread_mutex_lock(&q->lock);
    bool skipped = job_is_skipped(j, place);
    pthread_mutex_unlock(&q->lock);
    return skipped;
}

static void run_one(job *j, depot_job *seen, depot_arena *arena, const char *text, size_t len, range_answers *a)
{
    const depot_json *result = NULL;
    depot_err         err = { 0 };
    int64_t           place = j->first + a->begun;

    seen->args = depot_json_parse(arena, text, len, &err);
    bool ok = seen->args != NULL && j->handler->fn(j->handler->arg, seen, arena, &result, &err);
    if (ok) {
        range_add_success(&queue_self, a, arena, place, result == NULL ? NULL : depot_json_text(arena, result));
    } else {
        err.code = seen->args == NULL ? DEPOT_E_BAD_PAYLOAD : err.code == DEPOT_OK ? DEPOT_E_UNKNOWN : err.code;
        add_failure(a, arena, place, &err, queue_is_draining(&queue_self));
        range_add_result(a, NULL);
    }
    a->begun++;
}

int64_t range_place(const job *j, const char *id)
{
    const size_t  same = ID_SIZE - 4;
    unsigned long of = strtoul(j->id + same, NULL, 16), last = strtoul(id + same, NULL, 16);
    int64_t       place = (int64_t)(last % CHUNK_JOBS);
    bool          is_in = j->n > 0 && strncmp(j->id, id, same) == 0 && of / CHUNK_JOBS == last / CHUNK_JOBS && place >= j->first &&
                 place < j->first + j->n;

    return is_in ? place : -1;
}

static bool goes_on(queue *q, const job *j, const range_answers *a)
{
    bool is_late = a->begun > 0 && depot_now_us() - j->started_us > RANGE_US;

    pthread_mutex_lock(&q->lock);
    bool on = !j->is_lost && !q->draining && !is_late && a->results.len + a->others.len < RESULTS_BYTES;
    pthread_mutex_unlock(&q->lock);
    return on;
}

/* On a thread of the executor. A stop lets the job that runs end, and gives the rest back; so does a range that takes long, as other
 * threads and daemons may have nothing to do, and results that become more than the database takes in one document. */
void range_run(depot_ctx *ctx, void *job_ptr)
{
    job                             *j = job_ptr;
    DEPOT_AUTO(range_answers_drop) range_answers a = { .begun = 0 };
    char                             id[ID_SIZE] = "";
    const char                      *at = strchr(j->args, '[') + 1;
    size_t                           len;
    depot_job seen = { .queue = j->queue, .id = id, .type = j->type, .attempt = j->attempt, .max_attempts = j->max_attempts, .handle = j };

    (void)ctx;
    j->started_us = depot_now_us(); /* it may have waited for this thread */
    for (bool on = true; on && a.begun < j->n;) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        for (int i = 0; i < PARSED_AT_A_TIME && a.begun < j->n && (on = goes_on(&queue_self, j, &a)); i++) {
            depot_range_id(j->id, j->first + a.begun, id);
            const char *text = depot_json_item(&at, &len);
            if (is_skipped(&queue_self, j, j->first + a.begun)) {
                pass_over(j, arena, &a);
            } else {
                run_one(j, &seen, arena, text, len, &a);
            }
        }
    }
    a.busy_us = depot_now_us() - j->started_us;
    range_answer(j, &a);
    job_end(&queue_self, j);
}
