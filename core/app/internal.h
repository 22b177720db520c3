/* internal.h - the daemon's own state, for the files of core/app only. */
#ifndef APP_INTERNAL_H
#define APP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "api/api.h"
#include "app/app.h"
#include "lua/scripts.h"
#include "pg/cluster.h"
#include "run/actions.h"

enum {
    CONFS_KEPT = 16,
    APP_OVERDUE_MS = 10000, /* past drain_timeout, until a stop leaves without what does not end */
    APP_LEAVING = -1,
};

/* Somebody who waits for a reload that begins after he asked: one under way may have read the files before they were changed. */
typedef struct app_reload_wait {
    size_t number; /* of the reload, counted from 1 */
    bool   done, ok;
    char  *problems; /* what was wrong: JSON, ["file:line: error: …"]; who waits frees it; NULL: nothing */
    struct app_reload_wait *next;
} app_reload_wait;

/* One daemon in one process. Written by the life-cycle thread unless said otherwise. */
typedef struct app {
    const app_paths *paths;
    host            *host;
    host_env         env;
    pg_cluster *_Atomic cluster; /* NULL: the database is somebody else's */
    const char      *url, *direct_url, *owner_url; /* NULL: none */
    db_pool_options  pool;    /* of this process and of its workers */
    depot_arena     *arena;               /* the first configuration and everything that lives as long as the process */
    depot_arena     *confs[CONFS_KEPT];   /* reloaded configurations: old pointers stay good for a while */
    size_t           n_reloads;
    int64_t          started_ms;
    atomic_bool      running; /* everything has started */

    pthread_t       life;
    pthread_mutex_t lock; /* guards the wishes and reload* */
    pthread_cond_t  cond;
    bool            stop_wanted, reload_wanted;
    atomic_int      restarts_counted; /* of the cluster, that the metric has */
    atomic_bool     stopping;
    _Atomic int64_t leave_by_ms; /* when a stop is overdue; 0: none is under way; APP_LEAVING: it was, and the process is ending */
    size_t          reloads_begun;
    app_reload_wait *reload_waits;
    int             status;       /* exit status */
} app;

extern app *app_self; /* the one daemon of this process; NULL elsewhere */

bool app_boot(app *a, depot_err *err) DEPOT_MUST_USE;      /* boot.c: database, migrations, workers, plugins, schedules */
void app_shutdown(app *a);                                 /* boot.c: the same backwards */
bool app_reload(app *a, conf_problems *problems);          /* reload.c */
bool app_wait(app *a, int64_t ms);                         /* false: a stop is wanted */
bool app_database_start(app *a, depot_err *err) DEPOT_MUST_USE; /* database.c: reachable, migrated, roles looked at */
void app_database_stop(app *a);
scripts_options app_scripts_options(const app *a, const conf *c, depot_arena *arena); /* boot.c */
const char *const *app_migration_sets(app *a, depot_arena *arena);

extern const action_ops app_actions;    /* actions.c */
bool app_core_check(depot_ctx *ctx, depot_err *err) DEPOT_MUST_USE; /* check.c: schedules and hooks; the core's check() */
bool app_work_start(app *a, depot_err *err) DEPOT_MUST_USE; /* actions.c: events and schedules */
void app_work_stop(void);

extern const depot_route app_routes[]; /* routes.c: schedules, tasks, migrations, reload, status */
extern const size_t      app_routes_n;

#endif
