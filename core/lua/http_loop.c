/* http_loop.c - libcurl's sockets and its timer on the engine's loop. */
#include <stdlib.h>

#include "lua/http.h"

/* Each request that has no connection yet may cost a thread that looks up its host's name. */
enum { OPENING_MAX = 64, IDLE_MAX = 64 };

typedef struct http_loop {
    engine    *engine;
    CURLM     *multi;
    uv_timer_t timer;
    size_t     opening;
    http_op   *first, *last; /* wait until less are opening */
} http_loop;

typedef struct watched {
    uv_poll_t     poll;
    curl_socket_t fd;
    http_loop    *loop;
} watched;

static void free_watched(uv_handle_t *handle)
{
    free(handle->data);
}

static void free_loop(uv_handle_t *handle)
{
    free(handle->data);
}

/* ---- waiting for a place ---- */

static bool start(http_loop *l, http_op *h)
{
    h->opening = true;
    l->opening++;
    http_bound(h);
    h->added = curl_multi_add_handle(l->multi, h->easy) == CURLM_OK;
    if (!h->added) {
        http_opened(h);
    }
    return h->added;
}

static void start_waiting(http_loop *l)
{
    while (l->first != NULL && l->opening < OPENING_MAX) {
        http_op *h = l->first;
        l->first = h->next;
        h->waiting = false;
        if (!start(l, h)) {
            http_ended(h, CURLE_OUT_OF_MEMORY);
        }
    }
}

void http_opened(http_op *h)
{
    if (h->opening) {
        h->opening = false;
        h->engine->http->opening--;
    }
}

static void leave_list(http_loop *l, const http_op *h)
{
    http_op *before = NULL;

    for (http_op *i = l->first; i != NULL && i != h; i = i->next) {
        before = i;
    }
    *(before == NULL ? &l->first : &before->next) = h->next;
    if (l->last == h) {
        l->last = before;
    }
}

/* ---- what libcurl says ---- */

static void take_ended(http_loop *l)
{
    CURLMsg *message;
    int      left;

    while ((message = curl_multi_info_read(l->multi, &left)) != NULL) {
        char    *private = NULL;
        CURLcode how = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        http_op *h = (http_op *)(void *)private;
        http_remove(h);
        http_ended(h, how);
    }
    start_waiting(l);
}

static void act(http_loop *l, curl_socket_t fd, int events)
{
    int running;

    curl_multi_socket_action(l->multi, fd, events, &running);
    take_ended(l);
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
    const watched *w = poll->data;
    int            what = status < 0 ? CURL_CSELECT_ERR : 0;

    what |= (events & UV_READABLE) != 0 ? CURL_CSELECT_IN : 0;
    what |= (events & UV_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0;
    act(w->loop, w->fd, what);
}

static void on_timer(uv_timer_t *timer)
{
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long ms, void *arg)
{
    http_loop *l = arg;

    (void)multi;
    if (ms < 0) {
        uv_timer_stop(&l->timer);
    } else {
        uv_update_time(l->engine->opt.loop);
        uv_timer_start(&l->timer, on_timer, (uint64_t)ms, 0);
    }
    return 0;
}

static watched *watch(http_loop *l, curl_socket_t fd)
{
    watched *w = depot_xalloc(sizeof(*w));

    w->fd = fd;
    w->loop = l;
    w->poll.data = w;
    uv_poll_init_socket(l->engine->opt.loop, &w->poll, fd); /* fails only for what is no socket */
    curl_multi_assign(l->multi, fd, w);
    return w;
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
    http_loop *l = arg;
    watched   *w = known;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (w != NULL) {
            curl_multi_assign(l->multi, fd, NULL);
            uv_close((uv_handle_t *)&w->poll, free_watched);
        }
        return 0;
    }
    if (w == NULL) {
        w = watch(l, fd);
    }
    int events = ((what & CURL_POLL_IN) != 0 ? UV_READABLE : 0) | ((what & CURL_POLL_OUT) != 0 ? UV_WRITABLE : 0);
    uv_poll_start(&w->poll, events, on_socket);
    return 0;
}

/* ---- life ---- */

static http_loop *open_loop(engine *e)
{
    http_loop *l = depot_xalloc(sizeof(*l));

    l->engine = e;
    l->multi = curl_multi_init();
    if (l->multi == NULL) {
        free(l);
        return NULL;
    }
    uv_timer_init(e->opt.loop, &l->timer);
    l->timer.data = l;
    curl_multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
    curl_multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
    curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, (long)IDLE_MAX);
    return l;
}

void http_close(engine *e)
{
    http_loop *l = e->http;

    if (l != NULL) {
        curl_multi_cleanup(l->multi); /* tells set_socket of every idle connection */
        uv_close((uv_handle_t *)&l->timer, free_loop);
        e->http = NULL;
    }
}

bool http_add(http_op *h, depot_err *err)
{
    engine *e = h->engine;

    if (h->alone != NULL) {
        http_bound(h);
        h->added = curl_multi_add_handle(h->alone, h->easy) == CURLM_OK;
        return h->added || DEPOT_FAIL(err, MEMORY, "no memory for a request");
    }
    if (e->http == NULL && (e->http = open_loop(e)) == NULL) {
        return DEPOT_FAIL(err, MEMORY, "no memory for requests");
    }
    http_loop *l = e->http;
    if (l->opening < OPENING_MAX) {
        return start(l, h) || DEPOT_FAIL(err, MEMORY, "no memory for a request");
    }
    h->waiting = true;
    h->next = NULL;
    *(l->first == NULL ? &l->first : &l->last->next) = h;
    l->last = h;
    return true;
}

void http_remove(http_op *h)
{
    if (h->waiting) {
        h->waiting = false;
        leave_list(h->engine->http, h);
    }
    if (h->added) {
        curl_multi_remove_handle(h->alone != NULL ? h->alone : h->engine->http->multi, h->easy);
        h->added = false;
    }
    if (h->opening) {
        http_opened(h);
        start_waiting(h->engine->http);
    }
}

/* Only scripts that cannot yield come here: their request has a multi handle of its own. */
void http_block(op *o, int64_t until_ms)
{
    http_op *h = (http_op *)(void *)o;
    int64_t  left = until_ms - depot_now_ms();
    CURLMsg *message;
    int      n;

    curl_multi_perform(h->alone, &n);
    while (!o->finished && (message = curl_multi_info_read(h->alone, &n)) != NULL) {
        CURLcode how = message->data.result;
        http_remove(h);
        http_ended(h, how);
    }
    if (!o->finished && left > 0) {
        curl_multi_poll(h->alone, NULL, 0, left > 100 ? 100 : (int)left, NULL);
    }
}
