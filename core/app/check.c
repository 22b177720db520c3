/* check.c - rules between options that need to know the plugins: what schedules and hooks run is there, and no two plugins answer
 * the same request. */
#include <lauxlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "app/internal.h"
#include "lua/grant.h"
#include "run/events.h"
#include "run/sched.h"

enum { NAMES_MAX = 512 };

static _Thread_local depot_ctx *checked; /* the core whose configuration is being checked on this thread */

static const void *sections(void)
{
    return NULL; /* on this thread nothing changes them */
}

static const void *next_hook(const void *now, size_t *it, const char **out_name)
{
    (void)now;
    return depot_section_next(checked, "hook", it, out_name);
}

static const void *next_schedule(const void *now, size_t *it, const char **out_name)
{
    (void)now;
    return depot_section_next(checked, "schedule", it, out_name);
}

/* ---- is what they run there ---- */

static bool no_such_task(host *h, const char *name, depot_err *err)
{
    const char *names[NAMES_MAX];
    size_t      n = 0;

    for (size_t i = 0; i < host_count(h); i++) {
        const depot_ctx *ctx = host_plugin(h, i);
        for (size_t t = 0; t < ctx->n_tasks && n < NAMES_MAX; t++) {
            names[n++] = ctx->tasks[t].name;
        }
    }
    const char *near = depot_suggest(name, names, n);
    (void)DEPOT_FAIL(err, CONFIG, "no plugin has a task named %s", name);
    if (near != NULL) {
        return depot_hint(err, "did you mean \"%s\"?", near);
    }
    return depot_hint(err, "depotctl task list shows all; a script is lua:FILE, a job is job:QUEUE/TYPE");
}

static bool task_exists(host *h, const char *name, const depot_json *args, depot_err *err)
{
    static const depot_field                  none[] = { { .name = NULL } };
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_json                               *values = NULL, *faults = NULL;
    depot_ctx                                *ctx = NULL;
    const depot_task_row                     *row = host_task(h, name, &ctx);

    if (row == NULL) {
        return no_such_task(h, name, err);
    }
    return args == NULL || api_validate(arena, row->args != NULL ? row->args : none, args, &values, &faults, err) ||
           depot_wrap(err, "arguments of task %s", name);
}

static bool script_exists(const char *dirs, const char *file, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    for (const char *dir = dirs; dir != NULL && *dir != '\0';) {
        size_t n = strcspn(dir, ":");
        if (access(depot_strf(arena, "%.*s/%s", (int)n, dir, file), R_OK) == 0) {
            return true;
        }
        dir += dir[n] == ':' ? n + 1 : n;
    }
    (void)DEPOT_FAIL(err, CONFIG, "there is no script %s", file);
    return depot_hint(err, "script folders: %s", dirs == NULL ? "none" : dirs);
}

static bool queue_exists(host *h, depot_err *err)
{
    for (size_t i = 0; i < host_count(h); i++) {
        const depot_ctx *ctx = host_plugin(h, i);
        for (size_t s = 0; s < ctx->n_services; s++) {
            if (strcmp(ctx->services[s].name, "queue") == 0) {
                return true;
            }
        }
    }
    (void)DEPOT_FAIL(err, CONFIG, "no plugin keeps jobs");
    return depot_hint(err, "depotctl enable queue");
}

static bool runbook_exists(host *h, depot_err *err)
{
    depot_ctx *ctx = NULL;

    if (host_task(h, "runbook.start", &ctx) != NULL) {
        return true;
    }
    (void)DEPOT_FAIL(err, CONFIG, "no plugin runs runbooks");
    return depot_hint(err, "depotctl enable runbook");
}

static bool action_exists(const action *a, const depot_json *args, depot_err *err)
{
    host *h = checked->host;

    switch (a->kind) {
    case ACTION_TASK: return task_exists(h, a->name, args, err);
    case ACTION_LUA: return script_exists(host_environment(h)->lua_dirs, a->name, err);
    case ACTION_RUNBOOK: return runbook_exists(h, err);
    case ACTION_JOB: return queue_exists(h, err);
    }
    return true;
}

/* Nothing is run: the compiler only says whether it could be. Built as the workers build it. */
static bool expression_compiles(const char *expression, depot_err *err)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };
    lua_State                           *lua = luaL_newstate();

    if (lua == NULL) {
        return DEPOT_FAIL(err, MEMORY, "no memory to read an expression");
    }
    depot_buf_addf(&text, "return (%s\n)", expression);
    bool ok = luaL_loadbufferx(lua, text.data, text.len, "=expression", "t") == LUA_OK ||
              DEPOT_FAIL(err, LUA_SYNTAX, "%s", lua_tostring(lua, -1));
    lua_close(lua);
    return ok;
}

/* ---- grants ---- */

static void check_grants(const char *kind, const char *name, const char *const *grant)
{
    for (; grant != NULL && *grant != NULL; grant++) {
        depot_err err = { 0 };
        if (!grant_check(*grant, &err)) {
            host_check_problem(kind, name, "grant", &err);
        }
    }
}

static void check_all_grants(depot_ctx *ctx)
{
    const app_lua_options     *lua = depot_section_get(ctx, "lua", NULL);
    const app_handler_options *h;
    const char                *name;

    check_grants("lua", NULL, lua->grant);
    for (size_t it = 0; (h = depot_section_next(ctx, "handler", &it, &name)) != NULL;) {
        check_grants("handler", name, h->grant);
    }
}

static void problem(void *arg, const char *name, const char *option, const depot_err *err)
{
    host_check_problem(arg, name, option, err);
}

bool app_core_check(depot_ctx *ctx, depot_err *err)
{
    static const action_ops ops = { .exists = action_exists, .compiles = expression_compiles };
    const sched_env         sched = { .ops = &ops, .sections = sections, .next = next_schedule };
    const events_env        events = { .ops = &ops, .sections = sections, .next = next_hook };
    char                    schedule[] = "schedule", hook[] = "hook"; /* kinds, for problem() */
    const char             *plugin;

    if (!api_check_routes(ctx->host, &plugin, err)) {
        host_check_problem("plugin", plugin, NULL, err);
    }
    check_all_grants(ctx);
    checked = ctx; /* from here on every problem is reported with its place, too */
    sched_check(&sched, problem, schedule);
    events_check(&events, problem, hook);
    checked = NULL;
    return true;
}
