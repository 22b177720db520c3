/* test_seal.c - encrypted arguments: what goes in comes out, by each key of the list, and nothing else does. */
#include <string.h>

#include "conf/conf.h"
#include "host/internal.h"
#include "queue.h"
#include "tap.h"

extern const depot_entry depot_plugin_abi1; /* the plugin's own: its tables */

#define KEY_A "00000000000000000000000000000000000000000000000000000000000000a1"
#define KEY_B "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffb2"

static depot_arena *arena;
static depot_ctx    ctx = { .name = "queue" };

/* A configuration with these keys is in force; returns what a check says of it, "" for nothing. */
static const char *with_keys(const char *keys)
{
    const depot_plugin *p = depot_plugin_abi1.plugin;
    const conf_kind     kinds[] = {
        { .kind = "plugin", .instance = "queue", .owner = "queue", .options = p->options.rows, .n = p->options.n, .size = p->options_size },
        { .kind = "queue", .named = true, .owner = "queue", .options = p->sections.rows[0].options.rows, .n = p->sections.rows[0].options.n,
          .size = p->sections.rows[0].size },
    };
    const char    *text = depot_strf(arena, "[plugin queue]\nencryption_keys = %s\n[queue vault]\nencrypt_args = yes\n[queue open]\n", keys);
    conf_problems *problems = conf_problems_new(arena);
    conf_raw      *raw = conf_raw_new(arena);
    depot_err      err = { 0 };

    conf_read_text(raw, "a.ini", text, strlen(text), problems);
    const conf *c = conf_build(arena, raw, kinds, DEPOT_N(kinds), "/tmp", problems);
    is_int((int64_t)conf_problem_count(problems), 0, "it is read");
    host_conf_for_thread(c);
    queue_self.ctx = &ctx;
    return seal_check(&ctx, &err) ? "" : depot_strf(arena, "%s", err.msg);
}

static depot_json *parse(const char *text)
{
    depot_err err = { 0 };

    return depot_json_parse(arena, text, strlen(text), &err);
}

/* As the database writes it: jsonb puts a blank behind a colon. */
static const char *stored(const char *sealed)
{
    return depot_strf(arena, "{\"$encrypted\": %s", sealed + strlen("{\"$encrypted\":"));
}

static const char *seal(const char *to, const char *type, const char *args)
{
    depot_err   err = { 0 };
    const char *text = seal_args(arena, to, type, parse(args), &err);

    return text == NULL ? depot_strf(arena, "%s: %s", depot_err_id(&err), err.msg) : text;
}

static const char *opened(const char *type, const char *args)
{
    depot_err   err = { 0 };
    const char *out;

    return seal_open(arena, type, args, &out, &err) ? out : depot_err_id(&err);
}

static void keys_are_checked(void)
{
    is_str(with_keys(KEY_A), "", "one key");
    is_str(with_keys(KEY_A " ,\t" KEY_B ","), "", "several");
    ok(strstr(with_keys(""), "no key to encrypt with") != NULL, "none, and a queue that needs one");
    ok(strstr(with_keys(KEY_A ", abc"), "a key of 3 characters is not one of 64") != NULL, "one that is none");
    ok(strstr(with_keys("0000000000000000000000000000000000000000000000000000000000000ZZZ"), "a key of 64 characters") != NULL, "other digits");
}

static void what_goes_in_comes_out(void)
{
    static const char *const all[] = { "{}", "null", "1", "\"text\"", "[1,{\"a\":\"\xc3\xa4\"}]", "{\"secret\":\"do not show\",\"n\":[1,2,3]}" };

    (void)with_keys(KEY_A);
    for (size_t i = 0; i < DEPOT_N(all); i++) {
        const char *sealed = seal("vault", "t", all[i]);
        ok(strstr(sealed, "{\"$encrypted\":{\"key\":\"") == sealed && strstr(sealed, "show") == NULL, "it is encrypted");
        is_str(opened("t", stored(sealed)), all[i], "and comes out");
        is_str(opened("t", sealed), all[i], "also without the blank");
    }
    ok(strcmp(seal("vault", "t", "1"), seal("vault", "t", "1")) != 0, "the same twice is not the same");
    is_str(seal("open", "t", "[1]"), "[1]", "other queues encrypt nothing");
    is_str(seal(NULL, "t", "[1]"), "[1]", "nor does the default one");
    is_str(opened("t", "{\"a\": 1}"), "{\"a\": 1}", "what is not encrypted stays as it is");
    ok(strstr(seal("open", "t", "{\"$encrypted\":1}"), "INVALID: ") != NULL, "the member that marks them is nobody's");
}

static void keys_change(void)
{
    (void)with_keys(KEY_A);
    const char *old = stored(seal("vault", "t", "[1]"));
    (void)with_keys(KEY_B "," KEY_A);
    const char *new = stored(seal("vault", "t", "[2]"));
    is_str(opened("t", old), "[1]", "the old key still decrypts");
    (void)with_keys(KEY_B);
    is_str(opened("t", new), "[2]", "the first one has encrypted");
    is_str(opened("t", old), "KEY_UNKNOWN", "a key that is gone is missed");
}

static void what_was_changed_does_not_open(void)
{
    (void)with_keys(KEY_A);
    const char *good = stored(seal("vault", "t", "{\"n\":12345}"));
    const char *data = strstr(good, "\"data\":\"") + strlen("\"data\":\"");

    is_str(opened("u", good), "DECRYPT_FAILED", "of another type");
    for (size_t i = 0, n = strcspn(data, "\""); i < n; i += 5) {
        char *bad = depot_strdup(arena, good);
        bad[data - good + (ptrdiff_t)i] = data[i] == 'A' ? 'B' : 'A';
        is_str(opened("t", bad), "DECRYPT_FAILED", "one character is another");
    }
    char *moved = depot_strdup(arena, good);
    strstr(moved, "vault")[0] = 'V';
    is_str(opened("t", moved), "DECRYPT_FAILED", "of another queue");
    is_str(opened("t", "{\"$encrypted\": {}}"), "KEY_UNKNOWN", "nothing of it is there");
    is_str(opened("t", "{\"$encrypted\": 1}"), "KEY_UNKNOWN", "it is no object");
    const char *head = depot_strndup(arena, good, (size_t)(data - good));
    static const char *const bodies[] = { "", "A", "AAAA", "====", "AAA=", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "(!)%" };
    for (size_t i = 0; i < DEPOT_N(bodies); i++) {
        is_str(opened("t", depot_strf(arena, "%s%s\"}}", head, bodies[i])), "DECRYPT_FAILED", "too short, or no base64");
    }
}

int main(void)
{
    arena = depot_arena_new();
    run(keys_are_checked);
    run(what_goes_in_comes_out);
    run(keys_change);
    run(what_was_changed_does_not_open);
    host_conf_for_thread(NULL);
    depot_arena_free(arena);
    return done();
}
