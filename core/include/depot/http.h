/* depot/http.h - a request as a route's handler sees it, and below, as a transport (the http plugin) feeds it. */
#ifndef DEPOT_HTTP_H
#define DEPOT_HTTP_H

#include "depot/db.h"
#include "depot/table.h"

/* ---- for handlers ---- */
DEPOT_API depot_arena      *depot_req_arena(depot_req *req); /* lives until the reply is sent */
/* Path, query and body members by name, validated, defaults filled in. */
DEPOT_API const depot_json *depot_req_args(depot_req *req);
DEPOT_API const char       *depot_req_header(depot_req *req, const char *name); /* NULL if absent; case-insensitive */
DEPOT_API const char       *depot_req_id(depot_req *req);    /* request id, also in the log and in X-Request-Id */
DEPOT_API const char       *depot_req_actor(depot_req *req); /* "token:ci", "uid:0", "anonymous" */
DEPOT_API depot_role        depot_req_role(depot_req *req);
DEPOT_API const char       *depot_req_listen(depot_req *req); /* "api", "admin", "control" */
/* DEPOT_ROUTE_UPLOAD: next bytes of the body, waiting for the client; *out_n 0 at the end. */
DEPOT_API bool depot_req_read(depot_req *req, void *buf, size_t size, size_t *out_n, depot_err *err) DEPOT_MUST_USE;
DEPOT_API int64_t depot_req_body_size(depot_req *req); /* Content-Length; -1: not said */

/* A handler that returns true without a reply gives 204; one that returns false gives the error as a problem document. */
DEPOT_API bool depot_reply_json(depot_req *req, int status, const depot_json *body);
/* JSON text that the database made; sent as it is. */
DEPOT_API bool depot_reply_json_text(depot_req *req, int status, const char *json);
DEPOT_API bool depot_reply_text(depot_req *req, int status, const char *content_type, const char *text, size_t n);
/* The request owns fd from here on. length -1: to the end of the file. */
DEPOT_API bool depot_reply_file(depot_req *req, int status, const char *content_type, int fd, int64_t offset,
                                int64_t length);
/* A body written while it is made: begin, write until done (waits for a slow client), return true. length -1: unknown. */
DEPOT_API bool depot_reply_begin(depot_req *req, int status, const char *content_type, int64_t length);
DEPOT_API bool depot_reply_write(depot_req *req, const void *p, size_t n, depot_err *err) DEPOT_MUST_USE;
DEPOT_API void depot_reply_header(depot_req *req, const char *name, const char *value); /* before the body */

/* ---- replies that come later ---- */
/* For a handler that hands its request to somebody else and then returns true: its thread is free, and whoever has the request
 * resumes it once, before the plugin's stop returns. Until then request, arguments and arena stay, even if the client goes. When the
 * deadline passes, or a daemon that stops cannot wait any longer, the core replies in the holder's place. */
DEPOT_API void depot_req_later(depot_req *req);
/* false: the core has replied. What has not been begun for the request should not be begun any more. */
DEPOT_API bool depot_req_waits(depot_req *req);
/* Any thread: fn goes on where the handler left off, here and now; its result counts as the handler's. false: the core had replied, fn
 * was not called. Either way the request is not the caller's any more. Blocks for the audit log when fn succeeds in a change that
 * depot_audit_written does not know of. */
DEPOT_API bool depot_req_resume(depot_req *req, bool (*fn)(depot_ctx *ctx, depot_req *req, void *arg, depot_err *err), void *arg);

/* Handlers that commit the audit log's rows together with the changes: one commit instead of two. */
typedef struct depot_audit {
    depot_req       *req;
    int              status; /* of the reply to come */
    const depot_err *err;    /* it is a refusal, whose status counts; NULL: none */
} depot_audit;
/* The statement that writes these rows; requests that were granted alike, to the same caller, are one row. The last one of its
 * transaction, as other writers of the log wait from it to the commit. */
DEPOT_API depot_stmt depot_audit_stmt(depot_arena *arena, const depot_audit *rows, size_t n);
/* That is committed: for replies with these statuses no further rows are written. Before the requests are resumed. */
DEPOT_API void depot_audit_written(const depot_audit *rows, size_t n);

/* ---- for transports ---- */
typedef struct depot_transport {
    /* The request has a reply, more reply bytes, or room for body bytes: look again. Any thread; must not block. */
    void (*wake)(void *conn);
} depot_transport;

typedef struct depot_req_head {
    const char *listen;         /* name of the listener; "control" for the local socket */
    const char *method, *target; /* as received: path and query, still percent-encoded */
    const char *peer;           /* address for the log */
    int64_t     peer_uid;       /* control socket: who connected; -1 elsewhere */
    int64_t     content_length; /* -1: not said */
    bool        chunked;        /* a body of unknown length follows */
    int64_t     max_body;       /* the listener's limit for a body in bytes; 0: the API's */
    /* Calls fn for each header, in order. They are copied: handlers run on other threads and may outlive the connection. */
    void (*headers)(void *conn, void (*fn)(void *arg, const char *name, const char *value), void *arg);
} depot_req_head;

typedef enum depot_req_state {
    DEPOT_REQ_BODY,  /* wants body bytes: depot_req_feed */
    DEPOT_REQ_WAIT,  /* nothing to do until wake() */
    DEPOT_REQ_REPLY, /* status, headers and body are there */
} depot_req_state;

/* Routes, authenticates and checks limits by the head alone. Never NULL: a refusal is a request with a reply.
 * This and the calls below are made by one thread at a time; wake() may come in the middle of them. */
DEPOT_API depot_req      *depot_req_new(const depot_transport *transport, void *conn, const depot_req_head *head);
DEPOT_API depot_req_state depot_req_poll(depot_req *req);
/* Takes up to n body bytes, returns how many; 0: no room, wait for wake(). A request that is refused swallows all. */
DEPOT_API size_t          depot_req_feed(depot_req *req, const void *p, size_t n);
DEPOT_API void            depot_req_fed(depot_req *req); /* the body is complete */

typedef struct depot_reply_view {
    int         status;
    const char *body; /* in memory, or NULL */
    size_t      len;
    int         fd; /* file, or -1; the request keeps owning it */
    int64_t     offset, length;
    bool        stream; /* call depot_req_pull; length may be -1 */
} depot_reply_view;
DEPOT_API const depot_reply_view *depot_req_reply(depot_req *req);
DEPOT_API bool    depot_req_next_header(depot_req *req, size_t *it, const char **name, const char **value);
/* Bytes of a streamed reply: > 0 how many, 0 nothing now (wait for wake()), -1 end, -2 broken off. */
DEPOT_API int64_t depot_req_pull(depot_req *req, void *buf, size_t size);
/* The connection is done with it, early or not. Waits for nothing: a running handler sees its client gone. */
DEPOT_API void    depot_req_free(depot_req *req);

#endif
