/* render.c - lays values out: tables, `key: value` lines, blocks inside blocks. */
#include "ctl/render.h"

#include <string.h>

#define BOLD  "\033[1m"
#define DIM   "\033[2m"
#define RESET "\033[0m"

enum { GAP = 2, INDENT = 2, CELL_MIN = 12, COLUMNS_MAX = 64, DEPTH_MAX = 6 };

/* Words that say how something is. Colour only underlines them: the word stays. */
/* clang-format off */
static const struct {
    const char *word, *colour;
} states[] = {
    { "ok", "\033[32m" },       { "ready", "\033[32m" },    { "started", "\033[32m" },  { "succeeded", "\033[32m" },
    { "running", "\033[32m" },  { "applied", "\033[32m" },  { "warn", "\033[33m" },     { "degraded", "\033[33m" },
    { "pending", "\033[33m" },  { "paused", "\033[33m" },   { "draining", "\033[33m" }, { "retry", "\033[33m" },
    { "fail", "\033[31m" },     { "failed", "\033[31m" },   { "dead", "\033[31m" },     { "error", "\033[31m" },
    { "revoked", "\033[31m" },  { "expired", "\033[31m" },  { "lost", "\033[31m" },
};
/* clang-format on */

/* Columns that some row has a value for, in their order. */
typedef struct table {
    const char        *name[COLUMNS_MAX];
    const depot_field *field[COLUMNS_MAX];
    size_t             width[COLUMNS_MAX];
    bool               right[COLUMNS_MAX];
    size_t             n;
} table;

typedef struct canvas {
    depot_buf          *out;
    const render_style *style;
    depot_arena        *arena;
} canvas;

/* Where in the nesting a line stands. */
typedef struct level {
    size_t indent, key_width;
    int    depth;
} level;

static void add_spaces(depot_buf *out, size_t n)
{
    depot_buf_addf(out, "%*s", (int)n, "");
}

static const char *colour_of(const render_style *style, const char *text)
{
    for (size_t i = 0; style->colour && i < DEPOT_N(states); i++) {
        if (strcmp(states[i].word, text) == 0) {
            return states[i].colour;
        }
    }
    return NULL;
}

void render_add_word(depot_buf *out, const render_style *style, const char *word)
{
    const char *colour = colour_of(style, word);

    depot_buf_addf(out, "%s%s%s", colour == NULL ? "" : colour, word, colour == NULL ? "" : RESET);
}

static bool is_null(const depot_json *value)
{
    return value == NULL || depot_json_typeof(value) == DEPOT_JSON_NULL;
}

static bool is_number(const depot_json *value)
{
    return !is_null(value) &&
           (depot_json_typeof(value) == DEPOT_JSON_INT || depot_json_typeof(value) == DEPOT_JSON_REAL);
}

static bool is_table(const depot_json *value)
{
    return !is_null(value) && depot_json_typeof(value) == DEPOT_JSON_ARRAY && depot_json_len(value) > 0 &&
           depot_json_typeof(depot_json_at(value, 0)) == DEPOT_JSON_OBJECT;
}

static bool is_block(const depot_json *value)
{
    return is_table(value) ||
           (!is_null(value) && depot_json_typeof(value) == DEPOT_JSON_OBJECT && depot_json_len(value) > 0);
}

/* The members of an array's items: fields[0] describes an item, as in depot_field; a list of members is taken too. */
static const depot_field *item_fields(const depot_field *fields)
{
    bool one_row = fields != NULL && fields[0].fields != NULL && (fields[0].name == NULL || fields[1].name == NULL);

    return one_row && fields[0].type == DEPOT_T_OBJECT ? fields[0].fields : fields;
}

static const depot_field *field_named(const depot_field *fields, const char *name)
{
    for (const depot_field *f = fields; f != NULL && f->name != NULL; f++) {
        if (strcmp(f->name, name) == 0) {
            return f;
        }
    }
    return NULL;
}

/* ---- tables ---- */
static bool has_value(const depot_json *rows, const char *name)
{
    for (size_t i = 0; i < depot_json_len(rows); i++) {
        if (!is_null(depot_json_get(depot_json_at(rows, i), name))) {
            return true;
        }
    }
    return false;
}

static void add_column(table *t, const depot_json *rows, const char *name, const depot_field *field)
{
    for (size_t i = 0; i < t->n; i++) {
        if (strcmp(t->name[i], name) == 0) {
            return;
        }
    }
    if (t->n < COLUMNS_MAX && has_value(rows, name)) {
        t->name[t->n] = name;
        t->field[t->n] = field;
        t->right[t->n] = true;
        t->n++;
    }
}

static void find_columns(table *t, const depot_json *rows, const depot_field *fields)
{
    for (const depot_field *f = fields; f != NULL && f->name != NULL; f++) {
        add_column(t, rows, f->name, f);
    }
    for (size_t i = 0; i < depot_json_len(rows); i++) {
        const char       *key;
        const depot_json *value;

        for (size_t it = 0; depot_json_next(depot_json_at(rows, i), &it, &key, &value);) {
            add_column(t, rows, key, NULL);
        }
    }
}

static void measure(table *t, const canvas *c, const depot_json *rows)
{
    for (size_t col = 0; col < t->n; col++) {
        t->width[col] = render_width(t->name[col]);
        for (size_t i = 0; i < depot_json_len(rows); i++) {
            const depot_json *value = depot_json_get(depot_json_at(rows, i), t->name[col]);
            size_t            width = render_width(render_cell(c->arena, t->name[col], t->field[col], value));

            t->width[col] = width > t->width[col] ? width : t->width[col];
            t->right[col] = t->right[col] && (is_null(value) || is_number(value));
        }
    }
}

/* Takes what is too much from the widest columns. */
static void fit(table *t, size_t width)
{
    size_t total = 0;

    for (size_t i = 0; i < t->n; i++) {
        total += t->width[i] + (i == 0 ? 0 : GAP);
    }
    while (width > 0 && total > width) {
        size_t widest = 0;

        for (size_t i = 1; i < t->n; i++) {
            widest = t->width[i] >= t->width[widest] ? i : widest;
        }
        if (t->width[widest] <= CELL_MIN) {
            return;
        }
        t->width[widest]--;
        total--;
    }
}

/* The longest start of text that takes at most `width` columns. */
static const char *cut(depot_arena *arena, const char *text, size_t width)
{
    size_t n = strlen(text);

    if (render_width(text) <= width) {
        return text;
    }
    while (n > 0 && render_width(depot_strndup(arena, text, n)) > width - 1) {
        do {
            n--;
        } while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80);
    }
    return depot_strf(arena, "%.*s…", (int)n, text);
}

static void add_row(const table *t, const canvas *c, const depot_json *row, size_t indent)
{
    add_spaces(c->out, indent);
    for (size_t col = 0; col < t->n; col++) {
        const char *text = row == NULL
                               ? t->name[col]
                               : render_cell(c->arena, t->name[col], t->field[col], depot_json_get(row, t->name[col]));
        bool        last = col + 1 == t->n;

        text = cut(c->arena, text, t->width[col]);
        size_t pad = t->width[col] - render_width(text);
        add_spaces(c->out, t->right[col] ? pad : 0);
        render_add_word(c->out, c->style, text);
        add_spaces(c->out, last ? 0 : (t->right[col] ? 0 : pad) + GAP);
    }
    depot_buf_adds(c->out, "\n");
}

/* Lines never end in blanks, so that output compares well. */
static void trim_line(depot_buf *out)
{
    size_t end = out->len - 1;

    while (end > 0 && out->data[end - 1] == ' ') {
        end--;
    }
    out->data[end] = '\n';
    out->data[end + 1] = '\0';
    out->len = end + 1;
}

static void add_table(const canvas *c, const depot_json *rows, const depot_field *reply, size_t indent)
{
    table t = { .n = 0 };

    find_columns(&t, rows, item_fields(reply));
    measure(&t, c, rows);
    fit(&t, c->style->width > indent ? c->style->width - indent : 0);
    depot_buf_adds(c->out, c->style->colour ? BOLD : "");
    add_row(&t, c, NULL, indent);
    if (c->style->colour) {
        c->out->len--;
        depot_buf_adds(c->out, RESET "\n");
    } else {
        trim_line(c->out);
    }
    for (size_t i = 0; i < depot_json_len(rows); i++) {
        add_row(&t, c, depot_json_at(rows, i), indent);
        trim_line(c->out);
    }
}

/* ---- key: value ---- */
static void add_block(const canvas *c, const depot_json *value, const depot_field *reply, const level *outer);

/* Text of several lines (tracebacks, scripts) stands indented below its key. */
static void add_lines(const canvas *c, const char *text, size_t n, size_t indent)
{
    for (const char *p = text, *end = text + n; p < end;) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        size_t      length = newline == NULL ? (size_t)(end - p) : (size_t)(newline - p);

        add_spaces(c->out, indent);
        render_add_safe(c->out, p, length, true);
        depot_buf_adds(c->out, "\n");
        p += length + 1;
    }
}

static void add_key(const canvas *c, const char *key, size_t width, size_t indent)
{
    DEPOT_AUTO(depot_buf_free) depot_buf safe = { 0 };

    render_add_safe(&safe, key, strlen(key), false);
    add_spaces(c->out, indent);
    depot_buf_addf(c->out, "%s%s:%s", c->style->colour ? DIM : "", safe.data == NULL ? "" : safe.data,
                   c->style->colour ? RESET : "");
    add_spaces(c->out, width > render_width(key) ? width - render_width(key) : 0);
}

static void add_member(const canvas *c, const char *key, const depot_json *value, const depot_field *field,
                       const level *at)
{
    size_t      n = 0;
    const char *text = is_null(value) ? NULL : depot_json_string(value, &n);

    if (is_block(value) && at->depth < DEPTH_MAX) {
        add_key(c, key, 0, at->indent);
        depot_buf_adds(c->out, "\n");
        add_block(c, value, field == NULL ? NULL : field->fields, at);
        return;
    }
    if (text != NULL && memchr(text, '\n', n) != NULL) {
        add_key(c, key, 0, at->indent);
        depot_buf_adds(c->out, "\n");
        add_lines(c, text, n, at->indent + INDENT);
        return;
    }
    add_key(c, key, at->key_width, at->indent);
    depot_buf_adds(c->out, " ");
    render_add_word(c->out, c->style, render_cell(c->arena, key, field, value));
    depot_buf_adds(c->out, "\n");
    trim_line(c->out);
}

static size_t key_width(const depot_json *object)
{
    const char       *key;
    const depot_json *value;
    size_t            width = 0;

    for (size_t it = 0; depot_json_next(object, &it, &key, &value);) {
        size_t n = is_block(value) ? 0 : render_width(key);

        width = n > width ? n : width;
    }
    return width;
}

static void add_object(const canvas *c, const depot_json *object, const depot_field *reply, size_t indent, int depth)
{
    const level       at = { indent, key_width(object), depth };
    const char       *key;
    const depot_json *value;

    for (const depot_field *f = reply; f != NULL && f->name != NULL; f++) {
        value = depot_json_get(object, f->name);
        if (value != NULL) {
            add_member(c, f->name, value, f, &at);
        }
    }
    for (size_t it = 0; depot_json_next(object, &it, &key, &value);) {
        if (field_named(reply, key) == NULL) {
            add_member(c, key, value, NULL, &at);
        }
    }
}

static void add_block(const canvas *c, const depot_json *value, const depot_field *reply, const level *outer)
{
    if (is_table(value)) {
        add_table(c, value, reply, outer->indent + INDENT);
    } else {
        add_object(c, value, reply, outer->indent + INDENT, outer->depth + 1);
    }
}

/* {"items": [...], "next": null}: a list that needs no key in front of it. */
static const char *only_list(const depot_json *object)
{
    const char       *key;
    const char       *list = NULL;
    const depot_json *value;

    for (size_t it = 0; depot_json_next(object, &it, &key, &value);) {
        if (depot_json_typeof(value) == DEPOT_JSON_ARRAY && list == NULL) {
            list = key;
        } else if (!is_null(value)) {
            return NULL;
        }
    }
    return list;
}

static void add_list(const canvas *c, const depot_json *list, const depot_field *reply)
{
    if (depot_json_len(list) == 0) {
        depot_buf_adds(c->out, "(none)\n");
    } else if (is_table(list)) {
        add_table(c, list, reply, 0);
    } else {
        for (size_t i = 0; i < depot_json_len(list); i++) {
            depot_buf_addf(c->out, "%s\n", render_cell(c->arena, "", NULL, depot_json_at(list, i)));
        }
    }
}

void render_value(depot_buf *out, const render_style *style, const depot_json *value, const depot_field *reply)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    canvas                                    c = { out, style, arena };
    size_t                                    n = 0;
    const char                               *text = depot_json_string(value, &n);

    if (text != NULL) {
        render_add_safe(out, text, n, true);
        depot_buf_adds(out, n > 0 && text[n - 1] == '\n' ? "" : "\n");
        return;
    }
    if (depot_json_typeof(value) == DEPOT_JSON_ARRAY) {
        add_list(&c, value, reply);
        return;
    }
    if (depot_json_typeof(value) != DEPOT_JSON_OBJECT) {
        depot_buf_addf(out, "%s\n", render_cell(arena, "", NULL, value));
        return;
    }
    const char *list = only_list(value);
    if (list == NULL) {
        add_object(&c, value, reply, 0, 0);
        return;
    }
    const depot_field *field = field_named(reply, list);
    add_list(&c, depot_json_get(value, list), field == NULL ? NULL : field->fields);
}
