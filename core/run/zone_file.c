/* zone_file.c - the bytes of a compiled zone file (TZif, RFC 8536). They are taken for hostile: every count is held to
 * a limit before it is used, and every read goes through one bounded cursor. */
#include <string.h>

#include "run/zone_data.h"

/* The largest real zones have about 250 changes and a dozen types. */
enum { CHANGES_MAX = 4096, TYPES_MAX = 256, CHARS_MAX = 512, LEAPS_MAX = 256, FOOTER_MAX = 128 };

/* Files hold -2^59 for the time of the Big Bang. */
static const int64_t time_limit = INT64_C(1) << 60;

typedef struct cursor {
    const uint8_t *p;
    size_t         left;
} cursor;

typedef struct header {
    uint8_t  version;
    uint32_t utc_flags, standard_flags, leaps, changes, types, chars;
} header;

/* NULL when fewer than n bytes are left. */
static const uint8_t *take(cursor *in, size_t n)
{
    const uint8_t *p = in->p;

    if (in->left < n) {
        return NULL;
    }
    in->p += n;
    in->left -= n;
    return p;
}

static uint64_t big_endian(const uint8_t *p, size_t n)
{
    uint64_t value = 0;

    for (size_t i = 0; i < n; i++) {
        value = value << 8 | p[i];
    }
    return value;
}

static bool read_header(cursor *in, header *out, depot_err *err)
{
    const uint8_t *p = take(in, 44);

    if (p == NULL || memcmp(p, "TZif", 4) != 0) {
        return DEPOT_FAIL(err, CORRUPT, "not a time zone file");
    }
    out->version = p[4];
    out->utc_flags = (uint32_t)big_endian(p + 20, 4);
    out->standard_flags = (uint32_t)big_endian(p + 24, 4);
    out->leaps = (uint32_t)big_endian(p + 28, 4);
    out->changes = (uint32_t)big_endian(p + 32, 4);
    out->types = (uint32_t)big_endian(p + 36, 4);
    out->chars = (uint32_t)big_endian(p + 40, 4);
    if (out->version < '2') {
        return DEPOT_FAIL(err, CORRUPT, "the file has format version 1, which ends in 2038");
    }
    if (out->changes > CHANGES_MAX || out->types > TYPES_MAX || out->chars > CHARS_MAX || out->leaps > LEAPS_MAX ||
        out->utc_flags > TYPES_MAX || out->standard_flags > TYPES_MAX) {
        return DEPOT_FAIL(err, CORRUPT, "the file claims more than any zone has");
    }
    return true;
}

/* The block of 32-bit times for readers of version 1. */
static bool skip_old_block(cursor *in, const header *h, depot_err *err)
{
    size_t size = (size_t)h->changes * 5 + (size_t)h->types * 6 + h->chars + (size_t)h->leaps * 8 + h->standard_flags +
                  h->utc_flags;

    return take(in, size) != NULL || DEPOT_FAIL(err, CORRUPT, "the file is cut short");
}

static bool read_types(depot_arena *arena, const uint8_t *p, const header *h, const char *chars, zone *z,
                       depot_err *err)
{
    zone_type *types = depot_alloc(arena, h->types * sizeof(*types));

    z->types = types;
    for (uint32_t i = 0; i < h->types; i++, p += 6) {
        types[i].offset_s = (int32_t)(uint32_t)big_endian(p, 4);
        types[i].is_summer = p[4] != 0;
        if (types[i].offset_s < -ZONE_OFFSET_MAX_S || types[i].offset_s > ZONE_OFFSET_MAX_S || p[4] > 1 ||
            p[5] >= h->chars) {
            return DEPOT_FAIL(err, CORRUPT, "type %u of the file is impossible", i);
        }
        types[i].abbrev = chars + p[5];
    }
    return true;
}

static bool read_changes(depot_arena *arena, const uint8_t *times, const uint8_t *kinds, const header *h, zone *z,
                         depot_err *err)
{
    int64_t *changes = depot_alloc(arena, h->changes * sizeof(*changes) + 1);
    uint8_t *copy = depot_alloc(arena, (size_t)h->changes + 1);

    z->changes = changes;
    z->kinds = copy;
    z->count = h->changes;
    for (uint32_t i = 0; i < h->changes; i++) {
        changes[i] = (int64_t)big_endian(times + (size_t)i * 8, 8);
        copy[i] = kinds[i];
        if (changes[i] < -time_limit || changes[i] > time_limit || (i > 0 && changes[i] <= changes[i - 1]) ||
            kinds[i] >= h->types) {
            return DEPOT_FAIL(err, CORRUPT, "change %u of the file is impossible", i);
        }
    }
    return true;
}

static bool read_block(depot_arena *arena, cursor *in, const header *h, zone *z, depot_err *err)
{
    const uint8_t *times = take(in, (size_t)h->changes * 8);
    const uint8_t *kinds = take(in, h->changes);
    const uint8_t *types = take(in, (size_t)h->types * 6);
    const uint8_t *chars = take(in, h->chars);

    if (h->leaps > 0) {
        return DEPOT_FAIL(err, CORRUPT, "the file counts leap seconds, which system clocks do not");
    }
    if (times == NULL || kinds == NULL || types == NULL || chars == NULL ||
        take(in, (size_t)h->standard_flags + h->utc_flags) == NULL) {
        return DEPOT_FAIL(err, CORRUPT, "the file is cut short");
    }
    if (h->types == 0 || h->chars == 0 || chars[h->chars - 1] != '\0') {
        return DEPOT_FAIL(err, CORRUPT, "the file has no types or names");
    }

    char *names = depot_alloc(arena, h->chars);

    memcpy(names, chars, h->chars);
    return read_types(arena, types, h, names, z, err) && read_changes(arena, times, kinds, h, z, err);
}

static bool read_footer(depot_arena *arena, cursor *in, zone *z, depot_err *err)
{
    const uint8_t *start = take(in, 1);

    if (start == NULL || *start != '\n') {
        return DEPOT_FAIL(err, CORRUPT, "the file has no footer");
    }

    const uint8_t *end = memchr(in->p, '\n', in->left);

    if (end == NULL || end - in->p > FOOTER_MAX) {
        return DEPOT_FAIL(err, CORRUPT, "the footer has no end");
    }
    if (end == in->p) {
        return true;
    }

    char *text = depot_strndup(arena, (const char *)in->p, (size_t)(end - in->p));

    z->has_rule = true;
    return zone_rule_parse(arena, text, &z->rule) || DEPOT_FAIL(err, CORRUPT, "the footer is no rule");
}

bool zone_parse(depot_arena *arena, const char *name, const void *bytes, size_t n, const zone **out, depot_err *err)
{
    cursor in = { bytes, n };
    header h = { 0 };
    zone  *z = depot_alloc(arena, sizeof(*z));

    z->name = depot_strdup(arena, name);
    if (!read_header(&in, &h, err) || !skip_old_block(&in, &h, err) || !read_header(&in, &h, err) ||
        !read_block(arena, &in, &h, z, err) || !read_footer(arena, &in, z, err)) {
        depot_wrap(err, "cannot use time zone %s", name);
        return depot_hint(err, "reinstall the package tzdata, or use UTC");
    }
    *out = z;
    return true;
}
