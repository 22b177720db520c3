/* test_sched_due.c - which due times have come, what the missed policy makes of them, and jitter: no clock, no database. */
#include <string.h>

#include "run/sched_parts.h"

#include "tap.h"

static depot_arena *arena;

static int64_t at(const char *text)
{
    int64_t   us = 0;
    depot_err err = { 0 };

    if (!depot_parse_time(text, &us, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    return us;
}

static sched_entry entry(const char *cron_text, sched_missed missed, const char *cursor)
{
    const sched_options o = { .cron = cron_text, .zone = "UTC", .run = "a.b", .missed = missed, .timeout = 1000, .enabled = true };
    sched_entry         e;
    const char         *option = NULL;
    depot_err           err = { 0 };

    if (!sched_entry_make(arena, "s", &o, &e, &option, &err)) {
        printf("Bail out! %s: %s\n", option, err.msg);
        exit(1);
    }
    e.known = true;
    e.cursor_us = at(cursor);
    return e;
}

/* "pending 03:05 (+2), missed ... -> 03:05 lost 2": each claim with its minute, what it stands for, then cursor and missed. */
static const char *decided(const sched_entry *e, const char *now)
{
    sched_decision d = sched_decide(e, at(now), arena);
    const char    *text = "";

    if (d.n == 0) {
        return "nothing";
    }
    for (size_t i = 0; i < d.n && i < 5; i++) {
        const sched_claim *c = &d.claims[i];
        text = depot_strf(arena, "%s%s%s %.8s%s%s", text, i > 0 ? ", " : "", c->status, depot_format_time(arena, c->due_us) + 11,
                          c->catch_up ? " late" : "", c->passed_over > 0 ? depot_strf(arena, " +%lld", (long long)c->passed_over) : "");
    }
    return depot_strf(arena, "%s -> %.8s, %lld missed", text, depot_format_time(arena, d.to_us) + 11, (long long)d.missed);
}

static void what_is_due_fires_once(void)
{
    static const struct { sched_missed missed; const char *cursor, *now, *want; } rows[] = {
        { MISSED_NONE, "2026-01-01T00:00:00Z", "2026-01-01T00:04:59.999999Z", "nothing" },
        { MISSED_NONE, "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z", "pending 00:05:00 -> 00:05:00, 0 missed" },
        { MISSED_ONCE, "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z", "pending 00:05:00 -> 00:05:00, 0 missed" },
        { MISSED_ALL, "2026-01-01T00:00:00Z", "2026-01-01T00:05:59Z", "pending 00:05:00 -> 00:05:00, 0 missed" },
        { MISSED_NONE, "2026-01-01T00:05:00Z", "2026-01-01T00:05:00Z", "nothing" },
        { MISSED_NONE, "2026-01-01T00:00:00Z", "2026-01-01T00:06:00Z", "pending 00:05:00 -> 00:05:00, 0 missed" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        sched_entry e = entry("*/5 * * * *", rows[i].missed, rows[i].cursor);
        is_str(decided(&e, rows[i].now), rows[i].want, depot_strf(arena, "cursor %s, now %s", rows[i].cursor, rows[i].now));
    }
}

static void the_missed_policy_decides(void)
{
    static const struct { sched_missed missed; const char *now, *want; } rows[] = {
        /* the newest is on time, two before it are not */
        { MISSED_NONE, "2026-01-01T00:15:00Z", "pending 00:15:00 +2 -> 00:15:00, 2 missed" },
        { MISSED_ONCE, "2026-01-01T00:15:00Z", "pending 00:15:00 +2 -> 00:15:00, 0 missed" },
        { MISSED_ALL, "2026-01-01T00:15:00Z", "pending 00:05:00 late, pending 00:10:00 late, pending 00:15:00 late -> 00:15:00, 0 missed" },
        /* even the newest is more than a minute late */
        { MISSED_NONE, "2026-01-01T00:16:01Z", "missed 00:15:00 +2 -> 00:15:00, 3 missed" },
        { MISSED_ONCE, "2026-01-01T00:16:01Z", "pending 00:15:00 +2 -> 00:15:00, 0 missed" },
        { MISSED_ALL, "2026-01-01T00:16:01Z", "pending 00:05:00 late, pending 00:10:00 late, pending 00:15:00 late -> 00:15:00, 0 missed" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        sched_entry e = entry("*/5 * * * *", rows[i].missed, "2026-01-01T00:00:00Z");
        is_str(decided(&e, rows[i].now), rows[i].want, depot_strf(arena, "policy %d, now %s", (int)rows[i].missed, rows[i].now));
    }
}

static void years_of_downtime_are_bounded(void)
{
    static const char *const crons[] = { "* * * * *", "@every 1s", "* * * * * *", "0 0 * 1 *" };

    for (size_t i = 0; i < DEPOT_N(crons); i++) {
        sched_entry    e = entry(crons[i], MISSED_ALL, "2006-01-01T00:00:00Z");
        int64_t        began = depot_now_ms();
        sched_decision d = sched_decide(&e, at("2026-06-01T00:00:30Z"), arena);
        ok(d.n <= SCHED_CATCH_UP_MAX, depot_strf(arena, "%s: %zu runs make up for 20 years", crons[i], d.n));
        ok(d.n == SCHED_CATCH_UP_MAX ? d.missed > 0 : d.missed == 0, "and it is said how many do not");
        bool ordered = true;
        for (size_t c = 1; c < d.n; c++) {
            ordered = ordered && d.claims[c - 1].due_us < d.claims[c].due_us;
        }
        ok(ordered && d.claims[d.n - 1].due_us == d.to_us, "oldest first, the newest is the new cursor");
        int64_t next = 0;
        ok(cron_next(&e.when, e.zone, d.to_us, &next) && next > at("2026-06-01T00:00:30Z"), "nothing due is left behind it");
        ok(depot_now_ms() - began < 5000, depot_strf(arena, "in %lld ms", (long long)(depot_now_ms() - began)));
    }
}

static void the_newest_run_stands_for_all(void)
{
    sched_entry    e = entry("* * * * *", MISSED_ONCE, "2006-01-01T00:00:00Z");
    sched_decision d = sched_decide(&e, at("2026-06-01T00:00:30Z"), arena);

    is_int(d.n, 1, "one run after twenty years");
    is_int(d.claims[0].due_us, at("2026-06-01T00:00:00Z"), "of the newest due time");
    is_int(d.claims[0].passed_over, SCHED_COUNT_MAX, "which stands for more than anybody counts");
    is_int(d.missed, 0, "so nothing was missed");
}

/* Every due time up to each moment, found by walking, against what the search finds. */
static void the_search_agrees_with_walking(void)
{
    static const char *const crons[] = { "*/7 * * * *", "0 3 * * *", "@every 97s", "5,6,50 1-3 * * 1,5", "30 2 29 2 *" };
    int64_t                  start = at("2027-12-30T00:00:00Z");
    uint64_t                 seed = 12345;

    for (size_t i = 0; i < DEPOT_N(crons); i++) {
        int wrong = 0;
        for (int n = 0; n < 300; n++) {
            sched_entry e = entry(crons[i], MISSED_ONCE, "2027-12-30T00:00:00Z");
            seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
            int64_t now = start + (int64_t)(seed >> 20) % (90LL * 86400 * 1000000), newest = 0, due = start;
            while (cron_next(&e.when, e.zone, due, &due) && due <= now) {
                newest = due;
            }
            sched_decision d = sched_decide(&e, now, arena);
            wrong += newest == 0 ? d.n != 0 : d.n != 1 || d.to_us != newest;
        }
        is_int(wrong, 0, crons[i]);
    }
}

static void jitter_delays_but_keeps_the_order(void)
{
    sched_entry e = entry("* * * * *", MISSED_NONE, "2026-01-01T00:00:00Z");
    int64_t     due = e.cursor_us, last = 0, different = 0, out_of_order = 0;

    e.jitter_ms = 3600000; /* far more than the minute between due times */
    for (int i = 0; i < 200 && cron_next(&e.when, e.zone, due, &due); i++) {
        int64_t fire = sched_fire_us(&e, due);
        out_of_order += fire < due || fire >= due + 60000000 || fire <= last;
        different += fire - due != last - (due - 60000000);
        last = fire;
        is_int(fire, sched_fire_us(&e, due), "the same in every daemon");
    }
    is_int(out_of_order, 0, "always before the next due time");
    ok(different > 100, "different from one due time to the next");

    sched_entry none = entry("* * * * *", MISSED_NONE, "2026-01-01T00:00:00Z");
    is_int(sched_fire_us(&none, due), due, "no jitter, no delay");
}

static void a_due_time_waits_for_its_jitter(void)
{
    sched_entry e = entry("0 3 * * *", MISSED_NONE, "2026-01-01T00:00:00Z");
    int64_t     due = at("2026-01-01T03:00:00Z"), fire = 0;

    e.jitter_ms = 600000;
    int64_t wait = sched_fire_us(&e, due) - due;
    ok(wait > 0 && wait <= 600000000, "some of ten minutes");
    ok(sched_next_fire(&e, &fire) && fire == due + wait, "the next wake is then");
    is_int(sched_decide(&e, due + wait - 1, arena).n, 0, "not a microsecond earlier");
    is_int(sched_decide(&e, due + wait, arena).n, 1, "then it is");
    is_str(sched_decide(&e, due + wait + 59000000, arena).claims[0].status, "pending", "late is judged from there");
}

static void too_many_that_wait_are_skipped(void)
{
    sched_entry e = entry("* * * * *", MISSED_NONE, "2026-01-01T00:00:00Z");

    e.pending = SCHED_PENDING_MAX;
    sched_decision d = sched_decide(&e, at("2026-01-01T00:01:00Z"), arena);
    is_str(d.claims[0].status, "skipped", "the one that would be the 101st");
    contains(d.claims[0].message, "100 earlier runs wait already", "with the reason");
}

static void clocks_that_change_are_met(void)
{
    const sched_options o = { .cron = "30 2 * * *", .zone = "Europe/Berlin", .run = "a.b", .missed = MISSED_ALL, .enabled = true };
    sched_entry         e;
    const char         *option;
    depot_err           err = { 0 };

    if (!sched_entry_make(arena, "s", &o, &e, &option, &err)) {
        skip("Europe/Berlin", "no time zone files here");
        return;
    }
    e.cursor_us = at("2026-03-28T12:00:00Z");
    is_str(decided(&e, "2026-03-29T01:00:00Z"), "pending 01:00:00 -> 01:00:00, 0 missed", "02:30 that is skipped: after the gap");
    e.cursor_us = at("2026-10-24T12:00:00Z");
    is_str(decided(&e, "2026-10-25T00:30:00Z"), "pending 00:30:00 -> 00:30:00, 0 missed", "02:30 that comes twice: the first");
    e.cursor_us = at("2026-10-25T00:30:00Z");
    is_str(decided(&e, "2026-10-25T01:30:00Z"), "nothing", "and not the second");
}

static void faults_are_named_with_their_option(void)
{
    static const struct { sched_options o; const char *option, *message; } rows[] = {
        { { .cron = "* * * * *", .zone = "Mars/Olympus", .run = "a.b" }, "zone", "Mars/Olympus" },
        { { .cron = "* * * * *", .zone = "UTC", .run = "bash:x" }, "run", "no such kind of action" },
        { { .cron = "61 * * * *", .zone = "UTC", .run = "a.b" }, "cron", "61" },
        { { .cron = "* * * * *", .zone = "UTC", .run = "a.b", .args = "{" }, "args", "" },
        { { .cron = "* * * * *", .zone = "UTC", .run = "a.b", .args = "[1]" }, "args", "object" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        const char *option = NULL;
        sched_entry e;
        depot_err   err = { 0 };
        ok(!sched_entry_make(arena, "s", &rows[i].o, &e, &option, &err), rows[i].option);
        is_str(option, rows[i].option, "the option is named");
        contains(err.msg, rows[i].message, "and the reason");
    }
}

int main(void)
{
    arena = depot_arena_new();
    run(what_is_due_fires_once);
    run(the_missed_policy_decides);
    run(years_of_downtime_are_bounded);
    run(the_newest_run_stands_for_all);
    run(the_search_agrees_with_walking);
    run(jitter_delays_but_keeps_the_order);
    run(a_due_time_waits_for_its_jitter);
    run(too_many_that_wait_are_skipped);
    run(clocks_that_change_are_met);
    run(faults_are_named_with_their_option);
    depot_arena_free(arena);
    return done();
}
