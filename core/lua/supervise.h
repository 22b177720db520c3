/* supervise.h - inside of core/lua, the daemon's side: worker processes and what runs in them. */
#ifndef LUA_SUPERVISE_H
#define LUA_SUPERVISE_H

#include <pthread.h>

#include "lua/channel.h"
#include "lua/scripts.h"
#include "lua/sources.h"
#include "run/child.h"

enum { LISTENERS_MAX = 64 };

/* One set of files and options. Lives as long as a worker that has it, and while it is in force. */
typedef struct generation {
    depot_arena    *arena;
    sources         sources;
    scripts_options opt;
    db_pool_options db;
    const char     *conf; /* packed */
    depot_handler  *handlers; /* once a worker is ready */
    size_t          n_handlers;
    bool            ready, failed;
    int             lost; /* workers that ended while they loaded it */
    depot_err       err;
    size_t          refs;
} generation;

/* A script, or a range of jobs, under way in a worker. */
typedef struct ticket {
    uint64_t id;
    int64_t  started_ms, deadline_ms;
    bool     canceled;
    size_t   room; /* how much of the worker's it takes */
    void (*done)(void *arg, const depot_script_result *res);
    void (*range_done)(void *arg, depot_range_result *res); /* of a range; its jobs' is `done` */
    void          *arg;
    int64_t        first, n, timeout_ms; /* of a range */
    char           label[96];
    depot_buf      said; /* lines of its log, items of a JSON array */
    size_t         n_unsaid; /* there was no room for */
    struct ticket *jobs;     /* of a range: an entry for each job of it that has logged, the last first */
    size_t         jobs_said; /* bytes, of all of them */
    struct ticket *next;
} ticket;

/* ---- ticket.c ---- */
const char *ticket_said(const ticket *t, depot_arena *arena); /* a JSON array; NULL: nothing */
void        ticket_free(ticket *t);
/* The same for the script `id`, if the ticket is its own or that of its range. */
void        ticket_hear(ticket *t, uint64_t id, int64_t level, const char *text, size_t n, const depot_json *fields);
const char *ticket_jobs_said(const ticket *range, depot_arena *arena); /* {"place": lines}; NULL: nothing */
void        ticket_inherit(ticket *t, ticket *range); /* a job that goes on by itself keeps its lines */

typedef enum worker_state { WORKER_STARTING, WORKER_READY, WORKER_RETIRING, WORKER_STOPPING } worker_state;

typedef struct worker_proc {
    struct scripts     *scripts;
    generation         *gen;
    uint64_t            number;
    child               child;
    pid_t               pid; /* also after its end, for messages */
    channel            *channel;
    worker_state        state;
    ticket             *tickets;
    size_t              running; /* the room of all tickets */
    uint64_t            done;
    int64_t             started_ms, beat_ms, state_ms; /* when it got into its state */
    int64_t             rss_bytes;
    bool                hung; /* was killed because it did not answer */
    depot_arena        *metrics_arena;
    const depot_json   *metrics; /* as it told last */
    struct worker_proc *next;
} worker_proc;

typedef struct scripts {
    host     *host;
    loop     *loop;
    /* Runs what scripts emit. Not the executor of everybody: its threads may all wait for scripts that wait for this. */
    executor *emitters;
    pthread_t thread;

    pthread_mutex_t lock; /* guards everything below and the worker_procs; never held while calling out */
    pthread_cond_t  changed;
    worker_proc    *procs;
    generation     *gen;       /* in force; NULL: none yet */
    generation     *candidate; /* being tried; NULL: none */
    uint64_t        last_number, last_id;
    int64_t         backoff_ms, next_start_ms;
    bool            stopping, was_full;
    struct {
        void (*fn)(void *arg);
        void *arg;
    } listeners[LISTENERS_MAX];
    size_t n_listeners;
} scripts;

/* ---- supervise.c: on the supervisor's thread ---- */
void supervise_tick(void *scripts_ptr);     /* starts what is missing, ends what hangs or is not needed any more */
void supervise_stop_all(void *scripts_ptr); /* every worker is to end; those that run something lose it */
void supervise_changed(scripts *s);         /* tells the listeners */

/* ---- frames.c ---- */
void supervise_frame(void *worker_ptr, const wire_frame *frame);

/* ---- under the lock ---- */
int64_t supervise_capacity(const scripts *s);
void    supervise_add(worker_proc *w, ticket *t);
void    supervise_cancel(worker_proc *w, ticket *t);
void    supervise_enough(worker_proc *w, ticket *t); /* no more jobs of that range are to begin */
void    supervise_retire(worker_proc *w);            /* another one takes its place; it ends what it runs */
ticket *supervise_take(worker_proc *w, uint64_t id); /* out of the list; NULL: it is not there */
void    generation_release(generation *g);

/* ---- absorb.c ---- */
/* Adds to our registry what a worker's metrics have grown by since `before` (may be NULL). */
void absorb_metrics(const depot_json *before, const depot_json *after);

#endif
