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

static bool bad_table(const depot_ctx *ctx, const char *table, const table_any *t, depot_err *err)
{
    if (t->n <= ROWS_MAX && (t->n == 0 || (t->rows != NULL && t->row_size != 0))) {
        return false;
    }
    DEPOT_FAIL(err, ABI, "plugin %s: %s is no table of %u rows", ctx->name, table, t->n);
    (void)depot_hint(err, "write DEPOT_TABLE(rows); a table has at most %d", ROWS_MAX);
    return true;
}

/* Rows of an older header are shorter: what they lack reads as zero. */
static void *rows_of(depot_arena *arena, const void *table, size_t size, size_t *out_n)
{
    table_any t;

    memcpy(&t, table, sizeof(t));
    char  *rows = depot_alloc(arena, (t.n + 1) * size);
    size_t take = t.row_size < size ? t.row_size : size;
    for (size_t i = 0; i < t.n; i++) {
        memcpy(rows + i * size, (const char *)t.rows + i * (size_t)t.row_size, take);
    }
    *out_n = t.n;
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

static bool nested_rows(depot_ctx *ctx, depot_arena *arena, size_t field_size, depot_err *err)
{
    for (size_t i = 0; i < ctx->n_sections; i++) {
        depot_section *s = (depot_section *)(uintptr_t)&ctx->sections[i]; /* our own copy of the rows */
        size_t         n;
        table_any      t = { s->options.rows, s->options.n, s->options.row_size };
        if (bad_table(ctx, s->kind == NULL ? "sections" : s->kind, &t, err)) {
            return false;
        }
        s->options.rows = rows_of(arena, &t, sizeof(depot_field), &n);
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
    return true;
}

#define ROWS(ctx, arena, member) ((ctx)->member = rows_of((arena), &(ctx)->desc.member, sizeof(*(ctx)->member), &(ctx)->n_##member))

/* ---- checks ---- */

static bool bad_row(const depot_ctx *ctx, const char *table, const char *name, const char *why, depot_err *err)
{
    return DEPOT_FAIL(err, ABI, "plugin %s: %s row \"%s\" %s", ctx->name, table, name == NULL ? "" : name, why);
}

#define TABLE(member) #member, offsetof(depot_plugin, member), offsetof(depot_ctx, member), offsetof(depot_ctx, n_##member)
#define MEMBER(T, member) (offsetof(T, member) + 1) /* 0 ends the list */

/* Pointers that a row cannot do without; the first one is its name. */
static const struct table_rule {
    const char *table;
    size_t      given, rows, n, row_size, needed[5];
    const char *why;
} table_rules[] = {
    { TABLE(options), sizeof(depot_field), { MEMBER(depot_field, name), MEMBER(depot_field, doc) }, "has no name or no doc" },
    { TABLE(sections), sizeof(depot_section), { MEMBER(depot_section, kind) }, "has no kind" },
    { TABLE(needs), sizeof(depot_need), { MEMBER(depot_need, service) }, "has no service" },
    { TABLE(services), sizeof(depot_service), { MEMBER(depot_service, name), MEMBER(depot_service, table) },
      "has no name, version or table" },
    { TABLE(events), sizeof(depot_event_row), { MEMBER(depot_event_row, name), MEMBER(depot_event_row, doc) }, "has no name or no doc" },
    { TABLE(subscriptions), sizeof(depot_subscription), { MEMBER(depot_subscription, event), MEMBER(depot_subscription, fn) },
      "has no event or no function" },
    { TABLE(tasks), sizeof(depot_task_row), { MEMBER(depot_task_row, name), MEMBER(depot_task_row, fn), MEMBER(depot_task_row, doc) },
      "has no name, function or doc" },
    { TABLE(routes), sizeof(depot_route),
      { MEMBER(depot_route, path), MEMBER(depot_route, method), MEMBER(depot_route, fn), MEMBER(depot_route, doc) },
      "has no method, path, function or doc" },
    { TABLE(lua), sizeof(depot_lua_fn),
      { MEMBER(depot_lua_fn, name), MEMBER(depot_lua_fn, signature), MEMBER(depot_lua_fn, doc) },
      "has no name, signature or doc" },
    { TABLE(metrics), sizeof(depot_metric), { MEMBER(depot_metric, name), MEMBER(depot_metric, doc) }, "has no name or no doc" },
};

/* Before the rows are copied: is there what the descriptor says? */
static bool check_tables(const depot_ctx *ctx, depot_err *err)
{
    for (size_t i = 0; i < DEPOT_N(table_rules); i++) {
        table_any t;
        memcpy(&t, (const char *)&ctx->desc + table_rules[i].given, sizeof(t));
        if (bad_table(ctx, table_rules[i].table, &t, err)) {
            return false;
        }
    }
    return true;
}

static const void *pointer_at(const char *row, size_t member)
{
    const void *p;

    memcpy(&p, row + member - 1, sizeof(p)); /* functions are as large as data pointers wherever dlsym works */
    return p;
}

static bool check_rows(const depot_ctx *ctx, const struct table_rule *rule, depot_err *err)
{
    const char *rows;
    size_t      n;

    memcpy(&rows, (const char *)ctx + rule->rows, sizeof(rows));
    memcpy(&n, (const char *)ctx + rule->n, sizeof(n));
    for (size_t i = 0; i < n; i++) {
        const char *row = rows + i * rule->row_size;
        for (const size_t *member = rule->needed; *member != 0; member++) {
            if (pointer_at(row, *member) == NULL) {
                return bad_row(ctx, rule->table, pointer_at(row, rule->needed[0]), rule->why, err);
            }
        }
    }
    return true;
}

static bool check_fields(const depot_ctx *ctx, const char *table, const depot_field *rows, size_t n, depot_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (rows[i].name == NULL) {
            return bad_row(ctx, table, NULL, "has no name", err);
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(rows[i].name, rows[k].name) == 0) {
                return bad_row(ctx, table, rows[i].name, "stands twice", err);
            }
        }
    }
    return true;
}

static bool check_tasks(const depot_ctx *ctx, depot_err *err)
{
    for (size_t i = 0; i < ctx->n_tasks; i++) {
        depot_ctx *other = NULL;
        if (host_task(ctx->host, ctx->tasks[i].name, &other) != NULL) {
            return DEPOT_FAIL(err, ABI, "the plugins %s and %s both have a task %s", other->name, ctx->name, ctx->tasks[i].name);
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(ctx->tasks[i].name, ctx->tasks[k].name) == 0) {
                return bad_row(ctx, "tasks", ctx->tasks[i].name, "stands twice", err);
            }
        }
    }
    return true;
}

static bool check_names(const depot_ctx *ctx, depot_err *err)
{
    for (size_t i = 0; i < DEPOT_N(table_rules); i++) {
        if (!check_rows(ctx, &table_rules[i], err)) {
            return false;
        }
    }
    for (size_t i = 0; i < ctx->n_sections; i++) {
        if (!check_fields(ctx, ctx->sections[i].kind, ctx->sections[i].options.rows, ctx->sections[i].options.n, err)) {
            return false;
        }
    }
    for (size_t i = 0; i < ctx->n_services; i++) {
        if (ctx->services[i].version == 0) {
            return bad_row(ctx, "services", ctx->services[i].name, "has no name, version or table", err);
        }
    }
    return check_fields(ctx, "options", ctx->options, ctx->n_options, err) && check_tasks(ctx, err);
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
    if (!check_tables(ctx, err)) {
        return false;
    }
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
    ctx->abi_major = entry->abi_major;
    ctx->abi_minor = entry->abi_minor;
    if (!nested_rows(ctx, h->arena, entry->field_size, err) || !check_names(ctx, err) || !register_metrics(ctx, err)) {
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
