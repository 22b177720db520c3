/* absorb.c - metrics of workers become the daemon's: the growth since the last report is added. */
#include <math.h>
#include <string.h>

#include "base/metrics.h"
#include "lua/supervise.h"

enum { LABELS_MAX = 16, OBSERVATIONS_MAX = 100000 };

static const depot_json *find_by(const depot_json *list, const char *key, const char *value)
{
    for (size_t i = 0; i < depot_json_len(list); i++) {
        if (strcmp(depot_json_get_str(depot_json_at(list, i), key, ""), value) == 0) {
            return depot_json_at(list, i);
        }
    }
    return NULL;
}

/* The label values in their order; they are the identity of a series. */
static void labels_of(const depot_json *series, const char *out[LABELS_MAX + 1])
{
    const depot_json *labels = depot_json_get(series, "labels");
    const char       *name;
    const depot_json *value;
    size_t            n = 0;

    for (size_t it = 0; labels != NULL && n < LABELS_MAX && depot_json_next(labels, &it, &name, &value);) {
        const char *text = depot_json_string(value, NULL);
        out[n++] = text == NULL ? "" : text;
    }
    out[n] = NULL;
}

static bool same_labels(const char *const *a, const char *const *b)
{
    while (*a != NULL && *b != NULL && strcmp(*a, *b) == 0) {
        a++;
        b++;
    }
    return *a == NULL && *b == NULL;
}

static const depot_json *find_series(const depot_json *metric, const char *const *labels)
{
    const depot_json *list = metric == NULL ? NULL : depot_json_get(metric, "series");
    const char       *theirs[LABELS_MAX + 1];

    for (size_t i = 0; list != NULL && i < depot_json_len(list); i++) {
        labels_of(depot_json_at(list, i), theirs);
        if (same_labels(labels, theirs)) {
            return depot_json_at(list, i);
        }
    }
    return NULL;
}

static double number(const depot_json *object, const char *key)
{
    return object == NULL ? 0 : depot_json_get_real(object, key, 0);
}

/* How many new observations fell into bucket i alone (i == n: above the last). */
static double growth_in(const depot_json *before, const depot_json *after, size_t i, size_t n)
{
    const depot_json *old = before == NULL ? NULL : depot_json_get(before, "buckets");
    const depot_json *new = depot_json_get(after, "buckets");
    double upper = i < n ? number(depot_json_at(new, i), "count") : number(after, "count");
    double old_upper = i < n ? (old == NULL ? 0 : number(depot_json_at(old, i), "count")) : number(before, "count");

    if (i > 0) {
        upper -= number(depot_json_at(new, i - 1), "count");
        old_upper -= old == NULL ? 0 : number(depot_json_at(old, i - 1), "count");
    }
    return upper - old_upper;
}

/* A histogram only takes observations: each new one is placed inside its bucket, all at the same share between the
 * bucket's bounds, and the share is the one that makes the sum right. */
static void absorb_histogram(const char *name, const char *const *labels, const depot_json *before,
                             const depot_json *after)
{
    const depot_json *buckets = depot_json_get(after, "buckets");
    size_t            n = buckets == NULL ? 0 : depot_json_len(buckets);
    double            sum = number(after, "sum") - number(before, "sum");
    double            low = 0, width = 0;

    for (size_t i = 0; i <= n; i++) {
        double from = i == 0 ? 0 : number(depot_json_at(buckets, i - 1), "le");
        double to = i < n ? number(depot_json_at(buckets, i), "le") : from * 2;
        double in = growth_in(before, after, i, n);
        low += in * from;
        width += in * (to - from);
    }
    double share = width > 0 ? fmin(1, fmax(0, (sum - low) / width)) : 0;
    for (size_t i = 0; i <= n; i++) {
        double from = i == 0 ? 0 : number(depot_json_at(buckets, i - 1), "le");
        double to = i < n ? number(depot_json_at(buckets, i), "le") : from * 2;
        double in = growth_in(before, after, i, n);
        for (int k = 0; k < OBSERVATIONS_MAX && k < in; k++) {
            metrics_observe(name, labels, fmax(from + share * (to - from), nextafter(from, to)));
        }
    }
}

static void absorb_series(const depot_json *metric, const depot_json *before, const depot_json *series)
{
    const char *name = depot_json_get_str(metric, "name", "");
    const char *kind = depot_json_get_str(metric, "kind", "");
    const char *labels[LABELS_MAX + 1];

    labels_of(series, labels);
    const depot_json *old = find_series(before, labels);
    if (strcmp(kind, "histogram") == 0) {
        if (number(series, "count") > number(old, "count")) {
            absorb_histogram(name, labels, old, series);
        }
        return;
    }
    double value = number(series, "value");
    if (strcmp(kind, "counter") == 0 && value > number(old, "value")) {
        metrics_add(name, labels, value - number(old, "value"));
    } else if (strcmp(kind, "gauge") == 0 && (value < number(old, "value") || value > number(old, "value"))) {
        metrics_set(name, labels, value);
    }
}

void absorb_metrics(const depot_json *before, const depot_json *after)
{
    for (size_t i = 0; i < depot_json_len(after); i++) {
        const depot_json *metric = depot_json_at(after, i);
        const depot_json *old = before == NULL ? NULL : find_by(before, "name", depot_json_get_str(metric, "name", ""));
        const depot_json *list = depot_json_get(metric, "series");
        for (size_t k = 0; list != NULL && k < depot_json_len(list); k++) {
            absorb_series(metric, old, depot_json_at(list, k));
        }
    }
}
