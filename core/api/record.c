/* record.c - what stays of a request: counters, a line in the log, and a row in the audit log when it changed something. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/audit.h"
#include "api/internal.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"

enum { ARGS_SHOWN_MAX = 2048 };

static const char *known_method(const char *method)
{
    static const char *const names[] = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" };

    for (size_t i = 0; i < DEPOT_N(names); i++) {
        if (strcmp(names[i], method) == 0) {
            return names[i];
        }
    }
    return "other";
}

static bool is_read(const char *method)
{
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0 || strcmp(method, "OPTIONS") == 0;
}

static void write_line(const depot_req *req, int status, int64_t us, const depot_err *err)
{
    depot_level level = status >= 500 ? DEPOT_LOG_WARN : !is_read(req->method) ? DEPOT_LOG_INFO : DEPOT_LOG_DEBUG;

    if (!log_wants(level)) {
        return;
    }
    log_context_set("request_id", req->id);
    log_write("core", level, "http.request", "%.16s %.512s %d %lld.%03lld ms %s %s%s%s", req->method,
              req->target.path != NULL && req->target.path[0] != '\0' ? req->target.path : "-", status, (long long)us / 1000,
              (long long)us % 1000, req->who.actor, req->peer, err == NULL ? "" : ": ", err == NULL ? "" : err->msg);
    log_context_set("request_id", NULL);
}

/* ---- audit ---- */

static bool is_secret(const depot_field *f)
{
    return f->type == DEPOT_T_SECRET;
}

static bool is_private(const depot_field *f)
{
    return (f->flags & DEPOT_PRIVATE) != 0;
}

/* The field itself, or one inside of it. */
static bool holds(const depot_field *f, bool (*what)(const depot_field *f))
{
    bool found = what(f);

    for (const depot_field *in = f->fields; !found && in != NULL && in->name != NULL; in++) {
        found = holds(in, what);
    }
    return found;
}

/* A value as it may be kept: whole if it is short and neither secret nor private. */
static void show(depot_buf *out, const depot_field *f, const depot_json *value)
{
    size_t before = out->len;

    if (holds(f, is_secret)) {
        depot_buf_adds(out, "\"***\"");
        return;
    }
    depot_json_write(out, value);
    size_t n = out->len - before;
    if (n > ARGS_SHOWN_MAX || holds(f, is_private)) {
        out->len = before;
        depot_buf_addf(out, "\"(%zu bytes)\"", n);
    }
}

static void show_args(depot_buf *out, const depot_req *req)
{
    const char *gap = "";

    for (const depot_field *f = req->match.entry->route->request; f != NULL && f->name != NULL && req->args != NULL; f++) {
        const depot_json *given = depot_json_get(req->args, f->name);
        if (given != NULL) {
            depot_buf_addf(out, "%s\"%s\":", gap, f->name);
            show(out, f, given);
            gap = ",";
        }
    }
}

/* Where a request came from and what it asked for: members of a JSON object. */
static void write_asked(depot_buf *out, const depot_req *req)
{
    depot_buf_addf(out, "\"listen\":\"%s\",\"peer\":\"", req->listen);
    (void)text_add_escaped(out, req->peer, strlen(req->peer), SIZE_MAX); /* without a limit all of it is used */
    depot_buf_adds(out, "\",\"args\":{");
    show_args(out, req);
    depot_buf_adds(out, "}");
}

/* What a row says besides who, what and on what: a JSON object. err: NULL if the request was granted. */
static void write_detail(depot_buf *out, const depot_req *req, int status, const depot_err *err)
{
    depot_buf_addf(out, "{\"status\":%d,", status);
    write_asked(out, req);
    if (err != NULL) {
        depot_buf_addf(out, ",\"error\":\"%s\"", depot_err_id(err));
    }
    depot_buf_adds(out, "}");
}

enum { ACTION_SIZE = 160 };

static void name_action(const depot_req *req, char out[ACTION_SIZE])
{
    (void)snprintf(out, ACTION_SIZE, "%.16s %.140s", req->method, req->match.entry->route->path);
}

static void audit_later(void *arg)
{
    audit_row *row = arg;

    audit_keep(row);
    audit_row_free(row);
}

/* A reply that says "done" comes after the row that says who did it; a refusal need not wait, and neither the connection's thread
 * may nor who resumes many requests at a time. */
static void audit(depot_req *req, int status, const depot_err *err)
{
    DEPOT_AUTO(depot_buf_free) depot_buf detail = { 0 };
    char                                 action[ACTION_SIZE];
    depot_err                            full = { 0 };

    write_detail(&detail, req, status, err);
    name_action(req, action);
    audit_row *row = audit_row_new(req->who.actor, action, req->target.path, detail.data, req->id);
    if (!req_in_call && !(req->passed_on && err != NULL)) {
        audit_later(row);
    } else if (!api_submit(audit_later, row, &full)) {
        audit_lost(row, &full);
        audit_row_free(row);
    }
}

/* Granted alike: one row may tell of both. */
static bool is_alike(const depot_audit *a, const depot_audit *b)
{
    return a->err == NULL && b->err == NULL && a->status == b->status && a->req->match.entry == b->req->match.entry &&
           strcmp(a->req->who.actor, b->req->who.actor) == 0 && strcmp(a->req->target.path, b->req->target.path) == 0;
}

/* The detail of a row of several. */
static void write_details(depot_buf *out, const depot_audit *rows, size_t n)
{
    depot_buf_addf(out, "{\"status\":%d,\"requests\":[", rows[0].status);
    for (size_t i = 0; i < n; i++) {
        if (is_alike(&rows[0], &rows[i])) {
            depot_buf_addf(out, "%s{\"request_id\":\"%s\",", i == 0 ? "" : ",", rows[i].req->id);
            write_asked(out, rows[i].req);
            depot_buf_adds(out, "}");
        }
    }
    depot_buf_adds(out, "]}");
}

/* The row of rows[0] and of all behind it that are like it, none of which has one yet. */
static void describe_alike(depot_buf *out, const depot_audit *rows, bool *has_row, size_t n)
{
    DEPOT_AUTO(depot_buf_free) depot_buf detail = { 0 };
    const depot_audit                   *first = &rows[0];
    char                                 action[ACTION_SIZE];
    bool                                 is_alone = true;

    for (size_t i = 1; i < n; i++) {
        if (is_alike(first, &rows[i])) {
            has_row[i] = true;
            is_alone = false;
        }
    }
    if (is_alone) {
        write_detail(&detail, first->req, first->err != NULL ? depot_err_http(first->err) : first->status, first->err);
    } else {
        write_details(&detail, rows, n);
    }
    name_action(first->req, action);
    audit_describe(out, first->req->who.actor, action, first->req->target.path, detail.data, is_alone ? first->req->id : NULL);
}

depot_stmt depot_audit_stmt(depot_arena *arena, const depot_audit *rows, size_t n)
{
    DEPOT_AUTO(depot_buf_free) depot_buf all = { 0 };
    depot_val                           *vals = depot_alloc(arena, sizeof(*vals));
    bool                                *has_row = depot_alloc(arena, (n + 1) * sizeof(*has_row));

    memset(has_row, 0, (n + 1) * sizeof(*has_row));
    for (size_t i = 0; i < n; i++) {
        if (!has_row[i]) {
            depot_buf_adds(&all, i == 0 ? "[" : ",");
            describe_alike(&all, rows + i, has_row + i, n - i);
        }
    }
    depot_buf_adds(&all, n == 0 ? "[]" : "]");
    *vals = DEPOT_TEXT(depot_strndup(arena, all.data, all.len));
    return (depot_stmt){ audit_sql, vals, 1 };
}

void depot_audit_written(const depot_audit *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        rows[i].req->audited = rows[i].err != NULL ? depot_err_http(rows[i].err) : rows[i].status;
    }
}

void req_record(depot_req *req, const depot_err *err)
{
    const route_entry *entry = req->match.entry;
    int64_t            us = depot_now_us() - req->started_us;
    int                status = req->reply.status != 0 ? req->reply.status : err != NULL ? depot_err_http(err) : 204;
    const char        *route = entry == NULL ? "none" : entry->route->path;
    char               code[4];

    if (err != NULL && !req->reply.stream) {
        status = depot_err_http(err);
    }
    for (int i = 2, left = status; i >= 0; i--, left /= 10) {
        code[i] = (char)('0' + left % 10);
    }
    code[3] = '\0';
    metrics_add("depot_http_requests_total", DEPOT_LABELS(route, known_method(req->method), code), 1);
    metrics_observe("depot_http_request_seconds", DEPOT_LABELS(route), (double)us / 1e6);
    write_line(req, status, us, err);
    bool refused = err != NULL && err->code == DEPOT_E_FORBIDDEN;
    if (entry != NULL && !is_read(req->method) && (req->handled || refused) && req->audited != status) {
        audit(req, status, err);
    }
}
