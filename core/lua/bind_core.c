/* bind_core.c - the functions of depot.* that belong to the core, and the table depot itself. */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "lua/run.h"

enum { FIELDS_BYTES_MAX = 2048, JSON_BYTES_MAX = 16 << 20, SLEEP_MAX_MS = 86400000 };

/* ---- depot.log ---- */

bool bind_log(lua_State *L, depot_level level, const char *text, size_t n, const char *fields)
{
    run                  *r = vm_run(L);
    const engine_options *opt = &r->engine->opt;
    char                  where[160] = "";

    if (r->logged > opt->log_max) {
        return false;
    }
    r->logged += n + 64; /* what a line costs besides its text */
    if (r->logged > opt->log_max) {
        static const char last[] = "the script has logged more than it may: its further lines are dropped";
        opt->log(opt->arg, r->id, DEPOT_LOG_WARN, r->label, "script.log_limit", last, sizeof(last) - 1, NULL);
        return false;
    }
    vm_place(L, where, sizeof(where));
    opt->log(opt->arg, r->id, level, r->label, where, text, n, fields);
    return true;
}

/* (message, fields?) from stack index 1 on. */
static int log_from(lua_State *L, depot_level level, int first)
{
    run        *r = vm_run(L);
    size_t      n;
    const char *fields = NULL;

    luaL_checkany(L, first);
    lua_settop(L, first + 1);
    const char *text = luaL_tolstring(L, first, &n); /* first: it may run Lua code, which may log */
    if (!lua_isnil(L, first + 1)) {
        luaL_checktype(L, first + 1, LUA_TTABLE);
        depot_buf_reset(&r->scratch);
        value_encode(L, first + 1, &r->scratch, FIELDS_BYTES_MAX);
        fields = r->scratch.data;
    }
    (void)bind_log(L, level, text, n, fields); /* what is over the limit is told there, once */
    return 0;
}

static int log_debug(lua_State *L)
{
    return log_from(L, DEPOT_LOG_DEBUG, 1);
}

static int log_info(lua_State *L)
{
    return log_from(L, DEPOT_LOG_INFO, 1);
}

static int log_warn(lua_State *L)
{
    return log_from(L, DEPOT_LOG_WARN, 1);
}

static int log_error(lua_State *L)
{
    return log_from(L, DEPOT_LOG_ERROR, 1);
}

/* job:log(level, message, fields?) */
int bind_job_log(lua_State *L)
{
    static const char *const names[] = { "debug", "info", "warn", "error", NULL };

    return log_from(L, (depot_level)luaL_checkoption(L, 2, NULL, names), 3);
}

/* ---- errors as values ---- */

static int finish_try(lua_State *L, int status, lua_KContext context)
{
    (void)context;
    vm_check(L);
    if (status == LUA_OK || status == LUA_YIELD) {
        return lua_gettop(L);
    }
    if (status == LUA_ERRMEM) {
        depot_err err = { 0 };
        (void)DEPOT_FAIL(&err, MEMORY, "not enough memory");
        fail_push(L, &err, "");
    } else {
        fail_wrap(L);
    }
    luaL_pushfail(L);
    lua_insert(L, -2);
    return 2;
}

static int try(lua_State *L)
{
    luaL_checkany(L, 1);
    return finish_try(L, lua_pcallk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, 0, finish_try), 0);
}

/* ---- time, identity, JSON ---- */

/* A number of seconds, or a text with a unit. */
int64_t bind_duration(lua_State *L, int index, const char *what)
{
    depot_err  err = { 0 };
    lua_Number seconds = lua_tonumber(L, index);
    int64_t    ms;

    if (lua_type(L, index) == LUA_TNUMBER && seconds >= 0 && seconds <= (lua_Number)INT32_MAX) {
        return (int64_t)(seconds * 1000);
    }
    if (lua_type(L, index) != LUA_TSTRING) {
        luaL_error(L, "%s must be a text such as \"10s\" or a number of seconds", what);
    }
    if (!depot_parse_duration(lua_tostring(L, index), &ms, &err)) {
        luaL_error(L, "%s: %s", what, err.msg);
    }
    return ms;
}

static int sleep_for(lua_State *L)
{
    int64_t ms = bind_duration(L, 1, "duration");

    luaL_argcheck(L, ms <= SLEEP_MAX_MS, 1, "longer than a day");
    run_may_wait(L);
    return run_sleep(L, ms);
}

static int now(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)depot_wall_us() / 1e6);
    return 1;
}

static int uuid(lua_State *L)
{
    lua_pushstring(L, depot_uuid(run_scratch(vm_run(L))));
    return 1;
}

static int hmac_sha256(lua_State *L)
{
    size_t      key_n, n;
    const char *key = luaL_checklstring(L, 1, &key_n), *text = luaL_checklstring(L, 2, &n);
    uint8_t     digest[EVP_MAX_MD_SIZE];
    unsigned    size = 0;
    char        hex[2 * EVP_MAX_MD_SIZE + 1];

    luaL_argcheck(L, key_n <= INT32_MAX, 1, "too long");
    if (HMAC(EVP_sha256(), key, (int)key_n, (const uint8_t *)text, n, digest, &size) == NULL) {
        return luaL_error(L, "the digest cannot be computed");
    }
    depot_hex(digest, size, hex);
    lua_pushstring(L, hex);
    return 1;
}

static int json_encode(lua_State *L)
{
    run *r = vm_run(L);

    luaL_checkany(L, 1);
    depot_buf_reset(&r->scratch);
    value_encode(L, 1, &r->scratch, JSON_BYTES_MAX);
    lua_pushlstring(L, r->scratch.data, r->scratch.len);
    return 1;
}

static int json_decode(lua_State *L)
{
    size_t            n;
    const char       *text = luaL_checklstring(L, 1, &n);
    depot_err         err = { 0 };
    const depot_json *value;

    luaL_argcheck(L, n <= JSON_BYTES_MAX, 1, "larger than 16 MiB");
    value = depot_json_parse(run_scratch(vm_run(L)), text, n, &err);
    if (value == NULL) {
        return fail_raise(L, &err);
    }
    value_push(L, value);
    return 1;
}

/* ---- events: written like a plugin's function ---- */

static bool emit(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    const depot_json *payload = depot_arg_json(call, 1);

    if (payload == NULL) {
        payload = depot_json_object(depot_call_arena(call));
    }
    return depot_emit(ctx, depot_arg_str(call, 0, NULL), payload, err);
}

const depot_lua_fn bind_rows[] = {
    { "event.emit", "(name: string, payload?: table)", DEPOT_LUA_WRITE, emit,
      "Emits an event; when it returns, the durable hooks of the event are recorded.", NULL, NULL },
};
const size_t bind_row_count = DEPOT_N(bind_rows);

const core_fn bind_core_fns[] = {
    { "array", "(t?: table): table", value_array,
      "Marks a table as an array, so that it is [] in JSON even when empty." },
    { "exec",
      "(spec: {[integer]: string, stdin?: string, timeout?: string|number, max_output?: integer, cwd?: string, "
      "env?: table<string, string>}): {status: integer, signal?: integer, out: string, err: string, truncated: boolean}",
      bind_exec,
      "Runs a program by its whole path, without a shell; needs the capability exec:/PATH. It is killed with all that it "
      "has started at the deadline. A status other than 0 is no error." },
    { "fail", "(err: {code: string, message: string, hint?: string, retry?: string})", fail_depot_fail,
      "Raises an error of the script's own code; retry is \"no\", \"safe\" (tried again, the default) or "
      "\"uncertain\"." },
    { "hmac_sha256", "(key: string, text: string): string", hmac_sha256,
      "The HMAC-SHA-256 of a text, in hex: what receivers of webhooks check." },
    { "job",
      "(name: string): fun(def: {run: fun(job: depot.Job): any, args?: table<string, string|depot.Arg>, "
      "args_extra?: boolean, needs?: string[], timeout?: string|number, max_attempts?: integer})",
      bind_job_declare, "Declares, at the top of a handler's file, what runs jobs of this type." },
    { "json.decode", "(text: string): any", json_decode, "The value of a JSON text; null becomes depot.null." },
    { "json.encode", "(value: any): string", json_encode, "Compact JSON with sorted keys." },
    { "log.debug", "(message: any, fields?: table)", log_debug, "Writes to the log, at level debug." },
    { "log.error", "(message: any, fields?: table)", log_error, "Writes to the log: a human must act." },
    { "log.info", "(message: any, fields?: table)", log_info, "Writes to the log: a change of state." },
    { "log.warn", "(message: any, fields?: table)", log_warn, "Writes to the log: healed itself, or degraded." },
    { "needs", "(capabilities: string[])", bind_needs,
      "States, at the top of a hook's or schedule's file, what it reaches outside: \"http:api.example.org\", "
      "\"exec:/usr/bin/convert\"; conf.d must grant it." },
    { "now", "(): number", now, "Seconds since 1970, with microseconds." },
    { "sleep", "(duration: string|number)", sleep_for, "Waits: \"500ms\", \"10s\", or a number of seconds." },
    { "try", "(f: fun(...): ..., ...): ...", try, "Calls f; its results, or nil and the error as a table." },
    { "uuid", "(): string", uuid, "A new random UUID." },
};
const size_t bind_core_count = DEPOT_N(bind_core_fns);

/* ---- the table ---- */

/* Puts the value at the top into the table at `root` as a.b.c, making the tables between. */
static void set_path(lua_State *L, int root, const char *path)
{
    const char *dot;

    lua_pushvalue(L, root);
    while ((dot = strchr(path, '.')) != NULL) {
        lua_pushlstring(L, path, (size_t)(dot - path));
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) != LUA_TTABLE) {
            lua_pop(L, 1);
            lua_newtable(L);
            lua_pushvalue(L, -2);
            lua_pushvalue(L, -2);
            lua_rawset(L, -5);
        }
        lua_replace(L, -3);
        lua_pop(L, 1);
        path = dot + 1;
    }
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, path);
    lua_pop(L, 2);
}

/* Where a function's name goes on inside of the group; NULL: it is none of it. Without a group: of names without a dot. */
static const char *name_in(const char *name, const char *group)
{
    size_t n = group == NULL ? 0 : strlen(group);

    if (group == NULL) {
        return strchr(name, '.') == NULL ? name : NULL;
    }
    return strncmp(name, group, n) == 0 && name[n] == '.' ? name + n + 1 : NULL;
}

static void add_fns(lua_State *L, int target, const char *group, const core_fn *fns, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *name = name_in(fns[i].name, group);
        if (name != NULL) {
            lua_pushcfunction(L, fns[i].fn);
            set_path(L, target, name);
        }
    }
}

static const struct {
    const core_fn *fns;
    const size_t  *n;
    bool           offline;
} lists[] = { { bind_core_fns, &bind_core_count, false },
              { bind_db_fns, &bind_db_count, false },
              { bind_http_fns, &bind_http_count, false },
              { bind_test_fns, &bind_test_count, true } };

/* All functions of the group into the table at `target`; methods of the job object are none. */
static void add_group(lua_State *L, int target, const char *group)
{
    const engine *e = vm_of(L)->engine;

    for (size_t i = 0; i < DEPOT_N(lists); i++) {
        if (!lists[i].offline || e->opt.offline) {
            add_fns(L, target, group, lists[i].fns, *lists[i].n);
        }
    }
    for (size_t i = 0; i < e->n_bound; i++) {
        const depot_lua_fn *row = e->bound[i].row;
        const char         *name = (row->flags & DEPOT_LUA_JOB) != 0 ? NULL : name_in(row->name, group);
        if (name != NULL) {
            lua_pushlightuserdata(L, &e->bound[i]);
            lua_pushcclosure(L, row->sql == NULL ? bind_call_fn : bind_sql_fn, 1);
            set_path(L, target, name);
        }
    }
}

static int refuse_call(lua_State *L)
{
    return fail_raisef(L, DEPOT_E_FORBIDDEN, "functions of plugins cannot be called while scripts are checked");
}

static int same_again(lua_State *L)
{
    lua_settop(L, 1);
    return 1;
}

/* Without plugins (--check) what they would add is not known: any name may be read, nothing of it be called. */
static void push_anything(lua_State *L)
{
    lua_newtable(L);
    lua_createtable(L, 0, 3);
    lua_pushcfunction(L, same_again);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, refuse_call);
    lua_setfield(L, -2, "__call");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}

/* Stack: the real table of depot, a name that it does not have. */
static int find_group(lua_State *L)
{
    const char *group = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";

    lua_newtable(L);
    add_group(L, 3, group);
    lua_pushnil(L);
    if (lua_next(L, 3) == 0) {
        lua_pushnil(L);
        if (vm_of(L)->engine->opt.host == NULL) {
            push_anything(L);
        }
        return 1;
    }
    lua_settop(L, 3);
    sandbox_seal(L);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 3);
    lua_rawset(L, 1);
    return 1;
}

static void ask_for(lua_State *L, const char *name)
{
    const char *dot = strchr(name, '.');

    if (dot != NULL) {
        lua_pushlstring(L, name, (size_t)(dot - name));
        lua_gettable(L, 1);
        lua_pop(L, 1);
    }
}

static int make_groups(lua_State *L)
{
    const engine *e = vm_of(L)->engine;

    for (size_t i = 0; i < DEPOT_N(lists); i++) {
        for (size_t f = 0; f < *lists[i].n; f++) {
            ask_for(L, lists[i].fns[f].name);
        }
    }
    for (size_t i = 0; i < e->n_bound; i++) {
        if ((e->bound[i].row->flags & DEPOT_LUA_JOB) == 0) {
            ask_for(L, e->bound[i].row->name);
        }
    }
    return 0;
}

void bind_open(lua_State *L)
{
    lua_newtable(L);
    add_group(L, lua_gettop(L), NULL);
    value_push_null(L);
    lua_setfield(L, -2, "null");
    sandbox_late(L, find_group, make_groups);
    bind_job_open(L);
}
