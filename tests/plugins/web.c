/* web.c - routes for the tests of the HTTP door: echo, slow handlers, failures, streams both ways, files. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "depot/plugin.h"

enum { BLOCK = 10000, ADLER = 65521 };

static const char *const colours[] = { "red", "green", NULL };

/* clang-format off */
static const depot_field no_fields[] = { { .name = NULL } };
static const depot_field sleep_fields[] = {
    { .name = "wait", .type = DEPOT_T_DURATION, .def = "0", .doc = "how long" },
    { .name = NULL },
};
static const depot_field item_fields[] = {
    { .name = "key", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "of an item" },
    { .name = "password", .type = DEPOT_T_SECRET, .doc = "never shown" },
    { .name = NULL },
};
static const depot_field items[] = { { .name = "item", .type = DEPOT_T_OBJECT, .fields = item_fields, .doc = "one" }, { .name = NULL } };
static const depot_field echo_fields[] = {
    { .name = "id", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "in the path" },
    { .name = "limit", .type = DEPOT_T_INT, .flags = DEPOT_IN_QUERY, .def = "10", .min = 1, .max = 500, .doc = "in the query" },
    { .name = "tags", .type = DEPOT_T_LIST, .flags = DEPOT_IN_QUERY, .doc = "in the query" },
    { .name = "name", .type = DEPOT_T_STRING, .min = 1, .max = 20, .doc = "in the body" },
    { .name = "colour", .type = DEPOT_T_ENUM, .choices = colours, .doc = "in the body" },
    { .name = "items", .type = DEPOT_T_ARRAY, .fields = items, .doc = "in the body" },
    { .name = "size", .type = DEPOT_T_SIZE, .doc = "in the body" },
    { .name = "secret", .type = DEPOT_T_SECRET, .doc = "in the body" },
    { .name = "any", .type = DEPOT_T_ANY, .flags = DEPOT_NULLABLE, .doc = "in the body" },
    { .name = NULL },
};
static const depot_field upload_fields[] = {
    { .name = "delay", .type = DEPOT_T_DURATION, .flags = DEPOT_IN_QUERY, .def = "0", .doc = "between two reads" },
    { .name = "stop_at", .type = DEPOT_T_INT, .flags = DEPOT_IN_QUERY, .doc = "bytes after which to refuse the rest" },
    { .name = NULL },
};
static const depot_field stream_fields[] = {
    { .name = "bytes", .type = DEPOT_T_INT, .def = "100", .doc = "how many" },
    { .name = "break_at", .type = DEPOT_T_INT, .doc = "bytes after which to fail" },
    { .name = "length", .type = DEPOT_T_BOOL, .def = "no", .doc = "say how many there will be" },
    { .name = NULL },
};
static const depot_field file_fields[] = {
    { .name = "path", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "of the file" },
    { .name = "offset", .type = DEPOT_T_INT, .def = "0", .doc = "first byte" },
    { .name = "length", .type = DEPOT_T_INT, .def = "-1", .min = -1, .max = INT64_MAX, .doc = "-1: to the end" },
    { .name = NULL },
};
/* clang-format on */

static bool echo(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)ctx;
    (void)err;
    return depot_reply_json(req, 200, depot_req_args(req));
}

static bool slow(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    usleep((useconds_t)depot_json_get_int(depot_req_args(req), "wait", 0) * 1000);
    return echo(ctx, req, err);
}

static bool nothing(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)ctx;
    (void)err;
    depot_reply_header(req, "X-Said", "nothing");
    return true;
}

static bool database_fails(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)ctx;
    (void)req;
    return DEPOT_FAIL(err, DB, "relation hidden_table does not exist");
}

static bool fails_silently(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)ctx;
    (void)req;
    (void)err;
    return false;
}

static bool upload(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    int64_t  delay = depot_json_get_int(depot_req_args(req), "delay", 0);
    int64_t  stop_at = depot_json_get_int(depot_req_args(req), "stop_at", INT64_MAX), total = 0;
    uint8_t *buf = depot_alloc(depot_req_arena(req), BLOCK);
    uint32_t a = 1, b = 0; /* Adler-32, which Python can check */
    size_t   n = 1;

    while (n > 0) {
        if (total >= stop_at) {
            return DEPOT_FAIL(err, CONFLICT, "that is enough");
        }
        if (!depot_req_read(req, buf, BLOCK, &n, err)) {
            depot_log(ctx, DEPOT_LOG_INFO, "web.upload_failed", "after %lld bytes: %s", (long long)total, err->msg);
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            a = (a + buf[i]) % ADLER;
            b = (b + a) % ADLER;
        }
        total += (int64_t)n;
        usleep((useconds_t)delay * 1000);
    }
    return depot_reply_json(req, 200, depot_json_pack(depot_req_arena(req), "{s:I, s:I, s:I}", "bytes", total, "adler",
                                                      (int64_t)b << 16 | a, "said", depot_req_body_size(req)));
}

static bool stream(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    const depot_json *args = depot_req_args(req);
    int64_t           total = depot_json_get_int(args, "bytes", 0), break_at = depot_json_get_int(args, "break_at", INT64_MAX);
    char             *buf = depot_alloc(depot_req_arena(req), BLOCK);

    for (size_t i = 0; i < BLOCK; i++) {
        buf[i] = (char)('a' + i % 26);
    }
    depot_reply_begin(req, 200, "application/octet-stream", depot_json_get_bool(args, "length", false) ? total : -1);
    for (int64_t at = 0; at < total; at += BLOCK) {
        if (at >= break_at) {
            return DEPOT_FAIL(err, IO, "broken on purpose");
        }
        if (!depot_reply_write(req, buf, total - at < BLOCK ? (size_t)(total - at) : BLOCK, err)) {
            depot_log(ctx, DEPOT_LOG_INFO, "web.stream_failed", "after %lld bytes: %s", (long long)at, err->msg);
            return false;
        }
    }
    return true;
}

/* As an event stream does: little and often, for ever. */
static bool ticks(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_reply_begin(req, 200, "text/event-stream", -1);
    while (!depot_canceled()) {
        if (!depot_reply_write(req, "data: tick\n\n", 12, err)) {
            depot_log(ctx, DEPOT_LOG_INFO, "web.ticks_ended", "%s", err->msg);
            return false;
        }
        usleep(50000);
    }
    depot_log(ctx, DEPOT_LOG_INFO, "web.ticks_ended", "canceled");
    return DEPOT_FAIL(err, CANCELED, "nobody listens");
}

static bool file(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    const depot_json *args = depot_req_args(req);
    const char       *path = depot_json_get_str(args, "path", "");
    int               fd = open(path, O_RDONLY | O_CLOEXEC);

    (void)ctx;
    if (fd < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot open %s", path);
    }
    return depot_reply_file(req, 200, "application/octet-stream", fd, depot_json_get_int(args, "offset", 0),
                            depot_json_get_int(args, "length", -1));
}

static bool headers(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    const char *given = depot_req_header(req, "x-probe");

    (void)ctx;
    (void)err;
    depot_reply_header(req, "X-Echo", given == NULL ? "none" : given);
    depot_reply_header(req, "X-Bad", "two\r\nlines: here");
    depot_reply_header(req, "Cache-Control", "max-age=5");
    return depot_reply_text(req, 200, "text/plain", depot_req_id(req), strlen(depot_req_id(req)));
}

/* clang-format off */
static const depot_route routes[] = {
    { .method = "POST", .path = "/t/echo/{id}", .role = DEPOT_OPERATOR, .request = echo_fields, .fn = echo, .doc = "arguments back" },
    { .method = "POST", .path = "/t/small", .role = DEPOT_OPERATOR, .request = echo_fields + 3, .max_body = 1000, .fn = echo,
      .doc = "takes little" },
    { .method = "GET", .path = "/t/sleep", .role = DEPOT_VIEWER, .request = sleep_fields, .fn = slow, .doc = "takes its time" },
    { .method = "GET", .path = "/t/nothing", .role = DEPOT_VIEWER, .request = no_fields, .fn = nothing, .doc = "no reply" },
    { .method = "DELETE", .path = "/t/nothing", .role = DEPOT_ADMIN, .request = no_fields, .fn = nothing, .doc = "no reply" },
    { .method = "GET", .path = "/t/database", .role = DEPOT_VIEWER, .request = no_fields, .fn = database_fails, .doc = "fails" },
    { .method = "GET", .path = "/t/silent", .role = DEPOT_VIEWER, .request = no_fields, .fn = fails_silently, .doc = "fails" },
    { .method = "GET", .path = "/t/headers", .role = DEPOT_VIEWER, .request = no_fields, .fn = headers, .doc = "a header back" },
    { .method = "PUT", .path = "/t/upload", .role = DEPOT_OPERATOR, .flags = DEPOT_ROUTE_UPLOAD | DEPOT_ROUTE_LONG,
      .request = upload_fields, .max_body = 1LL << 40, .fn = upload, .doc = "a stream in" },
    { .method = "PUT", .path = "/t/upload/small", .role = DEPOT_OPERATOR, .flags = DEPOT_ROUTE_UPLOAD, .request = upload_fields,
      .max_body = 100000, .fn = upload, .doc = "a short stream in" },
    { .method = "GET", .path = "/t/stream", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_LONG, .request = stream_fields, .fn = stream,
      .doc = "a stream out" },
    { .method = "GET", .path = "/t/ticks", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_LONG, .request = no_fields, .fn = ticks,
      .doc = "a stream without end" },
    { .method = "GET", .path = "/t/file", .role = DEPOT_ADMIN, .request = file_fields, .fn = file, .doc = "a file" },
};
/* clang-format on */

DEPOT_PLUGIN(web) {
    .version = "1.0", .summary = "routes to test the HTTP door with", .routes = DEPOT_TABLE(routes),
};
