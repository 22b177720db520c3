/* problems.c - every mistake found in one pass, with its place; printed in the form that editors jump to. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "conf/data.h"

#define PROBLEMS_MAX 1000U /* a wrong file may hold a mistake in each line: nobody reads more than this */

typedef struct problem {
    const char *file, *message, *hint;
    int         line;
    size_t      number;
} problem;

struct conf_problems {
    depot_arena *arena;
    problem     *rows;
    size_t       kept, cap, count;
};

conf_problems *conf_problems_new(depot_arena *arena)
{
    conf_problems *p = depot_alloc(arena, sizeof(*p));

    p->arena = arena;
    return p;
}

/* Texts of users reach a terminal: no control characters, no broken characters. */
static const char *printable(depot_arena *arena, const char *text)
{
    DEPOT_AUTO(depot_buf_free) depot_buf clean = { 0 };
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };

    text_add_clean(&clean, text, strlen(text));
    for (size_t i = 0; i < clean.len; i++) {
        unsigned char c = (unsigned char)clean.data[i];
        if (c < 0x20 || c == 0x7F) {
            depot_buf_addf(&out, "\\x%02x", c);
        } else {
            depot_buf_add(&out, &clean.data[i], 1);
        }
    }
    return depot_strndup(arena, out.data == NULL ? "" : out.data, out.len);
}

void conf_problem(conf_problems *p, const char *file, int line, const char *hint, const char *fmt, ...)
{
    va_list ap;

    p->count++;
    if (p->kept == PROBLEMS_MAX) {
        return;
    }
    p->rows = conf_grow(p->arena, p->rows, p->kept, &p->cap, sizeof(*p->rows));
    problem *row = &p->rows[p->kept];
    va_start(ap, fmt);
    row->message = printable(p->arena, depot_strvf(p->arena, fmt, ap));
    va_end(ap);
    row->file = depot_strdup(p->arena, file);
    row->line = line;
    row->hint = hint == NULL || hint[0] == '\0' ? NULL : printable(p->arena, hint);
    row->number = p->kept++;
}

size_t conf_problem_count(const conf_problems *p)
{
    return p->count;
}

bool conf_problem_at(const conf_problems *p, const char *file, int line)
{
    for (size_t i = 0; i < p->kept; i++) {
        if (p->rows[i].line == line && strcmp(p->rows[i].file, file) == 0) {
            return true;
        }
    }
    return false;
}

static int by_place(const void *a, const void *b)
{
    const problem *x = a;
    const problem *y = b;
    int            files = strcmp(x->file, y->file);

    if (files != 0) {
        return files;
    }
    if (x->line != y->line) {
        return x->line < y->line ? -1 : 1;
    }
    return x->number < y->number ? -1 : x->number > y->number;
}

static problem *in_order(const conf_problems *p)
{
    problem *rows = depot_alloc(p->arena, (p->kept + 1) * sizeof(*rows));

    if (p->kept > 0) {
        memcpy(rows, p->rows, p->kept * sizeof(*rows));
        qsort(rows, p->kept, sizeof(*rows), by_place);
    }
    return rows;
}

static void print_line(depot_buf *out, const problem *row, const char *what, const char *text)
{
    depot_buf_adds(out, row->file);
    if (row->line > 0) {
        depot_buf_addf(out, ":%d", row->line);
    }
    depot_buf_addf(out, ": %s: %s\n", what, text);
}

static void print_row(depot_buf *out, const problem *row)
{
    print_line(out, row, "error", row->message);
    if (row->hint != NULL) {
        print_line(out, row, "hint", row->hint);
    }
}

static void print_rest(depot_buf *out, const conf_problems *p)
{
    if (p->count > p->kept) {
        depot_buf_addf(out, "configuration: error: %zu more problems are not shown\n", p->count - p->kept);
    }
}

void conf_problems_print(const conf_problems *p, depot_buf *out)
{
    const problem *rows = in_order(p);

    for (size_t i = 0; i < p->kept; i++) {
        print_row(out, &rows[i]);
    }
    print_rest(out, p);
}

/* What was printed since the last time, without its last line end. */
static void take_text(depot_json *list, depot_arena *arena, depot_buf *text)
{
    if (text->len > 0) {
        depot_json_add(list, depot_json_strn(arena, text->data, text->len - 1));
        depot_buf_reset(text);
    }
}

depot_json *conf_problems_texts(depot_arena *arena, const conf_problems *p)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };
    const problem *rows = in_order(p);
    depot_json    *list = depot_json_array(arena);

    for (size_t i = 0; i < p->kept; i++) {
        print_row(&text, &rows[i]);
        take_text(list, arena, &text);
    }
    print_rest(&text, p);
    take_text(list, arena, &text);
    return list;
}

depot_json *conf_problems_json(depot_arena *arena, const conf_problems *p)
{
    const problem *rows = in_order(p);
    depot_json    *list = depot_json_array(arena);

    for (size_t i = 0; i < p->kept; i++) {
        depot_json_add(list, depot_json_pack(arena, "{s:s, s:i, s:s, s:s?}", "file", rows[i].file, "line", rows[i].line,
                                             "message", rows[i].message, "hint", rows[i].hint));
    }
    return list;
}
