/* test_zone_file.c - zones by name, and zone files: those of the system, and damaged ones. */
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "depot/base.h"
#include "run/zone.h"
#include "tzif.h"

#include "tap.h"

static depot_arena *arena;

/* ---- names ---- */

static void bad_names_are_refused(void)
{
    static const struct {
        const char *name, *message, *hint;
    } rows[] = {
        { "Europe/Berln", "time zone \"Europe/Berln\" does not exist", "did you mean Europe/Berlin" },
        { "europe/berlin", "time zone \"europe/berlin\" does not exist", "did you mean Europe/Berlin" },
        { "Berlin", "time zone \"Berlin\" does not exist", "did you mean Europe/Berlin" },
        { "new york", "time zone \"new york\" is not a zone's name", "did you mean America/New_York" },
        { "Europe", "time zone \"Europe\" is a folder of zones", NULL },
        { "../../../etc/passwd", "time zone \"../../../etc/passwd\" is not a zone's name", NULL },
        { "Europe/../UTC", "time zone \"Europe/../UTC\" is not a zone's name", NULL },
        { "/etc/localtime", "time zone \"/etc/localtime\" is not a zone's name", NULL },
        { "tzdata.zi", "time zone \"tzdata.zi\" is not a zone's name", NULL },
        { "", "time zone \"\" is not a zone's name", NULL },
        { "Europe//Berlin", "time zone \"Europe//Berlin\" is not a zone's name", NULL },
        { "Europe/", "time zone \"Europe/\" is not a zone's name", NULL },
        { "CET-1CEST,M3.5.0,M10.5.0/3", "time zone \"CET-1CEST,M3.5.0,M10.5.0/3\" is not a zone's name", NULL },
        { "Xyzzy/Plugh", "time zone \"Xyzzy/Plugh\" does not exist",
          "names are those of the files below /usr/share/zoneinfo, such as Europe/Berlin, and UTC" },
        { "Europe/Berlin/Mitte", "time zone \"Europe/Berlin/Mitte\" does not exist", NULL },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err   err = { 0 };
        const zone *z = NULL;

        ok(!zone_load(arena, rows[i].name, &z, &err) && z == NULL, rows[i].message);
        is_str(err.msg, rows[i].message, "message");
        is_int(err.code, DEPOT_E_INVALID, "code");
        if (rows[i].hint != NULL) {
            is_str(err.hint, rows[i].hint, "hint");
        }
    }
}

static void long_names_are_refused(void)
{
    char       *name = depot_alloc(arena, 100001);
    depot_err   err = { 0 };
    const zone *z = NULL;

    memset(name, 'a', 100000);
    ok(!zone_load(arena, name, &z, &err), "100000 bytes");
    is_int(err.code, DEPOT_E_INVALID, "code");
}

static void a_system_without_zones_has_utc(void)
{
    depot_err   err = { 0 };
    const zone *z = NULL;

    ok(setenv("TZDIR", "/nonexistent/zoneinfo", 1) == 0, "TZDIR set");
    ok_err(zone_load(arena, "UTC", &z, &err), &err, "UTC needs no file");
    ok(z == zone_utc(), "it is built in");
    ok(!zone_load(arena, "Europe/Berlin", &z, &err), "Europe/Berlin does");
    is_str(err.hint, "there is no /nonexistent/zoneinfo: install the package tzdata, or use UTC", "hint");
    ok(unsetenv("TZDIR") == 0, "TZDIR unset");
}

/* NULL when the file is no zone file, or one that counts leap seconds; else what zone_parse says, "" for nothing. */
static const char *complaint_about(const char *path)
{
    char       *bytes = NULL;
    size_t      n = 0;
    depot_err   err = { 0 };
    const zone *z = NULL;

    if (strstr(path, "/right/") != NULL || !depot_read_file(arena, path, 1 << 20, &bytes, &n, &err) || n < 4 ||
        memcmp(bytes, "TZif", 4) != 0) {
        return NULL;
    }
    return zone_parse(arena, path, bytes, n, &z, &err) ? "" : depot_strdup(arena, err.msg);
}

static void every_installed_zone_can_be_read(void)
{
    char        root[] = "/usr/share/zoneinfo";
    char *const roots[] = { root, NULL };
    FTS        *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    const char *complaint = "";
    int         found = 0;

    if (!ok(walk != NULL, "walked /usr/share/zoneinfo")) {
        return;
    }
    for (FTSENT *entry = fts_read(walk); entry != NULL; entry = fts_read(walk)) {
        const char *text = entry->fts_info == FTS_F ? complaint_about(entry->fts_path) : NULL;

        found += text == NULL ? 0 : 1;
        complaint = text == NULL || complaint[0] != '\0' ? complaint : text;
    }
    ok(fts_close(walk) == 0, "to its end");
    ok(found > 300, depot_strf(arena, "%d zone files", found));
    is_str(complaint, "", "all can be read");
}

/* ---- files ---- */

static void damaged_files_are_refused(void)
{
    static const struct {
        size_t      offset;
        int         byte;
        const char *message;
    } rows[] = {
        { 0, 'X', "not a time zone file" },
        { 4, '\0', "the file has format version 1, which ends in 2038" },
        { 32, 0x7f, "the file claims more than any zone has" },
        { 36, 0x7f, "the file claims more than any zone has" },
        { TZIF_OLD_BLOCK, 'X', "not a time zone file" },
        { TZIF_OLD_BLOCK + 31, 1, "the file counts leap seconds, which system clocks do not" },
        { TZIF_OLD_BLOCK + 35, 1, "the file is cut short" },
        { TZIF_OLD_BLOCK + 39, 0, "the file has no types or names" },
        { TZIF_OLD_BLOCK + 43, 3, "the file has no types or names" },
        { TZIF_BLOCK, 0x7f, "type 0 of the file is impossible" },
        { TZIF_BLOCK + 4, 2, "type 0 of the file is impossible" },
        { TZIF_BLOCK + 5, 4, "type 0 of the file is impossible" },
        { TZIF_BLOCK + 10, 'X', "the file has no footer" },
        { TZIF_BLOCK + 16, 'X', "the footer has no end" },
    };
    DEPOT_AUTO(depot_buf_free) depot_buf file = { 0 };
    const zone                          *z = NULL;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err err = { 0 };

        tzif_small(&file, "STD-1", 5);
        file.data[rows[i].offset] = (char)rows[i].byte;
        ok(!zone_parse(arena, "Test/Zone", file.data, file.len, &z, &err) && z == NULL,
           depot_strf(arena, "byte %zu", rows[i].offset));
        is_str(err.msg, depot_strf(arena, "cannot use time zone Test/Zone: %s", rows[i].message), "message");
    }
}

static void impossible_changes_are_refused(void)
{
    static const char changes[18] = { [6] = 1, [14] = 2 }; /* at 256 and 512, both to type 0 */
    static const struct {
        size_t      offset; /* from the start of the times; 16 and 17 are the types */
        int         byte;
        const char *complaint;
    } rows[] = {
        { 7, 1, "" },
        { 14, 1, "cannot use time zone Test/Zone: change 1 of the file is impossible" }, /* the same time */
        { 14, 0, "cannot use time zone Test/Zone: change 1 of the file is impossible" }, /* earlier */
        { 8, 0x7f, "cannot use time zone Test/Zone: change 1 of the file is impossible" },
        { 0, 0x80, "cannot use time zone Test/Zone: change 0 of the file is impossible" },
        { 17, 1, "cannot use time zone Test/Zone: change 1 of the file is impossible" }, /* there is only type 0 */
    };
    DEPOT_AUTO(depot_buf_free) depot_buf small = { 0 };
    DEPOT_AUTO(depot_buf_free) depot_buf file = { 0 };

    tzif_small(&small, "STD-1", 5);
    small.data[TZIF_OLD_BLOCK + 35] = 2;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err   err = { 0 };
        const zone *z = NULL;

        depot_buf_reset(&file);
        depot_buf_add(&file, small.data, TZIF_BLOCK);
        depot_buf_add(&file, changes, sizeof(changes));
        depot_buf_add(&file, small.data + TZIF_BLOCK, small.len - TZIF_BLOCK);
        file.data[TZIF_BLOCK + rows[i].offset] = (char)rows[i].byte;
        is_int(zone_parse(arena, "Test/Zone", file.data, file.len, &z, &err), rows[i].complaint[0] == '\0', "taken");
        is_str(err.msg, rows[i].complaint, depot_strf(arena, "byte %zu", rows[i].offset));
    }
}

static void truncated_files_are_refused(void)
{
    char     *bytes = NULL;
    size_t    n = 0;
    int       taken = 0;
    depot_err err = { 0 };

    if (!ok_err(depot_read_file(arena, "/usr/share/zoneinfo/Europe/Berlin", 1 << 20, &bytes, &n, &err), &err,
                "a real file")) {
        return;
    }
    for (size_t length = 0; length < n; length++) {
        /* An allocation of just that size: a read behind it is seen by the sanitizer. */
        char       *cut = depot_xalloc(length > 0 ? length : 1);
        const zone *z = NULL;

        memcpy(cut, bytes, length);
        taken += zone_parse(arena, "Test/Zone", cut, length, &z, &err) ? 1 : 0;
        free(cut);
    }
    is_int(taken, 0, "prefixes that are taken for a whole file");
}

static void tzdir_is_honoured(void)
{
    static const char list[] = "# a list\nXX\t+0000+00000\tOwn\nXX\t+0000+00000\tGone\n";
    char              dir[] = "/tmp/test_zone.XXXXXX";
    depot_err         err = { 0 };
    const zone       *z = NULL;
    zone_civil        civil = { 0 };

    DEPOT_AUTO(depot_buf_free) depot_buf file = { 0 };

    tzif_small(&file, "OWN-4:30", 8);
    if (!ok(mkdtemp(dir) != NULL && setenv("TZDIR", dir, 1) == 0, "a folder of our own")) {
        return;
    }
    ok_err(depot_write_file(depot_strf(arena, "%s/Own", dir), file.data, file.len, 0644, &err), &err, "a zone in it");
    ok_err(depot_write_file(depot_strf(arena, "%s/Bad", dir), "TZif", 4, 0644, &err), &err, "a damaged one");
    ok_err(depot_write_file(depot_strf(arena, "%s/zone1970.tab", dir), list, strlen(list), 0644, &err), &err, "a list");
    if (!ok_err(zone_load(arena, "Own", &z, &err), &err, "loads")) {
        return;
    }
    zone_local(z, 0, &civil);
    is_str(civil.abbrev, "OWN", "its clock's name");
    is_int(civil.offset_s, 16200, "its clock");
    is_str(zone_name(z), "Own", "its name");
    ok(!zone_load(arena, "Bad", &z, &err), "the damaged one does not");
    is_int(err.code, DEPOT_E_CORRUPT, "code");
    is_str(err.hint, "reinstall the package tzdata, or use UTC", "hint");
    ok(!zone_load(arena, "own", &z, &err), "names have their case");
    is_str(err.hint, "did you mean Own", "the hint comes from zone1970.tab");
    ok(!zone_load(arena, "gone", &z, &err), "a listed name without a file");
    contains(err.hint, "such as Europe/Berlin", "is not suggested");
    ok_err(depot_remove_tree(dir, &err), &err, "cleaned up");
    ok(unsetenv("TZDIR") == 0, "TZDIR unset");
}

int main(void)
{
    arena = depot_arena_new();
    run(bad_names_are_refused);
    run(long_names_are_refused);
    run(a_system_without_zones_has_utc);
    run(every_installed_zone_can_be_read);
    run(damaged_files_are_refused);
    run(impossible_changes_are_refused);
    run(truncated_files_are_refused);
    run(tzdir_is_honoured);
    depot_arena_free(arena);
    return done();
}
