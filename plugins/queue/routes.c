/* routes.c - the queue over HTTP and, through it, depotctl; paths, members and statuses are the seeds'. */
#include <string.h>

#include "queue.h"

const char *route_arg(depot_req *req, const char *name)
{
    return depot_json_get_str(depot_req_args(req), name, NULL);
}

bool route_document(depot_ctx *ctx, depot_req *req, const char *what, const char *sql, const depot_val *vals, size_t n,
                    depot_err *err)
{
    depot_rows *rows = NULL;

    if (!depot_sql(ctx, depot_req_arena(req), sql, vals, n, &rows, err)) {
        return enqueue_fail_sql(err);
    }
    const char *text = depot_rows_count(rows) == 0 ? NULL : depot_text(rows, 0, "doc");
    if (text == NULL) {
        return DEPOT_FAIL(err, NOT_FOUND, "there is no %s %s", what, route_arg(req, "id"));
    }
    return depot_reply_json_text(req, 200, text);
}

static bool list(depot_ctx *ctx, depot_req *req, const char *status, depot_err *err)
{
    const char *id = route_arg(req, "cursor_id"), *at = route_arg(req, "cursor_created_at");

    if ((id == NULL) != (at == NULL)) {
        return DEPOT_FAIL(err, INVALID, "a cursor has two parts: cursor_created_at and cursor_id");
    }
    return route_document(ctx, req, "job", "select queue.list_jobs($1, $2, $3, $4) as doc",
                          DEPOT_VALS(DEPOT_TEXT(route_arg(req, "queue")), DEPOT_TEXT(status), DEPOT_TEXT(id),
                                     DEPOT_INT(depot_json_get_int(depot_req_args(req), "limit", 100))),
                          err);
}

static bool list_jobs(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    return list(ctx, req, route_arg(req, "status"), err);
}

static bool list_dead(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    return list(ctx, req, "dlq", err);
}

static bool show_job(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    return route_document(ctx, req, "job", "select queue.job($1) as doc", DEPOT_VALS(DEPOT_TEXT(route_arg(req, "id"))),
                          err);
}

static bool show_timeline(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    return route_document(ctx, req, "job", "select queue.timeline($1) as doc",
                          DEPOT_VALS(DEPOT_TEXT(route_arg(req, "id"))), err);
}

static bool explain(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    return route_document(ctx, req, "job", "select queue.explain($1) as doc",
                          DEPOT_VALS(DEPOT_TEXT(route_arg(req, "id"))), err);
}

static bool replay(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_rows *rows = NULL;
    const char *id = route_arg(req, "id");

    if (!depot_sql(ctx, depot_req_arena(req), "select queue.replay($1, $2, $3, $4, $5, $6) as id",
                   DEPOT_VALS(DEPOT_TEXT(id), DEPOT_TEXT(route_arg(req, "queue")), DEPOT_TEXT(route_arg(req, "run_at")),
                              DEPOT_TEXT(depot_req_actor(req)), DEPOT_TEXT(depot_req_id(req)),
                              DEPOT_TEXT(depot_node(ctx))),
                   &rows, err)) {
        return enqueue_fail_sql(err);
    }
    const char *made = depot_rows_count(rows) == 0 ? NULL : depot_text(rows, 0, "id");
    if (made == NULL) {
        return DEPOT_FAIL(err, NOT_FOUND, "there is no job %s", id);
    }
    queue_wake();
    return depot_reply_json(
        req, 200, depot_json_pack(depot_req_arena(req), "{s:s, s:s}", "new_job_id", made, "replay_of_job_id", id));
}

static bool cancel(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_rows *rows = NULL;
    const char *id = route_arg(req, "id");

    if (!depot_sql(ctx, depot_req_arena(req), "select queue.cancel($1, $2) as status",
                   DEPOT_VALS(DEPOT_TEXT(id), DEPOT_TEXT(depot_req_actor(req))), &rows, err)) {
        return false;
    }
    const char *status = depot_text(rows, 0, "status");
    if (status == NULL) {
        return DEPOT_FAIL(err, NOT_FOUND, "there is no job %s", id);
    }
    if (strcmp(status, "running") == 0 || strcmp(status, "queued") == 0) {
        DEPOT_FAIL(err, CONFLICT, "job %s passes from hand to hand among jobs made in bulk", id);
        return depot_hint(err, "cancel it again");
    }
    if (strncmp(status, "cancel", strlen("cancel")) != 0) {
        DEPOT_FAIL(err, CONFLICT, "job %s is %s: it has ended", id, status);
        return depot_hint(err, "see depotctl job explain %s", id);
    }
    return depot_reply_json(req, 200, depot_json_pack(depot_req_arena(req), "{s:s, s:s}", "id", id, "status", status));
}

static bool list_queues(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    return route_document(ctx, req, "job", "select queue.list_queues() as doc", DEPOT_NO_VALS, err);
}

static bool metrics(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    return route_document(ctx, req, "queue", "select queue.metrics($1) as doc", DEPOT_VALS(DEPOT_TEXT(route_arg(req, "queue"))), err);
}

static bool list_decisions(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    return route_document(ctx, req, "job", "select queue.list_ingest_decisions($1, $2) as doc",
                          DEPOT_VALS(DEPOT_TEXT(route_arg(req, "queue")),
                                     DEPOT_INT(depot_json_get_int(depot_req_args(req), "limit", 100))),
                          err);
}

/* ---- rows ---- */

/* clang-format off */
#define TEXT(NAME, DOC) { .name = (NAME), .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = (DOC) }
#define NUMBER(NAME, DOC) { .name = (NAME), .type = DEPOT_T_INT, .flags = DEPOT_NULLABLE, .doc = (DOC) }
#define MOMENT(NAME, DOC) { .name = (NAME), .type = DEPOT_T_TIME, .flags = DEPOT_NULLABLE, .doc = (DOC) }
#define JOB_ID(NAME, DOC) { .name = (NAME), .type = DEPOT_T_UUID, .flags = DEPOT_NULLABLE, .doc = (DOC) }
#define ANYTHING(NAME, DOC) { .name = (NAME), .type = DEPOT_T_ANY, .flags = DEPOT_NULLABLE, .doc = (DOC) }
#define LIST_OF(NAME, FIELDS, DOC) { .name = (NAME), .type = DEPOT_T_ARRAY, .fields = (FIELDS), .doc = (DOC) }
#define END { .name = NULL }
#define BY_ID { .name = "id", .type = DEPOT_T_UUID, .flags = DEPOT_REQUIRED, .doc = "the job" }
#define OF_QUEUE { .name = "queue", .type = DEPOT_T_STRING, .flags = DEPOT_IN_QUERY, .max = 128, .doc = "only of this queue" }
#define LIMIT { .name = "limit", .type = DEPOT_T_INT, .flags = DEPOT_IN_QUERY, .def = "100", .min = 1, .max = 500, .doc = "how many at most" }
#define CURSOR                                                                                                                             \
    { .name = "cursor_created_at", .type = DEPOT_T_TIME, .flags = DEPOT_IN_QUERY, .doc = "next_cursor_created_at of the page before" },     \
    { .name = "cursor_id", .type = DEPOT_T_UUID, .flags = DEPOT_IN_QUERY, .doc = "next_cursor_id of the page before" }

#define ENCRYPTED_DOC "id of the key that its arguments are encrypted with; null: they are not"

static const char *const on_failure[] = { "cancel", "run", "wait", NULL };
static const char *const bulk_actions[] = { "retry", "replay", "discard", "cancel", NULL };
static const char *const unique_scopes[] = { "queued", "active", "period", "forever", NULL };
static const char *const unique_answers[] = { "existing", "reject", NULL };
static const depot_field unique_fields[] = {
    { .name = "key", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 512, .doc = "the key, of all queues together" },
    { .name = "scope", .type = DEPOT_T_ENUM, .choices = unique_scopes, .def = "active",
      .doc = "how long it is taken: until the job is first begun, until it ends, for a span of period_ms, for good" },
    { .name = "period_ms", .type = DEPOT_T_INT, .flags = DEPOT_NULLABLE, .min = 1, .max = 315360000000, .doc = "of scope period; spans count from 1970" },
    { .name = "on_conflict", .type = DEPOT_T_ENUM, .choices = unique_answers, .def = "existing", .doc = "give the other's id, or refuse with CONFLICT" },
    END,
};
static const depot_field backoff_fields[] = {
    { .name = "base_ms", .type = DEPOT_T_INT, .flags = DEPOT_NULLABLE, .max = 86400000, .doc = "before the second attempt, doubled before each further one" },
    { .name = "max_ms", .type = DEPOT_T_INT, .flags = DEPOT_NULLABLE, .max = 2592000000, .doc = "at most" },
    { .name = "jitter", .type = DEPOT_T_NUMBER, .flags = DEPOT_NULLABLE, .doc = "share by which it varies, 0 to 1" }, END,
};
static const depot_field no_fields[] = { END };
static const depot_field by_id[] = { BY_ID, END };
static const depot_field add_request[] = {
    { .name = "job_type", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 200, .doc = "what is to be done: a handler's name" },
    { .name = "payload_json", .type = DEPOT_T_ANY, .flags = DEPOT_REQUIRED | DEPOT_NULLABLE | DEPOT_PRIVATE,
      .doc = "the handler's arguments, any JSON value" },
    { .name = "queue", .type = DEPOT_T_STRING, .def = "default", .min = 1, .max = 128, .doc = "queue" },
    { .name = "run_at", .type = DEPOT_T_TIME, .flags = DEPOT_NULLABLE, .doc = "not before; without it at once" },
    { .name = "priority", .type = DEPOT_T_INT, .def = "0", .min = -2147483647, .max = 2147483647, .doc = "higher first" },
    { .name = "max_attempts", .type = DEPOT_T_INT, .flags = DEPOT_NULLABLE, .min = 1, .max = 2147483647,
      .doc = "without it what the handler says, else the queue, else 25" },
    { .name = "key", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .min = 1, .max = 512, .doc = "at most one job is ever made with it" },
    { .name = "unique", .type = DEPOT_T_OBJECT, .flags = DEPOT_NULLABLE, .fields = unique_fields, .doc = "a key that one job has at a time" },
    { .name = "backoff", .type = DEPOT_T_OBJECT, .flags = DEPOT_NULLABLE, .fields = backoff_fields, .doc = "waits between attempts; else the queue's" },
    { .name = "timeout_ms", .type = DEPOT_T_INT, .flags = DEPOT_NULLABLE, .min = 1, .max = 86400000,
      .doc = "how long a script may work on it; without it what the queue says, else the handler" },
    { .name = "concurrency_key", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .min = 1, .max = 512,
      .doc = "counts against max_per_key, key_fifo and key limits of its queue" },
    { .name = "after", .type = DEPOT_T_LIST, .flags = DEPOT_NULLABLE, .doc = "jobs that must succeed first" },
    { .name = "on_dependency_failure", .type = DEPOT_T_ENUM, .choices = on_failure,
      .doc = "when one of them dies or is canceled: cancel this one too (without it so), run it anyway, or wait until a replay of it succeeds" },
    END,
};
static const depot_field jobs_shape[] = { { .name = "job", .type = DEPOT_T_OBJECT, .fields = add_request, .doc = "as in POST /jobs" }, END };
static const depot_field many_request[] = {
    { .name = "jobs", .type = DEPOT_T_ARRAY, .flags = DEPOT_REQUIRED, .fields = jobs_shape, .doc = "jobs as in POST /jobs; all are made or none" }, END,
};
static const depot_field id_shape[] = { JOB_ID("id", "a job"), END };
static const depot_field many_reply[] = { LIST_OF("job_ids", id_shape, "in the order of the jobs"), END };
static const depot_field reset_reply[] = { { .name = "reset", .type = DEPOT_T_BOOL, .doc = "done" }, END };
static const depot_field callback_fields[] = {
    { .name = "queue", .type = DEPOT_T_STRING, .def = "default", .min = 1, .max = 128, .doc = "queue" },
    { .name = "type", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 200, .doc = "job type" },
    { .name = "args", .type = DEPOT_T_ANY, .flags = DEPOT_NULLABLE | DEPOT_PRIVATE,
      .doc = "given on as args beside batch {id, total, succeeded, dlq, canceled}" }, END,
};
static const depot_field batch_request[] = {
    { .name = "jobs", .type = DEPOT_T_ARRAY, .flags = DEPOT_REQUIRED, .fields = jobs_shape, .doc = "jobs as in POST /jobs; all are made or none" },
    { .name = "callback", .type = DEPOT_T_OBJECT, .flags = DEPOT_NULLABLE, .fields = callback_fields, .doc = "the job that is made once all have ended" },
    END,
};
static const depot_field batch_made[] = { JOB_ID("batch_id", "the batch"), LIST_OF("job_ids", id_shape, "in the order of the jobs"), END };
static const depot_field batch_by_id[] = { { .name = "id", .type = DEPOT_T_UUID, .flags = DEPOT_REQUIRED, .doc = "the batch" }, END };
static const depot_field batch_reply[] = {
    JOB_ID("id", "the batch"), NUMBER("total", "its jobs"), NUMBER("open", "of these, have not ended"), NUMBER("succeeded", "have succeeded"),
    NUMBER("dlq", "are dead"), NUMBER("canceled", "were canceled"), ANYTHING("callback", "what is made once all have ended"),
    JOB_ID("callback_job_id", "the job that was made"), TEXT("created_by", "who made it"), MOMENT("created_at", "when"),
    MOMENT("ended_at", "when the last of its jobs ended"), END,
};
static const depot_field filter_fields[] = {
    TEXT("queue", "of this queue"), TEXT("type", "of this type"), TEXT("status", "in this state"), TEXT("code", "with this last error"),
    MOMENT("before", "made before"), MOMENT("after", "made then or later"), END,
};
static const depot_field bulk_request[] = {
    { .name = "action", .type = DEPOT_T_ENUM, .flags = DEPOT_REQUIRED, .choices = bulk_actions,
      .doc = "retry: dead or canceled jobs run again; replay: new jobs like ended ones; discard: dead jobs become canceled ones; cancel: jobs that wait or run" },
    { .name = "filter", .type = DEPOT_T_OBJECT, .flags = DEPOT_REQUIRED, .fields = filter_fields, .doc = "which of the jobs that are there now" },
    { .name = "expect_count", .type = DEPOT_T_INT, .flags = DEPOT_NULLABLE, .max = 2147483647, .doc = "refused when another number matches" },
    { .name = "limit", .type = DEPOT_T_INT, .def = "10000", .min = 1, .max = 1000000, .doc = "how many at most, the oldest first" }, END,
};
static const depot_field bulk_reply[] = {
    TEXT("action", "what was done"), NUMBER("matched", "jobs that matched when it began"), NUMBER("changed", "to how many it was done"),
    NUMBER("left_over", "matched, but are beyond the limit"), END,
};
static const depot_field seed_request[] = {
    { .name = "n", .type = DEPOT_T_INT, .flags = DEPOT_REQUIRED, .min = 1, .max = 100000, .doc = "how many" }, END,
};
static const depot_field reset_request[] = {
    { .name = "confirm", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 64, .doc = "the daemon's node name: what is meant to lose all its jobs" },
    END,
};
static const depot_field by_queue[] = { { .name = "queue", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 128, .doc = "the queue" }, END };
#define BOUND(NAME, LO, HI, DOC) { .name = (NAME), .type = DEPOT_T_INT, .flags = DEPOT_NULLABLE, .min = (LO), .max = (HI), .doc = (DOC) }
static const depot_field policy_request[] = {
    { .name = "queue", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 128, .doc = "the queue" },
    BOUND("max_in_flight", 0, 1000000, "jobs that run at a time; null: any number"),
    BOUND("max_attempts_per_minute", 0, 1000000000, "attempts that begin in a minute; null: any number"),
    BOUND("max_attempts", 1, 1000000, "attempts of a job when neither it nor its handler says"),
    BOUND("lease_ms", 1000, 3600000, "lease of its jobs"),
    BOUND("backoff_base_ms", 0, 86400000, "wait before the second attempt, doubled before each further one"),
    BOUND("backoff_max_ms", 0, 2592000000, "longest wait between attempts"),
    { .name = "backoff_jitter", .type = DEPOT_T_NUMBER, .flags = DEPOT_NULLABLE, .doc = "share by which a wait varies, 0 to 1" },
    BOUND("timeout_ms", 1, 86400000, "how long a script may work on a job"),
    BOUND("max_per_key", 1, 1000000, "jobs with one concurrency_key that run at a time"),
    { .name = "key_fifo", .type = DEPOT_T_BOOL, .flags = DEPOT_NULLABLE, .doc = "of a key one at a time, in the order of their making" },
    BOUND("keep_succeeded_ms", 0, 315360000000, "when succeeded jobs go to the archive"),
    BOUND("keep_canceled_ms", 0, 315360000000, "when canceled jobs do"), BOUND("keep_dlq_ms", 0, 315360000000, "when dead jobs do"),
    { .name = "none", .type = DEPOT_T_LIST, .flags = DEPOT_NULLABLE, .doc = "limits to take away, by name: what null does, for the command line" }, END,
};
static const depot_field rate_fields[] = {
    TEXT("name", "of its section"), { .name = "per_second", .type = DEPOT_T_NUMBER, .doc = "on average" },
    { .name = "burst", .type = DEPOT_T_NUMBER, .doc = "at once" }, TEXT("on", "queue or key"), END,
};
static const depot_field rate_shape[] = { { .name = "limit", .type = DEPOT_T_OBJECT, .fields = rate_fields, .doc = "a limit" }, END };
static const depot_field policy_reply[] = {
    TEXT("queue", "the queue"), TEXT("source", "conf: a section [queue NAME], which decides; api, sql; none: the queue is free"),
    { .name = "paused", .type = DEPOT_T_BOOL, .doc = "no job of it is begun" }, TEXT("paused_by", "who paused it; conf: its section"),
    MOMENT("paused_at", "when"), NUMBER("max_in_flight", "limit"), NUMBER("max_attempts_per_minute", "limit"), NUMBER("max_attempts", "attempts of a job"),
    NUMBER("lease_ms", "lease"), NUMBER("backoff_base_ms", "first wait"), NUMBER("backoff_max_ms", "longest wait"),
    { .name = "backoff_jitter", .type = DEPOT_T_NUMBER, .flags = DEPOT_NULLABLE, .doc = "share by which a wait varies" },
    NUMBER("timeout_ms", "of a job"), NUMBER("max_per_key", "limit"), { .name = "key_fifo", .type = DEPOT_T_BOOL, .doc = "of a key one at a time, in order" },
    NUMBER("keep_succeeded_ms", "until the archive"), NUMBER("keep_canceled_ms", "until the archive"), NUMBER("keep_dlq_ms", "until the archive"),
    { .name = "encrypt_args", .type = DEPOT_T_BOOL, .doc = "arguments are stored encrypted; set in its section only" },
    TEXT("updated_by", "who changed it last"), MOMENT("updated_at", "when"), LIST_OF("limits", rate_shape, "[limit NAME] sections about it"), END,
};
static const depot_field add_reply[] = { JOB_ID("job_id", "the new job, or the one that has this key already"), END };
static const depot_field list_request[] = {
    OF_QUEUE, { .name = "status", .type = DEPOT_T_STRING, .flags = DEPOT_IN_QUERY, .max = 32,
                .doc = "only in this state: queued, running, succeeded, failed, dlq, canceled" }, LIMIT, CURSOR, END,
};
static const depot_field dead_request[] = { OF_QUEUE, LIMIT, CURSOR, END };
static const depot_field decisions_request[] = { OF_QUEUE, LIMIT, END };
static const depot_field item[] = {
    JOB_ID("id", "the job"), TEXT("queue", "its queue"), TEXT("job_type", "its type"), TEXT("status", "its state"),
    MOMENT("run_at", "not before"), NUMBER("priority", "higher first"), NUMBER("max_attempts", "attempts that it may have"),
    TEXT("last_error_code", "code of its last error"), TEXT("last_error_message", "message of its last error"),
    TEXT("dlq_reason_code", "why it is in the DLQ"), MOMENT("created_at", "when it was enqueued"), MOMENT("updated_at", "its last change"),
    NUMBER("attempts", "attempts begun"), TEXT("encrypted_with", ENCRYPTED_DOC),
    ANYTHING("progress", "of one that runs, what it last said: {fraction, text}"), END,
};
static const depot_field item_shape[] = { { .name = "job", .type = DEPOT_T_OBJECT, .fields = item, .doc = "a job" }, END };
static const depot_field list_reply[] = {
    LIST_OF("items", item_shape, "newest first"), MOMENT("next_cursor_created_at", "for the next page; null: there was nothing"),
    JOB_ID("next_cursor_id", "the same"), END,
};
static const depot_field job_reply[] = {
    JOB_ID("id", "the job"), TEXT("queue", "its queue"), TEXT("job_type", "its type"), TEXT("status", "its state"),
    MOMENT("run_at", "not before"), NUMBER("priority", "higher first"), NUMBER("attempts", "attempts begun"),
    NUMBER("max_attempts", "attempts that it may have"), TEXT("last_error_code", "code of its last error"),
    TEXT("last_error_message", "message of its last error"), TEXT("dlq_reason_code", "why it is in the DLQ"),
    MOMENT("dlq_at", "when it went there"), TEXT("worker_id", "who holds its lease"), MOMENT("lock_expires_at", "until when"),
    JOB_ID("replay_of_job_id", "the job that it replays"), TEXT("key", "at most one job has it"), TEXT("enqueued_by", "who made it"),
    TEXT("request_id", "request that made it"), MOMENT("created_at", "when it was enqueued"), MOMENT("updated_at", "its last change"),
    ANYTHING("payload_json", "the handler's arguments; of encrypted ones {\"$encrypted\": {key}} alone"), TEXT("encrypted_with", ENCRYPTED_DOC),
    ANYTHING("result", "what the handler returned"), ANYTHING("progress", "what the handler last said: {fraction, text, at}"),
    ANYTHING("checkpoints", "what it has kept for later attempts: [{name, at, value}]"),
    JOB_ID("batch_id", "its batch"), TEXT("concurrency_key", "its concurrency key"), TEXT("unique_key", "its unique key"),
    NUMBER("timeout_ms", "its own timeout"), MOMENT("cancel_requested_at", "since when it is to end"), TEXT("canceled_by", "who canceled it"),
    MOMENT("archived_at", "when it went to the archive"),
    { .name = "after", .type = DEPOT_T_ARRAY, .flags = DEPOT_NULLABLE, .doc = "jobs that it waits for" }, END,
};
static const depot_field last_error[] = { TEXT("error_code", "code"), TEXT("error_message", "message"), END };
static const depot_field attempt[] = {
    JOB_ID("id", "the attempt: token of its lease"), NUMBER("attempt_no", "from 1"), TEXT("status", "running, succeeded, failed, snoozed"),
    MOMENT("started_at", "when it was leased"), MOMENT("finished_at", "when its result was accepted"), TEXT("error_code", "code"),
    TEXT("error_message", "message"), NUMBER("latency_ms", "from lease to result"), TEXT("worker_id", "who ran it"),
    TEXT("suggested_action", "what to do about this code"), TEXT("error_place", "file and line inside the script"),
    TEXT("error_trace", "traceback"), ANYTHING("log", "what its script has logged: [{at, level, message, fields}], the first 16 KiB"), END,
};
static const depot_field attempt_shape[] = { { .name = "attempt", .type = DEPOT_T_OBJECT, .fields = attempt, .doc = "an attempt" }, END };
static const depot_field timeline_reply[] = {
    JOB_ID("job_id", "the job"), TEXT("status", "its state"), TEXT("queue", "its queue"), TEXT("job_type", "its type"),
    MOMENT("run_at", "not before"), MOMENT("next_run_at", "the same while it waits"), TEXT("last_worker_id", "who ran it last"),
    { .name = "last_error", .type = DEPOT_T_OBJECT, .flags = DEPOT_NULLABLE, .fields = last_error, .doc = "of the last failed attempt" },
    LIST_OF("attempts", attempt_shape, "in order"), TEXT("encrypted_with", ENCRYPTED_DOC),
    LIST_OF("story", NULL, "everything that happened, by kind: Enqueued, PolicyDecision, Attempt (from its lease on, with its log lines), Checkpoint, Progress (the last), LeaseLost, Rescheduled, Dead, CancelRequested, Canceled, Retried, Discarded, LateResult, Replayed, Archived"),
    END,
};
static const depot_field gate[] = { TEXT("code", "what keeps it"), TEXT("why", "in words"), END };
static const depot_field gate_shape[] = { { .name = "gate", .type = DEPOT_T_OBJECT, .fields = gate, .doc = "what keeps it" }, END };
static const depot_field explain_reply[] = {
    JOB_ID("job_id", "the job"), TEXT("status", "its state"), TEXT("queue", "its queue"), TEXT("job_type", "its type"),
    TEXT("summary", "in one sentence"), NUMBER("attempts", "attempts begun"), NUMBER("failed_attempts", "of these, failed"),
    MOMENT("next_run_at", "when it is due"),
    { .name = "last_error", .type = DEPOT_T_OBJECT, .flags = DEPOT_NULLABLE, .fields = last_error, .doc = "of the last failed attempt" },
    TEXT("dlq_reason_code", "why it is in the DLQ"), TEXT("suggested_action", "what to do about its last error"),
    LIST_OF("waits_for", gate_shape, "why it does not run, the weightiest first"), TEXT("lease_owner", "who runs it"),
    MOMENT("lease_expires_at", "until when its lease lasts"), NUMBER("ahead", "jobs of its queue that come before it"),
    TEXT("encrypted_with", ENCRYPTED_DOC), END,
};
static const depot_field replay_request[] = {
    BY_ID, { .name = "queue", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .min = 1, .max = 128, .doc = "without it the same" },
    { .name = "run_at", .type = DEPOT_T_TIME, .flags = DEPOT_NULLABLE, .doc = "not before; without it at once" }, END,
};
static const depot_field replay_reply[] = { JOB_ID("new_job_id", "the new job"), JOB_ID("replay_of_job_id", "the old one"), END };
static const depot_field cancel_reply[] = { JOB_ID("id", "the job"), TEXT("status", "canceled; canceling: it runs, and ends as canceled unless it succeeds first"), END };
static const depot_field queue_item[] = {
    TEXT("queue", "its name"), NUMBER("queued", "jobs that wait"), NUMBER("runnable", "of these, due"), NUMBER("running", "jobs that run"),
    NUMBER("succeeded", "over all time"), NUMBER("failed", "always 0: failed jobs are queued again or in the DLQ"),
    NUMBER("dlq", "over all time"), NUMBER("canceled", "over all time"),
    { .name = "paused", .type = DEPOT_T_BOOL, .doc = "no job of it is begun" }, NUMBER("max_in_flight", "limit"),
    NUMBER("max_attempts_per_minute", "limit"), NUMBER("oldest_runnable_ms", "how long the oldest has been due"), END,
};
#define RATE(NAME, DOC) { .name = (NAME), .type = DEPOT_T_NUMBER, .doc = (DOC) }
static const depot_field metrics_request[] = { OF_QUEUE, END };
static const depot_field metrics_item[] = {
    MOMENT("at", "when it was counted"), TEXT("queue", "its name"), NUMBER("runnable_queue_depth", "jobs that are due"),
    RATE("jobs_per_sec", "attempts that ended in the last 60 s, by 60"), RATE("success_rate", "of these, the part that succeeded; 0: none ended"),
    RATE("retry_rate", "of the attempts begun in that time, the part that were not a job's first"),
    RATE("mean_latency_ms", "from lease to result, of those that ended"), END,
};
static const depot_field metrics_shape[] = { { .name = "queue", .type = DEPOT_T_OBJECT, .fields = metrics_item, .doc = "a queue" }, END };
static const depot_field metrics_reply[] = {
    MOMENT("now_utc", "database time"), LIST_OF("queues", metrics_shape, "by name; with ?queue= that one"), END,
};
static const depot_field decision[] = {
    JOB_ID("id", "the decision"), TEXT("queue", "queue that was meant"), TEXT("decision", "DENIED"),
    TEXT("reason_code", "PAYLOAD_TOO_LARGE or ENQUEUE_RATE_EXCEEDED"), ANYTHING("details_json", "the figures"),
    MOMENT("created_at", "when"), END,
};

const depot_route queue_routes[22] = {
    { .method = "POST", .path = "/jobs", .listen = "admin", .role = DEPOT_OPERATOR, .flags = DEPOT_ROUTE_INLINE, .request = add_request,
      .reply = add_reply, .fn = route_add_job, .cli = "job enqueue <job_type>", .doc = "make a job; durable when the reply comes" },
    { .method = "GET", .path = "/jobs", .listen = "admin", .role = DEPOT_VIEWER, .request = list_request, .reply = list_reply,
      .fn = list_jobs, .cli = "job list", .doc = "jobs, newest first" },
    { .method = "GET", .path = "/dlq", .listen = "admin", .role = DEPOT_VIEWER, .request = dead_request, .reply = list_reply,
      .fn = list_dead, .cli = "queue dlq", .doc = "dead jobs, newest first" },
    { .method = "GET", .path = "/jobs/{id}", .listen = "admin", .role = DEPOT_VIEWER, .request = by_id, .reply = job_reply,
      .fn = show_job, .cli = "job show <id>", .doc = "a job with its arguments and result" },
    { .method = "GET", .path = "/jobs/{id}/timeline", .listen = "admin", .role = DEPOT_VIEWER, .request = by_id, .reply = timeline_reply,
      .fn = show_timeline, .cli = "job timeline <id>", .doc = "everything that happened to a job" },
    { .method = "GET", .path = "/jobs/{id}/explain", .listen = "admin", .role = DEPOT_VIEWER, .request = by_id, .reply = explain_reply,
      .fn = explain, .cli = "job explain <id>", .doc = "why a job is where it is, and what to do" },
    { .method = "POST", .path = "/jobs/{id}/replay", .listen = "admin", .role = DEPOT_OPERATOR, .request = replay_request,
      .reply = replay_reply, .fn = replay, .cli = "job replay <id>", .doc = "make a new job like this one" },
    { .method = "POST", .path = "/jobs/{id}/cancel", .listen = "admin", .role = DEPOT_OPERATOR, .request = by_id, .reply = cancel_reply,
      .fn = cancel, .cli = "job cancel <id>", .doc = "cancel a job; one that runs is told to end" },
    { .method = "GET", .path = "/queues", .listen = "admin", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_LIST, .request = no_fields,
      .reply = queue_item, .fn = list_queues, .cli = "queue list", .doc = "queues and how many jobs they have in which state" },
    { .method = "GET", .path = "/ingest/decisions", .listen = "admin", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_LIST,
      .request = decisions_request, .reply = decision, .fn = list_decisions, .cli = "queue refusals", .doc = "jobs that were refused, newest first" },
    { .method = "GET", .path = "/metrics", .listen = "admin", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_JSON, .request = metrics_request,
      .reply = metrics_reply, .fn = metrics, .doc = "depth and rates of each queue, unless Accept asks for Prometheus text" },
    { .method = "GET", .path = "/v1/queues/{queue}/policy", .listen = "admin", .role = DEPOT_VIEWER, .request = by_queue, .reply = policy_reply,
      .fn = route_get_policy, .cli = "queue policy <queue>", .doc = "limits of a queue, and where they come from" },
    { .method = "PATCH", .path = "/v1/queues/{queue}/policy", .listen = "admin", .role = DEPOT_OPERATOR, .request = policy_request,
      .reply = policy_reply, .fn = route_set_policy, .cli = "queue limit <queue>", .doc = "set limits of a queue; what is not given stays" },
    { .method = "DELETE", .path = "/v1/queues/{queue}/policy", .listen = "admin", .role = DEPOT_OPERATOR, .request = by_queue,
      .reply = policy_reply, .fn = route_clear_policy, .cli = "queue free <queue>", .doc = "take all limits of a queue away; a pause stays" },
    { .method = "POST", .path = "/v1/queues/{queue}/pause", .listen = "admin", .role = DEPOT_OPERATOR, .request = by_queue,
      .reply = policy_reply, .fn = route_pause, .cli = "queue pause <queue>", .doc = "begin no more jobs of a queue; what runs goes on" },
    { .method = "POST", .path = "/v1/queues/{queue}/resume", .listen = "admin", .role = DEPOT_OPERATOR, .request = by_queue,
      .reply = policy_reply, .fn = route_resume, .cli = "queue resume <queue>", .doc = "begin jobs of a queue again" },
    { .method = "POST", .path = "/v1/jobs/bulk", .listen = "admin", .role = DEPOT_OPERATOR, .flags = DEPOT_ROUTE_LONG, .request = bulk_request,
      .reply = bulk_reply, .fn = route_bulk, .cli = "job bulk <action>", .doc = "retry, replay, discard or cancel jobs by a filter" },
    { .method = "POST", .path = "/v1/jobs/bulk-enqueue", .listen = "admin", .role = DEPOT_OPERATOR, .request = many_request,
      .reply = many_reply, .fn = route_enqueue_many, .cli = "job enqueue-many <jobs>", .doc = "make many jobs, all or none: <jobs> is JSON or @FILE" },
    { .method = "POST", .path = "/v1/queue/seed", .listen = "admin", .role = DEPOT_OPERATOR, .request = seed_request,
      .reply = many_reply, .fn = route_seed, .cli = "queue seed <n>", .doc = "make jobs to try things with, of the types demo_ok and fail_me (examples/demo.lua)" },
    { .method = "POST", .path = "/v1/queue/reset", .listen = "admin", .role = DEPOT_ADMIN, .request = reset_request,
      .reply = reset_reply, .fn = route_reset, .cli = "queue reset", .doc = "delete all jobs of all queues with all that is known of them, and limits that are in no section" },
    { .method = "POST", .path = "/v1/batches", .listen = "admin", .role = DEPOT_OPERATOR, .request = batch_request,
      .reply = batch_made, .fn = route_make_batch, .cli = "batch create <jobs>", .doc = "make jobs with a callback for when all have ended" },
    { .method = "GET", .path = "/v1/batches/{id}", .listen = "admin", .role = DEPOT_VIEWER, .request = batch_by_id, .reply = batch_reply,
      .fn = route_show_batch, .cli = "batch show <id>", .doc = "how far a batch has come" },
};
/* clang-format on */
