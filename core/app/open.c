/* open.c - conf.d and plugins to a checked configuration. */
#include <string.h>
#include <unistd.h>

#include "app/app.h"
#include "run/cron.h"

/* One host may run several daemons; each has a state folder of its own, and keeps it. */
static const char *node_name(depot_arena *arena, const char *state_dir)
{
    char    host_name[256] = "";
    char    place[5];
    uint8_t digest[32];

    depot_sha256(state_dir, strlen(state_dir), digest);
    depot_hex(digest, 2, place);
    bool known = gethostname(host_name, sizeof(host_name) - 1) == 0 && host_name[0] != '\0';
    return depot_strf(arena, "%.58s-%s", known ? host_name : "depotd", place);
}

static bool cron_is_valid(const char *text, depot_err *err)
{
    cron c;

    return cron_parse(text, &c, err);
}

static const conf *build(depot_arena *arena, host *h, const conf_raw *raw, const app_paths *paths, conf_problems *problems)
{
    size_t           n;
    const conf_kind *kinds = host_kinds(h, arena, &n);

    return conf_build(arena, raw, kinds, n, paths->state_dir, problems);
}

/* What stays of a configuration without problems: rules that only the plugins know. */
static void check(host *h, const conf *c, conf_problems *problems)
{
    if (conf_problem_count(problems) == 0) {
        host_check(h, c, problems);
    }
}

static host *open_raw(depot_arena *arena, const app_paths *paths, host_env *env, const conf_raw *raw, conf_problems *problems,
                      const conf **out_conf)
{
    depot_err err = { 0 };

    env->state_dir = paths->state_dir;
    env->data_dir = paths->data_dir;
    env->conf_dir = paths->conf_dir;
    env->plugin_dir = paths->plugin_dir;
    env->lua_dirs = paths->lua_dirs;
    conf_set_cron_check(cron_is_valid);
    host *h = host_new(env, app_core());
    host_load_all(h, raw, problems);
    if (!host_resolve(h, &err)) {
        conf_problem(problems, paths->conf_dir, 0, err.hint[0] == '\0' ? NULL : err.hint, "%s", err.msg);
    }
    *out_conf = build(arena, h, raw, paths, problems);
    const app_daemon_options *daemon = conf_get(*out_conf, "daemon", NULL);
    env->node = daemon != NULL && daemon->node != NULL ? daemon->node : node_name(arena, paths->state_dir);
    return h;
}

host *app_open(depot_arena *arena, const app_paths *paths, host_env *env, conf_problems *problems, const conf **out_conf)
{
    host *h = open_raw(arena, paths, env, conf_read(arena, paths->conf_dir, problems), problems, out_conf);

    check(h, *out_conf, problems);
    host_set_conf(h, *out_conf);
    return h;
}

host *app_open_packed(depot_arena *arena, const app_paths *paths, host_env *env, const char *packed, conf_problems *problems,
                      const conf **out_conf)
{
    depot_err err = { 0 };
    conf_raw *raw = conf_unpack(arena, packed, &err);

    if (raw == NULL) {
        conf_problem(problems, paths->conf_dir, 0, NULL, "%s", err.msg);
        raw = conf_raw_new(arena);
    }
    host *h = open_raw(arena, paths, env, raw, problems, out_conf);
    host_set_conf(h, *out_conf);
    return h;
}

/* With required = no the daemon may be running without it: that must not keep it from reloading anything else. */
static bool may_be_missing(const conf_raw *raw, const char *name)
{
    const char *text = conf_raw_get(raw, "plugin", name, "required");
    bool        required = true;
    depot_err   ignored = { 0 };

    return text != NULL && depot_parse_bool(text, &required, &ignored) && !required;
}

/* A plugin that conf.d names now and that is not loaded, or the other way round, needs a restart. */
static void check_plugin_set(host *h, const conf_raw *raw, conf_problems *problems)
{
    const char *name, *file;
    int         line;

    for (size_t it = 0; conf_raw_next(raw, "plugin", &it, &name, &file, &line);) {
        if (host_find(h, name) == NULL && !may_be_missing(raw, name)) {
            conf_problem(problems, file, line, "restart depotd", "plugin %s is new: plugins are loaded at start only", name);
        }
    }
    for (size_t i = 1; i < host_count(h); i++) {
        bool named = false;
        for (size_t it = 0; conf_raw_next(raw, "plugin", &it, &name, &file, &line);) {
            named = named || strcmp(name, host_plugin(h, i)->name) == 0;
        }
        if (!named) {
            conf_problem(problems, host_environment(h)->conf_dir, 0, "restart depotd", "plugin %s is running but no file names it any more",
                         host_plugin(h, i)->name);
        }
    }
}

const conf *app_reread(depot_arena *arena, host *h, const app_paths *paths, conf_problems *problems)
{
    conf_raw *raw = conf_read(arena, paths->conf_dir, problems);

    check_plugin_set(h, raw, problems);
    if (conf_problem_count(problems) > 0) {
        return NULL;
    }
    const conf *c = build(arena, h, raw, paths, problems);
    check(h, c, problems);
    if (conf_problem_count(problems) == 0) {
        conf_needs_restart(host_conf(h), c, problems);
    }
    return conf_problem_count(problems) == 0 ? c : NULL;
}
