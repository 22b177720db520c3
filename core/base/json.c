/* json.c - a thin face over jansson: values hang on an arena, what jansson does not do by itself is added here
 * (depth limit, replacing of bytes that are not UTF-8, shortest text of real numbers). */
#include "depot/json.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/abort.h"
#include "base/text.h"

#define JSON_MOST_DEPTH 64

/* depot_json is the outside name of json_t; jansson takes const in most places, but not in all. */
static json_t *raw(const depot_json *value)
{
    return (json_t *)(uintptr_t)value;
}

static const depot_json *face(const json_t *value)
{
    return (const depot_json *)value;
}

static void release(void *value)
{
    json_decref(value);
}

/* Hangs a new value on the arena. */
static depot_json *own(depot_arena *arena, json_t *value)
{
    if (value == NULL) {
        base_abort("out of memory for a JSON value");
    }
    depot_defer(arena, release, value);
    return (depot_json *)value;
}

static void must(int rc, const char *what)
{
    if (rc != 0) {
        base_abort("a JSON value cannot be put into %s: wrong type, itself, or out of memory", what);
    }
}

/* ---- parsing ---- */

/* Looks for what jansson would let pass: nesting deeper than allowed, and a NUL behind the value. Text that is no JSON
 * in other ways is left to it. */
static bool text_is_fine(const char *text, size_t n, depot_err *err)
{
    int  depth = 0;
    int  line = 1;
    bool in_string = false;

    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
            continue;
        }
        in_string = c == '"';
        line += c == '\n';
        depth += (c == '[' || c == '{') - (c == ']' || c == '}');
        if (depth > JSON_MOST_DEPTH) {
            return DEPOT_FAIL(err, MALFORMED, "line %d: nested more than %d levels deep", line, JSON_MOST_DEPTH);
        }
        if (c == '\0') {
            return DEPOT_FAIL(err, MALFORMED, "line %d: a NUL byte outside of any string", line);
        }
    }
    return true;
}

depot_json *depot_json_parse(depot_arena *arena, const char *text, size_t n, depot_err *err)
{
    json_error_t problem;

    if (!text_is_fine(text, n, err)) {
        return NULL;
    }
    json_t *value = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &problem);
    if (value == NULL) {
        (void)DEPOT_FAIL(err, MALFORMED, "line %d column %d: %s", problem.line, problem.column, problem.text);
        return NULL;
    }
    return own(arena, value);
}

const char *depot_json_item(const char **at, size_t *out_len)
{
    const char *p = *at + strspn(*at, " \t\r\n,"), *from = p;
    int         depth = 0;

    for (bool in_string = false; *p != '\0'; p++) {
        if (in_string && *p == '\\' && p[1] != '\0') {
            p++;
        } else if (in_string) {
            in_string = *p != '"';
        } else if (*p == '"') {
            in_string = true;
        } else if (*p == '[' || *p == '{') {
            depth++;
        } else if (depth == 0 && (*p == ',' || *p == ']')) {
            break;
        } else if (*p == ']' || *p == '}') {
            depth--;
        }
    }
    *at = p;
    *out_len = (size_t)(p - from);
    return from;
}

/* ---- text ---- */

static void write_string(depot_buf *out, const char *s, size_t n)
{
    depot_buf_add(out, "\"", 1);
    (void)text_add_escaped(out, s, n, SIZE_MAX); /* without a limit all of it is used */
    depot_buf_add(out, "\"", 1);
}

/* A real stays a real when it is read again. */
static void write_real(depot_buf *out, double d)
{
    char text[TEXT_DOUBLE_SIZE];

    text_format_double(d, text);
    depot_buf_adds(out, text);
    if (strpbrk(text, ".e") == NULL) {
        depot_buf_adds(out, ".0");
    }
}

static void new_line(depot_buf *out, int indent)
{
    if (indent >= 0) {
        depot_buf_addf(out, "\n%*s", indent * 2, "");
    }
}

/* indent: level of the surrounding value, -1 for compact text. */
static void write_value(depot_buf *out, json_t *value, int indent);

static void write_array(depot_buf *out, json_t *array, int indent)
{
    int inner = indent < 0 ? -1 : indent + 1;

    depot_buf_add(out, "[", 1);
    for (size_t i = 0; i < json_array_size(array); i++) {
        depot_buf_adds(out, i > 0 ? "," : "");
        new_line(out, inner);
        write_value(out, json_array_get(array, i), inner);
    }
    new_line(out, json_array_size(array) > 0 ? indent : -1);
    depot_buf_add(out, "]", 1);
}

static void write_object(depot_buf *out, json_t *object, int indent)
{
    int    inner = indent < 0 ? -1 : indent + 1;
    size_t n = 0;

    depot_buf_add(out, "{", 1);
    for (void *it = json_object_iter(object); it != NULL; it = json_object_iter_next(object, it)) {
        const char *key = json_object_iter_key(it);
        depot_buf_adds(out, n++ > 0 ? "," : "");
        new_line(out, inner);
        write_string(out, key, strlen(key));
        depot_buf_adds(out, indent < 0 ? ":" : ": ");
        write_value(out, json_object_iter_value(it), inner);
    }
    new_line(out, n > 0 ? indent : -1);
    depot_buf_add(out, "}", 1);
}

static void write_value(depot_buf *out, json_t *value, int indent)
{
    switch (json_typeof(value)) { /* clang-format off */
    case JSON_OBJECT: write_object(out, value, indent); break;
    case JSON_ARRAY: write_array(out, value, indent); break;
    case JSON_STRING: write_string(out, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: depot_buf_addf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value)); break;
    case JSON_REAL: write_real(out, json_real_value(value)); break;
    case JSON_TRUE: depot_buf_adds(out, "true"); break;
    case JSON_FALSE: depot_buf_adds(out, "false"); break;
    case JSON_NULL: depot_buf_adds(out, "null"); break;
    } /* clang-format on */
}

static char *text_of(depot_arena *arena, const depot_json *value, int indent)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };

    write_value(&out, raw(value), indent);
    return depot_strndup(arena, out.data, out.len);
}

char *depot_json_text(depot_arena *arena, const depot_json *value)
{
    return text_of(arena, value, -1);
}

char *depot_json_pretty(depot_arena *arena, const depot_json *value)
{
    return text_of(arena, value, 0);
}

void depot_json_write(depot_buf *out, const depot_json *value)
{
    write_value(out, raw(value), -1);
}

/* ---- building ---- */

/* These return a new reference that the caller owns. */
static json_t *new_string(const char *s, size_t n)
{
    DEPOT_AUTO(depot_buf_free) depot_buf clean = { 0 };

    if (s == NULL) {
        return json_null();
    }
    if (depot_utf8_valid(s, n) && memchr(s, '\0', n) == NULL) {
        return json_stringn_nocheck(s, n);
    }
    text_add_clean(&clean, s, n);
    return json_stringn_nocheck(clean.data, clean.len);
}

static json_t *new_real(double d)
{
    return isfinite(d) ? json_real(d) : json_null(); /* JSON has no text for the others */
}

/* Takes over the reference to value. */
static void put(json_t *object, const char *key, json_t *value)
{
    DEPOT_AUTO(depot_buf_free) depot_buf clean = { 0 };

    if (!depot_utf8_valid(key, strlen(key))) {
        text_add_clean(&clean, key, strlen(key));
        key = clean.data;
    }
    must(json_object_set_new_nocheck(object, key, value), "an object");
}

/* Reads the format of depot_json_pack; at points to the next character. */
typedef struct packer {
    const char *fmt, *at;
    va_list     args;
} packer;

static char pack_next(packer *p)
{
    while (*p->at != '\0' && strchr(" ,:\t\n", *p->at) != NULL) {
        p->at++;
    }
    return *p->at == '\0' ? '\0' : *p->at++;
}

static json_t *pack_value(packer *p, char c);

static json_t *pack_object(packer *p)
{
    json_t *object = json_object();

    for (char c = pack_next(p); c != '}'; c = pack_next(p)) {
        if (c != 's') {
            base_abort("JSON format \"%s\": a key must be s", p->fmt);
        }
        const char *key = va_arg(p->args, const char *);
        put(object, key, pack_value(p, pack_next(p)));
    }
    return object;
}

static json_t *pack_array(packer *p)
{
    json_t *array = json_array();

    for (char c = pack_next(p); c != ']'; c = pack_next(p)) {
        must(json_array_append_new(array, pack_value(p, c)), "an array");
    }
    return array;
}

static json_t *pack_string(packer *p)
{
    const char *s = va_arg(p->args, const char *);

    p->at += *p->at == '?';
    return new_string(s, s == NULL ? 0 : strlen(s));
}

static json_t *pack_shared(packer *p)
{
    depot_json *value = va_arg(p->args, depot_json *);

    p->at += *p->at == '?';
    return value == NULL ? json_null() : json_incref(raw(value));
}

static json_t *pack_value(packer *p, char c)
{
    switch (c) { /* clang-format off */
    case '{': return pack_object(p);
    case '[': return pack_array(p);
    case 's': return pack_string(p);
    case 'o': return pack_shared(p);
    case 'I': return json_integer(va_arg(p->args, int64_t));
    case 'i': return json_integer(va_arg(p->args, int));
    case 'b': return json_boolean(va_arg(p->args, int));
    case 'f': return new_real(va_arg(p->args, double));
    case 'n': return json_null();
    default: base_abort("JSON format \"%s\": '%c' at %td stands for no value", p->fmt, c, p->at - p->fmt);
    } /* clang-format on */
}

depot_json *depot_json_pack(depot_arena *arena, const char *fmt, ...)
{
    packer p = { .fmt = fmt, .at = fmt };

    va_start(p.args, fmt);
    json_t *value = pack_value(&p, pack_next(&p));
    va_end(p.args);
    if (pack_next(&p) != '\0') {
        base_abort("JSON format \"%s\" has more than one value", fmt);
    }
    return own(arena, value);
}

depot_json *depot_json_object(depot_arena *arena)
{
    return own(arena, json_object());
}

depot_json *depot_json_array(depot_arena *arena)
{
    return own(arena, json_array());
}

depot_json *depot_json_str(depot_arena *arena, const char *s)
{
    return own(arena, new_string(s, s == NULL ? 0 : strlen(s)));
}

depot_json *depot_json_strn(depot_arena *arena, const char *s, size_t n)
{
    return own(arena, new_string(s, n));
}

depot_json *depot_json_int(depot_arena *arena, int64_t n)
{
    return own(arena, json_integer(n));
}

depot_json *depot_json_real(depot_arena *arena, double d)
{
    return own(arena, new_real(d));
}

depot_json *depot_json_bool(depot_arena *arena, bool b)
{
    return own(arena, json_boolean(b));
}

depot_json *depot_json_null(depot_arena *arena)
{
    return own(arena, json_null());
}

void depot_json_set(depot_json *object, const char *key, depot_json *value)
{
    put(raw(object), key, value == NULL ? json_null() : json_incref(raw(value)));
}

void depot_json_add(depot_json *array, depot_json *value)
{
    must(json_array_append_new(raw(array), value == NULL ? json_null() : json_incref(raw(value))), "an array");
}

void depot_json_unset(depot_json *object, const char *key)
{
    (void)json_object_del(raw(object), key); /* an absent key is fine */
}

/* ---- reading ---- */

depot_json_type depot_json_typeof(const depot_json *value)
{
    static const depot_json_type types[] = {
        [JSON_OBJECT] = DEPOT_JSON_OBJECT, [JSON_ARRAY] = DEPOT_JSON_ARRAY, [JSON_STRING] = DEPOT_JSON_STRING,
        [JSON_INTEGER] = DEPOT_JSON_INT,   [JSON_REAL] = DEPOT_JSON_REAL,   [JSON_TRUE] = DEPOT_JSON_BOOL,
        [JSON_FALSE] = DEPOT_JSON_BOOL,    [JSON_NULL] = DEPOT_JSON_NULL,
    };

    return value == NULL ? DEPOT_JSON_NULL : types[json_typeof(raw(value))];
}

const depot_json *depot_json_get(const depot_json *object, const char *key)
{
    return face(json_object_get(raw(object), key));
}

const depot_json *depot_json_at(const depot_json *array, size_t i)
{
    return face(json_array_get(raw(array), i));
}

size_t depot_json_len(const depot_json *array_or_object)
{
    const json_t *value = raw(array_or_object);

    return json_is_array(value) ? json_array_size(value) : json_object_size(value);
}

const char *depot_json_get_str(const depot_json *object, const char *key, const char *otherwise)
{
    const char *s = json_string_value(raw(depot_json_get(object, key)));

    return s != NULL ? s : otherwise;
}

int64_t depot_json_get_int(const depot_json *object, const char *key, int64_t otherwise)
{
    const json_t *value = raw(depot_json_get(object, key));

    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

double depot_json_get_real(const depot_json *object, const char *key, double otherwise)
{
    const json_t *value = raw(depot_json_get(object, key));

    return json_is_number(value) ? json_number_value(value) : otherwise;
}

bool depot_json_get_bool(const depot_json *object, const char *key, bool otherwise)
{
    const json_t *value = raw(depot_json_get(object, key));

    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

const char *depot_json_string(const depot_json *value, size_t *out_len)
{
    const char *s = json_string_value(raw(value));

    if (out_len != NULL) {
        *out_len = json_string_length(raw(value));
    }
    return s;
}

int64_t depot_json_integer(const depot_json *value)
{
    return json_integer_value(raw(value));
}

double depot_json_number(const depot_json *value)
{
    return json_number_value(raw(value));
}

bool depot_json_boolean(const depot_json *value)
{
    return json_is_true(raw(value));
}

/* *it is jansson's own position, 0 before the first member. */
bool depot_json_next(const depot_json *object, size_t *it, const char **key, const depot_json **value)
{
    json_t *o = raw(object);
    void   *at = *it == 0 ? json_object_iter(o) : json_object_iter_next(o, (void *)*it);

    if (at == NULL) {
        return false;
    }
    *it = (size_t)at;
    *key = json_object_iter_key(at);
    *value = face(json_object_iter_value(at));
    return true;
}
