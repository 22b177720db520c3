/* auth.c - token cache. A set-associative table of fixed size: no allocation, no clean-up, bounded for good. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/auth_parts.h"
#include "base/log.h"

auth *auth_new(depot_ctx *core)
{
    auth *a = depot_xalloc(sizeof(*a));

    a->core = core;
    pthread_mutex_init(&a->lock, NULL);
    return a;
}

void auth_free(auth *a)
{
    if (a != NULL) {
        pthread_mutex_destroy(&a->lock);
        free(a);
    }
}

static size_t set_of(uint64_t number)
{
    return (size_t)(number * 0x9E3779B97F4A7C15U >> 56) % AUTH_SETS;
}

/* ---- under the lock ---- */

static auth_entry *find_entry(auth *a, uint64_t number)
{
    if (a->admin.number == number) {
        return &a->admin;
    }
    for (size_t i = 0; i < AUTH_WAYS; i++) {
        auth_entry *e = &a->entries[set_of(number)][i];
        if (e->number == number) {
            return e;
        }
    }
    return NULL;
}

static auth_missing *find_missing(auth *a, uint64_t number)
{
    for (size_t i = 0; i < AUTH_WAYS; i++) {
        auth_missing *m = &a->missing[set_of(number)][i];
        if (m->number == number) {
            return m;
        }
    }
    return NULL;
}

static void remember(auth *a, const auth_entry *fresh)
{
    auth_entry *place = find_entry(a, fresh->number);

    for (size_t i = 0; i < AUTH_WAYS && place == NULL; i++) {
        auth_entry *e = &a->entries[set_of(fresh->number)][i];
        place = e->number == 0 ? e : NULL;
    }
    if (place == NULL) {
        place = &a->entries[set_of(fresh->number)][0];
        for (size_t i = 1; i < AUTH_WAYS; i++) {
            auth_entry *e = &a->entries[set_of(fresh->number)][i];
            place = e->checked_ms < place->checked_ms ? e : place;
        }
    }
    *place = *fresh;
}

static void remember_missing(auth *a, uint64_t number)
{
    auth_missing *place = find_missing(a, number);

    if (place == NULL) {
        place = &a->missing[set_of(number)][0];
        for (size_t i = 1; i < AUTH_WAYS; i++) {
            auth_missing *m = &a->missing[set_of(number)][i];
            place = m->until_ms < place->until_ms ? m : place;
        }
    }
    *place = (auth_missing){ number, depot_now_ms() + AUTH_MISSING_MS };
}

/* ---- answers ---- */

static bool refuse(depot_err *err)
{
    (void)DEPOT_FAIL(err, UNAUTHORIZED, "this token is unknown, expired or revoked");
    return depot_hint(err, "make one: depotctl token create NAME --role viewer");
}

static bool judge(const auth_entry *e, const token_parts *given, identity *out, depot_err *err)
{
    if (!token_same_hash(e->hash, given->hash) || e->refused || e->expires_us <= depot_wall_us()) {
        return refuse(err);
    }
    out->role = e->role;
    memcpy(out->actor, e->actor, sizeof(out->actor));
    return true;
}

typedef struct refresh {
    auth       *a;
    token_parts parts;
} refresh;

/* Background: the row of a token that is in use. A database that is away changes nothing. */
static void refresh_entry(void *arg)
{
    refresh  *r = arg;
    auth_entry     fresh = { 0 };
    bool      found = false;
    depot_err err = { 0 };
    bool      ok = auth_read_row(r->a, &r->parts, &fresh, &found, &err);

    pthread_mutex_lock(&r->a->lock);
    auth_entry *e = find_entry(r->a, r->parts.number);
    if (e != NULL && ok && found) {
        *e = fresh;
    } else if (e != NULL && ok) {
        e->refused = true;
        e->checked_ms = depot_now_ms();
        e->refreshing = false;
    } else if (e != NULL) {
        e->refreshing = false;
    }
    pthread_mutex_unlock(&r->a->lock);
    if (!ok) {
        log_err("core", DEPOT_LOG_DEBUG, "auth.refresh_failed", &err);
    }
    free(r);
}

static void start_refresh(auth *a, const token_parts *parts)
{
    refresh  *r = depot_xalloc(sizeof(*r));
    depot_err err = { 0 };

    *r = (refresh){ a, *parts };
    if (!executor_submit(host_environment(a->core->host)->executor, refresh_entry, r, AUTH_FRESH_MS, &err)) {
        free(r);
        pthread_mutex_lock(&a->lock);
        auth_entry *e = find_entry(a, parts->number);
        if (e != NULL) {
            e->refreshing = false;
        }
        pthread_mutex_unlock(&a->lock);
    }
}

/* What memory says about an id; *out is a copy. */
static auth_answer look(auth *a, uint64_t number, auth_entry *out, bool *refresh_it, depot_err *err)
{
    int64_t     now = depot_now_ms();
    auth_answer answer = AUTH_LOOK_UP;

    pthread_mutex_lock(&a->lock);
    auth_entry   *e = find_entry(a, number);
    auth_missing *m = find_missing(a, number);
    if (e != NULL && (e == &a->admin || now - e->checked_ms < AUTH_FRESH_MS)) {
        answer = AUTH_KNOWN;
        *refresh_it = a->online && !e->refreshing && now - e->checked_ms >= AUTH_REFRESH_MS;
        e->refreshing = e->refreshing || *refresh_it;
        *out = *e;
    } else if (m != NULL && now < m->until_ms) {
        (void)refuse(err);
        answer = AUTH_REFUSED;
    } else if (a->look_ups >= AUTH_LOOK_UPS_MAX) {
        (void)DEPOT_FAIL(err, UNAVAILABLE, "%d other tokens are being looked up", AUTH_LOOK_UPS_MAX);
        answer = AUTH_REFUSED;
    } else {
        a->look_ups++;
    }
    pthread_mutex_unlock(&a->lock);
    return answer;
}

void auth_set_own(auth *a, const char *token)
{
    depot_sha256(token, strlen(token), a->own);
    a->has_own = true;
}

static bool is_own(const auth *a, const char *token)
{
    uint8_t hash[32];

    if (!a->has_own) {
        return false;
    }
    depot_sha256(token, strlen(token), hash);
    return token_same_hash(hash, a->own);
}

auth_answer auth_check(auth *a, const char *token, identity *out, depot_err *err)
{
    token_parts parts;
    auth_entry       known;
    bool        refresh_it = false;

    if (is_own(a, token)) {
        *out = (identity){ .role = DEPOT_OPERATOR, .actor = "token:configured" };
        return AUTH_KNOWN;
    }
    if (!token_parse(token, &parts)) {
        (void)refuse(err);
        return AUTH_REFUSED;
    }
    auth_answer answer = look(a, parts.number, &known, &refresh_it, err);
    if (refresh_it) {
        start_refresh(a, &parts);
    }
    if (answer == AUTH_KNOWN && !judge(&known, &parts, out, err)) {
        answer = AUTH_REFUSED;
    }
    return answer;
}

void auth_give_up(auth *a)
{
    pthread_mutex_lock(&a->lock);
    a->look_ups--;
    pthread_mutex_unlock(&a->lock);
}

void auth_forget(auth *a, const char *id)
{
    uint8_t  bytes[TOKEN_ID / 2];
    uint64_t number = 0;

    if (strlen(id) != TOKEN_ID || !depot_unhex(id, sizeof(bytes), bytes)) {
        return;
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        number = number << 8 | bytes[i];
    }
    pthread_mutex_lock(&a->lock);
    auth_entry   *e = find_entry(a, number);
    auth_missing *m = find_missing(a, number);
    if (e == &a->admin) {
        e->refused = true;
    } else if (e != NULL) {
        *e = (auth_entry){ 0 };
    }
    if (m != NULL) {
        *m = (auth_missing){ 0 };
    }
    pthread_mutex_unlock(&a->lock);
}

bool auth_look_up(auth *a, const char *token, identity *out, depot_err *err)
{
    token_parts parts;
    auth_entry       fresh = { 0 };
    bool        found = false;
    bool        ok = token_parse(token, &parts) ? auth_read_row(a, &parts, &fresh, &found, err) : refuse(err);

    pthread_mutex_lock(&a->lock);
    a->look_ups--;
    if (ok && found) {
        remember(a, &fresh);
    } else if (ok) {
        remember_missing(a, parts.number);
    }
    pthread_mutex_unlock(&a->lock);
    if (!ok) {
        return false;
    }
    return found ? judge(&fresh, &parts, out, err) : refuse(err);
}

bool auth_peer(int64_t uid, identity *out, depot_err *err)
{
    if (uid != 0 && uid != (int64_t)geteuid()) {
        (void)DEPOT_FAIL(err, FORBIDDEN, "user %lld may not use the control socket", (long long)uid);
        return depot_hint(err, "run it as root or as the user that depotd runs as, or use a token with --url");
    }
    out->role = DEPOT_ADMIN;
    snprintf(out->actor, sizeof(out->actor), "uid:%lld", (long long)uid);
    return true;
}
