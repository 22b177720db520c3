/* text.c - reading and printing small values (durations, sizes, numbers), UTF-8, globs, JSON escapes. */
#include "base/text.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct text_unit {
    const char *name;
    int64_t     factor;
} text_unit;

/* clang-format off */
static const text_unit duration_units[] = { /* largest first: formatting takes the first that divides */
    { "w", 7 * 24 * 3600000LL }, { "d", 24 * 3600000LL }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 },
};
static const text_unit size_units[] = {
    { "", 1 }, { "B", 1 },
    { "k", 1LL << 10 }, { "K", 1LL << 10 }, { "kiB", 1LL << 10 }, { "KiB", 1LL << 10 },
    { "M", 1LL << 20 }, { "MiB", 1LL << 20 },
    { "G", 1LL << 30 }, { "GiB", 1LL << 30 },
    { "T", 1LL << 40 }, { "TiB", 1LL << 40 },
    { "kB", 1000 }, { "KB", 1000 }, { "MB", 1000000 }, { "GB", 1000000000 }, { "TB", 1000000000000 },
};
static const struct { const char *name; bool value; } bool_names[] = {
    { "yes", true }, { "no", false }, { "on", true }, { "off", false },
    { "true", true }, { "false", false }, { "1", true }, { "0", false },
};
/* clang-format on */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits at *s into *out, *s moves behind them; false if there are none or they exceed 64 bits. */
static bool take_digits(const char **s, int64_t *out)
{
    const char *p = *s;
    int64_t     n = 0;

    for (; is_digit(*p); p++) {
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *p - '0', &n)) {
            return false;
        }
    }
    if (p == *s) {
        return false;
    }
    *s = p;
    *out = n;
    return true;
}

static bool take_amount(const char *text, const text_unit *units, size_t count, int64_t *out)
{
    int64_t n;

    if (!take_digits(&text, &n)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(units[i].name, text) != 0) {
            continue;
        }
        if (__builtin_mul_overflow(n, units[i].factor, &n)) {
            return false;
        }
        *out = n;
        return true;
    }
    return false;
}

bool depot_parse_duration(const char *text, int64_t *out_ms, depot_err *err)
{
    if (strcmp(text, "0") == 0) {
        *out_ms = 0;
        return true;
    }
    if (!take_amount(text, duration_units, DEPOT_N(duration_units), out_ms)) {
        (void)DEPOT_FAIL(err, INVALID, "\"%s\" is not a duration", text);
        return depot_hint(err, "write a whole number and a unit: 250ms, 10s, 5m, 2h, 7d or 1w");
    }
    return true;
}

bool depot_parse_size(const char *text, int64_t *out_bytes, depot_err *err)
{
    if (!take_amount(text, size_units, DEPOT_N(size_units), out_bytes)) {
        (void)DEPOT_FAIL(err, INVALID, "\"%s\" is not a size", text);
        return depot_hint(err, "write a whole number, alone for bytes or with a unit: 64k, 64MiB, 10GB, 2T");
    }
    return true;
}

bool depot_parse_int(const char *text, int64_t *out, depot_err *err)
{
    bool        negative = text[0] == '-';
    const char *p = text + (negative || text[0] == '+');
    int64_t     n = 0;

    /* The smallest number has no positive counterpart, so digits are subtracted. */
    for (; is_digit(*p); p++) {
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_sub_overflow(n, *p - '0', &n)) {
            return DEPOT_FAIL(err, INVALID, "%s is outside the 64-bit integers", text);
        }
    }
    if (!is_digit(p == text ? '\0' : p[-1]) || *p != '\0') {
        return DEPOT_FAIL(err, INVALID, "\"%s\" is not a whole number", text);
    }
    if (!negative && n == INT64_MIN) {
        return DEPOT_FAIL(err, INVALID, "%s is outside the 64-bit integers", text);
    }
    *out = negative ? n : -n;
    return true;
}

bool depot_parse_bool(const char *text, bool *out, depot_err *err)
{
    for (size_t i = 0; i < DEPOT_N(bool_names); i++) {
        if (strcmp(bool_names[i].name, text) == 0) {
            *out = bool_names[i].value;
            return true;
        }
    }
    (void)DEPOT_FAIL(err, INVALID, "\"%s\" is neither yes nor no", text);
    return depot_hint(err, "write yes, no, on, off, true, false, 1 or 0");
}

const char *depot_format_duration(depot_arena *arena, int64_t ms)
{
    if (ms == 0) {
        return depot_strdup(arena, "0");
    }
    size_t i = 0;
    while (ms % duration_units[i].factor != 0) {
        i++;
    }
    return depot_strf(arena, "%lld%s", (long long)(ms / duration_units[i].factor), duration_units[i].name);
}

const char *depot_format_size(depot_arena *arena, int64_t bytes)
{
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double                   n = (double)bytes;
    size_t                   unit = 0;

    if (bytes > -1024 && bytes < 1024) {
        return depot_strf(arena, "%d B", (int)bytes);
    }
    /* 1023.95 would print as 1024.0 */
    for (n /= 1024; fabs(n) >= 1023.95 && unit + 1 < DEPOT_N(units); n /= 1024) {
        unit++;
    }
    return depot_strf(arena, "%.1f %s", n, units[unit]);
}

/* '?' stands for one character, which may be several bytes. */
static const char *skip_character(const char *s)
{
    s++;
    while (((unsigned char)*s & 0xC0U) == 0x80U) {
        s++;
    }
    return s;
}

bool depot_glob(const char *pattern, const char *text)
{
    const char *star = NULL;  /* behind the last '*' met */
    const char *retry = NULL; /* where its run ends for now */

    while (*text != '\0') {
        if (*pattern == '*') {
            star = ++pattern;
            retry = text;
        } else if (*pattern == '?') {
            pattern++;
            text = skip_character(text);
        } else if (*pattern == *text) {
            pattern++;
            text++;
        } else if (star != NULL) {
            pattern = star;
            retry = skip_character(retry);
            text = retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}

/* Table 3-7 of the Unicode standard: lead byte range, length, range of the second byte. */
static const struct utf8_row {
    unsigned char first, last, length, second_min, second_max;
} utf8_rows[] = {
    { 0x00, 0x7F, 1, 0x00, 0xFF }, { 0xC2, 0xDF, 2, 0x80, 0xBF }, { 0xE0, 0xE0, 3, 0xA0, 0xBF },
    { 0xE1, 0xEC, 3, 0x80, 0xBF }, { 0xED, 0xED, 3, 0x80, 0x9F }, { 0xEE, 0xEF, 3, 0x80, 0xBF },
    { 0xF0, 0xF0, 4, 0x90, 0xBF }, { 0xF1, 0xF3, 4, 0x80, 0xBF }, { 0xF4, 0xF4, 4, 0x80, 0x8F },
};

static size_t utf8_match(const struct utf8_row *row, const unsigned char *u, size_t n)
{
    if (row->length > n || (row->length > 1 && (u[1] < row->second_min || u[1] > row->second_max))) {
        return 0;
    }
    for (size_t i = 2; i < row->length; i++) {
        if ((u[i] & 0xC0U) != 0x80U) {
            return 0;
        }
    }
    return row->length;
}

size_t text_utf8_step(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;

    if (n == 0) {
        return 0;
    }
    for (size_t i = 0; i < DEPOT_N(utf8_rows); i++) {
        if (u[0] >= utf8_rows[i].first && u[0] <= utf8_rows[i].last) {
            return utf8_match(&utf8_rows[i], u, n);
        }
    }
    return 0;
}

bool depot_utf8_valid(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t step = text_utf8_step(s + i, n - i);
        if (step == 0) {
            return false;
        }
        i += step;
    }
    return true;
}

size_t text_utf8_cut(const char *s, size_t n, size_t max)
{
    size_t lead = max;

    if (n <= max) {
        return n;
    }
    /* Only a lead byte among the last three can be short of its continuation. */
    while (lead > 0 && max - lead < 3 && ((unsigned char)s[lead - 1] & 0xC0U) == 0x80U) {
        lead--;
    }
    if (lead > 0 && ((unsigned char)s[lead - 1] & 0xC0U) == 0xC0U &&
        text_utf8_step(s + lead - 1, max - lead + 1) == 0) {
        return lead - 1;
    }
    return max;
}

void text_add_clean(depot_buf *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t step = s[i] == '\0' ? 0 : text_utf8_step(s + i, n - i);
        if (step == 0) {
            depot_buf_adds(out, "\xEF\xBF\xBD");
            i++;
        } else {
            depot_buf_add(out, s + i, step);
            i += step;
        }
    }
}

/* Text of one character that JSON, or a terminal, does not want as it is; its length, 0 if it may stay. */
static size_t escape_one(const char *s, size_t step, bool quotes, char out[8])
{
    static const char short_from[] = "\n\r\t\b\f\"\\";
    static const char short_to[] = "nrtbf\"\\";
    unsigned char     c = (unsigned char)s[0];
    const char       *at = c == '\0' ? NULL : strchr(short_from, c);
    int               n = 0;

    if (step == 0) {
        n = snprintf(out, 8, "\xEF\xBF\xBD");
    } else if (at != NULL && (quotes || c < 0x20)) {
        n = snprintf(out, 8, "\\%c", short_to[at - short_from]);
    } else if (c < 0x20 || c == 0x7F) {
        n = snprintf(out, 8, "\\u%04x", c);
    } else if (c == 0xC2 && (unsigned char)s[1] < 0xA0) { /* C1 controls: some terminals obey them */
        n = snprintf(out, 8, "\\u%04x", (unsigned char)s[1]);
    }
    return (size_t)n;
}

/* Length of the ASCII that needs no look at all. */
static size_t plain_run(const char *s, size_t n)
{
    size_t i = 0;

    while (i < n && s[i] >= 0x20 && s[i] < 0x7F && s[i] != '"' && s[i] != '\\') {
        i++;
    }
    return i;
}

static size_t add_escaped(depot_buf *out, const char *s, size_t n, size_t max, bool quotes)
{
    size_t i = 0;
    size_t left = max;

    while (i < n && left > 0) {
        char   escape[8];
        size_t run = plain_run(s + i, n - i < left ? n - i : left);
        if (run > 0) {
            depot_buf_add(out, s + i, run);
            left -= run;
            i += run;
            continue;
        }
        size_t step = text_utf8_step(s + i, n - i);
        size_t length = escape_one(s + i, step, quotes, escape);
        size_t bytes = length > 0 ? length : step;
        if (bytes > left) {
            break;
        }
        depot_buf_add(out, length > 0 ? escape : s + i, bytes);
        left -= bytes;
        i += step + (step == 0);
    }
    return i;
}

size_t text_add_escaped(depot_buf *out, const char *s, size_t n, size_t max)
{
    return add_escaped(out, s, n, max, true);
}

size_t text_add_printable(depot_buf *out, const char *s, size_t n, size_t max)
{
    return add_escaped(out, s, n, max, false);
}

void text_format_double(double d, char out[TEXT_DOUBLE_SIZE])
{
    if (isnan(d) || isinf(d)) {
        (void)snprintf(out, TEXT_DOUBLE_SIZE, "%s", isnan(d) ? "NaN" : d > 0 ? "+Inf" : "-Inf");
        return;
    }
    for (int digits = DBL_DIG; digits <= DBL_DECIMAL_DIG; digits++) {
        (void)snprintf(out, TEXT_DOUBLE_SIZE, "%.*g", digits, d); /* 17 digits, sign, point and exponent fit */
        if (strtod(out, NULL) == d) {
            break;
        }
    }
    char *comma = strchr(out, ','); /* a plugin may have set a locale */
    if (comma != NULL) {
        *comma = '.';
    }
}
