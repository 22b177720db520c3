/* channel.h - one end of a socket pair on a loop: frames out from any thread, frames in on the loop's thread. */
#ifndef LUA_CHANNEL_H
#define LUA_CHANNEL_H

#include "lua/wire.h"
#include "run/loop.h"

typedef struct channel channel;
typedef struct channel_calls {
    void (*frame)(void *arg, const wire_frame *frame);
    void (*end)(void            *arg,
                const depot_err *err); /* once: closed by the other side or broken; the channel is to be closed */
    void *arg;
} channel_calls;

/* On the loop's thread. Takes fd over, and what the reader holds already (may be NULL). */
channel *channel_new(loop *l, int fd, wire_reader *read_before, const channel_calls *calls);
/* On the loop's thread; no call comes after it. Nobody may send any more. What was not sent is lost. */
void channel_close(channel *c);
/* Any thread, does not block: what the socket does not take waits in memory. text as in wire_put_json. */
void channel_send(channel *c, wire_type type, uint64_t id, const depot_json *head, const char *text, size_t n);
/* Sends what waits, as far as the socket takes it. Any thread. */
void   channel_flush(channel *c);
size_t channel_waiting(channel *c); /* bytes not sent yet */

#endif
