/* auth_parts.h - what auth.c (memory) and auth_rows.c (database and file) share. */
#ifndef API_AUTH_PARTS_H
#define API_AUTH_PARTS_H

#include <pthread.h>

#include "api/auth.h"

enum {
    AUTH_FRESH_MS = 30000,   /* how long a row is trusted: a revocation by another daemon takes effect within it */
    AUTH_REFRESH_MS = 15000, /* used after this, the row is read again in the background */
    AUTH_MISSING_MS = 5000,  /* how long a token that does not exist is remembered */
    AUTH_LOOK_UPS_MAX = 8,   /* unknown tokens under way at a time */
    AUTH_SETS = 256, AUTH_WAYS = 4
};

typedef struct auth_entry {
    uint64_t   number; /* 0: free */
    uint8_t    hash[32];
    char       actor[ACTOR_SIZE]; /* "token:NAME" */
    depot_role role;
    int64_t    expires_us; /* wall clock; INT64_MAX: never */
    int64_t    checked_ms;
    bool       refreshing;
    bool       refused; /* expired or revoked */
} auth_entry;

typedef struct auth_missing {
    uint64_t number;
    int64_t  until_ms;
} auth_missing;

struct auth {
    depot_ctx      *core;
    pthread_mutex_t lock; /* guards everything below */
    auth_entry      entries[AUTH_SETS][AUTH_WAYS];
    auth_missing    missing[AUTH_SETS][AUTH_WAYS];
    size_t          look_ups;
    auth_entry      admin; /* of the file admin.token; valid without the database until its row says otherwise */
    bool            online;
    bool            has_own; /* of the configuration; set before there are requests */
    uint8_t         own[32]; /* its SHA-256 */
};

/* auth_rows.c: the row of a token; *found is false when there is none. Blocks. */
bool auth_read_row(auth *a, const token_parts *parts, auth_entry *out, bool *found, depot_err *err) DEPOT_MUST_USE;

#endif
