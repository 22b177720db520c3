/* bind_db.c - depot.db. */
#include "lua/run.h"

const core_fn bind_db_fns[] = { { "db.tx", "(f: fun())", NULL, "" } };
const size_t  bind_db_count = 0;

void bind_db_end(run *r)
{
    (void)r;
}
