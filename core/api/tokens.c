/* tokens.c - routes for API tokens and the audit log. */
#include <inttypes.h>
#include <string.h>

#include "api/handlers.h"
#include "api/internal.h"

bool api_create_token(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    static const char sql[] =
        "insert into depot.token (id, name, role, hash, created_by, expires_at)"
        " values ($1, $2, $3, decode($4, 'hex'), $5, now() + $6 * interval '1 millisecond')"
        " returning to_char(expires_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as expires_at";
    depot_arena      *arena = depot_req_arena(req);
    const depot_json *args = depot_req_args(req);
    const char       *name = depot_json_get_str(args, "name", ""), *role = depot_json_get_str(args, "role", "");
    int64_t           life = depot_json_get_int(args, "expires_in", 0);
    char              text[TOKEN_LENGTH + 1], hash[65];
    depot_rows       *rows = NULL;
    token_parts       parts;

    token_make(text, &parts);
    depot_hex(parts.hash, sizeof(parts.hash), hash);
    if (!depot_sql(ctx, arena, sql,
                   DEPOT_VALS(DEPOT_TEXT(parts.id), DEPOT_TEXT(name), DEPOT_TEXT(role), DEPOT_TEXT(hash),
                              DEPOT_TEXT(depot_req_actor(req)), life == 0 ? DEPOT_NULL : DEPOT_INT(life)),
                   &rows, err)) {
        if (strcmp(err->sqlstate, "23505") == 0) {
            (void)DEPOT_FAIL(err, CONFLICT, "a token called %s is in force", name);
            return depot_hint(err, "choose another name, or revoke it: depotctl token list shows its id");
        }
        return depot_wrap(err, "cannot keep the token");
    }
    auth_forget(api_self->auth, parts.id);
    return depot_reply_json(req, 201, depot_json_pack(arena, "{s:s, s:s, s:s, s:s, s:s?}", "id", parts.id, "name", name, "role",
                                                      role, "token", text, "expires_at", depot_text(rows, 0, "expires_at")));
}

bool api_list_tokens(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    static const char sql[] =
        "select coalesce(json_agg(json_build_object('id', id, 'name', name, 'role', role, 'created_at', created_at,"
        " 'created_by', created_by, 'expires_at', expires_at, 'revoked_at', revoked_at, 'last_used_at', last_used_at)"
        " order by created_at, id), '[]')::text as list from depot.token where $1 or (revoked_at is null and"
        " (expires_at is null or expires_at > now()))";
    depot_arena *arena = depot_req_arena(req);
    depot_rows  *rows = NULL;
    bool         all = depot_json_get_bool(depot_req_args(req), "all", false);

    return depot_sql(ctx, arena, sql, DEPOT_VALS(DEPOT_BOOL(all)), &rows, err) &&
           depot_reply_json_text(req, 200, depot_text(rows, 0, "list"));
}

bool api_revoke_token(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    static const char sql[] =
        "update depot.token set revoked_at = now() where id = $1 and revoked_at is null returning name";
    depot_arena *arena = depot_req_arena(req);
    const char  *id = depot_json_get_str(depot_req_args(req), "id", "");
    depot_rows  *rows = NULL;

    if (!depot_sql(ctx, arena, sql, DEPOT_VALS(DEPOT_TEXT(id)), &rows, err)) {
        return false;
    }
    if (depot_rows_count(rows) == 0) {
        (void)DEPOT_FAIL(err, NOT_FOUND, "no token in force has the id %s", id);
        return depot_hint(err, "depotctl token list shows all");
    }
    auth_forget(api_self->auth, id);
    return depot_reply_json(req, 200, depot_json_pack(arena, "{s:s, s:s?}", "id", id, "name", depot_text(rows, 0, "name")));
}

bool api_list_audit(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    static const char sql[] =
        "select coalesce(json_agg(r), '[]')::text as list from (select id, at, actor, action, target, detail, request_id,"
        " encode(hash, 'hex') as hash from depot.audit where id < $1 and ($2::text is null or actor = $2)"
        " order by id desc limit $3) r";
    depot_arena      *arena = depot_req_arena(req);
    const depot_json *args = depot_req_args(req);
    depot_rows       *rows = NULL;

    return depot_sql(ctx, arena, sql,
                     DEPOT_VALS(DEPOT_INT(depot_json_get_int(args, "before", INT64_MAX)),
                                DEPOT_TEXT(depot_json_get_str(args, "actor", NULL)),
                                DEPOT_INT(depot_json_get_int(args, "limit", 0))),
                     &rows, err) &&
           depot_reply_json_text(req, 200, depot_text(rows, 0, "list"));
}

bool api_verify_audit(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    static const char sql[] = "select rows_seen, broken_id from depot.audit_verify()";
    depot_arena      *arena = depot_req_arena(req);
    depot_rows       *rows = NULL;

    if (!depot_sql(ctx, arena, sql, DEPOT_NO_VALS, &rows, err)) {
        return false;
    }
    if (!depot_is_null(rows, 0, "broken_id")) {
        (void)DEPOT_FAIL(err, CORRUPT, "row %" PRId64 " of the audit log does not follow from the one before it",
                         depot_int(rows, 0, "broken_id"));
        return depot_hint(err, "somebody with the owner's rights has changed the log; compare it with a backup");
    }
    return depot_reply_json(req, 200, depot_json_pack(arena, "{s:b, s:I}", "intact", 1, "rows", depot_int(rows, 0, "rows_seen")));
}
