/* test_text.c - durations, sizes, numbers, UTF-8, globs, escapes, suggestions, digests. */
#include <math.h>

#include "base/text.h"
#include "tap.h"

#define REFUSED INT64_MIN

typedef bool (*parse_fn)(const char *text, int64_t *out, depot_err *err);
typedef struct parse_row {
    const char *text;
    int64_t     want;
} parse_row;

static void check_rows(parse_fn parse, const parse_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        depot_err err = { 0 };
        int64_t   got = REFUSED;
        bool      good = parse(rows[i].text, &got, &err);

        is_int(got, rows[i].want, rows[i].text);
        if (rows[i].want == REFUSED) {
            ok(!good && err.code == DEPOT_E_INVALID, "is refused as INVALID");
            contains(err.msg, rows[i].text, "and the message shows it");
        } else {
            ok(good && err.code == DEPOT_OK, "is accepted");
        }
    }
}

static void durations_need_a_unit(void)
{
    static const parse_row rows[] = {
        { "0", 0 },
        { "250ms", 250 },
        { "10s", 10000 },
        { "5m", 300000 },
        { "2h", 7200000 },
        { "7d", 604800000 },
        { "1w", 604800000 },
        { "0s", 0 },
        { "15250284452w", 15250284452LL * 604800000 },
        { "15250284453w", REFUSED },
        { "10", REFUSED },
        { "", REFUSED },
        { "s", REFUSED },
        { "-1s", REFUSED },
        { "+1s", REFUSED },
        { "1.5s", REFUSED },
        { " 1s", REFUSED },
        { "1 s", REFUSED },
        { "1S", REFUSED },
        { "1sec", REFUSED },
        { "1h30m", REFUSED },
        { "99999999999999999999s", REFUSED },
        { "00", REFUSED },
    };

    check_rows(depot_parse_duration, rows, DEPOT_N(rows));
}

static void sizes_have_two_families_of_units(void)
{
    static const parse_row rows[] = {
        { "0", 0 },
        { "512", 512 },
        { "512B", 512 },
        { "64k", 65536 },
        { "64K", 65536 },
        { "64kiB", 65536 },
        { "64KiB", 65536 },
        { "64kB", 64000 },
        { "64KB", 64000 },
        { "64M", 67108864 },
        { "64MiB", 67108864 },
        { "64MB", 64000000 },
        { "10GB", 10000000000 },
        { "10G", 10737418240 },
        { "2T", 2199023255552 },
        { "2TiB", 2199023255552 },
        { "2TB", 2000000000000 },
        { "8388607T", 8388607LL << 40 },
        { "8388608T", REFUSED },
        { "", REFUSED },
        { "k", REFUSED },
        { "-1k", REFUSED },
        { "1.5G", REFUSED },
        { "1 G", REFUSED },
        { "1g", REFUSED },
        { "1PB", REFUSED },
    };

    check_rows(depot_parse_size, rows, DEPOT_N(rows));
}

static void integers_are_exact(void)
{
    static const parse_row rows[] = {
        { "0", 0 },
        { "-0", 0 },
        { "+5", 5 },
        { "007", 7 },
        { "9223372036854775807", INT64_MAX },
        { "-9223372036854775807", -INT64_MAX },
        { "9223372036854775808", REFUSED },
        { "-9223372036854775809", REFUSED },
        { "", REFUSED },
        { "-", REFUSED },
        { "+", REFUSED },
        { "--1", REFUSED },
        { "1 ", REFUSED },
        { "0x10", REFUSED },
        { "1e3", REFUSED },
    };
    depot_err err = { 0 };
    int64_t   n = 0;

    check_rows(depot_parse_int, rows, DEPOT_N(rows));
    ok_err(depot_parse_int("-9223372036854775808", &n, &err), &err, "the smallest integer");
    ok(n == INT64_MIN, "is exact");
}

static void booleans_have_eight_names(void)
{
    static const struct {
        const char *text;
        bool        want;
    } rows[] = { { "yes", true },  { "no", false },    { "on", true }, { "off", false },
                 { "true", true }, { "false", false }, { "1", true },  { "0", false } };
    depot_err err = { 0 };
    bool      b = false;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        b = !rows[i].want;
        ok(depot_parse_bool(rows[i].text, &b, &err) && b == rows[i].want, rows[i].text);
    }
    ok(!depot_parse_bool("Yes", &b, &err), "Yes is refused");
    is_str(err.msg, "\"Yes\" is neither yes nor no", "message");
    contains(err.hint, "true", "hint lists the names");
}

static void durations_and_sizes_are_printed(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    static const parse_row                    durations[] = {
                           { "0", 0 },          { "1500ms", 1500 },
                           { "10s", 10000 },    { "90s", 90000 },
                           { "2m", 120000 },    { "1d", 86400000 },
                           { "1w", 604800000 }, { "8d", 691200000 },
                           { "-10s", -10000 },  { "9223372036854775807ms", INT64_MAX },
    };
    static const parse_row sizes[] = {
        { "0 B", 0 },           { "1023 B", 1023 },       { "1.0 KiB", 1024 },   { "1.4 MiB", 1468006 },
        { "1.0 MiB", 1048575 }, { "8.0 EiB", INT64_MAX }, { "-2.0 KiB", -2048 }, { "-1023 B", -1023 },
    };

    for (size_t i = 0; i < DEPOT_N(durations); i++) {
        is_str(depot_format_duration(arena, durations[i].want), durations[i].text, durations[i].text);
    }
    for (size_t i = 0; i < DEPOT_N(sizes); i++) {
        is_str(depot_format_size(arena, sizes[i].want), sizes[i].text, sizes[i].text);
    }
}

static void globs_match_whole_texts(void)
{
    static const struct {
        const char *pattern, *text;
        bool        want;
    } rows[] = {
        { "", "", true },           { "", "a", false },
        { "*", "", true },          { "**", "abc", true },
        { "abc", "abc", true },     { "abc", "abcd", false },
        { "a*c", "abbc", true },    { "a*c", "abcd", false },
        { "*.lua", "x.lua", true }, { "*.lua", ".lua.lua", true },
        { "a?c", "abc", true },     { "a?c", "ac", false },
        { "?", "\xC3\xA4", true },  { "??", "\xC3\xA4", false },
        { "*?", "", false },        { "*a*b*c*", "xxaxxbxxcxx", true },
        { "*aab", "aaab", true },   { "job.*", "job.failed", true },
        { "job.*", "jobs", false }, { "[a]", "a", false },
        { "?", "\xFF", true },      { "*\xC3\xA4?", "\xC3\xA4\xC3\xA4\xC3\xA4", true },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "%s on %s", rows[i].pattern, rows[i].text);
        is_int(depot_glob(rows[i].pattern, rows[i].text), rows[i].want, name);
    }
}

static void many_stars_stay_cheap(void)
{
    char text[20001];

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    int64_t before = depot_now_ms();
    ok(!depot_glob("*a*a*a*a*a*a*a*a*a*a*b", text), "no match");
    ok(depot_now_ms() - before < 5000, "without exponential search");
}

static void utf8_is_judged_strictly(void)
{
    static const struct {
        const char *name, *text;
        size_t      n;
        bool        want;
    } rows[] = {
        { "empty", "", 0, true },
        { "NUL is a character", "a\0b", 3, true },
        { "two bytes", "\xC3\xA4", 2, true },
        { "three bytes", "\xE2\x82\xAC", 3, true },
        { "four bytes", "\xF0\x9F\x98\x80", 4, true },
        { "last one", "\xF4\x8F\xBF\xBF", 4, true },
        { "beyond the last one", "\xF4\x90\x80\x80", 4, false },
        { "overlong two", "\xC1\xBF", 2, false },
        { "overlong three", "\xE0\x9F\xBF", 3, false },
        { "overlong four", "\xF0\x8F\xBF\xBF", 4, false },
        { "surrogate", "\xED\xA0\x80", 3, false },
        { "before surrogates", "\xED\x9F\xBF", 3, true },
        { "lone continuation", "\x80", 1, false },
        { "cut short", "\xE2\x82", 2, false },
        { "wrong third", "\xE2\x82\x41", 3, false },
        { "FE", "\xFE", 1, false },
        { "wrong fourth", "\xF0\x9F\x98\xC0", 4, false },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        is_int(depot_utf8_valid(rows[i].text, rows[i].n), rows[i].want, rows[i].name);
    }
    is_int(text_utf8_step("", 0), 0, "no bytes, no step");
}

static void cuts_fall_between_characters(void)
{
    const char         *text = "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80z"; /* 1 2 3 4 1 bytes */
    static const size_t want[] = { 0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11 };

    for (size_t max = 0; max < DEPOT_N(want); max++) {
        is_int(text_utf8_cut(text, 11, max), want[max], "cut");
    }
    is_int(text_utf8_cut("\x80\x80\x80\x80\x80", 5, 4), 4, "what is no UTF-8 is cut where it is");
    is_int(text_utf8_cut("a\xC3", 2, 2), 2, "what fits is not cut, whatever it is");
}

static void dirt_is_replaced(void)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };

    text_add_clean(&out, "a\xFF\xC3\xA4\0\xE2\x82", 7);
    is_str(out.data, "a\xEF\xBF\xBD\xC3\xA4\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", "each bad byte and NUL");
}

static void escapes_suit_json_and_terminals(void)
{
    static const struct {
        const char *text, *json, *print;
        size_t      n;
    } rows[] = {
        { "plain", "plain", "plain", 5 },
        { "a\"b\\c", "a\\\"b\\\\c", "a\"b\\c", 5 },
        { "\n\r\t\b\f", "\\n\\r\\t\\b\\f", "\\n\\r\\t\\b\\f", 5 },
        { "\0\x1b\x7f", "\\u0000\\u001b\\u007f", "\\u0000\\u001b\\u007f", 3 },
        { "\xC2\x9B[", "\\u009b[", "\\u009b[", 3 },
        { "\xC3\xA4\xFF", "\xC3\xA4\xEF\xBF\xBD", "\xC3\xA4\xEF\xBF\xBD", 3 },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_buf_free) depot_buf json = { 0 };
        DEPOT_AUTO(depot_buf_free) depot_buf print = { 0 };

        is_int(text_add_escaped(&json, rows[i].text, rows[i].n, SIZE_MAX), rows[i].n, "all of it is used");
        is_str(json.data, rows[i].json, "inside of a JSON string");
        is_int(text_add_printable(&print, rows[i].text, rows[i].n, SIZE_MAX), rows[i].n, "all of it is used");
        is_str(print.data, rows[i].print, "for people");
    }
}

static void escapes_stop_at_the_limit(void)
{
    static const struct {
        size_t      max, used;
        const char *want;
    } rows[] = {
        { 0, 0, "" },
        { 1, 1, "a" },
        { 2, 1, "a" },
        { 3, 2, "a\\n" },
        { 4, 2, "a\\n" },
        { 5, 4, "a\\n\xC3\xA4" },
        { 6, 5,
          "a\\n\xC3\xA4"
          "z" },
        { 7, 6,
          "a\\n\xC3\xA4"
          "zz" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
        depot_buf_adds(&out, "");
        is_int(text_add_escaped(&out,
                                "a\n\xC3\xA4"
                                "zz",
                                6, rows[i].max),
               rows[i].used, "bytes used");
        is_str(out.data, rows[i].want, "text within the limit");
    }
}

static void real_numbers_are_short_and_exact(void)
{
    static const struct {
        double      d;
        const char *want;
    } rows[] = { { 0, "0" },
                 { -0.0, "-0" },
                 { 0.1, "0.1" },
                 { 3, "3" },
                 { 1e300, "1e+300" },
                 { 1.0 / 3, "0.3333333333333333" },
                 { 5e-324, "4.94065645841247e-324" },
                 { 1e22, "1e+22" },
                 { 0.30000000000000004, "0.30000000000000004" },
                 { (double)INFINITY, "+Inf" },
                 { -(double)INFINITY, "-Inf" },
                 { (double)NAN, "NaN" } };
    char   text[TEXT_DOUBLE_SIZE];
    size_t wrong = 0;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        text_format_double(rows[i].d, text);
        is_str(text, rows[i].want, rows[i].want);
    }
    for (int i = 0; i < 20000; i++) {
        double d;
        depot_random(&d, sizeof(d));
        if (isfinite(d)) {
            text_format_double(d, text);
            wrong += strtod(text, NULL) != d;
        }
    }
    is_int(wrong, 0, "any double reads back as itself");
}

static void typing_mistakes_find_the_name(void)
{
    static const char *const names[] = { "lease", "workers", "max_depth", "on_full", NULL };
    static const struct {
        const char *word, *want;
    } rows[] = { { "leese", "lease" },
                 { "laese", "lease" },
                 { "worker", "workers" },
                 { "wrokers", "workers" },
                 { "max-depth", "max_depth" },
                 { "zzz", NULL },
                 { "on", NULL },
                 { "", NULL },
                 { "lease", "lease" },
                 { "mxa_dpeth", "max_depth" } };
    char endless[200];

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        is_str(depot_suggest(rows[i].word, names, DEPOT_N(names)), rows[i].want, rows[i].word);
    }
    memset(endless, 'e', sizeof(endless) - 1);
    endless[sizeof(endless) - 1] = '\0';
    ok(depot_suggest(endless, names, DEPOT_N(names)) == NULL, "a very long word has none");
    const char *const long_names[] = { endless };
    ok(depot_suggest("eeee", long_names, 1) == NULL, "a very long name is none");
    ok(depot_suggest("x", NULL, 0) == NULL, "no names, no suggestion");
}

static void hexadecimal_goes_both_ways(void)
{
    char    hex[7];
    uint8_t back[3] = { 0 };

    depot_hex("\x00\xAF\x5c", 3, hex);
    is_str(hex, "00af5c", "to text");
    ok(depot_unhex(hex, 3, back) && memcmp(back, "\x00\xAF\x5c", 3) == 0, "and back");
    ok(!depot_unhex("00AF5C", 3, back), "uppercase is refused");
    ok(!depot_unhex("00af5", 3, back), "a digit too few is refused");
    ok(!depot_unhex("00af5c0", 3, back), "a digit too many is refused");
    ok(!depot_unhex("00ag5c", 3, back), "g is refused");
    ok(!depot_unhex("", 3, back), "nothing is refused");
    ok(depot_unhex("", 0, back), "no bytes of nothing");
}

static void digests_are_those_of_the_standard(void)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        uint8_t sha[32];
        char    hex[65];
        depot_sha256(rows[i].text, strlen(rows[i].text), sha);
        depot_hex(sha, sizeof(sha), hex);
        is_str(hex, rows[i].want, "SHA-256");
    }
}

static void uuids_are_random_and_read_back(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    static const char *const                  bad[] = {
                         "",
                         "6ba7b810-9dad-11d1-80b4-00c04fd430c",
                         "6ba7b810-9dad-11d1-80b4-00c04fd430c80",
                         "6ba7b810x9dad-11d1-80b4-00c04fd430c8",
                         "6ba7b8109dad-11d1-80b4-00c04fd430c8-",
                         "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}",
                         "6ba7b810-9dad-11d1-80b4-00c04fd430cg",
    };
    uint8_t     id[16];
    const char *one = depot_uuid(arena);

    ok(depot_parse_uuid(one, id), "a new one can be read");
    is_int(one[14], '4', "version 4");
    ok(strchr("89ab", one[19]) != NULL, "variant of the standard");
    ok(strcmp(one, depot_uuid(arena)) != 0, "the next one is another");
    ok(depot_parse_uuid("6BA7B810-9dad-11d1-80b4-00C04FD430C8", id) && id[0] == 0x6b && id[15] == 0xc8, "either case");
    for (size_t i = 0; i < DEPOT_N(bad); i++) {
        ok(!depot_parse_uuid(bad[i], id), "refused");
    }
}

int main(void)
{
    run(durations_need_a_unit);
    run(sizes_have_two_families_of_units);
    run(integers_are_exact);
    run(booleans_have_eight_names);
    run(durations_and_sizes_are_printed);
    run(globs_match_whole_texts);
    run(many_stars_stay_cheap);
    run(utf8_is_judged_strictly);
    run(cuts_fall_between_characters);
    run(dirt_is_replaced);
    run(escapes_suit_json_and_terminals);
    run(escapes_stop_at_the_limit);
    run(real_numbers_are_short_and_exact);
    run(typing_mistakes_find_the_name);
    run(hexadecimal_goes_both_ways);
    run(digests_are_those_of_the_standard);
    run(uuids_are_random_and_read_back);
    return done();
}
