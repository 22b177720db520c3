/* Values against tables of fields: what is accepted, filled in, and refused with which words. */
#include <string.h>

#include "api/api.h"
#include "tap.h"

static depot_arena *arena;

static const char *const speeds[] = { "slow", "fast", NULL };
static const depot_field point[] = {
    { .name = "x", .type = DEPOT_T_INT, .flags = DEPOT_REQUIRED },
    { .name = "label", .type = DEPOT_T_STRING, .def = "here" },
    { .name = NULL },
};
static const depot_field point_item[] = { { .name = "point", .type = DEPOT_T_OBJECT, .fields = point }, { .name = NULL } };
static const depot_field fields[] = {
    { .name = "name", .type = DEPOT_T_STRING, .min = 2, .max = 5 },
    { .name = "flag", .type = DEPOT_T_BOOL },
    { .name = "limit", .type = DEPOT_T_INT, .min = 1, .max = 500 },
    { .name = "any_int", .type = DEPOT_T_INT },
    { .name = "ratio", .type = DEPOT_T_NUMBER, .min = 0, .max = 1 },
    { .name = "size", .type = DEPOT_T_SIZE, .min = 0, .max = 1 << 20 },
    { .name = "wait", .type = DEPOT_T_DURATION, .min = 0, .max = 60000 },
    { .name = "speed", .type = DEPOT_T_ENUM, .choices = speeds },
    { .name = "tags", .type = DEPOT_T_LIST },
    { .name = "secret", .type = DEPOT_T_SECRET, .min = 8, .max = 64 },
    { .name = "regex", .type = DEPOT_T_REGEX },
    { .name = "id", .type = DEPOT_T_UUID },
    { .name = "at", .type = DEPOT_T_TIME, .flags = DEPOT_NULLABLE },
    { .name = "sha", .type = DEPOT_T_SHA256 },
    { .name = "url", .type = DEPOT_T_URL },
    { .name = "point", .type = DEPOT_T_OBJECT, .fields = point },
    { .name = "points", .type = DEPOT_T_ARRAY, .fields = point_item, .min = 1, .max = 2 },
    { .name = "open", .type = DEPOT_T_OBJECT },
    { .name = "things", .type = DEPOT_T_ARRAY },
    { .name = "any", .type = DEPOT_T_ANY },
    { .name = NULL },
};

/* The checked object as text, or "pointer: message" of each fault, one a line. */
static const char *checked(const depot_field *rows, const char *text)
{
    depot_err   err = { 0 };
    depot_json *in = depot_json_parse(arena, text, strlen(text), &err), *out = NULL, *faults = NULL;
    char       *all = depot_strdup(arena, "");

    if (in == NULL) {
        return depot_strdup(arena, err.msg);
    }
    if (api_validate(arena, rows, in, &out, &faults, &err)) {
        return faults != NULL ? "faults without failure" : depot_json_text(arena, out);
    }
    if (err.code != DEPOT_E_INVALID || err.msg[0] == '\0') {
        return "failed without words";
    }
    for (size_t i = 0; i < depot_json_len(faults); i++) {
        const depot_json *fault = depot_json_at(faults, i);
        all = depot_strf(arena, "%s%s%s: %s", all, i == 0 ? "" : "\n", depot_json_get_str(fault, "pointer", "?"),
                         depot_json_get_str(fault, "message", "?"));
    }
    return all;
}

static void fitting_values_pass(void)
{
    static const char *const same[] = {
        "{}",
        "{\"name\":\"ab\"}",
        "{\"flag\":false}",
        "{\"limit\":500}",
        "{\"any_int\":-9223372036854775808}",
        "{\"any_int\":9007199254740993}",
        "{\"ratio\":0.5}",
        "{\"size\":1048576}",
        "{\"speed\":\"fast\"}",
        "{\"tags\":[\"a\",\"b,c\",\"\"]}",
        "{\"tags\":[]}",
        "{\"secret\":\"12345678\"}",
        "{\"regex\":\"^a+$\"}",
        "{\"id\":\"0a0b0c0d-1111-2222-3333-444455556666\"}",
        "{\"at\":\"2026-11-20T09:23:33Z\"}",
        "{\"at\":null}",
        "{\"sha\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}",
        "{\"url\":\"https://example.org/x\"}",
        "{\"point\":{\"x\":1,\"label\":\"there\"}}",
        "{\"open\":{\"a\":[1,{\"b\":null}]}}",
        "{\"things\":[1,\"a\",null,[]]}",
        "{\"any\":null}",
        "{\"any\":{\"deep\":[1]}}",
    };

    for (size_t i = 0; i < DEPOT_N(same); i++) {
        is_str(checked(fields, same[i]), same[i], same[i]);
    }
}

static void values_get_one_form(void)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        { "{\"size\":\"64k\"}", "{\"size\":65536}" },
        { "{\"wait\":\"10s\"}", "{\"wait\":10000}" },
        { "{\"wait\":250}", "{\"wait\":250}" },
        { "{\"id\":\"0A0B0C0D-1111-2222-3333-444455556666\"}", "{\"id\":\"0a0b0c0d-1111-2222-3333-444455556666\"}" },
        { "{\"point\":{\"x\":1}}", "{\"point\":{\"x\":1,\"label\":\"here\"}}" },
        { "{\"points\":[{\"x\":1},{\"label\":\"b\",\"x\":2}]}",
          "{\"points\":[{\"x\":1,\"label\":\"here\"},{\"x\":2,\"label\":\"b\"}]}" },
        { "{\"flag\":true,\"name\":\"abc\"}", "{\"name\":\"abc\",\"flag\":true}" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        is_str(checked(fields, rows[i].text), rows[i].want, rows[i].text);
    }
}

static void misfits_are_named(void)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        { "[]", ": must be an object" },
        { "{\"name\":1}", "/name: must be a string" },
        { "{\"name\":null}", "/name: must be a string" },
        { "{\"name\":\"a\"}", "/name: a length of 1 bytes is out of range 2..5 bytes" },
        { "{\"flag\":1}", "/flag: must be true or false" },
        { "{\"flag\":\"yes\"}", "/flag: must be true or false" },
        { "{\"limit\":501}", "/limit: 501 is out of range 1..500" },
        { "{\"limit\":\"5\"}", "/limit: must be an integer" },
        { "{\"limit\":5.0}", "/limit: must be an integer" },
        { "{\"ratio\":1.5}", "out of range 0..1" },
        { "{\"ratio\":\"a\"}", "/ratio: must be a number" },
        { "{\"size\":true}", "/size: must be a number of bytes" },
        { "{\"size\":\"2MiB\"}", "out of range" },
        { "{\"size\":-1}", "/size: " },
        { "{\"wait\":\"10\"}", "/wait: " },
        { "{\"wait\":60001}", "out of range" },
        { "{\"speed\":\"fats\"}", "/speed: \"fats\" is none of slow, fast; did you mean \"fast\"?" },
        { "{\"tags\":\"a\"}", "/tags: must be an array of strings" },
        { "{\"tags\":[\"a\",1]}", "/tags/1: must be a string" },
        { "{\"secret\":\"1234567\"}", "/secret: a length of 7 bytes is out of range 8..64 bytes" },
        { "{\"regex\":\"(\"}", "/regex: " },
        { "{\"id\":\"x\"}", "/id: \"x\" is not a UUID" },
        { "{\"id\":\"\"}", "/id: must not be empty" },
        { "{\"at\":\"yesterday\"}", "/at: " },
        { "{\"sha\":\"ABC\"}", "/sha: " },
        { "{\"url\":\"nothing\"}", "/url: " },
        { "{\"point\":{}}", "/point/x: is missing" },
        { "{\"point\":{\"x\":1,\"labl\":\"b\"}}", "/point/labl: there is no such field; did you mean \"label\"?" },
        { "{\"points\":[]}", "/points: 0 items are out of range 1..2" },
        { "{\"points\":[{\"x\":1},{\"x\":\"2\"}]}", "/points/1/x: must be an integer" },
        { "{\"open\":[]}", "/open: must be an object" },
        { "{\"things\":{}}", "/things: must be an array" },
        { "{\"spede\":1}", "/spede: there is no such field; did you mean \"speed\"?" },
        { "{\"a/b~c\":1}", "/a~1b~0c: there is no such field" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        contains(checked(fields, rows[i].text), rows[i].want, rows[i].text);
    }
}

static void all_faults_come_at_once(void)
{
    const char *text = checked(fields, "{\"name\":1,\"limit\":0,\"zzzzzzzzzz\":1,\"point\":{\"label\":2}}");

    is_str(text,
           "/name: must be a string\n/limit: 0 is out of range 1..500\n/point/x: is missing\n/point/label: must be a string\n"
           "/zzzzzzzzzz: there is no such field",
           "five faults");
}

static void secrets_are_not_repeated(void)
{
    ok(strstr(checked(fields, "{\"secret\":\"hunter2\"}"), "hunter2") == NULL, "a short secret");
    ok(strstr(checked(fields, "{\"url\":\"hunter2\"}"), "hunter2") == NULL, "a url that is none");
}

static void many_faults_are_counted(void)
{
    depot_buf   text = { 0 };
    depot_err   err = { 0 };
    depot_json *out = NULL, *faults = NULL;

    depot_buf_adds(&text, "{");
    for (int i = 0; i < 5000; i++) {
        depot_buf_addf(&text, "%s\"zzzz%d\":1", i == 0 ? "" : ",", i);
    }
    depot_buf_adds(&text, "}");
    depot_json *in = depot_json_parse(arena, text.data, text.len, &err);
    ok(in != NULL && !api_validate(arena, fields, in, &out, &faults, &err), "refused");
    is_int(depot_json_len(faults), 50, "the first ones are listed");
    contains(err.msg, "and 4997 more", "the others are counted");
    depot_buf_free(&text);
}

static void defaults_and_requirements_hold(void)
{
    static const depot_field rows[] = {
        { .name = "must", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED },
        { .name = "size", .type = DEPOT_T_SIZE, .def = "1k" },
        { .name = "list", .type = DEPOT_T_LIST, .def = "a, b" },
        { .name = "mode", .type = DEPOT_T_ENUM, .def = "slow", .choices = speeds },
        { .name = "flag", .type = DEPOT_T_BOOL, .def = "yes" },
        { .name = "object", .type = DEPOT_T_OBJECT, .def = "{\"a\": 1}" },
        { .name = NULL },
    };

    is_str(checked(rows, "{\"must\":\"x\"}"),
           "{\"must\":\"x\",\"size\":1024,\"list\":[\"a\",\"b\"],\"mode\":\"slow\",\"flag\":true,\"object\":{\"a\":1}}", "defaults");
    is_str(checked(rows, "{}"), "/must: is missing", "a required one");
    is_str(checked(NULL, "{}"), "{}", "no fields at all");
    is_str(checked(NULL, "{\"a\":1}"), "/a: there is no such field", "no fields at all, but one given");
}

int main(void)
{
    arena = depot_arena_new();
    run(fitting_values_pass);
    run(values_get_one_form);
    run(misfits_are_named);
    run(all_faults_come_at_once);
    run(secrets_are_not_repeated);
    run(many_faults_are_counted);
    run(defaults_and_requirements_hold);
    depot_arena_free(arena);
    return done();
}
