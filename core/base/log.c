/* log.c - the front of the log: level, format, fields of the thread, and the making of a line. */
#include "base/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log_parts.h"
#include "base/metrics.h"
#include "base/text.h"

#define CONTEXT_PAIRS       8U
#define CONTEXT_VALUE_BYTES 128U
#define LOG_FIELDS_BYTES    2600U /* all fields behind the message, at most; the message gets what they leave */
#define LOG_VALUE_BYTES     512U  /* one of them, as printed */
#define LOG_ID_BYTES        96U
#define LOG_CUT             "…"

typedef struct log_pair {
    const char *key, *value;
} log_pair;

/* One line before it is text. */
typedef struct log_record {
    const char *plugin, *event, *msg;
    size_t      msg_len;
    depot_level level;
    int64_t     wall_us;
    log_pair    pairs[CONTEXT_PAIRS + 4];
    size_t      pair_count;
} log_record;

typedef struct log_context {
    struct {
        char key[32];
        char value[CONTEXT_VALUE_BYTES + 1];
    } pairs[CONTEXT_PAIRS];
    size_t count;
} log_context;

/* clang-format off */
static const struct { const char *name, *label; int priority; } level_rows[] = { /* priority: as syslog counts */
    [DEPOT_LOG_DEBUG] = { "debug", "DEBUG", 7 }, [DEPOT_LOG_INFO]  = { "info",  "INFO ", 6 },
    [DEPOT_LOG_WARN]  = { "warn",  "WARN ", 4 }, [DEPOT_LOG_ERROR] = { "error", "ERROR", 3 },
};
static const char *const format_names[] = {
    [LOG_AUTO] = "auto", [LOG_JSON] = "json", [LOG_TEXT] = "text", [LOG_JOURNAL] = "journal",
};
/* clang-format on */

static atomic_int                log_level = DEPOT_LOG_INFO;
static atomic_int                log_shape = LOG_AUTO; /* AUTO until the first line shows where stdout leads */
static _Thread_local log_context context;

const char *log_level_name(depot_level level)
{
    return level_rows[level].name;
}

bool log_parse_level(const char *text, depot_level *out, depot_err *err)
{
    for (size_t i = 0; i < DEPOT_N(level_rows); i++) {
        if (strcmp(level_rows[i].name, text) == 0) {
            *out = (depot_level)i;
            return true;
        }
    }
    (void)DEPOT_FAIL(err, INVALID, "\"%s\" is not a log level", text);
    return depot_hint(err, "write debug, info, warn or error");
}

bool log_parse_format(const char *text, log_format *out, depot_err *err)
{
    for (size_t i = 0; i < DEPOT_N(format_names); i++) {
        if (strcmp(format_names[i], text) == 0) {
            *out = (log_format)i;
            return true;
        }
    }
    (void)DEPOT_FAIL(err, INVALID, "\"%s\" is not a log format", text);
    return depot_hint(err, "write auto, json, text or journal");
}

void log_set_level(depot_level level)
{
    atomic_store(&log_level, (int)level);
}

void log_set_format(log_format format)
{
    atomic_store(&log_shape, (int)format);
}

bool log_wants(depot_level level)
{
    return (int)level >= atomic_load_explicit(&log_level, memory_order_relaxed);
}

/* systemd sets JOURNAL_STREAM to device and inode of what it gave as stdout; a child may have redirected it since. */
static bool is_journal(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    char        own[64];
    struct stat st;

    if (stream == NULL || fstat(fd, &st) != 0) {
        return false;
    }
    int n = snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    return n > 0 && strcmp(own, stream) == 0;
}

static log_format log_format_now(void)
{
    log_format format = (log_format)atomic_load_explicit(&log_shape, memory_order_relaxed);

    if (format == LOG_AUTO) {
        int fd = log_sink_fd();
        format = isatty(fd) ? LOG_TEXT : is_journal(fd) ? LOG_JOURNAL : LOG_JSON;
        log_set_format(format);
    }
    return format;
}

void log_context_set(const char *key, const char *value)
{
    size_t i = 0;

    while (i < context.count && strncmp(context.pairs[i].key, key, sizeof(context.pairs[i].key) - 1) != 0) {
        i++;
    }
    if (value == NULL) {
        if (i < context.count) {
            memmove(&context.pairs[i], &context.pairs[i + 1], (context.count - i - 1) * sizeof(context.pairs[0]));
            context.count--;
        }
        return;
    }
    if (i == CONTEXT_PAIRS) {
        return;
    }
    DEPOT_AUTO(depot_buf_free) depot_buf shown = { 0 };
    depot_buf_adds(&shown, value);
    log_redact(&shown); /* before it is cut: half a secret would not be recognised later */
    shown.data[text_utf8_cut(shown.data, shown.len, CONTEXT_VALUE_BYTES)] = '\0';
    (void)snprintf(context.pairs[i].key, sizeof(context.pairs[i].key), "%s", key); /* keys are compared as cut here */
    memcpy(context.pairs[i].value, shown.data, strlen(shown.data) + 1);
    context.count += i == context.count;
}

void log_context_clear(void)
{
    context.count = 0;
}

/* The number of seconds is that of depot_format_time; milliseconds are enough for a log. */
static void format_time(int64_t wall_us, char out[32])
{
    time_t    seconds = (time_t)(wall_us / 1000000);
    struct tm tm = { 0 };
    size_t    n = gmtime_r(&seconds, &tm) == NULL ? 0 : strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);

    (void)snprintf(out + n, 32 - n, ".%03dZ", (int)(wall_us / 1000 % 1000)); /* 20 bytes are taken, 5 follow */
}

typedef size_t (*log_adder)(depot_buf *out, const char *s, size_t n, size_t max);

/* Adds text of at most max bytes, the mark included when it had to be cut. */
static void add_cut(depot_buf *out, log_adder add, const char *s, size_t n, size_t max)
{
    size_t before = out->len;

    if (add(out, s, n, max) < n) {
        out->len = before;
        (void)add(out, s, n, max - strlen(LOG_CUT)); /* a shorter piece of the same */
        depot_buf_adds(out, LOG_CUT);
    }
}

/* The fields, each as `before key between value after`, as long as there is room. */
static void add_pairs(depot_buf *out, const log_record *record, log_adder add, const char *const marks[3])
{
    for (size_t i = 0; i < record->pair_count; i++) {
        const log_pair *pair = &record->pairs[i];
        size_t          used = strlen(pair->key) + 16;
        size_t          room = out->len + used < LOG_FIELDS_BYTES ? LOG_FIELDS_BYTES - out->len - used : 0;

        if (room < 16) {
            return;
        }
        depot_buf_adds(out, marks[0]);
        (void)text_add_escaped(out, pair->key, strlen(pair->key), used); /* keys are ids: nothing to escape */
        depot_buf_adds(out, marks[1]);
        add_cut(out, add, pair->value, strlen(pair->value), room < LOG_VALUE_BYTES ? room : LOG_VALUE_BYTES);
        depot_buf_adds(out, marks[2]);
    }
}

static void make_json(depot_buf *out, const log_record *record)
{
    static const char *const             marks[] = { ",\"", "\":\"", "\"" };
    DEPOT_AUTO(depot_buf_free) depot_buf fields = { 0 };
    char                                 time[32];

    format_time(record->wall_us, time);
    add_pairs(&fields, record, text_add_escaped, marks);
    depot_buf_addf(out, "{\"time\":\"%s\",\"level\":\"%s\",\"plugin\":\"", time, level_rows[record->level].name);
    add_cut(out, text_add_escaped, record->plugin, strlen(record->plugin), LOG_ID_BYTES);
    depot_buf_adds(out, "\",\"event\":\"");
    add_cut(out, text_add_escaped, record->event, strlen(record->event), LOG_ID_BYTES);
    depot_buf_adds(out, "\",\"msg\":\"");
    add_cut(out, text_add_escaped, record->msg, record->msg_len, LOG_LINE_BYTES - out->len - fields.len - 3);
    depot_buf_adds(out, "\"");
    depot_buf_add(out, fields.data, fields.len);
    depot_buf_adds(out, "}");
}

static void make_text(depot_buf *out, const log_record *record, log_format format)
{
    static const char *const             marks[] = { " ", "=", "" };
    DEPOT_AUTO(depot_buf_free) depot_buf fields = { 0 };
    char                                 time[32];

    add_pairs(&fields, record, text_add_printable, marks);
    if (format == LOG_JOURNAL) { /* the journal keeps time and level by itself */
        depot_buf_addf(out, "<%d>", level_rows[record->level].priority);
    } else {
        format_time(record->wall_us, time);
        depot_buf_addf(out, "%s %s ", time, level_rows[record->level].label);
    }
    add_cut(out, text_add_printable, record->plugin, strlen(record->plugin), LOG_ID_BYTES);
    depot_buf_adds(out, " ");
    add_cut(out, text_add_printable, record->event, strlen(record->event), LOG_ID_BYTES);
    depot_buf_adds(out, ": ");
    add_cut(out, text_add_printable, record->msg, record->msg_len, LOG_LINE_BYTES - out->len - fields.len - 1);
    depot_buf_add(out, fields.data, fields.len);
}

static void add_pair(log_record *record, const char *key, const char *value)
{
    if (value != NULL && value[0] != '\0' && record->pair_count < DEPOT_N(record->pairs)) {
        record->pairs[record->pair_count++] = (log_pair){ key, value };
    }
}

/* Prints one record; gives back how many lines had been lost before it. */
static uint64_t print_record(const log_record *record)
{
    DEPOT_AUTO(depot_buf_free) depot_buf json = { 0 };
    DEPOT_AUTO(depot_buf_free) depot_buf line = { 0 };
    log_format                           format = log_format_now();

    make_json(&json, record);
    log_redact(&json); /* ids and fields; the message has been done before it was cut */
    if (format == LOG_JSON) {
        depot_buf_add(&line, json.data, json.len);
    } else {
        make_text(&line, record, format);
        log_redact(&line);
    }
    depot_buf_adds(&line, "\n");
    metrics_add("depot_log_lines_total", (const char *const[]){ level_rows[record->level].name, NULL }, 1);
    return log_sink_put(&json, &line);
}

static void print_about_log(const char *plugin, depot_level level, const char *event, const char *msg)
{
    log_record record = { .plugin = plugin, .event = event, .msg = msg, .msg_len = strlen(msg), .level = level };

    record.wall_us = depot_wall_us();
    (void)print_record(&record); /* a loss in the middle of telling a loss is counted in the metric */
}

static void print_folds(int64_t now_ms)
{
    log_fold fold;
    char     msg[80];

    while (log_fold_take(now_ms, &fold)) {
        (void)snprintf(msg, sizeof(msg), "%llu more of these within %d s are not shown", (unsigned long long)fold.count,
                       LOG_FOLD_MS / 1000); /* always fits */
        print_about_log(fold.plugin, fold.level, fold.event, msg);
    }
}

/* Whether a line is wanted and not one repeat too many: before anything is formatted. */
static bool admit(const char *plugin, depot_level level, const char *event)
{
    if (!log_wants(level)) {
        return false;
    }
    int64_t now_ms = depot_now_ms();
    print_folds(now_ms);
    return log_fold_admit(plugin, event, level, now_ms);
}

/* Takes a record that has its own fields, adds the thread's, and prints it. */
static void emit(log_record *record)
{
    DEPOT_AUTO(depot_buf_free) depot_buf msg = { 0 };

    for (size_t i = 0; i < context.count; i++) {
        add_pair(record, context.pairs[i].key, context.pairs[i].value);
    }
    depot_buf_adds(&msg, record->msg);
    log_redact(&msg);
    record->msg = msg.data;
    record->msg_len = msg.len;
    record->wall_us = depot_wall_us();
    uint64_t lost = print_record(record);
    if (lost > 0) {
        char text[80];
        (void)snprintf(text, sizeof(text), "%llu lines were lost: nobody read them", (unsigned long long)lost);
        print_about_log("core", DEPOT_LOG_WARN, "log.lost", text);
    }
}

void log_vwrite(const char *plugin, depot_level level, const char *event, const char *fmt, va_list ap)
{
    int        saved = errno;
    log_record record = { .plugin = plugin, .event = event, .level = level };

    if (!admit(plugin, level, event)) {
        errno = saved;
        return;
    }
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    errno = saved; /* for %m */
    record.msg = depot_strvf(arena, fmt, ap);
    emit(&record);
    errno = saved;
}

void log_write(const char *plugin, depot_level level, const char *event, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_vwrite(plugin, level, event, fmt, ap);
    va_end(ap);
}

void log_err(const char *plugin, depot_level level, const char *event, const depot_err *err)
{
    int                                  saved = errno;
    log_record                           record = { .plugin = plugin, .event = event, .msg = err->msg, .level = level };
    char                                 place[128];
    DEPOT_AUTO(depot_buf_free) depot_buf hint = { 0 };

    metrics_add("depot_errors_total", (const char *const[]){ plugin, depot_err_id(err), NULL }, 1);
    if (!admit(plugin, level, event)) {
        errno = saved;
        return;
    }
    (void)snprintf(place, sizeof(place), "%s:%d", err->file == NULL ? "" : err->file, err->line); /* may be cut */
    add_pair(&record, "error", depot_err_id(err));
    depot_buf_adds(&hint, err->hint);
    log_redact(&hint); /* by itself: it may end in a piece of a secret that did not fit */
    add_pair(&record, "hint", hint.data);
    add_pair(&record, "sqlstate", err->sqlstate);
    add_pair(&record, "place", err->file == NULL ? NULL : place);
    emit(&record);
    errno = saved;
}

void log_tick(void)
{
    print_folds(depot_now_ms());
}

void log_finish(void)
{
    print_folds(INT64_MAX);
}
