/* local_config.c - conf.d without a daemon: check, show, schema, and plugins switched on and off. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/app.h"
#include "ctl/internal.h"
#include "ctl/render.h"
#include "lua/scripts.h"

/* ---- check ---- */
int local_config_check(ctl *c, const verb_call *call)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 }, warnings = { 0 };
    const char                          *dir = depot_json_get_str(call->args, "dir", c->options.conf_dir);
    const app_options                    places = { .state_dir = c->options.state_dir, .conf_dir = dir };
    conf_problems                       *problems = conf_problems_new(c->arena);
    host_env                             env = { 0 };
    const conf                          *configuration = NULL;
    app_paths                            paths;
    depot_err                            err = { 0 };

    if (!app_find_paths(c->arena, &places, &paths, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    /* a host of its own: this folder may name other plugins than the one that depotctl has loaded for its verbs */
    host *h = app_open(c->arena, &paths, &env, problems, &configuration);
    bool  fine = scripts_check(paths.lua_dirs, app_grants(c->arena, configuration), problems, &warnings) &&
                conf_problem_count(problems) == 0;
    host_free(h);
    fputs(warnings.len == 0 ? "" : warnings.data, stderr);
    if (c->options.json) {
        depot_json_write(&out, depot_json_pack(c->arena, "{s:b, s:s, s:o}", "ok", (int)fine, "dir", paths.conf_dir,
                                               "problems", conf_problems_json(c->arena, problems)));
        depot_buf_adds(&out, "\n");
    } else if (fine) {
        depot_buf_addf(&out, "%s: configuration is fine\n", paths.conf_dir);
    } else {
        conf_problems_print(problems, &out);
        fwrite(out.data, 1, out.len, stderr); /* as depotd --check does */
        return EXIT_CONFIG;
    }
    int status = ctl_print_text(c, call, out.data, out.len);
    return status != 0 ? status : fine ? 0 : EXIT_CONFIG;
}

/* ---- show ---- */
static bool wanted(const verb_call *call, const depot_json *row)
{
    const char *part = depot_json_get_str(call->args, "section", "");
    const char *origin = depot_json_get_str(row, "origin", "");

    return strstr(depot_json_get_str(row, "section", ""), part) != NULL &&
           (!depot_json_get_bool(call->args, "changed", false) || strcmp(origin, "default") != 0);
}

static size_t longest_line(const verb_call *call, const depot_json *rows)
{
    enum { SENSIBLE = 60 };
    size_t longest = 0;

    for (size_t i = 0; i < depot_json_len(rows); i++) {
        const depot_json *row = depot_json_at(rows, i);
        size_t            n = render_width(depot_json_get_str(row, "option", "")) + 3 +
                   render_width(depot_json_get_str(row, "value", ""));

        longest = wanted(call, row) && n > longest && n <= SENSIBLE ? n : longest;
    }
    return longest;
}

static void add_setting(const verb_call *call, const depot_json *row, size_t width, depot_buf *out)
{
    DEPOT_AUTO(depot_buf_free) depot_buf line = { 0 };
    const char                          *value = depot_json_get_str(row, "value", NULL);

    depot_buf_addf(&line, "%s =%s", depot_json_get_str(row, "option", ""),
                   value == NULL || value[0] == '\0' ? "" : " ");
    render_add_safe(&line, value == NULL ? "" : value, value == NULL ? 0 : strlen(value), false);
    depot_buf_adds(out, line.data);
    if (depot_json_get_bool(call->args, "origin", false)) {
        size_t n = render_width(line.data);

        depot_buf_addf(out, "%*s  ; %s", n < width ? (int)(width - n) : 0, "", depot_json_get_str(row, "origin", ""));
    }
    depot_buf_adds(out, "\n");
}

/* The daemon sends the rows bare or as the one list of an object. */
static const depot_json *rows_of(const depot_json *reply)
{
    const char       *key;
    const depot_json *value = reply;

    if (depot_json_typeof(reply) == DEPOT_JSON_OBJECT) {
        for (size_t it = 0; depot_json_next(reply, &it, &key, &value);) {
            if (depot_json_typeof(value) == DEPOT_JSON_ARRAY) {
                return value;
            }
        }
    }
    return value;
}

int show_config(ctl *c, const verb_call *call, const depot_json *reply)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
    const depot_json                    *rows = rows_of(reply);
    const char                          *section = "";
    size_t                               width = longest_line(call, rows);

    for (size_t i = 0; i < depot_json_len(rows); i++) {
        const depot_json *row = depot_json_at(rows, i);
        const char       *in = depot_json_get_str(row, "section", "");

        if (!wanted(call, row)) {
            continue;
        }
        if (strcmp(in, section) != 0) {
            depot_buf_addf(&out, "%s[%s]\n", out.len > 0 ? "\n" : "", in);
            section = in;
        }
        add_setting(call, row, width, &out);
    }
    if (out.len == 0) {
        ctl_note(c, "no section matches");
        return EXIT_FAILED;
    }
    return ctl_print_text(c, call, out.data, out.len);
}

int local_config_show(ctl *c, const verb_call *call)
{
    depot_json *rows = conf_show(c->arena, host_conf(c->host));

    return c->options.json ? ctl_print(c, call, rows) : show_config(c, call, rows);
}

int local_config_schema(ctl *c, const verb_call *call)
{
    size_t           n = 0;
    const conf_kind *kinds = host_kinds(c->host, c->arena, &n);
    const char      *text = depot_json_pretty(c->arena, conf_schema(c->arena, kinds, n));

    return ctl_print_text(c, call, depot_strf(c->arena, "%s\n", text), strlen(text) + 1);
}

/* ---- enable, disable ---- */
static bool known_plugin(ctl *c, const char *name, depot_err *err)
{
    const char *names[64];
    size_t      n = 0;

    for (size_t i = 1; i < host_count(c->host) && n < DEPOT_N(names); i++) {
        names[n++] = host_plugin(c->host, i)->name;
    }
    if (host_find(c->host, name) != NULL && strcmp(name, "core") != 0) {
        return true;
    }
    const char *near = depot_suggest(name, names, n);
    DEPOT_FAIL(err, NOT_FOUND, "there is no plugin %s in %s", name, host_environment(c->host)->plugin_dir);
    return near != NULL ? depot_hint(err, "did you mean %s?", near) : depot_hint(err, "depotctl plugin list");
}

static int flip(ctl *c, const verb_call *call, bool on)
{
    DEPOT_AUTO(depot_buf_free) depot_buf sample = { 0 };
    const char                          *name = depot_json_get_str(call->args, "plugin", "");
    size_t                               n = 0;
    const conf_kind                     *kinds = host_kinds(c->host, c->arena, &n);
    char                                *file = NULL;
    depot_err                            err = { 0 };

    if (on && !known_plugin(c, name, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    conf_sample(&sample, kinds, n, name);
    if (!conf_enable(c->options.conf_dir, name, sample.data, on, &file, c->arena, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    if (c->options.json) {
        return ctl_print(
            c, call, depot_json_pack(c->arena, "{s:s, s:b, s:s?}", "plugin", name, "enabled", (int)on, "file", file));
    }
    const char *said = depot_strf(c->arena, "%s is %s%s%s\n", name, on ? "enabled" : "disabled",
                                  file == NULL ? "" : ": ", file == NULL ? "" : file);
    int         status = ctl_print_text(c, call, said, strlen(said));
    ctl_note(c, "in force after a restart: depotctl config check && systemctl restart depotd");
    return status;
}

int local_enable(ctl *c, const verb_call *call)
{
    return flip(c, call, true);
}

int local_disable(ctl *c, const verb_call *call)
{
    return flip(c, call, false);
}
