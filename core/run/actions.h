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
bool action_parse(depot_arena *arena, const char *text, action *out, depot_err *err) DEPOT_MUST_USE;

/* All block until the action has ended (script, task) or is committed (job); executor threads only. arg is one JSON object. */
typedef struct action_ops {
    bool (*task)(const char *name, const depot_json *args, depot_arena *arena, const depot_json **out_result, depot_err *err);
    bool (*script)(const char *file, const depot_json *arg, int64_t timeout_ms, depot_arena *arena, const depot_json **out_result,
                   depot_err *err);
    /* key: at most one job with this key is ever made (NULL: none). */
    bool (*job)(const char *queue, const char *type, const depot_json *args, const char *key, depot_err *err);
    bool (*runbook)(const char *name, const depot_json *args, depot_err *err);
    bool (*eval)(const char *expression, const depot_json *arg, bool *out, depot_err *err);
    bool (*exists)(const action *a, depot_err *err); /* for checking conf.d: a task or file of that name is there */
} action_ops;
bool action_run(const action *a, const action_ops *ops, const depot_json *arg, const char *key, int64_t timeout_ms,
                depot_arena *arena, const depot_json **out_result, depot_err *err) DEPOT_MUST_USE;

#endif
