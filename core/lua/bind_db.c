/* bind_db.c - depot.db: statements that wait on the loop, transactions around a function. */
#include <stdlib.h>

#include "db/async.h"
#include "db/pool.h"
#include "lua/bind_db.h"

typedef struct db_op {
    op           base;
    engine      *engine;
    depot_arena *arena;
    statement    st;
    db_request  *request;
    depot_err    err;
    bool         failed;
} db_op;

/* ---- statements that wait on the loop ---- */

static db_op *op_of(op *o)
{
    return (db_op *)(void *)o;
}

static void db_free(op *o)
{
    depot_arena_free(op_of(o)->arena);
    free(o);
}

static void db_abandon(op *o)
{
    if (op_of(o)->request != NULL) { /* else it is the begin of a transaction, which is ended with the run */
        db_request_cancel(op_of(o)->request);
    }
    /* its done comes all the same, and frees it */
}

/* Never called: such scripts go by the thread pool. */
static void db_block(op *o, int64_t until_ms)
{
    (void)o;
    (void)until_ms;
}

static int db_push(lua_State *L, op *o)
{
    db_op *d = op_of(o);

    return d->failed ? fail_raise(L, &d->err) : statement_push(L, &d->st);
}

static const op_kind db_kind = { "db", db_block, db_push, db_abandon, db_free };

static void on_rows(void *arg, depot_rows *rows, const depot_err *err)
{
    db_op *d = arg;

    d->engine->n_busy--;
    d->st.rows = rows;
    d->failed = err != NULL;
    if (err != NULL) {
        d->err = *err;
    }
    op_done(&d->base);
}

static db_op *db_op_new(run *r)
{
    db_op *d = depot_xalloc(sizeof(*d));

    d->base.kind = &db_kind;
    d->base.run = r;
    d->engine = r->engine;
    d->arena = depot_arena_new();
    op_keep(r, &d->base);
    return d;
}

static db_query query_of(db_op *d)
{
    d->engine->n_busy++;
    return (db_query){ .arena = d->arena,
                       .sql = d->st.sql,
                       .vals = d->st.vals,
                       .n = d->st.n,
                       .deadline_ms = d->base.run->deadline_ms,
                       .done = on_rows,
                       .arg = d };
}

/* ---- statements of scripts that cannot yield just now ---- */

typedef struct blocking {
    statement st;
    db_pool  *pool;
} blocking;

static bool blocking_sql(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    blocking  *b = bind_call_user(call);
    statement *st = &b->st;

    (void)ctx;
    return db_pool_sql(b->pool, depot_call_arena(call), st->sql, st->vals, st->n, &st->rows, err);
}

static int blocking_push(lua_State *L, depot_call *call)
{
    const blocking *b = bind_call_user(call);

    return statement_push(L, &b->st);
}

static const depot_lua_fn blocking_row = { .name = "db", .signature = "()", .fn = blocking_sql };
static const bound_fn     blocking_fn = { .row = &blocking_row, .push = blocking_push };

static int run_blocking(lua_State *L, run *r, statement_reader *read, const void *arg)
{
    db_pool *pool = host_environment(r->engine->opt.host)->db;

    if (r->db != NULL || pool == NULL) {
        return fail_raisef(L, DEPOT_E_CONFLICT,
                           "a statement of a transaction cannot be run here (inside of sort, gsub or "
                           "__tostring): run it before");
    }
    depot_call *call = bind_call_new(r, &blocking_fn);
    blocking   *b = depot_alloc(depot_call_arena(call), sizeof(*b));
    b->pool = pool;
    *bind_call_place(call) = b;
    read(L, depot_call_arena(call), arg, &b->st);
    return bind_call_start(L, call);
}

/* ---- from Lua ---- */

/* depot.db:row(…) and depot.db.row(…) are the same. */
static void drop_self(lua_State *L)
{
    if (lua_istable(L, 1) && sandbox_is_sealed(L, 1)) {
        lua_remove(L, 1);
    }
}

static run *ready(lua_State *L)
{
    run *r = vm_run(L);

    run_may_wait(L);
    if (r->engine->opt.db == NULL) {
        fail_raisef(L, DEPOT_E_DB_DOWN, "this worker has no database");
    }
    return r;
}

int statement_run(lua_State *L, statement_reader *read, const void *arg)
{
    run *r = ready(L);

    if (!lua_isyieldable(L)) {
        return run_blocking(L, r, read, arg);
    }
    db_op *d = db_op_new(r);
    read(L, d->arena, arg, &d->st);
    const db_query q = query_of(d);
    d->request = r->db != NULL ? db_tx_sql(r->db, &q) : db_async_sql(r->engine->opt.db, NULL, &q);
    return run_wait(L, &d->base);
}

static void read_text(lua_State *L, depot_arena *arena, const void *want, statement *out)
{
    statement_read(L, arena, *(const shape *)want, out);
}

static int run_statement(lua_State *L, shape want)
{
    drop_self(L);
    return statement_run(L, read_text, &want);
}

static int db_value(lua_State *L)
{
    return run_statement(L, SHAPE_VALUE);
}

static int db_row(lua_State *L)
{
    return run_statement(L, SHAPE_ROW);
}

static int db_rows(lua_State *L)
{
    return run_statement(L, SHAPE_ROWS);
}

static int db_exec(lua_State *L)
{
    return run_statement(L, SHAPE_COUNT);
}

/* ---- transactions: stack 1 function, 2 options or nil ---- */

static bool option(lua_State *L, const char *name)
{
    bool on = false;

    if (lua_istable(L, 2)) {
        lua_getfield(L, 2, name);
        on = lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    return on;
}

static int begin(lua_State *L)
{
    run     *r = vm_run(L);
    db_op   *d = db_op_new(r);
    depot_tx tx = { .read_only = option(L, "read_only"), .serializable = option(L, "serializable") };

    const db_query q = query_of(d);
    r->db = db_async_begin(r->engine->opt.db, &tx, &q);
    return run_wait(L, &d->base);
}

static int commit(lua_State *L)
{
    run         *r = vm_run(L);
    db_op       *d = db_op_new(r);
    db_async_tx *tx = r->db;

    r->db = NULL;
    const db_query q = query_of(d);
    d->request = db_tx_commit(tx, &q);
    return run_wait(L, &d->base);
}

void bind_db_end(run *r)
{
    if (r->db != NULL) {
        db_tx_rollback(r->db);
        r->db = NULL;
    }
}

/* Stack: 1 function, 2 options, then f's results. */
static int committed(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return lua_gettop(L) - 2;
}

static int after_body(lua_State *L, int status, lua_KContext context)
{
    (void)context;
    vm_check(L);
    if (status != LUA_OK && status != LUA_YIELD) {
        bind_db_end(vm_run(L));
        return lua_error(L);
    }
    lua_pushcfunction(L, commit);
    lua_callk(L, 0, 0, 0, committed);
    return committed(L, LUA_OK, 0);
}

static int begun(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    vm_check(L);
    if (status != LUA_OK && status != LUA_YIELD) {
        bind_db_end(vm_run(L));
        return lua_error(L);
    }
    lua_pushvalue(L, 1);
    lua_pushglobaltable(L);
    lua_getfield(L, -1, "depot");
    lua_getfield(L, -1, "db");
    lua_replace(L, -3);
    lua_pop(L, 1);
    return after_body(L, lua_pcallk(L, 1, LUA_MULTRET, 0, 0, after_body), 0);
}

int bind_db_tx(lua_State *L)
{
    drop_self(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 2);
    run *r = ready(L);
    if (r->db != NULL) {
        return fail_raisef(L, DEPOT_E_CONFLICT, "a transaction is open already");
    }
    if (!lua_isyieldable(L)) {
        return fail_raisef(L, DEPOT_E_CONFLICT, "a transaction cannot begin inside of sort, gsub or __tostring");
    }
    lua_pushcfunction(L, begin);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    return begun(L, lua_pcallk(L, 2, 0, 0, 0, begun), 0);
}

const core_fn bind_db_fns[] = {
    { "db.exec", "(sql: string, ...): integer", db_exec,
      "Runs one statement with $1, $2 … and returns how many rows it changed." },
    { "db.row", "(sql: string, ...): table?", db_row,
      "The first row as {column = value}, with depot.null for null; nil if there is none." },
    { "db.rows", "(sql: string, ...): table[]", db_rows, "All rows." },
    { "db.tx", "(f: fun(tx: table): ..., opts?: {read_only?: boolean, serializable?: boolean}): ...", bind_db_tx,
      "Runs f in a transaction: committed when f returns, rolled back when it raises." },
    { "db.value", "(sql: string, ...): any", db_value, "The first column of the first row; nil for null or no row." },
};
const size_t bind_db_count = DEPOT_N(bind_db_fns);
