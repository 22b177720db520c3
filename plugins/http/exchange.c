/* exchange.c - one request on its way between libmicrohttpd and the core. The threads here never wait: a request that has to
 * is suspended, and the core's wake() resumes it. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"

static connection *connection_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info == NULL ? NULL : info->socket_context;
}

/* First sight of a request: its target, before the library takes it apart. */
void *exchange_open(void *cls, const char *target, struct MHD_Connection *mhd)
{
    listener *l = cls;
    exchange *x = depot_xalloc(sizeof(*x));

    x->mhd = mhd;
    x->connection = connection_of(mhd);
    x->target = depot_xstrdup(target);
    x->target_end = (uintptr_t)target + strlen(target);
    pthread_mutex_init(&x->lock, NULL);
    pthread_mutex_lock(&l->lock);
    l->n_exchanges++;
    if (x->connection != NULL) {
        x->connection->current = x;
    }
    pthread_mutex_unlock(&l->lock);
    return x;
}

void exchange_close(void *cls, struct MHD_Connection *mhd, void **con_cls, enum MHD_RequestTerminationCode code)
{
    listener *l = cls;
    exchange *x = *con_cls;

    (void)mhd;
    (void)code;
    if (x == NULL) {
        return;
    }
    *con_cls = NULL;
    if (x->req != NULL) {
        depot_req_free(x->req);
    }
    pthread_mutex_lock(&l->lock);
    l->n_exchanges--;
    if (x->connection != NULL) {
        x->connection->current = NULL;
        atomic_store(&x->connection->due_ms, atomic_load(&l->draining)
                         ? 0
                         : depot_now_ms() + l->settings.idle_timeout_ms + l->settings.header_timeout_ms);
    }
    pthread_mutex_unlock(&l->lock);
    pthread_mutex_destroy(&x->lock);
    free(x->target);
    free(x);
}

/* ---- suspending ---- */

bool exchange_suspend(exchange *x)
{
    bool suspended = false;

    pthread_mutex_lock(&x->lock);
    if (x->woken || atomic_load(&x->connection->listener->closing)) {
        x->woken = false;
    } else {
        MHD_suspend_connection(x->mhd);
        x->suspended = suspended = true;
    }
    pthread_mutex_unlock(&x->lock);
    return suspended;
}

static void wake(void *conn)
{
    exchange *x = conn;

    pthread_mutex_lock(&x->lock);
    x->woken = !x->suspended;
    if (x->suspended) {
        x->suspended = false;
        MHD_resume_connection(x->mhd);
    }
    pthread_mutex_unlock(&x->lock);
}

void exchange_cut(exchange *x)
{
    wake(x);
}

/* ---- the head ---- */

typedef struct head_check {
    int         n_length, n_encoding, n_host;
    const char *length, *encoding, *fault;
    bool        expects;
} head_check;

/* The characters of a header's name (RFC 9110, token). */
static bool is_token(const char *name)
{
    return name[0] != '\0' && name[strspn(name, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")] == '\0';
}

static enum MHD_Result check_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    head_check *h = cls;

    (void)kind;
    if (!is_token(name)) {
        h->fault = "a header's name holds a blank or another character that is not allowed";
    } else if (strcasecmp(name, "Content-Length") == 0) {
        h->length = value;
        h->n_length++;
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        h->encoding = value;
        h->n_encoding++;
    } else if (strcasecmp(name, "Host") == 0) {
        h->n_host++;
    } else if (strcasecmp(name, "Expect") == 0) {
        h->expects = true;
    }
    return MHD_YES;
}

/* The library cuts a target at a raw NUL. Version and target stand in one buffer, a blank between them: if the version comes
 * later than right after the target's end, something was cut. */
static bool target_was_cut(const exchange *x, const char *version)
{
    uintptr_t at = (uintptr_t)version;

    return at > x->target_end + 1 && at - x->target_end < HTTP_MEMORY;
}

/* What makes servers and proxies disagree on where a request ends is refused, whoever might be right. */
static const char *check_framing(const head_check *h, const char *version)
{
    if (h->fault != NULL) {
        return h->fault;
    }
    if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0) {
        return "the request line does not end in HTTP/1.1 or HTTP/1.0";
    }
    if (h->n_length > 1 || h->n_encoding > 1 || h->n_host > 1) {
        return "Content-Length, Transfer-Encoding or Host is given twice";
    }
    if (h->n_length == 1 && h->n_encoding == 1) {
        return "Content-Length and Transfer-Encoding exclude each other";
    }
    if (h->n_encoding == 1 && (h->encoding == NULL || strcasecmp(h->encoding, "chunked") != 0)) {
        return "the only transfer encoding is chunked";
    }
    if (h->n_length == 1 && (h->length == NULL || h->length[0] == '\0' || strlen(h->length) > 18 ||
                             h->length[strspn(h->length, "0123456789")] != '\0')) {
        return "Content-Length is not a number";
    }
    return NULL;
}

typedef struct header_sink {
    void (*fn)(void *arg, const char *name, const char *value);
    void *arg;
} header_sink;

static enum MHD_Result pass_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    header_sink *sink = cls;

    (void)kind;
    sink->fn(sink->arg, name, value);
    return MHD_YES;
}

static void each_header(void *conn, void (*fn)(void *arg, const char *name, const char *value), void *arg)
{
    exchange   *x = conn;
    header_sink sink = { fn, arg };

    (void)MHD_get_connection_values(x->mhd, MHD_HEADER_KIND, pass_header, &sink); /* how many: nobody asks */
}

/* A reply that is sent now closes the connection, as the library does not know what follows. So that is for those who ask
 * before they send their body, or are about to send a lot for nothing; the others get theirs at the next call. */
static enum MHD_Result answer_at_once(exchange *x)
{
    bool at_once = x->has_body && (x->expects || x->content_length > HTTP_LINGER_MAX);

    return at_once && depot_req_poll(x->req) == DEPOT_REQ_REPLY ? answer_send(x, true) : MHD_YES;
}

static enum MHD_Result begin(exchange *x, const char *method, const char *version)
{
    static const depot_transport transport = { wake };
    const listen_settings       *s = &x->connection->listener->settings;
    head_check                   h = { 0 };

    x->begun = true;
    (void)MHD_get_connection_values(x->mhd, MHD_HEADER_KIND, check_header, &h); /* how many: nobody asks */
    const char *fault = target_was_cut(x, version) ? "the request target holds a NUL byte" : check_framing(&h, version);
    if (fault != NULL) {
        return answer_refuse(x->mhd, 400, "MALFORMED", fault);
    }
    depot_req_head head = {
        .listen = s->serve,
        .method = method,
        .target = x->target,
        .peer = x->connection->peer,
        .peer_uid = strcmp(s->serve, "control") == 0 ? x->connection->uid : -1,
        .content_length = h.length == NULL ? -1 : (int64_t)strtoll(h.length, NULL, 10),
        .chunked = h.n_encoding > 0,
        .max_body = s->max_body,
        .headers = each_header,
    };
    x->has_body = head.chunked || head.content_length > 0;
    x->expects = h.expects;
    x->content_length = head.content_length;
    atomic_store(&x->connection->due_ms, x->has_body ? depot_now_ms() + s->body_timeout_ms : INT64_MAX);
    x->req = depot_req_new(&transport, x, &head);
    if (!x->has_body) {
        x->body_done = true;
        depot_req_fed(x->req);
    }
    return answer_at_once(x);
}

/* ---- going on ---- */

/* The body has body_timeout, and a millisecond more for each byte that came: who sends less than 1 KiB/s is cut off. While
 * the handler has no room for more, time stands still. */
static void prolong(exchange *x, size_t n)
{
    int64_t due = atomic_load(&x->connection->due_ms);

    atomic_store(&x->connection->due_ms, due == INT64_MAX
                     ? depot_now_ms() + x->connection->listener->settings.body_timeout_ms
                     : due + (int64_t)n);
}

/* A reply is there, but its request's body is still under way: read and forget it, so that the client stops writing and
 * reads. Who sends too much is cut off. */
static enum MHD_Result forget(exchange *x, size_t *upload_size)
{
    x->discarded += (int64_t)*upload_size;
    *upload_size = 0;
    return x->discarded > HTTP_LINGER_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result take(exchange *x, const char *upload, size_t *upload_size)
{
    listener *l = x->connection->listener;

    for (;;) {
        depot_req_state state = depot_req_poll(x->req);
        if (atomic_load(&l->closing)) {
            return MHD_NO;
        }
        if (state == DEPOT_REQ_REPLY) {
            return x->body_done ? answer_send(x, atomic_load(&l->draining)) : forget(x, upload_size);
        }
        if (state == DEPOT_REQ_BODY && !x->body_done) {
            size_t n = *upload_size == 0 ? 0 : depot_req_feed(x->req, upload, *upload_size);
            upload += n;
            *upload_size -= n;
            if (*upload_size == 0) {
                return MHD_YES;
            }
            if (n > 0) {
                continue;
            }
        }
        atomic_store(&x->connection->due_ms, INT64_MAX);
        if (exchange_suspend(x)) {
            return MHD_YES;
        }
    }
}

enum MHD_Result exchange_go_on(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
                               const char *upload, size_t *upload_size, void **con_cls)
{
    exchange *x = *con_cls;

    (void)cls;
    (void)mhd;
    (void)url;
    if (x->connection == NULL) {
        return MHD_NO;
    }
    if (!x->begun) {
        return begin(x, method, version);
    }
    if (x->req == NULL) {
        *upload_size = 0; /* refused; the library forgets what still comes */
        return MHD_YES;
    }
    if (*upload_size > 0) {
        prolong(x, *upload_size);
    } else if (!x->body_done) {
        x->body_done = true;
        atomic_store(&x->connection->due_ms, INT64_MAX);
        depot_req_fed(x->req);
    }
    return take(x, upload, upload_size);
}
