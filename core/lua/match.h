/* match.h - Lua 5.4's patterns with a limit on the work: the library's own matcher can take years on a hundred bytes
 * and cannot be interrupted. Knows no Lua state. */
#ifndef LUA_MATCH_H
#define LUA_MATCH_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

enum { MATCH_CAPTURES_MAX = 32 };

typedef struct match {
    const char *src, *src_end, *pattern_end;
    int         level; /* captures, finished or not */
    struct {
        const char *start;
        ptrdiff_t   n; /* or one of the two below */
    } captures[MATCH_CAPTURES_MAX];
    int                          depth;
    size_t                       steps;       /* left */
    const volatile sig_atomic_t *stop;        /* not 0: give up; NULL: nobody asks */
    const char                  *error;       /* set: the pattern is wrong or took too long */
    int                          error_index; /* for the message's %d */
} match;

#define MATCH_UNFINISHED ((ptrdiff_t)-1)
#define MATCH_POSITION   ((ptrdiff_t)-2)

void match_init(match *m, const char *src, size_t src_n, const char *pattern, size_t pattern_n,
                const volatile sig_atomic_t *stop);
/* Matches the pattern from p on at exactly s. The end of the match, or NULL: no match, or error. */
const char *match_at(match *m, const char *s, const char *p);
/* Whether the pattern is plain text. */
bool match_is_plain(const char *pattern, size_t n);

#endif
