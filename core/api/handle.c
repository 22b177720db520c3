/* handle.c - the way of a request: route, authenticate, admit, gather, run the handler, reply or refuse. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/internal.h"
#include "base/log.h"
#include "base/unit.h"

static const depot_route *route_of(const depot_req *req)
{
    return req->match.entry == NULL ? NULL : req->match.entry->route;
}

static bool has_body(const depot_req *req)
{
    return req->chunked || req->content_length > 0;
}

/* ---- refusing ---- */

/* What the database said, and where we are wrong ourselves, is for admins and the log; its words may hold others' data. */
static void blur(const depot_req *req, const depot_err *err, depot_err *out)
{
    *out = *err;
    if (req->who.role >= DEPOT_ADMIN || (err->code != DEPOT_E_DB && err->code != DEPOT_E_BUG)) {
        return;
    }
    snprintf(out->msg, sizeof(out->msg), "the request failed inside of depotd");
    snprintf(out->hint, sizeof(out->hint), "the log has the cause under request id %s", req->id);
}

void req_refuse(depot_req *req, const depot_err *err, const depot_json *faults)
{
    depot_err shown;

    req_record(req, err);
    blur(req, err, &shown);
    depot_fd_close(&req->reply.fd);
    req->reply = (depot_reply_view){ .fd = -1, .length = -1 };
    req->out_headers = NULL;
    req->last_header = &req->out_headers;
    if (err->code == DEPOT_E_UNAUTHORIZED) {
        req_add_header(req, "WWW-Authenticate", "Bearer realm=\"depotd\"");
    } else if (err->code == DEPOT_E_METHOD) {
        req_add_header(req, "Allow", req->match.allow);
    } else if (depot_err_http(err) == 503 || depot_err_http(err) == 429) {
        req_add_header(req, "Retry-After", "1");
    }
    depot_json *doc = api_problem(req->arena, &shown, req->id, faults);
    if (req->problems != NULL) {
        depot_json_set(doc, "problems", req->problems);
    }
    const char *text = depot_json_text(req->arena, doc);
    req_set_reply(req, depot_err_http(err), "application/problem+json", text, strlen(text));
    req_publish(req, true, false);
}

/* ---- running ---- */

void req_end(depot_req *req, bool ok, depot_err *err, const depot_json *faults)
{
    if (!ok && err->code == DEPOT_E_CANCELED && unit_canceled()) {
        (void)DEPOT_FAIL(err, UNAVAILABLE, "depotd is shutting down");
    }
    if (!ok && err->code == DEPOT_OK) {
        (void)DEPOT_FAIL(err, BUG, "the handler of %s %s failed without saying why", req->method, route_of(req)->path);
    }
    if (!ok && !req->reply.stream) {
        req_refuse(req, err, faults);
        return;
    }
    req_record(req, ok ? NULL : err);
    if (req->reply.status == 0) {
        req_set_reply(req, 204, NULL, NULL, 0);
    }
    req_publish(req, true, !ok);
}

static void run(depot_req *req)
{
    const route_entry *entry = req->match.entry;
    bool               is_long = (entry->route->flags & DEPOT_ROUTE_LONG) != 0;
    bool               watches = is_long && strcmp(entry->route->method, "GET") == 0;
    depot_err          err = { 0 };
    depot_json        *faults = NULL;
    /* only who watches ends when the client goes: a change that has begun is better carried out */
    unit u = { .deadline_ms = is_long ? INT64_MAX : req->deadline_ms, .canceled = watches ? &req->gone : NULL };

    unit_enter(&u);
    log_context_set("request_id", req->id);
    bool ok = unit_check(&err) && req_build_args(req, &faults, &err);
    if (ok) {
        req->handled = true;
        ok = entry->route->fn(entry->ctx, req, &err);
    }
    unit_leave(&u);
    if (!req->passed_on) { /* else it may have its reply by now */
        req_end(req, ok, &err, faults);
    }
    log_context_set("request_id", NULL);
}

static void run_elsewhere(void *arg)
{
    depot_req *req = arg;

    run(req);
    req_unref(req);
}

void req_dispatch(depot_req *req)
{
    uint32_t  flags = route_of(req)->flags;
    depot_err err = { 0 };

    (void)req_enter(req, REQ_RUNNING);
    if (flags & DEPOT_ROUTE_INLINE) {
        run(req);
        return;
    }
    req_ref(req);
    bool ok = flags & (DEPOT_ROUTE_LONG | DEPOT_ROUTE_UPLOAD)
        ? executor_submit(api_self->streams, run_elsewhere, req, 0, &err)
        : api_submit(run_elsewhere, req, &err);
    if (!ok) {
        req_refuse(req, &err, NULL);
        req_unref(req);
    }
}

/* ---- admitting ---- */

static const char *role_name(depot_role role)
{
    static const char *const names[] = { "no role", "viewer", "operator", "admin" };

    return names[role];
}

static bool check_role(depot_req *req, depot_err *err)
{
    depot_role needed = route_of(req)->role;

    if (req->who.role >= needed || (route_of(req)->flags & API_ROUTE_METRICS && atomic_load(&api_self->metrics_open))) {
        return true;
    }
    (void)DEPOT_FAIL(err, FORBIDDEN, "%s %s needs the role %s, %s has %s", req->method, route_of(req)->path,
                     role_name(needed), req->who.actor, role_name(req->who.role));
    return depot_hint(err, "an admin can make another token: depotctl token create NAME --role %s", role_name(needed));
}

static bool check_plugin(const depot_req *req, depot_err *err)
{
    const depot_ctx *ctx = req->match.entry->ctx;

    if (ctx == api_self->core || ctx->state == PLUGIN_STARTED) {
        return true;
    }
    if (ctx->state == PLUGIN_FAILED) {
        return DEPOT_FAIL(err, UNAVAILABLE, "plugin %s did not start: %.200s", ctx->name, ctx->failure.msg);
    }
    return DEPOT_FAIL(err, UNAVAILABLE, "plugin %s is not running", ctx->name);
}

static bool is_json(const char *type)
{
    size_t n = type == NULL ? 0 : strcspn(type, "; \t");

    return (n == 16 && strncasecmp(type, "application/json", n) == 0) ||
           (n > 17 && strncasecmp(type, "application/", 12) == 0 && strncasecmp(type + n - 5, "+json", 5) == 0);
}

static bool check_body(depot_req *req, depot_err *err)
{
    const depot_route *route = route_of(req);
    const char        *type = depot_req_header(req, "Content-Type");

    if (route->max_body > 0) {
        req->max_body = route->max_body;
    }
    if (req->content_length > req->max_body) {
        return DEPOT_FAIL(err, TOO_LARGE, "the body has %lld bytes, more than %lld", (long long)req->content_length,
                          (long long)req->max_body);
    }
    if (!has_body(req) || (route->flags & DEPOT_ROUTE_UPLOAD) || is_json(type)) {
        return true;
    }
    (void)DEPOT_FAIL(err, MEDIA_TYPE, "the body's type is %.60s, not application/json", type == NULL ? "not said" : type);
    return depot_hint(err, "send the header Content-Type: application/json");
}

/* The request may go on: gather its body, or start at once when it streams or has come whole meanwhile. */
static void admit(depot_req *req)
{
    depot_err err = { 0 };

    if (!check_role(req, &err) || !check_plugin(req, &err) || !check_body(req, &err)) {
        req_refuse(req, &err, NULL);
        return;
    }
    if (route_of(req)->flags & DEPOT_ROUTE_UPLOAD) {
        req_dispatch(req);
        return;
    }
    if (req_enter(req, REQ_COLLECT)) {
        req_dispatch(req);
    }
}

/* ---- authenticating ---- */

static void look_up(void *arg)
{
    depot_req *req = arg;
    depot_err  err = { 0 };

    if (auth_look_up(api_self->auth, req->token, &req->who, &err)) {
        admit(req);
    } else {
        req_refuse(req, &err, NULL);
    }
    req_unref(req);
}

static bool authenticate(depot_req *req, bool *later, depot_err *err)
{
    const depot_route *route = route_of(req);

    if (strcmp(req->listen, "control") == 0) {
        return auth_peer(req->peer_uid, &req->who, err);
    }
    if (route->role == DEPOT_ANYONE || (route->flags & API_ROUTE_METRICS && atomic_load(&api_self->metrics_open))) {
        return true;
    }
    if (req->token == NULL) {
        (void)DEPOT_FAIL(err, UNAUTHORIZED, "a token is needed");
        return depot_hint(err, "send it as Authorization: Bearer TOKEN or x-api-key: TOKEN");
    }
    auth_answer answer = auth_check(api_self->auth, req->token, &req->who, err);
    if (answer != AUTH_LOOK_UP) {
        return answer == AUTH_KNOWN;
    }
    *later = true;
    req_ref(req);
    if (!api_submit(look_up, req, err)) {
        auth_give_up(api_self->auth);
        req_unref(req);
        return false;
    }
    return true;
}

bool req_wants_text(depot_req *req)
{
    const char *accept = depot_req_header(req, "Accept");

    return accept != NULL && (strstr(accept, "text/plain") != NULL || strstr(accept, "openmetrics") != NULL);
}

static bool find_route(depot_req *req, depot_err *err)
{
    if (!target_parse(req->arena, req->target_text, strlen(req->target_text), &req->target, err)) {
        return false;
    }
    route_find(api_self->routes, req->method, &req->target, req->listen, req_wants_text(req), &req->match);
    if (req->match.entry != NULL) {
        return true;
    }
    if (req->match.allow[0] != '\0') {
        return DEPOT_FAIL(err, METHOD, "%.60s has no %.20s, only %s", req->target.path, req->method, req->match.allow);
    }
    (void)DEPOT_FAIL(err, NOT_FOUND, "there is no %.120s on the listener %s", req->target.path, req->listen);
    return depot_hint(err, "/openapi.json lists everything that there is");
}

static bool check_ready(const depot_req *req, depot_err *err)
{
    char why[256];

    if (atomic_load(&api_self->ready) || (route_of(req)->flags & DEPOT_ROUTE_EARLY)) {
        return true;
    }
    api_why(why);
    return DEPOT_FAIL(err, UNAVAILABLE, "depotd is not ready: %s", why);
}

void req_route(depot_req *req)
{
    depot_err err = { 0 };
    bool      later = false;

    if (!find_route(req, &err) || !check_ready(req, &err) || !authenticate(req, &later, &err)) {
        req_refuse(req, &err, NULL);
    } else if (!later) {
        admit(req);
    }
}
