/* offline.h - scripts without a daemon: for `depotctl lua check`, `run` and `test`. */
#ifndef LUA_OFFLINE_H
#define LUA_OFFLINE_H

#include "host/host.h"
#include "lua/engine.h"

typedef struct offline_options {
    host       *host;     /* its plugins' names are known, their functions refuse */
    const char *lua_dirs; /* as for scripts_options */
    const char *file;     /* a script, perhaps from elsewhere; NULL: none */
    bool        alone;    /* of the folders only lib/ besides it */
    const char *grants;   /* JSON */
    const char *url;      /* of the database; NULL: none */
    void (*log)(void *arg, depot_level level, const char *where, const char *text, size_t n, const char *fields);
    void *arg;
} offline_options;

typedef struct offline offline;

bool offline_new(const offline_options *options, offline **out, depot_err *err) DEPOT_MUST_USE;
void offline_free(offline *o); /* NULL is fine */
/* Compiles and declares everything. Faults, and variables and functions of depot that do not exist, become problems. */
void        offline_load(offline *o, conf_problems *problems);
const char *offline_path(const offline *o); /* of the file, below the script folders: "handlers/x.lua" */
const sources *offline_sources(const offline *o);
const engine  *offline_engine(const offline *o);
/* Runs one script to its end; res lives until the next run. */
bool offline_run(offline *o, run_mode mode, const char *name, const char *arg, int64_t timeout_ms,
                 const depot_script_result **res, depot_err *err) DEPOT_MUST_USE;

#endif
