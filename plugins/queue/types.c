/* types.c - what this process serves: scripts by the handlers they declare, C code by globs. Told to the database, so
 * that others can say why a job waits, and so that every producer knows a handler's max_attempts. */
#include <string.h>

#include "queue.h"

bool types_serve(const char *type_glob, depot_job_fn fn, void *arg, depot_err *err)
{
    queue *q = &queue_self;

    pthread_mutex_lock(&q->lock);
    bool has_room = q->n_served < SERVED_MAX;
    if (has_room) {
        q->served[q->n_served++] = (served){ type_glob, fn, arg };
    }
    pthread_mutex_unlock(&q->lock);
    atomic_store(&q->stale_types, true);
    queue_wake();
    return has_room || DEPOT_FAIL(err, LIMIT, "no more than %d C handlers of jobs", SERVED_MAX);
}

void types_add_item(depot_buf *out, const char *text)
{
    depot_buf_adds(out, out->len == 0 ? "{\"" : ",\"");
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            depot_buf_adds(out, "\\");
        }
        depot_buf_add(out, text, 1);
    }
    depot_buf_adds(out, "\"");
}

const char *types_array(depot_arena *arena, const depot_buf *items)
{
    return depot_strf(arena, "%s}", items->len == 0 ? "{" : items->data);
}

static void look_at_scripts(queue *q, types *t, depot_buf *mine, depot_buf *all)
{
    depot_json   *list = depot_json_array(t->arena);
    depot_handler row;
    size_t        room = 0;

    for (size_t it = 0; depot_handler_next(q->ctx, t->arena, &it, &row);) {
        if (t->n_scripts == room) {
            room = room * 2 + 16;
            script_type *more = depot_alloc(t->arena, room * sizeof(*more));
            for (size_t i = 0; i < t->n_scripts; i++) {
                more[i] = t->scripts[i];
            }
            t->scripts = more;
        }
        t->scripts[t->n_scripts++] = (script_type){ row.name, row.timeout_ms };
        types_add_item(mine, row.name);
        types_add_item(all, row.name);
        depot_json *max = row.max_attempts > 0 ? depot_json_int(t->arena, row.max_attempts) : NULL;
        depot_json_add(list, depot_json_pack(t->arena, "{s:s, s:o, s:s}", "type", row.name, "max_attempts", max,
                                             "handler", row.file));
    }
    t->handlers = depot_json_text(t->arena, list);
}

/* With the lock held. */
static void look_at_served(queue *q, depot_buf *mine, depot_buf *all)
{
    for (size_t i = 0; i < q->n_served; i++) {
        types_add_item(mine, q->served[i].glob);
        types_add_item(all, q->served[i].glob);
    }
}

static types look(queue *q)
{
    const queue_options                 *o = depot_options(q->ctx);
    DEPOT_AUTO(depot_buf_free) depot_buf c = { 0 }, lua = { 0 }, all = { 0 }, queues = { 0 };
    types                                t = { .arena = depot_arena_new() };

    pthread_mutex_lock(&q->lock);
    look_at_served(q, &c, &all);
    pthread_mutex_unlock(&q->lock);
    look_at_scripts(q, &t, &lua, &all);
    for (size_t i = 0; o->queues != NULL && o->queues[i] != NULL; i++) {
        types_add_item(&queues, o->queues[i]);
    }
    t.of[0] = types_array(t.arena, &c);
    t.of[1] = types_array(t.arena, &lua);
    t.all = types_array(t.arena, &all);
    t.queues = queues.len == 0 ? NULL : types_array(t.arena, &queues);
    return t;
}

static bool same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool has_changed(const types *before, const types *now)
{
    return before->arena == NULL || !same(before->all, now->all) || !same(before->queues, now->queues) ||
           !same(before->handlers, now->handlers);
}

/* Lost jobs first: what follows from their end waits for locks that a claim which waits for a policy may hold. */
static bool introduce(queue *q, const types *t, depot_err *err)
{
    static const char hello[] =
        "select queue.hello($1, $2, $3, $4, $5, $6) as lost, queue.set_policies($7), queue.set_limits($8)";
    depot_rows *rows = NULL;

    if (!depot_sql(q->ctx, t->arena, hello,
                   DEPOT_VALS(DEPOT_TEXT(q->instance), DEPOT_TEXT(q->worker), DEPOT_TEXT(depot_node(q->ctx)),
                              DEPOT_TEXT(t->queues), DEPOT_TEXT(t->all), DEPOT_TEXT(t->handlers),
                              DEPOT_TEXT(limits_policies(q->ctx, t->arena)),
                              DEPOT_TEXT(limits_rates(q->ctx, t->arena))),
                   &rows, err)) {
        return depot_wrap(err, "tell the database what is served here");
    }
    int64_t lost = depot_int(rows, 0, "lost");
    if (lost > 0) {
        depot_log(q->ctx, DEPOT_LOG_WARN, "queue.recovered",
                  "%lld jobs were under way when this daemon was last stopped; they are closed as WORKER_LOST",
                  (long long)lost);
        depot_count(q->ctx, "depot_queue_leases_lost_total", NULL, (double)lost);
    }
    return true;
}

bool types_refresh(queue *q, depot_err *err)
{
    atomic_store(&q->stale_types, false); /* first: what changes from here on is looked at again */
    types now = look(q);

    if (!atomic_exchange(&q->must_introduce, false) && !has_changed(&q->types, &now)) {
        depot_arena_free(now.arena);
        return true;
    }
    if (!introduce(q, &now, err)) {
        atomic_store(&q->must_introduce, true);
        depot_arena_free(now.arena);
        return false;
    }
    depot_arena *before = q->types.arena;
    pthread_mutex_lock(&q->lock);
    q->types = now;
    pthread_mutex_unlock(&q->lock);
    depot_arena_free(before);
    return true;
}

/* Rows are only added, so that what was found stays. NULL: no C code serves it. */
static const served *served_of(queue *q, const char *type)
{
    const served *found = NULL;

    pthread_mutex_lock(&q->lock);
    for (size_t i = 0; i < q->n_served && found == NULL; i++) {
        found = depot_glob(q->served[i].glob, type) ? &q->served[i] : NULL;
    }
    pthread_mutex_unlock(&q->lock);
    return found;
}

bool types_assign(queue *q, job *j)
{
    j->handler = served_of(q, j->type);
    if (j->handler != NULL) {
        return true;
    }
    for (size_t i = 0; i < q->types.n_scripts; i++) {
        if (strcmp(q->types.scripts[i].name, j->type) == 0) {
            j->is_lua = true;
            j->timeout_ms = j->timeout_ms > 0 ? j->timeout_ms : q->types.scripts[i].timeout_ms;
            return true;
        }
    }
    return false;
}

int types_kind(queue *q, depot_arena *arena, const char *type)
{
    depot_handler row;

    return served_of(q, type) != NULL ? 0 : depot_handler_find(q->ctx, arena, type, &row) ? 1 : -1;
}
