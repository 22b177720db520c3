/* bind_http.c - depot.http: a request as a table, its reply as a table. */
#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lua/http.h"

enum { BODY_MAX = 8 << 20, BODY_MOST = 64 << 20, HEADERS_MAX = 64 << 10, REDIRECTS_MOST = 20, TIMEOUT_MS = 30000 };

static http_op *http_of(op *o)
{
    return (http_op *)(void *)o;
}

/* ---- the reply ---- */

/* Upvalue 1: the body. */
static int reply_json(lua_State *L)
{
    size_t            n;
    const char       *text = lua_tolstring(L, lua_upvalueindex(1), &n);
    depot_err         err = { 0 };
    const depot_json *value = depot_json_parse(run_scratch(vm_run(L)), text, n, &err);

    if (value == NULL) {
        (void)depot_wrap(&err, "the reply");
        return fail_raise(L, &err);
    }
    value_push(L, value);
    return 1;
}

/* One that comes again is joined: by a line feed where commas have a meaning of their own. */
static void push_headers(lua_State *L, const http_header *header)
{
    lua_newtable(L);
    for (; header != NULL; header = header->next) {
        if (lua_getfield(L, -1, header->name) == LUA_TSTRING) {
            lua_pushfstring(L, "%s%s%s", lua_tostring(L, -1), strcmp(header->name, "set-cookie") == 0 ? "\n" : ", ",
                            header->value);
            lua_replace(L, -2);
        } else {
            lua_pop(L, 1);
            lua_pushstring(L, header->value);
        }
        lua_setfield(L, -2, header->name);
    }
}

static int http_push(lua_State *L, op *o)
{
    const http_op *h = http_of(o);

    if (h->err.code != DEPOT_OK) {
        return fail_raise(L, &h->err);
    }
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, h->status);
    lua_setfield(L, -2, "status");
    push_headers(L, h->first);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, h->reply.data == NULL ? "" : h->reply.data, h->reply.len);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "body");
    lua_pushcclosure(L, reply_json, 1);
    lua_setfield(L, -2, "json");
    return 1;
}

static void http_free(op *o)
{
    http_op *h = http_of(o);

    http_remove(h);
    curl_easy_cleanup(h->easy);
    curl_multi_cleanup(h->alone);
    curl_slist_free_all(h->headers);
    depot_buf_free(&h->reply);
    depot_arena_free(h->arena);
    h->engine->n_busy--;
    free(h);
}

static const op_kind http_kind = { "http", http_block, http_push, http_free, http_free };

/* ---- the request: stack 1 the table ---- */

static void add_line(lua_State *L, http_op *h, const char *line)
{
    struct curl_slist *more = curl_slist_append(h->headers, line);

    if (more == NULL) {
        luaL_error(L, "no memory for a header");
    }
    h->headers = more;
}

static void check_header(lua_State *L, const char *name, const char *value)
{
    /* one that does not fit would let the server see other requests than were sent, on a connection that others use, too */
    static const char *const own[] = { "Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade" };
    bool good = name[0] != '\0' && strpbrk(value, "\r\n") == NULL;

    for (const char *c = name; *c != '\0'; c++) {
        good = good && (isalnum((unsigned char)*c) || strchr("!#$%&'*+-.^_`|~", *c) != NULL);
    }
    if (!good) {
        luaL_error(L, "the header '%s' has a character that headers cannot have", name);
    }
    for (size_t i = 0; i < DEPOT_N(own); i++) {
        if (strcasecmp(name, own[i]) == 0) {
            luaL_error(L, "the header %s is made from the url and the body", own[i]);
        }
    }
}

/* Before it is copied: one large string may stand there many times. */
static void count_header(lua_State *L, size_t *bytes)
{
    *bytes += lua_rawlen(L, -2) + lua_rawlen(L, -1);
    luaL_argcheck(L, *bytes <= HEADERS_MAX, 1, "headers are larger than 64 KiB together");
}

static void read_headers(lua_State *L, http_op *h)
{
    bool   has_type = false;
    size_t bytes = 0;

    if (lua_getfield(L, 1, "headers") != LUA_TNIL) {
        luaL_argcheck(L, lua_istable(L, -1), 1, "headers must be a table of names and texts");
        lua_pushnil(L);
        while (lua_next(L, -2) != 0) {
            luaL_argcheck(L, lua_type(L, -2) == LUA_TSTRING, 1, "headers must be a table of names and texts");
            count_header(L, &bytes);
            const char *name = lua_tostring(L, -2), *value = bind_text(L, -1, "a header", h->arena);
            check_header(L, name, value);
            has_type = has_type || strcasecmp(name, "content-type") == 0;
            add_line(L, h, depot_strf(h->arena, value[0] == '\0' ? "%s;" : "%s: %s", name, value));
            lua_pop(L, 1);
        }
    }
    lua_settop(L, 1);
    if (h->body_len > 0 && !has_type) {
        bool is_json = lua_getfield(L, 1, "json") != LUA_TNIL;
        lua_pop(L, 1);
        add_line(L, h, is_json ? "Content-Type: application/json" : "Content-Type: application/octet-stream");
    }
    add_line(L, h, "Expect:");
}

static void read_body(lua_State *L, http_op *h)
{
    run *r = vm_run(L);

    if (lua_getfield(L, 1, "body") != LUA_TNIL) {
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 1, "body must be a text");
        const char *text = lua_tolstring(L, -1, &h->body_len);
        h->body = depot_strndup(h->arena, text, h->body_len);
    }
    if (lua_getfield(L, 1, "json") != LUA_TNIL) {
        luaL_argcheck(L, h->body == NULL, 1, "body and json are two bodies");
        depot_buf_reset(&r->scratch);
        value_encode(L, lua_gettop(L), &r->scratch, BODY_MOST);
        h->body_len = r->scratch.len;
        h->body = depot_strndup(h->arena, r->scratch.data, r->scratch.len);
    }
    lua_settop(L, 1);
}

static void read_method(lua_State *L, http_op *h, const char *method)
{
    if (lua_getfield(L, 1, "method") != LUA_TNIL) {
        method = bind_text(L, -1, "method", h->arena);
    }
    h->method = method != NULL ? method : h->body != NULL ? "POST" : "GET";
    for (const char *c = h->method; *c != '\0'; c++) {
        luaL_argcheck(L, isupper((unsigned char)*c), 1, "method must be capital letters");
    }
    luaL_argcheck(L, h->method[0] != '\0' && strcmp(h->method, "CONNECT") != 0, 1, "method cannot be used");
    lua_settop(L, 1);
    if (h->body == NULL && (strcmp(h->method, "POST") == 0 || strcmp(h->method, "PUT") == 0)) {
        h->body = ""; /* with a length of 0, which servers ask for */
    }
}

static int64_t read_count(lua_State *L, const char *name, int64_t otherwise, int64_t most)
{
    int64_t n = otherwise;

    if (lua_getfield(L, 1, name) != LUA_TNIL) {
        int is_integer;
        n = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer || n < 0 || n > most) {
            luaL_error(L, "%s must be an integer from 0 to %d", name, (int)most);
        }
    }
    lua_settop(L, 1);
    return n;
}

static void once(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT); /* fails only without memory, which the next call tells */
}

static http_op *http_new(run *r)
{
    static pthread_once_t began = PTHREAD_ONCE_INIT;
    http_op              *h = depot_xalloc(sizeof(*h));

    pthread_once(&began, once);
    h->base = (op){ .kind = &http_kind, .run = r };
    h->engine = r->engine;
    h->engine->n_busy++;
    h->arena = depot_arena_new();
    h->easy = curl_easy_init();
    h->last = &h->first;
    op_keep(r, &h->base);
    return h;
}

static int request(lua_State *L, const char *method)
{
    static const char *const known[] = { "body", "headers", "json", "max_body", "method", "redirects", "timeout", "url", NULL };
    run      *r = vm_run(L);
    depot_err err = { 0 };

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    run_may_wait(L);
    bind_options(L, 1, "depot.http", known);
    http_op *h = http_new(r);
    h->alone = lua_isyieldable(L) ? NULL : curl_multi_init();
    if (h->easy == NULL || (h->alone == NULL && !lua_isyieldable(L))) {
        return luaL_error(L, "no memory for a request");
    }
    read_body(L, h);
    read_method(L, h, method);
    read_headers(L, h);
    h->max_body = (size_t)read_count(L, "max_body", BODY_MAX, BODY_MOST);
    h->redirects = read_count(L, "redirects", 0, REDIRECTS_MOST);
    h->follows = h->redirects > 0;
    h->due_ms = bind_due(L, 1, TIMEOUT_MS);
    lua_getfield(L, 1, "url");
    h->url = bind_text(L, -1, "url", h->arena);
    if (!http_target(h, h->url, &err)) {
        return fail_raise(L, &err);
    }
    http_prepare(h);
    if (!http_add(h, &err)) {
        return fail_raise(L, &err);
    }
    return run_wait(L, &h->base);
}

static int http_request(lua_State *L)
{
    return request(L, NULL);
}

/* (url, options?) becomes one table; the script's own stays as it is. */
static void join(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TSTRING);
    lua_settop(L, 2);
    lua_newtable(L);
    if (!lua_isnil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_pushnil(L);
        while (lua_next(L, 2) != 0) {
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, 3);
        }
    }
    lua_pushvalue(L, 1);
    lua_setfield(L, 3, "url");
    lua_replace(L, 1);
    lua_settop(L, 1);
}

static int http_get(lua_State *L)
{
    join(L);
    return request(L, "GET");
}

static int http_post(lua_State *L)
{
    join(L);
    return request(L, "POST");
}

#define REPLY "{status: integer, headers: table<string, string>, body: string, json: fun(): any}"
#define OPTIONS                                                                                                        \
    "headers?: table<string, string>, body?: string, json?: any, timeout?: string|number, max_body?: integer, "        \
    "redirects?: integer"

const core_fn bind_http_fns[] = {
    { "http.get", "(url: string, opts?: {" OPTIONS "}): " REPLY, http_get, "A request with the method GET." },
    { "http.post", "(url: string, opts?: {" OPTIONS "}): " REPLY, http_post, "A request with the method POST." },
    { "http.request", "(spec: {url: string, method?: string, " OPTIONS "}): " REPLY, http_request,
      "Sends a request and waits for the whole reply; needs the capability http:HOST. A status such as 404 is no error; "
      "redirects are followed only as often as redirects says." },
};
const size_t bind_http_count = DEPOT_N(bind_http_fns);
