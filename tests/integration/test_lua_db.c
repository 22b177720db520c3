/* test_lua_db.c - depot.db against a real server: values both ways, transactions, errors, deadlines, places that cannot
 * yield. */
#include <signal.h>

#include "db/async.h"
#include "lua_rig.h"
#include "tap.h"

#include "pgtest.h"

static host_env           env = { .state_dir = "/tmp", .node = "n", .data_dir = "/tmp", .conf_dir = "/tmp", .plugin_dir = "/tmp",
                                  .worker = true };
static const depot_plugin core = { .version = "1", .summary = "test" };
static host              *h;
static rig                r;
static db_async          *pool;
static bool               pool_closed;

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static bool run_text(const char *text, int64_t timeout_ms)
{
    static int n;
    char       name[32];

    (void)snprintf(name, sizeof(name), "q%d.lua", n++); /* states keep what they have compiled by name */
    sources_add(r.arena, &r.sources, name, text, strlen(text));
    sources_seal(&r.sources);
    return rig_run(&r, RUN_FILE, name, "{}", timeout_ms);
}

static void check(const char *text, const char *want)
{
    ok_err(run_text(text, 10000), &r.err, text);
    is_str(r.json, want, "its result");
}

static void values_come_as_their_types(void)
{
    check("return depot.db:value('select 9007199254740993::int8')", "9007199254740993");
    check("return depot.db:value('select 1.5::float8')", "1.5");
    check("return depot.db:value('select 12345678901234567890.12::numeric')", "\"12345678901234567890.12\"");
    check("return depot.db:value('select true')", "true");
    check("return depot.db:value('select null::text')", "null");
    check("return depot.db:value('select 1 where false')", "null");
    check("return depot.db:value([[select '{\"a\":[1,null]}'::jsonb]])", "{\"a\":[1,null]}");
    check("return depot.db:value([[select '[]'::json]])", "[]");
    check("return depot.db:value([[select '2026-11-21 07:42:19.1+00'::timestamptz at time zone 'UTC']])", "\"2026-11-21 07:42:19.1\"");
    check("return #depot.db:value([[select '\\x00ff0a'::bytea]])", "3");
    check("return depot.db:value([[select 'NaN'::float8]]) ~= 1 and 'x' or 'y'", "\"x\"");
    check("return depot.db.value('select 7::int2')", "7");
}

static void values_go_as_they_are(void)
{
    check("return depot.db:row('select $1::int8 as a, $2::text as b, $3::bool as c, $4::float8 as d, $5::text as e', 9007199254740993, 'x', true, "
          "0.1, nil)", "{\"a\":9007199254740993,\"b\":\"x\",\"c\":true,\"d\":0.1,\"e\":null}");
    check("return depot.db:value('select $1::jsonb', { k = { 1, depot.null } })", "{\"k\":[1,null]}");
    check("return depot.db:value('select $1::jsonb', depot.array())", "[]");
    check("return depot.db:value('select length($1::bytea)', 'a\\0b')", "3");
    check("return depot.db:value('select $1::text is null and $2::text is null', depot.null, nil)", "true");
    check("return depot.db:value(\"select $1 || ''''\", \"a'b\")", "\"a'b'\"");
    ok(!run_text("depot.db:exec('select $1', print)", 5000), "a function is refused");
    contains(r.err.msg, "parameter $1", "naming the parameter");
}

static void shapes(void)
{
    check("return depot.db:row('select 1 as a, null as b')", "{\"a\":1,\"b\":null}");
    check("return depot.db:row('select 1 where false')", "null");
    check("return depot.db:rows('select g as n from generate_series(1, 3) g')", "[{\"n\":1},{\"n\":2},{\"n\":3}]");
    check("return #depot.db:rows('select 1 where false')", "0");
    check("return depot.db:exec('insert into note values ($1), ($2)', 'a', 'b')", "2");
    check("return depot.db:exec('delete from note')", "2");
    check("return depot.db:row('select 1 as a').b == nil", "true");
}

static void errors_are_raised_with_their_code(void)
{
    check("local v, e = depot.try(depot.db.exec, 'select 1/0') return { e.code, e.sqlstate, e.retry }", "[\"DB\",\"22012\",\"no\"]");
    ok(!run_text("depot.db:exec('select nothing')", 5000), "uncaught");
    is_int(r.err.code, DEPOT_E_DB, "DB");
    is_str(r.err.sqlstate, "42703", "with SQLSTATE");
    contains(r.where, ".lua:1", "and place");
    ok(!run_text("depot.db:exec('select 1; select 2')", 5000), "two statements are refused");
    ok(!run_text("depot.db:exec('select $1::int', 'x')", 5000), "a value that does not fit");
    is_str(r.err.sqlstate, "22P02", "is an error of the database");
}

static void transactions_commit_and_roll_back(void)
{
    check("return depot.db:tx(function(tx) tx:exec('insert into note values ($1)', 'kept') return tx:value('select count(*) from note'), 'x' end)", "1");
    is_str(pgt_ask("select count(*) from note"), "1", "it is there");
    check("local ok, e = pcall(depot.db.tx, function(tx) tx:exec('insert into note values (1)') error('no', 0) end) return { ok, e }", "[false,\"no\"]");
    is_str(pgt_ask("select count(*) from note"), "1", "the other is not");
    check("local ok, e = depot.try(depot.db.tx, function(tx) pcall(tx.exec, 'select 1/0') return tx:value('select 1') end) return e.sqlstate", "\"25P02\"");
    check("return depot.db:value('select 1')", "1");
    check("local ok, e = depot.try(depot.db.tx, function() depot.db:tx(function() end) end) return e.code", "\"CONFLICT\"");
    check("return depot.db:tx(function(tx) depot.sleep(0.02) local a = tx:value('select txid_current()') depot.sleep(0.02) return a == "
          "depot.db:value('select txid_current()') end)", "true");
    check("local v, e = depot.try(function() return depot.db:tx(function(tx) tx:exec('insert into note values (1)') end, { read_only = true }) end) return "
          "e.sqlstate", "\"25006\"");
    check("return depot.db:tx(function(tx) return tx:value('show transaction_isolation') end, { serializable = true })", "\"serializable\"");
    ok(!run_text("depot.db:tx(function(tx) tx:exec('insert into note values (2)') while true do end end)", 300), "one that runs on is stopped");
    ok(!run_text("depot.db:tx(function(tx) tx:exec('insert into note values (2)') depot.sleep(10) end)", 200), "one that waits too long");
    ok(pgt_eventually("select count(*) from pg_stat_activity where state like 'idle in transaction%'", "0"), "leave no transaction open");
    is_str(pgt_ask("select count(*) from note"), "1", "and nothing behind");
    check("return depot.db:exec('delete from note')", "1");
}

static void the_deadline_reaches_the_server(void)
{
    int64_t began = depot_now_ms();

    ok(!run_text("depot.db:exec('select pg_sleep(20)')", 300), "a long statement is stopped");
    is_int(r.err.code, DEPOT_E_TIMEOUT, "with TIMEOUT");
    ok(!run_text("while true do pcall(depot.db.exec, 'select pg_sleep(20)') end", 300), "nor can it be caught");
    ok(depot_now_ms() - began < 15000, "soon");
    ok(pgt_eventually("select count(*) from pg_stat_activity where query like '%pg_sleep(20)%' and state = 'active' and pid <> pg_backend_pid()", "0"),
       "the server has stopped too");
    rig_begin(&r, 5, RUN_FILE, "t0.lua", "{}", 10000);
    engine_cancel(r.engine, 5);
    ok(r.done && r.err.code == DEPOT_E_CANCELED, "one is canceled");
    rig_drain(&r);
}

static void statements_run_where_lua_cannot_yield(void)
{
    check("local t = { 3, 1, 2 } table.sort(t, function(a, b) return depot.db:value('select $1::int < $2::int', a, b) end) return t", "[1,2,3]");
    check("return (('ab'):gsub('.', function(c) return depot.db:value('select upper($1::text)', c) end))", "\"AB\"");
    check("local ok, e = depot.try(depot.db.tx, function() return ('a'):gsub('.', function() depot.db:exec('select 1') end) end) return e.code", "\"CONFLICT\"");
    ok(!run_text("('a'):gsub('.', function() depot.db:exec('select pg_sleep(20)') end)", 300), "with the deadline");
    is_int(r.err.code, DEPOT_E_TIMEOUT, "as elsewhere");
}

static void many_scripts_share_the_pool(void)
{
    size_t  before = r.ended;

    for (uint64_t i = 1; i <= 30; i++) {
        rig_begin(&r, i, RUN_FILE, "t1.lua", "{}", 10000);
    }
    rig_drain(&r);
    is_int(r.ended - before, 30, "all end");
    ok(r.ok, "well");
}

static void a_lost_connection_is_an_error(void)
{
    ok(!run_text("depot.db:exec('select pg_terminate_backend(pg_backend_pid())')", 5000), "the statement fails");
    check("return depot.db:value('select 1')", "1");
}

int main(void)
{
    const db_pool_options  blocking = { .name = "depotd/test", .max = 2, .acquire_timeout_ms = 5000, .connect_timeout_ms = 3000 };
    const db_async_options async = { .name = "depotd/test", .max = 4, .queue_max = 100, .acquire_timeout_ms = 5000, .connect_timeout_ms = 3000 };
    db_async_options       a = async;
    db_pool_options        b = blocking;

    signal(SIGPIPE, SIG_IGN);
    pgt_begin();
    pgt_do("create table note (text text)");
    a.url = b.url = pg_cluster_owner_url(pgt_cluster);
    h = host_new(&env, &core);
    env.db = db_pool_new(&b);
    rig_init(&r);
    rig_file(&r, "t0.lua", "depot.db:exec('select pg_sleep(20)')");
    rig_file(&r, "t1.lua", "return depot.db:value('select pg_sleep(0.05)::text')");
    pool = db_async_new(&r.loop, &a);
    ok(rig_start(&r, &(rig_options){ .host = h, .db = pool, .cpu_max_ms = 200 }), "scripts load");
    run(values_come_as_their_types);
    run(values_go_as_they_are);
    run(shapes);
    run(errors_are_raised_with_their_code);
    run(transactions_commit_and_roll_back);
    run(the_deadline_reaches_the_server);
    run(statements_run_where_lua_cannot_yield);
    run(many_scripts_share_the_pool);
    run(a_lost_connection_is_an_error);
    rig_drain(&r);
    db_async_free(pool, on_closed, &pool_closed);
    while (!pool_closed) {
        uv_run(&r.loop, UV_RUN_ONCE);
    }
    rig_free(&r);
    db_pool_free(env.db);
    host_free(h);
    pgt_end();
    return done();
}
