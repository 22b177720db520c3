/* host.c - the set of plugins: loading what conf.d names, sections, order by services, life cycle. */
#include "host/host.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/unit.h"
#include "host/internal.h"

enum { NAMES_MAX = 128, KINDS_MAX = 512, SETTLE_MS = 5000 };

host *host_new(host_env *env, const depot_plugin *core)
{
    const depot_entry entry = { DEPOT_ABI_MAJOR, DEPOT_ABI_MINOR, sizeof(*core), sizeof(depot_field), "core", core };
    host             *h = depot_xalloc(sizeof(*h));
    depot_ctx        *ctx = NULL;
    depot_err         err = { 0 };

    h->arena = depot_arena_new();
    h->env = env;
    pthread_mutex_init(&h->lock, NULL);
    if (!host_adopt(h, NULL, &entry, &ctx, &err)) {
        log_err("core", DEPOT_LOG_ERROR, "host.core", &err);
        abort(); /* a fault of our own tables; the unit tests load them */
    }
    ctx->required = true;
    return h;
}

void host_free(host *h)
{
    if (h != NULL) {
        depot_arena_free(h->arena);
        pthread_mutex_destroy(&h->lock);
        free(h);
    }
}

host_env *host_environment(host *h)
{
    return h->env;
}

bool host_hint_plugins(host *h, const char *name, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const char                               *names[NAMES_MAX];
    size_t                                    n = 0;
    DIR                                      *dir = opendir(h->env->plugin_dir);

    if (dir == NULL) {
        return depot_hint(err, "the plugin folder %s cannot be read", h->env->plugin_dir);
    }
    for (struct dirent *entry; n < NAMES_MAX && (entry = readdir(dir)) != NULL;) {
        size_t len = strlen(entry->d_name);
        if (len > 3 && strcmp(entry->d_name + len - 3, ".so") == 0) {
            names[n++] = depot_strndup(arena, entry->d_name, len - 3);
        }
    }
    closedir(dir);
    const char *near = depot_suggest(name, names, n);
    if (near != NULL && strcmp(near, name) != 0) {
        return depot_hint(err, "did you mean \"%s\"?", near);
    }
    return depot_hint(err, "see depotctl plugin list, and %s", h->env->plugin_dir);
}

static void load_one(host *h, const conf_raw *raw, const char *name, const char *file, int line, conf_problems *problems)
{
    depot_err   err = { 0 };
    const char *required = conf_raw_get(raw, "plugin", name, "required");
    const char *so = conf_raw_get(raw, "plugin", name, "file");
    bool        must = true;

    if (required != NULL && !depot_parse_bool(required, &must, &err)) {
        conf_problem(problems, file, line, NULL, "required: %s", err.msg);
        return;
    }
    if (so != NULL && so[0] != '/') { /* as every path of conf.d; dlopen would look in the system's folders */
        so = depot_strf(h->arena, "%s/%s", h->env->state_dir, so);
    }
    if (host_load(h, name, so, must, &err)) {
        return;
    }
    if (must) {
        conf_problem(problems, file, line, err.hint[0] == '\0' ? NULL : err.hint, "%s", err.msg);
        return;
    }
    log_err("core", DEPOT_LOG_WARN, "plugin.not_loaded", &err);
    depot_degraded(h->plugins[0], depot_strf(h->arena, "plugin %s", name), err.msg);
}

void host_load_all(host *h, const conf_raw *raw, conf_problems *problems)
{
    const char *name, *file;
    int         line;

    for (size_t it = 0; conf_raw_next(raw, "plugin", &it, &name, &file, &line);) {
        if (host_find(h, name) == NULL) {
            load_one(h, raw, name, file, line, problems);
        }
    }
}

const conf_kind *host_kinds(host *h, depot_arena *arena, size_t *out_n)
{
    conf_kind *kinds = depot_alloc(arena, KINDS_MAX * sizeof(*kinds));
    size_t     n = 0;

    for (size_t i = 0; i < h->n; i++) {
        const depot_ctx *ctx = h->plugins[i];
        if (i > 0 && n < KINDS_MAX) {
            kinds[n++] = (conf_kind){ "plugin", ctx->name, true, ctx->name, ctx->desc.summary, ctx->options, ctx->n_options,
                                      ctx->desc.options_size };
        }
        for (size_t s = 0; s < ctx->n_sections && n < KINDS_MAX; s++) {
            const depot_section *section = &ctx->sections[s];
            kinds[n++] = (conf_kind){ section->kind, NULL, section->named, ctx->name, section->doc, section->options.rows,
                                      section->options.n, section->size };
        }
    }
    *out_n = n;
    return kinds;
}

void host_set_conf(host *h, const conf *c)
{
    atomic_store_explicit(&h->conf, c, memory_order_release);
}

const conf *host_conf(host *h)
{
    return atomic_load_explicit(&h->conf, memory_order_acquire);
}

static _Thread_local struct {
    const conf    *conf;
    conf_problems *problems;
} checking; /* what host_check is about on this thread */

void host_check_problem(const char *kind, const char *name, const char *option, const depot_err *err)
{
    const char *file = "conf.d", *hint = err->hint[0] == '\0' ? NULL : err->hint;
    int         line = 0;

    (void)conf_place(checking.conf, kind, name, option, &file, &line); /* without a section: the folder is the place */
    if (option != NULL) {
        conf_problem(checking.problems, file, line, hint, "%s: %s", option, err->msg);
    } else {
        conf_problem(checking.problems, file, line, hint, "%s", err->msg);
    }
}

bool host_check(host *h, const conf *c, conf_problems *problems)
{
    size_t had = conf_problem_count(problems);

    host_conf_for_thread(c);
    checking.conf = c;
    checking.problems = problems;
    for (size_t i = 0; i < h->n; i++) {
        depot_ctx *ctx = h->plugins[i];
        depot_err  err = { 0 };
        if (ctx->desc.check != NULL && !ctx->desc.check(ctx, &err)) {
            host_check_problem("plugin", ctx->name, NULL, &err);
        }
    }
    checking.problems = NULL;
    checking.conf = NULL;
    host_conf_for_thread(NULL);
    return conf_problem_count(problems) == had;
}

/* ---- services and order ---- */

static depot_ctx *provider(host *h, const char *service, uint32_t version)
{
    for (size_t i = 0; i < h->n; i++) {
        for (size_t s = 0; s < h->plugins[i]->n_services; s++) {
            const depot_service *row = &h->plugins[i]->services[s];
            if (strcmp(row->name, service) == 0 && row->version >= version) {
                return h->plugins[i];
            }
        }
    }
    return NULL;
}

static bool check_provided_once(host *h, depot_err *err)
{
    for (size_t i = 0; i < h->n; i++) {
        for (size_t s = 0; s < h->plugins[i]->n_services; s++) {
            const depot_ctx *first = provider(h, h->plugins[i]->services[s].name, 0);
            if (first != h->plugins[i]) {
                DEPOT_FAIL(err, PLUGIN, "the plugins %s and %s both provide the service %s", first->name, h->plugins[i]->name,
                           h->plugins[i]->services[s].name);
                return depot_hint(err, "enable one of them only");
            }
        }
    }
    return true;
}

typedef enum mark { UNSEEN, UNDER_WAY, DONE } mark;

/* Depth first: what a plugin needs stands before it. Depth is bounded by the number of plugins. */
static bool visit(host *h, depot_ctx **order, size_t *n, mark *marks, size_t at, depot_err *err)
{
    depot_ctx *ctx = h->plugins[at];

    if (marks[at] == DONE) {
        return true;
    }
    if (marks[at] == UNDER_WAY) {
        return DEPOT_FAIL(err, PLUGIN, "plugin %s needs itself through the services of others", ctx->name);
    }
    marks[at] = UNDER_WAY;
    for (size_t i = 0; i < ctx->n_needs; i++) {
        const depot_need *need = &ctx->needs[i];
        depot_ctx        *who = provider(h, need->service, need->version);
        if (who == NULL && need->optional) {
            continue;
        }
        if (who == NULL) {
            DEPOT_FAIL(err, PLUGIN, "plugin %s needs the service %s version %u, which no loaded plugin provides", ctx->name,
                       need->service, need->version);
            return depot_hint(err, "depotctl enable %s", need->service);
        }
        size_t index = 0;
        while (h->plugins[index] != who) {
            index++;
        }
        if (!visit(h, order, n, marks, index, err)) {
            return false;
        }
    }
    marks[at] = DONE;
    order[(*n)++] = ctx;
    return true;
}

bool host_resolve(host *h, depot_err *err)
{
    depot_ctx *order[HOST_PLUGINS_MAX];
    mark       marks[HOST_PLUGINS_MAX] = { UNSEEN };
    size_t     n = 0;

    if (!check_provided_once(h, err)) {
        return false;
    }
    for (size_t i = 0; i < h->n; i++) {
        if (!visit(h, order, &n, marks, i, err)) {
            return false;
        }
    }
    memcpy(h->plugins, order, n * sizeof(order[0]));
    return true;
}

/* ---- life cycle ---- */

static void set_failed(depot_ctx *ctx, const depot_err *why)
{
    ctx->failure = *why;
    ctx->state = PLUGIN_FAILED;
}

static const char *failed_need(host *h, const depot_ctx *ctx)
{
    for (size_t i = 0; i < ctx->n_needs; i++) {
        const depot_ctx *who = provider(h, ctx->needs[i].service, ctx->needs[i].version);
        if (who != NULL && who->state == PLUGIN_FAILED && !ctx->needs[i].optional) {
            return who->name;
        }
    }
    return NULL;
}

static bool start_one(depot_ctx *ctx, depot_err *err)
{
    bool (*start)(depot_ctx *, depot_err *) = ctx->host->env->worker ? ctx->desc.worker : ctx->desc.start;
    const char *missing = failed_need(ctx->host, ctx);

    if (missing != NULL) {
        return DEPOT_FAIL(err, PLUGIN, "plugin %s needs plugin %s, which did not start", ctx->name, missing);
    }
    if (start != NULL && !start(ctx, err)) {
        return depot_wrap(err, "plugin %s did not start", ctx->name);
    }
    ctx->state = PLUGIN_STARTED;
    return true;
}

bool host_start(host *h, bool early, depot_err *err)
{
    for (size_t i = 0; i < h->n; i++) {
        depot_ctx *ctx = h->plugins[i];
        depot_err  why = { 0 };
        bool       is_early = (ctx->desc.flags & DEPOT_PLUGIN_EARLY) != 0;
        if (ctx->state != PLUGIN_LOADED || is_early != early || start_one(ctx, &why)) {
            continue;
        }
        set_failed(ctx, &why);
        if (ctx->required) {
            *err = why;
            return false;
        }
        log_err(ctx->name, DEPOT_LOG_ERROR, "plugin.failed", &why);
        depot_degraded(ctx, "start", why.msg);
    }
    return true;
}

void host_reload(host *h)
{
    for (size_t i = 0; i < h->n; i++) {
        depot_ctx *ctx = h->plugins[i];
        depot_err  err = { 0 };
        if (ctx->state != PLUGIN_STARTED || ctx->desc.reload == NULL) {
            continue;
        }
        bool ok = ctx->desc.reload(ctx, &err);
        if (!ok) {
            log_err(ctx->name, DEPOT_LOG_ERROR, "plugin.reload_failed", &err);
        }
        depot_degraded(ctx, "reload", ok ? NULL : err.msg);
    }
}

/* In a worker process a plugin without a worker role was not started: it has nothing to end. */
static bool has_begun(const depot_ctx *ctx)
{
    return ctx->state == PLUGIN_STARTED && (!ctx->host->env->worker || ctx->desc.worker != NULL);
}

void host_drain(host *h)
{
    for (size_t i = h->n; i-- > 0;) {
        if (has_begun(h->plugins[i]) && h->plugins[i]->desc.drain != NULL) {
            atomic_store(&h->leaving, h->plugins[i]->name);
            h->plugins[i]->desc.drain(h->plugins[i]);
        }
    }
    atomic_store(&h->leaving, NULL);
}

/* What depot_listen promises: a notification under way is over before the first plugin is stopped, later ones are dropped. */
static void end_notifications(host *h)
{
    atomic_store(&h->deaf, true);
    if (h->env->loop != NULL && !loop_settle(h->env->loop, SETTLE_MS)) {
        log_write("core", DEPOT_LOG_ERROR, "host.loop_stuck", "the main loop has not turned for %d s", SETTLE_MS / 1000);
    }
}

void host_stop(host *h)
{
    end_notifications(h);
    for (size_t i = h->n; i-- > 0;) {
        if (has_begun(h->plugins[i]) && h->plugins[i]->desc.stop != NULL) {
            atomic_store(&h->leaving, h->plugins[i]->name);
            h->plugins[i]->desc.stop(h->plugins[i]);
        }
        h->plugins[i]->state = PLUGIN_STOPPED;
    }
    atomic_store(&h->leaving, NULL);
}

const char *host_leaving(host *h)
{
    return atomic_load(&h->leaving);
}

/* ---- looking up ---- */

size_t host_count(const host *h)
{
    return h->n;
}

depot_ctx *host_plugin(host *h, size_t i)
{
    return h->plugins[i];
}

depot_ctx *host_find(host *h, const char *name)
{
    for (size_t i = 0; i < h->n; i++) {
        if (strcmp(h->plugins[i]->name, name) == 0) {
            return h->plugins[i];
        }
    }
    return NULL;
}

const depot_task_row *host_task(host *h, const char *name, depot_ctx **out_ctx)
{
    for (size_t i = 0; i < h->n; i++) {
        for (size_t t = 0; t < h->plugins[i]->n_tasks; t++) {
            if (strcmp(h->plugins[i]->tasks[t].name, name) == 0) {
                *out_ctx = h->plugins[i];
                return &h->plugins[i]->tasks[t];
            }
        }
    }
    return NULL;
}

const depot_event_row *host_event(host *h, const char *name)
{
    for (size_t i = 0; i < h->n; i++) {
        for (size_t e = 0; e < h->plugins[i]->n_events; e++) {
            if (strcmp(h->plugins[i]->events[e].name, name) == 0) {
                return &h->plugins[i]->events[e];
            }
        }
    }
    return NULL;
}

const void *host_service(host *h, const char *service, uint32_t version, depot_err *err)
{
    const depot_ctx *who = provider(h, service, version);

    if (who == NULL) {
        DEPOT_FAIL(err, UNAVAILABLE, "no plugin provides the service %s version %u", service, version);
        depot_hint(err, "depotctl enable %s", service);
        return NULL;
    }
    if (who->state != PLUGIN_STARTED) {
        DEPOT_FAIL(err, UNAVAILABLE, "plugin %s, which provides %s, is not running", who->name, service);
        return NULL;
    }
    for (size_t s = 0; s < who->n_services; s++) {
        if (strcmp(who->services[s].name, service) == 0 && who->services[s].version >= version) {
            return who->services[s].table;
        }
    }
    return NULL;
}
