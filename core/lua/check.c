/* check.c - scripts looked at without a daemon: every file compiled, declarations taken, faults collected. */
#include <stdlib.h>
#include <string.h>

#include "lua/engine.h"
#include "lua/grant.h"
#include "lua/scripts.h"

enum { MEMORY_MAX = 64 << 20, CPU_MAX_MS = 1000, TEXT_MAX = 64 << 10 };

static void on_fault(void *arg, const char *file, int line, const depot_err *err)
{
    conf_problem(arg, file, line, err->hint[0] == '\0' ? NULL : err->hint, "%s", err->msg);
}

/* What scripts log while they declare themselves is of no interest here. */
static void no_log(void *arg, uint64_t id, depot_level level, const char *label, const char *where, const char *text,
                   size_t n, const char *fields)
{
    (void)arg;
    (void)id;
    (void)level;
    (void)label;
    (void)where;
    (void)text;
    (void)n;
    (void)fields;
}

typedef struct warning {
    const handler *of;
    depot_buf     *out;
} warning;

static void add_warning(void *arg, const char *need)
{
    const warning *w = arg;

    depot_buf_addf(w->out, "%s: warning: the job %s needs %s, which conf.d does not grant\n", w->of->file, w->of->name, need);
}

static void compare(const engine *e, const depot_json *grants, depot_buf *warnings)
{
    for (size_t i = 0; i < engine_handlers(e); i++) {
        warning w = { engine_handler(e, i), warnings };
        grants_missing(grants, w.of->name, w.of->needs, add_warning, &w);
    }
}

static bool load(const sources *s, const depot_json *grants, conf_problems *problems, depot_buf *warnings, depot_err *err)
{
    uv_loop_t      uv;
    engine        *e = NULL;
    engine_options options = { .loop = &uv,
                               .sources = s,
                               .memory_max = MEMORY_MAX,
                               .cpu_max_ms = CPU_MAX_MS,
                               .result_max = TEXT_MAX,
                               .log_max = TEXT_MAX,
                               .log = no_log };
    bool           ok;

    if (uv_loop_init(&uv) != 0) {
        return DEPOT_FAIL(err, IO, "no event loop: too many open files?");
    }
    ok = engine_new(&options, &e, err);
    if (ok) {
        (void)engine_load(e, on_fault, problems); /* counted there */
        compare(e, grants, warnings);
    }
    engine_free(e);
    uv_run(&uv, UV_RUN_DEFAULT);
    uv_loop_close(&uv);
    return ok;
}

bool scripts_check(const char *lua_dirs, const char *grants, conf_problems *problems, depot_buf *warnings)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    size_t                                    before = conf_problem_count(problems);
    depot_err                                 err = { 0 };
    sources                                   s;

    const depot_json *granted = depot_json_parse(arena, grants, strlen(grants), &err);
    if (granted == NULL || !sources_read(arena, lua_dirs, &s, &err) || !load(&s, granted, problems, warnings, &err)) {
        conf_problem(problems, lua_dirs, 0, NULL, "%s", err.msg);
    }
    return conf_problem_count(problems) == before;
}
