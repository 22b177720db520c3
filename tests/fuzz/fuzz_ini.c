/* fuzz_ini.c - any bytes as configuration files, built over a schema with every type of option: places are right, what is
 * shown reads back, and a configuration needs no restart to become itself.
 * Input: one byte that says where the second file begins, the text of both. */
#include <stdlib.h>
#include <string.h>

#include "../lib/conf_rig.h"
#include "conf/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct fuzz_file {
    const char *name, *text;
    size_t      n;
} fuzz_file;

static void check(bool good)
{
    if (!good) {
        abort();
    }
}

/* Line number `line` of the file, counted in another way than the reader does. */
static const char *line_of(const fuzz_file *file, int line, size_t *out_n)
{
    const char *at = file->text;
    const char *end = file->text + file->n;

    for (; line > 1; line--) {
        while (at < end && *at != '\n') {
            at++;
        }
        check(at < end);
        at++;
    }
    const char *stop = at;
    while (stop < end && *stop != '\n') {
        stop++;
    }
    *out_n = (size_t)(stop - at);
    return at;
}

/* The place that an option says it has begins with its name, and its value ends that line but for blanks. */
static void check_place(const fuzz_file *files, const conf_value *v, const char *written)
{
    const fuzz_file *file = strcmp(files[0].name, v->file) == 0 ? &files[0] : &files[1];
    const char      *name = v->field->name;
    size_t           value_n = strlen(written);
    size_t           n;
    const char      *line = line_of(file, v->line, &n);

    check(strcmp(file->name, v->file) == 0);
    check(n > strlen(name) && memcmp(line, name, strlen(name)) == 0);
    while (n > 0 && (line[n - 1] == ' ' || line[n - 1] == '\t' || line[n - 1] == '\r')) {
        n--;
    }
    check(n >= value_n && memcmp(line + n - value_n, written, value_n) == 0);
}

/* What is shown of a value is a text that gives the same value. */
static void check_round_trip(depot_arena *arena, const conf_section *s, size_t i)
{
    const depot_field *f = s->values[i].field;
    const char        *text = conf_value_text(arena, f, conf_value_at(s, i));
    char              *again = depot_alloc(arena, s->kind->size + 64);
    depot_err          err = { 0 };

    /* A list of nothing and no list look alike; bounds need not hold for what was never set. */
    if (text == NULL || s->values[i].text == NULL || s->values[i].state != CONF_DONE) {
        return;
    }
    check(conf_parse_value(arena, f, text, again + f->offset, &err));
    check(strcmp(conf_value_text(arena, f, again + f->offset), text) == 0);
}

static void check_section(depot_arena *arena, const conf_raw *raw, const fuzz_file *files, const conf_section *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const conf_value *v = &s->values[i];
        check_round_trip(arena, s, i);
        if (v->file != NULL) {
            const char *written = conf_raw_get(raw, s->kind->kind, s->name, v->field->name);
            check(written != NULL);
            check_place(files, v, written);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
    conf_problems *problems = conf_problems_new(arena);
    conf_raw      *raw = conf_raw_new(arena);

    if (size == 0) {
        return 0;
    }
    const char *text = (const char *)data + 1;
    size_t      first = (size - 1) * data[0] / 255;
    fuzz_file   files[] = { { "10-a.ini", text, first }, { "99-local.ini", text + first, size - 1 - first } };
    for (size_t i = 0; i < DEPOT_N(files); i++) {
        conf_read_text(raw, files[i].name, files[i].text, files[i].n, problems);
    }
    const conf *c = conf_build(arena, raw, rig_kinds, DEPOT_N(rig_kinds), "/nowhere/state", problems);
    for (size_t i = 0; i < c->n; i++) {
        check_section(arena, raw, files, c->sections[i]);
    }
    conf_problems_print(problems, &out);
    check((conf_problem_count(problems) == 0) == (out.len == 0));
    check(depot_utf8_valid(out.data == NULL ? "" : out.data, out.len));
    check(conf_needs_restart(c, c, problems) == 0);
    check(depot_json_len(conf_show(arena, c)) > 0);
    return 0;
}
