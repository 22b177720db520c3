/* openapi.c - the OpenAPI 3.1 document, made from the tables of all plugins. Paths that differ by listener only are one
 * operation here, told apart in its description. */
#include <ctype.h>
#include <string.h>

#include "api/internal.h"
#include "api/schema.h"

static bool is_in_path(const depot_field *f, const void *arg)
{
    const depot_route *route = arg;
    size_t             n = strlen(f->name);

    for (const char *s = strchr(route->path, '{'); s != NULL; s = strchr(s + 1, '{')) {
        if (strncmp(s + 1, f->name, n) == 0 && s[n + 1] == '}') {
            return true;
        }
    }
    return false;
}

static bool is_in_query(const depot_field *f, const void *arg)
{
    const depot_route *route = arg;

    return !is_in_path(f, route) && ((f->flags & DEPOT_IN_QUERY) || strcmp(route->method, "GET") == 0);
}

static bool is_in_body(const depot_field *f, const void *arg)
{
    return !is_in_path(f, arg) && !is_in_query(f, arg);
}

static size_t count(const depot_route *route, bool (*wanted)(const depot_field *f, const void *arg))
{
    size_t n = 0;

    for (const depot_field *f = route->request; f != NULL && f->name != NULL; f++) {
        n += wanted(f, route) ? 1 : 0;
    }
    return n;
}

static depot_json *parameters(depot_arena *arena, const depot_route *route)
{
    depot_json *list = depot_json_array(arena);

    for (const depot_field *f = route->request; f != NULL && f->name != NULL; f++) {
        bool in_path = is_in_path(f, route);
        if (!in_path && !is_in_query(f, route)) {
            continue;
        }
        depot_json *row = depot_json_pack(arena, "{s:s, s:s, s:b, s:o}", "name", f->name, "in", in_path ? "path" : "query",
                                          "required", in_path || (f->flags & DEPOT_REQUIRED) ? 1 : 0, "schema",
                                          schema_of_field(arena, f));
        if (f->doc != NULL) {
            depot_json_set(row, "description", depot_json_str(arena, f->doc));
        }
        depot_json_add(list, row);
    }
    return list;
}

static depot_json *request_body(depot_arena *arena, const depot_route *route)
{
    bool needed = false;

    if (route->flags & DEPOT_ROUTE_UPLOAD) {
        return depot_json_pack(arena, "{s:b, s:{s:{}}}", "required", 1, "content", "application/octet-stream");
    }
    if (strcmp(route->method, "GET") == 0 || count(route, is_in_body) == 0) {
        return NULL;
    }
    for (const depot_field *f = route->request; f->name != NULL; f++) {
        needed = needed || (is_in_body(f, route) && (f->flags & DEPOT_REQUIRED));
    }
    return depot_json_pack(arena, "{s:b, s:{s:{s:o}}}", "required", needed ? 1 : 0, "content", "application/json", "schema",
                           schema_of_object(arena, route->request, is_in_body, route, true));
}

static depot_json *responses(depot_arena *arena, const depot_route *route)
{
    depot_json *ok = depot_json_pack(arena, "{s:s}", "description", "done");

    if (route->reply != NULL) {
        depot_json *schema = schema_of_object(arena, route->reply, NULL, NULL, false);
        if (route->flags & DEPOT_ROUTE_LIST) {
            schema = depot_json_pack(arena, "{s:s, s:o}", "type", "array", "items", schema);
        }
        depot_json_set(ok, "content", depot_json_pack(arena, "{s:{s:o}}", "application/json", "schema", schema));
    }
    return depot_json_pack(arena, "{s:o, s:{s:s}}", "2XX", ok, "default", "$ref", "#/components/responses/problem");
}

/* "get /v1/tokens/{id}" becomes get_v1_tokens_id: unique, as the pair is. */
static const char *operation_id(depot_arena *arena, const depot_route *route)
{
    char *id = depot_strf(arena, "%s%s", route->method, route->path);
    char *to = id;

    for (const char *s = id; *s != '\0'; s++) {
        if (isalnum((unsigned char)*s)) {
            *to++ = (char)tolower((unsigned char)*s);
        } else if (*s != '}') {
            *to++ = '_';
        }
    }
    *to = '\0';
    return id;
}

static const char *role_name(depot_role role)
{
    static const char *const names[] = { "anyone", "viewer", "operator", "admin" };

    return names[role];
}

static depot_json *operation(depot_arena *arena, const route_entry *entry)
{
    const depot_route *route = entry->route;
    depot_json        *op = depot_json_pack(arena, "{s:s, s:[s], s:s, s:o}", "operationId", operation_id(arena, route), "tags",
                                            entry->ctx->name, "x-depot-role", role_name(route->role), "responses",
                                            responses(arena, route));
    depot_json        *body = request_body(arena, route);
    depot_json        *params = parameters(arena, route);

    if (route->doc != NULL) {
        depot_json_set(op, "summary", depot_json_str(arena, route->doc));
    }
    if (depot_json_len(params) > 0) {
        depot_json_set(op, "parameters", params);
    }
    if (body != NULL) {
        depot_json_set(op, "requestBody", body);
    }
    if (route->cli != NULL) {
        depot_json_set(op, "x-depot-cli", depot_json_str(arena, route->cli));
    }
    if (route->listen != NULL) {
        depot_json_set(op, "x-depot-listen", depot_json_str(arena, route->listen));
    }
    if (route->role == DEPOT_ANYONE) {
        depot_json_set(op, "security", depot_json_array(arena));
    }
    return op;
}

static bool same_path(const route_index *routes, size_t i, size_t j)
{
    return strcmp(route_at(routes, i)->route->path, route_at(routes, j)->route->path) == 0;
}

/* Everything on the path of the i-th route; the first of several rows for one method is described. */
static depot_json *path_item(depot_arena *arena, const route_index *routes, size_t i)
{
    depot_json *item = depot_json_object(arena);

    for (size_t j = i; j < route_count(routes); j++) {
        const route_entry *entry = route_at(routes, j);
        char              *method = depot_strdup(arena, entry->route->method);
        for (char *c = method; *c != '\0'; c++) {
            *c = (char)tolower((unsigned char)*c);
        }
        if (same_path(routes, i, j) && depot_json_get(item, method) == NULL) {
            depot_json_set(item, method, operation(arena, entry));
        }
    }
    return item;
}

static depot_json *all_paths(depot_arena *arena, const route_index *routes)
{
    depot_json *paths = depot_json_object(arena);

    for (size_t i = 0; i < route_count(routes); i++) {
        const char *path = route_at(routes, i)->route->path;
        if (depot_json_get(paths, path) == NULL) {
            depot_json_set(paths, path, path_item(arena, routes, i));
        }
    }
    return paths;
}

static const depot_field problem_fields[] = {
    { .name = "type", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "URN of the error" },
    { .name = "title", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "what this error means" },
    { .name = "status", .type = DEPOT_T_INT, .flags = DEPOT_REQUIRED, .doc = "HTTP status" },
    { .name = "detail", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "what failed this time" },
    { .name = "instance", .type = DEPOT_T_STRING, .doc = "URN of the request" },
    { .name = "code", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "stable id of the error" },
    { .name = "hint", .type = DEPOT_T_STRING, .doc = "what to do about it" },
    { .name = "retry", .type = DEPOT_T_ENUM, .flags = DEPOT_REQUIRED,
      .choices = (const char *const[]){ "no", "safe", "uncertain", NULL },
      .doc = "no: the same request fails again; safe: it had no effect; uncertain: a write may have happened" },
    { .name = "request_id", .type = DEPOT_T_STRING, .doc = "also in the log" },
    { .name = "fields", .type = DEPOT_T_ARRAY, .doc = "what is wrong with which field",
      .fields = (const depot_field[]){ { .name = "fault", .type = DEPOT_T_OBJECT,
        .fields = (const depot_field[]){
            { .name = "pointer", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "JSON pointer (RFC 6901)" },
            { .name = "message", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "what is wrong" },
            { .name = NULL } } } } },
    { .name = "problems", .type = DEPOT_T_ARRAY, .doc = "what is wrong with the configuration, each as FILE:LINE: error: TEXT",
      .fields = (const depot_field[]){ { .name = "problem", .type = DEPOT_T_STRING, .doc = "a hint may be its second line" } } },
    { .name = NULL },
};

static depot_json *components(depot_arena *arena)
{
    depot_json *content = depot_json_pack(arena, "{s:{s:{s:s}}}", "application/problem+json", "schema", "$ref",
                                          "#/components/schemas/Problem");
    depot_json *problem = depot_json_pack(arena, "{s:s, s:o}", "description", "the request failed", "content", content);
    depot_json *schemes = depot_json_pack(arena, "{s:{s:s, s:s}, s:{s:s, s:s, s:s}}", "bearer", "type", "http", "scheme", "bearer",
                                          "key", "type", "apiKey", "in", "header", "name", "x-api-key");

    return depot_json_pack(arena, "{s:{s:o}, s:{s:o}, s:o}", "schemas", "Problem",
                           schema_of_object(arena, problem_fields, NULL, NULL, false), "responses", "problem", problem,
                           "securitySchemes", schemes);
}

depot_json *api_openapi(depot_arena *arena)
{
    const char *version = api_self->core->desc.version;

    return depot_json_pack(arena, "{s:s, s:{s:s, s:s, s:s}, s:[{s:[]}, {s:[]}], s:o, s:o}", "openapi", "3.1.0", "info", "title",
                           "depotd", "version", version == NULL ? "0" : version, "description",
                           "Operations of PostgreSQL and an asset depot. Errors are RFC 9457 problem documents.", "security",
                           "bearer", "key", "paths", all_paths(arena, api_self->routes), "components", components(arena));
}
