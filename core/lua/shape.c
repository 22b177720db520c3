/* shape.c - declared arguments of jobs; see shape.h. Values are judged by the rules of options and requests. */
#include "lua/shape.h"

#include <stdlib.h>
#include <string.h>

#include "api/api.h"

static const struct {
    const char *name;
    depot_type  type;
} types[] = {
    { "any", DEPOT_T_ANY },           { "array", DEPOT_T_ARRAY },   { "boolean", DEPOT_T_BOOL },
    { "duration", DEPOT_T_DURATION }, { "integer", DEPOT_T_INT },   { "number", DEPOT_T_NUMBER },
    { "object", DEPOT_T_OBJECT },     { "sha256", DEPOT_T_SHA256 }, { "size", DEPOT_T_SIZE },
    { "string", DEPOT_T_STRING },     { "time", DEPOT_T_TIME },     { "url", DEPOT_T_URL },
    { "uuid", DEPOT_T_UUID },
};

static const char *const options[] = { "choices", "default", "doc", "fields", "max", "min", "of", "optional", "type" };

/* Where in the declaration the reader is. */
typedef struct place {
    depot_arena *arena;
    const char  *path; /* "tags", "crop.left" */
} place;

static bool read_field(const place *at, const depot_json *declared, depot_field *f, depot_err *err);
static bool read_fields(const place *at, const depot_json *declared, const depot_field **out, depot_err *err);

/* "integer", "string?" */
static bool read_type(const place *at, const char *text, depot_field *f, depot_err *err)
{
    const char *names[DEPOT_N(types)];
    size_t      n = strlen(text);

    if (n > 0 && text[n - 1] == '?') {
        f->flags &= ~(uint32_t)DEPOT_REQUIRED;
        n--;
    }
    for (size_t i = 0; i < DEPOT_N(types); i++) {
        names[i] = types[i].name;
        if (strlen(types[i].name) == n && strncmp(types[i].name, text, n) == 0) {
            f->type = types[i].type;
            return true;
        }
    }
    const char *near = depot_suggest(depot_strndup(at->arena, text, n), names, DEPOT_N(names));
    return DEPOT_FAIL(err, INVALID, "args.%s: there is no type \"%s\"%s%s%s", at->path, text,
                      near == NULL ? "" : " (did you mean ", near == NULL ? "" : near, near == NULL ? "" : "?)");
}

static bool read_choices(const place *at, const depot_json *list, depot_field *f, depot_err *err)
{
    size_t       n = depot_json_len(list);
    const char **choices = depot_alloc(at->arena, (n + 1) * sizeof(*choices));

    for (size_t i = 0; i < n; i++) {
        choices[i] = depot_json_string(depot_json_at(list, i), NULL);
        if (choices[i] == NULL) {
            return DEPOT_FAIL(err, INVALID, "args.%s: choices must be a list of strings", at->path);
        }
    }
    if (n == 0 || depot_json_typeof(list) != DEPOT_JSON_ARRAY || f->type != DEPOT_T_STRING) {
        return DEPOT_FAIL(err, INVALID, "args.%s: choices must be a list of strings, for the type string", at->path);
    }
    f->type = DEPOT_T_ENUM;
    f->choices = choices;
    return true;
}

/* A lone bound leaves the other side open. */
static bool read_bounds(const place *at, const depot_json *declared, depot_field *f, depot_err *err)
{
    const depot_json *min = depot_json_get(declared, "min"), *max = depot_json_get(declared, "max");
    bool has_bounds = f->type == DEPOT_T_STRING || f->type == DEPOT_T_INT || f->type == DEPOT_T_NUMBER || f->type == DEPOT_T_SIZE ||
                      f->type == DEPOT_T_DURATION || f->type == DEPOT_T_ARRAY;

    if (min == NULL && max == NULL) {
        return true;
    }
    if (!has_bounds || (min != NULL && depot_json_typeof(min) != DEPOT_JSON_INT) ||
        (max != NULL && depot_json_typeof(max) != DEPOT_JSON_INT)) {
        DEPOT_FAIL(err, INVALID, "args.%s: min and max must be integers", at->path);
        return depot_hint(err, "they bound a number, a size, milliseconds, the bytes of a string or the items of an array");
    }
    f->min = min != NULL ? depot_json_integer(min) : f->type == DEPOT_T_INT || f->type == DEPOT_T_NUMBER ? INT64_MIN : 0;
    f->max = max != NULL ? depot_json_integer(max) : INT64_MAX;
    if (f->max == 0 && f->min >= 0) { /* tables of fields write "no bounds" so */
        return DEPOT_FAIL(err, INVALID, "args.%s: max must be above 0 where min is not below it", at->path);
    }
    return f->min <= f->max || DEPOT_FAIL(err, INVALID, "args.%s: min is above max", at->path);
}

/* What arrays and objects hold. */
static bool read_inside(const place *at, const depot_json *declared, depot_field *f, depot_err *err)
{
    const depot_json *of = depot_json_get(declared, "of"), *fields = depot_json_get(declared, "fields");

    if (of != NULL && f->type == DEPOT_T_ARRAY) {
        depot_field *item = depot_alloc(at->arena, 2 * sizeof(*item));
        item->name = "item";
        f->fields = item;
        return read_field(at, of, item, err);
    }
    if (fields != NULL && f->type == DEPOT_T_OBJECT) {
        const place inside = { at->arena, depot_strf(at->arena, "%s.", at->path) };
        return read_fields(&inside, fields, &f->fields, err);
    }
    if (of != NULL || fields != NULL) {
        return DEPOT_FAIL(err, INVALID, "args.%s: of belongs to the type array, fields to the type object", at->path);
    }
    return true;
}

/* A default must itself be a good value. */
static bool read_default(const place *at, const depot_json *declared, depot_field *f, depot_err *err)
{
    const depot_json *value = depot_json_get(declared, "default");
    const depot_field alone[] = { *f, { .name = NULL } };
    depot_json       *out, *faults;

    if (value == NULL) {
        return true;
    }
    const char *text = depot_json_string(value, NULL);
    f->def = text != NULL ? text : depot_json_text(at->arena, value);
    f->flags &= ~(uint32_t)DEPOT_REQUIRED;
    return api_validate(at->arena, alone, depot_json_pack(at->arena, "{s:o}", f->name, value), &out, &faults, err) ||
           depot_wrap(err, "args: the default of %s", at->path);
}

static bool check_options(const place *at, const depot_json *declared, depot_err *err)
{
    const char       *name;
    const depot_json *value;

    for (size_t it = 0; depot_json_next(declared, &it, &name, &value);) {
        bool known = false;
        for (size_t i = 0; i < DEPOT_N(options); i++) {
            known = known || strcmp(options[i], name) == 0;
        }
        if (!known) {
            const char *near = depot_suggest(name, options, DEPOT_N(options));
            return DEPOT_FAIL(err, INVALID, "args.%s: there is no option '%s'%s%s%s", at->path, name,
                              near == NULL ? "" : " (did you mean ", near == NULL ? "" : near, near == NULL ? "" : "?)");
        }
    }
    return true;
}

static bool read_field(const place *at, const depot_json *declared, depot_field *f, depot_err *err)
{
    const char *type = depot_json_string(declared, NULL);

    f->flags = DEPOT_REQUIRED;
    if (type != NULL) {
        return read_type(at, type, f, err);
    }
    if (depot_json_typeof(declared) != DEPOT_JSON_OBJECT) {
        return DEPOT_FAIL(err, INVALID, "args.%s must be the name of a type, or a table with one", at->path);
    }
    const depot_json *choices = depot_json_get(declared, "choices");
    type = depot_json_get_str(declared, "type", NULL);
    if (type == NULL) {
        return DEPOT_FAIL(err, INVALID, "args.%s: type is missing", at->path);
    }
    f->doc = depot_json_get_str(declared, "doc", NULL);
    if (!check_options(at, declared, err) || !read_type(at, type, f, err) || !read_bounds(at, declared, f, err) ||
        (choices != NULL && !read_choices(at, choices, f, err)) || !read_inside(at, declared, f, err) ||
        !read_default(at, declared, f, err)) {
        return false;
    }
    if (depot_json_get_bool(declared, "optional", false)) {
        f->flags &= ~(uint32_t)DEPOT_REQUIRED;
    }
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const depot_field *)a)->name, ((const depot_field *)b)->name);
}

static bool read_fields(const place *at, const depot_json *declared, const depot_field **out, depot_err *err)
{
    size_t            n = depot_json_len(declared), i = 0;
    depot_field      *fields = depot_alloc(at->arena, (n + 1) * sizeof(*fields));
    const char       *name;
    const depot_json *value;

    if (depot_json_typeof(declared) != DEPOT_JSON_OBJECT) {
        return DEPOT_FAIL(err, INVALID, "args%s%s must be a table of names", at->path[0] == '\0' ? "" : ".", at->path);
    }
    for (size_t it = 0; depot_json_next(declared, &it, &name, &value); i++) {
        const place inside = { at->arena, depot_strf(at->arena, "%s%s", at->path, name) };
        fields[i].name = depot_strdup(at->arena, name);
        if (!read_field(&inside, value, &fields[i], err)) {
            return false;
        }
    }
    qsort(fields, n, sizeof(*fields), by_name); /* a table has no order of its own */
    *out = fields;
    return true;
}

bool shape_read(depot_arena *arena, const depot_json *declared, const depot_field **out, depot_err *err)
{
    const place top = { arena, "" };

    return read_fields(&top, declared, out, err);
}

/* ---- values ---- */

static const depot_field *find(const depot_field *fields, const char *name)
{
    for (; fields->name != NULL; fields++) {
        if (strcmp(fields->name, name) == 0) {
            return fields;
        }
    }
    return NULL;
}

/* Every member that is not declared gets a row of its own, which takes anything. */
static const depot_field *with_extra(depot_arena *arena, const depot_field *fields, const depot_json *given)
{
    depot_field      *all;
    size_t            n = 0;
    const char       *name;
    const depot_json *value;

    while (fields[n].name != NULL) {
        n++;
    }
    all = depot_alloc(arena, (n + depot_json_len(given) + 1) * sizeof(*all));
    memcpy(all, fields, n * sizeof(*all));
    for (size_t it = 0; depot_json_next(given, &it, &name, &value);) {
        if (find(fields, name) == NULL) {
            all[n++] = (depot_field){ .name = name, .type = DEPOT_T_ANY };
        }
    }
    return all;
}

/* A producer that writes null for what it does not have means: not given. */
static void drop_nulls(const depot_field *fields, depot_json *given)
{
    for (; fields->name != NULL; fields++) {
        const depot_json *value = depot_json_get(given, fields->name);
        if (value != NULL && depot_json_typeof(value) == DEPOT_JSON_NULL && !(fields->flags & DEPOT_REQUIRED)) {
            depot_json_unset(given, fields->name);
        }
    }
}

bool shape_fill(depot_arena *arena, const depot_field *fields, bool extra, depot_json *given, depot_json **out,
                depot_err *err)
{
    depot_json *faults = NULL;

    if (given == NULL || depot_json_typeof(given) != DEPOT_JSON_OBJECT) {
        return DEPOT_FAIL(err, BAD_PAYLOAD, "the arguments must be an object");
    }
    drop_nulls(fields, given);
    if (!api_validate(arena, extra ? with_extra(arena, fields, given) : fields, given, out, &faults, err)) {
        err->code = DEPOT_E_BAD_PAYLOAD;
        return depot_wrap(err, "arguments");
    }
    return true;
}
