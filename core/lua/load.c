/* load.c - compiles all files of a revision and takes the declarations of its handlers. */
#include <stdlib.h>
#include <string.h>

#include "lua/run.h"

enum { DECLARE_MS = 1000 };

static int compile(lua_State *L)
{
    const source *file = lua_touserdata(L, 1);

    if (!vm_push_file(L, file)) {
        fail_syntax(L);
    }
    return 0;
}

static void place_of(const char *where, const char *path, int *out_line)
{
    size_t n = strlen(path);

    *out_line = strncmp(where, path, n) == 0 && where[n] == ':' ? (int)strtol(where + n + 1, NULL, 10) : 0;
}

/* The error value of a protected call outside of any run, read through a run that exists for this alone. */
static void read_fault(lua_State *L, run *probe)
{
    if (lua_istable(L, -1) || lua_isstring(L, -1)) {
        fail_read(L, lua_gettop(L), probe);
    } else {
        (void)DEPOT_FAIL(&probe->err, LUA_SYNTAX, "the file cannot be compiled");
    }
}

static bool compile_one(engine *e, const source *file, run *probe)
{
    vm  *v = engine_take_vm(e);
    bool ok;

    if (v == NULL) {
        return DEPOT_FAIL(&probe->err, MEMORY, "no memory for a Lua state");
    }
    lua_pushcfunction(v->L, compile);
    lua_pushlightuserdata(v->L, (void *)(uintptr_t)file);
    ok = lua_pcall(v->L, 1, 0, 0) == LUA_OK;
    if (!ok) {
        read_fault(v->L, probe);
    }
    engine_give_vm(e, v, ok);
    return ok;
}

static bool declare_one(engine *e, const source *file, run *probe)
{
    run_spec spec = { .id = 1, .mode = RUN_DECLARE, .name = file->path, .timeout_ms = DECLARE_MS };
    run     *r = run_new(e, &spec, &probe->err);

    if (r == NULL) {
        return false;
    }
    engine_step(r); /* ends: nothing in this mode may wait */
    bool ok = r->ok;
    probe->err = r->err;
    memcpy(probe->where, r->where, sizeof(r->where));
    run_free(r);
    return ok;
}

/* Without a daemon they can be tried, where they are not in use already. */
static bool declare_examples(engine *e, void (*fault)(void *arg, const char *file, int line, const depot_err *err), void *arg)
{
    bool all_ok = true;

    for (size_t i = 0; i < e->opt.sources->n; i++) {
        const source *file = &e->opt.sources->files[i];
        run           probe = { 0 };
        if (source_is_example(file) && !declare_one(e, file, &probe) && probe.err.code != DEPOT_E_CONFLICT) {
            all_ok = false;
            fault(arg, file->path, 0, &probe.err);
        }
    }
    return all_ok;
}

bool engine_load(engine *e, void (*fault)(void *arg, const char *file, int line, const depot_err *err), void *arg)
{
    const sources *s = e->opt.sources;
    bool           all_ok = true;

    for (size_t i = 0; i < s->n; i++) {
        const source *file = &s->files[i];
        run           probe = { 0 };
        int           line;
        if (compile_one(e, file, &probe) && (!source_is_handler(file) || declare_one(e, file, &probe))) {
            continue;
        }
        all_ok = false;
        place_of(probe.where, file->path, &line);
        fault(arg, file->path, line, &probe.err);
    }
    return e->opt.offline ? declare_examples(e, fault, arg) && all_ok : all_ok;
}

size_t engine_handlers(const engine *e)
{
    return e->n_handlers;
}

const handler *engine_handler(const engine *e, size_t i)
{
    return &e->handlers[i];
}
