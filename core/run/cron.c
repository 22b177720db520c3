/* cron.c - reading cron expressions, and finding their next due time in a zone. */
#include "run/cron.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { TEXT_MAX = 1000, NUMBER_MAX = 9999, QUOTE_MAX = 24, DAY_S = 86400, SECOND_US = 1000000 };

static const char *const month_names[] = { "jan", "feb", "mar", "apr", "may", "jun",
                                           "jul", "aug", "sep", "oct", "nov", "dec" };
static const char *const weekday_names[] = { "sun", "mon", "tue", "wed", "thu", "fri", "sat" };

/* `last` is the largest value that a set holds, `max` the largest that may be written. */
static const struct field_kind {
    const char        *name;
    int                min, last, max;
    const char *const *names;
    size_t             name_count;
    const char        *hint;
} kinds[CRON_FIELDS] = {
    [CRON_SECOND] = { "second", 0, 59, 59, NULL, 0, "with six fields the first is the second; five fields start with the minute" },
    [CRON_MINUTE] = { "minute", 0, 59, 59, NULL, 0, "minutes are 0..59, and lists, ranges and steps of them: 0,30 or 10-20 or */5" },
    [CRON_HOUR] = { "hour", 0, 23, 23, NULL, 0, "hours are 0..23, midnight is 0" },
    [CRON_DAY] = { "day-of-month", 1, 31, 31, NULL, 0, "days are 1..31, and L for the last day of the month" },
    [CRON_MONTH] = { "month", 1, 12, 12, month_names, DEPOT_N(month_names), "months are 1..12 or jan..dec" },
    [CRON_WEEKDAY] = { "day-of-week", 0, 6, 7, weekday_names, DEPOT_N(weekday_names),
                       "days are 0..7 (0 and 7 are Sunday) or sun..sat" },
};

static const struct macro {
    const char *name, *meaning;
} macros[] = {
    { "@yearly", "0 0 1 1 *" }, { "@annually", "0 0 1 1 *" }, { "@monthly", "0 0 1 * *" }, { "@weekly", "0 0 * * 0" },
    { "@daily", "0 0 * * *" },  { "@midnight", "0 0 * * *" }, { "@hourly", "0 * * * *" },
};

/* ---- reading ---- */

/* One element of a field's list: p runs from its start to end. */
typedef struct element {
    const struct field_kind *kind;
    const char              *start, *p, *end;
    depot_err               *err;
} element;

/* A piece of the text as it may be shown: short, and without bytes that spoil a log line. */
typedef struct quote {
    char text[QUOTE_MAX + 4];
} quote;

static quote quoted(const char *start, const char *end)
{
    quote  q = { { 0 } };
    size_t n = (size_t)(end - start) < QUOTE_MAX ? (size_t)(end - start) : QUOTE_MAX;

    for (size_t i = 0; i < n; i++) {
        q.text[i] = (char)(start[i] < 0x20 || start[i] > 0x7e ? '?' : start[i]);
    }
    memcpy(q.text + n, (size_t)(end - start) > QUOTE_MAX ? "..." : "", (size_t)(end - start) > QUOTE_MAX ? 4 : 1);
    return q;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word_char(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* A run of digits; large numbers stop growing, and are out of every range. */
static int read_number(element *e)
{
    int n = 0;

    for (; e->p < e->end && is_digit(*e->p); e->p++) {
        n = n > NUMBER_MAX ? n : n * 10 + (*e->p - '0');
    }
    return n;
}

static bool fail_word(element *e, const char *word_end)
{
    const struct field_kind *k = e->kind;
    quote                    word = quoted(e->p, word_end);

    if (word_end == e->p) {
        DEPOT_FAIL(e->err, INVALID, "\"%s\": a number is missing %s%s%s", quoted(e->start, e->end).text,
                   e->p == e->end ? "at the end" : "before \"", quoted(e->p, e->end).text, e->p == e->end ? "" : "\"");
        return depot_hint(e->err, "%s", k->hint);
    }
    DEPOT_FAIL(e->err, INVALID, "\"%s\" is not a number%s", word.text, k->names == NULL ? "" : " or a name");

    const char *near = k->names == NULL ? NULL : depot_suggest(word.text, k->names, k->name_count);

    return near == NULL ? depot_hint(e->err, "%s", k->hint) : depot_hint(e->err, "did you mean %s", near);
}

static bool read_value(element *e, int *out)
{
    const struct field_kind *k = e->kind;
    const char              *start = e->p;
    const char              *word_end = e->p;

    while (word_end < e->end && is_word_char(*word_end)) {
        word_end++;
    }
    for (size_t i = 0; word_end - start == 3 && i < k->name_count; i++) {
        if (strncasecmp(start, k->names[i], 3) == 0) {
            e->p = word_end;
            *out = k->min + (int)i;
            return true;
        }
    }
    if (word_end == start || !is_digit(*start)) {
        return fail_word(e, word_end);
    }
    *out = read_number(e);
    if (e->p < word_end) {
        e->p = start;
        return fail_word(e, word_end);
    }
    if (*out < k->min || *out > k->max) {
        DEPOT_FAIL(e->err, INVALID, "%s is out of range %d..%d", quoted(start, word_end).text, k->min, k->max);
        return depot_hint(e->err, "%s", k->hint);
    }
    return true;
}

static bool read_step(element *e, int *out)
{
    const struct field_kind *k = e->kind;
    const char              *start = ++e->p;
    int                      max = k->last - k->min + 1;

    if (e->p == e->end || !is_digit(*e->p)) {
        DEPOT_FAIL(e->err, INVALID, "\"%s\": a number is missing after /", quoted(e->start, e->end).text);
        return depot_hint(e->err, "a step looks like */5 or 10-40/10");
    }
    *out = read_number(e);
    if (*out < 1 || *out > max) {
        DEPOT_FAIL(e->err, INVALID, "step %s is out of range 1..%d", quoted(start, e->p).text, max);
        return depot_hint(e->err, "steps count inside the field; for other intervals write @every, such as @every 90m");
    }
    return true;
}

/* `first` and `last` of the element; *open: a single value, which a step makes run to the end of the field. */
static bool read_range(element *e, int *first, int *last, bool *open)
{
    const struct field_kind *k = e->kind;

    *open = false;
    if (*e->p == '*') {
        e->p++;
        *first = k->min;
        *last = k->last;
        return true;
    }
    if (!read_value(e, first)) {
        return false;
    }
    *last = *first;
    if (e->p == e->end || *e->p != '-') {
        *open = true;
        return true;
    }
    e->p++;
    if (!read_value(e, last)) {
        return false;
    }
    /* Sunday ends the week in fri-sun, and begins it in 7-2. */
    if (k->max > k->last && *last == 0 && *first > 0) {
        *last = k->max;
    } else if (*first > k->last && *last < *first) {
        *first = k->min;
    }
    if (*first > *last) {
        DEPOT_FAIL(e->err, INVALID, "range %s runs backwards", quoted(e->start, e->p).text);
        return depot_hint(e->err, "write it as two: %d-%d,%d-%d", *first, k->last, k->min, *last);
    }
    return true;
}

static bool read_element(element *e, cron *c, cron_field field)
{
    const struct field_kind *k = e->kind;
    int                      first = 0;
    int                      last = 0;
    int                      step = 1;
    bool                     open = false;

    if (e->start == e->end) {
        DEPOT_FAIL(e->err, INVALID, "an element of the list is empty");
        return depot_hint(e->err, "a list looks like 1,15,30");
    }
    if (field == CRON_DAY && e->end - e->start == 1 && (*e->p == 'L' || *e->p == 'l')) {
        c->last_day = true;
        return true;
    }
    if (*e->p == '*') {
        c->star[field] = true;
    }
    if (!read_range(e, &first, &last, &open)) {
        return false;
    }
    if (e->p < e->end && *e->p == '/') {
        last = open && first <= k->last ? k->last : last;
        if (!read_step(e, &step)) {
            return false;
        }
    }
    if (e->p < e->end) {
        DEPOT_FAIL(e->err, INVALID, "\"%s\": \"%s\" makes no sense there", quoted(e->start, e->end).text,
                   quoted(e->p, e->end).text);
        return depot_hint(e->err, "%s", k->hint);
    }
    for (int value = first; value <= last; value += step) {
        c->set[field] |= UINT64_C(1) << (value > k->last ? k->min : value);
    }
    return true;
}

/* A comma-separated list. */
static bool read_field(const char *start, const char *end, cron *c, cron_field field, depot_err *err)
{
    for (const char *p = start;; p++) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        element     e = { &kinds[field], p, p, comma == NULL ? end : comma, err };

        if (!read_element(&e, c, field)) {
            return false;
        }
        if (comma == NULL) {
            return true;
        }
        p = comma;
    }
}

static bool fail_count(const char *text, int count, depot_err *err)
{
    DEPOT_FAIL(err, INVALID, "cron expression \"%s\" has %d field%s", quoted(text, text + strlen(text)).text, count,
               count == 1 ? "" : "s");
    return depot_hint(err, "want five: minute hour day-of-month month day-of-week (or six, the first the second), or @daily "
                           "and the like");
}

static bool day_can_come(const cron *c)
{
    /* Either day field is enough when both restrict, and every day of the week comes. */
    if (c->last_day || (!c->star[CRON_DAY] && !c->star[CRON_WEEKDAY])) {
        return true;
    }
    for (int month = 1; month <= 12; month++) {
        uint64_t days = (UINT64_C(2) << zone_month_days(2000, month)) - 1;

        if ((c->set[CRON_MONTH] >> month & 1) != 0 && (c->set[CRON_DAY] & days) != 0) {
            return true;
        }
    }
    return false;
}

static bool read_fields(const char *text, cron *c, depot_err *err)
{
    const char *starts[CRON_FIELDS];
    const char *ends[CRON_FIELDS];
    int         count = 0;

    for (const char *p = text; *p != '\0';) {
        size_t blank = strspn(p, " \t");
        size_t word = strcspn(p + blank, " \t");

        if (word > 0 && count < CRON_FIELDS) {
            starts[count] = p + blank;
            ends[count] = p + blank + word;
        }
        count += word > 0 ? 1 : 0;
        p += blank + word;
    }
    if (count != CRON_FIELDS && count != CRON_FIELDS - 1) {
        return fail_count(text, count, err);
    }

    int skipped = CRON_FIELDS - count;

    c->set[CRON_SECOND] = skipped == 1 ? 1 : 0;
    for (int i = 0; i < count; i++) {
        cron_field field = (cron_field)(i + skipped);

        if (!read_field(starts[i], ends[i], c, field, err)) {
            return depot_wrap(err, "cron field %d (%s)", i + 1, kinds[field].name);
        }
    }
    if (!day_can_come(c)) {
        DEPOT_FAIL(err, INVALID, "cron expression \"%s\" is never due: none of its months has such a day",
                   quoted(text, text + strlen(text)).text);
        return depot_hint(err, "the last day of any month is L");
    }
    return true;
}

static bool read_every(const char *text, cron *c, depot_err *err)
{
    const int64_t max_ms = INT64_C(3650) * DAY_S * 1000;

    text += strspn(text, " \t");
    if (!depot_parse_duration(text, &c->every_ms, err)) {
        return depot_wrap(err, "cron @every");
    }
    if (c->every_ms < 1000 || c->every_ms > max_ms) {
        DEPOT_FAIL(err, INVALID, "cron @every: \"%s\" is out of range 1s..3650d", quoted(text, text + strlen(text)).text);
        return depot_hint(err, "it is the time from one run to the next, such as @every 90s");
    }
    return true;
}

static bool read_macro(const char *text, cron *c, depot_err *err)
{
    static const char every[] = "@every";
    const char       *names[DEPOT_N(macros) + 1];
    size_t            n = strcspn(text, " \t");
    quote             word = quoted(text, text + n);

    if (n == strlen(every) && strncasecmp(text, every, n) == 0) {
        return read_every(text + n, c, err);
    }
    for (size_t i = 0; i < DEPOT_N(macros); i++) {
        names[i] = macros[i].name;
        if (strcasecmp(text, macros[i].name) == 0) {
            return read_fields(macros[i].meaning, c, err);
        }
    }
    names[DEPOT_N(macros)] = every;
    DEPOT_FAIL(err, INVALID, "cron expression \"%s\" is unknown", quoted(text, text + strlen(text)).text);

    const char *near = depot_suggest(word.text, names, DEPOT_N(names));

    return near != NULL ? depot_hint(err, "did you mean %s", near)
                        : depot_hint(err, "known are @yearly @monthly @weekly @daily @hourly and @every 90s");
}

bool cron_parse(const char *text, cron *out, depot_err *err)
{
    size_t n = strlen(text);
    char   copy[TEXT_MAX + 1];

    *out = (cron){ 0 };
    if (n > TEXT_MAX) {
        return DEPOT_FAIL(err, INVALID, "cron expression of %zu bytes is longer than %d", n, TEXT_MAX);
    }
    while (n > 0 && is_blank(text[n - 1])) {
        n--;
    }
    while (n > 0 && is_blank(*text)) {
        text++;
        n--;
    }
    memcpy(copy, text, n);
    copy[n] = '\0';
    return copy[0] == '@' ? read_macro(copy, out, err) : read_fields(copy, out, err);
}

/* ---- due times: a clock's face is counted in seconds as if the clock were in Greenwich ---- */

enum {
    /* 29 February on a given day of the week may be 40 years away (across 2100); other dates come within 8. */
    HORIZON_YEARS = 40,
    /* More than any clock was ever put back: what the clock showed before must be known. */
    LOOKBACK_S = 3 * DAY_S,
};

static const int64_t min_s = INT64_C(-62135596800); /* 0001-01-01 */
static const int64_t max_s = INT64_C(253402300799); /* 9999-12-31T23:59:59 */

/* The smallest member of set from `from` on, or -1. */
static int next_in(uint64_t set, int from)
{
    uint64_t rest = from > 63 ? 0 : set >> from << from;

    return rest == 0 ? -1 : __builtin_ctzll(rest);
}

/* The first fitting second of a day from `from` on, or -1. */
static int next_of_day(const cron *c, int from)
{
    int hour = from / 3600;
    int minute = from / 60 % 60;
    int second = next_in(c->set[CRON_SECOND], from % 60);

    if (second < 0) {
        minute++;
        second = next_in(c->set[CRON_SECOND], 0);
    }

    int found_minute = next_in(c->set[CRON_MINUTE], minute);
    int found_hour = next_in(c->set[CRON_HOUR], found_minute < 0 ? hour + 1 : hour);

    if (found_hour < 0) {
        return -1;
    }
    if (found_hour > hour) {
        found_minute = next_in(c->set[CRON_MINUTE], 0);
    }
    if (found_hour > hour || found_minute > minute) {
        second = next_in(c->set[CRON_SECOND], 0);
    }
    return found_hour * 3600 + found_minute * 60 + second;
}

static bool fits_day(const cron *c, int64_t year, int month, int day, int weekday)
{
    bool by_day = (c->set[CRON_DAY] >> day & 1) != 0 || (c->last_day && day == zone_month_days(year, month));
    bool by_weekday = (c->set[CRON_WEEKDAY] >> weekday & 1) != 0;

    return !c->star[CRON_DAY] && !c->star[CRON_WEEKDAY] ? by_day || by_weekday : by_day && by_weekday;
}

/* The first fitting time from <= t < until on the clock's face, or `until`. Steps by months, then days, then at once. */
static int64_t next_on_face(const cron *c, int64_t from, int64_t until)
{
    int64_t day = zone_floor_div(from, DAY_S);
    int     of_day = (int)(from - day * DAY_S);

    while (day * DAY_S < until) {
        int64_t year = 0;
        int     month = 0;
        int     month_day = 0;

        zone_date(day, &year, &month, &month_day);
        if ((c->set[CRON_MONTH] >> month & 1) == 0) {
            day = zone_days(year, month + 1, 1);
            of_day = 0;
            continue;
        }

        int found = fits_day(c, year, month, month_day, zone_weekday(day)) ? next_of_day(c, of_day) : -1;

        if (found >= 0) {
            return day * DAY_S + found < until ? day * DAY_S + found : until;
        }
        day++;
        of_day = 0;
    }
    return until;
}

static bool next_every(const cron *c, int64_t after_us, int64_t *out_us)
{
    int64_t period_us = c->every_ms * 1000;

    *out_us = (zone_floor_div(after_us, period_us) + 1) * period_us;
    return true;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Goes from span to span of equal offset. `shown` is the latest time that the clock has shown so far: when a span starts
 * behind it, the clock was put back; when it starts beyond it, the clock was put forward. */
bool cron_next(const cron *c, const zone *z, int64_t after_us, int64_t *out_us)
{
    int64_t earliest_s = zone_floor_div(after_us, SECOND_US) + 1;
    int64_t horizon_s = earliest_s + INT64_C(366) * DAY_S * HORIZON_YEARS;
    int64_t at_s = earliest_s - LOOKBACK_S;
    int64_t shown = INT64_MIN;

    if (earliest_s < min_s || earliest_s > max_s) {
        return false;
    }
    if (c->every_ms > 0) {
        return next_every(c, after_us, out_us);
    }
    while (at_s < horizon_s) {
        zone_span span;

        zone_span_at(z, at_s, &span);

        int64_t start = at_s + span.offset_s;
        int64_t end = (span.until_s < horizon_s ? span.until_s : horizon_s) + span.offset_s;
        bool    by_face = !c->star[CRON_HOUR];

        if (by_face && shown != INT64_MIN && start > shown && at_s >= earliest_s && next_on_face(c, shown, start) < start) {
            *out_us = at_s * SECOND_US;
            return true;
        }

        int64_t from = larger(by_face ? larger(start, shown) : start, earliest_s + span.offset_s);
        int64_t found = from < end ? next_on_face(c, from, end) : end;

        if (found < end) {
            *out_us = (found - span.offset_s) * SECOND_US;
            return true;
        }
        shown = larger(shown, end);
        at_s = span.until_s;
    }
    return false;
}

int64_t cron_jitter_ms(const char *name, int64_t due_us, int64_t max_ms)
{
    char     due[32];
    uint8_t  digest[32];
    uint64_t value = 0;

    if (max_ms <= 0) {
        return 0;
    }

    DEPOT_AUTO(depot_buf_free) depot_buf seed = { 0 };
    int                                  n = snprintf(due, sizeof(due), "\n%lld", (long long)due_us);

    depot_buf_adds(&seed, name);
    depot_buf_add(&seed, due, (size_t)n);
    depot_sha256(seed.data, seed.len, digest);
    for (size_t i = 0; i < 8; i++) {
        value = value << 8 | digest[i];
    }
    return (int64_t)(value % ((uint64_t)max_ms + 1));
}
