/* auth.c - token cache and lookups. A set-associative table of fixed size: no allocation, no clean-up, bounded for good. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/auth.h"
#include "base/log.h"

enum {
    FRESH_MS = 30000,    /* how long a row is trusted: a revocation by another daemon takes effect within it */
    REFRESH_MS = 15000,  /* used after this, the row is read again in the background */
    MISSING_MS = 5000,   /* how long a token that does not exist is remembered */
    LOOK_UPS_MAX = 8,    /* unknown tokens under way at a time */
    SETS = 256, WAYS = 4
};

typedef struct entry {
    uint64_t   number; /* 0: free */
    uint8_t    hash[32];
    char       actor[ACTOR_SIZE]; /* "token:NAME" */
    depot_role role;
    int64_t    expires_us; /* wall clock; INT64_MAX: never */
    int64_t    checked_ms;
    bool       refreshing;
    bool       refused; /* expired or revoked */
} entry;

typedef struct missing {
    uint64_t number;
    int64_t  until_ms;
} missing;

struct auth {
    depot_ctx      *core;
    pthread_mutex_t lock; /* guards everything below */
    entry           entries[SETS][WAYS];
    missing         missing[SETS][WAYS];
    size_t          look_ups;
    entry           admin; /* of the file admin.token; valid without the database until its row says otherwise */
    bool            online;
};

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
    return (size_t)(number * 0x9E3779B97F4A7C15U >> 56) % SETS;
}

/* ---- under the lock ---- */

static entry *find_entry(auth *a, uint64_t number)
{
    if (a->admin.number == number) {
        return &a->admin;
    }
    for (size_t i = 0; i < WAYS; i++) {
        entry *e = &a->entries[set_of(number)][i];
        if (e->number == number) {
            return e;
        }
    }
    return NULL;
}

static missing *find_missing(auth *a, uint64_t number)
{
    for (size_t i = 0; i < WAYS; i++) {
        missing *m = &a->missing[set_of(number)][i];
        if (m->number == number) {
            return m;
        }
    }
    return NULL;
}

static void remember(auth *a, const entry *fresh)
{
    entry *place = find_entry(a, fresh->number);

    for (size_t i = 0; i < WAYS && place == NULL; i++) {
        entry *e = &a->entries[set_of(fresh->number)][i];
        place = e->number == 0 ? e : NULL;
    }
    if (place == NULL) {
        place = &a->entries[set_of(fresh->number)][0];
        for (size_t i = 1; i < WAYS; i++) {
            entry *e = &a->entries[set_of(fresh->number)][i];
            place = e->checked_ms < place->checked_ms ? e : place;
        }
    }
    *place = *fresh;
}

static void remember_missing(auth *a, uint64_t number)
{
    missing *place = find_missing(a, number);

    if (place == NULL) {
        place = &a->missing[set_of(number)][0];
        for (size_t i = 1; i < WAYS; i++) {
            missing *m = &a->missing[set_of(number)][i];
            place = m->until_ms < place->until_ms ? m : place;
        }
    }
    *place = (missing){ number, depot_now_ms() + MISSING_MS };
}

/* ---- answers ---- */

static bool refuse(depot_err *err)
{
    (void)DEPOT_FAIL(err, UNAUTHORIZED, "this token is unknown, expired or revoked");
    return depot_hint(err, "make one: depotctl token create NAME --role viewer");
}

static bool judge(const entry *e, const token_parts *given, identity *out, depot_err *err)
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

static bool read_row(auth *a, const token_parts *parts, entry *out, bool *found, depot_err *err);

/* Background: the row of a token that is in use. A database that is away changes nothing. */
static void refresh_entry(void *arg)
{
    refresh  *r = arg;
    entry     fresh = { 0 };
    bool      found = false;
    depot_err err = { 0 };
    bool      ok = read_row(r->a, &r->parts, &fresh, &found, &err);

    pthread_mutex_lock(&r->a->lock);
    entry *e = find_entry(r->a, r->parts.number);
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
    if (!executor_submit(host_environment(a->core->host)->executor, refresh_entry, r, FRESH_MS, &err)) {
        free(r);
        pthread_mutex_lock(&a->lock);
        entry *e = find_entry(a, parts->number);
        if (e != NULL) {
            e->refreshing = false;
        }
        pthread_mutex_unlock(&a->lock);
    }
}

/* What memory says about an id; *out is a copy. */
static auth_answer look(auth *a, uint64_t number, entry *out, bool *refresh_it, depot_err *err)
{
    int64_t     now = depot_now_ms();
    auth_answer answer = AUTH_LOOK_UP;

    pthread_mutex_lock(&a->lock);
    entry   *e = find_entry(a, number);
    missing *m = find_missing(a, number);
    if (e != NULL && (e == &a->admin || now - e->checked_ms < FRESH_MS)) {
        answer = AUTH_KNOWN;
        *refresh_it = a->online && !e->refreshing && now - e->checked_ms >= REFRESH_MS;
        e->refreshing = e->refreshing || *refresh_it;
        *out = *e;
    } else if (m != NULL && now < m->until_ms) {
        (void)refuse(err);
        answer = AUTH_REFUSED;
    } else if (a->look_ups >= LOOK_UPS_MAX) {
        (void)DEPOT_FAIL(err, UNAVAILABLE, "%d other tokens are being looked up", LOOK_UPS_MAX);
        answer = AUTH_REFUSED;
    } else {
        a->look_ups++;
    }
    pthread_mutex_unlock(&a->lock);
    return answer;
}

auth_answer auth_check(auth *a, const char *token, identity *out, depot_err *err)
{
    token_parts parts;
    entry       known;
    bool        refresh_it = false;

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
    entry   *e = find_entry(a, number);
    missing *m = find_missing(a, number);
    if (e == &a->admin) {
        e->refused = true;
    } else if (e != NULL) {
        *e = (entry){ 0 };
    }
    if (m != NULL) {
        *m = (missing){ 0 };
    }
    pthread_mutex_unlock(&a->lock);
}

/* ---- the database ---- */

static const char sql_token[] =
    "select name, role, encode(hash, 'hex') as hash, (extract(epoch from expires_at) * 1000000)::bigint as expires_us,"
    " expires_at is not null as expires, revoked_at is not null as revoked,"
    " coalesce(last_used_at < now() - interval '1 minute', true) as stale from depot.token where id = $1";

static depot_role role_named(const char *name)
{
    static const struct {
        const char *name;
        depot_role  role;
    } rows[] = { { "viewer", DEPOT_VIEWER }, { "operator", DEPOT_OPERATOR }, { "admin", DEPOT_ADMIN } };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return rows[i].role;
        }
    }
    return DEPOT_ANYONE;
}

static bool read_row(auth *a, const token_parts *parts, entry *out, bool *found, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_rows                               *rows = NULL;
    depot_err                                 ignored = { 0 };

    if (!depot_sql(a->core, arena, sql_token, DEPOT_VALS(DEPOT_TEXT(parts->id)), &rows, err)) {
        return depot_wrap(err, "cannot look the token up");
    }
    *found = depot_rows_count(rows) == 1;
    if (!*found) {
        return true;
    }
    const char *hash = depot_text(rows, 0, "hash");
    out->number = parts->number;
    out->role = role_named(depot_text(rows, 0, "role"));
    out->refused = depot_bool(rows, 0, "revoked") || strlen(hash) != 64 || !depot_unhex(hash, 32, out->hash);
    out->expires_us = depot_bool(rows, 0, "expires") ? depot_int(rows, 0, "expires_us") : INT64_MAX;
    out->checked_ms = depot_now_ms();
    snprintf(out->actor, sizeof(out->actor), "token:%s", depot_text(rows, 0, "name"));
    /* only for people to see which tokens are in use: a standby cannot write it, and need not */
    if (depot_bool(rows, 0, "stale") && token_same_hash(out->hash, parts->hash) &&
        !depot_sql(a->core, arena, "update depot.token set last_used_at = now() where id = $1",
                   DEPOT_VALS(DEPOT_TEXT(parts->id)), NULL, &ignored)) {
        log_err("core", DEPOT_LOG_DEBUG, "auth.last_used_not_kept", &ignored);
    }
    return true;
}

bool auth_look_up(auth *a, const char *token, identity *out, depot_err *err)
{
    token_parts parts;
    entry       fresh = { 0 };
    bool        found = false;
    bool        ok = token_parse(token, &parts) ? read_row(a, &parts, &fresh, &found, err) : refuse(err);

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

/* ---- the first token ---- */

static bool read_admin_file(const char *path, char out[TOKEN_LENGTH + 1], bool *exists, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    struct stat                               st;
    char                                     *text = NULL;
    token_parts                               parts;

    *exists = true;
    if (!depot_read_file(arena, path, 4096, &text, NULL, err)) {
        *exists = err->sys_errno != ENOENT;
        return !*exists;
    }
    text[strcspn(text, " \t\r\n")] = '\0';
    if (!token_parse(text, &parts)) {
        (void)DEPOT_FAIL(err, CONFIG, "%s holds no token", path);
        return depot_hint(err, "remove it: a new one is made at the next start");
    }
    memcpy(out, text, TOKEN_LENGTH + 1);
    if (stat(path, &st) == 0 && (st.st_mode & 077) != 0) {
        log_write("core", DEPOT_LOG_WARN, "auth.admin_token_readable", "others may read %s (mode %o): chmod 600 it", path,
                  (unsigned)st.st_mode & 0777U);
    }
    return true;
}

bool auth_admin_open(auth *a, const char *state_dir, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const char                               *path = depot_strf(arena, "%s/admin.token", state_dir);
    char                                      token[TOKEN_LENGTH + 2] = "";
    bool                                      exists = false;
    token_parts                               parts;

    if (!read_admin_file(path, token, &exists, err)) {
        return false;
    }
    if (!exists) {
        token_make(token, &parts);
        token[TOKEN_LENGTH] = '\n';
        if (!depot_write_file(path, token, TOKEN_LENGTH + 1, 0600, err)) {
            return depot_wrap(err, "cannot keep the first admin token");
        }
        token[TOKEN_LENGTH] = '\0';
        log_write("core", DEPOT_LOG_INFO, "auth.admin_token_made", "the first admin token is in %s", path);
    }
    log_redact_add(token);
    if (!token_parse(token, &parts)) {
        return DEPOT_FAIL(err, BUG, "the admin token is none");
    }
    pthread_mutex_lock(&a->lock);
    a->admin = (entry){ .number = parts.number, .actor = "token:admin", .role = DEPOT_ADMIN, .expires_us = INT64_MAX };
    memcpy(a->admin.hash, parts.hash, sizeof(parts.hash));
    pthread_mutex_unlock(&a->lock);
    return true;
}

/* One transaction, as names of tokens in force are unique. */
static const char sql_replace_admin[] =
    "update depot.token set revoked_at = now() where name = $2 and id <> $1 and revoked_at is null"
    " and not exists (select from depot.token t where t.id = $1)";
static const char sql_add_admin[] =
    "insert into depot.token (id, name, role, hash, created_by) values ($1, $2, 'admin', decode($3, 'hex'), 'depotd')"
    " on conflict (id) do nothing";

bool auth_admin_online(auth *a, const char *node, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_db_close) depot_db      *db = NULL;
    char                                      id[17], hash[65];
    token_parts                               parts = { 0 };
    entry                                     fresh = { 0 };
    bool                                      found = false;

    pthread_mutex_lock(&a->lock);
    entry own = a->admin;
    pthread_mutex_unlock(&a->lock);
    if (own.number == 0) {
        return DEPOT_FAIL(err, BUG, "the admin token has not been opened");
    }
    snprintf(id, sizeof(id), "%012llx", (unsigned long long)own.number);
    depot_hex(own.hash, sizeof(own.hash), hash);
    const char *name = depot_strf(arena, "admin@%s", node);
    if (!depot_db_open(a->core, &db, err) || !depot_db_begin(db, NULL, err) ||
        !depot_db_sql(db, arena, sql_replace_admin, DEPOT_VALS(DEPOT_TEXT(id), DEPOT_TEXT(name)), NULL, err) ||
        !depot_db_sql(db, arena, sql_add_admin, DEPOT_VALS(DEPOT_TEXT(id), DEPOT_TEXT(name), DEPOT_TEXT(hash)), NULL, err) ||
        !depot_db_commit(db, err)) {
        return depot_wrap(err, "cannot record the admin token");
    }
    memcpy(parts.id, id, sizeof(parts.id));
    parts.number = own.number;
    if (!read_row(a, &parts, &fresh, &found, err)) {
        return false;
    }
    pthread_mutex_lock(&a->lock);
    if (found) {
        a->admin = fresh;
    }
    a->online = true;
    pthread_mutex_unlock(&a->lock);
    if (fresh.refused) {
        log_write("core", DEPOT_LOG_WARN, "auth.admin_token_revoked",
                  "the token in admin.token has been revoked; remove the file to get a new one at the next start");
    }
    return true;
}
