/* token.c - making and reading tokens. The secret has 256 random bits, so a fast hash is enough to keep it. */
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "api/token.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static uint64_t number_of(const uint8_t id[TOKEN_ID / 2])
{
    uint64_t number = 0;

    for (size_t i = 0; i < TOKEN_ID / 2; i++) {
        number = number << 8 | id[i];
    }
    return number;
}

/* base64url without padding: 32 bytes give 43 characters. */
static void encode_secret(const uint8_t bytes[32], char out[TOKEN_SECRET + 1])
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t   n = 0;

    for (size_t i = 0; i < 32; i++) {
        bits = bits << 8 | bytes[i];
        for (have += 8; have >= 6; have -= 6) {
            out[n++] = alphabet[bits >> (have - 6) & 63];
        }
    }
    out[n++] = alphabet[bits << (6 - have) & 63];
    out[n] = '\0';
}

void token_make(char out[TOKEN_LENGTH + 1], token_parts *parts)
{
    uint8_t id[TOKEN_ID / 2], secret[32];

    do {
        depot_random(id, sizeof(id));
    } while (number_of(id) == 0);
    depot_random(secret, sizeof(secret));
    snprintf(out, 5, "dpt_");
    depot_hex(id, sizeof(id), out + 4);
    out[4 + TOKEN_ID] = '_';
    encode_secret(secret, out + 4 + TOKEN_ID + 1);
    OPENSSL_cleanse(secret, sizeof(secret));
    (void)token_parse(out, parts); /* it is one */
}

bool token_parse(const char *text, token_parts *out)
{
    uint8_t id[TOKEN_ID / 2];

    if (strlen(text) != TOKEN_LENGTH || memcmp(text, "dpt_", 4) != 0 || text[4 + TOKEN_ID] != '_') {
        return false;
    }
    const char *secret = text + 4 + TOKEN_ID + 1;
    if (strspn(secret, alphabet) != TOKEN_SECRET) {
        return false;
    }
    memcpy(out->id, text + 4, TOKEN_ID);
    out->id[TOKEN_ID] = '\0';
    if (!depot_unhex(out->id, sizeof(id), id)) {
        return false;
    }
    out->number = number_of(id);
    depot_sha256(secret, TOKEN_SECRET, out->hash);
    return out->number != 0;
}

bool token_same_hash(const uint8_t a[32], const uint8_t b[32])
{
    return CRYPTO_memcmp(a, b, 32) == 0;
}
