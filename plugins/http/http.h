/* http.h - what the files of this plugin share: listeners, their connections, and one exchange per request. */
#ifndef HTTP_H
#define HTTP_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "depot/plugin.h"

enum {
    HTTP_LINGER_MAX = 8 << 20,   /* bytes of a refused body that are read, so that the client gets to see the refusal */
    HTTP_BLOCK = 64 << 10,       /* of a reply's body at a time: with TLS smaller ones cost up to three times the CPU */
    HTTP_MEMORY = 32 << 10,      /* of a connection: its request line and headers must fit */
    HTTP_UNIX_PATH_MAX = 107
};

/* A [listen NAME] section. */
typedef struct listen_options {
    const char *address, *tls_cert, *tls_key;
    int64_t     serve, max_connections, max_per_ip, header_timeout, body_timeout, idle_timeout, max_body;
} listen_options;

/* The same with defaults applied, files read, and owned by a listener. */
typedef struct listen_settings {
    depot_arena *arena;
    const char  *name, *address, *serve; /* serve: which routes, "api", "admin" or "control" */
    const char  *cert, *key;             /* PEM text; NULL: no TLS */
    int64_t      max_connections, max_per_ip, header_timeout_ms, body_timeout_ms, idle_timeout_ms, max_body;
    unsigned     threads;
} listen_settings;

typedef struct exchange exchange;

/* One client. Made and freed by the callbacks of libmicrohttpd; its listener's lock guards the list and `current`. */
typedef struct connection {
    struct listener *listener;
    int              fd;
    int64_t          uid;      /* local socket: who it is; else -1 */
    char             peer[64];
    atomic_llong     due_ms;   /* when it is cut off; INT64_MAX: not now */
    exchange        *current;
    struct connection *prev, *next;
} connection;

typedef struct listener {
    depot_ctx         *ctx;
    listen_settings    settings;
    struct MHD_Daemon *daemon;
    int                fd;      /* listening socket; -1: accepts no more */
    char               place[128]; /* where it listens, port filled in */
    atomic_bool        draining;   /* replies close their connection */
    atomic_bool        closing;    /* nothing may be suspended any more */
    pthread_mutex_t    lock;       /* guards the rest */
    connection        *first;
    size_t             n_connections, n_exchanges;
    struct listener   *next;
} listener;

/* address.c: "127.0.0.1:8000", "[::1]:8000", "*:8000", "unix:/path" or "/path"; "off", "none", "false", "0": no listener. */
bool address_is_off(const char *address);
bool address_check(const char *address, depot_err *err) DEPOT_MUST_USE;
/* A listening socket; place says where in words. option names what to change in messages. */
bool address_open(const char *address, const char *option, int *out_fd, char place[128], depot_err *err) DEPOT_MUST_USE;
void address_remove(const char *address); /* the file of a local socket */

/* settings.c: what is to listen, by configuration, environment and defaults; freed by settings_free. */
bool settings_check(depot_ctx *ctx, depot_err *err) DEPOT_MUST_USE;
bool settings_next(depot_ctx *ctx, size_t *it, listen_settings *out, bool *found, depot_err *err) DEPOT_MUST_USE;
bool settings_equal(const listen_settings *a, const listen_settings *b);
void settings_free(listen_settings *s);

/* listener.c */
/* Takes settings; fd: a listening socket to go on with (duplicated), -1: open one. */
listener *listener_start(depot_ctx *ctx, const listen_settings *settings, int fd, depot_err *err);
void      listener_retire(listener *l);             /* accepts no more; idle connections end, busy ones finish */
bool      listener_idle(listener *l);               /* no connection left */
void      listener_guard(listener *l);              /* cuts off what is due */
void      listener_stop(listener *l, int64_t grace_ms); /* retires, waits, cuts off, frees */

/* exchange.c: the callbacks of libmicrohttpd for requests; cls is the listener. */
void *exchange_open(void *cls, const char *target, struct MHD_Connection *mhd);
enum MHD_Result exchange_go_on(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
                               const char *upload, size_t *upload_size, void **con_cls);
void exchange_close(void *cls, struct MHD_Connection *mhd, void **con_cls, enum MHD_RequestTerminationCode code);
void exchange_cut(exchange *x); /* under the listener's lock: resumes it, so that it can end */

/* answer.c: a reply as a response of libmicrohttpd. */
struct exchange {
    connection            *connection;
    struct MHD_Connection *mhd;
    depot_req             *req;
    char                  *target;
    uintptr_t              target_end; /* where it ended in the library's buffer */
    bool                   begun, has_body, expects, body_done;
    int64_t                content_length, discarded;
    pthread_mutex_t        lock; /* guards the two below */
    bool                   suspended, woken;
};
enum MHD_Result answer_send(exchange *x, bool close);
enum MHD_Result answer_refuse(struct MHD_Connection *mhd, int status, const char *code, const char *detail);
/* Suspends the connection unless wake() came meanwhile; false: look again. */
bool exchange_suspend(exchange *x);

#endif
