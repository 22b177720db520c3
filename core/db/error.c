/* error.c - what PostgreSQL and libpq report, as depot_err. The SQLSTATE decides, not the text: that is translated. */
#include <stdio.h>
#include <string.h>

#include "db/conn.h"

/* The first row whose prefix fits; 57014 and 25006 get a closer look where they are met. */
static const struct {
    const char *prefix;
    depot_code  code;
} states[] = {
    { "40001", DEPOT_E_SERIALIZATION }, /* serialization_failure */
    { "40P01", DEPOT_E_DB_DEADLOCK },
    { "40003", DEPOT_E_DB_UNKNOWN }, /* statement_completion_unknown */
    { "55P03", DEPOT_E_LOCKED },     /* lock_timeout, or NOWAIT */
    { "57014", DEPOT_E_TIMEOUT },    /* statement_timeout, or canceled */
    { "25P03", DEPOT_E_TIMEOUT },    /* idle_in_transaction_session_timeout */
    { "25P04", DEPOT_E_TIMEOUT },    /* transaction_timeout */
    { "53100", DEPOT_E_NO_SPACE },
    { "53200", DEPOT_E_UNAVAILABLE }, /* out of memory */
    { "53", DEPOT_E_DB_DOWN },        /* too many connections */
    { "08", DEPOT_E_DB_DOWN },
    { "57P", DEPOT_E_DB_DOWN }, /* shut down, crashed, starting */
};

static const struct {
    const char *prefix, *hint;
} connect_hints[] = {
    { "28", "check user and password in [database] url (DATABASE_URL)" },
    { "3D000", "create the database, or correct its name in [database] url (DATABASE_URL)" },
    { "53300", "raise max_connections of the server, or lower the pool's size" },
    { "57P03", "the server starts or stops; it is tried again" },
};

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static depot_code state_code(const char *state)
{
    for (size_t i = 0; i < DEPOT_N(states); i++) {
        if (starts_with(state, states[i].prefix)) {
            return states[i].code;
        }
    }
    return DEPOT_E_DB;
}

void db_text_line(const char *text, char *out, size_t size)
{
    size_t n = 0;
    bool   has_gap = false;
    bool   has_break = false;

    for (const char *p = text == NULL ? "" : text; *p != '\0' && n + 3 < size; p++) {
        if (*p == '\n' || *p == '\t' || *p == ' ' || *p == '\r') {
            has_gap = true;
            has_break = has_break || *p == '\n';
            continue;
        }
        if (has_gap && n > 0) {
            if (has_break) {
                out[n++] = ';';
            }
            out[n++] = ' ';
        }
        has_gap = false;
        has_break = false;
        out[n++] = *p;
    }
    while (n > 0 && out[n - 1] == '.') {
        n--;
    }
    out[n] = '\0';
}

static void set_state(depot_err *err, const char *state)
{
    (void)snprintf(err->sqlstate, sizeof(err->sqlstate), "%s", state);
}

bool db_fail_result(const depot_db *db, const PGresult *res, depot_err *err)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    const char *hint = PQresultErrorField(res, PG_DIAG_MESSAGE_HINT);
    char        line[sizeof(err->msg)];

    db_text_line(primary != NULL ? primary : PQresultErrorMessage(res), line, sizeof(line));
    if (state == NULL) {
        /* libpq's own: the connection is gone, or was misused. */
        return PQstatus(db->conn) == CONNECTION_BAD ? DEPOT_FAIL(err, DB_DOWN, "%s", line)
                                                    : DEPOT_FAIL(err, DB, "%s", line);
    }
    (void)depot_fail(err, state_code(state), __FILE__, __LINE__, "%s", line); /* err goes on below */
    set_state(err, state);
    if (strcmp(state, "25006") == 0 && !db->read_only) {
        err->code = DEPOT_E_DB_DOWN;
        return depot_hint(err, "the server is a standby or set to read-only: [database] url must lead to the primary");
    }
    if (hint != NULL) {
        (void)depot_hint(err, "%s", hint);
    }
    return false;
}

/* libpq 15 keeps the SQLSTATE of a refused connection to itself, but in verbose form its text has it: a severity, a
 * colon, five characters, a colon. All states have a digit, no severity has. The last one counts. Cuts it out. */
static void take_state(char *text, char state[6])
{
    char *found = NULL;

    for (char *p = strstr(text, ": "); p != NULL; p = strstr(p + 1, ": ")) {
        size_t n = strspn(p + 2, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (n == 5 && starts_with(p + 7, ": ") && strcspn(p + 2, "0123456789") < 5) {
            found = p + 2;
        }
    }
    state[0] = '\0';
    if (found != NULL) {
        memcpy(state, found, 5);
        state[5] = '\0';
        memmove(found, found + 7, strlen(found + 7) + 1);
    }
}

bool db_fail_connect(PGconn *conn, depot_err *err)
{
    char line[1024];
    char state[6];

    db_text_line(PQerrorMessage(conn), line, sizeof(line));
    take_state(line, state);
    char *location = strstr(line, "; LOCATION: ");
    if (location != NULL) {
        *location = '\0';
    }
    (void)depot_fail(err, DEPOT_E_DB_DOWN, __FILE__, __LINE__, "cannot connect to PostgreSQL: %s", line);
    set_state(err, state);
    (void)depot_hint(err, "check that the server runs and that [database] url (DATABASE_URL) leads to it");
    for (size_t i = 0; i < DEPOT_N(connect_hints); i++) {
        if (starts_with(state, connect_hints[i].prefix)) {
            (void)depot_hint(err, "%s", connect_hints[i].hint);
        }
    }
    if (PQconnectionNeedsPassword(conn) != 0) {
        (void)depot_hint(err, "%s", connect_hints[0].hint);
    }
    return false;
}
