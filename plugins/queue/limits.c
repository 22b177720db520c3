/* limits.c - [queue NAME] and [limit NAME] sections as rows for the database. */
#include <stdlib.h>
#include <string.h>

#include "queue.h"

static depot_json *limit(depot_arena *arena, int64_t value, int64_t none)
{
    return value == none ? depot_json_null(arena) : depot_json_int(arena, value);
}

/* ---- [queue NAME] ---- */

static depot_json *policy_row(depot_arena *arena, const char *name, const queue_section *s)
{
    const struct {
        const char *column;
        int64_t     value, none;
    } limits[] = {
        { "max_in_flight", s->max_in_flight, -1 },
        { "max_attempts_per_minute", s->max_attempts_per_minute, -1 },
        { "max_attempts", s->max_attempts, 0 },
        { "lease_ms", s->lease, 0 },
        { "backoff_base_ms", s->backoff_base, 0 },
        { "backoff_max_ms", s->backoff_max, 0 },
        { "timeout_ms", s->timeout, 0 },
        { "max_per_key", s->max_per_key, 0 },
        { "keep_succeeded_ms", s->archive_succeeded_after, 0 },
        { "keep_canceled_ms", s->archive_canceled_after, 0 },
        { "keep_dlq_ms", s->archive_dlq_after, 0 },
    };
    depot_json *row = depot_json_pack(arena, "{s:s, s:b, s:b, s:b}", "queue", name, "paused", (int)s->paused, "key_fifo",
                                      (int)s->key_fifo, "encrypt_args", (int)s->encrypt_args);

    for (size_t i = 0; i < DEPOT_N(limits); i++) {
        depot_json_set(row, limits[i].column, limit(arena, limits[i].value, limits[i].none));
    }
    if (s->backoff_jitter >= 0) {
        depot_json_set(row, "backoff_jitter", depot_json_real(arena, (double)s->backoff_jitter / 100));
    }
    return row;
}

const char *limits_policies(depot_ctx *ctx, depot_arena *arena)
{
    depot_json          *list = depot_json_array(arena);
    const queue_section *s;
    const char          *name;

    for (size_t it = 0; (s = depot_section_next(ctx, "queue", &it, &name)) != NULL;) {
        depot_json_add(list, policy_row(arena, name, s));
    }
    return depot_json_text(arena, list);
}

/* ---- [limit NAME] ---- */

/* "100/s", "10/min", "5/h" */
static bool read_rate(const char *text, double *out_per_second, depot_err *err)
{
    static const struct {
        const char *unit;
        double      seconds;
    } units[] = { { "/s", 1 }, { "/min", 60 }, { "/h", 3600 } };
    char  *end = NULL;
    double n = strtod(text == NULL ? "" : text, &end);

    for (size_t i = 0; i < DEPOT_N(units); i++) {
        if (n > 0 && n <= 1e9 && strcmp(end, units[i].unit) == 0) {
            *out_per_second = n / units[i].seconds;
            return true;
        }
    }
    DEPOT_FAIL(err, CONFIG, "rate is \"%s\"; it must be a number above 0 and a unit", text == NULL ? "" : text);
    return depot_hint(err, "such as 100/s, 10/min or 5/h");
}

/* "queue:NAME", "type:NAME", "key", "key:QUEUE" */
static bool read_on(const char *text, const char **out_kind, const char **out_name, depot_err *err)
{
    static const char *const kinds[] = { "queue", "type", "key" };

    for (size_t i = 0; text != NULL && i < DEPOT_N(kinds); i++) {
        size_t n = strlen(kinds[i]);
        bool   is_named = strncmp(text, kinds[i], n) == 0 && text[n] == ':' && text[n + 1] != '\0';
        if (is_named || (i == 2 && strcmp(text, "key") == 0)) {
            *out_kind = kinds[i];
            *out_name = is_named ? text + n + 1 : NULL;
            return true;
        }
    }
    DEPOT_FAIL(err, CONFIG, "on is \"%s\"; it must say what is counted", text == NULL ? "" : text);
    return depot_hint(err, "queue:NAME, type:NAME, key (each concurrency key) or key:QUEUE (each of that queue)");
}

static depot_json *rate_row(depot_arena *arena, const char *name, const queue_limit *l, depot_err *err)
{
    const char *kind = NULL, *of = NULL;
    double      per_second = 0;

    if (!read_rate(l->rate, &per_second, err) || !read_on(l->on, &kind, &of, err)) {
        return NULL;
    }
    double burst = l->burst > 0 ? (double)l->burst : per_second > 1 ? per_second : 1;
    return depot_json_pack(arena, "{s:s, s:s, s:s?, s:f, s:f}", "name", name, "on_kind", kind, "on_name", of,
                           "per_second", per_second, "burst", burst);
}

bool limits_check(depot_ctx *ctx, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const queue_limit                        *l;
    const char                               *name;

    for (size_t it = 0; (l = depot_section_next(ctx, "limit", &it, &name)) != NULL;) {
        if (rate_row(arena, name, l, err) == NULL) {
            return depot_wrap(err, "[limit %s]", name);
        }
    }
    return true;
}

const char *limits_rates(depot_ctx *ctx, depot_arena *arena)
{
    depot_json        *list = depot_json_array(arena);
    const queue_limit *l;
    const char        *name;
    depot_err          err = { 0 }; /* limits_check has seen them */

    for (size_t it = 0; (l = depot_section_next(ctx, "limit", &it, &name)) != NULL;) {
        depot_json *row = rate_row(arena, name, l, &err);
        if (row != NULL) {
            depot_json_add(list, row);
        }
    }
    return depot_json_text(arena, list);
}
