/* Units of work: the nearest deadline counts, a canceled outer one reaches the inner, but not one that stands apart. */
#include "base/unit.h"
#include "tap.h"

static void the_nearest_deadline_counts(void)
{
    int64_t now = depot_now_ms();
    unit    outer = { .deadline_ms = now + 1000 }, later = { .deadline_ms = now + 5000 }, sooner = { .deadline_ms = now + 10 };

    is_int(unit_deadline(), INT64_MAX, "none without a unit");
    unit_enter(&outer);
    unit_enter(&later);
    is_int(unit_deadline(), now + 1000, "an inner unit gets no more time than the outer one");
    unit_leave(&later);
    unit_enter(&sooner);
    is_int(unit_deadline(), now + 10, "but less");
    unit_leave(&sooner);
    is_int(unit_deadline(), now + 1000, "the outer one's again");
    unit_leave(&outer);
}

static void what_stands_apart_is_not_canceled_with_the_rest(void)
{
    atomic_bool canceled = true, own = false;
    int64_t     now = depot_now_ms();
    unit        outer = { .deadline_ms = now - 1, .canceled = &canceled }, inner = { .deadline_ms = INT64_MAX };
    unit        apart = { .deadline_ms = now + 5000, .canceled = &own, .apart = true }, within = { .deadline_ms = INT64_MAX };
    depot_err   err = { 0 };

    unit_enter(&outer);
    unit_enter(&inner);
    ok(unit_canceled() && !unit_check(&err), "an inner unit is canceled with the outer one");
    is_int(err.code, DEPOT_E_CANCELED, "and says so");
    unit_enter(&apart);
    ok(!unit_canceled() && unit_check(&err), "one that stands apart is not");
    is_int(unit_deadline(), now + 5000, "and has its own deadline");
    unit_enter(&within);
    ok(!unit_canceled(), "nor what is within it");
    is_int(unit_deadline(), now + 5000, "which gets no more time");
    atomic_store(&own, true);
    ok(unit_canceled(), "until it is canceled itself");
    unit_leave(&within);
    unit_leave(&apart);
    ok(unit_canceled(), "behind it all is as before");
    unit_leave(&inner);
    unit_leave(&outer);
    ok(!unit_canceled(), "and without a unit nothing is canceled");
}

int main(void)
{
    run(the_nearest_deadline_counts);
    run(what_stands_apart_is_not_canceled_with_the_rest);
    return done();
}
