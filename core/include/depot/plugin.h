/* depot/plugin.h - the one header that a plugin includes.
 *
 * A plugin is a .so with one exported constant, DEPOT_PLUGIN(name) { ... }: its tables and its life cycle. The core
 * reads the tables before it runs any of the plugin's code.
 *
 * ABI: the major is part of the entry symbol's name; fields and rows only grow at the end, which raises the minor;
 * a plugin built for a newer minor than the daemon's is refused. docs/plugins.md walks through a plugin. */
#ifndef DEPOT_PLUGIN_H
#define DEPOT_PLUGIN_H

#include "depot/base.h"
#include "depot/db.h"
#include "depot/http.h"
#include "depot/json.h"
#include "depot/table.h"

#define DEPOT_ABI_MAJOR 1u
#define DEPOT_ABI_MINOR 2u

enum {
    DEPOT_PLUGIN_EARLY = 1u << 0, /* starts before the database is there, and so must not need it to start */
};

typedef struct depot_plugin {
    const char *version, *summary;
    uint32_t    flags;

    size_t options_size; /* of the struct that [plugin NAME] fills */
    DEPOT_TABLE_OF(depot_field) options;
    DEPOT_TABLE_OF(depot_section) sections;
    DEPOT_TABLE_OF(depot_need) needs;
    DEPOT_TABLE_OF(depot_service) services;
    DEPOT_TABLE_OF(depot_event_row) events;
    DEPOT_TABLE_OF(depot_subscription) subscriptions;
    DEPOT_TABLE_OF(depot_task_row) tasks;
    DEPOT_TABLE_OF(depot_route) routes;
    DEPOT_TABLE_OF(depot_lua_fn) lua;
    DEPOT_TABLE_OF(depot_metric) metrics;
    const char *migrations; /* folder below sql/, or NULL */

    /* All optional, all on a thread that may block. check sees a configuration that is not in force yet. A start or worker that
     * returns false has undone what it began: drain and stop are not called then. In a worker process they are called for
     * plugins with a worker function. */
    bool (*check)(depot_ctx *ctx, depot_err *err);  /* rules between options; opens nothing */
    bool (*start)(depot_ctx *ctx, depot_err *err);  /* daemon: begin work */
    bool (*worker)(depot_ctx *ctx, depot_err *err); /* worker process: make services and Lua functions usable */
    bool (*reload)(depot_ctx *ctx, depot_err *err); /* depot_options() and sections are the new ones; false keeps going */
    void (*drain)(depot_ctx *ctx);                  /* take no new work; called before stop */
    void (*stop)(depot_ctx *ctx);                   /* finish or hand back work; in reverse order of start */
} depot_plugin;

/* What the core looks for: the one exported symbol of a plugin. */
typedef struct depot_entry {
    uint16_t            abi_major, abi_minor;
    uint32_t            struct_size; /* of depot_plugin when the plugin was built */
    uint32_t            field_size;  /* of depot_field then: for arrays that end in a row without a name */
    const char         *name;
    const depot_plugin *plugin;
} depot_entry;

/* DEPOT_PLUGIN(demo) { .version = "1.0", .summary = "...", .options = DEPOT_TABLE(options), ... }; */
#define DEPOT_PLUGIN(id)                                                                                               \
    static const depot_plugin          depot_plugin_##id;                                                              \
    DEPOT_API extern const depot_entry depot_plugin_abi1;                                                              \
    const depot_entry depot_plugin_abi1 = { DEPOT_ABI_MAJOR, DEPOT_ABI_MINOR, sizeof(depot_plugin),                   \
                                            sizeof(depot_field), #id, &depot_plugin_##id };                            \
    static const depot_plugin depot_plugin_##id =

/* ---- itself and its configuration ---- */
DEPOT_API const void *depot_options(depot_ctx *ctx);                 /* the struct of [plugin NAME]; valid until the next reload
                                                                        has returned and the running unit of work has ended */
DEPOT_API const void *depot_section_get(depot_ctx *ctx, const char *kind, const char *name); /* NULL if there is none */
/* Every instance of a kind in order of the files: for (it = 0; (p = depot_section_next(ctx, "queue", &it, &name));) */
DEPOT_API const void *depot_section_next(depot_ctx *ctx, const char *kind, size_t *it, const char **out_name);
DEPOT_API void  depot_set_state(depot_ctx *ctx, void *state); /* the plugin's own struct, for its functions to find */
DEPOT_API void *depot_state(depot_ctx *ctx);
DEPOT_API const char *depot_state_dir(depot_ctx *ctx); /* absolute; durable files of this daemon go below it */
DEPOT_API const char *depot_node(depot_ctx *ctx);      /* name of this daemon, unique among those that share a database */
DEPOT_API bool depot_in_worker(depot_ctx *ctx);

/* ---- other plugins: services and events ---- */
/* The service's struct, or NULL with err filled. Never call it before start (daemon) or worker (worker process). */
DEPOT_API const void *depot_require(depot_ctx *ctx, const char *service, uint32_t version, depot_err *err);
/* Durable hooks of this event are committed when this returns true; the others run afterwards. Blocks. */
DEPOT_API bool depot_emit(depot_ctx *ctx, const char *event, const depot_json *payload, depot_err *err) DEPOT_MUST_USE;
DEPOT_API const char       *depot_event_name(const depot_event *event);
DEPOT_API const char       *depot_event_id(const depot_event *event); /* UUID */
DEPOT_API const depot_json *depot_event_payload(const depot_event *event);

/* ---- work ---- */
/* The deadline of the running request, job or task as depot_now_ms(); waits of the core observe it. INT64_MAX: none. */
DEPOT_API int64_t           depot_deadline(void);
DEPOT_API bool              depot_canceled(void); /* the daemon drains or somebody canceled the running unit of work */
DEPOT_API depot_arena      *depot_task_arena(depot_task *task);
DEPOT_API const depot_json *depot_task_args(depot_task *task);
DEPOT_API void              depot_task_result(depot_task *task, const depot_json *result); /* recorded with the run */

/* Runs fn(arg) on the executor; refused with UNAVAILABLE when its queue is full. */
DEPOT_API bool depot_submit(depot_ctx *ctx, void (*fn)(depot_ctx *ctx, void *arg), void *arg, depot_err *err) DEPOT_MUST_USE;

/* A long-running loop on a thread of its own. fn works until depot_loop_wait says stop; when it fails it is logged and
 * started again with backoff. */
typedef struct depot_loop depot_loop;
DEPOT_API depot_loop *depot_loop_start(depot_ctx *ctx, const char *name,
                                       bool (*fn)(depot_ctx *ctx, depot_loop *loop, void *arg, depot_err *err), void *arg);
DEPOT_API bool depot_loop_wait(depot_loop *loop, int64_t timeout_ms); /* sleeps until woken; false: stop now */
DEPOT_API void depot_loop_wake(depot_loop *loop);                     /* any thread; never lost */
DEPOT_API void depot_loop_stop(depot_loop *loop);                     /* wakes it and waits for its end; frees */

/* Runs a program: argv[0] absolute, no shell, clean environment (PATH, LANG, TZ and `env`), own process group that is
 * killed as a whole at the deadline. */
typedef struct depot_exec {
    const char *const *argv;
    const char *const *env; /* "NAME=value", NULL terminated; NULL: none */
    const char        *cwd; /* NULL: the state folder */
    const void        *input;
    size_t             input_len;
    size_t             output_max; /* bytes of stdout and of stderr that are kept; 0: 1 MiB */
    int64_t            timeout_ms; /* 0: until the unit of work's deadline, at most 60 s */
} depot_exec;
typedef struct depot_exec_result {
    int    status; /* exit status; 128 + signal */
    char  *out, *err_out;
    size_t out_len, err_len;
    bool   truncated;
} depot_exec_result;
/* false: could not be run, or killed at the deadline (TIMEOUT). A non-zero status is the caller's to judge. */
DEPOT_API bool depot_exec_run(depot_ctx *ctx, depot_arena *arena, const depot_exec *exec, depot_exec_result *out,
                              depot_err *err) DEPOT_MUST_USE;

/* ---- scripts (daemon side) ---- */
/* What the scripts have declared with depot.job(name){...}. */
typedef struct depot_handler {
    const char *name;     /* job type */
    const char *file;     /* "handlers/store.lua" */
    const char *revision; /* SHA-256 of the source, hex */
    int64_t     timeout_ms;
    int64_t     max_attempts; /* 0: the queue's */
} depot_handler;
DEPOT_API bool depot_handler_find(depot_ctx *ctx, depot_arena *arena, const char *name, depot_handler *out);
DEPOT_API bool depot_handler_next(depot_ctx *ctx, depot_arena *arena, size_t *it, depot_handler *out);

typedef struct depot_script_result {
    bool        ok;
    const char *json; /* what the script returned, as JSON text; "null" when it failed */
    depot_err   err;  /* code, message, hint; file and line inside the script are in `where` */
    const char *where; /* "handlers/store.lua:12" or "" */
    const char *trace; /* traceback or "" */
    int64_t     cpu_us, wall_us;
    bool        snoozed; /* a job that ended itself by job:snooze: again after delay_ms; ok is false */
    int64_t     delay_ms;
    const char *log; /* what it has logged, at most 16 KiB: JSON, [{at, level, message, fields}]; NULL: nothing */
} depot_script_result;

typedef struct depot_script {
    const char *handler; /* job type; or NULL and … */
    const char *file;    /* … a file below the script folders, run as a chunk with the argument as `...` */
    const char *arg;     /* JSON text, one object */
    const char *label;   /* for logs: "job 42" */
    int64_t     timeout_ms;
    /* Called once, from any thread, must not block; res is valid during the call. Also called, with WORKER_LOST, when the
     * worker dies, and with CANCELED on drain. */
    void (*done)(void *arg, const depot_script_result *res);
    void *done_arg;
} depot_script;

/* Many jobs of one type, which one worker runs: a frame there and a frame back for all of them. They run one after the other, but
 * while some of them wait others go on. */
struct depot_range_result;
typedef struct depot_script_range {
    const char *handler; /* job type */
    const char *id;      /* of the job at place 0 */
    const char *token;   /* of the lease of all */
    const char *job;     /* JSON text, one object: what each job sees of itself besides id and args */
    const char *args;    /* args_len bytes: n values of JSON with commas between them */
    size_t      args_len;
    int64_t     first, n; /* places */
    int64_t     timeout_ms; /* of each */
    /* Called once, from any thread, must not block; res is valid during the call. */
    void (*done)(void *arg, struct depot_range_result *res);
    /* For each job that goes on after that, as a script's done. */
    void (*job_done)(void *arg, const depot_script_result *res);
    void *done_arg;
} depot_script_range;

/* The id of the job at a place, from that of the job at place 0. */
DEPOT_API void depot_range_id(const char *id, int64_t place, char out[37]);

typedef struct depot_range_job {
    int64_t             place;
    depot_script_result res;
} depot_range_job;

typedef struct depot_range_going {
    int64_t  place;
    uint64_t id; /* to cancel it */
    void    *arg;
} depot_range_going;

typedef struct depot_range_result {
    depot_err          err;     /* none of them ended, or nobody knows which did: WORKER_LOST when the worker died */
    int64_t            begun;   /* so many from the first on; the others can be given to somebody else */
    depot_range_job   *ended;   /* of these, the ones that failed or were put off */
    size_t             n_ended;
    depot_range_going *going;   /* of these, the ones that go on: done sets `arg` for their job_done */
    size_t             n_going;
    const char        *results; /* JSON text, an array of `begun`: what the others returned; NULL: nothing */
    int64_t            busy_us; /* of all that have ended, together */
    const char        *logs;    /* JSON text, {"PLACE": [lines as in a script's log]} of all that do not go on; NULL: none has logged */
} depot_range_result;

/* Hands it to a worker. *out_id can cancel it. UNAVAILABLE when no worker is there or all are full. */
DEPOT_API bool depot_script_run(depot_ctx *ctx, const depot_script *script, uint64_t *out_id, depot_err *err) DEPOT_MUST_USE;
/* The same. *out_room: how much of the capacity it takes until it is done, as so many of its jobs may wait at a time. */
DEPOT_API bool depot_script_run_range(depot_ctx *ctx, const depot_script_range *range, uint64_t *out_id, int64_t *out_room,
                                      depot_err *err) DEPOT_MUST_USE;
DEPOT_API void depot_script_enough(depot_ctx *ctx, uint64_t id); /* no more of a range's jobs are to begin */
DEPOT_API void depot_script_cancel(depot_ctx *ctx, uint64_t id);
DEPOT_API int64_t depot_script_capacity(depot_ctx *ctx); /* how many more could start now */
/* Calls fn (any thread, must not block) when capacity comes back or the set of handlers changes. */
DEPOT_API void depot_script_on_change(depot_ctx *ctx, void (*fn)(void *arg), void *arg);

/* ---- calls from Lua: the C half (runs on a worker's thread pool, may block) ---- */
DEPOT_API depot_arena      *depot_call_arena(depot_call *call);
DEPOT_API bool              depot_arg_given(depot_call *call, size_t i);         /* from 0 */
DEPOT_API const char       *depot_arg_str(depot_call *call, size_t i, size_t *out_len); /* bytes; NULL if not given */
DEPOT_API int64_t           depot_arg_int(depot_call *call, size_t i);
DEPOT_API double            depot_arg_num(depot_call *call, size_t i);
DEPOT_API bool              depot_arg_bool(depot_call *call, size_t i);
DEPOT_API const depot_json *depot_arg_json(depot_call *call, size_t i); /* table or any; NULL if not given */
DEPOT_API void depot_return_str(depot_call *call, const void *bytes, size_t n); /* several: in order */
DEPOT_API void depot_return_int(depot_call *call, int64_t n);
DEPOT_API void depot_return_bool(depot_call *call, bool b);
DEPOT_API void depot_return_json(depot_call *call, const depot_json *value);

/* ---- seen from outside ---- */
DEPOT_API void depot_log(depot_ctx *ctx, depot_level level, const char *event, const char *fmt, ...) DEPOT_PRINTF(4, 5);
DEPOT_API void depot_log_err(depot_ctx *ctx, depot_level level, const char *event, const depot_err *err);
/* Label values in the order of the metric's row; DEPOT_LABELS("default") or NULL for none. */
#define DEPOT_LABELS(...) ((const char *const[]){ __VA_ARGS__, NULL })
DEPOT_API void depot_count(depot_ctx *ctx, const char *metric, const char *const *labels, double by);
DEPOT_API void depot_gauge(depot_ctx *ctx, const char *metric, const char *const *labels, double value);
DEPOT_API void depot_observe(depot_ctx *ctx, const char *metric, const char *const *labels, double value);
/* fn runs on a thread that may block when metrics are scraped: for values that are counted on demand. */
DEPOT_API void depot_on_scrape(depot_ctx *ctx, void (*fn)(depot_ctx *ctx));
/* Degraded: shown in /health and depotctl status until cleared with why = NULL. */
DEPOT_API void depot_degraded(depot_ctx *ctx, const char *what, const char *why);

#endif
