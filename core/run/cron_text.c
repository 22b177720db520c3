/* cron_text.c - cron expressions as text again: the canonical form, and plain words. */
#include <string.h>

#include "run/cron.h"

enum { CLOCK_TIMES_MAX = 4 };

static const struct {
    int         min, last;
    const char *unit;
} fields[CRON_FIELDS] = {
    [CRON_SECOND] = { 0, 59, "second" }, [CRON_MINUTE] = { 0, 59, "minute" }, [CRON_HOUR] = { 0, 23, "hour" },
    [CRON_DAY] = { 1, 31, "day" },       [CRON_MONTH] = { 1, 12, "month" },   [CRON_WEEKDAY] = { 0, 6, "weekday" },
};

/* ---- sets ---- */

static int count_of(uint64_t set)
{
    return __builtin_popcountll(set);
}

static int first_of(uint64_t set)
{
    return __builtin_ctzll(set);
}

static int last_of(uint64_t set)
{
    return 63 - __builtin_clzll(set);
}

/* first, first + step … up to last */
static uint64_t steps(int first, int last, int step)
{
    uint64_t set = 0;

    for (int value = first; value <= last; value += step) {
        set |= UINT64_C(1) << value;
    }
    return set;
}

static bool is_full(const cron *c, cron_field field)
{
    return c->set[field] == steps(fields[field].min, fields[field].last, 1);
}

/* The step of a set that runs evenly over at least three values, or 0. */
static int even_step(uint64_t set)
{
    if (count_of(set) < 3) {
        return 0;
    }

    int step = first_of(set & (set - 1)) - first_of(set);

    return set == steps(first_of(set), last_of(set), step) ? step : 0;
}

/* n when the field says every n units of what repeats around it: with a star, and n divides the whole evenly. */
static int every_n(const cron *c, cron_field field)
{
    int range = fields[field].last - fields[field].min + 1;

    if (!c->star[field]) {
        return 0;
    }
    for (int step = 1; step < range; step++) {
        if (range % step == 0 && c->set[field] == steps(fields[field].min, fields[field].last, step)) {
            return step;
        }
    }
    return 0;
}

/* ---- canonical text ---- */

static const char *comma(const depot_buf *out, size_t start)
{
    return out->len > start ? "," : "";
}

static void add_list(depot_buf *out, size_t start, uint64_t set)
{
    while (set != 0) {
        int first = first_of(set);
        int last = first;

        while (last < 63 && (set >> (last + 1) & 1) != 0) {
            last++;
        }
        last = last - first >= 2 ? last : first;
        depot_buf_addf(out, "%s%d", comma(out, start), first);
        if (last > first) {
            depot_buf_addf(out, "-%d", last);
        }
        set &= ~steps(first, last, 1);
    }
}

static void add_field(depot_buf *out, const cron *c, cron_field field)
{
    int      min = fields[field].min;
    int      last = fields[field].last;
    uint64_t rest = c->set[field];
    size_t   start = out->len;
    int      step = even_step(rest);

    if (c->star[field]) {
        int every = 1;

        while ((steps(min, last, every) & ~rest) != 0) {
            every++;
        }
        depot_buf_addf(out, every == 1 ? "*" : "*/%d", every);
        add_list(out, start, rest & ~steps(min, last, every));
    } else if (step > 1) {
        depot_buf_addf(out, "%d-%d/%d", first_of(rest), last_of(rest), step);
    } else {
        add_list(out, start, rest);
    }
    if (field == CRON_DAY && c->last_day) {
        depot_buf_addf(out, "%sL", comma(out, start));
    }
}

const char *cron_format(depot_arena *arena, const cron *c)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
    bool                                 whole_minutes = c->set[CRON_SECOND] == 1 && !c->star[CRON_SECOND];

    if (c->every_ms > 0) {
        return depot_strf(arena, "@every %s", depot_format_duration(arena, c->every_ms));
    }
    for (cron_field field = whole_minutes ? CRON_MINUTE : CRON_SECOND; field < CRON_FIELDS; field++) {
        depot_buf_adds(&out, out.len > 0 ? " " : "");
        add_field(&out, c, field);
    }
    return depot_strdup(arena, out.data);
}

/* ---- plain words ---- */

static const char *const month_words[] = { "",     "January", "February",  "March",   "April",    "May",     "June",
                                           "July", "August",  "September", "October", "November", "December" };
static const char *const weekday_words[] = { "Sunday",   "Monday", "Tuesday", "Wednesday",
                                             "Thursday", "Friday", "Saturday" };

/* "1, 3 and 5", "5 to 9", "Monday to Friday"; values without a word are written as numbers. */
static void add_words(depot_buf *out, uint64_t set, const char *const *words, int word_count)
{
    bool first_piece = true;

    while (set != 0) {
        int first = first_of(set);
        int last = first;

        while (last < 63 && (set >> (last + 1) & 1) != 0) {
            last++;
        }
        last = last - first >= 2 ? last : first;
        set &= ~steps(first, last, 1);
        depot_buf_adds(out, first_piece ? "" : set == 0 ? " and " : ", ");
        first_piece = false;
        if (words != NULL && last < word_count) {
            depot_buf_addf(out, "%s%s%s", words[first], last > first ? " to " : "", last > first ? words[last] : "");
        } else {
            depot_buf_addf(out, last > first ? "%d to %d" : "%d", first, last);
        }
    }
}

/* "minute 5", "minutes 0, 20 and 40" */
static void add_units(depot_buf *out, const cron *c, cron_field field)
{
    depot_buf_addf(out, "%s%s ", fields[field].unit, count_of(c->set[field]) == 1 ? "" : "s");
    add_words(out, c->set[field], NULL, 0);
}

/* "at 03:05 and 15:05" */
static void add_clock_times(depot_buf *out, const cron *c)
{
    int second = first_of(c->set[CRON_SECOND]);
    int left = count_of(c->set[CRON_HOUR]) * count_of(c->set[CRON_MINUTE]);

    depot_buf_adds(out, "at ");
    for (uint64_t hours = c->set[CRON_HOUR]; hours != 0; hours &= hours - 1) {
        for (uint64_t minutes = c->set[CRON_MINUTE]; minutes != 0; minutes &= minutes - 1) {
            left--;
            depot_buf_addf(out, "%02d:%02d", first_of(hours), first_of(minutes));
            if (second != 0) {
                depot_buf_addf(out, ":%02d", second);
            }
            depot_buf_adds(out, left == 0 ? "" : left == 1 ? " and " : ", ");
        }
    }
}

/* "every 5 minutes" or "at minutes 0, 7 and 9" */
static void add_small_unit(depot_buf *out, const cron *c, cron_field field)
{
    int every = every_n(c, field);

    if (every == 1 || is_full(c, field)) {
        depot_buf_addf(out, "every %s", fields[field].unit);
    } else if (every > 1) {
        depot_buf_addf(out, "every %d %ss", every, fields[field].unit);
    } else {
        depot_buf_adds(out, "at ");
        add_units(out, c, field);
    }
}

static void add_hours(depot_buf *out, const cron *c, bool after_minute)
{
    uint64_t set = c->set[CRON_HOUR];
    int      every = every_n(c, CRON_HOUR);

    if (is_full(c, CRON_HOUR)) {
        depot_buf_adds(out, after_minute ? " of every hour" : "");
    } else if (every > 1) {
        depot_buf_addf(out, " of every %d%s hour", every, every == 2 ? "nd" : every == 3 ? "rd" : "th");
    } else if (set == steps(first_of(set), last_of(set), 1)) {
        depot_buf_addf(out, " from %02d:00 to %02d:59", first_of(set), last_of(set));
    } else {
        depot_buf_adds(out, " of ");
        add_units(out, c, CRON_HOUR);
    }
}

/* Returns whether the words name times of the day, so that the days must follow even if they are all. */
static bool add_time(depot_buf *out, const cron *c)
{
    bool one_second = count_of(c->set[CRON_SECOND]) == 1;
    int  times = count_of(c->set[CRON_HOUR]) * count_of(c->set[CRON_MINUTE]);
    bool minutes_run = is_full(c, CRON_MINUTE) || every_n(c, CRON_MINUTE) > 1;
    int  every_hours = every_n(c, CRON_HOUR);

    if (one_second && times <= CLOCK_TIMES_MAX && !c->star[CRON_HOUR]) {
        add_clock_times(out, c);
        return true;
    }
    if (c->set[CRON_SECOND] == 1 && c->set[CRON_MINUTE] == 1 && every_hours > 0) {
        depot_buf_addf(out, every_hours == 1 ? "every hour" : "every %d hours", every_hours);
        return false;
    }
    if (c->set[CRON_SECOND] != 1) {
        add_small_unit(out, c, CRON_SECOND);
        if (!is_full(c, CRON_MINUTE)) {
            depot_buf_adds(out, " of ");
            add_units(out, c, CRON_MINUTE);
        }
        minutes_run = is_full(c, CRON_MINUTE);
    } else {
        add_small_unit(out, c, CRON_MINUTE);
    }
    add_hours(out, c, !minutes_run);
    return !is_full(c, CRON_HOUR) && every_hours == 0;
}

static void add_month_days(depot_buf *out, const cron *c)
{
    uint64_t set = c->set[CRON_DAY];

    depot_buf_adds(out, " on ");
    if (set != 0) {
        add_units(out, c, CRON_DAY);
        depot_buf_adds(out, c->last_day ? " and " : "");
    }
    depot_buf_adds(out, c->last_day ? "the last day of the month" : " of the month");
}

static void add_weekdays(depot_buf *out, const cron *c)
{
    uint64_t set = c->set[CRON_WEEKDAY];

    if (count_of(set) == 1) {
        depot_buf_addf(out, " on %ss", weekday_words[first_of(set)]);
    } else {
        bool run = count_of(set) > 2 && set == steps(first_of(set), last_of(set), 1);

        depot_buf_adds(out, run ? " from " : " on ");
        add_words(out, set, weekday_words, DEPOT_N(weekday_words));
    }
}

static void add_days(depot_buf *out, const cron *c, bool say_every_day)
{
    bool all_days = is_full(c, CRON_DAY);
    bool all_weekdays = is_full(c, CRON_WEEKDAY);
    bool either = !c->star[CRON_DAY] && !c->star[CRON_WEEKDAY];

    if ((all_days && all_weekdays) || (either && (all_days || all_weekdays))) {
        depot_buf_adds(out, say_every_day ? " every day" : "");
    } else if (all_weekdays) {
        add_month_days(out, c);
    } else if (all_days) {
        add_weekdays(out, c);
    } else {
        add_month_days(out, c);
        depot_buf_adds(out, either ? ", and also" : ", but only");
        add_weekdays(out, c);
    }
    if (!is_full(c, CRON_MONTH)) {
        depot_buf_adds(out, " in ");
        add_words(out, c->set[CRON_MONTH], month_words, DEPOT_N(month_words));
    }
}

const char *cron_describe(depot_arena *arena, const cron *c)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };

    if (c->every_ms > 0) {
        return depot_strf(arena, "every %s", depot_format_duration(arena, c->every_ms));
    }
    add_days(&out, c, add_time(&out, c));
    return depot_strdup(arena, out.data);
}
