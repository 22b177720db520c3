/* locals.c - the verbs that depotctl has itself. Where a route has the same words the daemon is asked first. */
#include "ctl/internal.h"

/* clang-format off */
static const depot_field config_dir[] = {
    { .name = "dir", .type = DEPOT_T_STRING,
      .doc = "folder with the *.ini files; without it the one that depotd reads" },
    { .name = NULL },
};
static const depot_field config_show[] = {
    { .name = "section", .type = DEPOT_T_STRING, .doc = "only sections whose name holds this text" },
    { .name = "origin", .type = DEPOT_T_BOOL,
      .doc = "tell where each value comes from: file:line, env:NAME or default" },
    { .name = "changed", .type = DEPOT_T_BOOL, .doc = "only values that are not the default" },
    { .name = NULL },
};
static const depot_field plugin_name[] = {
    { .name = "plugin", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "name of the plugin" },
    { .name = NULL },
};
static const depot_field show_name[] = {
    { .name = "name", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "name of the plugin" },
    { .name = NULL },
};
static const depot_field dry_run[] = {
    { .name = "dry_run", .type = DEPOT_T_BOOL, .doc = "only tell what would be applied" },
    { .name = NULL },
};
static const char *const shells[] = { "bash", NULL };
static const depot_field shell[] = {
    { .name = "shell", .type = DEPOT_T_ENUM, .flags = DEPOT_REQUIRED, .choices = shells, .doc = "for which shell" },
    { .name = NULL },
};
static const char *const documents[] = { "options", "routes", "lua", "metrics", "errors", "verbs",
                                         "events", "completion", "types",
                                         "samples", "man", "all", NULL };
static const depot_field docs[] = {
    { .name = "what", .type = DEPOT_T_ENUM, .flags = DEPOT_REQUIRED, .choices = documents,
      .doc = "which document; all writes every reference page into the folder of --output" },
    { .name = "plugin", .type = DEPOT_T_STRING, .doc = "samples: only the file of this plugin" },
    { .name = NULL },
};
static const depot_field lua_files[] = {
    { .name = "file", .type = DEPOT_T_LIST, .doc = "scripts; without one all of the script folders" },
    { .name = NULL },
};
static const depot_field lua_run[] = {
    { .name = "file", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "the script" },
    { .name = "args", .type = DEPOT_T_STRING, .def = "{}", .doc = "its argument, or the job's arguments, as JSON" },
    { .name = "job", .type = DEPOT_T_STRING, .doc = "which job, when the file declares several" },
    { .name = "grant", .type = DEPOT_T_LIST, .doc = "what it may reach besides what conf.d grants: http:HOST, exec:/PATH" },
    { .name = "limit", .type = DEPOT_T_DURATION, .def = "60s", .min = 1, .max = 86400000, .doc = "deadline" },
    { .name = NULL },
};
static const depot_field lua_repl[] = {
    { .name = "grant", .type = DEPOT_T_LIST, .doc = "what entries may reach: http:HOST, exec:/PATH" },
    { .name = NULL },
};
static const depot_field help[] = {
    { .name = "verb", .type = DEPOT_T_LIST, .doc = "words of a verb or of a group" },
    { .name = NULL },
};

static const depot_field migration_columns[] = {
    { .name = "set", .doc = "plugin" }, { .name = "number" }, { .name = "name" }, { .name = "state" },
    { .name = "applied_at", .type = DEPOT_T_TIME }, { .name = NULL },
};

const ctl_local ctl_locals[] = {
    { .cli = "config check [dir]", .fields = config_dir, .run = local_config_check,
      .doc = "read conf.d, plugins and scripts as depotd would and print every problem; exit status 78 for any" },
    { .cli = "config show [section]", .fields = config_show, .run = local_config_show, .show = show_config,
      .doc = "the configuration in force, secrets masked" },
    { .cli = "config schema", .run = local_config_schema,
      .doc = "every section and option with type, default and range, as JSON" },
    { .cli = "enable <plugin>", .fields = plugin_name, .run = local_enable,
      .doc = "make depotd load a plugin from its next start on" },
    { .cli = "disable <plugin>", .fields = plugin_name, .run = local_disable,
      .doc = "keep depotd from loading a plugin; its configuration file stays, renamed" },
    { .cli = "event emit <name> [payload]", .doc = "emit an event; hooks react to it" },
    { .cli = "plugin list", .run = local_plugin_list, .show = show_plugins,
      .doc = "plugins with version, state and what they are for" },
    { .cli = "plugin show <name>", .fields = show_name, .run = local_plugin_show,
      .doc = "everything that a plugin offers" },
    { .cli = "migrate status", .reply = migration_columns, .run = local_migrate_status,
      .doc = "which migrations there are and which are applied" },
    { .cli = "migrate up", .fields = dry_run, .reply = migration_columns, .run = local_migrate_up,
      .doc = "apply pending migrations; without the daemon it needs [database] owner_url" },
    { .cli = "doctor", .run = local_doctor,
      .doc = "examine installation, configuration, database and daemon; exit status 0 ok, 1 warnings, 3 failures" },
    { .cli = "completion <shell>", .fields = shell, .run = local_completion,
      .doc = "completion script: depotctl completion bash > /usr/share/bash-completion/completions/depotctl" },
    { .cli = "docs <what>", .fields = docs, .run = local_docs,
      .doc = "reference generated from the tables of core and plugins" },
    { .cli = "help [verb]...", .fields = help, .run = local_help, .doc = "what a verb does and takes" },
    { .cli = "lua check [file]...", .fields = lua_files, .run = local_lua_check,
      .doc = "compile and declare scripts: syntax, declarations, names that do not exist, needs that are not granted; exit status 78 "
             "for any fault" },
    { .cli = "lua run <file>", .fields = lua_run, .run = local_lua_run,
      .doc = "run one script, or the job that it declares, without a daemon; the database is DATABASE_URL, if it is set" },
    { .cli = "lua repl", .fields = lua_repl, .run = local_lua_repl,
      .doc = "a session in the sandbox, without a daemon: expressions and statements from the standard input; the database is DATABASE_URL" },
    { .cli = "lua test [file]...", .fields = lua_files, .run = local_lua_test,
      .doc = "run tests of scripts (*_test.lua) against fakes; exit status 1 when one fails" },
    { .cli = "version", .run = local_version, .doc = "version of depotctl and of the plugin interface" },
};
const size_t ctl_locals_n = DEPOT_N(ctl_locals);
/* clang-format on */

bool ctl_collect(host *h, depot_arena *arena, verb_set **out, depot_err *err)
{
    verb_set *set = verb_set_new(arena);

    for (size_t i = 0; i < host_count(h); i++) {
        const depot_ctx *ctx = host_plugin(h, i);

        for (size_t r = 0; r < ctx->n_routes; r++) {
            if (ctx->routes[r].cli != NULL && !verb_add_route(set, ctx->name, &ctx->routes[r], err)) {
                return false;
            }
        }
    }
    for (size_t i = 0; i < ctl_locals_n; i++) {
        if (!verb_add_local(set, &ctl_locals[i], err)) {
            return false;
        }
    }
    verb_set_sort(set);
    *out = set;
    return true;
}
