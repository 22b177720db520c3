/* engine.h - runs scripts on one thread with one libuv loop: each in a Lua state of its own, as a coroutine that gives
 * the loop back whenever it waits. Used by the worker process, by --check and by tests. */
#ifndef LUA_ENGINE_H
#define LUA_ENGINE_H

#include <uv.h>

#include "host/host.h"
#include "lua/sources.h"

typedef struct engine engine;
struct db_async;

typedef enum run_mode {
    RUN_HANDLER, /* name is a job type: its file's chunk runs, then the declared run(job) */
    RUN_FILE,    /* name is a file; the argument is the chunk's `...` */
    RUN_EVAL,    /* name is an expression with event and args bound; may not wait and not write */
    RUN_DECLARE, /* name is a handler file: its declarations are taken, nothing may wait or write */
} run_mode;
const char *run_mode_name(run_mode mode);
bool        run_mode_by_name(const char *name, run_mode *out);

typedef struct run_spec {
    uint64_t    id; /* not 0 */
    run_mode    mode;
    const char *name, *label;
    const char *arg; /* JSON text */
    size_t      arg_len;
    int64_t     timeout_ms;
} run_spec;

/* Jobs of one type, which take turns in a few states. The job at a place has the run id `id` + 1 + place - first. */
typedef struct range_spec {
    uint64_t          id; /* not 0 */
    const char       *name, *job_id, *token; /* see depot_script_range */
    const depot_json *job;
    const char       *args; /* ends in NUL */
    int64_t           first, n, room, timeout_ms;
} range_spec;

typedef struct engine_options {
    uv_loop_t       *loop;
    host            *host;    /* its plugins' functions are offered; NULL: none */
    const sources   *sources; /* kept by reference */
    bool             offline; /* depotctl lua: functions of plugins refuse, methods of the job only log; depot.test is there */
    struct db_async *db;      /* NULL: depot.db says that there is none */
    const depot_json *grants; /* see grant.h; NULL: none */
    int64_t          memory_max, cpu_max_ms;
    int64_t          slice_us; /* a script that computes for longer gives others their turn; 0: never */
    size_t           result_max;
    size_t           log_max; /* bytes of log text per run */
    /* Called on the loop's thread, never from inside engine_run. res is valid during the call. */
    void (*done)(void *arg, uint64_t id, const depot_script_result *res);
    /* The same for a range. Jobs that go on tell their end by `done`. */
    void (*ranged)(void *arg, uint64_t id, const depot_range_result *res);
    void (*log)(void *arg, uint64_t id, depot_level level, const char *label, const char *where, const char *text,
                size_t n, const char *fields_json);
    void (*beat)(void *arg); /* called about each 500 ms while scripts keep the loop from turning; NULL: not needed */
    void *arg;
} engine_options;

/* One per thread at a time. Fails when two functions have one name or a signature cannot be read. */
bool engine_new(const engine_options *options, engine **out, depot_err *err) DEPOT_MUST_USE;
void engine_free(engine *e); /* no run is left, and the loop has run until engine_is_idle */

/* Starts it; false: nothing was started and done is not called. */
bool   engine_run(engine *e, const run_spec *spec, depot_err *err) DEPOT_MUST_USE;
bool   engine_range(engine *e, const range_spec *spec, depot_err *err) DEPOT_MUST_USE; /* the same */
void   engine_enough(engine *e, uint64_t id); /* no more jobs of that range are to begin */
void   engine_cancel(engine *e, uint64_t id); /* a run, or those of a range: ends with CANCELED, soon */
size_t engine_running(const engine *e);
bool   engine_is_idle(const engine *e); /* no runs, and no abandoned calls on the thread pool */
size_t engine_overdue(const engine *e); /* abandoned calls that still occupy a thread 30 s past their deadline */

/* What handlers declare. */
typedef struct handler {
    const char *name, *file, *revision;
    int64_t     timeout_ms, max_attempts; /* 0: default */
    const struct depot_field *args;       /* what its arguments are; NULL: anything */
    bool                      args_extra; /* others may be given besides */
    const char *const        *needs;      /* capabilities, see grant.h; ended by NULL; NULL: none */
} handler;
/* Compiles every file, then takes the declarations of those below handlers/. Reports each fault; false if there was
 * one. */
bool   engine_load(engine *e, void (*fault)(void *arg, const char *file, int line, const depot_err *err), void *arg);
size_t engine_handlers(const engine *e);
const handler *engine_handler(const engine *e, size_t i);

#endif
