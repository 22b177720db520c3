/* args.c - a request's path, query and body become one object, checked against its route's fields. */
#include <string.h>

#include "api/fields.h"
#include "api/internal.h"

typedef struct source {
    const route_match *match;
    bool               all_query; /* a method without a body: what is not in the path is in the query */
} source;

static const char *path_value(const route_match *match, const char *name)
{
    for (size_t i = 0; i < match->n_params; i++) {
        if (strcmp(match->names[i], name) == 0) {
            return match->values[i];
        }
    }
    return NULL;
}

static bool is_query(const depot_field *f, const void *arg)
{
    const source *s = arg;

    return path_value(s->match, f->name) == NULL && (s->all_query || (f->flags & DEPOT_IN_QUERY));
}

static bool is_body(const depot_field *f, const void *arg)
{
    const source *s = arg;

    return path_value(s->match, f->name) == NULL && !is_query(f, s);
}

static const depot_field *find(const depot_field *fields, const char *name)
{
    for (; fields->name != NULL; fields++) {
        if (strcmp(fields->name, name) == 0) {
            return fields;
        }
    }
    return NULL;
}

/* A list may be given once with commas or once per item; everything else only once. */
static depot_json *query_value(faults *fs, const req_target *t, const depot_field *f, const char *pointer)
{
    const char *text = NULL;
    size_t      n = 0;

    for (size_t i = 0; i < t->n_params; i++) {
        if (strcmp(t->params[i].name, f->name) == 0) {
            text = n++ == 0 ? t->params[i].value : depot_strf(fs->arena, "%s,%s", text, t->params[i].value);
        }
    }
    if (n == 0) {
        return field_default(fs, f, pointer);
    }
    if (n > 1 && f->type != DEPOT_T_LIST) {
        faults_add(fs, pointer, "is given %zu times", n);
        return NULL;
    }
    return field_from_text(fs, f, text, pointer);
}

static bool parse_body(depot_req *req, const depot_json **out, depot_err *err)
{
    *out = NULL;
    if (req->body.len == 0) {
        return true;
    }
    *out = depot_json_parse(req->arena, req->body.data, req->body.len, err);
    depot_buf_free(&req->body);
    return *out != NULL || depot_wrap(err, "the body is not JSON");
}

/* A name that was given in a place where it has no meaning. */
static void refuse(faults *fs, const depot_req *req, const source *from, const char *name, bool in_query)
{
    static const depot_field none[] = { { 0 } };
    const depot_field       *fields = req->match.entry->route->request == NULL ? none : req->match.entry->route->request;
    const depot_field       *f = find(fields, name);
    const char              *pointer = field_pointer(fs->arena, "", name);

    if (f != NULL && (in_query ? is_query(f, from) : is_body(f, from))) {
        return;
    }
    if (f == NULL) {
        field_unknown(fs, fields, in_query ? is_query : is_body, from, name, pointer);
    } else {
        faults_add(fs, pointer, "belongs into the %s",
                   path_value(from->match, name) != NULL ? "path" : is_query(f, from) ? "query" : "body");
    }
}

static void refuse_unknown(faults *fs, const depot_req *req, const source *from, const depot_json *body)
{
    size_t            it = 0;
    const char       *name;
    const depot_json *value;

    for (size_t i = 0; i < req->target.n_params; i++) {
        refuse(fs, req, from, req->target.params[i].name, true);
    }
    while (body != NULL && depot_json_next(body, &it, &name, &value)) {
        refuse(fs, req, from, name, false);
    }
}

bool req_build_args(depot_req *req, depot_json **out_faults, depot_err *err)
{
    const depot_route *route = req->match.entry->route;
    faults             fs = { .arena = req->arena };
    source             from = { &req->match, strcmp(route->method, "GET") == 0 };
    const depot_json  *body;

    req->args = depot_json_object(req->arena);
    *out_faults = NULL;
    if (!parse_body(req, &body, err)) {
        return false;
    }
    if (body != NULL && depot_json_typeof(body) != DEPOT_JSON_OBJECT) {
        faults_add(&fs, "", "the body must be an object");
        body = NULL;
    }
    for (const depot_field *f = route->request; f != NULL && f->name != NULL; f++) {
        const char       *pointer = field_pointer(req->arena, "", f->name);
        const char       *in_path = path_value(&req->match, f->name);
        const depot_json *given = is_body(f, &from) && body != NULL ? depot_json_get(body, f->name) : NULL;
        depot_json       *value;
        if (in_path != NULL) {
            value = field_from_text(&fs, f, in_path, pointer);
        } else if (is_query(f, &from)) {
            value = query_value(&fs, &req->target, f, pointer);
        } else {
            value = given != NULL ? field_from_json(&fs, f, given, pointer) : field_default(&fs, f, pointer);
        }
        if (value != NULL) {
            depot_json_set(req->args, f->name, value);
        }
    }
    refuse_unknown(&fs, req, &from, body);
    *out_faults = fs.list;
    return faults_check(&fs, err);
}
