/* deadline.c - the timer, its signal handler and the hook. The handler does what lua.c does for SIGINT: lua_sethook is
 * made to be called from signal handlers. */
#include "lua/deadline.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { RESIGNAL_US = 5000 }; /* after a hook: catches a coroutine that was being switched to at that moment */

#define DEADLINE_SIGNAL (SIGRTMIN + 3)

const char deadline_mark = 'k';

static void on_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    deadline_hooked(L);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&deadline_mark);
    lua_error(L);
}

static void hook_kill(lua_State *co)
{
    lua_sethook(co, on_hook, LUA_MASKCOUNT | LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE, 1);
}

/* Between two instructions. What cannot yield just now (a comparison function of sort) goes on and is asked again
 * later. */
static void on_slice(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0); /* a kill that is set at this very moment is set again in RESIGNAL_US */
    if (lua_isyieldable(L)) {
        deadline_sliced(L);
        lua_yield(L, 0);
    }
}

static int64_t clock_us(clockid_t clock)
{
    struct timespec t = { 0 };

    clock_gettime(clock, &t); /* cannot fail for these clocks */
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void arm(deadline *d, int64_t us)
{
    int64_t           at_least = us > 0 ? us : 1;
    struct itimerspec spec = { .it_value = { at_least / 1000000, (long)(at_least % 1000000) * 1000 } };

    timer_settime(d->timer, 0, &spec, NULL); /* cannot fail: the timer exists and the time is valid */
}

/* Which limit is over, or how long until the nearer one could be. CPU time never runs faster than the wall clock. */
static kill_reason judge(deadline *d, int64_t *out_left_us)
{
    int64_t wall_left = d->wall_us - clock_us(CLOCK_MONOTONIC);
    int64_t cpu = clock_us(CLOCK_THREAD_CPUTIME_ID);

    d->cpu_us = d->cpu_us == INT64_MAX ? cpu + d->cpu_max_us : d->cpu_us;
    int64_t cpu_left = d->cpu_us - cpu;
    *out_left_us = wall_left < cpu_left ? wall_left : cpu_left;
    return wall_left <= 0 ? KILL_WALL : cpu_left <= 0 ? KILL_CPU : KILL_NONE;
}

static int64_t slice_left(const deadline *d)
{
    return d->slice_us == INT64_MAX ? INT64_MAX : d->slice_us - clock_us(CLOCK_MONOTONIC);
}

static void on_signal(int signal_number, siginfo_t *info, void *context)
{
    deadline              *d = info->si_value.sival_ptr;
    volatile sig_atomic_t *reason = d->reason;
    int64_t                left = RESIGNAL_US;

    (void)signal_number;
    (void)context;
    if (reason == NULL) {
        d->missed = 1;
        return;
    }
    atomic_signal_fence(memory_order_acquire);
    if (*reason == KILL_NONE) {
        *reason = judge(d, &left);
    }
    int64_t slice = slice_left(d);
    if (*reason != KILL_NONE) {
        hook_kill(d->current);
        left = RESIGNAL_US;
    } else if (slice <= 0) {
        lua_sethook(d->current, on_slice, LUA_MASKCOUNT, 1);
        left = left < RESIGNAL_US ? left : RESIGNAL_US;
    } else {
        left = left < slice ? left : slice;
    }
    arm(d, left);
}

bool deadline_init(deadline *d, depot_err *err)
{
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    struct sigevent  event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = DEADLINE_SIGNAL };
    sigset_t         mine;

    *d = (deadline){ 0 };
    event.sigev_value.sival_ptr = d;
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid); /* glibc 2.36 has no name for this member yet */
    sigemptyset(&action.sa_mask);
    sigemptyset(&mine);
    sigaddset(&mine, DEADLINE_SIGNAL);
    if (sigaction(DEADLINE_SIGNAL, &action, NULL) != 0 || pthread_sigmask(SIG_UNBLOCK, &mine, NULL) != 0 ||
        timer_create(CLOCK_MONOTONIC, &event, &d->timer) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot make the timer for script deadlines");
    }
    return true;
}

void deadline_fini(deadline *d)
{
    d->reason = NULL;
    timer_delete(d->timer);
}

void deadline_begin(deadline *d, const stretch *what)
{
    int64_t left;

    d->missed = 0;
    d->cpu_began_us = clock_us(CLOCK_THREAD_CPUTIME_ID);
    d->current = what->co;
    d->wall_us = what->wall_us;
    d->cpu_us = d->cpu_began_us + what->cpu_max_us;
    d->slice_us = what->slice_us > 0 ? clock_us(CLOCK_MONOTONIC) + what->slice_us : INT64_MAX;
    atomic_signal_fence(memory_order_release); /* on_signal looks at reason first */
    d->reason = what->reason;
    if (*what->reason != KILL_NONE) {
        hook_kill(what->co);
        left = RESIGNAL_US;
    } else {
        (void)judge(d, &left);
        left = what->slice_us > 0 && what->slice_us < left ? what->slice_us : left;
    }
    arm(d, left);
}

void deadline_pause(deadline *d)
{
    d->reason = NULL;
    atomic_signal_fence(memory_order_release);
}

void deadline_next(deadline *d, const stretch *what)
{
    deadline_pause(d);
    d->current = what->co;
    d->wall_us = what->wall_us;
    d->cpu_max_us = what->cpu_max_us;
    d->cpu_us = INT64_MAX;
    atomic_signal_fence(memory_order_release);
    d->reason = what->reason;
    if (d->missed != 0) {
        d->missed = 0;
        arm(d, RESIGNAL_US);
    }
}

int64_t deadline_end(deadline *d)
{
    struct itimerspec never = { 0 };

    d->reason = NULL;
    timer_settime(d->timer, 0, &never, NULL); /* cannot fail, see arm */
    return clock_us(CLOCK_THREAD_CPUTIME_ID) - d->cpu_began_us;
}
