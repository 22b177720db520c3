/* describe.c - plugins as JSON, for people and tools: the list, everything that one offers, what is degraded. */
#include <string.h>

#include "host/internal.h"

static const char *const state_names[] = { "loaded", "started", "failed", "stopped" };
static const char *const type_names[] = { "string", "bool", "int", "number", "size", "duration", "enum", "list", "path", "url",
                                          "secret", "cron", "regex", "uuid", "time", "sha256", "object", "array", "any" };
static const char *const role_names[] = { "anyone", "viewer", "operator", "admin" };
static const char *const metric_names[] = { "counter", "gauge", "histogram" };

static depot_json *head(depot_arena *arena, const depot_ctx *ctx)
{
    plugin_state state = ctx->state;
    depot_json  *o = depot_json_pack(arena, "{s:s, s:s?, s:s, s:s?, s:b}", "name", ctx->name, "version", ctx->desc.version, "state",
                                     state_names[state], "summary", ctx->desc.summary, "required", (int)ctx->required);

    if (state == PLUGIN_FAILED) {
        depot_json_set(o, "why", depot_json_str(arena, ctx->failure.msg));
    }
    return o;
}

depot_json *host_list(host *h, depot_arena *arena)
{
    depot_json *list = depot_json_array(arena);

    for (size_t i = 0; i < h->n; i++) {
        depot_json_add(list, head(arena, h->plugins[i]));
    }
    return list;
}

static depot_json *fields(depot_arena *arena, const depot_field *f, size_t n)
{
    depot_json *list = depot_json_array(arena);

    for (size_t i = 0; f != NULL && i < n && f[i].name != NULL; i++) {
        depot_json_add(list, depot_json_pack(arena, "{s:s, s:s, s:s?, s:b, s:s?}", "name", f[i].name, "type", type_names[f[i].type],
                                             "default", f[i].def, "required", (int)((f[i].flags & DEPOT_REQUIRED) != 0), "doc",
                                             f[i].doc));
    }
    return list;
}

static depot_json *routes(depot_arena *arena, const depot_ctx *ctx)
{
    depot_json *list = depot_json_array(arena);

    for (size_t i = 0; i < ctx->n_routes; i++) {
        const depot_route *r = &ctx->routes[i];
        depot_json_add(list, depot_json_pack(arena, "{s:s, s:s, s:s, s:s?, s:s?}", "method", r->method, "path", r->path, "role",
                                             role_names[r->role], "cli", r->cli, "doc", r->doc));
    }
    return list;
}

static depot_json *work(depot_arena *arena, const depot_ctx *ctx)
{
    depot_json *list = depot_json_array(arena);

    for (size_t i = 0; i < ctx->n_tasks; i++) {
        const depot_task_row *t = &ctx->tasks[i];
        depot_json_add(list, depot_json_pack(arena, "{s:s, s:s?, s:s}", "name", t->name, "every", t->every, "doc", t->doc));
    }
    return list;
}

#define PAIRS(arena, list, ctx, member, first, second)                                                                 \
    for (size_t i = 0; i < (ctx)->n_##member; i++) {                                                                   \
        depot_json_add(list, depot_json_pack((arena), "{s:s, s:s?}", "name", (ctx)->member[i].first, #second,          \
                                             (ctx)->member[i].second));                                                \
    }

static void add_rest(depot_arena *arena, const depot_ctx *ctx, depot_json *o)
{
    depot_json *events = depot_json_array(arena), *lua = depot_json_array(arena), *metrics = depot_json_array(arena);
    depot_json *services = depot_json_array(arena), *needs = depot_json_array(arena), *sections = depot_json_array(arena);

    PAIRS(arena, events, ctx, events, name, doc)
    PAIRS(arena, lua, ctx, lua, name, doc)
    for (size_t i = 0; i < ctx->n_metrics; i++) {
        depot_json_add(metrics, depot_json_pack(arena, "{s:s, s:s, s:s?}", "name", ctx->metrics[i].name, "kind",
                                                metric_names[ctx->metrics[i].kind], "doc", ctx->metrics[i].doc));
    }
    for (size_t i = 0; i < ctx->n_services; i++) {
        depot_json_add(services, depot_json_pack(arena, "{s:s, s:i}", "name", ctx->services[i].name, "version",
                                                 (int)ctx->services[i].version));
    }
    for (size_t i = 0; i < ctx->n_needs; i++) {
        depot_json_add(needs, depot_json_pack(arena, "{s:s, s:i, s:b}", "service", ctx->needs[i].service, "version",
                                              (int)ctx->needs[i].version, "optional", (int)ctx->needs[i].optional));
    }
    for (size_t i = 0; i < ctx->n_sections; i++) {
        const depot_section *s = &ctx->sections[i];
        depot_json_add(sections, depot_json_pack(arena, "{s:s, s:b, s:s?, s:o}", "kind", s->kind, "named", (int)s->named, "doc",
                                                 s->doc, "options", fields(arena, s->options.rows, s->options.n)));
    }
    depot_json_set(o, "needs", needs);
    depot_json_set(o, "services", services);
    depot_json_set(o, "sections", sections);
    depot_json_set(o, "events", events);
    depot_json_set(o, "lua", lua);
    depot_json_set(o, "metrics", metrics);
}

depot_json *host_show(host *h, depot_arena *arena, const char *name)
{
    const depot_ctx *ctx = host_find(h, name);

    if (ctx == NULL) {
        return NULL;
    }
    depot_json *o = head(arena, ctx);
    depot_json_set(o, "abi", depot_json_str(arena, depot_strf(arena, "%u.%u", ctx->abi_major, ctx->abi_minor)));
    depot_json_set(o, "file", depot_json_str(arena, ctx->file));
    depot_json_set(o, "migrations", depot_json_str(arena, ctx->desc.migrations));
    depot_json_set(o, "options", fields(arena, ctx->options, ctx->n_options));
    depot_json_set(o, "tasks", work(arena, ctx));
    depot_json_set(o, "routes", routes(arena, ctx));
    add_rest(arena, ctx, o);
    return o;
}

depot_json *host_health(host *h, depot_arena *arena)
{
    depot_json *degraded = depot_json_array(arena);

    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < HOST_TROUBLES_MAX; i++) {
        const trouble *t = &h->troubles[i];
        if (t->ctx != NULL) {
            depot_json_add(degraded, depot_json_pack(arena, "{s:s, s:s, s:s}", "plugin", t->ctx->name, "what", t->what, "why", t->why));
        }
    }
    pthread_mutex_unlock(&h->lock);
    return depot_json_pack(arena, "{s:o}", "degraded", degraded);
}
