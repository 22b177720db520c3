/* base/text.h - text helpers that JSON, log and metrics share and plugins do not need. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "depot/base.h"

#define TEXT_DOUBLE_SIZE 40

/* Length of the UTF-8 sequence at s, of which n bytes are there: 1..4, or 0 if it is not valid (or n is 0). */
size_t text_utf8_step(const char *s, size_t n);

/* The longest length <= max at which s (n bytes) may be cut without splitting a UTF-8 sequence. */
size_t text_utf8_cut(const char *s, size_t n, size_t max);

/* Appends s with every byte that is not valid UTF-8, and every NUL, replaced by U+FFFD. */
void text_add_clean(depot_buf *out, const char *s, size_t n);

/* Appends s as the inside of a JSON string, without the quotes; bytes that are not UTF-8 become U+FFFD. Stops before
 * the appended text would exceed max bytes. Returns how many bytes of s were used. */
size_t text_add_escaped(depot_buf *out, const char *s, size_t n, size_t max);

/* The same for people: quotes and backslashes stay, control characters are still written as escapes. */
size_t text_add_printable(depot_buf *out, const char *s, size_t n, size_t max);

/* Shortest decimal text that reads back as the same double: "0.1", "3", "1e+300"; "NaN", "+Inf", "-Inf". */
void text_format_double(double d, char out[TEXT_DOUBLE_SIZE]);

#endif
