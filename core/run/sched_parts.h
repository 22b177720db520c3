/* sched_parts.h - the scheduler's own structs, for the files core/run/sched*.c and their tests. */
#ifndef RUN_SCHED_PARTS_H
#define RUN_SCHED_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "run/cron.h"
#include "run/sched.h"

typedef enum sched_overlap { OVERLAP_SKIP, OVERLAP_QUEUE, OVERLAP_ALLOW } sched_overlap;
typedef enum sched_missed { MISSED_NONE, MISSED_ONCE, MISSED_ALL } sched_missed;

extern const char *const sched_overlap_names[];

enum {
    SCHED_CATCH_UP_MAX = 1000,  /* due times that `missed = all` makes up for at most */
    SCHED_PENDING_MAX = 100,    /* runs of one schedule that may wait */
    SCHED_COUNT_MAX = 10000,    /* missed due times are counted up to here */
    SCHED_LATE_MS = 60000,      /* a due time that is later than this was missed */
    SCHED_LEASE_MS = 60000,     /* of a run; renewed three times as often */
    SCHED_POLL_MS = 30000,      /* the longest sleep: what other daemons left, a step of the database's clock */
};

/* What a [schedule NAME] section fills. */
typedef struct sched_options {
    const char *cron, *zone, *run, *args;
    int64_t     jitter, overlap, missed, timeout;
    bool        enabled;
} sched_options;

/* One schedule, ready to be judged. The last part changes and belongs to the service thread. */
typedef struct sched_entry {
    const char   *name, *cron_text, *zone_name, *run, *args; /* args: JSON text or NULL */
    cron          when;
    const zone   *zone;
    action        act;
    sched_overlap overlap;
    sched_missed  missed;
    int64_t       jitter_ms, timeout_ms;
    bool          enabled;

    bool    known; /* the database has a row of it */
    int64_t cursor_us; /* every due time up to here has been decided */
    int64_t pending, catch_up, running; /* rows: waiting, waiting to be made up for, going */
} sched_entry;

typedef struct sched_plan {
    depot_arena *arena;
    sched_entry *entries;
    size_t       n;
} sched_plan;

/* A due time that becomes a row of depot.schedule_run. */
typedef struct sched_claim {
    int64_t     due_us;
    const char *status; /* pending, missed or skipped */
    bool        catch_up;
    int64_t     passed_over;
    const char *message; /* NULL: none */
} sched_claim;
typedef struct sched_decision {
    sched_claim *claims;
    size_t       n;      /* 0: nothing is due */
    int64_t      to_us;  /* the cursor from here on */
    int64_t      missed; /* due times that nothing makes up for */
} sched_decision;

/* One run, from the wish to take it until its end stands in the database. */
typedef struct sched_run {
    struct sched *sched;
    depot_arena  *arena;
    const char   *name;
    action        act;
    const char   *args;
    sched_overlap overlap;
    int64_t       timeout_ms;
    char          token[37];
    int64_t       id, due_us;
    bool          by_hand;
    bool          ended; /* guarded by sched.lock: the service thread records the end */
    bool          ok;
    bool          again; /* the database went away before its job was made: any daemon takes it again */
    const depot_json *result; /* may be NULL */
    depot_err     err;
    struct sched_run *next;
} sched_run;

/* What takes the pending runs of one schedule, one at a time. The token lasts until an answer came. */
typedef struct sched_taker {
    char   *name;
    char    token[37];
    bool    busy;
    int64_t not_before_ms;
    struct sched_taker *next;
} sched_taker;

/* A housekeeping task of this daemon. Belongs to the service thread, but for busy. */
typedef struct sched_task {
    struct sched         *sched;
    const depot_task_row *row;
    int64_t               every_ms, due_ms;
    atomic_bool           busy;
    struct sched_task    *next;
} sched_task;

typedef struct sched {
    sched_env env;
    char     *node, *holder; /* holder: this start of this daemon, for duties */

    pthread_mutex_t lock; /* guards what follows */
    run_service    *service; /* NULL: stopped */
    sched_plan     *plan;    /* replaced by the service thread only */
    sched_taker    *takers;
    sched_run      *runs;    /* begun, end not recorded yet */
    bool            reload, ready; /* ready: the database has been asked once */

    atomic_size_t refs;

    /* the service thread's own */
    sched_task *tasks;
    bool        synced, away;
    int64_t     backoff_ms, retry_at_ms;
    int64_t     offset_us; /* database clock minus depot_now_us() */
} sched;

/* ---- sched.c: life cycle and the service thread ---- */
sched *sched_new(const sched_env *env);
void   sched_begin(sched *s); /* starts the service thread */
void   sched_reread(sched *s); /* the sections have changed */
void   sched_end(sched *s); /* ends the service thread; running actions go on. Gives up the caller's reference */
void   sched_ref(sched *s);
void   sched_unref(sched *s);
void   sched_wake(sched *s);

/* ---- sched_plan.c: sections to entries ---- */
/* On failure *out_option names the option that is wrong. */
bool        sched_entry_make(depot_arena *arena, const char *name, const sched_options *o, sched_entry *out,
                             const char **out_option, depot_err *err) DEPOT_MUST_USE;
sched_plan *sched_plan_new(const sched_env *env); /* what is wrong is logged and left out */
void        sched_plan_free(sched_plan *plan);
sched_entry *sched_plan_find(const sched_plan *plan, const char *name);
/* Changes when due times change: "5 3 * * * UTC". */
const char *sched_definition(depot_arena *arena, const sched_entry *e);

/* ---- sched_due.c: pure functions of time ---- */
/* When a due time fires: jitter added, but before the next due time. */
int64_t sched_fire_us(const sched_entry *e, int64_t due_us);
/* The due times after e->cursor_us whose time has come by now_us, judged by the missed policy. */
sched_decision sched_decide(const sched_entry *e, int64_t now_us, depot_arena *arena);
/* When to look again: the first due time after the cursor fires then. false: never. */
bool sched_next_fire(const sched_entry *e, int64_t *out_us);

/* ---- sched_store.c: statements ---- */
bool store_sync(sched *s, depot_err *err) DEPOT_MUST_USE;
/* Renews leases, closes what was lost, reads cursors and counts; fills entries and s->offset_us. */
bool store_look(sched *s, int64_t *out_now_us, depot_err *err) DEPOT_MUST_USE;
bool store_claim(sched *s, sched_entry *e, const sched_decision *d, bool *out_mine, depot_err *err) DEPOT_MUST_USE;
bool store_take(sched_run *r, bool *out_taken, depot_err *err) DEPOT_MUST_USE;
bool store_take_by_hand(sched_run *r, depot_err *err) DEPOT_MUST_USE;
/* Its end, or that it waits again. */
bool store_finish(const sched_run *r, depot_err *err) DEPOT_MUST_USE;

/* ---- sched_run.c: taking and running ---- */
bool run_offer(sched *s, const sched_entry *e, depot_err *err) DEPOT_MUST_USE; /* a thread takes the next pending run */
bool run_record_ended(sched *s, depot_err *err) DEPOT_MUST_USE; /* ends that the database has not taken yet */
void run_forget_ended(sched *s); /* frees what run_record_ended could not record */
bool run_by_hand(sched *s, const char *name, depot_arena *arena, const depot_json **out_result,
                 depot_err *err) DEPOT_MUST_USE;
void run_takers_free(sched *s);
/* schedule.failed or schedule.missed, from a thread of the executor. */
void run_emit(sched *s, const char *event, const char *name, int64_t due_us, const char *code, const char *message);

/* ---- sched_task.c: housekeeping ---- */
void    task_load(sched *s);
int64_t task_run_due(sched *s); /* how long until the next one is due */
void    task_free(sched *s);

/* ---- sched_list.c ---- */
bool sched_list_of(sched *s, depot_arena *arena, depot_json **out, depot_err *err) DEPOT_MUST_USE;

#endif
