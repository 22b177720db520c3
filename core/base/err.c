/* err.c - error values: made where something fails, given context on the way up, looked up in errors.def at the end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/abort.h"
#include "base/text.h"

typedef struct err_row {
    const char *id;
    int         http;
    int         exit_status;
    depot_retry retry;
} err_row;

/* Numbers are dense enough to be indexes; a hole in the list has no id. */
static const err_row err_rows[] = {
    [DEPOT_OK] = { "OK", 200, 0, DEPOT_RETRY_NO },
#define DEPOT_ERROR(symbol, number, id, http, exit, retry, meaning)                                                    \
    [number] = { (id), (http), (exit), DEPOT_RETRY_##retry },
#include "depot/errors.def"
#undef DEPOT_ERROR
};

static const err_row *err_row_of(const depot_err *err)
{
    size_t i = (size_t)err->code;

    return i < DEPOT_N(err_rows) && err_rows[i].id != NULL ? &err_rows[i] : &err_rows[DEPOT_E_UNKNOWN];
}

/* vsnprintf that does not leave half a character at the end of a text that was too long. */
static DEPOT_PRINTF(3, 0) void err_format(char *out, size_t size, const char *fmt, va_list ap)
{
    int n = vsnprintf(out, size, fmt, ap);

    if (n < 0) {
        out[0] = '\0';
    } else if ((size_t)n >= size) {
        out[text_utf8_cut(out, size, size - 1)] = '\0';
    }
}

static void err_join(char *out, size_t size, const char *first, const char *second)
{
    int n = snprintf(out, size, "%s: %s", first, second);

    if (n >= 0 && (size_t)n >= size) {
        out[text_utf8_cut(out, size, size - 1)] = '\0';
    }
}

/* The text is complete before *err changes: its operands may be parts of the same error. */
static void err_fill(depot_err *err, const depot_err *place, const char *msg)
{
    *err = *place;
    memcpy(err->msg, msg, strlen(msg) + 1);
}

bool depot_fail(depot_err *err, depot_code code, const char *file, int line, const char *fmt, ...)
{
    int       saved = errno;
    depot_err place = { .code = code, .file = file, .line = line };
    char      msg[sizeof(err->msg)];
    va_list   ap;

    /* Only a message that shows errno's text was caused by it. */
    place.sys_errno = strstr(fmt, "%m") != NULL ? saved : 0;
    va_start(ap, fmt);
    err_format(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    err_fill(err, &place, msg);
    errno = saved;
    return false;
}

bool depot_fail_errno(depot_err *err, const char *file, int line, const char *fmt, ...)
{
    int        saved = errno;
    depot_code code = saved == ENOSPC || saved == EDQUOT ? DEPOT_E_NO_SPACE : DEPOT_E_IO;
    depot_err  place = { .code = code, .sys_errno = saved, .file = file, .line = line };
    char       what[sizeof(err->msg)];
    char       reason[80];
    char       msg[sizeof(err->msg)];
    va_list    ap;

    va_start(ap, fmt);
    err_format(what, sizeof(what), fmt, ap);
    va_end(ap);
    errno = saved;
    int n = snprintf(reason, sizeof(reason), "%m");
    /* The reason is worth more than the end of a long path: make room for it. */
    size_t room = sizeof(msg) - 1 - strlen(": ") - (n > 0 ? strlen(reason) : 0);
    what[text_utf8_cut(what, strlen(what), room)] = '\0';
    err_join(msg, sizeof(msg), what, reason);
    err_fill(err, &place, msg);
    errno = saved;
    return false;
}

bool depot_hint(depot_err *err, const char *fmt, ...)
{
    char    hint[sizeof(err->hint)];
    va_list ap;

    va_start(ap, fmt);
    err_format(hint, sizeof(hint), fmt, ap);
    va_end(ap);
    memcpy(err->hint, hint, strlen(hint) + 1);
    return false;
}

bool depot_wrap(depot_err *err, const char *fmt, ...)
{
    char    context[sizeof(err->msg)];
    char    msg[sizeof(err->msg)];
    va_list ap;

    va_start(ap, fmt);
    err_format(context, sizeof(context), fmt, ap);
    va_end(ap);
    err_join(msg, sizeof(msg), context, err->msg);
    memcpy(err->msg, msg, strlen(msg) + 1);
    return false;
}

const char *depot_err_id(const depot_err *err)
{
    return err->id[0] != '\0' ? err->id : err_row_of(err)->id;
}

int depot_err_http(const depot_err *err)
{
    return err_row_of(err)->http;
}

int depot_err_exit(const depot_err *err)
{
    return err_row_of(err)->exit_status;
}

depot_retry depot_err_retry(const depot_err *err)
{
    return err_row_of(err)->retry;
}

depot_code depot_code_by_id(const char *id)
{
    for (size_t i = 1; i < DEPOT_N(err_rows); i++) {
        if (err_rows[i].id != NULL && strcmp(err_rows[i].id, id) == 0) {
            return (depot_code)i;
        }
    }
    return DEPOT_E_UNKNOWN;
}

void base_abort(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)fputs("depotd: ", stderr); /* nothing is left to do about a failing stderr */
    (void)vfprintf(stderr, fmt, ap);
    (void)fputc('\n', stderr);
    va_end(ap);
    abort();
}
