/* executor.c - the pool of threads for blocking C work. */
#include "run/executor.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/unit.h"

typedef struct job {
    void (*fn)(void *arg);
    void   *arg;
    int64_t deadline_ms;
} job;

struct executor {
    pthread_mutex_t lock; /* guards everything below but canceled */
    pthread_cond_t  work, idle;
    job            *ring;
    size_t          max, head, queued, busy, n_threads;
    bool            draining, closing;
    atomic_bool     canceled;
    pthread_t       threads[];
};

static void run_job(executor *e, const job *j)
{
    unit u = { .deadline_ms = j->deadline_ms, .canceled = &e->canceled };

    unit_enter(&u);
    j->fn(j->arg);
    unit_leave(&u);
}

static void *work(void *arg)
{
    executor *e = arg;

    pthread_mutex_lock(&e->lock);
    for (;;) {
        while (e->queued == 0 && !e->closing) {
            pthread_cond_wait(&e->work, &e->lock);
        }
        if (e->queued == 0) {
            break;
        }
        job j = e->ring[e->head];
        e->head = (e->head + 1) % e->max;
        e->queued--;
        e->busy++;
        pthread_mutex_unlock(&e->lock);
        run_job(e, &j);
        pthread_mutex_lock(&e->lock);
        e->busy--;
        if (e->busy == 0 && e->queued == 0) {
            pthread_cond_broadcast(&e->idle);
        }
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

executor *executor_new(size_t threads, size_t queue_max)
{
    executor *e = depot_xalloc(sizeof(*e) + threads * sizeof(pthread_t));

    pthread_mutex_init(&e->lock, NULL);
    clock_cond_init(&e->work);
    clock_cond_init(&e->idle);
    e->max = queue_max;
    e->ring = depot_xalloc(queue_max * sizeof(job));
    while (e->n_threads < threads && pthread_create(&e->threads[e->n_threads], NULL, work, e) == 0) {
        e->n_threads++;
    }
    if (e->n_threads == 0) {
        abort(); /* a process that cannot start one thread can do nothing */
    }
    return e;
}

bool executor_submit(executor *e, void (*fn)(void *arg), void *arg, int64_t timeout_ms, depot_err *err)
{
    int64_t deadline = timeout_ms > 0 ? clock_until(timeout_ms) : INT64_MAX;

    pthread_mutex_lock(&e->lock);
    bool draining = e->draining;
    bool full = e->queued == e->max;
    if (!draining && !full) {
        e->ring[(e->head + e->queued) % e->max] = (job){ fn, arg, deadline };
        e->queued++;
        pthread_cond_signal(&e->work);
    }
    pthread_mutex_unlock(&e->lock);
    if (draining) {
        return DEPOT_FAIL(err, UNAVAILABLE, "depotd is shutting down");
    }
    if (full) {
        DEPOT_FAIL(err, UNAVAILABLE, "all threads are busy and %zu more calls wait", e->max);
        return depot_hint(err, "try again; if it stays so raise [daemon] threads");
    }
    return true;
}

size_t executor_queued(const executor *e)
{
    executor *mine = (executor *)(uintptr_t)e; /* the lock is not part of what const promises */

    pthread_mutex_lock(&mine->lock);
    size_t n = mine->queued;
    pthread_mutex_unlock(&mine->lock);
    return n;
}

size_t executor_busy(const executor *e)
{
    executor *mine = (executor *)(uintptr_t)e;

    pthread_mutex_lock(&mine->lock);
    size_t n = mine->busy;
    pthread_mutex_unlock(&mine->lock);
    return n;
}

void executor_drain(executor *e, int64_t grace_ms)
{
    int64_t until = clock_until(grace_ms);

    pthread_mutex_lock(&e->lock);
    e->draining = true;
    while ((e->busy > 0 || e->queued > 0) && clock_cond_wait(&e->idle, &e->lock, until)) {
    }
    atomic_store_explicit(&e->canceled, true, memory_order_release);
    while (e->busy > 0 || e->queued > 0) {
        pthread_cond_wait(&e->idle, &e->lock);
    }
    pthread_mutex_unlock(&e->lock);
}

void executor_free(executor *e)
{
    pthread_mutex_lock(&e->lock);
    e->draining = e->closing = true;
    pthread_cond_broadcast(&e->work);
    pthread_mutex_unlock(&e->lock);
    for (size_t i = 0; i < e->n_threads; i++) {
        pthread_join(e->threads[i], NULL);
    }
    pthread_cond_destroy(&e->work);
    pthread_cond_destroy(&e->idle);
    pthread_mutex_destroy(&e->lock);
    free(e->ring);
    free(e);
}
