/* reply.c - what handlers may call: what the request says, its body as a stream, and the reply. Streams wait. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/internal.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/unit.h"

enum { SLICE_MS = 250 /* how late a canceled unit of work is noticed while a client is slow */ };

depot_arena *depot_req_arena(depot_req *req)
{
    return req->arena;
}

const depot_json *depot_req_args(depot_req *req)
{
    return req->args;
}

const char *depot_req_header(depot_req *req, const char *name)
{
    for (const req_header *h = req->in_headers; h != NULL; h = h->next) {
        if (strcasecmp(h->name, name) == 0) {
            return h->value;
        }
    }
    return NULL;
}

const char *depot_req_id(depot_req *req)
{
    return req->id;
}

const char *depot_req_actor(depot_req *req)
{
    return req->who.actor;
}

depot_role depot_req_role(depot_req *req)
{
    return req->who.role;
}

const char *depot_req_listen(depot_req *req)
{
    return req->listen;
}

int64_t depot_req_body_size(depot_req *req)
{
    return req->content_length;
}

/* false when the client or the unit of work is at its end. */
static bool may_go_on(const depot_req *req, depot_err *err)
{
    if (atomic_load(&req->gone)) {
        return DEPOT_FAIL(err, CANCELED, "the client closed the connection");
    }
    return unit_check(err);
}

/* Waits under the lock until woken or a slice is over. */
static bool wait_for_client(depot_req *req, depot_err *err)
{
    if (!may_go_on(req, err)) {
        return false;
    }
    (void)clock_cond_wait(&req->changed, &req->lock, depot_now_ms() + unit_remaining_ms(SLICE_MS));
    return true;
}

bool depot_req_read(depot_req *req, void *buf, size_t size, size_t *out_n, depot_err *err)
{
    bool ok = unit_check(err); /* also while a client keeps it busy; what came before it went can be read */

    pthread_mutex_lock(&req->lock);
    while (ok && req->up.len == 0 && !req->fed && !req->too_large) {
        ok = wait_for_client(req, err);
    }
    if (ok && req->too_large) {
        ok = DEPOT_FAIL(err, TOO_LARGE, "the body is larger than %lld bytes", (long long)req->max_body);
    }
    *out_n = ok ? ring_get(&req->up, buf, size) : 0;
    if (req->want_room && ring_room(&req->up) >= RING_SIZE / 4 && req->conn != NULL) {
        req->want_room = false;
        req->transport->wake(req->conn);
    }
    pthread_mutex_unlock(&req->lock);
    return ok;
}

/* ---- replies ---- */

void req_add_header(depot_req *req, const char *name, const char *value)
{
    req_header *h = depot_alloc(req->arena, sizeof(*h));

    h->name = name;
    h->value = value;
    *req->last_header = h;
    req->last_header = &h->next;
}

static bool has_header(const depot_req *req, const char *name)
{
    for (const req_header *h = req->out_headers; h != NULL; h = h->next) {
        if (strcasecmp(h->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_clean(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            return false;
        }
    }
    return true;
}

void depot_reply_header(depot_req *req, const char *name, const char *value)
{
    if (req->reply.status != 0 || !is_clean(name) || !is_clean(value)) {
        log_write(req->match.entry->ctx->name, DEPOT_LOG_ERROR, "http.bad_header",
                  "%s %s set the header %.40s too late or to a text with control characters", req->method,
                  req->match.entry->route->path, name);
        return;
    }
    req_add_header(req, depot_strdup(req->arena, name), depot_strdup(req->arena, value));
}

/* Status and the headers that every reply has. A second reply is the handler's mistake: the first one stands. */
static bool begin(depot_req *req, int status, const char *content_type)
{
    if (req->reply.status != 0) {
        log_write(req->match.entry->ctx->name, DEPOT_LOG_ERROR, "http.second_reply", "%s %s replied twice", req->method,
                  req->match.entry->route->path);
        return false;
    }
    req->reply.status = status;
    if (content_type != NULL) {
        req_add_header(req, "Content-Type", depot_strdup(req->arena, content_type));
    }
    req_add_header(req, "X-Request-Id", req->id);
    if (!has_header(req, "Cache-Control")) {
        req_add_header(req, "Cache-Control", "no-store");
    }
    return true;
}

void req_set_reply(depot_req *req, int status, const char *content_type, const char *body, size_t n)
{
    if (begin(req, status, content_type)) {
        req->reply.body = body;
        req->reply.len = n;
    }
}

bool depot_reply_json_text(depot_req *req, int status, const char *json)
{
    const char *text = depot_strdup(req->arena, json);

    req_set_reply(req, status, "application/json", text, strlen(text));
    return true;
}

bool depot_reply_json(depot_req *req, int status, const depot_json *body)
{
    const char *text = depot_json_text(req->arena, body);

    req_set_reply(req, status, "application/json", text, strlen(text));
    return true;
}

bool depot_reply_text(depot_req *req, int status, const char *content_type, const char *text, size_t n)
{
    req_set_reply(req, status, content_type, depot_strndup(req->arena, text, n), n);
    return true;
}

bool depot_reply_file(depot_req *req, int status, const char *content_type, int fd, int64_t offset, int64_t length)
{
    struct stat st;

    if (!begin(req, status, content_type)) {
        depot_fd_close(&fd);
        return true;
    }
    if (length < 0) {
        length = fstat(fd, &st) == 0 && st.st_size > offset ? st.st_size - offset : 0;
    }
    req->reply.fd = fd;
    req->reply.offset = offset;
    req->reply.length = length;
    return true;
}

bool depot_reply_begin(depot_req *req, int status, const char *content_type, int64_t length)
{
    if (begin(req, status, content_type)) {
        req->reply.stream = true;
        req->reply.length = length;
        req_publish(req, false, false);
    }
    return true;
}

bool depot_reply_write(depot_req *req, const void *p, size_t n, depot_err *err)
{
    const char *bytes = p;
    bool        ok = may_go_on(req, err);

    if (!req->reply.stream) {
        return DEPOT_FAIL(err, BUG, "a streamed reply was written before it was begun");
    }
    if (!ok || req->is_head) {
        return ok;
    }
    pthread_mutex_lock(&req->lock);
    while (ok && n > 0) {
        size_t put = atomic_load(&req->gone) ? 0 : ring_put(&req->down, bytes, n);
        bytes += put;
        n -= put;
        if (put > 0 && req->want_bytes && req->conn != NULL) {
            req->want_bytes = false;
            req->transport->wake(req->conn);
        }
        if (put == 0) {
            ok = wait_for_client(req, err);
        }
    }
    if (ok && atomic_load(&req->gone)) {
        ok = DEPOT_FAIL(err, CANCELED, "the client closed the connection");
    }
    pthread_mutex_unlock(&req->lock);
    return ok;
}
