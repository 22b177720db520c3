/* bind_test.c - depot.test, which the harness of `depotctl lua test` is made of; no script of a worker has it. */
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

const core_fn bind_test_fns[] = {
    { "test.args", "(type: string, args: any): any", test_args, "" },
    { "test.covers", "(have: string, want: string): boolean", test_covers, "" },
    { "test.handler", "(type: string): string", test_handler, "" },
    { "test.source", "(path: string): string", test_source, "" },
};
const size_t bind_test_count = DEPOT_N(bind_test_fns);
