/* deadline.h - stops Lua code that does not stop by itself: a timer signal hooks the coroutine that runs at that
 * moment.
 *
 * An always-on count hook would cost half as much again on CPU-bound code; this costs nothing until it fires. Once
 * fired, every further instruction, call and return raises again, so that neither pcall nor __close can swallow it.
 * What C code does between two hooks is bounded by the library's own checks (deadline_check) and, past those, by the
 * daemon. */
#ifndef LUA_DEADLINE_H
#define LUA_DEADLINE_H

#include <lua.h>
#include <signal.h>
#include <time.h>

#include "depot/base.h"

typedef enum kill_reason { KILL_NONE, KILL_WALL, KILL_CPU, KILL_CANCEL } kill_reason;

/* One per thread that runs Lua. */
typedef struct deadline {
    timer_t timer;
    lua_State *volatile current;            /* the coroutine that runs now; whoever switches coroutines sets it */
    volatile sig_atomic_t *volatile reason; /* of the script that runs now; NULL: none runs */
    int64_t wall_us;                        /* depot_now_us() at which it is over */
    int64_t cpu_us;                         /* CPU clock of the thread at which it is over */
    int64_t cpu_began_us;
    int64_t cpu_max_us; /* of what runs, while cpu_us is not known yet: INT64_MAX */
    volatile sig_atomic_t missed; /* the timer fired while nothing ran: it is not armed any more */
    int64_t slice_us; /* depot_now_us() from which others may have their turn; INT64_MAX: none wants one */
} deadline;

/* One stretch of Lua code. */
typedef struct stretch {
    lua_State             *co;     /* gets control */
    volatile sig_atomic_t *reason; /* set already: co is hooked at once */
    int64_t                wall_us, cpu_max_us;
    int64_t                slice_us; /* after that long co yields (deadline_sliced), if it can; 0: never */
} stretch;

/* On the thread whose Lua code is to be watched. */
bool    deadline_init(deadline *d, depot_err *err) DEPOT_MUST_USE;
void    deadline_fini(deadline *d);
void    deadline_begin(deadline *d, const stretch *what);
/* In place of an end and a begin: something else runs in the same slice. Costs no system call; its CPU time counts from when the timer
 * finds it running. */
void    deadline_next(deadline *d, const stretch *what);
void    deadline_pause(deadline *d); /* nothing runs until deadline_next or _end: what ran may be freed */
int64_t deadline_end(deadline *d); /* CPU microseconds since deadline_begin */

/* The error value with which killed scripts are unwound: no script ever gets hold of it. */
extern const char deadline_mark;
/* Called by the hook before it raises that mark: records where the script was. In vm.c. */
void deadline_hooked(lua_State *L);
/* Called before a coroutine yields because its time slice is over. In vm.c. */
void deadline_sliced(lua_State *L);

#endif
