/* bulk.c - many jobs in one request: made, made as a batch, or acted upon by a filter. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "queue.h"

enum { PIECE = 500, TRIES = 100, PAUSE_MS = 20 };

bool route_enqueue_many(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    const char *rows = NULL;

    if (!enqueue_rows(ctx, depot_req_arena(req), depot_json_get(depot_req_args(req), "jobs"), depot_req_actor(req),
                      &rows, err) ||
        !route_document(ctx, req, "job", "select json_build_object('job_ids', queue.enqueue_many($1, $2)) as doc",
                        DEPOT_VALS(DEPOT_TEXT(rows), DEPOT_TEXT(depot_node(ctx))), err)) {
        return false;
    }
    queue_wake();
    return true;
}

bool route_make_batch(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_arena      *arena = depot_req_arena(req);
    const depot_json *callback = depot_json_get(depot_req_args(req), "callback");
    const char       *rows = NULL;

    if (!enqueue_rows(ctx, arena, depot_json_get(depot_req_args(req), "jobs"), depot_req_actor(req), &rows, err) ||
        !route_document(ctx, req, "batch", "select queue.make_batch($1, $2, $3, $4) as doc",
                        DEPOT_VALS(DEPOT_TEXT(rows),
                                   DEPOT_TEXT(callback == NULL ? NULL : depot_json_text(arena, callback)),
                                   DEPOT_TEXT(depot_req_actor(req)), DEPOT_TEXT(depot_node(ctx))),
                        err)) {
        return false;
    }
    queue_wake();
    return true;
}

bool route_show_batch(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    return route_document(ctx, req, "batch", "select queue.batch($1) as doc",
                          DEPOT_VALS(DEPOT_TEXT(route_arg(req, "id"))), err);
}

/* ---- by a filter ---- */

typedef struct bulk {
    depot_ctx  *ctx;
    depot_req  *req;
    const char *action, *filter;
    char        upto[ID_SIZE], last[ID_SIZE];
    int64_t     matched, limit, seen, done;
} bulk;

/* What is meant: jobs that are there now. */
static bool freeze(bulk *b, depot_err *err)
{
    depot_rows *rows = NULL;

    if (!depot_sql(b->ctx, depot_req_arena(b->req),
                   "select u.id, queue.bulk_count($1, $2, u.id) as n from (select queue.new_id() as id offset 0) u",
                   DEPOT_VALS(DEPOT_TEXT(b->action), DEPOT_TEXT(b->filter)), &rows, err)) {
        return enqueue_fail_sql(err);
    }
    (void)snprintf(b->upto, sizeof(b->upto), "%s", depot_text(rows, 0, "id"));
    b->matched = depot_int(rows, 0, "n");
    int64_t expected = depot_json_get_int(depot_req_args(b->req), "expect_count", b->matched);
    if (expected != b->matched) {
        DEPOT_FAIL(err, PRECONDITION, "%lld jobs match the filter, not %lld", (long long)b->matched,
                   (long long)expected);
        return depot_hint(err, "look again at depotctl job list, then say the number that is meant");
    }
    return true;
}

/* One piece in a transaction of its own. */
static bool next_piece(bulk *b, depot_err *err)
{
    int64_t     left = b->limit - b->seen;
    depot_rows *rows = NULL;

    if (!depot_sql(b->ctx, depot_req_arena(b->req),
                   "select seen, done, last from queue.bulk($1, $2, $3, $4, $5, $6, $7, $8)",
                   DEPOT_VALS(DEPOT_TEXT(b->action), DEPOT_TEXT(b->filter), DEPOT_TEXT(b->last), DEPOT_TEXT(b->upto),
                              DEPOT_INT(left < PIECE ? left : PIECE), DEPOT_TEXT(depot_req_actor(b->req)),
                              DEPOT_TEXT(depot_req_id(b->req)), DEPOT_TEXT(depot_node(b->ctx))),
                   &rows, err)) {
        return enqueue_fail_sql(err) || depot_wrap(err, "%s after %lld jobs", b->action, (long long)b->done);
    }
    const char *last = depot_text(rows, 0, "last");
    b->seen += depot_int(rows, 0, "seen");
    b->done += depot_int(rows, 0, "done");
    (void)snprintf(b->last, sizeof(b->last), "%s", last == NULL ? "" : last);
    return true;
}

/* Jobs that somebody else has at the moment are asked for again, for two seconds; then they are what is left over. */
static bool every_piece(bulk *b, depot_err *err)
{
    for (int tries = 0; b->last[0] != '\0' && b->seen < b->limit && tries < TRIES;) {
        int64_t before = b->seen;
        bool    ok = next_piece(b, err);
        if (!ok && err->code != DEPOT_E_DB_DEADLOCK) {
            return false;
        }
        *err = (depot_err){ 0 };
        tries = b->seen > before ? 0 : tries + 1;
        if (tries > 0 && b->last[0] != '\0') {
            struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
            (void)nanosleep(&pause, NULL); /* a signal that cuts it short does no harm */
        }
    }
    return true;
}

bool route_bulk(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_arena      *arena = depot_req_arena(req);
    const depot_json *args = depot_req_args(req), *filter = depot_json_get(args, "filter");
    bulk              b = { .ctx = ctx,
                            .req = req,
                            .action = depot_json_get_str(args, "action", ""),
                            .filter = filter == NULL ? "{}" : depot_json_text(arena, filter),
                            .last = "00000000-0000-0000-0000-000000000000",
                            .limit = depot_json_get_int(args, "limit", PIECE) };

    if (!freeze(&b, err)) {
        return false;
    }
    if (!every_piece(&b, err)) {
        return false;
    }
    queue_wake();
    return depot_reply_json(req, 200,
                            depot_json_pack(arena, "{s:s, s:I, s:I, s:I}", "action", b.action, "matched", b.matched,
                                            "changed", b.done, "left_over",
                                            b.matched > b.seen ? b.matched - b.seen : 0));
}
