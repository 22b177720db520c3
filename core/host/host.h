/* host.h - plugins: loading, ABI, order, tables, services, life cycle; and what the other core layers know of a plugin. */
#ifndef HOST_HOST_H
#define HOST_HOST_H

#include "conf/conf.h"
#include "db/pool.h"
#include "depot/plugin.h"
#include "run/executor.h"
#include "run/loop.h"

typedef struct host host;

typedef enum plugin_state { PLUGIN_LOADED, PLUGIN_STARTED, PLUGIN_FAILED, PLUGIN_STOPPED } plugin_state;

/* One loaded plugin; the core itself is the first one, named "core". Tables are normalised to this depotd's row sizes. */
struct depot_ctx {
    host              *host;
    const char        *name, *file; /* file NULL: built in */
    depot_plugin       desc;        /* zero filled past what the plugin was built with */
    const depot_field *options;     size_t n_options;
    const depot_section *sections;  size_t n_sections;
    const depot_need  *needs;       size_t n_needs;
    const depot_service *services;  size_t n_services;
    const depot_event_row *events;  size_t n_events;
    const depot_subscription *subscriptions; size_t n_subscriptions;
    const depot_task_row *tasks;    size_t n_tasks;
    const depot_route *routes;      size_t n_routes;
    const depot_lua_fn *lua;        size_t n_lua;
    const depot_metric *metrics;    size_t n_metrics;
    uint16_t           abi_major, abi_minor;
    bool               required;
    _Atomic plugin_state state;
    depot_err          failure;     /* state FAILED: why; written before state */
    void              *user;        /* depot_set_state */
};

/* What the layers below main share; filled in by main before plugins start. One per process. */
typedef struct host_env {
    const char *state_dir, *node, *data_dir, *conf_dir, *plugin_dir; /* absolute */
    const char *lua_dirs;    /* script folders, colon separated, the first one wins */
    bool        worker;      /* this is a worker process */
    loop       *loop;        /* daemon only */
    executor   *executor;    /* daemon; a small one in workers */
    /* The rest comes while requests are answered already, and so is read by several threads. */
    _Atomic(db_pool *)     db;       /* NULL until the database section is known */
    _Atomic(db_listener *) listener; /* NULL: none */
    /* Higher layers hook in here; NULL means that the process has no such thing. */
    bool (*_Atomic emit)(const char *event, const depot_json *payload, depot_err *err);
    const struct host_scripts *_Atomic scripts; /* implemented in core/lua */
} host_env;

typedef struct host_scripts {
    bool (*run)(const depot_script *script, uint64_t *out_id, depot_err *err);
    bool (*run_range)(const depot_script_range *range, uint64_t *out_id, int64_t *out_room, depot_err *err);
    void (*enough)(uint64_t id);
    void (*cancel)(uint64_t id);
    int64_t (*capacity)(void);
    void (*on_change)(void (*fn)(void *arg), void *arg);
    bool (*handler_find)(depot_arena *arena, const char *name, depot_handler *out);
    bool (*handler_next)(depot_arena *arena, size_t *it, depot_handler *out);
} host_scripts;

host     *host_new(host_env *env, const depot_plugin *core); /* env is kept by reference and may be filled later */
void      host_free(host *h);
host_env *host_environment(host *h);
/* Loads <plugin_dir>/<name>.so (or file). ABI and row faults fail with ABI, naming both versions. */
bool host_load(host *h, const char *name, const char *file, bool required, depot_err *err) DEPOT_MUST_USE;
/* Loads what raw's [plugin NAME] sections name; problems carry file:line of the section. */
void host_load_all(host *h, const conf_raw *raw, conf_problems *problems);
/* All sections that core and plugins declare, for conf_build. */
const conf_kind *host_kinds(host *h, depot_arena *arena, size_t *out_n);
void        host_set_conf(host *h, const conf *c); /* in force from here on */
const conf *host_conf(host *h);
bool host_check(host *h, const conf *c, conf_problems *problems); /* every plugin's check() against c */
/* From inside a check() that goes on and in the end returns true: one more problem, with the place of [kind name] option.
 * name, option: NULL if there is none. On the thread of host_check. */
void host_check_problem(const char *kind, const char *name, const char *option, const depot_err *err);
bool host_resolve(host *h, depot_err *err) DEPOT_MUST_USE;        /* services and order; cycles and missing ones fail */
bool host_start(host *h, bool early, depot_err *err) DEPOT_MUST_USE; /* false: a required plugin failed */
void host_reload(host *h);
void host_drain(host *h);
/* Reverse order; like host_drain, in a worker process only plugins that have a worker role. In the daemon the main loop turns
 * while this runs, on another thread. */
void host_stop(host *h);
const char *host_leaving(host *h); /* the plugin whose drain or stop is running, NULL: none; any thread */

size_t     host_count(const host *h);
depot_ctx *host_plugin(host *h, size_t i); /* in order of start; 0 is the core */
depot_ctx *host_find(host *h, const char *name);
const void *host_service(host *h, const char *service, uint32_t version, depot_err *err);
const depot_task_row *host_task(host *h, const char *name, depot_ctx **out_ctx);
const depot_event_row *host_event(host *h, const char *name);
depot_json *host_list(host *h, depot_arena *arena);                      /* for plugin list */
depot_json *host_show(host *h, depot_arena *arena, const char *name);    /* everything it offers; NULL: no such plugin */
depot_json *host_health(host *h, depot_arena *arena);                    /* {degraded: [{plugin, what, why}]} */

#endif
