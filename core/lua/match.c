/* match.c - backtracking over Lua patterns; every step is counted. Recursion is as deep as in Lua: 200. */
#include "lua/match.h"

#include <ctype.h>
#include <string.h>

enum { DEPTH_MAX = 200, STEPS_BASE = 1000000, STEPS_PER_BYTE = 100, LOOK_UP_STEPS = 1024 };

static const char *fail(match *m, const char *error)
{
    if (m->error == NULL) {
        m->error = error;
    }
    return NULL;
}

void match_init(match *m, const char *src, size_t src_n, const char *pattern, size_t pattern_n,
                const volatile sig_atomic_t *stop)
{
    m->src = src;
    m->src_end = src + src_n;
    m->pattern_end = pattern + pattern_n;
    m->level = 0;
    m->depth = 0;
    m->steps = STEPS_BASE + STEPS_PER_BYTE * src_n;
    m->stop = stop;
    m->error = NULL;
    m->error_index = 0;
}

bool match_is_plain(const char *pattern, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (pattern[i] != '\0' && strchr("^$*+?.([%-", pattern[i]) != NULL) {
            return false;
        }
    }
    return true;
}

/* false: the work is over its limit or somebody wants it to end. */
static bool step(match *m)
{
    if (m->steps == 0) {
        (void)fail(m, "pattern takes too many steps");
        return false;
    }
    m->steps--;
    if (m->steps % LOOK_UP_STEPS == 0 && m->stop != NULL && *m->stop != 0) {
        (void)fail(m, "stopped");
        return false;
    }
    return m->error == NULL;
}

static bool in_class(int c, int class_letter)
{
    bool is;

    /* clang-format off */
    switch (tolower(class_letter)) {
    case 'a': is = isalpha(c); break;
    case 'c': is = iscntrl(c); break;
    case 'd': is = isdigit(c); break;
    case 'g': is = isgraph(c); break;
    case 'l': is = islower(c); break;
    case 'p': is = ispunct(c); break;
    case 's': is = isspace(c); break;
    case 'u': is = isupper(c); break;
    case 'w': is = isalnum(c); break;
    case 'x': is = isxdigit(c); break;
    case 'z': is = c == '\0'; break; /* of old: Lua still takes it */
    default: return class_letter == c;
    }
    /* clang-format on */
    return isupper(class_letter) ? !is : is;
}

/* p stands at '[', end at its ']'. */
static bool in_set(int c, const char *p, const char *end)
{
    bool wanted = true;

    if (p[1] == '^') {
        wanted = false;
        p++;
    }
    for (p++; p < end; p++) {
        if (*p == '%') {
            p++;
            if (in_class(c, (unsigned char)*p)) {
                return wanted;
            }
        } else if (p[1] == '-' && p + 2 < end) {
            if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2]) {
                return wanted;
            }
            p += 2;
        } else if ((unsigned char)*p == c) {
            return wanted;
        }
    }
    return !wanted;
}

/* Past the single character, class or set at p; NULL: the pattern is wrong. */
static const char *item_end(match *m, const char *p)
{
    if (*p == '%') {
        return p + 1 == m->pattern_end ? fail(m, "malformed pattern (ends with '%')") : p + 2;
    }
    if (*p != '[') {
        return p + 1;
    }
    p++;
    if (p < m->pattern_end && *p == '^') {
        p++;
    }
    do { /* a ']' in first place is a character like others */
        if (p == m->pattern_end) {
            return fail(m, "malformed pattern (missing ']')");
        }
        if (*p++ == '%') {
            p++; /* one past the end is caught above, or below by not being ']' */
        }
        if (p > m->pattern_end) {
            return fail(m, "malformed pattern (missing ']')");
        }
    } while (p == m->pattern_end || *p != ']');
    return p + 1;
}

static bool single(const match *m, const char *s, const char *p, const char *end)
{
    if (s >= m->src_end) {
        return false;
    }
    int c = (unsigned char)*s;
    switch (*p) {
    case '.':
        return true;
    case '%':
        return in_class(c, (unsigned char)p[1]);
    case '[':
        return in_set(c, p, end - 1);
    default:
        return (unsigned char)*p == c;
    }
}

/* %bxy, p stands at x. */
static const char *balance(match *m, const char *s, const char *p)
{
    int open = 1;

    if (p + 1 >= m->pattern_end) {
        return fail(m, "malformed pattern (missing arguments to '%b')");
    }
    if (s >= m->src_end || *s != p[0]) {
        return NULL;
    }
    for (s++; s < m->src_end && step(m); s++) {
        if (*s == p[1]) {
            if (--open == 0) {
                return s + 1;
            }
        } else if (*s == p[0]) {
            open++;
        }
    }
    return NULL;
}

static const char *longest(match *m, const char *s, const char *p, const char *end)
{
    ptrdiff_t n = 0;

    while (single(m, s + n, p, end)) {
        n++;
        if (!step(m)) {
            return NULL;
        }
    }
    for (; n >= 0; n--) {
        const char *found = match_at(m, s + n, end + 1);
        if (found != NULL || m->error != NULL) {
            return found;
        }
    }
    return NULL;
}

static const char *shortest(match *m, const char *s, const char *p, const char *end)
{
    for (;;) {
        const char *found = match_at(m, s, end + 1);
        if (found != NULL || m->error != NULL) {
            return found;
        }
        if (!single(m, s, p, end)) {
            return NULL;
        }
        s++;
    }
}

static const char *open_capture(match *m, const char *s, const char *p, ptrdiff_t what)
{
    if (m->level >= MATCH_CAPTURES_MAX) {
        return fail(m, "too many captures");
    }
    m->captures[m->level].start = s;
    m->captures[m->level].n = what;
    m->level++;
    const char *found = match_at(m, s, p);
    if (found == NULL) {
        m->level--;
    }
    return found;
}

static const char *close_capture(match *m, const char *s, const char *p)
{
    int i = m->level - 1;

    while (i >= 0 && m->captures[i].n != MATCH_UNFINISHED) {
        i--;
    }
    if (i < 0) {
        return fail(m, "invalid pattern capture");
    }
    m->captures[i].n = s - m->captures[i].start;
    const char *found = match_at(m, s, p);
    if (found == NULL) {
        m->captures[i].n = MATCH_UNFINISHED;
    }
    return found;
}

/* %1: what the capture holds must stand here again. */
static const char *repeated(match *m, const char *s, int digit)
{
    int i = digit - '1';

    if (i < 0 || i >= m->level || m->captures[i].n == MATCH_UNFINISHED) {
        m->error_index = i + 1;
        return fail(m, "invalid capture index %%%d in pattern");
    }
    ptrdiff_t n = m->captures[i].n;
    return n >= 0 && m->src_end - s >= n && memcmp(m->captures[i].start, s, (size_t)n) == 0 ? s + n : NULL;
}

/* %f[set], p stands at the set. Past the edges of the subject is a NUL. */
static bool at_frontier(match *m, const char *s, const char *p, const char **out_after)
{
    if (p >= m->pattern_end || *p != '[') {
        (void)fail(m, "missing '[' after '%f' in pattern");
        return false;
    }
    const char *end = item_end(m, p);
    if (end == NULL) {
        return false;
    }
    *out_after = end;
    int before = s == m->src ? '\0' : (unsigned char)s[-1];
    int here = s < m->src_end ? (unsigned char)*s : '\0';
    return !in_set(before, p, end - 1) && in_set(here, p, end - 1);
}

/* One of %b %f %1 at p. Returns false if it is none of them; else *out_s is where to go on, NULL: no match. */
static bool special(match *m, const char *s, const char *p, const char **out_s, const char **out_p)
{
    char letter = p + 1 < m->pattern_end ? p[1] : '\0';

    if (letter == 'b') {
        *out_s = balance(m, s, p + 2);
        *out_p = p + 4;
        return true;
    }
    if (letter == 'f') {
        *out_s = at_frontier(m, s, p + 2, out_p) ? s : NULL;
        return true;
    }
    if (isdigit((unsigned char)letter)) {
        *out_s = repeated(m, s, letter);
        *out_p = p + 2;
        return true;
    }
    return false;
}

/* The rest of the pattern, when its item at p is a single one that ends at `end` with a repetition mark or without.
 * Sets *out_go_on when the caller's loop is to continue at *s, *p. */
static const char *repeat(match *m, const char **s, const char **p, const char *end, bool *out_go_on)
{
    char        mark = end < m->pattern_end ? *end : '\0';
    const char *found = NULL;

    *out_go_on = false;
    switch (mark) {
    case '?':
        if (single(m, *s, *p, end)) {
            found = match_at(m, *s + 1, end + 1);
        }
        *out_go_on = found == NULL && m->error == NULL;
        *p = end + 1;
        return found;
    case '+':
        return single(m, *s, *p, end) ? longest(m, *s + 1, *p, end) : NULL;
    case '*':
        return longest(m, *s, *p, end);
    case '-':
        return shortest(m, *s, *p, end);
    default:
        *out_go_on = single(m, *s, *p, end);
        *s += 1;
        *p = end;
        return NULL;
    }
}

static const char *bracket(match *m, const char *s, const char *p)
{
    if (*p == ')') {
        return close_capture(m, s, p + 1);
    }
    return p + 1 < m->pattern_end && p[1] == ')' ? open_capture(m, s, p + 2, MATCH_POSITION)
                                                 : open_capture(m, s, p + 1, MATCH_UNFINISHED);
}

static const char *walk(match *m, const char *s, const char *p)
{
    while (p < m->pattern_end && step(m)) {
        bool go_on;
        if (*p == '(' || *p == ')') {
            return bracket(m, s, p);
        }
        if (*p == '$' && p + 1 == m->pattern_end) {
            return s == m->src_end ? s : NULL;
        }
        if (*p == '%' && special(m, s, p, &s, &p)) {
            if (s == NULL) {
                return NULL;
            }
            continue;
        }
        const char *end = item_end(m, p);
        if (end == NULL) {
            return NULL;
        }
        const char *found = repeat(m, &s, &p, end, &go_on);
        if (!go_on) {
            return found;
        }
    }
    return m->error == NULL ? s : NULL;
}

const char *match_at(match *m, const char *s, const char *p)
{
    if (m->depth >= DEPTH_MAX) {
        return fail(m, "pattern too complex");
    }
    m->depth++;
    const char *found = walk(m, s, p);
    m->depth--;
    return found;
}
