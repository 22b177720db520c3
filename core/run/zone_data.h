/* zone_data.h - how a loaded zone looks inside; for zone.c, zone_file.c and zone_rule.c alone. */
#ifndef RUN_ZONE_DATA_H
#define RUN_ZONE_DATA_H

#include "run/zone.h"

/* RFC 8536 allows -25:59:59 to +26:00:00 at most; also what the fields of a footer are held to. */
#define ZONE_OFFSET_MAX_S (26 * 3600)

typedef struct zone_type {
    int32_t     offset_s;
    bool        is_summer;
    const char *abbrev;
} zone_type;

/* The day and time of a yearly turn, as in "M3.5.0/2". */
typedef struct zone_turn {
    enum { ZONE_TURN_WEEKDAY, ZONE_TURN_DAY_NO_LEAP, ZONE_TURN_DAY } kind; /* Mm.w.d, Jn, n */
    int     month, week; /* week 5 is the last */
    int     day;         /* weekday 0..6, or day of the year: 1..365 without 29 February, 0..365 with it */
    int32_t time_s;      /* on that day's clock; may be outside of it */
} zone_turn;

/* The rule for the years after the last listed change: a POSIX TZ text as in "CET-1CEST,M3.5.0,M10.5.0/3". */
typedef struct zone_rule {
    zone_type standard, summer;
    bool      has_summer;
    zone_turn to_summer, to_standard;
} zone_rule;

struct zone {
    const char      *name;
    const zone_type *types;   /* at least one */
    const int64_t   *changes; /* instants, ascending */
    const uint8_t   *kinds;   /* kinds[i] is the type from changes[i] on; before the first it is types[0] */
    size_t           count;
    bool             has_rule;
    zone_rule        rule;
};

/* False when the text is no such rule. */
bool zone_rule_parse(depot_arena *arena, const char *text, zone_rule *out);
/* The span around an instant if the rule held for all time. */
void zone_rule_span(const zone_rule *rule, int64_t utc_s, zone_span *out);

#endif
