/* routes.c - the store over HTTP and, through it, depotctl. */
#include "storage.h"

static bool read_body(void *arg, void *buf, size_t size, size_t *out_n, depot_err *err)
{
    return depot_req_read(arg, buf, size, out_n, err);
}

static depot_json *describe(depot_arena *arena, const depot_object *o)
{
    return depot_json_pack(arena, "{s:s, s:I, s:I, s:b}", "sha", o->sha, "bytes", o->bytes, "stored_bytes", o->stored_bytes, "existed",
                           (int)o->existed);
}

static bool put_object(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_object o;

    (void)ctx;
    return store_put(read_body, req, &o, err) && depot_reply_json(req, o.existed ? 200 : 201, describe(depot_req_arena(req), &o));
}

static bool write_reply(void *arg, const void *buf, size_t n, depot_err *err)
{
    return depot_reply_write(arg, buf, n, err);
}

static bool get_object(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    const char  *sha = depot_json_get_str(depot_req_args(req), "sha", "");
    depot_object o;

    (void)ctx;
    /* the whole object is read once before the first byte leaves: a damaged one is an error, never half an answer */
    if (!store_stat(sha, &o, err)) {
        return false;
    }
    depot_reply_header(req, "ETag", depot_strf(depot_req_arena(req), "\"%s\"", sha));
    return depot_reply_begin(req, 200, "application/octet-stream", o.bytes) && store_get(sha, write_reply, req, err);
}

static bool stat_object(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_object o;

    (void)ctx;
    return store_stat(depot_json_get_str(depot_req_args(req), "sha", ""), &o, err) &&
           depot_reply_json(req, 200, describe(depot_req_arena(req), &o));
}

static bool verify_object(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    const char *sha = depot_json_get_str(depot_req_args(req), "sha", "");

    (void)ctx;
    return store_verify(sha, err) &&
           depot_reply_json(req, 200, depot_json_pack(depot_req_arena(req), "{s:s, s:s}", "sha", sha, "status", "ok"));
}

static bool add_ref(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    const depot_json *args = depot_req_args(req);
    depot_object      o;
    char              pointer[256];

    (void)ctx;
    if (!store_stat(depot_json_get_str(args, "sha", ""), &o, err) ||
        !store_ref(depot_json_get_str(args, "project", ""), depot_json_get_str(args, "asset", ""),
                   depot_json_get_str(args, "filename", ""), &o, pointer, err)) {
        return false;
    }
    return depot_reply_json(req, 201, depot_json_pack(depot_req_arena(req), "{s:s}", "pointer", pointer));
}

/* clang-format off */
static const depot_field no_fields[] = { { .name = NULL } };
static const depot_field by_sha[] = {
    { .name = "sha", .type = DEPOT_T_SHA256, .flags = DEPOT_REQUIRED, .doc = "SHA-256 of the uncompressed content" },
    { .name = NULL },
};
static const depot_field object_reply[] = {
    { .name = "sha", .type = DEPOT_T_SHA256, .flags = DEPOT_REQUIRED, .doc = "SHA-256 of the uncompressed content" },
    { .name = "bytes", .type = DEPOT_T_INT, .flags = DEPOT_REQUIRED, .doc = "size of the content" },
    { .name = "stored_bytes", .type = DEPOT_T_INT, .flags = DEPOT_REQUIRED, .doc = "size of the object file" },
    { .name = "existed", .type = DEPOT_T_BOOL, .flags = DEPOT_REQUIRED, .doc = "the store had it already" },
    { .name = NULL },
};
static const depot_field verify_reply[] = {
    { .name = "sha", .type = DEPOT_T_SHA256, .flags = DEPOT_REQUIRED, .doc = "SHA-256 of the uncompressed content" },
    { .name = "status", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "ok" },
    { .name = NULL },
};
static const depot_field ref_request[] = {
    { .name = "project", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 96, .doc = "project's id" },
    { .name = "asset", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 96, .doc = "asset's id" },
    { .name = "sha", .type = DEPOT_T_SHA256, .flags = DEPOT_REQUIRED, .doc = "object that the reference leads to" },
    { .name = "filename", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 4096, .doc = "the file's own name" },
    { .name = NULL },
};
static const depot_field ref_reply[] = {
    { .name = "pointer", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "depot://refs/<project>/<time>_<asset>.json" },
    { .name = NULL },
};

const depot_route storage_routes[5] = {
    { .method = "POST", .path = "/v1/objects", .role = DEPOT_OPERATOR, .flags = DEPOT_ROUTE_UPLOAD | DEPOT_ROUTE_LONG,
      .request = no_fields, .reply = object_reply, .max_body = INT64_MAX, .fn = put_object, .cli = "storage put <file>",
      .doc = "store a file; durable when the reply comes; 201 when it is new, 200 when the store had it" },
    { .method = "GET", .path = "/v1/objects/{sha}", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_LONG, .request = by_sha,
      .fn = get_object, .cli = "storage get <sha>", .doc = "an object's content, verified before and while it is sent" },
    { .method = "GET", .path = "/v1/objects/{sha}/stat", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_LONG, .request = by_sha,
      .reply = object_reply, .fn = stat_object, .cli = "storage stat <sha>", .doc = "sizes of an object, which is verified on the way" },
    { .method = "POST", .path = "/v1/objects/{sha}/verify", .role = DEPOT_OPERATOR, .flags = DEPOT_ROUTE_LONG, .request = by_sha,
      .reply = verify_reply, .fn = verify_object, .cli = "storage verify <sha>", .doc = "read an object against its name" },
    { .method = "POST", .path = "/v1/refs/{project}/{asset}", .role = DEPOT_OPERATOR, .flags = DEPOT_ROUTE_LONG,
      .request = ref_request, .reply = ref_reply, .fn = add_ref, .cli = "storage ref <project> <asset>",
      .doc = "write the manifest that ties an object to an asset" },
};
/* clang-format on */
