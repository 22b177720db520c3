/* bind_job.c - depot.job(name){…}: what handlers declare, and the job object that their run gets. */
#include <string.h>

#include "lua/run.h"
#include "lua/shape.h"

#define JOB_META "depot.job"

enum { NAME_BYTES_MAX = 200, ATTEMPTS_MAX = 1000 };

#define SNOOZE_MAX_MS (366LL * 86400000)

/* Stack 1: the table. Unknown keys are mistakes that nobody would see. */
static void check_keys(lua_State *L)
{
    static const char *const known[] = { "args", "args_extra", "max_attempts", "needs", "run", "timeout" };

    lua_pushnil(L);
    while (lua_next(L, 1) != 0) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "a number";
        bool        found = false;
        for (size_t i = 0; i < DEPOT_N(known); i++) {
            found = found || strcmp(known[i], name) == 0;
        }
        if (!found) {
            const char *near = depot_suggest(name, known, DEPOT_N(known));
            luaL_error(L, "a job has no option '%s'%s%s%s", name, near == NULL ? "" : " (did you mean ",
                       near == NULL ? "" : near, near == NULL ? "" : "?)");
        }
        lua_pop(L, 1);
    }
}

static int64_t read_attempts(lua_State *L)
{
    int     is_integer;
    int64_t n = lua_tointegerx(L, -1, &is_integer);

    luaL_argcheck(L, is_integer && n >= 1 && n <= ATTEMPTS_MAX, 1, "max_attempts must be an integer from 1 to 1000");
    return n;
}

static const depot_field *read_args(lua_State *L, depot_arena *arena)
{
    depot_err          err = { 0 };
    const depot_field *fields = NULL;

    luaL_argcheck(L, lua_istable(L, -1), 1, "args must be a table");
    if (!shape_read(arena, value_json(L, -1, arena), &fields, &err)) {
        fail_raise(L, &err);
    }
    return fields;
}

/* Stack 1: the table. */
static void read_declaration(lua_State *L, depot_arena *arena, handler *out)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    check_keys(L);
    if (lua_getfield(L, 1, "timeout") != LUA_TNIL) {
        out->timeout_ms = bind_duration(L, lua_gettop(L), "timeout");
        luaL_argcheck(L, out->timeout_ms > 0, 1, "timeout must be more than 0");
    }
    if (lua_getfield(L, 1, "max_attempts") != LUA_TNIL) {
        out->max_attempts = read_attempts(L);
    }
    if (lua_getfield(L, 1, "args") != LUA_TNIL) {
        out->args = read_args(L, arena);
    }
    if (lua_getfield(L, 1, "needs") != LUA_TNIL) {
        out->needs = bind_needs_read(L, lua_gettop(L), arena);
    }
    lua_getfield(L, 1, "args_extra");
    out->args_extra = lua_toboolean(L, -1);
}

static void add_handler(lua_State *L, run *r, const handler *declared)
{
    engine *e = r->engine;

    for (size_t i = 0; i < e->n_handlers; i++) {
        if (strcmp(e->handlers[i].name, declared->name) == 0) {
            fail_raisef(L, DEPOT_E_CONFLICT, "the job %s is declared twice: in %s and in %s", declared->name,
                        e->handlers[i].file, r->name);
        }
    }
    if (e->n_handlers == e->cap_handlers) {
        size_t   cap = e->cap_handlers * 2 + 32;
        handler *more = depot_alloc(e->arena, cap * sizeof(*more));
        if (e->n_handlers > 0) {
            memcpy(more, e->handlers, e->n_handlers * sizeof(*more));
        }
        e->handlers = more;
        e->cap_handlers = cap;
    }
    e->handlers[e->n_handlers++] = *declared;
}

/* Upvalue 1: the name. */
static int declare(lua_State *L)
{
    run        *r = vm_run(L);
    const char *name = lua_tostring(L, lua_upvalueindex(1));

    if (r->mode == RUN_DECLARE) {
        const source *file = sources_find(r->engine->opt.sources, r->name);
        handler h = { .name = depot_strdup(r->engine->arena, name), .file = file->path, .revision = file->revision };
        read_declaration(L, r->engine->arena, &h);
        luaL_argcheck(L, lua_getfield(L, 1, "run") == LUA_TFUNCTION, 1, "run must be a function");
        add_handler(L, r, &h);
    } else if (r->mode == RUN_HANDLER && strcmp(name, r->name) == 0) {
        luaL_checktype(L, 1, LUA_TTABLE);
        luaL_argcheck(L, lua_getfield(L, 1, "run") == LUA_TFUNCTION, 1, "run must be a function");
        vm_declare(L);
    }
    return 0;
}

int bind_job_declare(lua_State *L)
{
    const run  *r = vm_run(L);
    size_t      n;
    const char *name = luaL_checklstring(L, 1, &n);

    luaL_argcheck(L, n > 0 && n <= NAME_BYTES_MAX && strlen(name) == n && strpbrk(name, " \t\r\n") == NULL, 1,
                  "a job type has 1 to 200 bytes and no blanks");
    if (r->mode != RUN_DECLARE && r->mode != RUN_HANDLER) {
        return luaL_error(L, "jobs are declared in files below handlers/ only");
    }
    lua_settop(L, 1);
    lua_pushcclosure(L, declare, 1);
    return 1;
}

/* ---- the job object ---- */

/* job:fail(code, message, {retry=, hint=}) */
static int job_fail(lua_State *L)
{
    luaL_checkstring(L, 2);
    luaL_checkstring(L, 3);
    lua_settop(L, 4);
    lua_newtable(L);
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "code");
    lua_pushvalue(L, 3);
    lua_setfield(L, -2, "message");
    if (!lua_isnil(L, 4)) {
        luaL_checktype(L, 4, LUA_TTABLE);
        lua_getfield(L, 4, "retry");
        lua_setfield(L, -2, "retry");
        lua_getfield(L, 4, "hint");
        lua_setfield(L, -2, "hint");
    }
    lua_replace(L, 1);
    lua_settop(L, 1);
    return fail_depot_fail(L);
}

/* job:snooze(duration, reason?) */
static int job_snooze(lua_State *L)
{
    run    *r = vm_run(L);
    int64_t ms = bind_duration(L, 2, "duration");

    luaL_argcheck(L, ms <= SNOOZE_MAX_MS, 2, "longer than a year");
    const char *reason = luaL_optstring(L, 3, "it is to run again later");
    if (r->token == NULL) {
        return fail_raisef(L, DEPOT_E_UNAVAILABLE, "this run is no leased job: it cannot be snoozed");
    }
    r->is_snoozed = true;
    r->snooze_ms = ms;
    lua_newtable(L);
    lua_pushliteral(L, SNOOZED);
    lua_setfield(L, -2, "code");
    lua_pushstring(L, reason);
    lua_setfield(L, -2, "message");
    lua_replace(L, 1);
    lua_settop(L, 1);
    return fail_depot_fail(L);
}

static void push_methods(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "checkpoint", bind_sql_checkpoint }, { "fail", job_fail },      { "log", bind_job_log },
        { "snooze", job_snooze },              { "tx", bind_sql_job_tx }, { NULL, NULL },
    };
    const engine *e = vm_of(L)->engine;

    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    for (size_t i = 0; i < e->n_bound; i++) {
        const depot_lua_fn *row = e->bound[i].row;
        if ((row->flags & DEPOT_LUA_JOB) != 0) {
            lua_pushlightuserdata(L, &e->bound[i]);
            lua_pushcclosure(L, bind_sql_fn, 1);
            lua_setfield(L, -2, strchr(row->name, '.') + 1);
        }
    }
}

/* Stack: the job, a name that is none of its members. The first time: from then on it is their table that is looked at, which no script
 * gets hold of itself. */
static int find_method(lua_State *L)
{
    lua_settop(L, 2);
    luaL_getmetatable(L, JOB_META);
    push_methods(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, 3, "__index");
    lua_pushvalue(L, 2);
    lua_rawget(L, 4);
    return 1;
}

void bind_job_open(lua_State *L)
{
    luaL_newmetatable(L, JOB_META);
    lua_pushcfunction(L, find_method);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

/* What the range says of all its jobs, and what is this one's own. */
static void push_of_range(lua_State *L, run *r)
{
    const depot_json *value;
    const char       *key;

    lua_createtable(L, 0, (int)depot_json_len(r->members) + 2);
    for (size_t it = 0; depot_json_next(r->members, &it, &key, &value);) {
        value_push(L, value);
        lua_setfield(L, -2, key);
    }
    lua_pushstring(L, r->job_id);
    lua_setfield(L, -2, "id");
    if (r->arg != NULL) {
        value_push(L, depot_json_get(r->arg, "args"));
    } else {
        value_parse(L, r->args_text, r->args_len);
    }
    lua_setfield(L, -2, "args");
    r->args_text = NULL;
}

void bind_job_push(lua_State *L, run *r)
{
    if (r->args_text != NULL) {
        push_of_range(L, r);
    } else if (r->arg != NULL && depot_json_typeof(r->arg) == DEPOT_JSON_OBJECT) {
        value_push(L, r->arg);
    } else {
        lua_newtable(L);
    }
    luaL_setmetatable(L, JOB_META);
}
