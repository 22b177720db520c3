/* double_route.c - claims a path that the core answers. */
#include "depot/plugin.h"

static const depot_field no_fields[] = { { .name = NULL } };

static bool hello(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)ctx;
    (void)err;
    return depot_reply_text(req, 200, "text/plain", "hello", 5);
}

static const depot_route routes[] = {
    { .method = "GET", .path = "/v1/status", .role = DEPOT_VIEWER, .request = no_fields, .fn = hello, .doc = "somebody else's" },
};

DEPOT_PLUGIN(double_route) { .version = "1.0", .summary = "answers what others answer", .routes = DEPOT_TABLE(routes) };
