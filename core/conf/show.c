/* show.c - a configuration as people see it: values with origin, secrets masked; and what differs between two of them. */
#include <string.h>

#include "conf/data.h"

static const char *section_name(depot_arena *arena, const conf_section *s)
{
    return s->name == NULL ? s->kind->kind : depot_strf(arena, "%s %s", s->kind->kind, s->name);
}

/* The value that is in force; NULL: none. A type whose zero is a value has one even without text. */
static const char *plain_text(depot_arena *arena, const conf_section *s, size_t i)
{
    return conf_value_text(arena, s->values[i].field, conf_value_at(s, i));
}

static const char *shown_text(depot_arena *arena, const conf_section *s, size_t i)
{
    const conf_value *v = &s->values[i];
    const char       *text = plain_text(arena, s, i);
    const char       *password;

    if (text == NULL || text[0] == '\0') {
        return text;
    }
    if (conf_hides(v)) {
        return CONF_MASK;
    }
    return v->field->type == DEPOT_T_URL ? conf_mask_url(arena, text, &password) : text;
}

static const char *origin(depot_arena *arena, const conf_value *v)
{
    if (v->env != NULL) {
        return depot_strf(arena, "env:%s", v->env);
    }
    return v->file != NULL ? depot_strf(arena, "%s:%d", v->file, v->line) : "default";
}

static const char *shown_default(depot_arena *arena, const depot_field *f)
{
    const char *password;

    if (f->def == NULL || f->def[0] == '\0') {
        return f->def;
    }
    if (f->type == DEPOT_T_SECRET) {
        return CONF_MASK;
    }
    return f->type == DEPOT_T_URL ? conf_mask_url(arena, f->def, &password) : f->def;
}

depot_json *conf_show(depot_arena *arena, const conf *c)
{
    depot_json *list = depot_json_array(arena);

    for (size_t i = 0; i < c->n; i++) {
        const conf_section *s = c->sections[i];
        for (size_t o = 0; o < s->n; o++) {
            const conf_value *v = &s->values[o];
            depot_json_add(list, depot_json_pack(arena, "{s:s, s:s, s:s?, s:s, s:s?, s:s?, s:b}", "section",
                                                 section_name(arena, s), "option", v->field->name, "value",
                                                 shown_text(arena, s, o), "origin", origin(arena, v), "doc",
                                                 v->field->doc, "default", shown_default(arena, v->field), "reloadable",
                                                 (int)((v->field->flags & DEPOT_RELOADABLE) != 0)));
        }
    }
    return list;
}

/* ---- what a reload cannot do ---- */
typedef struct comparison {
    depot_arena   *arena;
    conf_problems *problems;
    const char    *folder;
    size_t         count;
} comparison;

static const char restart_hint[] = "restart depotd, or put back what was there";

static bool is_same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Sections without an option that needs a restart may come and go while running, but for plugins themselves. */
static bool comes_and_goes(const conf_kind *kind)
{
    for (size_t i = 0; i < kind->n; i++) {
        if ((kind->options[i].flags & DEPOT_RELOADABLE) == 0) {
            return false;
        }
    }
    return kind->instance == NULL;
}

static void note_section(comparison *cmp, const conf_section *s, const char *file, int line, const char *what)
{
    if (!comes_and_goes(s->kind)) {
        cmp->count++;
        conf_problem(cmp->problems, file == NULL ? cmp->folder : file, line, restart_hint, "%s %s, which needs a restart",
                     conf_label(cmp->arena, s->kind->kind, s->name), what);
    }
}

static void note_value(comparison *cmp, const conf_section *now, const conf_section *wanted, size_t i)
{
    const conf_value *v = &wanted->values[i];
    const char       *before = shown_text(cmp->arena, now, i);
    const char       *after = shown_text(cmp->arena, wanted, i);
    const char       *change = "changed";
    const char       *file = v->file != NULL ? v->file : wanted->file;
    int               line = v->file != NULL ? v->line : wanted->line;

    if (!is_same_text(before, after)) {
        change = depot_strf(cmp->arena, "changed from %.80s to %.80s", before == NULL ? "none" : before,
                            after == NULL ? "none" : after);
    }
    cmp->count++;
    conf_problem(cmp->problems, file == NULL ? cmp->folder : file, line, restart_hint, "%s %s %s, which needs a restart",
                 conf_label(cmp->arena, wanted->kind->kind, wanted->name), v->field->name, change);
}

static void compare_values(comparison *cmp, const conf_section *now, const conf_section *wanted)
{
    for (size_t i = 0; i < wanted->n && i < now->n; i++) {
        bool may_change = (wanted->values[i].field->flags & DEPOT_RELOADABLE) != 0;
        if (!may_change && !is_same_text(plain_text(cmp->arena, now, i), plain_text(cmp->arena, wanted, i))) {
            note_value(cmp, now, wanted, i);
        }
    }
}

size_t conf_needs_restart(const conf *running, const conf *wanted, conf_problems *problems)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    comparison cmp = { .arena = arena, .problems = problems, .folder = wanted->dir };

    for (size_t i = 0; i < wanted->n; i++) {
        const conf_section *s = wanted->sections[i];
        const conf_section *now = conf_find(running, s->kind->kind, s->name);
        bool                is_plugin = s->kind->instance != NULL;

        if (now == NULL || (is_plugin && now->file == NULL && s->file != NULL)) {
            note_section(&cmp, s, s->file, s->line, "is new");
        } else if (!is_plugin || now->file == NULL || s->file != NULL) {
            compare_values(&cmp, now, s);
        }
    }
    for (size_t i = 0; i < running->n; i++) {
        const conf_section *s = running->sections[i];
        const conf_section *then = conf_find(wanted, s->kind->kind, s->name);

        if (then == NULL || (s->kind->instance != NULL && s->file != NULL && then->file == NULL)) {
            note_section(&cmp, s, s->file, 0, "is gone");
        }
    }
    return cmp.count;
}
