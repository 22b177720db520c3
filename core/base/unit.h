/* unit.h - the unit of work that the current thread does: its deadline and whether it was canceled.
 *
 * Every wait in the core observes it. Whoever runs a unit (executor, loops, scheduler) enters before and leaves after. */
#ifndef BASE_UNIT_H
#define BASE_UNIT_H

#include <stdatomic.h>

#include "depot/base.h"

typedef struct unit {
    int64_t            deadline_ms; /* depot_now_ms() clock; INT64_MAX: none */
    const atomic_bool *canceled;    /* NULL: cannot be canceled */
    struct unit       *outer;
    bool               apart; /* what must be done even though the work around it was canceled or is late: outer units do not count */
} unit;

void    unit_enter(unit *u); /* u stays valid until unit_leave; units nest, the nearest deadline counts */
void    unit_leave(unit *u);
int64_t unit_deadline(void);                   /* INT64_MAX: none */
int64_t unit_remaining_ms(int64_t at_most_ms); /* what is left, at least 0, at most at_most_ms */
bool    unit_canceled(void);
/* false with TIMEOUT or CANCELED when the unit may not go on. */
bool    unit_check(depot_err *err) DEPOT_MUST_USE;

#endif
