/* file.c - whole files and folders: read, write for good, make, remove. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TREE_MOST_LEVELS 200 /* one descriptor and one stack frame each */
#define READ_STEP_BYTES  16384U

int file_open(const char *path, int flags, unsigned mode)
{
    int fd;

    do {
        fd = open(path, flags | O_CLOEXEC, (mode_t)mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

void depot_fd_close(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd); /* whoever needs the data on disk has called fsync and knows */
        *fd = -1;
    }
}

bool file_sync(int fd, const char *path, depot_err *err)
{
    int rc;

    do {
        rc = fsync(fd);
    } while (rc != 0 && errno == EINTR);
    if (rc != 0 && errno != EINVAL) { /* EINVAL: this kind of file cannot be synced, nothing is held back */
        return DEPOT_FAIL_ERRNO(err, "cannot bring %s to disk", path);
    }
    return true;
}

bool file_folder(const char *path, char out[FILE_PATH_SIZE], depot_err *err)
{
    const char *slash = strrchr(path, '/');
    size_t      n = slash == NULL ? 1 : (size_t)(slash - path);

    if (n >= FILE_PATH_SIZE) {
        return DEPOT_FAIL(err, INVALID, "a path of %zu bytes is too long", strlen(path));
    }
    n += n == 0; /* "/name" is in "/" */
    memcpy(out, slash == NULL ? "." : path, n);
    out[n] = '\0';
    return true;
}

bool depot_fsync_dir(const char *dir, depot_err *err)
{
    DEPOT_AUTO(depot_fd_close) int fd = file_open(dir, O_RDONLY | O_DIRECTORY, 0);

    if (fd < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot open folder %s", dir);
    }
    return file_sync(fd, dir, err);
}

bool depot_write_all(int fd, const void *data, size_t n, depot_err *err)
{
    const char *p = data;

    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno != EINTR) {
            return DEPOT_FAIL_ERRNO(err, "cannot write %zu bytes", n);
        }
        if (done > 0) {
            p += done;
            n -= (size_t)done;
        }
    }
    return true;
}

/* Reads to the end; st_size is a guess only, files of /proc have none. One byte more than allowed tells "too large". */
static bool read_to_end(int fd, const char *path, size_t max_bytes, depot_buf *out, depot_err *err)
{
    char step[READ_STEP_BYTES];

    for (;;) {
        size_t  want = max_bytes - out->len < sizeof(step) ? max_bytes - out->len + 1 : sizeof(step);
        ssize_t got = read(fd, step, want);

        if (got < 0 && errno != EINTR) {
            return DEPOT_FAIL_ERRNO(err, "cannot read %s", path);
        }
        if (got == 0) {
            return true;
        }
        if (got > 0 && (size_t)got > max_bytes - out->len) {
            return DEPOT_FAIL(err, TOO_LARGE, "%s is larger than %zu bytes", path, max_bytes);
        }
        if (got > 0) {
            depot_buf_add(out, step, (size_t)got);
        }
    }
}

bool depot_read_file(depot_arena *arena, const char *path, size_t max_bytes, char **out, size_t *out_len,
                     depot_err *err)
{
    /* O_NONBLOCK: opening a pipe must not wait for a writer. */
    DEPOT_AUTO(depot_fd_close) int       fd = file_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    DEPOT_AUTO(depot_buf_free) depot_buf content = { 0 };
    struct stat                          st;

    if (fd < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot open %s", path);
    }
    if (fstat(fd, &st) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot look at %s", path);
    }
    if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode)) {
        return DEPOT_FAIL(err, INVALID, "%s is not a file", path);
    }
    if (st.st_size > 0 && (uintmax_t)st.st_size > max_bytes) {
        return DEPOT_FAIL(err, TOO_LARGE, "%s has %jd bytes, more than %zu", path, (intmax_t)st.st_size, max_bytes);
    }
    if (!read_to_end(fd, path, max_bytes, &content, err)) {
        return false;
    }
    *out = depot_strndup(arena, content.data, content.len);
    if (out_len != NULL) {
        *out_len = content.len;
    }
    return true;
}

/* Makes one folder whose parent exists. Its mode is exactly `mode`, whatever the umask is. */
static bool make_folder(const char *path, unsigned mode, depot_err *err)
{
    char        parent[FILE_PATH_SIZE];
    struct stat st;

    if (mkdir(path, (mode_t)mode) != 0) {
        int why = errno;
        if (why == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            return true;
        }
        errno = why;
        return DEPOT_FAIL_ERRNO(err, "cannot make folder %s", path);
    }
    if (chmod(path, (mode_t)mode) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot set the mode of folder %s", path);
    }
    return file_folder(path, parent, err) && depot_fsync_dir(parent, err);
}

bool depot_mkdirs(const char *path, unsigned mode, depot_err *err)
{
    char        part[FILE_PATH_SIZE];
    struct stat st;
    size_t      n = strlen(path);

    if (n == 0 || n >= sizeof(part)) {
        return DEPOT_FAIL(err, INVALID, "a folder path of %zu bytes cannot be made", n);
    }
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        return true;
    }
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    for (size_t i = 1; i <= n; i++) {
        if (i < n && (path[i] != '/' || path[i - 1] == '/')) {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        if (!make_folder(part, mode, err)) {
            return false;
        }
    }
    return true;
}

static void close_folder(DIR **dir)
{
    if (*dir != NULL) {
        (void)closedir(*dir); /* opened for reading only */
        *dir = NULL;
    }
}

static bool remove_entry(int parent, const char *name, int level, depot_err *err);

/* Everything in the folder `name` of `parent`; the folder itself stays. */
static bool empty_folder(int parent, const char *name, int level, depot_err *err)
{
    if (level > TREE_MOST_LEVELS) {
        return DEPOT_FAIL(err, LIMIT, "folder %s is nested more than %d levels deep", name, TREE_MOST_LEVELS);
    }
    /* O_NOFOLLOW: a link put here meanwhile must not lead outside. */
    int                           fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DEPOT_AUTO(close_folder) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        (void)DEPOT_FAIL_ERRNO(err, "cannot open folder %s", name);
        depot_fd_close(&fd);
        return false;
    }
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL && errno != 0) {
            return DEPOT_FAIL_ERRNO(err, "cannot read folder %s", name);
        }
        if (entry == NULL) {
            return true;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (!remove_entry(dirfd(dir), entry->d_name, level + 1, err)) {
            return level == 0 ? false : depot_wrap(err, "%s", name);
        }
    }
}

static bool remove_entry(int parent, const char *name, int level, depot_err *err)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) {
        return true;
    }
    if (errno != EISDIR && errno != EPERM) { /* EPERM: what POSIX wants for a folder; Linux says EISDIR */
        return DEPOT_FAIL_ERRNO(err, "cannot remove %s", name);
    }
    if (!empty_folder(parent, name, level, err)) {
        return false;
    }
    if (unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
        return DEPOT_FAIL_ERRNO(err, "cannot remove folder %s", name);
    }
    return true;
}

bool depot_remove_tree(const char *path, depot_err *err)
{
    if (!remove_entry(AT_FDCWD, path, 0, err)) {
        return depot_wrap(err, "cannot remove %s", path);
    }
    return true;
}
