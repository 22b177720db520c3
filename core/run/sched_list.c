/* sched_list.c - schedules as depotctl shows them. */
#include <string.h>

#include "run/sched_parts.h"

static const char list_sql[] =
    "select n.name, depot.time_us(s.last_due) as last_us, depot.time_us(r.due_at) as due_us, r.status, r.message, "
    "r.node,"
    " (extract(epoch from coalesce(r.finished_at, clock_timestamp()) - r.started_at) * 1000)::bigint as ms"
    " from jsonb_array_elements_text($1::jsonb) n(name) left join depot.schedule s on s.name = n.name"
    " left join lateral (select * from depot.schedule_run a where a.schedule = n.name and a.status <> 'pending'"
    "                    order by a.id desc limit 1) r on true";

static const char *time_or_null(depot_arena *arena, const depot_rows *rows, size_t row, const char *column)
{
    return depot_is_null(rows, row, column) ? NULL : depot_format_time(arena, depot_int(rows, row, column));
}

/* With the lock held. */
static depot_json *item(depot_arena *arena, sched_entry e, const depot_rows *rows, size_t row)
{
    int64_t     next_us;
    const char *next = NULL;

    if (e.enabled && !depot_is_null(rows, row, "last_us")) {
        next = cron_next(&e.when, e.zone, depot_int(rows, row, "last_us"), &next_us) ? depot_format_time(arena, next_us)
                                                                                     : NULL;
    }
    depot_json *o =
        depot_json_pack(arena, "{s:s, s:s, s:s, s:s, s:s, s:b, s:s?, s:s?, s:s?, s:s?, s:s?}", "name", e.name, "cron",
                        e.cron_text, "zone", e.zone_name, "describe", cron_describe(arena, &e.when), "run", e.run,
                        "enabled", (int)e.enabled, "next_due", next, "last_due",
                        time_or_null(arena, rows, row, "due_us"), "last_status", depot_text(rows, row, "status"),
                        "last_message", depot_text(rows, row, "message"), "last_node", depot_text(rows, row, "node"));
    depot_json_set(o, "last_duration_ms",
                   depot_is_null(rows, row, "ms") ? depot_json_null(arena)
                                                  : depot_json_int(arena, depot_int(rows, row, "ms")));
    return o;
}

static const char *names_text(sched *s, depot_arena *arena)
{
    depot_json *names = depot_json_array(arena);

    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; s->plan != NULL && i < s->plan->n; i++) {
        depot_json_add(names, depot_json_str(arena, s->plan->entries[i].name));
    }
    pthread_mutex_unlock(&s->lock);
    return depot_json_text(arena, names);
}

bool sched_list_of(sched *s, depot_arena *arena, depot_json **out, depot_err *err)
{
    depot_rows *rows = NULL;
    depot_json *list = depot_json_array(arena);

    if (!db_pool_sql(s->env.db, arena, list_sql, DEPOT_VALS(DEPOT_TEXT(names_text(s, arena))), &rows, err)) {
        return false;
    }
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < depot_rows_count(rows); i++) {
        const sched_entry *e = sched_plan_find(s->plan, depot_text(rows, i, "name"));
        if (e != NULL) {
            depot_json_add(list, item(arena, *e, rows, i));
        }
    }
    pthread_mutex_unlock(&s->lock);
    *out = list;
    return true;
}
