/* service.c - long-running loops with a thread of their own, started again with backoff when they fail. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/unit.h"
#include "run/executor.h"

enum { BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 10000, GOOD_RUN_MS = 60000 };

struct run_service {
    const char     *plugin;
    char           *name;
    bool            (*fn)(void *arg, run_service *s, depot_err *err);
    void           *arg;
    pthread_t       thread;
    pthread_mutex_t lock; /* guards woken */
    pthread_cond_t  cond;
    bool            woken;
    atomic_bool     stop;
};

static void *run(void *arg)
{
    run_service *s = arg;
    int64_t  backoff = BACKOFF_MIN_MS;
    unit     u = { .deadline_ms = INT64_MAX, .canceled = &s->stop };

    unit_enter(&u);
    while (!service_stopping(s)) {
        depot_err err = { 0 };
        int64_t   began = depot_now_ms();
        if (s->fn(s->arg, s, &err) || service_stopping(s)) {
            break;
        }
        backoff = depot_now_ms() - began > GOOD_RUN_MS ? BACKOFF_MIN_MS : backoff;
        depot_wrap(&err, "%s starts again in %lld ms", s->name, (long long)backoff);
        log_err(s->plugin, DEPOT_LOG_WARN, "service.failed", &err);
        if (!service_wait(s, backoff)) {
            break;
        }
        backoff = backoff * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : backoff * 2;
    }
    unit_leave(&u);
    return NULL;
}

run_service *service_start(const char *plugin, const char *name, bool (*fn)(void *arg, run_service *s, depot_err *err), void *arg)
{
    run_service *s = depot_xalloc(sizeof(*s));

    s->plugin = plugin;
    s->name = depot_xstrdup(name);
    s->fn = fn;
    s->arg = arg;
    pthread_mutex_init(&s->lock, NULL);
    clock_cond_init(&s->cond);
    if (pthread_create(&s->thread, NULL, run, s) != 0) {
        abort(); /* as for memory: a daemon without threads can keep no promise */
    }
    return s;
}

bool service_wait(run_service *s, int64_t timeout_ms)
{
    int64_t until = clock_until(timeout_ms);

    pthread_mutex_lock(&s->lock);
    while (!s->woken && !service_stopping(s) && clock_cond_wait(&s->cond, &s->lock, until)) {
    }
    s->woken = false;
    pthread_mutex_unlock(&s->lock);
    return !service_stopping(s);
}

void service_wake(run_service *s)
{
    pthread_mutex_lock(&s->lock);
    s->woken = true;
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

bool service_stopping(const run_service *s)
{
    return atomic_load_explicit(&s->stop, memory_order_acquire);
}

void service_stop(run_service *s)
{
    atomic_store_explicit(&s->stop, true, memory_order_release);
    service_wake(s);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->cond);
    pthread_mutex_destroy(&s->lock);
    free(s->name);
    free(s);
}
