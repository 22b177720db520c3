/* test_pool_faults.c - what goes wrong between us and the server: passwords, servers that go and come, connections that
 * break at the worst moment, a pooler in between. */
#include <signal.h>

#include "db/pool.h"

#include "tap.h"

#include "pgtest.h"

static const char *data_dir; /* of the cluster */

static db_pool *pool_of(const char *url)
{
    const db_pool_options options = { .url = url, .name = "depotd/test", .max = 4, .connect_timeout_ms = 3000,
                                      .acquire_timeout_ms = 20000, .statement_timeout_ms = 20000 };

    return db_pool_new(&options);
}

/* The cluster's url with another password, host or database. */
static const char *changed_url(const char *what, const char *with)
{
    const char *url = pg_cluster_url(pgt_cluster);
    const char *at = strstr(url, what);

    if (at == NULL) {
        printf("Bail out! no %s in the url\n", what);
        exit(1);
    }
    return depot_strf(pgt_arena, "%.*s%s%s", (int)(at - url), url, with, at + strlen(what));
}

static const char *password(void)
{
    const char *from = strchr(strstr(pg_cluster_url(pgt_cluster), "://") + 3, ':') + 1;

    return depot_strndup(pgt_arena, from, strcspn(from, "@"));
}

static void a_wrong_password_is_named_and_not_shown(void)
{
    static const char wrong[] = "s3cret-and-wrong";
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
    depot_err err = { 0 };

    ok(!db_connect(changed_url(password(), wrong), "test", 5000, &db, &err), "refused");
    is_str(depot_err_id(&err), "DB_UNAVAILABLE", "by its code");
    is_str(err.sqlstate, "28P01", "its SQLSTATE");
    contains(err.msg, "password authentication failed", "the message says why");
    contains(err.hint, "[database] url", "the hint names the option");
    ok(strstr(err.msg, wrong) == NULL && strstr(err.hint, wrong) == NULL, "the password is not shown");
    ok(strchr(err.msg, '\n') == NULL && strstr(err.msg, "LOCATION") == NULL, "one line");
    ok(!db_connect(changed_url(depot_strf(pgt_arena, ":%s@", password()), "@"), "test", 5000, &db, &err),
       "no password");
    contains(err.hint, "user and password in [database] url", "the same hint");
    ok(!db_connect(changed_url("/depot?", "/nothing_there?"), "test", 5000, &db, &err), "a database that is not there");
    is_str(err.sqlstate, "3D000", "its SQLSTATE");
    contains(err.hint, "create the database", "its own hint");
}

static void no_part_of_a_bad_url_is_shown(void)
{
    static const char *const urls[] = {
        "postgresql://depot:hu%nter2@localhost/depot", "postgresql://depot:hunter2@x@localhost/depot",
        "postgresql://depot:pa/hunter2@localhost/depot", "host=localhost password hunter2", "hunter2",
        "postgresql://depot:12/hunter2@localhost:77/depot", "postgresql://[hunter2", "host=localhost hunter2=1",
    };

    for (size_t i = 0; i < DEPOT_N(urls); i++) {
        DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
        depot_err err = { 0 };
        ok(!db_connect(urls[i], "test", 2000, &db, &err), urls[i]);
        ok(strstr(err.msg, "hunter2") == NULL && strstr(err.hint, "hunter2") == NULL, "nothing of it in the message");
    }
}

static void a_host_that_does_not_answer_is_left(void)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
    depot_err err = { 0 };
    const char *dir = strstr(pg_cluster_url(pgt_cluster), "host=") + 5;
    const char *host = depot_strndup(pgt_arena, dir, strcspn(dir, "&"));
    /* 192.0.2.0/24 is for documentation: nobody answers there, or the network refuses it. */
    const char *url =
        depot_strf(pgt_arena, "postgresql://depot:%s@/depot?host=192.0.2.1,%s&port=5432,5432", password(), host);

    ok_err(db_connect(url, "test", 4000, &db, &err), &err, "the second host is reached before the whole time is spent on the first");
    db_disconnect(&db);
    int64_t began = depot_now_ms();
    ok(!db_connect("postgresql://u:p@192.0.2.1/x", "test", 500, &db, &err), "alone it cannot be reached");
    ok(depot_now_ms() - began < 20000, "and the time is kept");
    is_str(depot_err_id(&err), "DB_UNAVAILABLE", "by its code");
}

static void a_server_that_is_away_is_asked_rarely(void)
{
    db_pool  *pool = pool_of("postgresql://depot:x@127.0.0.1:1/depot");
    depot_err err = { 0 };
    depot_db *db = NULL;
    db_pool_counts counts;

    int64_t began = depot_now_ms();
    for (int i = 0; i < 200; i++) {
        ok(i != 0 || !db_pool_open(pool, false, &db, &err), "the server is not there");
        bool refused = !db_pool_open(pool, false, &db, &err) && err.code == DEPOT_E_DB_DOWN;
        if (!refused) {
            ok(false, "each try is refused");
        }
        usleep(5000);
    }
    int64_t took = depot_now_ms() - began;
    db_pool_stats(pool, &counts);
    ok(counts.connect_failures >= 3 && counts.connect_failures <= 12, "200 tries in a second: a handful of connects");
    ok(took < 10000, "none of them waited");
    ok(!db_pool_healthy(pool), "not healthy");
    depot_err last = { 0 };
    db_pool_last_error(pool, &last);
    contains(last.msg, "cannot connect", "the last error is kept");
    unit u = { .deadline_ms = depot_now_ms() + 600 };
    unit_enter(&u);
    began = depot_now_ms();
    ok(!db_pool_open(pool, true, &db, &err), "waiting for it ends with the unit of work");
    ok(depot_now_ms() - began >= 500, "not before");
    unit_leave(&u);
    db_pool_free(pool);
}

static bool works(db_pool *pool, depot_err *err)
{
    return db_pool_sql(pool, NULL, "select 1", DEPOT_NO_VALS, NULL, err);
}

static void a_server_that_comes_back_is_found(void)
{
    db_pool  *pool = pool_of(pg_cluster_url(pgt_cluster));
    depot_err err = { 0 };
    depot_db *held = NULL;
    int       restarts = pg_cluster_restarts(pgt_cluster);

    ok_err(works(pool, &err), &err, "it works");
    ok_err(db_pool_open(pool, false, &held, &err), &err, "one connection is in use");
    kill(pgt_postmaster(data_dir), SIGKILL);
    ok(!depot_db_sql(held, NULL, "select pg_sleep(20)", DEPOT_NO_VALS, NULL, &err), "what was under way fails");
    depot_db_close(&held);
    bool back = false;
    for (int i = 0; i < 200 && !back; i++) {
        back = works(pool, &err);
        usleep(50000);
    }
    ok(back, "after a while it works again");
    ok(db_pool_healthy(pool), "and the pool knows");
    ok(pg_cluster_restarts(pgt_cluster) > restarts, "the server was started again by its watcher");
    db_pool_free(pool);
}

/* ---- connections that break at the worst moment ---- */

typedef struct breaker {
    pid_t       pid;
    const char *how; /* NULL: kill -9; else the SQL that ends it */
} breaker;

static void *break_later(void *arg)
{
    const breaker *b = arg;

    usleep(300000);
    if (b->how != NULL) {
        pgt_ask(b->how);
    } else {
        kill(b->pid, SIGKILL);
    }
    return NULL;
}

static pid_t backend_of(depot_db *db)
{
    depot_err   err = { 0 };
    depot_rows *rows = NULL;

    return depot_db_sql(db, pgt_arena, "select pg_backend_pid() as pid", DEPOT_NO_VALS, &rows, &err)
               ? (pid_t)depot_int(rows, 0, "pid") : 0;
}

static void wait_for_server(db_pool *pool)
{
    depot_err err = { 0 };

    for (int i = 0; i < 200 && !works(pool, &err); i++) {
        usleep(50000);
    }
}

/* Sends sql (NULL: a commit) while the backend is stopped, and kills it meanwhile. */
static void break_during(db_pool *pool, const depot_tx *tx, const char *sql, const char *want, const char *name)
{
    depot_err err = { 0 };
    depot_db *db = NULL;
    pthread_t thread;

    if (!ok_err(db_pool_open(pool, true, &db, &err), &err, "a connection")) {
        return;
    }
    breaker b = { .pid = backend_of(db) };
    if (tx != NULL) {
        ok_err(depot_db_begin(db, tx, &err), &err, "begin");
    }
    kill(b.pid, SIGSTOP);
    ok(pthread_create(&thread, NULL, break_later, &b) == 0, "somebody who kills the backend");
    bool good = sql == NULL ? depot_db_commit(db, &err) : depot_db_sql(db, NULL, sql, DEPOT_NO_VALS, NULL, &err);
    pthread_join(thread, NULL);
    ok(!good, name);
    is_str(depot_err_id(&err), want, "its code");
    depot_db_close(&db);
    is_int(db_pool_idle(pool), 0, "the connection is not kept");
    wait_for_server(pool);
}

static void what_is_lost_is_told_apart(void)
{
    db_pool       *pool = pool_of(pg_cluster_url(pgt_cluster));
    const depot_tx writing = { 0 };
    const depot_tx reading = { .read_only = true };

    break_during(pool, &writing, NULL, "DB_COMMIT_UNKNOWN", "a commit without an answer");
    break_during(pool, &reading, NULL, "DB_UNAVAILABLE", "the end of a transaction that only read");
    break_during(pool, &writing, "insert into note values ('in')", "DB_UNAVAILABLE",
                 "a statement inside of a transaction");
    break_during(pool, NULL, "insert into note values ('auto')", "DB_COMMIT_UNKNOWN",
                 "a statement that commits by itself");
    db_pool_free(pool);
}

static void a_session_that_the_server_ends_has_done_nothing(void)
{
    db_pool  *pool = pool_of(pg_cluster_url(pgt_cluster));
    depot_err err = { 0 };
    depot_db *db = NULL;
    pthread_t thread;

    ok_err(db_pool_open(pool, true, &db, &err), &err, "a connection");
    breaker b = { .how = depot_strf(pgt_arena, "select pg_terminate_backend(%d)", (int)backend_of(db)) };
    ok(pthread_create(&thread, NULL, break_later, &b) == 0, "somebody who ends the session");
    ok(!depot_db_sql(db, NULL, "insert into note select 'ended' from (select pg_sleep(20)) s", DEPOT_NO_VALS, NULL,
                     &err),
       "a statement that commits by itself");
    pthread_join(thread, NULL);
    is_str(err.sqlstate, "57P01", "the server said that it gives up");
    is_str(depot_err_id(&err), "DB_UNAVAILABLE", "so that it may be done again");
    depot_db_close(&db);
    db_pool_free(pool);
}

static void somebody_else_may_cancel(void)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
    depot_err err = { 0 };
    pthread_t thread;

    ok_err(db_connect(pg_cluster_url(pgt_cluster), "test", 5000, &db, &err), &err, "a connection");
    breaker b = { .how = depot_strf(pgt_arena, "select pg_cancel_backend(%d)", (int)backend_of(db)) };
    ok(pthread_create(&thread, NULL, break_later, &b) == 0, "an administrator");
    ok(!depot_db_sql(db, NULL, "select pg_sleep(20)", DEPOT_NO_VALS, NULL, &err), "cancels a statement");
    pthread_join(thread, NULL);
    is_str(depot_err_id(&err), "CANCELED", "which is no timeout");
}

static void a_stopped_server_does_not_hold_us(void)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
    unit      u = { .deadline_ms = depot_now_ms() + 700 };
    depot_err err = { 0 };

    ok_err(db_connect(pg_cluster_url(pgt_cluster), "test", 5000, &db, &err), &err, "a connection");
    pid_t pid = backend_of(db);
    kill(pid, SIGSTOP);
    unit_enter(&u);
    int64_t began = depot_now_ms();
    ok(!depot_db_sql(db, NULL, "select 1", DEPOT_NO_VALS, NULL, &err), "a backend that answers nothing");
    ok(depot_now_ms() - began < 15000, "is given up soon after the deadline");
    is_str(depot_err_id(&err), "DB_COMMIT_UNKNOWN", "its outcome is not known");
    unit_leave(&u);
    kill(pid, SIGCONT);
    ok(!depot_db_sql(db, NULL, "select 1", DEPOT_NO_VALS, NULL, &err) && err.code == DEPOT_E_DB_DOWN,
       "the connection is not used again");
}

int main(void)
{
    pgt_folders();
    const char *dir = pgt_dir("pg");
    pg_cluster_options options = { .dir = dir, .throwaway = true };
    depot_err err = { 0 };
    if (!pg_cluster_start(&options, &pgt_cluster, &err)) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    data_dir = depot_strf(pgt_arena, "%s/data", dir);
    pgt_share();
    pgt_do("create table note (text text); grant insert on note to depot");
    run(a_wrong_password_is_named_and_not_shown);
    run(no_part_of_a_bad_url_is_shown);
    run(a_host_that_does_not_answer_is_left);
    run(a_server_that_is_away_is_asked_rarely);
    run(a_server_that_comes_back_is_found);
    run(what_is_lost_is_told_apart);
    run(a_session_that_the_server_ends_has_done_nothing);
    run(somebody_else_may_cancel);
    run(a_stopped_server_does_not_hold_us);
    pgt_end();
    return done();
}
