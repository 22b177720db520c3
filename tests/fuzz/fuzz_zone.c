/* fuzz_zone.c - any bytes as a zone file: what is taken answers every question soundly and in bounded time.
 * Input: eight bytes of an instant; one byte: if odd, the rest is the footer of a small file, else a file. */
#include <stdlib.h>
#include <string.h>

#include "depot/base.h"
#include "run/cron.h"

#include "../lib/tzif.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
    if (!good) {
        abort();
    }
}

static void check_clock(const zone *z, int64_t utc_us)
{
    zone_civil civil;
    zone_span  span;
    int64_t    back[2] = { 0 };

    zone_local(z, utc_us, &civil);
    check(civil.month >= 1 && civil.month <= 12 && civil.day >= 1 && civil.day <= 31 && civil.hour < 24 &&
          civil.yearday >= 1 && civil.yearday <= 366 && strlen(civil.abbrev) < 512);

    int64_t utc_s = zone_floor_div(utc_us, 1000000);

    zone_span_at(z, utc_s, &span);
    check(span.from_s <= utc_s && utc_s < span.until_s && span.offset_s == civil.offset_s);
    check(zone_to_utc(z, &civil, back) >= 1);
    check(back[0] <= utc_us);
}

static void check_due(const zone *z, int64_t after_us)
{
    static const char *const texts[] = { "* * * * *", "30 2 * * *", "0 */6 L * *", "59 23 29 2 *", "15 0 1 1 1" };

    for (size_t i = 0; i < DEPOT_N(texts); i++) {
        depot_err err = { 0 };
        int64_t   first = 0;
        int64_t   again = 0;
        cron      c;

        check(cron_parse(texts[i], &c, &err));
        if (cron_next(&c, z, after_us, &first)) {
            check(first > after_us);
            check(cron_next(&c, z, first - 1, &again) && again == first);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf      file = { 0 };
    const zone                               *z = NULL;
    int64_t                                   utc_us = 0;
    depot_err                                 err = { 0 };

    if (size < sizeof(utc_us) + 1) {
        return 0;
    }
    memcpy(&utc_us, data, sizeof(utc_us));
    if (data[8] % 2 == 1) {
        tzif_small(&file, data + 9, size - 9);
    } else {
        depot_buf_add(&file, data + 9, size - 9);
    }
    if (!zone_parse(arena, "Fuzz", file.data == NULL ? "" : file.data, file.len, &z, &err)) {
        check(err.code == DEPOT_E_CORRUPT && err.msg[0] != '\0');
        return 0;
    }
    check_clock(z, utc_us / 2); /* half of all time: there is a clock beyond, but no way back from it in 64 bits */
    check_clock(z, utc_us % INT64_C(5000000000000000));
    check_due(z, utc_us % INT64_C(5000000000000000));
    return 0;
}
