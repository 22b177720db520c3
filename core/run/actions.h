/* actions.h - what a schedule or hook may run, and who runs it: the layers above fill in the functions. */
#ifndef RUN_ACTIONS_H
#define RUN_ACTIONS_H

#include "depot/plugin.h"

typedef enum action_kind { ACTION_TASK, ACTION_LUA, ACTION_RUNBOOK, ACTION_JOB } action_kind;

/* "backup.dump", "lua:hooks/report.lua", "runbook:failover", "job:default/thumbs" */
typedef struct action {
    action_kind kind;
    const char *name;  /* task, file, runbook or job type */
    const char *queue; /* JOB */
} action;
/* Fails with INVALID; the hint lists the forms. */
bool action_parse(depot_arena *arena, const char *text, action *out, depot_err *err) DEPOT_MUST_USE;

typedef struct action_job {
    const char       *queue, *type;
    const depot_json *args;
    const char       *key; /* at most one job with this key is ever made; NULL: none */
} action_job;

/* All block until the action has ended (script, task) or is committed (jobs); executor threads only. arg is one JSON object. */
typedef struct action_ops {
    bool (*task)(const char *name, const depot_json *args, depot_arena *arena, const depot_json **out_result,
                 depot_err *err);
    bool (*script)(const char *file, const depot_json *arg, int64_t timeout_ms, depot_arena *arena,
                   const depot_json **out_result, depot_err *err);
    /* All of them or none. */
    bool (*jobs)(const action_job *jobs, size_t n, depot_err *err);
    bool (*runbook)(const char *name, const depot_json *args, depot_err *err);
    /* The members of `names` are the expression's variables. */
    bool (*eval)(const char *expression, const depot_json *names, bool *out, depot_err *err);
    /* For checking conf.d: there is such a task, file or queue, and args (NULL: not known yet) suit the task. */
    bool (*exists)(const action *a, const depot_json *args, depot_err *err);
    bool (*compiles)(const char *expression, depot_err *err); /* likewise: eval could read it */
    /* Those members of an event's payload that the task has arguments for; NULL: all. */
    const depot_json *(*pick)(const char *task, const depot_json *payload, depot_arena *arena);
} action_ops;
bool action_run(const action *a, const action_ops *ops, const depot_json *arg, const char *key, int64_t timeout_ms,
                depot_arena *arena, const depot_json **out_result, depot_err *err) DEPOT_MUST_USE;

/* What is wrong with an option of the section called name, for depotd --check. */
typedef void problem_fn(void *arg, const char *name, const char *option, const depot_err *err);

#endif
