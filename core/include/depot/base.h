/* depot/base.h - errors, memory, text, time, files and logging: what every layer and every plugin stands on.
 *
 * Conventions that hold for all of depotd:
 *   - a function that can fail returns bool and takes `depot_err *err` last: false if and only if *err is filled;
 *   - a function that takes an arena returns memory of that arena; `_new/_free` pairs are owned by the caller;
 *   - every wait has a deadline; durations are milliseconds (int64_t, suffix _ms) unless the name says otherwise. */
#ifndef DEPOT_BASE_H
#define DEPOT_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEPOT_API __attribute__((visibility("default")))
#define DEPOT_MUST_USE __attribute__((warn_unused_result))
#define DEPOT_PRINTF(f, a) __attribute__((format(printf, f, a)))
/* A local that is cleaned when it leaves scope: DEPOT_AUTO(depot_fd_close) int fd = -1; */
#define DEPOT_AUTO(fn) __attribute__((cleanup(fn)))
#define DEPOT_N(array) (sizeof(array) / sizeof((array)[0]))

/* ---- errors (the list is errors.def) ---- */
typedef enum depot_code {
    DEPOT_OK = 0,
#define DEPOT_ERROR(symbol, number, id, http, exit, retry, meaning) DEPOT_E_##symbol = (number),
#include "depot/errors.def"
#undef DEPOT_ERROR
} depot_code;

typedef enum depot_retry { DEPOT_RETRY_NO, DEPOT_RETRY_SAFE, DEPOT_RETRY_UNCERTAIN } depot_retry;

/* Fixed size, lives on the stack, nothing to free. Start from {0}. */
typedef struct depot_err {
    depot_code  code;
    int         sys_errno;   /* errno at the time of the failure, 0 if it plays no part */
    const char *file;        /* source place that failed: for logs, not for users */
    int         line;
    char        id[40];      /* a script's own code such as "MAIL_REFUSED"; empty: the id of `code` */
    char        sqlstate[6]; /* set when the database refused */
    char        msg[320];    /* what failed, with its operands: lower case, no period */
    char        hint[256];   /* what to do about it; may be empty */
} depot_err;

/* All return false, so that a failing function can `return DEPOT_FAIL(err, IO, "cannot open %s: %m", path);` */
DEPOT_API bool depot_fail(depot_err *err, depot_code code, const char *file, int line, const char *fmt, ...)
    DEPOT_PRINTF(5, 6);
DEPOT_API bool depot_hint(depot_err *err, const char *fmt, ...) DEPOT_PRINTF(2, 3);
/* Puts context in front of the message: "<context>: <message>". */
DEPOT_API bool depot_wrap(depot_err *err, const char *fmt, ...) DEPOT_PRINTF(2, 3);
#define DEPOT_FAIL(err, symbol, ...) depot_fail((err), DEPOT_E_##symbol, __FILE__, __LINE__, __VA_ARGS__)
/* Fails with IO, or NO_SPACE when errno says that the disk or quota is full; ends the message with errno's text. */
DEPOT_API bool depot_fail_errno(depot_err *err, const char *file, int line, const char *fmt, ...) DEPOT_PRINTF(4, 5);
#define DEPOT_FAIL_ERRNO(err, ...) depot_fail_errno((err), __FILE__, __LINE__, __VA_ARGS__)

DEPOT_API const char *depot_err_id(const depot_err *err);      /* "NOT_FOUND"; the script's own id if it has one */
DEPOT_API int         depot_err_http(const depot_err *err);    /* 404 */
DEPOT_API int         depot_err_exit(const depot_err *err);    /* 1 */
DEPOT_API depot_retry depot_err_retry(const depot_err *err);
DEPOT_API depot_code  depot_code_by_id(const char *id);        /* UNKNOWN when the list has no such id */

/* ---- log levels and metric kinds ---- */
/* error: a human must act; warn: healed itself or degraded; info: changes of state; debug: anything. */
typedef enum depot_level { DEPOT_LOG_DEBUG, DEPOT_LOG_INFO, DEPOT_LOG_WARN, DEPOT_LOG_ERROR } depot_level;
typedef enum depot_metric_kind { DEPOT_COUNTER, DEPOT_GAUGE, DEPOT_HISTOGRAM } depot_metric_kind;

/* ---- memory ---- */
/* An arena owns the memory of one unit of work (request, job, tick, configuration). Not shared between threads.
 * Memory is zeroed. Running out of memory ends the process: leases and WAL make a restart safe. */
typedef struct depot_arena depot_arena;

DEPOT_API depot_arena *depot_arena_new(void);
DEPOT_API void         depot_arena_free(depot_arena *arena); /* NULL is fine; runs the deferred functions, last first */
DEPOT_API void         depot_arena_drop(depot_arena **arena); /* for DEPOT_AUTO */
DEPOT_API void        *depot_alloc(depot_arena *arena, size_t size) __attribute__((malloc, returns_nonnull));
DEPOT_API void         depot_defer(depot_arena *arena, void (*fn)(void *), void *ptr);
DEPOT_API char        *depot_strf(depot_arena *arena, const char *fmt, ...) DEPOT_PRINTF(2, 3);
DEPOT_API char        *depot_strvf(depot_arena *arena, const char *fmt, va_list ap) DEPOT_PRINTF(2, 0);
DEPOT_API char        *depot_strdup(depot_arena *arena, const char *s);            /* NULL stays NULL */
DEPOT_API char        *depot_strndup(depot_arena *arena, const char *s, size_t n); /* always ends in NUL */
/* Heap memory for objects that outlive a unit of work; never NULL. Free with free(). */
DEPOT_API void *depot_xalloc(size_t size) __attribute__((malloc, returns_nonnull)); /* zeroed */
DEPOT_API void *depot_xrealloc(void *p, size_t size) __attribute__((returns_nonnull));
DEPOT_API char *depot_xstrdup(const char *s) __attribute__((returns_nonnull));

/* A growing byte buffer on the heap. Start from {0}; data always ends in a NUL that len does not count. */
typedef struct depot_buf {
    char  *data;
    size_t len, cap;
} depot_buf;
DEPOT_API void depot_buf_add(depot_buf *buf, const void *p, size_t n);
DEPOT_API void depot_buf_adds(depot_buf *buf, const char *s);
DEPOT_API void depot_buf_addf(depot_buf *buf, const char *fmt, ...) DEPOT_PRINTF(2, 3);
DEPOT_API void depot_buf_reset(depot_buf *buf); /* empties, keeps the memory */
DEPOT_API void depot_buf_free(depot_buf *buf);  /* for DEPOT_AUTO too */

/* ---- text ---- */
/* The name of `names` nearest to `word` (edit distance with swaps, at most a third of its length + 1), or NULL. */
DEPOT_API const char *depot_suggest(const char *word, const char *const *names, size_t n);
/* "10s", "5m", "2h", "7d", "250ms", "1w": a unit is required (a bare 0 is fine). */
DEPOT_API bool depot_parse_duration(const char *text, int64_t *out_ms, depot_err *err) DEPOT_MUST_USE;
/* "64MiB", "64M", "64k", "10GB", plain bytes: k M G T and kiB MiB GiB TiB are powers of 1024, kB MB GB TB of 1000. */
DEPOT_API bool depot_parse_size(const char *text, int64_t *out_bytes, depot_err *err) DEPOT_MUST_USE;
DEPOT_API bool depot_parse_int(const char *text, int64_t *out, depot_err *err) DEPOT_MUST_USE;
DEPOT_API bool depot_parse_bool(const char *text, bool *out, depot_err *err) DEPOT_MUST_USE; /* yes no on off true false 1 0 */
DEPOT_API bool depot_parse_uuid(const char *text, uint8_t out[16]);
DEPOT_API const char *depot_format_duration(depot_arena *arena, int64_t ms); /* shortest exact form: "1500ms", "10s" */
DEPOT_API const char *depot_format_size(depot_arena *arena, int64_t bytes);  /* for people: "1.4 MiB" */
DEPOT_API bool depot_glob(const char *pattern, const char *text); /* '*' any run, '?' one character; whole text */
DEPOT_API bool depot_utf8_valid(const char *s, size_t n);
DEPOT_API void depot_hex(const void *bytes, size_t n, char *out); /* 2n characters and a NUL */
DEPOT_API bool depot_unhex(const char *hex, size_t bytes, uint8_t *out); /* exactly 2 * bytes lowercase digits */
DEPOT_API void depot_random(void *out, size_t n);                 /* from the kernel, never fails */
DEPOT_API void depot_sha256(const void *p, size_t n, uint8_t out[32]);
DEPOT_API char *depot_uuid(depot_arena *arena); /* a new random UUID (version 4) */

/* ---- time ---- */
DEPOT_API int64_t depot_now_ms(void);  /* monotonic: waits and deadlines */
DEPOT_API int64_t depot_now_us(void);  /* monotonic: measuring */
DEPOT_API int64_t depot_wall_us(void); /* microseconds since 1970, UTC: labels and logs; leases use the database's time */
DEPOT_API char   *depot_format_time(depot_arena *arena, int64_t wall_us); /* 2026-11-20T09:23:33.459721Z */
DEPOT_API bool    depot_parse_time(const char *text, int64_t *out_wall_us, depot_err *err) DEPOT_MUST_USE; /* RFC 3339 */

/* ---- files ---- */
DEPOT_API void depot_fd_close(int *fd); /* for DEPOT_AUTO; -1 is fine */
/* Whole file into the arena, a NUL after it; a file larger than max_bytes fails with TOO_LARGE, an absent one with IO
 * and sys_errno ENOENT. Folders, pipes and sockets are refused. out_len may be NULL. */
DEPOT_API bool depot_read_file(depot_arena *arena, const char *path, size_t max_bytes, char **out, size_t *out_len,
                               depot_err *err) DEPOT_MUST_USE;
/* Durable replacement: temporary file in the same folder, fsync, rename over path, fsync of the folder. */
DEPOT_API bool depot_write_file(const char *path, const void *data, size_t n, unsigned mode, depot_err *err)
    DEPOT_MUST_USE;
DEPOT_API bool depot_fsync_dir(const char *dir, depot_err *err) DEPOT_MUST_USE;
DEPOT_API bool depot_mkdirs(const char *path, unsigned mode, depot_err *err) DEPOT_MUST_USE; /* durable; existing is fine */
DEPOT_API bool depot_write_all(int fd, const void *data, size_t n, depot_err *err) DEPOT_MUST_USE;
DEPOT_API bool depot_remove_tree(const char *path, depot_err *err) DEPOT_MUST_USE; /* absent is fine; follows no links */

/* A file under way to its final place: write to fd, then publish or discard. Crash leaves only `.tmp-*` behind.
 * Start from {0}. Its mode is exactly `mode`, whatever the umask is. Publishing closes fd. */
typedef struct depot_tmpfile {
    int  fd;
    bool named;      /* path exists in the folder (else the file has no name yet) */
    char path[4096]; /* empty: nothing to drop */
} depot_tmpfile;
DEPOT_API bool depot_tmpfile_open(depot_tmpfile *tmp, const char *dir, unsigned mode, depot_err *err) DEPOT_MUST_USE;
/* fsync, then link to `path` without replacing, fsync of the folder. When *out_existed tells that it was there already, tmp
 * stays open: replace or drop it. */
DEPOT_API bool depot_tmpfile_link(depot_tmpfile *tmp, const char *path, bool *out_existed, depot_err *err) DEPOT_MUST_USE;
/* fsync, then rename over `path`, fsync of the folder. */
DEPOT_API bool depot_tmpfile_replace(depot_tmpfile *tmp, const char *path, depot_err *err) DEPOT_MUST_USE;
DEPOT_API void depot_tmpfile_drop(depot_tmpfile *tmp); /* for DEPOT_AUTO; removes what was not published */

#endif
