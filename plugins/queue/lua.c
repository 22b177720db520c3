/* lua.c - new jobs from scripts. */
#include <string.h>

#include "queue.h"

/* "10s", or a number of seconds */
static bool read_delay(const depot_json *opts, int64_t *out_ms, depot_err *err)
{
    const depot_json *delay = depot_json_get(opts, "delay");
    const char       *text = depot_json_string(delay, NULL);

    *out_ms = 0;
    if (text != NULL) {
        return depot_parse_duration(text, out_ms, err) || depot_wrap(err, "delay");
    }
    double seconds = delay == NULL ? 0 : depot_json_number(delay);
    if (seconds < 0 || seconds > 1e9) {
        return DEPOT_FAIL(err, INVALID, "delay must be a duration such as \"10s\", or a number of seconds");
    }
    *out_ms = (int64_t)(seconds * 1000);
    return true;
}

static bool lua_enqueue(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    const depot_json *opts = depot_arg_json(call, 3);
    enqueue_more      more = { 0 };
    char              id[ID_SIZE];

    (void)ctx;
    if (opts == NULL) {
        opts = depot_json_object(depot_call_arena(call));
    }
    const depot_enqueue spec = {
        .queue = depot_arg_str(call, 0, NULL),
        .type = depot_arg_str(call, 1, NULL),
        .args = depot_arg_json(call, 2),
        .run_at = depot_json_get_str(opts, "run_at", NULL),
        .priority = depot_json_get_int(opts, "priority", 0),
        .max_attempts = depot_json_get_int(opts, "max_attempts", 0),
        .key = depot_json_get_str(opts, "key", NULL),
        .actor = "script",
    };
    const depot_json *options = enqueue_options(depot_call_arena(call), opts);
    more.options = options == NULL ? NULL : depot_json_text(depot_call_arena(call), options);
    if (!read_delay(opts, &more.delay_ms, err) || !enqueue_one(&spec, &more, NULL, id, err)) {
        return false;
    }
    depot_return_str(call, id, ID_SIZE - 1);
    return true;
}

/* job.enqueue: parameters job, token, queue, type, args, opts. */
static bool prepare_enqueue(depot_ctx *ctx, depot_arena *arena, depot_val *vals, size_t n, depot_err *err)
{
    enum { QUEUE = 2, TYPE, ARGS };
    const char *text = vals[ARGS].u.text;
    depot_json *args = NULL;

    (void)ctx;
    (void)n;
    if (vals[ARGS].type == DEPOT_V_TEXT && (args = depot_json_parse(arena, text, strlen(text), err)) == NULL) {
        return false;
    }
    const char *sealed = seal_args(arena, vals[QUEUE].u.text, vals[TYPE].u.text, args, err);
    vals[ARGS] = DEPOT_TEXT(sealed);
    return sealed != NULL;
}

static bool lua_batch(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    depot_arena      *arena = depot_call_arena(call);
    const depot_json *callback = depot_arg_json(call, 1);
    depot_json       *jobs = enqueue_sealed(arena, depot_arg_json(call, 0), err);
    depot_rows       *rows = NULL;

    if (jobs == NULL) {
        return false;
    }
    if (!depot_sql(ctx, arena, "select queue.make_batch($1, $2, 'script') as doc",
                   DEPOT_VALS(DEPOT_TEXT(depot_json_text(arena, jobs)),
                              DEPOT_TEXT(callback == NULL ? NULL : depot_json_text(arena, callback))),
                   &rows, err)) {
        return enqueue_fail_sql(err) || depot_wrap(err, "make a batch");
    }
    depot_return_json(call, depot_rows_json(rows, 0, "doc", arena));
    return true;
}

const depot_lua_fn queue_lua[8] = {
    { "queue.enqueue", "(queue: string, type: string, args?: any, opts?: table): string", DEPOT_LUA_WRITE, lua_enqueue,
      "make a job; opts: {delay = \"10s\", run_at, priority, max_attempts, key, unique = {key, scope = "
      "\"queued|active|period|forever\", period_ms, on_conflict = \"existing|reject\"}, after = {ids}, "
      "on_dependency_failure = \"cancel|run|wait\", concurrency_key, timeout_ms, backoff = {base_ms, max_ms, jitter}}; "
      "returns its id, or the id of the job that has this key already", NULL, NULL },
    { "queue.batch", "(jobs: table, callback?: table): table", DEPOT_LUA_WRITE, lua_batch,
      "make jobs {{queue, type, args, run_at, priority, max_attempts, key, options = {as in enqueue}}, …} of which it "
      "is "
      "known when all have ended: then the callback {queue, type, args} becomes a job, once, with {batch = {id, total, "
      "succeeded, dlq, canceled}, args}; returns {batch_id, job_ids}", NULL, NULL },
    { "job.enqueue", "(queue: string, type: string, args?: any, opts?: table): string",
      DEPOT_LUA_WRITE | DEPOT_LUA_JOB | DEPOT_LUA_LEASE, NULL,
      "make a job, like depot.queue.enqueue, but refused once the lease is lost; inside job:tx or depot.db:tx it is made when the "
      "transaction commits",
      "select queue.enqueue_from($1, $2, $3, $4, $5, $6)", prepare_enqueue },
    { "job.heartbeat", "(): boolean", DEPOT_LUA_JOB | DEPOT_LUA_LEASE, NULL,
      "raise LEASE_LOST when the lease has passed to somebody else; the daemon extends it by itself",
      "select queue.is_held($1, $2)", NULL },
    { "job.hold", "(): boolean", DEPOT_LUA_JOB | DEPOT_LUA_LEASE, NULL,
      "the same, and keep it from passing on until the end of the open transaction", "select queue.hold($1, $2)", NULL },
    { "job.progress", "(at: any, text?: string): boolean", DEPOT_LUA_WRITE | DEPOT_LUA_JOB | DEPOT_LUA_LEASE, NULL,
      "tell how far the job is: a number from 0 to 1, a text, or both",
      "select queue.progress($1, $2, jsonb_strip_nulls(case jsonb_typeof($3::jsonb) when 'number' then"
      " jsonb_build_object('fraction', least(1, greatest(0, ($3::jsonb)::numeric)), 'text', $4::text)"
      " else jsonb_build_object('text', coalesce($4::text, $3::jsonb #>> '{}')) end))", NULL },
    { "job.record", "(name: string, value: any): boolean", DEPOT_LUA_WRITE | DEPOT_LUA_JOB | DEPOT_LUA_LEASE, NULL,
      "keep a value for the job's later attempts", "select queue.checkpoint_set($1, $2, $3, $4)", NULL },
    { "job.recorded", "(name: string): any", DEPOT_LUA_JOB, NULL,
      "what this or an earlier attempt has kept, as an array of one value; nil: nothing",
      "select case when v is not null then jsonb_build_array(v) end from (select $2::uuid, queue.checkpoint_get($1, $3) as v) r", NULL },
};
