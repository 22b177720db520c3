/* migrate_files.c - what migrations there are on disk. */
#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "db/migrate_files.h"

#define FILE_MOST (16 * 1024 * 1024)
#define NUMBER_DIGITS 4

static int is_numbered(const struct dirent *entry)
{
    return isdigit((unsigned char)entry->d_name[0]);
}

static void list_free(struct dirent **list, int n)
{
    for (int i = 0; i < n; i++) {
        free(list[i]);
    }
    free(list);
}

bool migrate_read(depot_arena *arena, const char *sql_dir, const migration *m, char **out, depot_err *err)
{
    const char *path = depot_strf(arena, "%s/%s/%s", sql_dir, m->set, m->file);
    size_t      n = 0;

    if (!depot_read_file(arena, path, FILE_MOST, out, &n, err)) {
        return false;
    }
    if (strlen(*out) != n || !depot_utf8_valid(*out, n)) {
        return DEPOT_FAIL(err, MIGRATION, "%s is not UTF-8 text", path);
    }
    return true;
}

/* "0012_add_index.sql" */
static bool name_parse(depot_arena *arena, const char *set, const char *file, migration *out, depot_err *err)
{
    size_t n = strlen(file);
    size_t digits = strspn(file, "0123456789");

    if (digits != NUMBER_DIGITS || file[digits] != '_' || n <= digits + 5 || strcmp(file + n - 4, ".sql") != 0) {
        DEPOT_FAIL(err, MIGRATION, "%s/%s does not look like 0001_what.sql", set, file);
        return depot_hint(err, "four digits, an underscore, a name; other files must not begin with a digit");
    }
    out->set = set;
    out->number = (int)strtol(file, NULL, 10);
    out->file = depot_strdup(arena, file);
    out->name = depot_strndup(arena, file + digits + 1, n - digits - 5);
    return true;
}

static bool file_load(depot_arena *arena, const char *sql_dir, const char *set, const char *file, migration *out,
                      depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *scratch = depot_arena_new();
    char   *text = NULL;
    uint8_t digest[32];

    if (!name_parse(arena, set, file, out, err) || !migrate_read(scratch, sql_dir, out, &text, err)) {
        return false;
    }
    depot_sha256(text, strlen(text), digest);
    depot_hex(digest, sizeof(digest), out->checksum);
    return true;
}

static bool files_load(depot_arena *arena, const char *sql_dir, const char *set, struct dirent **list, size_t n,
                       migration *all, depot_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!file_load(arena, sql_dir, set, list[i]->d_name, &all[i], err)) {
            return false;
        }
        int before = i == 0 ? 0 : all[i - 1].number;
        if (all[i].number == before) {
            return DEPOT_FAIL(err, MIGRATION, "%s/%s and %s/%s have the same number", set,
                              i == 0 ? "0000" : all[i - 1].file, set, all[i].file);
        }
        if (all[i].number != before + 1) {
            return DEPOT_FAIL(err, MIGRATION, "migration %d of %s is missing: %s comes after %d", before + 1, set,
                              all[i].file, before);
        }
    }
    return true;
}

bool migrate_files(depot_arena *arena, const char *sql_dir, const char *set, migration **out, size_t *out_n,
                   depot_err *err)
{
    struct dirent **list = NULL;
    const char     *dir = depot_strf(arena, "%s/%s", sql_dir, set);
    int             n = scandir(dir, &list, is_numbered, alphasort);

    if (n < 0) {
        DEPOT_FAIL_ERRNO(err, "cannot list the migrations in %s", dir);
        err->code = DEPOT_E_MIGRATION;
        return false;
    }
    *out_n = (size_t)n;
    *out = depot_alloc(arena, (size_t)n * sizeof(**out));
    bool good = files_load(arena, sql_dir, set, list, (size_t)n, *out, err);
    list_free(list, n);
    return good;
}
