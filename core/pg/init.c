/* init.c - a new cluster: passwords, initdb, roles and database. Everything here can be broken off at any point: the
 * next start finds out how far it came. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "db/pool.h"
#include "pg/parts.h"

#define INITDB_MS 300000
#define SINGLE_MS 60000
#define CONNECT_MS 10000
#define ROOM_BYTES (64LL * 1024 * 1024) /* a new cluster takes 46 MiB */
#define PASSWORD_BYTES 24

static const char *const quiet_env[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                         "LC_ALL=C", "TZ=UTC", NULL };

static bool secret_load(depot_arena *arena, const pg_place *place, const char *name, char **out, bool *is_new,
                        depot_err *err)
{
    const char *path = depot_strf(arena, "%s/%s.pw", place->secrets, name);
    uint8_t     random[PASSWORD_BYTES];
    char        hex[2 * PASSWORD_BYTES + 2];

    if (depot_read_file(arena, path, 1024, out, NULL, err)) {
        (*out)[strcspn(*out, "\n")] = '\0';
        *is_new = false;
    } else if (err->sys_errno == ENOENT) {
        depot_random(random, sizeof(random));
        depot_hex(random, sizeof(random), hex);
        *out = depot_strdup(arena, hex);
        *is_new = true;
        memcpy(hex + 2 * PASSWORD_BYTES, "\n", 2);
        if (!depot_write_file(path, hex, sizeof(hex) - 1, 0600, err)) {
            return false;
        }
    } else {
        return false;
    }
    log_redact_add(*out);
    /* It becomes part of URLs and of SQL text: nothing but digits. */
    return (strlen(*out) >= 16 && (*out)[strspn(*out, "0123456789abcdef")] == '\0') ||
           DEPOT_FAIL(err, CORRUPT, "%s does not hold a password of ours", path);
}

bool pg_secrets_load(depot_arena *arena, const pg_place *place, pg_secrets *out, depot_err *err)
{
    return secret_load(arena, place, "super", &out->super, &out->super_is_new, err) &&
           secret_load(arena, place, "owner", &out->owner, &out->owner_is_new, err) &&
           secret_load(arena, place, "depot", &out->role, &out->role_is_new, err);
}

/* The last line that says something. */
static const char *last_line(depot_arena *arena, const char *text)
{
    size_t n = strlen(text);

    while (n > 0 && strchr("\n ", text[n - 1]) != NULL) {
        n--;
    }
    size_t from = n;
    while (from > 0 && text[from - 1] != '\n') {
        from--;
    }
    return depot_strndup(arena, text + from, n - from);
}

/* A password for a program to read: in memory, as a file of its own, so that no command line or disk ever shows it. */
static bool password_fd(const char *password, int *out, depot_err *err)
{
    *out = memfd_create("depotd-pw", MFD_CLOEXEC);
    if (*out < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot make a memory file");
    }
    if (!depot_write_all(*out, password, strlen(password), err)) {
        depot_fd_close(out);
        return false;
    }
    return true;
}

static bool run_initdb(depot_arena *arena, const pg_place *place, const pg_programs *programs,
                       const pg_secrets *secrets, const char *data, depot_err *err)
{
    const char *const argv[] = { depot_strf(arena, "%s/initdb", programs->bindir),
                                 "-D", data, "-U", PG_SUPER, "-E", "UTF8", "--locale=C.UTF-8", "--data-checksums",
                                 "-A", "scram-sha-256", "--pwfile=/dev/fd/3", "--no-sync", NULL }; /* settle.c syncs */
    child_spec   spec = pg_place_spec(place, argv, quiet_env);
    child_result result;

    spec.die_with_parent = true;
    if (!password_fd(secrets->super, &spec.keep, err)) {
        return false;
    }
    bool ran = child_run(arena, &spec, NULL, 0, 16384, INITDB_MS, &result, err);
    depot_fd_close(&spec.keep);
    if (!ran) {
        return false;
    }
    if (result.status == 0) {
        return true;
    }
    /* initdb has removed what it made, so that there is some room again. */
    return pg_place_free_bytes(place) < ROOM_BYTES
               ? DEPOT_FAIL(err, NO_SPACE, "the disk of %s is full: initdb gave up", place->root)
               : DEPOT_FAIL(err, EXEC, "initdb failed: %s", last_line(arena, result.err_out));
}

static bool include_settings(depot_arena *arena, const char *data, depot_err *err)
{
    const char *path = depot_strf(arena, "%s/postgresql.conf", data);
    static const char line[] = "\ninclude '../depotd.conf'\n";
    DEPOT_AUTO(depot_fd_close) int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot open %s", path);
    }
    return depot_write_all(fd, line, sizeof(line) - 1, err) || depot_wrap(err, "write %s", path);
}

bool pg_init(depot_arena *arena, const pg_place *place, const pg_programs *programs, const pg_secrets *secrets,
             depot_err *err)
{
    const char *data = depot_strf(arena, "%s/data.new", place->root);

    if (rmdir(place->data) != 0 && errno != ENOENT) {
        DEPOT_FAIL(err, CORRUPT, "%s holds something that is no PostgreSQL cluster", place->data);
        return depot_hint(err, "move it away, or put the cluster's files back from a backup");
    }
    if (access(data, F_OK) == 0) {
        log_write("pg", DEPOT_LOG_WARN, "pg.half_made", "%s was never finished: it is made anew", data);
    }
    if (!pg_server_end_all(arena, data, err) || !depot_remove_tree(data, err)) {
        return false;
    }
    if (pg_place_free_bytes(place) < ROOM_BYTES) {
        DEPOT_FAIL(err, NO_SPACE, "%s of room at %s; a new cluster takes %s",
                   depot_format_size(arena, pg_place_free_bytes(place)), place->root,
                   depot_format_size(arena, ROOM_BYTES));
        return depot_hint(err, "make room, or use a database elsewhere ([database] url)");
    }
    if (!pg_place_mkdir(place, data, true, 0700, err) ||
        !run_initdb(arena, place, programs, secrets, data, err) ||
        !include_settings(arena, data, err) || (!place->throwaway && !pg_unsettled_mark(arena, data, err))) {
        return depot_wrap(err, "make a PostgreSQL cluster");
    }
    return rename(data, place->data) == 0 || DEPOT_FAIL_ERRNO(err, "cannot rename %s to %s", data, place->data);
}

bool pg_reset_super(depot_arena *arena, const pg_place *place, const pg_programs *programs, const pg_secrets *secrets,
                    depot_err *err)
{
    const char *const argv[] = { depot_strf(arena, "%s/postgres", programs->bindir), "--single", "-D", place->data,
                                 "-c", "logging_collector=off", "-c", "archive_mode=off", "postgres", NULL };
    const char  *sql = depot_strf(arena, "alter role " PG_SUPER " password '%s'\n", secrets->super);
    child_spec   spec = pg_place_spec(place, argv, quiet_env);
    child_result result;

    log_write("pg", DEPOT_LOG_WARN, "pg.password_lost", "the superuser's password file was missing: a new one is set");
    if (!child_run(arena, &spec, sql, strlen(sql), 16384, SINGLE_MS, &result, err)) {
        return depot_wrap(err, "set the superuser's password");
    }
    if (result.status != 0) {
        return DEPOT_FAIL(err, EXEC, "cannot set the superuser's password: %s", last_line(arena, result.err_out));
    }
    return true;
}

/* ---- roles and database ---- */

static const char look_sql[] =
    "select exists (select from pg_roles where rolname = '" PG_OWNER "') as has_owner,"
    " exists (select from pg_roles where rolname = '" PG_ROLE "') as has_role,"
    " exists (select from pg_database where datname = '" PG_DATABASE "') as has_database,"
    " coalesce((select shobj_description(oid, 'pg_database') from pg_database where datname = '" PG_DATABASE
    "'), '') as mark";

#define MARK "made by depotd (1)"

/* The daemon's role owns nothing and has no rights but those that migrations give it, here as on any other server. */
static const char rights_sql[] =
    "revoke all on database " PG_DATABASE " from public;"
    "grant connect on database " PG_DATABASE " to " PG_ROLE ";"
    "revoke connect on database postgres from public;"
    "alter schema public owner to " PG_OWNER ";"
    "revoke all on schema public from public;"
    "grant usage on schema public to " PG_ROLE ";"
    "comment on database " PG_DATABASE " is '" MARK "'";

static bool furnish_role(depot_db *db, depot_arena *arena, const char *role, const char *password, bool exists,
                         bool is_new, depot_err *err)
{
    char *verifier = NULL;

    if (exists && !is_new) {
        return true;
    }
    /* Statements may show in the server's log: what they hold is only a verifier of the password. */
    if (!db_password_verifier(db, arena, role, password, &verifier, err)) {
        return false;
    }
    return db_script(db, depot_strf(arena, "%s role %s login nosuperuser nocreatedb nocreaterole password '%s'",
                                    exists ? "alter" : "create", role, verifier), err) ||
           depot_wrap(err, "make role %s", role);
}

bool pg_furnish(depot_arena *arena, const char *super_postgres_url, const char *super_url, const pg_secrets *secrets,
                depot_err *err)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;
    DEPOT_AUTO(db_disconnect) depot_db *inside = NULL;
    depot_rows *rows = NULL;

    if (!db_connect(super_postgres_url, "depotd/pg", CONNECT_MS, &db, err) ||
        !depot_db_sql(db, arena, look_sql, DEPOT_NO_VALS, &rows, err) ||
        !furnish_role(db, arena, PG_OWNER, secrets->owner, depot_bool(rows, 0, "has_owner"), secrets->owner_is_new,
                      err) ||
        !furnish_role(db, arena, PG_ROLE, secrets->role, depot_bool(rows, 0, "has_role"), secrets->role_is_new, err)) {
        return false;
    }
    if (!depot_bool(rows, 0, "has_database") &&
        !db_script(db, "create database " PG_DATABASE " owner " PG_OWNER, err)) {
        return depot_wrap(err, "make database " PG_DATABASE);
    }
    if (strcmp(depot_text(rows, 0, "mark"), MARK) == 0) {
        return true;
    }
    return (db_connect(super_url, "depotd/pg", CONNECT_MS, &inside, err) && db_script(inside, rights_sql, err)) ||
           depot_wrap(err, "set the rights of database " PG_DATABASE);
}
