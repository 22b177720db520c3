/* auth_rows.c - rows of tokens in the database, and the first admin token in its file. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "api/auth_parts.h"
#include "base/log.h"

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

bool auth_read_row(auth *a, const token_parts *parts, auth_entry *out, bool *found, depot_err *err)
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
    a->admin = (auth_entry){ .number = parts.number, .actor = "token:admin", .role = DEPOT_ADMIN, .expires_us = INT64_MAX };
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
    auth_entry                                     fresh = { 0 };
    bool                                      found = false;

    pthread_mutex_lock(&a->lock);
    auth_entry own = a->admin;
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
    if (!auth_read_row(a, &parts, &fresh, &found, err)) {
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
