/* test_zone.c - civil time, against the C library and against written-down facts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "depot/base.h"
#include "run/zone.h"
#include "tzif.h"

#include "tap.h"

static depot_arena *arena;

static const char *const zones[] = {
    "UTC",          "Europe/Berlin",   "Europe/Dublin",   "America/New_York",  "America/Sao_Paulo",
    "America/Nuuk", "Asia/Kolkata",    "Asia/Gaza",       "Africa/Casablanca", "Australia/Lord_Howe",
    "Pacific/Apia", "Pacific/Chatham", "Antarctica/Troll"
};

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint64_t random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static const zone *load(const char *name)
{
    depot_err   err = { 0 };
    const zone *z = NULL;

    if (!zone_load(arena, name, &z, &err)) {
        printf("Bail out! %s (%s)\n", err.msg, err.hint);
        exit(1);
    }
    return z;
}

static void use_library_zone(const char *tz)
{
    if (setenv("TZ", tz, 1) != 0) {
        abort();
    }
    tzset();
}

static const char *civil_text(const zone_civil *c)
{
    return depot_strf(arena, "%lld-%02d-%02d %02d:%02d:%02d %d/%d %+d %s%s", (long long)c->year, c->month, c->day,
                      c->hour, c->minute, c->second, c->weekday, c->yearday, (int)c->offset_s, c->abbrev,
                      c->is_summer ? " summer" : "");
}

static const char *library_text(time_t at)
{
    struct tm tm;

    if (localtime_r(&at, &tm) == NULL) {
        abort();
    }
    return depot_strf(arena, "%lld-%02d-%02d %02d:%02d:%02d %d/%d %+ld %s%s", tm.tm_year + 1900LL, tm.tm_mon + 1,
                      tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, tm.tm_wday, tm.tm_yday + 1, tm.tm_gmtoff,
                      tm.tm_zone, tm.tm_isdst > 0 ? " summer" : "");
}

static const char *at(const zone *z, int64_t utc_s)
{
    zone_civil civil;

    zone_local(z, utc_s * 1000000, &civil);
    return civil_text(&civil);
}

/* One point a zone; the first instant that differs is shown. */
static void agrees_with_library(const zone *z, const char *name, int64_t from_s, int64_t until_s, int count)
{
    const char *ours = "";
    const char *theirs = "";

    for (int i = 0; i < count && strcmp(ours, theirs) == 0; i++) {
        int64_t utc_s = from_s + (int64_t)(random_number() % (uint64_t)(until_s - from_s));

        ours = depot_strf(arena, "%lld: %s", (long long)utc_s, at(z, utc_s));
        theirs = depot_strf(arena, "%lld: %s", (long long)utc_s, library_text(utc_s));
    }
    is_str(ours, theirs, name);
}

static void clocks_agree_with_the_c_library(void)
{
    for (size_t i = 0; i < DEPOT_N(zones); i++) {
        use_library_zone(zones[i]);
        agrees_with_library(load(zones[i]), zones[i], -2208988800, 7258118400, 400); /* 1900 .. 2200 */
    }
}

/* The second before each change of offset and the change, until 2100. */
static void agrees_at_changes(const zone *z, const char *name)
{
    zone_span   span = { .until_s = 0 };
    const char *ours = "";
    const char *theirs = "";
    int         changes = 0;

    for (; span.until_s < 4102444800 && strcmp(ours, theirs) == 0; changes++) {
        zone_span_at(z, span.until_s, &span);
        if (span.until_s == INT64_MAX) {
            break;
        }
        ours = depot_strf(arena, "%s, then %s", at(z, span.until_s - 1), at(z, span.until_s));
        theirs = depot_strf(arena, "%s, then %s", library_text(span.until_s - 1), library_text(span.until_s));
    }
    is_str(ours, theirs, depot_strf(arena, "%s: %d changes", name, changes));
}

static void changes_agree_with_the_c_library(void)
{
    for (size_t i = 0; i < DEPOT_N(zones); i++) {
        use_library_zone(zones[i]);
        agrees_at_changes(load(zones[i]), zones[i]);
    }
}

static void calendar_goes_there_and_back(void)
{
    int64_t bad = 0;

    for (int64_t days = -800000; days < 3000000 && bad == 0; days += 7) {
        int64_t year = 0;
        int     month = 0;
        int     day = 0;

        zone_date(days, &year, &month, &day);
        if (zone_days(year, month, day) != days || day < 1 || day > zone_month_days(year, month)) {
            bad = days;
        }
    }
    is_int(bad, 0, "days to date and back");
    is_int(zone_days(1970, 1, 1), 0, "1970-01-01");
    is_int(zone_days(2000, 2, 29) + 1, zone_days(2000, 3, 1), "2000 is a leap year");
    is_int(zone_days(1900, 2, 28) + 1, zone_days(1900, 3, 1), "1900 is not");
    is_int(zone_days(2025, 13, 1), zone_days(2026, 1, 1), "month 13 is next January");
    is_int(zone_weekday(zone_days(2026, 11, 20)), 5, "2026-11-20 is a Friday");
    is_int(zone_weekday(-4), 0, "1969-12-28 is a Sunday");
    is_int(zone_floor_div(-1, 86400), -1, "division rounds down");
}

static int64_t instant(const char *text)
{
    depot_err err = { 0 };
    int64_t   us = 0;

    if (!depot_parse_time(text, &us, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    return us;
}

static void instants_of_a_clock(void)
{
    /* The clock's face is written as if it were one in Greenwich. */
    static const struct {
        const char *zone, *face;
        int         count;
        const char *first, *second;
    } rows[] = {
        { "UTC", "2026-01-31T23:59:59.000007Z", 1, "2026-01-31T23:59:59.000007Z", NULL },
        { "Europe/Berlin", "2026-03-29T01:59:00Z", 1, "2026-03-29T00:59:00Z", NULL },
        { "Europe/Berlin", "2026-03-29T02:00:00Z", 0, NULL, NULL },
        { "Europe/Berlin", "2026-03-29T02:59:59Z", 0, NULL, NULL },
        { "Europe/Berlin", "2026-03-29T03:00:00Z", 1, "2026-03-29T01:00:00Z", NULL },
        { "Europe/Berlin", "2026-10-25T01:59:59Z", 1, "2026-10-24T23:59:59Z", NULL },
        { "Europe/Berlin", "2026-10-25T02:00:00Z", 2, "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z" },
        { "Europe/Berlin", "2026-10-25T03:00:00Z", 1, "2026-10-25T02:00:00Z", NULL },
        { "Europe/Berlin", "2077-10-31T02:30:00Z", 2, "2077-10-31T00:30:00Z", "2077-10-31T01:30:00Z" },
        { "Australia/Lord_Howe", "2026-04-05T01:45:00Z", 2, "2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z" },
        { "Australia/Lord_Howe", "2026-10-04T02:15:00Z", 0, NULL, NULL },
        { "Pacific/Apia", "2011-12-30T12:00:00Z", 0, NULL, NULL },
        { "Pacific/Apia", "2011-12-31T00:00:00Z", 1, "2011-12-30T10:00:00Z", NULL },
        { "Asia/Kolkata", "2026-07-01T00:00:00Z", 1, "2026-06-30T18:30:00Z", NULL },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        const char *name = depot_strf(arena, "%s %s", rows[i].zone, rows[i].face);
        int64_t     got[2] = { 0 };
        zone_civil  civil;

        zone_local(zone_utc(), instant(rows[i].face), &civil);
        is_int(zone_to_utc(load(rows[i].zone), &civil, got), rows[i].count, name);
        is_int(got[0], rows[i].first == NULL ? 0 : instant(rows[i].first), name);
        is_int(got[1], rows[i].second == NULL ? 0 : instant(rows[i].second), name);
    }
}

static void clocks_lead_back_to_their_instant(void)
{
    for (size_t i = 0; i < DEPOT_N(zones); i++) {
        const zone *z = load(zones[i]);
        int         lost = 0;

        for (int n = 0; n < 2000; n++) {
            int64_t    utc_us = (int64_t)(random_number() % UINT64_C(4102444800000000));
            int64_t    back[2] = { 0 };
            zone_civil civil;

            zone_local(z, utc_us, &civil);

            int count = zone_to_utc(z, &civil, back);

            lost += (count > 0 && back[0] == utc_us) || (count > 1 && back[1] == utc_us) ? 0 : 1;
        }
        is_int(lost, 0, zones[i]);
    }
}

static void extreme_instants_have_a_clock(void)
{
    static const int64_t instants[] = { INT64_MIN, INT64_MIN + 1, -1, 0, INT64_MAX - 1, INT64_MAX };

    for (size_t i = 0; i < DEPOT_N(instants); i++) {
        zone_civil civil;

        zone_local(load("Europe/Berlin"), instants[i], &civil);
        ok(civil.month >= 1 && civil.month <= 12 && civil.micro >= 0,
           depot_strf(arena, "%lld", (long long)instants[i]));
    }
    is_str(at(zone_utc(), -1), "1969-12-31 23:59:59 3/365 +0 UTC", "one second before 1970");
    is_str(zone_name(zone_utc()), "UTC", "its name");
}

/* ---- rules ---- */

static bool parse_footer(const char *footer, const zone **out, depot_err *err)
{
    DEPOT_AUTO(depot_buf_free) depot_buf file = { 0 };

    tzif_small(&file, footer, strlen(footer));
    return zone_parse(arena, "Test/Zone", file.data, file.len, out, err);
}

static void footers_agree_with_the_c_library(void)
{
    static const char *const footers[] = {
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "EST5EDT,M3.2.0,M11.1.0",
        "NZST-12NZDT,M9.5.0,M4.1.0/3",
        "IST-1GMT0,M10.5.0,M3.5.0/1",
        "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
        "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
        "EET-2EEST,M3.4.4/50,M10.4.4/50",
        "<+0330>-3:30<+0430>,J79/24,J263/24",
        "AAA3BBB,J60/0,J300/2:30:15",
        "AAA3BBB,59/0,300",
        "<+00>0",
        "LMT-0:53:28",
    };

    for (size_t i = 0; i < DEPOT_N(footers); i++) {
        const zone *z = NULL;
        depot_err   err = { 0 };

        use_library_zone(footers[i]);
        if (ok_err(parse_footer(footers[i], &z, &err), &err, "is read")) {
            agrees_with_library(z, footers[i], 0, 7258118400, 1000);
            agrees_at_changes(z, footers[i]);
        }
    }
}

static void summer_may_last_all_year(void)
{
    const zone *z = NULL;
    depot_err   err = { 0 };
    int         winters = 0;

    ok_err(parse_footer("XXX3EDT4,0/0,J365/23", &z, &err), &err, "the example of RFC 8536");
    for (int64_t utc_s = 1700000000; utc_s < 1900000000; utc_s += 3600) {
        zone_civil civil;

        zone_local(z, utc_s * 1000000, &civil);
        winters += civil.is_summer ? 0 : 1;
    }
    is_int(winters, 0, "hours of winter");
}

/* Turns may be written up to a week outside of their year, both of them. */
static void odd_rules_leave_no_hole(void)
{
    static const char *const footers[] = { "AAA0BBB,0/-167,1/-160", "AAA0BBB,365/167,364/100", "AAA0BBB,1/-160,0/-167",
                                           "AAA0BBB,364/100,365/167" };

    for (size_t i = 0; i < DEPOT_N(footers); i++) {
        const zone *z = NULL;
        depot_err   err = { 0 };
        zone_span   span = { 0 };
        int         holes = 0;

        if (!ok_err(parse_footer(footers[i], &z, &err), &err, footers[i])) {
            continue;
        }
        zone_span_at(z, 0, &span);
        for (int n = 0; n < 80 && span.until_s < INT64_MAX; n++) {
            zone_span next;
            zone_span last;

            zone_span_at(z, span.until_s, &next);
            zone_span_at(z, next.until_s - 1, &last);
            holes += next.from_s != span.until_s || next.is_summer == span.is_summer ? 1 : 0;
            holes += last.from_s != next.from_s || last.until_s != next.until_s ? 1 : 0;
            span = next;
        }
        is_int(holes, 0, "spans that do not join");
        ok(span.from_s > 1199145600 && span.until_s < INT64_MAX, "two changes a year, for 40 years");
    }
}

static void bad_footers_are_refused(void)
{
    static const char *const footers[] = {
        "C",
        "CE-1",
        "CET",
        "CET-25",
        "CET-1CEST",
        "CET-1CEST,M3.5.0",
        "CET-1CEST,M13.1.0,M10.5.0",
        "CET-1CEST,M3.6.0,M10.5.0",
        "CET-1CEST,M3.5.7,M10.5.0",
        "CET-1CEST,M3.5.0/168,M10.5.0",
        "CET-1CEST,J0,J365",
        "CET-1CEST,J1,J366",
        "CET-1CEST,1,366",
        "CET-1CEST,M3.5.0,M10.5.0/3x",
        "<+01-1",
        "<+1>-1",
        "CET-1:60",
        "CET-99999999999999999999",
        "UTC0 ",
        ",M3.5.0,M10.5.0",
    };

    for (size_t i = 0; i < DEPOT_N(footers); i++) {
        const zone *z = NULL;
        depot_err   err = { 0 };

        ok(!parse_footer(footers[i], &z, &err) && z == NULL, footers[i]);
        is_str(err.msg, "cannot use time zone Test/Zone: the footer is no rule", "message");
        is_int(err.code, DEPOT_E_CORRUPT, "code");
    }
}

int main(void)
{
    arena = depot_arena_new();
    run(calendar_goes_there_and_back);
    run(clocks_agree_with_the_c_library);
    run(changes_agree_with_the_c_library);
    run(instants_of_a_clock);
    run(clocks_lead_back_to_their_instant);
    run(extreme_instants_have_a_clock);
    run(footers_agree_with_the_c_library);
    run(summer_may_last_all_year);
    run(odd_rules_leave_no_hole);
    run(bad_footers_are_refused);
    depot_arena_free(arena);
    return done();
}
