/* admit.c - the guard before producers outside: size of a payload, jobs a minute and queue. The minute's allowance is
 * a row of the database, shared by all daemons; each takes a piece of it at a time and spends that in memory. */
#include <stdio.h>
#include <string.h>

#include "queue.h"

const char admit_refuse_sql[] = "select queue.refuse($1)";

enum { PIECES_MAX = 64, QUEUE_NAME_SIZE = 129, SHARES = 100 };

typedef struct piece {
    char    queue[QUEUE_NAME_SIZE];
    int64_t left, until_ms;
    int64_t most, total; /* nothing is left in this minute of `most`: `total` were taken; most 0: it is not known so */
} piece;

static pthread_mutex_t pieces_lock = PTHREAD_MUTEX_INITIALIZER; /* guards pieces */
static piece           pieces[PIECES_MAX];

typedef enum spent { SPENT, ASK, NOTHING_LEFT } spent;

static spent spend(const char *to_queue, int64_t most, int64_t *out_total)
{
    int64_t now = depot_now_ms();
    spent   answer = ASK;

    pthread_mutex_lock(&pieces_lock);
    for (size_t i = 0; i < PIECES_MAX && answer == ASK; i++) {
        piece *p = &pieces[i];
        if (now >= p->until_ms || strcmp(p->queue, to_queue) != 0) {
            continue;
        }
        if (p->left > 0) {
            p->left--;
            answer = SPENT;
        } else if (p->most == most) {
            *out_total = p->total;
            answer = NOTHING_LEFT;
        }
    }
    pthread_mutex_unlock(&pieces_lock);
    return answer;
}

/* What finds no place is lost to this minute. */
static void put_by(const char *to_queue, const piece *fresh, int64_t left_ms)
{
    int64_t now = depot_now_ms();
    bool    done = strlen(to_queue) >= sizeof(fresh->queue); /* of 128 characters, but more bytes: asks each time */

    pthread_mutex_lock(&pieces_lock);
    for (size_t i = 0; i < PIECES_MAX && !done; i++) {
        if ((pieces[i].left <= 0 && pieces[i].most == 0) || now >= pieces[i].until_ms) {
            pieces[i] = *fresh;
            (void)snprintf(pieces[i].queue, sizeof(pieces[i].queue), "%s", to_queue);
            pieces[i].until_ms = now + left_ms;
            done = true;
        }
    }
    pthread_mutex_unlock(&pieces_lock);
}

void admit_describe(queue *q, depot_buf *out, depot_arena *arena, const char *to_queue, const char *details, const depot_err *err)
{
    depot_buf_adds(out, "{\"queue\":");
    depot_json_write(out, depot_json_str(arena, to_queue));
    depot_buf_addf(out, ",\"reason\":\"%s\",\"details\":%s}", depot_err_id(err), details);
    depot_count(q->ctx, "depot_queue_refused_total", DEPOT_LABELS(depot_err_id(err)), 1);
}

bool admit_size(queue *q, depot_arena *arena, size_t payload_size, const char **out_details, depot_err *err)
{
    const queue_options *o = depot_options(q->ctx);
    int64_t              n = (int64_t)payload_size;

    if (n <= o->max_payload) {
        return true;
    }
    *out_details = depot_strf(arena, "{\"max_payload_bytes\":%lld,\"payload_bytes\":%lld}", (long long)o->max_payload, (long long)n);
    return DEPOT_FAIL(err, TOO_LARGE, "payload_json has %lld bytes; %lld are allowed", (long long)n, (long long)o->max_payload);
}

static bool take_piece(queue *q, depot_arena *arena, const char *to_queue, int64_t most, int64_t *out_total, bool *out_granted,
                       depot_err *err)
{
    depot_rows *rows = NULL;

    if (!depot_sql(q->ctx, arena, "select granted, total, left_ms from queue.take_rate($1, $2, $3)",
                   DEPOT_VALS(DEPOT_TEXT(to_queue), DEPOT_INT(most), DEPOT_INT(most > SHARES ? most / SHARES : 1)), &rows, err)) {
        return false;
    }
    int64_t granted = depot_int(rows, 0, "granted"), left_ms = depot_int(rows, 0, "left_ms");
    *out_granted = granted > 0;
    *out_total = depot_int(rows, 0, "total");
    if (granted == 0) {
        put_by(to_queue, &(piece){ .most = most, .total = *out_total }, left_ms);
    } else if (granted > 1) {
        put_by(to_queue, &(piece){ .left = granted - 1 }, left_ms);
    }
    return true;
}

bool admit_rate(queue *q, depot_arena *arena, const char *to_queue, const char **out_details, depot_err *err)
{
    const queue_options *o = depot_options(q->ctx);
    int64_t              most = o->max_enqueue_per_minute, total = 0;
    spent                answer = most == 0 ? SPENT : spend(to_queue, most, &total);
    bool                 granted = answer == SPENT;

    if (answer == ASK && !take_piece(q, arena, to_queue, most, &total, &granted, err)) {
        return false;
    }
    if (granted) {
        return true;
    }
    *out_details = depot_strf(arena, "{\"max_per_minute\":%lld,\"count_this_minute\":%lld}", (long long)most, (long long)total);
    DEPOT_FAIL(err, RATE, "queue %s has taken its %lld jobs of this minute", to_queue, (long long)most);
    return depot_hint(err, "try again in the next minute, or raise [plugin queue] max_enqueue_per_minute");
}

static void record(queue *q, depot_arena *arena, const char *to_queue, const char *details, const depot_err *err)
{
    DEPOT_AUTO(depot_buf_free) depot_buf refusal = { 0 };
    depot_err                            why = { 0 };

    depot_buf_adds(&refusal, "[");
    admit_describe(q, &refusal, arena, to_queue, details, err);
    depot_buf_adds(&refusal, "]");
    if (!depot_sql(q->ctx, arena, admit_refuse_sql, DEPOT_VALS(DEPOT_TEXT(refusal.data)), NULL, &why)) {
        depot_log_err(q->ctx, DEPOT_LOG_WARN, "queue.refusal_not_recorded", &why);
    }
}

bool admit(queue *q, const char *to_queue, size_t payload_size, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const char                               *details = NULL;
    bool ok = admit_size(q, arena, payload_size, &details, err) && admit_rate(q, arena, to_queue, &details, err);

    if (!ok && details != NULL) {
        record(q, arena, to_queue, details, err);
    }
    return ok;
}
