/* handlers.h - the functions behind the rows of routes.c. */
#ifndef API_HANDLERS_H
#define API_HANDLERS_H

#include "depot/plugin.h"

/* system.c */
bool api_get_health(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_get_health_text(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_get_ready(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_get_metrics(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_get_metrics_admin(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_get_openapi(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_get_status(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_get_whoami(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_get_logs(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_list_plugins(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_show_plugin(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_show_config(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_emit_event(depot_ctx *ctx, depot_req *req, depot_err *err);

/* tokens.c */
bool api_create_token(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_list_tokens(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_revoke_token(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_list_audit(depot_ctx *ctx, depot_req *req, depot_err *err);
bool api_verify_audit(depot_ctx *ctx, depot_req *req, depot_err *err);

#endif
