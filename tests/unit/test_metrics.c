/* test_metrics.c - the registry: names, values, limits, threads, and what promtool says of the text. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "base/metrics.h"
#include "tap.h"

#define LABELS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static const char *scrape(void)
{
    static depot_buf out;

    depot_buf_reset(&out);
    metrics_prom(&out);
    return out.data;
}

static void must_register(const depot_metric *row)
{
    depot_err err = { 0 };

    ok_err(metrics_register("test", row, &err), &err, row->name);
}

static void counters_count(void)
{
    const depot_metric plain = { "depot_test_plain_total", DEPOT_COUNTER, NULL, NULL, "Plain" };
    const depot_metric labelled = { "depot_test_jobs_total", DEPOT_COUNTER, LABELS("queue", "state"), NULL, "Jobs" };

    must_register(&plain);
    must_register(&labelled);
    contains(scrape(),
             "# HELP depot_test_plain_total Plain\n# TYPE depot_test_plain_total counter\ndepot_test_plain_total 0\n",
             "without labels it is there from the start");
    ok(strstr(scrape(), "depot_test_jobs_total") == NULL, "with labels it is not");
    metrics_add("depot_test_plain_total", NULL, 1);
    metrics_add("depot_test_plain_total", NULL, 2.5);
    metrics_add("depot_test_jobs_total", LABELS("a", "done"), 2);
    metrics_add("depot_test_jobs_total", LABELS("a", "done"), 1);
    metrics_add("depot_test_jobs_total", LABELS("ado", "ne"), 5);
    metrics_add("depot_test_jobs_total", LABELS("b"), 7);
    metrics_add("depot_test_jobs_total", NULL, 8);
    contains(scrape(), "\ndepot_test_plain_total 3.5\n", "sum");
    contains(scrape(),
             "# TYPE depot_test_jobs_total counter\ndepot_test_jobs_total{queue=\"a\",state=\"done\"} 3\n"
             "depot_test_jobs_total{queue=\"ado\",state=\"ne\"} 5\ndepot_test_jobs_total{queue=\"b\",state=\"\"} 7\n"
             "depot_test_jobs_total{queue=\"\",state=\"\"} 8\n",
             "one series for each set of values, missing ones empty");
}

static void gauges_go_both_ways(void)
{
    const depot_metric row = { "pgflow_test_depth", DEPOT_GAUGE, NULL, NULL, "Depth" };

    must_register(&row);
    metrics_set("pgflow_test_depth", NULL, 5);
    metrics_add("pgflow_test_depth", NULL, -7);
    contains(scrape(), "\npgflow_test_depth -2\n", "set and moved");
    metrics_set("pgflow_test_depth", NULL, (double)NAN);
    contains(scrape(), "\npgflow_test_depth NaN\n", "unknown is NaN");
    metrics_set("pgflow_test_depth", NULL, (double)INFINITY);
    contains(scrape(), "\npgflow_test_depth +Inf\n", "infinity");
}

static void histograms_are_cumulative(void)
{
    static const double buckets[] = { 0.1, 1, 10, 0 };
    const depot_metric  row = { "depot_test_wait_seconds", DEPOT_HISTOGRAM, LABELS("queue"), buckets, "Wait" };
    const depot_metric  scale = { "depot_test_run_seconds", DEPOT_HISTOGRAM, NULL, NULL, "Run" };

    must_register(&row);
    must_register(&scale);
    static const double values[] = { 0.05, 0.1, 0.5, 99, 1 };
    for (size_t i = 0; i < DEPOT_N(values); i++) {
        metrics_observe("depot_test_wait_seconds", LABELS("q"), values[i]);
    }
    contains(scrape(),
             "# TYPE depot_test_wait_seconds histogram\n"
             "depot_test_wait_seconds_bucket{queue=\"q\",le=\"0.1\"} 2\n"
             "depot_test_wait_seconds_bucket{queue=\"q\",le=\"1\"} 4\n"
             "depot_test_wait_seconds_bucket{queue=\"q\",le=\"10\"} 4\n"
             "depot_test_wait_seconds_bucket{queue=\"q\",le=\"+Inf\"} 5\n"
             "depot_test_wait_seconds_sum{queue=\"q\"} 100.65\n"
             "depot_test_wait_seconds_count{queue=\"q\"} 5\n",
             "each bound counts what is not above it");
    contains(scrape(), "depot_test_run_seconds_bucket{le=\"0.001\"} 0\n", "the usual scale begins at 1 ms");
    contains(scrape(), "depot_test_run_seconds_bucket{le=\"60\"} 0\ndepot_test_run_seconds_bucket{le=\"+Inf\"} 0\n",
             "and ends at 60 s");
}

static void bad_rows_are_refused(void)
{
    static const double falling[] = { 1, 0.5, 0 };
    static const double infinite[] = { 1, (double)INFINITY, 0 };
    double              many[60] = { 0 };
    for (size_t i = 0; i < 59; i++) {
        many[i] = (double)i + 1;
    }
    const struct {
        depot_metric row;
        const char  *why;
    } rows[] = {
        { { "other_x_total", DEPOT_COUNTER, NULL, NULL, "x" }, "is not allowed" },
        { { "depot_X_total", DEPOT_COUNTER, NULL, NULL, "x" }, "is not allowed" },
        { { "depot_x__y_total", DEPOT_COUNTER, NULL, NULL, "x" }, "is not allowed" },
        { { "depot_", DEPOT_GAUGE, NULL, NULL, "x" }, "is not allowed" },
        { { "depot_x", DEPOT_COUNTER, NULL, NULL, "x" }, "end in _total" },
        { { "depot_x_total", DEPOT_GAUGE, NULL, NULL, "x" }, "end in _total" },
        { { "depot_x_count", DEPOT_GAUGE, NULL, NULL, "x" }, "parts of a histogram" },
        { { "depot_x_sum", DEPOT_GAUGE, NULL, NULL, "x" }, "parts of a histogram" },
        { { "depot_x_bucket", DEPOT_GAUGE, NULL, NULL, "x" }, "parts of a histogram" },
        { { "depot_x", DEPOT_GAUGE, NULL, NULL, "" }, "no help text" },
        { { "depot_x", DEPOT_GAUGE, NULL, NULL, NULL }, "no help text" },
        { { "depot_x", DEPOT_GAUGE, LABELS("le"), NULL, "x" }, "label name \"le\"" },
        { { "depot_x", DEPOT_GAUGE, LABELS("quantile"), NULL, "x" }, "label name \"quantile\"" },
        { { "depot_x", DEPOT_GAUGE, LABELS("aB"), NULL, "x" }, "label name \"aB\"" },
        { { "depot_x", DEPOT_GAUGE, LABELS("a", "b", "a"), NULL, "x" }, "two labels \"a\"" },
        { { "depot_x", DEPOT_GAUGE, LABELS("a", "b", "c", "d", "e", "f", "g", "h", "i"), NULL, "x" },
          "more than 8 labels" },
        { { "depot_x", DEPOT_GAUGE, NULL, falling, "x" }, "no histogram" },
        { { "depot_x", DEPOT_HISTOGRAM, NULL, falling, "x" }, "bucket 2 is not above" },
        { { "depot_x", DEPOT_HISTOGRAM, NULL, infinite, "x" }, "bucket 2 is not above" },
        { { "depot_x", DEPOT_HISTOGRAM, NULL, many, "x" }, "more than 50 buckets" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err err = { 0 };
        ok(!metrics_register("test", &rows[i].row, &err), rows[i].row.name);
        is_int(err.code, DEPOT_E_INVALID, "is INVALID");
        contains(err.msg, rows[i].why, rows[i].why);
    }
    ok(strstr(scrape(), "depot_x") == NULL, "none of them got in");
}

static void a_name_belongs_to_one(void)
{
    const depot_metric        row = { "depot_test_owned", DEPOT_GAUGE, LABELS("a", "b"), NULL, "x" };
    const depot_metric        fewer = { "depot_test_owned", DEPOT_GAUGE, LABELS("a"), NULL, "x" };
    const depot_metric        more = { "depot_test_owned", DEPOT_GAUGE, LABELS("a", "b", "c"), NULL, "x" };
    const depot_metric        none = { "depot_test_owned", DEPOT_GAUGE, NULL, NULL, "x" };
    const depot_metric        kind = { "depot_test_owned", DEPOT_HISTOGRAM, LABELS("a", "b"), NULL, "x" };
    const depot_metric *const others[] = { &fewer, &more, &none, &kind };
    depot_err                 err = { 0 };

    must_register(&row);
    must_register(&row);
    for (size_t i = 0; i < DEPOT_N(others); i++) {
        ok(!metrics_register("test", others[i], &err) && err.code == DEPOT_E_CONFLICT, "another row is a CONFLICT");
    }
    ok(!metrics_register("second", &row, &err) && err.code == DEPOT_E_CONFLICT, "and so is another plugin");
    contains(err.msg, "of second is already there, from test", "which are both named");
}

static void values_are_made_presentable(void)
{
    const depot_metric row = { "depot_test_odd", DEPOT_GAUGE, LABELS("v"), NULL, "Help with \\ and\nline \"end\"" };
    char               long_value[300];

    must_register(&row);
    metrics_set("depot_test_odd", LABELS("a\"b\\c\nd"), 1);
    metrics_set("depot_test_odd", LABELS("\xFF"), 2);
    memset(long_value, 'l', sizeof(long_value) - 1);
    long_value[sizeof(long_value) - 1] = '\0';
    metrics_set("depot_test_odd", LABELS(long_value), 3);
    contains(scrape(), "# HELP depot_test_odd Help with \\\\ and\\nline \"end\"\n", "help");
    contains(scrape(), "depot_test_odd{v=\"a\\\"b\\\\c\\nd\"} 1\n", "value");
    contains(scrape(), "depot_test_odd{v=\"\xEF\xBF\xBD\"} 2\n", "bytes that are no UTF-8");
    long_value[128] = '\0';
    contains(scrape(), long_value, "a long value");
    ok(strstr(scrape(), "lllll\"} 3") != NULL && strlen(strstr(scrape(), long_value)) > 128, "is there");
    ok(strspn(strstr(scrape(), long_value), "l") == 128, "cut at 128 bytes");
}

static void series_have_a_limit(void)
{
    const depot_metric row = { "depot_test_flood_total", DEPOT_COUNTER, LABELS("id"), NULL, "Flood" };
    char               value[16];
    int                lines = 0;

    must_register(&row);
    for (int i = 0; i < 250; i++) {
        (void)snprintf(value, sizeof(value), "%d", i % 225);
        metrics_add("depot_test_flood_total", LABELS(value), 1);
    }
    for (const char *at = scrape(); (at = strstr(at, "\ndepot_test_flood_total{")) != NULL; at++) {
        lines++;
    }
    is_int(lines, 200, "200 series");
    contains(scrape(), "depot_test_flood_total{id=\"24\"} 2\n", "known ones go on counting");
    contains(scrape(), "depot_metrics_overflow_total{metric=\"depot_test_flood_total\"} 25\n",
             "the others are counted");
    metrics_clear("depot_test_flood_total");
    ok(strstr(scrape(), "\ndepot_test_flood_total") == NULL, "cleared");
    metrics_add("depot_test_flood_total", LABELS("new"), 1);
    contains(scrape(), "depot_test_flood_total{id=\"new\"} 1\n", "there is room again");
}

static void misuse_is_counted(void)
{
    metrics_add("depot_test_absent_total", NULL, 1);
    metrics_add("depot_test_plain_total", NULL, -1);
    metrics_add("depot_test_plain_total", NULL, (double)NAN);
    metrics_set("depot_test_plain_total", NULL, 1);
    metrics_observe("depot_test_plain_total", NULL, 1);
    metrics_add("depot_test_run_seconds", NULL, 1);
    metrics_observe("depot_test_run_seconds", NULL, (double)NAN);
    metrics_clear("depot_test_absent");
    metrics_clear("depot_test_plain_total");
    contains(scrape(), "depot_metrics_misuse_total{metric=\"depot_test_absent_total\"} 1\n", "unknown name");
    contains(scrape(), "depot_metrics_misuse_total{metric=\"depot_test_plain_total\"} 4\n",
             "what a counter is not for");
    contains(scrape(), "depot_metrics_misuse_total{metric=\"depot_test_run_seconds\"} 2\n", "nor a histogram");
    contains(scrape(), "\ndepot_test_plain_total 3.5\n", "it has changed nothing");
}

static void collect(void *arg)
{
    metrics_clear("depot_test_owned");
    metrics_set("depot_test_owned", LABELS("x", (const char *)arg), 1);
}

static void collectors_run_before_a_scrape(void)
{
    char one[] = "one";
    char two[] = "two";

    metrics_collector_add(collect, one);
    metrics_collector_add(collect, two);
    contains(scrape(), "depot_test_owned{a=\"x\",b=\"two\"} 1\n", "in order");
    ok(strstr(scrape(), "b=\"one\"") == NULL, "what one has cleared is gone");
    metrics_collector_remove(collect, two);
    contains(scrape(), "depot_test_owned{a=\"x\",b=\"one\"} 1\n", "one is removed");
    metrics_collector_remove(collect, one);
    metrics_clear("depot_test_owned");
    ok(strstr(scrape(), "depot_test_owned{") == NULL, "both are");
}

#define THREADS 4
#define ROUNDS  20000
static atomic_bool stop_scraping;

static void *hammer(void *arg)
{
    char value[16];

    for (int i = 0; i < ROUNDS; i++) {
        (void)snprintf(value, sizeof(value), "%d", i % 50);
        metrics_add("depot_test_threads_total", LABELS(value), 1);
        metrics_observe("depot_test_threads_seconds", NULL, 0.5);
    }
    return arg;
}

static void *scrape_on(void *arg)
{
    while (!atomic_load(&stop_scraping)) {
        DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
        metrics_prom(&out);
    }
    return arg;
}

static void threads_lose_nothing(void)
{
    const depot_metric total = { "depot_test_threads_total", DEPOT_COUNTER, LABELS("n"), NULL, "x" };
    const depot_metric wait = { "depot_test_threads_seconds", DEPOT_HISTOGRAM, NULL, NULL, "x" };
    pthread_t          threads[THREADS];
    pthread_t          scraper;
    int                wrong = 0;
    char               want[80];

    must_register(&total);
    must_register(&wait);
    ok(pthread_create(&scraper, NULL, scrape_on, NULL) == 0, "a scraper");
    for (int i = 0; i < THREADS; i++) {
        wrong += pthread_create(&threads[i], NULL, hammer, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        wrong += pthread_join(threads[i], NULL);
    }
    atomic_store(&stop_scraping, true);
    wrong += pthread_join(scraper, NULL);
    is_int(wrong, 0, "all threads ran");
    for (int i = 0; i < 50; i++) {
        (void)snprintf(want, sizeof(want), "depot_test_threads_total{n=\"%d\"} %d\n", i, THREADS * ROUNDS / 50);
        wrong += strstr(scrape(), want) == NULL;
    }
    is_int(wrong, 0, "each series has all of its counts");
    (void)snprintf(want, sizeof(want), "depot_test_threads_seconds_count %d\n", THREADS * ROUNDS);
    contains(scrape(), want, "observations");
    (void)snprintf(want, sizeof(want), "depot_test_threads_seconds_sum %d\n", THREADS * ROUNDS / 2);
    contains(scrape(), want, "and their sum");
}

static void the_text_is_sorted_and_json_is_the_same(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const depot_json                         *list = metrics_json(arena);
    const char                               *last = "";
    size_t                                    unsorted = 0;

    for (size_t i = 0; i < depot_json_len(list); i++) {
        const char *name = depot_json_get_str(depot_json_at(list, i), "name", "");
        unsorted += strcmp(last, name) >= 0;
        last = name;
        if (strcmp(name, "depot_test_jobs_total") == 0) {
            is_str(depot_json_text(arena, depot_json_at(depot_json_get(depot_json_at(list, i), "series"), 0)),
                   "{\"labels\":{\"queue\":\"a\",\"state\":\"done\"},\"value\":3.0}", "a counter");
            is_str(depot_json_get_str(depot_json_at(list, i), "kind", ""), "counter", "kind");
            is_str(depot_json_get_str(depot_json_at(list, i), "plugin", ""), "test", "plugin");
            is_str(depot_json_get_str(depot_json_at(list, i), "help", ""), "Jobs", "help");
        }
        if (strcmp(name, "depot_test_wait_seconds") == 0) {
            is_str(depot_json_text(arena, depot_json_at(depot_json_get(depot_json_at(list, i), "series"), 0)),
                   "{\"labels\":{\"queue\":\"q\"},\"count\":5,\"sum\":100.65,\"buckets\":[{\"le\":0.1,\"count\":2},"
                   "{\"le\":1.0,\"count\":4},{\"le\":10.0,\"count\":4}]}",
                   "a histogram");
        }
    }
    is_int(unsorted, 0, "sorted by name");
    ok(depot_json_len(list) > 10, "all are there");
}

static void promtool_has_no_complaint(void)
{
    int   ends[2];
    pid_t pid = -1;
    int   status = -1;

    if (access("/usr/bin/promtool", X_OK) != 0) {
        skip("promtool check metrics", "promtool is not installed");
        return;
    }
    const char *text = scrape();
    if (!ok(pipe(ends) == 0 && (pid = fork()) >= 0, "start promtool")) {
        return;
    }
    if (pid == 0) {
        (void)dup2(ends[0], STDIN_FILENO);
        (void)dup2(STDERR_FILENO, STDOUT_FILENO);
        (void)close(ends[1]);
        (void)execl("/usr/bin/promtool", "promtool", "check", "metrics", (char *)NULL);
        _exit(127);
    }
    depot_err err = { 0 };
    (void)close(ends[0]);
    ok_err(depot_write_all(ends[1], text, strlen(text), &err), &err, "hand it the text");
    (void)close(ends[1]);
    ok(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "it ended");
    is_int(WEXITSTATUS(status), 0, "promtool check metrics");
}

int main(void)
{
    run(counters_count);
    run(gauges_go_both_ways);
    run(histograms_are_cumulative);
    run(bad_rows_are_refused);
    run(a_name_belongs_to_one);
    run(values_are_made_presentable);
    run(series_have_a_limit);
    run(misuse_is_counted);
    run(collectors_run_before_a_scrape);
    run(threads_lose_nothing);
    run(the_text_is_sorted_and_json_is_the_same);
    run(promtool_has_no_complaint);
    return done();
}
