/* request.c - spreads the fields of a call over path, query and body, as the route's table says. */
#include <string.h>

#include "ctl/args.h"

static void add_encoded(depot_buf *out, const char *text, bool keep_slash)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (const char *p = text; *p != '\0'; p++) {
        if (strchr(plain, *p) != NULL || (keep_slash && *p == '/')) {
            depot_buf_add(out, p, 1);
        } else {
            depot_buf_addf(out, "%%%02X", (unsigned)(unsigned char)*p);
        }
    }
}

/* A value as path and query carry it. */
static const char *text_of(depot_arena *arena, const depot_json *value)
{
    DEPOT_AUTO(depot_buf_free) depot_buf list = { 0 };

    if (value == NULL) {
        return "";
    }
    if (depot_json_typeof(value) == DEPOT_JSON_STRING) {
        return depot_json_string(value, NULL);
    }
    if (depot_json_typeof(value) != DEPOT_JSON_ARRAY) {
        return depot_json_text(arena, value);
    }
    for (size_t i = 0; i < depot_json_len(value); i++) {
        depot_buf_addf(&list, "%s%s", i == 0 ? "" : ",", text_of(arena, depot_json_at(value, i)));
    }
    return depot_strndup(arena, list.data == NULL ? "" : list.data, list.len);
}

static bool in_path(const char *path, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = strchr(path, '{'); p != NULL; p = strchr(p + 1, '{')) {
        if (strncmp(p + 1, name, n) == 0 && strchr("}*.:", p[1 + n]) != NULL) {
            return true;
        }
    }
    return false;
}

static void add_path(depot_buf *out, depot_arena *arena, const verb_call *call)
{
    const char *p = call->verb->route->path;

    while (*p != '\0') {
        size_t n = strcspn(p, "{");

        depot_buf_add(out, p, n);
        p += n;
        if (*p == '{') {
            size_t      length = strcspn(p + 1, "}*.:");
            const char *name = depot_strndup(arena, p + 1, length);

            /* a parameter that may hold slashes says so behind its name */
            add_encoded(out, text_of(arena, depot_json_get(call->args, name)), p[1 + length] != '}');
            p += strcspn(p, "}");
            p += *p == '}' ? 1 : 0;
        }
    }
}

/* A body of bytes leaves only the query for the fields, and a GET has no body at all. */
static bool in_query(const depot_route *route, const depot_field *field)
{
    return (field->flags & DEPOT_IN_QUERY) != 0 || (route->flags & DEPOT_ROUTE_UPLOAD) != 0 ||
           strcmp(route->method, "GET") == 0 || strcmp(route->method, "HEAD") == 0;
}

static bool is_request_field(const depot_route *route, const char *name)
{
    for (const depot_field *f = route->request; f != NULL && f->name != NULL; f++) {
        if (strcmp(f->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* The body exists, as {}, as soon as the route has a field for it. */
static void add_member(depot_buf *body, const char *name, const depot_json *value)
{
    if (body->len == 0) {
        depot_buf_adds(body, "{");
    }
    if (value != NULL) {
        depot_buf_addf(body, "%s\"%s\":", body->len == 1 ? "" : ",", name);
        depot_json_write(body, value);
    }
}

void args_request(const verb_call *call, depot_arena *arena, ctl_request *out)
{
    DEPOT_AUTO(depot_buf_free) depot_buf target = { 0 };
    const depot_route                   *route = call->verb->route;
    DEPOT_AUTO(depot_buf_free) depot_buf body = { 0 };
    const char                          *separator = "?";

    add_path(&target, arena, call);
    for (size_t i = 0; i < call->verb->n_fields; i++) {
        const depot_field *field = &call->verb->fields[i];
        const depot_json  *value = depot_json_get(call->args, field->name);

        if (in_path(route->path, field->name) || !is_request_field(route, field->name)) {
            continue; /* the latter are depotctl's own */
        }
        if (!in_query(route, field)) {
            add_member(&body, field->name, value);
            continue;
        }
        if (value == NULL) {
            continue;
        }
        depot_buf_addf(&target, "%s%s=", separator, field->name);
        add_encoded(&target, text_of(arena, value), false);
        separator = "&";
    }
    if (body.len > 0) {
        depot_buf_adds(&body, "}");
    }
    *out = (ctl_request){
        .method = route->method,
        .target = depot_strndup(arena, target.data, target.len),
        .body = body.len == 0 ? NULL : depot_strndup(arena, body.data, body.len),
        .file = call->file,
        .output = call->output,
        .is_long = (route->flags & DEPOT_ROUTE_LONG) != 0,
    };
}
