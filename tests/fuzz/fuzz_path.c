/* fuzz_path.c - any bytes as a request target: what is accepted is UTF-8 without control characters in the path and does
 * not climb, and finds at most a route whose template it fits. */
#include <stdlib.h>
#include <string.h>

#include "api/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const depot_field fields[] = {
    { .name = "a", .type = DEPOT_T_STRING }, { .name = "b", .type = DEPOT_T_STRING }, { .name = NULL }
};
static const depot_route routes[] = {
    { .method = "GET", .path = "/" },
    { .method = "GET", .path = "/x" },
    { .method = "GET", .path = "/x/{a}", .request = fields },
    { .method = "PUT", .path = "/x/y", .listen = "admin" },
    { .method = "GET", .path = "/x/{a}/z/{b}", .request = fields },
    { .method = "GET", .path = "/x/y/z/w" },
    { .method = "GET", .path = "/{a}/{b}/y", .request = fields },
};

static void must(bool good)
{
    if (!good) {
        abort();
    }
}

static void check_segment(const char *text)
{
    must(depot_utf8_valid(text, strlen(text)));
    must(strcmp(text, ".") != 0 && strcmp(text, "..") != 0);
    must(strncmp(text, "../", 3) != 0 && strstr(text, "/../") == NULL);
    for (; *text != '\0'; text++) {
        must((unsigned char)*text >= 0x20 && *text != 0x7f);
    }
}

/* The template with the values in place of the names is the path again. */
static void check_match(const req_target *t, const route_match *m)
{
    const char *s = m->entry->route->path;
    size_t      n = 0, value = 0;

    for (; *s == '/' && s[1] != '\0'; n++) {
        size_t length = strcspn(++s, "/");
        must(n < t->n_segments);
        if (*s == '{') {
            must(value < m->n_params && strcmp(m->values[value], t->segments[n]) == 0 && t->segments[n][0] != '\0');
            value++;
        } else {
            must(strlen(t->segments[n]) == length && memcmp(s, t->segments[n], length) == 0);
        }
        s += length;
    }
    must(n == t->n_segments && value == m->n_params);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const methods[] = { "GET", "PUT", "HEAD", "ODD" };
    static const char *const listens[] = { "api", "admin", "control" };
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_ctx                                 ctx = { .name = "fuzz" };
    route_index                              *index = route_index_new(arena);
    req_target                                t;
    route_match                               m;
    depot_err                                 err = { 0 };

    for (size_t i = 0; i < DEPOT_N(routes); i++) {
        must(route_index_add(index, &routes[i], &ctx, &err));
    }
    if (!target_parse(arena, (const char *)data, size, &t, &err)) {
        must(err.msg[0] != '\0' && (err.code == DEPOT_E_MALFORMED || err.code == DEPOT_E_TOO_LARGE));
        return 0;
    }
    must(t.n_segments <= TARGET_SEGMENTS && t.n_params <= TARGET_PARAMS && t.path[0] == '/');
    for (size_t i = 0; i < t.n_segments; i++) {
        check_segment(t.segments[i]);
    }
    for (size_t i = 0; i < t.n_params; i++) {
        must(depot_utf8_valid(t.params[i].name, strlen(t.params[i].name)));
        must(depot_utf8_valid(t.params[i].value, strlen(t.params[i].value)));
    }
    for (size_t i = 0; i < DEPOT_N(methods) * DEPOT_N(listens); i++) {
        route_find(index, methods[i % DEPOT_N(methods)], &t, listens[i / DEPOT_N(methods)], false, &m);
        if (m.entry != NULL) {
            check_match(&t, &m);
        }
    }
    return 0;
}
