/* test_pool.c - connections, values, transactions and the pool against a real server. */
#include <limits.h>
#include <math.h>
#include <sys/wait.h>

#include "db/pool.h"

#include "tap.h"

#include "pgtest.h"

static db_pool *pool;

static depot_db *borrow(void)
{
    depot_db *db = NULL;
    depot_err err = { 0 };

    if (!db_pool_open(pool, true, &db, &err)) {
        printf("Bail out! no connection: %s\n", err.msg);
        exit(1);
    }
    return db;
}

static void values_come_back_as_they_went(void)
{
    DEPOT_AUTO(depot_db_close) depot_db *db = borrow();
    depot_err   err = { 0 };
    depot_rows *rows = NULL;

    if (!ok_err(
            depot_db_sql(
                db, pgt_arena,
                "select $1::text as t, $2::bigint as i, $3::float8 as d, $4::bool as b, $5::bytea as x, $6::text as n,"
                " $7::jsonb as j, $8::int as small, $9::float8 as inf",
                DEPOT_VALS(DEPOT_TEXT("grüße 'n\" \\"), DEPOT_INT(INT64_MIN), DEPOT_REAL(0.1), DEPOT_BOOL(true),
                           DEPOT_BYTES("\0\1\xff", 3), DEPOT_NULL, DEPOT_TEXT("{\"id\": 9007199254740993}"),
                           DEPOT_INT(-7), DEPOT_REAL(-INFINITY)),
                &rows, &err),
            &err, "a statement with every kind of value")) {
        return;
    }
    is_int(depot_rows_count(rows), 1, "one row");
    is_int(depot_rows_cols(rows), 9, "nine columns");
    is_str(depot_rows_name(rows, 3), "b", "columns have names");
    is_str(depot_text(rows, 0, "t"), "grüße 'n\" \\", "text");
    ok(depot_int(rows, 0, "i") == INT64_MIN, "the smallest integer");
    ok(depot_real(rows, 0, "d") == 0.1, "a real is exact");
    ok(depot_bool(rows, 0, "b"), "true");
    is_str(depot_text(rows, 0, "x"), "\\x0001ff", "bytes with a zero");
    ok(depot_is_null(rows, 0, "n") && depot_text(rows, 0, "n") == NULL && depot_int(rows, 0, "n") == 0, "null");
    const depot_json *json = depot_rows_json(rows, 0, "j", pgt_arena);
    ok(depot_json_get_int(json, "id", 0) == 9007199254740993, "json keeps 64-bit integers");
    ok(depot_json_typeof(depot_rows_json(rows, 0, "n", pgt_arena)) == DEPOT_JSON_NULL, "SQL null is JSON null");
    ok(depot_json_typeof(depot_rows_json(rows, 0, "t", pgt_arena)) == DEPOT_JSON_STRING,
       "what is no JSON stays a text");
    is_int(depot_int(rows, 0, "small"), -7, "an integer fits a smaller type");
    ok(isinf(depot_real(rows, 0, "inf")), "infinity");
}

static void affected_rows_are_counted(void)
{
    DEPOT_AUTO(depot_db_close) depot_db *db = borrow();
    depot_err   err = { 0 };
    depot_rows *rows = NULL;

    ok_err(depot_db_sql(db, pgt_arena, "insert into item (name) select 'a' || g from generate_series(1, 7) g",
                        DEPOT_NO_VALS, &rows, &err),
           &err, "insert");
    is_int(depot_rows_affected(rows), 7, "seven rows inserted");
    is_int(depot_rows_count(rows), 0, "none returned");
    ok_err(depot_db_sql(db, NULL, "delete from item", DEPOT_NO_VALS, NULL, &err), &err,
           "no result wanted, no arena needed");
}

/* Runs fn in a child and gives back what it wrote on stderr before it ended by SIGABRT; "" if it did not. */
static const char *aborting(void (*fn)(const depot_rows *rows), const depot_rows *rows)
{
    char *text = depot_alloc(pgt_arena, 1000);
    int   fds[2];
    int   status = 0;

    if (pipe(fds) != 0) {
        return "";
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(fds[1], STDERR_FILENO);
        fn(rows);
        _exit(0);
    }
    close(fds[1]);
    size_t  have = 0;
    ssize_t n;
    while (have < 999 && (n = read(fds[0], text + have, 999 - have)) > 0) {
        have += (size_t)n;
    }
    close(fds[0]);
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? text : "";
}

static void read_absent_column(const depot_rows *rows)
{
    (void)depot_int(rows, 0, "nmae");
}

static void read_absent_row(const depot_rows *rows)
{
    (void)depot_int(rows, 1, "name");
}

static void a_column_that_is_not_there_aborts(void)
{
    DEPOT_AUTO(depot_db_close) depot_db *db = borrow();
    depot_err   err = { 0 };
    depot_rows *rows = NULL;

    ok_err(depot_db_sql(db, pgt_arena, "select 1 as id, 2 as name, 3 as name", DEPOT_NO_VALS, &rows, &err), &err,
           "select");
    is_int(depot_int(rows, 0, "name"), 2, "of two equal names the first counts");
    contains(aborting(read_absent_column, rows), "no column \"nmae\"; it has: id, name, name",
             "the message lists what there is");
    contains(aborting(read_absent_row, rows), "row 1 (column \"name\")", "a row that is not there aborts too");
}

static void many_columns_are_all_found(void)
{
    DEPOT_AUTO(depot_db_close) depot_db *db = borrow();
    DEPOT_AUTO(depot_buf_free) depot_buf sql = { 0 };
    depot_err   err = { 0 };
    depot_rows *rows = NULL;
    bool        all = true;

    for (int i = 0; i < 500; i++) {
        depot_buf_addf(&sql, "%s %d as col_%d", i == 0 ? "select" : ",", i, i);
    }
    ok_err(depot_db_sql(db, pgt_arena, sql.data, DEPOT_NO_VALS, &rows, &err), &err, "500 columns");
    for (int i = 0; i < 500; i++) {
        all = all && depot_int(rows, 0, depot_strf(pgt_arena, "col_%d", i)) == i;
    }
    ok(all, "each is found by its name");
}

static void refusals_carry_state_and_hint(void)
{
    static const struct {
        const char *sql, *state, *id;
    } rows[] = {
        { "select no_such_column", "42703", "DB" },
        { "selekt 1", "42601", "DB" },
        { "select 1/0", "22012", "DB" },
        { "insert into item (id) values (1), (1)", "23505", "DB" },
        { "select pg_catalog.pg_read_file('/etc/passwd')", "42501", "DB" },
        { "copy item to stdout", "", "DB" },
        { "do $$ begin raise exception 'no' using hint = 'try later', errcode = '40001'; end $$", "40001",
          "SERIALIZATION" },
        { "do $$ begin raise exception 'no' using errcode = '53100'; end $$", "53100", "NO_SPACE" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_db_close) depot_db *db = borrow();
        depot_err err = { 0 };
        ok(!depot_db_sql(db, pgt_arena, rows[i].sql, DEPOT_NO_VALS, NULL, &err), rows[i].sql);
        is_str(err.sqlstate, rows[i].state, "its SQLSTATE");
        is_str(depot_err_id(&err), rows[i].id, "its code");
        if (strcmp(rows[i].state, "40001") == 0) {
            is_str(err.hint, "try later", "the server's hint");
            is_str(err.msg, "no", "the primary message alone");
        }
    }
    is_str(pgt_ask("select count(*) from item"), "0", "nothing was inserted");
}

static void a_transaction_is_kept_or_rolled_back(void)
{
    depot_err err = { 0 };
    depot_db *db = borrow();

    ok_err(depot_db_begin(db, NULL, &err), &err, "begin");
    ok(!depot_db_begin(db, NULL, &err) && err.code == DEPOT_E_BUG, "a second begin is a fault of the caller");
    ok_err(depot_db_sql(db, NULL, "insert into item (name) values ('kept')", DEPOT_NO_VALS, NULL, &err), &err,
           "insert");
    ok_err(depot_db_commit(db, &err), &err, "commit");
    ok(!depot_db_commit(db, &err) && err.code == DEPOT_E_BUG, "nothing left to commit");
    ok_err(depot_db_begin(db, NULL, &err), &err, "begin again");
    ok_err(depot_db_sql(db, NULL, "insert into item (name) values ('dropped')", DEPOT_NO_VALS, NULL, &err), &err,
           "insert");
    depot_db_close(&db);
    is_str(pgt_ask("select string_agg(name, ',') from item"), "kept", "closing rolls back what was not committed");

    db = borrow();
    ok_err(depot_db_begin(db, NULL, &err), &err, "begin");
    ok(!depot_db_sql(db, NULL, "select 1/0", DEPOT_NO_VALS, NULL, &err), "a statement fails");
    ok(!depot_db_commit(db, &err), "a commit of a failed transaction is no success");
    contains(err.msg, "rolled back", "and says so");
    depot_db_close(&db);
    pgt_do("delete from item");
}

static void settings_end_with_the_transaction(void)
{
    DEPOT_AUTO(depot_db_close) depot_db *db = borrow();
    const depot_tx tx = { .user = "0b1e8d6a-55a2-4b7e-9e53-2f0f60a35b4f", .timeout_ms = 1234, .read_only = true,
                          .serializable = true };
    static const char look[] =
        "select current_setting('app.current_user_id', true) as who, current_setting('statement_timeout') as st,"
        " current_setting('lock_timeout') as lt, current_setting('idle_in_transaction_session_timeout') as it,"
        " current_setting('transaction_isolation') as iso, current_setting('transaction_read_only') as ro";
    depot_err   err = { 0 };
    depot_rows *rows = NULL;

    ok_err(depot_db_begin(db, &tx, &err), &err, "begin with settings");
    ok_err(depot_db_sql(db, pgt_arena, look, DEPOT_NO_VALS, &rows, &err), &err, "look");
    is_str(depot_text(rows, 0, "who"), tx.user, "the application user");
    is_str(depot_text(rows, 0, "st"), "1234ms", "its own statement timeout");
    is_str(depot_text(rows, 0, "lt"), "2s", "the pool's lock timeout");
    is_str(depot_text(rows, 0, "it"), "30s", "the pool's idle timeout");
    is_str(depot_text(rows, 0, "iso"), "serializable", "isolation");
    is_str(depot_text(rows, 0, "ro"), "on", "read only");
    ok(!depot_db_sql(db, NULL, "insert into item (name) values ('x')", DEPOT_NO_VALS, NULL, &err) &&
           err.code == DEPOT_E_DB, "a write in it is refused, and no sign of a standby");
    ok(!depot_db_commit(db, &err), "end");
    ok_err(depot_db_sql(db, pgt_arena, look, DEPOT_NO_VALS, &rows, &err), &err, "look again");
    ok(depot_text(rows, 0, "who") == NULL || depot_text(rows, 0, "who")[0] == '\0', "nobody any more");
    is_str(depot_text(rows, 0, "st"), "20s", "the session's own limit again");
    const depot_tx bad = { .user = "root" };
    ok(!depot_db_begin(db, &bad, &err) && err.code == DEPOT_E_INVALID, "a user that is no UUID is refused");
}

static const char *backend(depot_db *db)
{
    depot_err   err = { 0 };
    depot_rows *rows = NULL;

    return depot_db_sql(db, pgt_arena, "select pg_backend_pid()::text as pid", DEPOT_NO_VALS, &rows, &err)
               ? depot_text(rows, 0, "pid") : depot_strdup(pgt_arena, err.msg);
}

static void the_deadline_stops_a_statement(void)
{
    DEPOT_AUTO(depot_db_close) depot_db *db = borrow();
    const char *before = backend(db);
    unit        u = { .deadline_ms = depot_now_ms() + 300 };
    depot_err   err = { 0 };

    unit_enter(&u);
    int64_t began = depot_now_ms();
    ok(!depot_db_sql(db, NULL, "select pg_sleep(10)", DEPOT_NO_VALS, NULL, &err), "a long statement fails");
    int64_t took = depot_now_ms() - began;
    is_str(depot_err_id(&err), "TIMEOUT", "by the deadline");
    ok(took >= 250 && took < 9000, "in time");
    ok(!depot_db_sql(db, NULL, "select 1", DEPOT_NO_VALS, NULL, &err) && err.code == DEPOT_E_TIMEOUT,
       "nothing starts after it");
    unit_leave(&u);
    is_str(backend(db), before, "the connection stays usable");

    const depot_tx tx = { .timeout_ms = 200 };
    ok_err(depot_db_begin(db, &tx, &err), &err, "begin with a limit");
    ok(!depot_db_sql(db, NULL, "select pg_sleep(10)", DEPOT_NO_VALS, NULL, &err), "the server stops it");
    is_str(depot_err_id(&err), "TIMEOUT", "which is a timeout as well");
    is_str(err.sqlstate, "57014", "told by the server");
}

static void *set_later(void *flag)
{
    usleep(200000);
    atomic_store((atomic_bool *)flag, true);
    return NULL;
}

static void a_cancel_stops_a_statement(void)
{
    DEPOT_AUTO(depot_db_close) depot_db *db = borrow();
    const char *before = backend(db);
    atomic_bool flag = false;
    unit        u = { .deadline_ms = INT64_MAX, .canceled = &flag };
    depot_err   err = { 0 };
    pthread_t   thread;

    unit_enter(&u);
    ok(pthread_create(&thread, NULL, set_later, &flag) == 0, "a thread that cancels");
    int64_t began = depot_now_ms();
    ok(!depot_db_sql(db, NULL, "select pg_sleep(10)", DEPOT_NO_VALS, NULL, &err), "the statement fails");
    ok(depot_now_ms() - began < 9000, "soon");
    is_str(depot_err_id(&err), "CANCELED", "as canceled");
    pthread_join(thread, NULL);
    unit_leave(&u);
    is_str(backend(db), before, "the connection stays usable");
    is_str(pgt_ask("select count(*) from pg_stat_activity where query like '%pg_sleep(10)%' and state = 'active'"
                   " and pid <> pg_backend_pid()"), "0", "nothing goes on in the server");
}

/* Two threads, each with a transaction, in step. */
typedef struct duel {
    pthread_barrier_t step;
    const char       *first[2], *second[2];
    bool              serializable;
    depot_err         err[2];
    bool              good[2];
    int               side;
} duel;

static bool fight(duel *d, int side, depot_err *err)
{
    DEPOT_AUTO(depot_db_close) depot_db *db = borrow();
    const depot_tx tx = { .serializable = d->serializable };

    bool good = depot_db_begin(db, &tx, err) && depot_db_sql(db, NULL, d->first[side], DEPOT_NO_VALS, NULL, err);
    pthread_barrier_wait(&d->step);
    return good && depot_db_sql(db, NULL, d->second[side], DEPOT_NO_VALS, NULL, err) && depot_db_commit(db, err);
}

static void *fight_other(void *arg)
{
    duel *d = arg;

    d->good[1] = fight(d, 1, &d->err[1]);
    return NULL;
}

static const depot_err *duel_loser(duel *d)
{
    pthread_t thread;

    pthread_barrier_init(&d->step, NULL, 2);
    if (pthread_create(&thread, NULL, fight_other, d) != 0) {
        abort();
    }
    d->good[0] = fight(d, 0, &d->err[0]);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&d->step);
    ok(d->good[0] != d->good[1], "one wins, one loses");
    return d->good[0] ? &d->err[1] : &d->err[0];
}

static void deadlock_and_serialization_are_told_apart(void)
{
    duel lock = { .first = { "update item set name = 'x' where id = 1", "update item set name = 'y' where id = 2" },
                  .second = { "update item set name = 'x' where id = 2", "update item set name = 'y' where id = 1" } };
    duel skew = { .serializable = true,
                  .first = { "select count(*) from item", "select count(*) from item" },
                  .second = { "insert into item (name) values ('x')", "insert into item (name) values ('y')" } };

    pgt_do("delete from item; insert into item (id, name) values (1, 'a'), (2, 'b')");
    const depot_err *err = duel_loser(&lock);
    is_str(depot_err_id(err), "DB_DEADLOCK", "a deadlock");
    is_int(depot_err_retry(err), DEPOT_RETRY_SAFE, "may be tried again");
    err = duel_loser(&skew);
    is_str(depot_err_id(err), "SERIALIZATION", "a serialization failure");
    is_int(depot_err_retry(err), DEPOT_RETRY_SAFE, "may be tried again");
}

static void a_held_lock_is_waited_for_a_while(void)
{
    DEPOT_AUTO(depot_db_close) depot_db *holder = borrow();
    DEPOT_AUTO(depot_db_close) depot_db *db = borrow();
    depot_err err = { 0 };

    ok_err(depot_db_begin(holder, NULL, &err), &err, "a transaction that locks");
    ok_err(depot_db_sql(holder, NULL, "lock table item", DEPOT_NO_VALS, NULL, &err), &err, "holds the table");
    int64_t began = depot_now_ms();
    ok(!depot_db_sql(db, NULL, "select * from item", DEPOT_NO_VALS, NULL, &err), "another one waits in vain");
    ok(depot_now_ms() - began > 1500, "as long as lock_timeout says");
    is_str(depot_err_id(&err), "LOCKED", "and is told that it is locked");
}

static void a_batch_is_one_transaction(void)
{
    DEPOT_AUTO(depot_db_close) depot_db *db = borrow();
    depot_err   err = { 0 };
    depot_rows *rows[3] = { NULL };
    const depot_stmt good[] = { { "insert into item (id, name) values (1010, $1)", DEPOT_VALS(DEPOT_TEXT("ten")) },
                                { "select name from item where id = $1", DEPOT_VALS(DEPOT_INT(1010)) },
                                { "select 42 as n", DEPOT_NO_VALS } };
    const depot_stmt bad[] = { { "insert into item (id, name) values (1011, 'eleven')", DEPOT_NO_VALS },
                               { "insert into item (id, name) values (1010, 'again')", DEPOT_NO_VALS },
                               { "insert into item (id, name) values (1012, 'twelve')", DEPOT_NO_VALS } };

    ok_err(depot_db_batch(db, pgt_arena, good, 3, rows, &err), &err, "three statements");
    is_int(depot_rows_affected(rows[0]), 1, "the first inserted");
    is_str(depot_text(rows[1], 0, "name"), "ten", "the second saw it");
    is_int(depot_int(rows[2], 0, "n"), 42, "the third is the third");
    ok(!depot_db_batch(db, pgt_arena, bad, 3, NULL, &err), "one of three fails");
    is_str(err.sqlstate, "23505", "with its own state");
    is_str(pgt_ask("select count(*) from item where id in (1011, 1012)"), "0", "nothing of it is kept");
    ok_err(depot_db_sql(db, NULL, "select 1", DEPOT_NO_VALS, NULL, &err), &err, "the connection is fine");
    ok_err(depot_db_batch(db, pgt_arena, good, 0, NULL, &err), &err, "a batch of nothing");
    ok_err(depot_db_begin(db, NULL, &err), &err, "inside of a transaction");
    ok_err(depot_db_batch(db, pgt_arena, good + 1, 2, rows, &err), &err, "a batch");
    ok_err(depot_db_commit(db, &err), &err, "and its commit");
}

static void full_buffers_on_both_sides_do_not_block(void)
{
    enum { N = 300, BYTES = 200000 };
    DEPOT_AUTO(depot_db_close) depot_db *db = borrow();
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_err    err = { 0 };
    char        *text = depot_alloc(arena, BYTES + 1);
    depot_val    val = DEPOT_TEXT(text);
    depot_stmt  *stmts = depot_alloc(arena, N * sizeof(*stmts));
    depot_rows **rows = depot_alloc(arena, N * sizeof(depot_rows *));
    size_t       bytes = 0;

    memset(text, 'x', BYTES);
    for (size_t i = 0; i < N; i++) {
        stmts[i] = (depot_stmt){ "select $1::text as t", &val, 1 };
    }
    ok_err(depot_db_batch(db, arena, stmts, N, rows, &err), &err, "60 MB there and back in one batch");
    for (size_t i = 0; i < N && err.code == DEPOT_OK; i++) {
        bytes += strlen(depot_text(rows[i], 0, "t"));
    }
    is_int(bytes, (size_t)N * BYTES, "all of it came back");
}

static void a_batch_that_is_stopped_leaves_nothing(void)
{
    depot_db   *db = borrow();
    unit        u = { .deadline_ms = depot_now_ms() + 300 };
    depot_err   err = { 0 };
    depot_stmt  stmts[] = { { "insert into item (id, name) values (1020, 'x')", DEPOT_NO_VALS },
                            { "select pg_sleep(10)", DEPOT_NO_VALS },
                            { "insert into item (id, name) values (1021, 'y')", DEPOT_NO_VALS } };

    unit_enter(&u);
    ok(!depot_db_batch(db, NULL, stmts, 3, NULL, &err) && err.code == DEPOT_E_TIMEOUT, "stopped at the deadline");
    unit_leave(&u);
    depot_db_close(&db);
    is_str(pgt_ask("select count(*) from item where id in (1020, 1021)"), "0", "nothing of it is kept");
}

static void the_pool_has_its_limit(void)
{
    const db_pool_options options = { .url = pg_cluster_url(pgt_cluster), .max = 2, .acquire_timeout_ms = 400 };
    db_pool  *small = db_pool_new(&options);
    depot_db *a = NULL;
    depot_db *b = NULL;
    depot_db *c = NULL;
    depot_err err = { 0 };
    db_pool_counts counts;

    ok_err(db_pool_open(small, false, &a, &err) && db_pool_open(small, false, &b, &err), &err, "two of two");
    is_int(db_pool_in_use(small), 2, "both in use");
    int64_t began = depot_now_ms();
    ok(!db_pool_open(small, false, &c, &err), "a third waits in vain");
    ok(depot_now_ms() - began >= 350, "for the acquire timeout");
    is_str(depot_err_id(&err), "UNAVAILABLE", "overloaded, not down");
    contains(err.hint, "max_connections", "the hint names the option");
    const char *pid = backend(b);
    depot_db_close(&b);
    is_int(db_pool_idle(small), 1, "one came back");
    ok_err(db_pool_open(small, false, &c, &err), &err, "and is lent again");
    is_str(backend(c), pid, "the same one");
    db_pool_stats(small, &counts);
    is_int(counts.connects, 2, "two were made in all");
    is_int(counts.timeouts, 1, "one borrower waited in vain");
    depot_db_close(&a);
    depot_db_close(&c);
    db_pool_free(small);
}

static void *borrow_many(void *arg)
{
    atomic_int *good = arg;

    for (int i = 0; i < 50; i++) {
        DEPOT_AUTO(depot_db_close) depot_db *db = NULL;
        depot_err err = { 0 };
        if (db_pool_open(pool, false, &db, &err) && depot_db_sql(db, NULL, "select 1", DEPOT_NO_VALS, NULL, &err)) {
            atomic_fetch_add(good, 1);
        }
    }
    return NULL;
}

static void many_threads_share_it(void)
{
    pthread_t  threads[16];
    atomic_int good = 0;

    for (size_t i = 0; i < DEPOT_N(threads); i++) {
        if (pthread_create(&threads[i], NULL, borrow_many, &good) != 0) {
            abort();
        }
    }
    for (size_t i = 0; i < DEPOT_N(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    is_int(good, 16 * 50, "every one of 800 borrowings worked");
    is_int(db_pool_in_use(pool), 0, "all came back");
}

static void an_ended_session_is_replaced(void)
{
    depot_db *db = borrow();
    depot_err err = { 0 };

    const char *pid = backend(db);
    depot_db_close(&db);
    pgt_ask(depot_strf(pgt_arena, "select pg_terminate_backend(%s)", pid));
    pgt_eventually(depot_strf(pgt_arena, "select count(*) from pg_stat_activity where pid = %s", pid), "0");
    db = borrow();
    ok_err(depot_db_sql(db, NULL, "select 1", DEPOT_NO_VALS, NULL, &err), &err, "the next borrower notices nothing");
    depot_db_close(&db);
}

typedef struct visit { db_pool *pool; const char *pid; } visit; /* whose session the visitor had */

static const char *session_of(db_pool *of)
{
    DEPOT_AUTO(depot_db_close) depot_db *db = NULL;
    depot_err err = { 0 };

    return db_pool_open(of, false, &db, &err) ? backend(db) : "none";
}

static void *come_once(void *arg)
{
    visit *v = arg;

    v->pid = session_of(v->pool);
    return NULL;
}

static const char *visitors_session(db_pool *of)
{
    visit     v = { .pool = of };
    pthread_t thread;

    if (pthread_create(&thread, NULL, come_once, &v) != 0) {
        abort();
    }
    pthread_join(thread, NULL);
    return v.pid;
}

static void a_session_stays_with_who_uses_it(void)
{
    const db_pool_options options = { .url = pg_cluster_url(pgt_cluster), .max = 4 };
    db_pool    *own = db_pool_new(&options);
    const char *mine = session_of(own);

    is_str(visitors_session(own), mine, "one that was used once goes to anybody");
    for (int i = 0; i < 20; i++) {
        (void)session_of(own);
    }
    (void)pgt_ask(depot_strf(pgt_arena, "alter role depot connection limit %s",
                             pgt_ask("select count(*)::text from pg_stat_activity where usename = 'depot'")));
    is_str(visitors_session(own), mine, "so does one that is used all the time, when the server takes no more of them");
    (void)pgt_ask("alter role depot connection limit -1");
    db_pool_free(own);

    own = db_pool_new(&options);
    for (int i = 0; i < 20; i++) {
        mine = session_of(own);
    }
    ok(strcmp(visitors_session(own), mine) != 0, "else others get another one");
    is_str(session_of(own), mine, "and it stays with its user");
    db_pool_free(own);
}

int main(void)
{
    pgt_begin();
    pgt_share();
    pgt_do("alter default privileges grant select, insert, update, delete on tables to depot;"
           "create table item (id bigint generated by default as identity primary key, name text);"
           "create function set_app_user(who uuid) returns void language sql as"
           " $$ select set_config('app.current_user_id', who::text, true) $$");
    const db_pool_options options = { .url = pg_cluster_url(pgt_cluster),
                                      .name = "depotd/test",
                                      .max = 6,
                                      .statement_timeout_ms = 20000,
                                      .lock_timeout_ms = 2000,
                                      .idle_tx_timeout_ms = 30000 };
    pool = db_pool_new(&options);
    run(values_come_back_as_they_went);
    run(affected_rows_are_counted);
    run(a_column_that_is_not_there_aborts);
    run(many_columns_are_all_found);
    run(refusals_carry_state_and_hint);
    run(a_transaction_is_kept_or_rolled_back);
    run(settings_end_with_the_transaction);
    run(the_deadline_stops_a_statement);
    run(a_cancel_stops_a_statement);
    run(deadlock_and_serialization_are_told_apart);
    run(a_held_lock_is_waited_for_a_while);
    run(a_batch_is_one_transaction);
    run(full_buffers_on_both_sides_do_not_block);
    run(a_batch_that_is_stopped_leaves_nothing);
    run(the_pool_has_its_limit);
    run(many_threads_share_it);
    run(an_ended_session_is_replaced);
    run(a_session_stays_with_who_uses_it);
    db_pool_free(pool);
    pgt_end();
    return done();
}
