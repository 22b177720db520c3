/* test_listener.c - notifications, and what a transaction pooler (PgBouncer) in between changes. */
#include <signal.h>

#include "db/pool.h"
#include "run/child.h"

#include "tap.h"

#include "pgtest.h"

#define PGBOUNCER "/usr/sbin/pgbouncer"

typedef struct heard {
    pthread_mutex_t lock; /* guards the rest */
    int             looks, news;
    char            last[64];
} heard;

static void hear(void *arg, const char *payload)
{
    heard *h = arg;

    pthread_mutex_lock(&h->lock);
    if (payload == NULL) {
        h->looks++;
    } else {
        h->news++;
        (void)snprintf(h->last, sizeof(h->last), "%s", payload);
    }
    pthread_mutex_unlock(&h->lock);
}

/* Waits at most 15 s until at least so many were heard. */
static bool heard_at_least(heard *h, int looks, int news)
{
    for (int i = 0; i < 1500; i++) {
        pthread_mutex_lock(&h->lock);
        bool enough = h->looks >= looks && h->news >= news;
        pthread_mutex_unlock(&h->lock);
        if (enough) {
            return true;
        }
        usleep(10000);
    }
    return false;
}

static void notifications_arrive(void)
{
    heard        a = { .lock = PTHREAD_MUTEX_INITIALIZER };
    heard        b = { .lock = PTHREAD_MUTEX_INITIALIZER };
    db_listener *l = db_listener_new(pg_cluster_url(pgt_cluster), "test");
    depot_err    err = { 0 };

    ok_err(db_listener_add(l, "queue", hear, &a, &err), &err, "a channel");
    ok(heard_at_least(&a, 1, 0), "told to look once the channel is open");
    ok(db_listener_live(l), "live");
    ok_err(db_listener_add(l, "Odd \"name\"", hear, &b, &err), &err, "a channel with quotes in its name, later");
    ok(heard_at_least(&b, 1, 0), "it is opened too");
    pgt_ask("select pg_notify('queue', 'hello')");
    ok(heard_at_least(&a, 1, 1), "heard");
    is_str(a.last, "hello", "with its payload");
    pgt_ask("select pg_notify('Odd \"name\"', '')");
    ok(heard_at_least(&b, 1, 1), "an empty payload is news, no order to look");
    is_int(a.news, 1, "each hears its own channel only");
    ok(!db_listener_add(l, "", hear, &a, &err) && err.code == DEPOT_E_INVALID, "a channel needs a name");

    pgt_ask("select count(pg_terminate_backend(pid)) from pg_stat_activity where query ilike 'listen%'");
    ok(heard_at_least(&a, 2, 1) && heard_at_least(&b, 2, 1), "after a lost connection all are told to look again");
    pgt_ask("select pg_notify('queue', 'again')");
    ok(heard_at_least(&a, 2, 2), "and hear again");
    int64_t began = depot_now_ms();
    db_listener_free(l);
    ok(depot_now_ms() - began < 8000, "it ends at once");
}

static void an_absent_server_is_waited_for(void)
{
    heard        a = { .lock = PTHREAD_MUTEX_INITIALIZER };
    db_listener *l = db_listener_new("postgresql://u:p@127.0.0.1:1/x", "test");
    depot_err    err = { 0 };

    ok_err(db_listener_add(l, "queue", hear, &a, &err), &err, "a channel");
    usleep(300000);
    ok(!db_listener_live(l) && a.looks == 0, "nothing to hear");
    int64_t began = depot_now_ms();
    db_listener_free(l);
    ok(depot_now_ms() - began < 8000, "it ends soon all the same");
}

/* ---- PgBouncer in transaction mode ---- */

static child bouncer = { .pidfd = -1 };
static char  bouncer_url[256];

static const char *part_of_url(const char *url, const char *from, const char *to)
{
    const char *at = strstr(url, from) + strlen(from);

    return depot_strndup(pgt_arena, at, strcspn(at, to));
}

static char *unescape(const char *text)
{
    char *out = depot_strdup(pgt_arena, text);
    char *to = out;

    for (const char *p = text; *p != '\0'; p++) {
        unsigned value;
        if (*p == '%' && sscanf(p + 1, "%2x", &value) == 1) {
            *to++ = (char)value;
            p += 2;
        } else {
            *to++ = *p;
        }
    }
    *to = '\0';
    return out;
}

static bool bouncer_start(void)
{
    const char *url = pg_cluster_url(pgt_cluster);
    const char *dir = pgt_dir("bouncer");
    const char *host = unescape(part_of_url(url, "host=", "&"));
    const char *pw = part_of_url(strstr(url, "://") + 3, ":", "@");
    int         port = 20000 + (int)(getpid() % 20000);
    const char *ini = depot_strf(pgt_arena, "%s/pgbouncer.ini", dir);
    const char *users = depot_strf(pgt_arena, "%s/users.txt", dir);
    const char *text = depot_strf(
        pgt_arena,
        "[databases]\ndepot = host=%s port=%s dbname=depot user=depot password=%s pool_size=2\n"
        "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_type = plain\nauth_file = %s\n"
        "pool_mode = transaction\nlogfile = %s/log\npidfile = %s/pid\n",
        host, part_of_url(url, "port=", "&"), pw, port, users, dir, dir);
    const char *user_text = depot_strf(pgt_arena, "\"depot\" \"%s\"\n", pw);
    const char *const argv[] = { PGBOUNCER, "-q", ini, NULL };
    child_spec spec = CHILD_SPEC_INIT;
    depot_err  err = { 0 };

    spec.argv = argv;
    if (!depot_write_file(ini, text, strlen(text), 0644, &err) ||
        !depot_write_file(users, user_text, strlen(user_text), 0644, &err) || chmod(pgt_root, 0755) != 0 ||
        chmod(dir, 0777) != 0) {
        return false;
    }
    struct stat st;
    if (stat(host, &st) != 0) {
        return false;
    }
    spec.uid = st.st_uid; /* it refuses root; the server's user can reach the socket */
    spec.gid = st.st_gid;
    (void)snprintf(bouncer_url, sizeof(bouncer_url), "postgresql://depot:%s@127.0.0.1:%d/depot", pw, port);
    if (!child_start(&spec, &bouncer, &err)) {
        return false;
    }
    for (int i = 0; i < 100; i++) {
        DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
        if (db_connect(bouncer_url, "test", 1000, &db, &err)) {
            return true;
        }
        usleep(50000);
    }
    printf("# pgbouncer: %s\n", err.msg);
    return false;
}

static void a_pooler_is_recognised_and_respected(void)
{
    const db_pool_options options = { .url = bouncer_url, .name = "depotd/test", .max = 4, .statement_timeout_ms = 7000,
                                      .lock_timeout_ms = 3000 };
    static const char     look[] =
        "select current_setting('statement_timeout') as st, current_setting('lock_timeout') as lt";
    db_pool    *pool = db_pool_new(&options);
    depot_db   *db = NULL;
    depot_err   err = { 0 };
    depot_rows *rows = NULL;
    const depot_tx tx = { .timeout_ms = 4321 };

    if (!ok_err(db_pool_open(pool, true, &db, &err), &err, "a connection through PgBouncer")) {
        return;
    }
    ok(db_pool_is_pooler(pool), "is known as one");
    ok_err(depot_db_begin(db, &tx, &err), &err, "begin");
    ok_err(depot_db_sql(db, pgt_arena, look, DEPOT_NO_VALS, &rows, &err), &err, "look");
    is_str(depot_text(rows, 0, "st"), "4321ms", "settings hold inside of the transaction");
    ok_err(depot_db_commit(db, &err), &err, "commit");
    ok_err(depot_db_sql(db, pgt_arena, look, DEPOT_NO_VALS, &rows, &err), &err, "look again");
    is_str(depot_text(rows, 0, "st"), "0", "and leave nothing behind on the shared session");
    is_str(depot_text(rows, 0, "lt"), "0", "of nothing");
    depot_db_close(&db);
    ok_err(db_pool_sql(pool, pgt_arena, look, DEPOT_NO_VALS, &rows, &err), &err, "a single statement");
    is_str(depot_text(rows, 0, "st"), "7s", "has the pool's limits");
    is_str(depot_text(rows, 0, "lt"), "3s", "both of them");
    ok(!db_pool_sql(pool, NULL, "select 1/0", DEPOT_NO_VALS, NULL, &err) && strcmp(err.sqlstate, "22012") == 0,
       "errors come through");
    db_pool_free(pool);
}

static void batches_and_cancels_work_through_a_pooler(void)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
    const depot_stmt                    stmts[] = { { "select 1 as n", DEPOT_NO_VALS },
                                                    { "select $1::int as n", DEPOT_VALS(DEPOT_INT(2)) } };
    depot_rows *rows[2];
    depot_err   err = { 0 };
    unit        u = { .deadline_ms = depot_now_ms() + 60000 };

    ok_err(db_connect(bouncer_url, "test", 5000, &db, &err), &err, "a connection");
    ok_err(depot_db_batch(db, pgt_arena, stmts, 2, rows, &err), &err, "a batch");
    is_int(depot_int(rows[1], 0, "n"), 2, "its second result");
    u.deadline_ms = depot_now_ms() + 300;
    unit_enter(&u);
    ok(!depot_db_sql(db, NULL, "select pg_sleep(10)", DEPOT_NO_VALS, NULL, &err), "a statement runs into the deadline");
    unit_leave(&u);
    is_str(depot_err_id(&err), "TIMEOUT", "and is canceled");
}

static void what_needs_a_session_is_refused_on_a_pooler(void)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
    heard             a = { .lock = PTHREAD_MUTEX_INITIALIZER };
    const char *const sets[] = { "core", NULL };
    depot_err         err = { 0 };
    size_t            n = 0;

    ok_err(db_connect(bouncer_url, "test", 5000, &db, &err), &err, "a connection");
    ok(!migrate_up(db, pgt_arena, "/nowhere", sets, NULL, NULL, &n, &err) && err.code == DEPOT_E_CONFIG,
       "migrations refuse it");
    contains(err.hint, "owner_url", "the hint names the option");
    db_listener *l = db_listener_new(bouncer_url, "test");
    ok_err(db_listener_add(l, "queue", hear, &a, &err), &err, "a listener on it");
    usleep(500000);
    ok(!db_listener_live(l) && a.looks == 0, "never claims to listen");
    db_listener_free(l);
}

int main(void)
{
    pgt_begin();
    run(notifications_arrive);
    run(an_absent_server_is_waited_for);
    if (access(PGBOUNCER, X_OK) != 0) {
        skip("a transaction pooler in between", "pgbouncer is not installed");
    } else if (ok(bouncer_start(), "PgBouncer starts")) {
        int status;
        run(a_pooler_is_recognised_and_respected);
        run(batches_and_cancels_work_through_a_pooler);
        run(what_needs_a_session_is_refused_on_a_pooler);
        child_stop(&bouncer, SIGTERM, 5000, &status);
    }
    pgt_end();
    return done();
}
