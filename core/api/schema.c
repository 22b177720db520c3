/* schema.c - what a row of depot_field accepts, in the words of JSON Schema. */
#include <inttypes.h>
#include <string.h>

#include "api/schema.h"
#include "conf/conf.h"

/* Types whose whole schema is fixed text. */
static const char *const plain[] = {
    [DEPOT_T_BOOL] = "{\"type\": \"boolean\"}",
    [DEPOT_T_LIST] = "{\"type\": \"array\", \"items\": {\"type\": \"string\"}}",
    [DEPOT_T_PATH] = "{\"type\": \"string\", \"minLength\": 1}",
    [DEPOT_T_URL] = "{\"type\": \"string\", \"minLength\": 1}",
    [DEPOT_T_CRON] = "{\"type\": \"string\", \"minLength\": 1, \"examples\": [\"5 3 * * *\", \"@every 5m\"]}",
    [DEPOT_T_REGEX] = "{\"type\": \"string\", \"minLength\": 1}",
    [DEPOT_T_UUID] = "{\"type\": \"string\", \"format\": \"uuid\"}",
    [DEPOT_T_TIME] = "{\"type\": \"string\", \"format\": \"date-time\"}",
    [DEPOT_T_SHA256] = "{\"type\": \"string\", \"pattern\": \"^[0-9a-f]{64}$\"}",
    [DEPOT_T_ANY] = "{}",
};

static depot_json *fixed(depot_arena *arena, const char *text)
{
    depot_err   err = { 0 };
    depot_json *json = depot_json_parse(arena, text, strlen(text), &err);

    return json != NULL ? json : depot_json_object(arena); /* the texts are this file's own */
}

static bool has_range(const depot_field *f)
{
    return f->min != 0 || f->max != 0;
}

static void add_bounds(depot_arena *arena, depot_json *schema, const depot_field *f, const char *low, const char *high)
{
    if (has_range(f)) {
        depot_json_set(schema, low, depot_json_int(arena, f->min));
    }
    if (has_range(f) && f->max >= f->min && f->max != INT64_MAX) {
        depot_json_set(schema, high, depot_json_int(arena, f->max));
    }
}

/* A number, or a text with a unit: limits are only said of the number. */
static depot_json *with_unit(depot_arena *arena, const depot_field *f, const char *unit, const char *example)
{
    depot_json *number = depot_json_pack(arena, "{s:s, s:s}", "type", "integer", "description", unit);

    add_bounds(arena, number, f, "minimum", "maximum");
    return depot_json_pack(arena, "{s:[o, {s:s, s:[s]}]}", "anyOf", number, "type", "string", "examples", example);
}

static depot_json *enumeration(depot_arena *arena, const depot_field *f)
{
    depot_json *names = depot_json_array(arena);

    for (size_t i = 0; f->choices != NULL && f->choices[i] != NULL; i++) {
        depot_json_add(names, depot_json_str(arena, f->choices[i]));
    }
    return depot_json_pack(arena, "{s:s, s:o}", "type", "string", "enum", names);
}

static depot_json *text(depot_arena *arena, const depot_field *f)
{
    depot_json *schema = depot_json_pack(arena, "{s:s}", "type", "string");

    if (f->max > 0) {
        add_bounds(arena, schema, f, "minLength", "maxLength");
    }
    if (f->type == DEPOT_T_SECRET) {
        depot_json_set(schema, "writeOnly", depot_json_bool(arena, true));
    }
    return schema;
}

static depot_json *number(depot_arena *arena, const depot_field *f)
{
    depot_json *schema = depot_json_pack(arena, "{s:s}", "type", f->type == DEPOT_T_INT ? "integer" : "number");

    add_bounds(arena, schema, f, "minimum", "maximum");
    return schema;
}

static depot_json *array(depot_arena *arena, const depot_field *f)
{
    depot_json *schema = depot_json_pack(arena, "{s:s}", "type", "array");

    if (f->fields != NULL) {
        depot_json_set(schema, "items", schema_of_field(arena, f->fields));
    }
    if (f->max > 0) {
        add_bounds(arena, schema, f, "minItems", "maxItems");
    }
    return schema;
}

static depot_json *bare(depot_arena *arena, const depot_field *f)
{
    switch (f->type) {
    case DEPOT_T_STRING:
    case DEPOT_T_SECRET: return text(arena, f);
    case DEPOT_T_INT:
    case DEPOT_T_NUMBER: return number(arena, f);
    case DEPOT_T_SIZE: return with_unit(arena, f, "bytes", "64MiB");
    case DEPOT_T_DURATION: return with_unit(arena, f, "milliseconds", "10s");
    case DEPOT_T_ENUM: return enumeration(arena, f);
    case DEPOT_T_ARRAY: return array(arena, f);
    case DEPOT_T_OBJECT:
        return f->fields == NULL ? depot_json_pack(arena, "{s:s}", "type", "object")
                                 : schema_of_object(arena, f->fields, NULL, NULL, false);
    case DEPOT_T_BOOL:
    case DEPOT_T_LIST:
    case DEPOT_T_PATH:
    case DEPOT_T_URL:
    case DEPOT_T_CRON:
    case DEPOT_T_REGEX:
    case DEPOT_T_UUID:
    case DEPOT_T_TIME:
    case DEPOT_T_SHA256:
    case DEPOT_T_ANY: break;
    }
    return fixed(arena, plain[f->type]);
}

static depot_json *default_of(depot_arena *arena, const depot_field *f)
{
    depot_field any = *f;
    int64_t     whole;
    bool        flag;
    depot_err   err = { 0 };

    if (f->type == DEPOT_T_BOOL) {
        return conf_parse_value(arena, &any, f->def, &flag, &err) ? depot_json_bool(arena, flag) : NULL;
    }
    if (f->type == DEPOT_T_INT || f->type == DEPOT_T_NUMBER) {
        any.type = DEPOT_T_INT;
        return conf_parse_value(arena, &any, f->def, &whole, &err) ? depot_json_int(arena, whole) : NULL;
    }
    bool structured = f->type == DEPOT_T_LIST || f->type == DEPOT_T_OBJECT || f->type == DEPOT_T_ARRAY || f->type == DEPOT_T_ANY;
    return structured ? NULL : depot_json_str(arena, f->def);
}

depot_json *schema_of_field(depot_arena *arena, const depot_field *f)
{
    depot_json *schema = bare(arena, f);

    if (f->flags & DEPOT_NULLABLE) {
        schema = depot_json_pack(arena, "{s:[o, {s:s}]}", "anyOf", schema, "type", "null");
    }
    if (f->doc != NULL) {
        depot_json_set(schema, "description", depot_json_str(arena, f->doc));
    }
    depot_json *value = f->def == NULL ? NULL : default_of(arena, f);
    if (value != NULL) {
        depot_json_set(schema, "default", value);
    }
    return schema;
}

depot_json *schema_of_object(depot_arena *arena, const depot_field *fields,
                             bool (*wanted)(const depot_field *f, const void *arg), const void *arg, bool closed)
{
    depot_json *properties = depot_json_object(arena);
    depot_json *required = depot_json_array(arena);
    depot_json *schema = depot_json_pack(arena, "{s:s, s:o}", "type", "object", "properties", properties);

    for (const depot_field *f = fields; f != NULL && f->name != NULL; f++) {
        if (wanted != NULL && !wanted(f, arg)) {
            continue;
        }
        depot_json_set(properties, f->name, schema_of_field(arena, f));
        if (f->flags & DEPOT_REQUIRED) {
            depot_json_add(required, depot_json_str(arena, f->name));
        }
    }
    if (depot_json_len(required) > 0) {
        depot_json_set(schema, "required", required);
    }
    if (closed) {
        depot_json_set(schema, "additionalProperties", depot_json_bool(arena, false));
    }
    return schema;
}
