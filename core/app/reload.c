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

    if (c == NULL) {
        conf_problems_print(problems, out);
        depot_arena_free(arena);
        return false;
    }
    const scripts_options scripts = app_scripts_options(a, c, arena);
    if (!scripts_reload(&scripts, &err)) {
        depot_buf_addf(out, "%s\n%s%s", err.msg, err.hint, err.hint[0] == '\0' ? "" : "\n");
        depot_arena_free(arena);
        return false;
    }
    host_set_conf(a->host, c);
    size_t slot = a->n_reloads++ % CONFS_KEPT;
    depot_arena_free(a->confs[slot]);
    a->confs[slot] = arena;
    host_reload(a->host);
    sched_reload();
    return true;
}
