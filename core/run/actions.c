/* actions.c - the text of `run =` taken apart, and an action handed to whoever runs its kind. */
#include "run/actions.h"

#include <string.h>

static const char *const prefixes[] = { [ACTION_LUA] = "lua", [ACTION_RUNBOOK] = "runbook", [ACTION_JOB] = "job" };

static bool refuse(const char *text, const char *why, depot_err *err)
{
    (void)DEPOT_FAIL(err, INVALID, "\"%.100s\": %s", text, why);
    return depot_hint(err, "write the name of a task, lua:FILE, runbook:NAME or job:QUEUE/TYPE");
}

static bool is_name(const char *s)
{
    return *s != '\0' && s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")] == '\0';
}

/* Below the script folders: relative, and never out of them again. */
static bool is_script(const char *s)
{
    size_t n = strlen(s);

    return s[0] != '/' && strstr(s, "..") == NULL && n > 4 && strcmp(s + n - 4, ".lua") == 0;
}

static bool parse_job(depot_arena *arena, const char *text, const char *rest, action *out, depot_err *err)
{
    const char *slash = strchr(rest, '/');

    if (slash == NULL) {
        return refuse(text, "a job needs a queue and a type", err);
    }
    out->queue = depot_strndup(arena, rest, (size_t)(slash - rest));
    out->name = depot_strdup(arena, slash + 1);
    return (is_name(out->queue) && is_name(out->name)) || refuse(text, "a job needs a queue and a type", err);
}

bool action_parse(depot_arena *arena, const char *text, action *out, depot_err *err)
{
    const char *colon = strchr(text, ':');
    size_t      n = colon == NULL ? 0 : (size_t)(colon - text);

    *out = (action){ .kind = ACTION_TASK, .name = depot_strdup(arena, text) };
    if (colon == NULL) {
        return is_name(text) || refuse(text, "no task can have this name", err);
    }
    while (out->kind < DEPOT_N(prefixes) && (prefixes[out->kind] == NULL || strlen(prefixes[out->kind]) != n ||
                                             strncmp(prefixes[out->kind], text, n) != 0)) {
        out->kind++;
    }
    out->name = depot_strdup(arena, colon + 1);
    switch (out->kind) {
    case ACTION_LUA:
        return is_script(out->name) || refuse(text, "a script is a .lua file below the script folders", err);
    case ACTION_RUNBOOK: return is_name(out->name) || refuse(text, "no runbook can have this name", err);
    case ACTION_JOB: return parse_job(arena, text, out->name, out, err);
    case ACTION_TASK: break;
    }
    return refuse(text, "there is no such kind of action", err);
}

static bool run_job(const action *a, const action_ops *ops, const depot_json *arg, const char *key, depot_err *err)
{
    const action_job job = { .queue = a->queue, .type = a->name, .args = arg, .key = key };

    return ops->jobs(&job, 1, err);
}

bool action_run(const action *a, const action_ops *ops, const depot_json *arg, const char *key, int64_t timeout_ms,
                depot_arena *arena, const depot_json **out_result, depot_err *err)
{
    *out_result = NULL;
    switch (a->kind) {
    case ACTION_TASK: return ops->task(a->name, arg, arena, out_result, err);
    case ACTION_LUA: return ops->script(a->name, arg, timeout_ms, arena, out_result, err);
    case ACTION_RUNBOOK: return ops->runbook(a->name, arg, err);
    case ACTION_JOB: return run_job(a, ops, arg, key, err);
    }
    return DEPOT_FAIL(err, BUG, "an action of kind %d", (int)a->kind);
}
