/* backoff.c - pauses between tries to reach a server that is away. */
#include "db/backoff.h"

#define LEAST_MS 100

int64_t backoff_next(int64_t ms)
{
    if (ms < LEAST_MS) {
        return LEAST_MS;
    }
    return 2 * ms < BACKOFF_MOST_MS ? 2 * ms : BACKOFF_MOST_MS;
}

int64_t backoff_jittered(int64_t ms)
{
    uint32_t random;

    depot_random(&random, sizeof(random));
    return ms / 2 + (int64_t)(random % (uint32_t)(ms / 2 + 1));
}
