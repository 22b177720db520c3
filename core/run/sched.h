/* sched.h - schedules: [schedule NAME] sections and plugins' housekeeping tasks, each due time fired exactly once in a group of
 * daemons; state in the database (sql/core: depot.schedule, depot.schedule_run, depot.duty). */
#ifndef RUN_SCHED_H
#define RUN_SCHED_H

#include "db/pool.h"
#include "run/actions.h"
#include "run/executor.h"

extern const depot_section sched_sections[]; /* [schedule NAME]: cron, zone, jitter, run, args, overlap, missed, timeout, enabled */
extern const size_t        sched_sections_n;

typedef struct sched_env {
    db_pool          *db;
    executor         *executor;
    const char       *node;
    const action_ops *ops;
    const void *(*next)(size_t *it, const char **out_name);         /* every [schedule NAME] */
    const depot_task_row *(*next_task)(size_t *it);                 /* every task with `every` */
    bool (*emit)(const char *event, const depot_json *payload, depot_err *err); /* schedule.failed, schedule.missed */
} sched_env;

bool sched_check(const sched_env *env, depot_err *err) DEPOT_MUST_USE;
bool sched_start(const sched_env *env, depot_err *err) DEPOT_MUST_USE; /* one service thread that sleeps until the next due time */
void sched_reload(void);
void sched_stop(void); /* no new firing; running ones end with the executor */
/* By hand, now, outside the plan; waits for the result. */
bool sched_run_now(const char *name, depot_arena *arena, const depot_json **out_result, depot_err *err) DEPOT_MUST_USE;
/* [{name, cron, zone, run, last_due, last_status, last_message, last_duration_ms, next_due, enabled, describe}] */
bool sched_list(depot_arena *arena, depot_json **out, depot_err *err) DEPOT_MUST_USE;

/* A duty that only one daemon of the group may hold, judged by database time. */
bool duty_take(db_pool *db, const char *name, const char *holder, int64_t ms, bool *out_mine, depot_err *err) DEPOT_MUST_USE;

#endif
