/* metrics_text.c - the registry as Prometheus text and as JSON. */
#include <string.h>

#include "base/metrics_parts.h"
#include "base/text.h"

static const char *const kind_names[] = {
    [DEPOT_COUNTER] = "counter",
    [DEPOT_GAUGE] = "gauge",
    [DEPOT_HISTOGRAM] = "histogram",
};

/* ---- Prometheus text ---- */

/* Help texts and label values have their own escapes; help does not know the one for quotes. */
static void prom_escaped(depot_buf *out, const char *s, bool quotes)
{
    for (; *s != '\0'; s++) {
        if (*s == '\n') {
            depot_buf_adds(out, "\\n");
        } else if (*s == '\\' || (*s == '"' && quotes)) {
            depot_buf_addf(out, "\\%c", *s);
        } else {
            depot_buf_add(out, s, 1);
        }
    }
}

static void prom_number(depot_buf *out, double d)
{
    char text[TEXT_DOUBLE_SIZE];

    text_format_double(d, text);
    depot_buf_adds(out, text);
}

static void prom_label(depot_buf *out, const char *before, const char *name, const char *value)
{
    depot_buf_addf(out, "%s%s=\"", before, name);
    prom_escaped(out, value, true);
    depot_buf_adds(out, "\"");
}

/* `name<suffix>{labels,le="…"} ` up to the value; le NULL: without. */
static void prom_head(depot_buf *out, const metric *m, const metric_series *s, const char *suffix, const char *le)
{
    const char *value = s->values;
    bool        any = m->label_count > 0 || le != NULL;

    depot_buf_addf(out, "%s%s", m->name, suffix);
    for (size_t i = 0; i < m->label_count; i++) {
        prom_label(out, i == 0 ? "{" : ",", m->labels[i], value);
        value += strlen(value) + 1;
    }
    if (le != NULL) {
        prom_label(out, m->label_count == 0 ? "{" : ",", "le", le);
    }
    depot_buf_adds(out, any ? "} " : " ");
}

/* The count is the sum of the buckets, so that it fits them even while others observe. */
static void prom_histogram(depot_buf *out, const metric *m, const metric_series *s)
{
    uint64_t total = 0;

    for (size_t i = 0; i <= m->bucket_count; i++) {
        char le[TEXT_DOUBLE_SIZE] = "+Inf";

        if (i < m->bucket_count) {
            text_format_double(m->buckets[i], le);
        }
        total += atomic_load_explicit(&s->counts[i], memory_order_relaxed);
        prom_head(out, m, s, "_bucket", le);
        depot_buf_addf(out, "%llu\n", (unsigned long long)total);
    }
    prom_head(out, m, s, "_sum", NULL);
    prom_number(out, atomic_load_explicit(&s->value, memory_order_relaxed));
    depot_buf_adds(out, "\n");
    prom_head(out, m, s, "_count", NULL);
    depot_buf_addf(out, "%llu\n", (unsigned long long)total);
}

static void prom_metric(const metric *m, void *arg)
{
    depot_buf *out = arg;

    if (m->first == NULL) {
        return;
    }
    depot_buf_addf(out, "# HELP %s ", m->name);
    prom_escaped(out, m->help, false);
    depot_buf_addf(out, "\n# TYPE %s %s\n", m->name, kind_names[m->kind]);
    for (const metric_series *s = m->first; s != NULL; s = s->next) {
        if (m->kind == DEPOT_HISTOGRAM) {
            prom_histogram(out, m, s);
            continue;
        }
        prom_head(out, m, s, "", NULL);
        prom_number(out, atomic_load_explicit(&s->value, memory_order_relaxed));
        depot_buf_adds(out, "\n");
    }
}

void metrics_prom(depot_buf *out)
{
    metrics_visit(prom_metric, out);
}

/* ---- JSON ---- */

typedef struct json_target {
    depot_arena *arena;
    depot_json  *list;
} json_target;

static depot_json *json_series(depot_arena *arena, const metric *m, const metric_series *s)
{
    depot_json *labels = depot_json_object(arena);
    const char *value = s->values;
    double      number = atomic_load_explicit(&s->value, memory_order_relaxed);
    int64_t     total = 0;

    for (size_t i = 0; i < m->label_count; i++) {
        depot_json_set(labels, m->labels[i], depot_json_str(arena, value));
        value += strlen(value) + 1;
    }
    if (m->kind != DEPOT_HISTOGRAM) {
        return depot_json_pack(arena, "{s:o, s:f}", "labels", labels, "value", number);
    }
    depot_json *buckets = depot_json_array(arena);
    for (size_t i = 0; i < m->bucket_count; i++) {
        total += (int64_t)atomic_load_explicit(&s->counts[i], memory_order_relaxed);
        depot_json_add(buckets, depot_json_pack(arena, "{s:f, s:I}", "le", m->buckets[i], "count", total));
    }
    total += (int64_t)atomic_load_explicit(&s->counts[m->bucket_count], memory_order_relaxed);
    return depot_json_pack(arena, "{s:o, s:I, s:f, s:o}", "labels", labels, "count", total, "sum", number, "buckets",
                           buckets);
}

static void json_metric(const metric *m, void *arg)
{
    json_target *to = arg;
    depot_json  *series = depot_json_array(to->arena);

    for (const metric_series *s = m->first; s != NULL; s = s->next) {
        depot_json_add(series, json_series(to->arena, m, s));
    }
    depot_json_add(to->list,
                   depot_json_pack(to->arena, "{s:s, s:s, s:s, s:s, s:o}", "name", m->name, "kind", kind_names[m->kind],
                                   "help", m->help, "plugin", m->plugin, "series", series));
}

depot_json *metrics_json(depot_arena *arena)
{
    json_target to = { .arena = arena, .list = depot_json_array(arena) };

    metrics_visit(json_metric, &to);
    return to.list;
}
