/* fill.c - one section: which text each option has (environment, file, default), and from the texts to the struct. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "conf/data.h"

typedef struct builder {
    const conf    *c;
    conf_problems *problems;
    conf_section  *section;
} builder;

bool conf_hides(const conf_value *v)
{
    return v->field->type == DEPOT_T_SECRET || v->holds_secret;
}

/* ---- which text an option has ---- */
/* Another section of the same plugin may be where the option belongs. */
static const char *belongs_elsewhere(const builder *b, const char *key)
{
    for (size_t i = 0; i < b->c->n_kinds; i++) {
        const conf_kind *k = &b->c->kinds[i];
        bool             same = k->owner != NULL && b->section->kind->owner != NULL &&
                    strcmp(k->owner, b->section->kind->owner) == 0;
        for (size_t o = 0; same && o < k->n; o++) {
            if (strcmp(k->options[o].name, key) == 0) {
                const char *name = k->instance != NULL ? k->instance : k->named ? "NAME" : NULL;
                return depot_strf(b->c->arena, "%s is an option of %s", key, conf_label(b->c->arena, k->kind, name));
            }
        }
    }
    return NULL;
}

static void report_option(const builder *b, const raw_entry *entry)
{
    const conf_section *s = b->section;
    const char        **names = depot_alloc(b->c->arena, (s->n + 1) * sizeof(*names));
    const char         *hint = belongs_elsewhere(b, entry->key);

    for (size_t i = 0; i < s->n; i++) {
        names[i] = s->values[i].field->name;
    }
    conf_problem(b->problems, entry->file, entry->line,
                 hint != NULL ? hint : conf_did_you_mean(b->c->arena, entry->key, names, s->n), "unknown option \"%s\" in %s",
                 entry->key, conf_label(b->c->arena, s->kind->kind, s->name));
}

conf_value *conf_find_value(const conf_section *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->values[i].field->name, name) == 0) {
            return &s->values[i];
        }
    }
    return NULL;
}

/* The variable that overrides the file in this section: the first that is set and not blank. */
static void find_env(depot_arena *arena, conf_value *v, const char *section)
{
    const char *cursor = v->field->env;
    conf_env    env;

    while (v->env == NULL && conf_next_env(arena, &cursor, &env)) {
        bool        applies = env.section == NULL || (section != NULL && strcmp(env.section, section) == 0);
        const char *value = applies ? getenv(env.variable) : NULL;
        if (value != NULL && value[strspn(value, " \t\r\n")] != '\0') {
            v->env = env.variable;
            v->env_unit = env.unit;
        }
    }
}

static void assign_texts(const builder *b, const raw_section *raw)
{
    conf_section *s = b->section;

    for (size_t i = 0; raw != NULL && i < raw->n; i++) {
        const raw_entry *entry = &raw->entries[i];
        conf_value      *v = conf_find_value(s, entry->key);
        if (v == NULL) {
            report_option(b, entry);
        } else {
            v->raw = entry->value;
            v->file = depot_strdup(b->c->arena, entry->file);
            v->line = entry->line;
        }
    }
    for (size_t i = 0; i < s->n; i++) {
        find_env(b->c->arena, &s->values[i], s->name);
    }
}

static bool take_env(depot_arena *arena, conf_value *v, depot_err *err)
{
    const char *text = getenv(v->env);

    if (text == NULL || !depot_utf8_valid(text, strlen(text))) {
        return DEPOT_FAIL(err, CONFIG, "the value is not UTF-8 text");
    }
    /* variables of the systems that users come from are bare numbers: their unit is part of their name */
    bool bare = v->env_unit != NULL && text[strspn(text, "0123456789")] == '\0';
    v->text = depot_strf(arena, "%s%s", text, bare ? v->env_unit : "");
    return true;
}

static bool resolve(const builder *b, conf_value *v);

/* For ${option}: its text, after its own interpolation. */
static bool take_option(void *arg, const char *name, const char **out, bool *out_secret, depot_err *err)
{
    const builder *b = arg;
    conf_value    *v = conf_find_value(b->section, name);

    if (v == NULL) {
        (void)DEPOT_FAIL(err, CONFIG, "${%.60s}: there is no such option in this section", name);
        return depot_hint(err, "for a variable write ${env:%.60s}; $${ is a plain ${", name);
    }
    if (v->state == CONF_BUSY) {
        return DEPOT_FAIL(err, CONFIG, "${%s} leads back to itself", name);
    }
    if (!resolve(b, v)) {
        return DEPOT_FAIL(err, CONFIG, "${%s} has no usable value", name);
    }
    if (v->text == NULL) {
        return DEPOT_FAIL(err, CONFIG, "${%s} has no value", name);
    }
    *out = v->text;
    *out_secret = conf_hides(v);
    return true;
}

static bool expand(const builder *b, conf_value *v, const char *text, depot_err *err)
{
    builder    copy = *b;
    conf_scope scope = { .arena = b->c->arena, .state_dir = b->c->state_dir, .option = take_option, .arg = &copy };

    scope.for_secret = v->field->type == DEPOT_T_SECRET;
    bool good = conf_expand(&scope, text, &v->text, err);
    v->holds_secret = scope.holds_secret;
    return good;
}

/* Fills v->text: from the environment as it is, from file or default with ${...} replaced; NULL when there is none.
 * Why it failed is kept, as the first to ask may have been another option. */
static bool resolve(const builder *b, conf_value *v)
{
    const char *text = v->file != NULL ? v->raw : v->field->def;
    depot_err   err = { 0 };

    if (v->state == CONF_TODO) {
        v->state = CONF_BUSY;
        bool good = v->env != NULL ? take_env(b->c->arena, v, &err) : text == NULL || expand(b, v, text, &err);
        v->state = good ? CONF_DONE : CONF_FAILED;
        if (!good) {
            depot_err *failure = depot_alloc(b->c->arena, sizeof(*failure));
            *failure = err;
            v->failure = failure;
        } else if (v->field->type == DEPOT_T_PATH && v->text != NULL && v->text[0] != '/' && v->text[0] != '\0') {
            v->text = depot_strf(b->c->arena, "%s/%s", b->c->state_dir, v->text);
        }
    }
    return v->state == CONF_DONE;
}

/* ---- from text to the struct ---- */
static void report(const builder *b, const conf_value *v, const char *hint, const char *text)
{
    const conf_section *s = b->section;
    const char         *label = conf_label(b->c->arena, s->kind->kind, s->name);

    if (v->env != NULL) {
        conf_problem(b->problems, depot_strf(b->c->arena, "env:%s", v->env), 0, hint, "%s %s: %s", label, v->field->name,
                     text);
    } else if (v->file != NULL) {
        conf_problem(b->problems, v->file, v->line, hint, "%s: %s", v->field->name, text);
    } else if (s->file != NULL) {
        conf_problem(b->problems, s->file, s->line, hint, "%s: %s", v->field->name, text);
    } else {
        conf_problem(b->problems, b->c->dir, 0, hint, "%s %s: %s", label, v->field->name, text);
    }
}

/* The hint says what the option is for, and which variables would do. */
static void report_missing(const builder *b, const conf_value *v)
{
    DEPOT_AUTO(depot_buf_free) depot_buf hint = { 0 };
    const char *name = b->section->name;
    const char *cursor = v->field->env;
    conf_env    env;
    const char *joint = v->field->doc == NULL ? "set it, or the variable " : "; set it, or the variable ";

    if (v->field->doc != NULL) {
        depot_buf_addf(&hint, "%s: %s", v->field->name, v->field->doc);
    }
    while (conf_next_env(b->c->arena, &cursor, &env)) {
        if (env.section == NULL || (name != NULL && strcmp(env.section, name) == 0)) {
            depot_buf_addf(&hint, "%s%s", joint, env.variable);
            joint = " or ";
        }
    }
    report(b, v, hint.data, v->text == NULL ? "is required and not set" : "is required and must not be empty");
}

/* What must not be seen in a log is made known to it. */
static void redact(const builder *b, const conf_value *v)
{
    const char *password = NULL;

    if (v->env == NULL && v->file == NULL) {
        return;
    }
    if (v->field->type == DEPOT_T_SECRET) {
        log_redact_add(v->text);
    }
    if (v->field->type == DEPOT_T_SECRET || v->field->type == DEPOT_T_URL) { /* a connection string is a secret that holds one */
        (void)conf_mask_url(b->c->arena, v->text, &password);
    }
    if (password != NULL) {
        log_redact_add(password);
    }
}

static bool parse(const builder *b, size_t i, depot_err *err)
{
    const conf_value *v = &b->section->values[i];

    if (conf_parse_value(b->c->arena, v->field, v->text, conf_value_at(b->section, i), err)) {
        return true;
    }
    if (v->holds_secret) {
        *err = (depot_err){ 0 };
        return DEPOT_FAIL(err, CONFIG, "the value is no good %s (not shown: it holds a secret)",
                          conf_type_name(v->field->type));
    }
    return false;
}

/* A bad value gives way to the default, so that what is shown of a wrong configuration can be read. */
static void fall_back(const builder *b, size_t i)
{
    conf_value *v = &b->section->values[i];
    bool        was_default = v->env == NULL && v->file == NULL;
    depot_err   ignored = { 0 };

    v->env = NULL;
    v->file = NULL;
    v->text = NULL;
    v->state = CONF_TODO;
    if (!was_default && resolve(b, v) && v->text != NULL && !parse(b, i, &ignored)) {
        v->text = NULL; /* a default that is wrong too: nothing is left but none */
    }
}

static void fill_value(const builder *b, size_t i)
{
    conf_value *v = &b->section->values[i];
    depot_err   err = { 0 };

    if (!resolve(b, v)) {
        report(b, v, v->failure->hint, v->failure->msg);
        fall_back(b, i);
    } else if ((v->text == NULL || v->text[0] == '\0') && (v->field->flags & DEPOT_REQUIRED) != 0) {
        report_missing(b, v);
    } else if (v->text != NULL && !parse(b, i, &err)) {
        report(b, v, err.hint, err.msg);
        fall_back(b, i);
    } else if (v->text != NULL) {
        redact(b, v);
    }
}

void conf_fill(conf *c, conf_section *section, const raw_section *raw, conf_problems *problems)
{
    builder b = { .c = c, .problems = problems, .section = section };

    assign_texts(&b, raw);
    for (size_t i = 0; i < section->n; i++) {
        fill_value(&b, i);
    }
    for (size_t i = 0; i < section->n; i++) {
        section->values[i].raw = NULL; /* the files' text may be freed from here on */
    }
}
