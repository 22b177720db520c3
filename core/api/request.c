/* request.c - a request as its transport sees it: made from a head, fed, polled, pulled and freed. Nothing here waits. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/internal.h"
#include "base/clock.h"

_Thread_local bool req_in_call;

static void keep_header(void *arg, const char *name, const char *value)
{
    depot_req *req = arg;
    req_header    *h = depot_alloc(req->arena, sizeof(*h));

    h->name = depot_strdup(req->arena, name);
    h->value = depot_strdup(req->arena, value == NULL ? "" : value);
    h->next = req->in_headers; /* order does not matter: a name is looked up, the first one given wins */
    for (const req_header *other = h->next; other != NULL; other = other->next) {
        if (strcasecmp(other->name, name) == 0) {
            return;
        }
    }
    req->in_headers = h;
}

/* Unique within the process, and in all likelihood among processes: eight random digits of the process, and a count. */
static const char *make_id(depot_arena *arena)
{
    static const char digits[] = "0123456789abcdef";
    unsigned long     n = atomic_fetch_add(&api_self->next_id, 1);
    char             *id = depot_alloc(arena, 17);

    memcpy(id, api_self->id_prefix, 8);
    for (int i = 15; i >= 8; i--, n >>= 4) {
        id[i] = digits[n & 15];
    }
    return id;
}

/* A caller's own id is kept if it can do no harm in logs. */
static const char *choose_id(depot_req *req)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
    const char       *given = depot_req_header(req, "X-Request-Id");
    size_t            n = given == NULL ? 0 : strspn(given, allowed);

    return n > 0 && n <= 64 && given[n] == '\0' ? given : make_id(req->arena);
}

/* "x-api-key" if there is one: a wrong key is not rescued by a right bearer token. */
static const char *find_token(depot_req *req)
{
    const char *key = depot_req_header(req, "X-Api-Key");
    const char *value = key != NULL ? NULL : depot_req_header(req, "Authorization");

    if (value != NULL && strncasecmp(value, "Bearer ", 7) == 0) {
        key = value + 7;
        key += strspn(key, " ");
    }
    return key;
}

depot_req *depot_req_new(const depot_transport *transport, void *conn, const depot_req_head *head)
{
    depot_arena *arena = depot_arena_new();
    depot_req   *req = depot_alloc(arena, sizeof(*req));
    int64_t      max = head->max_body > 0 ? head->max_body : atomic_load(&api_self->max_body);

    req->arena = arena;
    req->transport = transport;
    req->conn = conn;
    req->method = depot_strdup(arena, head->method);
    req->target_text = depot_strdup(arena, head->target);
    req->listen = depot_strdup(arena, head->listen);
    req->peer = depot_strdup(arena, head->peer == NULL ? "" : head->peer);
    req->peer_uid = head->peer_uid;
    req->content_length = head->content_length;
    req->chunked = head->chunked;
    req->is_head = strcmp(head->method, "HEAD") == 0;
    req->max_body = max;
    req->started_us = depot_now_us();
    req->deadline_ms = req->started_us / 1000 + atomic_load(&api_self->request_timeout_ms);
    req->last_header = &req->out_headers;
    req->reply.fd = -1;
    req->reply.length = -1;
    req->who = (identity){ DEPOT_ANYONE, "anonymous" };
    atomic_init(&req->refs, 1);
    pthread_mutex_init(&req->lock, NULL);
    clock_cond_init(&req->changed);
    head->headers(conn, keep_header, req);
    req->id = choose_id(req);
    req->token = find_token(req);
    atomic_fetch_add(&api_self->in_flight, 1);

    req_in_call = true;
    req_route(req);
    req_in_call = false;
    return req;
}

void req_ref(depot_req *req)
{
    atomic_fetch_add(&req->refs, 1);
}

void req_unref(depot_req *req)
{
    if (atomic_fetch_sub(&req->refs, 1) != 1) {
        return;
    }
    depot_fd_close(&req->reply.fd);
    ring_free(&req->up);
    ring_free(&req->down);
    depot_buf_free(&req->body);
    pthread_cond_destroy(&req->changed);
    pthread_mutex_destroy(&req->lock);
    atomic_fetch_sub(&api_self->in_flight, 1);
    depot_arena_free(req->arena); /* the request too */
}

bool req_enter(depot_req *req, req_phase phase)
{
    pthread_mutex_lock(&req->lock);
    req->phase = phase;
    bool fed = req->fed;
    bool tell = req->conn != NULL && !req_in_call;
    if (tell) {
        req->transport->wake(req->conn);
    }
    pthread_mutex_unlock(&req->lock);
    return fed;
}

/* wake() is called under the lock: freeing the request needs it too, so conn stays valid. */
void req_publish(depot_req *req, bool over, bool broken)
{
    pthread_mutex_lock(&req->lock);
    req->replied = true;
    req->broken = req->broken || broken;
    if (over) {
        req->phase = REQ_OVER;
    }
    req->want_bytes = req->want_room = false;
    if (req->conn != NULL && !req_in_call) {
        req->transport->wake(req->conn);
    }
    pthread_mutex_unlock(&req->lock);
}

static bool is_upload(const depot_req *req)
{
    return (req->match.entry->route->flags & DEPOT_ROUTE_UPLOAD) != 0;
}

depot_req_state depot_req_poll(depot_req *req)
{
    depot_req_state state = DEPOT_REQ_WAIT;

    pthread_mutex_lock(&req->lock);
    if (req->replied) {
        state = DEPOT_REQ_REPLY;
    } else if (req->phase == REQ_COLLECT && !req->fed) {
        state = DEPOT_REQ_BODY;
    } else if (req->phase == REQ_RUNNING && is_upload(req) && !req->fed) {
        req->want_room = ring_room(&req->up) == 0 && !req->too_large;
        state = req->want_room ? DEPOT_REQ_WAIT : DEPOT_REQ_BODY;
    }
    pthread_mutex_unlock(&req->lock);
    return state;
}

static size_t feed_upload(depot_req *req, const void *p, size_t n)
{
    pthread_mutex_lock(&req->lock);
    req->too_large = req->too_large || req->received + (int64_t)n > req->max_body;
    if (!req->too_large && !req->replied) {
        n = ring_put(&req->up, p, n);
    }
    req->received += (int64_t)n;
    req->want_room = n == 0;
    pthread_cond_broadcast(&req->changed);
    pthread_mutex_unlock(&req->lock);
    return n;
}

size_t depot_req_feed(depot_req *req, const void *p, size_t n)
{
    depot_err err = { 0 };

    pthread_mutex_lock(&req->lock);
    req_phase phase = req->phase;
    pthread_mutex_unlock(&req->lock);
    if (phase == REQ_RUNNING) {
        return feed_upload(req, p, n);
    }
    if (phase != REQ_COLLECT) {
        return n;
    }
    req->received += (int64_t)n;
    if (req->received <= req->max_body) {
        depot_buf_add(&req->body, p, n);
        return n;
    }
    depot_buf_free(&req->body);
    (void)DEPOT_FAIL(&err, TOO_LARGE, "the body is larger than %lld bytes", (long long)req->max_body);
    req_in_call = true;
    req_refuse(req, &err, NULL);
    req_in_call = false;
    return n;
}

void depot_req_fed(depot_req *req)
{
    pthread_mutex_lock(&req->lock);
    req->fed = true;
    bool start = req->phase == REQ_COLLECT;
    pthread_cond_broadcast(&req->changed);
    pthread_mutex_unlock(&req->lock);
    if (start) {
        req_in_call = true;
        req_dispatch(req);
        req_in_call = false;
    }
}

const depot_reply_view *depot_req_reply(depot_req *req)
{
    return &req->reply;
}

bool depot_req_next_header(depot_req *req, size_t *it, const char **name, const char **value)
{
    const req_header *h = req->out_headers;

    for (size_t i = 0; i < *it && h != NULL; i++) {
        h = h->next;
    }
    if (h == NULL) {
        return false;
    }
    (*it)++;
    *name = h->name;
    *value = h->value;
    return true;
}

int64_t depot_req_pull(depot_req *req, void *buf, size_t size)
{
    pthread_mutex_lock(&req->lock);
    int64_t n = (int64_t)ring_get(&req->down, buf, size);
    if (n > 0) {
        pthread_cond_broadcast(&req->changed);
    } else if (req->phase == REQ_OVER) {
        n = req->broken ? -2 : -1;
    } else {
        req->want_bytes = true;
    }
    pthread_mutex_unlock(&req->lock);
    return n;
}

void depot_req_free(depot_req *req)
{
    pthread_mutex_lock(&req->lock);
    req->conn = NULL;
    atomic_store(&req->gone, true);
    pthread_cond_broadcast(&req->changed);
    pthread_mutex_unlock(&req->lock);
    req_unref(req);
}
