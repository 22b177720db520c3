/* ctx.c - what plugin.h offers on a context: configuration, services, work, logs, metrics. Thin: the work is done below. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/unit.h"
#include "host/internal.h"
#include "run/child.h"

static _Thread_local const conf *conf_candidate;

void host_conf_for_thread(const conf *c)
{
    conf_candidate = c;
}

static const conf *conf_of(depot_ctx *ctx)
{
    return conf_candidate != NULL ? conf_candidate : host_conf(ctx->host);
}

/* ---- itself and its configuration ---- */

const void *depot_options(depot_ctx *ctx)
{
    return conf_get(conf_of(ctx), "plugin", ctx->name);
}

const void *depot_section_get(depot_ctx *ctx, const char *kind, const char *name)
{
    return conf_get(conf_of(ctx), kind, name);
}

const void *depot_section_next(depot_ctx *ctx, const char *kind, size_t *it, const char **out_name)
{
    return conf_next(conf_of(ctx), kind, it, out_name);
}

void depot_set_state(depot_ctx *ctx, void *state)
{
    ctx->user = state;
}

void *depot_state(depot_ctx *ctx)
{
    return ctx->user;
}

const char *depot_state_dir(depot_ctx *ctx)
{
    return ctx->host->env->state_dir;
}

const char *depot_node(depot_ctx *ctx)
{
    return ctx->host->env->node;
}

bool depot_in_worker(depot_ctx *ctx)
{
    return ctx->host->env->worker;
}

const void *depot_require(depot_ctx *ctx, const char *service, uint32_t version, depot_err *err)
{
    return host_service(ctx->host, service, version, err);
}

bool depot_emit(depot_ctx *ctx, const char *event, const depot_json *payload, depot_err *err)
{
    if (ctx->host->env->emit == NULL) {
        return DEPOT_FAIL(err, UNAVAILABLE, "the event bus is not running");
    }
    return ctx->host->env->emit(event, payload, err);
}

/* ---- the database ---- */

bool depot_db_open(depot_ctx *ctx, depot_db **out, depot_err *err)
{
    db_pool *pool = ctx->host->env->db;

    *out = NULL;
    if (pool == NULL) {
        return DEPOT_FAIL(err, DB_DOWN, "the database is not there yet");
    }
    return db_pool_open(pool, false, out, err);
}

bool depot_sql(depot_ctx *ctx, depot_arena *arena, const char *sql, const depot_val *vals, size_t n, depot_rows **out,
               depot_err *err)
{
    db_pool *pool = ctx->host->env->db;

    if (pool == NULL) {
        return DEPOT_FAIL(err, DB_DOWN, "the database is not there yet");
    }
    return db_pool_sql(pool, arena, sql, vals, n, out, err);
}

/* Memory as long as the process, for any thread: the host's arena is filled by one at a time. */
static void *alloc_for_good(host *h, size_t size)
{
    pthread_mutex_lock(&h->lock);
    void *p = depot_alloc(h->arena, size);
    pthread_mutex_unlock(&h->lock);
    return p;
}

typedef struct heard {
    host *host;
    void (*fn)(void *arg, const char *payload);
    void *arg;
    char *payload;
} heard;

typedef struct subscription {
    host *host;
    void (*fn)(void *arg, const char *payload);
    void *arg;
} subscription;

static void deliver(void *arg)
{
    heard *n = arg;

    if (!atomic_load(&n->host->deaf)) {
        n->fn(n->arg, n->payload);
    }
    free(n->payload);
    free(n);
}

/* On the listener's thread: carry it to the main loop. */
static void on_notify(void *arg, const char *payload)
{
    subscription *s = arg;
    heard        *n = depot_xalloc(sizeof(*n));

    *n = (heard){ s->host, s->fn, s->arg, payload == NULL ? NULL : depot_xstrdup(payload) };
    loop_post(s->host->env->loop, deliver, n);
}

bool depot_listen(depot_ctx *ctx, const char *channel, void (*fn)(void *arg, const char *payload), void *arg, depot_err *err)
{
    host_env *env = ctx->host->env;

    if (env->listener == NULL || env->loop == NULL) {
        DEPOT_FAIL(err, UNAVAILABLE, "there is no direct connection to listen on");
        return depot_hint(err, "set [database] direct_url to the server itself, past the pooler");
    }
    subscription *s = alloc_for_good(ctx->host, sizeof(*s));
    *s = (subscription){ ctx->host, fn, arg };
    return db_listener_add(env->listener, channel, on_notify, s, err);
}

/* ---- work ---- */

int64_t depot_deadline(void)
{
    return unit_deadline();
}

bool depot_canceled(void)
{
    return unit_canceled();
}

typedef struct submitted {
    depot_ctx *ctx;
    void (*fn)(depot_ctx *ctx, void *arg);
    void *arg;
} submitted;

static void run_submitted(void *arg)
{
    submitted s = *(submitted *)arg;

    free(arg);
    s.fn(s.ctx, s.arg);
}

bool depot_submit(depot_ctx *ctx, void (*fn)(depot_ctx *ctx, void *arg), void *arg, depot_err *err)
{
    submitted *s = depot_xalloc(sizeof(*s));

    *s = (submitted){ ctx, fn, arg };
    if (!executor_submit(ctx->host->env->executor, run_submitted, s, 0, err)) {
        free(s);
        return false;
    }
    return true;
}

struct depot_loop {
    depot_ctx *ctx;
    bool (*fn)(depot_ctx *ctx, depot_loop *loop, void *arg, depot_err *err);
    void            *arg;
    _Atomic(run_service *) service;
};

static bool run_loop(void *arg, run_service *s, depot_err *err)
{
    depot_loop *l = arg;

    l->service = s;
    return l->fn(l->ctx, l, l->arg, err);
}

depot_loop *depot_loop_start(depot_ctx *ctx, const char *name,
                             bool (*fn)(depot_ctx *ctx, depot_loop *loop, void *arg, depot_err *err), void *arg)
{
    depot_loop *l = depot_xalloc(sizeof(*l));

    l->ctx = ctx;
    l->fn = fn;
    l->arg = arg;
    l->service = service_start(ctx->name, name, run_loop, l);
    return l;
}

bool depot_loop_wait(depot_loop *l, int64_t timeout_ms)
{
    return service_wait(l->service, timeout_ms);
}

void depot_loop_wake(depot_loop *l)
{
    service_wake(l->service);
}

void depot_loop_stop(depot_loop *l)
{
    service_stop(l->service);
    free(l);
}

enum { EXEC_TIMEOUT_MS = 60000, EXEC_OUTPUT_MAX = 1 << 20 };

bool depot_exec_run(depot_ctx *ctx, depot_arena *arena, const depot_exec *exec, depot_exec_result *out, depot_err *err)
{
    child_spec   spec = CHILD_SPEC_INIT;
    child_result result;

    size_t n_env = 0;
    while (exec->env != NULL && exec->env[n_env] != NULL) {
        n_env++;
    }
    if (n_env > CHILD_ENV_MAX) {
        return DEPOT_FAIL(err, LIMIT, "%zu variables are more than a program is given: %d", n_env, CHILD_ENV_MAX);
    }
    if (exec->argv == NULL || exec->argv[0] == NULL || exec->argv[0][0] != '/') {
        return DEPOT_FAIL(err, INVALID, "a program to run needs an absolute path");
    }
    spec.argv = exec->argv;
    spec.env = child_env(arena, exec->env);
    spec.cwd = exec->cwd == NULL ? ctx->host->env->state_dir : exec->cwd;
    spec.no_new_privs = true;
    bool ok = child_run(arena, &spec, exec->input, exec->input_len, exec->output_max == 0 ? EXEC_OUTPUT_MAX : exec->output_max,
                        exec->timeout_ms == 0 ? EXEC_TIMEOUT_MS : exec->timeout_ms, &result, err);
    *out = (depot_exec_result){ result.status, result.out, result.err_out, result.out_len, result.err_len, result.truncated };
    return ok;
}

/* ---- scripts ---- */

static const host_scripts *scripts_of(depot_ctx *ctx)
{
    return ctx->host->env->scripts;
}

bool depot_handler_find(depot_ctx *ctx, depot_arena *arena, const char *name, depot_handler *out)
{
    return scripts_of(ctx) != NULL && scripts_of(ctx)->handler_find(arena, name, out);
}

bool depot_handler_next(depot_ctx *ctx, depot_arena *arena, size_t *it, depot_handler *out)
{
    return scripts_of(ctx) != NULL && scripts_of(ctx)->handler_next(arena, it, out);
}

bool depot_script_run(depot_ctx *ctx, const depot_script *script, uint64_t *out_id, depot_err *err)
{
    if (scripts_of(ctx) == NULL) {
        return DEPOT_FAIL(err, UNAVAILABLE, "no script workers are running");
    }
    return scripts_of(ctx)->run(script, out_id, err);
}

bool depot_script_run_range(depot_ctx *ctx, const depot_script_range *range, uint64_t *out_id, int64_t *out_room,
                            depot_err *err)
{
    if (scripts_of(ctx) == NULL) {
        return DEPOT_FAIL(err, UNAVAILABLE, "no script workers are running");
    }
    return scripts_of(ctx)->run_range(range, out_id, out_room, err);
}

void depot_script_enough(depot_ctx *ctx, uint64_t id)
{
    if (scripts_of(ctx) != NULL) {
        scripts_of(ctx)->enough(id);
    }
}

void depot_script_cancel(depot_ctx *ctx, uint64_t id)
{
    if (scripts_of(ctx) != NULL) {
        scripts_of(ctx)->cancel(id);
    }
}

int64_t depot_script_capacity(depot_ctx *ctx)
{
    return scripts_of(ctx) == NULL ? 0 : scripts_of(ctx)->capacity();
}

void depot_script_on_change(depot_ctx *ctx, void (*fn)(void *arg), void *arg)
{
    if (scripts_of(ctx) != NULL) {
        scripts_of(ctx)->on_change(fn, arg);
    }
}

/* ---- seen from outside ---- */

void depot_log(depot_ctx *ctx, depot_level level, const char *event, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_vwrite(ctx->name, level, event, fmt, ap);
    va_end(ap);
}

void depot_log_err(depot_ctx *ctx, depot_level level, const char *event, const depot_err *err)
{
    log_err(ctx->name, level, event, err);
}

void depot_count(depot_ctx *ctx, const char *metric, const char *const *labels, double by)
{
    (void)ctx;
    metrics_add(metric, labels, by);
}

void depot_gauge(depot_ctx *ctx, const char *metric, const char *const *labels, double value)
{
    (void)ctx;
    metrics_set(metric, labels, value);
}

void depot_observe(depot_ctx *ctx, const char *metric, const char *const *labels, double value)
{
    (void)ctx;
    metrics_observe(metric, labels, value);
}

typedef struct scraper {
    depot_ctx *ctx;
    void (*fn)(depot_ctx *ctx);
} scraper;

static void scrape(void *arg)
{
    scraper *s = arg;

    s->fn(s->ctx);
}

void depot_on_scrape(depot_ctx *ctx, void (*fn)(depot_ctx *ctx))
{
    scraper *s = alloc_for_good(ctx->host, sizeof(*s));

    *s = (scraper){ ctx, fn };
    metrics_collector_add(scrape, s);
}

void depot_degraded(depot_ctx *ctx, const char *what, const char *why)
{
    host    *h = ctx->host;
    trouble *place = NULL;

    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < HOST_TROUBLES_MAX; i++) {
        trouble *t = &h->troubles[i];
        if (t->ctx == ctx && strncmp(t->what, what, sizeof(t->what) - 1) == 0) {
            place = t;
            break;
        }
        if (t->ctx == NULL && place == NULL) {
            place = t;
        }
    }
    if (place != NULL && why != NULL) {
        place->ctx = ctx;
        snprintf(place->what, sizeof(place->what), "%s", what);
        snprintf(place->why, sizeof(place->why), "%s", why);
    } else if (place != NULL) {
        place->ctx = NULL;
    }
    pthread_mutex_unlock(&h->lock);
}
