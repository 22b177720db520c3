/* events.h - the event bus: who emits is decoupled from who reacts.
 *
 * Reactions are [hook NAME] sections (on, when, run, args, durable, timeout) and plugins' subscriptions. Durable hooks are
 * committed as jobs before emit returns; the others run on the executor afterwards, in no particular order. One bus per
 * process. */
#ifndef RUN_EVENTS_H
#define RUN_EVENTS_H

#include "run/actions.h"
#include "run/executor.h"

extern const depot_section events_sections[]; /* [hook NAME] */
extern const size_t        events_sections_n;
extern const depot_metric  events_metrics[];
extern const size_t        events_metrics_n;

typedef struct events_env {
    executor         *executor;
    const action_ops *ops;
    /* The row of a declared event; NULL: operators make up their own. */
    const depot_event_row *(*row)(const char *event);
    /* Payload of an event against its row; unknown events pass. */
    bool (*check)(const char *event, const depot_json *payload, depot_arena *arena, depot_err *err);
    bool (*wanted)(const char *event);            /* some C subscription matches it */
    void (*deliver)(const depot_event *event);    /* calls each C subscription whose glob matches */
    /* Every [hook NAME]: for (now = sections(), it = 0; (section = next(now, &it, &name));) A walk sees the sections of its
     * beginning, whatever a reload does meanwhile. */
    const void *(*sections)(void);
    const void *(*next)(const void *now, size_t *it, const char **out_name);
    size_t parallel; /* hooks at a time on the executor; 0: 4 */
} events_env;

void events_open(const events_env *env); /* copies */
/* Rules that conf alone cannot see: action exists, arguments are an object, durable needs the queue. Uses next and
 * ops->exists; needs no events_open. */
void events_check(const events_env *env, problem_fn *problem, void *arg);
/* Blocks until durable hooks are committed, all of them or none; any thread but the loop. When more hooks wait for the
 * executor than it may hold, the emitter runs its own, which slows it down to what can be done. Fails with INVALID for
 * a name or payload that cannot be, with LIMIT when hooks of hooks emit without end. */
bool events_emit(const char *event, const depot_json *payload, depot_err *err) DEPOT_MUST_USE;
/* A durable hook's job has been leased: run the hook. arg is what events_emit put into the job. */
bool events_run_durable(const depot_json *arg, depot_arena *arena, depot_err *err) DEPOT_MUST_USE;
/* [{name, on, when, run, durable, enabled, runs, failures, last_at, last_message}], counted since the start. */
depot_json *events_status(depot_arena *arena);
/* From here on the emitter runs hooks itself; the executor still runs what was handed to it. */
void events_close(void);

#endif
