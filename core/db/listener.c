/* listener.c - LISTEN on a connection and a thread of its own. Notifications that were sent while there was no
 * connection are lost by nature: after each (re)connect every listener is told to look for itself. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unit.h"
#include "db/backoff.h"
#include "db/conn.h"
#include "db/pool.h"

#define CONNECT_MS 10000
#define PROBE_EVERY_MS 30000 /* a connection whose other end vanished shows by a question only */
#define PROBE_MS 10000
#define CHANNEL_MOST 63 /* the server cuts longer names */

typedef struct subscription {
    struct subscription *next;
    char                *channel;
    void (*fn)(void *arg, const char *payload);
    void                *arg;
    bool                 told; /* listens, and was told to look; the thread's own */
} subscription;

struct db_listener {
    char           *url, *name;
    pthread_t       thread;
    int             wake_fd;
    atomic_bool     stop, live;
    pthread_mutex_t lock; /* guards the links of the list, which only grows */
    subscription   *first;
};

static subscription *next_of(db_listener *l, const subscription *s)
{
    pthread_mutex_lock(&l->lock);
    subscription *next = s == NULL ? l->first : s->next;
    pthread_mutex_unlock(&l->lock);
    return next;
}

static void dispatch(db_listener *l, depot_db *db)
{
    for (PGnotify *n = PQnotifies(db->conn); n != NULL; n = PQnotifies(db->conn)) {
        for (subscription *s = next_of(l, NULL); s != NULL; s = next_of(l, s)) {
            if (strcmp(s->channel, n->relname) == 0) {
                s->fn(s->arg, n->extra);
            }
        }
        PQfreemem(n);
    }
}

/* Channels that are new, or all of them on a new connection. */
static bool listen_new(db_listener *l, depot_db *db, depot_err *err)
{
    for (subscription *s = next_of(l, NULL); s != NULL; s = next_of(l, s)) {
        DEPOT_AUTO(depot_buf_free) depot_buf sql = { 0 };
        if (s->told) {
            continue;
        }
        char *quoted = PQescapeIdentifier(db->conn, s->channel, strlen(s->channel));
        if (quoted == NULL) {
            return DEPOT_FAIL(err, INVALID, "channel \"%s\" cannot be quoted", s->channel);
        }
        depot_buf_addf(&sql, "listen %s", quoted);
        PQfreemem(quoted);
        if (!depot_db_sql(db, NULL, sql.data, DEPOT_NO_VALS, NULL, err)) {
            return depot_wrap(err, "listen to %s", s->channel);
        }
        s->told = true;
        s->fn(s->arg, NULL);
    }
    return true;
}

static bool probe(depot_db *db, depot_err *err)
{
    unit u = { .deadline_ms = depot_now_ms() + PROBE_MS };

    unit_enter(&u);
    bool good = depot_db_sql(db, NULL, "select 1", DEPOT_NO_VALS, NULL, err);
    unit_leave(&u);
    return good;
}

static void drain_wake(db_listener *l)
{
    uint64_t count;

    if (read(l->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR) {
        abort(); /* cannot fail on an event descriptor of ours */
    }
}

/* Serves one connection until it breaks (false with err) or the end is wanted (true). */
static bool serve(db_listener *l, depot_db *db, depot_err *err)
{
    int64_t probe_ms = depot_now_ms() + PROBE_EVERY_MS;

    while (!atomic_load(&l->stop)) {
        if (!listen_new(l, db, err)) {
            return false;
        }
        dispatch(l, db);
        struct pollfd p[] = { { .fd = PQsocket(db->conn), .events = POLLIN }, { .fd = l->wake_fd, .events = POLLIN } };
        int64_t       left = probe_ms - depot_now_ms();
        (void)poll(p, DEPOT_N(p), (int)(left > 0 ? left : 0));
        drain_wake(l);
        if (PQconsumeInput(db->conn) != 1) {
            return DEPOT_FAIL(err, DB_DOWN, "the connection to PostgreSQL was lost");
        }
        if (depot_now_ms() >= probe_ms) {
            if (!probe(db, err)) {
                return false;
            }
            probe_ms = depot_now_ms() + PROBE_EVERY_MS;
        }
    }
    return true;
}

static bool connect_and_serve(db_listener *l, int64_t *backoff_ms, depot_err *err)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;

    if (!db_connect(l->url, l->name, CONNECT_MS, &db, err)) {
        return false;
    }
    if (db->pooled) {
        DEPOT_FAIL(err, CONFIG, "LISTEN does not work through a connection pooler");
        return depot_hint(err, "set [database] direct_url to the server itself");
    }
    for (subscription *s = next_of(l, NULL); s != NULL; s = next_of(l, s)) {
        s->told = false;
    }
    *backoff_ms = 0;
    atomic_store(&l->live, true);
    log_write("db", DEPOT_LOG_DEBUG, "db.listening", "listening to notifications");
    bool good = serve(l, db, err);
    atomic_store(&l->live, false);
    return good;
}

static void *listener_run(void *arg)
{
    db_listener *l = arg;
    unit         u = { .deadline_ms = INT64_MAX, .canceled = &l->stop };
    sigset_t     all;
    int64_t      backoff_ms = 0;

    sigfillset(&all);
    if (pthread_sigmask(SIG_BLOCK, &all, NULL) != 0) {
        abort(); /* cannot fail with these arguments */
    }
    unit_enter(&u);
    while (!atomic_load(&l->stop)) {
        depot_err     err = { 0 };
        struct pollfd p = { .fd = l->wake_fd, .events = POLLIN };
        if (connect_and_serve(l, &backoff_ms, &err) || atomic_load(&l->stop)) {
            break;
        }
        log_err("db", DEPOT_LOG_WARN, "db.listen_lost", &err);
        backoff_ms = backoff_next(backoff_ms);
        drain_wake(l); /* a new channel is no reason to hurry, an end is */
        (void)poll(&p, 1, (int)backoff_jittered(backoff_ms));
    }
    unit_leave(&u);
    return NULL;
}

db_listener *db_listener_new(const char *url, const char *name)
{
    db_listener *l = depot_xalloc(sizeof(*l));

    l->url = depot_xstrdup(url);
    l->name = depot_xstrdup(name == NULL ? "depotd" : name);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake_fd < 0 || pthread_mutex_init(&l->lock, NULL) != 0 ||
        pthread_create(&l->thread, NULL, listener_run, l) != 0) {
        abort(); /* no descriptor or thread left at start: nothing else would work either */
    }
    return l;
}

static void wake(db_listener *l)
{
    static const uint64_t one = 1;

    /* A full counter wakes as well. */
    if (write(l->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN) {
        abort(); /* cannot fail on an event descriptor of ours */
    }
}

bool db_listener_add(db_listener *l, const char *channel, void (*fn)(void *arg, const char *payload), void *arg,
                     depot_err *err)
{
    size_t n = strlen(channel);

    if (n == 0 || n > CHANNEL_MOST || !depot_utf8_valid(channel, n)) {
        return DEPOT_FAIL(err, INVALID, "\"%.80s\" cannot be a channel: 1 to %d bytes are", channel, CHANNEL_MOST);
    }
    subscription *s = depot_xalloc(sizeof(*s));
    s->channel = depot_xstrdup(channel);
    s->fn = fn;
    s->arg = arg;
    pthread_mutex_lock(&l->lock);
    subscription **end = &l->first;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = s;
    pthread_mutex_unlock(&l->lock);
    wake(l);
    return true;
}

bool db_listener_live(const db_listener *l)
{
    return atomic_load(&l->live);
}

void db_listener_free(db_listener *l)
{
    if (l == NULL) {
        return;
    }
    atomic_store(&l->stop, true);
    wake(l);
    if (pthread_join(l->thread, NULL) != 0) {
        abort(); /* it is ours and was not joined before */
    }
    while (l->first != NULL) {
        subscription *s = l->first;
        l->first = s->next;
        free(s->channel);
        free(s);
    }
    pthread_mutex_destroy(&l->lock);
    close(l->wake_fd);
    free(l->url);
    free(l->name);
    free(l);
}
