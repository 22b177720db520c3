/* loop.c - the main loop: one libuv loop, a queue of posted calls, timers. */
#include "run/loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"

enum { LAG_TICK_MS = 500 };

typedef struct posted {
    void (*fn)(void *arg);
    void          *arg;
    struct posted *next;
} posted;

struct loop {
    uv_loop_t       uv;
    uv_async_t      wake;
    uv_timer_t      tick;
    int64_t         tick_due_us;
    _Atomic int64_t lag_us;
    atomic_bool     stop;
    pthread_mutex_t lock; /* guards first and last */
    posted         *first, *last;
};

typedef struct timer {
    uv_timer_t uv; /* first: a timer is its uv_timer_t */
    void (*fn)(void *arg);
    void *arg;
} timer;

static void run_posted(uv_async_t *wake)
{
    loop *l = wake->data;

    pthread_mutex_lock(&l->lock);
    posted *p = l->first;
    l->first = l->last = NULL;
    pthread_mutex_unlock(&l->lock);
    while (p != NULL) {
        posted *next = p->next;
        p->fn(p->arg);
        free(p);
        p = next;
    }
    if (atomic_load(&l->stop)) {
        uv_stop(&l->uv);
    }
}

static void on_tick(uv_timer_t *t)
{
    loop   *l = t->data;
    int64_t now = depot_now_us();
    int64_t late = now - l->tick_due_us;

    atomic_store_explicit(&l->lag_us, late < 0 ? 0 : late, memory_order_relaxed);
    l->tick_due_us = now + LAG_TICK_MS * 1000;
}

loop *loop_new(void)
{
    loop *l = depot_xalloc(sizeof(*l));

    pthread_mutex_init(&l->lock, NULL);
    if (uv_loop_init(&l->uv) != 0 || uv_async_init(&l->uv, &l->wake, run_posted) != 0 ||
        uv_timer_init(&l->uv, &l->tick) != 0) {
        abort(); /* no descriptors at start-up: nothing can run */
    }
    l->wake.data = l;
    l->tick.data = l;
    l->tick_due_us = depot_now_us() + LAG_TICK_MS * 1000;
    uv_timer_start(&l->tick, on_tick, LAG_TICK_MS, LAG_TICK_MS);
    return l;
}

uv_loop_t *loop_uv(loop *l)
{
    return &l->uv;
}

void loop_run(loop *l)
{
    uv_run(&l->uv, UV_RUN_DEFAULT);
}

void loop_stop(loop *l)
{
    atomic_store(&l->stop, true);
    uv_async_send(&l->wake);
}

void loop_post(loop *l, void (*fn)(void *arg), void *arg)
{
    posted *p = depot_xalloc(sizeof(*p));

    *p = (posted){ fn, arg, NULL };
    pthread_mutex_lock(&l->lock);
    if (l->last == NULL) {
        l->first = p;
    } else {
        l->last->next = p;
    }
    l->last = p;
    pthread_mutex_unlock(&l->lock);
    uv_async_send(&l->wake);
}

/* Whoever comes last, the loop or the one who waits, frees it. */
typedef struct settling {
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t  cond;
    bool            reached, left;
} settling;

static void settling_free(settling *s)
{
    pthread_cond_destroy(&s->cond);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void reach(void *arg)
{
    settling *s = arg;

    pthread_mutex_lock(&s->lock);
    s->reached = true;
    bool left = s->left;
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->lock);
    if (left) {
        settling_free(s);
    }
}

bool loop_settle(loop *l, int64_t ms)
{
    settling *s = depot_xalloc(sizeof(*s));
    int64_t   until = clock_until(ms);

    pthread_mutex_init(&s->lock, NULL);
    clock_cond_init(&s->cond);
    loop_post(l, reach, s);
    pthread_mutex_lock(&s->lock);
    while (!s->reached && clock_cond_wait(&s->cond, &s->lock, until)) {
    }
    bool reached = s->reached;
    s->left = true;
    pthread_mutex_unlock(&s->lock);
    if (reached) {
        settling_free(s);
    }
    return reached;
}

static void on_timer(uv_timer_t *uv)
{
    timer *t = (timer *)(void *)uv;

    t->fn(t->arg);
}

uv_timer_t *loop_every(loop *l, int64_t ms, void (*fn)(void *arg), void *arg)
{
    timer *t = depot_xalloc(sizeof(*t));

    t->fn = fn;
    t->arg = arg;
    uv_timer_init(&l->uv, &t->uv);
    uv_timer_start(&t->uv, on_timer, (uint64_t)ms, (uint64_t)ms);
    return &t->uv;
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void loop_timer_stop(uv_timer_t *t)
{
    uv_close((uv_handle_t *)t, free_handle);
}

int64_t loop_lag_us(const loop *l)
{
    return atomic_load_explicit(&l->lag_us, memory_order_relaxed);
}

static void close_rest(uv_handle_t *handle, void *arg)
{
    loop *l = arg;

    if (uv_is_closing(handle)) {
        return;
    }
    /* our own two live inside the loop; a timer of loop_every owns itself; others belong to their makers */
    bool own = handle == (uv_handle_t *)&l->wake || handle == (uv_handle_t *)&l->tick;
    bool ours = handle->type == UV_TIMER && ((uv_timer_t *)handle)->timer_cb == on_timer;
    uv_close(handle, !own && ours ? free_handle : NULL);
}

void loop_free(loop *l)
{
    atomic_store(&l->stop, false); /* or the loop would end before its handles are closed */
    run_posted(&l->wake);
    uv_walk(&l->uv, close_rest, l);
    uv_run(&l->uv, UV_RUN_DEFAULT);
    uv_loop_close(&l->uv);
    pthread_mutex_destroy(&l->lock);
    free(l);
}
