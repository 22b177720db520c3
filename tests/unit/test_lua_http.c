/* test_lua_http.c - requests of scripts against a small server on a thread of its own: what is sent, what is taken, limits,
 * redirects, where nobody may go. */
#include <arpa/inet.h>
#include <ctype.h>
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lua_rig.h"
#include "tap.h"

/* ---- a resolver that takes long for one name: libcurl's calls come here ---- */

enum { LOOKUP_S = 5, LOOKUPS_MAX = 64 };

static atomic_int lookups; /* of that name */

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out)
    __attribute__((visibility("default")));

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    union {
        void *any;
        int (*fn)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    } real = { dlsym(RTLD_NEXT, "getaddrinfo") };

    if (node != NULL && strcmp(node, "slow.example") == 0) {
        atomic_fetch_add(&lookups, 1);
        sleep(LOOKUP_S);
        return EAI_AGAIN;
    }
    return real.fn(node, service, hints, out);
}

/* ---- the server: one request a connection ---- */

enum { HEAD_MAX = 65536 };

typedef struct client {
    uv_tcp_t   tcp;
    uv_timer_t timer;
    uv_write_t write;
    char       head[HEAD_MAX], reply[HEAD_MAX * 4];
    size_t     n;
} client;

static uv_loop_t  served;
static uv_tcp_t   listener;
static uv_async_t stop;
static int        port;
static pthread_t  thread;

static void on_free(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_timer_closed(uv_handle_t *handle)
{
    client *c = handle->data;

    uv_close((uv_handle_t *)&c->tcp, on_free);
}

static void hang_up(client *c)
{
    if (!uv_is_closing((uv_handle_t *)&c->timer)) {
        uv_close((uv_handle_t *)&c->timer, on_timer_closed);
    }
}

static void on_written(uv_write_t *write, int status)
{
    (void)status;
    hang_up(write->data);
}

static void answer(uv_timer_t *timer)
{
    client  *c = timer->data;
    uv_buf_t buf = uv_buf_init(c->reply, (unsigned)strlen(c->reply));

    c->write.data = c;
    uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, on_written);
}

static void make_reply(client *c)
{
    char  *at = c->reply;
    size_t size = sizeof(c->reply);

    if (strstr(c->head, " /to/") != NULL) { /* /to/STATUS/URL */
        const char *status = strstr(c->head, " /to/") + 5, *url = strchr(status, '/') + 1;
        snprintf(at, size, "HTTP/1.1 %.3s x\r\nLocation: %.*s\r\nContent-Length: 0\r\n\r\n", status, (int)strcspn(url, " "), url);
    } else if (strstr(c->head, " /big") != NULL) {
        int n = snprintf(at, size, "HTTP/1.1 200 x\r\nConnection: close\r\n\r\n");
        memset(at + n, 'x', 100000);
        at[n + 100000] = '\0';
    } else if (strstr(c->head, " /headers") != NULL) {
        int n = snprintf(at, size, "HTTP/1.1 200 x\r\nContent-Length: 0\r\n");
        for (int i = 0; i < 2000; i++) {
            n += snprintf(at + n, size - (size_t)n, "X-%d: %s\r\n", i, "0123456789012345678901234567890123456789");
        }
        snprintf(at + n, size - (size_t)n, "\r\n");
    } else if (strstr(c->head, " /early") != NULL) {
        int n = 0;
        for (int i = 0; i < 2000; i++) {
            n += snprintf(at + n, size - (size_t)n, "HTTP/1.1 103 x\r\nLink: %s\r\n\r\n", "0123456789012345678901234567890123456789");
        }
        snprintf(at + n, size - (size_t)n, "HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n");
    } else if (strstr(c->head, " /cookies") != NULL) {
        snprintf(at, size, "HTTP/1.1 404 x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nVia: 1\r\nVIA:  2 \r\nContent-Length: 7\r\n\r\n{\"a\":1}");
    } else { /* what was asked comes back */
        snprintf(at, size, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%.*s", c->n, (int)c->n, c->head);
    }
}

static bool is_whole(const client *c)
{
    const char *end = strstr(c->head, "\r\n\r\n"), *length = strcasestr(c->head, "\r\nContent-Length: ");

    return end != NULL && c->n - (size_t)(end + 4 - c->head) >= (length == NULL ? 0 : strtoul(length + 18, NULL, 10));
}

static void on_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    client *c = stream->data;

    (void)buf;
    if (n < 0) {
        hang_up(c);
        return;
    }
    c->n += (size_t)n;
    c->head[c->n] = '\0';
    if (is_whole(c)) {
        make_reply(c);
        const char *wait = strstr(c->head, " /wait/");
        uv_timer_start(&c->timer, answer, wait == NULL ? 0 : strtoul(wait + 7, NULL, 10), 0);
    }
}

static void give_room(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    client *c = handle->data;

    (void)size;
    *buf = uv_buf_init(c->head + c->n, (unsigned)(sizeof(c->head) - c->n - 1));
}

static void on_client(uv_stream_t *stream, int status)
{
    client *c = depot_xalloc(sizeof(*c));

    (void)status;
    c->tcp.data = c->timer.data = c;
    uv_tcp_init(&served, &c->tcp);
    uv_timer_init(&served, &c->timer);
    if (uv_accept(stream, (uv_stream_t *)&c->tcp) == 0) {
        uv_read_start((uv_stream_t *)&c->tcp, give_room, on_bytes);
    } else {
        hang_up(c);
    }
}

static void on_stop(uv_async_t *async)
{
    (void)async;
    uv_stop(&served);
}

static void *serve(void *arg)
{
    uv_run(&served, UV_RUN_DEFAULT);
    return arg;
}

static void server_start(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int                n = sizeof(at);

    uv_loop_init(&served);
    uv_async_init(&served, &stop, on_stop);
    uv_tcp_init(&served, &listener);
    uv_tcp_bind(&listener, (const struct sockaddr *)&at, 0);
    uv_listen((uv_stream_t *)&listener, 4096, on_client);
    uv_tcp_getsockname(&listener, (struct sockaddr *)&at, &n);
    port = ntohs(at.sin_port);
    pthread_create(&thread, NULL, serve, NULL);
}

/* ---- scripts: PORT stands for the server's port ---- */

static const char *with_port(depot_arena *arena, const char *text)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };

    for (const char *at; (at = strstr(text, "PORT")) != NULL; text = at + 4) {
        depot_buf_addf(&out, "%.*s%d", (int)(at - text), text, port);
    }
    depot_buf_adds(&out, text);
    return depot_strdup(arena, out.data);
}

static bool run_as(rig *r, const char *grants, const char *body, int64_t timeout_ms)
{
    rig_init(r);
    rig_file(r, "handlers/x.lua",
             with_port(r->arena, depot_strf(r->arena, "local at = 'http://127.0.0.1:PORT' depot.job('j') { needs = { 'http' }, run = function(job) %s end }", body)));
    ok(rig_start(r, &(rig_options){ .grants = grants }), body);
    return rig_run(r, RUN_HANDLER, "j", "{}", timeout_ms);
}

#define LOCAL "{\"j\":[\"http:127.0.0.1\"]}"

static void requests_are_sent_and_replies_taken(void)
{
    static const char *const rows[][2] = {
        { "local r = depot.http.get(at .. '/a?b=c') return { r.status, r.body:match('^[^\\r]*'), r.headers['content-length'] == tostring(#r.body) }",
          "[200,\"GET /a?b=c HTTP/1.1\",true]" },
        { "local r = depot.http.post(at, { json = { a = { 1, depot.null } } }) return { r.body:match('\\nContent%-Type: ([^\\r]*)'), r.body:match('\\r\\n\\r\\n(.*)'), "
          "r.body:find('Expect') == nil }", "[\"application/json\",\"{\\\"a\\\":[1,null]}\",true]" },
        { "local r = depot.http.request { url = at, method = 'PUT', body = 'a b', headers = { ['Content-Type'] = 'x/y', ['X-Empty'] = '', A = '1' } } "
          "return { #r.body:match('\\r\\n\\r\\n(.*)'), r.body:match('^%u+'), r.body:match('Content%-Type: ([^\\r]*)'), r.body:match('\\nA: ([^\\r]*)'), "
          "r.body:find('X%-Empty:') ~= nil }", "[3,\"PUT\",\"x/y\",\"1\",true]" },
        { "local r = depot.http.get(at .. '/cookies') return { r.status, r.headers['set-cookie'], r.headers.via, r.json().a }", "[404,\"a\\nb\",\"1, 2\",1]" },
        { "local ok, e = depot.try(function() return depot.http.get(at).json() end) return e.code", "\"MALFORMED\"" },
        { "return (depot.http.request { url = at, method = 'HEAD' }).body", "\"\"" },
        { "return #depot.http.get(at .. '/big').body", "100000" },
        { "return depot.http.post(at).body:match('Content%-Length: (%d+)')", "\"0\"" },
        { "return (('ab'):gsub('.', function(c) return depot.http.get(at .. '/' .. c).status end))", "\"200200\"" },
        { "local o = { timeout = 5 } depot.http.get(at, o) return o", "{\"timeout\":5}" },
    };
    rig r;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        ok_err(run_as(&r, LOCAL, rows[i][0], 10000), &r.err, rows[i][0]);
        is_str(r.json, rows[i][1], "its result");
        rig_free(&r);
    }
}

static void what_cannot_be_is_told(void)
{
    static const char *const rows[][3] = {
        { "depot.http.get('ftp://a/b')", "INVALID", "not to ftp://" },
        { "depot.http.get('file:///etc/passwd')", "INVALID", "" },
        { "depot.http.get('nothing at all')", "INVALID", "no URL" },
        { "depot.http.get(at, { headers = { ['A\\n'] = '1' } })", "LUA_ERROR", "cannot have" },
        { "depot.http.get(at, { headers = { A = '1\\r\\nB: 2' } })", "LUA_ERROR", "cannot have" },
        { "depot.http.get(at, { headers = { Host = 'x' } })", "LUA_ERROR", "made from the url" },
        { "depot.http.post(at, { body = 'abc', headers = { ['content-length'] = '1' } })", "LUA_ERROR", "Content-Length is made from" },
        { "local v, h = ('x'):rep(1 << 20), {} for i = 1, 9999 do h['A' .. i] = v end depot.http.get(at, { headers = h })", "LUA_ERROR", "larger than 64 KiB" },
        { "depot.http.get(at, { metod = 'x' })", "LUA_ERROR", "no option 'metod' (did you mean method?)" },
        { "depot.http.request { url = at, method = 'a b' }", "LUA_ERROR", "capital letters" },
        { "depot.http.post(at, { body = 'a', json = 1 })", "LUA_ERROR", "two bodies" },
        { "depot.http.get(at .. '/big', { max_body = 99999 })", "PAYLOAD_TOO_LARGE", "larger than 99999 bytes" },
        { "depot.http.get(at .. '/headers')", "PAYLOAD_TOO_LARGE", "or its head than" },
        { "depot.http.get(at .. '/early')", "PAYLOAD_TOO_LARGE", "or its head than" },
        { "depot.http.get(at .. '/wait/5000', { timeout = '100ms' })", "TIMEOUT", "no whole reply" },
        { "depot.http.get(at .. '/wait/5000')", "TIMEOUT", "stopped at its deadline" },
        { "('a'):gsub('.', function() depot.http.get(at .. '/wait/5000', { timeout = 0.1 }) end)", "TIMEOUT", "no whole reply" },
        { "depot.http.get('http://127.0.0.1:1/')", "DEPENDENCY_DOWN", "http://127.0.0.1:1: " },
    };
    rig r;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        ok(!run_as(&r, LOCAL, rows[i][0], 1000), rows[i][0]);
        is_str(depot_err_id(&r.err), rows[i][1], "code");
        contains(r.err.msg, rows[i][2], "message");
        rig_free(&r);
    }
}

static void nobody_goes_where_it_was_not_granted(void)
{
    static const struct {
        const char *grants, *text, *message;
    } rows[] = {
        { "{}", "depot.http.get(at)", "j was not granted http:127.0.0.1:" },
        { "{\"j\":[\"http:127.0.0.1:1\"]}", "depot.http.get(at)", "j was not granted http:127.0.0.1:" },
        { "{\"j\":[\"http\"]}", "depot.http.get(at)", "leads to 127.0.0.1, an address of this machine" },
        { "{\"j\":[\"http:*\"]}", "depot.http.get('http://localhost:PORT')", "an address of this machine" },
        { "{\"j\":[\"http\"]}", "depot.http.get('http://[::ffff:127.0.0.1]:PORT')", "an address of this machine" },
        { "{\"j\":[\"http\"]}", "depot.http.get('http://[::1]:PORT')", "leads to ::1, an address of this machine" },
        { "{\"j\":[\"http\"]}", "depot.http.get('http://[64:ff9b::a9fe:a9fe]/')", "leads to 64:ff9b::a9fe:a9fe" },
        { "{\"j\":[\"http\"]}", "depot.http.get('http://[2002:a00:1::1]/')", "leads to 2002:a00:1::1" },
        { "{\"j\":[\"http\"]}", "depot.http.get('http://[fec0::1]/')", "leads to fec0::1" },
        { "{\"j\":[\"http\"]}", "depot.http.get('http://0x7f000001:PORT')", "an address of this machine" },
        { "{\"j\":[\"http\"]}", "depot.http.get('http://169.254.169.254/')", "leads to 169.254.169.254" },
        { "{\"j\":[\"http\"]}", "('a'):gsub('.', function() depot.http.get(at) end)", "an address of this machine" },
        { LOCAL, "depot.http.get(at .. '/to/302/http://localhost:PORT/x', { redirects = 3 })", "redirect of http://127.0.0.1" },
        { LOCAL, "depot.http.get(at .. '/to/302/http://169.254.169.254/x', { redirects = 3 })", "j was not granted http:169.254.169.254:80" },
    };
    rig r;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        ok(!run_as(&r, rows[i].grants, rows[i].text, 3000), rows[i].text);
        is_str(depot_err_id(&r.err), "CAPABILITY", "CAPABILITY");
        contains(r.err.msg, with_port(arena, rows[i].message), "says where to");
        rig_free(&r);
    }
}

static void redirects_are_followed_when_asked(void)
{
    static const char *const rows[][2] = {
        { "local r = depot.http.get(at .. '/to/302/x') return { r.status, r.headers.location }", "[302,\"x\"]" },
        { "return depot.http.get(at .. '/to/301//y', { redirects = 1 }).body:match('^%S+ %S+')", "\"GET /y\"" },
        { "local r = depot.http.post(at .. '/to/303//y', { body = 'b', redirects = 1 }) return { r.body:match('^%u+'), r.body:find('Content%-Type') == nil }",
          "[\"GET\",true]" },
        { "return depot.http.post(at .. '/to/307//y', { body = 'b', redirects = 1 }).body:match('^(%u+).*(b)$')", "\"POST\"" },
        { "local v, e = depot.try(depot.http.get, at .. '/to/302//to/302//to/302//x', { redirects = 2 }) return e.code", "\"LIMIT\"" },
        { "local r = depot.http.get(at .. '/to/302/http://localhost:PORT/z', { redirects = 1, headers = { Authorization = 's', ['X-Api-Key'] = 'k', Accept = 'text/x' } }) "
          "return { r.body:find('Authorization') == nil, r.body:find('X-Api-Key') == nil, r.body:find('Accept: text/x', 1, true) ~= nil }", "[true,true,true]" },
        { "local r = depot.http.get(at .. '/to/302//z', { redirects = 1, headers = { Authorization = 's' } }) return r.body:find('Authorization: s') ~= nil", "true" },
    };
    rig r;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        ok_err(run_as(&r, "{\"j\":[\"http:127.0.0.1\",\"http:localhost\"]}", rows[i][0], 10000), &r.err, rows[i][0]);
        is_str(r.json, rows[i][1], "its result");
        rig_free(&r);
    }
}

/* Nobody else of the worker would run while the loop waits for the thread that looks it up. */
static void a_name_that_is_looked_up_for_long_holds_up_nobody(void)
{
    static const char *const rows[] = { "depot.http.get('http://slow.example/', { timeout = '100ms' })", "depot.http.get('http://slow.example/')" };
    rig r;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        int64_t began = depot_now_ms();
        ok(!run_as(&r, "{\"j\":[\"http\"]}", rows[i], 500), rows[i]);
        is_str(depot_err_id(&r.err), "TIMEOUT", "it ends at its deadline");
        rig_free(&r);
        ok(depot_now_ms() - began < LOOKUP_S * 1000, "and not with the look-up");
    }
}

static void look_ups_that_were_cut_off_are_bounded(void)
{
    rig r;

    atomic_store(&lookups, 0);
    ok_err(run_as(&r, "{\"j\":[\"http\"]}",
                  "local n = 0 for i = 1, 80 do local v, e = depot.try(depot.http.get, 'http://slow.example/', { timeout = '5ms' }) "
                  "n = n + (e.code == 'TIMEOUT' and 1 or 0) end return n", 20000), &r.err, "many requests give up on their look-up");
    is_str(r.json, "80", "each at its deadline");
    is_int(atomic_load(&lookups), LOOKUPS_MAX, "no more of them are begun than may be under way");
    rig_free(&r);
}

static void thousands_wait_together(void)
{
    enum { MANY = 1000 };
    struct rlimit files;
    int64_t       began = depot_now_ms();
    rig           r;

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    rig_init(&r);
    rig_file(&r, "handlers/x.lua",
             with_port(r.arena, "depot.job('j') { needs = { 'http' }, run = function(job) return depot.http.get('http://127.0.0.1:PORT/wait/1000').status end }"));
    ok(rig_start(&r, &(rig_options){ .grants = LOCAL, .memory_max = 64 << 20 }), "it loads");
    for (uint64_t i = 1; i <= MANY; i++) {
        if (!rig_begin(&r, i, RUN_HANDLER, "j", "{}", 60000)) {
            ok(false, r.err.msg);
        }
    }
    while (r.ended < MANY / 2 && depot_now_ms() - began < 30000) {
        uv_run(&r.loop, UV_RUN_ONCE);
    }
    for (uint64_t i = 1; i <= MANY; i++) {
        engine_cancel(r.engine, i); /* whoever is left */
    }
    rig_drain(&r);
    is_int(r.ended, MANY, "all end");
    ok(depot_now_ms() - began < 55000, "together");
    rig_free(&r);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* as in a worker */
    server_start();
    run(requests_are_sent_and_replies_taken);
    run(what_cannot_be_is_told);
    run(nobody_goes_where_it_was_not_granted);
    run(redirects_are_followed_when_asked);
    run(a_name_that_is_looked_up_for_long_holds_up_nobody);
    run(look_ups_that_were_cut_off_are_bounded);
    run(thousands_wait_together);
    uv_async_send(&stop);
    pthread_join(thread, NULL);
    return done();
}
