/* arena.c - memory: arenas for units of work, checked heap memory, growing buffers.
 * An arena only grows until it is freed, so zeroed chunks are zeroed memory for good. Under AddressSanitizer the unused
 * rest of each chunk is poisoned and a gap is left after every piece. */
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/abort.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#endif

#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define ARENA_GAP 16U
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ARENA_GAP                         0U
#endif

#define ARENA_FIRST_BYTES 4000U /* with chunk header and malloc's own below a page */
#define ARENA_MOST_BYTES  (256U * 1024U)

typedef struct arena_chunk {
    struct arena_chunk *next;
    size_t              cap, used;
    alignas(max_align_t) char data[];
} arena_chunk;

typedef struct arena_deferred {
    struct arena_deferred *next;
    void (*fn)(void *);
    void *ptr;
} arena_deferred;

struct depot_arena {
    arena_chunk    *chunks; /* the first one is being filled */
    arena_deferred *deferred;
    size_t          chunk_bytes; /* size of the next chunk */
};

static void *checked(void *p, size_t size)
{
    if (p == NULL) {
        base_abort("out of memory (%zu bytes wanted)", size);
    }
    return p;
}

static arena_chunk *chunk_new(size_t cap)
{
    arena_chunk *chunk = checked(calloc(1, sizeof(*chunk) + cap), cap);

    chunk->cap = cap;
    ASAN_POISON_MEMORY_REGION(chunk->data, cap);
    return chunk;
}

depot_arena *depot_arena_new(void)
{
    depot_arena *arena = depot_xalloc(sizeof(*arena));

    arena->chunk_bytes = ARENA_FIRST_BYTES;
    return arena;
}

void depot_arena_free(depot_arena *arena)
{
    if (arena == NULL) {
        return;
    }
    while (arena->deferred != NULL) {
        arena_deferred *d = arena->deferred;
        arena->deferred = d->next;
        d->fn(d->ptr);
    }
    while (arena->chunks != NULL) {
        arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        ASAN_UNPOISON_MEMORY_REGION(chunk->data, chunk->cap);
        free(chunk);
    }
    free(arena);
}

void depot_arena_drop(depot_arena **arena)
{
    depot_arena_free(*arena);
    *arena = NULL;
}

/* A chunk with room for size bytes. A large piece gets a chunk of its own behind the one that is being filled. */
static arena_chunk *arena_room(depot_arena *arena, size_t size)
{
    arena_chunk *first = arena->chunks;

    if (first != NULL && first->cap - first->used >= size) {
        return first;
    }
    if (first != NULL && size > arena->chunk_bytes / 4) {
        arena_chunk *own = chunk_new(size);
        own->next = first->next;
        first->next = own;
        return own;
    }
    arena_chunk *chunk = chunk_new(size > arena->chunk_bytes ? size : arena->chunk_bytes);
    chunk->next = first;
    arena->chunks = chunk;
    if (arena->chunk_bytes < ARENA_MOST_BYTES) {
        arena->chunk_bytes *= 2;
    }
    return chunk;
}

void *depot_alloc(depot_arena *arena, size_t size)
{
    const size_t align = alignof(max_align_t);

    if (size > PTRDIFF_MAX / 2) {
        base_abort("out of memory (%zu bytes wanted)", size);
    }
    size_t       whole = (size + ARENA_GAP + (size == 0) + align - 1) / align * align;
    arena_chunk *chunk = arena_room(arena, whole);
    char        *p = chunk->data + chunk->used;

    chunk->used += whole;
    ASAN_UNPOISON_MEMORY_REGION(p, size);
    return p;
}

void depot_defer(depot_arena *arena, void (*fn)(void *), void *ptr)
{
    arena_deferred *d = depot_alloc(arena, sizeof(*d));

    *d = (arena_deferred){ .next = arena->deferred, .fn = fn, .ptr = ptr };
    arena->deferred = d;
}

char *depot_strvf(depot_arena *arena, const char *fmt, va_list ap)
{
    va_list again;

    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0) {
        base_abort("a text of format \"%s\" cannot be made", fmt);
    }
    char *text = depot_alloc(arena, (size_t)n + 1);
    (void)vsnprintf(text, (size_t)n + 1, fmt, again); /* its length is known from above */
    va_end(again);
    return text;
}

char *depot_strf(depot_arena *arena, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    char *text = depot_strvf(arena, fmt, ap);
    va_end(ap);
    return text;
}

char *depot_strndup(depot_arena *arena, const char *s, size_t n)
{
    char *copy = depot_alloc(arena, n + 1);

    if (n > 0) {
        memcpy(copy, s, n);
    }
    return copy;
}

char *depot_strdup(depot_arena *arena, const char *s)
{
    return s == NULL ? NULL : depot_strndup(arena, s, strlen(s));
}

void *depot_xalloc(size_t size)
{
    return checked(calloc(1, size > 0 ? size : 1), size);
}

void *depot_xrealloc(void *p, size_t size)
{
    return checked(realloc(p, size > 0 ? size : 1), size);
}

char *depot_xstrdup(const char *s)
{
    return checked(strdup(s), strlen(s) + 1);
}

/* Room for n more bytes and the NUL. */
static void buf_reserve(depot_buf *buf, size_t n)
{
    if (n > PTRDIFF_MAX / 2 - buf->len) {
        base_abort("out of memory (%zu bytes wanted)", n);
    }
    size_t want = buf->len + n + 1;
    if (want <= buf->cap) {
        return;
    }
    size_t cap = buf->cap < 64 ? 64 : buf->cap;
    while (cap < want) {
        cap *= 2;
    }
    buf->data = depot_xrealloc(buf->data, cap);
    buf->cap = cap;
}

void depot_buf_add(depot_buf *buf, const void *p, size_t n)
{
    buf_reserve(buf, n);
    if (n > 0) {
        memcpy(buf->data + buf->len, p, n);
    }
    buf->len += n;
    buf->data[buf->len] = '\0';
}

void depot_buf_adds(depot_buf *buf, const char *s)
{
    depot_buf_add(buf, s, strlen(s));
}

void depot_buf_addf(depot_buf *buf, const char *fmt, ...)
{
    va_list ap;

    buf_reserve(buf, 120); /* most formatted pieces fit at the first go */
    va_start(ap, fmt);
    int n = vsnprintf(buf->data + buf->len, buf->cap - buf->len, fmt, ap);
    va_end(ap);
    if (n < 0) {
        base_abort("a text of format \"%s\" cannot be made", fmt);
    }
    if ((size_t)n >= buf->cap - buf->len) {
        buf_reserve(buf, (size_t)n);
        va_start(ap, fmt);
        (void)vsnprintf(buf->data + buf->len, buf->cap - buf->len, fmt, ap); /* its length is known from above */
        va_end(ap);
    }
    buf->len += (size_t)n;
}

void depot_buf_reset(depot_buf *buf)
{
    buf->len = 0;
    if (buf->data != NULL) {
        buf->data[0] = '\0';
    }
}

void depot_buf_free(depot_buf *buf)
{
    free(buf->data);
    *buf = (depot_buf){ 0 };
}
