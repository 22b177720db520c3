/* executor.h - a bounded pool of threads for C work that may block, and service loops with a thread of their own. */
#ifndef RUN_EXECUTOR_H
#define RUN_EXECUTOR_H

#include "depot/base.h"

typedef struct executor executor;
executor *executor_new(size_t threads, size_t queue_max);
/* false with UNAVAILABLE: the queue is full or the executor drains. fn runs once. timeout_ms 0: no deadline of its own. */
bool executor_submit(executor *e, void (*fn)(void *arg), void *arg, int64_t timeout_ms, depot_err *err) DEPOT_MUST_USE;
size_t executor_queued(const executor *e);
size_t executor_busy(const executor *e);
/* Refuses new work, waits up to grace_ms for what runs and is queued, then sets their cancel flag and waits for the rest. */
void executor_drain(executor *e, int64_t grace_ms);
void executor_free(executor *e);

/* A service loop (depot_loop in plugin.h is this). */
typedef struct run_service run_service;
run_service *service_start(const char *plugin, const char *name, bool (*fn)(void *arg, run_service *s, depot_err *err), void *arg);
bool     service_wait(run_service *s, int64_t timeout_ms); /* false: stop now */
void     service_wake(run_service *s);
bool     service_stopping(const run_service *s);
void     service_stop(run_service *s); /* waits for its end, frees */

#endif
