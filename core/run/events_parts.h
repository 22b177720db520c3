/* events_parts.h - inside of the event bus, for the files core/run/events*.c and their tests. */
#ifndef RUN_EVENTS_PARTS_H
#define RUN_EVENTS_PARTS_H

#include <stdatomic.h>

#include "run/events.h"

enum {
    EVENTS_DEPTH_MAX = 16, /* events that hooks of hooks cause one after the other */
    EVENTS_QUEUED_MAX = 256,
    EVENTS_NAME_MAX = 128,
};

/* What a [hook NAME] section fills. */
typedef struct hook_options {
    const char *on, *when, *run, *args;
    int64_t     timeout;
    bool        durable, enabled;
} hook_options;

/* One hook, ready to run. */
typedef struct hook {
    const char *name, *when, *args; /* when, args: NULL: none */
    action      act;
    int64_t     timeout_ms;
    bool        durable;
} hook;

struct depot_event {
    depot_arena      *arena;
    const char       *name, *id, *at;
    const char       *text;    /* of the payload, for the threads that it is handed to */
    const depot_json *payload; /* of one thread: JSON values count their uses */
    int               depth; /* of the hook that emitted it; 0: none did */
    atomic_size_t     refs;
};

/* ---- hook.c ---- */
/* On failure *out_option names the option that is wrong. */
bool hook_make(depot_arena *arena, const char *name, const hook_options *o, hook *out, const char **out_option,
               depot_err *err) DEPOT_MUST_USE;
/* The variable `event` of expressions, and what scripts get: {name, id, at, args?} and the payload's other members. */
depot_json *hook_event_json(depot_arena *arena, const depot_event *event, const char *args);
/* Whether `when` holds; true without one. */
bool hook_judge(const hook *h, const action_ops *ops, const depot_event *event, bool *out,
                depot_err *err) DEPOT_MUST_USE;
/* Runs the action within the hook's timeout. */
bool hook_act(const hook *h, const action_ops *ops, const depot_event *event, depot_arena *arena,
              depot_err *err) DEPOT_MUST_USE;
/* The job that a durable hook becomes: a job of the queue `hooks`, or straight the one that it would make itself.
 * judged: `when` was found to hold. */
bool hook_job(const hook *h, const depot_event *event, bool judged, depot_arena *arena, action_job *out, depot_err *err)
    DEPOT_MUST_USE;

#endif
