/* test_auth.c - the token cache, the first admin token and the audit log's group commit, against a real server. Time is made to
 * pass by setting clocks of entries back. test-tsan: yes */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "api/audit.h"
#include "api/auth_parts.h"
#include "api/internal.h"

#include "tap.h"

#include "pgtest.h"

static host_env     env;
static host        *plugins;
static auth        *tokens;
static const char  *state_dir;
static const depot_plugin core = { .version = "1", .summary = "test" };

static void open_all(void)
{
    depot_err         err = { 0 };
    const char *const sets[] = { "core", NULL };
    db_pool_options   options = {
        .url = pg_cluster_url(pgt_cluster), .name = "test", .max = 8, .connect_timeout_ms = 5000, .acquire_timeout_ms = 5000,
        .statement_timeout_ms = 10000, .lock_timeout_ms = 5000, .idle_tx_timeout_ms = 10000
    };

    pgt_migrate(sets);
    state_dir = pgt_dir("state");
    env = (host_env){ .state_dir = state_dir, .node = "n1", .executor = executor_new(8, 64), .db = db_pool_new(&options) };
    plugins = host_new(&env, &core);
    api_limits limits = { .max_body = 1000, .request_timeout_ms = 1000 };
    ok_err(api_open(plugins, &limits, &err), &err, "the API opens");
    tokens = api_self->auth;
}

static void close_all(void)
{
    executor_drain(env.executor, 5000);
    api_close();
    executor_free(env.executor);
    db_pool_free(env.db);
    host_free(plugins);
}

/* A token with its row. */
static void make(const char *name, const char *role, char text[TOKEN_LENGTH + 1], token_parts *parts)
{
    char hash[65];

    token_make(text, parts);
    depot_hex(parts->hash, 32, hash);
    pgt_do(depot_strf(pgt_arena, "insert into depot.token (id, name, role, hash, created_by) values ('%s', '%s', '%s', '\\x%s', 't')",
                      parts->id, name, role, hash));
}

static auth_entry *entry_of(const token_parts *parts)
{
    for (size_t set = 0; set < AUTH_SETS; set++) {
        for (size_t way = 0; way < AUTH_WAYS; way++) {
            if (tokens->entries[set][way].number == parts->number) {
                return &tokens->entries[set][way];
            }
        }
    }
    return tokens->admin.number == parts->number ? &tokens->admin : NULL;
}

static void grow_older(const token_parts *parts, int64_t ms)
{
    pthread_mutex_lock(&tokens->lock);
    auth_entry *e = entry_of(parts);
    if (e != NULL) {
        e->checked_ms -= ms;
    }
    pthread_mutex_unlock(&tokens->lock);
}

static const char *checked(const char *text)
{
    static const char *const names[] = { [AUTH_KNOWN] = "known", [AUTH_REFUSED] = "refused", [AUTH_LOOK_UP] = "look up" };
    identity  who = { 0 };
    depot_err err = { 0 };

    return names[auth_check(tokens, text, &who, &err)];
}

/* What a request goes through: memory, then the database. */
static const char *asked(const char *text, identity *who)
{
    depot_err   err = { 0 };
    auth_answer answer = auth_check(tokens, text, who, &err);

    if (answer == AUTH_LOOK_UP) {
        answer = auth_look_up(tokens, text, who, &err) ? AUTH_KNOWN : AUTH_REFUSED;
    }
    return answer == AUTH_KNOWN ? who->actor : depot_strdup(pgt_arena, depot_err_id(&err));
}

static bool eventually_refused(const char *text)
{
    for (int i = 0; i < 200; i++) {
        if (strcmp(checked(text), "refused") == 0) {
            return true;
        }
        usleep(20000);
    }
    return false;
}

static void a_token_is_looked_up_once(void)
{
    char        text[TOKEN_LENGTH + 1];
    token_parts parts;
    identity    who = { 0 };

    make("ci", "operator", text, &parts);
    is_str(asked(text, &who), "token:ci", "by the database");
    is_int(who.role, DEPOT_OPERATOR, "with its role");
    is_str(checked(text), "known", "then from memory");
    is_int(tokens->look_ups, 0, "no look-up is left open");
    text[TOKEN_LENGTH - 1] = text[TOKEN_LENGTH - 1] == 'A' ? 'E' : 'A';
    is_str(checked(text), "refused", "another secret is refused from memory");
}

static void a_made_up_token_is_remembered(void)
{
    char        text[TOKEN_LENGTH + 1], hash[65];
    token_parts parts;
    identity    who = { 0 };

    token_make(text, &parts);
    is_str(asked(text, &who), "UNAUTHORIZED", "refused by the database");
    is_str(checked(text), "refused", "then from memory");
    depot_hex(parts.hash, 32, hash);
    pgt_do(depot_strf(pgt_arena, "insert into depot.token (id, name, role, hash, created_by) values ('%s', 'late', 'viewer', '\\x%s', 't')",
                      parts.id, hash));
    auth_forget(tokens, parts.id);
    is_str(asked(text, &who), "token:late", "until it is made");
}

static void few_unknown_tokens_are_looked_up_at_a_time(void)
{
    char        text[AUTH_LOOK_UPS_MAX + 1][TOKEN_LENGTH + 1];
    token_parts parts;
    identity    who = { 0 };
    depot_err   err = { 0 };

    for (size_t i = 0; i < AUTH_LOOK_UPS_MAX; i++) {
        token_make(text[i], &parts);
        is_str(checked(text[i]), "look up", "one of the first");
    }
    token_make(text[AUTH_LOOK_UPS_MAX], &parts);
    ok(auth_check(tokens, text[AUTH_LOOK_UPS_MAX], &who, &err) == AUTH_REFUSED && err.code == DEPOT_E_UNAVAILABLE, "one too many");
    for (size_t i = 0; i < AUTH_LOOK_UPS_MAX; i++) {
        auth_give_up(tokens);
    }
    is_str(checked(text[AUTH_LOOK_UPS_MAX]), "look up", "room again");
    auth_give_up(tokens);
}

static void a_row_is_trusted_for_a_while(void)
{
    char        text[TOKEN_LENGTH + 1];
    token_parts parts;
    identity    who = { 0 };

    make("aging", "viewer", text, &parts);
    is_str(asked(text, &who), "token:aging", "known");
    pgt_do(depot_strf(pgt_arena, "update depot.token set revoked_at = now() where id = '%s'", parts.id));
    is_str(checked(text), "known", "revoked elsewhere: still known here");
    grow_older(&parts, AUTH_FRESH_MS);
    is_str(checked(text), "look up", "but not after its time");
    auth_give_up(tokens);
    is_str(asked(text, &who), "UNAUTHORIZED", "then the database is asked");
}

static void a_token_in_use_is_refreshed(void)
{
    char        text[TOKEN_LENGTH + 1];
    token_parts parts;
    identity    who = { 0 };

    make("busy", "viewer", text, &parts);
    is_str(asked(text, &who), "token:busy", "known");
    pgt_do(depot_strf(pgt_arena, "update depot.token set revoked_at = now() where id = '%s'", parts.id));
    grow_older(&parts, AUTH_REFRESH_MS + 100);
    is_str(checked(text), "known", "this use is answered from memory");
    ok(eventually_refused(text), "and in the background the row is read again");

    make("gone", "viewer", text, &parts);
    is_str(asked(text, &who), "token:gone", "known");
    pgt_do(depot_strf(pgt_arena, "delete from depot.token where id = '%s'", parts.id));
    grow_older(&parts, AUTH_REFRESH_MS + 100);
    ok(strcmp(checked(text), "known") == 0 && eventually_refused(text), "a row that has gone counts as revoked");
}

static void an_expired_token_is_refused(void)
{
    char        text[TOKEN_LENGTH + 1];
    token_parts parts;
    identity    who = { 0 };

    make("short", "viewer", text, &parts);
    pgt_do(depot_strf(pgt_arena, "update depot.token set expires_at = now() + interval '700 ms' where id = '%s'", parts.id));
    is_str(asked(text, &who), "token:short", "before");
    usleep(800000);
    is_str(checked(text), "refused", "after, from memory");
}

static void many_tokens_push_out_the_oldest(void)
{
    enum { MANY = 60 };
    static char text[MANY][TOKEN_LENGTH + 1];
    token_parts parts;
    identity    who = { 0 };
    size_t      wrong = 0;

    for (size_t i = 0; i < MANY; i++) {
        make(depot_strf(pgt_arena, "many-%zu", i), "viewer", text[i], &parts);
    }
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < MANY; i++) {
            wrong += strcmp(asked(text[i], &who), depot_strf(pgt_arena, "token:many-%zu", i)) != 0;
        }
    }
    is_int(wrong, 0, "each is itself, in any order");
}

static void the_admin_token_is_made_once(void)
{
    char       *first, *again;
    depot_err   err = { 0 };
    struct stat st;
    identity    who = { 0 };
    const char *path = depot_strf(pgt_arena, "%s/admin.token", state_dir);

    ok_err(auth_admin_open(tokens, state_dir, &err), &err, "made");
    ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "for its owner alone");
    ok_err(depot_read_file(pgt_arena, path, 100, &first, NULL, &err), &err, "it can be read");
    ok_err(auth_admin_open(tokens, state_dir, &err), &err, "opened again");
    ok_err(depot_read_file(pgt_arena, path, 100, &again, NULL, &err), &err, "it can be read again");
    is_str(again, first, "it is the same");
    first[strcspn(first, "\n")] = '\0';
    is_str(asked(first, &who), "token:admin", "it works without the database");
    ok_err(auth_admin_online(tokens, "n1", &err), &err, "its row is made");
    ok_err(auth_admin_online(tokens, "n1", &err), &err, "once");
    is_str(pgt_ask("select count(*)::text from depot.token where name = 'admin@n1'"), "1", "one row");
    is_str(asked(first, &who), "token:admin@n1", "now by its name");
    is_int(who.role, DEPOT_ADMIN, "as admin");
}

static void a_replaced_admin_token_is_revoked(void)
{
    char       *old, *fresh;
    depot_err   err = { 0 };
    identity    who = { 0 };
    const char *path = depot_strf(pgt_arena, "%s/admin.token", state_dir);

    ok_err(depot_read_file(pgt_arena, path, 100, &old, NULL, &err), &err, "the old one");
    unlink(path);
    ok(auth_admin_open(tokens, state_dir, &err) && auth_admin_online(tokens, "n1", &err), "a new one is made and recorded");
    ok_err(depot_read_file(pgt_arena, path, 100, &fresh, NULL, &err), &err, "the new one");
    old[TOKEN_LENGTH] = fresh[TOKEN_LENGTH] = '\0';
    is_str(asked(fresh, &who), "token:admin@n1", "the new one works");
    is_str(asked(old, &who), "UNAUTHORIZED", "the old one does not");
    is_str(pgt_ask("select count(*)::text from depot.token where name = 'admin@n1' and revoked_at is null"), "1", "one is in force");
}

static void a_file_without_token_is_refused(void)
{
    depot_err   err = { 0 };
    const char *dir = pgt_dir("other");

    ok_err(depot_write_file(depot_strf(pgt_arena, "%s/admin.token", dir), "hello\n", 6, 0600, &err), &err, "a file with something else");
    ok(!auth_admin_open(tokens, dir, &err) && err.code == DEPOT_E_CONFIG, "refused");
    contains(err.hint, "remove it", "with what to do");
}

enum { WRITERS = 12, ROWS = 40 };

static void *write_rows(void *arg)
{
    for (size_t i = 0; i < ROWS; i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        depot_err err = { 0 };
        if (!api_audit("writer", arg, depot_strf(arena, "%zu", i), depot_json_pack(arena, "{s:i}", "n", (int)i), "r", &err)) {
            return arg;
        }
    }
    return NULL;
}

static void audit_rows_of_many_threads_form_one_chain(void)
{
    pthread_t threads[WRITERS];
    char      names[WRITERS][16];
    size_t    failed = 0;

    for (size_t i = 0; i < WRITERS; i++) {
        snprintf(names[i], sizeof(names[i]), "w%zu", i);
        pthread_create(&threads[i], NULL, write_rows, names[i]);
    }
    for (size_t i = 0; i < WRITERS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        failed += result != NULL;
    }
    is_int(failed, 0, "every row is written");
    is_str(pgt_ask("select count(*)::text from depot.audit where actor = 'writer'"), "480", "each once");
    is_str(pgt_ask("select count(*)::text from (select action, target from depot.audit where actor = 'writer' group by 1, 2) r"), "480",
           "none twice");
    is_str(pgt_ask("select coalesce(broken_id::text, 'intact') from depot.audit_verify()"), "intact", "the chain holds");
    is_str(pgt_ask("select bool_and(ordered)::text from (select target::int > lag(target::int, 1, -1) over (partition by action order by id)"
                   " as ordered from depot.audit where actor = 'writer') r"), "true", "each writer's rows are in its order");
}

static void a_database_that_is_away_lets_known_tokens_in(void)
{
    char        text[TOKEN_LENGTH + 1], *admin;
    token_parts parts;
    identity    who = { 0 };
    depot_err   err = { 0 };

    make("steady", "viewer", text, &parts);
    is_str(asked(text, &who), "token:steady", "known");
    ok_err(depot_read_file(pgt_arena, depot_strf(pgt_arena, "%s/admin.token", state_dir), 100, &admin, NULL, &err), &err, "the admin's");
    admin[TOKEN_LENGTH] = '\0';
    pg_cluster_stop(pgt_cluster, 5000);
    is_str(checked(text), "known", "for a while");
    grow_older(&parts, AUTH_FRESH_MS);
    is_str(asked(text, &who), "DB_UNAVAILABLE", "then the answer is that nobody knows");
    ok(token_parse(admin, &parts), "the admin's token");
    grow_older(&parts, 10 * AUTH_FRESH_MS);
    is_str(checked(admin), "known", "the admin token works all the time");
    ok(!api_audit("t", "a", NULL, NULL, NULL, &err), "an audit row cannot be written");
    is_int(err.code, DEPOT_E_DB_DOWN, "and that is said");
}

int main(void)
{
    pgt_begin();
    open_all();
    run(a_token_is_looked_up_once);
    run(a_made_up_token_is_remembered);
    run(few_unknown_tokens_are_looked_up_at_a_time);
    run(the_admin_token_is_made_once);
    run(a_row_is_trusted_for_a_while);
    run(a_token_in_use_is_refreshed);
    run(an_expired_token_is_refused);
    run(many_tokens_push_out_the_oldest);
    run(a_replaced_admin_token_is_revoked);
    run(a_file_without_token_is_refused);
    run(audit_rows_of_many_threads_form_one_chain);
    run(a_database_that_is_away_lets_known_tokens_in);
    close_all();
    pgt_end();
    return done();
}
