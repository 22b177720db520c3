/* range.c - the jobs of a range of a chunk: handed to their C handler one after the other on one thread, and answered for
 * together. What went well is said by being left out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue.h"

enum {
    PARSED_AT_A_TIME = 64,  /* arguments that share an arena */
    RANGE_US = 1000000,     /* after which the rest of a range is given back */
    RESULTS_BYTES = 4 << 20 /* of results, after which it is */
};

/* ---- the array of arguments ---- */

/* The next element of a JSON array that PostgreSQL has accepted: *at stands behind "[" or an element before. */
static const char *next_element(const char **at, size_t *out_len)
{
    const char *p = *at + strspn(*at, " \t\r\n,"), *from = p;
    int         depth = 0;

    for (bool in_string = false; *p != '\0'; p++) {
        if (in_string && *p == '\\' && p[1] != '\0') {
            p++;
        } else if (in_string) {
            in_string = *p != '"';
        } else if (*p == '"') {
            in_string = true;
        } else if (*p == '[' || *p == '{') {
            depth++;
        } else if (depth == 0 && (*p == ',' || *p == ']')) {
            break;
        } else if (*p == ']' || *p == '}') {
            depth--;
        }
    }
    *at = p;
    *out_len = (size_t)(p - from);
    return from;
}

/* ---- what is answered ---- */

typedef struct answers {
    depot_buf others, results; /* members of JSON arrays */
    int64_t   done, with_result;
} answers;

static void answers_drop(answers *a)
{
    depot_buf_free(&a->others);
    depot_buf_free(&a->results);
}

static void add_failure(answers *a, depot_arena *arena, int64_t place, const depot_err *err, bool draining)
{
    depot_json *doc = job_failure(arena, err, NULL, NULL, 0, draining);

    depot_json_set(doc, "place", depot_json_int(arena, place));
    depot_buf_adds(&a->others, a->others.len == 0 ? "" : ",");
    depot_json_write(&a->others, doc);
}

static void put(job *j, const answers *a, int64_t busy_us)
{
    depot_buf_addf(&j->result, "{\"token\":\"%s\",\"chunk\":\"%s\",\"busy_us\":%lld", j->token, j->id,
                   (long long)busy_us);
    if (a->others.len > 0) {
        depot_buf_addf(&j->result, ",\"others\":[%s]", a->others.data);
    }
    if (a->done < j->n) {
        long long from = j->first + a->done, left = j->n - a->done;
        depot_buf_addf(&j->result, ",\"released\":[{\"lo\":%lld,\"n\":%lld}]", from, left);
    }
    if (a->with_result > 0) {
        depot_buf_addf(&j->result, ",\"results\":[%s]", a->results.data);
    }
    depot_buf_adds(&j->result, "}");
}

void range_set_released(job *j)
{
    const answers none = { .done = 0 };

    put(j, &none, 0);
}

void range_set_failed(job *j, const depot_err *err)
{
    DEPOT_AUTO(answers_drop) answers a = { .done = j->n };

    for (int64_t i = 0; i < j->n; i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        add_failure(&a, arena, j->first + i, err, false);
    }
    put(j, &a, 0);
}

/* ---- running ---- */

/* Somebody has canceled it before it was begun: its row ends so. */
static void pass_over(job *j, answers *a)
{
    depot_buf_addf(&a->others, "%s{\"outcome\":\"released\",\"place\":%lld}", a->others.len == 0 ? "" : ",",
                   (long long)j->first + (long long)a->done);
    depot_buf_adds(&a->results, a->done == 0 ? "null" : ",null");
    a->done++;
}

static bool is_skipped(queue *q, const job *j, int64_t place)
{
    pthread_mutex_lock(&q->lock);
    bool skipped = job_is_skipped(j, place);
    pthread_mutex_unlock(&q->lock);
    return skipped;
}

static void run_one(job *j, depot_job *seen, depot_arena *arena, const char *text, size_t len, answers *a)
{
    const depot_json *result = NULL;
    depot_err         err = { 0 };
    int64_t           place = j->first + a->done;

    seen->args = depot_json_parse(arena, text, len, &err);
    bool ok = seen->args != NULL && j->handler->fn(j->handler->arg, seen, arena, &result, &err);
    if (!ok) {
        err.code = seen->args == NULL ? DEPOT_E_BAD_PAYLOAD : err.code == DEPOT_OK ? DEPOT_E_UNKNOWN : err.code;
        add_failure(a, arena, place, &err, queue_is_draining(&queue_self));
    }
    depot_buf_adds(&a->results, a->done == 0 ? "" : ",");
    if (ok && result != NULL) {
        depot_buf_adds(&a->results, job_result_text(&queue_self, arena, depot_json_text(arena, result)));
        a->with_result++;
    } else {
        depot_buf_adds(&a->results, "null");
    }
    a->done++;
}

static void set_id(depot_job *seen, char id[ID_SIZE], const job *j, int64_t place)
{
    unsigned last =
        (unsigned)strtoul(j->id + ID_SIZE - 4, NULL, 16); /* three digits, of which ten bits are the place */

    (void)snprintf(id + ID_SIZE - 4, 4, "%03x", last | (unsigned)place);
    seen->id = id;
}

static bool goes_on(queue *q, const job *j, const answers *a)
{
    bool is_late = a->done > 0 && depot_now_us() - j->started_us > RANGE_US;

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
    DEPOT_AUTO(answers_drop) answers a = { .done = 0 };
    char                             id[ID_SIZE];
    const char                      *at = strchr(j->args, '[') + 1;
    size_t                           len;
    depot_job seen = { .queue = j->queue, .type = j->type, .attempt = j->attempt, .max_attempts = j->max_attempts };

    (void)ctx;
    memcpy(id, j->id, ID_SIZE);
    for (int64_t i = 0; i < j->first; i++) {
        (void)next_element(&at, &len);
    }
    for (bool on = true; on && a.done < j->n;) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        for (int i = 0; i < PARSED_AT_A_TIME && a.done < j->n && (on = goes_on(&queue_self, j, &a)); i++) {
            set_id(&seen, id, j, j->first + a.done);
            const char *text = next_element(&at, &len);
            if (is_skipped(&queue_self, j, j->first + a.done)) {
                pass_over(j, &a);
            } else {
                run_one(j, &seen, arena, text, len, &a);
            }
        }
    }
    put(j, &a, depot_now_us() - j->started_us);
    job_end(&queue_self, j);
}
