/* double_metric.c - two metrics of one name that count different things. */
#include "depot/plugin.h"

static const depot_metric metrics[] = {
    { .name = "depot_double_metric_total", .kind = DEPOT_COUNTER, .doc = "counts" },
    { .name = "depot_double_metric_total", .kind = DEPOT_GAUGE, .doc = "measures" },
};

DEPOT_PLUGIN(double_metric) { .version = "1.0", .summary = "measures by one name twice", .metrics = DEPOT_TABLE(metrics) };
