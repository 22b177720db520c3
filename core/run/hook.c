/* hook.c - one hook: its section, its condition, its action, the job that it becomes when it is durable. */
#include <string.h>

#include "base/unit.h"
#include "run/events_parts.h"

/* clang-format off */
static const depot_field options[] = {
    DEPOT_OPT_STRING(hook_options, on, NULL, .min = 1, .max = EVENTS_NAME_MAX,
        .flags = DEPOT_REQUIRED | DEPOT_RELOADABLE,
        .doc = "event to react to: its name, or a pattern with * and ?"),
    DEPOT_OPT_STRING(hook_options, when, NULL, .max = 4096, .flags = DEPOT_RELOADABLE,
        .doc = "Lua expression over `event` (name, id, at and the payload's members); the hook runs when it is true"),
    DEPOT_OPT_STRING(hook_options, run, NULL, .min = 1, .max = 200, .flags = DEPOT_REQUIRED | DEPOT_RELOADABLE,
        .doc = "what to run: the name of a task (it gets those members of the payload that it has arguments for), "
               "job:QUEUE/TYPE or runbook:NAME (the payload), or lua:FILE (the event)"),
    DEPOT_OPT_STRING(hook_options, args, NULL, .max = 65536, .flags = DEPOT_RELOADABLE,
        .doc = "arguments, one JSON object, in place of the payload; a script finds them in event.args"),
    DEPOT_OPT_BOOL(hook_options, durable, "no", .flags = DEPOT_RELOADABLE,
        .doc = "yes: the reaction is a job, committed before the emitter goes on, tried again until it succeeds"),
    DEPOT_OPT_DURATION(hook_options, timeout, "60s", 10, 86400000, .flags = DEPOT_RELOADABLE,
        .doc = "deadline of a run"),
    DEPOT_OPT_BOOL(hook_options, enabled, "yes", .flags = DEPOT_RELOADABLE, .doc = "no: it does not react"),
};
const depot_section events_sections[] = {
    { "hook", true, sizeof(hook_options), DEPOT_TABLE(options), "a reaction to events" },
};
const size_t events_sections_n = DEPOT_N(events_sections);
/* clang-format on */

static bool parse_args(depot_arena *arena, const char *text, const depot_json **out, depot_err *err)
{
    *out = depot_json_parse(arena, text, strlen(text), err);
    if (*out == NULL) {
        return false;
    }
    return depot_json_typeof(*out) == DEPOT_JSON_OBJECT ||
           DEPOT_FAIL(err, INVALID, "arguments are one JSON object, {...}");
}

bool hook_make(depot_arena *arena, const char *name, const hook_options *o, hook *out, const char **out_option,
               depot_err *err)
{
    const depot_json *args = NULL;

    *out = (hook){
        .name = depot_strdup(arena, name),
        .when = o->when == NULL || o->when[0] == '\0' ? NULL : depot_strdup(arena, o->when),
        .args = depot_strdup(arena, o->args),
        .timeout_ms = o->timeout,
        .durable = o->durable,
    };
    *out_option = "run";
    if (!action_parse(arena, o->run, &out->act, err)) {
        return false;
    }
    *out_option = "args";
    return out->args == NULL || parse_args(arena, out->args, &args, err);
}

static void report(problem_fn *problem, void *arg, const char *name, const char *option, bool ok, const depot_err *err)
{
    if (!ok) {
        problem(arg, name, option, err);
    }
}

void events_check(const events_env *env, problem_fn *problem, void *arg)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const action                              queue = { ACTION_JOB, "hook:any", "hooks" };
    const void                               *now = env->sections();
    const hook_options                       *o;
    const char                               *name;

    for (size_t it = 0; (o = env->next(now, &it, &name)) != NULL;) {
        const depot_json *args = NULL;
        const char       *option = NULL;
        hook              h;
        depot_err         err[4] = { { 0 } };
        bool              fine = hook_make(arena, name, o, &h, &option, &err[0]);
        bool              has_action = fine || strcmp(option, "run") != 0;
        report(problem, arg, name, option, fine, &err[0]);
        if (fine && h.args != NULL) {
            fine = parse_args(arena, h.args, &args, &err[1]);
        }
        report(problem, arg, name, "run", !has_action || env->ops->exists(&h.act, fine ? args : NULL, &err[1]),
               &err[1]);
        report(problem, arg, name, "when", h.when == NULL || env->ops->compiles(h.when, &err[2]), &err[2]);
        report(problem, arg, name, "durable", !h.durable || env->ops->exists(&queue, NULL, &err[3]), &err[3]);
    }
}

/* ---- what actions and expressions are told ---- */

depot_json *hook_event_json(depot_arena *arena, const depot_event *event, const char *args)
{
    depot_json *o = depot_json_pack(arena, "{s:s, s:s, s:s}", "name", event->name, "id", event->id, "at", event->at);
    const depot_json *value;
    const char       *key;

    if (args != NULL) {
        depot_err none = { 0 };
        /* hook_make saw that it is JSON */
        depot_json_set(o, "args", depot_json_parse(arena, args, strlen(args), &none));
    }
    for (size_t it = 0; depot_json_next(event->payload, &it, &key, &value);) {
        if (depot_json_get(o, key) == NULL) {
            depot_json_set(o, key, (depot_json *)(uintptr_t)value); /* shared, never written */
        }
    }
    return o;
}

/* A job, runbook or task gets its own arguments or the payload. */
static bool action_arg(const hook *h, const action_ops *ops, const depot_event *event, depot_arena *arena,
                       const depot_json **out, depot_err *err)
{
    if (h->act.kind == ACTION_LUA) {
        *out = hook_event_json(arena, event, h->args);
        return true;
    }
    if (h->args != NULL) {
        return parse_args(arena, h->args, out, err);
    }
    const depot_json *picked =
        h->act.kind == ACTION_TASK && ops != NULL ? ops->pick(h->act.name, event->payload, arena) : NULL;
    *out = picked != NULL ? picked : event->payload;
    return true;
}

bool hook_judge(const hook *h, const action_ops *ops, const depot_event *event, bool *out, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    *out = true;
    if (h->when == NULL) {
        return true;
    }
    const depot_json *names = depot_json_pack(arena, "{s:o}", "event", hook_event_json(arena, event, h->args));
    return ops->eval(h->when, names, out, err) || depot_wrap(err, "condition of hook %s", h->name);
}

bool hook_act(const hook *h, const action_ops *ops, const depot_event *event, depot_arena *arena, depot_err *err)
{
    const depot_json *arg = NULL, *result = NULL;
    const char       *key = depot_strf(arena, "%s:%s", event->id, h->name);
    unit              u = { .deadline_ms = depot_now_ms() + h->timeout_ms };

    unit_enter(&u);
    bool ok = action_arg(h, ops, event, arena, &arg, err) &&
              action_run(&h->act, ops, arg, key, h->timeout_ms, arena, &result, err);
    unit_leave(&u);
    return ok || depot_wrap(err, "hook %s on %s", h->name, event->name);
}

bool hook_job(const hook *h, const depot_event *event, bool judged, depot_arena *arena, action_job *out, depot_err *err)
{
    out->key = depot_strf(arena, "%s:%s", event->id, h->name);
    if (h->act.kind == ACTION_JOB && judged) {
        out->queue = h->act.queue;
        out->type = h->act.name;
        return action_arg(h, NULL, event, arena, &out->args, err);
    }
    out->queue = "hooks";
    out->type = depot_strf(arena, "hook:%s", h->name);
    out->args = depot_json_pack(arena, "{s:s, s:s, s:s, s:s, s:i, s:b, s:o}", "hook", h->name, "event", event->name,
                                "id", event->id, "at", event->at, "depth", event->depth, "judged", (int)judged,
                                "payload", event->payload);
    return true;
}
