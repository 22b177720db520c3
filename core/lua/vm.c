/* vm.c - a Lua state with a memory limit, the compile cache, and the body in which every script runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lua/range.h"
#include "lua/shape.h"

static const char compiled_key = 'c', declared_key = 'd';

enum { PHASE_CHUNK, PHASE_RUN, TRACE_MAX = 8192, KEEP_BYTES = 8 << 20 };

/* A limit for this state, and one for all: states that nobody uses give way. */
static bool may_grow(const vm *v, size_t more)
{
    engine *e = v->engine;

    if (more > v->max || v->used > v->max - more) {
        return false;
    }
    if (e->used + more > e->used_max) {
        range_drop_idle(e);
        engine_drop_idle(e);
    }
    return e->used + more <= e->used_max;
}

/* Lua tells the old size; for new objects osize is a type tag. A smaller size is never refused. */
static void *allocate(void *ud, void *ptr, size_t osize, size_t nsize)
{
    vm    *v = ud;
    size_t old = ptr == NULL ? 0 : osize;

    if (nsize == 0) {
        free(ptr);
        v->used -= old;
        v->engine->used -= old;
        return NULL;
    }
    if (nsize > old && !may_grow(v, nsize - old)) {
        return NULL;
    }
    void *p = realloc(ptr, nsize);
    if (p == NULL) {
        return nsize <= old ? ptr : NULL; /* Lua counts on it that a block can always become smaller */
    }
    v->used = v->used - old + nsize;
    v->engine->used = v->engine->used - old + nsize;
    return p;
}

static int open_state(lua_State *L)
{
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &compiled_key);
    fail_open(L);
    value_open(L);
    sandbox_open(L);
    return 0;
}

vm *vm_new(engine *e)
{
    vm *v = depot_xalloc(sizeof(*v));

    v->engine = e;
    v->max = (size_t)e->opt.memory_max;
    v->L = lua_newstate(allocate, v);
    if (v->L == NULL) {
        free(v);
        return NULL;
    }
    *(vm **)lua_getextraspace(v->L) = v;
    lua_pushcfunction(v->L, open_state);
    if (lua_pcall(v->L, 0, 0, 0) != LUA_OK) {
        vm_free(v);
        return NULL;
    }
    return v;
}

void vm_free(vm *v)
{
    lua_close(v->L);
    free(v);
}

vm *vm_of(lua_State *L)
{
    return *(vm **)lua_getextraspace(L); /* coroutines get a copy of the main thread's */
}

run *vm_run(lua_State *L)
{
    run *r = vm_of(L)->run;

    if (r == NULL) {
        luaL_error(L, "no script runs in this state");
    }
    return r;
}

void vm_check(lua_State *L)
{
    const run *r = vm_of(L)->run;

    if (r != NULL && r->killed != KILL_NONE) {
        lua_pushlightuserdata(L, (void *)(uintptr_t)&deadline_mark);
        lua_error(L);
    }
}

void vm_declare(lua_State *L)
{
    lua_rawsetp(L, LUA_REGISTRYINDEX, &declared_key);
}

/* ---- compiling ---- */

bool vm_push_file(lua_State *L, const source *file)
{
    const char *text = file->text;
    size_t      n = file->n;

    lua_rawgetp(L, LUA_REGISTRYINDEX, &compiled_key);
    if (lua_getfield(L, -1, file->path) == LUA_TFUNCTION) {
        lua_remove(L, -2);
        lua_pushglobaltable(L); /* the script before may have assigned to _ENV */
        lua_setupvalue(L, -2, 1);
        return true;
    }
    lua_pop(L, 1);
    if (n > 0 && text[0] == '#') { /* a #! line; its line feed stays, for the numbers of the lines */
        const char *feed = memchr(text, '\n', n);
        n = feed == NULL ? 0 : n - (size_t)(feed - text);
        text = feed == NULL ? text : feed;
    }
    lua_pushfstring(L, "@%s", file->path);
    bool ok = luaL_loadbufferx(L, text, n, lua_tostring(L, -1), "t") == LUA_OK;
    lua_remove(L, -2);
    if (ok) {
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, file->path);
    }
    lua_remove(L, -2);
    return ok;
}

static void push_expression(lua_State *L, run *r)
{
    const char       *key;
    const depot_json *value;

    lua_pushfstring(L, "return (%s\n)", r->name);
    size_t      n;
    const char *text = lua_tolstring(L, -1, &n);
    if (luaL_loadbufferx(L, text, n, "=expression", "t") != LUA_OK) {
        fail_syntax(L);
    }
    lua_newtable(L);
    for (size_t it = 0; r->arg != NULL && depot_json_next(r->arg, &it, &key, &value);) {
        value_push(L, value);
        lua_setfield(L, -2, key);
    }
    lua_createtable(L, 0, 1);
    lua_pushglobaltable(L);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_setupvalue(L, -2, 1);
    lua_remove(L, -2);
}

static void push_chunk(lua_State *L, const run *r)
{
    const char   *path = r->handler == NULL ? r->name : r->handler->file;
    const source *file = sources_find(r->engine->opt.sources, path);

    if (file == NULL) {
        fail_raisef(L, r->mode == RUN_HANDLER ? DEPOT_E_UNKNOWN_TYPE : DEPOT_E_NOT_FOUND,
                    r->mode == RUN_HANDLER ? "no script declares the job %s" : "there is no script %s", r->name);
        return; /* not reached: it raises */
    }
    if (!vm_push_file(L, file)) {
        fail_syntax(L);
    }
}

/* ---- the body ---- */

void vm_place(lua_State *L, char *out, size_t size)
{
    lua_Debug ar;

    out[0] = '\0';
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline > 0) {
            (void)snprintf(out, size, "%s:%d", ar.short_src, ar.currentline); /* a long path may be cut */
            return;
        }
    }
}

static void record_trace(lua_State *L, run *r, int level)
{
    size_t      n;
    const char *text;

    if (r->trace.len > 0) {
        return;
    }
    vm_place(L, r->where, sizeof(r->where));
    luaL_traceback(L, L, NULL, level);
    text = lua_tolstring(L, -1, &n);
    depot_buf_add(&r->trace, text, n < TRACE_MAX ? n : TRACE_MAX);
    lua_pop(L, 1);
}

void deadline_hooked(lua_State *L)
{
    record_trace(L, vm_run(L), 0);
}

void deadline_sliced(lua_State *L)
{
    vm_run(L)->sliced = true;
}

/* The message handler: the stack of the error still stands. */
static int on_error(lua_State *L)
{
    run *r = vm_run(L);

    if (r->killed == KILL_NONE) {
        depot_buf_reset(&r->trace); /* of an earlier error that somebody caught */
        record_trace(L, r, 1);
    }
    lua_settop(L, 1);
    return 1;
}

static int read_error(lua_State *L)
{
    fail_read(L, 1, vm_run(L));
    return 0;
}

static int encode_result(lua_State *L)
{
    run *r = vm_run(L);

    depot_buf_reset(&r->json);
    if (r->mode == RUN_EVAL) {
        depot_buf_adds(&r->json, lua_toboolean(L, 1) ? "true" : "false");
    } else {
        value_encode(L, 1, &r->json, r->engine->opt.result_max);
    }
    return 0;
}

static void end_badly(lua_State *L, run *r, int status)
{
    r->ok = false;
    if (r->killed != KILL_NONE) {
        return; /* no Lua can run any more; the reason says it all */
    }
    if (status == LUA_ERRMEM) {
        (void)DEPOT_FAIL(&r->err, MEMORY, "the script wanted more than its %lld bytes of memory",
                         (long long)r->engine->opt.memory_max);
        return;
    }
    lua_pushcfunction(L, read_error);
    lua_insert(L, -2);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK && r->err.code == DEPOT_OK) {
        (void)DEPOT_FAIL(&r->err, LUA, "the script raised an error that cannot be shown");
    }
}

static void end_well(lua_State *L, run *r)
{
    lua_pushcfunction(L, encode_result);
    lua_insert(L, -2);
    int status = lua_pcall(L, 1, 0, 0);
    if (status == LUA_OK) {
        r->ok = true;
    } else {
        end_badly(L, r, status);
    }
}

static bool parse_args(run *r)
{
    depot_json *args;

    depot_arena_free(r->args_arena);
    r->args_arena = depot_arena_new();
    args = depot_json_parse(r->args_arena, r->args_text, r->args_len, &r->err);
    if (args == NULL) {
        r->err.code = DEPOT_E_BAD_PAYLOAD;
        return depot_wrap(&r->err, "arguments");
    }
    r->arg = depot_json_pack(r->args_arena, "{s:o}", "args", args);
    return true;
}

/* The arguments take the declared form, or the run ends here. */
static bool check_args(run *r)
{
    depot_json *args = NULL;

    if (r->handler == NULL || r->handler->args == NULL || (r->args_text != NULL && !parse_args(r)) || r->arg == NULL) {
        return r->err.code == DEPOT_OK;
    }
    const depot_json *given = depot_json_get(r->arg, "args");
    depot_json       *copy = given == NULL ? depot_json_object(r->args_arena) : depot_json_pack(r->args_arena, "o", given);
    if (!shape_fill(r->args_arena, r->handler->args, r->handler->args_extra, copy, &args, &r->err)) {
        return false;
    }
    depot_json_set(r->arg, "args", args);
    return true;
}

static int push_job(lua_State *L)
{
    bind_job_push(L, vm_run(L));
    return 1;
}

static int body_go_on(lua_State *L, int status, lua_KContext phase);

/* Stack: 1 the message handler, 2 what the file has declared. */
static int start_job(lua_State *L)
{
    run *r = vm_run(L);

    if (!check_args(r)) {
        return 0;
    }
    lua_pushcfunction(L, push_job);
    int status = lua_pcall(L, 0, 1, 0);
    if (status != LUA_OK) {
        end_badly(L, r, status);
        return 0;
    }
    depot_arena_drop(&r->args_arena); /* the script has them; it may wait for long */
    r->arg = NULL;
    return body_go_on(L, lua_pcallk(L, 1, 1, 1, PHASE_RUN, body_go_on), PHASE_RUN);
}

/* Stack: 1 the message handler. Above it, the results of the chunk or of run. */
static int body_go_on(lua_State *L, int status, lua_KContext phase)
{
    run *r = vm_run(L);

    if (status != LUA_OK && status != LUA_YIELD) {
        end_badly(L, r, status);
        return 0;
    }
    if (phase == PHASE_CHUNK && r->mode == RUN_HANDLER) {
        lua_settop(L, 1);
        if (lua_rawgetp(L, LUA_REGISTRYINDEX, &declared_key) != LUA_TFUNCTION) {
            (void)DEPOT_FAIL(&r->err, UNKNOWN_TYPE, "the script does not declare the job %s any more", r->name);
            return 0;
        }
        r->repeatable = r->range != NULL && again_look(L);
        return start_job(L);
    }
    end_well(L, r);
    return 0;
}

/* Pushes the function and its arguments. */
static int push_script(lua_State *L)
{
    run *r = vm_run(L);

    if (r->mode == RUN_EVAL) {
        push_expression(L, r);
        return 1;
    }
    push_chunk(L, r);
    if (r->mode != RUN_FILE || r->arg == NULL) {
        return 1;
    }
    value_push(L, r->arg);
    return 2;
}

static int body(lua_State *L)
{
    lua_settop(L, 0);
    lua_pushcfunction(L, on_error);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &declared_key);
    sandbox_begin_run(L);
    lua_pushcfunction(L, push_script);
    int status = lua_pcall(L, 0, LUA_MULTRET, 0);
    if (status == LUA_OK) {
        status = lua_pcallk(L, lua_gettop(L) - 2, 1, 1, PHASE_CHUNK, body_go_on);
    }
    return body_go_on(L, status, PHASE_CHUNK);
}

/* In place of the body, in a state that the job before has left as its file had made it. */
static int repeat(lua_State *L)
{
    lua_settop(L, 0);
    lua_pushcfunction(L, on_error);
    again_restore(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &declared_key);
    return start_job(L);
}

void vm_again(run *r)
{
    lua_settop(r->co, 0);
    lua_pushcfunction(r->co, r->repeatable ? repeat : body);
}

static int prepare(lua_State *L)
{
    lua_State *co = lua_newthread(L);

    lua_pushcfunction(co, body);
    return 1;
}

bool vm_prepare(vm *v, run *r, depot_err *err)
{
    lua_settop(v->L, 0);
    lua_pushcfunction(v->L, prepare);
    if (lua_pcall(v->L, 0, 1, 0) != LUA_OK) {
        lua_settop(v->L, 0);
        return DEPOT_FAIL(err, MEMORY, "no memory for a script");
    }
    r->co = lua_tothread(v->L, 1); /* stays at the bottom of the main stack: not collected */
    r->vm = v;
    v->run = r;
    return true;
}

static int collect(lua_State *L)
{
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &declared_key);
    if ((size_t)lua_gc(L, LUA_GCCOUNT, 0) * 1024 > KEEP_BYTES) {
        lua_gc(L, LUA_GCCOLLECT, 0);
    } else {
        lua_gc(L, LUA_GCSTEP, 0);
    }
    return 0;
}

bool vm_reset(vm *v)
{
    lua_settop(v->L, 0);
    v->run = NULL;
    lua_pushcfunction(v->L, collect);
    return lua_pcall(v->L, 0, 0, 0) == LUA_OK && v->used <= KEEP_BYTES;
}
