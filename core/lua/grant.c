/* grant.c - see grant.h. */
#include "lua/grant.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { HOST_MAX = 300, PORT_LENGTH_MAX = 6 /* with its colon */ };

static const char *const kinds[] = { "exec", "http" };

static const char *detail_of(const char *text)
{
    const char *colon = strchr(text, ':');

    return colon == NULL ? NULL : colon + 1;
}

static size_t kind_length(const char *text)
{
    return strcspn(text, ":");
}

/* The colon before the port; NULL: there is none. */
static const char *port_of(const char *host)
{
    const char *colon = strrchr(host, ':');

    return colon != NULL && strchr(colon, ']') == NULL ? colon : NULL;
}

/* What would be taken and never fit is a mistake: a port that is no number, an address of IPv6 without its brackets. */
static bool is_host(const char *detail)
{
    const char *port = port_of(detail), *first = strchr(detail, ':');

    if (strpbrk(detail, "/@ ") != NULL || detail[0] == '\0' || port == detail || strlen(detail) >= HOST_MAX) {
        return false;
    }
    if (detail[0] != '[' && first != port) {
        return false;
    }
    return port == NULL || (port[1] >= '1' && port[1] <= '9' && strlen(port) <= PORT_LENGTH_MAX && port[1 + strspn(port + 1, "0123456789")] == '\0');
}

static bool check_detail(const char *text, const char *detail, depot_err *err)
{
    if (strncmp(text, "exec", 4) == 0 && detail[0] != '/') {
        return DEPOT_FAIL(err, INVALID, "the capability %s must name a program by its whole path", text);
    }
    if (strncmp(text, "http", 4) == 0 && !is_host(detail)) {
        DEPOT_FAIL(err, INVALID, "the capability %s must name a host, or a host and a port", text);
        return depot_hint(err, "http:api.example.org, http:*.example.org, http:10.0.0.7:8080, http:[::1]:80");
    }
    return true;
}

bool grant_check(const char *text, depot_err *err)
{
    const char *detail = detail_of(text);

    for (size_t i = 0; i < DEPOT_N(kinds); i++) {
        if (strlen(kinds[i]) == kind_length(text) && strncmp(kinds[i], text, kind_length(text)) == 0) {
            return detail == NULL || check_detail(text, detail, err);
        }
    }
    DEPOT_FAIL(err, INVALID, "there is no capability %s", text);
    return depot_hint(err, "http, http:HOST, http:HOST:PORT, exec, exec:/PATH");
}

static bool lower(const char *from, size_t n, char out[HOST_MAX])
{
    if (n >= HOST_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        out[i] = (char)tolower((unsigned char)from[i]);
    }
    out[n] = '\0';
    return true;
}

static bool host_covers(const char *have, const char *want)
{
    const char *have_port = port_of(have), *want_port = port_of(want);
    size_t      have_n = have_port == NULL ? strlen(have) : (size_t)(have_port - have);
    size_t      want_n = want_port == NULL ? strlen(want) : (size_t)(want_port - want);
    char        pattern[HOST_MAX], host[HOST_MAX];

    if (have_port != NULL && (want_port == NULL || strcmp(have_port, want_port) != 0)) {
        return false;
    }
    return lower(have, have_n, pattern) && lower(want, want_n, host) && depot_glob(pattern, host);
}

bool grant_covers(const char *have, const char *want)
{
    const char *had = detail_of(have), *wanted = detail_of(want);

    if (kind_length(have) != kind_length(want) || strncmp(have, want, kind_length(have)) != 0) {
        return false;
    }
    if (had == NULL || wanted == NULL) {
        return had == NULL;
    }
    return strncmp(have, "http", 4) == 0 ? host_covers(had, wanted) : strcmp(had, wanted) == 0;
}

static bool is_outright(const char *have)
{
    const char *detail = detail_of(have);

    return detail != NULL && strpbrk(detail, "*?") == NULL;
}

static bool is_alike(const char *have, const char *want)
{
    return detail_of(want) == NULL && kind_length(have) == kind_length(want) && strncmp(have, want, kind_length(have)) == 0;
}

static bool is_outright_for(const char *have, const char *want)
{
    return is_outright(have) && grant_covers(have, want);
}

static bool meets(const char *have, const char *want)
{
    return is_alike(have, want) || grant_covers(have, want);
}

static bool find_grant(const depot_json *grants, const char *name, const char *want,
                       bool (*fits)(const char *have, const char *want))
{
    const char       *glob;
    const depot_json *list;

    for (size_t it = 0; grants != NULL && depot_json_next(grants, &it, &glob, &list);) {
        for (size_t i = 0; depot_glob(glob, name) && i < depot_json_len(list); i++) {
            const char *have = depot_json_string(depot_json_at(list, i), NULL);
            if (have != NULL && fits(have, want)) {
                return true;
            }
        }
    }
    return false;
}

bool grants_allow(const depot_json *grants, const char *name, const char *want)
{
    return find_grant(grants, name, want, grant_covers);
}

bool grants_name(const depot_json *grants, const char *name, const char *want)
{
    return find_grant(grants, name, want, is_outright_for);
}

bool grants_meet(const depot_json *grants, const char *name, const char *need)
{
    return find_grant(grants, name, need, meets);
}

void grants_missing(const depot_json *grants, const char *name, const char *const *needs,
                    void (*fn)(void *arg, const char *need), void *arg)
{
    for (; needs != NULL && *needs != NULL; needs++) {
        if (!grants_meet(grants, name, *needs)) {
            fn(arg, *needs);
        }
    }
}
