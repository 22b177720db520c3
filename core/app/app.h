/* app.h - what depotd, its workers and depotctl share at start: where things are, the core's own tables, the configuration. */
#ifndef APP_APP_H
#define APP_APP_H

#include "host/host.h"

typedef struct app_options {
    const char *state_dir, *conf_dir; /* NULL: the default of the place that the program runs from */
} app_options;

typedef struct app_paths {
    const char *exe;        /* this program */
    const char *state_dir;  /* /var/lib/depotd, in the tree ./var */
    const char *conf_dir;   /* /etc/depotd/conf.d, in the tree ./conf.d */
    const char *plugin_dir; /* <libdir>/depotd/plugins, in the tree <build>/plugins */
    const char *data_dir;   /* <datadir>/depotd with sql/ and lua/, in the tree its top */
    const char *lua_dirs;   /* <conf_dir>/../lua if it exists, then <data_dir>/lua; colon separated */
    bool        in_tree;    /* found a file `tree` beside the program */
} app_paths;
bool app_find_paths(depot_arena *arena, const app_options *options, app_paths *out, depot_err *err) DEPOT_MUST_USE;

/* The core as the first plugin: its sections, routes, tasks, events and metrics. */
const depot_plugin *app_core(void);

/* [daemon], [database], [log], [lua] as structs. */
typedef struct app_daemon_options {
    const char *node;
    int64_t     threads, queue, drain_timeout;
    const char *token;
} app_daemon_options;
typedef struct app_database_options {
    const char *url, *direct_url, *owner_url, *bindir, *service_user;
    int64_t     max_connections, connect_timeout, acquire_timeout, statement_timeout, lock_timeout, idle_in_transaction_timeout;
    int64_t     wal_keep;
    bool        migrate, tcp;
} app_database_options;
typedef struct app_log_options {
    int64_t level, format;
} app_log_options;
typedef struct app_lua_options {
    int64_t            workers, concurrency, memory, cpu, timeout;
    const char *const *grant;
} app_lua_options;
/* [handler NAME] */
typedef struct app_handler_options {
    const char *const *types, *const *grant;
} app_handler_options;
/* What scripts may reach outside, as core/lua/grant.h wants it. */
const char *app_grants(depot_arena *arena, const conf *c);

/* A host with every plugin that conf.d names, and the configuration built and checked; problems are collected, not fatal.
 * env must outlive the host; its paths are filled in. The configuration lives in arena. */
host *app_open(depot_arena *arena, const app_paths *paths, host_env *env, conf_problems *problems, const conf **out_conf);
/* The same from what the daemon gave to its worker: checked already, so that only plugins can be a problem. */
host *app_open_packed(depot_arena *arena, const app_paths *paths, host_env *env, const char *packed, conf_problems *problems,
                      const conf **out_conf);
/* Reads and checks conf.d again against the host's loaded plugins; NULL when there are problems. */
const conf *app_reread(depot_arena *arena, host *h, const app_paths *paths, conf_problems *problems);

/* Runs a task by name with arguments validated against its row, on the calling thread; *out_result may stay NULL. */
bool app_run_task(host *h, const char *name, const depot_json *args, depot_arena *arena, const depot_json **out_result,
                  depot_err *err) DEPOT_MUST_USE;

/* Secrets are in memory: no core files of this process, no peeking by other processes of the same user. */
void app_protect(void);
/* The daemon from lock to last log line; returns the exit status. */
int app_daemon(const app_paths *paths);
/* A worker process; descriptor 3 leads to the daemon. */
int app_worker(const app_paths *paths);
/* depotd --check: prints every problem of conf.d, plugins and scripts; 0 or 78. */
int app_check(const app_paths *paths);

#endif
