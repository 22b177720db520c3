/* enable.c - plugins switched on and off like a distribution does it: by the name of their file in conf.d. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/data.h"

#define OFF_SUFFIX ".disabled"

typedef struct plugin_files {
    const char *on[8], *off[8]; /* paths of NN-name.ini and NN-name.ini.disabled; more than one is unusual enough */
    size_t      n_on, n_off;
} plugin_files;

/* Is this "20-queue.ini" or "queue.ini" for the plugin queue, once suffix is taken off? */
static bool is_file_of(const char *file, const char *plugin, const char *suffix)
{
    size_t digits = strspn(file, "0123456789");
    size_t dash = digits > 0 && file[digits] == '-' ? digits + 1 : 0;
    size_t n = strlen(plugin);

    return strncmp(file + dash, plugin, n) == 0 && strcmp(file + dash + n, suffix) == 0;
}

static void keep(depot_arena *arena, const char *dir, const char *file, const char **list, size_t max, size_t *n)
{
    if (*n < max) {
        list[(*n)++] = depot_strf(arena, "%s/%s", dir, file);
    }
}

static bool find_files(depot_arena *arena, const char *dir, const char *plugin, plugin_files *out, depot_err *err)
{
    struct dirent **names = NULL;
    int             n = scandir(dir, &names, NULL, alphasort);

    if (n < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot read %s", dir);
    }
    for (int i = 0; i < n; i++) {
        if (is_file_of(names[i]->d_name, plugin, ".ini")) {
            keep(arena, dir, names[i]->d_name, out->on, DEPOT_N(out->on), &out->n_on);
        } else if (is_file_of(names[i]->d_name, plugin, ".ini" OFF_SUFFIX)) {
            keep(arena, dir, names[i]->d_name, out->off, DEPOT_N(out->off), &out->n_off);
        }
        free(names[i]);
    }
    free(names);
    return true;
}

/* Renames without replacing: a copy that somebody put away must not be lost. Durable when it returns. */
static bool move(const char *dir, const char *from, const char *to, depot_err *err)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) {
        return depot_fsync_dir(dir, err);
    }
    if (errno == EEXIST) {
        (void)DEPOT_FAIL(err, CONFLICT, "cannot rename %s: %s is there already", from, to);
        return depot_hint(err, "remove the one that is not wanted");
    }
    bool no_such_flag = errno == EINVAL || errno == ENOSYS; /* some network file systems */
    if (!no_such_flag || access(to, F_OK) == 0 || rename(from, to) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot rename %s to %s", from, to);
    }
    return depot_fsync_dir(dir, err);
}

/* Where [plugin NAME] stands in files that are read. */
static const conf_place_row *places_of(depot_arena *arena, const char *dir, const char *plugin)
{
    conf_problems     *ignored = conf_problems_new(arena); /* mistakes elsewhere are not the matter here */
    const raw_section *s = raw_find(conf_read(arena, dir, ignored), "plugin", plugin);

    return s == NULL ? NULL : s->places;
}

static bool switch_on(depot_arena *arena, const char *dir, const char *plugin, const char *sample, char **out_file,
                      depot_err *err)
{
    const conf_place_row *place = places_of(arena, dir, plugin);
    plugin_files          files = { 0 };

    if (place != NULL) {
        *out_file = depot_strdup(arena, place->file);
        return true;
    }
    if (!find_files(arena, dir, plugin, &files, err)) {
        return false;
    }
    if (files.n_on > 0) {
        *out_file = depot_strdup(arena, files.on[0]);
        (void)DEPOT_FAIL(err, CONFLICT, "%s is there, but holds no [plugin %s]", files.on[0], plugin);
        return depot_hint(err, "write the line [plugin %s] into it", plugin);
    }
    if (files.n_off > 0) {
        size_t n = strlen(files.off[0]) - strlen(OFF_SUFFIX);
        *out_file = depot_strndup(arena, files.off[0], n);
        return move(dir, files.off[0], *out_file, err);
    }
    *out_file = depot_strf(arena, "%s/50-%s.ini", dir, plugin);
    return depot_write_file(*out_file, sample, strlen(sample), 0640, err);
}

static bool switch_off(depot_arena *arena, const char *dir, const char *plugin, char **out_file, depot_err *err)
{
    plugin_files files = { 0 };

    *out_file = NULL;
    if (!find_files(arena, dir, plugin, &files, err)) {
        return false;
    }
    for (const conf_place_row *p = places_of(arena, dir, plugin); p != NULL; p = p->next) {
        if (!is_file_of(strrchr(p->file, '/') + 1, plugin, ".ini")) {
            (void)DEPOT_FAIL(err, CONFLICT, "[plugin %s] stands in %s:%d, among other things", plugin, p->file, p->line);
            return depot_hint(err, "comment it out there");
        }
    }
    for (size_t i = 0; i < files.n_on; i++) {
        *out_file = depot_strf(arena, "%s" OFF_SUFFIX, files.on[i]);
        if (!move(dir, files.on[i], *out_file, err)) {
            return false;
        }
    }
    if (*out_file == NULL && files.n_off > 0) {
        *out_file = depot_strdup(arena, files.off[0]);
    }
    return true;
}

bool conf_enable(const char *dir, const char *plugin, const char *sample, bool on, char **out_file, depot_arena *arena,
                 depot_err *err)
{
    if (!conf_is_word(plugin, strlen(plugin), CONF_NAME_MAX) || plugin[0] == '.') {
        return DEPOT_FAIL(err, INVALID, "\"%.60s\" cannot be the name of a plugin", plugin);
    }
    return on ? switch_on(arena, dir, plugin, sample, out_file, err) : switch_off(arena, dir, plugin, out_file, err);
}
