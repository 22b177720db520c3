/* events.c - the bus: an event is checked, its durable hooks are committed, the others wait in a short line for a few
 * threads of the executor. */
#include "run/events.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/metrics.h"
#include "run/events_parts.h"

enum { PARALLEL = 4 };

/* clang-format off */
const depot_metric events_metrics[] = {
    { .name = "depot_events_total", .kind = DEPOT_COUNTER, .labels = (const char *const[]){ "event", NULL },
      .doc = "events by name; those that no plugin declares are counted as other" },
    { .name = "depot_hook_runs_total", .kind = DEPOT_COUNTER, .labels = (const char *const[]){ "hook", "result", NULL },
      .doc = "runs of hooks by result: ok, failed, queued (as a job), passed (its condition does not hold)" },
};
const size_t events_metrics_n = DEPOT_N(events_metrics);
/* clang-format on */

/* A hook or, without one, all C subscriptions, for one event. */
typedef struct delivery {
    struct delivery *next;
    depot_event     *event;
    bool             has_hook;
    hook             hook; /* its texts live in the event's arena */
} delivery;

typedef struct hook_stats {
    struct hook_stats *next;
    char              *name;
    int64_t            runs, failures;
    int64_t            last_us;
    char               last_message[320];
} hook_stats;

static struct {
    pthread_mutex_t lock; /* guards all but env, which is set before threads emit */
    events_env      env;
    bool            closed;
    delivery       *first, **last; /* waiting */
    size_t          waiting, pumps; /* pumps: threads of the executor that deliver or are about to */
    hook_stats     *stats;
} bus = { .lock = PTHREAD_MUTEX_INITIALIZER, .closed = true, .last = &bus.first };

static _Thread_local int depth; /* of the hook that runs on this thread; 0: none */

/* ---- events ---- */

const char *depot_event_name(const depot_event *event)
{
    return event->name;
}

const char *depot_event_id(const depot_event *event)
{
    return event->id;
}

const depot_json *depot_event_payload(const depot_event *event)
{
    return event->payload;
}

static void event_unref(depot_event *event)
{
    if (atomic_fetch_sub_explicit(&event->refs, 1, memory_order_acq_rel) == 1) {
        depot_arena_free(event->arena);
    }
}

/* The emitter's payload lives as long as the emitter wants: this one has its own copy. */
static depot_event *event_new(const char *name, const depot_json *payload, depot_err *err)
{
    depot_arena *arena = depot_arena_new();
    depot_event *event = depot_alloc(arena, sizeof(*event));
    const char  *text = payload == NULL ? "{}" : depot_json_text(arena, payload);

    *event = (depot_event){ .arena = arena,
                            .name = depot_strdup(arena, name),
                            .id = depot_uuid(arena),
                            .at = depot_format_time(arena, depot_wall_us()),
                            .text = depot_strdup(arena, text),
                            .depth = depth };
    event->payload = depot_json_parse(arena, text, strlen(text), err);
    atomic_init(&event->refs, 1);
    if (event->payload == NULL) {
        event_unref(event);
        return NULL;
    }
    return event;
}

/* ---- counting ---- */

static hook_stats *stats_of(const char *name)
{
    hook_stats *s = bus.stats;

    while (s != NULL && strcmp(s->name, name) != 0) {
        s = s->next;
    }
    if (s == NULL) {
        s = depot_xalloc(sizeof(*s));
        s->name = depot_xstrdup(name);
        s->next = bus.stats;
        bus.stats = s;
    }
    return s;
}

static void count(const char *name, const char *result, const depot_err *err)
{
    metrics_add("depot_hook_runs_total", DEPOT_LABELS(name, result), 1);
    if (strcmp(result, "passed") == 0 || strcmp(result, "queued") == 0) {
        return;
    }
    pthread_mutex_lock(&bus.lock);
    hook_stats *s = stats_of(name);
    s->runs++;
    s->failures += err != NULL ? 1 : 0;
    s->last_us = depot_wall_us();
    snprintf(s->last_message, sizeof(s->last_message), "%s", err != NULL ? err->msg : "");
    pthread_mutex_unlock(&bus.lock);
}

/* ---- running hooks ---- */

/* judged: `when` is known to hold. */
static bool run_hook(const hook *h, const depot_event *event, bool judged, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    int                                       outer = depth;
    bool                                      holds = true;

    depth = event->depth + 1;
    log_context_set("hook", h->name);
    bool ok = judged || hook_judge(h, bus.env.ops, event, &holds, err);
    if (ok && holds) {
        ok = hook_act(h, bus.env.ops, event, arena, err);
    }
    count(h->name, !ok ? "failed" : holds ? "ok" : "passed", ok ? NULL : err);
    log_context_set("hook", NULL);
    depth = outer;
    return ok;
}

static void run_subscriptions(const depot_event *event)
{
    int outer = depth;

    depth = event->depth + 1;
    bus.env.deliver(event);
    depth = outer;
}

static void deliver(delivery *d)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const depot_event                        *from = d->event;
    depot_err                                 err = { 0 };
    depot_event                               own = { .arena = arena,
                                                      .name = from->name,
                                                      .id = from->id,
                                                      .at = from->at,
                                                      .text = from->text,
                                                      .depth = from->depth };

    own.payload = depot_json_parse(arena, from->text, strlen(from->text), &err);
    if (own.payload != NULL && !d->has_hook) {
        run_subscriptions(&own);
    } else if (own.payload == NULL || !run_hook(&d->hook, &own, false, &err)) {
        log_err("core", DEPOT_LOG_ERROR, "hook.failed", &err);
    }
    event_unref(d->event);
    free(d);
}

/* ---- the line ---- */

/* With the lock held. */
static delivery *take_first(void)
{
    delivery *d = bus.first;

    if (d != NULL) {
        bus.first = d->next;
        bus.last = bus.first == NULL ? &bus.first : bus.last;
        bus.waiting--;
    }
    return d;
}

/* One delivery at a time, then to the end of the executor's queue: hooks take turns with requests. */
static void pump(void *arg)
{
    depot_err err = { 0 };
    bool      more = true;

    (void)arg;
    while (more) {
        pthread_mutex_lock(&bus.lock);
        delivery *d = take_first();
        pthread_mutex_unlock(&bus.lock);
        if (d != NULL) {
            deliver(d);
        }
        pthread_mutex_lock(&bus.lock);
        more = bus.first != NULL;
        bus.pumps -= more ? 0 : 1;
        pthread_mutex_unlock(&bus.lock);
        if (more && executor_submit(bus.env.executor, pump, NULL, 0, &err)) {
            return;
        }
    }
}

/* false: the line is full or closed, and d still the caller's. */
static bool line_up(delivery *d)
{
    size_t    most = bus.env.parallel > 0 ? bus.env.parallel : PARALLEL;
    depot_err err = { 0 };

    pthread_mutex_lock(&bus.lock);
    bool may = !bus.closed && bus.waiting < EVENTS_QUEUED_MAX;
    if (may) {
        d->next = NULL;
        *bus.last = d;
        bus.last = &d->next;
        bus.waiting++;
    }
    bool starts = may && bus.pumps < most;
    bus.pumps += starts ? 1 : 0;
    pthread_mutex_unlock(&bus.lock);
    if (starts && !executor_submit(bus.env.executor, pump, NULL, 0, &err)) {
        pump(NULL); /* overloaded or draining: here and now */
    }
    return may;
}

static void hand_over(depot_event *event, const hook *h)
{
    delivery *d = depot_xalloc(sizeof(*d));

    *d = (delivery){ .event = event, .has_hook = h != NULL, .hook = h != NULL ? *h : (hook){ 0 } };
    atomic_fetch_add_explicit(&event->refs, 1, memory_order_relaxed);
    if (!line_up(d)) {
        deliver(d);
    }
}

/* ---- emitting ---- */

static bool check_emit(const char *event, const depot_json *payload, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    size_t                                    n = strspn(event, "abcdefghijklmnopqrstuvwxyz0123456789_.-");

    if (event[0] == '\0' || event[n] != '\0' || n > EVENTS_NAME_MAX) {
        (void)DEPOT_FAIL(err, INVALID, "\"%.100s\" is no name of an event", event);
        return depot_hint(err, "lower case letters, digits and _ . - such as backup.verified");
    }
    if (payload != NULL && depot_json_typeof(payload) != DEPOT_JSON_OBJECT) {
        return DEPOT_FAIL(err, INVALID, "the payload of event %s is no object", event);
    }
    if (depth >= EVENTS_DEPTH_MAX) {
        (void)DEPOT_FAIL(err, LIMIT, "event %s is the %dth that hooks of hooks emit in a row", event, depth);
        return depot_hint(err, "a hook reacts to an event that its own action causes");
    }
    return bus.env.check(event, payload == NULL ? depot_json_object(arena) : payload, arena, err);
}

static const hook_options *next_on(const void *now, const depot_event *event, size_t *it, const char **out_name)
{
    const hook_options *o;

    while ((o = bus.env.next(now, it, out_name)) != NULL && (!o->enabled || !depot_glob(o->on, event->name))) {
    }
    return o;
}

/* Those hooks that react to the event, in the order of the files: all that a reload in the middle of it knows, or all that were
 * there before. The texts are copied, as they outlive that configuration. */
static size_t hooks_on(depot_event *event, hook **out)
{
    const hook_options *o;
    const void         *now = bus.env.sections();
    const char         *name, *option;
    size_t              most = 0, n = 0;

    for (size_t it = 0; next_on(now, event, &it, &name) != NULL;) {
        most++;
    }
    *out = most == 0 ? NULL : depot_alloc(event->arena, most * sizeof(**out));
    for (size_t it = 0; n < most && (o = next_on(now, event, &it, &name)) != NULL;) {
        depot_err err = { 0 };
        if (hook_make(event->arena, name, o, &(*out)[n], &option, &err)) {
            n++;
        } else {
            log_err("core", DEPOT_LOG_ERROR, "hook.invalid", &err);
        }
    }
    return n;
}

/* A condition that cannot be judged now is judged when the job runs: better late than lost. */
static bool commit_durable(const hook *hooks, size_t n, depot_event *event, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    action_job                               *jobs = depot_alloc(arena, (n + 1) * sizeof(*jobs));
    const hook                              **of = depot_alloc(arena, (n + 1) * sizeof(*of));
    size_t                                    n_jobs = 0;

    for (size_t i = 0; i < n; i++) {
        bool      holds = true;
        depot_err why = { 0 };
        if (!hooks[i].durable) {
            continue;
        }
        bool judged = hook_judge(&hooks[i], bus.env.ops, event, &holds, &why);
        if (judged && !holds) {
            count(hooks[i].name, "passed", NULL);
            continue;
        }
        if (!hook_job(&hooks[i], event, judged, arena, &jobs[n_jobs], err)) {
            return false;
        }
        of[n_jobs++] = &hooks[i];
    }
    if (n_jobs > 0 && !bus.env.ops->jobs(jobs, n_jobs, err)) {
        return depot_wrap(err, "durable hooks of event %s", event->name);
    }
    for (size_t i = 0; i < n_jobs; i++) {
        count(of[i]->name, strcmp(jobs[i].queue, "hooks") == 0 ? "queued" : "ok", NULL);
    }
    return true;
}

bool events_emit(const char *event_name, const depot_json *payload, depot_err *err)
{
    hook *hooks = NULL;

    if (bus.env.check == NULL) {
        return DEPOT_FAIL(err, UNAVAILABLE, "the event bus is not running");
    }
    if (!check_emit(event_name, payload, err)) {
        return false;
    }
    depot_event *event = event_new(event_name, payload, err);
    if (event == NULL) {
        return false;
    }
    size_t n = hooks_on(event, &hooks);
    if (!commit_durable(hooks, n, event, err)) {
        event_unref(event);
        return false;
    }
    metrics_add("depot_events_total", DEPOT_LABELS(bus.env.row(event_name) != NULL ? event_name : "other"), 1);
    for (size_t i = 0; i < n; i++) {
        if (!hooks[i].durable) {
            hand_over(event, &hooks[i]);
        }
    }
    if (bus.env.wanted(event_name)) {
        hand_over(event, NULL);
    }
    event_unref(event);
    return true;
}

bool events_run_durable(const depot_json *arg, depot_arena *arena, depot_err *err)
{
    const char         *wanted = depot_json_get_str(arg, "hook", ""), *name, *option;
    const hook_options *o = NULL;
    depot_event         event = { .arena = arena,
                                  .name = depot_json_get_str(arg, "event", ""),
                                  .id = depot_json_get_str(arg, "id", ""),
                                  .at = depot_json_get_str(arg, "at", ""),
                                  .payload = depot_json_get(arg, "payload"),
                                  .depth = (int)depot_json_get_int(arg, "depth", 0) };
    hook                h;

    if (bus.env.next == NULL) {
        return DEPOT_FAIL(err, UNAVAILABLE, "the event bus is not running");
    }
    if (event.payload == NULL || depot_json_typeof(event.payload) != DEPOT_JSON_OBJECT || event.depth < 0 ||
        event.depth > EVENTS_DEPTH_MAX) {
        return DEPOT_FAIL(err, BAD_PAYLOAD, "this is not what a durable hook's job holds");
    }
    const void *now = bus.env.sections();
    for (size_t it = 0; (o = bus.env.next(now, &it, &name)) != NULL && strcmp(name, wanted) != 0;) {
    }
    if (o == NULL || !o->enabled) {
        (void)DEPOT_FAIL(err, NOT_FOUND, "hook %s is %s", wanted, o == NULL ? "not there any more" : "switched off");
        return depot_hint(err, "bring it back and replay the job");
    }
    return hook_make(arena, wanted, o, &h, &option, err) &&
           run_hook(&h, &event, depot_json_get_bool(arg, "judged", false), err);
}

/* ---- seen from outside, life cycle ---- */

depot_json *events_status(depot_arena *arena)
{
    depot_json         *list = depot_json_array(arena);
    const hook_options *o;
    const void         *now = bus.env.next == NULL ? NULL : bus.env.sections();
    const char         *name;

    for (size_t it = 0; bus.env.next != NULL && (o = bus.env.next(now, &it, &name)) != NULL;) {
        depot_json *item =
            depot_json_pack(arena, "{s:s, s:s, s:s?, s:s, s:b, s:b}", "name", name, "on", o->on, "when", o->when, "run",
                            o->run, "durable", (int)o->durable, "enabled", (int)o->enabled);
        pthread_mutex_lock(&bus.lock);
        const hook_stats *s = stats_of(name);
        depot_json_set(item, "runs", depot_json_int(arena, s->runs));
        depot_json_set(item, "failures", depot_json_int(arena, s->failures));
        depot_json_set(item, "last_at",
                       s->last_us == 0 ? depot_json_null(arena)
                                       : depot_json_str(arena, depot_format_time(arena, s->last_us)));
        depot_json_set(item, "last_message",
                       s->last_message[0] == '\0' ? depot_json_null(arena) : depot_json_str(arena, s->last_message));
        pthread_mutex_unlock(&bus.lock);
        depot_json_add(list, item);
    }
    return list;
}

void events_open(const events_env *env)
{
    pthread_mutex_lock(&bus.lock);
    bus.env = *env;
    bus.closed = false;
    while (bus.stats != NULL) {
        hook_stats *s = bus.stats;
        bus.stats = s->next;
        free(s->name);
        free(s);
    }
    pthread_mutex_unlock(&bus.lock);
}

void events_close(void)
{
    pthread_mutex_lock(&bus.lock);
    bus.closed = true;
    pthread_mutex_unlock(&bus.lock);
}
