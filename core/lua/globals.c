/* globals.c - reads what lua_dump writes of a compiled file: which names each function takes from _ENV, and where. The form
 * is that of Lua 5.4; of another one nothing is said. */
#include "lua/globals.h"

#include <stdlib.h>
#include <string.h>

#include "lua/run.h"

enum { HEAD_BYTES = 31, NAMES_MAX = 512, FULL_NAME_MAX = 200, DEPTH_MAX = 200 };
enum { OP_GETTABUP = 11, OP_GETFIELD = 14, OP_SETTABUP = 15 };
enum { CONST_NIL = 0, CONST_FALSE = 1, CONST_INT = 3, CONST_SHORT = 4, CONST_TRUE = 17, CONST_REAL = 19, CONST_LONG = 20 };

/* Reading stops at the first thing that is not understood. */
typedef struct reader {
    const uint8_t *at, *end;
    bool           broken;
    depot_arena   *arena;
    lua_State     *L; /* its stack's top is the environment */
    engine        *engine;
    const char    *file;
    bool           is_test; /* the harness gives it a variable of its own */
    conf_problems *problems;
} reader;

typedef struct function {
    const uint8_t *code, *lines; /* lines: differences, a byte each */
    size_t         n_code, n_constants, n_upvalues, n_lines, n_places;
    const char   **constants; /* NULL: no short string */
    const char   **upvalues;
    struct {
        size_t pc;
        int    line;
    } *places;
    int first_line;
} function;

static const uint8_t *take(reader *r, size_t n)
{
    const uint8_t *p = r->at;

    if (r->broken || n > (size_t)(r->end - r->at)) {
        r->broken = true;
        return NULL;
    }
    r->at += n;
    return p;
}

static size_t take_size(reader *r)
{
    size_t         n = 0;
    const uint8_t *p;

    do {
        p = take(r, 1);
        n = p == NULL ? 0 : n << 7 | (*p & 0x7f);
    } while (p != NULL && (*p & 0x80) == 0);
    if (n > (size_t)(r->end - r->at) * 8 + 4096) {
        r->broken = true; /* more of anything than there are bytes */
        return 0;
    }
    return n;
}

static const char *take_text(reader *r)
{
    size_t         n = take_size(r);
    const uint8_t *p = n == 0 ? NULL : take(r, n - 1);

    return p == NULL ? NULL : depot_strndup(r->arena, (const char *)p, n - 1);
}

static void take_constants(reader *r, function *f)
{
    f->n_constants = take_size(r);
    f->constants = depot_alloc(r->arena, (f->n_constants + 1) * sizeof(*f->constants));
    for (size_t i = 0; i < f->n_constants && !r->broken; i++) {
        const uint8_t *type = take(r, 1);
        switch (type == NULL ? CONST_NIL : *type) {
        case CONST_INT:
        case CONST_REAL: (void)take(r, 8); break; /* a place in the file is all that counts */
        case CONST_SHORT: f->constants[i] = take_text(r); break;
        case CONST_LONG: (void)take_text(r); break;
        case CONST_NIL:
        case CONST_FALSE:
        case CONST_TRUE: break;
        default: r->broken = true;
        }
    }
}

static void take_debug(reader *r, function *f)
{
    f->n_lines = take_size(r);
    f->lines = take(r, f->n_lines);
    f->n_places = take_size(r);
    f->places = depot_alloc(r->arena, (f->n_places + 1) * sizeof(*f->places));
    for (size_t i = 0; i < f->n_places && !r->broken; i++) {
        f->places[i].pc = take_size(r);
        f->places[i].line = (int)take_size(r);
    }
    for (size_t n = take_size(r); n > 0 && !r->broken; n--) { /* local variables: name, from, to */
        (void)take_text(r);
        (void)take_size(r);
        (void)take_size(r);
    }
    f->n_upvalues = take_size(r);
    f->upvalues = depot_alloc(r->arena, (f->n_upvalues + 1) * sizeof(*f->upvalues));
    for (size_t i = 0; i < f->n_upvalues && !r->broken; i++) {
        f->upvalues[i] = take_text(r);
    }
}

/* ---- what a function does with _ENV ---- */

static int line_at(const function *f, size_t pc)
{
    int    line = f->first_line;
    size_t from = 0;

    for (size_t i = 0; i < f->n_places && f->places[i].pc <= pc; i++) {
        line = f->places[i].line;
        from = f->places[i].pc + 1;
    }
    for (size_t i = from; i <= pc && i < f->n_lines; i++) {
        line += (int8_t)f->lines[i];
    }
    return line;
}

static uint32_t word(const function *f, size_t pc)
{
    const uint8_t *p = f->code + 4 * pc;

    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static const char *constant(const function *f, size_t i)
{
    return i < f->n_constants ? f->constants[i] : NULL;
}

static bool is_env(const function *f, size_t upvalue)
{
    return upvalue < f->n_upvalues && f->upvalues[upvalue] != NULL && strcmp(f->upvalues[upvalue], "_ENV") == 0;
}

static bool exists(reader *r, const char *name)
{
    int  top = lua_gettop(r->L);
    bool found;

    lua_getmetatable(r->L, top); /* the environment is sealed: the real one is behind it */
    lua_getfield(r->L, -1, "__index");
    lua_pushstring(r->L, name);
    found = lua_rawget(r->L, -2) != LUA_TNIL;
    lua_settop(r->L, top);
    return found;
}

static const char *nearest(const reader *r, const char *full)
{
    const char *names[NAMES_MAX];
    size_t      n = 0;
    const struct {
        const core_fn *fns;
        size_t         n;
    } sets[] = { { bind_core_fns, bind_core_count }, { bind_db_fns, bind_db_count }, { bind_http_fns, bind_http_count } };

    for (size_t s = 0; s < DEPOT_N(sets); s++) {
        for (size_t i = 0; i < sets[s].n && n < NAMES_MAX; i++) {
            names[n++] = sets[s].fns[i].name;
        }
    }
    for (size_t i = 0; i < r->engine->n_bound && n < NAMES_MAX; i++) {
        names[n++] = r->engine->bound[i].row->name;
    }
    return depot_suggest(full, names, n);
}

/* depot.a.b from the instruction at pc on: each field is taken from where the one before was put. */
static void check_depot(reader *r, const function *f, size_t pc)
{
    int         top = lua_gettop(r->L), line = line_at(f, pc);
    uint32_t    place = word(f, pc) >> 7 & 0xff;
    depot_buf   full = { 0 };
    const char *name;

    lua_getfield(r->L, top, "depot");
    while (++pc < f->n_code && (word(f, pc) & 0x7f) == OP_GETFIELD && (word(f, pc) >> 16 & 0xff) == place &&
           lua_istable(r->L, -1) && (name = constant(f, word(f, pc) >> 24)) != NULL) {
        place = word(f, pc) >> 7 & 0xff;
        depot_buf_addf(&full, "%s%s", full.len == 0 ? "" : ".", name);
        if (lua_getfield(r->L, -1, name) == LUA_TNIL && full.len < FULL_NAME_MAX) {
            const char *near = nearest(r, full.data);
            conf_problem(r->problems, r->file, line, near == NULL ? NULL : depot_strf(r->arena, "did you mean depot.%s?", near),
                         "there is no depot.%s", full.data);
            break;
        }
    }
    depot_buf_free(&full);
    lua_settop(r->L, top);
}

static void check_function(reader *r, const function *f)
{
    for (size_t pc = 0; pc < f->n_code; pc++) {
        uint32_t    w = word(f, pc), code = w & 0x7f;
        bool        reads = code == OP_GETTABUP && is_env(f, w >> 16 & 0xff);
        bool        writes = code == OP_SETTABUP && is_env(f, w >> 7 & 0xff);
        const char *name = reads ? constant(f, w >> 24) : writes ? constant(f, w >> 16 & 0xff) : NULL;
        if (name == NULL) {
            continue;
        }
        if (writes) {
            conf_problem(r->problems, r->file, line_at(f, pc), NULL, "variable '%s' is not declared: write local", name);
        } else if (!exists(r, name) && !(r->is_test && strcmp(name, "test") == 0)) {
            conf_problem(r->problems, r->file, line_at(f, pc), NULL, "there is no variable '%s'", name);
        } else if (strcmp(name, "depot") == 0) {
            check_depot(r, f, pc);
        }
    }
}

static void take_function(reader *r, int depth)
{
    function f = { 0 };

    r->broken = r->broken || depth > DEPTH_MAX;
    (void)take_text(r); /* the file's name */
    f.first_line = (int)take_size(r);
    (void)take_size(r); /* last line */
    (void)take(r, 3);   /* parameters, stack */
    f.n_code = take_size(r);
    f.code = take(r, 4 * f.n_code);
    take_constants(r, &f);
    (void)take(r, 3 * take_size(r)); /* upvalues: their names come below */
    for (size_t n = take_size(r); n > 0 && !r->broken; n--) {
        take_function(r, depth + 1);
    }
    take_debug(r, &f);
    if (!r->broken) {
        check_function(r, &f);
    }
}

/* ---- one file ---- */

static int keep(lua_State *L, const void *p, size_t n, void *out)
{
    (void)L;
    depot_buf_add(out, p, n);
    return 0;
}

/* Stack: 1 the reader, 2 the file, 3 where the compiled form goes. */
static int look(lua_State *L)
{
    static const uint8_t form[] = { 0x1b, 'L', 'u', 'a', 0x54, 0 };
    reader       *r = lua_touserdata(L, 1);
    const source *file = lua_touserdata(L, 2);
    depot_buf    *out = lua_touserdata(L, 3);

    if (!vm_push_file(L, file)) {
        return 0; /* told when it was loaded */
    }
    lua_dump(L, keep, out, 0);
    lua_pushglobaltable(L);
    sandbox_complete(L);
    r->L = L;
    r->file = file->path;
    r->is_test = strstr(file->path, "_test.lua") != NULL;
    if (out->len > HEAD_BYTES + 1 && memcmp(out->data, form, sizeof(form)) == 0) {
        r->at = (const uint8_t *)out->data + HEAD_BYTES + 1; /* the byte is the number of upvalues */
        r->end = (const uint8_t *)out->data + out->len;
        take_function(r, 0);
    }
    return 0;
}

void globals_check(engine *e, conf_problems *problems)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    vm                                       *v = engine_take_vm(e);

    for (size_t i = 0; v != NULL && i < e->opt.sources->n; i++) {
        if (strncmp(e->opt.sources->files[i].path, "types/", 6) == 0) {
            continue; /* for editors: nobody runs it */
        }
        DEPOT_AUTO(depot_buf_free) depot_buf compiled = { 0 };
        reader r = { .arena = arena, .engine = e, .problems = problems };
        lua_settop(v->L, 0);
        lua_pushcfunction(v->L, look);
        lua_pushlightuserdata(v->L, &r);
        lua_pushlightuserdata(v->L, (void *)(uintptr_t)&e->opt.sources->files[i]);
        lua_pushlightuserdata(v->L, &compiled);
        (void)lua_pcall(v->L, 3, 0, 0); /* without memory it is not looked at */
    }
    if (v != NULL) {
        engine_give_vm(e, v, true);
    }
}
