/* loop.h - the daemon's main loop: what other threads may ask of it. Everything here runs on, or posts to, one libuv loop
 * whose callbacks never block. */
#ifndef RUN_LOOP_H
#define RUN_LOOP_H

#include <uv.h>

#include "depot/base.h"

typedef struct loop loop;
loop      *loop_new(void);
void       loop_free(loop *l);
uv_loop_t *loop_uv(loop *l);
void       loop_run(loop *l);                                     /* until loop_stop */
void       loop_stop(loop *l);                                    /* any thread */
void       loop_post(loop *l, void (*fn)(void *arg), void *arg); /* any thread: fn runs on the loop, in order */
/* Waits until everything that was posted before has run; false: not within ms. Any thread but the loop's own. */
bool       loop_settle(loop *l, int64_t ms);
/* fn every ms on the loop (first after ms); the returned timer is stopped on the loop's thread only. */
uv_timer_t *loop_every(loop *l, int64_t ms, void (*fn)(void *arg), void *arg);
void        loop_timer_stop(uv_timer_t *timer);
/* Microseconds that the last timer tick came late: a callback that blocks shows here. */
int64_t loop_lag_us(const loop *l);

#endif
