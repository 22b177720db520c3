/* listener.c - one listening socket, the daemon of libmicrohttpd that serves it, and the table of its connections. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fcntl.h>

#include "http.h"

enum { STOP_POLL_MS = 10, CUT_OFF_MS = 5000, MESSAGE_MAX = 300 };

/* ---- callbacks of libmicrohttpd ---- */

static void on_message(void *cls, const char *fmt, va_list ap) DEPOT_PRINTF(2, 0);
static void on_message(void *cls, const char *fmt, va_list ap)
{
    listener *l = cls;
    char      text[MESSAGE_MAX];

    vsnprintf(text, sizeof(text), fmt, ap);
    text[strcspn(text, "\r\n")] = '\0';
    depot_log(l->ctx, DEPOT_LOG_DEBUG, "http.microhttpd", "listener %s: %s", l->settings.name, text);
}

/* Decoding is the core's work, once the path has been split. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

static void describe_peer(connection *c, struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr          *address = info == NULL ? NULL : info->client_addr;
    struct ucred                    who = { .uid = (uid_t)-1 };
    socklen_t                       size = sizeof(who);
    char                            host[INET6_ADDRSTRLEN] = "?";

    snprintf(c->peer, sizeof(c->peer), "?");
    if (address != NULL && address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        snprintf(c->peer, sizeof(c->peer), "%s:%d", host, ntohs(in->sin_port));
    } else if (address != NULL && address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)address;
        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof(host));
        snprintf(c->peer, sizeof(c->peer), "[%s]:%d", host, ntohs(in->sin6_port));
    } else if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0) {
        c->uid = (int64_t)who.uid;
        snprintf(c->peer, sizeof(c->peer), "uid:%lld", (long long)c->uid);
    }
}

static void add_connection(listener *l, struct MHD_Connection *mhd, void **context)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    connection                     *c = depot_xalloc(sizeof(*c));

    c->listener = l;
    c->fd = info == NULL ? -1 : info->connect_fd;
    c->uid = -1;
    atomic_init(&c->due_ms, depot_now_ms() + l->settings.header_timeout_ms);
    describe_peer(c, mhd);
    pthread_mutex_lock(&l->lock);
    c->next = l->first;
    if (l->first != NULL) {
        l->first->prev = c;
    }
    l->first = c;
    l->n_connections++;
    pthread_mutex_unlock(&l->lock);
    *context = c;
    depot_count(l->ctx, "depot_http_connections_total", DEPOT_LABELS(l->settings.name), 1);
}

/* The socket is still open here: who holds the lock and finds the connection in the list may shut it down. */
static void remove_connection(listener *l, connection *c)
{
    pthread_mutex_lock(&l->lock);
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        l->first = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    l->n_connections--;
    pthread_mutex_unlock(&l->lock);
    free(c);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        add_connection(cls, mhd, context);
    } else if (*context != NULL) {
        remove_connection(cls, *context);
        *context = NULL;
    }
}

/* ---- life ---- */

static bool start_daemon(listener *l, depot_err *err)
{
    const listen_settings *s = &l->settings;
    unsigned               flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_TURBO | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    int64_t                limit = s->max_connections < s->threads ? s->threads : s->max_connections;
    struct MHD_OptionItem  more[6];
    size_t                 n = 0;

    if (s->threads > 1) {
        more[n++] = (struct MHD_OptionItem){ MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)s->threads, NULL };
    }
    if (s->max_per_ip > 0) {
        more[n++] = (struct MHD_OptionItem){ MHD_OPTION_PER_IP_CONNECTION_LIMIT, (intptr_t)s->max_per_ip, NULL };
    }
    if (s->cert != NULL) {
        flags |= MHD_USE_TLS;
        more[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)s->cert };
        more[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)s->key };
    }
    more[n] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
    l->daemon = MHD_start_daemon(flags, 0, NULL, NULL, exchange_go_on, l, MHD_OPTION_EXTERNAL_LOGGER, on_message, l,
                                 MHD_OPTION_LISTEN_SOCKET, l->fd, MHD_OPTION_STRICT_FOR_CLIENT, 1,
                                 MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, l, MHD_OPTION_URI_LOG_CALLBACK, exchange_open, l,
                                 MHD_OPTION_NOTIFY_COMPLETED, exchange_close, l, MHD_OPTION_NOTIFY_CONNECTION, on_connection, l,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)limit, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                 (size_t)HTTP_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT,
                                 (unsigned)((s->idle_timeout_ms + 999) / 1000), MHD_OPTION_ARRAY, more, MHD_OPTION_END);
    if (l->daemon != NULL) {
        return true;
    }
    if (s->cert != NULL) {
        (void)DEPOT_FAIL(err, CONFIG, "[listen %s]: TLS cannot be set up", s->name);
        return depot_hint(err, "check that tls_cert holds the certificate chain and tls_key its key, both as PEM");
    }
    return DEPOT_FAIL(err, IO, "the listener %s cannot be started", s->name);
}

static void free_listener(listener *l)
{
    depot_fd_close(&l->fd);
    pthread_mutex_destroy(&l->lock);
    settings_free(&l->settings);
    free(l);
}

listener *listener_start(depot_ctx *ctx, const listen_settings *settings, int fd, depot_err *err)
{
    listener   *l = depot_xalloc(sizeof(*l));
    const char *name = settings->name;
    const char *option = depot_strf(settings->arena, "[listen %s] address%s", name,
                                    strcmp(name, "api") == 0 ? " or DEPOT_API_ADDR"
                                    : strcmp(name, "admin") == 0 ? " or PGFLOW_ADMIN_ADDR" : "");

    l->ctx = ctx;
    l->settings = *settings;
    l->fd = -1;
    pthread_mutex_init(&l->lock, NULL);
    bool ok = true;
    if (fd >= 0) {
        l->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        ok = l->fd >= 0 || DEPOT_FAIL_ERRNO(err, "cannot go on with the socket of listener %s", name);
    } else {
        ok = address_open(settings->address, option, &l->fd, l->place, err);
    }
    if (!ok || !start_daemon(l, err)) {
        free_listener(l);
        return NULL;
    }
    return l;
}

/* Under the lock. The library notices that its peer is gone and closes. */
static void cut(connection *c)
{
    (void)shutdown(c->fd, SHUT_RDWR); /* fails when the peer was faster */
}

void listener_retire(listener *l)
{
    if (atomic_exchange(&l->draining, true)) {
        return;
    }
    if (MHD_quiesce_daemon(l->daemon) != MHD_INVALID_SOCKET) {
        depot_fd_close(&l->fd);
    }
    pthread_mutex_lock(&l->lock);
    for (connection *c = l->first; c != NULL; c = c->next) {
        if (c->current == NULL) {
            atomic_store(&c->due_ms, 0);
        }
    }
    pthread_mutex_unlock(&l->lock);
}

bool listener_idle(listener *l)
{
    pthread_mutex_lock(&l->lock);
    bool idle = l->n_connections == 0;
    pthread_mutex_unlock(&l->lock);
    return idle;
}

void listener_guard(listener *l)
{
    int64_t now = depot_now_ms();
    size_t  n = 0;

    pthread_mutex_lock(&l->lock);
    for (connection *c = l->first; c != NULL; c = c->next) {
        if (atomic_load(&c->due_ms) <= now) {
            cut(c);
            atomic_store(&c->due_ms, INT64_MAX);
            n++;
        }
    }
    depot_gauge(l->ctx, "depot_http_connections", DEPOT_LABELS(l->settings.name), (double)l->n_connections);
    pthread_mutex_unlock(&l->lock);
    if (n > 0 && !atomic_load(&l->draining)) {
        depot_count(l->ctx, "depot_http_connections_cut_total", DEPOT_LABELS(l->settings.name), (double)n);
    }
}

static size_t busy(listener *l)
{
    pthread_mutex_lock(&l->lock);
    size_t n = l->n_exchanges;
    pthread_mutex_unlock(&l->lock);
    return n;
}

/* libmicrohttpd aborts the process when it is stopped while a connection is suspended. */
static void resume_all(listener *l)
{
    atomic_store(&l->closing, true);
    pthread_mutex_lock(&l->lock);
    for (connection *c = l->first; c != NULL; c = c->next) {
        if (c->current != NULL) {
            exchange_cut(c->current);
        }
        cut(c);
    }
    pthread_mutex_unlock(&l->lock);
}

void listener_stop(listener *l, int64_t grace_ms)
{
    int64_t until = depot_now_ms() + grace_ms;

    listener_retire(l);
    while (busy(l) > 0 && depot_now_ms() < until) {
        usleep(STOP_POLL_MS * 1000);
    }
    resume_all(l);
    for (until = depot_now_ms() + CUT_OFF_MS; !listener_idle(l) && depot_now_ms() < until;) {
        usleep(STOP_POLL_MS * 1000);
    }
    MHD_stop_daemon(l->daemon);
    free_listener(l);
}
