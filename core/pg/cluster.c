/* cluster.c - a cluster's life: made if needed, started, watched, started again after a crash, stopped, removed. */
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
#include "pg/parts.h"

#define START_DEFAULT_MS 60000
#define GOOD_RUN_MS 60000  /* a server that ran this long starts again without a pause */
#define PRUNE_EVERY_MS 60000
#define IMMEDIATE_MS 5000

struct pg_cluster {
    depot_arena *arena; /* of everything below that is a pointer; filled by start alone */
    pg_place     place;
    pg_programs  programs;
    pg_address   address;
    const char  *url, *owner_url, *super_url;
    int64_t      start_ms;
    bool         unsettled; /* whoever calls start and settle */
    pg_cluster_options options; /* for settle */
    int          lock_fd;

    child       server; /* the watcher's while it runs, else of whoever calls start and stop */
    pthread_t   watcher;
    bool        watched;
    int         wake_fd; /* written by stop, read by the watcher */
    atomic_bool running, stopping;
    atomic_int  restarts;
};

/* ---- the watcher ---- */

/* Sleeps until the time is up; false: stop. */
static bool watcher_pause(pg_cluster *c, int64_t ms)
{
    struct pollfd p = { .fd = c->wake_fd, .events = POLLIN };

    (void)poll(&p, 1, (int)ms);
    return !atomic_load(&c->stopping);
}

/* Until the server runs again; false: stop. */
static bool watcher_restart(pg_cluster *c, int64_t ran_ms)
{
    int64_t backoff_ms = ran_ms > GOOD_RUN_MS ? 0 : backoff_next(0);

    while (watcher_pause(c, backoff_ms)) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        depot_err err = { 0 };
        if (pg_server_clear(arena, &c->place, &c->address, &err) &&
            pg_server_start(arena, &c->place, &c->programs, &c->address, c->start_ms, &c->server, &err)) {
            atomic_fetch_add(&c->restarts, 1);
            atomic_store(&c->running, true);
            log_write("pg", DEPOT_LOG_WARN, "pg.restarted", "PostgreSQL runs again (pid %d)", (int)c->server.pid);
            return true;
        }
        if (!atomic_load(&c->stopping)) {
            log_err("pg", DEPOT_LOG_ERROR, "pg.restart_failed", &err);
        }
        backoff_ms = backoff_next(backoff_ms);
    }
    return false;
}

static void watcher_loop(pg_cluster *c)
{
    int64_t began_ms = depot_now_ms();

    while (!atomic_load(&c->stopping)) {
        struct pollfd p[] = { { .fd = c->server.pidfd, .events = POLLIN }, { .fd = c->wake_fd, .events = POLLIN } };
        int           status = 0;
        if (poll(p, DEPOT_N(p), PRUNE_EVERY_MS) == 0) {
            DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
            pg_server_prune_logs(arena, &c->place);
        }
        if (atomic_load(&c->stopping) || !child_wait(&c->server, 0, &status)) {
            continue;
        }
        atomic_store(&c->running, false);
        log_write("pg", DEPOT_LOG_ERROR, "pg.ended", "PostgreSQL ended unexpectedly (%s %d): it is started again",
                  status >= 128 ? "signal" : "status", status >= 128 ? status - 128 : status);
        if (!watcher_restart(c, depot_now_ms() - began_ms)) {
            return;
        }
        began_ms = depot_now_ms();
    }
}

static void *watcher_run(void *arg)
{
    pg_cluster *c = arg;
    unit        u = { .deadline_ms = INT64_MAX, .canceled = &c->stopping };
    sigset_t    all;

    sigfillset(&all);
    if (pthread_sigmask(SIG_BLOCK, &all, NULL) != 0) {
        abort(); /* cannot fail with these arguments */
    }
    unit_enter(&u);
    watcher_loop(c);
    unit_leave(&u);
    return NULL;
}

static bool watcher_start(pg_cluster *c, depot_err *err)
{
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake_fd < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot make an event descriptor");
    }
    errno = pthread_create(&c->watcher, NULL, watcher_run, c);
    if (errno != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot start a thread");
    }
    c->watched = true;
    return true;
}

/* ---- start ---- */

/* Programs that fit the cluster that is there, or the newest for a new one. */
static bool choose_programs(pg_cluster *c, const pg_cluster_options *options, bool *out_is_new, depot_err *err)
{
    int major = 0;

    if (!pg_major_of(c->arena, c->place.data, &major, err) ||
        !pg_find_programs(c->arena, options->bindir, major, &c->programs, err)) {
        return false;
    }
    if (major != 0 && major != c->programs.major) {
        DEPOT_FAIL(err, CONFIG, "the cluster in %s is of PostgreSQL %d, the programs in %s are of %s", c->place.data,
                   major, c->programs.bindir, c->programs.version);
        return depot_hint(err, "install postgresql-%d, or move the cluster over with pg_upgrade", major);
    }
    *out_is_new = major == 0;
    return true;
}

/* What an earlier process left in this folder that was killed: a throw-away cluster, or a new one that never settled. */
static bool cluster_empty(pg_cluster *c, depot_err *err)
{
    if (!c->place.throwaway) {
        log_write("pg", DEPOT_LOG_WARN, "pg.half_made", "%s was never finished: it is made anew", c->place.data);
    }
    return pg_server_end_all(c->arena, c->place.data, err) && depot_remove_tree(c->place.data, err);
}

static bool cluster_prepare(pg_cluster *c, const pg_cluster_options *options, pg_secrets *secrets, depot_err *err)
{
    bool is_new = false;

    if (!unit_check(err) || !pg_place_find(c->arena, options->dir, options->user, options->throwaway, &c->place, err) ||
        !pg_place_lock(&c->place, &c->lock_fd, err) ||
        ((c->place.throwaway || pg_unsettled(c->arena, &c->place)) && !cluster_empty(c, err)) ||
        !choose_programs(c, options, &is_new, err) ||
        !pg_secrets_load(c->arena, &c->place, secrets, err) ||
        !pg_address_find(c->arena, &c->place, options->tcp, &c->address, err) ||
        !pg_server_clear(c->arena, &c->place, &c->address, err) ||
        !pg_settings_write(&c->place, options, &c->address, is_new ? PG_UNSYNCED : PG_SETTLED, err)) {
        return false;
    }
    c->unsettled = is_new && !c->place.throwaway;
    if (is_new) {
        return pg_init(c->arena, &c->place, &c->programs, secrets, err);
    }
    return !secrets->super_is_new || pg_reset_super(c->arena, &c->place, &c->programs, secrets, err);
}

static bool cluster_bring_up(pg_cluster *c, const pg_cluster_options *options, depot_err *err)
{
    pg_secrets secrets = { 0 };

    if (!cluster_prepare(c, options, &secrets, err)) {
        return false;
    }
    const char *super_postgres = pg_url(c->arena, &c->address, PG_SUPER, secrets.super, "postgres");
    c->super_url = pg_url(c->arena, &c->address, PG_SUPER, secrets.super, PG_DATABASE);
    c->owner_url = pg_url(c->arena, &c->address, PG_OWNER, secrets.owner, PG_DATABASE);
    c->url = pg_url(c->arena, &c->address, PG_ROLE, secrets.role, PG_DATABASE);
    if (!pg_server_start(c->arena, &c->place, &c->programs, &c->address, c->start_ms, &c->server, err) ||
        !pg_furnish(c->arena, super_postgres, c->super_url, &secrets, err)) {
        return false;
    }
    pg_server_prune_logs(c->arena, &c->place);
    atomic_store(&c->running, true);
    return (options->settle_later || pg_cluster_settle(c, err)) && watcher_start(c, err);
}

bool pg_cluster_start(const pg_cluster_options *options, pg_cluster **out, depot_err *err)
{
    pg_cluster *c = depot_xalloc(sizeof(*c));

    c->arena = depot_arena_new();
    c->options = *options;
    c->start_ms = options->start_timeout_ms > 0 ? options->start_timeout_ms : START_DEFAULT_MS;
    c->lock_fd = -1;
    c->wake_fd = -1;
    c->server.pidfd = -1;
    if (!cluster_bring_up(c, options, err)) {
        pg_cluster_free(c);
        return false;
    }
    *out = c;
    return true;
}

/* ---- the rest ---- */

bool pg_cluster_settle(pg_cluster *c, depot_err *err)
{
    if (c->unsettled && !pg_settle(c->arena, &c->place, &c->options, &c->address, c->super_url, err)) {
        return depot_wrap(err, "put the new cluster on the disk");
    }
    c->unsettled = false;
    return true;
}

void pg_cluster_stop(pg_cluster *c, int64_t grace_ms)
{
    static const uint64_t one = 1;

    atomic_store(&c->stopping, true);
    if (c->watched) {
        /* A full counter would have woken it as well. */
        if (write(c->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN) {
            abort(); /* cannot fail on an event descriptor of ours */
        }
        if (pthread_join(c->watcher, NULL) != 0) {
            abort(); /* it is ours and was not joined before */
        }
        c->watched = false;
    }
    if (c->server.pid > 0) {
        pg_server_stop(&c->place, &c->server, grace_ms);
    }
    atomic_store(&c->running, false);
}

void pg_cluster_free(pg_cluster *c)
{
    depot_err err = { 0 };

    if (c == NULL) {
        return;
    }
    pg_cluster_stop(c, c->place.throwaway ? 0 : IMMEDIATE_MS);
    if (c->address.socket_dir != NULL) {
        pg_address_drop(&c->place, &c->address);
    }
    /* Only what was ours: without the lock somebody else runs it. */
    if (c->place.throwaway && c->lock_fd >= 0 && !pg_place_remove(&c->place, &err)) {
        log_err("pg", DEPOT_LOG_WARN, "pg.not_removed", &err);
    }
    depot_fd_close(&c->lock_fd);
    depot_fd_close(&c->wake_fd);
    depot_arena_free(c->arena);
    free(c);
}

const char *pg_cluster_url(const pg_cluster *c)
{
    return c->url;
}

const char *pg_cluster_owner_url(const pg_cluster *c)
{
    return c->owner_url;
}

const char *pg_cluster_super_url(const pg_cluster *c)
{
    return c->super_url;
}

bool pg_cluster_running(const pg_cluster *c)
{
    return atomic_load(&c->running);
}

int pg_cluster_restarts(const pg_cluster *c)
{
    return atomic_load(&c->restarts);
}

const char *pg_cluster_version(const pg_cluster *c)
{
    return c->programs.version;
}
