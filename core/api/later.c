/* later.c - requests that their handlers have passed on. Each is resumed once by its holder; those whose deadline passes, or that
 * would hold up the daemon's end, are answered here, and then nobody calls the holder's function. */
#include <stdlib.h>
#include <string.h>

#include "api/internal.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/unit.h"

enum { LOOK_MS = 250 /* how late a deadline may be noticed */ };

struct later {
    pthread_mutex_t lock; /* guards the rest, and waits, prev_later and next_later of requests */
    pthread_cond_t  empty;
    depot_req      *first, *last; /* those that wait, in the order in which they were passed on */
    run_service    *clock;
};

/* ---- under the lock ---- */

static void put_in(struct later *l, depot_req *req)
{
    req->waits = true;
    req->prev_later = l->last;
    req->next_later = NULL;
    *(l->last == NULL ? &l->first : &l->last->next_later) = req;
    l->last = req;
}

static void take_out(struct later *l, depot_req *req)
{
    req->waits = false;
    *(req->prev_later == NULL ? &l->first : &req->prev_later->next_later) = req->next_later;
    *(req->next_later == NULL ? &l->last : &req->next_later->prev_later) = req->prev_later;
    if (l->first == NULL) {
        pthread_cond_broadcast(&l->empty);
    }
}

/* The requests that are due at that moment, as a list by next_later; each with a reference for the caller. */
static depot_req *take_due(struct later *l, int64_t now)
{
    depot_req *due = NULL;

    for (depot_req *req = l->first, *next; req != NULL; req = next) {
        next = req->next_later;
        if (req->deadline_ms <= now) {
            take_out(l, req);
            req_ref(req);
            req->next_later = due;
            due = req;
        }
    }
    return due;
}

/* ---- replies in the holder's place ---- */

static void answer(depot_req *due, const depot_err *err)
{
    while (due != NULL) {
        depot_req *req = due;
        due = req->next_later;
        req_refuse(req, err, NULL);
        req_unref(req);
    }
}

/* What the holder does with a request that it has begun nobody knows here. */
static void set_unknown(depot_err *err, const char *why)
{
    (void)DEPOT_FAIL(err, DB_UNKNOWN, "%s", why);
    (void)depot_hint(err, "whether it took effect is not known: look before doing it again");
}

static bool watch(void *arg, run_service *s, depot_err *err)
{
    struct later *l = arg;
    depot_err     late = { 0 };
    int64_t       wait = INT64_MAX;

    (void)err;
    set_unknown(&late, "no answer before the deadline");
    while (service_wait(s, wait)) {
        pthread_mutex_lock(&l->lock);
        depot_req *due = take_due(l, depot_now_ms());
        wait = l->first == NULL ? INT64_MAX : LOOK_MS;
        pthread_mutex_unlock(&l->lock);
        answer(due, &late);
    }
    return true;
}

/* ---- for the core ---- */

struct later *later_new(void)
{
    struct later *l = depot_xalloc(sizeof(*l));

    pthread_mutex_init(&l->lock, NULL);
    clock_cond_init(&l->empty);
    l->clock = service_start("core", "api.deadlines", watch, l);
    return l;
}

void later_settle(struct later *l, int64_t grace_ms)
{
    int64_t   until = clock_until(grace_ms);
    depot_err err = { 0 };

    set_unknown(&err, "depotd is shutting down and had no answer yet");
    pthread_mutex_lock(&l->lock);
    while (l->first != NULL && clock_cond_wait(&l->empty, &l->lock, until)) {
    }
    depot_req *left = take_due(l, INT64_MAX);
    pthread_mutex_unlock(&l->lock);
    answer(left, &err);
}

void later_free(struct later *l)
{
    service_stop(l->clock);
    pthread_cond_destroy(&l->empty);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* ---- for handlers and holders ---- */

void depot_req_later(depot_req *req)
{
    struct later *l = api_self->later;

    req_ref(req);
    req->passed_on = true;
    pthread_mutex_lock(&l->lock);
    bool first = l->first == NULL;
    put_in(l, req);
    pthread_mutex_unlock(&l->lock);
    if (first) {
        service_wake(l->clock);
    }
}

bool depot_req_waits(depot_req *req)
{
    struct later *l = api_self->later;

    pthread_mutex_lock(&l->lock);
    bool waits = req->waits;
    pthread_mutex_unlock(&l->lock);
    return waits;
}

bool depot_req_resume(depot_req *req, bool (*fn)(depot_ctx *ctx, depot_req *req, void *arg, depot_err *err), void *arg)
{
    struct later *l = api_self->later;
    depot_err     err = { 0 };
    unit          u = { .deadline_ms = req->deadline_ms };

    pthread_mutex_lock(&l->lock);
    bool waits = req->waits;
    if (waits) {
        take_out(l, req);
    }
    pthread_mutex_unlock(&l->lock);
    if (waits) {
        unit_enter(&u);
        log_context_set("request_id", req->id);
        bool ok = fn(req->match.entry->ctx, req, arg, &err);
        unit_leave(&u);
        req_end(req, ok, &err, NULL);
        log_context_set("request_id", NULL);
    }
    req_unref(req);
    return waits;
}
