/* http_loop.c - libcurl's sockets and its timer on the engine's loop. */
#include <stdio.h>
#include <stdlib.h>

#include "lua/http.h"

/* Each request that has no connection yet may cost a thread that looks up its host's name. Nothing ends that thread before the look-up
 * does, and nobody tells of its end: the place of a request that ended meanwhile is taken for as long as the system's resolver tries. */
enum { OPENING_MAX = 64, IDLE_MAX = 64, LOOKUP_MS = 30000 };

typedef struct http_loop {
    engine    *engine;
    CURLM     *multi;
    uv_timer_t timer;
    uv_timer_t due;                   /* fires when the place of a look-up that was cut off is free again, or a wait is over */
    int64_t    due_ms;                /* INT64_MAX: it does not */
    int64_t    cut_off[OPENING_MAX];  /* when; a ring from cut_first on */
    size_t     cut_first, n_cut;
    size_t     opening;               /* those that were cut off are among them */
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

static void close_due(uv_handle_t *handle)
{
    http_loop *l = handle->data;

    uv_close((uv_handle_t *)&l->due, free_loop);
}

/* ---- waiting for a place ---- */

static bool start(http_loop *l, http_op *h)
{
    h->opening = !h->is_literal; /* an address is not looked up */
    l->opening += h->opening;
    http_bound(h);
    h->added = curl_multi_add_handle(h->alone != NULL ? h->alone : l->multi, h->easy) == CURLM_OK;
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

/* ---- what ends without libcurl: the wait for a place, the look-up that was cut off ---- */

static void on_due(uv_timer_t *timer);

static void arm(http_loop *l, int64_t due_ms)
{
    int64_t left = due_ms - depot_now_ms();

    l->due_ms = due_ms;
    uv_update_time(l->engine->opt.loop);
    uv_timer_start(&l->due, on_due, left > 0 ? (uint64_t)left : 0, 0);
}

static void end_overdue(http_loop *l)
{
    for (http_op *h = l->first, *next; h != NULL; h = next) {
        next = h->next;
        if (h->due_ms <= depot_now_ms()) {
            http_remove(h);
            (void)snprintf(h->text, sizeof(h->text), "it waited for its place, as %d others look up their hosts or connect", OPENING_MAX);
            http_ended(h, CURLE_OPERATION_TIMEDOUT); /* a script that goes on may make requests: they wait behind those that are here */
        }
    }
}

static void on_due(uv_timer_t *timer)
{
    http_loop *l = timer->data;
    int64_t    next = INT64_MAX;

    for (; l->n_cut > 0 && l->cut_off[l->cut_first] <= depot_now_ms(); l->n_cut--) {
        l->cut_first = (l->cut_first + 1) % OPENING_MAX;
        l->opening--;
    }
    l->due_ms = INT64_MAX;
    start_waiting(l);
    end_overdue(l);
    next = l->n_cut > 0 ? l->cut_off[l->cut_first] : INT64_MAX;
    for (const http_op *h = l->first; h != NULL; h = h->next) {
        next = h->due_ms < next ? h->due_ms : next;
    }
    if (next < l->due_ms) {
        arm(l, next);
    }
}

/* It ends without a connection, and not because its host has no address. */
static void cut_off(http_op *h)
{
    http_loop *l = h->engine->http;
    int64_t    due = depot_now_ms() + LOOKUP_MS;

    h->opening = false;
    l->cut_off[(l->cut_first + l->n_cut++) % OPENING_MAX] = due;
    if (due < l->due_ms) {
        arm(l, due);
    }
}

/* ---- what libcurl says ---- */

static void end_transfer(http_op *h, CURLcode how)
{
    if (how != CURLE_OPERATION_TIMEDOUT) {
        http_opened(h); /* its host was looked up to the end, well or not */
    }
    http_remove(h);
    http_ended(h, how);
}

static void take_ended(http_loop *l)
{
    CURLMsg *message;
    int      left;

    while ((message = curl_multi_info_read(l->multi, &left)) != NULL) {
        char    *private = NULL;
        CURLcode how = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        http_op *h = (http_op *)(void *)private;
        end_transfer(h, how);
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
    uv_timer_init(e->opt.loop, &l->due);
    l->due_ms = INT64_MAX;
    l->timer.data = l->due.data = l;
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
        uv_close((uv_handle_t *)&l->timer, close_due);
        e->http = NULL;
    }
}

bool http_add(http_op *h, depot_err *err)
{
    engine *e = h->engine;

    if (e->http == NULL && (e->http = open_loop(e)) == NULL) {
        return DEPOT_FAIL(err, MEMORY, "no memory for requests");
    }
    http_loop *l = e->http;
    bool has_place = h->is_literal || l->opening < OPENING_MAX;
    if (h->alone != NULL && !has_place) {
        return DEPOT_FAIL(err, UNAVAILABLE, "%d requests look up their hosts or connect, and this one cannot wait here", OPENING_MAX);
    }
    if (has_place) {
        return start(l, h) || DEPOT_FAIL(err, MEMORY, "no memory for a request");
    }
    h->waiting = true;
    h->next = NULL;
    *(l->first == NULL ? &l->first : &l->last->next) = h;
    l->last = h;
    if (h->due_ms < l->due_ms) {
        arm(l, h->due_ms);
    }
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
        cut_off(h);
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
        end_transfer(h, how);
    }
    if (!o->finished && left > 0) {
        curl_multi_poll(h->alone, NULL, 0, left > 100 ? 100 : (int)left, NULL);
    }
}
