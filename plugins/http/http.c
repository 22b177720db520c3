/* http.c - the HTTP door: listeners of conf.d served by libmicrohttpd. Routing, tokens and handlers are the core's. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http.h"
#include "options.h"

enum {
    GUARD_MS = 500,
    STOP_GRACE_MS = 2000 /* handlers have ended by then, only replies are on their way */
};

typedef struct http {
    pthread_mutex_t lock; /* guards the lists */
    listener       *active, *retired;
    depot_loop     *guard;
} http;

static const char *const serve_names[] = { "auto", "api", "admin", NULL };

/* clang-format off */
static const depot_field options[] = {
    DEPOT_OPT_INT(http_options, threads, "0", 0, 64,
        .doc = "threads of each listener; 0: as many as processors, 2 to 4; they never wait for anything but the network"),
};

static const depot_field listen_fields[] = {
    DEPOT_OPT_STRING(listen_options, address, NULL, .flags = DEPOT_RELOADABLE,
        .env = "api:DEPOT_API_ADDR|admin:PGFLOW_ADMIN_ADDR|admin:ADMIN_ADDR",
        .doc = "HOST:PORT, *:PORT for every address, unix:/PATH, or off; without it 127.0.0.1:8000 for [listen api] and "
               "127.0.0.1:3003 for [listen admin]"),
    DEPOT_OPT_ENUM(listen_options, serve, "auto", serve_names, .flags = DEPOT_RELOADABLE,
        .doc = "which of two meanings /health and /metrics have; auto: admin for the listener of that name, else api"),
    DEPOT_OPT_PATH(listen_options, tls_cert, NULL, .flags = DEPOT_RELOADABLE,
        .doc = "PEM file with the certificate chain; read again at each reload; without it the listener speaks plain HTTP"),
    DEPOT_OPT_PATH(listen_options, tls_key, NULL, .flags = DEPOT_RELOADABLE, .doc = "PEM file with the key of tls_cert"),
    DEPOT_OPT_INT(listen_options, max_connections, "1000", 1, 100000, .flags = DEPOT_RELOADABLE,
        .doc = "at a time; further clients wait to be accepted"),
    DEPOT_OPT_INT(listen_options, max_per_ip, "0", 0, 100000, .flags = DEPOT_RELOADABLE,
        .doc = "connections of one address at a time, further ones are closed; 0: no limit"),
    DEPOT_OPT_DURATION(listen_options, header_timeout, "10s", 100, 600000, .flags = DEPOT_RELOADABLE,
        .doc = "until the first request's head must be there, and the head of each later one after idle_timeout"),
    DEPOT_OPT_DURATION(listen_options, body_timeout, "60s", 100, 86400000, .flags = DEPOT_RELOADABLE,
        .doc = "for a request's body to arrive, and 1 s more for each KiB of it; while a handler is busy time stands still"),
    DEPOT_OPT_DURATION(listen_options, idle_timeout, "60s", 1000, 86400000, .flags = DEPOT_RELOADABLE,
        .doc = "without a byte in either direction before a connection is closed"),
    DEPOT_OPT_SIZE(listen_options, max_body, "2MiB", 1024, 1LL << 40, .flags = DEPOT_RELOADABLE,
        .doc = "of a request's body where its route says nothing else"),
};

static const depot_section sections[] = {
    { "listen", true, sizeof(listen_options), DEPOT_TABLE(listen_fields),
      "an address that depotd answers on; api and admin exist without a section, and so does the local socket depotd.sock" },
};

static const char *const by_listener[] = { "listener", NULL };
static const depot_metric metrics[] = {
    { .name = "depot_http_connections", .kind = DEPOT_GAUGE, .labels = by_listener, .doc = "open connections" },
    { .name = "depot_http_connections_total", .kind = DEPOT_COUNTER, .labels = by_listener, .doc = "connections accepted" },
    { .name = "depot_http_connections_cut_total", .kind = DEPOT_COUNTER, .labels = by_listener,
      .doc = "connections closed because a request's head or body took too long" },
};
/* clang-format on */

static bool is_loopback(const char *place)
{
    return strncmp(place, "127.", 4) == 0 || strncmp(place, "[::1]", 5) == 0 || strncmp(place, "unix:", 5) == 0;
}

static void announce(const listener *l)
{
    depot_log(l->ctx, DEPOT_LOG_INFO, "http.listening", "listener %s answers on %s%s", l->settings.name, l->place,
              l->settings.cert != NULL ? " with TLS" : "");
    if (!is_loopback(l->place) && l->settings.cert == NULL) {
        depot_log(l->ctx, DEPOT_LOG_WARN, "http.plain",
                  "listener %s takes tokens over plain HTTP from other machines: set tls_cert and tls_key, or put a proxy with TLS "
                  "in front", l->settings.name);
    }
}

static listener *find(listener *list, const char *name)
{
    while (list != NULL && strcmp(list->settings.name, name) != 0) {
        list = list->next;
    }
    return list;
}

/* Under the lock. keep: its place goes on to another listener. */
static void retire(http *h, listener *l, bool keep)
{
    for (listener **at = &h->active; *at != NULL; at = &(*at)->next) {
        if (*at == l) {
            *at = l->next;
            break;
        }
    }
    if (!keep) {
        address_remove(l->settings.address);
    }
    listener_retire(l);
    l->next = h->retired;
    h->retired = l;
}

/* Every half second: what is due is cut off, retired listeners that have no connection left are freed. */
static bool guard(depot_ctx *ctx, depot_loop *loop, void *arg, depot_err *err)
{
    http *h = arg;

    (void)ctx;
    (void)err;
    while (depot_loop_wait(loop, GUARD_MS)) {
        listener *done = NULL;
        pthread_mutex_lock(&h->lock);
        for (listener *l = h->active; l != NULL; l = l->next) {
            listener_guard(l);
        }
        for (listener **at = &h->retired; *at != NULL;) {
            listener *l = *at;
            listener_guard(l);
            if (listener_idle(l)) {
                *at = l->next;
                l->next = done;
                done = l;
            } else {
                at = &l->next;
            }
        }
        pthread_mutex_unlock(&h->lock);
        while (done != NULL) {
            listener *l = done;
            done = l->next;
            listener_stop(l, 0);
        }
    }
    return true;
}

static void stop_list(listener *list, int64_t grace_ms)
{
    while (list != NULL) {
        listener *l = list;
        list = l->next;
        if (l->fd >= 0) {
            address_remove(l->settings.address); /* a retired one has done so */
        }
        listener_stop(l, grace_ms);
    }
}

/* The listener for these settings: one that runs and fits, a new one on the socket of one whose settings differ, or a new one.
 * New ones are put in front of *fresh; settings are taken. */
static bool bring_up(depot_ctx *ctx, http *h, listen_settings *s, listener **fresh, depot_err *err)
{
    listener *old = find(h->active, s->name);

    if (address_is_off(s->address) || (old != NULL && settings_equal(&old->settings, s))) {
        settings_free(s);
        return true;
    }
    bool      same_place = old != NULL && strcmp(old->settings.address, s->address) == 0;
    listener *l = listener_start(ctx, s, same_place ? old->fd : -1, err);
    if (l == NULL) {
        return false;
    }
    if (same_place) {
        memcpy(l->place, old->place, sizeof(l->place));
    }
    l->next = *fresh;
    *fresh = l;
    return true;
}

static bool is_wanted(depot_ctx *ctx, const char *name)
{
    listen_settings s;
    depot_err       err = { 0 };
    bool            found = true, wanted = false;

    for (size_t it = 0; settings_next(ctx, &it, &s, &found, &err) && found;) {
        wanted = wanted || (strcmp(s.name, name) == 0 && !address_is_off(s.address));
        settings_free(&s);
    }
    return wanted;
}

/* Brings what runs to what is configured: all of it, or nothing changes. */
static bool apply(depot_ctx *ctx, http *h, depot_err *err)
{
    listener       *fresh = NULL;
    listen_settings s;
    bool            found = true, ok = true;

    for (size_t it = 0; ok && found;) {
        ok = settings_next(ctx, &it, &s, &found, err);
        if (ok && found) {
            ok = bring_up(ctx, h, &s, &fresh, err);
        }
    }
    if (!ok) {
        stop_list(fresh, 0);
        return false;
    }
    pthread_mutex_lock(&h->lock);
    for (listener *l = h->active, *next; l != NULL; l = next) {
        next = l->next;
        const listener *heir = find(fresh, l->settings.name);
        if (heir != NULL || !is_wanted(ctx, l->settings.name)) {
            retire(h, l, heir != NULL && strcmp(heir->settings.address, l->settings.address) == 0);
        }
    }
    while (fresh != NULL) {
        listener *l = fresh;
        fresh = l->next;
        announce(l);
        l->next = h->active;
        h->active = l;
    }
    pthread_mutex_unlock(&h->lock);
    return true;
}

static bool http_start(depot_ctx *ctx, depot_err *err)
{
    http *h = depot_xalloc(sizeof(*h));

    pthread_mutex_init(&h->lock, NULL);
    if (!apply(ctx, h, err)) {
        pthread_mutex_destroy(&h->lock);
        free(h);
        return false;
    }
    depot_set_state(ctx, h);
    h->guard = depot_loop_start(ctx, "guard", guard, h);
    return true;
}

static bool http_reload(depot_ctx *ctx, depot_err *err)
{
    return apply(ctx, depot_state(ctx), err);
}

/* The local socket stays: somebody may want to know why it takes so long. */
static void http_drain(depot_ctx *ctx)
{
    http *h = depot_state(ctx);

    pthread_mutex_lock(&h->lock);
    for (listener *l = h->active, *next; l != NULL; l = next) {
        next = l->next;
        if (strcmp(l->settings.serve, "control") != 0) {
            retire(h, l, false);
        }
    }
    pthread_mutex_unlock(&h->lock);
}

static void http_stop(depot_ctx *ctx)
{
    http *h = depot_state(ctx);

    depot_loop_stop(h->guard);
    stop_list(h->active, STOP_GRACE_MS);
    stop_list(h->retired, STOP_GRACE_MS);
    pthread_mutex_destroy(&h->lock);
    free(h);
    depot_set_state(ctx, NULL);
}

static bool http_check(depot_ctx *ctx, depot_err *err)
{
    return settings_check(ctx, err);
}

DEPOT_PLUGIN(http) {
    .version = "1.0",
    .summary = "HTTP and HTTPS listeners, and the local control socket",
    .flags = DEPOT_PLUGIN_EARLY,
    .options_size = sizeof(http_options),
    .options = DEPOT_TABLE(options),
    .sections = DEPOT_TABLE(sections),
    .metrics = DEPOT_TABLE(metrics),
    .check = http_check,
    .start = http_start,
    .reload = http_reload,
    .drain = http_drain,
    .stop = http_stop,
};
