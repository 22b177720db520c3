/* problem.c - an error as an RFC 9457 problem document. */
#include <ctype.h>

#include "api/internal.h"

static const char *meaning_of(depot_code code)
{
    static const struct {
        depot_code  code;
        const char *meaning;
    } rows[] = {
#define DEPOT_ERROR(symbol, number, id, http, exit, retry, meaning) { DEPOT_E_##symbol, meaning },
#include "depot/errors.def"
#undef DEPOT_ERROR
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        if (rows[i].code == code) {
            return rows[i].meaning;
        }
    }
    return "an error that names no code of this list";
}

depot_json *api_problem(depot_arena *arena, const depot_err *err, const char *request_id, const depot_json *faults)
{
    static const char *const retries[] = {
        [DEPOT_RETRY_NO] = "no", [DEPOT_RETRY_SAFE] = "safe", [DEPOT_RETRY_UNCERTAIN] = "uncertain"
    };
    const char *id = depot_err_id(err);
    char       *type = depot_strf(arena, "urn:depotd:error:%s", id);

    for (char *s = type; *s != '\0'; s++) {
        *s = *s == '_' ? '-' : (char)tolower((unsigned char)*s);
    }
    depot_json *doc = depot_json_pack(arena, "{s:s, s:s, s:i, s:s, s:s, s:s}", "type", type, "title", meaning_of(err->code),
                                      "status", depot_err_http(err), "detail", err->msg, "code", id, "retry",
                                      retries[depot_err_retry(err)]);
    depot_json_set(doc, "error", depot_json_str(arena, err->msg)); /* as clients of postgresflow know it */
    if (err->hint[0] != '\0') {
        depot_json_set(doc, "hint", depot_json_str(arena, err->hint));
    }
    if (request_id != NULL) {
        depot_json_set(doc, "instance", depot_json_str(arena, depot_strf(arena, "urn:depotd:request:%s", request_id)));
        depot_json_set(doc, "request_id", depot_json_str(arena, request_id));
    }
    if (faults != NULL) {
        depot_json *fields = depot_json_array(arena);
        for (size_t i = 0; i < depot_json_len(faults); i++) {
            const depot_json *fault = depot_json_at(faults, i);
            depot_json_add(fields, depot_json_pack(arena, "{s:s, s:s}", "pointer", depot_json_get_str(fault, "pointer", ""),
                                                   "message", depot_json_get_str(fault, "message", "")));
        }
        depot_json_set(doc, "fields", fields);
    }
    return doc;
}

void api_problems(depot_req *req, depot_json *problems)
{
    req->problems = problems;
}
