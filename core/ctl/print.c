/* print.c - data to stdout, everything else to stderr, errors with the next command to try. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "ctl/internal.h"
#include "ctl/render.h"
#include "ctl/sink.h"

/* What to look at after an error of this kind. "%s" stands for the verb's group, or for its words. */
/* clang-format off */
static const struct {
    depot_code  code;
    const char *command;
} next_commands[] = {
    { DEPOT_E_CONFIG, "depotctl config check" },      { DEPOT_E_LUA_SYNTAX, "depotctl config check" },
    { DEPOT_E_UNAUTHORIZED, "depotctl token create NAME --role ROLE, on the daemon's machine" },
    { DEPOT_E_FORBIDDEN, "depotctl whoami" },
    { DEPOT_E_DB, "depotctl doctor" },                { DEPOT_E_DB_DOWN, "depotctl doctor" },
    { DEPOT_E_DB_UNKNOWN, "depotctl doctor" },        { DEPOT_E_IO, "depotctl doctor" },
    { DEPOT_E_NO_SPACE, "depotctl doctor" },          { DEPOT_E_CORRUPT, "depotctl doctor" },
    { DEPOT_E_UNAVAILABLE, "depotctl status" },       { DEPOT_E_MIGRATION, "depotctl migrate status" },
    { DEPOT_E_ABI, "depotctl plugin list" },          { DEPOT_E_PLUGIN, "depotctl plugin list" },
    { DEPOT_E_USAGE, "depotctl help %s" },            { DEPOT_E_INVALID, "depotctl help %s" },
    { DEPOT_E_MALFORMED, "depotctl help %s" },        { DEPOT_E_BAD_PAYLOAD, "depotctl help %s" },
};
/* clang-format on */

static bool write_out(const char *output, const char *p, size_t n, depot_err *err)
{
    if (output == NULL || strcmp(output, "-") == 0) {
        return depot_write_all(STDOUT_FILENO, p, n, err);
    }
    return sink_save(output, p, n, err);
}

int ctl_print_text(ctl *c, const verb_call *call, const char *text, size_t n)
{
    depot_err err = { 0 };

    return write_out(call->output, text, n, &err) ? 0 : ctl_error(c, call->verb, &err);
}

int ctl_print(ctl *c, const verb_call *call, const depot_json *value)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
    render_style                         style = render_style_of(STDOUT_FILENO);

    if (c->options.json) {
        depot_json_write(&out, value);
        depot_buf_adds(&out, "\n");
    } else {
        if (call->output != NULL) {
            style = (render_style){ .colour = false };
        }
        render_value(&out, &style, value, call->verb->reply);
    }
    return ctl_print_text(c, call, out.data == NULL ? "" : out.data, out.len);
}

void ctl_note(const ctl *c, const char *fmt, ...)
{
    va_list ap;

    if (c->options.quiet || c->options.json) {
        return;
    }
    va_start(ap, fmt);
    fputs("depotctl: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs("\n", stderr);
    va_end(ap);
}

/* "job show" that found nothing: "job list" says what there is. */
static const char *list_of_group(const ctl *c, const verb *v)
{
    const char *list = depot_strf(c->arena, "%.*s list", (int)strcspn(v->words, " "), v->words);

    for (size_t i = 0; i < c->verbs->n; i++) {
        if (strcmp(c->verbs->rows[i].words, list) == 0 && &c->verbs->rows[i] != v) {
            return depot_strf(c->arena, "depotctl %s", list);
        }
    }
    return NULL;
}

static const char *next_command(const ctl *c, const verb *v, const depot_err *err)
{
    if (err->code == DEPOT_E_NOT_FOUND && v != NULL) {
        return list_of_group(c, v);
    }
    for (size_t i = 0; i < DEPOT_N(next_commands); i++) {
        const char *command = next_commands[i].command;

        if (next_commands[i].code != err->code) {
            continue;
        }
        size_t n = strcspn(command, "%");
        if (command[n] != '\0') {
            return v == NULL ? "depotctl help" : depot_strf(c->arena, "%.*s%s", (int)n, command, v->words);
        }
        /* not the command that has just failed */
        return v != NULL && strcmp(command + strlen("depotctl "), v->words) == 0 ? NULL : command;
    }
    return NULL;
}

static void add_line(depot_buf *out, const char *label, const char *text)
{
    if (text != NULL && text[0] != '\0') {
        depot_buf_addf(out, "depotctl: %s: ", label);
        render_add_safe(out, text, strlen(text), false);
        depot_buf_adds(out, "\n");
    }
}

int ctl_error(ctl *c, const verb *v, const depot_err *err)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
    const char                          *next = next_command(c, v, err);

    if (c->options.json) {
        depot_json_write(&out, api_problem(c->arena, err, NULL, NULL));
        depot_buf_adds(&out, "\n");
    } else {
        add_line(&out, "error", err->msg);
        add_line(&out, "hint", err->hint);
        add_line(&out, "try", strstr(err->hint, "depotctl ") == NULL ? next : NULL); /* the hint may be it */
    }
    (void)fflush(stdout); /* what was said before comes first */
    fwrite(out.data, 1, out.len, stderr);
    return depot_err_exit(err);
}

int ctl_config_error(ctl *c, const depot_err *err, const depot_json *problems)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };

    if (c->options.json) {
        depot_json *doc = api_problem(c->arena, err, NULL, NULL);
        depot_json_set(doc, "problems", (depot_json *)(uintptr_t)problems); /* shared, never written */
        depot_json_write(&out, doc);
        depot_buf_adds(&out, "\n");
    }
    for (size_t i = 0; !c->options.json && i < depot_json_len(problems); i++) {
        size_t      n = 0;
        const char *text = depot_json_string(depot_json_at(problems, i), &n);
        render_add_safe(&out, text == NULL ? "" : text, n, true);
        depot_buf_adds(&out, "\n");
    }
    if (!c->options.json) {
        add_line(&out, "hint", err->hint);
    }
    (void)fflush(stdout); /* what was said before comes first */
    fwrite(out.data, 1, out.len, stderr);
    return depot_err_exit(err);
}
