/* params.c - depot_val as libpq's parallel arrays.
 * Text, numbers and truth values go as text of unknown type: the server infers the type from where the value stands, so
 * one integer fits int4, int8, numeric and text alike. Bytes go as binary bytea. */
#include <inttypes.h>
#include <math.h>

#include "base/text.h"
#include "db/conn.h"

#define OID_BYTEA 17U

static const char *real_text(depot_arena *arena, double d)
{
    char text[TEXT_DOUBLE_SIZE];

    if (isnan(d)) {
        return "NaN";
    }
    if (isinf(d)) {
        return d > 0 ? "Infinity" : "-Infinity";
    }
    text_format_double(d, text);
    return depot_strdup(arena, text);
}

void db_params_make(depot_arena *arena, const depot_val *vals, size_t n, db_params *out)
{
    *out = (db_params){ .n = (int)n };
    if (n == 0) {
        return;
    }
    out->values = depot_alloc(arena, n * sizeof(*out->values));
    out->lengths = depot_alloc(arena, n * sizeof(*out->lengths));
    out->formats = depot_alloc(arena, n * sizeof(*out->formats));
    out->types = depot_alloc(arena, n * sizeof(*out->types));
    for (size_t i = 0; i < n; i++) {
        const depot_val *v = &vals[i];
        switch (v->type) {
        case DEPOT_V_NULL:
            break;
        case DEPOT_V_TEXT:
            out->values[i] = v->u.text;
            break;
        case DEPOT_V_INT:
            out->values[i] = depot_strf(arena, "%" PRId64, v->u.i);
            break;
        case DEPOT_V_REAL:
            out->values[i] = real_text(arena, v->u.d);
            break;
        case DEPOT_V_BOOL:
            out->values[i] = v->u.b ? "t" : "f";
            break;
        case DEPOT_V_BYTES:
            out->values[i] = v->u.bytes.n == 0 ? "" : v->u.bytes.p;
            out->lengths[i] = (int)v->u.bytes.n;
            out->formats[i] = 1;
            out->types[i] = OID_BYTEA;
            break;
        }
    }
}

static depot_val val_copy(depot_arena *arena, const depot_val *from)
{
    depot_val v = *from;

    if (v.type == DEPOT_V_TEXT) {
        v.u.text = depot_strdup(arena, v.u.text);
    } else if (v.type == DEPOT_V_BYTES) {
        v.u.bytes.p = depot_strndup(arena, v.u.bytes.p, v.u.bytes.n);
    }
    return v;
}

depot_stmt *db_stmts_copy(depot_arena *arena, const depot_stmt *stmts, size_t n)
{
    depot_stmt *copy = depot_alloc(arena, n * sizeof(*copy));

    for (size_t i = 0; i < n; i++) {
        depot_val *vals = depot_alloc(arena, stmts[i].n * sizeof(*vals));
        for (size_t k = 0; k < stmts[i].n; k++) {
            vals[k] = val_copy(arena, &stmts[i].vals[k]);
        }
        copy[i] = (depot_stmt){ .sql = depot_strdup(arena, stmts[i].sql), .vals = vals, .n = stmts[i].n };
    }
    return copy;
}
