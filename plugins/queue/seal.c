/* seal.c - arguments of queues whose section says encrypt_args: AES-256-GCM, so that the database, its backups and its replicas hold
 * ciphertext alone. A job carries {"$encrypted": {key, queue, data}} in place of its arguments: which key it was, the queue that it was
 * made for, and nonce, ciphertext and tag in base64. Key, queue and job type are authenticated with it: what is moved to a job of
 * another type does not open. The job's id is not among them, as a replay has another one. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "queue.h"

enum { KEY_BYTES = 32, KEY_DIGITS = 2 * KEY_BYTES, KEY_ID_BYTES = 4, NONCE_BYTES = 12, TAG_BYTES = 16, EXTRA_BYTES = NONCE_BYTES + TAG_BYTES };

static const char member[] = "$encrypted";
static const char opening[] = "{\"$encrypted\":"; /* as the database writes it: no other member comes first */

typedef struct seal_key {
    uint8_t bytes[KEY_BYTES];
    char    id[2 * KEY_ID_BYTES + 1];
} seal_key;

static void key_drop(seal_key *key)
{
    OPENSSL_cleanse(key, sizeof(*key));
}

/* ---- keys ---- */

/* The next key of the list; false: there is none, or with err filled that it is none. */
static bool next_key(const char **list, seal_key *out, depot_err *err)
{
    const char *at = *list == NULL ? "" : *list, *from = at + strspn(at, ", \t\r\n");
    size_t      n = strcspn(from, ", \t\r\n");
    char        digits[KEY_DIGITS + 1] = "";
    uint8_t     digest[32];

    *list = from + n;
    if (n == 0) {
        return false;
    }
    if (n == KEY_DIGITS) {
        memcpy(digits, from, n);
    }
    bool ok = depot_unhex(digits, KEY_BYTES, out->bytes);
    OPENSSL_cleanse(digits, sizeof(digits));
    if (!ok) {
        DEPOT_FAIL(err, CONFIG, "[plugin queue] encryption_keys: a key of %zu characters is not one of %d lower case hex digits", n,
                   KEY_DIGITS);
        return depot_hint(err, "make one: openssl rand -hex %d > <state>/secrets/NAME, and name it as ${secret:NAME}", KEY_BYTES);
    }
    depot_sha256(out->bytes, KEY_BYTES, digest);
    depot_hex(digest, KEY_ID_BYTES, out->id);
    return true;
}

/* id: NULL for the first, which encrypts. */
static bool find_key(const char *id, seal_key *out, depot_err *err)
{
    const queue_options *o = depot_options(queue_self.ctx);
    const char          *list = o->encryption_keys;

    while (next_key(&list, out, err)) {
        if (id == NULL || strcmp(out->id, id) == 0) {
            return true;
        }
    }
    if (err->code != DEPOT_OK) {
        return false;
    }
    DEPOT_FAIL(err, KEY, "[plugin queue] encryption_keys does not hold %s%s", id == NULL ? "any key" : "key ", id == NULL ? "" : id);
    return depot_hint(err, "add it to the list, reload, then depotctl job bulk retry --filter '{\"code\": \"KEY_UNKNOWN\"}'");
}

bool seal_check(depot_ctx *ctx, depot_err *err)
{
    DEPOT_AUTO(key_drop) seal_key key;
    const queue_options          *o = depot_options(ctx);
    const char                   *list = o->encryption_keys, *name;
    const queue_section          *s;
    size_t                        n = 0;

    while (next_key(&list, &key, err)) {
        n++;
    }
    if (err->code != DEPOT_OK) {
        return false;
    }
    for (size_t it = 0; (s = depot_section_next(ctx, "queue", &it, &name)) != NULL;) {
        if (s->encrypt_args && n == 0) {
            DEPOT_FAIL(err, CONFIG, "[queue %s] encrypt_args: there is no key to encrypt with", name);
            return depot_hint(err, "name one in [plugin queue] encryption_keys, such as ${secret:queue-key}");
        }
    }
    return true;
}

/* ---- AES-256-GCM ---- */

/* Each text with the NUL that ends it, so that no two places give the same bytes. */
static void add_place(depot_buf *out, const char *key, const char *of_queue, const char *type)
{
    const char *const parts[] = { "depot job arguments", key, of_queue, type };

    for (size_t i = 0; i < DEPOT_N(parts); i++) {
        depot_buf_add(out, parts[i], strlen(parts[i]) + 1);
    }
}

/* in and out: n bytes. tag: made when `seals`, else compared. false: it does not fit, or the library refused. */
static bool run_cipher(bool seals, const seal_key *key, const uint8_t *nonce, const depot_buf *place, const uint8_t *in, size_t n, uint8_t *out,
                  uint8_t *tag)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int             len = 0;

    bool ok = c != NULL && EVP_CipherInit_ex(c, EVP_aes_256_gcm(), NULL, key->bytes, nonce, seals) == 1 &&
              EVP_CipherUpdate(c, NULL, &len, (const uint8_t *)place->data, (int)place->len) == 1 &&
              EVP_CipherUpdate(c, out, &len, in, (int)n) == 1 &&
              (seals || EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1) &&
              EVP_CipherFinal_ex(c, out + len, &len) == 1 &&
              (!seals || EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, tag) == 1);
    EVP_CIPHER_CTX_free(c);
    return ok;
}

static const char *encrypted(depot_arena *arena, const char *to, const char *type, const char *text, depot_err *err)
{
    DEPOT_AUTO(key_drop) seal_key        key;
    DEPOT_AUTO(depot_buf_free) depot_buf place = { 0 };
    size_t                               n = strlen(text);
    uint8_t                             *bytes = depot_alloc(arena, n + EXTRA_BYTES);
    char                                *base64 = depot_alloc(arena, (n + EXTRA_BYTES + 2) / 3 * 4 + 1);

    if (!find_key(NULL, &key, err)) {
        return NULL;
    }
    depot_random(bytes, NONCE_BYTES);
    add_place(&place, key.id, to, type);
    if (!run_cipher(true, &key, bytes, &place, (const uint8_t *)text, n, bytes + NONCE_BYTES, bytes + NONCE_BYTES + n)) {
        (void)DEPOT_FAIL(err, BUG, "the cryptographic library refused to encrypt %zu bytes", n);
        return NULL;
    }
    (void)EVP_EncodeBlock((uint8_t *)base64, bytes, (int)(n + EXTRA_BYTES));
    return depot_json_text(arena, depot_json_pack(arena, "{s:{s:s, s:s, s:s}}", member, "key", key.id, "queue", to, "data", base64));
}

const char *seal_text(depot_arena *arena, const char *of_queue, const char *type, const depot_json *args, const char *text,
                      depot_err *err)
{
    const char          *to = of_queue == NULL ? "default" : of_queue;
    const queue_section *s = depot_section_get(queue_self.ctx, "queue", to);

    if (depot_json_get(args, member) != NULL) {
        (void)DEPOT_FAIL(err, INVALID, "arguments must not have a member %s: it marks those that depotd has encrypted", member);
        return NULL;
    }
    return s != NULL && s->encrypt_args ? encrypted(arena, to, type, text, err) : text;
}

const char *seal_args(depot_arena *arena, const char *of_queue, const char *type, const depot_json *args, depot_err *err)
{
    const queue_options *o = depot_options(queue_self.ctx);
    const char          *text = args == NULL ? "{}" : depot_json_text(arena, args);

    if ((int64_t)strlen(text) > o->max_payload) {
        (void)DEPOT_FAIL(err, TOO_LARGE, "the arguments of a %s job are %zu bytes; %lld are allowed", type, strlen(text),
                         (long long)o->max_payload);
        (void)depot_hint(err, "store the content and pass its reference, or raise [plugin queue] max_payload");
        return NULL;
    }
    return seal_text(arena, of_queue, type, args, text, err);
}

/* ---- opening ---- */

static bool is_sealed(const char *args)
{
    size_t i = 0;

    for (; *args != '\0' && opening[i] != '\0'; args++) { /* jsonb writes a blank behind the colon */
        if (*args != opening[i++]) {
            return false;
        }
    }
    return opening[i] == '\0';
}

static bool open_data(depot_arena *arena, const seal_key *key, const depot_buf *place, const char *base64, const char **out)
{
    size_t   n = strlen(base64), padding = n < 2 ? 0 : (size_t)(base64[n - 1] == '=') + (base64[n - 2] == '=');
    uint8_t *bytes = depot_alloc(arena, n / 4 * 3 + 1);
    int      got = n == 0 || n % 4 != 0 ? -1 : EVP_DecodeBlock(bytes, (const uint8_t *)base64, (int)n);

    if (got < 0 || (size_t)got - padding < EXTRA_BYTES) {
        return false;
    }
    size_t   len = (size_t)got - padding - EXTRA_BYTES;
    uint8_t *text = depot_alloc(arena, len + 1);
    *out = (const char *)text;
    return run_cipher(false, key, bytes, place, bytes + NONCE_BYTES, len, text, bytes + NONCE_BYTES + len);
}

bool seal_open(depot_arena *arena, const char *type, const char *args, const char **out, depot_err *err)
{
    DEPOT_AUTO(key_drop) seal_key        key;
    DEPOT_AUTO(depot_buf_free) depot_buf place = { 0 };

    *out = args;
    if (!is_sealed(args)) {
        return true;
    }
    const depot_json *doc = depot_json_parse(arena, args, strlen(args), err);
    const depot_json *sealed = doc == NULL ? NULL : depot_json_get(doc, member);
    const char       *id = depot_json_get_str(sealed, "key", ""), *of_queue = depot_json_get_str(sealed, "queue", "");
    *err = (depot_err){ 0 };
    if (!find_key(id, &key, err)) {
        return false;
    }
    add_place(&place, key.id, of_queue, type);
    return open_data(arena, &key, &place, depot_json_get_str(sealed, "data", ""), out) ||
           DEPOT_FAIL(err, DECRYPT, "the arguments were not encrypted by key %s for a %s job of queue %s, or have been changed", key.id, type,
                      of_queue);
}
