/* progress.h - the bar that shows how far a transfer is, on a terminal's stderr and nowhere else. */
#ifndef CTL_PROGRESS_H
#define CTL_PROGRESS_H

#include "depot/base.h"

typedef struct progress {
    bool    on;    /* stderr is a terminal and nobody asked for quiet */
    bool    drawn; /* there is a line to remove */
    int64_t begun_ms, drawn_ms;
} progress;

void progress_begin(progress *p, bool quiet);
/* At most ten times a second, and not at all in the first 300 ms: short transfers stay silent. total < 0: unknown. */
void progress_show(progress *p, int64_t done, int64_t total);
void progress_end(progress *p); /* removes the line */
/* The line itself, `width` columns at most. */
const char *progress_line(depot_arena *arena, int64_t done, int64_t total, int64_t elapsed_ms, size_t width);

#endif
