/* actions.c - how schedules and hooks reach tasks, scripts and the queue; wires the event bus and the scheduler to the host. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "app/internal.h"
#include "base/clock.h"
#include "base/unit.h"
#include "depot/svc_queue.h"
#include "lua/scripts.h"
#include "run/events.h"
#include "run/sched.h"

enum { EVAL_TIMEOUT_MS = 5000, SCRIPT_TIMEOUT_MS = 60000, SLACK_MS = 15000 };

/* ---- scripts, waited for ---- */

typedef struct waiting {
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t  cond;
    bool            done, ok;
    char           *json;
    depot_err       err;
} waiting;

static void on_done(void *arg, const depot_script_result *res)
{
    waiting *w = arg;

    pthread_mutex_lock(&w->lock);
    w->done = true;
    w->ok = res->ok;
    w->json = res->ok ? depot_xstrdup(res->json) : NULL;
    w->err = res->err;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

static void waiting_init(waiting *w)
{
    *w = (waiting){ 0 };
    pthread_mutex_init(&w->lock, NULL);
    clock_cond_init(&w->cond);
}

/* The workers promise that done is called: at the deadline, at a crash, at a stop. So this waits without a limit of its own. */
static bool waiting_end(waiting *w, depot_arena *arena, const depot_json **out, depot_err *err)
{
    pthread_mutex_lock(&w->lock);
    while (!w->done) {
        pthread_cond_wait(&w->cond, &w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->lock);
    if (!w->ok) {
        *err = w->err;
        return false;
    }
    *out = depot_json_parse(arena, w->json, strlen(w->json), err);
    free(w->json);
    return *out != NULL;
}

static bool run_script(const char *file, const depot_json *arg, int64_t timeout_ms, depot_arena *arena,
                       const depot_json **out_result, depot_err *err)
{
    waiting            w;
    uint64_t           id;
    const depot_script script = {
        .file = file,
        .arg = depot_json_text(arena, arg),
        .label = file,
        .timeout_ms = unit_remaining_ms(timeout_ms > 0 ? timeout_ms : SCRIPT_TIMEOUT_MS),
        .done = on_done,
        .done_arg = &w,
    };

    waiting_init(&w);
    if (app_self->env.scripts == NULL) {
        return DEPOT_FAIL(err, UNAVAILABLE, "no script workers are running");
    }
    return app_self->env.scripts->run(&script, &id, err) && waiting_end(&w, arena, out_result, err);
}

static bool eval(const char *expression, const depot_json *names, bool *out, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const depot_json                         *value = NULL;
    waiting                                   w;

    waiting_init(&w);
    if (!scripts_eval(expression, depot_json_text(arena, names), EVAL_TIMEOUT_MS, on_done, &w, err) ||
        !waiting_end(&w, arena, &value, err)) {
        return false;
    }
    *out = depot_json_boolean(value);
    return true;
}

/* ---- tasks, jobs ---- */

static bool run_task(const char *name, const depot_json *args, depot_arena *arena, const depot_json **out_result, depot_err *err)
{
    return app_run_task(app_self->host, name, args, arena, out_result, err);
}

static const depot_queue_v1 *queue_service(depot_err *err)
{
    return host_service(app_self->host, "queue", 1, err);
}

static bool enqueue(const action_job *jobs, size_t n, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const depot_queue_v1                     *service = queue_service(err);
    depot_enqueue                            *rows = depot_alloc(arena, (n + 1) * sizeof(*rows));
    char                                      id[37];

    for (size_t i = 0; i < n; i++) {
        rows[i] = (depot_enqueue){
            .queue = jobs[i].queue, .type = jobs[i].type, .args = jobs[i].args, .key = jobs[i].key, .actor = "core" };
    }
    if (service == NULL) {
        return false;
    }
    return n == 1 ? service->enqueue(rows, NULL, id, err) : service->enqueue_many(rows, n, NULL, err);
}

static bool run_runbook(const char *name, const depot_json *args, depot_err *err)
{
    depot_ctx *ctx = NULL;

    (void)args;
    if (host_task(app_self->host, "runbook.start", &ctx) == NULL) {
        DEPOT_FAIL(err, UNAVAILABLE, "cannot run runbook %s: no plugin runs runbooks", name);
        return depot_hint(err, "depotctl enable runbook");
    }
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const depot_json                         *result = NULL;
    return run_task("runbook.start", depot_json_pack(arena, "{s:s}", "name", name), arena, &result, err);
}

static const depot_json *pick_args(const char *task, const depot_json *payload, depot_arena *arena)
{
    depot_ctx            *ctx = NULL;
    const depot_task_row *row = host_task(app_self->host, task, &ctx);
    depot_json           *args = depot_json_object(arena);

    for (const depot_field *f = row == NULL ? NULL : row->args; f != NULL && f->name != NULL; f++) {
        const depot_json *value = depot_json_get(payload, f->name);
        if (value != NULL) {
            depot_json_set(args, f->name, (depot_json *)(uintptr_t)value); /* shared, never written */
        }
    }
    return args;
}

const action_ops app_actions = {
    .task = run_task, .script = run_script, .jobs = enqueue, .runbook = run_runbook, .eval = eval, .pick = pick_args,
};

/* ---- wiring ---- */

static const depot_event_row *event_row(const char *event)
{
    return host_event(app_self->host, event);
}

static bool check_payload(const char *event, const depot_json *payload, depot_arena *arena, depot_err *err)
{
    const depot_event_row *row = host_event(app_self->host, event);
    depot_json            *checked = NULL, *faults = NULL;

    if (row == NULL || row->payload == NULL) {
        return true;
    }
    return api_validate(arena, row->payload, payload, &checked, &faults, err) || depot_wrap(err, "payload of event %s", event);
}

/* Each subscription that matches, one after the other: for (i = s = 0; (row = next_subscription(name, &i, &s, &ctx));) */
static const depot_subscription *next_subscription(const char *event, size_t *i, size_t *s, depot_ctx **out_ctx)
{
    for (; *i < host_count(app_self->host); (*i)++, *s = 0) {
        depot_ctx *ctx = host_plugin(app_self->host, *i);
        while (ctx->state == PLUGIN_STARTED && *s < ctx->n_subscriptions) {
            const depot_subscription *row = &ctx->subscriptions[(*s)++];
            if (depot_glob(row->event, event)) {
                *out_ctx = ctx;
                return row;
            }
        }
    }
    return NULL;
}

static bool is_wanted(const char *event)
{
    depot_ctx *ctx = NULL;
    size_t     i = 0, s = 0;

    return next_subscription(event, &i, &s, &ctx) != NULL;
}

static void deliver(const depot_event *event)
{
    const depot_subscription *row;
    depot_ctx                *ctx = NULL;

    for (size_t i = 0, s = 0; (row = next_subscription(depot_event_name(event), &i, &s, &ctx)) != NULL;) {
        depot_err err = { 0 };
        if (!row->fn(ctx, event, &err)) {
            depot_log_err(ctx, DEPOT_LOG_ERROR, "event.subscription_failed", &err);
        }
    }
}

static const void *sections(void)
{
    return host_conf(app_self->host);
}

static const void *next_hook(const void *now, size_t *it, const char **out_name)
{
    return conf_next(now, "hook", it, out_name);
}

static const void *next_schedule(const void *now, size_t *it, const char **out_name)
{
    return conf_next(now, "schedule", it, out_name);
}

static const depot_task_row *next_task(size_t *it)
{
    size_t seen = 0;

    for (size_t i = 0; i < host_count(app_self->host); i++) {
        const depot_ctx *ctx = host_plugin(app_self->host, i);
        for (size_t t = 0; t < ctx->n_tasks; t++) {
            if (ctx->tasks[t].every != NULL && ctx->state == PLUGIN_STARTED && seen++ == *it) {
                (*it)++;
                return &ctx->tasks[t];
            }
        }
    }
    return NULL;
}

static bool run_durable_hook(void *arg, const depot_job *job, depot_arena *arena, const depot_json **out_result, depot_err *err)
{
    (void)arg;
    *out_result = NULL;
    return events_run_durable(job->args, arena, err);
}

bool app_work_start(app *a, depot_err *err)
{
    const app_daemon_options *daemon = conf_get(host_conf(a->host), "daemon", NULL);
    const events_env          events = { .executor = a->env.executor,
                                         .ops = &app_actions,
                                         .row = event_row,
                                         .check = check_payload,
                                         .wanted = is_wanted,
                                         .deliver = deliver,
                                         .sections = sections,
                                         .next = next_hook,
                                         .parallel = (size_t)daemon->threads / 2 };
    const sched_env sched = { .db = a->env.db,
                              .executor = a->env.executor,
                              .node = a->env.node,
                              .ops = &app_actions,
                              .sections = sections,
                              .next = next_schedule,
                              .next_task = next_task,
                              .emit = events_emit };
    depot_err             none = { 0 };
    const depot_queue_v1 *queue = queue_service(&none);

    events_open(&events);
    a->env.emit = events_emit;
    if (queue != NULL && !queue->serve("hook:*", run_durable_hook, NULL, err)) {
        return false;
    }
    return sched_start(&sched, err);
}

void app_work_stop(void)
{
    sched_stop();
    events_close();
}
