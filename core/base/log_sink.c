/* log_sink.c - where lines go: the ring of the last lines, and the descriptor. A reader of stdout that has stopped
 * must not stop the daemon, so a write waits a little once and then lines are dropped until there is room again. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log_parts.h"
#include "base/metrics.h"

#define SINK_WAIT_MS 200

/* Guards everything below it. */
static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static int             sink_fd = STDOUT_FILENO;
static uint64_t        sink_lost; /* lines dropped since the last one that got through */
static char           *ring[LOG_RING_LINES];
static size_t          ring_next; /* lines ever kept; the place of the next one is its remainder */

int log_sink_fd(void)
{
    (void)pthread_mutex_lock(&sink_lock); /* cannot fail: not recursive, no owner check */
    int fd = sink_fd;
    (void)pthread_mutex_unlock(&sink_lock);
    return fd;
}

void log_set_fd(int fd)
{
    (void)pthread_mutex_lock(&sink_lock);
    sink_fd = fd;
    sink_lost = 0;
    (void)pthread_mutex_unlock(&sink_lock);
}

/* False when the descriptor takes no more before the deadline. What is left of a line that was cut short by a
 * non-blocking descriptor gets the same time. */
static bool sink_write(const char *p, size_t n, int wait_ms)
{
    int64_t deadline = depot_now_ms() + wait_ms;

    while (n > 0) {
        struct pollfd wait = { .fd = sink_fd, .events = POLLOUT };
        int64_t       left = deadline - depot_now_ms();
        int           ready = poll(&wait, 1, left > 0 ? (int)left : 0);

        if (ready == 0 || (ready < 0 && errno != EINTR)) {
            return false;
        }
        ssize_t done = ready < 0 ? 0 : write(sink_fd, p, n);
        if (done < 0 && errno != EINTR && errno != EAGAIN) {
            return false;
        }
        if (done > 0) {
            p += done;
            n -= (size_t)done;
        }
    }
    return true;
}

static void ring_keep(const depot_buf *json)
{
    char **place = &ring[ring_next % LOG_RING_LINES];

    *place = depot_xrealloc(*place, json->len + 1);
    memcpy(*place, json->data, json->len + 1);
    ring_next++;
}

uint64_t log_sink_put(const depot_buf *json, const depot_buf *line)
{
    (void)pthread_mutex_lock(&sink_lock);
    uint64_t recovered = sink_lost;
    ring_keep(json);
    bool written = sink_write(line->data, line->len, sink_lost > 0 ? 0 : SINK_WAIT_MS);
    sink_lost = written ? 0 : sink_lost + 1;
    (void)pthread_mutex_unlock(&sink_lock);
    if (!written) {
        metrics_add("depot_log_lost_total", NULL, 1);
    }
    return written ? recovered : 0;
}

const char *const *log_recent(depot_arena *arena, size_t n, size_t *out_count)
{
    (void)pthread_mutex_lock(&sink_lock);
    size_t       kept = ring_next < LOG_RING_LINES ? ring_next : LOG_RING_LINES;
    size_t       count = n < kept ? n : kept;
    const char **lines = depot_alloc(arena, (count + 1) * sizeof(*lines));
    for (size_t i = 0; i < count; i++) {
        lines[i] = depot_strdup(arena, ring[(ring_next - count + i) % LOG_RING_LINES]);
    }
    (void)pthread_mutex_unlock(&sink_lock);
    *out_count = count;
    return lines;
}
