/* reload.c - a new configuration: everything is checked first, then everything is applied, or nothing. */
#include "app/internal.h"
#include "base/log.h"
#include "lua/scripts.h"
#include "run/sched.h"

bool app_reload(app *a, depot_buf *out)
{
    depot_arena   *arena = depot_arena_new();
    conf_problems *problems = conf_problems_new(arena);
    depot_err      err = { 0 };
    const conf    *c = app_reread(arena, a->host, a->paths, problems);

    if (c == NULL || !scripts_check(a->paths->lua_dirs, problems)) {
        conf_problems_print(problems, out);
        depot_arena_free(arena);
        return false;
    }
    const app_lua_options *lua = conf_get(c, "lua", NULL);
    const scripts_options  scripts = { a->paths->exe, a->paths->lua_dirs, lua->workers, lua->concurrency, lua->memory, lua->cpu,
                                       lua->timeout };
    const conf            *before = host_conf(a->host);
    host_set_conf(a->host, c); /* before the new workers read theirs */
    if (!scripts_reload(&scripts, &err)) {
        host_set_conf(a->host, before);
        depot_buf_addf(out, "%s\n", err.msg);
        depot_arena_free(arena);
        return false;
    }
    size_t slot = a->n_reloads++ % CONFS_KEPT;
    depot_arena_free(a->confs[slot]);
    a->confs[slot] = arena;
    host_reload(a->host);
    sched_reload();
    return true;
}
