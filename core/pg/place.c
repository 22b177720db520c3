/* place.c - the folders of a cluster and the user that it runs as. As root we keep the root folder to ourselves and
 * give the server only folders in it, so that nothing we read or write can be exchanged under us. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "pg/parts.h"

#define EMBEDDED_ROOT "/var/lib/depotd-embedded"
#define THROWAWAY_ROOT "/tmp/depotd-throwaway-"
#define THROWAWAY_MARK "throwaway"
#define SWEEP_AFTER_S 600
#define TEST_PROGRAM "/usr/bin/test"

static const char *const service_users[] = { "depotd", "postgres" };

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* By name; false without err: there is none. */
static bool user_find(depot_arena *arena, const char *name, pg_place *out)
{
    char           buf[4096];
    struct passwd  entry;
    struct passwd *found = NULL;

    if (getpwnam_r(name, &entry, buf, sizeof(buf), &found) != 0 || found == NULL) {
        return false;
    }
    out->user = depot_strdup(arena, name);
    out->uid = found->pw_uid;
    out->gid = found->pw_gid;
    return true;
}

static bool user_choose(depot_arena *arena, const char *wanted, pg_place *out, depot_err *err)
{
    if (wanted != NULL) {
        if (!user_find(arena, wanted, out)) {
            DEPOT_FAIL(err, CONFIG, "there is no user \"%s\" for PostgreSQL to run as", wanted);
            return depot_hint(err, "make it (useradd --system %s) or correct [database] service_user", wanted);
        }
    }
    for (size_t i = 0; out->user == NULL && i < DEPOT_N(service_users); i++) {
        (void)user_find(arena, service_users[i], out); /* the next one may exist */
    }
    if (out->user == NULL) {
        DEPOT_FAIL(err, CONFIG, "PostgreSQL refuses to run as root, and there is no user depotd or postgres");
        return depot_hint(err, "useradd --system depotd");
    }
    if (out->uid == 0) {
        return DEPOT_FAIL(err, CONFIG,
                          "PostgreSQL refuses to run as root; [database] service_user must be another user");
    }
    return true;
}

/* initdb looks its own user up and fails without one; say so before it does. */
static bool user_check_own(pg_place *out, depot_err *err)
{
    char           buf[4096];
    struct passwd  entry;
    struct passwd *found = NULL;

    out->uid = geteuid();
    out->gid = getegid();
    if (getpwuid_r(out->uid, &entry, buf, sizeof(buf), &found) != 0 || found == NULL) {
        DEPOT_FAIL(err, CONFIG, "user id %u has no entry in /etc/passwd, without which PostgreSQL does not run",
                   (unsigned)out->uid);
        return depot_hint(err, "run as a user that exists (docker: --user of one in the image), or set [database] url");
    }
    return true;
}

static char *absolute(depot_arena *arena, const char *path)
{
    char here[PATH_MAX];
    char *whole = path[0] == '/' || getcwd(here, sizeof(here)) == NULL ? depot_strdup(arena, path)
                                                                        : depot_strf(arena, "%s/%s", here, path);

    for (size_t n = strlen(whole); n > 1 && whole[n - 1] == '/'; n--) {
        whole[n - 1] = '\0';
    }
    return whole;
}

child_spec pg_place_spec(const pg_place *place, const char *const *argv, const char *const *env)
{
    child_spec spec = CHILD_SPEC_INIT;

    spec.argv = argv;
    spec.env = env;
    if (place->user != NULL) {
        spec.user = place->user;
        spec.uid = place->uid;
        spec.gid = place->gid;
    }
    return spec;
}

bool pg_place_may(depot_arena *arena, const pg_place *place, char what, const char *path, bool *out, depot_err *err)
{
    const char *const argv[] = { TEST_PROGRAM, what == 'x' ? "-x" : "-r", path, NULL };
    child_spec        spec = pg_place_spec(place, argv, NULL);
    child_result      result;

    if (!child_run(arena, &spec, NULL, 0, 1000, 10000, &result, err)) {
        return depot_wrap(err, "look at %s as user %s", path, place->user == NULL ? "of this process" : place->user);
    }
    *out = result.status == 0;
    return true;
}

bool pg_place_mkdir(const pg_place *place, const char *path, bool of_service, unsigned mode, depot_err *err)
{
    struct stat st;

    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return DEPOT_FAIL_ERRNO(err, "cannot make %s", path);
    }
    if (lstat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return DEPOT_FAIL(err, IO, "%s is in the way: a folder is needed there", path);
    }
    uid_t uid = of_service ? place->uid : geteuid();
    gid_t gid = of_service ? place->gid : getegid();
    if ((st.st_uid != uid || (place->user != NULL && st.st_gid != gid)) && chown(path, uid, gid) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot give %s to its user", path);
    }
    if ((st.st_mode & 07777) != mode && chmod(path, mode) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot set the mode of %s", path);
    }
    return true;
}

/* An earlier cluster for the same path, whose state folder was deleted meanwhile: kept, as it may be missed. */
static bool set_aside(depot_arena *arena, const char *root, depot_err *err)
{
    const char *aside = depot_strf(arena, "%s.before-%lld", root, (long long)(depot_wall_us() / 1000000));

    if (access(root, F_OK) != 0) {
        return true;
    }
    if (rename(root, aside) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot rename %s to %s", root, aside);
    }
    log_write("pg", DEPOT_LOG_WARN, "pg.set_aside", "an earlier cluster was at %s; it is kept as %s", root, aside);
    return true;
}

/* Whether a throw-away cluster at path is old, ours, and of a process that was killed: nobody holds its lock. */
static bool is_abandoned(depot_arena *arena, const char *path)
{
    struct stat st;
    DEPOT_AUTO(depot_fd_close) int fd = -1;

    if (lstat(path, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
        st.st_mtime > time(NULL) - SWEEP_AFTER_S) {
        return false;
    }
    fd = open(depot_strf(arena, "%s/lock", path), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static void sweep(depot_arena *arena)
{
    DIR *dir = opendir("/tmp");

    for (struct dirent *entry = dir == NULL ? NULL : readdir(dir); entry != NULL; entry = readdir(dir)) {
        const char *path = depot_strf(arena, "/tmp/%s", entry->d_name);
        depot_err   err = { 0 };
        if (starts_with(path, THROWAWAY_ROOT) && is_abandoned(arena, path) && !depot_remove_tree(path, &err)) {
            log_err("pg", DEPOT_LOG_WARN, "pg.not_removed", &err);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

/* A new place for a folder that the service user cannot reach. */
static bool place_elsewhere(depot_arena *arena, pg_place *place, depot_err *err)
{
    if (place->throwaway) {
        sweep(arena);
        char *pattern = depot_strdup(arena, THROWAWAY_ROOT "XXXXXX");
        if (mkdtemp(pattern) == NULL) {
            return DEPOT_FAIL_ERRNO(err, "cannot make a folder below /tmp");
        }
        place->root = pattern;
        return true;
    }
    uint8_t digest[32];
    char    hex[65];
    depot_sha256(place->asked, strlen(place->asked), digest);
    depot_hex(digest, sizeof(digest), hex);
    place->root = depot_strf(arena, EMBEDDED_ROOT "/%.16s", hex);
    return depot_mkdirs(EMBEDDED_ROOT, 0755, err) && set_aside(arena, place->root, err) &&
           depot_mkdirs(place->root, 0755, err);
}

static bool place_move(depot_arena *arena, pg_place *place, depot_err *err)
{
    if (rmdir(place->asked) != 0) {
        DEPOT_FAIL_ERRNO(err, "user %s cannot reach %s, which cannot be moved", place->user, place->asked);
        return depot_hint(err, "let that user pass through the folders above it (chmod o+x), or move the state folder");
    }
    if (!place_elsewhere(arena, place, err)) {
        return false;
    }
    if (symlink(place->root, place->asked) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot link %s to %s", place->asked, place->root);
    }
    place->moved = true;
    if (!place->throwaway) {
        log_write("pg", DEPOT_LOG_INFO, "pg.moved", "user %s cannot reach %s: the cluster is at %s, with a link to it",
                  place->user, place->asked, place->root);
    }
    return true;
}

/* What is at `asked` already: nothing (it is made), a folder, or the link that an earlier start made. */
static bool place_look(depot_arena *arena, pg_place *place, depot_err *err)
{
    struct stat st;
    char        real[PATH_MAX];

    place->root = place->asked;
    if (lstat(place->asked, &st) == 0 && S_ISLNK(st.st_mode)) {
        if (realpath(place->asked, real) != NULL) {
            place->root = depot_strdup(arena, real);
            place->moved = starts_with(real, EMBEDDED_ROOT "/") || starts_with(real, THROWAWAY_ROOT);
            return true;
        }
        log_write("pg", DEPOT_LOG_WARN, "pg.dangling", "%s leads nowhere: the cluster behind it is gone", place->asked);
        if (unlink(place->asked) != 0) {
            return DEPOT_FAIL_ERRNO(err, "cannot remove %s", place->asked);
        }
    }
    return depot_mkdirs(place->asked, 0700, err);
}

/* A throw-away cluster deletes its folder: only one that is empty or was such a cluster's before. */
static bool throwaway_check(depot_arena *arena, const pg_place *place, depot_err *err)
{
    bool was_one = access(depot_strf(arena, "%s/" THROWAWAY_MARK, place->root), F_OK) == 0;

    /* A folder of ours refuses to be removed for one reason only: it holds something. */
    if (!was_one && (rmdir(place->root) != 0 || mkdir(place->root, 0700) != 0)) {
        return DEPOT_FAIL(err, CONFLICT, "%s holds something: a throw-away cluster needs an empty folder", place->root);
    }
    return true;
}

static bool throwaway_mark(depot_arena *arena, const pg_place *place, depot_err *err)
{
    return depot_write_file(depot_strf(arena, "%s/" THROWAWAY_MARK, place->root), "", 0, 0600, err);
}

static bool place_folders(depot_arena *arena, pg_place *place, depot_err *err)
{
    bool as_root = place->user != NULL;

    place->data = depot_strf(arena, "%s/data", place->root);
    place->run = depot_strf(arena, "%s/run", place->root);
    place->secrets = depot_strf(arena, "%s/secrets", place->root);
    place->log = depot_strf(arena, "%s/log", place->root);
    return pg_place_mkdir(place, place->root, false, as_root ? 0755 : 0700, err) &&
           pg_place_mkdir(place, place->run, true, 0700, err) && pg_place_mkdir(place, place->log, true, 0700, err) &&
           pg_place_mkdir(place, place->secrets, false, 0700, err);
}

bool pg_place_find(depot_arena *arena, const char *dir, const char *user, bool throwaway, pg_place *out, depot_err *err)
{
    *out = (pg_place){ .asked = absolute(arena, dir), .throwaway = throwaway };
    if (strpbrk(out->asked, "\n\r") != NULL) {
        return DEPOT_FAIL(err, CONFIG, "a state folder with a line end in its name cannot hold a cluster");
    }
    if (!(geteuid() == 0 ? user_choose(arena, user, out, err) : user_check_own(out, err))) {
        return false;
    }
    if (!place_look(arena, out, err)) {
        return depot_wrap(err, "folder of the PostgreSQL cluster");
    }
    if (throwaway && !throwaway_check(arena, out, err)) {
        return false;
    }
    if (out->user != NULL) {
        bool reachable = false;
        if (!pg_place_mkdir(out, out->root, false, 0755, err) ||
            !pg_place_may(arena, out, 'x', out->root, &reachable, err) ||
            (!reachable && !place_move(arena, out, err))) {
            return false;
        }
    }
    return (!throwaway || throwaway_mark(arena, out, err)) && place_folders(arena, out, err);
}

bool pg_place_lock(const pg_place *place, int *out_fd, depot_err *err)
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof(path), "%s/lock", place->root) >= (int)sizeof(path)) {
        return DEPOT_FAIL(err, CONFIG, "the path %s is too long", place->root);
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot open %s", path);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        bool taken = errno == EWOULDBLOCK;
        DEPOT_FAIL_ERRNO(err, "cannot lock %s", path);
        close(fd);
        return taken ? DEPOT_FAIL(err, LOCKED, "another process runs the cluster in %s", place->root) : false;
    }
    *out_fd = fd;
    return true;
}

bool pg_place_remove(const pg_place *place, depot_err *err)
{
    if (!depot_remove_tree(place->root, err)) {
        return false;
    }
    if (place->moved && unlink(place->asked) != 0 && errno != ENOENT) {
        return DEPOT_FAIL_ERRNO(err, "cannot remove %s", place->asked);
    }
    return true;
}

int64_t pg_place_free_bytes(const pg_place *place)
{
    struct statvfs fs;

    return statvfs(place->root, &fs) == 0 ? (int64_t)(fs.f_bavail * fs.f_frsize) : INT64_MAX;
}
