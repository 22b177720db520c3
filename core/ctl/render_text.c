/* render_text.c - single values as text for people: sizes, times, durations, safe strings and their width. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/text.h"
#include "ctl/render.h"

render_style render_style_of(int fd)
{
    const char    *no_colour = getenv("NO_COLOR");
    const char    *terminal = getenv("TERM");
    struct winsize size = { 0 };
    render_style   style = { .colour = false };

    if (isatty(fd) != 1) {
        return style;
    }
    style.colour = (no_colour == NULL || no_colour[0] == '\0') && (terminal == NULL || strcmp(terminal, "dumb") != 0);
    style.width = ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
    return style;
}

/* Ranges that terminals show two columns wide, or not at all (combining marks and joiners). Coarse on purpose. */
/* clang-format off */
static const struct {
    uint32_t from, to;
    size_t   width;
} widths[] = {
    { 0x0300, 0x036F, 0 },   { 0x1100, 0x115F, 2 },   { 0x200B, 0x200F, 0 }, { 0x2E80, 0xA4CF, 2 },
    { 0xAC00, 0xD7A3, 2 },   { 0xF900, 0xFAFF, 2 },   { 0xFE00, 0xFE0F, 0 }, { 0xFE30, 0xFE6F, 2 },
    { 0xFF00, 0xFF60, 2 },   { 0xFFE0, 0xFFE6, 2 },   { 0x1F300, 0x1F64F, 2 }, { 0x1F900, 0x1F9FF, 2 },
    { 0x20000, 0x3FFFD, 2 },
};
/* clang-format on */

static uint32_t code_point(const char *p, size_t n)
{
    static const unsigned char first[] = { 0, 0x7F, 0x1F, 0x0F, 0x07 };
    uint32_t                   code = (unsigned char)p[0] & first[n];

    for (size_t i = 1; i < n; i++) {
        code = code << 6 | ((unsigned char)p[i] & 0x3F);
    }
    return code;
}

static size_t char_width(uint32_t code)
{
    for (size_t i = 0; i < DEPOT_N(widths); i++) {
        if (code >= widths[i].from && code <= widths[i].to) {
            return widths[i].width;
        }
    }
    return 1;
}

size_t render_width(const char *text)
{
    size_t width = 0;
    size_t left = strlen(text);

    for (const char *p = text; left > 0;) {
        size_t n = text_utf8_step(p, left);

        width += n == 0 ? 1 : char_width(code_point(p, n));
        n = n == 0 ? 1 : n;
        p += n;
        left -= n;
    }
    return width;
}

void render_add_safe(depot_buf *out, const char *text, size_t n, bool keep_lines)
{
    for (size_t i = 0; i < n;) {
        size_t        step = text_utf8_step(text + i, n - i);
        unsigned char c = (unsigned char)text[i];

        if (step == 0) {
            depot_buf_adds(out, "\xEF\xBF\xBD");
            i++;
            continue;
        }
        /* C0, DEL and C1 may drive a terminal */
        if (c == '\n' || c == '\t') {
            depot_buf_adds(out, keep_lines ? (c == '\n' ? "\n" : "\t") : " ");
        } else if (c < 0x20 || c == 0x7F || (step == 2 && code_point(text + i, 2) < 0xA0)) {
            depot_buf_adds(out, "?");
        } else {
            depot_buf_add(out, text + i, step);
        }
        i += step;
    }
}

/* What a number means where no table says it. */
static const struct {
    const char *ending;
    depot_type  type;
} endings[] = {
    { "bytes", DEPOT_T_SIZE },
    { "size", DEPOT_T_SIZE },
    { "_ms", DEPOT_T_DURATION },
};

static depot_type meaning(const char *name, const depot_field *field)
{
    if (field != NULL && (field->type == DEPOT_T_SIZE || field->type == DEPOT_T_DURATION)) {
        return field->type;
    }
    for (size_t i = 0; i < DEPOT_N(endings); i++) {
        size_t n = strlen(endings[i].ending);

        if (strlen(name) >= n && strcmp(name + strlen(name) - n, endings[i].ending) == 0) {
            return endings[i].type;
        }
    }
    return DEPOT_T_INT;
}

static const char *duration(depot_arena *arena, int64_t ms)
{
    static const struct {
        int64_t     unit_ms;
        const char *unit;
        int64_t     part_ms;
        const char *part;
    } steps[] = {
        { 86400000, "d", 3600000, "h" },
        { 3600000, "h", 60000, "m" },
        { 60000, "m", 1000, "s" },
    };

    for (size_t i = 0; i < DEPOT_N(steps); i++) {
        if (ms >= steps[i].unit_ms) {
            int64_t rest = ms % steps[i].unit_ms / steps[i].part_ms;

            return rest == 0 ? depot_strf(arena, "%lld%s", (long long)(ms / steps[i].unit_ms), steps[i].unit)
                             : depot_strf(arena, "%lld%s%lld%s", (long long)(ms / steps[i].unit_ms), steps[i].unit,
                                          (long long)rest, steps[i].part);
        }
    }
    if (ms >= 1000 && ms % 1000 != 0) {
        return depot_strf(arena, "%lld.%llds", (long long)(ms / 1000), (long long)(ms % 1000 / 100));
    }
    return depot_format_duration(arena, ms);
}

/* "2026-11-20T09:23:33.459721Z" or with an offset: to the second, a blank in the middle. NULL: no time. */
static const char *short_time(depot_arena *arena, const char *text)
{
    static const char shape[] = "0000-00-00T00:00:00";
    depot_err         err = { 0 };
    int64_t           us = 0;

    for (size_t i = 0; shape[i] != '\0'; i++) {
        bool same = shape[i] == '0' ? text[i] >= '0' && text[i] <= '9' : text[i] == shape[i];

        if (!same) {
            return NULL;
        }
    }
    if (!depot_parse_time(text, &us, &err)) {
        return NULL;
    }
    char *utc = depot_format_time(arena, us);
    utc[10] = ' ';
    return depot_strf(arena, "%.19sZ", utc);
}

static const char *text_cell(depot_arena *arena, const depot_json *value)
{
    DEPOT_AUTO(depot_buf_free) depot_buf safe = { 0 };
    size_t                               n = 0;
    const char                          *text = depot_json_string(value, &n);
    const char                          *time = short_time(arena, text);

    if (time != NULL) {
        return time;
    }
    render_add_safe(&safe, text, n, false);
    return depot_strndup(arena, safe.data == NULL ? "" : safe.data, safe.len);
}

/* Objects in a cell stand there by their names, where they have some. */
static const char *item_cell(depot_arena *arena, const char *name, const depot_json *item)
{
    const depot_json *own = depot_json_typeof(item) == DEPOT_JSON_OBJECT ? depot_json_get(item, "name") : NULL;

    return render_cell(arena, name, NULL, own == NULL ? item : own);
}

static const char *list_cell(depot_arena *arena, const char *name, const depot_json *list)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };

    for (size_t i = 0; i < depot_json_len(list); i++) {
        depot_buf_addf(&out, "%s%s", i == 0 ? "" : ", ", item_cell(arena, name, depot_json_at(list, i)));
    }
    return depot_strndup(arena, out.data == NULL ? "" : out.data, out.len);
}

static const char *number_cell(depot_arena *arena, const char *name, const depot_field *field, const depot_json *value)
{
    depot_type type = meaning(name, field);
    char       real[TEXT_DOUBLE_SIZE];

    if (depot_json_typeof(value) == DEPOT_JSON_REAL) {
        text_format_double(depot_json_number(value), real);
        return depot_strdup(arena, real);
    }
    if (type == DEPOT_T_SIZE) {
        return depot_format_size(arena, depot_json_integer(value));
    }
    if (type == DEPOT_T_DURATION && depot_json_integer(value) >= 0) {
        return duration(arena, depot_json_integer(value));
    }
    return depot_strf(arena, "%lld", (long long)depot_json_integer(value));
}

const char *render_cell(depot_arena *arena, const char *name, const depot_field *field, const depot_json *value)
{
    if (value == NULL) {
        return "";
    }
    switch (depot_json_typeof(value)) {
    case DEPOT_JSON_NULL:
        return "";
    case DEPOT_JSON_BOOL:
        return depot_json_boolean(value) ? "yes" : "no";
    case DEPOT_JSON_INT:
    case DEPOT_JSON_REAL:
        return number_cell(arena, name, field, value);
    case DEPOT_JSON_STRING:
        return text_cell(arena, value);
    case DEPOT_JSON_ARRAY:
        return list_cell(arena, name, value);
    case DEPOT_JSON_OBJECT:
        break;
    }
    return depot_json_text(arena, value); /* JSON text escapes control characters by itself */
}
