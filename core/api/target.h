/* target.h - a request target taken apart: percent-decoded path segments and query parameters.
 *
 * Pure functions of their arguments; any thread. What a client may send and what not is decided here and nowhere else. */
#ifndef API_TARGET_H
#define API_TARGET_H

#include "depot/base.h"

enum { TARGET_MAX = 8192, TARGET_SEGMENTS = 32, TARGET_PARAMS = 64 };

typedef struct target_param {
    const char *name, *value; /* decoded; value is "" when there is no '=' */
} target_param;

/* "/" has no segments; a doubled or trailing slash gives an empty segment, which no route has. */
typedef struct req_target {
    const char   *path; /* as received, without the query: for logs */
    size_t        n_segments, n_params;
    const char   *segments[TARGET_SEGMENTS]; /* decoded; never "." or ".." */
    target_param *params;                    /* NULL when there is no query */
} req_target;

/* Fails with MALFORMED (TOO_LARGE past TARGET_MAX). Refused: bytes that must be percent-encoded, bad escapes, %00 and other
 * control characters, text that is not UTF-8, "." and ".." as a segment or inside of one that held %2F. */
bool target_parse(depot_arena *arena, const char *text, size_t n, req_target *out, depot_err *err) DEPOT_MUST_USE;

#endif
