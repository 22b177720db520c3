/* base/log.h - the log: one event a line on stdout, for machines (JSON) or people (text).
 *
 * The log is global to the process: level, format, secrets, ring and counters of repeats live in it. Every call may be
 * made from any thread and leaves errno alone. A line never exceeds 4096 bytes (PIPE_BUF), so lines of several
 * processes on one pipe do not mix; a longer message is cut and ends in "…". */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "depot/base.h"

/* AUTO: TEXT when stdout is a terminal, JOURNAL when it is the journal of systemd, else JSON. */
typedef enum log_format { LOG_AUTO, LOG_JSON, LOG_TEXT, LOG_JOURNAL } log_format;

/* Read "auto", "json", "text", "journal"; "debug", "info", "warn", "error". Fail with INVALID. */
bool        log_parse_format(const char *text, log_format *out, depot_err *err) DEPOT_MUST_USE;
bool        log_parse_level(const char *text, depot_level *out, depot_err *err) DEPOT_MUST_USE;
const char *log_level_name(depot_level level);

/* May be changed at any time (reload); they start as AUTO, INFO and stdout. fd stays the caller's. */
void log_set_format(log_format format);
void log_set_level(depot_level level);
void log_set_fd(int fd);
bool log_wants(depot_level level); /* whether a line of this level would be printed: before costly arguments */

/* One event. `event` is a stable id such as "queue.lease_expired". More than 20 of the same plugin and event in 10 s
 * are folded into one counted line. When stdout takes nothing for 200 ms the line is dropped and counted; SIGPIPE must
 * be ignored. */
void log_write(const char *plugin, depot_level level, const char *event, const char *fmt, ...) DEPOT_PRINTF(4, 5);
void log_vwrite(const char *plugin, depot_level level, const char *event, const char *fmt, va_list ap)
    DEPOT_PRINTF(4, 0);
/* An error as an event: its message, and as fields error (id), hint, sqlstate and place. Counts depot_errors_total. */
void log_err(const char *plugin, depot_level level, const char *event, const depot_err *err);

/* Fields that every line of this thread carries until they are cleared: request_id, job_id, run_id. At most 8 (a ninth
 * is ignored); key up to 31 bytes, value up to 128, both copied. NULL as value takes the field away. */
void log_context_set(const char *key, const char *value);
void log_context_clear(void);

/* From now on every line shows *** instead of this value, also where it is JSON-escaped. Under 6 bytes: ignored. */
void log_redact_add(const char *value);
/* The same for text that goes elsewhere (output of a child process, an error for a reply). */
void log_redact(depot_buf *text);
/* All values that are hidden, for another process that is to hide them too. */
const char *const *log_redacted(depot_arena *arena, size_t *out_n);

/* Prints the counted lines that are due; call it about once a second. */
void log_tick(void);
/* Prints all counted lines; before the process ends. */
void log_finish(void);

/* The last n lines (the log keeps 1000), oldest first, always as JSON objects. */
const char *const *log_recent(depot_arena *arena, size_t n, size_t *out_count);

#endif
