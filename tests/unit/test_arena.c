/* test_arena.c - arenas, heap memory and buffers. Most of it means something only under AddressSanitizer as well. */
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>

#include "depot/base.h"
#include "tap.h"

static bool all_zero(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
    return true;
}

static void pieces_are_zeroed_aligned_and_apart(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    static const size_t                       sizes[] = { 0, 1, 7, 16, 100, 3999, 4000, 4001, 70000, 300000, 1, 5000 };
    char                                     *pieces[DEPOT_N(sizes) * 50];
    size_t                                    bad_zero = 0;
    size_t                                    bad_align = 0;
    size_t                                    overwritten = 0;

    for (size_t i = 0; i < DEPOT_N(pieces); i++) {
        size_t n = sizes[i % DEPOT_N(sizes)];
        pieces[i] = depot_alloc(arena, n);
        bad_zero += !all_zero(pieces[i], n);
        bad_align += (uintptr_t)pieces[i] % 16 != 0;
        memset(pieces[i], (int)(i % 250 + 1), n);
    }
    for (size_t i = 0; i < DEPOT_N(pieces); i++) {
        for (size_t k = 0; k < sizes[i % DEPOT_N(sizes)]; k++) {
            overwritten += pieces[i][k] != (char)(i % 250 + 1);
        }
    }
    is_int(bad_zero, 0, "all are zeroed");
    is_int(bad_align, 0, "all are aligned to 16");
    is_int(overwritten, 0, "none reaches into another");
    ok(depot_alloc(arena, 0) != depot_alloc(arena, 0), "pieces of no bytes have different addresses");
}

static char order[8];
static void note_order(void *ptr)
{
    size_t n = strlen(order);

    order[n] = *(const char *)ptr;
}

typedef struct deferring {
    depot_arena *arena;
    char        *letter;
} deferring;

static void defer_once_more(void *ptr)
{
    deferring *d = ptr;

    note_order(d->letter);
    depot_defer(d->arena, note_order, depot_strdup(d->arena, "x"));
}

static void deferred_functions_run_last_first(void)
{
    depot_arena *arena = depot_arena_new();
    deferring   *d = depot_alloc(arena, sizeof(*d));

    memset(order, 0, sizeof(order));
    *d = (deferring){ arena, depot_strdup(arena, "c") };
    depot_defer(arena, note_order, depot_strdup(arena, "a"));
    depot_defer(arena, note_order, depot_strdup(arena, "b"));
    depot_defer(arena, defer_once_more, d);
    is_str(order, "", "not before the end");
    depot_arena_drop(&arena);
    is_str(order, "cxba", "last first, with memory still there, and one deferred by a deferred one");
    ok(arena == NULL, "drop clears the variable");
    depot_arena_free(NULL);
    depot_arena_drop(&arena);
}

static void texts_are_copied(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    char                                      long_text[9001];

    memset(long_text, 'l', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    is_str(depot_strf(arena, "%s-%d", "a", 5), "a-5", "formatted");
    is_str(depot_strf(arena, "%s", long_text), long_text, "formatted, longer than a chunk");
    is_str(depot_strdup(arena, "copy"), "copy", "copied");
    ok(depot_strdup(arena, NULL) == NULL, "NULL stays NULL");
    is_str(depot_strndup(arena, "abcdef", 3), "abc", "a part ends in NUL");
    is_str(depot_strndup(arena, NULL, 0), "", "no bytes of nothing");
}

static void heap_memory_is_never_null(void)
{
    char *p = depot_xalloc(0);

    ok(p != NULL, "no bytes");
    free(p);
    p = depot_xalloc(1000);
    ok(all_zero(p, 1000), "zeroed");
    p = depot_xrealloc(p, 0);
    ok(p != NULL, "shrunk to nothing");
    free(p);
    p = depot_xstrdup("x");
    is_str(p, "x", "copied");
    free(p);
}

static void exhausted_memory_ends_the_process(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        depot_arena *arena = depot_arena_new();
        (void)signal(SIGABRT, SIG_DFL);
        (void)close(STDERR_FILENO);
        (void)depot_alloc(arena, SIZE_MAX - 8);
        _exit(0);
    }
    int status = 0;
    is_int(waitpid(pid, &status, 0), pid, "the child ended");
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "by SIGABRT");
}

static void buffers_grow(void)
{
    DEPOT_AUTO(depot_buf_free) depot_buf buf = { 0 };
    size_t                               bad = 0;

    depot_buf_adds(&buf, "");
    is_str(buf.data, "", "even nothing gives a text");
    for (int i = 0; i < 5000; i++) {
        depot_buf_add(&buf, "ab", 2);
        bad += buf.data[buf.len] != '\0' || buf.cap <= buf.len;
    }
    is_int(buf.len, 10000, "length");
    is_int(bad, 0, "always ends in NUL");
    depot_buf_reset(&buf);
    is_str(buf.data, "", "reset empties");
    depot_buf_addf(&buf, "%s|%0300d|", "x", 7);
    is_int(buf.len, 303, "formatted, longer than the first guess");
    depot_buf_addf(&buf, "%d", 42);
    is_str(buf.data + 300, "07|42", "appended behind");
    depot_buf_free(&buf);
    ok(buf.data == NULL && buf.len == 0, "free leaves an empty one");
    depot_buf_reset(&buf);
    depot_buf_adds(&buf, "again");
    is_str(buf.data, "again", "that can be used again");
}

int main(void)
{
    run(pieces_are_zeroed_aligned_and_apart);
    run(deferred_functions_run_last_first);
    run(texts_are_copied);
    run(heap_memory_is_never_null);
    run(exhausted_memory_ends_the_process);
    run(buffers_grow);
    return done();
}
