/* clock.c - condition variables on the monotonic clock. */
#include "base/clock.h"

#include <errno.h>
#include <time.h>

void clock_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

int64_t clock_until(int64_t ms)
{
    int64_t until;

    return __builtin_add_overflow(depot_now_ms(), ms, &until) ? INT64_MAX : until;
}

bool clock_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t until_ms)
{
    if (until_ms == INT64_MAX) {
        return pthread_cond_wait(cond, lock) == 0;
    }
    struct timespec at = { .tv_sec = until_ms / 1000, .tv_nsec = (until_ms % 1000) * 1000000 };
    return pthread_cond_timedwait(cond, lock, &at) != ETIMEDOUT;
}
