/* record.c - what stays of a request: counters, a line in the log, and a row in the audit log when it changed something. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/audit.h"
#include "api/internal.h"
#include "base/log.h"
#include "base/metrics.h"

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
static depot_json *shown(const depot_req *req, const depot_field *f, const depot_json *value)
{
    depot_err err = { 0 };

    if (holds(f, is_secret)) {
        return depot_json_str(req->arena, "***");
    }
    const char *text = depot_json_text(req->arena, value);
    size_t      n = strlen(text);
    if (n > ARGS_SHOWN_MAX || holds(f, is_private)) {
        return depot_json_str(req->arena, depot_strf(req->arena, "(%zu bytes)", n));
    }
    return depot_json_parse(req->arena, text, n, &err);
}

static depot_json *shown_args(const depot_req *req)
{
    depot_json *out = depot_json_object(req->arena);

    for (const depot_field *f = req->match.entry->route->request; f != NULL && f->name != NULL && req->args != NULL; f++) {
        const depot_json *given = depot_json_get(req->args, f->name);
        depot_json       *kept = given == NULL ? NULL : shown(req, f, given);
        if (kept != NULL) {
            depot_json_set(out, f->name, kept);
        }
    }
    return out;
}

static void audit_later(void *arg)
{
    audit_row *row = arg;

    audit_keep(row);
    audit_row_free(row);
}

/* A reply that says "done" comes after the row that says who did it; a refusal need not wait, and the connection's thread
 * may not. */
static void audit(depot_req *req, int status, const depot_err *err)
{
    const char *path = req->match.entry->route->path;
    depot_err   full = { 0 };
    depot_json *detail = depot_json_pack(req->arena, "{s:i, s:s, s:s, s:o}", "status", status, "listen", req->listen, "peer",
                                         req->peer, "args", shown_args(req));

    if (err != NULL) {
        depot_json_set(detail, "error", depot_json_str(req->arena, depot_err_id(err)));
    }
    char action[160];
    snprintf(action, sizeof(action), "%.16s %.140s", req->method, path);
    audit_row *row = audit_row_new(req->who.actor, action, req->target.path, depot_json_text(req->arena, detail), req->id);
    if (!req_in_call) {
        audit_later(row);
    } else if (!api_submit(audit_later, row, &full)) {
        audit_lost(row, &full);
        audit_row_free(row);
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
    if (entry != NULL && !is_read(req->method) && (req->handled || refused)) {
        audit(req, status, err);
    }
}
