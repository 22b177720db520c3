/* auth.h - who a token belongs to: an answer from memory at once, from the database by whoever may wait.
 *
 * A token that was seen is trusted for 30 s; after half of that its row is read again in the background. Tokens that do not
 * exist are remembered too, and only a few unknown ones are looked up at a time, so that made-up tokens cost next to nothing
 * and do not push real ones out. */
#ifndef API_AUTH_H
#define API_AUTH_H

#include "api/token.h"
#include "host/host.h"

typedef struct auth auth;

enum { ACTOR_SIZE = 80 };
typedef struct identity {
    depot_role role;
    char       actor[ACTOR_SIZE]; /* "token:ci", "uid:0", "anonymous" */
} identity;

typedef enum auth_answer { AUTH_KNOWN, AUTH_REFUSED, AUTH_LOOK_UP } auth_answer;

auth *auth_new(depot_ctx *core);
void  auth_free(auth *a); /* the executor is drained */

/* A token of any form, whose holder is operator. Before there are requests. */
void auth_set_own(auth *a, const char *token);

/* Never waits. REFUSED fills err: UNAUTHORIZED, or UNAVAILABLE when too many unknown tokens are being looked up. LOOK_UP
 * reserves a place: auth_look_up or auth_give_up must follow. */
auth_answer auth_check(auth *a, const char *token, identity *out, depot_err *err);
/* The same by SQL; fails with UNAUTHORIZED, or with what the database said. Executor only. */
bool auth_look_up(auth *a, const char *token, identity *out, depot_err *err) DEPOT_MUST_USE;
void auth_give_up(auth *a);
/* Forgets what is remembered of this id (12 hex digits): it was revoked or made. */
void auth_forget(auth *a, const char *id);

/* Who connected to the local socket: root and depotd's own user are admins; fails with FORBIDDEN for others. */
bool auth_peer(int64_t uid, identity *out, depot_err *err) DEPOT_MUST_USE;

/* state/admin.token: read, or made with mode 0600; its holder is admin from now on, with or without a database. */
bool auth_admin_open(auth *a, const char *state_dir, depot_err *err) DEPOT_MUST_USE;
/* Its row exists; older admin tokens of this node are revoked (the file was replaced). */
bool auth_admin_online(auth *a, const char *node, depot_err *err) DEPOT_MUST_USE;

#endif
