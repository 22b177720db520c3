/* scripts.h - operators' Lua seen from the daemon: supervised worker processes, work handed to them, results back.
 *
 * No Lua runs in the daemon. A worker is `depotd --worker` with a socket pair on descriptor 3; frames are defined in
 * wire.h. There is one set of workers in a process: these functions share one mutable global. */
#ifndef LUA_SCRIPTS_H
#define LUA_SCRIPTS_H

#include "host/host.h"

typedef struct scripts_options {
    const char            *exe;         /* this program */
    const char            *lua_dirs;    /* colon separated: site folder first, stock folder last */
    int64_t                workers;     /* processes */
    int64_t                concurrency; /* scripts at a time per worker (coroutines) */
    int64_t                memory_max;  /* bytes per script; those of one worker together may have four times that */
    int64_t                cpu_max_ms;  /* CPU time between two waits */
    int64_t                default_timeout_ms;
    const char            *grants; /* what scripts may reach outside, as JSON, see grant.h; NULL: nothing */
    const db_pool_options *db; /* what workers connect to; NULL: they have no database */
    const conf            *conf; /* what workers run with; NULL: they are given none */
    const char            *values; /* of it, as a text to compare; NULL: nothing is the same */
} scripts_options;

/* Starts the workers, which a thread of its own watches; each loads plugins in their worker role and declares the
 * handlers of lua/handlers. Blocks until the first worker is ready or has failed to load (LUA_SYNTAX with file:line),
 * or the unit of work is canceled; on failure nothing keeps running. Options are copied. */
bool scripts_start(host *h, const scripts_options *options, const host_scripts **out, depot_err *err) DEPOT_MUST_USE;
/* New revision of all files: every worker is replaced by a fresh one once a first one has loaded the new set; running
 * scripts finish on the old one. Where neither a file nor a value has changed the workers stay. Blocks likewise. false: the old set
 * stays in force. */
bool scripts_reload(const scripts_options *options, depot_err *err) DEPOT_MUST_USE;
/* Waits up to grace_ms for running scripts, then cancels them, then ends the workers. Blocks; nothing may be called
 * after. */
void        scripts_stop(int64_t grace_ms);
depot_json *scripts_status(depot_arena *arena); /* [{worker, pid, state, running, done, rss_bytes, revision}] */
/* Evaluates an expression such as a hook's `when` with each member of the object arg_json as a variable (`event`,
 * `args`). It cannot wait and not write. done's json is true or false. */
bool scripts_eval(const char *expression, const char *arg_json, int64_t timeout_ms,
                  void (*done)(void *arg, const depot_script_result *res), void *done_arg,
                  depot_err *err) DEPOT_MUST_USE;

/* The worker process. worker_greet comes first of all: it takes over what must stand neither in argv nor in the
 * process's first environment (the daemon's own variables; *out_conf, for conf_unpack: the configuration in force, as
 * the files may be half edited when a worker is replaced; "" if there is none). worker_main starts the plugins' worker
 * role and serves until the daemon closes the socket pair; it returns the exit status. */
bool worker_greet(int fd, const char **out_conf, depot_err *err) DEPOT_MUST_USE;
int  worker_main(host *h, int fd);

/* Compiles every script below dirs and runs the declarations of handlers/ in a sandbox: for `depotd --check`. Not for
 * the daemon: scripts_reload does the same in a worker. Needs that the grants (JSON) do not meet become lines of
 * warnings. */
bool scripts_check(const char *lua_dirs, const char *grants, conf_problems *problems, depot_buf *warnings);
/* The LuaLS annotation file for every function of every plugin and of the core. */
void scripts_types(host *h, depot_buf *out);

#endif
