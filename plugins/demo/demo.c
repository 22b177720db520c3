/* demo.c - the tutorial: a plugin with every table once. docs/plugins.md walks through it line by line.
 * The task demo.scan looks for files below a folder and emits demo.file_found for each; what happens then is conf.d's affair. */
#define _GNU_SOURCE 1 /* for nftw; NOLINT(readability-identifier-naming) */
#include <ftw.h>
#include <stdatomic.h>
#include <string.h>

#include "depot/plugin.h"

typedef struct demo_options {
    int64_t     limit;
    const char *greeting;
} demo_options;

typedef struct demo_place { const char *dir; } demo_place;
static const depot_field options[] = {
    DEPOT_OPT_INT(demo_options, limit, "20000", 1, 1000000, .flags = DEPOT_RELOADABLE, .doc = "files of one scan, at most"),
    DEPOT_OPT_STRING(demo_options, greeting, "hello", .max = 80, .flags = DEPOT_RELOADABLE, .doc = "what GET /v1/demo says"),
};
static const depot_field place_options[] = {
    DEPOT_OPT_PATH(demo_place, dir, NULL, .flags = DEPOT_REQUIRED | DEPOT_RELOADABLE, .doc = "a folder that demo.scan may be given by name"),
};
static const depot_section sections[] = { { "place", true, sizeof(demo_place), DEPOT_TABLE(place_options), "a folder with a name" } };

static const depot_field found[] = {
    { .name = "path", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 4096, .doc = "absolute path" },
    { .name = "n", .type = DEPOT_T_INT, .flags = DEPOT_REQUIRED, .doc = "running number within the scan" },
    { .name = NULL },
};
static const depot_event_row events[] = { { "demo.file_found", found, "a scan came upon a file" } };
static const depot_metric metrics[] = { { .name = "depot_demo_files_total", .kind = DEPOT_COUNTER, .doc = "files found by scans" } };
static atomic_int_fast64_t seen;
static _Thread_local struct { depot_ctx *ctx; depot_err *err; int64_t n, limit; } scan; /* nftw passes no argument */

static int visit(const char *path, const struct stat *st, int type, struct FTW *at)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new(); /* of one file: a scan may find millions */

    (void)at;
    if (type != FTW_F || !S_ISREG(st->st_mode) || !depot_utf8_valid(path, strlen(path))) {
        return 0;
    }
    const depot_json *payload = depot_json_pack(arena, "{s:s, s:I}", "path", path, "n", ++scan.n);
    return !depot_emit(scan.ctx, "demo.file_found", payload, scan.err) ? -1 : scan.n >= scan.limit || depot_canceled();
}

static const depot_field scan_args[] = {
    { .name = "place", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "absolute path of a folder, or the name of a [place NAME]" },
    { .name = NULL },
};

static bool run_scan(depot_ctx *ctx, depot_task *task, depot_err *err)
{
    const char       *name = depot_json_get_str(depot_task_args(task), "place", "");
    const demo_place *place = depot_section_get(ctx, "place", name);
    const char       *dir = place != NULL ? place->dir : name;

    scan.ctx = ctx, scan.err = err, scan.n = 0, scan.limit = ((const demo_options *)depot_options(ctx))->limit;
    bool ok = nftw(dir, visit, 32, FTW_PHYS) >= 0 || (err->code == DEPOT_OK && DEPOT_FAIL_ERRNO(err, "cannot walk %s", dir));
    depot_count(ctx, "depot_demo_files_total", NULL, (double)scan.n);
    atomic_fetch_add(&seen, scan.n);
    depot_task_result(task, depot_json_pack(depot_task_arena(task), "{s:I}", "files", scan.n));
    return ok;
}
static const depot_task_row tasks[] = { { .name = "demo.scan", .args = scan_args, .timeout_ms = 600000, .fn = run_scan,
                                          .doc = "emit demo.file_found for each file below a folder" } };

static bool say_hello(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)err;
    const char *greeting = ((const demo_options *)depot_options(ctx))->greeting;
    return depot_reply_json(req, 200, depot_json_pack(depot_req_arena(req), "{s:s}", "greeting", greeting));
}
static const depot_route routes[] = { { .method = "GET", .path = "/v1/demo", .role = DEPOT_VIEWER, .fn = say_hello, .cli = "demo hello",
                                        .doc = "the configured greeting" } };

static bool found_so_far(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    (void)ctx, (void)err, depot_return_int(call, seen);
    return true;
}
static const depot_lua_fn lua[] = { { "demo.found", "(): integer", 0, found_so_far, "files found by this process", NULL, NULL } };

static bool on_file(depot_ctx *ctx, const depot_event *event, depot_err *err)
{
    (void)err;
    depot_log(ctx, DEPOT_LOG_DEBUG, "demo.file", "%s", depot_json_get_str(depot_event_payload(event), "path", ""));
    return true;
}
static const depot_subscription subscriptions[] = { { "demo.file_found", on_file } };
static const depot_need needs[] = { { "storage", 1, true }, { "queue", 1, true } };
static const struct demo_v1 { uint32_t size; } service = { sizeof(struct demo_v1) };
static const depot_service services[] = { { "demo", 1, &service } };

DEPOT_PLUGIN(demo) {
    .version = "1.0", .summary = "the tutorial plugin: finds files, emits events", .migrations = "demo",
    .options_size = sizeof(demo_options), .options = DEPOT_TABLE(options), .sections = DEPOT_TABLE(sections),
    .needs = DEPOT_TABLE(needs), .services = DEPOT_TABLE(services), .events = DEPOT_TABLE(events), .tasks = DEPOT_TABLE(tasks),
    .subscriptions = DEPOT_TABLE(subscriptions), .routes = DEPOT_TABLE(routes), .lua = DEPOT_TABLE(lua), .metrics = DEPOT_TABLE(metrics),
};
