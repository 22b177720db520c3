/* local_plugin.c - plugins without a daemon: what lies in the plugin folder, and which of them conf.d names. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/internal.h"

static bool is_enabled(const conf_raw *raw, const char *name)
{
    const char *section, *file;
    int         line;

    for (size_t it = 0; conf_raw_next(raw, "plugin", &it, &section, &file, &line);) {
        if (strcmp(section, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool has_name(const depot_json *rows, const char *name)
{
    for (size_t i = 0; i < depot_json_len(rows); i++) {
        if (strcmp(depot_json_get_str(depot_json_at(rows, i), "name", ""), name) == 0) {
            return true;
        }
    }
    return false;
}

static void add_loaded(ctl *c, const conf_raw *raw, depot_json *list)
{
    for (size_t i = 0; i < host_count(c->host); i++) {
        const depot_ctx *ctx = host_plugin(c->host, i);
        bool             enabled = ctx->file == NULL || is_enabled(raw, ctx->name);

        depot_json_add(list, depot_json_pack(c->arena, "{s:s, s:s?, s:s, s:s?}", "name", ctx->name, "version",
                                             ctx->desc.version, "state", enabled ? "enabled" : "disabled", "summary",
                                             ctx->desc.summary));
    }
}

void ctl_broken_plugins(ctl *c, depot_json *list)
{
    const char     *dir = host_environment(c->host)->plugin_dir;
    struct dirent **files = NULL;
    int             n = scandir(dir, &files, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        size_t      length = strlen(files[i]->d_name);
        bool        is_so = length > 3 && strcmp(files[i]->d_name + length - 3, ".so") == 0;
        const char *name = is_so ? depot_strndup(c->arena, files[i]->d_name, length - 3) : NULL;
        depot_err   err = { 0 };

        if (is_so && host_find(c->host, name) == NULL && !host_load(c->host, name, NULL, false, &err)) {
            depot_json_add(
                list, depot_json_pack(c->arena, "{s:s, s:s, s:s}", "name", name, "state", "broken", "why", err.msg));
        }
        free(files[i]);
    }
    free(files);
}

/* The daemon knows those that it has loaded; what else lies in the folder is worth a line. */
int show_plugins(ctl *c, const verb_call *call, const depot_json *reply)
{
    depot_json *list = depot_json_array(c->arena);

    for (size_t i = 0; i < depot_json_len(reply); i++) {
        const depot_json *row = depot_json_at(reply, i);

        depot_json_add(list, depot_json_pack(c->arena, "{s:s?, s:s?, s:s?, s:s?, s:s?}", "name",
                                             depot_json_get_str(row, "name", NULL), "version",
                                             depot_json_get_str(row, "version", NULL), "state",
                                             depot_json_get_str(row, "state", NULL), "summary",
                                             depot_json_get_str(row, "summary", NULL), "why",
                                             depot_json_get_str(row, "why", NULL)));
    }
    for (size_t i = 1; i < host_count(c->host) && c->options.url == NULL; i++) {
        const depot_ctx *ctx = host_plugin(c->host, i);

        if (!has_name(reply, ctx->name)) {
            depot_json_add(list, depot_json_pack(c->arena, "{s:s, s:s?, s:s, s:s?}", "name", ctx->name, "version",
                                                 ctx->desc.version, "state", "disabled", "summary", ctx->desc.summary));
        }
    }
    return ctl_print(c, call, list);
}

int local_plugin_list(ctl *c, const verb_call *call)
{
    conf_raw   *raw = conf_read(c->arena, c->options.conf_dir, conf_problems_new(c->arena));
    depot_json *list = depot_json_array(c->arena);

    add_loaded(c, raw, list);
    ctl_broken_plugins(c, list);
    return ctl_print(c, call, list);
}

int local_plugin_show(ctl *c, const verb_call *call)
{
    const char *name = depot_json_get_str(call->args, "name", "");
    const char *names[64];
    size_t      n = 0;
    depot_json *shown = host_show(c->host, c->arena, name);
    depot_err   err = { 0 };

    if (shown != NULL) {
        return ctl_print(c, call, shown);
    }
    for (size_t i = 0; i < host_count(c->host) && n < DEPOT_N(names); i++) {
        names[n++] = host_plugin(c->host, i)->name;
    }
    const char *near = depot_suggest(name, names, n);
    DEPOT_FAIL(&err, NOT_FOUND, "there is no plugin %s", name);
    if (near != NULL) {
        depot_hint(&err, "did you mean %s?", near);
    }
    return ctl_error(c, call->verb, &err);
}
