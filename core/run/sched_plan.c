/* sched_plan.c - [schedule NAME] sections: their options, what is wrong with them, and the plan that is made of them. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "run/sched_parts.h"

const char *const        sched_overlap_names[] = { "skip", "queue", "allow", NULL };
static const char *const missed_names[] = { "none", "once", "all", NULL };

/* clang-format off */
static const depot_field options[] = {
    DEPOT_OPT_CRON(sched_options, cron, NULL, .flags = DEPOT_REQUIRED | DEPOT_RELOADABLE,
        .doc = "when: five fields, six with seconds in front, @daily and the like, or @every 5m"),
    DEPOT_OPT_STRING(sched_options, zone, "UTC", .min = 1, .max = 64, .flags = DEPOT_RELOADABLE,
        .doc = "time zone whose clock cron means, such as Europe/Berlin"),
    DEPOT_OPT_DURATION(sched_options, jitter, "0", 0, 86400000, .flags = DEPOT_RELOADABLE,
        .doc = "start up to this much later, differently each time, but before the next due time"),
    DEPOT_OPT_STRING(sched_options, run, NULL, .min = 1, .max = 200, .flags = DEPOT_REQUIRED | DEPOT_RELOADABLE,
        .doc = "what to run: the name of a task, lua:FILE, runbook:NAME or job:QUEUE/TYPE"),
    DEPOT_OPT_STRING(sched_options, args, NULL, .max = 65536, .flags = DEPOT_RELOADABLE,
        .doc = "its arguments, one JSON object"),
    DEPOT_OPT_ENUM(sched_options, overlap, "skip", sched_overlap_names, .flags = DEPOT_RELOADABLE,
        .doc = "when an earlier run is still going anywhere in the group: leave this one out, let it wait, or run both"),
    DEPOT_OPT_ENUM(sched_options, missed, "once", missed_names, .flags = DEPOT_RELOADABLE,
        .doc = "due times that passed while no daemon could run them: leave them out, run once for all of them, or run for "
               "each (the last 1000)"),
    DEPOT_OPT_DURATION(sched_options, timeout, "10m", 1000, 604800000, .flags = DEPOT_RELOADABLE,
        .doc = "deadline of a run; a task's own may be nearer"),
    DEPOT_OPT_BOOL(sched_options, enabled, "yes", .flags = DEPOT_RELOADABLE,
        .doc = "no: it is never due, but can be run by hand"),
};
const depot_section sched_sections[] = {
    { "schedule", true, sizeof(sched_options), DEPOT_TABLE(options),
      "what runs by the clock; in a group of daemons each due time runs once" },
};
const size_t sched_sections_n = DEPOT_N(sched_sections);

const depot_metric sched_metrics[] = {
    { .name = "depot_schedule_runs_total", .kind = DEPOT_COUNTER,
      .labels = (const char *const[]){ "schedule", "status", NULL },
      .doc = "runs of schedules by how they ended: ok, failed, lost, skipped, missed" },
    { .name = "depot_task_runs_total", .kind = DEPOT_COUNTER, .labels = (const char *const[]){ "task", "status", NULL },
      .doc = "runs of housekeeping tasks by how they ended: ok, failed" },
};
const size_t sched_metrics_n = DEPOT_N(sched_metrics);
/* clang-format on */

static bool parse_args(depot_arena *arena, const char *text, const depot_json **out, depot_err *err)
{
    *out = NULL;
    if (text == NULL) {
        return true;
    }
    *out = depot_json_parse(arena, text, strlen(text), err);
    if (*out == NULL) {
        return false;
    }
    return depot_json_typeof(*out) == DEPOT_JSON_OBJECT ||
           DEPOT_FAIL(err, INVALID, "arguments are one JSON object, {...}");
}

/* ---- what has to be looked at before an entry can be used ---- */

static bool make_zone(depot_arena *arena, sched_entry *e, depot_err *err)
{
    return zone_load(arena, e->zone_name, &e->zone, err);
}

static bool make_action(depot_arena *arena, sched_entry *e, depot_err *err)
{
    return action_parse(arena, e->run, &e->act, err);
}

static bool make_args(depot_arena *arena, sched_entry *e, depot_err *err)
{
    const depot_json *args = NULL;

    return parse_args(arena, e->args, &args, err);
}

static bool make_cron(depot_arena *arena, sched_entry *e, depot_err *err)
{
    int64_t due_us;

    (void)arena;
    if (!cron_parse(e->cron_text, &e->when, err)) {
        return false;
    }
    return e->zone == NULL || cron_next(&e->when, e->zone, depot_wall_us(), &due_us) ||
           DEPOT_FAIL(err, INVALID, "\"%s\" is never due in %s", e->cron_text, e->zone_name);
}

static const struct {
    const char *option;
    bool (*make)(depot_arena *arena, sched_entry *e, depot_err *err);
} parts[] = { { "zone", make_zone }, { "run", make_action }, { "args", make_args }, { "cron", make_cron } };

static void entry_init(depot_arena *arena, const char *name, const sched_options *o, sched_entry *out)
{
    *out = (sched_entry){
        .name = depot_strdup(arena, name),
        .cron_text = depot_strdup(arena, o->cron),
        .zone_name = depot_strdup(arena, o->zone),
        .run = depot_strdup(arena, o->run),
        .args = depot_strdup(arena, o->args),
        .overlap = (sched_overlap)o->overlap,
        .missed = (sched_missed)o->missed,
        .jitter_ms = o->jitter,
        .timeout_ms = o->timeout,
        .enabled = o->enabled,
    };
}

bool sched_entry_make(depot_arena *arena, const char *name, const sched_options *o, sched_entry *out,
                      const char **out_option, depot_err *err)
{
    entry_init(arena, name, o, out);
    for (size_t i = 0; i < DEPOT_N(parts); i++) {
        *out_option = parts[i].option;
        if (!parts[i].make(arena, out, err)) {
            return false;
        }
    }
    return true;
}

void sched_check(const sched_env *env, problem_fn *problem, void *arg)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const void                               *now = env->sections();
    const sched_options                      *o;
    const char                               *name;

    for (size_t it = 0; (o = env->next(now, &it, &name)) != NULL;) {
        const depot_json *args = NULL;
        sched_entry       e;
        depot_err         err = { 0 };
        bool              has_action = true;
        entry_init(arena, name, o, &e);
        for (size_t i = 0; i < DEPOT_N(parts); i++) {
            err = (depot_err){ 0 };
            if (!parts[i].make(arena, &e, &err)) {
                problem(arg, name, parts[i].option, &err);
                has_action = has_action && parts[i].make != make_action;
            }
        }
        bool has_args = parse_args(arena, e.args, &args, &err);
        err = (depot_err){ 0 };
        args = args == NULL ? depot_json_object(arena) : args;
        if (has_action && !env->ops->exists(&e.act, has_args ? args : NULL, &err)) {
            problem(arg, name, "run", &err);
        }
    }
}

static size_t count_sections(const sched_env *env, const void *now)
{
    const char *name;
    size_t      n = 0;

    for (size_t it = 0; env->next(now, &it, &name) != NULL;) {
        n++;
    }
    return n;
}

sched_plan *sched_plan_new(const sched_env *env)
{
    sched_plan          *plan = depot_xalloc(sizeof(*plan));
    const void          *now = env->sections();
    size_t               max = count_sections(env, now);
    const sched_options *o;
    const char          *name, *option;

    plan->arena = depot_arena_new();
    plan->entries = depot_alloc(plan->arena, (max + 1) * sizeof(*plan->entries));
    for (size_t it = 0; plan->n < max && (o = env->next(now, &it, &name)) != NULL;) {
        depot_err err = { 0 };
        if (sched_entry_make(plan->arena, name, o, &plan->entries[plan->n], &option, &err)) {
            plan->n++;
            continue;
        }
        depot_wrap(&err, "schedule %s is left out: %s", name, option);
        log_err("core", DEPOT_LOG_ERROR, "schedule.invalid", &err);
    }
    return plan;
}

void sched_plan_free(sched_plan *plan)
{
    if (plan != NULL) {
        depot_arena_free(plan->arena);
        free(plan);
    }
}

sched_entry *sched_plan_find(const sched_plan *plan, const char *name)
{
    for (size_t i = 0; plan != NULL && i < plan->n; i++) {
        if (strcmp(plan->entries[i].name, name) == 0) {
            return &plan->entries[i];
        }
    }
    return NULL;
}

const char *sched_definition(depot_arena *arena, const sched_entry *e)
{
    return depot_strf(arena, "%s %s", cron_format(arena, &e->when), e->zone_name);
}
