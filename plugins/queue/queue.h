/* queue.h - private to the queue plugin. */
#ifndef QUEUE_H
#define QUEUE_H

#include <pthread.h>
#include <stdatomic.h>

#include "depot/svc_queue.h"

enum {
    ID_SIZE = 37,
    SERVED_MAX = 16,
    WORKER_SIZE = 96,
    CHUNK_JOBS = 1024, /* a chunk has at most as many */
    RANGE_US = 100000, /* after which the rest of a range of a C handler is given back */
    FIRST_JOBS = 8,    /* in a range of a job type of which nothing is known */
    HANDOFF_JOBS = 4,  /* of one transaction, at most, that it leases at once */
    RANGES_AHEAD = 8,  /* times as many ranges of chunks as may run, at most; taken when half of them are done */
    PACES_MAX = 128
};

/* [plugin queue] */
typedef struct queue_options {
    const char *const *queues;
    int64_t            lease, batch, c_jobs, reap_interval;
    int64_t            max_payload, max_result, max_enqueue_per_minute;
    int64_t            archive_after, archive_dlq_after, prune_history_after, prune_archive_after, maintenance_interval;
    const char        *encryption_keys;
    bool               verbose;
} queue_options;

/* [queue NAME] */
typedef struct queue_section {
    int64_t lease, max_attempts, max_in_flight, max_attempts_per_minute;
    int64_t backoff_base, backoff_max, backoff_jitter, timeout, max_per_key;
    int64_t archive_succeeded_after, archive_canceled_after, archive_dlq_after;
    bool    paused, key_fifo, encrypt_args;
} queue_section;

/* [limit NAME] */
typedef struct queue_limit {
    const char *rate, *on;
    int64_t     burst;
} queue_limit;

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

/* How many jobs a range of that type is to have. */
typedef struct pace {
    char    type[201];
    int64_t jobs;
} pace;

/* A leased job on its way through this process, or a range of a chunk's jobs under one lease (n > 0): then id is the chunk's, args
 * is the array of their arguments, and first … first + n - 1 are the places. One piece of memory together with its texts. */
typedef struct job {
    struct job   *prev, *next;     /* in the list that it is in */
    bool          is_lua;
    bool          is_lost;     /* the lease has passed to somebody else */
    bool          is_canceled; /* it has been told to end */
    const served *handler;         /* of a job in C */
    int64_t       timeout_ms;
    int64_t       first, n;
    int64_t       begun, took_us; /* of a range that has ended: its jobs that were begun, the time since it was handed out */
    int64_t       room;      /* that it takes of the scripts' capacity: of a range, for those of its jobs that wait */
    bool          has_ended; /* in the list of those */
    bool          was_told;  /* a range, that no more of its jobs are to begin */
    bool          has_going; /* a range, some of whose jobs go on: each of them is a job of its own here, under the same token */
    int64_t       attempt, max_attempts, lease_ms;
    int64_t       beat_ms; /* when to extend the lease */
    int64_t       started_us;
    uint64_t      script_id; /* 0: not known yet */
    depot_buf     result;    /* one object for queue.finish, once it has ended */
    uint64_t     *skipped;   /* of a range, a bit for each place of the chunk that was canceled; NULL: none */
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
    job_list        offered;                /* ranges that handoff.c has leased, for the dispatcher to take in */
    job_list        ended;                  /* have a result that is not written yet */
    int64_t         in_handoff;             /* transactions of handoff.c that are under way */
    int64_t         in_scripts;             /* the room of all that run there */
    bool            draining, drained;      /* take no more; all that waited is among ended */
    atomic_bool     stale_types;            /* what is served may have changed */
    atomic_bool     must_introduce;         /* the database must be told, changed or not */
    atomic_bool     announcing;
    atomic_bool     maintaining;
    atomic_bool     is_unsure;   /* the dispatcher's: a claim's answer was lost, so that there may be leases of ours that we do not know */
    atomic_bool     must_adopt;  /* a claim of handoff.c may have brought leases that nobody knows of */
    _Atomic int64_t lua_pause_ms; /* no scripts until then: the workers refused one */
    atomic_bool     must_cancel; /* somebody cancels a job that runs, perhaps here */

    /* the dispatcher's own; it changes types under the lock, under which others read them */
    types   types;
    int64_t unsure_ms, adopt_ms; /* until when to look for such leases; when to do so next */
    int64_t reap_ms;      /* when to reap next */
    int64_t touch_ms, back_ms; /* last contact with the database; the first one since it was broken */
    int64_t cancel_ms;    /* when to look next for jobs that are to end */
    int64_t maintain_ms;  /* when to archive next */
    pace    paces[PACES_MAX];
    size_t  n_paces;
    int64_t range_us[2];  /* [is_lua] that ranges took of late */
    bool    is_short;     /* the last claim found less than it asked for: jobs of chunks may become rows */
    int64_t exchange_ms;  /* when the database was last asked */
    int64_t poll_wait_ms, retry_wait_ms;
} queue;

extern queue                queue_self; /* one per process: services have no handle argument */
extern const depot_queue_v1 queue_service;

/* enqueue.c */
typedef struct enqueue_more {
    const char *request_id; /* NULL: none */
    int64_t     delay_ms;   /* counts when there is no run_at */
    const char *options;    /* JSON of queue.enqueue_with; NULL: none */
} enqueue_more;
bool enqueue_one(const depot_enqueue *spec, const enqueue_more *more, depot_db *db, char *out_id,
                 depot_err *err) DEPOT_MUST_USE;
bool enqueue_service(const depot_enqueue *spec, depot_db *db, char *out_id, depot_err *err);
bool enqueue_many(const depot_enqueue *jobs, size_t n, depot_db *db, depot_err *err);
bool enqueue_fail_sql(depot_err *err); /* what the database refused as a value becomes INVALID; returns false */
/* Of what a producer gave the members that are options of queue.enqueue_with; NULL: none of them is there. */
depot_json *enqueue_options(depot_arena *arena, const depot_json *given);
/* Of a job as POST /jobs takes it: has it a key, or an option that a row has to keep? */
bool enqueue_is_tied(const depot_json *given);
/* A job as POST /jobs takes it, in the words of queue.enqueue_many; args: as they are stored. request_id: NULL if none */
void enqueue_describe(depot_buf *out, depot_arena *arena, const depot_json *given, const char *args, const char *actor,
                      const char *request_id);
/* Jobs in the words of queue.enqueue_many with arguments as they are stored; NULL: refused. */
depot_json *enqueue_sealed(depot_arena *arena, const depot_json *jobs, depot_err *err) DEPOT_MUST_USE;
/* Jobs as POST /jobs takes them, in the words of queue.enqueue_many. */
bool enqueue_rows(depot_ctx *ctx, depot_arena *arena, const depot_json *jobs, const char *actor, const char **out,
                  depot_err *err) DEPOT_MUST_USE;

/* seal.c: arguments of queues that encrypt them */
bool seal_check(depot_ctx *ctx, depot_err *err) DEPOT_MUST_USE;
/* The arguments of a new job as they are stored: encrypted if its queue says so. NULL: refused. Any thread, daemon or worker. */
const char *seal_args(depot_arena *arena, const char *of_queue, const char *type, const depot_json *args,
                      depot_err *err) DEPOT_MUST_USE;
/* The same for arguments whose size was looked at before; text: them as JSON. */
const char *seal_text(depot_arena *arena, const char *of_queue, const char *type, const depot_json *args, const char *text,
                      depot_err *err) DEPOT_MUST_USE;
/* Stored arguments as the handler sees them. */
bool seal_open(depot_arena *arena, const char *type, const char *args, const char **out, depot_err *err) DEPOT_MUST_USE;

/* limits.c: the sections as rows for the database, JSON */
bool        limits_check(depot_ctx *ctx, depot_err *err) DEPOT_MUST_USE;
const char *limits_policies(depot_ctx *ctx, depot_arena *arena);
const char *limits_rates(depot_ctx *ctx, depot_arena *arena);

/* tend.c: running jobs that are to end, dependencies, the archive */
bool tend_cancel(queue *q, depot_err *err) DEPOT_MUST_USE;
bool tend_dependencies(queue *q, depot_err *err) DEPOT_MUST_USE;
void tend_archive(queue *q);

/* admit.c: for producers outside: size of a payload, jobs a minute and queue. *out_details, of a refusal: its figures, JSON; NULL: it
 * failed otherwise. admit_rate may ask the database. */
bool admit_size(queue *q, depot_arena *arena, size_t payload_size, const char **out_details, depot_err *err) DEPOT_MUST_USE;
bool admit_rate(queue *q, depot_arena *arena, const char *to_queue, const char **out_details, depot_err *err) DEPOT_MUST_USE;
extern const char admit_refuse_sql[]; /* $1: an array of what admit_describe gives */
/* A refusal in the words of queue.refuse; counts it. */
void admit_describe(queue *q, depot_buf *out, depot_arena *arena, const char *to_queue, const char *details, const depot_err *err);
/* Both, and records a refusal. */
bool admit(queue *q, const char *to_queue, size_t payload_size, depot_err *err) DEPOT_MUST_USE;

/* gather.c: POST /jobs */
void gather_start(queue *q);
void gather_stop(void); /* what has come is answered */
bool route_add_job(depot_ctx *ctx, depot_req *req, depot_err *err);

/* Of claimed ranges, what job_new reads. */
#define RANGE_SELECT "select id, token, lo, n, queue, job_type, args, max_attempts, lease_ms, timeout_ms"

/* handoff.c: for gather.c */
typedef struct handoff {
    depot_val  vals[5];
    depot_stmt stmt;
} handoff;
/* The statement that leases as many jobs of the type's kind as the transaction makes of that type. false: there is none, as nobody here is
 * idle; else one of the other two follows. */
bool handoff_prepare(queue *q, depot_arena *arena, const char *of_queue, const char *type, size_t n, handoff *out);
void handoff_done(queue *q, const depot_rows *rows); /* its transaction is committed */
void handoff_failed(queue *q, const depot_err *err); /* it is not, or perhaps */

void queue_wake(void); /* any thread */
bool queue_is_draining(queue *q);

/* dispatch.c: the loop that takes jobs and hands them out */
bool queue_dispatch(depot_ctx *ctx, depot_loop *loop, void *arg, depot_err *err);
/* After its end, which may have cut off a claim that the database has made: that is found, and goes back with the rest. */
bool queue_leave(queue *q, depot_err *err) DEPOT_MUST_USE;
int64_t queue_script_room(queue *q); /* how many more scripts may run; any thread */

/* types.c: what is served here */
bool types_serve(const char *type_glob, depot_job_fn fn, void *arg, depot_err *err);
/* Looks at what is served now and tells the database if it has changed, or if it must be told anyway. */
bool types_refresh(queue *q, depot_err *err) DEPOT_MUST_USE;
int types_kind(queue *q, depot_arena *arena, const char *type); /* 0: C code serves it, 1: a script, -1: nobody here; any thread */
/* Whose work it is: sets is_lua, handler, timeout_ms. false: nobody's any more. */
bool types_assign(queue *q, job *j);

/* One more item of an array of PostgreSQL, and all of it. */
void        types_add_item(depot_buf *out, const char *text);
const char *types_array(depot_arena *arena, const depot_buf *items);

/* pace.c: the dispatcher's */
void pace_learn(queue *q, const job *range); /* that has ended */
/* How many ranges may be taken for each that can run, so that the last of them waits here no longer than RANGE_US: others may be idle. */
int64_t pace_ahead(const queue *q, bool is_lua);
/* Types, and how many jobs of each a range is to have: two arrays for queue.claim_chunks. */
void pace_describe(const queue *q, depot_arena *arena, const char **out_types, const char **out_jobs);

/* job.c */
job *job_new(const depot_rows *rows, size_t row, bool is_range);
/* Places of a range that are not to be begun, as somebody has canceled them; q->lock is held. */
void job_skip(job *j, int64_t place);
bool job_is_skipped(const job *j, int64_t place);
void job_free(job *j);
void job_push(job_list *list, job *j);
void job_take(job_list *list, job *j);
bool job_run(queue *q, job *j, depot_err *err) DEPOT_MUST_USE; /* hands it out; false: it was not begun */
void job_end(queue *q, job *j);                                /* it has a result */
/* What queue.finish is told of an error: {outcome, code, message, …}. */
depot_json *job_failure(depot_arena *arena, const depot_err *err, const char *place, const char *trace, int64_t cpu_us,
                        bool draining);
/* The result as it is kept: of one that is too large, only its size. */
const char *job_result_text(queue *q, depot_arena *arena, const char *result);
depot_json *job_outcome(depot_arena *arena, const depot_script_result *res, bool draining); /* the same of a script */
/* JSON of somebody else, which is not read again, as one more member of the job's result; NULL: none. */
void job_add_member(job *j, const char *name, const char *json);
void job_set_failed(job *j, const depot_err *err, bool draining);
void job_set_released(job *j); /* was never begun */
bool job_canceled(const depot_job *seen);

/* A job of a range that goes on by itself; the database has it as a row once the range's answer is there. */
job *job_of_range(const job *range, int64_t place);
void job_set_script(queue *q, job *j, uint64_t id, int64_t room); /* it was handed out */
void job_end_script(queue *q, job *j, const depot_script_result *res);

/* range.c: the jobs of a range, one after the other */
void range_run(depot_ctx *ctx, void *job_ptr);
void range_set_released(job *j);                                    /* none was begun */
void range_set_failed(job *j, const depot_err *err, bool draining); /* all fail by it */
/* What is answered for a range: members of JSON arrays. */
typedef struct range_answers {
    depot_buf   others, going, results;
    int64_t     begun, with_result; /* begun: answered for */
    int64_t     busy_us;
    const char *logs; /* an object, {place: lines}; NULL: nobody has logged */
} range_answers;
void range_answers_drop(range_answers *a);
void range_add_other(range_answers *a, depot_arena *arena, int64_t place, depot_json *outcome);
void range_add_result(range_answers *a, const char *text); /* of the next place; NULL: none */
void range_add_success(queue *q, range_answers *a, depot_arena *arena, int64_t place, const char *text); /* the same, as long as it can be kept */
void range_answer(job *j, const range_answers *a);
int64_t range_place(const job *j, const char *id); /* -1: it is not of that range, or j is none */

/* lua_range.c: in a worker process */
bool lua_range_run(queue *q, job *j, depot_err *err) DEPOT_MUST_USE;
void lua_range_stop_beginning(queue *q); /* all that run */

/* finish.c: results to the database */
extern const char finish_sql[]; /* $1, $2: what finish_collect gives */
typedef struct finish_batch {
    size_t    n;            /* of `ended`, from its beginning: they stay there until they are settled */
    depot_buf jobs, chunks; /* one JSON array each; empty: there are none of that kind */
} finish_batch;
void finish_collect(queue *q, finish_batch *out);
void finish_batch_drop(finish_batch *b);
void finish_settle(queue *q, size_t n, const depot_rows *rows); /* the database has judged the first n */
bool finish_one_by_one(queue *q, size_t n, depot_err *err) DEPOT_MUST_USE;  /* it refuses them as a batch */
bool finish_all(queue *q, int64_t until_ms, depot_err *err) DEPOT_MUST_USE; /* at the stop: everything that is left */

/* care.c: leases kept alive, lost ones reaped, the dead announced */
bool    care_heartbeat(queue *q, depot_err *err) DEPOT_MUST_USE;
bool    care_reap(queue *q, depot_err *err) DEPOT_MUST_USE;
void    care_announce(queue *q);
int64_t care_due_ms(queue *q); /* when the next of them is due */

/* routes.c, lua.c, stats.c */
extern const depot_route  queue_routes[22];
extern const depot_lua_fn queue_lua[8];
void                      queue_scrape(depot_ctx *ctx);

/* policies.c, bulk.c: handlers of routes */
bool route_get_policy(depot_ctx *ctx, depot_req *req, depot_err *err);
bool route_set_policy(depot_ctx *ctx, depot_req *req, depot_err *err);
bool route_clear_policy(depot_ctx *ctx, depot_req *req, depot_err *err);
bool route_pause(depot_ctx *ctx, depot_req *req, depot_err *err);
bool route_resume(depot_ctx *ctx, depot_req *req, depot_err *err);
bool route_seed(depot_ctx *ctx, depot_req *req, depot_err *err);
bool route_reset(depot_ctx *ctx, depot_req *req, depot_err *err);
bool route_bulk(depot_ctx *ctx, depot_req *req, depot_err *err);
bool route_enqueue_many(depot_ctx *ctx, depot_req *req, depot_err *err);
bool route_make_batch(depot_ctx *ctx, depot_req *req, depot_err *err);
bool route_show_batch(depot_ctx *ctx, depot_req *req, depot_err *err);
/* Sends the one JSON document that a statement gives; SQL null means that there is no such `what`. */
bool route_document(depot_ctx *ctx, depot_req *req, const char *what, const char *sql, const depot_val *vals, size_t n,
                    depot_err *err);
const char *route_arg(depot_req *req, const char *name);

#endif
