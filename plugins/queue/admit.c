/* admit.c - the guard before producers outside: size of a payload, jobs a minute and queue. The minute's allowance is
 * a row of the database, shared by all daemons; each takes a piece of it at a time and spends that in memory. */
#include <stdio.h>
#include <string.h>

#include "queue.h"

enum { PIECES_MAX = 64, QUEUE_NAME_SIZE = 129, SHARES = 100 };

typedef struct piece {
    char    queue[QUEUE_NAME_SIZE];
    int64_t left, until_ms;
} piece;

static pthread_mutex_t pieces_lock = PTHREAD_MUTEX_INITIALIZER; /* guards pieces */
static piece           pieces[PIECES_MAX];

static bool spend(const char *to_queue)
{
    int64_t now = depot_now_ms();
    bool    had = false;

    pthread_mutex_lock(&pieces_lock);
    for (size_t i = 0; i < PIECES_MAX && !had; i++) {
        if (pieces[i].left > 0 && now < pieces[i].until_ms && strcmp(pieces[i].queue, to_queue) == 0) {
            pieces[i].left--;
            had = true;
        }
    }
    pthread_mutex_unlock(&pieces_lock);
    return had;
}

/* What finds no place is lost to this minute. */
static void put_by(const char *to_queue, int64_t n, int64_t left_ms)
{
    int64_t now = depot_now_ms();

    pthread_mutex_lock(&pieces_lock);
    for (size_t i = 0; i < PIECES_MAX && n > 0; i++) {
        if (pieces[i].left <= 0 || now >= pieces[i].until_ms) {
            (void)snprintf(pieces[i].queue, sizeof(pieces[i].queue), "%s", to_queue);
            pieces[i].left = n;
            pieces[i].until_ms = now + left_ms;
            n = 0;
        }
    }
    pthread_mutex_unlock(&pieces_lock);
}

static bool refuse(queue *q, const char *to_queue, depot_json *details, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_err                                 why = { 0 };

    depot_count(q->ctx, "depot_queue_refused_total", DEPOT_LABELS(depot_err_id(err)), 1);
    if (!depot_sql(q->ctx, arena, "select queue.refuse($1, $2, $3)",
                   DEPOT_VALS(DEPOT_TEXT(to_queue), DEPOT_TEXT(depot_err_id(err)),
                              DEPOT_TEXT(depot_json_text(arena, details))),
                   NULL, &why)) {
        depot_log_err(q->ctx, DEPOT_LOG_WARN, "queue.refusal_not_recorded", &why);
    }
    return false;
}

static bool check_rate(queue *q, const char *to_queue, int64_t most, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_rows                               *rows = NULL;

    if (most == 0 || spend(to_queue)) {
        return true;
    }
    if (!depot_sql(q->ctx, arena, "select granted, total, left_ms from queue.take_rate($1, $2, $3)",
                   DEPOT_VALS(DEPOT_TEXT(to_queue), DEPOT_INT(most), DEPOT_INT(most > SHARES ? most / SHARES : 1)),
                   &rows, err)) {
        return false;
    }
    int64_t granted = depot_int(rows, 0, "granted");
    if (granted > 0) {
        put_by(to_queue, granted - 1, depot_int(rows, 0, "left_ms"));
        return true;
    }
    DEPOT_FAIL(err, RATE, "queue %s has taken its %lld jobs of this minute", to_queue, (long long)most);
    (void)depot_hint(err, "try again in the next minute, or raise [plugin queue] max_enqueue_per_minute");
    return refuse(
        q, to_queue,
        depot_json_pack(arena, "{s:I, s:I}", "max_per_minute", most, "count_this_minute", depot_int(rows, 0, "total")),
        err);
}

bool admit(queue *q, const char *to_queue, const depot_json *payload, depot_err *err)
{
    const queue_options                      *o = depot_options(q->ctx);
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    int64_t                                   n = (int64_t)strlen(depot_json_text(arena, payload));

    if (strlen(to_queue) >= QUEUE_NAME_SIZE) {
        return DEPOT_FAIL(err, INVALID, "the name of a queue has at most %d bytes", QUEUE_NAME_SIZE - 1);
    }
    if (n > o->max_payload) {
        DEPOT_FAIL(err, TOO_LARGE, "payload_json has %lld bytes; %lld are allowed", (long long)n,
                   (long long)o->max_payload);
        return refuse(q, to_queue,
                      depot_json_pack(arena, "{s:I, s:I}", "max_payload_bytes", o->max_payload, "payload_bytes", n),
                      err);
    }
    return check_rate(q, to_queue, o->max_enqueue_per_minute, err);
}
