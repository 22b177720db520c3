/* time.c - the clocks, and times as RFC 3339 text. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/abort.h"

static int64_t clock_us(clockid_t clock)
{
    struct timespec ts;

    if (clock_gettime(clock, &ts) != 0) {
        base_abort("no clock: %m");
    }
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t depot_now_ms(void)
{
    return clock_us(CLOCK_MONOTONIC) / 1000;
}

int64_t depot_now_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

int64_t depot_wall_us(void)
{
    return clock_us(CLOCK_REALTIME);
}

char *depot_format_time(depot_arena *arena, int64_t wall_us)
{
    int64_t   us = wall_us % 1000000;
    struct tm tm;

    us += us < 0 ? 1000000 : 0;
    time_t seconds = (wall_us - us) / 1000000;
    if (gmtime_r(&seconds, &tm) == NULL) {
        base_abort("time %lld has no date", (long long)wall_us);
    }
    return depot_strf(arena, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
                      tm.tm_hour, tm.tm_min, tm.tm_sec, (int)us);
}

/* Exactly `count` digits at *s; *s moves behind them. */
static bool take_number(const char **s, int count, int *out)
{
    int n = 0;

    for (int i = 0; i < count; i++, (*s)++) {
        if (**s < '0' || **s > '9') {
            return false;
        }
        n = n * 10 + (**s - '0');
    }
    *out = n;
    return true;
}

static bool take_char(const char **s, const char *allowed)
{
    if (**s == '\0' || strchr(allowed, **s) == NULL) {
        return false;
    }
    (*s)++;
    return true;
}

static int days_in_month(int year, int month)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool             leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return month == 2 && leap ? 29 : days[month - 1];
}

static bool take_date(const char **s, struct tm *tm)
{
    int year;
    int month;

    if (!take_number(s, 4, &year) || !take_char(s, "-") || !take_number(s, 2, &month) || !take_char(s, "-") ||
        !take_number(s, 2, &tm->tm_mday)) {
        return false;
    }
    tm->tm_year = year - 1900;
    tm->tm_mon = month - 1;
    return month >= 1 && month <= 12 && tm->tm_mday >= 1 && tm->tm_mday <= days_in_month(year, month);
}

/* A second 60 (leap second) counts as the first one of the next minute, as in PostgreSQL. */
static bool take_clock(const char **s, struct tm *tm)
{
    return take_number(s, 2, &tm->tm_hour) && take_char(s, ":") && take_number(s, 2, &tm->tm_min) &&
           take_char(s, ":") && take_number(s, 2, &tm->tm_sec) && tm->tm_hour <= 23 && tm->tm_min <= 59 &&
           tm->tm_sec <= 60;
}

/* ".459721" as microseconds; digits behind the sixth are dropped. */
static bool take_fraction(const char **s, int64_t *out_us)
{
    int64_t unit = 100000;

    *out_us = 0;
    if (!take_char(s, ".")) {
        return true;
    }
    if (**s < '0' || **s > '9') {
        return false;
    }
    for (; **s >= '0' && **s <= '9'; (*s)++) {
        *out_us += (**s - '0') * unit;
        unit /= 10;
    }
    return true;
}

static bool take_zone(const char **s, int64_t *out_seconds)
{
    int  hours;
    int  minutes;
    bool west = **s == '-';

    *out_seconds = 0;
    if (take_char(s, "Zz")) {
        return true;
    }
    if (!take_char(s, "+-") || !take_number(s, 2, &hours) || !take_char(s, ":") || !take_number(s, 2, &minutes) ||
        hours > 23 || minutes > 59) {
        return false;
    }
    *out_seconds = (hours * 3600 + minutes * 60) * (west ? -1 : 1);
    return true;
}

bool depot_parse_time(const char *text, int64_t *out_wall_us, depot_err *err)
{
    struct tm   tm = { 0 };
    const char *s = text;
    int64_t     us;
    int64_t     offset;

    if (!take_date(&s, &tm) || !take_char(&s, "Tt ") || !take_clock(&s, &tm) || !take_fraction(&s, &us) ||
        !take_zone(&s, &offset) || *s != '\0') {
        (void)DEPOT_FAIL(err, INVALID, "\"%s\" is not a time", text);
        return depot_hint(err, "write it as 2026-11-20T09:23:33Z or 2026-11-20T10:23:33.5+01:00");
    }
    *out_wall_us = ((int64_t)timegm(&tm) - offset) * 1000000 + us;
    return true;
}
