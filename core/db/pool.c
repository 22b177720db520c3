/* pool.c - the bounded set of connections that the C threads of a process share. Connections are made when needed and
 * looked at before they are lent again; while the server is away, one thread at a time finds out whether it is back. */
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/unit.h"
#include "db/backoff.h"
#include "db/conn.h"
#include "db/pool.h"

#define MAX_DEFAULT 10
#define CONNECT_DEFAULT_MS 10000
#define ACQUIRE_DEFAULT_MS 30000
#define IDLE_MOST_MS 300000 /* an idle connection keeps memory on the server */
#define KEPT_STREAK 16
#define KEPT_MS 1000
#define REFUSED_MS 30000
#define SPARE_MS 1000       /* how long to wait for a connection that is not needed */
#define SLICE_MS 100        /* how late a cancel flag may be noticed */

struct db_pool {
    char     *url, *name;
    size_t    max;
    int64_t   connect_ms, acquire_ms;
    db_limits limits;

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t  changed; /* a connection or a place for one became free, or a try to connect ended */
    depot_db       *idle;    /* last used first */
    size_t          open, idle_count;
    size_t          connecting;
    bool            healthy, is_pooler;
    int64_t         refused_ms; /* when a connection was last tried for in vain: none is kept for a while */
    int64_t         backoff_ms, retry_at_ms;
    depot_err       last_error;
    db_pool_counts  counts;
};

static int64_t or_default(int64_t value, int64_t otherwise)
{
    return value > 0 ? value : otherwise;
}

db_pool *db_pool_new(const db_pool_options *options)
{
    db_pool *pool = depot_xalloc(sizeof(*pool));

    pool->url = depot_xstrdup(options->url);
    pool->name = depot_xstrdup(options->name == NULL ? "depotd" : options->name);
    pool->max = options->max > 0 ? options->max : MAX_DEFAULT;
    pool->connect_ms = or_default(options->connect_timeout_ms, CONNECT_DEFAULT_MS);
    pool->acquire_ms = or_default(options->acquire_timeout_ms, ACQUIRE_DEFAULT_MS);
    pool->limits.statement_ms = options->statement_timeout_ms;
    pool->limits.lock_ms = options->lock_timeout_ms;
    pool->limits.idle_tx_ms = options->idle_tx_timeout_ms;
    if (pthread_mutex_init(&pool->lock, NULL) != 0) {
        abort(); /* fails on glibc for wrong attributes only */
    }
    clock_cond_init(&pool->changed);
    return pool;
}

void db_pool_free(db_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    while (pool->idle != NULL) {
        depot_db *db = pool->idle;
        pool->idle = db->next;
        db_conn_close(db);
    }
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool->url);
    free(pool->name);
    free(pool);
}

/* With the lock held. */
static void note_failure(db_pool *pool, const depot_err *err)
{
    pool->healthy = false;
    pool->last_error = *err;
    if (pool->backoff_ms == 0) { /* the first of a row: callers may wait for long before they say it */
        log_err("db", DEPOT_LOG_WARN, "db.unreachable", err);
    }
    pool->backoff_ms = backoff_next(pool->backoff_ms);
    pool->retry_at_ms = depot_now_ms() + backoff_jittered(pool->backoff_ms);
    pool->counts.connect_failures++;
}

/* With the lock held: it would be one more than is needed, so that all is well without. Once it is said. */
static void note_refusal(const db_pool *pool, const depot_err *err)
{
    if (pool->refused_ms == 0) {
        log_err("db", DEPOT_LOG_INFO, "db.no_spare_connection", err);
    }
}

/* With the lock held: a place for a connection is taken already. is_spare: an idle one would do, too. */
static bool pool_connect(db_pool *pool, bool is_spare, int64_t deadline_ms, depot_db **out, depot_err *err)
{
    int64_t left_ms = deadline_ms - depot_now_ms();

    pool->connecting++;
    pthread_mutex_unlock(&pool->lock);
    bool good = db_conn_open(pool->url, pool->name, &pool->limits,
                             left_ms < pool->connect_ms ? left_ms : pool->connect_ms, out, err);
    pthread_mutex_lock(&pool->lock);
    pool->connecting--;
    if (good) {
        (*out)->pool = pool;
        (*out)->user = pthread_self();
        pool->healthy = true;
        pool->backoff_ms = 0;
        pool->retry_at_ms = 0;
        pool->is_pooler = (*out)->pooled;
        pool->counts.connects++;
    } else {
        pool->open--;
        if (is_spare) {
            note_refusal(pool, err);
        } else if (err->code != DEPOT_E_TIMEOUT && err->code != DEPOT_E_CANCELED) {
            note_failure(pool, err);
        }
        pool->refused_ms = depot_now_ms();
    }
    pthread_cond_broadcast(&pool->changed);
    return good;
}

/* With the lock held: whether to try a new connection now. While the server is away one thread at a time does. */
static bool may_connect(const db_pool *pool)
{
    if (pool->open >= pool->max) {
        return false;
    }
    return pool->healthy || pool->backoff_ms == 0 || (pool->connecting == 0 && depot_now_ms() >= pool->retry_at_ms);
}

/* A session has plans of what is asked in it again and again. So a thread gets the connection that it had before, and one that somebody uses
 * all the time is left to him as long as there may be another. */
static bool is_kept(const depot_db *db)
{
    return !db->pooled && db->streak >= KEPT_STREAK && depot_now_ms() < db->idle_since_ms + KEPT_MS;
}

/* With the lock held. */
static depot_db **find_idle(db_pool *pool, bool has_place)
{
    depot_db **best = NULL;

    for (depot_db **link = &pool->idle; *link != NULL; link = &(*link)->next) {
        if (pthread_equal((*link)->user, pthread_self())) {
            return link;
        }
        if (best == NULL && !(has_place && is_kept(*link))) {
            best = link;
        }
    }
    return best;
}

static void note_user(depot_db *db)
{
    bool again = pthread_equal(db->user, pthread_self());

    db->streak = again ? db->streak + 1 : 0;
    db->user = pthread_self();
}

/* With the lock held: an idle connection that still stands, or NULL. has_place: for a new one. */
static depot_db *take_idle(db_pool *pool, bool has_place)
{
    for (depot_db **link; (link = find_idle(pool, has_place)) != NULL;) {
        depot_db *db = *link;
        *link = db->next;
        pool->idle_count--;
        if (db_conn_alive(db)) {
            db->next = NULL;
            note_user(db);
            return db;
        }
        db_conn_close(db);
        pool->open--;
        pool->counts.lost++;
    }
    return NULL;
}

/* With the lock held. */
static bool fail_waiting(db_pool *pool, bool is_away, depot_err *err)
{
    pool->counts.timeouts++;
    if (is_away) {
        *err = pool->last_error;
        return false;
    }
    DEPOT_FAIL(err, UNAVAILABLE, "all %zu connections to the database are in use", pool->max);
    return depot_hint(
        err, "raise [database] max_connections, or look for what keeps them: long transactions, slow statements");
}

/* With the lock held: one round; false with err filled ends the wait, true with *out NULL says to go on waiting. */
static bool try_once(db_pool *pool, bool wait, int64_t deadline_ms, depot_db **out, depot_err *err)
{
    bool may_keep = may_connect(pool) && (pool->refused_ms == 0 || depot_now_ms() >= pool->refused_ms + REFUSED_MS);

    *out = take_idle(pool, may_keep);
    if (*out != NULL) {
        return true;
    }
    bool is_away = !pool->healthy && pool->backoff_ms > 0;

    if (may_connect(pool)) {
        bool    is_spare = pool->idle != NULL; /* left to somebody else */
        int64_t spare_ms = depot_now_ms() + SPARE_MS;
        pool->open++;
        bool good = pool_connect(pool, is_spare, is_spare && spare_ms < deadline_ms ? spare_ms : deadline_ms, out, err);
        if (!good && (is_spare || err->code == DEPOT_E_DB_DOWN) && (*out = take_idle(pool, false)) != NULL) {
            *err = (depot_err){ 0 }; /* the server takes no more of them, and somebody gave one back */
            good = true;
        } else if (!good && is_spare) {
            *err = (depot_err){ 0 }; /* the idle one has been taken meanwhile: the next round knows */
            return true;
        }
        return good || (wait && err->code == DEPOT_E_DB_DOWN);
    }
    if (is_away && !wait && pool->open < pool->max) {
        *err = pool->last_error;
        return false;
    }
    if (depot_now_ms() >= deadline_ms) {
        return fail_waiting(pool, is_away, err);
    }
    return true;
}

bool db_pool_open(db_pool *pool, bool wait, depot_db **out, depot_err *err)
{
    int64_t deadline_ms = depot_now_ms() + unit_remaining_ms(pool->acquire_ms);
    bool    good = true;

    *out = NULL;
    pthread_mutex_lock(&pool->lock);
    for (bool first = true; good; first = false) {
        good = unit_check(err) && try_once(pool, wait, deadline_ms, out, err);
        if (*out != NULL || !good) {
            break;
        }
        if (first) {
            pool->counts.waits++;
        }
        int64_t until_ms = depot_now_ms() + SLICE_MS;
        (void)clock_cond_wait(&pool->changed, &pool->lock, until_ms < deadline_ms ? until_ms : deadline_ms);
    }
    pthread_mutex_unlock(&pool->lock);
    return good;
}

/* With the lock held: takes those out that nobody has needed for a while. */
static depot_db *take_old(db_pool *pool)
{
    depot_db **link = &pool->idle;
    int64_t    before_ms = depot_now_ms() - IDLE_MOST_MS;

    while (*link != NULL && (*link)->idle_since_ms >= before_ms) {
        link = &(*link)->next;
    }
    depot_db *old = *link;
    *link = NULL;
    for (const depot_db *db = old; db != NULL; db = db->next) {
        pool->idle_count--;
        pool->open--;
    }
    return old;
}

static void give_back(db_pool *pool, depot_db *db)
{
    depot_db *old = NULL;

    pthread_mutex_lock(&pool->lock);
    if (db->broken) {
        pool->open--;
        pool->counts.lost++;
        pool->healthy = false;
        (void)depot_fail(&pool->last_error, DEPOT_E_DB_DOWN, __FILE__, __LINE__, "a connection was lost while in use");
        db->next = NULL;
        old = db;
    } else {
        db->idle_since_ms = depot_now_ms();
        db->next = pool->idle;
        pool->idle = db;
        pool->idle_count++;
        pool->healthy = true;
        pool->backoff_ms = 0;
        old = take_old(pool);
    }
    pthread_cond_signal(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    while (old != NULL) {
        depot_db *next = old->next;
        db_conn_close(old);
        old = next;
    }
}

void depot_db_close(depot_db **dbp)
{
    depot_db *db = *dbp;

    *dbp = NULL;
    if (db == NULL) {
        return;
    }
    if (db->pool == NULL) {
        db_conn_close(db);
        return;
    }
    db_settle(db);
    give_back(db->pool, db);
}

bool db_pool_sql(db_pool *pool, depot_arena *arena, const char *sql, const depot_val *vals, size_t n, depot_rows **out,
                 depot_err *err)
{
    DEPOT_AUTO(depot_db_close) depot_db *db = NULL;

    if (!db_pool_open(pool, false, &db, err)) {
        return false;
    }
    if (!db->pooled) {
        return depot_db_sql(db, arena, sql, vals, n, out, err); /* the session has the limits */
    }
    return db_single(db, arena, NULL, &(depot_stmt){ .sql = sql, .vals = vals, .n = n }, out, err);
}

/* ---- state, for health and metrics ---- */
bool db_pool_healthy(const db_pool *pool)
{
    db_pool_counts counts;

    db_pool_stats(pool, &counts);
    return counts.healthy;
}

void db_pool_stats(const db_pool *pool, db_pool_counts *out)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&pool->lock; /* looking changes nothing but the lock */

    pthread_mutex_lock(lock);
    *out = pool->counts;
    out->idle = pool->idle_count;
    out->in_use = pool->open - pool->idle_count;
    out->max = pool->max;
    out->healthy = pool->healthy;
    out->is_pooler = pool->is_pooler;
    pthread_mutex_unlock(lock);
}

void db_pool_last_error(const db_pool *pool, depot_err *out)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&pool->lock;

    pthread_mutex_lock(lock);
    *out = pool->last_error;
    pthread_mutex_unlock(lock);
}

size_t db_pool_in_use(const db_pool *pool)
{
    db_pool_counts counts;

    db_pool_stats(pool, &counts);
    return counts.in_use;
}

size_t db_pool_idle(const db_pool *pool)
{
    db_pool_counts counts;

    db_pool_stats(pool, &counts);
    return counts.idle;
}

bool db_pool_is_pooler(const db_pool *pool)
{
    db_pool_counts counts;

    db_pool_stats(pool, &counts);
    return counts.is_pooler;
}
