/* test_cluster_place.c - clusters in odd places: long paths, full disks, users without an entry, folders of others; and
 * throw-away ones, which leave nothing. */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "tap.h"

#include "pgtest.h"

#include "clustertest.h"

static void a_canceled_start_ends_soon(void)
{
    const atomic_bool  canceled = true;
    unit               u = { .deadline_ms = INT64_MAX, .canceled = &canceled };
    pg_cluster_options options = { .dir = in(pgt_dir("canceled"), "postgres") };
    depot_err          err = { 0 };

    unit_enter(&u);
    ok(start(&options, &err) == NULL, "a start that nobody wants any more");
    unit_leave(&u);
    is_str(depot_err_id(&err), "CANCELED", "is canceled");
}

static void a_throw_away_one_leaves_nothing(void)
{
    pg_cluster_options options = { .dir = in(pgt_root, "throw"), .throwaway = true };
    depot_err   err = { 0 };
    char        real[4096] = "";
    pg_cluster *c = start(&options, &err);

    ok(c != NULL, "a throw-away cluster");
    ok(start(&options, &err) == NULL && err.code == DEPOT_E_LOCKED, "a second one in its folder is refused");
    ok(answers(pg_cluster_url(c)), "and does not disturb it");
    is_str(ask(pg_cluster_super_url(c), "show fsync"), "off", "not durable");
    ok(realpath(options.dir, real) != NULL, "its real place");
    pg_cluster_free(c);
    ok(!exists(options.dir) && !exists(real), "is gone with it");
    struct stat st;
    ok(lstat(options.dir, &st) != 0, "the link too");
    write_text(in(pgt_dir("mine"), "file"), "precious");
    options.dir = in(pgt_root, "mine");
    ok(start(&options, &err) == NULL && err.code == DEPOT_E_CONFLICT, "a folder that holds something is refused");
    ok(exists(in(options.dir, "file")), "and left alone");
}

static void what_killed_ones_left_is_swept(void)
{
    static const char left[] = "/tmp/depotd-throwaway-left-by-a-test";
    const struct timespec old[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000 } };
    pg_cluster_options    options = { .dir = in(pgt_root, "sweeper"), .throwaway = true };
    depot_err             err = { 0 };

    if (geteuid() != 0) {
        skip("a sweep of what is left below /tmp", "only root's clusters are put there");
        return;
    }
    ok(depot_mkdirs(left, 0755, &err) && chmod(pgt_root, 0700) == 0, "a folder of a cluster whose process was killed");
    write_text(in(left, "lock"), "");
    ok(utimensat(AT_FDCWD, left, old, 0) == 0, "long ago");
    pg_cluster *c = start(&options, &err);
    ok(c != NULL && !exists(left), "goes when the next one starts");
    pg_cluster_free(c);
}

static void a_long_path_gets_a_short_socket(void)
{
    const char *deep = pgt_dir("deep");
    depot_err   err = { 0 };

    for (int i = 0; i < 4; i++) {
        deep = in(deep, "a-folder-with-a-really-long-name-üß and blanks, 'quotes' \"too\"");
    }
    ok(depot_mkdirs(deep, 0755, &err), "a deep folder");
    pg_cluster_options options = { .dir = in(deep, "postgres") };
    pg_cluster        *c = start(&options, &err);
    if (!ok(c != NULL, "a cluster in it")) {
        printf("# %s (%s)\n", err.msg, err.hint);
        return;
    }
    ok(answers(pg_cluster_url(c)), "answers");
    pg_cluster_free(c);
    c = start(&options, &err);
    ok(c != NULL && answers(pg_cluster_url(c)), "and again");
    pg_cluster_free(c);
}

static void a_user_without_an_entry_is_told(void)
{
    pg_cluster_options options = { .dir = in(pgt_root, "nobody") };
    depot_err err = { 0 };
    int       fds[2];

    if (geteuid() != 0 || getpwuid(54321) != NULL) {
        skip("a user id without an entry in /etc/passwd", "needs root");
        return;
    }
    if (pipe(fds) != 0) {
        abort();
    }
    pid_t pid = fork();
    if (pid == 0) {
        if (setresgid(54321, 54321, 54321) == 0 && setresuid(54321, 54321, 54321) == 0 &&
            start(&options, &err) == NULL) {
            (void)!write(fds[1], &err, sizeof(err));
        }
        _exit(0);
    }
    close(fds[1]);
    is_int(read(fds[0], &err, sizeof(err)), sizeof(err), "it cannot start a cluster");
    close(fds[0]);
    waitpid(pid, NULL, 0);
    contains(err.msg, "user id 54321 has no entry in /etc/passwd", "the message");
    is_str(depot_err_id(&err), "CONFIG", "the code");
}

static void a_full_disk_is_told(void)
{
    const char *disk = pgt_dir("disk");
    depot_err   err = { 0 };

    if (geteuid() != 0 || mount("tmpfs", disk, "tmpfs", 0, "size=30m,mode=0755") != 0) {
        skip("a full disk", "a file system cannot be mounted here");
        return;
    }
    pg_cluster_options options = { .dir = in(disk, "postgres") };
    ok(chmod(pgt_root, 0755) == 0 && start(&options, &err) == NULL, "no room for a new cluster");
    is_str(depot_err_id(&err), "NO_SPACE", "the code");
    contains(err.msg, "MiB of room", "how much there is");
    ok(mount("tmpfs", disk, "tmpfs", MS_REMOUNT, "size=150m") == 0, "a little more");
    pg_cluster *c = start(&options, &err);
    ok(c != NULL && answers(pg_cluster_url(c)), "is enough");
    pg_cluster_free(c);
    int fd = open(in(disk, "filler"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    static const char zeros[65536];
    while (fd >= 0 && write(fd, zeros, sizeof(zeros)) > 0) {
    }
    close(fd);
    ok(start(&options, &err) == NULL, "a disk that was filled since");
    is_str(depot_err_id(&err), "NO_SPACE", "the code");
    ok(unlink(in(disk, "filler")) == 0, "room again");
    c = start(&options, &err);
    ok(c != NULL && answers(pg_cluster_url(c)), "and nothing was lost");
    pg_cluster_free(c);
    int rc = umount(disk);
    for (int i = 0; rc != 0 && i < 50; i++) { /* the server's last children may still be on their way out */
        usleep(100000);
        rc = umount(disk);
    }
    ok(rc == 0, "nobody uses it any more");
}

static void a_folder_that_cannot_be_written_is_told(void)
{
    const char *closed = pgt_dir("closed");
    pg_cluster_options options = { .dir = in(closed, "state/postgres") };
    depot_err err = { 0 };

    if (geteuid() == 0) {
        skip("a folder that cannot be written", "root may write everywhere");
        return;
    }
    ok(chmod(closed, 0500) == 0 && start(&options, &err) == NULL, "a folder that cannot be written");
    is_int(err.sys_errno, EACCES, "permission denied");
    contains(err.msg, closed, "names it");
}

int main(void)
{
    pgt_folders();
    run(a_canceled_start_ends_soon);
    run(a_throw_away_one_leaves_nothing);
    run(what_killed_ones_left_is_swept);
    run(a_long_path_gets_a_short_socket);
    run(a_user_without_an_entry_is_told);
    run(a_full_disk_is_told);
    run(a_folder_that_cannot_be_written_is_told);
    remove_moved();
    pgt_end();
    return done();
}
