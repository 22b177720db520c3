/* metrics.c - registering, counting and collecting. Values are atomics, so counting takes the lock only for reading;
 * a new series or metric takes it for writing. */
#include "base/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/abort.h"
#include "base/metrics_parts.h"
#include "base/text.h"

#define METRIC_MOST_BUCKETS 50U

typedef struct collector {
    void (*fn)(void *);
    void *arg;
} collector;

/* Label values as one piece of memory, to be hashed and compared at once. */
typedef struct metric_key {
    char   bytes[METRIC_MOST_LABELS * (METRIC_VALUE_BYTES + 1)];
    size_t len;
} metric_key;

/* Guards registry, registry_count and the lists of series; not the values. Busy counters must not keep a new series
 * waiting, hence writers first. */
static pthread_rwlock_t registry_lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static metric         **registry; /* sorted by name */
static size_t           registry_count;
/* Guards the collectors and lets one scrape at a time run them. */
static pthread_mutex_t collector_lock = PTHREAD_MUTEX_INITIALIZER;
static collector      *collectors;
static size_t          collector_count;

static const double      default_buckets[] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                               0.5,   1,      2.5,   5,    10,    30,   60,  0 };
static const char *const name_prefixes[] = { "depot_", "pgflow_", "asset_depot_", "pg_" };

#define LABELS(...) ((const char *const[]){ __VA_ARGS__, NULL })
/* clang-format off */
static const depot_metric own_rows[] = {
    { "depot_errors_total", DEPOT_COUNTER, LABELS("plugin", "error"), NULL, "Errors that were logged" },
    { "depot_log_lines_total", DEPOT_COUNTER, LABELS("level"), NULL, "Lines that were logged" },
    { "depot_log_lost_total", DEPOT_COUNTER, NULL, NULL, "Log lines dropped because nobody read them" },
    { "depot_metrics_misuse_total", DEPOT_COUNTER, LABELS("metric"), NULL, "Uses that do not fit the metric" },
    { "depot_metrics_overflow_total", DEPOT_COUNTER, LABELS("metric"), NULL, "Values of series beyond the limit" },
};
/* clang-format on */

/* Place of the name in the sorted registry, or where it belongs. */
static size_t registry_place(const char *name)
{
    size_t low = 0;
    size_t high = registry_count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(registry[middle]->name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static metric *registry_find(const char *name)
{
    size_t i = registry_place(name);

    return i < registry_count && strcmp(registry[i]->name, name) == 0 ? registry[i] : NULL;
}

/* ---- series ---- */

static void key_make(metric_key *key, size_t label_count, const char *const *labels)
{
    key->len = 0;
    for (size_t i = 0; i < label_count; i++) {
        const char *value = labels != NULL && *labels != NULL ? *labels++ : "";
        size_t      n = text_utf8_cut(value, strnlen(value, METRIC_VALUE_BYTES + 4), METRIC_VALUE_BYTES);
        DEPOT_AUTO(depot_buf_free) depot_buf clean = { 0 };

        if (!depot_utf8_valid(value, n)) {
            text_add_clean(&clean, value, n);
            value = clean.data;
            n = text_utf8_cut(clean.data, clean.len, METRIC_VALUE_BYTES);
        }
        memcpy(key->bytes + key->len, value, n);
        key->len += n;
        key->bytes[key->len++] = '\0';
    }
}

static size_t key_slot(const metric_key *key)
{
    uint32_t h = 2166136261U; /* FNV-1a */

    for (size_t i = 0; i < key->len; i++) {
        h = (h ^ (unsigned char)key->bytes[i]) * 16777619U;
    }
    return h % METRIC_SLOTS;
}

static metric_series *series_find(const metric *m, const metric_key *key)
{
    metric_series *s = m->slots[key_slot(key)];

    while (s != NULL && (s->values_bytes != key->len || memcmp(s->values, key->bytes, key->len) != 0)) {
        s = s->chain;
    }
    return s;
}

static metric_series *series_new(metric *m, const metric_key *key)
{
    size_t         counts = m->kind == DEPOT_HISTOGRAM ? m->bucket_count + 1 : 0;
    metric_series *s = depot_xalloc(sizeof(*s) + counts * sizeof(s->counts[0]));
    size_t         slot = key_slot(key);

    s->values = depot_xalloc(key->len);
    memcpy(s->values, key->bytes, key->len);
    s->values_bytes = key->len;
    s->chain = m->slots[slot];
    m->slots[slot] = s;
    if (m->last == NULL) {
        m->first = s;
    } else {
        m->last->next = s;
    }
    m->last = s;
    m->series_count++;
    return s;
}

/* ---- registering ---- */

static bool name_is_snake(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");

    return n > 0 && name[n] == '\0' && name[0] >= 'a' && name[0] <= 'z' && strstr(name, "__") == NULL &&
           name[n - 1] != '_';
}

static bool name_ends(const char *name, const char *end)
{
    size_t n = strlen(name);
    size_t m = strlen(end);

    return n >= m && strcmp(name + n - m, end) == 0;
}

static bool check_name(const depot_metric *row, depot_err *err)
{
    static const char *const kept[] = { "_bucket", "_count", "_sum" };
    bool                     known = false;

    for (size_t i = 0; i < DEPOT_N(name_prefixes); i++) {
        known = known || strncmp(row->name, name_prefixes[i], strlen(name_prefixes[i])) == 0;
    }
    if (!known || !name_is_snake(row->name)) {
        (void)DEPOT_FAIL(err, INVALID, "metric name \"%s\" is not allowed", row->name);
        return depot_hint(err, "write it in snake_case, beginning with depot_");
    }
    if (name_ends(row->name, "_total") != (row->kind == DEPOT_COUNTER)) {
        return DEPOT_FAIL(err, INVALID, "metric name \"%s\": counters, and only they, end in _total", row->name);
    }
    for (size_t i = 0; i < DEPOT_N(kept); i++) {
        if (name_ends(row->name, kept[i])) {
            return DEPOT_FAIL(err, INVALID, "metric name \"%s\": %s is for the parts of a histogram", row->name,
                              kept[i]);
        }
    }
    if (row->doc == NULL || row->doc[0] == '\0') {
        return DEPOT_FAIL(err, INVALID, "metric %s has no help text", row->name);
    }
    return true;
}

static bool check_labels(const depot_metric *row, depot_err *err)
{
    size_t n = 0;

    for (; row->labels != NULL && row->labels[n] != NULL; n++) {
        const char *label = row->labels[n];
        if (n == METRIC_MOST_LABELS) {
            return DEPOT_FAIL(err, INVALID, "metric %s has more than %u labels", row->name, METRIC_MOST_LABELS);
        }
        if (!name_is_snake(label) || strcmp(label, "le") == 0 || strcmp(label, "quantile") == 0) {
            return DEPOT_FAIL(err, INVALID, "metric %s: label name \"%s\" is not allowed", row->name, label);
        }
        for (size_t i = 0; i < n; i++) {
            if (strcmp(row->labels[i], label) == 0) {
                return DEPOT_FAIL(err, INVALID, "metric %s has two labels \"%s\"", row->name, label);
            }
        }
    }
    return true;
}

static bool check_buckets(const depot_metric *row, depot_err *err)
{
    if (row->buckets == NULL) {
        return true;
    }
    if (row->kind != DEPOT_HISTOGRAM) {
        return DEPOT_FAIL(err, INVALID, "metric %s has buckets but is no histogram", row->name);
    }
    for (size_t i = 0; row->buckets[i] != 0; i++) { /* a 0 ends the list */
        if (!isfinite(row->buckets[i]) || (i > 0 && row->buckets[i] <= row->buckets[i - 1])) {
            return DEPOT_FAIL(err, INVALID, "metric %s: bucket %zu is not above the one before", row->name, i + 1);
        }
        if (i == METRIC_MOST_BUCKETS) {
            return DEPOT_FAIL(err, INVALID, "metric %s has more than %u buckets", row->name, METRIC_MOST_BUCKETS);
        }
    }
    return true;
}

static metric *metric_new(const char *plugin, const depot_metric *row)
{
    metric *m = depot_xalloc(sizeof(*m));

    m->plugin = depot_xstrdup(plugin);
    m->name = depot_xstrdup(row->name);
    m->help = depot_xstrdup(row->doc);
    m->kind = row->kind;
    for (; row->labels != NULL && row->labels[m->label_count] != NULL; m->label_count++) {
        m->labels[m->label_count] = depot_xstrdup(row->labels[m->label_count]);
    }
    if (row->kind == DEPOT_HISTOGRAM) {
        const double *from = row->buckets != NULL ? row->buckets : default_buckets;
        while (from[m->bucket_count] != 0) {
            m->bucket_count++;
        }
        m->buckets = depot_xalloc(m->bucket_count * sizeof(*from));
        memcpy(m->buckets, from, m->bucket_count * sizeof(*from));
    }
    if (m->label_count == 0) { /* a counter that has not counted yet is 0, not absent */
        (void)series_new(m, &(metric_key){ .len = 0 });
    }
    return m;
}

static bool metric_same(const metric *m, const char *plugin, const depot_metric *row)
{
    size_t n = 0;

    while (n < m->label_count && row->labels != NULL && row->labels[n] != NULL &&
           strcmp(row->labels[n], m->labels[n]) == 0) {
        n++;
    }
    return strcmp(m->plugin, plugin) == 0 && m->kind == row->kind && n == m->label_count &&
           (row->labels == NULL || row->labels[n] == NULL);
}

/* Enters a checked row; false when the name is taken by something else, whose plugin is then told. */
static bool registry_enter(const char *plugin, const depot_metric *row, const char **out_owner)
{
    bool fine = true;

    (void)pthread_rwlock_wrlock(&registry_lock); /* cannot fail: never held by the same thread */
    const metric *same = registry_find(row->name);
    if (same != NULL) {
        fine = metric_same(same, plugin, row);
        *out_owner = same->plugin;
    } else {
        size_t place = registry_place(row->name);
        registry = depot_xrealloc(registry, (registry_count + 1) * sizeof(registry[0]));
        memmove(registry + place + 1, registry + place, (registry_count - place) * sizeof(registry[0]));
        registry[place] = metric_new(plugin, row);
        registry_count++;
    }
    (void)pthread_rwlock_unlock(&registry_lock);
    return fine;
}

static void register_own(void)
{
    const char *owner;

    for (size_t i = 0; i < DEPOT_N(own_rows); i++) {
        (void)registry_enter("core", &own_rows[i], &owner); /* the registry is empty */
    }
}

static void own_ready(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    if (pthread_once(&once, register_own) != 0) {
        base_abort("the metrics cannot be set up");
    }
}

bool metrics_register(const char *plugin, const depot_metric *row, depot_err *err)
{
    const char *owner = "";

    own_ready();
    if (!check_name(row, err) || !check_labels(row, err) || !check_buckets(row, err)) {
        return false;
    }
    if (!registry_enter(plugin, row, &owner)) {
        return DEPOT_FAIL(err, CONFLICT, "metric %s of %s is already there, from %s, as something else", row->name,
                          plugin, owner);
    }
    return true;
}

/* ---- counting ---- */

typedef bool (*series_change)(const metric *m, metric_series *s, double value);

static void add_atomic(_Atomic double *to, double by)
{
    double old = atomic_load_explicit(to, memory_order_relaxed);

    while (!atomic_compare_exchange_weak_explicit(to, &old, old + by, memory_order_relaxed, memory_order_relaxed)) {
        continue; /* old holds the present value now */
    }
}

static bool change_add(const metric *m, metric_series *s, double by)
{
    if (isnan(by) || m->kind == DEPOT_HISTOGRAM || (m->kind == DEPOT_COUNTER && by < 0)) {
        return false;
    }
    add_atomic(&s->value, by);
    return true;
}

static bool change_set(const metric *m, metric_series *s, double value)
{
    if (m->kind != DEPOT_GAUGE) {
        return false;
    }
    atomic_store_explicit(&s->value, value, memory_order_relaxed);
    return true;
}

static bool change_observe(const metric *m, metric_series *s, double value)
{
    size_t i = 0;

    if (m->kind != DEPOT_HISTOGRAM || isnan(value)) {
        return false;
    }
    while (i < m->bucket_count && value > m->buckets[i]) {
        i++;
    }
    atomic_fetch_add_explicit(&s->counts[i], 1, memory_order_relaxed);
    add_atomic(&s->value, value);
    return true;
}

/* Makes the series if it is new and there is room; false on overflow. Another thread may have been faster. */
static bool series_enter(const char *name, const char *const *labels)
{
    metric_key key;

    (void)pthread_rwlock_wrlock(&registry_lock); /* cannot fail: never held by the same thread */
    metric *m = registry_find(name);             /* nothing is ever unregistered */
    key_make(&key, m->label_count, labels);
    bool there = series_find(m, &key) != NULL;
    if (!there && m->series_count < METRIC_MOST_SERIES) {
        (void)series_new(m, &key);
        there = true;
    }
    (void)pthread_rwlock_unlock(&registry_lock);
    return there;
}

typedef enum change_result { CHANGE_DONE, CHANGE_MISUSE, CHANGE_NEW_SERIES } change_result;

static change_result change_try(const char *name, const char *const *labels, series_change change, double value)
{
    change_result result = CHANGE_MISUSE;
    metric_key    key;

    (void)pthread_rwlock_rdlock(&registry_lock); /* cannot fail: never held by the same thread */
    const metric *m = registry_find(name);
    if (m != NULL) {
        key_make(&key, m->label_count, labels);
        metric_series *s = series_find(m, &key);
        if (s == NULL) {
            result = CHANGE_NEW_SERIES;
        } else if (change(m, s, value)) {
            result = CHANGE_DONE;
        }
    }
    (void)pthread_rwlock_unlock(&registry_lock);
    return result;
}

static change_result change_series(const char *name, const char *const *labels, series_change change, double value)
{
    change_result result = change_try(name, labels, change, value);

    if (result == CHANGE_NEW_SERIES && series_enter(name, labels)) {
        result = change_try(name, labels, change, value); /* new again only if cleared in between: one value lost */
    }
    return result;
}

static void change_counted(const char *name, const char *const *labels, series_change change, double value)
{
    static const char *const faults[] = {
        [CHANGE_MISUSE] = "depot_metrics_misuse_total",
        [CHANGE_NEW_SERIES] = "depot_metrics_overflow_total",
    };

    own_ready();
    change_result result = change_series(name, labels, change, value);
    if (result != CHANGE_DONE) {
        /* These have a limit of 200 series as well; what is beyond it is not counted any more. */
        (void)change_series(faults[result], LABELS(name), change_add, 1);
    }
}

void metrics_add(const char *name, const char *const *labels, double by)
{
    change_counted(name, labels, change_add, by);
}

void metrics_set(const char *name, const char *const *labels, double value)
{
    change_counted(name, labels, change_set, value);
}

void metrics_observe(const char *name, const char *const *labels, double value)
{
    change_counted(name, labels, change_observe, value);
}

void metrics_clear(const char *name)
{
    (void)pthread_rwlock_wrlock(&registry_lock); /* cannot fail: never held by the same thread */
    metric *m = registry_find(name);
    if (m != NULL && m->label_count > 0) {
        while (m->first != NULL) {
            metric_series *s = m->first;
            m->first = s->next;
            free(s->values);
            free(s);
        }
        m->last = NULL;
        m->series_count = 0;
        memset(m->slots, 0, sizeof(m->slots));
    }
    (void)pthread_rwlock_unlock(&registry_lock);
}

/* ---- collecting ---- */

void metrics_collector_add(void (*fn)(void *arg), void *arg)
{
    (void)pthread_mutex_lock(&collector_lock); /* cannot fail: not recursive, no owner check */
    collectors = depot_xrealloc(collectors, (collector_count + 1) * sizeof(collectors[0]));
    collectors[collector_count++] = (collector){ fn, arg };
    (void)pthread_mutex_unlock(&collector_lock);
}

void metrics_collector_remove(void (*fn)(void *arg), void *arg)
{
    size_t kept = 0;

    (void)pthread_mutex_lock(&collector_lock);
    for (size_t i = 0; i < collector_count; i++) {
        if (collectors[i].fn != fn || collectors[i].arg != arg) {
            collectors[kept++] = collectors[i];
        }
    }
    collector_count = kept;
    (void)pthread_mutex_unlock(&collector_lock);
}

void metrics_visit(void (*show)(const metric *m, void *arg), void *arg)
{
    own_ready();
    (void)pthread_mutex_lock(&collector_lock);
    for (size_t i = 0; i < collector_count; i++) {
        collectors[i].fn(collectors[i].arg);
    }
    (void)pthread_rwlock_rdlock(&registry_lock);
    for (size_t i = 0; i < registry_count; i++) {
        show(registry[i], arg);
    }
    (void)pthread_rwlock_unlock(&registry_lock);
    (void)pthread_mutex_unlock(&collector_lock);
}
