/* deadline.h - stops Lua code that does not stop by itself: a timer signal hooks the coroutine that runs at that moment.
 *
 * An always-on count hook would cost half as much again on CPU-bound code; this costs nothing until it fires. Once fired,
 * every further instruction, call and return raises again, so that neither pcall nor __close can swallow it. What C code
 * does between two hooks is bounded by the library's own checks (deadline_check) and, past those, by the daemon. */
#ifndef LUA_DEADLINE_H
#define LUA_DEADLINE_H

#include <lua.h>
#include <signal.h>
#include <time.h>

#include "depot/base.h"

typedef enum kill_reason { KILL_NONE, KILL_WALL, KILL_CPU, KILL_CANCEL } kill_reason;

/* One per thread that runs Lua. */
typedef struct deadline {
    timer_t             timer;
    lua_State *volatile current;        /* the coroutine that runs now; whoever switches coroutines sets it */
    volatile sig_atomic_t *volatile reason; /* of the script that runs now; NULL: none runs */
    int64_t             wall_us;        /* depot_now_us() at which it is over */
    int64_t             cpu_us;         /* CPU clock of the thread at which it is over */
    int64_t             cpu_began_us;
} deadline;

/* On the thread whose Lua code is to be watched. */
bool deadline_init(deadline *d, depot_err *err) DEPOT_MUST_USE;
void deadline_fini(deadline *d);
/* Around each stretch of Lua code: co is the coroutine that gets control. A *reason that is set already hooks co at once. */
void    deadline_begin(deadline *d, lua_State *co, volatile sig_atomic_t *reason, int64_t wall_us, int64_t cpu_max_us);
int64_t deadline_end(deadline *d); /* CPU microseconds since deadline_begin */
/* Hooks co now, or takes every hook away. */
void deadline_hook(lua_State *co);
void deadline_unhook(lua_State *co);

/* The error value with which killed scripts are unwound: no script ever gets hold of it. */
extern const char deadline_mark;
bool deadline_is_mark(lua_State *L, int index);
/* Called once per hook: may record where the script was. Set by the vm. */
void deadline_hooked(lua_State *L);

#endif
