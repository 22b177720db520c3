/* dispatch.c - the dispatcher: one loop per daemon that writes results, takes as many jobs as there is room for, in
 * the same round trip, and hands them out. It is woken by results, by new jobs and by free workers; when nothing
 * wakes it, it looks. */
#include <string.h>

#include "queue.h"

enum {
    POLL_LEAST_MS = 250,
    POLL_MOST_MS = 1000,
    RETRY_LEAST_MS = 100,
    RETRY_MOST_MS = 2000,
    LUA_PAUSE_MS = 200,
    RESERVE = 16,
    UNSURE_MS = 10000, /* after a lost answer: the server may still be at what was asked */
    ADOPT_MS = 250,
    C_AHEAD = 4,       /* times as many as may run, so that they do not wait for a round trip each */
    LINGER_MS = 5,     /* results of ranges wait as long for more of them, while there is work in hand */
    LUA_JOBS = 16 * CHUNK_JOBS /* in ranges in workers, taken when half of them are done */
};

static const char claim_sql[] = "select id, token, queue, job_type, args, attempt, max_attempts, lease_ms, timeout_ms"
                                " from queue.claim($1, $2, $3, $4, $5 * interval '1 millisecond', $6)";
/* For C code, and for scripts; a claim of no ranges costs nothing. */
static const char claim_chunks_sql[] =
    RANGE_SELECT " from queue.claim_chunks($1, $2, $3, $4, $5, $6 * interval '1 millisecond', $7, $8, $12)"
    " union all " RANGE_SELECT " from queue.claim_chunks($1, $2, $9, $10, $11, $6 * interval '1 millisecond', $7, $8, $12)";
static const char held_chunks_sql[] = RANGE_SELECT " from queue.held_chunks($1, $2 * interval '1 millisecond')";
static const char held_sql[] = "select id, token, queue, job_type, args, attempt, max_attempts, lease_ms, timeout_ms"
                               " from queue.held($1, $2 * interval '1 millisecond')";

/* ---- how much there is room for ---- */

/* Schedules and hooks run in the same workers: jobs leave them a sixteenth. */
int64_t queue_script_room(queue *q)
{
    int64_t capacity = depot_now_ms() < atomic_load(&q->lua_pause_ms) ? 0 : depot_script_capacity(q->ctx);

    pthread_mutex_lock(&q->lock);
    int64_t running = q->in_scripts;
    pthread_mutex_unlock(&q->lock);
    return capacity - (capacity + running) / RESERVE;
}

typedef struct wish {
    int64_t     n;
    const char *types;
    int64_t     ranges[2];    /* of chunks [is_lua], at most */
    int64_t     places[2];    /* of all of them */
    const char *paced, *most; /* as pace_describe has them */
} wish;

static int64_t count_places(const job_list *list)
{
    int64_t n = 0;

    for (const job *j = list->first; j != NULL; j = j->next) {
        n += j->n;
    }
    return n;
}

/* Jobs of both kinds are claimed together, so that a claim never has to step over the one kind to find the other;
 * what there is no room for waits here, and its kind is left out of the next claim. */
static wish wanted(queue *q)
{
    const queue_options *o = depot_options(q->ctx);
    int64_t              lua = queue_script_room(q);
    wish                 w = { 0 };

    pthread_mutex_lock(&q->lock);
    lua -= (int64_t)q->waiting[1].n;
    int64_t held = (int64_t)q->running[0].n + (int64_t)q->waiting[0].n;
    int64_t c = q->n_served == 0 ? 0 : o->c_jobs * C_AHEAD - held;
    int64_t ahead = q->n_served == 0 ? 0 : o->c_jobs * pace_ahead(q, false);
    int64_t lua_waiting = count_places(&q->waiting[1]), lua_places = lua_waiting + count_places(&q->running[1]);
    bool    draining = q->draining;
    pthread_mutex_unlock(&q->lock);
    lua = q->types.n_scripts == 0 ? 0 : lua;
    if (draining || q->types.arena == NULL || (c <= 0 && lua <= 0)) {
        return w;
    }
    w.types = c <= 0 ? q->types.of[1] : lua <= 0 ? q->types.of[0] : q->types.all;
    w.n = (c > 0 ? c : 0) + (lua > 0 ? lua : 0);
    w.n = w.n > o->batch ? o->batch : w.n;
    w.ranges[0] = held <= ahead / 2 || held < o->c_jobs ? ahead - held : 0;
    w.places[0] = w.ranges[0] * CHUNK_JOBS;
    w.ranges[1] = lua <= 0 || lua_places > LUA_JOBS / 2 ? 0 : lua < o->batch ? lua : o->batch;
    w.places[1] = pace_ahead(q, true) > 1 ? LUA_JOBS - lua_places : lua - lua_waiting; /* slow ones as if each had to wait */
    w.ranges[1] = w.places[1] > 0 ? w.ranges[1] : 0;
    return w;
}

/* ---- handing out ---- */

static job *next_waiting(queue *q, bool is_lua)
{
    const queue_options *o = depot_options(q->ctx);

    pthread_mutex_lock(&q->lock);
    job *j = q->waiting[is_lua].first;
    if (j != NULL && (q->draining || (!is_lua && (int64_t)q->running[0].n >= o->c_jobs))) {
        j = NULL;
    }
    if (j != NULL) {
        job_take(&q->waiting[is_lua], j);
        job_push(&q->running[is_lua], j);
        q->in_scripts += is_lua ? j->room : 0;
    }
    pthread_mutex_unlock(&q->lock);
    return j;
}

static void end_unbegun(queue *q, job *j)
{
    pthread_mutex_lock(&q->lock);
    job_take(&q->running[j->is_lua], j);
    job_push(&q->ended, j);
    q->in_scripts -= j->is_lua ? j->room : 0;
    pthread_mutex_unlock(&q->lock);
}

/* No room after all: the lease goes back. Anything else is an answer to the job. */
static void not_begun(queue *q, job *j, const depot_err *err)
{
    bool no_room = err->code == DEPOT_E_UNAVAILABLE;

    if (no_room || err->code == DEPOT_E_UNKNOWN_TYPE || err->code == DEPOT_E_NOT_FOUND) {
        job_set_released(j);
        if (j->is_lua) {
            atomic_store(&q->lua_pause_ms, depot_now_ms() + LUA_PAUSE_MS);
        }
    } else {
        job_set_failed(j, err, false);
    }
    end_unbegun(q, j);
}

static void start_jobs(queue *q)
{
    for (int is_lua = 0; is_lua < 2; is_lua++) {
        while (!is_lua || queue_script_room(q) > 0) {
            job      *j = next_waiting(q, is_lua);
            depot_err err = { 0 };
            if (j == NULL) {
                break;
            }
            if (!job_run(q, j, &err)) {
                not_begun(q, j, &err);
            }
        }
    }
}

static bool is_held(queue *q, const char *token)
{
    const job_list *lists[] = { &q->waiting[0], &q->waiting[1], &q->running[0], &q->running[1], &q->ended };

    for (size_t i = 0; i < DEPOT_N(lists); i++) {
        for (const job *j = lists[i]->first; j != NULL; j = j->next) {
            if (strcmp(j->token, token) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* took: how many of each kind [is_lua]. */
static void take_one(queue *q, job *j, bool may_be_known, int64_t took[2])
{
    bool is_ours = types_assign(q, j);

    if (!is_ours) {
        job_set_released(j);
    }
    pthread_mutex_lock(&q->lock);
    if (may_be_known && is_held(q, j->token)) {
        job_free(j);
    } else {
        took[is_ours && j->is_lua]++;
        job_push(is_ours ? &q->waiting[j->is_lua] : &q->ended, j);
    }
    pthread_mutex_unlock(&q->lock);
}

/* What came of a question that may not have been asked. */
static void take_in(queue *q, const depot_rows *rows, bool is_range, bool may_be_known, int64_t took[2])
{
    for (size_t i = 0; rows != NULL && i < depot_rows_count(rows); i++) {
        take_one(q, job_new(rows, i, is_range), may_be_known, took);
    }
}

static job *next_offered(queue *q)
{
    pthread_mutex_lock(&q->lock);
    job *j = q->offered.first;
    if (j != NULL) {
        job_take(&q->offered, j);
    }
    pthread_mutex_unlock(&q->lock);
    return j;
}

/* Such a lease may have been adopted before it came here. */
static void take_offered(queue *q)
{
    int64_t took[2] = { 0 };

    for (job *j; (j = next_offered(q)) != NULL;) {
        take_one(q, j, true, took);
    }
}

/* ---- one turn ---- */

static void set_unsure(queue *q)
{
    atomic_store(&q->is_unsure, true); /* first: no handoff begins from here on */
    q->unsure_ms = depot_now_ms() + UNSURE_MS;
    q->adopt_ms = 0;
}

/* A handoff that is under way may have leases that are ours and not known yet. */
static bool is_time_to_adopt(queue *q)
{
    pthread_mutex_lock(&q->lock);
    bool may = q->in_handoff == 0;
    pthread_mutex_unlock(&q->lock);
    return may && atomic_load(&q->is_unsure) && depot_now_ms() >= q->adopt_ms;
}

/* Leases of ours that a lost answer told us nothing of. */
static bool adopt(queue *q, depot_err *err)
{
    const queue_options                      *o = depot_options(q->ctx);
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_rows                               *jobs = NULL, *ranges = NULL;
    int64_t                                   took[2] = { 0 };
    const depot_val                           vals[] = { DEPOT_TEXT(q->worker), DEPOT_INT(o->lease) };

    if (!depot_sql(q->ctx, arena, held_sql, vals, DEPOT_N(vals), &jobs, err) ||
        !depot_sql(q->ctx, arena, held_chunks_sql, vals, DEPOT_N(vals), &ranges, err)) {
        return depot_wrap(err, "look for leases of this daemon");
    }
    take_in(q, jobs, false, true, took);
    take_in(q, ranges, true, true, took);
    q->adopt_ms = depot_now_ms() + ADOPT_MS;
    atomic_store(&q->is_unsure, depot_now_ms() < q->unsure_ms);
    return true;
}

/* What goes to the database in one round trip, and what comes back. */
typedef struct turn_rows {
    depot_rows *judged, *claimed, *ranges; /* NULL: was not asked */
} turn_rows;

static bool exchange(queue *q, depot_arena *arena, const finish_batch *results, const wish *w, turn_rows *rows,
                     depot_err *err)
{
    const queue_options                 *o = depot_options(q->ctx);
    DEPOT_AUTO(depot_db_close) depot_db *db = NULL;
    const depot_val finish_vals[] = { DEPOT_TEXT(results->jobs.len > 0 ? results->jobs.data : NULL),
                                      DEPOT_TEXT(results->chunks.len > 0 ? results->chunks.data : NULL) };
    const depot_val claim_vals[] = { DEPOT_TEXT(q->worker), DEPOT_TEXT(q->types.queues), DEPOT_TEXT(w->types),
                                     DEPOT_INT(w->n), DEPOT_INT(o->lease), DEPOT_BOOL(q->is_short) };
    const depot_val chunk_vals[] = { DEPOT_TEXT(q->worker), DEPOT_TEXT(q->types.queues), DEPOT_TEXT(q->types.of[0]), DEPOT_INT(w->ranges[0]),
                                     DEPOT_INT(w->places[0]), DEPOT_INT(o->lease), DEPOT_TEXT(w->paced), DEPOT_TEXT(w->most),
                                     DEPOT_TEXT(q->types.of[1]), DEPOT_INT(w->ranges[1]), DEPOT_INT(w->places[1]), DEPOT_INT(FIRST_JOBS) };
    const struct {
        bool         wanted;
        depot_stmt   stmt;
        depot_rows **out;
    } all[] = {
        { results->n > 0, { finish_sql, finish_vals, DEPOT_N(finish_vals) }, &rows->judged },
        { w->n > 0, { claim_sql, claim_vals, DEPOT_N(claim_vals) }, &rows->claimed },
        { w->ranges[0] + w->ranges[1] > 0, { claim_chunks_sql, chunk_vals, DEPOT_N(chunk_vals) }, &rows->ranges },
    };
    depot_stmt  stmts[DEPOT_N(all)];
    depot_rows *out[DEPOT_N(all)] = { NULL };
    size_t      n = 0;

    for (size_t i = 0; i < DEPOT_N(all); i++) {
        if (all[i].wanted) {
            stmts[n++] = all[i].stmt;
        }
    }
    if (n == 0) {
        return true;
    }
    if (!depot_db_open(q->ctx, &db, err) || !depot_db_batch(db, arena, stmts, n, out, err)) {
        return false;
    }
    for (size_t i = 0, at = 0; i < DEPOT_N(all); i++) {
        *all[i].out = all[i].wanted ? out[at++] : NULL;
    }
    return true;
}

/* *out_again: there is more to do at once. */
static bool turn(queue *q, bool *out_again, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena  *arena = depot_arena_new();
    DEPOT_AUTO(finish_batch_drop) finish_batch results = { 0 };
    turn_rows                                  rows = { 0 };

    finish_collect(q, &results);
    wish w = wanted(q);
    pace_describe(q, arena, &w.paced, &w.most);
    if (!exchange(q, arena, &results, &w, &rows, err)) {
        if (w.n > 0 || w.ranges[0] > 0 || w.ranges[1] > 0) {
            set_unsure(q);
        }
        return results.n > 0 && err->code == DEPOT_E_DB ? finish_one_by_one(q, results.n, err) : false;
    }
    if (results.n > 0) {
        finish_settle(q, results.n, rows.judged);
    }
    int64_t claimed[2] = { 0 }, ranges[2] = { 0 };
    take_in(q, rows.claimed, false, false, claimed);
    take_in(q, rows.ranges, true, false, ranges);
    q->is_short = claimed[0] + claimed[1] < w.n;
    *out_again = w.n > 0 && !q->is_short;
    for (int is_lua = 0; is_lua < 2; is_lua++) {
        *out_again = *out_again || (ranges[is_lua] > 0 && ranges[is_lua] >= w.ranges[is_lua]);
    }
    if (claimed[0] + claimed[1] + ranges[0] + ranges[1] > 0) {
        start_jobs(q);
        q->poll_wait_ms = POLL_LEAST_MS;
    }
    return true;
}

static void give_back_waiting(queue *q)
{
    pthread_mutex_lock(&q->lock);
    for (int is_lua = 0; q->draining && is_lua < 2; is_lua++) { /* also what an answer under way brought since */
        for (job *j; (j = q->waiting[is_lua].first) != NULL;) {
            job_take(&q->waiting[is_lua], j);
            job_set_released(j);
            job_push(&q->ended, j);
        }
    }
    q->drained = q->draining;
    bool draining = q->draining;
    pthread_cond_broadcast(&q->quiet);
    pthread_mutex_unlock(&q->lock);
    if (draining) {
        lua_range_stop_beginning(q);
    }
}

static bool is_range(const job *j)
{
    return j != NULL && j->n > 0;
}

/* A range takes about a millisecond, and the database a part of one for each round trip: with more ranges in hand nobody is in a
 * hurry. Single jobs are. */
static bool may_linger(queue *q)
{
    pthread_mutex_lock(&q->lock);
    bool may = !q->draining && (is_range(q->waiting[0].first) || is_range(q->waiting[1].first));
    for (const job *j = q->ended.first; may && j != NULL; j = j->next) {
        may = j->n > 0;
    }
    pthread_mutex_unlock(&q->lock);
    return may && depot_now_ms() < q->exchange_ms + LINGER_MS;
}

static bool step(queue *q, bool *out_again, depot_err *err)
{
    if (atomic_exchange(&q->must_adopt, false)) {
        set_unsure(q);
    }
    take_offered(q);
    give_back_waiting(q);
    if (((atomic_load(&q->stale_types) || atomic_load(&q->must_introduce)) && !types_refresh(q, err)) ||
        !care_heartbeat(q, err) || !tend_cancel(q, err) || (is_time_to_adopt(q) && !adopt(q, err))) {
        return false;
    }
    start_jobs(q);
    if (may_linger(q)) {
        q->poll_wait_ms = LINGER_MS;
        return true;
    }
    bool ok = turn(q, out_again, err) && care_reap(q, err);
    q->exchange_ms = depot_now_ms();
    return ok;
}

static int64_t pause_of(queue *q, bool again)
{
    int64_t now = depot_now_ms(), wait = care_due_ms(q) - now;

    if (again) {
        return 0;
    }
    wait = wait < 0 ? 0 : wait > q->poll_wait_ms ? q->poll_wait_ms : wait;
    q->poll_wait_ms = q->poll_wait_ms * 2 > POLL_MOST_MS ? POLL_MOST_MS : q->poll_wait_ms * 2;
    return wait;
}

bool queue_leave(queue *q, depot_err *err)
{
    bool ok = !(atomic_load(&q->must_adopt) || atomic_load(&q->is_unsure)) || adopt(q, err);

    take_offered(q);
    give_back_waiting(q);
    return ok;
}

bool queue_dispatch(depot_ctx *ctx, depot_loop *loop, void *arg, depot_err *err)
{
    queue *q = arg;
    bool   go_on = true;

    (void)err; /* a database that is away is waited for: nothing ends this loop but its stop */
    q->poll_wait_ms = POLL_LEAST_MS;
    q->retry_wait_ms = RETRY_LEAST_MS;
    q->is_short = true;
    q->range_us[0] = q->range_us[1] = RANGE_US / 4; /* as many ahead as of rows, while nothing is known */
    while (go_on) {
        depot_err why = { 0 };
        bool      again = false;
        if (step(q, &again, &why)) {
            q->retry_wait_ms = RETRY_LEAST_MS;
            go_on = depot_loop_wait(loop, pause_of(q, again));
            continue;
        }
        depot_log_err(ctx, DEPOT_LOG_WARN, "queue.dispatch_failed", &why);
        int64_t until = depot_now_ms() + q->retry_wait_ms;
        while (go_on && depot_now_ms() < until) {
            go_on = depot_loop_wait(loop, until - depot_now_ms());
        }
        q->retry_wait_ms = q->retry_wait_ms * 2 > RETRY_MOST_MS ? RETRY_MOST_MS : q->retry_wait_ms * 2;
    }
    give_back_waiting(q);
    return true;
}
