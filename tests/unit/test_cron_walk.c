/* test_cron_walk.c - due times against a walker that tries every minute and knows the C library's calendar only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "depot/base.h"
#include "run/cron.h"

#include "tap.h"

enum { MINUTE_S = 60, DAY_S = 86400 };

static depot_arena *arena;
static uint64_t     random_state = 0x2545f4914f6cdd1du;

static int random_below(int n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (int)(random_state % (uint64_t)n);
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

static bool in_set(const cron *c, cron_field field, int value)
{
    return (c->set[field] & (UINT64_C(1) << value)) != 0;
}

/* The clock's face as minutes; also whether that minute fits. */
static bool fits(const cron *c, const struct tm *tm)
{
    struct tm tomorrow = { .tm_year = tm->tm_year, .tm_mon = tm->tm_mon, .tm_mday = tm->tm_mday + 1, .tm_hour = 12 };
    bool      last = timegm(&tomorrow) != -1 && tomorrow.tm_mday == 1;
    bool      by_day = in_set(c, CRON_DAY, tm->tm_mday) || (c->last_day && last);
    bool      by_weekday = in_set(c, CRON_WEEKDAY, tm->tm_wday);

    return in_set(c, CRON_MINUTE, tm->tm_min) && in_set(c, CRON_HOUR, tm->tm_hour) &&
           in_set(c, CRON_MONTH, tm->tm_mon + 1) &&
           (c->star[CRON_DAY] || c->star[CRON_WEEKDAY] ? by_day && by_weekday : by_day || by_weekday);
}

static bool any_fits(const cron *c, int64_t from, int64_t until)
{
    for (int64_t face = from; face < until; face += MINUTE_S) {
        struct tm tm;
        time_t    at = face;

        if (gmtime_r(&at, &tm) != NULL && fits(c, &tm)) {
            return true;
        }
    }
    return false;
}

/* The first due minute after `after_s` and before `until_s`, or until_s. */
static int64_t walk(const cron *c, int64_t after_s, int64_t until_s)
{
    int64_t shown = INT64_MIN; /* the first minute that the clock has not shown yet */

    for (time_t at = (after_s / MINUTE_S - 3 * 24 * 60) * MINUTE_S; at < until_s; at += MINUTE_S) {
        struct tm tm;

        if (localtime_r(&at, &tm) == NULL) {
            abort();
        }

        int64_t face = at + tm.tm_gmtoff;
        bool    skipped = shown != INT64_MIN && face > shown;
        bool    fresh = face >= shown;

        if (at > after_s &&
            (c->star[CRON_HOUR] ? fits(c, &tm) : (fresh && fits(c, &tm)) || (skipped && any_fits(c, shown, face)))) {
            return at;
        }
        shown = face + MINUTE_S > shown ? face + MINUTE_S : shown;
    }
    return until_s;
}

static const char *random_field(int min, int max, int star_percent)
{
    int kind = random_below(100);
    int a = min + random_below(max - min + 1);
    int b = min + random_below(max - min + 1);
    int step = 1 + random_below(max - min + 1);

    if (kind < star_percent) {
        return random_below(3) == 0 ? depot_strf(arena, "*/%d", step) : "*";
    }
    switch (random_below(5)) {
    case 0: return depot_strf(arena, "%d,%d", a, b);
    case 1: return depot_strf(arena, "%d-%d", a < b ? a : b, a < b ? b : a);
    case 2: return depot_strf(arena, "%d-%d/%d", a < b ? a : b, a < b ? b : a, step);
    default: return depot_strf(arena, "%d", a);
    }
}

static const char *random_expression(void)
{
    const char *day = random_below(8) == 0 ? "L" : random_field(1, 31, 80);

    return depot_strf(arena, "%s %s %s %s %s", random_field(0, 59, 30), random_field(0, 5, 40), day,
                      random_field(1, 12, 95), random_field(0, 7, 75));
}

/* Near a change of offset, where it matters. */
static int64_t random_instant(const zone *z)
{
    int64_t   around = random_below(2000000000) + INT64_C(400000000); /* 1982 .. 2046 */
    zone_span span;

    zone_span_at(z, around, &span);
    if (span.until_s < INT64_C(2500000000) && random_below(10) > 0) {
        around = span.until_s + random_below(2 * DAY_S) - DAY_S - DAY_S / 2;
    }
    return around;
}

static const char *utc_text(bool found, int64_t us)
{
    return found ? depot_format_time(arena, us) : "nothing";
}

static void due_times_agree_with_a_walk_over_all_minutes(void)
{
    static const char *const zones[] = { "Europe/Berlin",     "America/New_York",  "Australia/Lord_Howe",
                                         "Pacific/Apia",      "Asia/Kolkata",      "UTC",
                                         "America/Sao_Paulo", "Africa/Casablanca", "Asia/Gaza",
                                         "Antarctica/Troll" };
    enum { CASES = 150, WINDOW_S = 4 * DAY_S };

    for (size_t i = 0; i < DEPOT_N(zones); i++) {
        const zone *z = load(zones[i]);
        const char *ours = "";
        const char *theirs = "";
        int         found = 0;

        if (setenv("TZ", zones[i], 1) != 0) {
            abort();
        }
        tzset();
        for (int n = 0; n < CASES && strcmp(ours, theirs) == 0; n++) {
            depot_err   err = { 0 };
            const char *text = random_expression();
            int64_t     after_s = random_instant(z);
            int64_t     until_s = after_s + WINDOW_S;
            int64_t     next_us = 0;
            cron        c;

            if (!cron_parse(text, &c, &err)) {
                continue; /* 31 February */
            }

            int64_t walked_s = walk(&c, after_s, until_s);
            bool    due = cron_next(&c, z, after_s * 1000000, &next_us) && next_us < until_s * 1000000;

            found += walked_s < until_s ? 1 : 0;
            ours = depot_strf(arena, "%s after %lld: %s", text, (long long)after_s, utc_text(due, next_us));
            theirs = depot_strf(arena, "%s after %lld: %s", text, (long long)after_s,
                                utc_text(walked_s < until_s, walked_s * 1000000));
        }
        is_str(ours, theirs, zones[i]);
        ok(found > CASES / 3, depot_strf(arena, "%s: %d due times compared", zones[i], found));
    }
}

/* Dates far apart, by a walk over all midnights in UTC. */
static void rare_dates_agree_with_a_walk_over_all_days(void)
{
    enum { CASES = 300 };
    const char *ours = "";
    const char *theirs = "";

    for (int n = 0; n < CASES && strcmp(ours, theirs) == 0; n++) {
        const char *text = depot_strf(arena, "0 0 %s %s %s", random_below(6) == 0 ? "L" : random_field(1, 31, 30),
                                      random_field(1, 12, 20), random_field(0, 6, 60));
        depot_err   err = { 0 };
        int64_t     next_us = 0;
        time_t      at = (int64_t)random_below(40000) * DAY_S;
        int64_t     after_us = at * INT64_C(1000000);
        struct tm   tm;
        cron        c;

        if (!cron_parse(text, &c, &err)) {
            continue;
        }
        do {
            at += DAY_S;
        } while (gmtime_r(&at, &tm) != NULL && !fits(&c, &tm));

        bool due = cron_next(&c, zone_utc(), after_us, &next_us);

        ours = depot_strf(arena, "%s: %s", text, utc_text(due, next_us));
        theirs = depot_strf(arena, "%s: %s", text, utc_text(true, at * INT64_C(1000000)));
    }
    is_str(ours, theirs, depot_strf(arena, "%d random dates", CASES));
}

int main(void)
{
    arena = depot_arena_new();
    run(due_times_agree_with_a_walk_over_all_minutes);
    run(rare_dates_agree_with_a_walk_over_all_days);
    depot_arena_free(arena);
    return done();
}
