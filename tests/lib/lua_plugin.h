/* lua_plugin.h - for tests of scripts: a host whose core offers depot.test.all and depot.test.wait, and short ways to run
 * one chunk in it. h is made by main. */
#ifndef LUA_PLUGIN_H
#define LUA_PLUGIN_H

#include <stdatomic.h>
#include <unistd.h>

#include "lua_rig.h"

static atomic_int calls;

static inline bool fn_all(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    size_t      n;
    const char *text = depot_arg_str(call, 0, &n);

    (void)ctx;
    atomic_fetch_add(&calls, 1);
    if (depot_arg_int(call, 1) == -1) {
        DEPOT_FAIL(err, CONFLICT, "minus one");
        return depot_hint(err, "use another");
    }
    depot_return_str(call, text, n);
    depot_return_int(call, depot_arg_int(call, 1));
    depot_return_bool(call, depot_arg_bool(call, 3));
    depot_return_json(call, depot_arg_given(call, 4) ? depot_arg_json(call, 4) : NULL);
    depot_return_json(call, depot_arg_given(call, 5) ? depot_arg_json(call, 5) : depot_json_str(depot_call_arena(call), "not given"));
    return true;
}

static inline bool fn_until_canceled(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    (void)ctx;
    (void)call;
    while (!depot_canceled() && depot_now_ms() < depot_deadline()) {
        usleep(1000);
    }
    atomic_fetch_add(&calls, 1);
    return DEPOT_FAIL(err, CANCELED, "canceled");
}

static const depot_lua_fn fns[] = {
    { "test.all", "(s: string, i: integer, n: number, b: boolean, t?: table, a?: any): string, integer, boolean, any, any", 0, fn_all, "", NULL, NULL },
    { "test.wait", "()", 0, fn_until_canceled, "", NULL, NULL },
};
static const depot_plugin core = { .version = "1", .summary = "test", .lua = DEPOT_TABLE(fns) };
static host_env env = { .state_dir = "/tmp", .node = "n", .data_dir = "/tmp", .conf_dir = "/tmp", .plugin_dir = "/tmp", .worker = true };
static host    *h;

/* With 16 MiB. */
static inline bool run_with_cpu(rig *r, const char *text, const char *arg, int64_t cpu_ms, int64_t timeout_ms)
{
    rig_init(r);
    rig_file(r, "t.lua", text);
    return rig_start(r, &(rig_options){ .host = h, .cpu_max_ms = cpu_ms, .memory_max = 16 << 20, .log_max = 4096 }) &&
           rig_run(r, RUN_FILE, "t.lua", arg, timeout_ms);
}

/* With 200 ms of CPU time and 16 MiB. */
static inline bool run_text(rig *r, const char *text, const char *arg, int64_t timeout_ms)
{
    return run_with_cpu(r, text, arg, 200, timeout_ms);
}

static inline bool run_calmly(rig *r, const char *text)
{
    rig_init(r);
    rig_file(r, "t.lua", text);
    return rig_start(r, &(rig_options){ .host = h }) && rig_run(r, RUN_FILE, "t.lua", "{}", 20000);
}

#endif
