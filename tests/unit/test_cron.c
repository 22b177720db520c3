/* test_cron.c - cron expressions: tables of what they mean and when they are due. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depot/base.h"
#include "run/cron.h"
#include "tzif.h"

#include "tap.h"

static depot_arena *arena;

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

static cron parse(const char *text)
{
    depot_err err = { 0 };
    cron      c;

    if (!cron_parse(text, &c, &err)) {
        printf("Bail out! \"%s\": %s\n", text, err.msg);
        exit(1);
    }
    return c;
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

/* The next times, as the clock of the zone shows them: "2026-03-29 03:00:00+2 2026-03-30 02:30:00+2". */
static const char *due_times(const cron *c, const zone *z, int64_t after_us, int count)
{
    const char *text = "";
    zone_civil  civil;

    for (int i = 0; i < count; i++) {
        if (!cron_next(c, z, after_us, &after_us)) {
            return depot_strf(arena, "%s%snever", text, i > 0 ? ", " : "");
        }
        zone_local(z, after_us, &civil);
        text = depot_strf(arena, "%s%s%lld-%02d-%02d %02d:%02d:%02d%+g", text, i > 0 ? ", " : "", (long long)civil.year,
                          civil.month, civil.day, civil.hour, civil.minute, civil.second, civil.offset_s / 3600.0);
    }
    return text;
}

/* ---- text ---- */

static void expressions_have_one_form_and_plain_words(void)
{
    static const struct {
        const char *text, *canonical, *words;
    } rows[] = {
        { "5 3 * * *", "5 3 * * *", "at 03:05 every day" },
        { "  5\t3  * * * ", "5 3 * * *", "at 03:05 every day" },
        { "* * * * *", "* * * * *", "every minute" },
        { "*/1 * * * *", "* * * * *", "every minute" },
        { "*/5 * * * *", "*/5 * * * *", "every 5 minutes" },
        { "*/7 * * * *", "*/7 * * * *", "at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour" },
        { "0 * * * *", "0 * * * *", "every hour" },
        { "0 */6 * * *", "0 */6 * * *", "every 6 hours" },
        { "0 */5 * * *", "0 */5 * * *", "at minute 0 of hours 0, 5, 10, 15 and 20 every day" },
        { "17 * * * *", "17 * * * *", "at minute 17 of every hour" },
        { "17 */2 * * *", "17 */2 * * *", "at minute 17 of every 2nd hour" },
        { "*/15 9-17 * * mon-FRI", "*/15 9-17 * * 1-5", "every 15 minutes from 09:00 to 17:59 from Monday to Friday" },
        { "5/15 * * * *", "5-50/15 * * * *", "at minutes 5, 20, 35 and 50 of every hour" },
        { "1-30/2 4 * * *", "1-29/2 4 * * *", NULL },
        { "0,30 6,18 * * *", "0,30 6,18 * * *", "at 06:00, 06:30, 18:00 and 18:30 every day" },
        { "3,2,1,0 0 * * *", "0-3 0 * * *", "at 00:00, 00:01, 00:02 and 00:03 every day" },
        { "0 0-23 * * *", "0 0-23 * * *", "at minute 0 of every hour" },
        { "0 12 * * 7", "0 12 * * 0", "at 12:00 on Sundays" },
        { "0 12 * * sun", "0 12 * * 0", "at 12:00 on Sundays" },
        { "0 12 * * fri-sun", "0 12 * * 0,5,6", "at 12:00 on Sunday, Friday and Saturday" },
        { "0 12 * * 5-7", "0 12 * * 0,5,6", NULL },
        { "0 12 * * 7-2", "0 12 * * 0-2", "at 12:00 from Sunday to Tuesday" },
        { "0 12 * * 7-7", "0 12 * * 0", NULL },
        { "0 12 * * 1/2", "0 12 * * 1-5/2", "at 12:00 on Monday, Wednesday and Friday" },
        { "0 12 * * mon,thu", "0 12 * * 1,4", "at 12:00 on Monday and Thursday" },
        { "0 0 13 * 5", "0 0 13 * 5", "at 00:00 on day 13 of the month, and also on Fridays" },
        { "0 0 */2 * 5", "0 0 */2 * 5", NULL },
        { "0 0 L * *", "0 0 L * *", "at 00:00 on the last day of the month" },
        { "0 0 l,15 feb *", "0 0 15,L 2 *", "at 00:00 on day 15 and the last day of the month in February" },
        { "0 0 1 jan-mar,Dec *", "0 0 1 1-3,12 *", "at 00:00 on day 1 of the month in January to March and December" },
        { "0 0 * 6 *", "0 0 * 6 *", "at 00:00 every day in June" },
        { "30 15 4 * * *", "30 15 4 * * *", "at 04:15:30 every day" },
        { "0 15 4 * * *", "15 4 * * *", "at 04:15 every day" },
        { "*/10 * * * * *", "*/10 * * * * *", "every 10 seconds" },
        { "* * * * * *", "* * * * * *", "every second" },
        { "5 0,30 * * * *", "5 0,30 * * * *", "at second 5 of minutes 0 and 30 of every hour" },
        { "*,7 * * * *", "* * * * *", "every minute" },
        { "*/30,7 * * * *", "*/30,7 * * * *", "at minutes 0, 7 and 30 of every hour" },
        { "@yearly", "0 0 1 1 *", "at 00:00 on day 1 of the month in January" },
        { "@Annually", "0 0 1 1 *", NULL },
        { "@monthly", "0 0 1 * *", "at 00:00 on day 1 of the month" },
        { "@weekly", "0 0 * * 0", "at 00:00 on Sundays" },
        { " @DAILY ", "0 0 * * *", "at 00:00 every day" },
        { "@midnight", "0 0 * * *", NULL },
        { "@hourly", "0 * * * *", "every hour" },
        { "@every 90s", "@every 90s", "every 90s" },
        { "@EVERY\t 5m ", "@every 5m", "every 5m" },
        { "@every 1500ms", "@every 1500ms", "every 1500ms" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        cron        c = parse(rows[i].text);
        const char *canonical = cron_format(arena, &c);
        cron        again = parse(canonical);

        is_str(canonical, rows[i].canonical, rows[i].text);
        is_str(cron_format(arena, &again), rows[i].canonical, "the form is its own form");
        if (rows[i].words != NULL) {
            is_str(cron_describe(arena, &c), rows[i].words, rows[i].text);
        }
    }
}

static void mistakes_name_field_and_place(void)
{
    static const struct {
        const char *text, *message, *hint;
    } rows[] = {
        { "0 25 * * *", "cron field 2 (hour): 25 is out of range 0..23", "hours are 0..23, midnight is 0" },
        { "0 0 25 * * *", "cron field 3 (hour): 25 is out of range 0..23", NULL },
        { "60 * * * *", "cron field 1 (minute): 60 is out of range 0..59", NULL },
        { "60 * * * * *", "cron field 1 (second): 60 is out of range 0..59",
          "with six fields the first is the second; five fields start with the minute" },
        { "* * 0 * *", "cron field 3 (day-of-month): 0 is out of range 1..31",
          "days are 1..31, and L for the last day of the month" },
        { "* * 32 * *", "cron field 3 (day-of-month): 32 is out of range 1..31", NULL },
        { "* * * 13 *", "cron field 4 (month): 13 is out of range 1..12", "months are 1..12 or jan..dec" },
        { "* * * 0 *", "cron field 4 (month): 0 is out of range 1..12", NULL },
        { "* * * * 8", "cron field 5 (day-of-week): 8 is out of range 0..7",
          "days are 0..7 (0 and 7 are Sunday) or sun..sat" },
        { "* * * fbe *", "cron field 4 (month): \"fbe\" is not a number or a name", "did you mean feb" },
        { "* * * january *", "cron field 4 (month): \"january\" is not a number or a name", NULL },
        { "* * jan * *", "cron field 3 (day-of-month): \"jan\" is not a number", NULL },
        { "* * 15W * *", "cron field 3 (day-of-month): \"15W\" is not a number", NULL },
        { "* * ? * *", "cron field 3 (day-of-month): \"?\": a number is missing before \"?\"", NULL },
        { "1--100000000 * * * *", "cron field 1 (minute): \"1--100000000\": a number is missing before \"-100000000\"",
          NULL },
        { "1-100000000 * * * *", "cron field 1 (minute): 100000000 is out of range 0..59", NULL },
        { "99999999999999999999999999 * * * *",
          "cron field 1 (minute): 999999999999999999999999... is out of range 0..59", NULL },
        { "-1 * * * *", "cron field 1 (minute): \"-1\": a number is missing before \"-1\"", NULL },
        { "* 22-3 * * *", "cron field 2 (hour): range 22-3 runs backwards", "write it as two: 22-23,0-3" },
        { "* * * * fri-mon", "cron field 5 (day-of-week): range fri-mon runs backwards", "write it as two: 5-6,0-1" },
        { "*/0 * * * *", "cron field 1 (minute): step 0 is out of range 1..60", NULL },
        { "*/90 * * * *", "cron field 1 (minute): step 90 is out of range 1..60",
          "steps count inside the field; for other intervals write @every, such as @every 90m" },
        { "*/ * * * *", "cron field 1 (minute): \"*/\": a number is missing after /",
          "a step looks like */5 or 10-40/10" },
        { "*/5/5 * * * *", "cron field 1 (minute): \"*/5/5\": \"/5\" makes no sense there", NULL },
        { "*5 * * * *", "cron field 1 (minute): \"*5\": \"5\" makes no sense there", NULL },
        { "1- * * * *", "cron field 1 (minute): \"1-\": a number is missing at the end", NULL },
        { "1,,2 * * * *", "cron field 1 (minute): an element of the list is empty", "a list looks like 1,15,30" },
        { "1, * * * *", "cron field 1 (minute): an element of the list is empty", NULL },
        { "* * * *", "cron expression \"* * * *\" has 4 fields",
          "want five: minute hour day-of-month month day-of-week (or six, the first the second), or @daily and the "
          "like" },
        { "* * * * * * 2026", "cron expression \"* * * * * * 2026\" has 7 fields", NULL },
        { "daily", "cron expression \"daily\" has 1 field", NULL },
        { "", "cron expression \"\" has 0 fields", NULL },
        { "0 0 31 2 *", "cron expression \"0 0 31 2 *\" is never due: none of its months has such a day",
          "the last day of any month is L" },
        { "0 0 30 feb *", "cron expression \"0 0 30 feb *\" is never due: none of its months has such a day", NULL },
        { "0 0 31 4,6,9,11 *", "cron expression \"0 0 31 4,6,9,11 *\" is never due: none of its months has such a day",
          NULL },
        { "0 0 31 2 */2", "cron expression \"0 0 31 2 */2\" is never due: none of its months has such a day", NULL },
        { "@dayly", "cron expression \"@dayly\" is unknown", "did you mean @daily" },
        { "@daily 5", "cron expression \"@daily 5\" is unknown", "did you mean @daily" },
        { "@reboot", "cron expression \"@reboot\" is unknown", NULL },
        { "@every 999ms", "cron @every: \"999ms\" is out of range 1s..3650d",
          "it is the time from one run to the next, such as @every 90s" },
        { "@every 3651d", "cron @every: \"3651d\" is out of range 1s..3650d", NULL },
        { "@every -5m", NULL, NULL },
        { "@every", NULL, NULL },
        { "@every 90", NULL, NULL },
        { "\xc3\xa9\x01 * * * *", "cron field 1 (minute): \"???\": a number is missing before \"???\"", NULL },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err err = { 0 };
        cron      c;

        ok(!cron_parse(rows[i].text, &c, &err), rows[i].text);
        is_int(err.code, DEPOT_E_INVALID, "code");
        if (rows[i].message != NULL) {
            is_str(err.msg, rows[i].message, rows[i].text);
        }
        if (rows[i].hint != NULL) {
            is_str(err.hint, rows[i].hint, rows[i].text);
        }
        ok(err.hint[0] != '\0', depot_strf(arena, "\"%s\" has a hint", rows[i].text));
    }
}

static void long_texts_are_refused(void)
{
    char     *text = depot_alloc(arena, 1000001);
    depot_err err = { 0 };
    cron      c;

    for (size_t i = 0; i < 1000000; i++) {
        text[i] = i % 2 == 0 ? '*' : ' ';
    }
    ok(!cron_parse(text, &c, &err), "500000 fields");
    is_str(err.msg, "cron expression of 1000000 bytes is longer than 1000", "message");
}

/* ---- due times ---- */

typedef struct due_row {
    const char *text, *zone, *after, *want; /* want: the next ones, by the zone's clock */
} due_row;

static void check_due(const due_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const due_row *row = &rows[i];
        cron           c = parse(row->text);
        int            count = 1;

        for (const char *p = row->want; *p != '\0'; p++) {
            count += *p == ',' ? 1 : 0;
        }
        is_str(due_times(&c, load(row->zone), instant(row->after), count), row->want,
               depot_strf(arena, "%s in %s after %s", row->text, row->zone, row->after));
    }
}

static void due_times_of_ordinary_days(void)
{
    static const due_row rows[] = {
        { "5 3 * * *", "UTC", "2026-11-20T03:04:59.999999Z", "2026-11-20 03:05:00+0, 2026-11-21 03:05:00+0" },
        { "5 3 * * *", "UTC", "2026-11-20T03:05:00Z", "2026-11-21 03:05:00+0" },
        { "5 3 * * *", "UTC", "2026-11-20T03:05:00.000001Z", "2026-11-21 03:05:00+0" },
        { "5 3 * * *", "Asia/Kolkata", "2026-11-20T00:00:00Z", "2026-11-21 03:05:00+5.5" },
        { "*/20 * * * *", "UTC", "2026-12-31T23:39:00Z",
          "2026-12-31 23:40:00+0, 2027-01-01 00:00:00+0, 2027-01-01 00:20:00+0" },
        { "30 4 1,15 * fri", "UTC", "2026-05-01T04:30:00Z",
          "2026-05-08 04:30:00+0, 2026-05-15 04:30:00+0, 2026-05-22 04:30:00+0, 2026-05-29 04:30:00+0, 2026-06-01 "
          "04:30:00+0" },
        { "0 0 */10 * fri", "UTC", "2026-05-02T00:00:00Z", "2026-07-31 00:00:00+0, 2026-08-21 00:00:00+0" },
        { "0 0 L * *", "UTC", "2028-01-31T00:00:00Z",
          "2028-02-29 00:00:00+0, 2028-03-31 00:00:00+0, 2028-04-30 00:00:00+0" },
        { "0 0 L 2 *", "UTC", "2096-03-01T00:00:00Z", "2097-02-28 00:00:00+0" },
        { "0 0 29 2 *", "UTC", "2096-02-29T00:00:00Z", "2104-02-29 00:00:00+0" },
        { "0 0 29 2 */7", "UTC", "2088-02-29T00:00:00Z", "2128-02-29 00:00:00+0" },
        { "0 0 31 2 mon", "UTC", "2026-02-20T00:00:00Z", "2026-02-23 00:00:00+0, 2027-02-01 00:00:00+0" },
        { "0 0 1 1 *", "UTC", "1969-12-31T23:59:59Z", "1970-01-01 00:00:00+0, 1971-01-01 00:00:00+0" },
        { "59 59 23 31 12 *", "UTC", "2026-12-31T23:59:58Z", "2026-12-31 23:59:59+0, 2027-12-31 23:59:59+0" },
        { "10,50 * * * * *", "UTC", "2026-01-01T00:59:30Z",
          "2026-01-01 00:59:50+0, 2026-01-01 01:00:10+0, 2026-01-01 01:00:50+0" },
        { "10,50 20 3 * * *", "UTC", "2026-01-01T03:10:30Z", "2026-01-01 03:20:10+0, 2026-01-01 03:20:50+0" },
        { "5 10,20 3 * * *", "UTC", "2026-01-01T03:10:05Z", "2026-01-01 03:20:05+0, 2026-01-02 03:10:05+0" },
        { "@every 90s", "UTC", "1970-01-01T00:00:00Z", "1970-01-01 00:01:30+0, 1970-01-01 00:03:00+0" },
        { "@every 7d", "UTC", "2026-11-20T10:00:00Z", "2026-11-26 00:00:00+0, 2026-12-03 00:00:00+0" },
        { "@every 1500ms", "UTC", "1970-01-01T00:00:01.499999Z", "1970-01-01 00:00:01+0" },
        { "@every 10s", "UTC", "1969-12-31T23:59:41Z", "1969-12-31 23:59:50+0, 1970-01-01 00:00:00+0" },
    };

    check_due(rows, DEPOT_N(rows));
}

static void clocks_put_forward(void)
{
    static const due_row rows[] = {
        /* Berlin: 29 March 2026, 02:00 to 03:00 do not exist. */
        { "30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z",
          "2026-03-28 02:30:00+1, 2026-03-29 03:00:00+2, 2026-03-30 02:30:00+2" },
        { "*/10 2 * * *", "Europe/Berlin", "2026-03-28T01:45:00Z",
          "2026-03-28 02:50:00+1, 2026-03-29 03:00:00+2, 2026-03-30 02:00:00+2" },
        { "30 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z",
          "2026-03-29 03:00:00+2, 2026-03-29 03:30:00+2, 2026-03-30 02:30:00+2" },
        { "0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29 03:00:00+2, 2026-03-30 02:00:00+2" },
        { "30 2 * * *", "Europe/Berlin", "2026-03-29T00:59:59.999999Z", "2026-03-29 03:00:00+2" },
        { "30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-30 02:30:00+2" },
        { "30 2 29 3 *", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-03-29 03:00:00+2, 2027-03-29 02:30:00+2" },
        { "30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29 01:30:00+1, 2026-03-29 03:30:00+2" },
        { "0 */2 * * *", "Europe/Berlin", "2026-03-28T22:00:00Z",
          "2026-03-29 00:00:00+1, 2026-03-29 04:00:00+2, 2026-03-29 06:00:00+2" },
        /* New York: 8 March 2026. */
        { "30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", "2026-03-08 03:00:00-4, 2026-03-09 02:30:00-4" },
        { "30 2 8 3 *", "America/New_York", "2026-03-01T00:00:00Z", "2026-03-08 03:00:00-4, 2027-03-08 02:30:00-5" },
        /* Lord Howe: 4 October 2026, 02:00 to 02:30. */
        { "15 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00:00Z",
          "2026-10-04 02:30:00+11, 2026-10-05 02:15:00+11" },
        { "45 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00:00Z", "2026-10-04 02:45:00+11" },
        { "15 * * * *", "Australia/Lord_Howe", "2026-10-03T14:00:00Z",
          "2026-10-04 01:15:00+10.5, 2026-10-04 03:15:00+11" },
        /* Apia went from 29 to 31 December 2011. */
        { "0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z",
          "2011-12-29 12:00:00-10, 2011-12-31 00:00:00+14, 2011-12-31 12:00:00+14" },
        { "0 0 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-31 00:00:00+14, 2012-01-01 00:00:00+14" },
        { "0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", "2011-12-31 00:00:00+14, 2012-12-30 12:00:00+14" },
        { "0 12 * * fri", "Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-31 00:00:00+14, 2012-01-06 12:00:00+14" },
        { "0 * 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", "2012-12-30 00:00:00+14" },
        { "0 */12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-29 12:00:00-10, 2011-12-31 00:00:00+14" },
        /* A rule beyond the listed years. */
        { "30 2 * * *", "Europe/Berlin", "2099-03-28T12:00:00Z", "2099-03-29 03:00:00+2, 2099-03-30 02:30:00+2" },
        { "@every 1h", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29 03:00:00+2, 2026-03-29 04:00:00+2" },
    };

    check_due(rows, DEPOT_N(rows));
}

static void clocks_put_back(void)
{
    static const due_row rows[] = {
        /* Berlin: 25 October 2026, 02:00 to 03:00 come twice. */
        { "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25 02:30:00+2, 2026-10-26 02:30:00+1" },
        { "30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26 02:30:00+1" },
        { "30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", "2026-10-26 02:30:00+1" },
        { "30 2,3 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", "2026-10-25 03:30:00+1, 2026-10-26 02:30:00+1" },
        { "*/30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z",
          "2026-10-25 02:00:00+2, 2026-10-25 02:30:00+2, 2026-10-26 02:00:00+1" },
        { "0 3 * * *", "Europe/Berlin", "2026-10-25T00:59:59Z", "2026-10-25 03:00:00+1" },
        { "0 0-23 * * *", "Europe/Berlin", "2026-10-24T23:30:00Z",
          "2026-10-25 02:00:00+2, 2026-10-25 03:00:00+1, 2026-10-25 04:00:00+1" },
        { "0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z",
          "2026-10-25 02:00:00+2, 2026-10-25 02:00:00+1, 2026-10-25 03:00:00+1" },
        { "*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z",
          "2026-10-25 02:30:00+2, 2026-10-25 02:00:00+1, 2026-10-25 02:30:00+1, 2026-10-25 03:00:00+1" },
        { "0 */2 * * *", "Europe/Berlin", "2026-10-24T22:00:00Z",
          "2026-10-25 02:00:00+2, 2026-10-25 02:00:00+1, 2026-10-25 04:00:00+1" },
        /* New York: 1 November 2026, 01:00 to 02:00. */
        { "30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", "2026-11-01 01:30:00-4, 2026-11-02 01:30:00-5" },
        { "30 1 * * *", "America/New_York", "2026-11-01T05:45:00Z", "2026-11-02 01:30:00-5" },
        { "30 * * * *", "America/New_York", "2026-11-01T05:00:00Z", "2026-11-01 01:30:00-4, 2026-11-01 01:30:00-5" },
        /* Lord Howe: 5 April 2026, 01:30 to 02:00. */
        { "45 1 * * *", "Australia/Lord_Howe", "2026-04-04T13:00:00Z",
          "2026-04-05 01:45:00+11, 2026-04-06 01:45:00+10.5" },
        { "45 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00:00Z",
          "2026-04-05 01:45:00+11, 2026-04-05 01:45:00+10.5, 2026-04-05 02:45:00+10.5" },
        { "0 2 * * *", "Australia/Lord_Howe", "2026-04-04T14:00:00Z", "2026-04-05 02:00:00+10.5" },
        /* Midnight itself comes twice in Azores' 24 October 2026: 01:00 summer time is 00:00. */
        { "30 0 * * *", "Atlantic/Azores", "2026-10-24T12:00:00Z", "2026-10-25 00:30:00+0, 2026-10-26 00:30:00-1" },
    };

    check_due(rows, DEPOT_N(rows));
}

static void far_instants_are_never_due(void)
{
    static const int64_t after[] = { INT64_MIN, INT64_MAX, INT64_C(-62135596800000001) - 1000000,
                                     INT64_C(253402300799000000) };
    cron                 fields = parse("* * * * *");
    cron                 every = parse("@every 10s");
    int64_t              out = 0;

    for (size_t i = 0; i < DEPOT_N(after); i++) {
        ok(!cron_next(&fields, zone_utc(), after[i], &out),
           depot_strf(arena, "fields after %lld", (long long)after[i]));
        ok(!cron_next(&every, zone_utc(), after[i], &out), depot_strf(arena, "@every after %lld", (long long)after[i]));
    }
    ok(cron_next(&fields, zone_utc(), INT64_C(-62135596800000001), &out), "the first minute of year 1");
}

/* The zone's rule skips 00:00 to 01:00 on each 22 March: such an entry is never due, and the search ends. */
static void what_a_rule_always_skips_is_never_due(void)
{
    static const char                    footer[] = "<+0330>-3:30<+0430>,J80/24,J264/24";
    DEPOT_AUTO(depot_buf_free) depot_buf file = { 0 };
    depot_err                            err = { 0 };
    const zone                          *z = NULL;
    cron                                 by_time = parse("30 */24 22 3 *");
    cron                                 by_face = parse("30 0 22 3 *");
    int64_t                              after_us = instant("2026-01-01T00:00:00Z");
    int64_t                              out = 0;

    tzif_small(&file, footer, strlen(footer));
    if (ok_err(zone_parse(arena, "Test", file.data, file.len, &z, &err), &err, "a zone like Iran's")) {
        ok(!cron_next(&by_time, z, after_us, &out), "elapsed time: never");
        is_str(due_times(&by_face, z, after_us, 2), "2026-03-22 01:00:00+4.5, 2027-03-22 01:00:00+4.5",
               "clock's face: after the gap");
    }
}

/* ---- jitter ---- */

static void jitter_is_the_same_everywhere(void)
{
    int64_t due = instant("2026-11-20T03:05:00Z");
    int64_t smallest = INT64_MAX;
    int64_t largest = -1;

    /* Written down, so that daemons of different versions agree; sha256 of "nightly-backup\n1795143900000000". */
    is_int(cron_jitter_ms("nightly-backup", due, 30000), 8285, "a known value");
    is_int(cron_jitter_ms("nightly-backup", due, 0), 0, "no jitter");
    is_int(cron_jitter_ms("nightly-backup", due, -5), 0, "never negative");
    ok(cron_jitter_ms("nightly-backup", due, 30000) != cron_jitter_ms("nightly-report", due, 30000), "another name");
    ok(cron_jitter_ms("nightly-backup", due, 30000) != cron_jitter_ms("nightly-backup", due + 1, 30000),
       "another time");
    ok(cron_jitter_ms("x", due, INT64_MAX) >= 0, "the largest limit");
    for (int i = 0; i < 1000; i++) {
        int64_t jitter = cron_jitter_ms("x", due + i, 9);

        smallest = jitter < smallest ? jitter : smallest;
        largest = jitter > largest ? jitter : largest;
    }
    is_int(smallest, 0, "from nothing");
    is_int(largest, 9, "to the limit");
}

int main(void)
{
    arena = depot_arena_new();
    run(expressions_have_one_form_and_plain_words);
    run(mistakes_name_field_and_place);
    run(long_texts_are_refused);
    run(due_times_of_ordinary_days);
    run(clocks_put_forward);
    run(clocks_put_back);
    run(far_instants_are_never_due);
    run(what_a_rule_always_skips_is_never_due);
    run(jitter_is_the_same_everywhere);
    depot_arena_free(arena);
    return done();
}
