/* archive.c - what archive_command does: a segment counts as archived when it would survive a power cut. Runs as the
 * service user, outside of the daemon, also while the daemon is away. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "pg/archive.h"
#include "pg/parts.h"

#define BLOCK_BYTES (256 * 1024)
#define NAME_MOST 64 /* "00000001000000000000000A.00000028.backup" is the longest kind */

/* Segments, timeline histories and backup labels: hex digits, dots and the letters of their suffixes. */
static bool name_check(const char *name, depot_err *err)
{
    size_t n = strlen(name);

    if (n == 0 || n > NAME_MOST || name[0] == '.' ||
        name[strspn(name, "0123456789ABCDEFabcdefghijklmnopqrstuvwxyz.")] != '\0') {
        return DEPOT_FAIL(err, INVALID, "\"%.80s\" is no name of a WAL file", name);
    }
    return true;
}

static bool copy_all(int from, int to, const char *source, char *block, depot_err *err)
{
    for (;;) {
        ssize_t n = read(from, block, BLOCK_BYTES);
        if (n == 0) {
            return true;
        }
        if (n < 0 && errno != EINTR) {
            return DEPOT_FAIL_ERRNO(err, "cannot read %s", source);
        }
        if (n > 0 && !depot_write_all(to, block, (size_t)n, err)) {
            return false;
        }
    }
}

/* As much of a block as there is; -1 with errno. */
static ssize_t read_block(int fd, char *block)
{
    size_t have = 0;

    while (have < BLOCK_BYTES) {
        ssize_t n = read(fd, block + have, BLOCK_BYTES - have);
        if (n == 0) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            return -1;
        }
        have += n > 0 ? (size_t)n : 0;
    }
    return (ssize_t)have;
}

static bool same_content(int a, const char *path, char *block, bool *out, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_fd_close) int b = open(path, O_RDONLY | O_CLOEXEC);
    char *other = depot_alloc(arena, BLOCK_BYTES);

    if (b < 0 || lseek(a, 0, SEEK_SET) < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot read %s", path);
    }
    for (;;) {
        ssize_t n = read_block(a, block);
        ssize_t m = read_block(b, other);
        if (n < 0 || m < 0) {
            return DEPOT_FAIL_ERRNO(err, "cannot compare with %s", path);
        }
        *out = n == m && memcmp(block, other, (size_t)n) == 0;
        if (!*out || n == 0) {
            return true;
        }
    }
}

bool pg_archive_wal(const char *wal_dir, const char *source, const char *name, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_tmpfile_drop) depot_tmpfile tmp = { .fd = -1 };
    DEPOT_AUTO(depot_fd_close) int from = -1;
    const char *path = depot_strf(arena, "%s/%s", wal_dir, name);
    char       *block = depot_alloc(arena, BLOCK_BYTES);
    bool        existed = false;
    bool        same = false;

    if (!name_check(name, err)) {
        return false;
    }
    from = open(source, O_RDONLY | O_CLOEXEC);
    if (from < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot open %s", source);
    }
    if (!depot_tmpfile_open(&tmp, wal_dir, 0600, err) || !copy_all(from, tmp.fd, source, block, err) ||
        !depot_tmpfile_link(&tmp, path, &existed, err)) {
        return depot_wrap(err, "archive %s", name);
    }
    if (!existed) {
        return true;
    }
    /* A crash between our success and the server's note of it makes the server ask again. */
    if (!same_content(from, path, block, &same, err)) {
        return depot_wrap(err, "archive %s", name);
    }
    if (!same) {
        DEPOT_FAIL(err, CONFLICT, "%s is there already with other content", path);
        return depot_hint(err, "two clusters must not archive into one folder; nothing was overwritten");
    }
    return depot_fsync_dir(wal_dir, err);
}

/* ---- the command ---- */

static char *base_name(char *path)
{
    char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

/* A word for the shell, inside of archive_command, where %% stands for a percent sign. */
static void add_word(depot_buf *out, const char *word)
{
    depot_buf_adds(out, "'");
    for (const char *p = word; *p != '\0'; p++) {
        depot_buf_adds(out, *p == '\'' ? "'\\''" : *p == '%' ? "%%" : (const char[]){ *p, '\0' });
    }
    depot_buf_adds(out, "'");
}

/* A copy of our program where the service user can run it; made anew at each start, as the program may have changed. */
static bool copy_program(depot_arena *arena, const pg_place *place, const char *exe, const char **out, depot_err *err)
{
    DEPOT_AUTO(depot_tmpfile_drop) depot_tmpfile tmp = { .fd = -1 };
    DEPOT_AUTO(depot_fd_close) int from = open(exe, O_RDONLY | O_CLOEXEC);
    const char *bin = depot_strf(arena, "%s/bin", place->root);
    char       *block = depot_alloc(arena, BLOCK_BYTES);
    bool        may_run = false;

    *out = depot_strf(arena, "%s/%s", bin, base_name(depot_strdup(arena, exe)));
    if (from < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot open %s", exe);
    }
    if (!pg_place_mkdir(place, bin, false, 0755, err) || !depot_tmpfile_open(&tmp, bin, 0755, err) ||
        !copy_all(from, tmp.fd, exe, block, err) || !depot_tmpfile_replace(&tmp, *out, err)) {
        return depot_wrap(err, "copy the program for user %s", place->user);
    }
    if (!pg_place_may(arena, place, 'x', *out, &may_run, err)) {
        return false;
    }
    if (!may_run) {
        DEPOT_FAIL(err, CONFIG, "user %s can run neither %s nor a copy of it at %s", place->user, exe, *out);
        return depot_hint(err, "is that file system mounted noexec? move the state folder");
    }
    return true;
}

bool pg_archive_setup(depot_arena *arena, const char *exe, const char *dir, const char *user, char **out_command,
                      depot_err *err)
{
    DEPOT_AUTO(depot_buf_free) depot_buf command = { 0 };
    pg_place    place;
    const char *program = exe;
    bool        may_run = true;

    if (!pg_place_find(arena, dir, user, false, &place, err)) {
        return false;
    }
    const char *wal = depot_strf(arena, "%s/wal", place.root);
    if (!pg_place_mkdir(&place, wal, true, 0700, err)) {
        return false;
    }
    if (place.user != NULL && (!pg_place_may(arena, &place, 'x', exe, &may_run, err) ||
                               (!may_run && !copy_program(arena, &place, exe, &program, err)))) {
        return false;
    }
    add_word(&command, program);
    depot_buf_adds(&command, " --archive-wal \"%p\" \"%f\" --wal-dir ");
    add_word(&command, wal);
    *out_command = depot_strdup(arena, command.data);
    return true;
}
