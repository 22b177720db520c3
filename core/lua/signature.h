/* signature.h - the signature text of a depot_lua_fn row: "(data: string, opts?: table): string". */
#ifndef LUA_SIGNATURE_H
#define LUA_SIGNATURE_H

#include "depot/base.h"

typedef enum arg_type { ARG_STRING, ARG_INTEGER, ARG_NUMBER, ARG_BOOLEAN, ARG_TABLE, ARG_ANY } arg_type;

enum { SIGNATURE_ARGS_MAX = 8 };

typedef struct signature {
    struct {
        char     name[32];
        arg_type type;
        bool     optional;
    } args[SIGNATURE_ARGS_MAX];
    size_t n;
    char   returns[96]; /* "string?, integer"; empty: nothing */
} signature;

bool        signature_parse(const char *text, signature *out, depot_err *err) DEPOT_MUST_USE;
const char *arg_type_name(arg_type type);

#endif
