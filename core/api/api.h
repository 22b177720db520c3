/* api.h - the one API: routing by the plugins' tables, validation, tokens and roles, problem documents, OpenAPI.
 *
 * Transport-neutral: the http plugin feeds requests through depot/http.h and sends the replies. Handlers run on the executor
 * unless their route says INLINE. There is one API per process, as depot_req_new() has no handle to tell several apart. */
#ifndef API_API_H
#define API_API_H

#include "depot/http.h"
#include "host/host.h"

typedef struct api_limits {
    int64_t max_body;           /* bytes of a JSON body where neither the route nor the listener says */
    int64_t request_timeout_ms; /* handler's deadline, from the request's head on */
    bool    metrics_open;       /* /metrics and /metrics/prom need no token */
} api_limits;

/* Builds the route index from every plugin's table; a route that two plugins claim is an error. The request functions of
 * depot/http.h work from here on. */
bool api_open(host *h, const api_limits *limits, depot_err *err) DEPOT_MUST_USE;
/* Whether api_open could build that index, and if not, because of which plugin: for depotd --check. */
bool api_check_routes(host *h, const char **out_plugin, depot_err *err) DEPOT_MUST_USE;
/* Refuses new streaming requests, waits up to grace_ms for those that run, then cancels them and waits for their end.
 * Before plugins stop. This, api_settle, api_close and api_set_ready do nothing while the API is not open. */
void api_drain(int64_t grace_ms);
/* Waits up to grace_ms for requests whose handlers have passed them on, then replies in their holders' place. After the executor
 * is drained, before plugins stop. */
void api_settle(int64_t grace_ms);
void api_close(void); /* after every transport has stopped and the executor is drained */
void api_set_limits(const api_limits *limits); /* reload */
/* ready: the database is there and plugins have started. Until then only EARLY routes answer, others give 503 with why. */
void api_set_ready(bool ready, const char *why);

/* The API's own rows, for the core's descriptor. */
extern const depot_route  api_routes[];
extern const size_t       api_routes_n;
extern const depot_metric api_metrics[];
extern const size_t       api_metrics_n;

/* Tokens: dpt_<id>_<secret>; only SHA-256 of the secret is stored (table depot.token). */
void api_own_token(const char *token); /* of the configuration, see auth_set_own; NULL: none. Before the first request */
/* Makes state/admin.token (0600) at first start and knows it without the database. */
bool api_admin_token(const char *state_dir, depot_err *err) DEPOT_MUST_USE;
/* After the database came up: the admin token's row exists. */
bool api_auth_online(depot_err *err) DEPOT_MUST_USE;

/* One row of the append-only audit log, committed when it returns true; needs the database. For doors other than HTTP
 * (requests are recorded by themselves). detail may be NULL. */
bool api_audit(const char *actor, const char *action, const char *target, const depot_json *detail, const char *request_id,
               depot_err *err) DEPOT_MUST_USE;

depot_json *api_openapi(depot_arena *arena);

/* One JSON value against a table of fields: defaults filled in, unknown members refused with a suggestion, all faults
 * collected. out_faults: array of {pointer, message}, NULL when there are none. */
bool api_validate(depot_arena *arena, const depot_field *fields, const depot_json *in, depot_json **out, depot_json **out_faults,
                  depot_err *err) DEPOT_MUST_USE;
/* When this request fails: what is wrong with the configuration, ["file:line: error: …"], as the problem document's `problems`.
 * Of the request's arena. */
void api_problems(depot_req *req, depot_json *problems);
/* RFC 9457 document that also carries the seeds' `detail` and our code, hint, retry and request id. */
depot_json *api_problem(depot_arena *arena, const depot_err *err, const char *request_id, const depot_json *faults);

#endif
