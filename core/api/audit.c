/* audit.c - group commit for the audit log: whoever comes while a batch is being written waits for the next one, and the
 * first of those writes it for all. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "api/audit.h"
#include "api/internal.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "base/unit.h"

enum { BATCH_MAX = 200, WRITE_MS = 10000 };

struct audit_row {
    char             *actor, *action, *target, *detail, *request_id;
    bool              done, ok;
    depot_err         err;
    struct audit_row *next;
};

/* Process-wide as the chain is: rows of all requests meet here. */
static struct {
    pthread_mutex_t lock; /* guards the rest, and done, ok, err and next of the rows in line */
    pthread_cond_t  changed;
    audit_row      *first, *last;
    bool            writing;
} line = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static char *copy(const char *s)
{
    return s == NULL ? NULL : depot_xstrdup(s);
}

audit_row *audit_row_new(const char *actor, const char *action, const char *target, const char *detail, const char *request_id)
{
    audit_row *row = depot_xalloc(sizeof(*row));

    row->actor = copy(actor);
    row->action = copy(action);
    row->target = copy(target);
    row->detail = copy(detail);
    row->request_id = copy(request_id);
    return row;
}

void audit_row_free(audit_row *row)
{
    if (row == NULL) {
        return;
    }
    free(row->actor);
    free(row->action);
    free(row->target);
    free(row->detail);
    free(row->request_id);
    free(row);
}

const char audit_sql[] = "select depot.audit_add_all($1)";

static void describe(depot_buf *out, const char *name, const char *text)
{
    depot_buf_addf(out, "\"%s\":", name);
    if (text == NULL) {
        depot_buf_adds(out, "null");
        return;
    }
    depot_buf_adds(out, "\"");
    (void)text_add_escaped(out, text, strlen(text), SIZE_MAX); /* without a limit all of it is used */
    depot_buf_adds(out, "\"");
}

void audit_describe(depot_buf *out, const char *actor, const char *action, const char *target, const char *detail,
                    const char *request_id)
{
    depot_buf_adds(out, "{");
    describe(out, "actor", actor);
    depot_buf_adds(out, ",");
    describe(out, "action", action);
    depot_buf_adds(out, ",");
    describe(out, "target", target);
    depot_buf_adds(out, ",");
    describe(out, "request_id", request_id);
    depot_buf_addf(out, ",\"detail\":%s}", detail == NULL ? "null" : detail);
}

static bool write_batch(const audit_row *first, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf      entries = { 0 };

    for (const audit_row *row = first; row != NULL; row = row->next) {
        depot_buf_adds(&entries, row == first ? "[" : ",");
        audit_describe(&entries, row->actor, row->action, row->target, row->detail, row->request_id);
    }
    depot_buf_adds(&entries, "]");
    /* rows of others are among them: that this request was canceled, or is late, is no reason to lose what it did */
    unit u = { .deadline_ms = depot_now_ms() + WRITE_MS, .apart = true };
    unit_enter(&u);
    bool ok = depot_sql(api_self->core, arena, audit_sql, DEPOT_VALS(DEPOT_TEXT(entries.data)), NULL, err);
    unit_leave(&u);
    return ok;
}

/* Takes a batch out of the line, writes it without the lock, tells its rows what became of them. */
static void write_next(void)
{
    audit_row *first = line.first, *last = line.first;
    depot_err  err = { 0 };

    for (size_t n = 1; n < BATCH_MAX && last->next != NULL; n++) {
        last = last->next;
    }
    line.first = last->next;
    line.last = line.first == NULL ? NULL : line.last;
    last->next = NULL;
    line.writing = true;
    pthread_mutex_unlock(&line.lock);
    bool ok = write_batch(first, &err);
    pthread_mutex_lock(&line.lock);
    line.writing = false;
    for (audit_row *row = first, *next; row != NULL; row = next) {
        next = row->next;
        row->ok = ok;
        row->err = err;
        row->done = true;
    }
    pthread_cond_broadcast(&line.changed);
}

bool audit_write(audit_row *row, depot_err *err)
{
    pthread_mutex_lock(&line.lock);
    if (line.last == NULL) {
        line.first = row;
    } else {
        line.last->next = row;
    }
    line.last = row;
    while (!row->done) {
        if (line.writing) {
            pthread_cond_wait(&line.changed, &line.lock); /* bounded: the writer's statement has a timeout */
        } else {
            write_next();
        }
    }
    pthread_mutex_unlock(&line.lock);
    if (!row->ok) {
        *err = row->err;
    }
    return row->ok;
}

void audit_lost(const audit_row *row, const depot_err *err)
{
    metrics_add("depot_audit_failures_total", NULL, 1);
    log_write("core", DEPOT_LOG_ERROR, "audit.not_written", "%s: actor %s, action %s, target %s, request %s, detail %s",
              err->msg, row->actor, row->action, row->target == NULL ? "-" : row->target,
              row->request_id == NULL ? "-" : row->request_id, row->detail == NULL ? "-" : row->detail);
}

void audit_keep(audit_row *row)
{
    depot_err err = { 0 };

    if (!audit_write(row, &err)) {
        audit_lost(row, &err);
    }
}

bool api_audit(const char *actor, const char *action, const char *target, const depot_json *detail, const char *request_id,
               depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    audit_row *row = audit_row_new(actor, action, target, detail == NULL ? NULL : depot_json_text(arena, detail), request_id);
    bool       ok = audit_write(row, err);

    audit_row_free(row);
    return ok;
}
