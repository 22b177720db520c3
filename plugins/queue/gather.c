/* gather.c - POST /jobs: requests that come while a commit is under way share the next one. One loop takes what has come, carries it
 * out in one transaction together with its rows of the audit log, and answers. Who comes alone waits for nobody. */
#include <stdio.h>
#include <string.h>

#include "queue.h"

enum {
    GROUP_MAX = 256,
    GROUP_BYTES = 4 << 20,
    CHUNKS_MAX = 8,       /* of a group: kinds of jobs that are made by statements of their own */
    CHUNK_BYTES = 1 << 20 /* of payloads, as the database has them in a chunk */
};

/* A request on its way, in its own arena. Between the handler and the answer its fields are the loop's. */
typedef struct arrival {
    struct arrival   *next;
    depot_req        *req;
    const depot_json *given; /* its arguments */
    const char       *queue, *type;
    const char       *payload; /* as it is stored */
    bool              is_plain; /* may be a place in a chunk: no other job is tied to it, and its payload is not encrypted */
    depot_err        *refusal;  /* of this one alone; NULL: none */
    const char       *details;  /* of a refusal that is recorded; NULL: it is not */
    char              id[ID_SIZE];
} arrival;

static struct {
    pthread_mutex_t lock; /* guards the rest */
    arrival        *first, *last;
    depot_loop     *loop; /* NULL: none is taken */
} line = { .lock = PTHREAD_MUTEX_INITIALIZER };

typedef struct group {
    depot_arena *arena;
    arrival     *all[GROUP_MAX];
    size_t       n;
} group;

/* ---- coming: on the connection's thread, which must not wait ---- */

static bool get_in_line(arrival *a, depot_err *err)
{
    pthread_mutex_lock(&line.lock);
    bool open = line.loop != NULL, first = line.first == NULL;
    if (open) {
        depot_req_later(a->req);
        *(first ? &line.first : &line.last->next) = a;
        line.last = a;
    }
    if (open && first) {
        depot_loop_wake(line.loop);
    }
    pthread_mutex_unlock(&line.lock);
    return open || DEPOT_FAIL(err, UNAVAILABLE, "plugin queue is not running");
}

bool route_add_job(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_arena      *arena = depot_req_arena(req);
    const depot_json *given = depot_req_args(req), *payload = depot_json_get(given, "payload_json");
    arrival          *a = depot_alloc(arena, sizeof(*a));
    depot_err         refusal = { 0 };

    (void)ctx;
    *a = (arrival){ .req = req,
                    .given = given,
                    .queue = depot_json_get_str(given, "queue", "default"),
                    .type = depot_json_get_str(given, "job_type", "") };
    if (a->type[strspn(a->type, " \t\r\n")] == '\0') {
        return DEPOT_FAIL(err, INVALID, "job_type is blank");
    }
    const char *text = depot_json_text(arena, payload);
    if (!admit_size(&queue_self, arena, strlen(text), &a->details, &refusal)) {
        a->refusal = depot_alloc(arena, sizeof(*a->refusal));
        *a->refusal = refusal;
        return get_in_line(a, err);
    }
    a->payload = seal_text(arena, a->queue, a->type, payload, text, err);
    a->is_plain = a->payload == text && !enqueue_is_tied(given);
    return a->payload != NULL && get_in_line(a, err);
}

/* ---- carrying out: on the loop ---- */

static void take(group *g)
{
    size_t bytes = 0;

    pthread_mutex_lock(&line.lock);
    while (line.first != NULL && g->n < GROUP_MAX && bytes < GROUP_BYTES) {
        arrival *a = line.first;
        line.first = a->next;
        bytes += a->payload == NULL ? 0 : strlen(a->payload);
        g->all[g->n++] = a;
    }
    pthread_mutex_unlock(&line.lock);
}

static void refuse(group *g, arrival *a, const depot_err *err)
{
    a->refusal = depot_alloc(g->arena, sizeof(*a->refusal));
    *a->refusal = *err;
}

static bool answer(depot_ctx *ctx, depot_req *req, void *arg, depot_err *err)
{
    const arrival *a = arg;

    (void)ctx;
    if (a->refusal != NULL) {
        *err = *a->refusal;
        return false;
    }
    return depot_reply_json_text(req, 200, depot_strf(depot_req_arena(req), "{\"job_id\":\"%s\"}", a->id));
}

/* Out go those that the core has answered meanwhile: nothing is done for them. */
static void leave_out_late(group *g)
{
    size_t n = 0;

    for (size_t i = 0; i < g->n; i++) {
        if (depot_req_waits(g->all[i]->req)) {
            g->all[n++] = g->all[i];
        } else {
            (void)depot_req_resume(g->all[i]->req, answer, g->all[i]); /* false, as nobody waits for it */
        }
    }
    g->n = n;
}

static void admit_all(queue *q, group *g)
{
    for (size_t i = 0; i < g->n; i++) {
        arrival  *a = g->all[i];
        depot_err err = { 0 };
        if (a->refusal == NULL && !admit_rate(q, g->arena, a->queue, &a->details, &err)) {
            refuse(g, a, &err);
        }
    }
}

/* Jobs that differ in their payloads and requests alone. */
typedef struct alike {
    const arrival *head;
    depot_buf      payloads, requests;
    depot_val      vals[9];
    arrival       *made[GROUP_MAX];
    size_t         n;
} alike;

/* What goes to the database, with the requests that it is about. */
typedef struct group_sql {
    alike        chunks[CHUNKS_MAX];
    size_t       n_chunks;
    depot_val    rows[2], refusals[1];
    arrival     *made[GROUP_MAX]; /* as rows, in their order */
    size_t       n_made;
    bool         has_refusals;
    depot_audit *audits;
} group_sql;

static bool is_alike(const arrival *a, const arrival *b)
{
    const char *run_at = depot_json_get_str(a->given, "run_at", ""), *other = depot_json_get_str(b->given, "run_at", "");

    return strcmp(a->type, b->type) == 0 && strcmp(a->queue, b->queue) == 0 && strcmp(run_at, other) == 0 &&
           strcmp(depot_req_actor(a->req), depot_req_actor(b->req)) == 0 &&
           depot_json_get_int(a->given, "priority", 0) == depot_json_get_int(b->given, "priority", 0) &&
           depot_json_get_int(a->given, "max_attempts", 0) == depot_json_get_int(b->given, "max_attempts", 0);
}

/* Those it belongs to; NULL: it becomes a row of the statement for all that are left over. */
static alike *find_alike(group_sql *s, const arrival *a)
{
    for (size_t i = 0; a->is_plain && i < s->n_chunks; i++) {
        alike *c = &s->chunks[i];
        if (is_alike(c->head, a) && c->payloads.len + strlen(a->payload) < CHUNK_BYTES) {
            return c;
        }
    }
    if (!a->is_plain || s->n_chunks == CHUNKS_MAX) {
        return NULL;
    }
    alike *c = &s->chunks[s->n_chunks++];
    c->head = a;
    return c;
}

static void add_alike(alike *c, arrival *a)
{
    depot_buf_adds(&c->payloads, c->n == 0 ? "[" : ",");
    depot_buf_adds(&c->payloads, a->payload);
    types_add_item(&c->requests, depot_req_id(a->req));
    c->made[c->n++] = a;
}

static void end_alike(queue *q, depot_arena *arena, alike *c)
{
    const arrival    *a = c->head;
    const depot_json *max_attempts = depot_json_get(a->given, "max_attempts");
    bool              has_max = max_attempts != NULL && depot_json_typeof(max_attempts) == DEPOT_JSON_INT;

    depot_buf_adds(&c->payloads, "]");
    const depot_val vals[] = { DEPOT_TEXT(a->queue),
                               DEPOT_TEXT(a->type),
                               DEPOT_TEXT(c->payloads.data),
                               DEPOT_TEXT(depot_json_get_str(a->given, "run_at", NULL)),
                               DEPOT_INT(depot_json_get_int(a->given, "priority", 0)),
                               has_max ? DEPOT_INT(depot_json_integer(max_attempts)) : DEPOT_NULL,
                               DEPOT_TEXT(depot_req_actor(a->req)),
                               DEPOT_TEXT(types_array(arena, &c->requests)),
                               DEPOT_TEXT(depot_node(q->ctx)) };
    memcpy(c->vals, vals, sizeof(vals));
}

/* The arena shares values with the request, whose own thread may end it as soon as it is answered: it has to be dropped before. */
static void add_row(depot_buf *rows, const arrival *a)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    depot_buf_adds(rows, rows->len == 0 ? "[" : ",");
    enqueue_describe(rows, arena, a->given, a->payload, depot_req_actor(a->req), depot_req_id(a->req));
}

static const char *array_of(depot_arena *arena, const depot_buf *items)
{
    return items->len == 0 ? "[]" : depot_strf(arena, "%s]", items->data);
}

static void group_sql_drop(group_sql *s)
{
    for (size_t i = 0; i < s->n_chunks; i++) {
        depot_buf_free(&s->chunks[i].payloads);
        depot_buf_free(&s->chunks[i].requests);
    }
}

static void describe(queue *q, group *g, group_sql *out)
{
    DEPOT_AUTO(depot_buf_free) depot_buf rows = { 0 }, refusals = { 0 };

    for (size_t i = 0; i < g->n; i++) {
        arrival *a = g->all[i];
        alike   *c = a->refusal == NULL ? find_alike(out, a) : NULL;
        if (c != NULL) {
            add_alike(c, a);
        } else if (a->refusal == NULL) {
            add_row(&rows, a);
            out->made[out->n_made++] = a;
        } else if (a->details != NULL) {
            depot_buf_adds(&refusals, refusals.len == 0 ? "[" : ",");
            admit_describe(q, &refusals, g->arena, a->queue, a->details, a->refusal);
        }
    }
    for (size_t i = 0; i < out->n_chunks; i++) {
        end_alike(q, g->arena, &out->chunks[i]);
    }
    out->has_refusals = refusals.len > 0;
    out->rows[0] = DEPOT_TEXT(array_of(g->arena, &rows));
    out->rows[1] = DEPOT_TEXT(depot_node(q->ctx));
    out->refusals[0] = DEPOT_TEXT(array_of(g->arena, &refusals));
    out->audits = depot_alloc(g->arena, GROUP_MAX * sizeof(*out->audits));
}

/* Refusals and the audit log, which comes last. */
static size_t describe_rest(group *g, group_sql *s, depot_stmt *stmts)
{
    size_t n = 0;

    if (s->has_refusals) {
        stmts[n++] = (depot_stmt){ admit_refuse_sql, s->refusals, 1 };
    }
    for (size_t i = 0; i < g->n; i++) {
        s->audits[i] = (depot_audit){ g->all[i]->req, 200, g->all[i]->refusal };
    }
    stmts[n++] = depot_audit_stmt(g->arena, s->audits, g->n);
    return n;
}

static const char make_chunk_sql[] = "select (queue.enqueue_chunks($1, $2, $3, $4, $5, $6, $7, $8, $9))[1] as id";
static const char make_rows_sql[] = "select id from unnest(queue.enqueue_many($1, $2)) id";

/* All in one round trip, as if nothing could be refused. first: leases them, too; NULL: nobody waits for them. */
static bool make_all(depot_db *db, group *g, group_sql *s, const handoff *first, const depot_rows **out_leased, depot_err *err)
{
    depot_stmt  stmts[CHUNKS_MAX + 4];
    depot_rows *rows[CHUNKS_MAX + 4] = { NULL };
    size_t      n = 0;

    for (size_t i = 0; i < s->n_chunks; i++) {
        stmts[n++] = (depot_stmt){ make_chunk_sql, s->chunks[i].vals, DEPOT_N(s->chunks[i].vals) };
    }
    if (s->n_made > 0) {
        stmts[n++] = (depot_stmt){ make_rows_sql, s->rows, DEPOT_N(s->rows) };
    }
    size_t leased = n;
    if (first != NULL) {
        stmts[n++] = first->stmt;
    }
    n += describe_rest(g, s, stmts + n);
    if (!depot_db_batch(db, g->arena, stmts, n, rows, err)) {
        return false;
    }
    *out_leased = first != NULL ? rows[leased] : NULL;
    for (size_t i = 0; i < s->n_chunks; i++) {
        for (size_t place = 0; place < s->chunks[i].n; place++) {
            depot_range_id(depot_text(rows[i], 0, "id"), (int64_t)place, s->chunks[i].made[place]->id);
        }
    }
    for (size_t i = 0; i < s->n_made; i++) {
        (void)snprintf(s->made[i]->id, ID_SIZE, "%s", depot_text(rows[s->n_chunks], i, "id"));
    }
    return true;
}

static void refuse_by(group *g, arrival *a, const depot_rows *rows, size_t row)
{
    const char *hint = depot_text(rows, row, "hint");
    depot_err   refusal = { 0 };

    (void)DEPOT_FAIL(&refusal, DB, "%s", depot_text(rows, row, "message"));
    (void)snprintf(refusal.sqlstate, sizeof(refusal.sqlstate), "%s", depot_text(rows, row, "state"));
    if (hint != NULL && hint[0] != '\0') {
        (void)depot_hint(&refusal, "%s", hint);
    }
    (void)(enqueue_fail_sql(&refusal) || depot_wrap(&refusal, "enqueue"));
    refuse(g, a, &refusal);
}

/* Each for itself, in one transaction: the database refuses one of them. *out_refused: how many. */
static bool make_each(depot_db *db, group *g, group_sql *s, size_t *out_refused, depot_err *err)
{
    DEPOT_AUTO(depot_buf_free) depot_buf all = { 0 };
    arrival    *asked[GROUP_MAX];
    size_t      n = 0;
    depot_stmt  rest[2];
    depot_rows *rows = NULL;

    for (size_t i = 0; i < g->n; i++) {
        if (g->all[i]->refusal == NULL) {
            add_row(&all, g->all[i]);
            asked[n++] = g->all[i];
        }
    }
    const depot_val vals[] = { DEPOT_TEXT(array_of(g->arena, &all)), s->rows[1] };
    if (!depot_db_begin(db, NULL, err) ||
        !depot_db_sql(db, g->arena, "select id, state, message, hint from queue.enqueue_each($1, $2)", vals, DEPOT_N(vals), &rows, err)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (depot_is_null(rows, i, "id")) {
            refuse_by(g, asked[i], rows, i);
            (*out_refused)++;
        } else {
            (void)snprintf(asked[i]->id, ID_SIZE, "%s", depot_text(rows, i, "id"));
        }
    }
    return depot_db_batch(db, g->arena, rest, describe_rest(g, s, rest), NULL, err) && depot_db_commit(db, err);
}

static bool carry_out(queue *q, group *g, depot_err *err)
{
    DEPOT_AUTO(depot_db_close) depot_db       *db = NULL;
    DEPOT_AUTO(group_sql_drop) group_sql       s = { .n_made = 0 };

    handoff           first;
    const depot_rows *leased = NULL;
    describe(q, g, &s);
    if (!depot_db_open(q->ctx, &db, err)) {
        return depot_wrap(err, "enqueue");
    }
    bool hands = s.n_chunks == 1 && s.n_made == 0 && handoff_prepare(q, g->arena, s.chunks[0].head->queue, s.chunks[0].head->type,
                                                                         s.chunks[0].n, &first);
    bool ok = make_all(db, g, &s, hands ? &first : NULL, &leased, err);
    if (ok && hands) {
        handoff_done(q, leased);
    } else if (hands) {
        handoff_failed(q, err);
    }
    if (!ok && err->code == DEPOT_E_DB && s.n_made + s.n_chunks > 0) {
        const depot_err why = *err;
        size_t          refused = 0;
        *err = (depot_err){ 0 };
        ok = make_each(db, g, &s, &refused, err);
        if (ok && refused == 0) { /* no job was to blame */
            depot_log_err(q->ctx, DEPOT_LOG_WARN, "queue.group_failed", &why);
        }
    }
    if (ok) {
        depot_audit_written(s.audits, g->n);
    }
    return ok || depot_wrap(err, "enqueue");
}

/* Jobs that somebody else runs are none of this daemon's business. */
static bool has_work(queue *q, const group *g)
{
    const char *seen = NULL;

    for (size_t i = 0; i < g->n; i++) {
        const char *type = g->all[i]->refusal == NULL ? g->all[i]->type : NULL;
        if (type == NULL || (seen != NULL && strcmp(seen, type) == 0)) {
            continue;
        }
        if (types_kind(q, g->arena, type) >= 0) {
            return true;
        }
        seen = type;
    }
    return false;
}

static void settle(queue *q, group *g)
{
    depot_err err = { 0 };

    leave_out_late(g);
    admit_all(q, g);
    if (g->n > 0 && !carry_out(q, g, &err)) {
        for (size_t i = 0; i < g->n; i++) {
            arrival *a = g->all[i];
            if (a->refusal == NULL) {
                refuse(g, a, &err);
            } else if (a->details != NULL) {
                depot_log_err(q->ctx, DEPOT_LOG_WARN, "queue.refusal_not_recorded", &err);
            }
        }
    }
    if (has_work(q, g)) {
        queue_wake();
    }
    for (size_t i = 0; i < g->n; i++) {
        (void)depot_req_resume(g->all[i]->req, answer, g->all[i]); /* false: too late, the core has answered */
    }
    depot_count(q->ctx, "depot_queue_groups_total", NULL, 1);
}

static bool gather(depot_ctx *ctx, depot_loop *loop, void *arg, depot_err *err)
{
    bool go_on = true;

    (void)ctx;
    (void)err; /* a database that is away is the requests' affair: nothing ends this loop but its stop */
    while (go_on) {
        go_on = depot_loop_wait(loop, INT64_MAX);
        for (bool more = true; more;) {
            DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
            group g = { .arena = arena };
            take(&g);
            more = g.n > 0;
            if (more) {
                settle(arg, &g);
            }
        }
    }
    return true;
}

void gather_start(queue *q)
{
    pthread_mutex_lock(&line.lock);
    line.loop = depot_loop_start(q->ctx, "queue.gather", gather, q);
    pthread_mutex_unlock(&line.lock);
}

void gather_stop(void)
{
    pthread_mutex_lock(&line.lock);
    depot_loop *loop = line.loop;
    line.loop = NULL;
    pthread_mutex_unlock(&line.lock);
    if (loop != NULL) {
        depot_loop_stop(loop);
    }
}
