/* base/log_parts.h - what log.c, log_fold.c, log_redact.c and log_sink.c know of each other. */
#ifndef BASE_LOG_PARTS_H
#define BASE_LOG_PARTS_H

#include "base/log.h"

#define LOG_LINE_BYTES 4096U /* PIPE_BUF: written whole or not at all */
#define LOG_FOLD_FREE  20U   /* lines of one event that are printed in a window */
#define LOG_FOLD_MS    10000
#define LOG_RING_LINES 1000U

/* Lines that were held back since the window of their event began. */
typedef struct log_fold {
    char        plugin[32], event[64];
    depot_level level;
    uint64_t    count;
} log_fold;

/* Whether this line may be printed. */
bool log_fold_admit(const char *plugin, const char *event, depot_level level, int64_t now_ms);
/* Takes one event whose window is over (at any time: INT64_MAX) out of the table; false if there is none. */
bool log_fold_take(int64_t now_ms, log_fold *out);

/* Keeps `json` in the ring and writes `line`, which ends in a newline, to the descriptor. Returns how many lines were
 * lost before this one got through: 0 unless this is the first after a stall. */
uint64_t log_sink_put(const depot_buf *json, const depot_buf *line);
int      log_sink_fd(void);

#endif
