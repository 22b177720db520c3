/* fuzz_cron.c - any text as a cron expression: what is taken has one form, words, and due times that make sense.
 * Input: eight bytes of an instant, one byte that chooses the zone, the text. */
#include <stdlib.h>
#include <string.h>

#include "depot/base.h"
#include "run/cron.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Loaded once, by the one thread that fuzzes. */
static const zone *zones[5];

static void load_zones(void)
{
    static const char *const names[DEPOT_N(zones)] = { "UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia",
                                                       "Africa/Casablanca" };
    static depot_arena      *arena; /* for good */
    depot_err                err = { 0 };

    arena = depot_arena_new();
    for (size_t i = 0; i < DEPOT_N(zones); i++) {
        if (!zone_load(arena, names[i], &zones[i], &err)) {
            zones[i] = zone_utc();
        }
    }
}

static void check(bool good)
{
    if (!good) {
        abort();
    }
}

static void check_texts(depot_arena *arena, const cron *c)
{
    const char *form = cron_format(arena, c);
    depot_err   err = { 0 };
    cron        again;

    check(cron_parse(form, &again, &err));
    check(again.every_ms == c->every_ms && again.last_day == c->last_day);
    for (size_t i = 0; i < CRON_FIELDS; i++) {
        check(again.set[i] == c->set[i] && again.star[i] == c->star[i]);
    }
    check(strcmp(cron_format(arena, &again), form) == 0);
    check(cron_describe(arena, c)[0] != '\0');
}

static void check_due(const cron *c, const zone *z, int64_t after_us)
{
    int64_t first = 0;
    int64_t second = 0;
    int64_t again = 0;

    /* Every zone here comes to every date in the end. */
    check(cron_next(c, z, after_us, &first));
    check(first > after_us);
    /* No other due time lies between, and the next one lies behind. */
    check(cron_next(c, z, first - 1, &again) && again == first);
    check(cron_next(c, z, first, &second) && second > first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    int64_t                                   after_us = 0;
    int64_t                                   due_us = 0;
    depot_err                                 err = { 0 };
    cron                                      c;

    if (size < sizeof(after_us) + 1) {
        return 0;
    }
    if (zones[0] == NULL) {
        load_zones();
    }
    memcpy(&after_us, data, sizeof(after_us));

    const zone *z = zones[data[8] % DEPOT_N(zones)];
    const char *text = depot_strndup(arena, (const char *)data + 9, size - 9);

    if (!cron_parse(text, &c, &err)) {
        check(err.code == DEPOT_E_INVALID && err.msg[0] != '\0');
        return 0;
    }
    check_texts(arena, &c);
    if (cron_next(&c, z, after_us, &due_us)) {
        check(due_us > after_us);
    }
    check_due(&c, z, after_us % INT64_C(60000000000000000)); /* the years 69 to 3871 */
    return 0;
}
