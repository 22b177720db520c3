/* cron.h - when a schedule is due: cron expressions and the civil clocks that they are written for.
 *
 * Pure functions of their arguments: no clock is read, nothing is kept, any thread may call them.
 *
 *     minute hour day-of-month month day-of-week      and, in front of them when there are six, second
 *
 * A field is a list of `*`, `N`, `A-B`, each with an optional `/STEP`; months and days of the week have names (jan,
 * SUN), 7 is Sunday too, `fri-sun` works, `N/STEP` runs to the end of the field, `L` is the last day of the month.
 * A field is restricted when no `*` stands in it; a day is due when both day fields fit, or either when both are
 * restricted. Instead of fields: @yearly @annually @monthly @weekly @daily @midnight @hourly, and `@every 90s` (1 s to
 * 3650 d), counted from 1970-01-01 00:00 UTC, so that all daemons agree. */
#ifndef RUN_CRON_H
#define RUN_CRON_H

#include "depot/base.h"
#include "run/zone.h"

typedef enum cron_field {
    CRON_SECOND, CRON_MINUTE, CRON_HOUR, CRON_DAY, CRON_MONTH, CRON_WEEKDAY, CRON_FIELDS
} cron_field;

/* A value: copy it freely, compare it member by member. */
typedef struct cron {
    int64_t  every_ms;          /* > 0: @every, the rest is empty */
    uint64_t set[CRON_FIELDS];  /* bit n: the value n fits; Sunday is 0 */
    bool     star[CRON_FIELDS]; /* a `*` stands in the field: it is not restricted (see above, and cron_next) */
    bool     last_day;          /* `L` */
} cron;

/* Fails with INVALID, naming field and place; also for dates that never come, as 31 February. The work is bounded
 * whatever the text is. */
bool cron_parse(const char *text, cron *out, depot_err *err) DEPOT_MUST_USE;

/* The first due time after `after_us` (strictly; microseconds since 1970, UTC) by the clock of zone z.
 *
 * Clocks that are put forward or back:
 *   - hour restricted (`30 2 * * *`): the entry belongs to the clock's face. What the clock skips is due once, at the
 *     first instant after the gap; what it shows twice is due the first time only. A gap may be a whole day (Apia,
 *     2011-12-30).
 *   - hour with a star (every N minutes, every N hours): the entry belongs to elapsed time. It is due at each instant
 *     at which the clock really shows a fitting time: none inside a gap, both times in a repeated hour.
 *
 * False when after_us lies outside of the years 1 to 9999, and when nothing is due in the 40 years that follow it. The
 * latter does not happen to an expression that cron_parse took, unless a zone's rule skips its every occurrence. */
bool cron_next(const cron *c, const zone *z, int64_t after_us, int64_t *out_us) DEPOT_MUST_USE;

/* Canonical text; parsing it gives an equal cron. */
const char *cron_format(depot_arena *arena, const cron *c);

/* Plain words: "at 03:05 every day". */
const char *cron_describe(depot_arena *arena, const cron *c);

/* How long to wait after a due time, 0..max_ms: the same in every daemon, different from one due time to the next. */
int64_t cron_jitter_ms(const char *name, int64_t due_us, int64_t max_ms);

#endif
