/* conn.c - connecting without blocking calls, so that the deadline and a cancel are seen; every host that the url lists
 * gets its share of the time, as libpq would spend all of it on a first one that does not answer. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/unit.h"
#include "db/exec.h"
#include "db/pool.h"

#define SLICE_MS 100
#define HOST_LEAST_MS 1000
#define SETUP_MS 5000

/* Set on every new connection. Where a pooler stands between (its process id is not that of the server) the session
 * belongs to somebody else a moment later, so that nothing is set. */
static const char setup_sql[] =
    "select pg_backend_pid() = $1::int as direct,"
    " case when pg_backend_pid() = $1::int and $2::bigint > 0 then"
    "  set_config('statement_timeout', $2::bigint::text, false) end,"
    " case when pg_backend_pid() = $1::int and $3::bigint > 0 then"
    "  set_config('lock_timeout', $3::bigint::text, false) end,"
    " case when pg_backend_pid() = $1::int and $4::bigint > 0 then"
    "  set_config('idle_in_transaction_session_timeout', $4::bigint::text, false) end";

/* Messages of the server that are no errors ("table exists, skipping"): results tell what matters. */
static void ignore_notice(void *arg, const PGresult *res)
{
    (void)arg;
    (void)res;
}

static PGconn *connect_start(const char *url, const char *name, const db_host *host, const char *session_attrs)
{
    /* What stands before dbname is a default that url may override; what stands behind it counts always. */
    const char *keys[13] = { "fallback_application_name", "keepalives_idle", "keepalives_interval", "keepalives_count",
                             "tcp_user_timeout", "gssencmode", "dbname", "client_encoding" };
    const char *values[13] = { name, "30", "10", "3", "30000", "disable", url, "UTF8" };
    const struct {
        const char *key, *value;
    } more[] = { { "host", host->host }, { "hostaddr", host->hostaddr }, { "port", host->port },
                 { "target_session_attrs", session_attrs } };
    size_t n = 8;

    for (size_t i = 0; i < DEPOT_N(more); i++) {
        if (more[i].value != NULL) {
            keys[n] = more[i].key;
            values[n++] = more[i].value;
        }
    }
    PGconn *conn = PQconnectStartParams(keys, values, 1);
    if (conn != NULL) {
        (void)PQsetErrorVerbosity(conn, PQERRORS_VERBOSE); /* db_fail_connect reads the SQLSTATE from the text */
        (void)PQsetNoticeReceiver(conn, ignore_notice, NULL);
    }
    return conn;
}

static bool connect_wait(PGconn *conn, int64_t deadline_ms, depot_err *err)
{
    PostgresPollingStatusType want = PQstatus(conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;

    while (want != PGRES_POLLING_OK) {
        int64_t left = deadline_ms - depot_now_ms();
        if (want == PGRES_POLLING_FAILED) {
            return db_fail_connect(conn, err);
        }
        if (!unit_check(err)) {
            return depot_wrap(err, "connect to PostgreSQL");
        }
        if (left <= 0) {
            const char *host = PQhost(conn);
            DEPOT_FAIL(err, DB_DOWN, "cannot connect to PostgreSQL: no answer from %s",
                       host == NULL || host[0] == '\0' ? "the server" : host);
            return depot_hint(err, "check that the server runs and that [database] url (DATABASE_URL) leads to it");
        }
        /* The descriptor changes while libpq tries addresses. */
        struct pollfd p = { .fd = PQsocket(conn), .events = want == PGRES_POLLING_READING ? POLLIN : POLLOUT };
        if (poll(&p, 1, (int)(left < SLICE_MS ? left : SLICE_MS)) > 0) {
            want = PQconnectPoll(conn);
        }
    }
    return true;
}

static bool conn_setup(depot_db *db, depot_err *err)
{
    const depot_val vals[] = { DEPOT_INT(PQbackendPID(db->conn)), DEPOT_INT(db->limits.statement_ms),
                               DEPOT_INT(db->limits.lock_ms), DEPOT_INT(db->limits.idle_tx_ms) };
    const depot_stmt stmt = { .sql = setup_sql, .vals = vals, .n = DEPOT_N(vals) };
    db_run           run;

    db_run_init(&run, db, &stmt, 1, DB_EFFECT_NONE);
    bool good = db_run_drive(&run, SETUP_MS, err);
    if (good) {
        db->pooled = strcmp(PQgetvalue(run.results[0], 0, 0), "t") != 0;
        db->statement_ms = db->pooled ? 0 : db->limits.statement_ms;
    } else if (err->code == DEPOT_E_DB) {
        err->code = DEPOT_E_DB_DOWN;
    }
    db_run_free(&run);
    return good;
}

void db_conn_close(depot_db *db)
{
    if (db != NULL) {
        PQfinish(db->conn);
        free(db);
    }
}

static void conn_drop(depot_db **db)
{
    db_conn_close(*db);
}

static bool conn_try(const char *url, const char *name, const db_limits *limits, const db_host *host,
                     const char *session_attrs, int64_t deadline_ms, depot_db **out, depot_err *err)
{
    DEPOT_AUTO(conn_drop) depot_db *db = depot_xalloc(sizeof(*db));

    db->limits = *limits;
    db->conn = connect_start(url, name, host, session_attrs);
    if (db->conn == NULL) {
        return DEPOT_FAIL(err, DB_DOWN, "libpq cannot allocate a connection");
    }
    if (!connect_wait(db->conn, deadline_ms, err)) {
        return false;
    }
    if (PQsetnonblocking(db->conn, 1) != 0) {
        return DEPOT_FAIL(err, DB_DOWN, "cannot make the connection non-blocking");
    }
    (void)PQsetErrorVerbosity(db->conn, PQERRORS_DEFAULT);
    if (!conn_setup(db, err)) {
        return depot_wrap(err, "set up a new connection");
    }
    *out = db;
    db = NULL;
    return true;
}

/* What one of several hosts gets of the time that is left: a second at least. */
static int64_t share_of(int64_t left_ms, size_t hosts)
{
    int64_t share = left_ms / (int64_t)hosts;

    share = share < HOST_LEAST_MS ? HOST_LEAST_MS : share;
    return share < left_ms ? share : left_ms;
}

bool db_conn_open(const char *url, const char *name, const db_limits *limits, int64_t timeout_ms, depot_db **out,
                  depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    int64_t        deadline_ms = depot_now_ms() + unit_remaining_ms(timeout_ms);
    const db_host *hosts;
    const char    *attrs;

    if (!unit_check(err) || !db_url_check(url, err)) {
        return false;
    }
    size_t n = db_url_hosts(arena, url, &hosts, &attrs);
    /* With one host at a time "prefer" takes two rounds: standbys only, then anybody. */
    bool   prefers = n > 1 && attrs != NULL && strcmp(attrs, "prefer-standby") == 0;
    size_t tries = prefers ? 2 * n : n;
    for (size_t i = 0; i < tries; i++) {
        int64_t until = depot_now_ms() + share_of(deadline_ms - depot_now_ms(), tries - i);
        const char *want = !prefers ? attrs : i < n ? "standby" : "any";
        if (conn_try(url, name, limits, &hosts[i % n], want, until, out, err)) {
            return true;
        }
        if (err->code != DEPOT_E_DB_DOWN) {
            return false;
        }
    }
    if (unit_remaining_ms(INT64_MAX) == 0) {
        err->code = DEPOT_E_TIMEOUT;
    }
    return false;
}

bool db_conn_alive(depot_db *db)
{
    struct pollfd p = { .fd = PQsocket(db->conn), .events = POLLIN };

    if (PQstatus(db->conn) != CONNECTION_OK || p.fd < 0) {
        return false;
    }
    if (poll(&p, 1, 0) == 0) {
        return true;
    }
    /* Something came although nothing was asked: a notice or changed setting, or the server's farewell. */
    if (PQconsumeInput(db->conn) != 1 || PQisBusy(db->conn) != 0) {
        return false;
    }
    return PQstatus(db->conn) == CONNECTION_OK && poll(&p, 1, 0) == 0;
}

bool db_connect(const char *url, const char *name, int64_t timeout_ms, depot_db **out, depot_err *err)
{
    const db_limits none = { 0 };

    return db_conn_open(url, name, &none, timeout_ms, out, err);
}

void db_disconnect(depot_db **db)
{
    db_conn_close(*db);
    *db = NULL;
}

int db_server_version(depot_db *db)
{
    return PQserverVersion(db->conn);
}

bool db_password_verifier(depot_db *db, depot_arena *arena, const char *role, const char *password, char **out,
                          depot_err *err)
{
    char *made = PQencryptPasswordConn(db->conn, password, role, "scram-sha-256");

    if (made == NULL) {
        return DEPOT_FAIL(err, DB, "cannot make a password verifier for role %s", role);
    }
    *out = depot_strdup(arena, made);
    PQfreemem(made);
    return true;
}
