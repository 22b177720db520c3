/* check.c - scripts looked at without a daemon: every file compiled, declarations taken, faults collected. */
#include <stdlib.h>

#include "lua/engine.h"
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

static bool load(const sources *s, conf_problems *problems, depot_err *err)
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
    }
    engine_free(e);
    uv_run(&uv, UV_RUN_DEFAULT);
    uv_loop_close(&uv);
    return ok;
}

bool scripts_check(const char *lua_dirs, conf_problems *problems)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    size_t                                    before = conf_problem_count(problems);
    depot_err                                 err = { 0 };
    sources                                   s;

    if (!sources_read(arena, lua_dirs, &s, &err) || !load(&s, problems, &err)) {
        conf_problem(problems, lua_dirs, 0, NULL, "%s", err.msg);
    }
    return conf_problem_count(problems) == before;
}
