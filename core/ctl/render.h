/* render.h - JSON for people: arrays of objects as tables, objects as `key: value` lines, sizes and times shortened. */
#ifndef CTL_RENDER_H
#define CTL_RENDER_H

#include "depot/table.h"

typedef struct render_style {
    bool   colour;
    size_t width; /* columns of the terminal, to which tables are cut; 0: no limit */
} render_style;

/* What a stream can show: colour on a terminal unless NO_COLOR is set, its width. */
render_style render_style_of(int fd);

/* Appends the value as lines. reply orders the columns and says what a number means; NULL: the order of the value, and
 * names such as `size`, `total_bytes`, `wait_ms` say what they are. Control characters never reach the output. */
void render_value(depot_buf *out, const render_style *style, const depot_json *value, const depot_field *reply);
/* One value as it stands in a cell: no colour, no line break. field may be NULL. */
const char *render_cell(depot_arena *arena, const char *name, const depot_field *field, const depot_json *value);
/* A word such as "ok" or "failed" in the colour of what it says. */
void render_add_word(depot_buf *out, const render_style *style, const char *word);
/* Columns that the text takes on a terminal. */
size_t render_width(const char *text);
/* Text with control characters made visible; keep_lines leaves line breaks and tabs. */
void render_add_safe(depot_buf *out, const char *text, size_t n, bool keep_lines);

#endif
