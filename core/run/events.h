/* events.h - the event bus: who emits is decoupled from who reacts.
 *
 * Reactions are [hook NAME] sections (on, when, run, durable, timeout) and plugins' subscriptions. Durable hooks are committed
 * as jobs of the queue `hooks` before emit returns; the others run on the executor afterwards. */
#ifndef RUN_EVENTS_H
#define RUN_EVENTS_H

#include "db/pool.h"
#include "run/actions.h"
#include "run/executor.h"

extern const depot_section events_sections[]; /* [hook NAME] */
extern const size_t        events_sections_n;

typedef struct events_env {
    executor         *executor;
    const action_ops *ops;
    /* Payload of a declared event against its row; unknown events pass (operators make up their own). */
    bool (*check)(const char *event, const depot_json *payload, depot_arena *arena, depot_err *err);
    /* Calls each C subscription whose glob matches. */
    void (*deliver)(const depot_event *event);
    /* Every [hook NAME]: for (it = 0; (section = next(&it, &name));) */
    const void *(*next)(size_t *it, const char **out_name);
} events_env;

void events_open(const events_env *env); /* copies */
/* Rules that conf alone cannot see: action exists, durable needs the queue, glob sane. For the core's check(). */
bool events_check(const events_env *env, depot_err *err) DEPOT_MUST_USE;
bool events_emit(const char *event, const depot_json *payload, depot_err *err) DEPOT_MUST_USE; /* blocks; any thread but the loop */
/* A durable hook's job has been leased: run the hook. arg = {hook, event, id, payload}. */
bool events_run_durable(const depot_json *arg, depot_arena *arena, depot_err *err) DEPOT_MUST_USE;
depot_json *events_status(depot_arena *arena); /* hooks: name, on, run, durable, runs, failures, last */
void events_close(void);

#endif
