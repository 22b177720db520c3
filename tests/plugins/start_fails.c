/* start_fails.c - a plugin whose start fails, as one does that cannot reach its hardware. */
#include <errno.h>

#include "depot/plugin.h"

static bool start(depot_ctx *ctx, depot_err *err)
{
    (void)ctx;
    errno = ENOENT;
    DEPOT_FAIL_ERRNO(err, "cannot open /dev/tape0");
    return depot_hint(err, "plug the tape drive in");
}

DEPOT_PLUGIN(start_fails) { .version = "1.0", .summary = "does not start", .start = start };
