/* route.c - the route index: a tree of path segments whose nodes hold the entries that end there. */
#include <stdio.h>
#include <string.h>

#include "api/route.h"

typedef struct node {
    const char  *literal; /* NULL: stands for any segment that is not empty */
    struct node *child, *sibling;
    route_entry *entries;
} node;

struct route_index {
    depot_arena  *arena;
    node          root;
    route_entry **all;
    size_t        n, cap;
};

route_index *route_index_new(depot_arena *arena)
{
    route_index *index = depot_alloc(arena, sizeof(*index));

    index->arena = arena;
    return index;
}

/* Literals stand in front of the one node for a name, so that they are tried first. */
static node *child_of(depot_arena *arena, node *parent, const char *segment, size_t n)
{
    bool   is_name = segment[0] == '{';
    node **place = &parent->child;

    for (; *place != NULL; place = &(*place)->sibling) {
        const char *literal = (*place)->literal;
        if (literal == NULL ? is_name : !is_name && strlen(literal) == n && memcmp(literal, segment, n) == 0) {
            return *place;
        }
        if (literal == NULL) {
            break;
        }
    }
    node *made = depot_alloc(arena, sizeof(*made));
    made->literal = is_name ? NULL : depot_strndup(arena, segment, n);
    made->sibling = *place;
    *place = made;
    return made;
}

static bool has_field(const depot_field *fields, const char *name, size_t n)
{
    for (; fields != NULL && fields->name != NULL; fields++) {
        if (strlen(fields->name) == n && memcmp(fields->name, name, n) == 0) {
            return true;
        }
    }
    return false;
}

static bool check_segment(const depot_route *route, const char *segment, size_t n, depot_err *err)
{
    if (n == 0) {
        return DEPOT_FAIL(err, PLUGIN, "an empty segment");
    }
    if (segment[0] != '{') {
        return memchr(segment, '}', n) == NULL || DEPOT_FAIL(err, PLUGIN, "a } without {");
    }
    if (n < 3 || segment[n - 1] != '}') {
        return DEPOT_FAIL(err, PLUGIN, "a name must fill its segment as {name}");
    }
    if (!has_field(route->request, segment + 1, n - 2)) {
        return DEPOT_FAIL(err, PLUGIN, "%.*s is not among its request fields", (int)n, segment);
    }
    return true;
}

static bool overlaps(const depot_route *a, const depot_route *b)
{
    return strcmp(a->method, b->method) == 0 && ((a->flags ^ b->flags) & DEPOT_ROUTE_JSON) == 0 &&
           (a->listen == NULL || b->listen == NULL || strcmp(a->listen, b->listen) == 0);
}

/* The node at which the template ends, made as needed. */
static bool place_of(route_index *index, const depot_route *route, node **out, depot_err *err)
{
    node       *at = &index->root;
    const char *s = route->path;
    size_t      names = 0;

    if (s == NULL || s[0] != '/') {
        return DEPOT_FAIL(err, PLUGIN, "it does not start with a slash");
    }
    s = s[1] == '\0' ? NULL : s;
    for (size_t segments = 1; s != NULL; segments++) {
        const char *slash = strchr(++s, '/');
        size_t      n = slash == NULL ? strlen(s) : (size_t)(slash - s);
        if (!check_segment(route, s, n, err)) {
            return false;
        }
        names += s[0] == '{' ? 1 : 0;
        if (names > ROUTE_PARAMS || segments > TARGET_SEGMENTS) {
            return DEPOT_FAIL(err, PLUGIN, "it has too many segments");
        }
        at = child_of(index->arena, at, s, n);
        s = slash;
    }
    *out = at;
    return true;
}

bool route_index_add(route_index *index, const depot_route *route, depot_ctx *ctx, depot_err *err)
{
    node *at = NULL;

    if (!place_of(index, route, &at, err)) {
        return depot_wrap(err, "plugin %s: route %s %s", ctx->name, route->method, route->path);
    }
    route_entry **last = &at->entries;
    for (; *last != NULL; last = &(*last)->next) {
        if (overlaps((*last)->route, route)) {
            return DEPOT_FAIL(err, CONFLICT, "plugins %s and %s both answer %s %s", (*last)->ctx->name, ctx->name,
                              route->method, route->path);
        }
    }
    route_entry *entry = depot_alloc(index->arena, sizeof(*entry));
    entry->route = route;
    entry->ctx = ctx;
    *last = entry;
    if (index->n == index->cap) {
        size_t        cap = index->cap == 0 ? 64 : 2 * index->cap;
        route_entry **all = depot_alloc(index->arena, cap * sizeof(route_entry *));
        if (index->n > 0) {
            memcpy(all, index->all, index->n * sizeof(route_entry *));
        }
        index->all = all;
        index->cap = cap;
    }
    index->all[index->n++] = entry;
    return true;
}

typedef struct finder {
    const req_target *target;
    const char   *method, *listen;
    bool          text; /* is asked for */
    const char   *values[ROUTE_PARAMS];
    size_t        n_values;
    route_match  *match;
} finder;

static void allow(char *list, size_t size, const char *method)
{
    const char *at = strstr(list, method);
    size_t      n = strlen(method), used = strlen(list);

    while (at != NULL && ((at != list && at[-1] != ' ') || (at[n] != '\0' && at[n] != ','))) {
        at = strstr(at + 1, method);
    }
    if (at == NULL && used + n + 3 < size) {
        snprintf(list + used, size - used, "%s%s", used == 0 ? "" : ", ", method);
    }
}

/* Names and values of the path's parameters, for the entry that was found. */
static void fill_params(finder *f, const depot_route *route)
{
    static const char *const none = "";
    const char              *s = route->path;
    size_t                   n = 0;

    f->match->n_params = 0;
    while (n < f->n_values && (s = strchr(s, '{')) != NULL) {
        s++;
        f->match->names[n] = none;
        for (const depot_field *field = route->request; field->name != NULL; field++) {
            size_t length = strlen(field->name);
            if (strncmp(s, field->name, length) == 0 && s[length] == '}') {
                f->match->names[n] = field->name;
            }
        }
        f->match->values[n] = f->values[n];
        n++;
    }
    f->match->n_params = n;
}

/* Of an entry for the same requests this one goes before. */
static bool is_better(const finder *f, const route_entry *e)
{
    return (e->route->flags & DEPOT_ROUTE_JSON) != 0 && !f->text && e->route->listen != NULL &&
           strcmp(e->route->listen, f->listen) == 0;
}

static bool answers(finder *f, const node *at)
{
    const char        *wanted = f->method;
    bool               head = strcmp(wanted, "HEAD") == 0;
    const route_entry *best = NULL;

    for (const route_entry *e = at->entries; e != NULL; e = e->next) {
        const char *listen = e->route->listen;
        if (listen != NULL && strcmp(listen, f->listen) != 0 && strcmp(f->listen, "control") != 0) {
            continue;
        }
        allow(f->match->allow, sizeof(f->match->allow), e->route->method);
        bool fits = strcmp(e->route->method, wanted) == 0 || (head && strcmp(e->route->method, "GET") == 0);
        if (fits && (best == NULL || is_better(f, e))) {
            best = e;
        }
    }
    if (best != NULL) {
        f->match->entry = best;
        fill_params(f, best->route);
    }
    return best != NULL;
}

/* Goes back and takes a {name} when a literal led nowhere. Depth is bounded by TARGET_SEGMENTS, width by the tables. */
static bool descend(finder *f, const node *at, size_t i)
{
    if (i == f->target->n_segments) {
        return answers(f, at);
    }
    const char *segment = f->target->segments[i];
    for (const node *child = at->child; child != NULL; child = child->sibling) {
        if (child->literal != NULL) {
            if (strcmp(child->literal, segment) == 0 && descend(f, child, i + 1)) {
                return true;
            }
            continue;
        }
        if (segment[0] == '\0' || f->n_values == ROUTE_PARAMS) {
            continue;
        }
        f->values[f->n_values++] = segment;
        if (descend(f, child, i + 1)) {
            return true;
        }
        f->n_values--;
    }
    return false;
}

void route_find(const route_index *index, const char *method, const req_target *t, const char *listen, bool text, route_match *out)
{
    finder f = { .target = t, .method = method, .listen = listen, .text = text, .match = out };

    *out = (route_match){ 0 };
    (void)descend(&f, &index->root, 0); /* out says what was found */
}

size_t route_count(const route_index *index)
{
    return index->n;
}

const route_entry *route_at(const route_index *index, size_t i)
{
    return index->all[i];
}
