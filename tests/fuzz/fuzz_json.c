/* fuzz_json.c - any bytes as JSON: what is accepted has a text that reads back as the same text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depot/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_err                                 err = { 0 };
    const depot_json                         *value = depot_json_parse(arena, (const char *)data, size, &err);

    if (value == NULL) {
        if (err.code != DEPOT_E_MALFORMED || err.msg[0] == '\0') {
            abort();
        }
        return 0;
    }
    const char *pretty = depot_json_pretty(arena, value);
    const char *text = depot_json_text(arena, value);
    if (!depot_utf8_valid(text, strlen(text))) {
        abort();
    }
    const depot_json *again = depot_json_parse(arena, text, strlen(text), &err);
    const depot_json *indented = depot_json_parse(arena, pretty, strlen(pretty), &err);
    if (again == NULL || indented == NULL) {
        (void)fprintf(stderr, "%s: %s\n", text, err.msg);
        abort();
    }
    if (strcmp(depot_json_text(arena, again), text) != 0 || strcmp(depot_json_text(arena, indented), text) != 0) {
        (void)fprintf(stderr, "%s\n", text);
        abort();
    }
    return 0;
}
