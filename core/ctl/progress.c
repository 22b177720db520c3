/* progress.c - one line that is drawn over itself: share, bar, bytes, speed, time left. */
#include "ctl/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/render.h"

enum { SILENT_MS = 300, REDRAW_MS = 100, BAR_MAX = 40, NUMBERS_WIDTH = 56 };

void progress_begin(progress *p, bool quiet)
{
    *p = (progress){ .on = !quiet && isatty(STDERR_FILENO) == 1, .begun_ms = depot_now_ms() };
}

const char *progress_line(depot_arena *arena, int64_t done, int64_t total, int64_t elapsed_ms, size_t width)
{
    int64_t     speed = elapsed_ms > 0 ? done * 1000 / elapsed_ms : 0;
    const char *rate = depot_strf(arena, "%s/s", depot_format_size(arena, speed));
    char        bar[BAR_MAX + 1];

    if (total <= 0) {
        return depot_strf(arena, "%s  %s", depot_format_size(arena, done), rate);
    }
    int64_t     shown = done > total ? total : done;
    int64_t     left_ms = speed > 0 ? (total - shown) * 1000 / speed : 0;
    const char *numbers = depot_strf(arena, "%s of %s  %s  %llds left", depot_format_size(arena, done),
                                     depot_format_size(arena, total), rate, (long long)((left_ms + 999) / 1000));
    if (width < NUMBERS_WIDTH + 10) {
        return depot_strf(arena, "%3d%%  %s", (int)(shown * 100 / total), numbers);
    }
    size_t length = width - NUMBERS_WIDTH < BAR_MAX ? width - NUMBERS_WIDTH : BAR_MAX;
    size_t filled = (size_t)((double)shown / (double)total * (double)length);
    memset(bar, '-', length);
    memset(bar, '#', filled);
    bar[length] = '\0';
    return depot_strf(arena, "%3d%% [%s] %s", (int)(shown * 100 / total), bar, numbers);
}

void progress_show(progress *p, int64_t done, int64_t total)
{
    int64_t now = depot_now_ms();

    if (!p->on || now - p->begun_ms < SILENT_MS || now - p->drawn_ms < REDRAW_MS) {
        return;
    }
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    size_t                                    width = render_style_of(STDERR_FILENO).width;
    fprintf(stderr, "\r\033[K%s", progress_line(arena, done, total, now - p->begun_ms, width));
    (void)fflush(stderr); /* a bar that cannot be drawn is no failure of the transfer */
    p->drawn = true;
    p->drawn_ms = now;
}

void progress_end(progress *p)
{
    if (p->drawn) {
        fputs("\r\033[K", stderr);
        (void)fflush(stderr); /* as above */
    }
    p->on = false;
}
