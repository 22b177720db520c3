/* sink.h - where the bytes of a reply go while they arrive: kept in memory, to a file, to stdout. */
#ifndef CTL_SINK_H
#define CTL_SINK_H

#include "depot/base.h"

typedef enum sink_kind {
    SINK_UNDECIDED,
    SINK_MEMORY, /* JSON and every refusal */
    SINK_FILE,   /* --output: appears whole or not at all */
    SINK_STDOUT,
    SINK_EVENTS, /* an event stream: one line each */
} sink_kind;

typedef struct sink {
    sink_kind     kind;
    const char   *output; /* NULL: stdout */
    bool          json;   /* events as bare JSON lines */
    depot_buf     memory; /* SINK_MEMORY: the body; SINK_EVENTS: the unfinished event */
    depot_tmpfile tmp;
    char          path[4096]; /* SINK_FILE: of the file itself, where output is a link to it */
    int           fd;         /* an output that is no regular file (a pipe, a device), or stdout */
} sink;

#define SINK_INIT                                                                                                      \
    {                                                                                                                  \
        .fd = -1                                                                                                       \
    }

/* Chooses by the reply's head. A binary reply is refused when it would go to a terminal. */
bool sink_choose(sink *s, int status, const char *content_type, depot_err *err) DEPOT_MUST_USE;
/* The same for bytes that are there already. */
bool sink_save(const char *output, const void *p, size_t n, depot_err *err) DEPOT_MUST_USE;
bool sink_write(sink *s, const char *p, size_t n, depot_err *err) DEPOT_MUST_USE;
/* The reply is complete: a file gets its name. */
bool sink_finish(sink *s, depot_err *err) DEPOT_MUST_USE;
void sink_close(sink *s); /* for DEPOT_AUTO; what was not finished leaves nothing behind */

#endif
