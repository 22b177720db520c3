/* bind_test.c - depot.test, which the harness of `depotctl lua test` and the session of `depotctl lua repl` are made of; no script of a
 * worker has it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lua/grant.h"
#include "lua/run.h"
#include "lua/shape.h"

/* The text of a script. */
static int test_source(lua_State *L)
{
    const source *file = sources_find(vm_of(L)->engine->opt.sources, luaL_checkstring(L, 1));

    if (file == NULL) {
        return fail_raisef(L, DEPOT_E_NOT_FOUND, "there is no script %s", lua_tostring(L, 1));
    }
    lua_pushlstring(L, file->text, file->n);
    return 1;
}

/* The file that declares a job. */
static int test_handler(lua_State *L)
{
    const engine *e = vm_of(L)->engine;
    const char   *name = luaL_checkstring(L, 1);

    for (size_t i = 0; i < e->n_handlers; i++) {
        if (strcmp(e->handlers[i].name, name) == 0) {
            lua_pushstring(L, e->handlers[i].file);
            return 1;
        }
    }
    return fail_raisef(L, DEPOT_E_UNKNOWN_TYPE, "no script declares the job %s", name);
}

/* A job's arguments as its handler would get them. */
static int test_args(lua_State *L)
{
    run       *r = vm_run(L);
    depot_err  err = { 0 };
    depot_json *out = NULL;

    luaL_checkstring(L, 1);
    luaL_checkany(L, 2);
    depot_json *given = value_json(L, 2, run_scratch(r));
    for (size_t i = 0; i < r->engine->n_handlers; i++) {
        const handler *h = &r->engine->handlers[i];
        if (strcmp(h->name, lua_tostring(L, 1)) != 0 || h->args == NULL) {
            continue;
        }
        if (!shape_fill(r->scratch_arena, h->args, h->args_extra, given, &out, &err)) {
            return fail_raise(L, &err);
        }
        given = out;
    }
    value_push(L, given);
    return 1;
}

static int test_covers(lua_State *L)
{
    lua_pushboolean(L, grant_covers(luaL_checkstring(L, 1), luaL_checkstring(L, 2)));
    return 1;
}

/* ---- a person at the other end ---- */

/* On a thread of the pool: the processor time of an entry counts from when it is there. */
static bool read_line(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    char   *line = NULL;
    size_t  size = 0;
    ssize_t n = getline(&line, &size, stdin);

    (void)ctx;
    (void)err;
    if (n >= 0) { /* else nothing is returned: the input has ended */
        depot_return_str(call, line, (size_t)n - (n > 0 && line[n - 1] == '\n'));
    }
    free(line);
    return true;
}

static const depot_lua_fn read_row = { .name = "test.read", .signature = "()", .fn = read_line };
static const bound_fn     read_fn = { .row = &read_row };

static int test_read(lua_State *L)
{
    (void)fputs(luaL_optstring(L, 1, ""), stdout);
    (void)fflush(stdout);
    return bind_call_start(L, bind_call_new(vm_run(L), &read_fn));
}

static int test_write(lua_State *L)
{
    size_t      n;
    const char *text = luaL_checklstring(L, 1, &n);

    (void)fwrite(text, 1, n, stdout);
    (void)fflush(stdout);
    return 0;
}

/* Of the error whose message handler calls this. */
static int test_traceback(lua_State *L)
{
    luaL_traceback(L, L, NULL, 2);
    return 1;
}

const core_fn bind_test_fns[] = {
    { "test.args", "(type: string, args: any): any", test_args, "" },
    { "test.covers", "(have: string, want: string): boolean", test_covers, "" },
    { "test.handler", "(type: string): string", test_handler, "" },
    { "test.read", "(prompt: string): string", test_read, "" },
    { "test.source", "(path: string): string", test_source, "" },
    { "test.traceback", "(): string", test_traceback, "" },
    { "test.write", "(text: string)", test_write, "" },
};
const size_t bind_test_count = DEPOT_N(bind_test_fns);
