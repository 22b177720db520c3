/* ring.c - a bounded byte queue. */
#include <stdlib.h>
#include <string.h>

#include "api/ring.h"

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t ring_room(const ring *r)
{
    return RING_SIZE - r->len;
}

size_t ring_put(ring *r, const void *p, size_t n)
{
    if (r->data == NULL) {
        r->data = depot_xalloc(RING_SIZE);
    }
    n = least(n, ring_room(r));
    size_t tail = (r->head + r->len) % RING_SIZE;
    size_t first = least(n, RING_SIZE - tail);
    memcpy(r->data + tail, p, first);
    memcpy(r->data, (const char *)p + first, n - first);
    r->len += n;
    return n;
}

size_t ring_get(ring *r, void *p, size_t n)
{
    n = least(n, r->len);
    if (n == 0) {
        return 0;
    }
    size_t first = least(n, RING_SIZE - r->head);
    memcpy(p, r->data + r->head, first);
    memcpy((char *)p + first, r->data, n - first);
    r->len -= n;
    r->head = r->len == 0 ? 0 : (r->head + n) % RING_SIZE;
    return n;
}

void ring_free(ring *r)
{
    free(r->data);
    *r = (ring){ 0 };
}
