/* settings.c - what is to listen: [listen NAME] sections, and what holds where there is none. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http.h"
#include "options.h"

enum { PEM_MAX = 1 << 20, THREADS_MAX = 4 };

/* Listeners that exist without a section; the local socket always does and has none. */
static const struct {
    const char *name, *env, *address;
} builtin[] = {
    { "api", "DEPOT_API_ADDR", "127.0.0.1:8000" },
    { "admin", "PGFLOW_ADMIN_ADDR|ADMIN_ADDR", "127.0.0.1:3003" },
};

/* The first variable of "A|B" that is set and not blank. */
static const char *first_env(depot_arena *arena, const char *names)
{
    char *save = NULL;

    for (char *name = strtok_r(depot_strdup(arena, names), "|", &save); name != NULL; name = strtok_r(NULL, "|", &save)) {
        const char *value = getenv(name);
        if (value != NULL && value[strspn(value, " \t")] != '\0') {
            return value;
        }
    }
    return NULL;
}

static const char *default_address(depot_arena *arena, const char *name)
{
    for (size_t i = 0; i < DEPOT_N(builtin); i++) {
        if (strcmp(builtin[i].name, name) == 0) {
            const char *value = first_env(arena, builtin[i].env);
            return value != NULL ? value : builtin[i].address;
        }
    }
    return NULL;
}

static bool check_section(depot_arena *arena, const char *name, const listen_options *o, depot_err *err)
{
    const char *address = o->address != NULL ? o->address : default_address(arena, name);

    if (strcmp(name, "control") == 0) {
        (void)DEPOT_FAIL(err, CONFIG, "[listen control]: the control socket has no options");
        return depot_hint(err, "it is depotd.sock in the state folder; choose another name for this listener");
    }
    if (address == NULL) {
        (void)DEPOT_FAIL(err, CONFIG, "[listen %s]: address is missing", name);
        return depot_hint(err, "write address = HOST:PORT");
    }
    if (!address_check(address, err)) {
        return depot_wrap(err, "[listen %s]: address", name);
    }
    if ((o->tls_cert == NULL) != (o->tls_key == NULL)) {
        return DEPOT_FAIL(err, CONFIG, "[listen %s]: %s is missing beside %s", name, o->tls_cert == NULL ? "tls_cert" : "tls_key",
                          o->tls_cert == NULL ? "tls_key" : "tls_cert");
    }
    return true;
}

bool settings_check(depot_ctx *ctx, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const listen_options                     *o;
    const char                               *name;

    for (size_t it = 0; (o = depot_section_next(ctx, "listen", &it, &name)) != NULL;) {
        if (!check_section(arena, name, o, err)) {
            return false;
        }
    }
    return true;
}

static unsigned pool_size(depot_ctx *ctx)
{
    const http_options *o = depot_options(ctx);
    long                cpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (o->threads > 0) {
        return (unsigned)o->threads;
    }
    return cpus < 2 ? 2U : cpus > THREADS_MAX ? THREADS_MAX : (unsigned)cpus;
}

static bool read_pem(listen_settings *s, const char *path, const char *option, const char **out, depot_err *err)
{
    char *text = NULL;

    if (path == NULL) {
        return true;
    }
    if (!depot_read_file(s->arena, path, PEM_MAX, &text, NULL, err)) {
        return depot_wrap(err, "[listen %s]: %s", s->name, option);
    }
    *out = text;
    return true;
}

/* NULL section: all defaults, as conf.d would fill them in. */
static bool fill(depot_ctx *ctx, const char *name, const listen_options *o, listen_settings *out, depot_err *err)
{
    static const listen_options defaults = {
        .max_connections = 1000, .header_timeout = 10000, .body_timeout = 60000, .idle_timeout = 60000, .max_body = 2 << 20
    };
    static const char *const serves[] = { NULL, "api", "admin" };

    o = o == NULL ? &defaults : o;
    *out = (listen_settings){ .arena = depot_arena_new() };
    out->name = depot_strdup(out->arena, name);
    out->address = depot_strdup(out->arena, o->address != NULL ? o->address : default_address(out->arena, name));
    out->serve = serves[o->serve] != NULL ? serves[o->serve] : strcmp(name, "admin") == 0 ? "admin" : "api";
    out->max_connections = o->max_connections;
    out->max_per_ip = o->max_per_ip;
    out->header_timeout_ms = o->header_timeout;
    out->body_timeout_ms = o->body_timeout;
    out->idle_timeout_ms = o->idle_timeout;
    out->max_body = o->max_body;
    out->threads = pool_size(ctx);
    if (read_pem(out, o->tls_cert, "tls_cert", &out->cert, err) && read_pem(out, o->tls_key, "tls_key", &out->key, err)) {
        return true;
    }
    settings_free(out);
    return false;
}

static bool fill_control(depot_ctx *ctx, listen_settings *out, depot_err *err)
{
    if (!fill(ctx, "control", NULL, out, err)) {
        return false;
    }
    out->address = depot_strf(out->arena, "unix:%s/depotd.sock", depot_state_dir(ctx));
    out->serve = "control";
    out->threads = 1;
    out->max_body = 64 << 20; /* its users are root and depotd's own */
    return true;
}

/* First the local socket, then the listeners that need no section, then those that conf.d adds. */
bool settings_next(depot_ctx *ctx, size_t *it, listen_settings *out, bool *found, depot_err *err)
{
    const listen_options *o;
    const char           *name;

    *found = true;
    if (*it == 0) {
        (*it)++;
        return fill_control(ctx, out, err);
    }
    if (*it <= DEPOT_N(builtin)) {
        name = builtin[*it - 1].name;
        (*it)++;
        return fill(ctx, name, depot_section_get(ctx, "listen", name), out, err);
    }
    size_t at = *it - 1 - DEPOT_N(builtin);
    for (; (o = depot_section_next(ctx, "listen", &at, &name)) != NULL; ) {
        *it = at + 1 + DEPOT_N(builtin);
        bool known = false;
        for (size_t i = 0; i < DEPOT_N(builtin); i++) {
            known = known || strcmp(builtin[i].name, name) == 0;
        }
        if (!known) {
            return fill(ctx, name, o, out, err);
        }
    }
    *found = false;
    return true;
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool settings_equal(const listen_settings *a, const listen_settings *b)
{
    return same_text(a->address, b->address) && same_text(a->serve, b->serve) && same_text(a->cert, b->cert) &&
           same_text(a->key, b->key) && a->max_connections == b->max_connections && a->max_per_ip == b->max_per_ip &&
           a->header_timeout_ms == b->header_timeout_ms && a->body_timeout_ms == b->body_timeout_ms &&
           a->idle_timeout_ms == b->idle_timeout_ms && a->max_body == b->max_body && a->threads == b->threads;
}

void settings_free(listen_settings *s)
{
    depot_arena_drop(&s->arena);
}
