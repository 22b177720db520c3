/* clock.h - condition variables on the monotonic clock, so that a step of the wall clock shortens no wait. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <pthread.h>

#include "depot/base.h"

void clock_cond_init(pthread_cond_t *cond);
/* depot_now_ms() + ms, INT64_MAX when that is too far away to be a number. */
int64_t clock_until(int64_t ms);
/* Waits at most until until_ms (depot_now_ms() clock; INT64_MAX: for ever); false: the time is up. */
bool clock_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t until_ms);

#endif
