/* help.c - the tables as help: usage lines, arguments, flags with types, defaults and ranges. */
#include <string.h>

#include "ctl/internal.h"
#include "ctl/render.h"

/* How a value of a type is asked for. ENUM shows its choices; a flag of type BOOL has no value. */
/* clang-format off */
static const char *const type_words[] = {
    [DEPOT_T_STRING] = "TEXT",       [DEPOT_T_BOOL] = "",          [DEPOT_T_INT] = "N",
    [DEPOT_T_NUMBER] = "NUMBER",     [DEPOT_T_SIZE] = "SIZE",      [DEPOT_T_DURATION] = "DURATION",
    [DEPOT_T_ENUM] = "CHOICE",       [DEPOT_T_LIST] = "A,B",       [DEPOT_T_PATH] = "PATH",
    [DEPOT_T_URL] = "URL",           [DEPOT_T_SECRET] = "@FILE",   [DEPOT_T_CRON] = "CRON",
    [DEPOT_T_REGEX] = "REGEX",       [DEPOT_T_UUID] = "UUID",      [DEPOT_T_TIME] = "TIME",
    [DEPOT_T_SHA256] = "SHA256",     [DEPOT_T_OBJECT] = "JSON",    [DEPOT_T_ARRAY] = "JSON",
    [DEPOT_T_ANY] = "JSON",
};
/* clang-format on */

static const char *const role_names[] = { "anyone", "viewer", "operator", "admin" };

static const char *choices_of(depot_arena *arena, const depot_field *field)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };

    for (size_t i = 0; field->choices != NULL && field->choices[i] != NULL; i++) {
        depot_buf_addf(&out, "%s%s", i == 0 ? "" : "|", field->choices[i]);
    }
    return depot_strndup(arena, out.data == NULL ? "" : out.data, out.len);
}

const char *help_type(depot_arena *arena, const depot_field *field)
{
    return field->type == DEPOT_T_ENUM && field->choices != NULL ? choices_of(arena, field) : type_words[field->type];
}

static const char *bound(depot_arena *arena, const depot_field *field, int64_t value)
{
    if (field->type == DEPOT_T_DURATION) {
        return depot_format_duration(arena, value);
    }
    return field->type == DEPOT_T_SIZE ? depot_format_size(arena, value) : depot_strf(arena, "%lld", (long long)value);
}

const char *help_default(depot_arena *arena, const depot_field *field)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
    bool bounded = field->type == DEPOT_T_INT || field->type == DEPOT_T_SIZE || field->type == DEPOT_T_DURATION;

    if (field->def != NULL) {
        depot_buf_addf(&out, "default %s", field->def[0] == '\0' ? "\"\"" : field->def);
    }
    if (bounded && (field->min != 0 || field->max != 0)) {
        const char *most = field->max == INT64_MAX ? "" : bound(arena, field, field->max);

        depot_buf_addf(&out, "%s%s..%s", out.len > 0 ? ", " : "", bound(arena, field, field->min), most);
    }
    if ((field->flags & DEPOT_REQUIRED) != 0 && field->def == NULL) {
        depot_buf_adds(&out, out.len > 0 ? ", required" : "required");
    }
    return depot_strndup(arena, out.data == NULL ? "" : out.data, out.len);
}

static const char *flag_usage(depot_arena *arena, const depot_field *field)
{
    const char *type = help_type(arena, field);

    return depot_strf(arena, "%s%s%s", args_flag(arena, field->name), type[0] == '\0' ? "" : " ", type);
}

static bool is_required(const depot_field *field)
{
    return (field->flags & DEPOT_REQUIRED) != 0 && field->def == NULL;
}

const char *help_usage(depot_arena *arena, const verb *v)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
    bool                                 flags = false;

    depot_buf_adds(&out, v->pattern);
    for (size_t i = 0; i < v->n_fields; i++) {
        const depot_field *f = &v->fields[i];

        if (!verb_is_positional(v, f) && is_required(f)) {
            depot_buf_addf(&out, " %s", flag_usage(arena, f));
        }
        flags = flags || (!verb_is_positional(v, f) && !is_required(f));
    }
    depot_buf_adds(&out, flags ? " [flags]" : "");
    return depot_strndup(arena, out.data, out.len);
}

/* "  left        right": right starts at column `at`, on the next line when left is too long. */
static void add_pair(depot_buf *out, const char *left, const char *right, size_t at)
{
    size_t width = render_width(left) + 2;

    depot_buf_addf(out, "  %s", left);
    if (right[0] == '\0') {
        depot_buf_adds(out, "\n");
    } else if (width + 2 > at) {
        depot_buf_addf(out, "\n%*s%s\n", (int)at, "", right);
    } else {
        depot_buf_addf(out, "%*s%s\n", (int)(at - width), "", right);
    }
}

static const char *describe(depot_arena *arena, const depot_field *field)
{
    const char *doc = field->doc == NULL ? "" : field->doc;
    const char *def = help_default(arena, field);

    return def[0] == '\0' ? doc : depot_strf(arena, "%s%s(%s)", doc, doc[0] == '\0' ? "" : " ", def);
}

static void add_arguments(depot_arena *arena, const verb *v, depot_buf *out)
{
    depot_buf_adds(out, v->n_args > 0 ? "\nArguments\n" : "");
    for (size_t i = 0; i < v->n_args; i++) {
        const depot_field *f = v->args[i].field;

        if (f == NULL) {
            add_pair(out, "<file>", "file to upload; - is standard input", 28);
            continue;
        }
        const char *type = help_type(arena, f);
        const char *name = depot_strf(arena, v->args[i].optional ? "[%s]" : "<%s>", f->name);
        add_pair(out, f->type == DEPOT_T_STRING ? name : depot_strf(arena, "%s %s", name, type), describe(arena, f),
                 28);
    }
}

static void add_flags(depot_arena *arena, const verb *v, depot_buf *out)
{
    bool any = false;

    for (size_t i = 0; i < v->n_fields; i++) {
        const depot_field *f = &v->fields[i];

        if (!verb_is_positional(v, f)) {
            depot_buf_adds(out, any ? "" : "\nFlags\n");
            add_pair(out, flag_usage(arena, f), describe(arena, f), 28);
            any = true;
        }
    }
}

void help_verb(depot_arena *arena, const verb *v, depot_buf *out)
{
    depot_buf_addf(out, "depotctl %s\n\n  %s\n", help_usage(arena, v), v->doc == NULL ? "" : v->doc);
    if (v->route != NULL) {
        depot_buf_addf(out, "  %s %s (%s), role %s\n", v->route->method, v->route->path, v->owner,
                       role_names[v->route->role]);
    }
    if (v->local != NULL && v->local->run != NULL) {
        depot_buf_adds(out, v->route != NULL ? "  Works without the daemon too.\n" : "  Works without the daemon.\n");
    }
    add_arguments(arena, v, out);
    add_flags(arena, v, out);
    depot_buf_adds(out, "\nEvery verb takes --json, --output FILE, --timeout DURATION, --quiet, --yes, --help.\n");
}

/* A list has room for the first clause of a verb's meaning. */
static const char *in_short(depot_arena *arena, const char *doc)
{
    return doc == NULL ? "" : depot_strndup(arena, doc, strcspn(doc, ";:"));
}

static void add_verbs(const ctl *c, const char *group, depot_buf *out)
{
    for (size_t i = 0; i < c->verbs->n; i++) {
        const verb *v = &c->verbs->rows[i];

        if (group == NULL || verb_in_group(v, group)) {
            add_pair(out, v->pattern, in_short(c->arena, v->doc), 34);
        }
    }
}

void help_overview(const ctl *c, depot_buf *out)
{
    depot_buf_adds(out, "depotctl - operate depotd\n\n"
                        "depotctl [OPTION]... VERB [ARGUMENT]... [--FLAG]...\n\n"
                        "Options\n");
    add_pair(out, "--state DIR", "state folder of the daemon, which has its socket", 34);
    add_pair(out, "--socket FILE", "its socket, if it is elsewhere", 34);
    add_pair(out, "--url URL --token-file FILE", "a daemon on another machine, and the file with a token for it", 34);
    add_pair(out, "--ca FILE", "certificates (PEM) that may have signed the one of --url", 34);
    add_pair(out, "--config DIR", "configuration folder, for verbs that work on it", 34);
    add_pair(out, "--json", "replies and errors as JSON", 34);
    add_pair(out, "--timeout DURATION", "give up after this long; without it after 60s of silence", 34);
    add_pair(out, "--quiet, --yes", "no remarks and no progress bars; no questions", 34);
    add_pair(out, "--version, --help", "", 34);
    depot_buf_adds(out, "\nVerbs (depotctl help VERB tells more)\n");
    add_verbs(c, NULL, out);
    depot_buf_adds(out, "\nExit status: 0 ok, 1 failed or a negative answer, 2 usage, 3 unhealthy or refused, "
                        "78 configuration errors.\n");
}

bool help_group(const ctl *c, const char *group, depot_buf *out)
{
    size_t before = out->len;

    add_verbs(c, group, out);
    return out->len > before;
}
