/* reload.c - a new configuration: everything is checked first, then everything is applied, or nothing. */
#include <stdlib.h>
#include <string.h>

#include "app/internal.h"
#include "base/log.h"
#include "lua/scripts.h"
#include "run/sched.h"

/* A worker says file and line of a script in front of what is wrong there. */
static void add_script_problem(const app *a, const depot_err *err, conf_problems *problems)
{
    const char *hint = err->hint[0] == '\0' ? NULL : err->hint;
    char        file[sizeof(err->msg)], *rest = NULL;
    size_t      n = strcspn(err->msg, ":");
    long        line = err->code == DEPOT_E_LUA_SYNTAX && err->msg[n] == ':' ? strtol(err->msg + n + 1, &rest, 10) : 0;

    if (line > 0 && strncmp(rest, ": ", 2) == 0) {
        memcpy(file, err->msg, n);
        file[n] = '\0';
        conf_problem(problems, file, (int)line, hint, "%s", rest + 2);
    } else {
        conf_problem(problems, a->paths->lua_dirs, 0, hint, "%s", err->msg);
    }
}

bool app_reload(app *a, conf_problems *problems)
{
    depot_arena *arena = depot_arena_new();
    depot_err    err = { 0 };
    const conf  *c = app_reread(arena, a->host, a->paths, problems);

    if (c == NULL) {
        depot_arena_free(arena);
        return false;
    }
    const scripts_options scripts = app_scripts_options(a, c, arena);
    if (!scripts_reload(&scripts, &err)) {
        add_script_problem(a, &err, problems);
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
