/* base/metrics_parts.h - the data of the registry, for metrics.c (which changes it) and metrics_text.c (shows it). */
#ifndef BASE_METRICS_PARTS_H
#define BASE_METRICS_PARTS_H

#include <stdatomic.h>

#include "base/metrics.h"

#define METRIC_MOST_LABELS 8U
#define METRIC_MOST_SERIES 200U
#define METRIC_SLOTS       64U
#define METRIC_VALUE_BYTES 128U /* longest label value */

typedef struct metric_series {
    struct metric_series *next;   /* in order of creation */
    struct metric_series *chain;  /* of the same hash slot */
    char                 *values; /* label values one after the other, each with its NUL */
    size_t                values_bytes;
    _Atomic double        value;    /* histogram: the sum */
    _Atomic uint64_t      counts[]; /* histogram: observations per bucket, the last one beyond all bounds */
} metric_series;

typedef struct metric {
    char             *plugin, *name, *help;
    depot_metric_kind kind;
    size_t            label_count, bucket_count;
    char             *labels[METRIC_MOST_LABELS];
    double           *buckets;
    metric_series    *first, *last;
    size_t            series_count;
    metric_series    *slots[METRIC_SLOTS];
} metric;

/* Runs the collectors, then calls show for each metric in order of name while the registry cannot change. */
void metrics_visit(void (*show)(const metric *m, void *arg), void *arg);

#endif
