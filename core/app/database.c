/* database.c - the database at start: ours or somebody else's, reachable, migrated, with the right role. */
#include <string.h>

#include "app/internal.h"
#include "app/notify.h"
#include "base/log.h"
#include "base/metrics.h"
#include "db/migrate.h"
#include "pg/archive.h"

enum { RETRY_MIN_MS = 200, RETRY_MAX_MS = 5000, EXTEND_US = 30000000, STOP_GRACE_MS = 30000, SETS_MAX = 64, EMBEDDED_TRIES = 4 };

static const app_database_options *options_of(app *a)
{
    return conf_get(host_conf(a->host), "database", NULL);
}

static bool start_embedded(app *a, depot_err *err)
{
    const app_database_options *o = options_of(a);
    const char                 *dir = depot_strf(a->arena, "%s/postgres", a->paths->state_dir);
    char                       *archive = NULL;

    if (!pg_archive_setup(a->arena, a->paths->exe, dir, o->service_user, &archive, err)) {
        return false;
    }
    const pg_cluster_options options = {
        .dir = dir, .bindir = o->bindir, .user = o->service_user, .archive_command = archive, .settle_later = true, .tcp = o->tcp };
    notify_send("STATUS=starting the embedded PostgreSQL");
    pg_cluster *cluster = NULL;
    if (!pg_cluster_start(&options, &cluster, err)) {
        return depot_wrap(err, "embedded PostgreSQL");
    }
    a->cluster = cluster;
    a->url = pg_cluster_url(a->cluster);
    a->direct_url = a->url;
    a->owner_url = pg_cluster_owner_url(a->cluster);
    log_write("core", DEPOT_LOG_INFO, "database.embedded", "PostgreSQL %s runs in %s", pg_cluster_version(a->cluster), dir);
    return true;
}

static bool is_lost(const depot_err *err)
{
    return err->code == DEPOT_E_DB_DOWN || err->code == DEPOT_E_DB_UNKNOWN;
}

/* A server that is killed while it comes up is started again; one that cannot use its files fails every time. */
static bool start_embedded_patiently(app *a, depot_err *err)
{
    for (int left = EMBEDDED_TRIES - 1; !start_embedded(a, err); left--) {
        if (!is_lost(err) || left == 0 || !app_wait(a, RETRY_MIN_MS)) {
            return false;
        }
        log_err("core", DEPOT_LOG_WARN, "database.start_again", err);
        *err = (depot_err){ 0 };
    }
    return true;
}

/* Says why in /ready, in the log (folded) and to the service manager, and waits a little; false: a stop is wanted. */
static bool wait_a_little(app *a, const depot_err *why, int64_t pause_ms)
{
    log_err("core", DEPOT_LOG_WARN, "database.away", why);
    api_set_ready(false, why->msg);
    notify_send("STATUS=waiting for the database: %s\nEXTEND_TIMEOUT_USEC=%d", why->msg, EXTEND_US);
    return app_wait(a, pause_ms);
}

const char *const *app_migration_sets(app *a, depot_arena *arena)
{
    const char **sets = depot_alloc(arena, SETS_MAX * sizeof(*sets));
    size_t       n = 0;

    for (size_t i = 0; i < host_count(a->host) && n < SETS_MAX - 1; i++) {
        const char *set = host_plugin(a->host, i)->desc.migrations;
        if (set != NULL) {
            sets[n++] = set;
        }
    }
    return sets;
}

static void say_applied(void *arg, const migration *m)
{
    (void)arg;
    log_write("core", DEPOT_LOG_INFO, "database.migrated", "applied %s/%s", m->set, m->file);
}

static bool refuse_pending(const migration *list, size_t n, depot_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!list[i].applied) {
            DEPOT_FAIL(err, MIGRATION, "migration %s/%s has not been applied", list[i].set, list[i].file);
            return depot_hint(err, "run depotctl migrate up with [database] owner_url set");
        }
    }
    return true;
}

static bool migrate(app *a, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(db_disconnect) depot_db       *db = NULL;
    bool                                      may = options_of(a)->migrate && a->owner_url != NULL;
    const char                               *sql_dir = depot_strf(arena, "%s/sql", a->paths->data_dir);
    const char *const                        *sets = app_migration_sets(a, arena);
    migration                                *list = NULL;
    size_t                                    n = 0;

    if (!db_connect(may ? a->owner_url : a->direct_url, "depotd/migrate", options_of(a)->connect_timeout, &db, err)) {
        return depot_wrap(err, may ? "connect as the owner role" : "connect");
    }
    if (may) {
        return migrate_up(db, arena, sql_dir, sets, say_applied, NULL, &n, err);
    }
    return migrate_status(db, arena, sql_dir, sets, &list, &n, err) && refuse_pending(list, n, err);
}

static bool look_at_role(app *a, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_rows                               *rows = NULL;

    if (!db_pool_sql(a->env.db, arena,
                     "select rolsuper or rolbypassrls as strong, current_user as name,"
                     " current_setting('server_version_num')::int as version,"
                     " exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'depot'"
                     "         and c.relowner = r.oid) as owner from pg_roles r where rolname = current_user",
                     DEPOT_NO_VALS, &rows, err)) {
        return false;
    }
    if (depot_int(rows, 0, "version") < 130000) {
        return DEPOT_FAIL(err, DB, "PostgreSQL %lld is too old: 13 or later is needed", (long long)depot_int(rows, 0, "version") / 10000);
    }
    depot_ctx *core = host_plugin(a->host, 0);
    if (depot_bool(rows, 0, "strong") || depot_bool(rows, 0, "owner")) {
        depot_degraded(core, "database role",
                       depot_strf(arena, "role %s is a superuser, bypasses row security or owns tables; give depotd a plain role",
                                  depot_text(rows, 0, "name")));
    } else {
        depot_degraded(core, "database role", NULL);
    }
    return true;
}

static bool is_reached(app *a, depot_err *err)
{
    DEPOT_AUTO(depot_db_close) depot_db *db = NULL;

    return db_pool_open(a->env.db, true, &db, err);
}

static bool settle(app *a, depot_err *err)
{
    return a->cluster == NULL || pg_cluster_settle(a->cluster, err);
}

/* Reached, migrated, looked at, settled, our token known: until all of it has succeeded, the server refuses it, or a stop is wanted. */
static bool prepare(app *a, depot_err *err)
{
    for (int64_t pause = RETRY_MIN_MS;; pause = pause * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : pause * 2) {
        bool reached = is_reached(a, err);
        if (reached && migrate(a, err) && look_at_role(a, err) && settle(a, err) && api_auth_online(err)) {
            return true;
        }
        if (reached && !is_lost(err)) {
            return false;
        }
        if (!wait_a_little(a, err, pause)) {
            *err = (depot_err){ 0 };
            return DEPOT_FAIL(err, CANCELED, "stopped while waiting for the database");
        }
        *err = (depot_err){ 0 };
    }
}

bool app_database_start(app *a, depot_err *err)
{
    const app_database_options *o = options_of(a);

    if (o->url != NULL) {
        a->url = o->url;
        a->direct_url = o->direct_url != NULL ? o->direct_url : o->url;
        a->owner_url = o->owner_url;
    } else if (!start_embedded_patiently(a, err)) {
        return false;
    }
    a->pool = (db_pool_options){
        .url = a->url,
        .direct_url = a->direct_url,
        .name = depot_strf(a->arena, "depotd/%s", a->env.node),
        .max = (size_t)o->max_connections,
        .connect_timeout_ms = o->connect_timeout,
        .acquire_timeout_ms = o->acquire_timeout,
        .statement_timeout_ms = o->statement_timeout,
        .lock_timeout_ms = o->lock_timeout,
        .idle_tx_timeout_ms = o->idle_in_transaction_timeout,
    };
    a->env.db = db_pool_new(&a->pool);
    if (!prepare(a, err)) {
        return false;
    }
    if (o->direct_url != NULL || !db_pool_is_pooler(a->env.db)) {
        a->env.listener = db_listener_new(a->direct_url, a->pool.name);
    }
    return true;
}

void app_database_stop(app *a)
{
    if (a->env.listener != NULL) {
        db_listener_free(a->env.listener);
        a->env.listener = NULL;
    }
    if (a->env.db != NULL) {
        db_pool_free(a->env.db);
        a->env.db = NULL;
    }
    if (a->cluster != NULL) {
        pg_cluster_stop(a->cluster, STOP_GRACE_MS);
        pg_cluster_free(a->cluster);
        a->cluster = NULL;
    }
}
