/* fields.c - JSON and text values against rows of depot_field. Texts are read by conf_parse_value, as in conf.d. */
#include <inttypes.h>
#include <string.h>

#include "api/api.h"
#include "api/fields.h"

void faults_add(faults *fs, const char *pointer, const char *fmt, ...)
{
    va_list ap;

    fs->n++;
    if (fs->n > FAULTS_MAX) {
        return;
    }
    if (fs->list == NULL) {
        fs->list = depot_json_array(fs->arena);
    }
    va_start(ap, fmt);
    char *message = depot_strvf(fs->arena, fmt, ap);
    va_end(ap);
    depot_json_add(fs->list, depot_json_pack(fs->arena, "{s:s, s:s}", "pointer", pointer, "message", message));
}

bool faults_check(const faults *fs, depot_err *err)
{
    enum { SAID = 3 };
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };

    if (fs->n == 0) {
        return true;
    }
    for (size_t i = 0; i < SAID && i < fs->n; i++) {
        const depot_json *fault = depot_json_at(fs->list, i);
        const char       *pointer = depot_json_get_str(fault, "pointer", "");
        depot_buf_addf(&text, "%s%s%s%s", i == 0 ? "" : "; ", pointer[0] == '/' ? pointer + 1 : "",
                       pointer[0] == '/' ? ": " : "", depot_json_get_str(fault, "message", ""));
    }
    if (fs->n > SAID) {
        depot_buf_addf(&text, "; and %zu more", fs->n - SAID);
    }
    return DEPOT_FAIL(err, INVALID, "%s", text.data);
}

const char *field_pointer(depot_arena *arena, const char *parent, const char *name)
{
    DEPOT_AUTO(depot_buf_free) depot_buf pointer = { 0 };

    depot_buf_addf(&pointer, "%s/", parent);
    for (; *name != '\0'; name++) {
        if (*name == '~' || *name == '/') {
            depot_buf_adds(&pointer, *name == '~' ? "~0" : "~1");
        } else {
            depot_buf_add(&pointer, name, 1);
        }
    }
    return depot_strdup(arena, pointer.data);
}

void field_unknown(faults *fs, const depot_field *fields, bool (*wanted)(const depot_field *f, const void *arg),
                   const void *arg, const char *name, const char *pointer)
{
    enum { NAMES_MAX = 128 };
    const char *names[NAMES_MAX];
    size_t      n = 0;

    for (; fields != NULL && fields->name != NULL && n < NAMES_MAX; fields++) {
        if (wanted == NULL || wanted(fields, arg)) {
            names[n++] = fields->name;
        }
    }
    const char *near = strlen(name) > 64 ? NULL : depot_suggest(name, names, n);
    if (near != NULL) {
        faults_add(fs, pointer, "there is no such field; did you mean \"%s\"?", near);
    } else {
        faults_add(fs, pointer, "there is no such field");
    }
}

/* ---- text ---- */

/* A value that conf_parse_value left in out, as JSON. */
union parsed {
    const char        *text;
    bool               flag;
    int64_t            number;
    double             real;
    const char *const *list;
};

static depot_json *list_json(depot_arena *arena, const char *const *items)
{
    depot_json *array = depot_json_array(arena);

    for (; items != NULL && *items != NULL; items++) {
        depot_json_add(array, depot_json_str(arena, *items));
    }
    return array;
}

static depot_json *parsed_json(depot_arena *arena, const depot_field *f, const union parsed *value)
{
    switch (f->type) {
    case DEPOT_T_BOOL: return depot_json_bool(arena, value->flag);
    case DEPOT_T_NUMBER: return depot_json_real(arena, value->real);
    case DEPOT_T_INT:
    case DEPOT_T_SIZE:
    case DEPOT_T_DURATION: return depot_json_int(arena, value->number);
    case DEPOT_T_ENUM: return depot_json_str(arena, f->choices[value->number]);
    case DEPOT_T_LIST: return list_json(arena, value->list);
    case DEPOT_T_STRING:
    case DEPOT_T_PATH:
    case DEPOT_T_URL:
    case DEPOT_T_SECRET:
    case DEPOT_T_CRON:
    case DEPOT_T_REGEX:
    case DEPOT_T_UUID:
    case DEPOT_T_TIME:
    case DEPOT_T_SHA256:
    case DEPOT_T_OBJECT:
    case DEPOT_T_ARRAY:
    case DEPOT_T_ANY: break;
    }
    return depot_json_str(arena, value->text);
}

static bool is_json_only(depot_type type)
{
    return type == DEPOT_T_OBJECT || type == DEPOT_T_ARRAY || type == DEPOT_T_ANY;
}

static void add_error(faults *fs, const char *pointer, const depot_err *err)
{
    faults_add(fs, pointer, "%s%s%s", err->msg, err->hint[0] == '\0' ? "" : "; ", err->hint);
}

depot_json *field_from_text(faults *fs, const depot_field *f, const char *text, const char *pointer)
{
    depot_err    err = { 0 };
    union parsed value = { 0 };

    if (is_json_only(f->type)) {
        depot_json *json = depot_json_parse(fs->arena, text, strlen(text), &err);
        if (json == NULL) {
            add_error(fs, pointer, &err);
            return NULL;
        }
        return field_from_json(fs, f, json, pointer);
    }
    bool may_be_empty = f->type == DEPOT_T_STRING || f->type == DEPOT_T_SECRET || f->type == DEPOT_T_LIST;
    if (text[0] == '\0' && !may_be_empty) {
        faults_add(fs, pointer, "must not be empty");
        return NULL;
    }
    if (!conf_parse_value(fs->arena, f, text, &value, &err)) {
        add_error(fs, pointer, &err);
        return NULL;
    }
    return parsed_json(fs->arena, f, &value);
}

depot_json *field_default(faults *fs, const depot_field *f, const char *pointer)
{
    if (f->def != NULL) {
        return field_from_text(fs, f, f->def, pointer);
    }
    if (f->flags & DEPOT_REQUIRED) {
        faults_add(fs, pointer, "is missing");
    }
    return NULL;
}

/* ---- JSON ---- */

static depot_json *want(faults *fs, const char *pointer, const char *what)
{
    faults_add(fs, pointer, "must be %s", what);
    return NULL;
}

/* A JSON value of this document may go on into another: it lives in the same arena and is not changed. */
static depot_json *as_it_is(const depot_json *in)
{
    union {
        const depot_json *in;
        depot_json       *out;
    } same = { .in = in };

    return same.out;
}

static depot_json *from_string(faults *fs, const depot_field *f, const depot_json *in, const char *pointer)
{
    const char *text = depot_json_string(in, NULL);

    return text == NULL ? want(fs, pointer, "a string") : field_from_text(fs, f, text, pointer);
}

static depot_json *from_bool(faults *fs, const depot_field *f, const depot_json *in, const char *pointer)
{
    (void)f;
    return depot_json_typeof(in) == DEPOT_JSON_BOOL ? as_it_is(in) : want(fs, pointer, "true or false");
}

/* Through the text, so that ranges are judged and worded in one place. */
static depot_json *from_int(faults *fs, const depot_field *f, const depot_json *in, const char *pointer)
{
    if (depot_json_typeof(in) != DEPOT_JSON_INT) {
        return want(fs, pointer, "an integer");
    }
    return field_from_text(fs, f, depot_strf(fs->arena, "%" PRId64, depot_json_integer(in)), pointer);
}

static depot_json *from_number(faults *fs, const depot_field *f, const depot_json *in, const char *pointer)
{
    if (depot_json_typeof(in) != DEPOT_JSON_INT && depot_json_typeof(in) != DEPOT_JSON_REAL) {
        return want(fs, pointer, "a number");
    }
    return field_from_text(fs, f, depot_strf(fs->arena, "%.17g", depot_json_number(in)), pointer);
}

static depot_json *from_size(faults *fs, const depot_field *f, const depot_json *in, const char *pointer)
{
    if (depot_json_typeof(in) == DEPOT_JSON_INT) {
        return from_int(fs, f, in, pointer);
    }
    return depot_json_typeof(in) == DEPOT_JSON_STRING
        ? from_string(fs, f, in, pointer)
        : want(fs, pointer, "a number of bytes or a size such as \"64MiB\"");
}

/* Milliseconds as a number have no unit to read: "ms" is added. */
static depot_json *from_duration(faults *fs, const depot_field *f, const depot_json *in, const char *pointer)
{
    if (depot_json_typeof(in) == DEPOT_JSON_INT) {
        return field_from_text(fs, f, depot_strf(fs->arena, "%" PRId64 "ms", depot_json_integer(in)), pointer);
    }
    return depot_json_typeof(in) == DEPOT_JSON_STRING
        ? from_string(fs, f, in, pointer)
        : want(fs, pointer, "a number of milliseconds or a duration such as \"10s\"");
}

static depot_json *from_list(faults *fs, const depot_field *f, const depot_json *in, const char *pointer)
{
    size_t before = fs->n;

    (void)f;
    if (depot_json_typeof(in) != DEPOT_JSON_ARRAY) {
        return want(fs, pointer, "an array of strings");
    }
    for (size_t i = 0; i < depot_json_len(in); i++) {
        if (depot_json_typeof(depot_json_at(in, i)) != DEPOT_JSON_STRING) {
            (void)want(fs, depot_strf(fs->arena, "%s/%zu", pointer, i), "a string");
        }
    }
    return fs->n == before ? as_it_is(in) : NULL;
}

static const depot_field *find_field(const depot_field *fields, const char *name)
{
    for (; fields->name != NULL; fields++) {
        if (strcmp(fields->name, name) == 0) {
            return fields;
        }
    }
    return NULL;
}

static depot_json *from_object(faults *fs, const depot_field *f, const depot_json *in, const char *pointer)
{
    size_t            before = fs->n, it = 0;
    const char       *name;
    const depot_json *member;

    if (depot_json_typeof(in) != DEPOT_JSON_OBJECT) {
        return want(fs, pointer, "an object");
    }
    if (f->fields == NULL) {
        return as_it_is(in);
    }
    depot_json *out = depot_json_object(fs->arena);
    for (const depot_field *row = f->fields; row->name != NULL; row++) {
        const char       *at = field_pointer(fs->arena, pointer, row->name);
        const depot_json *given = depot_json_get(in, row->name);
        depot_json       *value = given == NULL ? field_default(fs, row, at) : field_from_json(fs, row, given, at);
        if (value != NULL) {
            depot_json_set(out, row->name, value);
        }
    }
    while (depot_json_next(in, &it, &name, &member)) {
        if (find_field(f->fields, name) == NULL) {
            field_unknown(fs, f->fields, NULL, NULL, name, field_pointer(fs->arena, pointer, name));
        }
    }
    return fs->n == before ? out : NULL;
}

static depot_json *from_array(faults *fs, const depot_field *f, const depot_json *in, const char *pointer)
{
    size_t n = depot_json_len(in), before = fs->n;

    if (depot_json_typeof(in) != DEPOT_JSON_ARRAY) {
        return want(fs, pointer, "an array");
    }
    if (f->max > 0 && ((int64_t)n < f->min || (int64_t)n > f->max)) {
        faults_add(fs, pointer, "%zu items are out of range %" PRId64 "..%" PRId64, n, f->min, f->max);
        return NULL;
    }
    if (f->fields == NULL) {
        return as_it_is(in);
    }
    depot_json *out = depot_json_array(fs->arena);
    for (size_t i = 0; i < n && fs->n <= FAULTS_MAX; i++) {
        const char *at = depot_strf(fs->arena, "%s/%zu", pointer, i);
        depot_json *value = field_from_json(fs, f->fields, depot_json_at(in, i), at);
        if (value != NULL) {
            depot_json_add(out, value);
        }
    }
    return fs->n == before ? out : NULL;
}

static depot_json *from_any(faults *fs, const depot_field *f, const depot_json *in, const char *pointer)
{
    (void)fs;
    (void)f;
    (void)pointer;
    return as_it_is(in);
}

static depot_json *(*const readers[])(faults *fs, const depot_field *f, const depot_json *in, const char *pointer) = {
    [DEPOT_T_STRING] = from_string, [DEPOT_T_BOOL] = from_bool,         [DEPOT_T_INT] = from_int,
    [DEPOT_T_NUMBER] = from_number, [DEPOT_T_SIZE] = from_size,         [DEPOT_T_DURATION] = from_duration,
    [DEPOT_T_ENUM] = from_string,   [DEPOT_T_LIST] = from_list,         [DEPOT_T_PATH] = from_string,
    [DEPOT_T_URL] = from_string,    [DEPOT_T_SECRET] = from_string,     [DEPOT_T_CRON] = from_string,
    [DEPOT_T_REGEX] = from_string,  [DEPOT_T_UUID] = from_string,       [DEPOT_T_TIME] = from_string,
    [DEPOT_T_SHA256] = from_string, [DEPOT_T_OBJECT] = from_object,     [DEPOT_T_ARRAY] = from_array,
    [DEPOT_T_ANY] = from_any,
};

depot_json *field_from_json(faults *fs, const depot_field *f, const depot_json *in, const char *pointer)
{
    if (depot_json_typeof(in) == DEPOT_JSON_NULL && (f->flags & DEPOT_NULLABLE)) {
        return depot_json_null(fs->arena);
    }
    return readers[f->type](fs, f, in, pointer);
}

bool api_validate(depot_arena *arena, const depot_field *fields, const depot_json *in, depot_json **out, depot_json **out_faults,
                  depot_err *err)
{
    static const depot_field none[] = { { 0 } };
    const depot_field        whole = { .name = "", .type = DEPOT_T_OBJECT, .fields = fields == NULL ? none : fields };
    faults                   fs = { .arena = arena };

    *out = field_from_json(&fs, &whole, in, "");
    *out_faults = fs.list;
    return faults_check(&fs, err);
}
