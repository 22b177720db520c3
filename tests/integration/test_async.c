/* test_async.c - the pool for one libuv loop: many statements at a time on one thread, against a real server. */
#include <signal.h>

#include "db/async.h"

#include "tap.h"

#include "pgtest.h"

static uv_loop_t  loop;
static uv_timer_t tick; /* keeps uv_run from waiting for ever when an answer came before it looked for events */
static db_async *pool;
static bool      pool_closed;

typedef struct answer {
    int         calls;
    bool        good;
    depot_err   err;
    depot_rows *rows;
    int64_t     at_ms;
} answer;

static void take(void *arg, depot_rows *rows, const depot_err *err)
{
    answer *a = arg;

    a->calls++;
    a->good = err == NULL;
    a->rows = rows;
    a->at_ms = depot_now_ms();
    if (err != NULL) {
        a->err = *err;
    }
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static db_async *open_pool(const char *url, size_t max)
{
    const db_async_options options = { .url = url,
                                       .name = "depotd/test",
                                       .max = max,
                                       .queue_max = 500,
                                       .connect_timeout_ms = 3000,
                                       .acquire_timeout_ms = 10000,
                                       .statement_timeout_ms = 20000,
                                       .lock_timeout_ms = 2000,
                                       .idle_tx_timeout_ms = 30000 };

    return db_async_new(&loop, &options);
}

static void close_pool(db_async *a)
{
    pool_closed = false;
    db_async_free(a, on_closed, &pool_closed);
    while (!pool_closed && uv_run(&loop, UV_RUN_ONCE) != 0) {
    }
}

/* Runs the loop until the answer is there, at most 20 s. */
static bool wait_for(const answer *a)
{
    int64_t until = depot_now_ms() + 20000;

    while (a->calls == 0 && depot_now_ms() < until) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    return a->calls == 1;
}

static void run_for(int64_t ms)
{
    int64_t until = depot_now_ms() + ms;

    while (depot_now_ms() < until) {
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
}

static db_query query(answer *a, const char *sql)
{
    *a = (answer){ 0 };
    return (db_query){ .arena = pgt_arena, .sql = sql, .done = take, .arg = a };
}

static db_request *ask_single(answer *a, const char *sql, int64_t timeout_ms)
{
    db_query q = query(a, sql);

    q.deadline_ms = timeout_ms > 0 ? depot_now_ms() + timeout_ms : 0;
    return db_async_sql(pool, NULL, &q);
}

static void a_statement_answers_on_the_loop(void)
{
    answer a = { 0 };
    char   text[] = "grüße";
    db_query q = query(&a, "select $1::text as t, $2::bigint as n, $3::bytea as b");
    depot_val vals[] = { DEPOT_TEXT(text), DEPOT_INT(42), DEPOT_BYTES("\0\1", 2) };

    q.vals = vals;
    q.n = 3;
    db_async_sql(pool, NULL, &q);
    is_int(a.calls, 0, "nothing is called from inside");
    memset(text, 'x', sizeof(text) - 1); /* it was copied */
    vals[1] = DEPOT_INT(0);
    ok(wait_for(&a), "answered once");
    ok(a.good, "well");
    is_str(depot_text(a.rows, 0, "t"), "grüße", "text");
    is_int(depot_int(a.rows, 0, "n"), 42, "number");
    is_str(depot_text(a.rows, 0, "b"), "\\x0001", "bytes");
    ok(db_async_healthy(pool), "healthy");
    is_int(db_async_idle(pool), 1, "its connection is idle again");

    ask_single(&a, "selekt", 0);
    ok(wait_for(&a) && !a.good, "a wrong statement fails");
    is_str(a.err.sqlstate, "42601", "with its SQLSTATE");
    q = query(&a, "select 1");
    q.arena = NULL;
    db_async_sql(pool, NULL, &q);
    ok(wait_for(&a) && a.good && a.rows == NULL, "no rows where none are wanted");
}

static void settings_hold_for_one_statement(void)
{
    answer         a = { 0 };
    const depot_tx tx = { .user = "0b1e8d6a-55a2-4b7e-9e53-2f0f60a35b4f", .timeout_ms = 1234, .read_only = true };
    const depot_tx bad = { .user = "me" };
    static const char look[] =
        "select current_setting('app.current_user_id', true) as who,"
        " current_setting('statement_timeout') as st, current_setting('transaction_read_only') as ro";
    db_query q = query(&a, look);

    db_async_sql(pool, &tx, &q);
    ok(wait_for(&a) && a.good, "a statement with settings");
    is_str(depot_text(a.rows, 0, "who"), tx.user, "the user");
    is_str(depot_text(a.rows, 0, "st"), "1234ms", "the limit");
    is_str(depot_text(a.rows, 0, "ro"), "on", "read only");
    ask_single(&a, look, 0);
    ok(wait_for(&a) && a.good, "the next one");
    ok(depot_text(a.rows, 0, "who") == NULL || depot_text(a.rows, 0, "who")[0] == '\0', "is nobody's");
    is_str(depot_text(a.rows, 0, "ro"), "off", "and may write");
    q = query(&a, look);
    db_async_sql(pool, &bad, &q);
    ok(wait_for(&a) && a.err.code == DEPOT_E_INVALID, "a user that is no UUID");
    q = query(&a, "insert into note values ('x')");
    db_async_sql(pool, &tx, &q);
    ok(wait_for(&a) && strcmp(a.err.sqlstate, "25006") == 0, "a write where only reading is allowed");
}

static void many_run_at_a_time(void)
{
    answer  a[200];
    int     good = 0;
    int64_t began = depot_now_ms();

    for (size_t i = 0; i < DEPOT_N(a); i++) {
        ask_single(&a[i], "select pg_sleep(0.05)", 0);
    }
    ok(db_async_waiting(pool) > 0, "they wait for four connections");
    for (size_t i = 0; i < DEPOT_N(a); i++) {
        good += wait_for(&a[i]) && a[i].good ? 1 : 0;
    }
    int64_t took = depot_now_ms() - began;
    is_int(good, 200, "all are answered");
    ok(took >= 2500 && took < 9500, "four at a time");
    is_int(db_async_idle(pool), 4, "four connections, idle");
    is_int(db_async_in_use(pool), 0, "none in use");
}

static void the_deadline_and_a_cancel_stop_it(void)
{
    answer      a = { 0 };
    db_request *r;

    int64_t began = depot_now_ms();
    ask_single(&a, "select pg_sleep(10)", 300);
    ok(wait_for(&a) && !a.good, "a long statement");
    is_str(depot_err_id(&a.err), "TIMEOUT", "ends at its deadline");
    ok(a.at_ms - began >= 250 && a.at_ms - began < 2000, "in time");
    r = ask_single(&a, "select pg_sleep(10)", 0);
    run_for(200);
    db_request_cancel(r);
    is_int(a.calls, 0, "a cancel does not call back from inside");
    began = depot_now_ms();
    ok(wait_for(&a) && !a.good, "the statement ends");
    is_str(depot_err_id(&a.err), "CANCELED", "canceled");
    ok(a.at_ms - began < 1500, "soon");
    is_str(pgt_ask("select count(*) from pg_stat_activity where query like '%pg_sleep(10)%' and state = 'active'"
                   " and pid <> pg_backend_pid()"), "0", "nothing goes on in the server");
    answer others[8];
    for (size_t i = 0; i < DEPOT_N(others); i++) {
        ask_single(&others[i], "select pg_sleep(0.3)", 0);
    }
    r = ask_single(&a, "select 1", 0);
    db_request_cancel(r);
    ok(wait_for(&a) && a.err.code == DEPOT_E_CANCELED, "one that still waits is canceled");
    ask_single(&a, "select 1", 100);
    ok(wait_for(&a) && a.err.code == DEPOT_E_TIMEOUT, "or runs into its deadline");
    for (size_t i = 0; i < DEPOT_N(others); i++) {
        if (!wait_for(&others[i]) || !others[i].good) {
            ok(false, "the others are not disturbed");
        }
    }
}

static void a_transaction_holds_its_connection(void)
{
    answer begin = { 0 };
    answer first = { 0 };
    answer second = { 0 };
    answer end = { 0 };
    db_query b = query(&begin, NULL);
    db_query q1 = query(&first, "insert into note values ('kept') returning pg_backend_pid() as pid");
    db_query q2 = query(&second, "select pg_backend_pid() as pid, current_setting('statement_timeout') as st,"
                                 " (select count(*) from note where text = 'kept') as n");
    db_query e = query(&end, NULL);
    const depot_tx tx = { .timeout_ms = 5432 };

    db_async_tx *t = db_async_begin(pool, &tx, &b);
    db_tx_sql(t, &q1); /* the order of the calls is the order of the work */
    db_tx_sql(t, &q2);
    db_tx_commit(t, &e);
    ok(wait_for(&end) && end.good, "begin, two statements, commit without a wait in between");
    ok(begin.good && first.good && second.good, "each was answered");
    is_int(depot_int(second.rows, 0, "n"), 1, "the second saw the first");
    is_int(depot_int(first.rows, 0, "pid"), depot_int(second.rows, 0, "pid"), "on one connection");
    is_str(depot_text(second.rows, 0, "st"), "5432ms", "with its limit");
    is_str(pgt_ask("select count(*) from note where text = 'kept'"), "1", "and is kept");
    is_int(db_async_in_use(pool), 0, "the connection came back");
}

static void a_rollback_leaves_nothing(void)
{
    answer begin = { 0 };
    answer insert = { 0 };
    answer slow = { 0 };
    db_query b = query(&begin, NULL);
    db_query q = query(&insert, "insert into note values ('dropped')");

    db_async_tx *t = db_async_begin(pool, NULL, &b);
    db_tx_sql(t, &q);
    ok(wait_for(&insert) && insert.good, "an insert");
    db_tx_rollback(t);
    run_for(200);
    is_int(db_async_in_use(pool), 0, "rolled back, the connection came back");

    b = query(&begin, NULL);
    q = query(&insert, "insert into note values ('dropped')");
    db_query s = query(&slow, "select pg_sleep(10)");
    t = db_async_begin(pool, NULL, &b);
    db_tx_sql(t, &q);
    db_tx_sql(t, &s);
    ok(wait_for(&insert), "again");
    db_tx_rollback(t);
    ok(wait_for(&slow) && slow.err.code == DEPOT_E_CANCELED, "what was under way is canceled and told");
    run_for(200);
    is_int(db_async_in_use(pool), 0, "the connection came back");

    answer holders[4];
    for (size_t i = 0; i < DEPOT_N(holders); i++) {
        ask_single(&holders[i], "select pg_sleep(0.3)", 0);
    }
    b = query(&begin, NULL);
    q = query(&insert, "insert into note values ('dropped')");
    t = db_async_begin(pool, NULL, &b);
    db_tx_sql(t, &q);
    db_tx_rollback(t);
    ok(wait_for(&begin) && begin.err.code == DEPOT_E_CANCELED, "one that has not begun does not begin");
    ok(wait_for(&insert) && !insert.good, "nor do its statements");
    for (size_t i = 0; i < DEPOT_N(holders); i++) {
        wait_for(&holders[i]);
    }
    is_str(pgt_ask("select count(*) from note where text = 'dropped'"), "0", "nothing is left of any");
}

static void a_failed_statement_spoils_the_transaction(void)
{
    answer begin = { 0 };
    answer bad = { 0 };
    answer after = { 0 };
    answer end = { 0 };
    db_query b = query(&begin, NULL);
    db_query q1 = query(&bad, "select 1/0");
    db_query q2 = query(&after, "insert into note values ('after')");
    db_query e = query(&end, NULL);

    db_async_tx *t = db_async_begin(pool, NULL, &b);
    db_tx_sql(t, &q1);
    db_tx_sql(t, &q2);
    db_tx_commit(t, &e);
    ok(wait_for(&end), "to its end");
    is_str(bad.err.sqlstate, "22012", "a statement fails");
    is_str(after.err.sqlstate, "25P02", "the next is refused");
    ok(!end.good, "the commit is no success");
    contains(end.err.msg, "rolled back", "and says so");
    is_int(db_async_in_use(pool), 0, "the connection came back");
    const depot_tx nobody = { .user = "me" };
    b = query(&begin, NULL);
    e = query(&end, NULL);
    t = db_async_begin(pool, &nobody, &b);
    db_tx_commit(t, &e);
    ok(wait_for(&end) && begin.err.code == DEPOT_E_INVALID && end.err.code == DEPOT_E_INVALID,
       "a begin that fails ends it all");
}

/* A script that goes on in each answer. */
typedef struct chain {
    db_async_tx *tx;
    int          step, steps;
    bool         ended;
    depot_err    err;
} chain;

static void chain_next(void *arg, depot_rows *rows, const depot_err *err)
{
    chain   *c = arg;
    db_query q = { .arena = NULL, .sql = "insert into note values ('chain')", .done = chain_next, .arg = c };

    (void)rows;
    if (err != NULL) {
        c->err = *err;
        db_tx_rollback(c->tx);
        c->ended = true;
    } else if (c->step++ < c->steps) {
        db_tx_sql(c->tx, &q);
    } else if (c->step == c->steps + 2) {
        c->ended = true;
    } else {
        db_tx_commit(c->tx, &q);
    }
}

static void answers_may_ask_again(void)
{
    chain    c = { .steps = 50 };
    db_query q = { .done = chain_next, .arg = &c };

    c.tx = db_async_begin(pool, NULL, &q);
    int64_t until = depot_now_ms() + 20000;
    while (!c.ended && depot_now_ms() < until) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    ok(c.ended && c.err.code == DEPOT_OK, "fifty statements, each from the answer of the one before, and a commit");
    is_str(pgt_ask("select count(*) from note where text = 'chain'"), "50", "all are kept");
    is_int(db_async_in_use(pool), 0, "the connection came back");
}

static void large_answers_and_values_pass(void)
{
    enum { BYTES = 8 * 1000 * 1000 };
    answer a = { 0 };
    char  *text = depot_alloc(pgt_arena, BYTES + 1);
    db_query q = query(&a, "select $1::text as t, repeat('y', 8000000) as y");
    const depot_val val = DEPOT_TEXT(text);

    memset(text, 'x', BYTES);
    q.vals = &val;
    q.n = 1;
    db_async_sql(pool, NULL, &q);
    ok(wait_for(&a) && a.good, "8 MB there, 16 MB back");
    ok(a.good && strcmp(depot_text(a.rows, 0, "t"), text) == 0, "unchanged");
}

/* The server answers before the cancel request has found its way, and the connection is given up for that. */
static void a_commit_after_a_late_cancel_tells_the_truth(void)
{
    pgt_do("create table told (i int)");
    for (int i = 0; i < 20; i++) {
        answer      begin = { 0 }, insert = { 0 }, end = { 0 };
        db_query    b = query(&begin, NULL), e = query(&end, NULL);
        db_query    q = query(&insert, depot_strf(pgt_arena, "insert into told values (%d)", i));
        db_async_tx *t = db_async_begin(pool, NULL, &b);
        ok(wait_for(&begin) && begin.good, "a transaction");
        db_request_cancel(db_tx_sql(t, &q));
        ok(wait_for(&insert) && (insert.good || insert.err.code == DEPOT_E_CANCELED), "canceled, or as if not");
        db_tx_commit(t, &e);
        ok(wait_for(&end), "its commit ends");
        is_str(pgt_ask(depot_strf(pgt_arena, "select count(*) from told where i = %d", i)), end.good && insert.good ? "1" : "0",
               end.good ? "committed as told" : "not committed as told");
    }
}

static void a_lost_connection_is_told_and_replaced(void)
{
    answer begin = { 0 };
    answer a = { 0 };
    answer end = { 0 };
    db_query b = query(&begin, NULL);
    db_query q = query(&a, "select pg_backend_pid()::text as pid");
    db_query e = query(&end, NULL);

    db_async_tx *t = db_async_begin(pool, NULL, &b);
    db_tx_sql(t, &q);
    ok(wait_for(&a) && a.good, "inside of a transaction");
    pgt_ask(depot_strf(pgt_arena, "select pg_terminate_backend(%s)", depot_text(a.rows, 0, "pid")));
    run_for(300);
    q = query(&a, "select 1");
    db_tx_sql(t, &q);
    ok(wait_for(&a) && a.err.code == DEPOT_E_DB_DOWN, "its connection is lost");
    db_tx_commit(t, &e);
    ok(wait_for(&end) && end.err.code == DEPOT_E_DB_DOWN, "nothing was committed for sure");
    ask_single(&a, "select 1", 0);
    ok(wait_for(&a) && a.good, "others go on");

    pgt_ask("select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'depot'");
    run_for(300);
    is_int(db_async_idle(pool), 0, "idle connections that ended are gone at once");
    ask_single(&a, "select 1", 0);
    ok(wait_for(&a) && a.good, "and replaced when needed");
}

static void a_restart_of_the_server_is_waited_for(void)
{
    answer a[6];
    int    good = 0;
    char   real[4096];

    ok(realpath(depot_strf(pgt_arena, "%s/pg/data", pgt_root), real) != NULL, "the data folder");
    ask_single(&a[0], "select pg_sleep(5)", 0);
    run_for(200);
    kill(pgt_postmaster(real), SIGKILL);
    ok(wait_for(&a[0]) && !a[0].good, "what was under way fails");
    ok(a[0].err.code == DEPOT_E_DB_UNKNOWN || a[0].err.code == DEPOT_E_DB_DOWN, "as lost");
    for (size_t i = 0; i < DEPOT_N(a); i++) {
        ask_single(&a[i], "select 1", 0);
    }
    for (size_t i = 0; i < DEPOT_N(a); i++) {
        good += wait_for(&a[i]) && a[i].good ? 1 : 0;
    }
    is_int(good, 6, "what is asked while it is away waits and is answered");
}

static void a_server_that_is_not_there_is_told(void)
{
    answer    a = { 0 };
    answer    b = { 0 };
    db_async *before = pool;

    pool = open_pool("postgresql://depot:x@127.0.0.1:1/depot", 2);
    int64_t began = depot_now_ms();
    ask_single(&a, "select 1", 700);
    ask_single(&b, "select 1", 0);
    ok(wait_for(&a), "answered");
    is_str(depot_err_id(&a.err), "DB_UNAVAILABLE", "that the database cannot be reached");
    ok(a.at_ms - began >= 650 && a.at_ms - began < 2500, "at its deadline");
    ok(!db_async_healthy(pool), "not healthy");
    close_pool(pool);
    ok(b.calls == 1 && b.err.code == DEPOT_E_CANCELED, "what still waits at the end is canceled");
    pool = before;
}

static void too_many_are_refused(void)
{
    answer a[600];
    int    refused = 0;
    int    good = 0;

    for (size_t i = 0; i < DEPOT_N(a); i++) {
        ask_single(&a[i], "select 1", 0);
    }
    for (size_t i = 0; i < DEPOT_N(a); i++) {
        wait_for(&a[i]);
        good += a[i].good ? 1 : 0;
        refused += a[i].err.code == DEPOT_E_UNAVAILABLE ? 1 : 0;
    }
    ok(good >= 500 && refused > 0 && good + refused == 600, "more than may wait are refused, the others are answered");
}

static void an_end_in_the_middle_is_clean(void)
{
    answer running = { 0 };
    answer waiting[10];
    answer begin = { 0 };
    answer commit = { 0 };
    db_async *before = pool;

    pool = open_pool(pg_cluster_url(pgt_cluster), 2);
    ask_single(&running, "select pg_sleep(10)", 0);
    db_query b = query(&begin, NULL);
    db_query c = query(&commit, NULL);
    db_async_tx *t = db_async_begin(pool, NULL, &b);
    ok(wait_for(&begin) && begin.good, "a transaction is open");
    db_query q = query(&waiting[0], "select pg_sleep(10)");
    db_tx_sql(t, &q);
    db_tx_commit(t, &c);
    for (size_t i = 1; i < DEPOT_N(waiting); i++) {
        ask_single(&waiting[i], "select 1", 0);
    }
    run_for(100);
    close_pool(pool);
    ok(pool_closed, "closed");
    ok(running.calls == 1 && running.err.code == DEPOT_E_CANCELED, "what ran was told");
    ok(waiting[0].calls == 1 && commit.calls == 1 && waiting[9].calls == 1, "so was all that waited");
    pool = before;
    int64_t began = depot_now_ms();
    ok(pgt_eventually("select count(*) from pg_stat_activity where query like '%pg_sleep(10)%' and state = 'active'"
                      " and pid <> pg_backend_pid()",
                      "0") &&
           depot_now_ms() - began < 9000,
       "the server was told to stop");
}

int main(void)
{
    pgt_begin();
    pgt_share();
    pgt_do("alter default privileges grant select, insert, update, delete on tables to depot;"
           "create table note (text text);"
           "create function set_app_user(who uuid) returns void language sql as"
           " $$ select set_config('app.current_user_id', who::text, true) $$");
    if (uv_loop_init(&loop) != 0 || uv_timer_init(&loop, &tick) != 0 || uv_timer_start(&tick, on_tick, 10, 10) != 0) {
        return 1;
    }
    pool = open_pool(pg_cluster_url(pgt_cluster), 4);
    run(a_statement_answers_on_the_loop);
    run(settings_hold_for_one_statement);
    run(many_run_at_a_time);
    run(the_deadline_and_a_cancel_stop_it);
    run(a_transaction_holds_its_connection);
    run(a_rollback_leaves_nothing);
    run(a_failed_statement_spoils_the_transaction);
    run(answers_may_ask_again);
    run(large_answers_and_values_pass);
    run(too_many_are_refused);
    run(a_commit_after_a_late_cancel_tells_the_truth);
    run(a_lost_connection_is_told_and_replaced);
    run(a_restart_of_the_server_is_waited_for);
    run(a_server_that_is_not_there_is_told);
    run(an_end_in_the_middle_is_clean);
    close_pool(pool);
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    ok(uv_loop_close(&loop) == 0, "the loop has nothing left");
    pgt_end();
    return done();
}
