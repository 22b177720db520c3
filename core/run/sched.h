/* sched.h - schedules: [schedule NAME] sections and plugins' housekeeping tasks, each due time fired exactly once in a group of
 * daemons; state in the database (sql/core: depot.schedule, depot.schedule_run, depot.duty).
 *
 * One per process: sched_start to sched_stop. A due time is claimed as a row of depot.schedule_run; any daemon of the group
 * takes the row, under a lease, and runs the action on its executor. While the database is away nothing fires and nothing is
 * lost: ends of runs wait here, due times are judged by the `missed` policy afterwards. */
#ifndef RUN_SCHED_H
#define RUN_SCHED_H

#include "db/pool.h"
#include "run/actions.h"
#include "run/executor.h"

extern const depot_section
    sched_sections[]; /* [schedule NAME]: cron, zone, jitter, run, args, overlap, missed, timeout, enabled */
extern const size_t        sched_sections_n;
extern const depot_metric  sched_metrics[];
extern const size_t        sched_metrics_n;

typedef struct sched_env {
    db_pool          *db;
    executor         *executor;
    const char       *node;
    const action_ops *ops;
    /* Every [schedule NAME], as in events.h. */
    const void *(*sections)(void);
    const void *(*next)(const void *now, size_t *it, const char **out_name);
    const depot_task_row *(*next_task)(size_t *it);                 /* every task with `every` */
    bool (*emit)(const char *event, const depot_json *payload, depot_err *err); /* schedule.failed, schedule.missed */
    int64_t lease_ms; /* of a run, renewed while it lasts; 0: 60 s */
} sched_env;

/* What conf cannot see by itself: action and zone exist, arguments are an object that suits. Uses next and ops->exists. */
void sched_check(const sched_env *env, problem_fn *problem, void *arg);
/* One service thread that sleeps until the next due time. Copies env; does not wait for the database. */
bool sched_start(const sched_env *env, depot_err *err) DEPOT_MUST_USE;
void sched_reload(void); /* the sections have changed */
void sched_stop(void); /* no new firing; running ones end with the executor */
/* By hand, now, outside the plan, also when switched off; waits for the result. Fails with LOCKED while a run is going,
 * unless overlap is `allow`. */
bool sched_run_now(const char *name, depot_arena *arena, const depot_json **out_result, depot_err *err) DEPOT_MUST_USE;
/* [{name, cron, zone, run, last_due, last_status, last_message, last_duration_ms, next_due, enabled, describe}] */
bool sched_list(depot_arena *arena, depot_json **out, depot_err *err) DEPOT_MUST_USE;

/* Housekeeping of depot.schedule_run; how many rows went. */
bool sched_prune(db_pool *db, int64_t *out_n, depot_err *err) DEPOT_MUST_USE;

/* A duty that only one daemon of the group may hold, judged by database time. Who holds it may take it again: its time
 * then ends ms from now. */
bool duty_take(db_pool *db, const char *name, const char *holder, int64_t ms, bool *out_mine,
               depot_err *err) DEPOT_MUST_USE;

#endif
