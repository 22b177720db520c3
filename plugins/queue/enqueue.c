/* enqueue.c - new jobs: the service "queue" for plugins and the core, and what routes and scripts call. */
#include <stdio.h>
#include <string.h>

#include "queue.h"

bool enqueue_fail_sql(depot_err *err)
{
    static const struct {
        const char *state;
        depot_code  code;
    } of_values[] = {
        { "22", DEPOT_E_INVALID },     { "23502", DEPOT_E_INVALID },
        { "23514", DEPOT_E_INVALID },  { "23505", DEPOT_E_CONFLICT }, /* a unique key that was to be refused */
        { "55000", DEPOT_E_CONFLICT },                                /* a section of the configuration decides */
    };

    for (size_t i = 0; i < DEPOT_N(of_values); i++) {
        if (err->code == DEPOT_E_DB && strncmp(err->sqlstate, of_values[i].state, strlen(of_values[i].state)) == 0) {
            err->code = of_values[i].code;
        }
    }
    return false;
}

static bool run(depot_db *db, depot_arena *arena, const char *sql, const depot_val *vals, size_t n, depot_rows **out,
                depot_err *err)
{
    bool ok = db != NULL ? depot_db_sql(db, arena, sql, vals, n, out, err)
                         : depot_sql(queue_self.ctx, arena, sql, vals, n, out, err);

    return ok || enqueue_fail_sql(err) || depot_wrap(err, "enqueue");
}

/* This daemon needs no notification for what it enqueues itself, when it is visible at once. */
static const char *own_node(const depot_db *db)
{
    return db == NULL && !depot_in_worker(queue_self.ctx) ? depot_node(queue_self.ctx) : NULL;
}

static void wake_if_visible(const depot_db *db)
{
    if (db == NULL) {
        queue_wake();
    }
}

bool enqueue_one(const depot_enqueue *spec, const enqueue_more *more, depot_db *db, char *out_id, depot_err *err)
{
    static const char sql[] =
        "select queue.enqueue($1, $2, queue.fit_args($1, $3), coalesce($4, clock_timestamp() + $5 * interval '1 millisecond'), $6, $7, $8,"
        " $9, $10, $11, null, $12) as id";
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const char                               *args = seal_args(arena, spec->queue, spec->type, spec->args, err);
    depot_rows                               *rows = NULL;

    if (args == NULL ||
        !run(db, arena, sql,
             DEPOT_VALS(DEPOT_TEXT(spec->queue), DEPOT_TEXT(spec->type), DEPOT_TEXT(args), DEPOT_TEXT(spec->run_at),
                        more->delay_ms > 0 ? DEPOT_INT(more->delay_ms) : DEPOT_NULL, DEPOT_INT(spec->priority),
                        spec->max_attempts > 0 ? DEPOT_INT(spec->max_attempts) : DEPOT_NULL, DEPOT_TEXT(spec->key),
                        DEPOT_TEXT(spec->actor), DEPOT_TEXT(more->request_id), DEPOT_TEXT(own_node(db)),
                        DEPOT_TEXT(more->options)),
             &rows, err)) {
        return false;
    }
    (void)snprintf(out_id, ID_SIZE, "%s", depot_text(rows, 0, "id"));
    wake_if_visible(db);
    return true;
}

static const char *const option_names[] = { "unique", "backoff", "timeout_ms", "concurrency_key", "after", "on_dependency_failure" };
static const char *const job_names[][2] = {
    { "queue", "queue" },       { "job_type", "type" },             { "run_at", "run_at" },
    { "priority", "priority" }, { "max_attempts", "max_attempts" }, { "key", "key" },
};

static const depot_json *member(const depot_json *object, const char *name)
{
    const depot_json *value = depot_json_get(object, name);

    return value == NULL || depot_json_typeof(value) == DEPOT_JSON_NULL ? NULL : value;
}

depot_json *enqueue_options(depot_arena *arena, const depot_json *given)
{
    depot_json *options = NULL;

    for (size_t i = 0; i < DEPOT_N(option_names); i++) {
        const depot_json *value = member(given, option_names[i]);
        if (value != NULL) {
            options = options == NULL ? depot_json_object(arena) : options;
            depot_json_set(options, option_names[i], depot_json_pack(arena, "o", value));
        }
    }
    return options;
}

bool enqueue_is_tied(const depot_json *given)
{
    bool is_tied = member(given, "key") != NULL;

    for (size_t i = 0; i < DEPOT_N(option_names); i++) {
        is_tied = is_tied || member(given, option_names[i]) != NULL;
    }
    return is_tied;
}

void enqueue_describe(depot_buf *out, depot_arena *arena, const depot_json *given, const char *args, const char *actor, const char *request_id)
{
    const depot_json *options = enqueue_options(arena, given);

    depot_buf_adds(out, "{\"actor\":");
    depot_json_write(out, depot_json_str(arena, actor));
    depot_buf_adds(out, ",\"request_id\":");
    depot_json_write(out, depot_json_str(arena, request_id));
    for (size_t i = 0; i < DEPOT_N(job_names); i++) {
        const depot_json *value = member(given, job_names[i][0]);
        if (value != NULL) {
            depot_buf_addf(out, ",\"%s\":", job_names[i][1]);
            depot_json_write(out, value);
        }
    }
    if (options != NULL) {
        depot_buf_adds(out, ",\"options\":");
        depot_json_write(out, options);
    }
    depot_buf_adds(out, ",\"args\":");
    depot_buf_adds(out, args);
    depot_buf_adds(out, "}");
}

/* Of a row for queue.enqueue_many: its arguments as they are stored. */
static bool seal_row(depot_arena *arena, depot_json *row, depot_err *err)
{
    const char *text = seal_args(arena, depot_json_get_str(row, "queue", "default"), depot_json_get_str(row, "type", ""),
                                 depot_json_get(row, "args"), err);

    if (text != NULL) {
        depot_json_set(row, "args", depot_json_parse(arena, text, strlen(text), err));
    }
    return text != NULL;
}

depot_json *enqueue_sealed(depot_arena *arena, const depot_json *jobs, depot_err *err)
{
    depot_json *list = depot_json_array(arena);

    for (size_t i = 0; i < depot_json_len(jobs); i++) {
        const depot_json *value;
        const char       *name;
        depot_json       *row = depot_json_object(arena);
        for (size_t it = 0; depot_json_next(depot_json_at(jobs, i), &it, &name, &value);) {
            depot_json_set(row, name, depot_json_pack(arena, "o", value));
        }
        if (!seal_row(arena, row, err)) {
            (void)depot_wrap(err, "jobs/%zu", i);
            return NULL;
        }
        depot_json_add(list, row);
    }
    return list;
}

bool enqueue_rows(depot_ctx *ctx, depot_arena *arena, const depot_json *jobs, const char *actor, const char **out,
                  depot_err *err)
{
    DEPOT_AUTO(depot_buf_free) depot_buf rows = { 0 };

    (void)ctx;
    for (size_t i = 0; i < depot_json_len(jobs); i++) {
        const depot_json *j = depot_json_at(jobs, i);
        const depot_json *payload = depot_json_get(j, "payload_json");
        const char       *to = depot_json_get_str(j, "queue", "default"), *args = depot_json_text(arena, payload);
        if (!admit(&queue_self, to, strlen(args), err) ||
            (args = seal_text(arena, to, depot_json_get_str(j, "job_type", ""), payload, args, err)) == NULL) {
            return depot_wrap(err, "jobs/%zu", i);
        }
        depot_buf_adds(&rows, i == 0 ? "[" : ",");
        enqueue_describe(&rows, arena, j, args, actor, NULL);
    }
    depot_buf_adds(&rows, rows.len == 0 ? "[]" : "]");
    *out = depot_strndup(arena, rows.data, rows.len);
    return true;
}

bool enqueue_service(const depot_enqueue *spec, depot_db *db, char *out_id, depot_err *err)
{
    const enqueue_more more = { 0 };

    return enqueue_one(spec, &more, db, out_id, err);
}

static void describe(depot_arena *arena, const depot_enqueue *spec, const char *args, depot_buf *out)
{
    depot_json *o =
        depot_json_pack(arena, "{s:s?, s:s, s:s?, s:I, s:s?, s:s?}", "queue", spec->queue, "type", spec->type, "run_at",
                        spec->run_at, "priority", spec->priority, "key", spec->key, "actor", spec->actor);

    if (spec->max_attempts > 0) {
        depot_json_set(o, "max_attempts", depot_json_int(arena, spec->max_attempts));
    }
    depot_json_write(out, o);
    out->len--; /* the brace that closes it */
    depot_buf_addf(out, ",\"args\":%s}", args);
}

bool enqueue_many(const depot_enqueue *jobs, size_t n, depot_db *db, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf      list = { 0 };

    for (size_t i = 0; i < n; i++) {
        const char *args = seal_args(arena, jobs[i].queue, jobs[i].type, jobs[i].args, err);
        if (args == NULL) {
            return false;
        }
        depot_buf_adds(&list, i == 0 ? "[" : ",");
        describe(arena, &jobs[i], args, &list);
    }
    if (n == 0) {
        return true;
    }
    depot_buf_adds(&list, "]");
    if (!run(db, arena, "select queue.enqueue_many($1, $2)",
             DEPOT_VALS(DEPOT_TEXT(list.data), DEPOT_TEXT(own_node(db))), NULL, err)) {
        return false;
    }
    wake_if_visible(db);
    return true;
}
