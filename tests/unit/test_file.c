/* test_file.c - whole files, durable publishing, folders. fsync, linkat and rename are the system's own, called through
 * functions of the same name here that write down the order and can play a failing disk. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "depot/base.h"
#include "tap.h"

static char dir[64];
static char calls[64];                    /* F: fsync of a file, D: of a folder, L: linkat, R: rename */
static int  sync_errno, sync_errno_times; /* what the next fsyncs answer */

static void note(char c)
{
    size_t n = strlen(calls);

    calls[n < sizeof(calls) - 1 ? n : n - 1] = c;
}

int fsync(int fd)
{
    struct stat st;

    note(fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) ? 'D' : 'F');
    if (sync_errno_times > 0) {
        sync_errno_times--;
        errno = sync_errno;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    note('L');
    return (int)syscall(SYS_linkat, from_fd, from, to_fd, to, flags);
}

int rename(const char *from, const char *to)
{
    note('R');
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static const char *in_dir(const char *name)
{
    static char path[4][600];
    static int  next;
    char       *p = path[next++ % 4];

    (void)snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
    return p;
}

static const char *content(const char *path)
{
    static char text[200];
    int         fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t     n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    depot_fd_close(&fd);
    text[n < 0 ? 0 : n] = '\0';
    return n < 0 ? NULL : text;
}

static unsigned mode_of(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 ? st.st_mode & 07777U : 0;
}

/* Entries of a folder but for . and .., or -1. */
static int entries(const char *path)
{
    DIR *d = opendir(path);
    int  n = -2;

    if (d == NULL) {
        return -1;
    }
    while (readdir(d) != NULL) {
        n++;
    }
    (void)closedir(d);
    return n;
}

static void a_file_is_read_whole(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_err                                 err = { 0 };
    char                                     *text = NULL;
    size_t                                    n = 0;
    char                                     *big = depot_alloc(arena, 100000);

    ok_err(depot_write_file(in_dir("r"), "a\0b", 3, 0600, &err), &err, "write");
    ok_err(depot_read_file(arena, in_dir("r"), 3, &text, &n, &err), &err, "read, as large as allowed");
    ok(n == 3 && memcmp(text, "a\0b", 4) == 0, "bytes, and a NUL behind");
    memset(big, 'b', 100000);
    ok_err(depot_write_file(in_dir("r"), big, 100000, 0600, &err), &err, "write more");
    ok_err(depot_read_file(arena, in_dir("r"), 1 << 20, &text, NULL, &err), &err, "read without asking for the length");
    is_int(strlen(text), 100000, "all of it");
    ok_err(depot_write_file(in_dir("r"), "", 0, 0600, &err), &err, "write nothing");
    ok_err(depot_read_file(arena, in_dir("r"), 0, &text, &n, &err), &err, "read nothing");
    is_str(text, "", "an empty text");
    ok_err(depot_read_file(arena, "/proc/self/status", 1 << 20, &text, &n, &err), &err, "read a file without a size");
    contains(text, "Pid:", "which has content all the same");
}

static void what_cannot_be_read_says_why(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_err                                 err = { 0 };
    char                                     *text = NULL;

    ok(depot_write_file(in_dir("r"), "four", 4, 0600, &err), "write");
    ok(!depot_read_file(arena, in_dir("r"), 3, &text, NULL, &err), "too large by size");
    is_int(err.code, DEPOT_E_TOO_LARGE, "is TOO_LARGE");
    ok(!depot_read_file(arena, "/proc/self/status", 10, &text, NULL, &err), "too large by reading");
    is_int(err.code, DEPOT_E_TOO_LARGE, "is TOO_LARGE");
    ok(!depot_read_file(arena, "/dev/zero", 1 << 20, &text, NULL, &err), "endless");
    is_int(err.code, DEPOT_E_TOO_LARGE, "is TOO_LARGE");
    ok(!depot_read_file(arena, in_dir("absent"), 3, &text, NULL, &err), "absent");
    ok(err.code == DEPOT_E_IO && err.sys_errno == ENOENT, "is IO with ENOENT");
    contains(err.msg, "/absent: No such file or directory", "and the path");
    ok(!depot_read_file(arena, dir, 3, &text, NULL, &err), "a folder");
    is_int(err.code, DEPOT_E_INVALID, "is INVALID");
    ok(mkfifo(in_dir("pipe"), 0600) == 0 && !depot_read_file(arena, in_dir("pipe"), 3, &text, NULL, &err),
       "a pipe without writer is not waited for");
    ok(text == NULL, "and nothing came of all that");
}

static void writing_is_durable_and_exact(void)
{
    depot_err err = { 0 };
    mode_t    old = umask(077);

    memset(calls, 0, sizeof(calls));
    ok_err(depot_write_file(in_dir("w"), "one", 3, 0644, &err), &err, "write a new file");
    is_str(calls, "FLRD", "content to disk, then the name, then the folder");
    ok_err(depot_write_file(in_dir("w"), "two", 3, 0640, &err), &err, "write over it");
    is_str(content(in_dir("w")), "two", "content");
    is_int(mode_of(in_dir("w")), 0640, "mode, whatever the umask is");
    (void)umask(old);
    ok(chdir(dir) == 0 && depot_write_file("bare", "x", 1, 0600, &err), "a path without a folder");
    is_str(content(in_dir("bare")), "x", "is in the present one");
    ok(!depot_write_file(in_dir("no/such"), "x", 1, 0600, &err), "a folder that is not there");
    is_int(err.sys_errno, ENOENT, "is ENOENT");
    ok(!depot_write_file(dir, "x", 1, 0600, &err), "a folder cannot be written over");
    contains(err.msg, "Is a directory", "and says so");
}

static void a_failing_disk_changes_nothing(void)
{
    depot_err err = { 0 };
    int       before = entries(dir);

    sync_errno = EIO;
    sync_errno_times = 1;
    ok(!depot_write_file(in_dir("w"), "new", 3, 0600, &err), "fsync fails");
    ok(err.code == DEPOT_E_IO && err.sys_errno == EIO, "which is told");
    is_str(content(in_dir("w")), "two", "the old content is there");
    is_int(entries(dir), before, "nothing is left over");
    sync_errno = EINTR;
    sync_errno_times = 3;
    ok_err(depot_write_file(in_dir("w"), "new", 3, 0600, &err), &err, "signals during fsync are no failure");
    sync_errno = EINVAL;
    sync_errno_times = 1;
    ok_err(depot_fsync_dir(dir, &err), &err, "a file system that cannot sync folders is none either");
    sync_errno_times = 0;
    ok(!depot_fsync_dir(in_dir("w"), &err), "a file is no folder");
    contains(err.msg, "Not a directory", "and says so");
}

static void a_link_never_replaces(void)
{
    DEPOT_AUTO(depot_tmpfile_drop) depot_tmpfile tmp = { 0 };
    depot_err                                    err = { 0 };
    bool                                         existed = true;

    for (int round = 0; round < 2; round++) {
        ok_err(depot_tmpfile_open(&tmp, dir, 0440, &err), &err, "open");
        ok(tmp.fd > 2 && (fcntl(tmp.fd, F_GETFD) & FD_CLOEXEC) != 0, "close-on-exec, not one of the first three");
        ok_err(depot_write_all(tmp.fd, round == 0 ? "first" : "other", 5, &err), &err, "write");
        memset(calls, 0, sizeof(calls));
        ok_err(depot_tmpfile_link(&tmp, in_dir("linked"), &existed, &err), &err, "link");
        is_str(calls, "FLD", "content to disk, then the name, then the folder");
        is_int(existed, round, "it was there the second time");
        is_int(tmp.fd >= 0, round, "published: closed; else still open");
        is_str(content(in_dir("linked")), "first", "the first content stays");
    }
    ok_err(depot_tmpfile_replace(&tmp, in_dir("linked"), &err), &err, "what was not published may replace it after all");
    is_str(content(in_dir("linked")), "other", "then its content is there");
    is_int(tmp.fd, -1, "and it is closed");
    is_int(mode_of(in_dir("linked")), 0440, "mode");
    ok(depot_tmpfile_open(&tmp, dir, 0600, &err) && !depot_tmpfile_link(&tmp, in_dir("no/such"), &existed, &err),
       "a folder that is not there");
    is_int(err.sys_errno, ENOENT, "is ENOENT");
}

static void what_is_dropped_leaves_nothing(void)
{
    depot_tmpfile tmp = { 0 };
    depot_err     err = { 0 };
    int           before = entries(dir);

    depot_tmpfile_drop(&tmp);
    ok(fcntl(STDIN_FILENO, F_GETFD) >= 0 || errno == EBADF, "dropping {0} touches nothing");
    ok_err(depot_tmpfile_open(&tmp, dir, 0600, &err), &err, "open");
    depot_tmpfile_drop(&tmp);
    depot_tmpfile_drop(&tmp);
    is_int(tmp.fd, -1, "dropped twice is fine");
    ok(!depot_tmpfile_open(&tmp, in_dir("absent"), 0600, &err), "no such folder");
    contains(err.msg, "/absent: No such file or directory", "is told");
    depot_tmpfile_drop(&tmp);
    char long_dir[5000];
    memset(long_dir, 'd', sizeof(long_dir) - 1);
    long_dir[sizeof(long_dir) - 1] = '\0';
    ok(!depot_tmpfile_open(&tmp, long_dir, 0600, &err), "a folder path that is too long");
    is_int(err.code, DEPOT_E_INVALID, "is INVALID");
    depot_tmpfile_drop(&tmp);
    long_dir[4500] = '/';
    ok(!depot_write_file(long_dir, "x", 1, 0600, &err), "a file path that is too long");
    is_int(entries(dir), before, "nothing is left over");
}

static void stdio_is_never_taken(void)
{
    depot_err err = { 0 };
    pid_t     pid = fork();

    if (pid == 0) {
        depot_tmpfile tmp = { 0 };
        (void)close(STDIN_FILENO);
        bool good = depot_tmpfile_open(&tmp, dir, 0600, &err) && tmp.fd > 2 && fcntl(STDIN_FILENO, F_GETFD) < 0;
        depot_tmpfile_drop(&tmp);
        _exit(good ? 0 : 1);
    }
    int status = -1;
    ok(waitpid(pid, &status, 0) == pid && status == 0, "a closed stdin stays closed");
}

static bool write_short(const char *path, const char *text)
{
    int  fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    return fd >= 0 && close(fd) == 0 && good;
}

/* A place for mounts of our own. Somebody who is not root gets it as one who exists there: nobody could own a file. */
static bool unshare_mounts(void)
{
    char     users[64], groups[64];
    unsigned uid = geteuid(), gid = getegid();

    (void)snprintf(users, sizeof(users), "%u %u 1\n", uid, uid);
    (void)snprintf(groups, sizeof(groups), "%u %u 1\n", gid, gid);
    return (uid == 0 ? unshare(CLONE_NEWNS) == 0
                     : unshare(CLONE_NEWNS | CLONE_NEWUSER) == 0 && write_short("/proc/self/uid_map", users) &&
                           write_short("/proc/self/setgroups", "deny") && write_short("/proc/self/gid_map", groups)) &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* In a mount namespace of its own: /proc is gone, so a nameless file could never be named; the disk is tiny. */
static int without_proc_on_a_tiny_disk(void)
{
    static char   big[1 << 20];
    depot_tmpfile tmp = { 0 };
    depot_err     err = { 0 };
    bool          existed = false;

    if (!unshare_mounts() || mount("x", "/proc", "tmpfs", 0, NULL) != 0 ||
        mkdir(in_dir("tiny"), 0700) != 0 || mount("x", in_dir("tiny"), "tmpfs", 0, "size=64k") != 0) {
        return 99;
    }
    if (depot_write_file(in_dir("tiny/full"), big, sizeof(big), 0600, &err) || err.code != DEPOT_E_NO_SPACE) {
        return 1;
    }
    if (!depot_tmpfile_open(&tmp, in_dir("tiny"), 0640, &err) || !tmp.named || mode_of(tmp.path) != 0640) {
        return 2;
    }
    if (!depot_tmpfile_link(&tmp, in_dir("tiny/a"), &existed, &err) || existed || mode_of(in_dir("tiny/a")) != 0640) {
        return 3;
    }
    if (!depot_tmpfile_open(&tmp, in_dir("tiny"), 0600, &err) || !depot_write_all(tmp.fd, "r", 1, &err) ||
        !depot_tmpfile_replace(&tmp, in_dir("tiny/a"), &err) || strcmp(content(in_dir("tiny/a")), "r") != 0) {
        return 4;
    }
    if (!depot_tmpfile_open(&tmp, in_dir("tiny"), 0600, &err)) {
        return 5;
    }
    depot_tmpfile_drop(&tmp);
    return entries(in_dir("tiny")) == 1 ? 0 : 6;
}

static void it_works_without_nameless_files(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        _exit(without_proc_on_a_tiny_disk());
    }
    int status = -1;
    ok(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "the child ended");
    if (WEXITSTATUS(status) == 99) {
        skip("named temporary files, full disk", "no mount namespace here");
        return;
    }
    is_int(WEXITSTATUS(status), 0, "named temporary files are published and dropped, a full disk is NO_SPACE");
}

static void folders_are_made_durably(void)
{
    depot_err err = { 0 };
    mode_t    old = umask(077);

    memset(calls, 0, sizeof(calls));
    ok_err(depot_mkdirs(in_dir("m/n//o/"), 0750, &err), &err, "three levels");
    is_str(calls, "DDD", "each new name is brought to disk");
    is_int(mode_of(in_dir("m/n")), 0750, "mode, whatever the umask is");
    (void)umask(old);
    memset(calls, 0, sizeof(calls));
    ok_err(depot_mkdirs(in_dir("m/n/o"), 0750, &err), &err, "again");
    is_str(calls, "", "nothing to do");
    ok(symlink("m", in_dir("m_link")) == 0 && depot_mkdirs(in_dir("m_link/p"), 0700, &err), "through a link");
    is_int(mode_of(in_dir("m/p")), 0700, "to where it leads");
    ok(depot_write_file(in_dir("file"), "", 0, 0600, &err) && !depot_mkdirs(in_dir("file/x"), 0700, &err),
       "through a file");
    ok(err.code == DEPOT_E_IO && strstr(err.msg, "/file:") != NULL, "is IO and names it");
    ok(!depot_mkdirs("", 0700, &err) && err.code == DEPOT_E_INVALID, "an empty path is INVALID");
    ok(depot_mkdirs("/", 0700, &err), "the root is there");
    ok(chdir(dir) == 0 && depot_mkdirs("rel/ative", 0700, &err), "relative paths");
    is_int(mode_of(in_dir("rel/ative")), 0700, "are made in the present folder");
}

static void trees_are_removed_without_following_links(void)
{
    depot_err err = { 0 };

    ok_err(depot_mkdirs(in_dir("t/a/b"), 0700, &err), &err, "folders");
    ok_err(depot_mkdirs(in_dir("keep"), 0700, &err), &err, "a folder beside");
    ok_err(depot_write_file(in_dir("keep/me"), "x", 1, 0600, &err), &err, "with a file");
    ok_err(depot_write_file(in_dir("t/a/f"), "x", 1, 0400, &err), &err, "a file inside");
    ok(symlink("../keep", in_dir("t/link")) == 0 && symlink("nowhere", in_dir("t/a/dangling")) == 0, "links");
    for (int i = 0; i < 300; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "t/a/b/%d", i);
        int fd = open(in_dir(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        depot_fd_close(&fd);
    }
    ok_err(depot_remove_tree(in_dir("t"), &err), &err, "remove");
    ok(access(in_dir("t"), F_OK) != 0, "it is gone");
    is_str(content(in_dir("keep/me")), "x", "where the link led nothing is gone");
    ok_err(depot_remove_tree(in_dir("t"), &err), &err, "absent is fine");
    ok_err(depot_remove_tree(in_dir("w"), &err), &err, "a single file");
    ok(symlink("keep", in_dir("alias")) == 0 && depot_remove_tree(in_dir("alias"), &err), "a link itself");
    is_str(content(in_dir("keep/me")), "x", "is removed, not what it names");
    ok(!depot_remove_tree("/proc/self/status", &err), "what cannot be removed");
    ok(err.code == DEPOT_E_IO && strstr(err.msg, "/proc/self/status") != NULL, "is IO and names it");
}

static void very_deep_trees_are_refused(void)
{
    depot_err err = { 0 };
    int       level = 0;

    for (bool good = chdir(dir) == 0; good && level < 260; level++) {
        good = mkdir("deep", 0700) == 0 && chdir("deep") == 0;
    }
    is_int(level, 260, "260 levels were made");
    ok(chdir(dir) == 0 && !depot_remove_tree(in_dir("deep"), &err), "remove");
    is_int(err.code, DEPOT_E_LIMIT, "is LIMIT");
}

static void writes_fail_with_the_reason(void)
{
    depot_err err = { 0 };
    int       fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

    ok(!depot_write_all(fd, "x", 1, &err), "a full device");
    is_int(err.code, DEPOT_E_NO_SPACE, "is NO_SPACE");
    ok_err(depot_write_all(fd, "", 0, &err), &err, "no bytes always fit");
    depot_fd_close(&fd);
    is_int(fd, -1, "closed");
    depot_fd_close(&fd);
    ok(!depot_write_all(-1, "x", 1, &err) && err.sys_errno == EBADF, "no descriptor");
}

int main(void)
{
    depot_err err = { 0 };

    (void)snprintf(dir, sizeof(dir), "/tmp/depot-test-file.XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    run(a_file_is_read_whole);
    run(what_cannot_be_read_says_why);
    run(writing_is_durable_and_exact);
    run(a_failing_disk_changes_nothing);
    run(a_link_never_replaces);
    run(what_is_dropped_leaves_nothing);
    run(stdio_is_never_taken);
    run(it_works_without_nameless_files);
    run(folders_are_made_durably);
    run(trees_are_removed_without_following_links);
    run(writes_fail_with_the_reason);
    run(very_deep_trees_are_refused);
    /* Too deep for one go by design: two halves. */
    char half[600];
    int  n = snprintf(half, sizeof(half), "%s", dir);
    for (int i = 0; i < 100 && n < (int)sizeof(half) - 6; i++) {
        n += snprintf(half + n, sizeof(half) - (size_t)n, "/deep");
    }
    if (!depot_remove_tree(half, &err) || !depot_remove_tree(dir, &err)) {
        printf("# cannot clean up: %s\n", err.msg);
    }
    return done();
}
