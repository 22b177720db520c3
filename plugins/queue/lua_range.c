/* lua_range.c - a range of a chunk's jobs in a worker process. What takes long goes on there by itself, as a row of its own. */
#include <string.h>

#include "queue.h"

/* ---- what has become of it ---- */

/* Nobody knows what the worker did before it died, unless it had one job alone. Cut off by a shutdown, none is charged. */
static void set_lost(queue *q, job *j, const depot_err *err, const char *logs)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    bool is_lost = err->code == DEPOT_E_WORKER_LOST || (err->code == DEPOT_E_TIMEOUT && j->n > 1) || err->code == DEPOT_E_CANCELED;

    if (!is_lost || queue_is_draining(q)) {
        range_set_failed(j, err, queue_is_draining(q));
        job_add_member(j, "logs", logs);
        return;
    }
    depot_json_write(&j->result, depot_json_pack(arena, "{s:s, s:s, s:s, s:I}", "token", j->token, "chunk", j->id, "lost", err->msg, "busy_us",
                                                 depot_now_us() - j->started_us));
    job_add_member(j, "logs", logs);
}

static void add_results(queue *q, const job *j, range_answers *a, const char *results)
{
    const char *at = results + 1; /* the bracket */

    for (int64_t i = 0; i < a->begun; i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        size_t                                    n;
        const char *text = depot_json_item(&at, &n);
        text = depot_strndup(arena, text, n);
        range_add_success(q, a, arena, j->first + i, strcmp(text, "null") == 0 ? NULL : text);
    }
}

static void set_answers(queue *q, job *j, const depot_range_result *res)
{
    DEPOT_AUTO(range_answers_drop) range_answers a = { .begun = res->begun, .busy_us = res->busy_us, .logs = res->logs };
    DEPOT_AUTO(depot_arena_drop) depot_arena    *arena = depot_arena_new();
    bool                                         draining = queue_is_draining(q);

    for (size_t i = 0; i < res->n_ended; i++) {
        range_add_other(&a, arena, res->ended[i].place, job_outcome(arena, &res->ended[i].res, draining));
    }
    for (size_t i = 0; i < res->n_going; i++) {
        depot_buf_addf(&a.going, "%s%lld", i == 0 ? "" : ",", (long long)res->going[i].place);
    }
    if (res->results != NULL && res->results[0] == '[') {
        add_results(q, j, &a, res->results);
    }
    range_answer(j, &a);
}

static void take_going(queue *q, job *j, depot_range_result *res)
{
    j->has_going = res->n_going > 0;
    for (size_t i = 0; i < res->n_going; i++) {
        job *going = job_of_range(j, res->going[i].place);
        going->script_id = res->going[i].id;
        res->going[i].arg = going;
        pthread_mutex_lock(&q->lock);
        job_push(&q->running[1], going);
        q->in_scripts += going->room;
        pthread_mutex_unlock(&q->lock);
    }
}

static void on_done(void *arg, depot_range_result *res)
{
    queue *q = &queue_self;
    job   *j = arg;

    if (res->err.code != DEPOT_OK) {
        set_lost(q, j, &res->err, res->logs);
    } else {
        set_answers(q, j, res);
        take_going(q, j, res);
    }
    job_end(q, j);
}

static void on_job_done(void *arg, const depot_script_result *res)
{
    job_end_script(&queue_self, arg, res);
}

/* ---- handing it out ---- */

bool lua_range_run(queue *q, job *j, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const char                               *from = strchr(j->args, '[') + 1, *at = from;
    size_t                                    n;
    uint64_t                                  id = 0;
    int64_t                                   room = 0;

    for (int64_t i = 0; i < j->n; i++) {
        (void)depot_json_item(&at, &n);
    }
    const depot_script_range range = {
        .handler = j->type,
        .id = j->id,
        .token = j->token,
        .job = depot_json_text(arena, depot_json_pack(arena, "{s:I, s:I, s:s}", "attempt", j->attempt, "max_attempts", j->max_attempts,
                                                      "queue", j->queue)),
        .args = from,
        .args_len = (size_t)(at - from),
        .first = j->first,
        .n = j->n,
        .timeout_ms = j->timeout_ms,
        .done = on_done,
        .job_done = on_job_done,
        .done_arg = j,
    };
    if (!depot_script_run_range(q->ctx, &range, &id, &room, err)) {
        return false;
    }
    job_set_script(q, j, id, room);
    return true;
}

static uint64_t next_to_tell(queue *q)
{
    uint64_t id = 0;

    pthread_mutex_lock(&q->lock);
    for (job *j = q->running[1].first; j != NULL && id == 0; j = j->next) {
        if (j->n > 0 && !j->was_told) {
            j->was_told = true;
            id = j->script_id;
        }
    }
    pthread_mutex_unlock(&q->lock);
    return id;
}

void lua_range_stop_beginning(queue *q)
{
    for (uint64_t id; (id = next_to_tell(q)) != 0;) {
        depot_script_enough(q->ctx, id);
    }
}
