/* async_parts.h - what async.c (requests and who runs next) and async_link.c (connections on the loop) know of each
 * other. Everything belongs to the loop's thread, but for a connect_job while it is on the thread pool. */
#ifndef DB_ASYNC_PARTS_H
#define DB_ASYNC_PARTS_H

#include <stdatomic.h>

#include "db/async.h"
#include "db/exec.h"

typedef struct async_link async_link;

typedef enum request_kind { REQUEST_SINGLE, REQUEST_BEGIN, REQUEST_SQL, REQUEST_COMMIT, REQUEST_ROLLBACK } request_kind;

struct db_request {
    db_request   *next; /* in the queue that it waits in, or in the list of finished ones */
    db_async     *a;
    db_async_tx  *tx;      /* NULL: SINGLE */
    async_link   *on;      /* runs there */
    request_kind  kind;
    depot_arena  *scratch; /* of the copies */
    depot_stmt    stmts[3];
    size_t        n;
    depot_tx      settings;
    depot_arena  *arena;
    int64_t       deadline_ms; /* INT64_MAX: none */
    int64_t       wait_until_ms; /* for a connection */
    bool          is_finished;
    db_async_done done; /* NULL: nobody waits */
    void         *arg;
    depot_rows   *rows;
    depot_err     err; /* code OK: it succeeded */
};

typedef struct request_queue {
    db_request *first, *last;
    size_t      n;
} request_queue;

struct db_async_tx {
    db_async     *a;
    async_link   *on;    /* NULL: not begun, or its connection is lost */
    db_request   *begin; /* while it waits or runs */
    request_queue queue; /* after the one that runs */
    bool          lost;
    depot_err     why_lost;
};

/* One connection on the loop. */
struct async_link {
    async_link  *next;
    db_async    *a;
    depot_db    *db;
    uv_poll_t    poll;
    int          events; /* that poll looks for */
    db_request  *current;
    db_async_tx *tx; /* it is held for */
    db_run       run;
    db_cancel   *cancel;
    int64_t      stop_at_ms; /* deadline of current, then the end of the grace that a cancel gives */
    bool         closing;
};

typedef struct connect_job {
    uv_work_t   work;
    db_async   *a;
    char       *url, *name;
    db_limits   limits;
    int64_t     timeout_ms;
    atomic_bool canceled; /* set by the loop, read on the thread pool */
    depot_db   *db;
    depot_err   err;
} connect_job;

struct db_async {
    uv_loop_t    *loop;
    uv_timer_t    timer; /* the next thing that time brings about */
    char         *url, *name;
    size_t        max, queue_max;
    int64_t       connect_ms, acquire_ms;
    db_limits     limits;
    async_link   *links;
    size_t        open;       /* links */
    connect_job  *connecting; /* one at a time: it may occupy a thread of libuv's pool for long */
    request_queue waiting;    /* for a connection */
    request_queue finished;   /* done is to be called */
    bool          healthy, is_delivering;
    int64_t       backoff_ms, retry_at_ms;
    depot_err     last_error;
    size_t        handles; /* of libuv that are not closed yet */
    bool          closing;
    void (*closed)(void *arg);
    void         *closed_arg;
};

/* async.c */
void async_queue_put(request_queue *queue, db_request *r);
void async_request_end(db_request *r, depot_rows *rows, const depot_err *err);
/* Calls done of what is finished, starts what can start, sets the timer. From callbacks of libuv only. */
void async_deliver(db_async *a);
void async_maybe_free(db_async *a);

/* async_link.c */
async_link *async_link_add(db_async *a, depot_db *db); /* NULL: libuv refused the socket, db is closed */
void        async_link_close(async_link *l);
void        async_link_start(async_link *l, db_request *r);
void        async_link_stop(async_link *l, depot_code reason); /* what runs there is to end */
void        async_link_time(async_link *l, int64_t now_ms);    /* acts when stop_at_ms is over */

#endif
