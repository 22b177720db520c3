/* bind_needs.c - what a script states to need, and whether it may do what it asks for just now. */
#include "lua/grant.h"
#include "lua/run.h"

enum { NEEDS_MAX = 100, NEED_BYTES_MAX = 4096 };

const char *const *bind_needs_read(lua_State *L, int index, depot_arena *arena)
{
    depot_err    err = { 0 };
    const char **needs;
    size_t       n;

    luaL_argcheck(L, lua_istable(L, index), 1, "needs must be a list such as {\"http:api.example.org\"}");
    n = lua_rawlen(L, index);
    luaL_argcheck(L, n <= NEEDS_MAX, 1, "needs has more than 100 items");
    needs = depot_alloc(arena, (n + 1) * sizeof(*needs));
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, index, (lua_Integer)i + 1);
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 1, "needs must be a list of strings");
        luaL_argcheck(L, lua_rawlen(L, -1) <= NEED_BYTES_MAX, 1, "an item of needs is longer than 4096 bytes");
        needs[i] = depot_strdup(arena, lua_tostring(L, -1));
        if (!grant_check(needs[i], &err)) {
            fail_raise(L, &err);
        }
        lua_pop(L, 1);
    }
    return needs;
}

/* depot.needs{…}: for scripts that are no handler of jobs. */
int bind_needs(lua_State *L)
{
    run *r = vm_run(L);

    if (r->mode != RUN_FILE) {
        return luaL_error(L, "depot.needs is for hooks and schedules; a job says needs = {…} in depot.job");
    }
    if (r->needs != NULL) {
        return luaL_error(L, "depot.needs has been called before: one list states all of them");
    }
    lua_settop(L, 1);
    r->needs = bind_needs_read(L, 1, r->arena);
    return 0;
}

static bool is_stated(const run *r, const char *want)
{
    for (const char *const *need = r->needs; need != NULL && *need != NULL; need++) {
        if (grant_covers(*need, want)) {
            return true;
        }
    }
    return false;
}

bool run_may(const run *r, const char *want, depot_err *err)
{
    bool is_job = r->handler != NULL;

    if (!is_stated(r, want)) {
        DEPOT_FAIL(err, CAPABILITY, "%s does not say that it needs %s", r->name, want);
        return is_job ? depot_hint(err, "add needs = {\"%s\"} to depot.job(\"%s\") in %s", want, r->name, r->handler->file)
                      : depot_hint(err, "begin the file with depot.needs{\"%s\"}", want);
    }
    if (!grants_allow(r->engine->opt.grants, r->name, want)) {
        DEPOT_FAIL(err, CAPABILITY, "%s was not granted %s", r->name, want);
        return depot_hint(err, "in conf.d: a section [handler NAME] with types = %s and grant = %s, then depotctl config reload", r->name,
                          want);
    }
    return true;
}
