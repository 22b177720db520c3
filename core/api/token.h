/* token.h - the text of an API token: dpt_<12 hex digits of its id>_<43 characters of its secret>. */
#ifndef API_TOKEN_H
#define API_TOKEN_H

#include "depot/base.h"

enum { TOKEN_ID = 12, TOKEN_SECRET = 43, TOKEN_LENGTH = 4 + TOKEN_ID + 1 + TOKEN_SECRET };

typedef struct token_parts {
    uint64_t number;          /* the id as a number, never 0 */
    char     id[TOKEN_ID + 1];
    uint8_t  hash[32];        /* SHA-256 of the secret's text */
} token_parts;

/* A new one, from the kernel's random numbers. */
void token_make(char out[TOKEN_LENGTH + 1], token_parts *parts);
/* false: text is no token. */
bool token_parse(const char *text, token_parts *out);
/* In a time that does not depend on where they differ. */
bool token_same_hash(const uint8_t a[32], const uint8_t b[32]);

#endif
