/* signature.c - reads signature texts; see signature.h. */
#include "lua/signature.h"

#include <ctype.h>
#include <string.h>

static const char *const type_names[] = { "string", "integer", "number", "boolean", "table", "any" };

const char *arg_type_name(arg_type type)
{
    return type_names[type];
}

static const char *skip(const char *p)
{
    while (*p == ' ') {
        p++;
    }
    return p;
}

/* Copies an identifier; NULL: there is none or it is too long. */
static const char *take_word(const char *p, char *out, size_t size)
{
    size_t n = 0;

    while (isalnum((unsigned char)p[n]) || p[n] == '_') {
        n++;
    }
    if (n == 0 || n >= size) {
        return NULL;
    }
    memcpy(out, p, n);
    out[n] = '\0';
    return skip(p + n);
}

static const char *take_arg(const char *p, signature *out)
{
    char   type[32];
    size_t i = out->n;

    if (i == SIGNATURE_ARGS_MAX || (p = take_word(p, out->args[i].name, sizeof(out->args[i].name))) == NULL) {
        return NULL;
    }
    if (*p == '?') {
        out->args[i].optional = true;
        p = skip(p + 1);
    } else if (i > 0 && out->args[i - 1].optional) {
        return NULL; /* what must be given cannot follow what may be left out */
    }
    if (*p != ':' || (p = take_word(skip(p + 1), type, sizeof(type))) == NULL) {
        return NULL;
    }
    for (size_t t = 0; t < DEPOT_N(type_names); t++) {
        if (strcmp(type, type_names[t]) == 0) {
            out->args[i].type = (arg_type)t;
            out->n++;
            return p;
        }
    }
    return NULL;
}

bool signature_parse(const char *text, signature *out, depot_err *err)
{
    const char *p = skip(text);

    *out = (signature){ 0 };
    if (*p != '(') {
        return DEPOT_FAIL(err, INVALID, "signature \"%s\" does not begin with \"(\"", text);
    }
    p = skip(p + 1);
    while (p != NULL && *p != ')') {
        p = take_arg(p, out);
        if (p != NULL && *p == ',') {
            p = skip(p + 1);
            p = *p == ')' ? NULL : p;
        } else if (p != NULL && *p != ')') {
            p = NULL;
        }
    }
    if (p == NULL) {
        DEPOT_FAIL(err, INVALID, "signature \"%s\" cannot be read past argument %zu", text, out->n);
        return depot_hint(
            err,
            "at most %d times name: type or name?: type, with type string, integer, number, boolean, table "
            "or any",
            SIGNATURE_ARGS_MAX);
    }
    p = skip(p + 1);
    if (*p == '\0') {
        return true;
    }
    if (*p != ':' || strlen(skip(p + 1)) >= sizeof(out->returns)) {
        return DEPOT_FAIL(err, INVALID, "signature \"%s\" has something else than \": types\" after its arguments",
                          text);
    }
    memcpy(out->returns, skip(p + 1), strlen(skip(p + 1)) + 1);
    return true;
}
