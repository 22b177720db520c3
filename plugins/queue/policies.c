/* policies.c - limits of a queue over HTTP; those of a section of the configuration are changed there. And trials. */
#include <string.h>

#include "queue.h"

bool route_get_policy(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    return route_document(ctx, req, "queue", "select queue.policy($1) as doc",
                          DEPOT_VALS(DEPOT_TEXT(route_arg(req, "queue"))), err);
}

bool route_set_policy(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_arena      *arena = depot_req_arena(req);
    depot_json       *given = depot_json_pack(arena, "{}");
    const depot_json *value;
    const char       *name;

    for (size_t it = 0; depot_json_next(depot_req_args(req), &it, &name, &value);) {
        depot_json_set(given, name, depot_json_pack(arena, "o", value));
    }
    const depot_json *none = depot_json_get(given, "none");
    for (size_t i = 0; i < depot_json_len(none); i++) {
        depot_json_set(given, depot_json_string(depot_json_at(none, i), NULL), depot_json_null(arena));
    }
    depot_json_unset(given, "queue");
    depot_json_unset(given, "none");
    return route_document(ctx, req, "queue", "select queue.set_policy($1, $2, $3) as doc",
                          DEPOT_VALS(DEPOT_TEXT(route_arg(req, "queue")), DEPOT_TEXT(depot_json_text(arena, given)),
                                     DEPOT_TEXT(depot_req_actor(req))),
                          err);
}

static bool with_actor(depot_ctx *ctx, depot_req *req, const char *sql, depot_err *err)
{
    return route_document(ctx, req, "queue", sql,
                          DEPOT_VALS(DEPOT_TEXT(route_arg(req, "queue")), DEPOT_TEXT(depot_req_actor(req))), err);
}

bool route_clear_policy(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    return with_actor(ctx, req, "select queue.clear_policy($1, $2) as doc", err);
}

bool route_pause(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    return with_actor(ctx, req, "select queue.pause($1, $2) as doc", err);
}

bool route_resume(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    bool ok = with_actor(ctx, req, "select queue.resume($1, $2) as doc", err);

    queue_wake();
    return ok;
}

/* ---- trials ---- */

bool route_seed(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    bool ok = route_document(ctx, req, "job", "select queue.seed($1::integer, $2, $3) as doc",
                             DEPOT_VALS(DEPOT_INT(depot_json_get_int(depot_req_args(req), "n", 0)), DEPOT_TEXT(depot_req_actor(req)),
                                        DEPOT_TEXT(depot_node(ctx))),
                             err);

    queue_wake();
    return ok;
}

bool route_reset(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    if (strcmp(route_arg(req, "confirm"), depot_node(ctx)) != 0) {
        DEPOT_FAIL(err, PRECONDITION, "all jobs of all queues would be deleted, and confirm is not the name of this daemon");
        return depot_hint(err, "if that is meant: depotctl queue reset --confirm %s", depot_node(ctx));
    }
    return depot_sql(ctx, depot_req_arena(req), "select queue.reset()", DEPOT_NO_VALS, NULL, err) &&
           depot_reply_json(req, 200, depot_json_pack(depot_req_arena(req), "{s:b}", "reset", 1));
}
