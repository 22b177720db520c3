/* test_log.c - the log: forms, fields, levels, secrets, repeats, stalled readers. Lines are read from a pipe. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/log_parts.h"
#include "base/metrics.h"
#include "depot/json.h"
#include "tap.h"

static int  ends[2] = { -1, -1 };
static char lines[1 << 20];

/* A new pipe for the log; nothing of an earlier test is in it, nor in the counts of repeats. */
static void fresh(log_format format)
{
    log_finish();
    depot_fd_close(&ends[0]);
    depot_fd_close(&ends[1]);
    if (pipe2(ends, O_CLOEXEC) != 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) {
        abort();
    }
    log_set_fd(ends[1]);
    log_set_format(format);
    log_set_level(DEPOT_LOG_INFO);
    log_context_clear();
}

/* All that has come through the pipe since the last call. */
static const char *read_lines(void)
{
    size_t  n = 0;
    ssize_t got;

    while ((got = read(ends[0], lines + n, sizeof(lines) - 1 - n)) > 0) {
        n += (size_t)got;
    }
    lines[n] = '\0';
    return lines;
}

static int count_lines(const char *text)
{
    int n = 0;

    for (; *text != '\0'; text++) {
        n += *text == '\n';
    }
    return n;
}

/* The one line that should have come, as JSON. */
static const depot_json *read_json(depot_arena *arena)
{
    depot_err         err = { 0 };
    const char       *text = read_lines();
    const depot_json *value = depot_json_parse(arena, text, strlen(text), &err);

    ok(value != NULL && count_lines(text) == 1, "one line, and it is JSON");
    return value;
}

static void a_line_is_one_json_object(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_err                                 err = { 0 };
    int64_t                                   at = 0;

    fresh(LOG_JSON);
    log_write("queue", DEPOT_LOG_WARN, "queue.lease_expired", "lease of job %d \"%s\"\n", 7, "x\\\xFF");
    const depot_json *line = read_json(arena);
    is_int(depot_json_len(line), 5, "five fields");
    is_str(depot_json_get_str(line, "level", ""), "warn", "level");
    is_str(depot_json_get_str(line, "plugin", ""), "queue", "plugin");
    is_str(depot_json_get_str(line, "event", ""), "queue.lease_expired", "event");
    is_str(depot_json_get_str(line, "msg", ""), "lease of job 7 \"x\\\xEF\xBF\xBD\"\n", "message");
    const char *time = depot_json_get_str(line, "time", "");
    is_int(strlen(time), strlen("2026-11-20T09:23:33.459Z"), "time in milliseconds");
    ok_err(depot_parse_time(time, &at, &err), &err, "which can be read");
    ok(at <= depot_wall_us() && depot_wall_us() - at < 10000000, "and is now");
}

static void levels_below_the_threshold_are_silent(void)
{
    static const char *const names[] = { "debug", "info", "warn", "error" };

    fresh(LOG_JSON);
    for (int threshold = DEPOT_LOG_DEBUG; threshold <= DEPOT_LOG_ERROR; threshold++) {
        depot_level level = DEPOT_LOG_DEBUG;
        depot_err   err = { 0 };
        ok(log_parse_level(names[threshold], &level, &err) && (int)level == threshold, names[threshold]);
        is_str(log_level_name(level), names[threshold], "and back");
        log_set_level(level);
        for (int i = DEPOT_LOG_DEBUG; i <= DEPOT_LOG_ERROR; i++) {
            is_int(log_wants((depot_level)i), i >= threshold, "wanted or not");
            log_write("test", (depot_level)i, "test.level", "x");
        }
        is_int(count_lines(read_lines()), 4 - threshold, "lines printed");
    }
    depot_level level = DEPOT_LOG_DEBUG;
    log_format  format = LOG_AUTO;
    depot_err   err = { 0 };
    ok(!log_parse_level("loud", &level, &err) && err.code == DEPOT_E_INVALID, "loud is no level");
    ok(!log_parse_format("xml", &format, &err) && err.code == DEPOT_E_INVALID, "xml is no format");
    ok(log_parse_format("journal", &format, &err) && format == LOG_JOURNAL, "journal is one");
}

static void errno_survives_and_can_be_shown(void)
{
    fresh(LOG_TEXT);
    errno = EACCES;
    log_write("test", DEPOT_LOG_INFO, "test.errno", "cannot: %m");
    is_int(errno, EACCES, "unchanged");
    contains(read_lines(), "test.errno: cannot: Permission denied\n", "shown");
}

static void text_is_for_people(void)
{
    fresh(LOG_TEXT);
    log_context_set("job_id", "42");
    log_write("queue", DEPOT_LOG_INFO, "queue.started", "\"quoted\" and \x1b[31mred\nsecond\xC2\x9B");
    const char *text = read_lines();
    ok(strlen(text) > 25 && text[23] == 'Z', "time first");
    is_str(text + 24, " INFO  queue queue.started: \"quoted\" and \\u001b[31mred\\nsecond\\u009b job_id=42\n",
           "no control character reaches the terminal");
}

static void the_journal_gets_priorities(void)
{
    static const struct {
        depot_level level;
        const char *want;
    } rows[] = { { DEPOT_LOG_DEBUG, "<7>p e.x: m k=v\n" },
                 { DEPOT_LOG_INFO, "<6>p e.x: m k=v\n" },
                 { DEPOT_LOG_WARN, "<4>p e.x: m k=v\n" },
                 { DEPOT_LOG_ERROR, "<3>p e.x: m k=v\n" } };

    fresh(LOG_JOURNAL);
    log_set_level(DEPOT_LOG_DEBUG);
    log_context_set("k", "v");
    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        log_write("p", rows[i].level, "e.x", "m");
        is_str(read_lines(), rows[i].want, "line");
    }
}

static void the_form_follows_the_descriptor(void)
{
    int         terminal[2];
    struct stat st;
    char        stream[64];

    fresh(LOG_AUTO);
    log_write("p", DEPOT_LOG_INFO, "e.auto", "m");
    contains(read_lines(), "{\"time\":", "a pipe gets JSON");
    ok(fstat(ends[1], &st) == 0, "look at the pipe");
    (void)snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    ok(setenv("JOURNAL_STREAM", stream, 1) == 0, "call it the journal");
    log_set_format(LOG_AUTO);
    log_write("p", DEPOT_LOG_INFO, "e.auto", "m");
    is_str(read_lines(), "<6>p e.auto: m\n", "the journal gets a priority");
    ok(setenv("JOURNAL_STREAM", "1:1", 1) == 0, "the journal is something else");
    log_set_format(LOG_AUTO);
    log_write("p", DEPOT_LOG_INFO, "e.auto", "m");
    contains(read_lines(), "{\"time\":", "so it is JSON again");
    ok(unsetenv("JOURNAL_STREAM") == 0, "no journal");
    if (openpty(&terminal[0], &terminal[1], NULL, NULL, NULL) != 0) {
        skip("a terminal gets text", "no pseudo terminal here");
        return;
    }
    char shown[200] = "";
    log_set_fd(terminal[1]);
    log_set_format(LOG_AUTO);
    log_write("p", DEPOT_LOG_INFO, "e.auto", "m");
    ok(read(terminal[0], shown, sizeof(shown) - 1) > 0, "a terminal gets a line");
    contains(shown, " INFO  p e.auto: m", "of text");
    log_set_fd(ends[1]);
    depot_fd_close(&terminal[0]);
    depot_fd_close(&terminal[1]);
}

static void errors_show_all_they_know(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_err                                 err = { 0 };
    DEPOT_AUTO(depot_buf_free) depot_buf      metrics = { 0 };

    fresh(LOG_JSON);
    (void)DEPOT_FAIL(&err, DB, "cannot claim jobs");
    (void)depot_hint(&err, "look for long transactions");
    memcpy(err.sqlstate, "40P01", 6);
    log_context_set("run_id", "r1");
    log_err("queue", DEPOT_LOG_ERROR, "queue.claim_failed", &err);
    const depot_json *line = read_json(arena);
    is_str(depot_json_get_str(line, "msg", ""), "cannot claim jobs", "message");
    is_str(depot_json_get_str(line, "error", ""), "DB", "id");
    is_str(depot_json_get_str(line, "hint", ""), "look for long transactions", "hint");
    is_str(depot_json_get_str(line, "sqlstate", ""), "40P01", "sqlstate");
    contains(depot_json_get_str(line, "place", ""), "test_log.c:", "place");
    is_str(depot_json_get_str(line, "run_id", ""), "r1", "and the thread's fields");
    depot_err bare = { .code = DEPOT_E_IO, .msg = "bare" };
    log_set_level(DEPOT_LOG_ERROR);
    log_err("queue", DEPOT_LOG_WARN, "queue.claim_failed", &bare);
    is_str(read_lines(), "", "below the threshold nothing is printed");
    log_err("queue", DEPOT_LOG_ERROR, "queue.claim_failed", &bare);
    is_int(depot_json_len(read_json(arena)), 7, "what is not known is not shown");
    metrics_prom(&metrics);
    contains(metrics.data, "depot_errors_total{plugin=\"queue\",error=\"DB\"} 1\n", "counted by id");
    contains(metrics.data, "depot_errors_total{plugin=\"queue\",error=\"IO\"} 2\n", "also below the threshold");
    contains(metrics.data, "depot_log_lines_total{level=\"error\"}", "lines are counted by level");
}

static void fields_stay_until_cleared(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    char                                      key[16];
    char                                      value[200];

    fresh(LOG_JSON);
    log_context_set("a", "1");
    log_context_set("b", "2");
    log_context_set("a", "3");
    log_write("p", DEPOT_LOG_INFO, "e.fields", "m");
    const depot_json *line = read_json(arena);
    ok(depot_json_len(line) == 7 && strcmp(depot_json_get_str(line, "a", ""), "3") == 0, "the last value of a key");
    log_context_set("a", NULL);
    log_context_set("absent", NULL);
    log_write("p", DEPOT_LOG_INFO, "e.fields", "m");
    line = read_json(arena);
    ok(depot_json_len(line) == 6 && strcmp(depot_json_get_str(line, "b", ""), "2") == 0, "NULL takes one away");
    memset(value, 'v', sizeof(value) - 1);
    memcpy(value + 127, "\xC3\xA4", 2);
    value[sizeof(value) - 1] = '\0';
    for (int i = 0; i < 10; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        log_context_set(key, value);
    }
    log_write("p", DEPOT_LOG_INFO, "e.fields", "m");
    line = read_json(arena);
    is_int(depot_json_len(line), 13, "eight at most");
    is_int(strlen(depot_json_get_str(line, "k0", "")), 127, "values are cut between characters, at 128 bytes");
    log_context_clear();
    log_write("p", DEPOT_LOG_INFO, "e.fields", "m");
    is_int(depot_json_len(read_json(arena)), 5, "cleared");
}

static void long_lines_are_cut(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    static const char *const                  fill[] = { "m", "\xE2\x82\xAC", "\x01", "\"", "\xFF" };
    static const log_format                   formats[] = { LOG_JSON, LOG_TEXT };
    char                                      control[129];

    memset(control, 2, sizeof(control) - 1);
    control[sizeof(control) - 1] = '\0';
    for (size_t i = 0; i < DEPOT_N(fill) * DEPOT_N(formats); i++) {
        DEPOT_AUTO(depot_buf_free) depot_buf msg = { 0 };
        fresh(formats[i % 2]);
        while (msg.len < 20000) {
            depot_buf_adds(&msg, fill[i / 2]);
        }
        for (int k = 0; k < 8; k++) {
            log_context_set(depot_strf(arena, "a_rather_long_name_of_field_%d", k), control);
        }
        log_write(msg.data, DEPOT_LOG_INFO, msg.data, "%s", msg.data);
        const char *text = read_lines();
        ok(strlen(text) <= 4096 && strlen(text) > 3900, "one line of at most 4096 bytes, well used");
        ok(depot_utf8_valid(text, strlen(text)) && count_lines(text) == 1, "of whole characters");
        contains(text, "…", "which shows that it was cut");
        contains(text, "a_rather_long_name_of_field_0", "and has the fields");
        depot_err err = { 0 };
        ok(i % 2 == 1 || depot_json_parse(arena, text, strlen(text), &err) != NULL, "JSON is still JSON");
    }
}

static void secrets_are_never_shown(void)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };
    depot_err                            err = { 0 };

    fresh(LOG_JSON);
    log_redact_add("hunter22");
    log_redact_add("hunter22");
    log_redact_add("q\"uo\\te\n!");
    log_redact_add("short");
    log_context_set("dsn", "postgres://u:hunter22@h");
    log_write("hunter22", DEPOT_LOG_INFO, "x.hunter22",
              "hunter22 hunter22hunter22 q\"uo\\te\n! {\"a\":\"q\\\"uo\\\\te\\n!\"} short");
    const char *line = read_lines();
    ok(strstr(line, "hunter22") == NULL, "not in any place");
    contains(line, "\"plugin\":\"***\",\"event\":\"x.***\",\"msg\":\"*** ****** *** {\\\"a\\\":\\\"***\\\"} short\"",
             "plain or escaped, but short ones stay");
    contains(line, "\"dsn\":\"postgres://u:***@h\"", "nor in a field");

    fresh(LOG_TEXT);
    (void)DEPOT_FAIL(&err, IO, "%0312dhunter22", 0);
    (void)depot_hint(&err, "%0248dhunter22", 0);
    log_err("p", DEPOT_LOG_ERROR, "e.cut", &err);
    line = read_lines();
    ok(strstr(line, "hunter") == NULL && strstr(line, "0***") != NULL, "nor a piece of it that was cut off");
    char value[160];
    (void)snprintf(value, sizeof(value), "%0124dhunter22", 0);
    log_context_set("v", value);
    log_write("p", DEPOT_LOG_INFO, "e.cut", "%05000dhunter22", 0);
    ok(strstr(read_lines(), "hunt") == NULL, "nor what would be cut later");
    depot_buf_adds(&text, "hunter22 in a reply");
    log_redact(&text);
    is_str(text.data, "*** in a reply", "also in text that goes elsewhere");
    is_int(text.len, strlen(text.data), "with its length");
    depot_buf_reset(&text);
    log_redact(&text);
    is_str(text.data, "", "no text is fine");
}

static void repeats_are_folded(void)
{
    fresh(LOG_JSON);
    for (int i = 0; i < 100; i++) {
        log_write("p", DEPOT_LOG_WARN, "e.again", "m %d", i);
        if (i % 10 == 0) {
            log_write("p", DEPOT_LOG_INFO, "e.seldom", "m");
            log_write("q", DEPOT_LOG_INFO, "e.again", "m");
        }
    }
    log_tick();
    is_int(count_lines(read_lines()), 40, "20 of the many, all of the others");
    log_finish();
    const char *line = read_lines();
    is_int(count_lines(line), 1, "the rest is one line");
    contains(line,
             "\"level\":\"warn\",\"plugin\":\"p\",\"event\":\"e.again\",\"msg\":\"80 more of these within 10 s are not "
             "shown\"",
             "that counts them");
    log_finish();
    is_str(read_lines(), "", "once");
}

static void windows_of_repeats_end(void)
{
    log_fold fold;
    int      admitted = 0;

    fresh(LOG_JSON);
    for (int i = 0; i < 50; i++) {
        admitted += log_fold_admit("w", "w.x", DEPOT_LOG_INFO, 1000 + i);
    }
    is_int(admitted, 20, "20 in a window");
    ok(!log_fold_take(10999, &fold), "not over after 9.999 s");
    ok(log_fold_take(11000, &fold), "over after 10 s");
    ok(fold.count == 30 && strcmp(fold.plugin, "w") == 0 && strcmp(fold.event, "w.x") == 0, "with what was held back");
    ok(!log_fold_take(INT64_MAX, &fold), "and is empty then");
    ok(log_fold_admit("w", "w.x", DEPOT_LOG_INFO, 11001), "a new window begins");
    for (int i = 0; i < 19; i++) {
        admitted += log_fold_admit("w", "w.x", DEPOT_LOG_INFO, 11002);
    }
    is_int(admitted, 39, "with 20 more");
    ok(log_fold_admit("w", "w.x", DEPOT_LOG_INFO, 21001), "one that was not full begins anew by itself");
    /* Far more events than the table has places: each may be printed, none gets the count of another. */
    size_t refused = 0;
    for (int i = 0; i < 3000; i++) {
        char event[16];
        (void)snprintf(event, sizeof(event), "w.%d", i);
        refused += !log_fold_admit("w", event, DEPOT_LOG_INFO, 40000);
    }
    is_int(refused, 0, "no event is held back for another");
    for (int i = 0; i < 50; i++) {
        refused += !log_fold_admit("w", "w.late", DEPOT_LOG_INFO, 40001);
    }
    is_int(refused, 30, "and one that repeats is still noticed among them");
}

static void a_stalled_reader_stops_nobody(void)
{
    DEPOT_AUTO(depot_buf_free) depot_buf metrics = { 0 };
    char                                 big[3000];

    fresh(LOG_TEXT);
    memset(big, 'b', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    int64_t begun = depot_now_ms();
    for (int i = 0; i < 100; i++) {
        char event[16];
        (void)snprintf(event, sizeof(event), "s.%d", i);
        log_write("p", DEPOT_LOG_INFO, event, "%s", big);
    }
    int64_t took = depot_now_ms() - begun;
    ok(took >= 150 && took < 10000, "a full pipe is waited for once, not each time");
    int kept = count_lines(read_lines());
    ok(kept > 5 && kept < 100, "some lines are lost");
    log_write("p", DEPOT_LOG_INFO, "s.after", "m");
    const char *text = read_lines();
    char        want[80];
    (void)snprintf(want, sizeof(want), "core log.lost: %d lines were lost: nobody read them\n", 100 - kept);
    contains(text, "s.after: m\n", "afterwards lines come again");
    contains(text, want, "and the loss is told");
    (void)snprintf(want, sizeof(want), "depot_log_lost_total %d\n", 100 - kept);
    metrics_prom(&metrics);
    contains(metrics.data, want, "and counted");
}

static void a_vanished_reader_stops_nobody(void)
{
    fresh(LOG_TEXT);
    depot_fd_close(&ends[0]);
    int64_t begun = depot_now_ms();
    for (int i = 0; i < 100; i++) { /* each another one: repeated lines are folded */
        char event[16];
        (void)snprintf(event, sizeof(event), "v.%d", i);
        log_write("p", DEPOT_LOG_INFO, event, "m");
    }
    ok(depot_now_ms() - begun < 10000, "a broken pipe is not waited for");
    log_set_fd(-1);
    log_write("p", DEPOT_LOG_INFO, "v.x", "m");
    ok(depot_now_ms() - begun < 10000, "nor is no descriptor at all");
}

static void the_last_lines_are_kept(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    size_t                                    n = 0;

    fresh(LOG_TEXT);
    for (int i = 0; i < 1100; i++) {
        char event[16];
        (void)snprintf(event, sizeof(event), "r.%d", i);
        log_write("p", DEPOT_LOG_INFO, event, "m");
        if (i % 200 == 0) {
            (void)read_lines();
        }
    }
    const char *const *recent = log_recent(arena, 3, &n);
    is_int(n, 3, "as many as asked for");
    contains(recent[0], "\"event\":\"r.1097\"", "oldest first");
    contains(recent[2], "\"event\":\"r.1099\"", "newest last");
    contains(recent[2], "{\"time\":", "as JSON, whatever is printed");
    ok(recent[3] == NULL, "ended by NULL");
    recent = log_recent(arena, 5000, &n);
    is_int(n, 1000, "a thousand at most");
    contains(recent[0], "\"event\":\"r.100\"", "the oldest of them");
    (void)log_recent(arena, 0, &n);
    is_int(n, 0, "none, if none are wanted");
}

static void *write_many(void *arg)
{
    char event[32];
    int  who = *(const int *)arg;

    for (int i = 0; i < 300; i++) {
        (void)snprintf(event, sizeof(event), "t%d.%d", who, i);
        log_context_set("who", event);
        log_write("threads", DEPOT_LOG_INFO, event, "message");
    }
    return NULL;
}

static void threads_do_not_mix(void)
{
    enum { THREADS = 4 };
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    pthread_t                                 threads[THREADS];
    int                                       names[THREADS];
    int                                       bad = 0;
    int                                       seen = 0;

    fresh(LOG_JSON);
    (void)fcntl(ends[1], F_SETPIPE_SZ, 1 << 20); /* where that is refused the lines just come slower */
    for (int i = 0; i < THREADS; i++) {
        names[i] = i;
        bad += pthread_create(&threads[i], NULL, write_many, &names[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        bad += pthread_join(threads[i], NULL);
    }
    is_int(bad, 0, "all threads ran");
    char *rest = depot_strdup(arena, read_lines());
    for (char *line = strsep(&rest, "\n"); line != NULL && line[0] != '\0'; line = strsep(&rest, "\n")) {
        depot_err         err = { 0 };
        const depot_json *value = depot_json_parse(arena, line, strlen(line), &err);
        seen++;
        bad += value == NULL ||
               strcmp(depot_json_get_str(value, "event", "x"), depot_json_get_str(value, "who", "y")) != 0;
    }
    is_int(seen, THREADS * 300, "all lines came");
    is_int(bad, 0, "each whole, with the fields of its own thread");
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    run(a_line_is_one_json_object);
    run(levels_below_the_threshold_are_silent);
    run(errno_survives_and_can_be_shown);
    run(text_is_for_people);
    run(the_journal_gets_priorities);
    run(the_form_follows_the_descriptor);
    run(errors_show_all_they_know);
    run(fields_stay_until_cleared);
    run(long_lines_are_cut);
    run(secrets_are_never_shown);
    run(repeats_are_folded);
    run(windows_of_repeats_end);
    run(a_stalled_reader_stops_nobody);
    run(a_vanished_reader_stops_nobody);
    run(the_last_lines_are_kept);
    run(threads_do_not_mix);
    return done();
}
