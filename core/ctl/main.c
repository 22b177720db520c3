/* main.c - depotctl: reads the options before the verb, loads every plugin for its tables, runs the verb. */
#include <curl/curl.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "config.h"
#include "ctl/ctl.h"

typedef struct main_option {
    const char *name;
    size_t      offset;
    enum { OPTION_TEXT, OPTION_BOOL, OPTION_DURATION } kind;
} main_option;

/* clang-format off */
static const main_option main_options[] = {
    { "--state", offsetof(ctl_options, state_dir), OPTION_TEXT },
    { "--config", offsetof(ctl_options, conf_dir), OPTION_TEXT },
    { "--socket", offsetof(ctl_options, socket), OPTION_TEXT },
    { "--url", offsetof(ctl_options, url), OPTION_TEXT },
    { "--token-file", offsetof(ctl_options, token_file), OPTION_TEXT },
    { "--ca", offsetof(ctl_options, ca_file), OPTION_TEXT },
    { "--json", offsetof(ctl_options, json), OPTION_BOOL },
    { "--quiet", offsetof(ctl_options, quiet), OPTION_BOOL },
    { "--yes", offsetof(ctl_options, yes), OPTION_BOOL },
    { "--timeout", offsetof(ctl_options, timeout_ms), OPTION_DURATION },
};
/* clang-format on */

static int refuse(const depot_err *err)
{
    fprintf(stderr, "depotctl: error: %s\n", err->msg);
    if (err->hint[0] != '\0') {
        fprintf(stderr, "depotctl: hint: %s\n", err->hint);
    }
    return depot_err_exit(err);
}

static bool unknown_option(const char *option, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const char                               *word = depot_strndup(arena, option, strcspn(option, "="));
    const char                               *names[DEPOT_N(main_options) + 2] = { "--help", "--version" };

    for (size_t i = 0; i < DEPOT_N(main_options); i++) {
        names[i + 2] = main_options[i].name;
    }
    const char *near = depot_suggest(word, names, DEPOT_N(names));
    DEPOT_FAIL(err, USAGE, "there is no option %s", word);
    return near != NULL ? depot_hint(err, "did you mean %s?", near)
                        : depot_hint(err, "flags of a verb stand behind it; depotctl --help lists options and verbs");
}

/* One option at argv[*at], its value behind "=" or in the next word. */
static bool read_option(ctl_options *options, int argc, char **argv, int *at, depot_err *err)
{
    const char *word = argv[*at];
    size_t      n = strcspn(word, "=");

    for (size_t i = 0; i < DEPOT_N(main_options); i++) {
        const main_option *o = &main_options[i];
        char              *place = (char *)options + o->offset;

        if (strlen(o->name) != n || strncmp(o->name, word, n) != 0) {
            continue;
        }
        if (o->kind == OPTION_BOOL) {
            *(bool *)(void *)place = true;
            return word[n] == '\0' || DEPOT_FAIL(err, USAGE, "%s takes no value", o->name);
        }
        const char *value = word[n] == '=' ? word + n + 1 : ++*at < argc ? argv[*at] : NULL;
        if (value == NULL || value[0] == '\0') {
            return DEPOT_FAIL(err, USAGE, "%s needs a value", o->name);
        }
        if (o->kind == OPTION_TEXT) {
            *(const char **)(void *)place = value;
            return true;
        }
        if (!depot_parse_duration(value, (int64_t *)(void *)place, err)) {
            err->code = DEPOT_E_USAGE;
            return depot_wrap(err, "%s", o->name);
        }
        return true;
    }
    return unknown_option(word, err);
}

/* The plugins that conf.d does not name have verbs and documentation all the same. */
static void load_rest(host *h, depot_arena *arena, const char *dir, bool quiet)
{
    struct dirent **list = NULL;
    int             n = scandir(dir, &list, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        const char *file = list[i]->d_name;
        size_t      length = strlen(file);
        depot_err   err = { 0 };

        if (length > 3 && strcmp(file + length - 3, ".so") == 0) {
            const char *name = depot_strndup(arena, file, length - 3);

            if (host_find(h, name) == NULL && !host_load(h, name, NULL, false, &err) && !quiet) {
                fprintf(stderr, "depotctl: warning: %s\n", err.msg);
            }
        }
        free(list[i]);
    }
    free(list);
}

/* --json and --quiet may stand behind the verb, which is read later. */
static bool wants_silence(const ctl_options *options, int argc, char **argv)
{
    bool silent = options->json || options->quiet;

    for (int i = 0; i < argc; i++) {
        silent = silent || strcmp(argv[i], "--json") == 0 || strcmp(argv[i], "--quiet") == 0;
    }
    return silent;
}

static int run(const ctl_options *given, int argc, char **argv)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const app_options                         places = { .state_dir = given->state_dir, .conf_dir = given->conf_dir };
    ctl_options                               options = *given;
    app_paths                                 paths;
    host_env                                  env = { 0 };
    const conf                               *configuration = NULL;
    depot_err                                 err = { 0 };

    if (!app_find_paths(arena, &places, &paths, &err)) {
        return refuse(&err);
    }
    options.state_dir = paths.state_dir;
    options.conf_dir = paths.conf_dir;
    /* its problems are the business of `config check` and `doctor`; every other verb does without */
    host *h = app_open(arena, &paths, &env, conf_problems_new(arena), &configuration);
    load_rest(h, arena, paths.plugin_dir, wants_silence(&options, argc, argv));
    int status = ctl_run(h, &options, argc, argv);
    host_free(h);
    return status;
}

int main(int argc, char **argv)
{
    ctl_options options = { 0 };
    depot_err   err = { 0 };
    int         at = 1;

    for (; at < argc && argv[at][0] == '-'; at++) {
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
            break; /* ctl_run knows it */
        }
        if (strcmp(argv[at], "--version") == 0 || strcmp(argv[at], "-V") == 0) {
            printf("depotctl %s\n", DEPOT_VERSION);
            return 0;
        }
        if (!read_option(&options, argc, argv, &at, &err)) {
            return refuse(&err);
        }
    }
    if (options.url != NULL && options.socket != NULL) {
        DEPOT_FAIL(&err, USAGE, "--url and --socket are two different daemons");
        return refuse(&err);
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        DEPOT_FAIL(&err, BUG, "libcurl does not start");
        return refuse(&err);
    }
    int status = run(&options, argc - at, argv + at);
    curl_global_cleanup();
    return status;
}
