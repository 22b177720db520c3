/* depot/json.h - JSON for C: a thin face over the one JSON library, whose header no plugin sees.
 *
 * Integers are exact in 64 bits. Values made or parsed with an arena live as long as that arena; a value may be put
 * into another of the same arena. Strings are UTF-8; NUL inside a string is refused when parsing. */
#ifndef DEPOT_JSON_H
#define DEPOT_JSON_H

#include "depot/base.h"

typedef struct depot_json depot_json; /* one value of any type */

typedef enum depot_json_type {
    DEPOT_JSON_NULL, DEPOT_JSON_BOOL, DEPOT_JSON_INT, DEPOT_JSON_REAL, DEPOT_JSON_STRING, DEPOT_JSON_ARRAY, DEPOT_JSON_OBJECT
} depot_json_type;

/* Strict RFC 8259, any value at the top, duplicate keys refused, depth at most 64; the message names line and column. */
DEPOT_API depot_json *depot_json_parse(depot_arena *arena, const char *text, size_t n, depot_err *err) DEPOT_MUST_USE;
/* The text of the next value in the inside of an array, which is known to be good JSON and ends in ] or NUL; *at moves behind it. */
DEPOT_API const char *depot_json_item(const char **at, size_t *out_len);
/* Compact text; keys in order of insertion. pretty: indented by two. */
DEPOT_API char *depot_json_text(depot_arena *arena, const depot_json *value);
DEPOT_API char *depot_json_pretty(depot_arena *arena, const depot_json *value);
DEPOT_API void  depot_json_write(depot_buf *out, const depot_json *value);

/* Building: s string (NULL allowed: s?), I int64, i int, b int as bool, f double, n null, {} and [] nest, o a depot_json
 * (NULL gives null; also a const one, such as depot_json_get gives):
 *   depot_json_pack(arena, "{s:s, s:I, s:[s,s]}", "name", name, "bytes", bytes, "tags", "a", "b")
 * A format that does not fit its arguments is a programming error and aborts. */
DEPOT_API depot_json *depot_json_pack(depot_arena *arena, const char *fmt, ...);
DEPOT_API depot_json *depot_json_object(depot_arena *arena);
DEPOT_API depot_json *depot_json_array(depot_arena *arena);
DEPOT_API depot_json *depot_json_str(depot_arena *arena, const char *s); /* NULL gives null; invalid UTF-8 is replaced */
DEPOT_API depot_json *depot_json_strn(depot_arena *arena, const char *s, size_t n);
DEPOT_API depot_json *depot_json_int(depot_arena *arena, int64_t n);
DEPOT_API depot_json *depot_json_real(depot_arena *arena, double d);
DEPOT_API depot_json *depot_json_bool(depot_arena *arena, bool b);
DEPOT_API depot_json *depot_json_null(depot_arena *arena);
DEPOT_API void        depot_json_set(depot_json *object, const char *key, depot_json *value); /* replaces */
DEPOT_API void        depot_json_add(depot_json *array, depot_json *value);
DEPOT_API void        depot_json_unset(depot_json *object, const char *key);

/* Reading; a missing key gives NULL, a value of another type gives the default. */
DEPOT_API depot_json_type   depot_json_typeof(const depot_json *value);
DEPOT_API const depot_json *depot_json_get(const depot_json *object, const char *key);
DEPOT_API const depot_json *depot_json_at(const depot_json *array, size_t i);
DEPOT_API size_t            depot_json_len(const depot_json *array_or_object);
DEPOT_API const char       *depot_json_get_str(const depot_json *object, const char *key, const char *otherwise);
DEPOT_API int64_t           depot_json_get_int(const depot_json *object, const char *key, int64_t otherwise);
DEPOT_API double            depot_json_get_real(const depot_json *object, const char *key, double otherwise);
DEPOT_API bool              depot_json_get_bool(const depot_json *object, const char *key, bool otherwise);
DEPOT_API const char       *depot_json_string(const depot_json *value, size_t *out_len); /* NULL if not a string */
DEPOT_API int64_t           depot_json_integer(const depot_json *value);
DEPOT_API double            depot_json_number(const depot_json *value); /* int or real */
DEPOT_API bool              depot_json_boolean(const depot_json *value);
/* Each member in order of insertion: for (it = 0; depot_json_next(object, &it, &key, &value);) */
DEPOT_API bool depot_json_next(const depot_json *object, size_t *it, const char **key, const depot_json **value);

#endif
