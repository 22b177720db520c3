/* value.c - one value: text in, typed and checked C value out. One row per type. */
#include <locale.h>
#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "conf/data.h"

#define VALUE_SHOWN_MAX 200U /* no number, unit or name is longer; longer texts are not repeated in messages */
#define REGEX_BYTES_MAX 1000U
#define REGEX_REPEATS_MAX 100000L /* regcomp unrolls x{n}: nested ones would take all memory */

static bool (*value_cron_check)(const char *text, depot_err *err); /* set once, see conf.h */

void conf_set_cron_check(bool (*fn)(const char *text, depot_err *err))
{
    value_cron_check = fn;
}

/* ---- bounds ---- */
static bool is_inside(const depot_field *f, int64_t n)
{
    return !conf_has_bounds(f) || (n >= f->min && n <= conf_upper_bound(f));
}

static bool out_of_range(depot_arena *arena, const depot_field *f, const char *shown, depot_err *err)
{
    const char *open = conf_upper_bound(f) == INT64_MAX ? ", it must be" : "";

    return DEPOT_FAIL(err, CONFIG, "%s is out of range%s %s", shown, open, conf_range_text(arena, f));
}

/* ---- types ---- */
static bool parse_string(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    size_t n = strlen(text);

    if (f->max > 0 && !is_inside(f, (int64_t)n)) {
        return out_of_range(arena, f, depot_strf(arena, "a length of %zu bytes", n), err);
    }
    *(const char **)out = depot_strdup(arena, text);
    return true;
}

/* Of types that a text can only be or not be: an empty one stands for none. */
static bool is_none(const char *text, void *out)
{
    *(const char **)out = NULL;
    return text[0] == '\0';
}

static bool keep_text(depot_arena *arena, const char *text, void *out)
{
    *(const char **)out = depot_strdup(arena, text);
    return true;
}

static bool parse_bool(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    (void)arena;
    (void)f;
    return depot_parse_bool(text, out, err);
}

static bool store_int(depot_arena *arena, const depot_field *f, const char *text, int64_t n, void *out, depot_err *err)
{
    if (!is_inside(f, n)) {
        return out_of_range(arena, f, text, err);
    }
    *(int64_t *)out = n;
    return true;
}

static bool parse_int(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    int64_t n;

    return depot_parse_int(text, &n, err) && store_int(arena, f, text, n, out, err);
}

static bool parse_size(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    int64_t n;

    return depot_parse_size(text, &n, err) && store_int(arena, f, text, n, out, err);
}

static bool parse_duration(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    int64_t n;

    return depot_parse_duration(text, &n, err) && store_int(arena, f, text, n, out, err);
}

static bool parse_number(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    char    *end = NULL;
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* a plugin may have set another one */
    double   d = plain == (locale_t)0 ? 0 : strtod_l(text, &end, plain);

    if (plain != (locale_t)0) {
        freelocale(plain);
    }
    if (text[strspn(text, "0123456789+-.eE")] != '\0' || end == NULL || end == text || *end != '\0' || !isfinite(d)) {
        return DEPOT_FAIL(err, CONFIG, "\"%s\" is not a number", text);
    }
    if (conf_has_bounds(f) && (d < (double)f->min || (conf_upper_bound(f) != INT64_MAX && d > (double)f->max))) {
        return out_of_range(arena, f, text, err);
    }
    *(double *)out = d;
    return true;
}

static bool parse_enum(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    DEPOT_AUTO(depot_buf_free) depot_buf all = { 0 };
    size_t                               n = 0;

    (void)arena;
    for (; f->choices != NULL && f->choices[n] != NULL; n++) {
        if (strcmp(f->choices[n], text) == 0) {
            *(int64_t *)out = (int64_t)n;
            return true;
        }
        depot_buf_addf(&all, "%s%s", n == 0 ? "" : ", ", f->choices[n]);
    }
    const char *near = depot_suggest(text, f->choices, n);
    (void)DEPOT_FAIL(err, CONFIG, "\"%s\" is none of %s", text, all.len == 0 ? "no choices" : all.data);
    return near != NULL ? depot_hint(err, "did you mean \"%s\"?", near) : false;
}

static bool parse_list(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    size_t max = 2;

    (void)f;
    for (const char *s = text; *s != '\0'; s++) {
        max += *s == ',';
    }
    const char **items = depot_alloc(arena, max * sizeof(*items));
    size_t       n = 0;
    for (const char *s = text; text[0] != '\0';) {
        size_t length = strcspn(s, ",");
        size_t lead = strspn(s, " \t\r\n");
        size_t end = length;
        while (end > lead && strchr(" \t\r\n", s[end - 1]) != NULL) {
            end--;
        }
        if (lead >= end) {
            (void)DEPOT_FAIL(err, CONFIG, "item %zu of the list is empty", n + 1);
            return depot_hint(err, "items are separated by single commas");
        }
        items[n++] = depot_strndup(arena, s + lead, end - lead);
        if (s[length] == '\0') {
            break;
        }
        s += length + 1;
    }
    *(const char *const **)out = items;
    return true;
}

static bool parse_path(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    (void)f;
    if (strlen(text) >= 4096) {
        return DEPOT_FAIL(err, CONFIG, "a path of %zu bytes is too long", strlen(text));
    }
    return is_none(text, out) || keep_text(arena, text, out);
}

/* "postgres://…", "https://…", or libpq's own form "host=… dbname=…". The text may hold a password: never shown. */
static bool parse_url(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    size_t scheme = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-_");
    bool   is_url = scheme > 0 && strncmp(text + scheme, "://", 3) == 0;
    bool   is_keywords = scheme > 0 && text[scheme + strspn(text + scheme, " \t")] == '=';

    (void)f;
    if (is_none(text, out)) {
        return true;
    }
    if (!is_url && !is_keywords) {
        (void)DEPOT_FAIL(err, CONFIG, "this is not a URL (not shown: it may hold a password)");
        return depot_hint(err, "write scheme://host/path, or for PostgreSQL also host=... dbname=...");
    }
    if (is_url && (text[scheme + 3] == '\0' || strpbrk(text, " \t\r\n\"<>") != NULL)) {
        (void)DEPOT_FAIL(err, CONFIG, "this is not a URL (not shown: it may hold a password)");
        return depot_hint(err, "after scheme:// stands a host or path; write blanks and quotes as %%20 and %%22");
    }
    return keep_text(arena, text, out);
}

static bool parse_cron(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    (void)f;
    return is_none(text, out) ||
           ((value_cron_check == NULL || value_cron_check(text, err)) && keep_text(arena, text, out));
}

/* The product of all {n} and {,n} of a pattern bounds what regcomp makes of it. */
static bool repeats_too_often(const char *pattern)
{
    long product = 1;

    for (const char *s = strchr(pattern, '{'); s != NULL; s = strchr(s + 1, '{')) {
        const char *comma = strpbrk(s, ",}");
        const char *last = comma != NULL && *comma == ',' && comma[1] >= '0' && comma[1] <= '9' ? comma + 1 : s + 1;
        long        n = strtol(last, NULL, 10);

        if (n > REGEX_REPEATS_MAX / product) {
            return true;
        }
        product *= n > 1 ? n : 1;
    }
    return false;
}

static bool parse_regex(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    regex_t regex;
    char    reason[128];

    (void)f;
    if (is_none(text, out)) {
        return true;
    }
    if (strlen(text) > REGEX_BYTES_MAX) {
        return DEPOT_FAIL(err, CONFIG, "a pattern of %zu bytes is longer than %u", strlen(text), REGEX_BYTES_MAX);
    }
    if (repeats_too_often(text)) {
        return DEPOT_FAIL(err, CONFIG, "the pattern \"%.100s\" repeats more than %ld times in all", text,
                          REGEX_REPEATS_MAX);
    }
    int rc = regcomp(&regex, text, REG_EXTENDED | REG_NOSUB);
    if (rc != 0) {
        (void)regerror(rc, &regex, reason, sizeof(reason));
        (void)DEPOT_FAIL(err, CONFIG, "\"%.100s\" is not a pattern: %s", text, reason);
        return depot_hint(err, "patterns are POSIX extended regular expressions");
    }
    regfree(&regex);
    return keep_text(arena, text, out);
}

static bool parse_uuid(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    uint8_t bytes[16];

    (void)f;
    if (is_none(text, out)) {
        return true;
    }
    if (!depot_parse_uuid(text, bytes)) {
        return DEPOT_FAIL(err, CONFIG, "\"%s\" is not a UUID", text);
    }
    char *lower = depot_strdup(arena, text);
    for (char *s = lower; *s != '\0'; s++) {
        *s = *s >= 'A' && *s <= 'F' ? (char)(*s - 'A' + 'a') : *s;
    }
    *(const char **)out = lower;
    return true;
}

static bool parse_time(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    int64_t us;

    (void)f;
    return is_none(text, out) || (depot_parse_time(text, &us, err) && keep_text(arena, text, out));
}

static bool parse_sha256(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    uint8_t bytes[32];

    (void)f;
    if (!is_none(text, out) && (strlen(text) != 64 || !depot_unhex(text, sizeof(bytes), bytes))) {
        return DEPOT_FAIL(err, CONFIG, "\"%s\" is not a SHA-256: 64 digits of 0-9 and a-f", text);
    }
    return text[0] == '\0' || keep_text(arena, text, out);
}

/* Types without a row stand in JSON only. */
static const struct type_row {
    bool is_short; /* a number or name: a long text cannot be one */
    bool (*parse)(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err);
} type_rows[] = {
    [DEPOT_T_STRING] = { false, parse_string }, [DEPOT_T_BOOL] = { true, parse_bool },
    [DEPOT_T_INT] = { true, parse_int },        [DEPOT_T_NUMBER] = { true, parse_number },
    [DEPOT_T_SIZE] = { true, parse_size },      [DEPOT_T_DURATION] = { true, parse_duration },
    [DEPOT_T_ENUM] = { true, parse_enum },      [DEPOT_T_LIST] = { false, parse_list },
    [DEPOT_T_PATH] = { false, parse_path },     [DEPOT_T_URL] = { false, parse_url },
    [DEPOT_T_SECRET] = { false, parse_string }, [DEPOT_T_CRON] = { true, parse_cron },
    [DEPOT_T_REGEX] = { false, parse_regex },   [DEPOT_T_UUID] = { true, parse_uuid },
    [DEPOT_T_TIME] = { true, parse_time },      [DEPOT_T_SHA256] = { true, parse_sha256 },
};

bool conf_parse_value(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err)
{
    size_t i = (size_t)f->type;

    if (i >= DEPOT_N(type_rows) || type_rows[i].parse == NULL) {
        return DEPOT_FAIL(err, BUG, "an option cannot be of type %s", conf_type_name(f->type));
    }
    if (type_rows[i].is_short && strlen(text) > VALUE_SHOWN_MAX) {
        return DEPOT_FAIL(err, CONFIG, "a text of %zu bytes is no %s", strlen(text), conf_type_name(f->type));
    }
    if (!type_rows[i].parse(arena, f, text, out, err)) {
        err->code = DEPOT_E_CONFIG;
        return false;
    }
    return true;
}
