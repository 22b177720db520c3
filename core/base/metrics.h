/* base/metrics.h - the registry of counters, gauges and histograms.
 *
 * Global to the process; every call from any thread. Names are those of depot_metric rows. A set of label values makes
 * a series at its first use; a metric has at most 200 of them, further ones are counted in
 * depot_metrics_overflow_total{metric} and else dropped. A use that does not fit (unknown name, other kind, counter
 * that would go down) is counted in depot_metrics_misuse_total{metric}. */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include "depot/table.h"

/* Fails with INVALID when the row breaks the naming rules, with CONFLICT when the name is taken by something else. The
 * same row again (reload, second instance) is fine. The row is copied. */
bool metrics_register(const char *plugin, const depot_metric *row, depot_err *err) DEPOT_MUST_USE;

/* Label values in the order of the row, ended by NULL; missing ones are empty. NULL for no labels. */
void metrics_add(const char *name, const char *const *labels, double by);        /* counters and gauges */
void metrics_set(const char *name, const char *const *labels, double value);     /* gauges */
void metrics_observe(const char *name, const char *const *labels, double value); /* histograms */
/* Forgets the series of a metric with labels: a collector starts with it, so that what is gone does not stay. */
void metrics_clear(const char *name);

/* fn(arg) runs before each scrape, on the thread of the scrape, one collector at a time. It may not add or remove
 * collectors nor scrape. After remove has returned it does not run any more. */
void metrics_collector_add(void (*fn)(void *arg), void *arg);
void metrics_collector_remove(void (*fn)(void *arg), void *arg);

/* Prometheus text format 0.0.4 (text/plain; version=0.0.4), sorted by name. Runs the collectors. May block. */
void metrics_prom(depot_buf *out);
/* The same as JSON: [{"name", "kind", "help", "plugin", "series": [{"labels": {}, "value": n}]}]; a series of a
 * histogram has "count", "sum" and "buckets": [{"le": n, "count": n}] (cumulative, without +Inf). */
depot_json *metrics_json(depot_arena *arena);

#endif
