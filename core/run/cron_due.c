/* cron_due.c - the next due time of a cron expression in a zone. Times on a clock's face are counted in seconds, as if
 * that clock were in Greenwich. */
#include <stdio.h>

#include "run/cron.h"

enum {
    DAY_S = 86400,
    SECOND_US = 1000000,
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

/* The first fitting time from <= t < until on the clock's face, or `until`. Jumps over months, steps over days. */
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

/* Goes from span to span of equal offset. `shown` is the latest time that the clock has shown so far: a span that
 * starts before it repeats (the clock was put back), one that starts after it left a gap (put forward). */
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
        bool    gap = shown != INT64_MIN && start > shown;

        if (by_face && gap && at_s >= earliest_s && next_on_face(c, shown, start) < start) {
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
