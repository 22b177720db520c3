/* fuzz_body.c - any bytes as a request's body: what is accepted by a table of every type is accepted again, unchanged, and
 * what is not has faults in words, without the secret. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const choices[] = { "one", "two", NULL };
static const depot_field inner[] = {
    { .name = "x", .type = DEPOT_T_INT, .flags = DEPOT_REQUIRED, .min = -5, .max = 5 },
    { .name = "y", .type = DEPOT_T_LIST, .def = "a,b" },
    { .name = NULL },
};
static const depot_field item[] = { { .name = "i", .type = DEPOT_T_OBJECT, .fields = inner }, { .name = NULL } };
static const depot_field fields[] = {
    { .name = "st", .type = DEPOT_T_STRING, .max = 10 },
    { .name = "bo", .type = DEPOT_T_BOOL, .def = "no" },
    { .name = "in", .type = DEPOT_T_INT },
    { .name = "nu", .type = DEPOT_T_NUMBER, .flags = DEPOT_NULLABLE },
    { .name = "si", .type = DEPOT_T_SIZE, .max = 1 << 30 },
    { .name = "du", .type = DEPOT_T_DURATION },
    { .name = "en", .type = DEPOT_T_ENUM, .choices = choices },
    { .name = "li", .type = DEPOT_T_LIST },
    { .name = "pa", .type = DEPOT_T_PATH },
    { .name = "ur", .type = DEPOT_T_URL },
    { .name = "se", .type = DEPOT_T_SECRET },
    { .name = "cr", .type = DEPOT_T_CRON },
    { .name = "re", .type = DEPOT_T_REGEX },
    { .name = "uu", .type = DEPOT_T_UUID },
    { .name = "ti", .type = DEPOT_T_TIME },
    { .name = "sh", .type = DEPOT_T_SHA256 },
    { .name = "ob", .type = DEPOT_T_OBJECT, .fields = inner },
    { .name = "ar", .type = DEPOT_T_ARRAY, .fields = item, .min = 1, .max = 5 },
    { .name = "op", .type = DEPOT_T_OBJECT },
    { .name = "an", .type = DEPOT_T_ANY },
    { .name = NULL },
};

static void must(bool good)
{
    if (!good) {
        abort();
    }
}

static void check_faults(depot_arena *arena, const depot_json *faults, const depot_err *err)
{
    must(err->code == DEPOT_E_INVALID && err->msg[0] != '\0' && depot_json_len(faults) > 0 && depot_json_len(faults) <= 50);
    for (size_t i = 0; i < depot_json_len(faults); i++) {
        const char *pointer = depot_json_get_str(depot_json_at(faults, i), "pointer", NULL);
        must(pointer != NULL && (pointer[0] == '/' || pointer[0] == '\0'));
        must(depot_json_get_str(depot_json_at(faults, i), "message", "")[0] != '\0');
    }
    const char *text = depot_json_text(arena, api_problem(arena, err, "r", faults));
    must(depot_utf8_valid(text, strlen(text)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_err                                 err = { 0 };
    depot_json                               *out = NULL, *again = NULL, *faults = NULL;
    const depot_json                         *in = depot_json_parse(arena, (const char *)data, size, &err);

    if (in == NULL) {
        return 0;
    }
    if (!api_validate(arena, fields, in, &out, &faults, &err)) {
        check_faults(arena, faults, &err);
        return 0;
    }
    must(faults == NULL && out != NULL);
    must(api_validate(arena, fields, out, &again, &faults, &err));
    must(strcmp(depot_json_text(arena, out), depot_json_text(arena, again)) == 0);
    return 0;
}
