/* sqltext.c - finds statements in SQL text the way psql does: far from a parser, enough to tell a line. */
#include "db/sqltext.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

size_t sqltext_line(const char *sql, size_t position)
{
    size_t line = 1;
    size_t seen = 0;

    for (const char *p = sql; *p != '\0'; p++) {
        seen += ((unsigned char)*p & 0xC0) != 0x80 ? 1 : 0; /* characters, not bytes */
        if (seen >= position) {
            break;
        }
        line += *p == '\n' ? 1 : 0;
    }
    return line;
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || ((unsigned char)c & 0x80) != 0;
}

static const char *skip_line(const char *p)
{
    return p + strcspn(p, "\n");
}

static const char *skip_block(const char *p)
{
    int depth = 0;

    do {
        if (strncmp(p, "/*", 2) == 0) {
            depth++;
            p += 2;
        } else if (strncmp(p, "*/", 2) == 0) {
            depth--;
            p += 2;
        } else if (*p != '\0') {
            p++;
        }
    } while (depth > 0 && *p != '\0');
    return p;
}

/* A doubled quote inside ends one text and begins the next, which comes to the same. */
static const char *skip_quoted(const char *p, bool has_escapes)
{
    char quote = *p++;

    while (*p != '\0' && *p != quote) {
        p += has_escapes && *p == '\\' && p[1] != '\0' ? 2 : 1;
    }
    return *p == '\0' ? p : p + 1;
}

/* $tag$ ... $tag$; a lone $ (as in $1) is one character. */
static const char *skip_dollar(const char *p)
{
    const char *tag_end = p + 1;

    while (is_word(*tag_end) && !(tag_end == p + 1 && isdigit((unsigned char)*tag_end))) {
        tag_end++;
    }
    if (*tag_end != '$') {
        return p + 1;
    }
    size_t n = (size_t)(tag_end - p) + 1;
    for (const char *q = tag_end + 1; *q != '\0'; q++) {
        if (strncmp(q, p, n) == 0) {
            return q + n;
        }
    }
    return p + strlen(p);
}

typedef struct scan {
    int  parens;
    int  blocks; /* inside of begin atomic ... end: begin and case open, end closes */
    bool after_begin;
} scan;

static const char *skip_word(scan *s, const char *p)
{
    size_t n = 0;

    while (is_word(p[n])) {
        n++;
    }
    bool is_begin = n == 5 && strncasecmp(p, "begin", n) == 0;
    bool is_case = n == 4 && strncasecmp(p, "case", n) == 0;
    if (n == 6 && strncasecmp(p, "atomic", n) == 0 && s->after_begin) {
        s->blocks++;
    } else if (s->blocks > 0 && is_case) {
        s->blocks++;
    } else if (s->blocks > 0 && n == 3 && strncasecmp(p, "end", n) == 0) {
        s->blocks--;
    }
    s->after_begin = is_begin;
    return p + n;
}

static bool begins_comment(const char *p)
{
    return strncmp(p, "--", 2) == 0 || strncmp(p, "/*", 2) == 0;
}

static const char *skip_comment(const char *p)
{
    return *p == '-' ? skip_line(p) : skip_block(p);
}

/* One token of a statement; *out_ends: it was the semicolon behind it. */
static const char *skip_token(scan *s, const char *p, bool *out_ends)
{
    bool has_escapes = (*p == 'e' || *p == 'E') && p[1] == '\'';

    *out_ends = false;
    if (has_escapes) {
        return skip_quoted(p + 1, true);
    }
    if (*p == '\'' || *p == '"') {
        return skip_quoted(p, false);
    }
    if (*p == '$') {
        return skip_dollar(p);
    }
    if (is_word(*p)) {
        return skip_word(s, p);
    }
    s->parens += *p == '(' ? 1 : *p == ')' ? -1 : 0;
    *out_ends = *p == ';' && s->parens <= 0 && s->blocks == 0;
    return p + 1;
}

static size_t line_at(const char *sql, const char *p)
{
    size_t line = 1;

    for (const char *q = sql; q < p; q++) {
        line += *q == '\n' ? 1 : 0;
    }
    return line;
}

size_t sqltext_statement_line(const char *sql, size_t index)
{
    scan        s = { 0 };
    const char *begin = NULL; /* of the statement that p is in */
    size_t      count = 0;
    const char *p = sql;

    while (*p != '\0') {
        bool ends = false;
        if (isspace((unsigned char)*p)) {
            p++;
            continue;
        }
        if (begins_comment(p)) {
            p = skip_comment(p);
            continue;
        }
        const char *token = p;
        p = skip_token(&s, p, &ends);
        if (ends) {
            count += begin != NULL ? 1 : 0;
            begin = NULL;
            s = (scan){ 0 };
        } else if (begin == NULL) {
            begin = token;
            if (count == index) {
                return line_at(sql, begin);
            }
        }
    }
    return line_at(sql, p);
}
