/* wire.h - frames between the daemon and a worker: what travels over the socket pair, and a decoder that trusts nobody.
 *
 * A frame is: u32 length of the payload, u8 type, u64 id (all little endian), payload. The payload is a JSON object;
 * some types add raw text after its first line feed, so that big texts are neither quoted nor parsed on the way. */
#ifndef LUA_WIRE_H
#define LUA_WIRE_H

#include "depot/json.h"

enum { WIRE_HEADER_BYTES = 13, WIRE_PAYLOAD_MAX = 32 << 20 };

typedef enum wire_type {
    /* daemon to worker */
    WIRE_HELLO = 1, /* {env, concurrency, db} LF configuration: what must not stand in argv or environment */
    WIRE_SOURCE,    /* {path} LF text of one script file */
    WIRE_START,     /* {concurrency, memory_max, cpu_max_ms, …}: all sources were sent, load them */
    WIRE_RUN,       /* {kind, name, label, deadline_ms} LF argument as JSON; id names the run */
    WIRE_CANCEL,    /* id: a run */
    WIRE_EMITTED,   /* {} or {code, message, hint}: answer to WIRE_EMIT, same id */
    WIRE_STOP,      /* end: there are no runs any more */
    WIRE_RANGE,     /* {name, job_id, token, job, first, n, room, timeout_ms} LF arguments, JSON values with commas between
                       them; id names the range, id + 1 + i the run of its i-th job */
    WIRE_ENOUGH,    /* id: a range, of which no more jobs are to begin */
    /* worker to daemon */
    WIRE_READY = 64, /* {handlers: [{name, file, revision, timeout_ms, max_attempts}]} */
    WIRE_FAILED,     /* {code, message, hint}: could not load; the worker ends */
    WIRE_DONE,       /* {cpu_us, wall_us, error…} LF result as JSON; id names the run */
    WIRE_LOG,        /* {plugin, level, event, label, fields} LF message */
    WIRE_EMIT,       /* {event} LF payload as JSON */
    WIRE_METRICS,    /* changes since the last one */
    WIRE_BEAT,       /* {rss_bytes, stuck}: the worker's loop turns */
    WIRE_RANGED,     /* {begun, busy_us, ended: [{place, …}], going: [place]} or {error…} LF results as a JSON array; id: a range */
} wire_type;

typedef struct wire_frame {
    wire_type   type;
    uint64_t    id;
    const char *payload; /* n bytes inside the reader, valid until its next call; no NUL after them */
    size_t      n;
} wire_frame;

void wire_put(depot_buf *out, wire_type type, uint64_t id, const void *payload, size_t n);
/* payload is head's JSON text, and below it, unless text is NULL, a line feed and the text. */
void wire_put_json(depot_buf *out, wire_type type, uint64_t id, const depot_json *head, const char *text, size_t n);

/* Bytes as they come in. Start from {0}. */
typedef struct wire_reader {
    depot_buf in;
    size_t    at; /* of in: consumed so far */
} wire_reader;
typedef enum wire_state { WIRE_MORE, WIRE_FRAME, WIRE_BAD } wire_state;
void       wire_reader_add(wire_reader *r, const void *bytes, size_t n);
wire_state wire_reader_next(wire_reader *r, wire_frame *out, depot_err *err); /* err is filled with WIRE_BAD */
void       wire_reader_free(wire_reader *r);

/* Splits the payload: *out_head is its JSON object, *out_text (n bytes, never NULL) what stands below the line feed. */
bool wire_parse(depot_arena *arena, const wire_frame *frame, const depot_json **out_head, const char **out_text,
                size_t *out_n, depot_err *err) DEPOT_MUST_USE;

/* Errors as JSON members, both ways. */
void wire_put_err(depot_arena *arena, depot_json *head, const depot_err *err);
void wire_get_err(const depot_json *head, depot_err *out);

/* Blocking, for the start of a conversation: reads until one frame is there. */
bool wire_receive(int fd, wire_reader *r, int64_t timeout_ms, wire_frame *out, depot_err *err) DEPOT_MUST_USE;

#endif
