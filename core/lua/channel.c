/* channel.c - frames over a non-blocking socket. A sender writes at once if nothing waits; the loop is asked only when
 * the socket is full. */
#include "lua/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_BLOCK_BYTES = 65536, READS_PER_TURN = 16, KEEP_BYTES = 1 << 20 };

struct channel {
    loop         *loop;
    int           fd;
    uv_poll_t     poll;
    channel_calls calls;
    wire_reader   in;
    bool          closing;

    pthread_mutex_t lock; /* guards what follows */
    depot_buf       out;
    size_t          sent;        /* of out */
    bool            wants_write; /* the loop was asked to tell when the socket takes more */
    bool            broken;
    size_t          posted; /* calls of arm under way on the loop */
    bool            gone;   /* closed: the last of those frees it */
};

static void channel_free(channel *c)
{
    depot_buf_free(&c->out);
    wire_reader_free(&c->in);
    pthread_mutex_destroy(&c->lock);
    depot_fd_close(&c->fd);
    free(c);
}

/* Under the lock. */
static void push(channel *c)
{
    while (c->sent < c->out.len && !c->broken) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            c->sent += (size_t)n;
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            c->broken = true; /* the reading side sees the end too and tells */
        }
    }
    if (c->out.cap > KEEP_BYTES) {
        depot_buf_free(&c->out);
    }
    depot_buf_reset(&c->out);
    c->sent = 0;
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void watch(channel *c, bool writing)
{
    uv_poll_start(&c->poll, UV_READABLE | (writing ? UV_WRITABLE : 0), on_poll); /* fails on closed handles only */
}

static void arm(void *arg)
{
    channel *c = arg;
    bool     last;

    pthread_mutex_lock(&c->lock);
    c->posted--;
    last = c->gone && c->posted == 0;
    if (!c->closing) {
        watch(c, c->wants_write);
    }
    pthread_mutex_unlock(&c->lock);
    if (last) {
        channel_free(c);
    }
}

/* Under the lock: asks the loop to tell when the socket takes more. */
static void ask(channel *c)
{
    if (c->sent < c->out.len && !c->wants_write && !c->broken && !c->gone) {
        c->wants_write = true;
        c->posted++;
        loop_post(c->loop, arm, c);
    }
}

void channel_flush(channel *c)
{
    pthread_mutex_lock(&c->lock);
    push(c);
    ask(c);
    pthread_mutex_unlock(&c->lock);
}

void channel_send(channel *c, wire_type type, uint64_t id, const depot_json *head, const char *text, size_t n)
{
    pthread_mutex_lock(&c->lock);
    if (!c->broken) {
        wire_put_json(&c->out, type, id, head, text, n);
        if (!c->wants_write) {
            push(c);
        }
        ask(c);
    }
    pthread_mutex_unlock(&c->lock);
}

size_t channel_waiting(channel *c)
{
    pthread_mutex_lock(&c->lock);
    size_t n = c->out.len - c->sent;
    pthread_mutex_unlock(&c->lock);
    return n;
}

/* ---- on the loop ---- */

static void finish(channel *c, const depot_err *err)
{
    uv_poll_stop(&c->poll);
    c->calls.end(c->calls.arg, err);
}

/* false: the channel has ended or was closed by a callback. */
static bool deliver(channel *c)
{
    wire_frame frame;
    depot_err  err = { 0 };

    for (;;) {
        wire_state state = wire_reader_next(&c->in, &frame, &err);
        if (state == WIRE_MORE) {
            return true;
        }
        if (state == WIRE_BAD) {
            finish(c, &err);
            return false;
        }
        c->calls.frame(c->calls.arg, &frame);
        if (c->closing) {
            return false;
        }
    }
}

static void read_some(channel *c)
{
    char block[READ_BLOCK_BYTES];

    for (int i = 0; i < READS_PER_TURN; i++) {
        ssize_t n = recv(c->fd, block, sizeof(block), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (n <= 0) {
            depot_err err = { 0 };
            if (n == 0) {
                (void)DEPOT_FAIL(&err, IO, "the other side has closed the connection");
            } else {
                (void)DEPOT_FAIL_ERRNO(&err, "cannot read from the other side");
            }
            finish(c, &err);
            return;
        }
        wire_reader_add(&c->in, block, (size_t)n);
        if (!deliver(c)) {
            return;
        }
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    channel *c = poll->data;

    if (status == 0 && (events & UV_WRITABLE) != 0) {
        pthread_mutex_lock(&c->lock);
        push(c);
        c->wants_write = c->sent < c->out.len && !c->broken;
        watch(c, c->wants_write);
        pthread_mutex_unlock(&c->lock);
    }
    if (status != 0 || (events & (UV_READABLE | UV_DISCONNECT)) != 0) {
        read_some(c);
    }
}

/* Frames that came before the channel was made. */
static void deliver_first(void *arg)
{
    channel *c = arg;
    bool     last;

    pthread_mutex_lock(&c->lock);
    c->posted--;
    last = c->gone && c->posted == 0;
    pthread_mutex_unlock(&c->lock);
    if (last) {
        channel_free(c);
    } else if (!c->closing) {
        (void)deliver(c); /* what it tells concerns readers only */
    }
}

channel *channel_new(loop *l, int fd, wire_reader *read_before, const channel_calls *calls)
{
    channel *c = depot_xalloc(sizeof(*c));

    c->loop = l;
    c->fd = fd;
    c->calls = *calls;
    if (read_before != NULL) {
        c->in = *read_before;
        *read_before = (wire_reader){ 0 };
    }
    pthread_mutex_init(&c->lock, NULL);
    c->poll.data = c;
    if (uv_poll_init(loop_uv(l), &c->poll, fd) != 0) {
        abort(); /* a socket always can be polled */
    }
    c->posted = 1;
    loop_post(l, deliver_first, c);
    watch(c, false);
    return c;
}

static void on_closed(uv_handle_t *handle)
{
    channel *c = handle->data;
    bool     last;

    pthread_mutex_lock(&c->lock);
    c->gone = true;
    last = c->posted == 0;
    pthread_mutex_unlock(&c->lock);
    if (last) {
        channel_free(c);
    }
}

void channel_close(channel *c)
{
    c->closing = true;
    pthread_mutex_lock(&c->lock);
    c->broken = true;
    pthread_mutex_unlock(&c->lock);
    uv_close((uv_handle_t *)&c->poll, on_closed);
}
