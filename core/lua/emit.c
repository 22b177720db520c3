/* emit.c - see emit.h. One per process: host_env.emit has no place for a context. */
#include "lua/emit.h"

#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/unit.h"

enum { EMIT_MS = 60000 };

/* A thread of the pool waits for the daemon's answer. Lives on its stack. */
typedef struct emission {
    uint64_t         id;
    bool             answered, ok;
    depot_err        err;
    struct emission *next;
} emission;

static channel  *daemon_side;
static pthread_t main_thread;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the two below */
static uint64_t        last_id;
static emission       *emissions;
static pthread_cond_t  answered; /* with lock */

void emit_open(channel *to_daemon)
{
    daemon_side = to_daemon;
    main_thread = pthread_self();
    clock_cond_init(&answered);
}

static void forget(const emission *e)
{
    for (emission **at = &emissions; *at != NULL; at = &(*at)->next) {
        if (*at == e) {
            *at = e->next;
            return;
        }
    }
}

bool emit_event(const char *event, const depot_json *payload, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const depot_json                         *head = depot_json_pack(arena, "{s:s}", "event", event);
    const char                               *text = depot_json_text(arena, payload);
    int64_t                                   until = depot_now_ms() + unit_remaining_ms(EMIT_MS);
    emission                                  e = { 0 };

    if (pthread_equal(pthread_self(), main_thread)) {
        return DEPOT_FAIL(err, UNAVAILABLE, "event %s cannot be emitted while the worker starts", event);
    }
    pthread_mutex_lock(&lock);
    e.id = ++last_id;
    e.next = emissions;
    emissions = &e;
    channel_send(daemon_side, WIRE_EMIT, e.id, head, text, strlen(text));
    while (!e.answered && clock_cond_wait(&answered, &lock, until)) {
    }
    forget(&e);
    pthread_mutex_unlock(&lock);
    if (!e.answered) {
        return DEPOT_FAIL(err, TIMEOUT, "no answer from the daemon to event %s", event);
    }
    if (!e.ok) {
        *err = e.err;
    }
    return e.ok;
}

void emit_answer(uint64_t id, const depot_json *head)
{
    pthread_mutex_lock(&lock);
    for (emission *e = emissions; e != NULL; e = e->next) {
        if (e->id == id) {
            e->answered = true;
            e->ok = depot_json_get(head, "number") == NULL;
            if (!e->ok) {
                wire_get_err(head, &e->err);
            }
        }
    }
    pthread_cond_broadcast(&answered);
    pthread_mutex_unlock(&lock);
}
