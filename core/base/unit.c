/* unit.c - thread-local stack of units of work. */
#include "base/unit.h"

static _Thread_local unit *current;

void unit_enter(unit *u)
{
    u->outer = current;
    if (current != NULL && !u->apart && current->deadline_ms < u->deadline_ms) {
        u->deadline_ms = current->deadline_ms;
    }
    current = u;
}

void unit_leave(unit *u)
{
    current = u->outer;
}

int64_t unit_deadline(void)
{
    return current == NULL ? INT64_MAX : current->deadline_ms;
}

int64_t unit_remaining_ms(int64_t at_most_ms)
{
    int64_t deadline = unit_deadline();

    if (deadline == INT64_MAX) {
        return at_most_ms;
    }
    int64_t left = deadline - depot_now_ms();
    return left < 0 ? 0 : left < at_most_ms ? left : at_most_ms;
}

bool unit_canceled(void)
{
    for (const unit *u = current; u != NULL; u = u->apart ? NULL : u->outer) {
        if (u->canceled != NULL && atomic_load_explicit(u->canceled, memory_order_acquire)) {
            return true;
        }
    }
    return false;
}

bool unit_check(depot_err *err)
{
    if (unit_canceled()) {
        return DEPOT_FAIL(err, CANCELED, "canceled");
    }
    if (unit_remaining_ms(INT64_MAX) == 0) {
        return DEPOT_FAIL(err, TIMEOUT, "the deadline passed");
    }
    return true;
}
