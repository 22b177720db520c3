/* test_time.c - clocks and RFC 3339 texts. */
#include <time.h>

#include "depot/base.h"
#include "tap.h"

static void clocks_agree(void)
{
    int64_t ms = depot_now_ms();
    int64_t us = depot_now_us();
    int64_t wall = depot_wall_us() / 1000000;

    ok(us / 1000 >= ms && us / 1000 - ms < 5000, "milliseconds and microseconds are of one clock");
    ok(depot_now_us() >= us, "that does not go back");
    ok(time(NULL) - wall <= 1 && wall <= time(NULL), "the wall clock is the system's");
}

static void times_are_printed_in_utc(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    static const struct {
        int64_t     us;
        const char *want;
    } rows[] = {
        { 0, "1970-01-01T00:00:00.000000Z" },
        { 1795166613459721, "2026-11-20T09:23:33.459721Z" },
        { -1, "1969-12-31T23:59:59.999999Z" },
        { -62167219200000000, "0000-01-01T00:00:00.000000Z" },
        { 253402300799999999, "9999-12-31T23:59:59.999999Z" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err err = { 0 };
        int64_t   back = 0;
        is_str(depot_format_time(arena, rows[i].us), rows[i].want, rows[i].want);
        ok_err(depot_parse_time(rows[i].want, &back, &err), &err, "is read");
        is_int(back, rows[i].us, "and is the same again");
    }
}

static void offsets_and_fractions_are_read(void)
{
    static const struct {
        const char *text, *same;
    } rows[] = {
        { "2026-11-20T10:23:33.5+01:00", "2026-11-20T09:23:33.500000Z" },
        { "2026-11-20t04:53:33-04:30", "2026-11-20T09:23:33.000000Z" },
        { "2026-11-20 09:23:33z", "2026-11-20T09:23:33.000000Z" },
        { "2026-11-20T09:23:33-00:00", "2026-11-20T09:23:33.000000Z" },
        { "2026-11-20T09:23:33.1234567899999999999Z", "2026-11-20T09:23:33.123456Z" },
        { "2024-02-29T23:59:59+00:00", "2024-02-29T23:59:59.000000Z" },
        { "2000-02-29T00:00:00Z", "2000-02-29T00:00:00.000000Z" },
        { "2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000000Z" },
        { "2026-12-31T23:30:00-01:00", "2027-01-01T00:30:00.000000Z" },
    };
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err err = { 0 };
        int64_t   us = 0;
        ok_err(depot_parse_time(rows[i].text, &us, &err), &err, rows[i].text);
        is_str(depot_format_time(arena, us), rows[i].same, "is the time it should be");
    }
}

static void what_is_no_time_is_refused(void)
{
    static const char *const rows[] = {
        "",
        "2026",
        "2026-11-20",
        "2026-11-20T09:23",
        "2026-11-20T09:23:33",
        "2026-11-20T09:23:33.Z",
        "2026-11-20T09:23:33Zx",
        "2026-11-20T09:23:33+0100",
        "2026-11-20T09:23:33+24:00",
        "2026-11-20T09:23:33+01:60",
        "2026-11-20T24:00:00Z",
        "2026-11-20T09:60:00Z",
        "2026-11-20T09:23:61Z",
        "2026-13-20T09:23:33Z",
        "2026-00-20T09:23:33Z",
        "2026-11-31T09:23:33Z",
        "2026-11-00T09:23:33Z",
        "2026-02-29T09:23:33Z",
        "1900-02-29T09:23:33Z",
        "26-11-20T09:23:33Z",
        "2026-11-20T9:23:33Z",
        "2026-11-20T09:23:33,5Z",
        "2026-11-20X09:23:33Z",
        "-2026-11-20T09:23:33Z",
        "2026/11/20T09:23:33Z",
        "2026-11-20T09.23:33Z",
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err err = { 0 };
        int64_t   us = 77;
        ok(!depot_parse_time(rows[i], &us, &err) && us == 77, rows[i]);
        ok(err.code == DEPOT_E_INVALID && err.hint[0] != '\0', "INVALID with a hint");
    }
}

int main(void)
{
    run(clocks_agree);
    run(times_are_printed_in_utc);
    run(offsets_and_fractions_are_read);
    run(what_is_no_time_is_refused);
    return done();
}
