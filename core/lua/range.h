/* range.h - inside of core/lua: ranges of jobs under way in an engine. */
#ifndef LUA_RANGE_H
#define LUA_RANGE_H

#include "lua/run.h"

typedef struct range range;

void range_open(engine *e);
void range_close(engine *e);
void range_sliced(range *g, int by);   /* so many more of its jobs want to compute on: none begins meanwhile */
bool range_ended(run *r);              /* a job of a range has ended, and its run is the range's again; false: it is none of it any more */
void range_wake(engine *e);            /* something has changed: looks at all of them in the loop's next turn */
void range_drop_idle(engine *e);       /* closes the states that no job of a range uses */
void range_cancel(engine *e, uint64_t id); /* its jobs end; no-op if there is no such range */
#endif
