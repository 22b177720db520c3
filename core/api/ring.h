/* ring.h - a bounded byte queue between a connection and a handler. Not locked: the request's lock guards it. */
#ifndef API_RING_H
#define API_RING_H

#include "depot/base.h"

enum { RING_SIZE = 256 * 1024 };

typedef struct ring {
    char  *data; /* NULL until the first byte */
    size_t head, len;
} ring;

size_t ring_put(ring *r, const void *p, size_t n); /* takes what fits, returns how much */
size_t ring_get(ring *r, void *p, size_t n);       /* gives what there is, returns how much */
size_t ring_room(const ring *r);
void   ring_free(ring *r);

#endif
