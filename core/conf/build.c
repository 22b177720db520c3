/* build.c - the sections of the files turned into structs, row by row of the option tables, with every mistake noted. */
#include <string.h>

#include "conf/data.h"

typedef struct common_options {
    bool        required;
    const char *file;
} common_options;

/* The host reads these two before it knows the plugin; here they are checked, shown and documented. */
const depot_field conf_common_options[CONF_COMMON_N] = {
    DEPOT_OPT_BOOL(common_options, required, "yes",
                   .doc = "whether depotd refuses to start when this plugin cannot; no: it goes on without, degraded"),
    DEPOT_OPT_PATH(common_options, file, NULL, .doc = "the plugin's file, if it is not NAME.so in the plugin folder"),
};

/* ---- kinds and their options ---- */
static bool has_common(const conf_kind *kind)
{
    return kind->instance != NULL && strcmp(kind->kind, "plugin") == 0;
}

size_t conf_kind_options(const conf_kind *kind)
{
    return kind->n + (has_common(kind) ? CONF_COMMON_N : 0);
}

const depot_field *conf_kind_option(const conf_kind *kind, size_t i)
{
    return i < kind->n ? &kind->options[i] : &conf_common_options[i - kind->n];
}

void *conf_value_at(const conf_section *s, size_t i)
{
    char *base = i < s->kind->n ? s->data : s->common;

    return base + s->values[i].field->offset;
}

static const conf_kind *find_kind(const conf *c, const char *kind, const char *name)
{
    for (size_t i = 0; i < c->n_kinds; i++) {
        const conf_kind *k = &c->kinds[i];
        bool fits = k->instance != NULL ? name != NULL && strcmp(k->instance, name) == 0 : k->named == (name != NULL);
        if (fits && strcmp(k->kind, kind) == 0) {
            return k;
        }
    }
    return NULL;
}

const char *conf_did_you_mean(depot_arena *arena, const char *word, const char *const *names, size_t n)
{
    const char *near = depot_suggest(word, names, n);

    return near == NULL ? NULL : depot_strf(arena, "did you mean \"%s\"?", near);
}

/* A plugin that says required = no is missed by nobody when it could not be loaded. */
static bool is_optional(const raw_section *plugin)
{
    const raw_entry *entry = raw_find_entry(plugin, "required");
    bool             required = true;
    depot_err        ignored = { 0 };

    return entry != NULL && depot_parse_bool(entry->value, &required, &ignored) && !required;
}

/* Sections whose kind nobody knows may belong to such a plugin. */
static bool lacks_optional_plugin(const conf *c, const conf_raw *raw)
{
    for (size_t i = 0; i < raw->n; i++) {
        const raw_section *s = raw->sections[i];
        if (strcmp(s->kind, "plugin") == 0 && find_kind(c, s->kind, s->name) == NULL && is_optional(s)) {
            return true;
        }
    }
    return false;
}

/* The plugin that is missing may have been reported where it was to be loaded. */
static void report_plugin(const conf *c, conf_problems *problems, const raw_section *raw)
{
    const char **names = depot_alloc(c->arena, (c->n_kinds + 1) * sizeof(*names));
    size_t       n = 0;

    for (size_t i = 0; i < c->n_kinds; i++) {
        if (has_common(&c->kinds[i])) {
            names[n++] = c->kinds[i].instance;
        }
    }
    if (!is_optional(raw) && !conf_problem_at(problems, raw->places->file, raw->places->line)) {
        conf_problem(problems, raw->places->file, raw->places->line,
                     conf_did_you_mean(c->arena, raw->name, names, n), "unknown plugin \"%s\"", raw->name);
    }
}

static void report_kind(const conf *c, conf_problems *problems, const conf_raw *all, const raw_section *raw)
{
    const char      *file = raw->places->file;
    int              line = raw->places->line;
    const char     **names = depot_alloc(c->arena, (c->n_kinds + 1) * sizeof(*names));
    const conf_kind *same = NULL;

    for (size_t i = 0; i < c->n_kinds; i++) {
        names[i] = c->kinds[i].kind;
        same = strcmp(names[i], raw->kind) == 0 ? &c->kinds[i] : same;
    }
    if (strcmp(raw->kind, "plugin") == 0 && raw->name != NULL) { /* also when no plugin at all was loaded */
        report_plugin(c, problems, raw);
    } else if (same == NULL) {
        const char *hint = conf_did_you_mean(c->arena, raw->kind, names, c->n_kinds);
        if (hint != NULL || !lacks_optional_plugin(c, all)) {
            conf_problem(problems, file, line, hint != NULL ? hint : "the plugin that declares it may not be enabled",
                         "unknown section %s", conf_label(c->arena, raw->kind, raw->name));
        }
    } else if (same->named) {
        conf_problem(problems, file, line, depot_strf(c->arena, "write [%s NAME]", raw->kind),
                     "[%s] needs a name", raw->kind);
    } else {
        conf_problem(problems, file, line, depot_strf(c->arena, "write [%s]", raw->kind), "[%s] takes no name",
                     raw->kind);
    }
}

static conf_section *add_section(conf *c, const conf_kind *kind, const char *name, const raw_section *raw)
{
    conf_section *s = depot_alloc(c->arena, sizeof(*s));

    s->kind = kind;
    s->name = name;
    s->file = raw == NULL ? NULL : depot_strdup(c->arena, raw->places->file);
    s->line = raw == NULL ? 0 : raw->places->line;
    s->n = conf_kind_options(kind);
    s->data = depot_alloc(c->arena, kind->size + 1);
    s->common = depot_alloc(c->arena, sizeof(common_options));
    s->values = depot_alloc(c->arena, (s->n + 1) * sizeof(*s->values));
    for (size_t i = 0; i < s->n; i++) {
        s->values[i].field = conf_kind_option(kind, i);
    }
    c->sections = conf_grow(c->arena, c->sections, c->n, &c->cap, sizeof(*c->sections));
    c->sections[c->n++] = s;
    return s;
}

conf *conf_build(depot_arena *arena, const conf_raw *raw, const conf_kind *kinds, size_t n, const char *state_dir,
                 conf_problems *problems)
{
    conf *c = depot_alloc(arena, sizeof(*c));

    c->arena = arena;
    c->state_dir = depot_strdup(arena, state_dir);
    c->dir = raw->dir != NULL ? depot_strdup(arena, raw->dir) : "conf.d";
    c->kinds = depot_alloc(arena, (n + 1) * sizeof(*kinds));
    c->n_kinds = n;
    for (size_t i = 0; i < n; i++) {
        c->kinds[i] = kinds[i];
    }
    for (size_t i = 0; i < raw->n; i++) {
        const raw_section *r = raw->sections[i];
        const conf_kind   *kind = find_kind(c, r->kind, r->name);
        if (kind == NULL) {
            report_kind(c, problems, raw, r);
        } else {
            conf_fill(c, add_section(c, kind, depot_strdup(arena, r->name), r), r, problems);
        }
    }
    for (size_t i = 0; i < n; i++) {
        const conf_kind *k = &c->kinds[i];
        if ((!k->named || k->instance != NULL) && conf_find(c, k->kind, k->instance) == NULL) {
            conf_fill(c, add_section(c, k, k->instance, NULL), NULL, problems);
        }
    }
    return c;
}

/* ---- looking ---- */
conf_section *conf_find(const conf *c, const char *kind, const char *name)
{
    for (size_t i = 0; i < c->n; i++) {
        conf_section *s = c->sections[i];
        bool          same = s->name == NULL || name == NULL ? s->name == name : strcmp(s->name, name) == 0;
        if (same && strcmp(s->kind->kind, kind) == 0) {
            return s;
        }
    }
    return NULL;
}

const void *conf_get(const conf *c, const char *kind, const char *name)
{
    const conf_section *s = conf_find(c, kind, name);

    return s == NULL ? NULL : s->data;
}

const void *conf_next(const conf *c, const char *kind, size_t *it, const char **out_name)
{
    while (*it < c->n) {
        const conf_section *s = c->sections[(*it)++];
        if (strcmp(s->kind->kind, kind) == 0) {
            *out_name = s->name;
            return s->data;
        }
    }
    return NULL;
}

bool conf_place(const conf *c, const char *kind, const char *name, const char *key, const char **file, int *line)
{
    const conf_section *s = conf_find(c, kind, name);
    const conf_value   *v = s == NULL || key == NULL ? NULL : conf_find_value(s, key);

    if (s == NULL || s->file == NULL) {
        return false;
    }
    *file = v != NULL && v->file != NULL ? v->file : s->file;
    *line = v != NULL && v->file != NULL ? v->line : s->line;
    return true;
}
