/* migrate.c - applies migration files: in order, one transaction each, under one advisory lock; known by checksum. */
#include <poll.h>
#include <string.h>

#include "base/log.h"
#include "base/unit.h"
#include "db/conn.h"
#include "db/migrate_files.h"
#include "db/sqltext.h"

#define LOCK_KEY 0x6465706f744d4947 /* "depotMIG" */
#define LOCK_WAIT_MS 600000
#define LOCK_POLL_MS 200
#define TABLE_LOCK_MS 5000 /* waiting longer for a table would hold up everybody who comes after us */
#define TABLE_LOCK_TRIES 20
#define TABLE_LOCK_PAUSE_MS 2000

static const char create_sql[] =
    "create schema if not exists depot;"
    "create table if not exists depot.migration ("
    " set_name text not null, number integer not null, name text not null, checksum text not null,"
    " applied_at timestamptz not null default now(), applied_by text not null default current_user,"
    " duration_ms bigint not null, primary key (set_name, number));"
    "comment on table depot.migration is 'what depotd has applied of sql/<set>/<number>_<name>.sql'";

static const char applied_sql[] =
    "select set_name, number, name, checksum,"
    " to_char(applied_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as applied_at"
    " from depot.migration order by set_name, number";

static const char note_sql[] =
    "insert into depot.migration (set_name, number, name, checksum, duration_ms) values ($1, $2, $3, $4, $5)"
    " returning to_char(applied_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as applied_at";

static bool table_exists(depot_db *db, depot_arena *arena, bool *out, depot_err *err)
{
    depot_rows *rows = NULL;

    if (!depot_db_sql(db, arena, "select to_regclass('depot.migration') is not null as there", DEPOT_NO_VALS, &rows,
                      err)) {
        return false;
    }
    *out = depot_bool(rows, 0, "there");
    return true;
}

static bool match_checksum(migration *m, const depot_rows *rows, size_t row, depot_arena *arena, depot_err *err)
{
    const char *applied = depot_text(rows, row, "checksum");

    if (strcmp(applied, m->checksum) != 0) {
        DEPOT_FAIL(err, MIGRATION, "%s/%s was changed after it was applied (applied %s, now %s)", m->set, m->file,
                   applied, m->checksum);
        return depot_hint(err, "put the file back as it was, and what is to change into a new migration");
    }
    m->applied = true;
    m->applied_at = depot_strdup(arena, depot_text(rows, row, "applied_at"));
    return true;
}

/* Marks what the database has of one set. */
static bool match_set(depot_arena *arena, const char *set, migration *files, size_t n, const depot_rows *rows,
                      depot_err *err)
{
    for (size_t row = 0; row < depot_rows_count(rows); row++) {
        int64_t number = depot_int(rows, row, "number");
        if (strcmp(depot_text(rows, row, "set_name"), set) != 0) {
            continue;
        }
        if (number < 1 || (uint64_t)number > n) {
            DEPOT_FAIL(err, MIGRATION,
                       "the database has migration %s/%04d_%s, of which this depotd knows nothing (it has %zu)", set,
                       (int)number, depot_text(rows, row, "name"), n);
            return depot_hint(err,
                              "run the depotd that applied it or a newer one; going back means restoring a backup");
        }
        if (!match_checksum(&files[number - 1], rows, row, arena, err)) {
            return false;
        }
    }
    for (size_t i = 1; i < n; i++) {
        if (files[i].applied && !files[i - 1].applied) {
            return DEPOT_FAIL(err, MIGRATION, "%s/%s is applied, but %s before it is not", set, files[i].file,
                              files[i - 1].file);
        }
    }
    return true;
}

bool migrate_status(depot_db *db, depot_arena *arena, const char *sql_dir, const char *const *sets, migration **out,
                    size_t *out_n, depot_err *err)
{
    depot_rows *rows = NULL;
    bool        exists = false;
    migration  *all = NULL;
    size_t      total = 0;

    if (!table_exists(db, arena, &exists, err) ||
        (exists && !depot_db_sql(db, arena, applied_sql, DEPOT_NO_VALS, &rows, err))) {
        return depot_wrap(err, "read what is applied");
    }
    for (const char *const *set = sets; *set != NULL; set++) {
        migration *files = NULL;
        size_t     n = 0;
        if (!migrate_files(arena, sql_dir, *set, &files, &n, err) ||
            (rows != NULL && !match_set(arena, *set, files, n, rows, err))) {
            return false;
        }
        migration *more = depot_alloc(arena, (total + n) * sizeof(*more));
        if (total > 0) {
            memcpy(more, all, total * sizeof(*more));
        }
        memcpy(more + total, files, n * sizeof(*more));
        all = more;
        total += n;
    }
    *out = all;
    *out_n = total;
    return true;
}

/* ---- applying ---- */

/* Holds the lock for the session, so that of several daemons that start at once the first one does the work. */
static bool lock_take(depot_db *db, depot_err *err)
{
    int64_t until_ms = depot_now_ms() + unit_remaining_ms(LOCK_WAIT_MS);

    for (bool said = false;; said = true) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        depot_rows *rows = NULL;
        if (!depot_db_sql(db, arena, "select pg_try_advisory_lock($1) as mine", DEPOT_VALS(DEPOT_INT(LOCK_KEY)), &rows,
                          err)) {
            return false;
        }
        if (depot_bool(rows, 0, "mine")) {
            return true;
        }
        if (!said) {
            log_write("db", DEPOT_LOG_INFO, "db.migrate_waits",
                      "another process migrates the database: waiting for it");
        }
        if (depot_now_ms() >= until_ms) {
            return DEPOT_FAIL(err, LOCKED, "another process holds the lock for migrations");
        }
        (void)poll(NULL, 0, LOCK_POLL_MS);
    }
}

static void lock_release(depot_db *db)
{
    depot_err err = { 0 };

    if (!depot_db_sql(db, NULL, "select pg_advisory_unlock($1)", DEPOT_VALS(DEPOT_INT(LOCK_KEY)), NULL, &err)) {
        db->broken = true; /* the lock ends with the connection, which must not be used for anything else */
    }
}

/* file:line in front of what the server said. */
static bool fail_at(const char *sql_dir, const migration *m, const char *text, size_t position, size_t done,
                    depot_err *err)
{
    size_t line = position > 0 ? sqltext_line(text, position) : sqltext_statement_line(text, done);

    if (err->code == DEPOT_E_DB) {
        err->code = DEPOT_E_MIGRATION;
    }
    return depot_wrap(err, "%s/%s/%s:%zu", sql_dir, m->set, m->file, line);
}

/* What runs between begin and commit. */
static bool apply_inside(depot_db *db, depot_arena *arena, const char *sql_dir, migration *m, const char *text,
                         depot_err *err)
{
    int64_t     began_ms = depot_now_ms();
    size_t      position = 0;
    size_t      done = 0;
    depot_rows *rows = NULL;

    if (!depot_db_sql(db, NULL, "select set_config('lock_timeout', $1, true)", DEPOT_VALS(DEPOT_INT(TABLE_LOCK_MS)),
                      NULL, err)) {
        return false;
    }
    if (!db_script_at(db, text, &position, &done, err)) {
        return fail_at(sql_dir, m, text, position, done, err);
    }
    if (PQtransactionStatus(db->conn) != PQTRANS_INTRANS) {
        db->broken = true;
        DEPOT_FAIL(err, MIGRATION, "%s/%s/%s ends the transaction that it runs in", sql_dir, m->set, m->file);
        return depot_hint(err, "take begin, commit and rollback out of it");
    }
    if (!depot_db_sql(db, arena, note_sql,
                      DEPOT_VALS(DEPOT_TEXT(m->set), DEPOT_INT(m->number), DEPOT_TEXT(m->name), DEPOT_TEXT(m->checksum),
                                 DEPOT_INT(depot_now_ms() - began_ms)),
                      &rows, err)) {
        return depot_wrap(err, "note that %s/%s is applied", m->set, m->file);
    }
    m->applied_at = depot_strdup(arena, depot_text(rows, 0, "applied_at"));
    return true;
}

static bool apply_once(depot_db *db, depot_arena *arena, const char *sql_dir, migration *m, const char *text,
                       depot_err *err)
{
    if (!depot_db_begin(db, NULL, err)) {
        return false;
    }
    if (!apply_inside(db, arena, sql_dir, m, text, err)) {
        db_settle(db);
        return false;
    }
    /* What a file sets for its session must not reach the next one. */
    return depot_db_commit(db, err) && db_script(db, "reset role; reset all", err);
}

static bool apply(depot_db *db, depot_arena *arena, const char *sql_dir, migration *m, depot_err *err)
{
    char *text = NULL;

    if (!migrate_read(arena, sql_dir, m, &text, err)) {
        return false;
    }
    for (int try = 1;; try++) {
        if (apply_once(db, arena, sql_dir, m, text, err)) {
            m->applied = true;
            return true;
        }
        if (err->code != DEPOT_E_LOCKED || try == TABLE_LOCK_TRIES || db->broken) {
            return false;
        }
        log_err("db", DEPOT_LOG_WARN, "db.migrate_lock", err);
        (void)poll(NULL, 0, (int)unit_remaining_ms(TABLE_LOCK_PAUSE_MS));
    }
}

/* Everything that migrate_up was asked for. */
typedef struct up {
    const char        *sql_dir;
    const char *const *sets;
    void (*progress)(void *arg, const migration *m);
    void *arg;
} up;

static bool apply_pending(depot_db *db, depot_arena *arena, const up *u, size_t *out_applied, depot_err *err)
{
    migration *all = NULL;
    size_t     n = 0;
    bool       exists = false;

    if (!table_exists(db, arena, &exists, err) || (!exists && !db_script(db, create_sql, err))) {
        return depot_wrap(err, "make table depot.migration");
    }
    if (!migrate_status(db, arena, u->sql_dir, u->sets, &all, &n, err)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (all[i].applied) {
            continue;
        }
        if (!apply(db, arena, u->sql_dir, &all[i], err)) {
            return false;
        }
        ++*out_applied;
        if (u->progress != NULL) {
            u->progress(u->arg, &all[i]);
        }
    }
    return true;
}

bool migrate_up(depot_db *db, depot_arena *arena, const char *sql_dir, const char *const *sets,
                void (*progress)(void *arg, const migration *m), void *arg, size_t *out_applied, depot_err *err)
{
    const up u = { .sql_dir = sql_dir, .sets = sets, .progress = progress, .arg = arg };

    *out_applied = 0;
    if (db->pooled) {
        DEPOT_FAIL(err, CONFIG, "migrations do not run through a connection pooler");
        return depot_hint(err, "set [database] owner_url to the server itself");
    }
    if (!lock_take(db, err)) {
        return depot_wrap(err, "lock the migrations");
    }
    bool good = apply_pending(db, arena, &u, out_applied, err);
    lock_release(db);
    return good;
}
