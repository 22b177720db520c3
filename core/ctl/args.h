/* args.h - from the words behind a verb to the fields of its request, and from these to an HTTP request. */
#ifndef CTL_ARGS_H
#define CTL_ARGS_H

#include "ctl/verb.h"

struct verb_call {
    const verb *verb;
    depot_json *args;   /* the fields that were given, in their JSON types */
    const char *file;   /* routes that take an upload: its path, "-" is stdin */
    const char *output; /* where a reply goes; NULL: stdout */
    bool        help;   /* --help stands somewhere: nothing else was checked */
};

/* A request as it goes to the daemon. */
typedef struct ctl_request {
    const char *method, *target; /* path and query, percent-encoded */
    const char *body;            /* JSON text; NULL: none */
    const char *file;            /* upload instead of a body; NULL: none */
    const char *output;          /* where a reply that is not JSON goes; NULL: stdout */
    bool        is_long;         /* may stay silent as long as it likes */
} ctl_request;

/* Fills call (whose verb is set) from argv, the words behind the verb. --json, --quiet, --yes, --timeout and --output
 * may stand there too and go to options, unless the verb has a field of that name. Every fault is a USAGE error. */
bool args_parse(verb_call *call, ctl_options *options, int argc, char **argv, depot_arena *arena,
                depot_err *err) DEPOT_MUST_USE;
/* The call's verb has a route. */
void args_request(const verb_call *call, depot_arena *arena, ctl_request *out);
/* How a flag is written: "dry_run" gives "--dry-run". */
const char *args_flag(depot_arena *arena, const char *field);
/* Text behind "@" (a file), "-" (stdin) or as it is. */
bool args_text(depot_arena *arena, const char *text, const char **out, size_t *out_n, depot_err *err) DEPOT_MUST_USE;

#endif
