/* target.c - splits and decodes request targets; strict, because proxies and file names stand on both sides of it. */
#include <string.h>

#include "api/target.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* What may stand in a target at all: printable ASCII without what the grammar leaves out and browsers encode. */
static bool is_raw(unsigned char c)
{
    return c > 0x20 && c < 0x7f && strchr("\"#<>\\^`{|}", c) == NULL;
}

/* Decodes s up to end. query: '+' stands for a blank. */
static bool decode(depot_arena *arena, const char *s, const char *end, bool query, const char **out, depot_err *err)
{
    char  *text = depot_alloc(arena, (size_t)(end - s) + 1);
    size_t len = 0;

    while (s < end) {
        int c = (unsigned char)*s++;
        if (c == '%') {
            int high = end - s >= 2 ? hex_digit(s[0]) : -1;
            int low = end - s >= 2 ? hex_digit(s[1]) : -1;
            if (high < 0 || low < 0) {
                return DEPOT_FAIL(err, MALFORMED, "the request target has a %% that two hex digits do not follow");
            }
            c = high << 4 | low;
            s += 2;
        } else if (c == '+' && query) {
            c = ' ';
        }
        text[len++] = (char)c;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == 0x7f || (c < 0x20 && !(query && (c == '\t' || c == '\n' || c == '\r')))) {
            return DEPOT_FAIL(err, MALFORMED, "the request target holds the control character %%%02X", c);
        }
    }
    if (!depot_utf8_valid(text, len)) {
        return DEPOT_FAIL(err, MALFORMED, "the request target is not UTF-8");
    }
    *out = text;
    return true;
}

/* "." and ".." between slashes that came as %2F would reach file names just as well. */
static bool climbs(const char *segment)
{
    while (segment != NULL) {
        const char *slash = strchr(segment, '/');
        size_t      n = slash == NULL ? strlen(segment) : (size_t)(slash - segment);
        if ((n == 1 && segment[0] == '.') || (n == 2 && segment[0] == '.' && segment[1] == '.')) {
            return true;
        }
        segment = slash == NULL ? NULL : slash + 1;
    }
    return false;
}

static bool parse_path(depot_arena *arena, const char *s, const char *end, req_target *out, depot_err *err)
{
    if (end - s == 1) {
        return true;
    }
    while (s < end) {
        const char *from = s + 1; /* s stands on a slash */
        const char *slash = memchr(from, '/', (size_t)(end - from));
        s = slash == NULL ? end : slash;
        if (out->n_segments == TARGET_SEGMENTS) {
            return DEPOT_FAIL(err, MALFORMED, "the path has more than %d segments", TARGET_SEGMENTS);
        }
        const char **segment = &out->segments[out->n_segments++];
        if (!decode(arena, from, s, false, segment, err)) {
            return false;
        }
        if (climbs(*segment)) {
            return DEPOT_FAIL(err, MALFORMED, "the path holds a segment \".\" or \"..\"");
        }
    }
    return true;
}

static bool parse_query(depot_arena *arena, const char *s, const char *end, req_target *out, depot_err *err)
{
    size_t most = 1;

    for (const char *c = s; c < end && most < TARGET_PARAMS; c++) {
        most += *c == '&';
    }
    out->params = depot_alloc(arena, most * sizeof(*out->params));
    while (s < end) {
        const char *and = memchr(s, '&', (size_t)(end - s));
        const char *stop = and == NULL ? end : and;
        const char *equals = memchr(s, '=', (size_t)(stop - s));
        const char *name_end = equals == NULL ? stop : equals;
        if (s < stop) {
            if (out->n_params == TARGET_PARAMS) {
                return DEPOT_FAIL(err, MALFORMED, "the query has more than %d parameters", TARGET_PARAMS);
            }
            target_param *param = &out->params[out->n_params++];
            param->value = "";
            if (!decode(arena, s, name_end, true, &param->name, err) ||
                (equals != NULL && !decode(arena, equals + 1, stop, true, &param->value, err))) {
                return false;
            }
        }
        s = and == NULL ? end : and + 1;
    }
    return true;
}

/* The absolute form ("GET http://host/path") means the same as its path. */
static const char *skip_authority(const char *s, const char *end)
{
    static const char *const schemes[] = { "http://", "https://" };

    for (size_t i = 0; i < DEPOT_N(schemes); i++) {
        size_t n = strlen(schemes[i]);
        if ((size_t)(end - s) > n && strncasecmp(s, schemes[i], n) == 0) {
            const char *slash = memchr(s + n, '/', (size_t)(end - s) - n);
            return slash == NULL ? s : slash;
        }
    }
    return s;
}

bool target_parse(depot_arena *arena, const char *text, size_t n, req_target *out, depot_err *err)
{
    const char *end = text + n;

    out->path = "";
    out->n_segments = 0;
    out->n_params = 0;
    out->params = NULL;
    if (n > TARGET_MAX) {
        return DEPOT_FAIL(err, TOO_LARGE, "the request target is longer than %d bytes", TARGET_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_raw((unsigned char)text[i])) {
            return DEPOT_FAIL(err, MALFORMED, "the request target holds the byte 0x%02X, which must be percent-encoded",
                              (unsigned char)text[i]);
        }
    }
    text = skip_authority(text, end);
    if (text == end || *text != '/') {
        return DEPOT_FAIL(err, MALFORMED, "the request target does not start with a slash");
    }
    const char *question = memchr(text, '?', (size_t)(end - text));
    const char *path_end = question == NULL ? end : question;
    out->path = depot_strndup(arena, text, (size_t)(path_end - text));
    return parse_path(arena, text, path_end, out, err) &&
           (question == NULL || parse_query(arena, question + 1, end, out, err));
}
