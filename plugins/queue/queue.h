/* queue.h - private to the queue plugin. */
#ifndef QUEUE_H
#define QUEUE_H

#include <pthread.h>
#include <stdatomic.h>

#include "depot/svc_queue.h"

enum { ID_SIZE = 37, SERVED_MAX = 16, WORKER_SIZE = 96 };

/* [plugin queue] */
typedef struct queue_options {
    const char *const *queues;
    int64_t            lease, batch, c_jobs, reap_interval;
    int64_t            max_payload, max_result, max_enqueue_per_minute;
} queue_options;

/* [queue NAME] */
typedef struct queue_section {
    int64_t lease, max_attempts, max_in_flight, max_attempts_per_minute;
    bool    paused;
} queue_section;

/* A C handler. */
typedef struct served {
    const char  *glob;
    depot_job_fn fn;
    void        *arg;
} served;

/* What a script has declared. */
typedef struct script_type {
    const char *name;
    int64_t     timeout_ms;
} script_type;

/* What this process serves, as it was told to the database. Texts are PostgreSQL arrays. */
typedef struct types {
    depot_arena *arena; /* of the rest */
    script_type *scripts;
    size_t       n_scripts;
    const char  *of[2]; /* [is_lua] */
    const char  *all;
    const char  *queues;   /* that are taken; NULL: all */
    const char  *handlers; /* JSON for queue.hello */
} types;

/* A leased job on its way through this process. One piece of memory together with its texts. */
typedef struct job {
    struct job   *prev, *next;     /* in the list that it is in */
    bool          is_lua, is_lost; /* lost: the lease has passed to somebody else */
    const served *handler;         /* of a job in C */
    int64_t       timeout_ms;
    int64_t       attempt, max_attempts, lease_ms;
    int64_t       beat_ms; /* when to extend the lease */
    int64_t       started_us;
    uint64_t      script_id; /* 0: not known yet */
    depot_buf     result;    /* one object for queue.finish, once it has ended */
    const char   *queue, *type, *args;
    char          id[ID_SIZE], token[ID_SIZE];
} job;

typedef struct job_list {
    job   *first, *last;
    size_t n;
} job_list;

typedef struct queue {
    depot_ctx *ctx;
    char       instance[ID_SIZE];   /* of the state folder */
    char       worker[WORKER_SIZE]; /* of this start: "node#1f3c9a20" */

    pthread_mutex_t lock; /* guards what follows, down to drained; the core is not called under it, as it calls back */
    pthread_cond_t  quiet;
    depot_loop     *loop; /* NULL: not running */
    served          served[SERVED_MAX];
    size_t          n_served;
    job_list        waiting[2], running[2]; /* [is_lua] */
    job_list        ended;                  /* have a result that is not written yet */
    bool            draining, drained;      /* take no more; all that waited is among ended */
    atomic_bool     stale_types;            /* what is served may have changed */
    atomic_bool     must_introduce;         /* the database must be told, changed or not */
    atomic_bool     announcing;

    /* the dispatcher's own */
    types   types;
    bool    is_unsure;    /* a claim's answer was lost: there may be leases of ours that we do not know */
    int64_t reap_ms;      /* when to reap next */
    int64_t lua_pause_ms; /* no scripts until then: the workers refused one */
    int64_t poll_wait_ms, retry_wait_ms;
} queue;

extern queue                queue_self; /* one per process: services have no handle argument */
extern const depot_queue_v1 queue_service;

/* enqueue.c */
typedef struct enqueue_more {
    const char *request_id; /* NULL: none */
    int64_t     delay_ms;   /* counts when there is no run_at */
} enqueue_more;
bool enqueue_one(const depot_enqueue *spec, const enqueue_more *more, depot_db *db, char *out_id,
                 depot_err *err) DEPOT_MUST_USE;
bool enqueue_service(const depot_enqueue *spec, depot_db *db, char *out_id, depot_err *err);
bool enqueue_many(const depot_enqueue *jobs, size_t n, depot_db *db, depot_err *err);
bool enqueue_fail_sql(depot_err *err); /* what the database refused as a value becomes INVALID; returns false */

/* admit.c: for producers outside: size and rate; refusals are recorded */
bool admit(queue *q, const char *to_queue, const depot_json *payload, depot_err *err) DEPOT_MUST_USE;

void queue_wake(void); /* any thread */

/* dispatch.c: the loop that takes jobs and hands them out */
bool queue_dispatch(depot_ctx *ctx, depot_loop *loop, void *arg, depot_err *err);

/* types.c: what is served here */
bool types_serve(const char *type_glob, depot_job_fn fn, void *arg, depot_err *err);
/* Looks at what is served now and tells the database if it has changed, or if it must be told anyway. */
bool types_refresh(queue *q, depot_err *err) DEPOT_MUST_USE;
/* Whose work it is: sets is_lua, handler, timeout_ms. false: nobody's any more. */
bool types_assign(queue *q, job *j);

/* job.c */
job *job_new(const depot_rows *rows, size_t row);
void job_free(job *j);
void job_push(job_list *list, job *j);
void job_take(job_list *list, job *j);
bool job_run(queue *q, job *j, depot_err *err) DEPOT_MUST_USE; /* hands it out; false: it was not begun */
void job_set_failed(job *j, const depot_err *err, const char *place, const char *trace, int64_t cpu_us, bool draining);
void job_set_released(job *j); /* was never begun */

/* finish.c: results to the database */
extern const char finish_sql[]; /* $1: what finish_collect gives */
/* The first results as one JSON array, and how many they are; they stay in `ended` until they are settled. */
size_t finish_collect(queue *q, depot_buf *out);
void   finish_settle(queue *q, size_t n, const depot_rows *rows);             /* the database has judged the first n */
bool   finish_one_by_one(queue *q, size_t n, depot_err *err) DEPOT_MUST_USE;  /* it refuses them as a batch */
bool   finish_all(queue *q, int64_t until_ms, depot_err *err) DEPOT_MUST_USE; /* at the stop: everything that is left */

/* care.c: leases kept alive, lost ones reaped, the dead announced */
bool    care_heartbeat(queue *q, depot_err *err) DEPOT_MUST_USE;
bool    care_reap(queue *q, depot_err *err) DEPOT_MUST_USE;
void    care_announce(queue *q);
int64_t care_due_ms(queue *q); /* when the next of them is due */

/* routes.c, lua.c, stats.c */
extern const depot_route  queue_routes[10];
extern const depot_lua_fn queue_lua[7];
void                      queue_scrape(depot_ctx *ctx);

#endif
