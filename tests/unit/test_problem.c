/* Problem documents, and the text of tokens. */
#include <string.h>

#include "api/api.h"
#include "api/token.h"
#include "tap.h"

static depot_arena *arena;

static void a_problem_says_everything(void)
{
    depot_err err = { 0 };

    DEPOT_FAIL(&err, TOO_LARGE, "the body has 9 bytes");
    depot_hint(&err, "send less");
    const depot_json *p = api_problem(arena, &err, "r-1", NULL);
    is_str(depot_json_get_str(p, "type", NULL), "urn:depotd:error:payload-too-large", "type");
    is_str(depot_json_get_str(p, "title", NULL), "larger than the configured limit", "title");
    is_int(depot_json_get_int(p, "status", 0), 413, "status");
    is_str(depot_json_get_str(p, "detail", NULL), "the body has 9 bytes", "detail");
    is_str(depot_json_get_str(p, "code", NULL), "PAYLOAD_TOO_LARGE", "code");
    is_str(depot_json_get_str(p, "hint", NULL), "send less", "hint");
    is_str(depot_json_get_str(p, "retry", NULL), "no", "retry");
    is_str(depot_json_get_str(p, "request_id", NULL), "r-1", "request id");
    is_str(depot_json_get_str(p, "instance", NULL), "urn:depotd:request:r-1", "instance");
    ok(depot_json_get(p, "fields") == NULL, "no fields");
}

static void what_is_not_known_is_left_out(void)
{
    depot_err err = { 0 };

    DEPOT_FAIL(&err, DB_UNKNOWN, "lost");
    const depot_json *p = api_problem(arena, &err, NULL, NULL);
    ok(depot_json_get(p, "hint") == NULL && depot_json_get(p, "request_id") == NULL && depot_json_get(p, "instance") == NULL,
       "neither hint nor request");
    is_str(depot_json_get_str(p, "retry", NULL), "uncertain", "retry");
}

static void faults_become_fields(void)
{
    depot_err   err = { 0 };
    depot_json *faults = depot_json_pack(arena, "[{s:s, s:s}]", "pointer", "/a", "message", "is missing");

    DEPOT_FAIL(&err, INVALID, "a: is missing");
    is_str(depot_json_text(arena, depot_json_get(api_problem(arena, &err, "r", faults), "fields")),
           "[{\"pointer\":\"/a\",\"message\":\"is missing\"}]", "fields");
}

static void every_error_has_a_document(void)
{
    static const depot_code codes[] = {
#define DEPOT_ERROR(symbol, number, id, http, exit, retry, meaning) DEPOT_E_##symbol,
#include "depot/errors.def"
#undef DEPOT_ERROR
    };
    size_t bad = 0;

    for (size_t i = 0; i < DEPOT_N(codes); i++) {
        depot_err         err = { .code = codes[i], .msg = "x" };
        const depot_json *p = api_problem(arena, &err, "r", NULL);
        int64_t           status = depot_json_get_int(p, "status", 0);
        bad += status < 400 || status > 599 || depot_json_get_str(p, "title", "")[0] == '\0' ? 1 : 0;
    }
    is_int(bad, 0, "status and title of each");
}

static void a_token_reads_back(void)
{
    char        text[TOKEN_LENGTH + 1];
    token_parts made, read;
    uint8_t     hash[32];

    token_make(text, &made);
    is_int(strlen(text), 60, "length");
    ok(token_parse(text, &read) && read.number == made.number && strcmp(read.id, made.id) == 0, "id");
    ok(token_same_hash(read.hash, made.hash), "hash");
    depot_sha256(text + 17, 43, hash);
    ok(token_same_hash(hash, made.hash), "of the secret's text");
    ok(strncmp(text, "dpt_", 4) == 0 && memcmp(text + 4, made.id, 12) == 0 && text[16] == '_', "shape");
    text[30] = text[30] == 'a' ? 'b' : 'a';
    ok(token_parse(text, &read) && !token_same_hash(read.hash, made.hash), "another secret has another hash");
}

static void tokens_differ(void)
{
    char        a[TOKEN_LENGTH + 1], b[TOKEN_LENGTH + 1];
    token_parts x, y;

    token_make(a, &x);
    token_make(b, &y);
    ok(x.number != y.number && strcmp(a + 17, b + 17) != 0, "id and secret");
}

static void what_is_no_token_is_refused(void)
{
    static const char good[] = "dpt_0123456789ab_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq";
    static const char *const bad[] = {
        "",
        "dpt_",
        "dpt_0123456789ab_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop",
        "dpt_0123456789ab_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqr",
        "dpx_0123456789ab_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq",
        "dpt_0123456789AB_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq",
        "dpt_0123456789ax_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq",
        "dpt_000000000000_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq",
        "dpt_0123456789ab-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq",
        "dpt_0123456789ab_ABCDEFGHIJKLMNOPQRSTUVWXYZ+bcdefghijklmnopq",
    };
    token_parts parts;

    ok(token_parse(good, &parts) && parts.number == 0x0123456789abULL, good);
    for (size_t i = 0; i < DEPOT_N(bad); i++) {
        ok(!token_parse(bad[i], &parts), bad[i]);
    }
}

int main(void)
{
    arena = depot_arena_new();
    run(a_problem_says_everything);
    run(what_is_not_known_is_left_out);
    run(faults_become_fields);
    run(every_error_has_a_document);
    run(a_token_reads_back);
    run(tokens_differ);
    run(what_is_no_token_is_refused);
    depot_arena_free(arena);
    return done();
}
