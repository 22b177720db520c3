/* suggest.c - "did you mean": edit distance in which swapping two neighbours counts as one edit. */
#include <string.h>

#include "depot/base.h"

#define SUGGEST_MAX 64U /* longer words are no typing mistakes */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Three rows of the matrix are enough: the one being made, the one before, and the one before that for swaps. */
static size_t distance(const char *a, size_t na, const char *b, size_t nb)
{
    size_t rows[3][SUGGEST_MAX + 1];

    for (size_t j = 0; j <= nb; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= na; i++) {
        size_t       *now = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3];
        const size_t *before = rows[(i + 1) % 3];

        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t change = above[j - 1] + (a[i - 1] != b[j - 1]);
            now[j] = smaller(change, smaller(above[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                now[j] = smaller(now[j], before[j - 2] + 1);
            }
        }
    }
    return rows[na % 3][nb];
}

const char *depot_suggest(const char *word, const char *const *names, size_t n)
{
    size_t      length = strlen(word);
    size_t      best = length / 3 + 2;
    const char *found = NULL;

    if (length > SUGGEST_MAX) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        size_t other = names[i] == NULL ? SUGGEST_MAX + 1 : strlen(names[i]);
        if (other > SUGGEST_MAX) {
            continue;
        }
        size_t d = distance(word, length, names[i], other);
        if (d < best) {
            best = d;
            found = names[i];
        }
    }
    return found;
}
