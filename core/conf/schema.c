/* schema.c - the option tables for readers: as JSON for the reference, and as the commented sample file of a plugin. */
#include <string.h>

#include "conf/data.h"

#define SAMPLE_COLUMNS 110U

static const struct flag_row {
    const char *name;
    uint32_t    flag;
} flag_rows[] = {
    { "required", DEPOT_REQUIRED },
    { "reloadable", DEPOT_RELOADABLE },
};

static const char *kind_label(depot_arena *arena, const conf_kind *k)
{
    return conf_label(arena, k->kind, k->instance != NULL ? k->instance : k->named ? "NAME" : NULL);
}

/* [{variable, section: NULL or the name of the only section in which it counts}] */
static depot_json *env_json(depot_arena *arena, const char *cursor)
{
    depot_json *list = depot_json_array(arena);
    conf_env    env;

    while (conf_next_env(arena, &cursor, &env)) {
        depot_json_add(list, depot_json_pack(arena, "{s:s, s:s?, s:s?}", "variable", env.variable, "section", env.section, "unit",
                                             env.unit));
    }
    return list;
}

static depot_json *option_json(depot_arena *arena, const depot_field *f)
{
    depot_json *o = depot_json_pack(arena, "{s:s, s:s, s:s?}", "name", f->name, "type", conf_type_name(f->type),
                                    "default", f->type == DEPOT_T_SECRET && f->def != NULL ? CONF_MASK : f->def);
    depot_json *choices = depot_json_array(arena);

    if (conf_has_bounds(f)) {
        bool open = conf_upper_bound(f) == INT64_MAX;
        depot_json_set(o, "min", depot_json_int(arena, f->min));
        depot_json_set(o, "max", open ? depot_json_null(arena) : depot_json_int(arena, f->max));
        depot_json_set(o, "range", depot_json_str(arena, conf_range_text(arena, f)));
    }
    for (size_t i = 0; f->choices != NULL && f->choices[i] != NULL; i++) {
        depot_json_add(choices, depot_json_str(arena, f->choices[i]));
    }
    if (f->choices != NULL) {
        depot_json_set(o, "choices", choices);
    }
    for (size_t i = 0; i < DEPOT_N(flag_rows); i++) {
        depot_json_set(o, flag_rows[i].name, depot_json_bool(arena, (f->flags & flag_rows[i].flag) != 0));
    }
    depot_json_set(o, "env", env_json(arena, f->env));
    depot_json_set(o, "doc", depot_json_str(arena, f->doc));
    return o;
}

depot_json *conf_schema(depot_arena *arena, const conf_kind *kinds, size_t n)
{
    depot_json *list = depot_json_array(arena);

    for (size_t i = 0; i < n; i++) {
        const conf_kind *k = &kinds[i];
        depot_json      *options = depot_json_array(arena);

        for (size_t o = 0; o < conf_kind_options(k); o++) {
            depot_json_add(options, option_json(arena, conf_kind_option(k, o)));
        }
        depot_json_add(list, depot_json_pack(arena, "{s:s, s:s, s:s?, s:b, s:s?, s:s?, s:o}", "section",
                                             kind_label(arena, k), "kind", k->kind, "instance", k->instance, "named",
                                             (int)k->named, "owner", k->owner, "doc", k->doc, "options", options));
    }
    return list;
}

/* ---- the sample: "; " begins a line of text, ";" alone a setting to be uncommented ---- */
static void add_comment(depot_buf *out, const char *text)
{
    size_t column = 0;

    while (text[0] != '\0') {
        size_t n = strcspn(text, " ");
        if (column > 0 && column + 1 + n > SAMPLE_COLUMNS) {
            depot_buf_adds(out, "\n");
            column = 0;
        }
        depot_buf_adds(out, column == 0 ? "; " : " ");
        depot_buf_add(out, text, n);
        column += (column == 0 ? 2 : 1) + n;
        text += n + strspn(text + n, " ");
    }
    depot_buf_adds(out, "\n");
}

/* "duration, 1s..1h, required; environment: A, B; changes apply on reload" */
static void describe(depot_arena *arena, depot_buf *line, const depot_field *f)
{
    const char *range = conf_range_text(arena, f);
    bool        reloads = (f->flags & DEPOT_RELOADABLE) != 0;
    const char *cursor = f->env;
    conf_env    env;
    const char *joint = "; environment: ";

    depot_buf_adds(line, conf_type_name(f->type));
    for (size_t i = 0; f->choices != NULL && f->choices[i] != NULL; i++) {
        depot_buf_addf(line, "%s%s", i == 0 ? ": " : ", ", f->choices[i]);
    }
    if (range != NULL) {
        depot_buf_addf(line, ", %s", range);
    }
    if ((f->flags & DEPOT_REQUIRED) != 0) {
        depot_buf_adds(line, ", required");
    }
    while (conf_next_env(arena, &cursor, &env)) {
        depot_buf_addf(line, "%s%s", joint, env.variable);
        joint = ", ";
        if (env.section != NULL) {
            depot_buf_addf(line, " (for %s)", env.section);
        }
    }
    depot_buf_addf(line, "; changes apply %s", reloads ? "on reload" : "after a restart");
}

static void add_option(depot_arena *arena, depot_buf *out, const depot_field *f)
{
    DEPOT_AUTO(depot_buf_free) depot_buf line = { 0 };

    describe(arena, &line, f);
    depot_buf_adds(out, "\n");
    if (f->doc != NULL) {
        add_comment(out, f->doc);
    }
    add_comment(out, line.data);
    depot_buf_addf(out, ";%s =%s%s\n", f->name, f->def == NULL || f->def[0] == '\0' ? "" : " ",
                   f->def == NULL ? "" : f->def);
}

void conf_sample(depot_buf *out, const conf_kind *kinds, size_t n, const char *owner)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    add_comment(out, "Each option is shown with its default; remove the ; in front of one to set it. A comment stands on a "
                     "line of its own, a value goes to the end of its line.");
    for (size_t i = 0; i < n; i++) {
        const conf_kind *k = &kinds[i];

        if (k->owner == NULL || strcmp(k->owner, owner) != 0) {
            continue;
        }
        depot_buf_adds(out, "\n");
        if (k->doc != NULL) {
            add_comment(out, k->doc);
        }
        /* A named section is an example: it would exist once its header stood there. */
        depot_buf_addf(out, "%s%s\n", k->named && k->instance == NULL ? ";" : "", kind_label(arena, k));
        for (size_t o = 0; o < conf_kind_options(k); o++) {
            add_option(arena, out, conf_kind_option(k, o));
        }
    }
}
