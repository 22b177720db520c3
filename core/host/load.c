/* load.c - a .so becomes a depot_ctx: entry symbol, ABI, rows brought to this depotd's sizes, rows checked. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "host/internal.h"

enum { ABI_LATER_MAX = 9, ROWS_MAX = 4096 };

static bool newer_abi(void *dl, const char *path, depot_err *err)
{
    for (unsigned major = DEPOT_ABI_MAJOR + 1; major <= ABI_LATER_MAX; major++) {
        char symbol[32];
        snprintf(symbol, sizeof(symbol), "depot_plugin_abi%u", major);
        const depot_entry *entry = dlsym(dl, symbol);
        if (entry != NULL) {
            DEPOT_FAIL(err, ABI, "%s was built for plugin ABI %u.%u, this depotd has %u.%u", path, entry->abi_major,
                       entry->abi_minor, DEPOT_ABI_MAJOR, DEPOT_ABI_MINOR);
            return depot_hint(err, "upgrade depotd, or build the plugin against its depot/plugin.h");
        }
    }
    DEPOT_FAIL(err, ABI, "%s is not a depotd plugin: it has no symbol depot_plugin_abi%u", path, DEPOT_ABI_MAJOR);
    return depot_hint(err, "define it with DEPOT_PLUGIN(name) { ... }; see docs/plugins.md");
}

static bool check_entry(const depot_entry *entry, const char *path, depot_err *err)
{
    if (entry->abi_major != DEPOT_ABI_MAJOR || entry->abi_minor > DEPOT_ABI_MINOR) {
        DEPOT_FAIL(err, ABI, "%s was built for plugin ABI %u.%u, this depotd has %u.%u", path, entry->abi_major,
                   entry->abi_minor, DEPOT_ABI_MAJOR, DEPOT_ABI_MINOR);
        return depot_hint(err, "upgrade depotd, or build the plugin against its depot/plugin.h");
    }
    if (entry->name == NULL || entry->plugin == NULL || entry->struct_size == 0 || entry->field_size == 0) {
        return DEPOT_FAIL(err, ABI, "%s: its entry has no name or no descriptor", path);
    }
    return true;
}

typedef struct table_any {
    const void *rows;
    uint32_t    n, row_size;
} table_any;

/* Rows of an older header are shorter: what they lack reads as zero. */
static void *rows_of(depot_arena *arena, const void *table, size_t size, size_t *out_n)
{
    table_any t;

    memcpy(&t, table, sizeof(t));
    char  *rows = depot_alloc(arena, (t.n + 1) * size);
    size_t take = t.row_size < size ? t.row_size : size;
    for (size_t i = 0; i < t.n && t.n <= ROWS_MAX; i++) {
        memcpy(rows + i * size, (const char *)t.rows + i * (size_t)t.row_size, take);
    }
    *out_n = t.n <= ROWS_MAX ? t.n : 0;
    return rows;
}

/* The same for an array of fields that ends in a row without a name, and for the arrays inside it. */
static const depot_field *fields_of(depot_arena *arena, const depot_field *rows, size_t field_size)
{
    size_t n = 0;

    if (rows == NULL || field_size == sizeof(depot_field)) {
        return rows;
    }
    while (((const depot_field *)(const void *)((const char *)rows + n * field_size))->name != NULL) {
        n++;
    }
    table_any    t = { rows, (uint32_t)n, (uint32_t)field_size };
    depot_field *out = rows_of(arena, &t, sizeof(*out), &n);
    for (size_t i = 0; i < n; i++) {
        out[i].fields = fields_of(arena, out[i].fields, field_size);
    }
    return out;
}

static void nested_rows(depot_ctx *ctx, depot_arena *arena, size_t field_size)
{
    for (size_t i = 0; i < ctx->n_sections; i++) {
        depot_section *s = (depot_section *)(uintptr_t)&ctx->sections[i]; /* our own copy of the rows */
        size_t         n;
        s->options.rows = rows_of(arena, &s->options, sizeof(depot_field), &n);
        s->options.n = (uint32_t)n;
        s->options.row_size = sizeof(depot_field);
    }
    for (size_t i = 0; i < ctx->n_routes; i++) {
        depot_route *r = (depot_route *)(uintptr_t)&ctx->routes[i];
        r->request = fields_of(arena, r->request, field_size);
        r->reply = fields_of(arena, r->reply, field_size);
    }
    for (size_t i = 0; i < ctx->n_tasks; i++) {
        depot_task_row *t = (depot_task_row *)(uintptr_t)&ctx->tasks[i];
        t->args = fields_of(arena, t->args, field_size);
    }
    for (size_t i = 0; i < ctx->n_events; i++) {
        depot_event_row *e = (depot_event_row *)(uintptr_t)&ctx->events[i];
        e->payload = fields_of(arena, e->payload, field_size);
    }
}

#define ROWS(ctx, arena, member) ((ctx)->member = rows_of((arena), &(ctx)->desc.member, sizeof(*(ctx)->member), &(ctx)->n_##member))

static bool bad_row(const depot_ctx *ctx, const char *table, const char *name, const char *why, depot_err *err)
{
    return DEPOT_FAIL(err, ABI, "plugin %s: %s row \"%s\" %s", ctx->name, table, name == NULL ? "" : name, why);
}

static bool check_names(const depot_ctx *ctx, depot_err *err)
{
    for (size_t i = 0; i < ctx->n_options; i++) {
        if (ctx->options[i].name == NULL || ctx->options[i].doc == NULL) {
            return bad_row(ctx, "options", ctx->options[i].name, "has no name or no doc", err);
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(ctx->options[i].name, ctx->options[k].name) == 0) {
                return bad_row(ctx, "options", ctx->options[i].name, "stands twice", err);
            }
        }
    }
    for (size_t i = 0; i < ctx->n_tasks; i++) {
        if (ctx->tasks[i].name == NULL || ctx->tasks[i].fn == NULL || ctx->tasks[i].doc == NULL) {
            return bad_row(ctx, "tasks", ctx->tasks[i].name, "has no name, function or doc", err);
        }
    }
    for (size_t i = 0; i < ctx->n_routes; i++) {
        if (ctx->routes[i].method == NULL || ctx->routes[i].path == NULL || ctx->routes[i].fn == NULL || ctx->routes[i].doc == NULL) {
            return bad_row(ctx, "routes", ctx->routes[i].path, "has no method, path, function or doc", err);
        }
    }
    for (size_t i = 0; i < ctx->n_lua; i++) {
        if (ctx->lua[i].name == NULL || ctx->lua[i].signature == NULL || ctx->lua[i].fn == NULL || ctx->lua[i].doc == NULL) {
            return bad_row(ctx, "lua", ctx->lua[i].name, "has no name, signature, function or doc", err);
        }
    }
    for (size_t i = 0; i < ctx->n_services; i++) {
        if (ctx->services[i].name == NULL || ctx->services[i].table == NULL || ctx->services[i].version == 0) {
            return bad_row(ctx, "services", ctx->services[i].name, "has no name, version or table", err);
        }
    }
    return true;
}

static bool register_metrics(const depot_ctx *ctx, depot_err *err)
{
    for (size_t i = 0; i < ctx->n_metrics; i++) {
        if (!metrics_register(ctx->name, &ctx->metrics[i], err)) {
            return depot_wrap(err, "plugin %s", ctx->name);
        }
    }
    return true;
}

bool host_adopt(host *h, const char *file, const depot_entry *entry, depot_ctx **out, depot_err *err)
{
    size_t     size = entry->struct_size;
    depot_ctx *ctx = depot_alloc(h->arena, sizeof(*ctx));

    if (h->n == HOST_PLUGINS_MAX) {
        return DEPOT_FAIL(err, LIMIT, "more than %d plugins", HOST_PLUGINS_MAX);
    }
    memcpy(&ctx->desc, entry->plugin, size < sizeof(ctx->desc) ? size : sizeof(ctx->desc));
    ctx->host = h;
    ctx->name = depot_strdup(h->arena, entry->name);
    ctx->file = depot_strdup(h->arena, file);
    ROWS(ctx, h->arena, options);
    ROWS(ctx, h->arena, sections);
    ROWS(ctx, h->arena, needs);
    ROWS(ctx, h->arena, services);
    ROWS(ctx, h->arena, events);
    ROWS(ctx, h->arena, subscriptions);
    ROWS(ctx, h->arena, tasks);
    ROWS(ctx, h->arena, routes);
    ROWS(ctx, h->arena, lua);
    ROWS(ctx, h->arena, metrics);
    nested_rows(ctx, h->arena, entry->field_size);
    ctx->abi_major = entry->abi_major;
    ctx->abi_minor = entry->abi_minor;
    if (!check_names(ctx, err) || !register_metrics(ctx, err)) {
        return false;
    }
    h->plugins[h->n++] = ctx;
    *out = ctx;
    return true;
}

/* Plugins stay mapped until the process ends: leak reports need their symbols. */
bool host_load(host *h, const char *name, const char *file, bool required, depot_err *err)
{
    const char *path = file != NULL ? file : depot_strf(h->arena, "%s/%s.so", h->env->plugin_dir, name);
    depot_ctx  *ctx = NULL;

    if (host_find(h, name) != NULL) {
        return DEPOT_FAIL(err, CONFLICT, "plugin %s is loaded already", name);
    }
    void *dl = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (dl == NULL) {
        /* concurrency: plugins are loaded by one thread, at start */
        DEPOT_FAIL(err, PLUGIN, "cannot load plugin %s: %s", name, dlerror()); /* NOLINT(concurrency-mt-unsafe) */
        return host_hint_plugins(h, name, err);
    }
    const depot_entry *entry = dlsym(dl, "depot_plugin_abi1");
    if (entry == NULL) {
        return newer_abi(dl, path, err);
    }
    if (!check_entry(entry, path, err)) {
        return false;
    }
    if (strcmp(entry->name, name) != 0) {
        return DEPOT_FAIL(err, PLUGIN, "%s holds the plugin %s, not %s", path, entry->name, name);
    }
    if (!host_adopt(h, path, entry, &ctx, err)) {
        return false;
    }
    ctx->required = required;
    return true;
}
