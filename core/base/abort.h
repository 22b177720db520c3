/* base/abort.h - the one way in which depotd ends itself on the spot. */
#ifndef BASE_ABORT_H
#define BASE_ABORT_H

#include "depot/base.h"

/* Prints "depotd: <text>" on stderr and aborts. For exhausted memory and for programming errors only: whatever the
 * environment can cause is an error value instead. Any thread. */
_Noreturn void base_abort(const char *fmt, ...) DEPOT_PRINTF(1, 2);

#endif
