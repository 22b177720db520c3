/* zone_rule.c - the POSIX TZ text at the end of a zone file: daylight saving in the years beyond the listed changes. */
#include <string.h>

#include "run/zone_data.h"

enum { YEARS_AROUND = 2, ABBREV_MAX = 16 };

/* ---- reading: each function moves *p behind what it read ---- */

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool read_char(const char **p, char c)
{
    if (**p != c) {
        return false;
    }
    (*p)++;
    return true;
}

static bool read_number(const char **p, int min, int max, int *out)
{
    int n = 0;

    if (!is_digit(**p)) {
        return false;
    }
    for (; is_digit(**p); (*p)++) {
        n = n * 10 + (**p - '0');
        if (n > max) {
            return false;
        }
    }
    *out = n;
    return n >= min;
}

/* hh[:mm[:ss]] with an optional sign. */
static bool read_time(const char **p, int max_hours, int32_t *out_s)
{
    int sign = **p == '-' ? -1 : 1;
    int hours = 0;
    int minutes = 0;
    int seconds = 0;

    if (**p == '-' || **p == '+') {
        (*p)++;
    }
    if (!read_number(p, 0, max_hours, &hours)) {
        return false;
    }
    if (read_char(p, ':')) {
        if (!read_number(p, 0, 59, &minutes)) {
            return false;
        }
        if (read_char(p, ':') && !read_number(p, 0, 59, &seconds)) {
            return false;
        }
    }
    *out_s = sign * (hours * 3600 + minutes * 60 + seconds);
    return true;
}

/* "CET" or "<+0330>". */
static bool read_abbrev(depot_arena *arena, const char **p, const char **out)
{
    bool        quoted = read_char(p, '<');
    const char *start = *p;

    while (is_alpha(**p) || (quoted && (is_digit(**p) || **p == '+' || **p == '-'))) {
        (*p)++;
    }

    size_t n = (size_t)(*p - start);

    if (n < 3 || n > ABBREV_MAX || (quoted && !read_char(p, '>'))) {
        return false;
    }
    *out = depot_strndup(arena, start, n);
    return true;
}

static bool read_turn(const char **p, zone_turn *out)
{
    bool good;

    out->time_s = 2 * 3600;
    if (read_char(p, 'M')) {
        out->kind = ZONE_TURN_WEEKDAY;
        good = read_number(p, 1, 12, &out->month) && read_char(p, '.') && read_number(p, 1, 5, &out->week) &&
               read_char(p, '.') && read_number(p, 0, 6, &out->day);
    } else if (read_char(p, 'J')) {
        out->kind = ZONE_TURN_DAY_NO_LEAP;
        good = read_number(p, 1, 365, &out->day);
    } else {
        out->kind = ZONE_TURN_DAY;
        good = read_number(p, 0, 365, &out->day);
    }
    return good && (!read_char(p, '/') || read_time(p, 167, &out->time_s));
}

bool zone_rule_parse(depot_arena *arena, const char *text, zone_rule *out)
{
    const char *p = text;
    int32_t     west_s = 0;

    *out = (zone_rule){ 0 };
    if (!read_abbrev(arena, &p, &out->standard.abbrev) || !read_time(&p, 24, &west_s)) {
        return false;
    }
    out->standard.offset_s = -west_s;
    if (*p == '\0') {
        return true;
    }
    out->has_summer = true;
    out->summer.is_summer = true;
    out->summer.offset_s = out->standard.offset_s + 3600;
    if (!read_abbrev(arena, &p, &out->summer.abbrev)) {
        return false;
    }
    if (*p != ',') {
        if (!read_time(&p, 24, &west_s)) {
            return false;
        }
        out->summer.offset_s = -west_s;
    }
    return read_char(&p, ',') && read_turn(&p, &out->to_summer) && read_char(&p, ',') &&
           read_turn(&p, &out->to_standard) && *p == '\0';
}

/* ---- using ---- */

static int64_t turn_days(const zone_turn *turn, int64_t year)
{
    int64_t first = zone_days(year, 1, 1);

    if (turn->kind == ZONE_TURN_DAY) {
        return first + turn->day;
    }
    if (turn->kind == ZONE_TURN_DAY_NO_LEAP) {
        return first + turn->day - 1 + (turn->day >= 60 && zone_month_days(year, 2) == 29 ? 1 : 0);
    }
    first = zone_days(year, turn->month, 1);

    int day = (turn->day - zone_weekday(first) + 7) % 7 + 7 * (turn->week - 1);

    return first + (day < zone_month_days(year, turn->month) ? day : day - 7);
}

typedef struct change {
    int64_t          at_s;
    const zone_type *to;
} change;

/* Ascending; equal instants stay in order of insertion, so that the last one of them wins. */
static void insert_change(change *list, size_t n, change added)
{
    for (; n > 0 && list[n - 1].at_s > added.at_s; n--) {
        list[n] = list[n - 1];
    }
    list[n] = added;
}

void zone_rule_span(const zone_rule *rule, int64_t utc_s, zone_span *out)
{
    change  list[2 * (2 * YEARS_AROUND + 1)];
    size_t  n = 0;
    int64_t year = 0;
    int     month = 0;
    int     day = 0;

    *out = (zone_span){ INT64_MIN, INT64_MAX, rule->standard.offset_s, false, rule->standard.abbrev };
    if (!rule->has_summer) {
        return;
    }
    /* A turn may be written up to a week outside of its year: the years next door may not be enough. */
    zone_date(zone_floor_div(utc_s, 86400), &year, &month, &day);
    for (int64_t y = year - YEARS_AROUND; y <= year + YEARS_AROUND; y++) {
        int64_t summer_s = turn_days(&rule->to_summer, y) * 86400 + rule->to_summer.time_s;
        int64_t standard_s = turn_days(&rule->to_standard, y) * 86400 + rule->to_standard.time_s;

        insert_change(list, n++, (change){ summer_s - rule->standard.offset_s, &rule->summer });
        insert_change(list, n++, (change){ standard_s - rule->summer.offset_s, &rule->standard });
    }
    for (size_t i = 0; i < n; i++) {
        if (list[i].at_s > utc_s) {
            out->until_s = list[i].at_s;
            return;
        }
        *out = (zone_span){ list[i].at_s, INT64_MAX, list[i].to->offset_s, list[i].to->is_summer, list[i].to->abbrev };
    }
}
