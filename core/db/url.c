/* url.c - connection strings: read by libpq, checked here, never shown. */
#include <string.h>

#include "db/conn.h"

static const char *option(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++) {
        if (strcmp(o->keyword, keyword) == 0) {
            return o->val == NULL || o->val[0] == '\0' ? NULL : o->val;
        }
    }
    return NULL;
}

static void options_free(PQconninfoOption **options)
{
    PQconninfoFree(*options);
}

static void libpq_free(char **text)
{
    PQfreemem(*text);
}

bool db_url_check(const char *url, depot_err *err)
{
    DEPOT_AUTO(libpq_free) char *reason = NULL; /* not shown: it may quote a part of the password */
    DEPOT_AUTO(options_free) PQconninfoOption *options = PQconninfoParse(url, &reason);
    const char *host = options == NULL ? NULL : option(options, "host");
    const char *port = options == NULL ? NULL : option(options, "port");
    const char *dbname = options == NULL ? NULL : option(options, "dbname");

    /* '@' and '/' inside of a password move its end into these. */
    bool mixed_up = (host != NULL && strchr(host, '@') != NULL && strchr(host, '/') == NULL) ||
                    (port != NULL && port[strspn(port, "0123456789,")] != '\0') ||
                    (dbname != NULL && strchr(dbname, '@') != NULL);
    if (options == NULL || mixed_up) {
        DEPOT_FAIL(err, CONFIG, "the connection string of the database cannot be read");
        return depot_hint(err, "[database] url: postgresql://user:password@host:5432/name; in a password write "
                               "%%40 for @, %%2F for /, %%25 for %%");
    }
    return true;
}

/* The i-th piece of a list separated by commas, NULL if it is empty or not there. A list of one counts for all. */
static const char *piece(depot_arena *arena, const char *list, size_t i)
{
    if (list == NULL) {
        return NULL;
    }
    const char *from = list;
    for (size_t k = 0; k < i && strchr(list, ',') != NULL; k++) {
        from = strchr(from, ',');
        if (from == NULL) {
            return NULL;
        }
        from++;
    }
    size_t n = strcspn(from, ",");
    return n == 0 ? NULL : depot_strndup(arena, from, n);
}

static size_t pieces(const char *list)
{
    size_t n = 1;

    for (const char *p = list; p != NULL && *p != '\0'; p++) {
        n += *p == ',' ? 1 : 0;
    }
    return n;
}

size_t db_url_hosts(depot_arena *arena, const char *url, const db_host **out, const char **out_session_attrs)
{
    DEPOT_AUTO(options_free) PQconninfoOption *options = PQconninfoParse(url, NULL);
    const char *host = options == NULL ? NULL : option(options, "host");
    const char *hostaddr = options == NULL ? NULL : option(options, "hostaddr");
    size_t      n = pieces(host) > pieces(hostaddr) ? pieces(host) : pieces(hostaddr);
    db_host    *hosts = depot_alloc(arena, n * sizeof(*hosts));

    for (size_t i = 0; i < n && options != NULL; i++) {
        hosts[i].host = piece(arena, host, i);
        hosts[i].hostaddr = piece(arena, hostaddr, i);
        hosts[i].port = piece(arena, option(options, "port"), i);
    }
    *out = hosts;
    *out_session_attrs = options == NULL ? NULL : depot_strdup(arena, option(options, "target_session_attrs"));
    return n;
}
