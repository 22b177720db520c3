/* digest.c - bytes as hexadecimal, random bytes, SHA-256, UUIDs. */
#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "base/abort.h"

static const char hex_digits[] = "0123456789abcdef";

void depot_hex(const void *bytes, size_t n, char *out)
{
    const uint8_t *b = bytes;

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = hex_digits[b[i] >> 4];
        out[2 * i + 1] = hex_digits[b[i] & 15];
    }
    out[2 * n] = '\0';
}

/* Value of a lowercase digit, -1 for anything else. */
static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool depot_unhex(const char *hex, size_t bytes, uint8_t *out)
{
    for (size_t i = 0; i < bytes; i++) {
        int high = hex_value(hex[2 * i]);
        int low = high < 0 ? -1 : hex_value(hex[2 * i + 1]);
        if (low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return hex[2 * bytes] == '\0';
}

void depot_random(void *out, size_t n)
{
    char *p = out;

    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno != EINTR) {
            base_abort("no random bytes from the kernel: %m");
        }
        if (got > 0) {
            p += got;
            n -= (size_t)got;
        }
    }
}

/* Looking the digest up costs as much as hashing a token, so it is done once a process and then only read. */
static EVP_MD *sha256_md;

static void sha256_find(void)
{
    sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (sha256_md == NULL) {
        base_abort("the cryptographic library has no SHA-256");
    }
}

void depot_sha256(const void *p, size_t n, uint8_t out[32])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    if (pthread_once(&once, sha256_find) != 0 || EVP_Digest(p, n, out, NULL, sha256_md, NULL) != 1) {
        base_abort("SHA-256 of %zu bytes cannot be made", n);
    }
}

char *depot_uuid(depot_arena *arena)
{
    uint8_t b[16];
    char    hex[33];

    depot_random(b, sizeof(b));
    b[6] = (uint8_t)((b[6] & 0x0F) | 0x40); /* version 4: random */
    b[8] = (uint8_t)((b[8] & 0x3F) | 0x80); /* variant of RFC 4122 */
    depot_hex(b, sizeof(b), hex);
    return depot_strf(arena, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

bool depot_parse_uuid(const char *text, uint8_t out[16])
{
    char   hex[33];
    size_t n = 0;

    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        char c = text[i];

        if (dash != (c == '-') || c == '\0') {
            return false;
        }
        if (!dash) {
            hex[n++] = c >= 'A' && c <= 'F' ? (char)(c - 'A' + 'a') : c;
        }
    }
    hex[n] = '\0';
    return text[36] == '\0' && depot_unhex(hex, 16, out);
}
