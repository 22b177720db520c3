/* run.h - inside of core/lua: states, scripts under way and what they wait for.
 *
 * Two rules hold in every file that includes lua.h: (1) Lua raises by longjmp, so a function that may raise owns
 * nothing: what must be freed hangs on the run; (2) what waits does so through run_wait and nothing else. */
#ifndef LUA_RUN_H
#define LUA_RUN_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "lua/deadline.h"
#include "lua/engine.h"
#include "lua/signature.h"

#define SNOOZED "SNOOZED" /* the code of the error that job:snooze raises */

typedef struct run run;
typedef struct op op;

/* A function of a plugin, ready to be called. */
typedef struct bound_fn {
    depot_ctx          *ctx;
    const depot_lua_fn *row;
    signature           sig;
    int (*push)(lua_State *L, depot_call *call); /* NULL: what depot_return_… was given */
} bound_fn;

/* One Lua state. Serves one script at a time, so that its memory limit is that script's. */
typedef struct vm {
    lua_State *L;
    engine    *engine;
    run       *run; /* NULL: idle */
    size_t     used, max;
    bool       has_loaded; /* a module was loaded since the script, or the job of a range, began */
    struct vm *next; /* idle ones */
} vm;

/* Something that a script waits for. Lives until the next wait of its run, or its run's end. */
typedef struct op_kind {
    const char *name;
    /* Blocks until finished, at most until until_ms; only for scripts that cannot yield just now. */
    void (*block)(op *o, int64_t until_ms);
    int (*push)(lua_State *L, op *o); /* finished: results onto the stack, or raises */
    void (*abandon)(op *o);           /* the run went on without it: end soon; frees itself when it can */
    void (*free)(op *o);
} op_kind;
struct op {
    const op_kind *kind;
    run           *run; /* NULL: abandoned */
    bool           finished;
};

struct run {
    engine      *engine;
    vm          *vm;
    lua_State   *co; /* main coroutine */
    depot_arena *arena;
    uint64_t     id;
    run_mode     mode;
    const char  *name, *label;
    const handler *handler; /* that runs; NULL: no handler does */
    depot_json    *arg;     /* in args_arena; NULL: none, or the job has it */
    const char    *job_id, *token; /* of the job that runs; NULL: none */
    struct range  *range;          /* whose job this is; NULL: of none, or it goes on by itself */
    run           *next_idle;      /* in the range's list of those that have ended a job and may run another */
    int64_t        place;          /* in the range */
    const depot_json *members;     /* of the job object, besides id and args */
    const char    *args_text;      /* of a job of a range: not read yet; NULL: they are, or it is none */
    size_t         args_len;
    depot_arena   *args_arena;
    char           id_text[40], label_text[48], token_text[40];
    bool           repeatable;     /* the state is as it was before the job: see again.c */
    bool           is_snoozed;     /* job:snooze was called: its error, if it ends the run, means that */
    int64_t        snooze_ms;
    const char *const *needs; /* capabilities that it has stated; NULL: none */
    volatile sig_atomic_t killed; /* kill_reason */
    int64_t      started_us, deadline_ms, cpu_us;
    op          *op;        /* waits for it; NULL: runs, or has not begun */
    op          *last;      /* its results are being used */
    bool         blocking;  /* op is being waited for without giving back the loop */
    bool         sliced;    /* gave up control because its time slice was over; waits for nothing but its turn */
    run         *next_turn; /* in the engine's list of those */
    int64_t      cpu_since_wait_us;
    depot_buf    scratch;   /* for conversions; whoever uses it resets it first */
    depot_arena *scratch_arena;
    struct db_async_tx *db; /* the open transaction; NULL: none */
    size_t       logged;    /* bytes of log text */
    bool         ended;
    /* result */
    bool         ok;
    depot_buf    json, trace;
    char         where[160];
    depot_err    err;
    run         *prev, *next;
};

struct engine {
    engine_options opt;
    deadline       deadline;
    bound_fn      *bound;
    size_t         n_bound;
    depot_arena   *arena; /* bound functions, handlers */
    handler       *handlers;
    size_t         n_handlers, cap_handlers;
    vm            *idle;
    size_t         used, used_max; /* bytes of all states */
    run           *runs;
    run           *turn_first, *turn_last; /* scripts that want to go on */
    uv_idle_t     *turns;
    struct range  *ranges;     /* in the order of their coming */
    size_t         n_ranges;
    uv_idle_t     *range_turns;
    uv_timer_t    *range_timer; /* fires when the next range is to answer */
    size_t         n_runs;
    size_t         n_busy;      /* calls on the thread pool, timers, statements: what the loop still holds */
    struct depot_call *orphans; /* calls whose script has ended */
    struct http_loop *http;     /* NULL: no request has been made yet */
    uv_timer_t    *wall;        /* fires when the next waiting run is over its deadline */
    int64_t        wall_due_ms; /* INT64_MAX: not armed */
    int            nested;      /* steps inside of steps */
    int64_t        turned_ms;   /* when between_steps did its work last */
};

/* ---- vm.c ---- */
vm  *vm_new(engine *e); /* NULL: out of memory */
void vm_free(vm *v);
vm  *vm_of(lua_State *L);
run *vm_run(lua_State *L); /* the script that runs in this state; raises if none does */
/* Pushes the chunk of a file. false: an error message is pushed instead (file:line: text). */
bool vm_push_file(lua_State *L, const source *file);
/* Starts a coroutine for the run on the state; its body is on the coroutine's stack afterwards. */
bool vm_prepare(vm *v, run *r, depot_err *err);
/* The run has ended without a fault and gets another job of its range: its coroutine is ready to be resumed again. */
void vm_again(run *r);
bool vm_reset(vm *v); /* after a run: false if the state is not worth keeping */
void vm_declare(lua_State *L); /* the function on top is what the wanted handler runs; pops it */
/* Where the innermost Lua function stands, "handlers/store.lua:12"; "" if none is active. */
void vm_place(lua_State *L, char *out, size_t size);
/* Raises if the script is to end: called by every C function that loops, and after every protected call. */
void vm_check(lua_State *L);

/* ---- again.c ---- */
/* The function on top is what a handler's job calls. Can it be called again, as if its file had run anew? Stays on the stack. */
bool again_look(lua_State *L);
void again_restore(lua_State *L); /* between two jobs */

/* ---- wait.c ---- */
/* Leaves a C function to wait: return run_wait(L, o); o must have been started. Gives what o's push gives. */
int  run_wait(lua_State *L, op *o);
void run_wait_here(lua_State *L); /* waits for run->op without yielding */
bool run_may_wait(lua_State *L);  /* raises when this mode of script may not wait */
void op_keep(run *r, op *o);      /* the run frees it from here on; run_wait comes next, or an error does */
void op_done(op *o);              /* on the loop's thread, from a loop callback: continue the script */
void op_orphan(run *r);           /* let go of what the run waits for */
int  run_sleep(lua_State *L, int64_t ms);

/* ---- turn.c ---- */
void turn_open(engine *e);
void turn_close(engine *e);
void turn_add(run *r);    /* it was sliced: it goes on after the others, and after the loop has looked at its events */
void turn_remove(run *r); /* no-op if it is not in the list */

/* ---- engine.c ---- */
run *run_new(engine *e, const run_spec *spec, depot_err *err); /* NULL: failed; engine_step starts it */
void run_free(run *r); /* only one that engine_step has ended in RUN_DECLARE: others free themselves */
void engine_step(run *r);
/* Several runs one after the other in one slice. is_first: of them. false: the slice is over, whatever the clock says. */
void engine_burst_begin(engine *e);
bool engine_burst(run *r, bool is_first);
void engine_burst_end(engine *e);
void engine_interrupt(run *r, kill_reason reason); /* ends one that is parked */
void engine_unlink(run *r); /* out of the engine's list */
depot_script_result engine_result(const run *r); /* of one that has ended; points into it */
bool run_is_parked(const run *r); /* it has begun, and waits for something or for its turn */
vm  *engine_take_vm(engine *e); /* NULL: no memory */
void engine_give_vm(engine *e, vm *v, bool good);
void engine_drop_idle(engine *e); /* closes the states that nobody uses */

/* ---- fail.c ---- */
void fail_open(lua_State *L);                              /* metatable of errors */
void fail_push(lua_State *L, const depot_err *err, const char *where);
int  fail_raise(lua_State *L, const depot_err *err);       /* as a structured error, with the caller's place */
int  fail_raisef(lua_State *L, depot_code code, const char *fmt, ...) DEPOT_PRINTF(3, 4);
int  fail_syntax(lua_State *L);                            /* raises LUA_SYNTAX with the compiler's message on top */
void fail_wrap(lua_State *L);                              /* the error value on top becomes a structured one */
void fail_read(lua_State *L, int index, run *r);           /* an error value becomes the run's result */
int  fail_depot_fail(lua_State *L);                        /* depot.fail{…} */

/* ---- value.c ---- */
void        value_open(lua_State *L);                          /* depot.null and depot.array's metatables */
void        value_push(lua_State *L, const depot_json *value); /* null becomes depot.null */
/* Both raise: arena and out belong to the run or to an op. */
depot_json *value_json(lua_State *L, int index, depot_arena *arena);
void        value_parse(lua_State *L, const char *text, size_t n); /* pushes it; raises BAD_PAYLOAD */
void        value_encode(lua_State *L, int index, depot_buf *out, size_t max);
void        value_push_null(lua_State *L);
void        value_mark_array(lua_State *L); /* the table on top came from a JSON array */
bool        value_is_null(lua_State *L, int index);
int         value_array(lua_State *L); /* depot.array(t) */

/* ---- sandbox.c ---- */
void sandbox_open(lua_State *L);    /* builds the environment; it becomes the state's globals */
void sandbox_begin_run(lua_State *L); /* forgets what modules the run before had loaded, seeds math.random */
/* The table at the top has members that are made when somebody asks: find(table, key) gives and keeps one, make_all(table) makes all of
 * them, for who goes through it. */
void sandbox_late(lua_State *L, lua_CFunction find, lua_CFunction make_all);
/* The table at the top becomes read-only, as do all tables in it; a proxy takes its place. */
void sandbox_seal(lua_State *L);
bool sandbox_is_sealed(lua_State *L, int index);
void sandbox_complete(lua_State *L); /* makes what a sealed table, which is on top, has not made yet */
extern const luaL_Reg lib_base[], lib_string[], lib_table[], lib_coroutine[]; /* our own versions */
int lib_sort(lua_State *L); /* the library's table.sort on top becomes ours */
void lib_base_begin_run(lua_State *L);

/* ---- bindings ---- */
typedef struct core_fn {
    const char   *name, *signature;
    lua_CFunction fn;
    const char   *doc;
} core_fn;
extern const core_fn bind_core_fns[];
extern const size_t  bind_core_count;
depot_arena *run_scratch(run *r); /* emptied by each call: for conversions of the C function that runs now */
void           bind_open(lua_State *L); /* pushes the table of depot.*, not sealed yet */
void           bind_job_push(lua_State *L, run *r); /* the object that a handler's run gets */
/* false: over the limit, which the log says once. */
bool bind_log(lua_State *L, depot_level level, const char *text, size_t n, const char *fields);

int    bind_call_fn(lua_State *L);          /* upvalue 1: bound_fn as light userdata */
depot_call *bind_call_new(run *r, const bound_fn *fn); /* the run's; bind_call_start comes next, or an error */
int    bind_call_start(lua_State *L, depot_call *call); /* return it */
void **bind_call_place(depot_call *call);               /* for something of one's own, in the call's arena */
void  *bind_call_user(depot_call *call);
size_t bind_call_overdue(const engine *e);  /* see engine_overdue */
int    bind_sql_fn(lua_State *L);           /* the same for a row with a statement */
void   bind_sql_push(lua_State *L, const char *name); /* the method of that row; raises when no plugin has it */
int    bind_sql_checkpoint(lua_State *L);   /* job:checkpoint(name, f) */
int    bind_sql_job_tx(lua_State *L);       /* job:tx(f, opts?) */
int    bind_db_tx(lua_State *L);            /* depot.db:tx(f, opts?) */
int    bind_job_declare(lua_State *L);      /* depot.job(name) */
const char *const *bind_needs_read(lua_State *L, int index, depot_arena *arena); /* a list of capabilities; raises */
/* The options of a call that takes a table: raises at a name that is not in the list, which ends with NULL. */
void   bind_options(lua_State *L, int index, const char *call, const char *const *known);
/* A text without NUL in the arena; raises. */
const char *bind_text(lua_State *L, int index, const char *what, depot_arena *arena);
/* When a wait that the script has bounded to its field `timeout` ends, by depot_now_ms(); otherwise: after that many ms. */
int64_t bind_due(lua_State *L, int index, int64_t otherwise);
int    bind_exec(lua_State *L);             /* depot.exec{…} */
int    bind_needs(lua_State *L);            /* depot.needs{…} */
/* CAPABILITY: the script does not say that it needs this, or was not granted it. */
bool   run_may(const run *r, const char *want, depot_err *err) DEPOT_MUST_USE;
int    bind_job_log(lua_State *L);          /* job:log(level, message, fields?) */
int64_t bind_duration(lua_State *L, int index, const char *what); /* "10s" or a number of seconds, in ms; raises */
void   bind_job_open(lua_State *L);         /* methods of the job object */
extern const depot_lua_fn bind_rows[];      /* functions of the core that are written like those of plugins */
extern const size_t       bind_row_count;
extern const core_fn bind_db_fns[], bind_http_fns[], bind_test_fns[];
extern const size_t  bind_db_count, bind_http_count, bind_test_count;
void bind_db_end(run *r); /* an open transaction of an ended script is rolled back */

#endif
