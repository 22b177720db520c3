/* backoff.h - pauses between tries to reach a server that is away. */
#ifndef DB_BACKOFF_H
#define DB_BACKOFF_H

#include "depot/base.h"

#define BACKOFF_MOST_MS 5000

/* The pause after one of ms (0: none yet): 100 ms, then twice as long each time, at most BACKOFF_MOST_MS. */
int64_t backoff_next(int64_t ms);
/* Half to all of it, by chance, so that many daemons do not come back in step. */
int64_t backoff_jittered(int64_t ms);

#endif
