/* sched_store.c - the scheduler's statements. Every judgement about time is made by the database's clock. */
#include <string.h>

#include "base/log.h"
#include "base/metrics.h"
#include "run/sched_parts.h"

enum { RESULT_MAX = 64 << 10 };

static int64_t lease_of(const sched *s)
{
    return s->env.lease_ms > 0 ? s->env.lease_ms : SCHED_LEASE_MS;
}

/* What this node plans to run, as [{name, definition}]. */
static const char *entries_text(depot_arena *arena, const sched_plan *plan)
{
    depot_json *list = depot_json_array(arena);

    for (size_t i = 0; i < plan->n; i++) {
        const sched_entry *e = &plan->entries[i];
        if (e->enabled) {
            depot_json_add(
                list, depot_json_pack(arena, "{s:s, s:s}", "name", e->name, "definition", sched_definition(arena, e)));
        }
    }
    return depot_json_text(arena, list);
}

bool store_sync(sched *s, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    return db_pool_sql(s->env.db, arena, "select depot.schedule_sync($1::jsonb, $2)",
                       DEPOT_VALS(DEPOT_TEXT(entries_text(arena, s->plan)), DEPOT_TEXT(s->node)), NULL, err);
}

/* ---- looking ---- */

static const char *tokens_text(depot_arena *arena, sched *s)
{
    depot_json *list = depot_json_array(arena);

    pthread_mutex_lock(&s->lock);
    for (const sched_run *r = s->runs; r != NULL; r = r->next) {
        depot_json_add(list, depot_json_str(arena, r->token));
    }
    pthread_mutex_unlock(&s->lock);
    return depot_json_text(arena, list);
}

static const char *names_text(depot_arena *arena, const sched_plan *plan)
{
    depot_json *list = depot_json_array(arena);

    for (size_t i = 0; i < plan->n; i++) {
        depot_json_add(list, depot_json_str(arena, plan->entries[i].name));
    }
    return depot_json_text(arena, list);
}

/* A run that was called lost and is not (the database was away for longer than the lease) is taken back. */
static const char renew_sql[] =
    "update depot.schedule_run set status = 'running', lease_until = clock_timestamp() + $2::bigint * interval '1 "
    "millisecond',"
    " finished_at = null, code = null, message = null"
    " where token in (select e::uuid from jsonb_array_elements_text($1::jsonb) e) and status in ('running', 'lost')";

/* $1: at start, this node; then its runs of before, whose daemon is gone, need not wait for the end of their lease. */
#define IS_LOST                                                                                                        \
    " status = 'running' and (lease_until < clock_timestamp()"                                                         \
    "     or (node = $1 and token not in (select e::uuid from jsonb_array_elements_text($2::jsonb) e)))"

/* Not skipped, whatever has begun meanwhile: as what is made up for. Nobody's end counts for it before it is taken again. */
#define TO_PENDING " status = 'pending', catch_up = true, node = null, token = null, started_at = null, lease_until = null"

static const char again_sql[] = "update depot.schedule_run set" TO_PENDING " where repeatable and" IS_LOST
                                " returning schedule";

static const char reap_sql[] =
    "update depot.schedule_run set status = 'lost', finished_at = clock_timestamp(), code = 'WORKER_LOST',"
    " message = 'daemon ' || node || ' went away in the middle of it'"
    " where" IS_LOST " returning schedule, depot.time_us(due_at) as due_us, message";

static const char look_sql[] =
    "select n.name, depot.time_us(clock_timestamp()) as now_us, depot.time_us(s.last_due) as last_us,"
    " (select count(*) from depot.schedule_run r where r.schedule = n.name and r.status = 'pending' and not "
    "r.catch_up) as pending,"
    " (select count(*) from depot.schedule_run r where r.schedule = n.name and r.status = 'pending' and r.catch_up) as "
    "catch_up,"
    " (select count(*) from depot.schedule_run r where r.schedule = n.name and r.status = 'running') as running"
    " from (select e as name from jsonb_array_elements_text($1::jsonb) e union all select null) n"
    " left join depot.schedule s on s.name = n.name";

static void say_again(const depot_rows *rows)
{
    for (size_t i = 0; i < depot_rows_count(rows); i++) {
        log_write("core", DEPOT_LOG_WARN, "schedule.again", "schedule %s: its job is made now, as the daemon that was about to is gone",
                  depot_text(rows, i, "schedule"));
    }
}

static void count_lost(sched *s, const depot_rows *rows)
{
    for (size_t i = 0; i < depot_rows_count(rows); i++) {
        depot_err   err = { 0 };
        const char *name = depot_text(rows, i, "schedule"), *message = depot_text(rows, i, "message");
        (void)DEPOT_FAIL(&err, WORKER_LOST, "schedule %s: %s", name, message);
        log_err("core", DEPOT_LOG_ERROR, "schedule.lost", &err);
        metrics_add("depot_schedule_runs_total", DEPOT_LABELS(name, "lost"), 1);
        run_emit(s, "schedule.failed", name, depot_int(rows, i, "due_us"), "WORKER_LOST", message);
    }
}

static void read_entries(sched *s, const depot_rows *rows, int64_t *out_now_us)
{
    for (size_t i = 0; i < depot_rows_count(rows); i++) {
        *out_now_us = depot_int(rows, i, "now_us");
        sched_entry *e = depot_is_null(rows, i, "name") ? NULL : sched_plan_find(s->plan, depot_text(rows, i, "name"));
        if (e != NULL) {
            e->known = !depot_is_null(rows, i, "last_us");
            e->cursor_us = depot_int(rows, i, "last_us");
            e->pending = depot_int(rows, i, "pending");
            e->catch_up = depot_int(rows, i, "catch_up");
            e->running = depot_int(rows, i, "running");
        }
    }
}

bool store_look(sched *s, int64_t *out_now_us, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_db_close) depot_db      *db = NULL;
    const char                               *tokens = tokens_text(arena, s);
    const depot_val                           renew[] = { DEPOT_TEXT(tokens), DEPOT_INT(lease_of(s)) };
    const depot_val reap[] = { s->ready ? DEPOT_NULL : DEPOT_TEXT(s->node), DEPOT_TEXT(tokens) };
    const depot_val                           look[] = { DEPOT_TEXT(names_text(arena, s->plan)) };
    const depot_stmt stmts[] = { { renew_sql, renew, DEPOT_N(renew) }, { again_sql, reap, DEPOT_N(reap) },
                                 { reap_sql, reap, DEPOT_N(reap) }, { look_sql, look, DEPOT_N(look) } };
    depot_rows *rows[DEPOT_N(stmts)];

    if (!db_pool_open(s->env.db, false, &db, err)) {
        return false;
    }
    int64_t before_us = depot_now_us();
    if (!depot_db_batch(db, arena, stmts, DEPOT_N(stmts), rows, err)) {
        return false;
    }
    int64_t after_us = depot_now_us();
    read_entries(s, rows[3], out_now_us);
    s->offset_us = *out_now_us - (before_us + (after_us - before_us) / 2);
    say_again(rows[1]);
    count_lost(s, rows[2]);
    return true;
}

/* ---- claiming ---- */

static const char *claims_text(depot_arena *arena, const sched_decision *d)
{
    depot_json *list = depot_json_array(arena);

    for (size_t i = 0; i < d->n; i++) {
        const sched_claim *c = &d->claims[i];
        depot_json_add(list, depot_json_pack(arena, "{s:I, s:s, s:b, s:I, s:s?}", "us", c->due_us, "status", c->status,
                                             "catch_up", (int)c->catch_up, "passed_over", c->passed_over, "message",
                                             c->message));
    }
    return depot_json_text(arena, list);
}

/* Who moves the cursor makes the rows; the unique index is a second lock on the same door. */
static const char claim_sql[] =
    "with mine as (update depot.schedule set last_due = depot.us_time($3) where name = $1 and last_due = "
    "depot.us_time($2)"
    "              returning name),"
    " made as (insert into depot.schedule_run (schedule, due_at, status, catch_up, passed_over, message, finished_at)"
    "     select mine.name, depot.us_time(c.us), c.status, c.catch_up, c.passed_over, c.message,"
    "         case when c.status <> 'pending' then clock_timestamp() end"
    "     from mine, jsonb_to_recordset($4::jsonb) as c(us bigint, status text, catch_up boolean, passed_over bigint, "
    "message text)"
    "     order by c.us on conflict (schedule, due_at) where not by_hand do nothing returning id)"
    " select (select count(*) from mine) as mine, (select count(*) from made) as made";

bool store_claim(sched *s, sched_entry *e, const sched_decision *d, bool *out_mine, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_rows                               *rows = NULL;

    *out_mine = false;
    if (!db_pool_sql(s->env.db, arena, claim_sql,
                     DEPOT_VALS(DEPOT_TEXT(e->name), DEPOT_INT(e->cursor_us), DEPOT_INT(d->to_us),
                                DEPOT_TEXT(claims_text(arena, d))),
                     &rows, err)) {
        return false;
    }
    *out_mine = depot_int(rows, 0, "mine") > 0;
    return true;
}

/* ---- one run ---- */

static bool call_take(sched_run *r, const char *sql, depot_arena *arena, depot_rows **rows, depot_err *err)
{
    const sched    *s = r->sched;
    const depot_val vals[] = { DEPOT_TEXT(r->name), DEPOT_TEXT(s->node), DEPOT_TEXT(r->token), DEPOT_INT(lease_of(s)),
                               DEPOT_TEXT(sched_overlap_names[r->overlap]), DEPOT_BOOL(r->act.kind == ACTION_JOB) };
    size_t          n = DEPOT_N(vals) - (r->by_hand ? 1 : 0); /* who asked for it would not learn of a second try */

    return db_pool_sql(s->env.db, arena, sql, vals, n, rows, err);
}

bool store_take(sched_run *r, bool *out_taken, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_rows                               *rows = NULL;

    *out_taken = false;
    if (!call_take(r, "select * from depot.schedule_take($1, $2, $3, $4, $5, $6)", arena, &rows, err)) {
        return false;
    }
    r->id = depot_int(rows, 0, "id");
    r->due_us = depot_int(rows, 0, "due_us");
    *out_taken = !depot_is_null(rows, 0, "id");
    if (depot_int(rows, 0, "skipped") > 0) {
        metrics_add("depot_schedule_runs_total", DEPOT_LABELS(r->name, "skipped"),
                    (double)depot_int(rows, 0, "skipped"));
    }
    return true;
}

bool store_take_by_hand(sched_run *r, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_rows                               *rows = NULL;

    if (!call_take(r, "select * from depot.schedule_take_by_hand($1, $2, $3, $4, $5)", arena, &rows, err)) {
        return false;
    }
    if (depot_is_null(rows, 0, "id")) {
        (void)DEPOT_FAIL(err, LOCKED, "schedule %s is running on %s since %s", r->name,
                         depot_text(rows, 0, "busy_node"), depot_format_time(arena, depot_int(rows, 0, "busy_us")));
        return depot_hint(err, "wait for its end, or set overlap = allow");
    }
    r->id = depot_int(rows, 0, "id");
    r->due_us = depot_int(rows, 0, "due_us");
    return true;
}

static const char *result_text(depot_arena *arena, const depot_json *result)
{
    const char *text = result == NULL ? NULL : depot_json_text(arena, result);

    if (text != NULL && strlen(text) > RESULT_MAX) {
        return depot_json_text(arena, depot_json_pack(arena, "{s:I}", "result_bytes_not_kept", (int64_t)strlen(text)));
    }
    return text;
}

static const char finish_sql[] = "update depot.schedule_run set status = $2, finished_at = clock_timestamp(), code = "
                                 "$3, message = $4, result = $5::jsonb"
                                 " where token = $1::uuid and status in ('running', 'lost')";

static const char give_back_sql[] = "update depot.schedule_run set" TO_PENDING " where token = $1::uuid and status in ('running', 'lost')";

bool store_finish(const sched_run *r, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    if (r->again) {
        return db_pool_sql(r->sched->env.db, arena, give_back_sql, DEPOT_VALS(DEPOT_TEXT(r->token)), NULL, err);
    }
    return db_pool_sql(r->sched->env.db, arena, finish_sql,
                       DEPOT_VALS(DEPOT_TEXT(r->token), DEPOT_TEXT(r->ok ? "ok" : "failed"),
                                  DEPOT_TEXT(r->ok ? NULL : depot_err_id(&r->err)),
                                  DEPOT_TEXT(r->ok ? NULL : r->err.msg), DEPOT_TEXT(result_text(arena, r->result))),
                       NULL, err);
}

/* ---- housekeeping, duties ---- */

bool sched_prune(db_pool *db, int64_t *out_n, depot_err *err)
{
    enum { KEEP = 1000, DAYS = 90 };
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_rows                               *rows = NULL;

    *out_n = 0;
    if (!db_pool_sql(db, arena, "select depot.schedule_prune($1, $2) as n",
                     DEPOT_VALS(DEPOT_INT(KEEP), DEPOT_INT(DAYS)), &rows, err)) {
        return false;
    }
    *out_n = depot_int(rows, 0, "n");
    return true;
}

bool duty_take(db_pool *db, const char *name, const char *holder, int64_t ms, bool *out_mine, depot_err *err)
{
    static const char sql[] =
        "insert into depot.duty as d (name, holder, taken_at, lease_until)"
        " values ($1, $2, clock_timestamp(), clock_timestamp() + $3 * interval '1 millisecond')"
        " on conflict (name) do update set holder = excluded.holder, lease_until = excluded.lease_until,"
        "     taken_at = case when d.holder = excluded.holder then d.taken_at else excluded.taken_at end"
        " where d.holder = excluded.holder or d.lease_until < clock_timestamp() returning d.holder";
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_rows                               *rows = NULL;

    *out_mine = false;
    if (!db_pool_sql(db, arena, sql, DEPOT_VALS(DEPOT_TEXT(name), DEPOT_TEXT(holder), DEPOT_INT(ms)), &rows, err)) {
        return false;
    }
    *out_mine = depot_rows_count(rows) > 0;
    return true;
}
