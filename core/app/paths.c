/* paths.c - where things are: beside the program in a source tree, in the system's folders when installed. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/app.h"
#include "config.h"

static const char *absolute(depot_arena *arena, const char *path)
{
    char here[PATH_MAX];

    if (path[0] == '/' || getcwd(here, sizeof(here)) == NULL) {
        return depot_strdup(arena, path);
    }
    while (strncmp(path, "./", 2) == 0) {
        path += 2;
    }
    return path[0] == '\0' || strcmp(path, ".") == 0 ? depot_strdup(arena, here) : depot_strf(arena, "%s/%s", here, path);
}

/* "/etc/depotd/conf.d/" is the folder conf.d in /etc/depotd, not one without a name in conf.d. */
static const char *folder(depot_arena *arena, const char *path)
{
    char  *whole = depot_strdup(arena, absolute(arena, path));
    size_t n = strlen(whole);

    while (n > 1 && whole[n - 1] == '/') {
        whole[--n] = '\0';
    }
    return whole;
}

static bool own_path(depot_arena *arena, const char **out, depot_err *err)
{
    char    path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (n <= 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot read /proc/self/exe");
    }
    *out = depot_strndup(arena, path, (size_t)n);
    return true;
}

/* The build writes a file `tree` beside the programs that holds the path of the source tree. */
static const char *source_tree(depot_arena *arena, const char *build)
{
    depot_err err = { 0 };
    char     *text = NULL;
    size_t    n = 0;

    if (!depot_read_file(arena, depot_strf(arena, "%s/tree", build), PATH_MAX, &text, &n, &err)) {
        return NULL;
    }
    text[strcspn(text, "\n")] = '\0';
    return text;
}

bool app_find_paths(depot_arena *arena, const app_options *options, app_paths *out, depot_err *err)
{
    *out = (app_paths){ 0 };
    if (!own_path(arena, &out->exe, err)) {
        return false;
    }
    const char *build = depot_strndup(arena, out->exe, (size_t)(strrchr(out->exe, '/') - out->exe));
    const char *tree = source_tree(arena, build);
    out->in_tree = tree != NULL;
    out->data_dir = tree != NULL ? tree : DEPOT_DATADIR;
    out->plugin_dir = tree != NULL ? depot_strf(arena, "%s/plugins", build) : DEPOT_PLUGINDIR;
    const char *conf_dir = options->conf_dir != NULL ? options->conf_dir : tree != NULL ? "conf.d" : DEPOT_SYSCONFDIR "/conf.d";
    const char *state = options->state_dir != NULL ? options->state_dir : tree != NULL ? "var" : DEPOT_STATEDIR;
    out->conf_dir = folder(arena, conf_dir);
    out->state_dir = folder(arena, state);
    const char *stock = depot_strf(arena, "%s/lua", out->data_dir);
    const char *site = depot_strf(arena, "%.*s/lua", (int)(strrchr(out->conf_dir, '/') - out->conf_dir), out->conf_dir);
    /* also while it is not there: a reload sees the first script that is put into it */
    out->lua_dirs = strcmp(site, stock) != 0 ? depot_strf(arena, "%s:%s", site, stock) : stock;
    return true;
}
