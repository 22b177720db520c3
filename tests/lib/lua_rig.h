/* lua_rig.h - runs scripts in a test's own process: an engine on a loop, files given as texts, results kept. */
#ifndef LUA_RIG_H
#define LUA_RIG_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lua/engine.h"

typedef struct rig {
    uv_loop_t    loop;
    depot_arena *arena;
    sources      sources;
    engine      *engine;
    /* of the last script that ended */
    bool      done, ok;
    char     *json, *where, *trace;
    depot_err err;
    int64_t   cpu_us, wall_us;
    size_t    ended;
    depot_buf log, faults; /* one line each */
    depot_buf ends;        /* of scripts: id, code or result; one line each */
    /* of the last range that answered: "begun 3 ended 1 CODE, 2 CODE going 0 results […]" */
    bool      has_answered;
    depot_buf answer;
    char     *message; /* of the last of `ended` */
} rig;

typedef struct rig_options {
    host            *host;
    int64_t          memory_max, cpu_max_ms; /* 0: 32 MiB, 10 s */
    size_t           log_max;
    int64_t          slice_us; /* 0: scripts are not interrupted for others */
    struct db_async *db;
    const char      *grants; /* JSON; NULL: none */
} rig_options;

static inline char *rig_copy(depot_arena *arena, const char *text)
{
    return depot_strdup(arena, text);
}

static inline void rig_done(void *arg, uint64_t id, const depot_script_result *res)
{
    rig *r = arg;

    r->done = true;
    r->ended++;
    r->ok = res->ok;
    r->json = rig_copy(r->arena, res->json);
    r->where = rig_copy(r->arena, res->where);
    r->trace = rig_copy(r->arena, res->trace);
    r->err = res->err;
    r->cpu_us = res->cpu_us;
    r->wall_us = res->wall_us;
    depot_buf_addf(&r->ends, "%llu %s\n", (unsigned long long)id, res->ok ? res->json : depot_err_id(&res->err));
}

static inline void rig_ranged(void *arg, uint64_t id, const depot_range_result *res)
{
    rig *r = arg;

    (void)id;
    depot_buf_reset(&r->answer);
    depot_buf_addf(&r->answer, "begun %lld ended", (long long)res->begun);
    for (size_t i = 0; i < res->n_ended; i++) {
        const depot_script_result *one = &res->ended[i].res;
        depot_buf_addf(&r->answer, " %lld %s%s", (long long)res->ended[i].place, depot_err_id(&one->err), one->snoozed ? "!" : "");
        r->message = rig_copy(r->arena, one->err.msg);
    }
    depot_buf_adds(&r->answer, " going");
    for (size_t i = 0; i < res->n_going; i++) {
        depot_buf_addf(&r->answer, " %lld", (long long)res->going[i].place);
    }
    depot_buf_addf(&r->answer, " results %s", res->results == NULL ? "-" : res->results);
    r->has_answered = true;
}

static inline void rig_log(void *arg, uint64_t id, depot_level level, const char *label, const char *where,
                           const char *text, size_t n, const char *fields)
{
    rig *r = arg;

    (void)id;
    depot_buf_addf(&r->log, "%d %s %s %.*s%s%s\n", (int)level, label, where, (int)n, text, fields == NULL ? "" : " ",
                   fields == NULL ? "" : fields);
}

static inline void rig_fault(void *arg, const char *file, int line, const depot_err *err)
{
    rig *r = arg;

    depot_buf_addf(&r->faults, "%s:%d: %s %s\n", file, line, depot_err_id(err), err->msg);
}

/* Files first (rig_file), then rig_start. */
static inline void rig_init(rig *r)
{
    memset(r, 0, sizeof(*r));
    r->arena = depot_arena_new();
    if (uv_loop_init(&r->loop) != 0) {
        abort();
    }
}

static inline void rig_file(rig *r, const char *path, const char *text)
{
    sources_add(r->arena, &r->sources, path, text, strlen(text));
}

/* Whether all files could be loaded. */
static inline bool rig_start(rig *r, const rig_options *o)
{
    depot_err      err = { 0 };
    engine_options options = {
        .loop = &r->loop,
        .host = o->host,
        .sources = &r->sources,
        .memory_max = o->memory_max,
        .db = o->db,
        .grants = o->grants == NULL ? NULL : depot_json_parse(r->arena, o->grants, strlen(o->grants), &err),
        .cpu_max_ms = o->cpu_max_ms,
        .slice_us = o->slice_us,
        .result_max = 65536,
        .log_max = o->log_max,
        .done = rig_done,
        .ranged = rig_ranged,
        .log = rig_log,
        .arg = r,
    };

    options.memory_max = options.memory_max == 0 ? 32 << 20 : options.memory_max;
    options.cpu_max_ms = options.cpu_max_ms == 0 ? 10000 : options.cpu_max_ms;
    options.log_max = options.log_max == 0 ? 1 << 20 : options.log_max;
    sources_seal(&r->sources);
    if (!engine_new(&options, &r->engine, &err)) {
        printf("# engine_new: %s\n", err.msg);
        abort();
    }
    return engine_load(r->engine, rig_fault, r);
}

static inline bool rig_begin(rig *r, uint64_t id, run_mode mode, const char *name, const char *arg, int64_t timeout_ms)
{
    run_spec spec = { .id = id,
                      .mode = mode,
                      .name = name,
                      .label = "test",
                      .arg = arg,
                      .arg_len = strlen(arg),
                      .timeout_ms = timeout_ms };

    r->done = false;
    return engine_run(r->engine, &spec, &r->err);
}

static inline void rig_drain(rig *r)
{
    while (!engine_is_idle(r->engine)) {
        uv_run(&r->loop, UV_RUN_ONCE);
    }
}

/* Runs a script to its end; false: it failed, see r->err. */
static inline bool rig_run(rig *r, run_mode mode, const char *name, const char *arg, int64_t timeout_ms)
{
    r->ok = false;
    if (!rig_begin(r, 1, mode, name, arg, timeout_ms)) {
        return false;
    }
    while (engine_running(r->engine) > 0) {
        uv_run(&r->loop, UV_RUN_ONCE);
    }
    return r->ok;
}

static inline void rig_free(rig *r)
{
    if (r->engine != NULL) {
        rig_drain(r);
        engine_free(r->engine);
    }
    uv_run(&r->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&r->loop) != 0) {
        abort();
    }
    depot_buf_free(&r->log);
    depot_buf_free(&r->ends);
    depot_buf_free(&r->answer);
    depot_buf_free(&r->faults);
    depot_arena_free(r->arena);
}

/* One chunk in an engine of its own. */
static inline bool rig_once(rig *r, const char *text, const char *arg, int64_t timeout_ms)
{
    rig_init(r);
    rig_file(r, "t.lua", text);
    return rig_start(r, &(rig_options){ 0 }) && rig_run(r, RUN_FILE, "t.lua", arg, timeout_ms);
}

#endif
