/* zone.h - civil time in any time zone, without the C library's process-wide TZ.
 *
 * Reads the compiled zone files of the system (TZif version 2 and later, RFC 8536) itself. A loaded zone never changes:
 * any thread may use it, for as long as the arena lives that it was loaded into. */
#ifndef RUN_ZONE_H
#define RUN_ZONE_H

#include "depot/base.h"

typedef struct zone zone;

/* One instant as a clock on a wall shows it. */
typedef struct zone_civil {
    int64_t     year;
    int         month;    /* 1..12 */
    int         day;      /* 1..31 */
    int         hour, minute, second, micro;
    int         weekday;  /* 0 is Sunday */
    int         yearday;  /* 1..366 */
    int32_t     offset_s; /* seconds east of Greenwich */
    bool        is_summer;
    const char *abbrev;   /* "CEST"; lives as long as the zone */
} zone_civil;

/* A stretch of time over which the offset stays the same: from_s <= t < until_s, in seconds since 1970, UTC. */
typedef struct zone_span {
    int64_t     from_s, until_s; /* INT64_MIN and INT64_MAX: without end */
    int32_t     offset_s;
    bool        is_summer;
    const char *abbrev;
} zone_span;

/* The zone called `name`, read from $TZDIR or /usr/share/zoneinfo; "UTC" needs no file. Fails with INVALID for a name
 * that does not exist (the hint names a near one) or is none (absolute, with dots), CORRUPT for a damaged file, IO. */
bool zone_load(depot_arena *arena, const char *name, const zone **out, depot_err *err) DEPOT_MUST_USE;

/* The same from the bytes of a zone file, which are not kept. Any bytes are safe; fails with CORRUPT. */
bool zone_parse(depot_arena *arena, const char *name, const void *bytes, size_t n, const zone **out, depot_err *err)
    DEPOT_MUST_USE;

const zone *zone_utc(void);                /* always there */
const char *zone_name(const zone *z);      /* as given to zone_load */

/* What the clock shows at an instant (microseconds since 1970, UTC). */
void zone_local(const zone *z, int64_t utc_us, zone_civil *out);

/* The instants at which the clock shows `civil` (offset, weekday and yearday play no part): none when a shift forward
 * skipped it, two, earlier first, when a shift back repeats it. Returns how many of out_us are set. */
int zone_to_utc(const zone *z, const zone_civil *civil, int64_t out_us[2]);

/* The span around an instant (seconds since 1970, UTC, not more than microseconds in 64 bits can tell). */
void zone_span_at(const zone *z, int64_t utc_s, zone_span *out);

/* ---- calendar (Gregorian, without end in both directions) ---- */
int64_t zone_days(int64_t year, int month, int day); /* days since 1970-01-01; the month may be 13: next January */
void    zone_date(int64_t days, int64_t *out_year, int *out_month, int *out_day);
int     zone_month_days(int64_t year, int month);
int     zone_weekday(int64_t days);          /* 0 is Sunday */
int64_t zone_floor_div(int64_t a, int64_t b); /* rounds down, b > 0 */

#endif
