/* Request targets and the route index: what is decoded, what is refused, which route answers. */
#include <stdio.h>
#include <string.h>

#include "api/route.h"
#include "tap.h"

static depot_arena *arena;

static bool parse(const char *text, req_target *out, depot_err *err)
{
    return target_parse(arena, text, strlen(text), out, err);
}

/* "a|b" of the segments, then "?n=v&..." of the parameters, as they were decoded. */
static const char *shown(const char *text)
{
    depot_buf  buf = { 0 };
    req_target t;
    depot_err  err = { 0 };

    if (!parse(text, &t, &err)) {
        return depot_err_id(&err);
    }
    depot_buf_adds(&buf, "");
    for (size_t i = 0; i < t.n_segments; i++) {
        depot_buf_addf(&buf, "%s%s", i == 0 ? "" : "|", t.segments[i]);
    }
    for (size_t i = 0; i < t.n_params; i++) {
        depot_buf_addf(&buf, "%s%s=%s", i == 0 ? "?" : "&", t.params[i].name, t.params[i].value);
    }
    const char *result = depot_strdup(arena, buf.data == NULL ? "" : buf.data);
    depot_buf_free(&buf);
    return result;
}

static void targets_are_decoded(void)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        { "/", "" },
        { "/a", "a" },
        { "/a/b%20c", "a|b c" },
        { "/a%2Fb/c", "a/b|c" },
        { "/a/", "a|" },
        { "//a", "|a" },
        { "/%C3%A4", "\xc3\xa4" },
        { "/a+b", "a+b" },
        { "/a?x=1&y=a+b&z", "a?x=1&y=a b&z=" },
        { "/a?x=%26%3D", "a?x=&=" },
        { "/a?", "a" },
        { "/a?&&x=1&", "a?x=1" },
        { "/a?x=/../b", "a?x=/../b" },
        { "/a?x=1%0A2", "a?x=1\n2" },
        { "http://host:80/a/b?c", "a|b?c=" },
        { "/..a/...", "..a|..." },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        is_str(shown(rows[i].text), rows[i].want, rows[i].text);
    }
}

static void what_may_mean_two_things_is_refused(void)
{
    static const char *const rows[] = {
        "",        "a",         "*",          "/a b",      "/a\x01",     "/a\x7f",    "/\xc3\xa4", "/%",       "/%2",
        "/%zz",    "/%00",      "/a%00b",     "/%0a",      "/%7f",       "/%ff",      "/%c3",      "/%ed%a0%80", "/a/../b",
        "/..",     "/a/.",      "/%2e%2e/a",  "/a%2f..",   "/..%2Fa",    "/a/%2e",    "/a#b",      "/a\\b",    "/a?x=%00",
        "/a?x=%ff", "/a?%",      "http://host", "/a?x={}",   "/\"a\"",
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        is_str(shown(rows[i]), "MALFORMED", rows[i]);
    }
}

static void sizes_are_bounded(void)
{
    depot_buf  buf = { 0 };
    req_target t;
    depot_err  err = { 0 };

    for (int i = 0; i < TARGET_SEGMENTS + 1; i++) {
        depot_buf_adds(&buf, "/a");
    }
    is_str(shown(buf.data), "MALFORMED", "too many segments");
    depot_buf_reset(&buf);
    depot_buf_adds(&buf, "/?");
    for (int i = 0; i < TARGET_PARAMS + 1; i++) {
        depot_buf_adds(&buf, "a&");
    }
    is_str(shown(buf.data), "MALFORMED", "too many parameters");
    depot_buf_reset(&buf);
    while (buf.len <= TARGET_MAX) {
        depot_buf_adds(&buf, "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    }
    ok(!target_parse(arena, buf.data, buf.len, &t, &err) && err.code == DEPOT_E_TOO_LARGE, "too long");
    depot_buf_free(&buf);
    ok(!target_parse(arena, "/a\0b", 4, &t, &err), "a raw NUL");
}

/* ---- the index ---- */

static depot_ctx one = { .name = "one" }, two = { .name = "two" };

static const depot_field by_id[] = { { .name = "id", .type = DEPOT_T_STRING }, { .name = "key", .type = DEPOT_T_STRING }, { .name = NULL } };

static const depot_route routes[] = {
    { .method = "GET", .path = "/" },
    { .method = "GET", .path = "/jobs" },
    { .method = "POST", .path = "/jobs" },
    { .method = "GET", .path = "/jobs/{id}", .request = by_id },
    { .method = "DELETE", .path = "/jobs/{id}", .request = by_id },
    { .method = "GET", .path = "/jobs/stats" },
    { .method = "GET", .path = "/jobs/{id}/replay/{key}", .request = by_id },
    { .method = "GET", .path = "/jobs/stats/all" },
    { .method = "GET", .path = "/health", .listen = "api", .doc = "api's" },
    { .method = "GET", .path = "/health", .listen = "admin", .doc = "admin's" },
    { .method = "GET", .path = "/queue", .listen = "admin" },
};

static route_index *index_of_routes(void)
{
    route_index *index = route_index_new(arena);
    depot_err    err = { 0 };

    for (size_t i = 0; i < DEPOT_N(routes); i++) {
        ok_err(route_index_add(index, &routes[i], &one, &err), &err, routes[i].path);
    }
    return index;
}

/* "METHOD template name=value", or the allowed methods in brackets, or "none". */
static const char *found(const route_index *index, const char *method, const char *path, const char *listen)
{
    req_target  t;
    route_match m;
    depot_err   err = { 0 };

    if (!parse(path, &t, &err)) {
        return depot_err_id(&err);
    }
    route_find(index, method, &t, listen, false, &m);
    if (m.entry == NULL) {
        return m.allow[0] == '\0' ? "none" : depot_strf(arena, "[%s]", m.allow);
    }
    char *text = depot_strf(arena, "%s %s", m.entry->route->method, m.entry->route->path);
    for (size_t i = 0; i < m.n_params; i++) {
        text = depot_strf(arena, "%s %s=%s", text, m.names[i], m.values[i]);
    }
    return text;
}

static void routes_are_found(void)
{
    static const struct {
        const char *method, *path, *listen, *want;
    } rows[] = {
        { "GET", "/", "api", "GET /" },
        { "GET", "/jobs", "api", "GET /jobs" },
        { "POST", "/jobs", "admin", "POST /jobs" },
        { "HEAD", "/jobs", "api", "GET /jobs" },
        { "PUT", "/jobs", "api", "[GET, POST]" },
        { "GET", "/jobs/7", "api", "GET /jobs/{id} id=7" },
        { "GET", "/jobs/a%2Fb", "api", "GET /jobs/{id} id=a/b" },
        { "GET", "/jobs/stats", "api", "GET /jobs/stats" },
        { "DELETE", "/jobs/stats", "api", "DELETE /jobs/{id} id=stats" },
        { "PUT", "/jobs/stats", "api", "[GET, DELETE]" },
        { "GET", "/jobs/stats/all", "api", "GET /jobs/stats/all" },
        { "GET", "/jobs/stats/replay/k", "api", "GET /jobs/{id}/replay/{key} id=stats key=k" },
        { "GET", "/jobs/", "api", "none" },
        { "GET", "/jobs//replay/k", "api", "none" },
        { "GET", "/Jobs", "api", "none" },
        { "GET", "/jobs/7/replay", "api", "none" },
        { "get", "/jobs", "api", "[GET, POST]" },
        { "GET", "/queue", "api", "none" },
        { "GET", "/queue", "admin", "GET /queue" },
        { "GET", "/queue", "control", "GET /queue" },
    };
    const route_index *index = index_of_routes();

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        is_str(found(index, rows[i].method, rows[i].path, rows[i].listen), rows[i].want,
               depot_strf(arena, "%s %s on %s", rows[i].method, rows[i].path, rows[i].listen));
    }
}

static void a_listener_gets_its_own_meaning(void)
{
    static const struct {
        const char *listen, *want;
    } rows[] = { { "api", "api's" }, { "admin", "admin's" }, { "control", "api's" } };
    const route_index *index = index_of_routes();
    req_target         t;
    route_match        m;
    depot_err          err = { 0 };

    for (size_t i = 0; i < DEPOT_N(rows) && parse("/health", &t, &err); i++) {
        route_find(index, "GET", &t, rows[i].listen, false, &m);
        is_str(m.entry == NULL ? NULL : m.entry->route->doc, rows[i].want, rows[i].listen);
    }
}

static void json_goes_before_what_else_is_there(void)
{
    static const depot_route table[] = {
        { .method = "GET", .path = "/m", .listen = "api", .doc = "api's" },
        { .method = "GET", .path = "/m", .listen = "admin", .doc = "admin's" },
        { .method = "GET", .path = "/m", .listen = "admin", .flags = DEPOT_ROUTE_JSON, .doc = "json" },
        { .method = "GET", .path = "/alone", .listen = "admin", .flags = DEPOT_ROUTE_JSON, .doc = "json" },
    };
    static const struct {
        const char *method, *path, *listen, *want;
        bool        text;
    } rows[] = {
        { "GET", "/m", "admin", "json", false },  { "HEAD", "/m", "admin", "json", false }, { "GET", "/m", "admin", "admin's", true },
        { "GET", "/m", "api", "api's", false },   { "GET", "/m", "api", "api's", true },    { "GET", "/m", "control", "api's", false },
        { "GET", "/alone", "admin", "json", true },
    };
    depot_ctx    ctx = { .name = "test" }, other = { .name = "other" };
    route_index *index = route_index_new(arena);
    req_target   t;
    route_match  m;
    depot_err    err = { 0 };

    for (size_t i = 0; i < DEPOT_N(table); i++) {
        ok_err(route_index_add(index, &table[i], &ctx, &err), &err, "a row");
    }
    for (size_t i = 0; i < DEPOT_N(rows) && parse(rows[i].path, &t, &err); i++) {
        route_find(index, rows[i].method, &t, rows[i].listen, rows[i].text, &m);
        is_str(m.entry == NULL ? NULL : m.entry->route->doc, rows[i].want,
               depot_strf(arena, "%s %s on %s%s", rows[i].method, rows[i].path, rows[i].listen, rows[i].text ? ", as text" : ""));
    }
    ok(!route_index_add(index, &table[2], &other, &err) && err.code == DEPOT_E_CONFLICT, "a second one is a conflict");
    contains(err.msg, "test and other both answer GET /m", "that names both");
}

static void bad_rows_are_refused(void)
{
    static const struct {
        depot_route route;
        const char *want;
    } rows[] = {
        { { .method = "GET", .path = "jobs" }, "does not start with a slash" },
        { { .method = "GET", .path = NULL }, "does not start with a slash" },
        { { .method = "GET", .path = "/a/" }, "empty segment" },
        { { .method = "GET", .path = "/a//b" }, "empty segment" },
        { { .method = "GET", .path = "/a/{id" }, "fill its segment" },
        { { .method = "GET", .path = "/a/{}" }, "fill its segment" },
        { { .method = "GET", .path = "/a/id}" }, "} without {" },
        { { .method = "GET", .path = "/a/{no}", .request = by_id }, "not among its request fields" },
        { { .method = "GET", .path = "/jobs/{key}", .request = by_id }, "plugins one and two both answer GET /jobs/{key}" },
        { { .method = "GET", .path = "/jobs", .listen = "api" }, "both answer" },
        { { .method = "GET", .path = "/health" }, "both answer" },
    };
    route_index *index = index_of_routes();

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err err = { 0 };
        ok(!route_index_add(index, &rows[i].route, &two, &err), rows[i].want);
        contains(err.msg, rows[i].want, "says so");
    }
}

static void routes_are_listed_in_order(void)
{
    const route_index *index = index_of_routes();

    is_int(route_count(index), DEPOT_N(routes), "all of them");
    is_str(route_at(index, 5)->route->path, "/jobs/stats", "in order");
}

int main(void)
{
    arena = depot_arena_new();
    run(targets_are_decoded);
    run(what_may_mean_two_things_is_refused);
    run(sizes_are_bounded);
    run(routes_are_found);
    run(a_listener_gets_its_own_meaning);
    run(json_goes_before_what_else_is_there);
    run(bad_rows_are_refused);
    run(routes_are_listed_in_order);
    depot_arena_free(arena);
    return done();
}
