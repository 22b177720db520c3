/* test_zone.c - civil time: against the C library, against written-down facts, and with damaged files. */
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "depot/base.h"
#include "run/zone.h"

#include "tap.h"

static depot_arena *arena;

static const char *const zones[] = { "UTC",           "Europe/Berlin",      "Europe/Dublin",    "America/New_York",
                                     "America/Sao_Paulo", "America/Nuuk",   "Asia/Kolkata",     "Asia/Gaza",
                                     "Africa/Casablanca", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Chatham",
                                     "Antarctica/Troll" };

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
    return depot_strf(arena, "%lld-%02d-%02d %02d:%02d:%02d %d/%d %+d %s%s", (long long)c->year, c->month, c->day, c->hour,
                      c->minute, c->second, c->weekday, c->yearday, (int)c->offset_s, c->abbrev,
                      c->is_summer ? " summer" : "");
}

static const char *library_text(time_t at)
{
    struct tm tm;

    if (localtime_r(&at, &tm) == NULL) {
        abort();
    }
    return depot_strf(arena, "%lld-%02d-%02d %02d:%02d:%02d %d/%d %+ld %s%s", tm.tm_year + 1900LL, tm.tm_mon + 1,
                      tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, tm.tm_wday, tm.tm_yday + 1, tm.tm_gmtoff, tm.tm_zone,
                      tm.tm_isdst > 0 ? " summer" : "");
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

/* The second before each change of offset, and the change. */
static void changes_agree_with_the_c_library(void)
{
    for (size_t i = 0; i < DEPOT_N(zones); i++) {
        const zone *z = load(zones[i]);
        zone_span   span = { .until_s = 0 };
        const char *ours = "";
        const char *theirs = "";
        int         changes = 0;

        use_library_zone(zones[i]);
        for (; span.until_s < 4102444800 && strcmp(ours, theirs) == 0; changes++) { /* 2100 */
            zone_span_at(z, span.until_s, &span);
            if (span.until_s == INT64_MAX) {
                break;
            }
            ours = depot_strf(arena, "%s, then %s", at(z, span.until_s - 1), at(z, span.until_s));
            theirs = depot_strf(arena, "%s, then %s", library_text(span.until_s - 1), library_text(span.until_s));
        }
        is_str(ours, theirs, depot_strf(arena, "%s: %d changes", zones[i], changes));
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

static void instants_of_a_clock(void)
{
    static const struct {
        const char *zone;
        zone_civil  civil;
        int         count;
        const char *first, *second;
    } rows[] = {
        { "UTC", { .year = 2026, .month = 1, .day = 31, .hour = 23, .minute = 59, .second = 59, .micro = 7 }, 1,
          "2026-01-31T23:59:59.000007Z", NULL },
        { "Europe/Berlin", { .year = 2026, .month = 3, .day = 29, .hour = 1, .minute = 59 }, 1, "2026-03-29T00:59:00Z", NULL },
        { "Europe/Berlin", { .year = 2026, .month = 3, .day = 29, .hour = 2 }, 0, NULL, NULL },
        { "Europe/Berlin", { .year = 2026, .month = 3, .day = 29, .hour = 2, .minute = 59 }, 0, NULL, NULL },
        { "Europe/Berlin", { .year = 2026, .month = 3, .day = 29, .hour = 3 }, 1, "2026-03-29T01:00:00Z", NULL },
        { "Europe/Berlin", { .year = 2026, .month = 10, .day = 25, .hour = 2 }, 2, "2026-10-25T00:00:00Z",
          "2026-10-25T01:00:00Z" },
        { "Europe/Berlin", { .year = 2026, .month = 10, .day = 25, .hour = 3 }, 1, "2026-10-25T02:00:00Z", NULL },
        { "Europe/Berlin", { .year = 2077, .month = 10, .day = 31, .hour = 2, .minute = 30 }, 2, "2077-10-31T00:30:00Z",
          "2077-10-31T01:30:00Z" },
        { "Australia/Lord_Howe", { .year = 2026, .month = 4, .day = 5, .hour = 1, .minute = 45 }, 2, "2026-04-04T14:45:00Z",
          "2026-04-04T15:15:00Z" },
        { "Australia/Lord_Howe", { .year = 2026, .month = 10, .day = 4, .hour = 2, .minute = 15 }, 0, NULL, NULL },
        { "Pacific/Apia", { .year = 2011, .month = 12, .day = 30, .hour = 12 }, 0, NULL, NULL },
        { "Pacific/Apia", { .year = 2011, .month = 12, .day = 31 }, 1, "2011-12-30T10:00:00Z", NULL },
        { "Asia/Kolkata", { .year = 2026, .month = 7, .day = 1 }, 1, "2026-06-30T18:30:00Z", NULL },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        const zone_civil *c = &rows[i].civil;
        const char *name = depot_strf(arena, "%s %lld-%02d-%02d %02d:%02d", rows[i].zone, (long long)c->year, c->month, c->day,
                                      c->hour, c->minute);
        int64_t     got[2] = { 0 };
        int64_t     want = 0;
        depot_err   err = { 0 };

        if (!is_int(zone_to_utc(load(rows[i].zone), c, got), rows[i].count, name)) {
            continue;
        }
        for (int n = 0; n < rows[i].count; n++) {
            ok(depot_parse_time(n == 0 ? rows[i].first : rows[i].second, &want, &err), "the row's time");
            is_str(depot_format_time(arena, got[n]), depot_format_time(arena, want), name);
        }
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
        ok(civil.month >= 1 && civil.month <= 12 && civil.micro >= 0, depot_strf(arena, "%lld", (long long)instants[i]));
    }
    is_str(at(zone_utc(), -1), "1969-12-31 23:59:59 3/365 +0 UTC", "one second before 1970");
    is_str(zone_name(zone_utc()), "UTC", "its name");
}

/* ---- names ---- */

static void bad_names_are_refused(void)
{
    static const struct {
        const char *name, *message, *hint;
    } rows[] = {
        { "Europe/Berln", "time zone \"Europe/Berln\" does not exist", "did you mean Europe/Berlin" },
        { "europe/berlin", "time zone \"europe/berlin\" does not exist", "did you mean Europe/Berlin" },
        { "Berlin", "time zone \"Berlin\" does not exist", "did you mean Europe/Berlin" },
        { "new york", "time zone \"new york\" is not a zone's name", "did you mean America/New_York" },
        { "Europe", "time zone \"Europe\" is a folder of zones", NULL },
        { "../../../etc/passwd", "time zone \"../../../etc/passwd\" is not a zone's name", NULL },
        { "Europe/../UTC", "time zone \"Europe/../UTC\" is not a zone's name", NULL },
        { "/etc/localtime", "time zone \"/etc/localtime\" is not a zone's name", NULL },
        { "tzdata.zi", "time zone \"tzdata.zi\" is not a zone's name", NULL },
        { "", "time zone \"\" is not a zone's name", NULL },
        { "Europe//Berlin", "time zone \"Europe//Berlin\" is not a zone's name", NULL },
        { "Europe/", "time zone \"Europe/\" is not a zone's name", NULL },
        { "CET-1CEST,M3.5.0,M10.5.0/3", "time zone \"CET-1CEST,M3.5.0,M10.5.0/3\" is not a zone's name", NULL },
        { "Xyzzy/Plugh", "time zone \"Xyzzy/Plugh\" does not exist",
          "names are those of the files below /usr/share/zoneinfo, such as Europe/Berlin, and UTC" },
        { "Europe/Berlin/Mitte", "time zone \"Europe/Berlin/Mitte\" does not exist", NULL },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err   err = { 0 };
        const zone *z = NULL;

        ok(!zone_load(arena, rows[i].name, &z, &err) && z == NULL, rows[i].message);
        is_str(err.msg, rows[i].message, "message");
        is_int(err.code, DEPOT_E_INVALID, "code");
        if (rows[i].hint != NULL) {
            is_str(err.hint, rows[i].hint, "hint");
        }
    }
}

static void long_names_are_refused(void)
{
    char       *name = depot_alloc(arena, 100001);
    depot_err   err = { 0 };
    const zone *z = NULL;

    memset(name, 'a', 100000);
    ok(!zone_load(arena, name, &z, &err), "100000 bytes");
    is_int(err.code, DEPOT_E_INVALID, "code");
}

static void a_system_without_zones_has_utc(void)
{
    depot_err   err = { 0 };
    const zone *z = NULL;

    ok(setenv("TZDIR", "/nonexistent/zoneinfo", 1) == 0, "TZDIR set");
    ok_err(zone_load(arena, "UTC", &z, &err), &err, "UTC needs no file");
    ok(z == zone_utc(), "it is built in");
    ok(!zone_load(arena, "Europe/Berlin", &z, &err), "Europe/Berlin does");
    is_str(err.hint, "there is no /nonexistent/zoneinfo: install the package tzdata, or use UTC", "hint");
    ok(unsetenv("TZDIR") == 0, "TZDIR unset");
}

/* NULL when the file is no zone file, or one that counts leap seconds; else what zone_parse says, "" for nothing. */
static const char *complaint_about(const char *path)
{
    char       *bytes = NULL;
    size_t      n = 0;
    depot_err   err = { 0 };
    const zone *z = NULL;

    if (strstr(path, "/right/") != NULL || !depot_read_file(arena, path, 1 << 20, &bytes, &n, &err) || n < 4 ||
        memcmp(bytes, "TZif", 4) != 0) {
        return NULL;
    }
    return zone_parse(arena, path, bytes, n, &z, &err) ? "" : depot_strdup(arena, err.msg);
}

static void every_installed_zone_can_be_read(void)
{
    char        root[] = "/usr/share/zoneinfo";
    char *const roots[] = { root, NULL };
    FTS        *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    const char *complaint = "";
    int         found = 0;

    if (!ok(walk != NULL, "walked /usr/share/zoneinfo")) {
        return;
    }
    for (FTSENT *entry = fts_read(walk); entry != NULL; entry = fts_read(walk)) {
        const char *text = entry->fts_info == FTS_F ? complaint_about(entry->fts_path) : NULL;

        found += text == NULL ? 0 : 1;
        complaint = text == NULL || complaint[0] != '\0' ? complaint : text;
    }
    ok(fts_close(walk) == 0, "to its end");
    ok(found > 300, depot_strf(arena, "%d zone files", found));
    is_str(complaint, "", "all can be read");
}

/* ---- files ---- */

/* A file of version 2 with one type "STD" (UTC+1), no changes, and this footer. */
static size_t small_file(char *out, size_t size, const char *footer)
{
    static const char header[44] = { 'T', 'Z', 'i', 'f', '2', [39] = 1, [43] = 4 };
    static const char type[10] = { 0, 0, 0x0e, 0x10, 0, 0, 'S', 'T', 'D', '\0' };
    size_t            n = 0;

    for (int i = 0; i < 2; i++) {
        memcpy(out + n, header, sizeof(header));
        memcpy(out + n + sizeof(header), type, sizeof(type));
        n += sizeof(header) + sizeof(type);
    }
    return n + (size_t)snprintf(out + n, size - n, "\n%s\n", footer);
}

static bool parse_footer(const char *footer, const zone **out, depot_err *err)
{
    char   file[512];
    size_t n = small_file(file, sizeof(file), footer);

    return zone_parse(arena, "Test/Zone", file, n, out, err);
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

static void bad_footers_are_refused(void)
{
    static const char *const footers[] = {
        "C", "CE-1", "CET", "CET-25", "CET-1CEST", "CET-1CEST,M3.5.0", "CET-1CEST,M13.1.0,M10.5.0", "CET-1CEST,M3.6.0,M10.5.0",
        "CET-1CEST,M3.5.7,M10.5.0", "CET-1CEST,M3.5.0/168,M10.5.0", "CET-1CEST,J0,J365", "CET-1CEST,J1,J366", "CET-1CEST,1,366",
        "CET-1CEST,M3.5.0,M10.5.0/3x", "<+01-1", "<+1>-1", "CET-1:60", "CET-99999999999999999999", "UTC0 ", ",M3.5.0,M10.5.0",
    };

    for (size_t i = 0; i < DEPOT_N(footers); i++) {
        const zone *z = NULL;
        depot_err   err = { 0 };

        ok(!parse_footer(footers[i], &z, &err) && z == NULL, footers[i]);
        is_str(err.msg, "cannot use time zone Test/Zone: the footer is no rule", "message");
        is_int(err.code, DEPOT_E_CORRUPT, "code");
    }
}

static void damaged_files_are_refused(void)
{
    static const struct {
        size_t      offset;
        int         byte;
        const char *message;
    } rows[] = {
        { 0, 'X', "not a time zone file" },
        { 4, '\0', "the file has format version 1, which ends in 2038" },
        { 32, 0x7f, "the file claims more than any zone has" },
        { 36, 0x7f, "the file claims more than any zone has" },
        { 54, 'X', "not a time zone file" },
        { 54 + 31, 1, "the file counts leap seconds, which system clocks do not" },
        { 54 + 35, 1, "the file is cut short" },
        { 54 + 39, 0, "the file has no types or names" },
        { 54 + 43, 3, "the file has no types or names" },
        { 98, 0x7f, "type 0 of the file is impossible" },
        { 98 + 4, 2, "type 0 of the file is impossible" },
        { 98 + 5, 4, "type 0 of the file is impossible" },
        { 108, 'X', "the file has no footer" },
        { 113, 'X', "the footer has no end" },
    };
    char        good[512];
    size_t      n = small_file(good, sizeof(good), "STD1");
    const zone *z = NULL;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err err = { 0 };
        char      bad[512];

        memcpy(bad, good, n);
        bad[rows[i].offset] = (char)rows[i].byte;
        ok(!zone_parse(arena, "Test/Zone", bad, n, &z, &err) && z == NULL, depot_strf(arena, "byte %zu", rows[i].offset));
        is_str(err.msg, depot_strf(arena, "cannot use time zone Test/Zone: %s", rows[i].message), "message");
    }
}

static void truncated_files_are_refused(void)
{
    char     *bytes = NULL;
    size_t    n = 0;
    int       taken = 0;
    depot_err err = { 0 };

    if (!ok_err(depot_read_file(arena, "/usr/share/zoneinfo/Europe/Berlin", 1 << 20, &bytes, &n, &err), &err, "a real file")) {
        return;
    }
    for (size_t length = 0; length < n; length++) {
        /* An allocation of just that size: a read behind it is seen by the sanitizer. */
        char       *cut = depot_xalloc(length + 1);
        const zone *z = NULL;

        memcpy(cut, bytes, length);
        taken += zone_parse(arena, "Test/Zone", cut, length, &z, &err) ? 1 : 0;
        free(cut);
    }
    is_int(taken, 0, "prefixes that are taken for a whole file");
}

static void tzdir_is_honoured(void)
{
    static const char list[] = "# a list\nXX\t+0000+00000\tOwn\nXX\t+0000+00000\tGone\n";
    char        dir[] = "/tmp/test_zone.XXXXXX";
    char        file[512];
    size_t      n = small_file(file, sizeof(file), "OWN-4:30");
    depot_err   err = { 0 };
    const zone *z = NULL;

    if (!ok(mkdtemp(dir) != NULL && setenv("TZDIR", dir, 1) == 0, "a folder of our own")) {
        return;
    }
    ok_err(depot_write_file(depot_strf(arena, "%s/Own", dir), file, n, 0644, &err), &err, "a zone in it");
    ok_err(depot_write_file(depot_strf(arena, "%s/Bad", dir), "TZif", 4, 0644, &err), &err, "a damaged one");
    ok_err(depot_write_file(depot_strf(arena, "%s/zone1970.tab", dir), list, strlen(list), 0644, &err), &err, "a list");
    ok_err(zone_load(arena, "Own", &z, &err), &err, "loads");
    is_str(z == NULL ? NULL : at(z, 0), "1970-01-01 04:30:00 4/1 +16200 OWN", "its clock");
    is_str(z == NULL ? NULL : zone_name(z), "Own", "its name");
    ok(!zone_load(arena, "Bad", &z, &err), "the damaged one does not");
    is_int(err.code, DEPOT_E_CORRUPT, "code");
    is_str(err.hint, "reinstall the package tzdata, or use UTC", "hint");
    ok(!zone_load(arena, "own", &z, &err), "names have their case");
    is_str(err.hint, "did you mean Own", "the hint comes from zone1970.tab");
    ok(!zone_load(arena, "gone", &z, &err), "a listed name without a file");
    contains(err.hint, "such as Europe/Berlin", "is not suggested");
    ok_err(depot_remove_tree(dir, &err), &err, "cleaned up");
    ok(unsetenv("TZDIR") == 0, "TZDIR unset");
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
    run(bad_names_are_refused);
    run(long_names_are_refused);
    run(a_system_without_zones_has_utc);
    run(every_installed_zone_can_be_read);
    run(footers_agree_with_the_c_library);
    run(summer_may_last_all_year);
    run(bad_footers_are_refused);
    run(damaged_files_are_refused);
    run(truncated_files_are_refused);
    run(tzdir_is_honoured);
    depot_arena_free(arena);
    return done();
}
