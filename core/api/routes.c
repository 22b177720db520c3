/* routes.c - the rows of the API's own routes. */
#include "api/handlers.h"
#include "api/internal.h"

/* clang-format off */
static const char *const roles[] = { "viewer", "operator", "admin", NULL };

static const depot_field no_fields[] = { { .name = NULL } };
static const depot_field health_reply[] = {
    { .name = "status", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "ok as long as the daemon answers" },
    { .name = "degraded", .type = DEPOT_T_ARRAY, .doc = "what does not work: plugin, what, why; absent when all does" },
    { .name = NULL },
};
static const depot_field ready_reply[] = {
    { .name = "ready", .type = DEPOT_T_BOOL, .flags = DEPOT_REQUIRED, .doc = "false comes with status 503" },
    { .name = "why", .type = DEPOT_T_STRING, .doc = "what is awaited" },
    { .name = "dependencies", .type = DEPOT_T_ARRAY, .flags = DEPOT_REQUIRED, .doc = "name, ok and detail of each" },
    { .name = NULL },
};
static const depot_field status_reply[] = {
    { .name = "version", .type = DEPOT_T_STRING, .doc = "of depotd" },
    { .name = "node", .type = DEPOT_T_STRING, .doc = "this daemon among those that share the database" },
    { .name = "uptime_ms", .type = DEPOT_T_INT, .doc = "since it started" },
    { .name = "ready", .type = DEPOT_T_BOOL, .doc = "database and plugins are there" },
    { .name = "why", .type = DEPOT_T_STRING, .doc = "what is awaited while it is not ready" },
    { .name = "database", .type = DEPOT_T_BOOL, .doc = "the last contact succeeded" },
    { .name = "database_detail", .type = DEPOT_T_STRING, .doc = "what the last failed contact said" },
    { .name = "plugins", .type = DEPOT_T_INT, .doc = "loaded" },
    { .name = "plugins_started", .type = DEPOT_T_INT, .doc = "at work" },
    { .name = "requests_in_flight", .type = DEPOT_T_INT, .doc = "held by a connection or a handler" },
    { .name = "executor_busy", .type = DEPOT_T_INT, .doc = "threads at work" },
    { .name = "executor_queued", .type = DEPOT_T_INT, .doc = "calls that wait for a thread" },
    { .name = "degraded", .type = DEPOT_T_ARRAY, .doc = "what does not work: plugin, what, why" },
    { .name = NULL },
};
static const depot_field whoami_reply[] = {
    { .name = "actor", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "token:NAME or uid:NUMBER" },
    { .name = "role", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "viewer, operator or admin" },
    { .name = "listen", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "listener: api, admin or control" },
    { .name = "node", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "the daemon that answered" },
    { .name = NULL },
};
static const depot_field logs_request[] = {
    { .name = "limit", .type = DEPOT_T_INT, .def = "100", .min = 1, .max = 1000, .doc = "how many of the last lines" },
    { .name = NULL },
};
static const depot_field log_item[] = {
    { .name = "time", .type = DEPOT_T_TIME, .doc = "when" },
    { .name = "level", .type = DEPOT_T_STRING, .doc = "debug, info, warn or error" },
    { .name = "plugin", .type = DEPOT_T_STRING, .doc = "who says it" },
    { .name = "event", .type = DEPOT_T_STRING, .doc = "stable id of what happened" },
    { .name = "message", .type = DEPOT_T_STRING, .doc = "in words" },
    { .name = NULL },
};
static const depot_field by_name[] = {
    { .name = "name", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 64, .doc = "plugin" },
    { .name = NULL },
};
static const depot_field plugin_item[] = {
    { .name = "name", .type = DEPOT_T_STRING, .doc = "of the plugin" },
    { .name = "version", .type = DEPOT_T_STRING, .doc = "its own" },
    { .name = "state", .type = DEPOT_T_STRING, .doc = "loaded, started, failed or stopped" },
    { .name = "summary", .type = DEPOT_T_STRING, .doc = "what it is for" },
    { .name = NULL },
};
static const depot_field config_item[] = {
    { .name = "section", .type = DEPOT_T_STRING, .doc = "[kind NAME]" },
    { .name = "option", .type = DEPOT_T_STRING, .doc = "key" },
    { .name = "value", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "in force; secrets are masked" },
    { .name = "origin", .type = DEPOT_T_STRING, .doc = "file:line, env:NAME or default" },
    { .name = "default", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "what holds where no file says" },
    { .name = "reloadable", .type = DEPOT_T_BOOL, .doc = "may change while the daemon runs" },
    { .name = "doc", .type = DEPOT_T_STRING, .doc = "meaning" },
    { .name = NULL },
};
static const depot_field event_request[] = {
    { .name = "name", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 3, .max = 64, .doc = "event, such as file.found" },
    { .name = "payload", .type = DEPOT_T_OBJECT, .doc = "what it says; a declared event's is checked" },
    { .name = NULL },
};
static const depot_field event_reply[] = {
    { .name = "event", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "its name; durable hooks are committed" },
    { .name = NULL },
};
static const depot_field token_request[] = {
    { .name = "name", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 64, .doc = "who or what will use it" },
    { .name = "role", .type = DEPOT_T_ENUM, .def = "viewer", .choices = roles, .doc = "what it may do" },
    { .name = "expires_in", .type = DEPOT_T_DURATION, .min = 1000, .max = 315360000000, .doc = "from now; without it: never" },
    { .name = NULL },
};
static const depot_field token_reply[] = {
    { .name = "id", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "for revoking it" },
    { .name = "name", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "as asked" },
    { .name = "role", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "as asked" },
    { .name = "token", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "the token: shown this once, not kept" },
    { .name = "expires_at", .type = DEPOT_T_TIME, .flags = DEPOT_NULLABLE, .doc = "null: never" },
    { .name = NULL },
};
static const depot_field tokens_request[] = {
    { .name = "all", .type = DEPOT_T_BOOL, .def = "no", .doc = "expired and revoked ones too" },
    { .name = NULL },
};
static const depot_field token_item[] = {
    { .name = "id", .type = DEPOT_T_STRING, .doc = "for revoking it" },
    { .name = "name", .type = DEPOT_T_STRING, .doc = "who or what uses it" },
    { .name = "role", .type = DEPOT_T_STRING, .doc = "viewer, operator or admin" },
    { .name = "created_at", .type = DEPOT_T_TIME, .doc = "when" },
    { .name = "created_by", .type = DEPOT_T_STRING, .doc = "by whom" },
    { .name = "expires_at", .type = DEPOT_T_TIME, .flags = DEPOT_NULLABLE, .doc = "null: never" },
    { .name = "revoked_at", .type = DEPOT_T_TIME, .flags = DEPOT_NULLABLE, .doc = "null: in force" },
    { .name = "last_used_at", .type = DEPOT_T_TIME, .flags = DEPOT_NULLABLE, .doc = "to the minute" },
    { .name = NULL },
};
static const depot_field token_id[] = {
    { .name = "id", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 12, .max = 12, .doc = "from the list of tokens" },
    { .name = NULL },
};
static const depot_field revoked_reply[] = {
    { .name = "id", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "of the token" },
    { .name = "name", .type = DEPOT_T_STRING, .doc = "of the token" },
    { .name = NULL },
};
static const depot_field audit_request[] = {
    { .name = "limit", .type = DEPOT_T_INT, .def = "100", .min = 1, .max = 500, .doc = "how many rows" },
    { .name = "before", .type = DEPOT_T_INT, .min = 1, .max = INT64_MAX, .doc = "only rows with a smaller id: the next page" },
    { .name = "actor", .type = DEPOT_T_STRING, .max = 128, .doc = "only this one's" },
    { .name = NULL },
};
static const depot_field audit_item[] = {
    { .name = "id", .type = DEPOT_T_INT, .doc = "ascending; numbers may be missing" },
    { .name = "at", .type = DEPOT_T_TIME, .doc = "database time" },
    { .name = "actor", .type = DEPOT_T_STRING, .doc = "who" },
    { .name = "action", .type = DEPOT_T_STRING, .doc = "what, such as POST /v1/tokens" },
    { .name = "target", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "on what" },
    { .name = "detail", .type = DEPOT_T_ANY, .flags = DEPOT_NULLABLE,
      .doc = "status, and where it came from and its arguments; of a refusal error; of several requests, requests: [{request_id, listen, peer, args}]" },
    { .name = "request_id", .type = DEPOT_T_STRING, .flags = DEPOT_NULLABLE, .doc = "also in the log; null: of several, which detail lists" },
    { .name = "hash", .type = DEPOT_T_SHA256, .doc = "of this row and the hash before it" },
    { .name = NULL },
};
static const depot_field verify_reply[] = {
    { .name = "intact", .type = DEPOT_T_BOOL, .flags = DEPOT_REQUIRED, .doc = "every row follows from the one before it" },
    { .name = "rows", .type = DEPOT_T_INT, .flags = DEPOT_REQUIRED, .doc = "how many were checked" },
    { .name = NULL },
};

#define QUICK (DEPOT_ROUTE_INLINE | DEPOT_ROUTE_EARLY)

const depot_route api_routes[] = {
    { .method = "GET", .path = "/health", .listen = "api", .role = DEPOT_ANYONE, .flags = QUICK, .request = no_fields,
      .reply = health_reply, .fn = api_get_health, .doc = "the daemon answers; on the admin listener the text ok" },
    { .method = "GET", .path = "/health", .listen = "admin", .role = DEPOT_ANYONE, .flags = QUICK, .request = no_fields,
      .fn = api_get_health_text, .doc = "the text ok" },
    { .method = "GET", .path = "/ready", .role = DEPOT_ANYONE, .flags = QUICK, .request = no_fields, .reply = ready_reply,
      .fn = api_get_ready, .doc = "200 when everything that is required is there, else 503; each dependency by name" },
    { .method = "GET", .path = "/metrics", .listen = "api", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_EARLY | API_ROUTE_METRICS,
      .request = no_fields, .fn = api_get_metrics, .doc = "metrics as Prometheus text; on the admin listener as JSON unless Accept asks for text" },
    { .method = "GET", .path = "/metrics", .listen = "admin", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_EARLY | API_ROUTE_METRICS,
      .request = no_fields, .fn = api_get_metrics_admin, .doc = "metrics as Prometheus text when Accept asks for it; else as JSON, unless a plugin has JSON of its own for dashboards" },
    { .method = "GET", .path = "/metrics/prom", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_EARLY | API_ROUTE_METRICS,
      .request = no_fields, .fn = api_get_metrics, .doc = "metrics as Prometheus text" },
    { .method = "GET", .path = "/openapi.json", .role = DEPOT_VIEWER, .flags = QUICK, .request = no_fields,
      .fn = api_get_openapi, .doc = "this interface as OpenAPI 3.1" },
    { .method = "GET", .path = "/v1/status", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_EARLY, .request = no_fields,
      .reply = status_reply, .fn = api_get_status, .cli = "status", .doc = "version, readiness, database, plugins, load" },
    { .method = "GET", .path = "/v1/whoami", .role = DEPOT_VIEWER, .flags = QUICK, .request = no_fields, .reply = whoami_reply,
      .fn = api_get_whoami, .cli = "whoami", .doc = "who the token or the local user is taken for" },
    { .method = "GET", .path = "/v1/logs", .role = DEPOT_OPERATOR, .flags = DEPOT_ROUTE_EARLY | DEPOT_ROUTE_LIST,
      .request = logs_request, .reply = log_item, .fn = api_get_logs, .cli = "logs", .doc = "the last lines of the log" },
    { .method = "GET", .path = "/v1/plugins", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_EARLY | DEPOT_ROUTE_LIST,
      .request = no_fields, .reply = plugin_item, .fn = api_list_plugins, .cli = "plugin list", .doc = "plugins and their states" },
    { .method = "GET", .path = "/v1/plugins/{name}", .role = DEPOT_VIEWER, .flags = DEPOT_ROUTE_EARLY, .request = by_name,
      .reply = plugin_item, .fn = api_show_plugin, .cli = "plugin show <name>", .doc = "everything that a plugin offers" },
    { .method = "GET", .path = "/v1/config", .role = DEPOT_ADMIN, .flags = DEPOT_ROUTE_EARLY | DEPOT_ROUTE_LIST,
      .request = no_fields, .reply = config_item, .fn = api_show_config, .cli = "config show",
      .doc = "the configuration in force, with the origin of each value" },
    { .method = "POST", .path = "/v1/events/{name}", .role = DEPOT_OPERATOR, .request = event_request, .reply = event_reply,
      .fn = api_emit_event, .cli = "event emit <name>", .doc = "emit an event; hooks react to it" },
    { .method = "POST", .path = "/v1/tokens", .role = DEPOT_ADMIN, .request = token_request, .reply = token_reply,
      .fn = api_create_token, .cli = "token create <name>", .doc = "make an API token" },
    { .method = "GET", .path = "/v1/tokens", .role = DEPOT_ADMIN, .flags = DEPOT_ROUTE_LIST, .request = tokens_request,
      .reply = token_item, .fn = api_list_tokens, .cli = "token list", .doc = "API tokens in force" },
    { .method = "DELETE", .path = "/v1/tokens/{id}", .role = DEPOT_ADMIN, .request = token_id, .reply = revoked_reply,
      .fn = api_revoke_token, .cli = "token revoke <id>", .doc = "revoke a token: here at once, on other daemons within 30 s" },
    { .method = "GET", .path = "/v1/audit", .role = DEPOT_ADMIN, .flags = DEPOT_ROUTE_LIST, .request = audit_request,
      .reply = audit_item, .fn = api_list_audit, .cli = "audit list", .doc = "who changed what, latest first" },
    { .method = "GET", .path = "/v1/audit/verify", .role = DEPOT_ADMIN, .flags = DEPOT_ROUTE_LONG, .request = no_fields,
      .reply = verify_reply, .fn = api_verify_audit, .cli = "audit verify", .doc = "check the chain of the audit log" },
};
/* clang-format on */
const size_t api_routes_n = DEPOT_N(api_routes);
