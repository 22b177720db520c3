/* test_migrate.c - numbered SQL files: applied once, in order, remembered, refused when they do not fit. */
#include "db/migrate.h"

#include "tap.h"

#include "pgtest.h"

static const char *sql_dir; /* of the running test */
static int         cases;

static const char *const core_set[] = { "core", NULL };
static const char *const both_sets[] = { "core", "queue", NULL };

static void put(const char *file, const char *text)
{
    const char *path = depot_strf(pgt_arena, "%s/%s", sql_dir, file);
    char       *dir = depot_strdup(pgt_arena, path);
    depot_err   err = { 0 };

    *strrchr(dir, '/') = '\0';
    if (!depot_mkdirs(dir, 0755, &err) || !depot_write_file(path, text, strlen(text), 0644, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
}

/* A folder and a database without migrations, for one test. */
static void fresh(void)
{
    sql_dir = depot_strf(pgt_arena, "%s/sql%d", pgt_root, cases++);
    pgt_ask("drop schema if exists depot cascade");
    pgt_ask("drop schema if exists t cascade");
    put("core/0001_init.sql", "create schema t;\ncreate table t.a (id int);\n");
    put("core/statement.sql", "this is no migration");
}

static depot_db *owner(void)
{
    depot_db *db = NULL;
    depot_err err = { 0 };

    if (!db_connect(pg_cluster_owner_url(pgt_cluster), "test", 5000, &db, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    return db;
}

static bool up(const char *const *sets, size_t *out_n, depot_err *err)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = owner();

    return migrate_up(db, pgt_arena, sql_dir, sets, NULL, NULL, out_n, err);
}

static bool status(const char *const *sets, migration **out, size_t *out_n, depot_err *err)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = owner();

    return migrate_status(db, pgt_arena, sql_dir, sets, out, out_n, err);
}

static void count_progress(void *arg, const migration *m)
{
    *(int *)arg += m->applied && m->applied_at != NULL ? 1 : 100;
}

static void files_are_applied_once_and_in_order(void)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = owner();
    migration *list = NULL;
    size_t     n = 0;
    int        told = 0;
    depot_err  err = { 0 };

    fresh();
    put("core/0002_more.sql", "insert into t.a values (1); insert into t.a values (2);");
    put("queue/0001_init.sql", "create table t.q as select count(*)::int as n from t.a;");
    ok_err(status(both_sets, &list, &n, &err), &err, "status of an empty database");
    ok(n == 3 && !list[0].applied && !list[2].applied, "three are pending");
    is_str(list[0].name, "init", "the name");
    is_str(list[2].set, "queue", "in the order of the sets");
    ok_err(migrate_up(db, pgt_arena, sql_dir, both_sets, count_progress, &told, &n, &err), &err, "up");
    is_int(n, 3, "three applied");
    is_int(told, 3, "each was told");
    is_str(pgt_ask("select n from t.q"), "2", "one after the other");
    ok_err(up(both_sets, &n, &err), &err, "up again");
    is_int(n, 0, "nothing to do");
    ok_err(status(both_sets, &list, &n, &err), &err, "status");
    ok(list[0].applied && list[1].applied && list[2].applied, "all are applied");
    ok(strlen(list[1].applied_at) == strlen("2026-11-20T09:23:33.459721Z"), "and when");
    is_str(pgt_ask("select applied_by from depot.migration limit 1"), "depot_owner", "and by whom");
    put("core/0003_later.sql", "drop table t.q;");
    ok_err(up(both_sets, &n, &err), &err, "a new file");
    is_int(n, 1, "is applied alone");
    ok_err(up(core_set, &n, &err), &err, "a set that is no longer wanted is no fault");
}

static void a_failing_file_names_file_and_line(void)
{
    static const struct {
        const char *sql, *want;
    } rows[] = {
        { "select 1;\n\nselect oops;\n", "0002_bad.sql:3: column \"oops\" does not exist" },
        { "-- grüße ü\nselect 'ä;\n;ö';\n  selekt 1;\n", "0002_bad.sql:4: syntax error" },
        { "create table t.b (id int primary key);\ninsert into t.b values (1);\n\ninsert into t.b\nvalues (1);\n",
          "0002_bad.sql:4: duplicate key" },
        { "select 1;\ndo $x$\nbegin\n  raise exception 'by hand; indeed';\nend $x$;\n", "0002_bad.sql:2: by hand" },
        { "create function t.f() returns int language sql begin atomic select 1; select case 1 when 1 then 2 end; "
          "end;\n"
          "/* a ; /* b ; */ */ select\n 1/0;",
          "0002_bad.sql:2: division by zero" },
        { "create table t.c (x int);\ncommit;\nselect 1;", "0002_bad.sql ends the transaction" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err err = { 0 };
        size_t    n = 0;
        fresh();
        put("core/0002_bad.sql", rows[i].sql);
        put("core/0003_after.sql", "create table t.after (id int);");
        ok(!up(core_set, &n, &err), "a file that cannot be applied");
        contains(err.msg, rows[i].want, "where and why");
        contains(err.msg, depot_strf(pgt_arena, "%s/core/", sql_dir), "with its path");
        is_str(depot_err_id(&err), "MIGRATION", "its code");
        is_int(n, 1, "the one before it stays");
        is_str(pgt_ask("select max(number) from depot.migration"), "1", "and is noted alone");
        is_str(pgt_ask("select to_regclass('t.after') is null and to_regclass('t.b') is null"), "t",
               "nothing of it or after it");
        put("core/0002_bad.sql", "select 1;");
        ok_err(up(core_set, &n, &err), &err, "mended, it goes on from there");
        is_int(n, 2, "with both");
    }
}

static void what_does_not_fit_is_refused(void)
{
    static const struct {
        const char *file, *text, *want;
    } rows[] = {
        { "core/0002_two.sql", "select 3;", "core/0002_two.sql was changed after it was applied" },
        { "core/0005_far.sql", "select 1;", "migration 4 of core is missing" },
        { "core/0003_again.sql", "select 1;", "have the same number" },
        { "core/003_short.sql", "select 1;", "does not look like" },
        { "core/0004-dash.sql", "select 1;", "does not look like" },
        { "core/0004_.sql", "select 1;", "does not look like" },
        { "core/0004_x.txt", "select 1;", "does not look like" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        migration *list = NULL;
        depot_err  err = { 0 };
        size_t     n = 0;
        fresh();
        put("core/0002_two.sql", "select 2;");
        put("core/0003_three.sql", "select 3;");
        ok_err(up(core_set, &n, &err), &err, "three good files");
        put(rows[i].file, rows[i].text);
        ok(!up(core_set, &n, &err), rows[i].file);
        contains(err.msg, rows[i].want, "why");
        is_str(depot_err_id(&err), "MIGRATION", "its code");
        ok(!status(core_set, &list, &n, &err), "status says the same");
        contains(err.msg, rows[i].want, "in the same words");
    }
}

static void a_newer_database_is_refused(void)
{
    depot_err err = { 0 };
    size_t    n = 0;

    fresh();
    put("core/0002_new.sql", "select 1;");
    ok_err(up(core_set, &n, &err), &err, "a newer depotd");
    ok(unlink(depot_strf(pgt_arena, "%s/core/0002_new.sql", sql_dir)) == 0, "then an older one, which has a file less");
    ok(!up(core_set, &n, &err), "is refused");
    contains(err.msg, "core/0002_new", "by the name of what it does not know");
    contains(err.hint, "newer", "with the way out");
    is_int(depot_err_exit(&err), 3, "refused");
    ok(!up(both_sets, &n, &err) && err.code == DEPOT_E_MIGRATION, "a set without a folder is refused");
}

static void a_checksum_names_both(void)
{
    depot_err err = { 0 };
    size_t    n = 0;
    uint8_t   digest[32];
    char      hex[65];

    fresh();
    ok_err(up(core_set, &n, &err), &err, "applied");
    put("core/0001_init.sql", "create schema t;");
    ok(!up(core_set, &n, &err), "changed");
    depot_sha256("create schema t;", 16, digest);
    depot_hex(digest, 32, hex);
    contains(err.msg, hex, "the checksum of now");
    contains(err.msg, pgt_ask("select checksum from depot.migration"), "the checksum of then");
}

static void *up_in_thread(void *arg)
{
    size_t   *n = arg;
    depot_err err = { 0 };

    if (!up(core_set, n, &err)) {
        *n = 1000;
    }
    return NULL;
}

static void of_several_at_once_one_does_the_work(void)
{
    pthread_t threads[4];
    size_t    n[4] = { 0 };

    fresh();
    put("core/0002_slow.sql", "select pg_sleep(0.5); insert into t.a values (1);");
    for (size_t i = 0; i < DEPOT_N(threads); i++) {
        if (pthread_create(&threads[i], NULL, up_in_thread, &n[i]) != 0) {
            abort();
        }
    }
    size_t total = 0;
    for (size_t i = 0; i < DEPOT_N(threads); i++) {
        pthread_join(threads[i], NULL);
        total += n[i];
    }
    is_int(total, 2, "two files, applied by one of four");
    is_str(pgt_ask("select count(*) from t.a"), "1", "once");
}

static void *hold_table(void *arg)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = owner();
    depot_err err = { 0 };

    if (depot_db_begin(db, NULL, &err) && depot_db_sql(db, NULL, "lock table t.a", DEPOT_NO_VALS, NULL, &err)) {
        atomic_store((atomic_bool *)arg, true);
        usleep(6000000);
    }
    return NULL;
}

static void a_table_in_use_is_tried_again(void)
{
    atomic_bool held = false;
    pthread_t   thread;
    depot_err   err = { 0 };
    size_t      n = 0;

    fresh();
    ok_err(up(core_set, &n, &err), &err, "a table");
    ok(pthread_create(&thread, NULL, hold_table, &held) == 0, "somebody holds it for 6 s");
    while (!atomic_load(&held)) {
        usleep(10000);
    }
    put("core/0002_alter.sql", "alter table t.a add column b int;");
    ok_err(up(core_set, &n, &err), &err, "a migration of it succeeds all the same");
    pthread_join(thread, NULL);
    is_str(pgt_ask("select count(*) from depot.migration where number = 2"), "1", "once");
}

static void settings_of_a_file_end_with_it(void)
{
    depot_err err = { 0 };
    size_t    n = 0;

    fresh();
    put("core/0002_path.sql", "set search_path = t; create table here (id int);");
    put("core/0003_after.sql", "create table t.path as select current_setting('search_path') as p;");
    ok_err(up(core_set, &n, &err), &err, "a file that sets search_path");
    is_str(pgt_ask("select p from t.path"), "\"$user\", public", "does not set it for the next");
}

static void the_daemons_role_may_use_and_not_own(void)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
    depot_err err = { 0 };
    size_t    n = 0;

    fresh();
    put("core/0002_fn.sql", "create function t.f() returns int language sql as 'select 7'; create sequence t.s;"
                            " grant usage on schema t to depot; grant usage on sequence t.s to depot;"
                            " grant insert on t.a to depot");
    ok_err(up(core_set, &n, &err), &err, "made by the owner role");
    ok_err(db_connect(pg_cluster_url(pgt_cluster), "test", 5000, &db, &err), &err, "the daemon's role");
    ok_err(depot_db_sql(db, NULL, "insert into t.a values (t.f()), (nextval('t.s')::int)", DEPOT_NO_VALS, NULL, &err),
           &err, "uses it");
    ok(!depot_db_sql(db, NULL, "alter table t.a add x int", DEPOT_NO_VALS, NULL, &err) &&
           strcmp(err.sqlstate, "42501") == 0, "changes nothing of it");
    ok(!depot_db_sql(db, NULL, "delete from t.a", DEPOT_NO_VALS, NULL, &err) && strcmp(err.sqlstate, "42501") == 0,
       "as far as a migration says");
    ok(!depot_db_sql(db, NULL, "create table t.mine (id int)", DEPOT_NO_VALS, NULL, &err), "makes nothing");
    ok(!depot_db_sql(db, NULL, "create schema mine", DEPOT_NO_VALS, NULL, &err), "nowhere");
    ok(!depot_db_sql(db, NULL, "create table public.mine (id int)", DEPOT_NO_VALS, NULL, &err), "nor in public");
}

int main(void)
{
    pgt_begin();
    run(files_are_applied_once_and_in_order);
    run(a_failing_file_names_file_and_line);
    run(what_does_not_fit_is_refused);
    run(a_newer_database_is_refused);
    run(a_checksum_names_both);
    run(of_several_at_once_one_does_the_work);
    run(a_table_in_use_is_tried_again);
    run(settings_of_a_file_end_with_it);
    run(the_daemons_role_may_use_and_not_own);
    pgt_end();
    return done();
}
