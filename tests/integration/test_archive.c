/* test_archive.c - WAL segments on their way into a folder: alone, and as the archive_command of a real cluster. This
 * program is what the command runs, as depotd is in earnest. */
#include <errno.h>
#include <limits.h>
#include <signal.h>

#include "pg/archive.h"

#include "tap.h"

#include "pgtest.h"

#define SEGMENT "000000010000000000000001"

static void put(const char *path, const char *text)
{
    depot_err err = { 0 };

    if (!depot_write_file(path, text, strlen(text), 0600, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
}

static const char *text_of(const char *path)
{
    char     *text = NULL;
    depot_err err = { 0 };

    return depot_read_file(pgt_arena, path, 32 << 20, &text, NULL, &err) ? text : "";
}

static bool same_bytes(const char *a, const char *b)
{
    char     *text[2] = { NULL, NULL };
    size_t    n[2] = { 0, 0 };
    depot_err err = { 0 };

    return depot_read_file(pgt_arena, a, 32 << 20, &text[0], &n[0], &err) &&
           depot_read_file(pgt_arena, b, 32 << 20, &text[1], &n[1], &err) && n[0] == n[1] && n[0] > 0 &&
           memcmp(text[0], text[1], n[0]) == 0;
}

static const char *in(const char *dir, const char *name)
{
    return depot_strf(pgt_arena, "%s/%s", dir, name);
}

static void a_segment_is_copied_once(void)
{
    const char *wal = pgt_dir("wal");
    const char *source = in(pgt_root, "source");
    depot_err   err = { 0 };
    struct stat st;

    put(source, "one");
    ok_err(pg_archive_wal(wal, source, SEGMENT, &err), &err, "a segment");
    is_str(text_of(in(wal, SEGMENT)), "one", "is there");
    ok(stat(in(wal, SEGMENT), &st) == 0 && (st.st_mode & 0777) == 0600, "closed to others");
    ok_err(pg_archive_wal(wal, source, SEGMENT, &err), &err, "again: the same is fine");
    put(source, "two");
    ok(!pg_archive_wal(wal, source, SEGMENT, &err), "something else by that name is not");
    is_str(depot_err_id(&err), "CONFLICT", "its code");
    is_str(text_of(in(wal, SEGMENT)), "one", "what was there stays");
    put(source, "onex");
    ok(!pg_archive_wal(wal, source, SEGMENT, &err), "nor is a longer one");
    put(source, "on");
    ok(!pg_archive_wal(wal, source, SEGMENT, &err), "nor a shorter one");
    ok_err(pg_archive_wal(wal, source, "00000002.history", &err), &err, "a timeline's history");
    ok_err(pg_archive_wal(wal, source, SEGMENT ".00000028.backup", &err), &err, "a backup label");
}

static void what_is_no_segment_is_refused(void)
{
    static const char *const names[] = { "", ".", "..", "../x", "a/b", ".hidden", "a b", "x'y",
                                         "0000000000000000000000000000000000000000000000000000000000000000000000000" };
    const char *wal = pgt_dir("wal2");
    depot_err   err = { 0 };

    put(in(pgt_root, "source"), "one");
    for (size_t i = 0; i < DEPOT_N(names); i++) {
        ok(!pg_archive_wal(wal, in(pgt_root, "source"), names[i], &err) && err.code == DEPOT_E_INVALID, names[i]);
    }
    ok(!pg_archive_wal(wal, in(pgt_root, "absent"), SEGMENT, &err), "no such file");
    is_int(err.sys_errno, ENOENT, "as the system says");
    ok(!pg_archive_wal(in(pgt_root, "nowhere"), in(pgt_root, "source"), SEGMENT, &err), "no such folder");
    ok(rmdir(wal) == 0, "nothing was left in the folder");
}

static bool is_archived(const char *wal, const char *name)
{
    for (int i = 0; i < 300; i++) {
        if (access(in(wal, name), F_OK) == 0) {
            return true;
        }
        usleep(50000);
    }
    return false;
}

/* A cluster that archives by `exe`, until a segment is there. */
static void archive_with(const char *exe, const char *dir, bool wants_copy)
{
    pg_cluster_options options = { .dir = dir };
    depot_err err = { 0 };
    char     *command = NULL;

    if (!ok_err(pg_archive_setup(pgt_arena, exe, dir, NULL, &command, &err), &err, "the command is made")) {
        return;
    }
    bool copied = strstr(command, "/bin/") != NULL && strncmp(command + 1, exe, strlen(exe)) != 0;
    ok(copied == wants_copy, wants_copy ? "with a copy of the program" : "with the program in place");
    options.archive_command = command;
    if (!ok_err(pg_cluster_start(&options, &pgt_cluster, &err), &err, "the cluster starts")) {
        return;
    }
    pgt_do("create table t as select generate_series(1, 1000) as n");
    const char *name = pgt_ask("select pg_walfile_name(pg_switch_wal())");
    ok(is_archived(in(dir, "wal"), name), "a finished segment is archived");
    char real[PATH_MAX];
    ok(realpath(in(dir, "data/pg_wal"), real) != NULL, "where it came from");
    ok(same_bytes(in(in(dir, "wal"), name), in(real, name)), "byte for byte");
    ok(pgt_eventually("select failed_count = 0 and last_archived_wal is not null from pg_stat_archiver", "t"),
       "the server knows");

    put(in(dir, "wal/" SEGMENT "X"), ""); /* not in the way */
    pid_t before = pgt_postmaster(in(dir, "data"));
    kill(before, SIGKILL);
    for (int i = 0; i < 300 && pg_cluster_restarts(pgt_cluster) == 0; i++) {
        usleep(50000);
    }
    name = pgt_ask("select pg_walfile_name(pg_switch_wal())");
    pgt_do("insert into t values (1)");
    pgt_ask("select pg_switch_wal()");
    ok(name != NULL && is_archived(in(dir, "wal"), name), "after a crash it goes on");
    pg_cluster_free(pgt_cluster);
    pgt_cluster = NULL;
}

static bool remove_real(const char *dir, depot_err *err)
{
    char real[PATH_MAX];

    return realpath(dir, real) == NULL || depot_remove_tree(real, err);
}

static void a_cluster_archives(void)
{
    char        self[PATH_MAX] = "";
    depot_err   err = { 0 };
    const char *state = pgt_dir("state 'with' %blanks");
    const char *hidden = in(pgt_dir("hidden"), "program");
    const char *open_place = in(pgt_dir("open"), "program");
    char       *bytes = NULL;
    size_t      n = 0;

    ok(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0, "this program");
    ok_err(depot_read_file(pgt_arena, self, 256 << 20, &bytes, &n, &err) &&
               depot_write_file(hidden, bytes, n, 0755, &err) && depot_write_file(open_place, bytes, n, 0755, &err),
           &err, "copied to two places");
    ok(chmod(pgt_root, 0755) == 0 && chmod(in(pgt_root, "open"), 0755) == 0 && chmod(state, 0755) == 0,
       "one is open to all");
    archive_with(open_place, in(state, "postgres"), false);
    archive_with(hidden, in(state, "second"), geteuid() == 0);
    ok_err(remove_real(in(state, "postgres"), &err) && remove_real(in(state, "second"), &err), &err, "removed");
}

int main(int argc, char **argv)
{
    depot_err err = { 0 };

    if (argc == 6 && strcmp(argv[1], "--archive-wal") == 0) { /* PATH NAME --wal-dir DIR */
        if (!pg_archive_wal(argv[5], argv[2], argv[3], &err)) {
            fprintf(stderr, "%s\n", err.msg);
            return 1;
        }
        return 0;
    }
    pgt_folders();
    run(a_segment_is_copied_once);
    run(what_is_no_segment_is_refused);
    run(a_cluster_archives);
    pgt_end();
    return done();
}
