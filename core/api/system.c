/* system.c - routes about the daemon itself: health, readiness, metrics, status, logs, plugins, configuration, events. */
#include <inttypes.h>
#include <string.h>

#include "api/handlers.h"
#include "api/internal.h"
#include "base/log.h"
#include "base/metrics.h"

static const char prometheus[] = "text/plain; version=0.0.4; charset=utf-8";

bool api_get_health(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_arena      *arena = depot_req_arena(req);
    depot_json       *body = depot_json_pack(arena, "{s:s}", "status", "ok");
    depot_json       *health = host_health(ctx->host, arena);
    const depot_json *degraded = depot_json_get(health, "degraded");

    (void)err;
    if (depot_json_len(degraded) == 0) {
        return depot_reply_json(req, 200, body);
    }
    depot_json_set(health, "status", depot_json_str(arena, "ok"));
    return depot_reply_json(req, 200, health);
}

bool api_get_health_text(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)ctx;
    (void)err;
    return depot_reply_text(req, 200, "text/plain; charset=utf-8", "ok", 2);
}

/* {name, ok, detail} of the database; what else is needed is part of `why` while it is missing. */
static depot_json *database_state(depot_ctx *ctx, depot_arena *arena, bool *ok)
{
    const host_env *env = host_environment(ctx->host);
    depot_err       last = { 0 };

    *ok = env->db != NULL && db_pool_healthy(env->db);
    if (env->db != NULL && !*ok) {
        db_pool_last_error(env->db, &last);
    }
    const char *detail = *ok ? "answers" : env->db == NULL ? "not there yet" : last.msg[0] == '\0' ? "not reached yet" : last.msg;
    return depot_json_pack(arena, "{s:s, s:b, s:s}", "name", "database", "ok", *ok ? 1 : 0, "detail", detail);
}

static depot_json *plugin_state_of(depot_arena *arena, const depot_ctx *plugin)
{
    static const char *const names[] = {
        [PLUGIN_LOADED] = "not started yet", [PLUGIN_STARTED] = "runs", [PLUGIN_FAILED] = "failed", [PLUGIN_STOPPED] = "stopped"
    };
    plugin_state state = plugin->state;

    return depot_json_pack(arena, "{s:s, s:b, s:s}", "name", depot_strf(arena, "plugin %s", plugin->name), "ok",
                           state == PLUGIN_STARTED ? 1 : 0, "detail", state == PLUGIN_FAILED ? plugin->failure.msg : names[state]);
}

/* What /ready answers and depotctl status shows: started, every required plugin running, the database answering now. */
static bool is_ready(host *h, bool database)
{
    bool ready = atomic_load(&api_self->ready) && database;

    for (size_t i = 1; i < host_count(h); i++) {
        ready = ready && (host_plugin(h, i)->state == PLUGIN_STARTED || !host_plugin(h, i)->required);
    }
    return ready;
}

bool api_get_ready(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_arena *arena = depot_req_arena(req);
    depot_json  *list = depot_json_array(arena);
    char         why[256];
    bool         ok = false;

    (void)err;
    depot_json_add(list, database_state(ctx, arena, &ok));
    bool ready = is_ready(ctx->host, ok);
    for (size_t i = 1; i < host_count(ctx->host); i++) {
        depot_json_add(list, plugin_state_of(arena, host_plugin(ctx->host, i)));
    }
    api_why(why);
    depot_json *body = depot_json_pack(arena, "{s:b, s:o}", "ready", ready ? 1 : 0, "dependencies", list);
    if (why[0] != '\0') {
        depot_json_set(body, "why", depot_json_str(arena, why));
    }
    if (!ready) {
        depot_reply_header(req, "Retry-After", "1");
    }
    return depot_reply_json(req, ready ? 200 : 503, body);
}

bool api_get_metrics(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };

    (void)ctx;
    (void)err;
    metrics_prom(&text);
    return depot_reply_text(req, 200, prometheus, text.data == NULL ? "" : text.data, text.len);
}

bool api_get_metrics_admin(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_arena *arena = depot_req_arena(req);

    if (req_wants_text(req)) {
        return api_get_metrics(ctx, req, err);
    }
    return depot_reply_json(req, 200, depot_json_pack(arena, "{s:s, s:o}", "now_utc", depot_format_time(arena, depot_wall_us()),
                                                      "metrics", metrics_json(arena)));
}

bool api_get_openapi(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)ctx;
    (void)err;
    req_set_reply(req, 200, "application/json", api_self->openapi, strlen(api_self->openapi));
    return true;
}

bool api_get_status(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_arena    *arena = depot_req_arena(req);
    const host_env *env = host_environment(ctx->host);
    char            why[256];
    size_t          started = 0;
    bool            database = false;

    (void)err;
    for (size_t i = 1; i < host_count(ctx->host); i++) {
        started += host_plugin(ctx->host, i)->state == PLUGIN_STARTED ? 1 : 0;
    }
    api_why(why);
    depot_json *state = database_state(ctx, arena, &database);
    depot_json *body = depot_json_pack(
        arena, "{s:s, s:s, s:I, s:b, s:s, s:b, s:s, s:I, s:I, s:I, s:I, s:I}", "version", ctx->desc.version, "node", env->node,
        "uptime_ms", depot_now_ms() - api_self->started_ms, "ready", is_ready(ctx->host, database) ? 1 : 0, "why", why,
        "database", database ? 1 : 0, "database_detail", depot_json_get_str(state, "detail", ""), "plugins",
        (int64_t)host_count(ctx->host) - 1, "plugins_started", (int64_t)started, "requests_in_flight",
        (int64_t)atomic_load(&api_self->in_flight), "executor_busy", (int64_t)executor_busy(env->executor), "executor_queued",
        (int64_t)executor_queued(env->executor));
    depot_json *health = host_health(ctx->host, arena);
    const depot_json *degraded = depot_json_get(health, "degraded");
    depot_json       *list = depot_json_array(arena);
    for (size_t i = 0; i < depot_json_len(degraded); i++) {
        const depot_json *row = depot_json_at(degraded, i);
        depot_json_add(list, depot_json_pack(arena, "{s:s, s:s, s:s}", "plugin", depot_json_get_str(row, "plugin", ""), "what",
                                             depot_json_get_str(row, "what", ""), "why", depot_json_get_str(row, "why", "")));
    }
    depot_json_set(body, "degraded", list);
    return depot_reply_json(req, 200, body);
}

bool api_get_whoami(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    static const char *const roles[] = { "anyone", "viewer", "operator", "admin" };
    depot_json *body = depot_json_pack(depot_req_arena(req), "{s:s, s:s, s:s, s:s}", "actor", depot_req_actor(req), "role",
                                       roles[depot_req_role(req)], "listen", depot_req_listen(req), "node", depot_node(ctx));

    (void)err;
    return depot_reply_json(req, 200, body);
}

bool api_get_logs(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };
    size_t                               n = 0;
    const char *const *lines = log_recent(depot_req_arena(req), (size_t)depot_json_get_int(depot_req_args(req), "limit", 0), &n);

    (void)ctx;
    (void)err;
    depot_buf_adds(&text, "[");
    for (size_t i = 0; i < n; i++) {
        depot_buf_addf(&text, "%s%s", i == 0 ? "" : ",", lines[i]);
    }
    depot_buf_adds(&text, "]");
    return depot_reply_json_text(req, 200, text.data);
}

bool api_list_plugins(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)err;
    return depot_reply_json(req, 200, host_list(ctx->host, depot_req_arena(req)));
}

bool api_show_plugin(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    const char *name = depot_json_get_str(depot_req_args(req), "name", "");
    depot_json *body = host_show(ctx->host, depot_req_arena(req), name);

    if (body == NULL) {
        (void)DEPOT_FAIL(err, NOT_FOUND, "no plugin is called %s", name);
        return depot_hint(err, "depotctl plugin list shows all");
    }
    return depot_reply_json(req, 200, body);
}

bool api_show_config(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)err;
    return depot_reply_json(req, 200, conf_show(depot_req_arena(req), host_conf(ctx->host)));
}

bool api_emit_event(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    depot_arena      *arena = depot_req_arena(req);
    const char       *name = depot_json_get_str(depot_req_args(req), "name", "");
    const depot_json *payload = depot_json_get(depot_req_args(req), "payload");

    if (!depot_emit(ctx, name, payload == NULL ? depot_json_object(arena) : payload, err)) {
        return false;
    }
    return depot_reply_json(req, 200, depot_json_pack(arena, "{s:s}", "event", name));
}
