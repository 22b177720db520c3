/* http.h - inside of core/lua: requests of scripts on the worker's loop, through libcurl's multi interface: a request
 * that waits costs a socket and a few KiB, no thread. */
#ifndef LUA_HTTP_H
#define LUA_HTTP_H

#include <curl/curl.h>

#include "lua/run.h"

typedef struct http_header {
    const char         *name, *value; /* name in lower case */
    struct http_header *next;
} http_header;

typedef struct http_op {
    op                 base;
    engine            *engine;
    depot_arena       *arena;
    CURL              *easy;
    CURLM             *alone; /* of a script that cannot yield just now; NULL: the engine's */
    struct curl_slist *headers;
    const char        *method, *url, *place; /* place: scheme://host:port, for messages */
    const char        *body;  /* NULL: none */
    size_t             body_len, max_body;
    int64_t            due_ms;
    int64_t            redirects; /* that are left */
    bool               follows, is_trusted, is_literal; /* a grant names the host itself; it is an address */
    bool               added, opening, waiting; /* with the multi handle; has no connection yet; in the list of those that wait */
    bool               refused, too_large; /* why a callback stopped it */
    char               refused_address[64], text[CURL_ERROR_SIZE];
    long               status;
    http_header       *first, **last;
    size_t             header_bytes;
    depot_buf          reply;
    depot_err          err;
    struct http_op    *next; /* in the list of those that wait */
} http_op;

/* ---- http_loop.c ---- */
bool http_add(http_op *h, depot_err *err) DEPOT_MUST_USE; /* http_ended comes when it is over */
void http_remove(http_op *h);                             /* no-op if it is not added */
void http_block(op *o, int64_t until_ms);
void http_opened(http_op *h);                             /* it has a connection: another may open one */
void http_close(engine *e);                               /* with the engine: no request is left */

/* ---- http_request.c ---- */
/* The request's URL: http or https, to a host that the script may reach. */
bool http_target(http_op *h, const char *url, depot_err *err) DEPOT_MUST_USE;
void http_prepare(http_op *h);            /* options of the transfer */
void http_bound(http_op *h);              /* it ends when it is due */
void http_ended(http_op *h, CURLcode how); /* a redirect goes on, all else ends the op */

#endif
