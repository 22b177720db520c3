/* offline.c - an engine on a loop of its own; see offline.h. */
#include "lua/offline.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "db/async.h"
#include "lua/globals.h"

enum { MEMORY_MAX = 256 << 20, CPU_MAX_MS = 10000, TEXT_MAX = 16 << 20, FILE_BYTES_MAX = 4 << 20, CONNECTIONS = 4 };

struct offline {
    offline_options     opt;
    uv_loop_t           uv;
    depot_arena        *arena;
    sources             sources;
    engine             *engine;
    db_async           *db;
    bool                db_closed;
    const char         *path;
    depot_script_result res;
};

static void on_done(void *arg, uint64_t id, const depot_script_result *res)
{
    offline *o = arg;

    (void)id;
    o->res = *res;
    o->res.json = depot_strdup(o->arena, res->json);
    o->res.where = depot_strdup(o->arena, res->where);
    o->res.trace = depot_strdup(o->arena, res->trace);
}

static void on_log(void *arg, uint64_t id, depot_level level, const char *label, const char *where, const char *text,
                   size_t n, const char *fields)
{
    offline *o = arg;

    (void)id;
    (void)label;
    if (o->opt.log != NULL) {
        o->opt.log(o->opt.arg, level, where, text, n, fields);
    }
}

/* The part of a whole path that is below one of the script folders; NULL: none of it. */
static const char *below(depot_arena *arena, const char *dirs, const char *full)
{
    char *list = depot_strdup(arena, dirs), *rest = NULL, real[PATH_MAX];

    for (const char *dir = strtok_r(list, ":", &rest); dir != NULL; dir = strtok_r(NULL, ":", &rest)) {
        size_t n = realpath(dir, real) == NULL ? 0 : strlen(real);
        if (n > 0 && strncmp(full, real, n) == 0 && full[n] == '/') {
            return depot_strdup(arena, full + n + 1);
        }
    }
    return NULL;
}

/* A file from elsewhere counts as one of handlers/ when it declares jobs. */
static bool add_file(offline *o, depot_err *err)
{
    char   real[PATH_MAX];
    char  *text;
    size_t n;

    if (!depot_read_file(o->arena, o->opt.file, FILE_BYTES_MAX, &text, &n, err)) {
        return false;
    }
    if (realpath(o->opt.file, real) == NULL) {
        return DEPOT_FAIL_ERRNO(err, "cannot find %s", o->opt.file);
    }
    const char *name = strrchr(real, '/') + 1;
    o->path = below(o->arena, o->opt.lua_dirs, real);
    bool is_handler = strstr(text, "depot.job") != NULL && strstr(name, "_test.lua") == NULL;
    if (is_handler && (o->path == NULL || strncmp(o->path, "handlers/", 9) != 0)) {
        o->path = depot_strf(o->arena, "handlers/%s", name);
    } else if (o->path == NULL) {
        o->path = depot_strdup(o->arena, name);
    }
    sources_put(o->arena, &o->sources, o->path, text, n);
    return true;
}

static void keep_libraries(sources *s)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->n; i++) {
        if (strncmp(s->files[i].path, "lib/", 4) == 0) {
            s->files[kept++] = s->files[i];
        }
    }
    s->n = kept;
}

static bool read_sources(offline *o, depot_err *err)
{
    if (!sources_read(o->arena, o->opt.lua_dirs, &o->sources, err)) {
        return false;
    }
    if (o->opt.alone) {
        keep_libraries(&o->sources);
    }
    if (o->opt.file != NULL && !add_file(o, err)) {
        return false;
    }
    sources_seal(&o->sources);
    return true;
}

static bool start(offline *o, depot_err *err)
{
    const db_async_options db = { .url = o->opt.url, .name = "depotctl", .max = CONNECTIONS, .connect_timeout_ms = 10000,
                                  .acquire_timeout_ms = 10000 };
    engine_options         options = { .loop = &o->uv,
                                       .host = o->opt.host,
                                       .sources = &o->sources,
                                       .grants = depot_json_parse(o->arena, o->opt.grants, strlen(o->opt.grants), err),
                                       .offline = true,
                                       .memory_max = MEMORY_MAX,
                                       .cpu_max_ms = CPU_MAX_MS,
                                       .result_max = TEXT_MAX,
                                       .log_max = TEXT_MAX,
                                       .done = on_done,
                                       .log = on_log,
                                       .arg = o };

    if (options.grants == NULL) {
        return false;
    }
    if (o->opt.url != NULL) {
        o->db = options.db = db_async_new(&o->uv, &db);
    }
    return engine_new(&options, &o->engine, err);
}

bool offline_new(const offline_options *options, offline **out, depot_err *err)
{
    offline *o = depot_xalloc(sizeof(*o));

    o->opt = *options;
    o->arena = depot_arena_new();
    if (uv_loop_init(&o->uv) != 0) {
        depot_arena_free(o->arena);
        free(o);
        return DEPOT_FAIL(err, IO, "no event loop: too many open files?");
    }
    if (!read_sources(o, err) || !start(o, err)) {
        offline_free(o);
        return false;
    }
    *out = o;
    return true;
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

void offline_free(offline *o)
{
    if (o == NULL) {
        return;
    }
    while (o->engine != NULL && !engine_is_idle(o->engine)) {
        uv_run(&o->uv, UV_RUN_ONCE);
    }
    if (o->db != NULL) {
        db_async_free(o->db, on_closed, &o->db_closed);
    }
    engine_free(o->engine);
    uv_run(&o->uv, UV_RUN_DEFAULT);
    uv_loop_close(&o->uv);
    depot_arena_free(o->arena);
    free(o);
}

/* Names that do not exist are known already, also those that the declaration came across. */
static void on_fault(void *arg, const char *file, int line, const depot_err *err)
{
    if (strncmp(err->msg, "there is no variable '", 22) == 0 || strncmp(err->msg, "variable '", 10) == 0) {
        return;
    }
    conf_problem(arg, file, line, err->hint[0] == '\0' ? NULL : err->hint, "%s", err->msg);
}

void offline_load(offline *o, conf_problems *problems)
{
    globals_check(o->engine, problems);
    (void)engine_load(o->engine, on_fault, problems); /* counted there */
}

const char *offline_path(const offline *o)
{
    return o->path;
}

const sources *offline_sources(const offline *o)
{
    return &o->sources;
}

const engine *offline_engine(const offline *o)
{
    return o->engine;
}

bool offline_run(offline *o, run_mode mode, const char *name, const char *arg, int64_t timeout_ms,
                 const depot_script_result **res, depot_err *err)
{
    const run_spec spec = { .id = 1, .mode = mode, .name = name, .label = name, .arg = arg, .arg_len = strlen(arg),
                            .timeout_ms = timeout_ms };

    if (!engine_run(o->engine, &spec, err)) {
        return false;
    }
    while (engine_running(o->engine) > 0) {
        uv_run(&o->uv, UV_RUN_ONCE);
    }
    *res = &o->res;
    return true;
}
