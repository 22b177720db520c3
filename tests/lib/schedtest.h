/* schedtest.h - for the tests of the scheduler: daemons' schedulers on one real database, a conf.d of the test's own, and
 * actions that record what happened. Include it after tap.h and pgtest.h. */
#ifndef SCHEDTEST_H
#define SCHEDTEST_H

#include "base/metrics.h"
#include "run/sched_parts.h"

typedef struct section {
    const char   *name;
    sched_options o;
} section;

/* One daemon of the group, as far as schedules go. */
typedef struct node {
    const char *name;
    db_pool    *pool;
    executor   *threads;
    sched      *sched;
} node;

static pthread_mutex_t st_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the rest */
static section         st_sections[16];
static size_t          st_n;
static depot_task_row  st_tasks[4];
static size_t          st_n_tasks;
static depot_buf       st_events, st_jobs; /* one a line */
static int             st_calls, st_running, st_most;  /* of tasks: begun, going now, going at the same time */
static int             st_ticks[4];                    /* of housekeeping, by number */
static char            st_last_args[256];

static inline const void *st_now(void)
{
    return st_sections;
}

/* A copy, so that a test may change a section while schedulers look. */
static inline const void *st_next(const void *now, size_t *it, const char **out_name)
{
    static _Thread_local section copy;

    (void)now;
    pthread_mutex_lock(&st_lock);
    bool more = *it < st_n;
    if (more) {
        copy = st_sections[(*it)++];
    }
    pthread_mutex_unlock(&st_lock);
    *out_name = copy.name;
    return more ? &copy.o : NULL;
}

/* Changes the first section: ST_CHANGE(enabled = false); */
#define ST_CHANGE(statement)                                                                                               \
    do {                                                                                                                   \
        sched_options *o_ = &st_sections[0].o;                                                                             \
        pthread_mutex_lock(&st_lock);                                                                                      \
        o_->statement;                                                                                                     \
        pthread_mutex_unlock(&st_lock);                                                                                    \
    } while (0)

static inline const depot_task_row *st_next_task(size_t *it)
{
    return *it < st_n_tasks ? &st_tasks[(*it)++] : NULL;
}

static inline bool st_emit(const char *event, const depot_json *payload, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    (void)err;
    pthread_mutex_lock(&st_lock);
    depot_buf_addf(&st_events, "%s %s\n", event, depot_json_text(arena, payload));
    pthread_mutex_unlock(&st_lock);
    return true;
}

/* Observes its deadline, as every wait in the core does. */
static inline bool st_sleep(int64_t ms, depot_err *err)
{
    for (int64_t until = depot_now_ms() + ms; depot_now_ms() < until; usleep(5000)) {
        if (!unit_check(err)) {
            return false;
        }
    }
    return true;
}

/* "test.wait" {"ms": 100}, "test.fail", "test.tick0" … */
static inline bool st_task(const char *name, const depot_json *args, depot_arena *arena, const depot_json **out, depot_err *err)
{
    if (strncmp(name, "test.tick", 9) == 0) {
        pthread_mutex_lock(&st_lock);
        st_ticks[name[9] - '0']++;
        pthread_mutex_unlock(&st_lock);
        return st_sleep(20, err);
    }
    pthread_mutex_lock(&st_lock);
    st_calls++;
    st_running++;
    st_most = st_running > st_most ? st_running : st_most;
    snprintf(st_last_args, sizeof(st_last_args), "%s", depot_json_text(arena, args));
    pthread_mutex_unlock(&st_lock);
    bool good = st_sleep(depot_json_get_int(args, "ms", 1), err);
    if (good && strcmp(name, "test.fail") == 0) {
        good = DEPOT_FAIL(err, EXEC, "the program ended with status 3");
    }
    pthread_mutex_lock(&st_lock);
    st_running--;
    pthread_mutex_unlock(&st_lock);
    *out = depot_json_pack(arena, "{s:s}", "said", "done");
    return good;
}

static int st_jobs_fail; /* so many enqueues find no database */

static inline bool st_make_jobs(const action_job *jobs, size_t n, depot_err *err)
{
    pthread_mutex_lock(&st_lock);
    bool fails = st_jobs_fail > 0;
    st_jobs_fail -= fails ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        depot_buf_addf(&st_jobs, "%s%s/%s %s\n", fails ? "no " : "", jobs[i].queue, jobs[i].type, jobs[i].key);
    }
    pthread_mutex_unlock(&st_lock);
    return !fails || DEPOT_FAIL(err, DB_DOWN, "the database is away");
}

static const action_ops st_ops = { .task = st_task, .jobs = st_make_jobs };

static inline const char *st_text(const depot_buf *of)
{
    pthread_mutex_lock(&st_lock);
    const char *text = depot_strdup(pgt_arena, of->data == NULL ? "" : of->data);
    pthread_mutex_unlock(&st_lock);
    return text;
}

static inline const char *st_events_text(void)
{
    return st_text(&st_events);
}

static inline int st_read(const int *number)
{
    pthread_mutex_lock(&st_lock);
    int n = *number;
    pthread_mutex_unlock(&st_lock);
    return n;
}

static inline int st_calls_now(void)
{
    return st_read(&st_calls);
}

/* ---- daemons ---- */
static inline void node_up(node *n, const char *name, size_t threads, int64_t lease_ms)
{
    const db_pool_options options = { .url = pg_cluster_url(pgt_cluster), .name = name, .max = 6, .connect_timeout_ms = 3000,
                                      .acquire_timeout_ms = 5000, .statement_timeout_ms = 10000, .lock_timeout_ms = 5000 };

    *n = (node){ .name = name, .pool = db_pool_new(&options), .threads = executor_new(threads, 16) };
    const sched_env env = { .db = n->pool, .executor = n->threads, .node = name, .ops = &st_ops, .sections = st_now, .next = st_next,
                            .next_task = st_next_task, .emit = st_emit, .lease_ms = lease_ms };
    n->sched = sched_new(&env);
    sched_begin(n->sched);
}

static inline void node_down(node *n, int64_t grace_ms)
{
    sched_end(n->sched);
    executor_drain(n->threads, grace_ms);
    executor_free(n->threads);
    db_pool_free(n->pool);
}

/* ---- each test begins with empty tables ---- */
static inline void st_fresh(void)
{
    pgt_do("truncate depot.schedule, depot.schedule_run, depot.duty");
    st_n = st_n_tasks = 0;
    depot_buf_reset(&st_events);
    depot_buf_reset(&st_jobs);
    st_calls = st_running = st_most = 0;
    memset(st_ticks, 0, sizeof(st_ticks));
    st_last_args[0] = '\0';
}

static inline sched_options *st_add(const char *name, const char *cron_text, const char *run_text)
{
    st_sections[st_n] = (section){ name, { .cron = cron_text, .zone = "UTC", .run = run_text, .timeout = 30000, .enabled = true,
                                           .overlap = OVERLAP_SKIP, .missed = MISSED_NONE } };
    return &st_sections[st_n++].o;
}

static inline bool st_eventually(bool (*holds)(void), int seconds)
{
    for (int i = 0; i < seconds * 20; i++) {
        if (holds()) {
            return true;
        }
        usleep(50000);
    }
    return false;
}

static inline void st_begin(void)
{
    static const char *const core[] = { "core", NULL };
    depot_err                err = { 0 };

    pgt_begin();
    pgt_migrate(core);
    for (size_t i = 0; i < sched_metrics_n; i++) {
        ok_err(metrics_register("core", &sched_metrics[i], &err), &err, sched_metrics[i].name);
    }
}

static inline void st_end(void)
{
    depot_buf_free(&st_events);
    pgt_end();
}

#endif
