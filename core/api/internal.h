/* internal.h - the API's own state and a request's, for the files of core/api only. */
#ifndef API_INTERNAL_H
#define API_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "api/api.h"
#include "api/auth.h"
#include "api/ring.h"
#include "api/route.h"

enum { API_ROUTE_METRICS = 1u << 16 }; /* own routes: open to anybody where the limits say so */

typedef struct api {
    host         *host;
    depot_ctx    *core; /* speaks in logs and metrics */
    depot_arena  *arena;
    route_index  *routes;
    auth         *auth;
    executor     *streams; /* uploads and LONG routes: slow clients must not hold the threads of everybody else */
    char         *openapi; /* text; tables do not change while the process lives */
    atomic_llong  max_body, request_timeout_ms;
    atomic_bool   metrics_open, ready;
    atomic_llong  in_flight;
    atomic_ulong  next_id;      /* of requests */
    char          id_prefix[9];
    int64_t       started_ms;
    pthread_mutex_t lock; /* guards why */
    char            why[256];
    struct later   *later; /* requests whose reply comes later */
} api;

extern api *api_self; /* set by api_open, cleared by api_close; NULL elsewhere */

/* Why the API is not ready; "" when it is. */
void api_why(char out[256]);
/* Runs fn(arg) on the executor of the process. */
bool api_submit(void (*fn)(void *arg), void *arg, depot_err *err) DEPOT_MUST_USE;

typedef struct req_header {
    const char    *name, *value;
    struct req_header *next;
} req_header;

typedef enum req_phase {
    REQ_LOOKUP,  /* the executor looks a token up */
    REQ_COLLECT, /* the body is gathered in memory */
    REQ_RUNNING, /* the handler has it */
    REQ_OVER     /* the handler is done with it, or it was refused */
} req_phase;

/* One request. Both the connection and whoever works on it hold a reference; the arena goes with the last one.
 * The head is written by depot_req_new alone. Arena, args, reply and out_headers belong to the connection's thread until the
 * handler is started, then to the handler, and are read only once `replied` is set. */
struct depot_req {
    depot_arena *arena;
    /* head */
    const char *method, *target_text, *listen, *peer, *id;
    int64_t     peer_uid, content_length, max_body, started_us, deadline_ms;
    bool        chunked, is_head;
    req_header     *in_headers;
    req_target  target;
    route_match match;
    const char *token; /* as given, NULL: none */
    /* set before the handler runs */
    identity    who;
    depot_json *args;
    bool        handled; /* the handler was called */
    depot_json *problems; /* for the problem document; NULL: none */
    bool        passed_on; /* depot_req_later was called: the reply does not come with the handler's return */
    int         audited;   /* status of the reply for which the audit log has a row already; 0: none */
    depot_buf   body;    /* REQ_COLLECT: grows in the connection's thread */
    /* reply */
    depot_reply_view reply;
    req_header          *out_headers, **last_header;
    const char      *content_type;

    struct depot_req *prev_later, *next_later; /* guarded by the lock of `later` */
    bool              waits;                   /* the same: somebody holds it, and nobody has replied */

    atomic_int  refs;
    atomic_bool gone; /* the connection has freed it: what streams may stop */
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t  changed; /* up has bytes or fed, down has room, or gone */
    const depot_transport *transport;
    void     *conn; /* NULL: gone */
    req_phase phase;
    bool      fed;         /* the body is complete */
    bool      replied;     /* status, headers and, unless streamed, body are final */
    bool      broken;      /* the handler failed in the middle of a streamed reply */
    bool      want_room;   /* the connection waits to feed more */
    bool      want_bytes;  /* the connection waits to pull more */
    bool      too_large;   /* the upload exceeded its limit */
    int64_t   received;
    ring      up, down;
};

/* handle.c: the way of a request from its head to the end of its handler. */
void req_route(depot_req *req); /* finds the route, authenticates, takes the next step */
bool req_wants_text(depot_req *req); /* Accept names plain text, as Prometheus does */
void req_dispatch(depot_req *req); /* the body is there (or streams): runs the handler, here or on an executor */
void req_refuse(depot_req *req, const depot_err *err, const depot_json *faults); /* the problem document is the reply */

/* The handler, or who went on in its place, has ended: its reply, or the error, goes out. */
void req_end(depot_req *req, bool ok, depot_err *err, const depot_json *faults);

/* later.c */
struct later *later_new(void);
/* Waits up to grace_ms for requests to be resumed, then refuses those that are left. */
void later_settle(struct later *l, int64_t grace_ms);
void later_free(struct later *l);

/* request.c */
/* This thread is a transport's, inside of a call that it polls after: it must not wait and need not be woken. */
extern _Thread_local bool req_in_call;
void req_ref(depot_req *req);
void req_unref(depot_req *req);
/* The request's phase becomes `phase`; returns whether the body is complete. */
bool req_enter(depot_req *req, req_phase phase);
void req_publish(depot_req *req, bool over, bool broken); /* the reply, or its end, is there: tells the transport */

/* reply.c */
void req_set_reply(depot_req *req, int status, const char *content_type, const char *body, size_t n);
void req_add_header(depot_req *req, const char *name, const char *value);

/* record.c: metrics, access log and, for what changes something, the audit log; before the reply is published. */
void req_record(depot_req *req, const depot_err *err);

/* args.c: path, query and body into req->args. */
bool req_build_args(depot_req *req, depot_json **out_faults, depot_err *err) DEPOT_MUST_USE;

#endif
