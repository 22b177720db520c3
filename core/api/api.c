/* api.c - opening and closing the API: the route index of all plugins, limits, readiness. */
#include <stdio.h>
#include <string.h>

#include "api/internal.h"
#include "base/log.h"
#include "base/metrics.h"

enum {
    STREAM_THREADS = 32, /* uploads and LONG requests at a time; a waiting thread costs 8 kB */
    STREAM_QUEUE = 32
};

api *api_self;

static const char *const by_route[] = { "route", NULL };
static const char *const by_route_method_code[] = { "route", "method", "code", NULL };

const depot_metric api_metrics[] = {
    { .name = "depot_http_requests_total", .kind = DEPOT_COUNTER, .labels = by_route_method_code,
      .doc = "requests by route, method and status" },
    { .name = "depot_http_request_seconds", .kind = DEPOT_HISTOGRAM, .labels = by_route,
      .doc = "from a request's head to the end of its handler" },
    { .name = "depot_http_in_flight", .kind = DEPOT_GAUGE, .doc = "requests that a connection or a handler holds" },
    { .name = "depot_http_streams", .kind = DEPOT_GAUGE, .doc = "uploads and long requests at work or waiting for a thread" },
    { .name = "depot_audit_failures_total", .kind = DEPOT_COUNTER,
      .doc = "rows that could not be written to the audit log; each stands in the log as audit.not_written" },
};
const size_t api_metrics_n = DEPOT_N(api_metrics);

static void collect(void *arg)
{
    api *a = arg;

    metrics_set("depot_http_in_flight", NULL, (double)atomic_load(&a->in_flight));
    metrics_set("depot_http_streams", NULL, (double)(executor_busy(a->streams) + executor_queued(a->streams)));
}

/* On failure *out_plugin is whose route does not fit. */
static bool index_routes(host *h, route_index *index, const char **out_plugin, depot_err *err)
{
    for (size_t i = 0; i < host_count(h); i++) {
        depot_ctx *ctx = host_plugin(h, i);
        *out_plugin = ctx->name;
        for (size_t j = 0; j < ctx->n_routes; j++) {
            if (!route_index_add(index, &ctx->routes[j], ctx, err)) {
                return false;
            }
        }
    }
    return true;
}

bool api_check_routes(host *h, const char **out_plugin, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    return index_routes(h, route_index_new(arena), out_plugin, err);
}

bool api_open(host *h, const api_limits *limits, depot_err *err)
{
    depot_arena *arena = depot_arena_new();
    api         *a = depot_alloc(arena, sizeof(*a));
    const char  *plugin;
    uint8_t      random[4];

    depot_random(random, sizeof(random));
    depot_hex(random, sizeof(random), a->id_prefix);
    a->arena = arena;
    a->host = h;
    a->core = host_plugin(h, 0);
    a->routes = route_index_new(arena);
    a->started_ms = depot_now_ms();
    if (!index_routes(h, a->routes, &plugin, err)) {
        depot_arena_free(arena);
        return false;
    }
    pthread_mutex_init(&a->lock, NULL);
    snprintf(a->why, sizeof(a->why), "starting");
    a->auth = auth_new(a->core);
    a->streams = executor_new(STREAM_THREADS, STREAM_QUEUE);
    a->later = later_new();
    api_self = a;
    api_set_limits(limits);
    a->openapi = depot_json_text(arena, api_openapi(arena));
    metrics_collector_add(collect, a);
    return true;
}

void api_drain(int64_t grace_ms)
{
    if (api_self != NULL) {
        executor_drain(api_self->streams, grace_ms);
    }
}

void api_settle(int64_t grace_ms)
{
    if (api_self != NULL) {
        later_settle(api_self->later, grace_ms);
    }
}

void api_close(void)
{
    api *a = api_self;

    if (a == NULL) {
        return;
    }
    executor_drain(a->streams, 0);
    executor_free(a->streams);
    later_free(a->later);
    metrics_collector_remove(collect, a);
    auth_free(a->auth);
    pthread_mutex_destroy(&a->lock);
    api_self = NULL;
    depot_arena_free(a->arena);
}

void api_set_limits(const api_limits *limits)
{
    atomic_store(&api_self->max_body, limits->max_body);
    atomic_store(&api_self->request_timeout_ms, limits->request_timeout_ms);
    atomic_store(&api_self->metrics_open, limits->metrics_open);
}

void api_set_ready(bool ready, const char *why)
{
    if (api_self == NULL) {
        return;
    }
    pthread_mutex_lock(&api_self->lock);
    snprintf(api_self->why, sizeof(api_self->why), "%s", ready || why == NULL ? "" : why);
    pthread_mutex_unlock(&api_self->lock);
    atomic_store(&api_self->ready, ready);
}

void api_why(char out[256])
{
    pthread_mutex_lock(&api_self->lock);
    memcpy(out, api_self->why, sizeof(api_self->why));
    pthread_mutex_unlock(&api_self->lock);
}

bool api_submit(void (*fn)(void *arg), void *arg, depot_err *err)
{
    return executor_submit(host_environment(api_self->host)->executor, fn, arg, 0, err);
}

bool api_admin_token(const char *state_dir, depot_err *err)
{
    return auth_admin_open(api_self->auth, state_dir, err);
}

void api_own_token(const char *token)
{
    if (token != NULL) {
        auth_set_own(api_self->auth, token);
    }
}

bool api_auth_online(depot_err *err)
{
    return auth_admin_online(api_self->auth, host_environment(api_self->host)->node, err);
}
