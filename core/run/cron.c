/* cron.c - reading cron expressions. */
#include "run/cron.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { TEXT_MAX = 1000, NUMBER_MAX = 9999, QUOTE_MAX = 24 };

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
    [CRON_SECOND] = { "second", 0, 59, 59, NULL, 0,
                      "with six fields the first is the second; five fields start with the minute" },
    [CRON_MINUTE] = { "minute", 0, 59, 59, NULL, 0,
                      "minutes are 0..59, and lists, ranges and steps of them: 0,30 or 10-20 or */5" },
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
    return depot_hint(err,
                      "want five: minute hour day-of-month month day-of-week (or six, the first the second), or @daily "
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
    const int64_t max_ms = INT64_C(3650) * 86400 * 1000;

    text += strspn(text, " \t");
    if (!depot_parse_duration(text, &c->every_ms, err)) {
        return depot_wrap(err, "cron @every");
    }
    if (c->every_ms < 1000 || c->every_ms > max_ms) {
        DEPOT_FAIL(err, INVALID, "cron @every: \"%s\" is out of range 1s..3650d",
                   quoted(text, text + strlen(text)).text);
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
    (void)snprintf(copy, sizeof(copy), "%.*s", (int)n, text); /* fits: it was measured */
    return copy[0] == '@' ? read_macro(copy, out, err) : read_fields(copy, out, err);
}
