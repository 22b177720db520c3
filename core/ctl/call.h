/* call.h - one request to the daemon: over the unix socket in its state folder, or over HTTP(S) with a token. */
#ifndef CTL_CALL_H
#define CTL_CALL_H

#include "ctl/args.h"

typedef struct call_reply {
    int         status; /* 0: there was none */
    const char *body;   /* NULL: it went to the output while it arrived */
    size_t      len;
    bool        away; /* nobody listens there: the daemon does not run, or not here */
} call_reply;

/* Waits at most options->timeout_ms in all when that is set; else until nothing has moved for 60 s, or without end for
 * a route that is LONG. A reply of any status is success; false: no reply, or the output could not be written. */
bool call_daemon(const ctl_options *options, const ctl_request *request, depot_arena *arena, call_reply *out,
                 depot_err *err) DEPOT_MUST_USE;
/* GET without arguments, its body parsed. A refusal becomes err. *out_away as in call_reply. */
bool call_get(const ctl_options *options, const char *target, depot_arena *arena, const depot_json **out,
              bool *out_away, depot_err *err) DEPOT_MUST_USE;
/* The problem document of a reply with a status of 400 and more becomes err. Always false. */
bool call_refused(const call_reply *reply, depot_arena *arena, depot_err *err);
/* The `problems` of such a document, one text each; NULL: it has none. */
const depot_json *call_problems(const call_reply *reply, depot_arena *arena);
/* Where requests go, for messages: the URL or the socket's path. */
const char *call_place(depot_arena *arena, const ctl_options *options);

#endif
