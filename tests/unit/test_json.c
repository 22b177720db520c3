/* test_json.c - JSON: strict reading, exact numbers, clean building, lifetimes on the arena. */
#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#include "depot/json.h"
#include "tap.h"

static const char *again(depot_arena *arena, const char *text)
{
    depot_err   err = { 0 };
    depot_json *value = depot_json_parse(arena, text, strlen(text), &err);

    return value == NULL ? depot_strf(arena, "error: %s", err.msg) : depot_json_text(arena, value);
}

static void good_texts_come_back(void)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        { " null ", "null" },
        { "true", "true" },
        { "false", "false" },
        { "\"x\"", "\"x\"" },
        { "{}", "{}" },
        { "[ ]", "[]" },
        { "[1, 2.5,\"a\\u00e4\\n\"]", "[1,2.5,\"a\xC3\xA4\\n\"]" },
        { "{\"z\": 1, \"a\": {\"m\": []}}", "{\"z\":1,\"a\":{\"m\":[]}}" },
        { "9223372036854775807", "9223372036854775807" },
        { "-9223372036854775808", "-9223372036854775808" },
        { "9007199254740993", "9007199254740993" },
        { "0.1", "0.1" },
        { "1.0", "1.0" },
        { "1e2", "100.0" },
        { "-0.0", "-0.0" },
        { "1e300", "1e+300" },
        { "\"\\ud83d\\ude00\"", "\"\xF0\x9F\x98\x80\"" },
        { "\"\\\" \\\\ \\/ \\b \\f \\t\"", "\"\\\" \\\\ / \\b \\f \\t\"" },
        { "\"[{[{\"", "\"[{[{\"" },
    };
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        is_str(again(arena, rows[i].text), rows[i].want, rows[i].text);
        is_str(again(arena, rows[i].want), rows[i].want, "and again");
    }
}

static void bad_texts_are_refused(void)
{
    static const char *const rows[] = {
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "'x'",
        "01",
        "+1",
        ".5",
        "1.",
        "1e",
        "NaN",
        "Infinity",
        "nul",
        "[1] 2",
        "{\"a\":1,\"a\":2}",
        "\"\\u0000\"",
        "{\"\\u0000\":1}",
        "\"\\ud83d\"",
        "\"\\x\"",
        "\"a\nb\"",
        "\"\xFF\"",
        "1e999",
        "9223372036854775808",
        "-9223372036854775809",
        "[1 2]",
        "// c\n1",
        "\xEF\xBB\xBF[]",
        "]",
        "\"open",
        "\"open\\",
    };
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err err = { 0 };
        ok(depot_json_parse(arena, rows[i], strlen(rows[i]), &err) == NULL, rows[i]);
        is_int(err.code, DEPOT_E_MALFORMED, "as MALFORMED");
        contains(err.msg, "line 1 column", "with its place");
    }
    depot_err err = { 0 };
    ok(depot_json_parse(arena, "1\0", 2, &err) == NULL, "a NUL behind the value");
    is_str(err.msg, "line 1: a NUL byte outside of any string", "is told");
    ok(depot_json_parse(arena, "{\n \"a\": x}", 10, &err) == NULL, "an error on the second line");
    contains(err.msg, "line 2 column 7", "is told there");
}

static void nesting_has_a_limit(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    char                                      text[100001];

    for (size_t depth = 63; depth <= 66; depth++) {
        depot_err err = { 0 };
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        is_int(depot_json_parse(arena, text, 2 * depth, &err) != NULL, depth <= 64, "64 levels and no more");
    }
    depot_err err = { 0 };
    memset(text, '[', sizeof(text));
    text[2] = '\n';
    ok(depot_json_parse(arena, text, sizeof(text), &err) == NULL, "a hundred thousand levels");
    is_str(err.msg, "line 2: nested more than 64 levels deep", "message");
    is_int(err.code, DEPOT_E_MALFORMED, "as MALFORMED");
}

static void values_are_packed(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_json                               *part = depot_json_str(arena, "shared");
    const depot_json                         *value =
        depot_json_pack(arena, "{s:s, s:s?, s:I, s:i, s:b, s:f, s:n, s:o, s:o?, s:{s:[s,i,[],{}]}}", "name", "n",
                        "none", (char *)NULL, "big", INT64_MAX, "small", -1, "yes", true, "real", 0.5, "null", "part",
                        part, "gone", (depot_json *)NULL, "in", "list", "a", 2);

    is_str(depot_json_text(arena, value),
           "{\"name\":\"n\",\"none\":null,\"big\":9223372036854775807,\"small\":-1,\"yes\":true,\"real\":0.5,"
           "\"null\":null,\"part\":\"shared\",\"gone\":null,\"in\":{\"list\":[\"a\",2,[],{}]}}",
           "every letter of the format");
    is_str(depot_json_text(arena, part), "\"shared\"", "the part lives on");
    is_str(depot_json_text(arena, depot_json_pack(arena, "s", "x")), "\"x\"", "a single value");
}

static void broken_formats_abort(void)
{
    static const char *const formats[] = { "", "{", "[", "{s", "{i:i}", "x", "s s", "[s" };

    for (size_t i = 0; i < DEPOT_N(formats); i++) {
        pid_t pid = fork();
        if (pid == 0) {
            depot_arena *arena = depot_arena_new();
            (void)signal(SIGABRT, SIG_DFL);
            (void)close(STDERR_FILENO);
            _exit(depot_json_pack(arena, formats[i], "a", "b", "c") != NULL);
        }
        int status = 0;
        ok(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, formats[i]);
    }
}

static void values_are_built(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_json                               *list = depot_json_array(arena);
    depot_json                               *object = depot_json_object(arena);

    depot_json_add(list, depot_json_int(arena, INT64_MIN));
    depot_json_add(list, depot_json_real(arena, (double)NAN));
    depot_json_add(list, depot_json_real(arena, 2));
    depot_json_add(list, depot_json_bool(arena, false));
    depot_json_add(list, depot_json_null(arena));
    depot_json_add(list, depot_json_strn(arena, "abc", 2));
    depot_json_add(list, NULL);
    depot_json_set(object, "list", list);
    depot_json_set(object, "x", depot_json_int(arena, 1));
    depot_json_set(object, "x", depot_json_int(arena, 2));
    depot_json_set(object, "y", NULL);
    depot_json_set(object, "z", depot_json_str(arena, NULL));
    depot_json_unset(object, "y");
    depot_json_unset(object, "absent");
    is_str(depot_json_text(arena, object),
           "{\"list\":[-9223372036854775808,null,2.0,false,null,\"ab\",null],\"x\":2,\"z\":null}", "as text");
    is_str(depot_json_pretty(arena, depot_json_pack(arena, "{s:[i,i], s:[], s:{}}", "a", 1, 2, "b", "c")),
           "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": [],\n  \"c\": {}\n}", "indented by two");
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
    depot_buf_adds(&out, "x=");
    depot_json_write(&out, depot_json_bool(arena, true));
    is_str(out.data, "x=true", "behind what is in a buffer");
}

static void dirty_bytes_are_replaced(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_json                               *object = depot_json_object(arena);

    is_str(depot_json_text(arena, depot_json_str(arena, "a\xFF")), "\"a\xEF\xBF\xBD\"", "a byte that is no UTF-8");
    is_str(depot_json_text(arena, depot_json_strn(arena, "a\0b", 3)),
           "\"a\xEF\xBF\xBD"
           "b\"",
           "a NUL");
    depot_json_set(object, "k\xC3", depot_json_int(arena, 1));
    is_str(depot_json_text(arena, object), "{\"k\xEF\xBF\xBD\":1}", "in a key");
    is_str(depot_json_text(arena, depot_json_pack(arena, "[s]", "\xE2\x82")), "[\"\xEF\xBF\xBD\xEF\xBF\xBD\"]",
           "packed");
}

static void members_are_read(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const depot_json *o = depot_json_pack(arena, "{s:s, s:i, s:f, s:b, s:n, s:[i,i]}", "s", "text", "i", 7, "f", 1.5,
                                          "b", true, "n", "a", 1, 2);
    size_t            len = 99;

    is_str(depot_json_get_str(o, "s", "d"), "text", "string");
    is_str(depot_json_get_str(o, "i", "d"), "d", "an int is no string");
    is_str(depot_json_get_str(o, "absent", NULL), NULL, "absent");
    is_int(depot_json_get_int(o, "i", -1), 7, "int");
    is_int(depot_json_get_int(o, "f", -1), -1, "a real is no int");
    ok(depot_json_get_real(o, "f", -1) == 1.5 && depot_json_get_real(o, "i", -1) == 7, "real, of an int too");
    ok(depot_json_get_real(o, "s", -1) == -1, "a string is no real");
    ok(depot_json_get_bool(o, "b", false) && depot_json_get_bool(o, "i", true) && !depot_json_get_bool(o, "i", false),
       "bool");
    is_int(depot_json_len(o), 6, "members");
    is_int(depot_json_len(depot_json_get(o, "a")), 2, "elements");
    is_int(depot_json_integer(depot_json_at(depot_json_get(o, "a"), 1)), 2, "element");
    ok(depot_json_at(depot_json_get(o, "a"), 2) == NULL, "behind the last one");
    ok(depot_json_get(o, "absent") == NULL && depot_json_get(NULL, "x") == NULL, "what is not there is NULL");
    is_int(depot_json_len(NULL), 0, "nothing has no members");
    is_str(depot_json_string(depot_json_get(o, "s"), &len), "text", "value as string");
    is_int(len, 4, "with its length");
    ok(depot_json_string(depot_json_get(o, "i"), &len) == NULL && len == 0, "an int is none");
    ok(depot_json_number(depot_json_get(o, "i")) == 7 && depot_json_boolean(depot_json_get(o, "b")), "number and bool");
    is_int(depot_json_get_int(NULL, "x", 5), 5, "default of nothing");
}

static void types_are_told(void)
{
    static const struct {
        const char     *text;
        depot_json_type want;
    } rows[] = {
        { "null", DEPOT_JSON_NULL }, { "true", DEPOT_JSON_BOOL }, { "false", DEPOT_JSON_BOOL },
        { "1", DEPOT_JSON_INT },     { "1.0", DEPOT_JSON_REAL },  { "\"\"", DEPOT_JSON_STRING },
        { "[]", DEPOT_JSON_ARRAY },  { "{}", DEPOT_JSON_OBJECT },
    };
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err err = { 0 };
        is_int(depot_json_typeof(depot_json_parse(arena, rows[i].text, strlen(rows[i].text), &err)), rows[i].want,
               rows[i].text);
    }
    is_int(depot_json_typeof(NULL), DEPOT_JSON_NULL, "absent");
}

static void members_come_in_order(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_json                               *o = depot_json_object(arena);
    DEPOT_AUTO(depot_buf_free) depot_buf      seen = { 0 };
    const char                               *key;
    const depot_json                         *value;

    for (int i = 0; i < 20; i++) {
        depot_json_set(o, depot_strf(arena, "k%d", 19 - i), depot_json_int(arena, i));
    }
    for (size_t it = 0; depot_json_next(o, &it, &key, &value);) {
        depot_buf_addf(&seen, "%s=%d ", key, (int)depot_json_integer(value));
    }
    is_str(
        seen.data,
        "k19=0 k18=1 k17=2 k16=3 k15=4 k14=5 k13=6 k12=7 k11=8 k10=9 k9=10 k8=11 k7=12 k6=13 k5=14 k4=15 k3=16 k2=17 "
        "k1=18 k0=19 ",
        "order of insertion");
    size_t it = 0;
    ok(!depot_json_next(depot_json_object(arena), &it, &key, &value), "an empty one has none");
    it = 0;
    ok(!depot_json_next(depot_json_int(arena, 1), &it, &key, &value), "an int has none");
}

int main(void)
{
    run(good_texts_come_back);
    run(bad_texts_are_refused);
    run(nesting_has_a_limit);
    run(values_are_packed);
    run(broken_formats_abort);
    run(values_are_built);
    run(dirty_bytes_are_replaced);
    run(members_are_read);
    run(types_are_told);
    run(members_come_in_order);
    return done();
}
