/* tmpfile.c - durable publishing of files: written without a name (O_TMPFILE) or under `.tmp-<random>`, brought to
 * disk, given the final name, and the folder brought to disk. A reader sees the old file or the whole new one. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

/* Descriptors below 3 are kept for stdin, stdout and stderr, even when somebody started the daemon with them closed. */
static int above_stdio(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO) {
        return fd;
    }
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    depot_fd_close(&fd);
    return moved;
}

/* A file without a name; -1 where file system or kernel cannot make one, or cannot give it a name later. */
static int open_nameless(const char *dir)
{
    return access("/proc/self/fd", X_OK) == 0 ? file_open(dir, O_TMPFILE | O_RDWR, 0600) : -1;
}

bool depot_tmpfile_open(depot_tmpfile *tmp, const char *dir, unsigned mode, depot_err *err)
{
    uint8_t random[12];
    char    hex[2 * sizeof(random) + 1];

    *tmp = (depot_tmpfile){ .fd = -1 };
    depot_random(random, sizeof(random));
    depot_hex(random, sizeof(random), hex);
    int n = snprintf(tmp->path, sizeof(tmp->path), "%s/.tmp-%s", dir, hex);
    if (n < 0 || (size_t)n >= sizeof(tmp->path)) {
        tmp->path[0] = '\0';
        return DEPOT_FAIL(err, INVALID, "a folder path of %zu bytes is too long", strlen(dir));
    }
    tmp->fd = above_stdio(open_nameless(dir));
    if (tmp->fd < 0) {
        tmp->fd = above_stdio(file_open(tmp->path, O_RDWR | O_CREAT | O_EXCL, 0600));
        tmp->named = tmp->fd >= 0;
    }
    if (tmp->fd < 0 || fchmod(tmp->fd, (mode_t)mode) != 0) {
        (void)DEPOT_FAIL_ERRNO(err, "cannot make a file in %s", dir);
        depot_tmpfile_drop(tmp);
        return false;
    }
    return true;
}

void depot_tmpfile_drop(depot_tmpfile *tmp)
{
    if (tmp->path[0] == '\0') {
        return;
    }
    depot_fd_close(&tmp->fd);
    if (tmp->named) {
        (void)unlink(tmp->path); /* what stays is recognised by its name and cleaned later */
    }
    tmp->named = false;
    tmp->path[0] = '\0';
}

/* Gives the file the name `path`, which must be free; 0, or -1 with errno. */
static int name_file(const depot_tmpfile *tmp, const char *path)
{
    char self[32];

    if (tmp->named) {
        return link(tmp->path, path);
    }
    (void)snprintf(self, sizeof(self), "/proc/self/fd/%d", tmp->fd); /* always fits */
    return linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

bool depot_tmpfile_link(depot_tmpfile *tmp, const char *path, bool *out_existed, depot_err *err)
{
    char folder[FILE_PATH_SIZE];

    if (!file_folder(path, folder, err) || !file_sync(tmp->fd, path, err)) {
        return false;
    }
    *out_existed = false;
    if (name_file(tmp, path) != 0) {
        if (errno != EEXIST) {
            return DEPOT_FAIL_ERRNO(err, "cannot name a new file %s", path);
        }
        *out_existed = true; /* not published: it may still replace what is there */
    } else {
        depot_tmpfile_drop(tmp);
    }
    /* Also when it was there: the one who made it may not have come this far yet. */
    return depot_fsync_dir(folder, err);
}

bool depot_tmpfile_replace(depot_tmpfile *tmp, const char *path, depot_err *err)
{
    char folder[FILE_PATH_SIZE];

    if (!file_folder(path, folder, err) || !file_sync(tmp->fd, path, err)) {
        return false;
    }
    if (!tmp->named) {
        if (name_file(tmp, tmp->path) != 0) {
            return DEPOT_FAIL_ERRNO(err, "cannot name a new file %s", tmp->path);
        }
        tmp->named = true;
    }
    if (rename(tmp->path, path) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot put the new %s in place", path);
    }
    tmp->named = false;
    depot_tmpfile_drop(tmp);
    return depot_fsync_dir(folder, err);
}

bool depot_write_file(const char *path, const void *data, size_t n, unsigned mode, depot_err *err)
{
    DEPOT_AUTO(depot_tmpfile_drop) depot_tmpfile tmp = { 0 };
    char                                         folder[FILE_PATH_SIZE];

    if (!file_folder(path, folder, err) || !depot_tmpfile_open(&tmp, folder, mode, err)) {
        return false;
    }
    if (!depot_write_all(tmp.fd, data, n, err)) {
        return depot_wrap(err, "%s", path);
    }
    return depot_tmpfile_replace(&tmp, path, err);
}
