/* line.c - the guard between a file and libinih: checks every line and counts them.
 *
 * libinih as packaged tells no line numbers, cuts values at 192 bytes and at " ;", takes an indented line for a second
 * value of the key above, and keys below a broken header for keys of the section before. So it gets to see only sound
 * lines, with the number of the section in place of each header's text and the line number in place of each value. */
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "conf/data.h"

#define STRANGE_MAX 10 /* lines that are no text, after which the file is given up */
#define SNIPPET_BYTES 40U

typedef struct ini_source {
    depot_arena   *arena;
    conf_problems *problems;
    const char    *file, *at, *end;
    int            line, strange;
    bool           in_section, is_broken; /* broken: the header was no good, its keys are passed over */
    ini_block     *blocks;
    size_t         n, cap;
    const char    *value; /* of the line that libinih looks at */
} ini_source;

static const char comment_hint[] = "a comment stands on a line of its own, which starts with ; or #";

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void trim(const char **s, size_t *n)
{
    while (*n > 0 && is_blank((*s)[0])) {
        (*s)++;
        (*n)--;
    }
    while (*n > 0 && is_blank((*s)[*n - 1])) {
        (*n)--;
    }
}

bool conf_is_word(const char *s, size_t n, size_t max)
{
    for (size_t i = 0; i < n; i++) {
        bool letter = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z');
        if (!letter && !(s[i] >= '0' && s[i] <= '9') && s[i] != '_' && s[i] != '.' && s[i] != '-') {
            return false;
        }
    }
    return n > 0 && n <= max;
}

/* The start of a text that is not worth showing whole. */
static const char *snippet(const ini_source *src, const char *s, size_t n)
{
    size_t cut = text_utf8_cut(s, n, SNIPPET_BYTES);

    return depot_strf(src->arena, "%.*s%s", (int)cut, s, cut < n ? "..." : "");
}

/* Control characters hide what a file says, and in a value they are hardly meant. */
static const char *control_character(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if ((c < 0x20 && c != '\t') || c == 0x7F) {
            return s + i;
        }
    }
    return NULL;
}

static bool line_is_text(ini_source *src, const char *s, size_t n)
{
    if (memchr(s, '\0', n) != NULL) {
        conf_problem(src->problems, src->file, src->line, "save it as plain UTF-8 text, or move it out of this folder",
                     "this is no text file: a NUL byte stands here");
        src->at = src->end;
        return false;
    }
    bool        valid = depot_utf8_valid(s, n);
    const char *control = control_character(s, n);
    if (valid && control == NULL) {
        return true;
    }
    if (!valid) {
        conf_problem(src->problems, src->file, src->line, "save the file as UTF-8", "this line is not valid UTF-8");
    } else {
        conf_problem(src->problems, src->file, src->line, "a value with control characters comes by ${file:PATH}",
                     "a control character (0x%02x) stands in this line", (unsigned char)*control);
    }
    if (++src->strange == STRANGE_MAX) {
        conf_problem(src->problems, src->file, src->line, NULL, "this is no text file: the rest of it is not read");
        src->at = src->end;
    }
    return false;
}

/* The next line without its end; false at the end of the text. */
static bool next_line(ini_source *src, const char **out, size_t *out_n)
{
    if (src->at >= src->end) {
        return false;
    }
    size_t      left = (size_t)(src->end - src->at);
    const char *newline = memchr(src->at, '\n', left);
    size_t      n = newline == NULL ? left : (size_t)(newline - src->at);

    *out = src->at;
    *out_n = n > 0 && src->at[n - 1] == '\r' ? n - 1 : n;
    src->at = newline == NULL ? src->end : newline + 1;
    src->line++;
    return true;
}

/* What is wrong with the inside of a header, or NULL; cuts it into kind and name. */
static const char *split_header(ini_source *src, const char *s, size_t n, ini_block *block)
{
    size_t kind = 0;

    trim(&s, &n);
    while (kind < n && !is_blank(s[kind])) {
        kind++;
    }
    const char *name = s + kind;
    size_t      name_n = n - kind;
    trim(&name, &name_n);
    if (n == 0) {
        return "the section has no name: []";
    }
    if (!conf_is_word(s, kind, CONF_WORD_MAX)) {
        return depot_strf(src->arena, "\"%s\" is no kind of section: at most %u letters, digits, _ . or -",
                          snippet(src, s, kind), CONF_WORD_MAX);
    }
    if (name_n > 0 && !conf_is_word(name, name_n, CONF_NAME_MAX)) {
        return depot_strf(src->arena, "\"%s\" is no name of a section: at most %u letters, digits, _ . or -",
                          snippet(src, name, name_n), CONF_NAME_MAX);
    }
    block->kind = depot_strndup(src->arena, s, kind);
    block->name = name_n == 0 ? NULL : depot_strndup(src->arena, name, name_n);
    return NULL;
}

static const char *refuse_header(ini_source *src, const char *s, size_t n, ini_block *block, const char **out_hint)
{
    const char *close = memchr(s, ']', n);

    if (close == NULL) {
        return "the section header is not closed: ] is missing";
    }
    const char *rest = close + 1;
    size_t      rest_n = n - (size_t)(rest - s);
    trim(&rest, &rest_n);
    if (rest_n > 0) {
        *out_hint = comment_hint;
        return depot_strf(src->arena, "\"%s\" stands behind the section header", snippet(src, rest, rest_n));
    }
    return split_header(src, s + 1, (size_t)(close - s) - 1, block);
}

static bool take_header(ini_source *src, const char *s, size_t n)
{
    ini_block   block = { .line = src->line };
    const char *hint = "the lines below it are passed over until the next header";
    const char *fault = refuse_header(src, s, n, &block, &hint);

    src->in_section = true;
    src->is_broken = fault != NULL;
    if (fault != NULL) {
        conf_problem(src->problems, src->file, src->line, hint, "%s", fault);
        return false;
    }
    src->blocks = conf_grow(src->arena, src->blocks, src->n, &src->cap, sizeof(*src->blocks));
    src->blocks[src->n++] = block;
    return true;
}

/* What is wrong with `key = value`, or NULL. */
static const char *refuse_option(const ini_source *src, const char *s, const char *equals, size_t key_n, size_t value_n,
                                 const char **out_hint)
{
    if (equals == NULL) {
        *out_hint = "write option = value; a value ends at the end of its line";
        return depot_strf(src->arena, "there is no = in \"%s\"", s);
    }
    if (key_n == 0) {
        return "there is no option in front of =";
    }
    if (!conf_is_word(s, key_n, CONF_WORD_MAX)) {
        return depot_strf(src->arena, "\"%s\" is no name of an option: at most %u letters, digits, _ . or -",
                          snippet(src, s, key_n), CONF_WORD_MAX);
    }
    if (!src->in_section) {
        *out_hint = "begin with a header such as [plugin NAME]";
        return depot_strf(src->arena, "\"%.*s\" stands in front of the first section", (int)key_n, s);
    }
    if (value_n > CONF_VALUE_MAX) {
        *out_hint = "keep large data in a file of its own";
        return depot_strf(src->arena, "%.*s: %zu bytes are too long, the limit is 1 MiB", (int)key_n, s, value_n);
    }
    return NULL;
}

static bool take_option(ini_source *src, const char *s, size_t n, char *out, size_t out_size)
{
    const char *equals = memchr(s, '=', n);
    size_t      key_n = equals == NULL ? n : (size_t)(equals - s);
    const char *value = equals == NULL ? s + n : equals + 1;
    size_t      value_n = n - (size_t)(value - s);
    const char *hint = NULL;

    while (key_n > 0 && is_blank(s[key_n - 1])) {
        key_n--;
    }
    trim(&value, &value_n);
    const char *fault = refuse_option(src, equals == NULL ? snippet(src, s, n) : s, equals, key_n, value_n, &hint);
    if (fault != NULL) {
        conf_problem(src->problems, src->file, src->line, hint, "%s", fault);
        return false;
    }
    if (src->is_broken) {
        return false;
    }
    src->value = depot_strndup(src->arena, value, value_n);
    (void)snprintf(out, out_size, "%.*s=%d\n", (int)key_n, s, src->line); /* fits: a key is a short word */
    return true;
}

/* libinih's reader: one sound line at a time, in short. */
static char *read_line(char *out, int out_size, void *stream)
{
    ini_source *src = stream;
    const char *s;
    size_t      n;

    while (next_line(src, &s, &n)) {
        const char *text = s;
        size_t      text_n = n;

        if (!line_is_text(src, s, n)) {
            continue;
        }
        trim(&text, &text_n);
        if (text_n == 0 || text[0] == ';' || text[0] == '#') {
            continue;
        }
        if (text != s) {
            conf_problem(src->problems, src->file, src->line,
                         "remove the blanks in front; a value cannot go on in the next line", "this line is indented");
            continue;
        }
        if (s[0] != '[') {
            if (take_option(src, s, n, out, (size_t)out_size)) {
                return out;
            }
        } else if (take_header(src, s, n)) {
            (void)snprintf(out, (size_t)out_size, "[%zu]\n", src->n - 1);
            return out;
        }
    }
    return NULL;
}

/* libinih's handler: section and value are the numbers that read_line put there. */
static int take_entry(void *user, const char *section, const char *key, const char *value)
{
    ini_source *src = user;
    size_t      i = strtoul(section, NULL, 10);

    if (i >= src->n || (int)strtol(value, NULL, 10) != src->line) {
        return 0;
    }
    ini_block *block = &src->blocks[i];
    if (block->n == CONF_KEYS_MAX) {
        src->is_broken = true;
        conf_problem(src->problems, src->file, src->line, NULL, "a section holds at most %u options", CONF_KEYS_MAX);
        return 1;
    }
    block->entries = conf_grow(src->arena, block->entries, block->n, &block->cap, sizeof(*block->entries));
    block->entries[block->n++] = (ini_entry){ depot_strdup(src->arena, key), src->value, src->line };
    return 1;
}

ini_block *ini_read(depot_arena *arena, const char *file, const char *text, size_t n, size_t *out_n,
                    conf_problems *problems)
{
    ini_source src = { .arena = arena, .problems = problems, .file = file, .at = text, .end = text + n };

    if (n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        src.at += 3;
    }
    int refused = ini_parse_stream(read_line, &src, take_entry, &src);
    if (refused != 0) {
        conf_problem(problems, file, refused > 0 ? src.line : 0, "please report it with the file",
                     "libinih does not understand the file (%d)", refused);
    }
    *out_n = src.n;
    return src.blocks;
}
