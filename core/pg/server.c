/* server.c - one run of the server: cleared ground before it, start, readiness, stop. A server that outlived its daemon
 * (killed with SIGKILL) is stopped and started anew, which is simpler to reason about than taking it over. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unit.h"
#include "pg/parts.h"

#define SERVERS_MAX 256
#define READY_POLL_MS 5
#define LOGGER_MS 2000
#define LOGS_KEPT 5
#define LOG_TAIL_BYTES 16384

/* ---- what runs in the data folder already ---- */

static bool runs_in(depot_arena *arena, const char *pid, const char *data)
{
    char    path[PATH_MAX];
    ssize_t n = readlink(depot_strf(arena, "/proc/%s/exe", pid), path, sizeof(path) - 1);

    if (n <= 0) {
        return false;
    }
    path[n] = '\0';
    const char *name = strrchr(path, '/');
    if (name == NULL || strncmp(name, "/postgres", 9) != 0) { /* " (deleted)" follows after an upgrade */
        return false;
    }
    n = readlink(depot_strf(arena, "/proc/%s/cwd", pid), path, sizeof(path) - 1);
    return n > 0 && (size_t)n == strlen(data) && strncmp(path, data, (size_t)n) == 0;
}

/* Every server process works in its data folder: also those whose postmaster is gone. */
static size_t find_servers(const char *folder, pid_t *out)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    char    data[PATH_MAX];
    size_t  n = 0;
    DIR    *proc = opendir("/proc");

    if (proc == NULL || realpath(folder, data) == NULL) {
        if (proc != NULL) {
            closedir(proc);
        }
        return 0;
    }
    for (struct dirent *entry = readdir(proc); entry != NULL && n < SERVERS_MAX; entry = readdir(proc)) {
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && runs_in(arena, entry->d_name, data)) {
            out[n++] = (pid_t)strtol(entry->d_name, NULL, 10);
        }
    }
    closedir(proc);
    return n;
}

static pid_t postmaster_pid(depot_arena *arena, const char *folder)
{
    char     *text = NULL;
    depot_err err = { 0 };

    if (!depot_read_file(arena, depot_strf(arena, "%s/postmaster.pid", folder), 4096, &text, NULL, &err)) {
        return 0;
    }
    return (pid_t)strtol(text, NULL, 10);
}

static bool contains_pid(const pid_t *pids, size_t n, pid_t pid)
{
    for (size_t i = 0; i < n; i++) {
        if (pids[i] == pid) {
            return true;
        }
    }
    return false;
}

/* Waits until none is left or the time is up; false: the unit of work may not go on. */
static bool wait_gone(const char *folder, pid_t *pids, size_t *n, int64_t ms, depot_err *err)
{
    int64_t until_ms = depot_now_ms() + ms;

    while (*n > 0 && depot_now_ms() < until_ms) {
        if (!unit_check(err)) {
            return false;
        }
        (void)poll(NULL, 0, 20);
        *n = find_servers(folder, pids);
    }
    return true;
}

bool pg_server_end_all(depot_arena *arena, const char *folder, depot_err *err)
{
    static const struct {
        int     sig;
        bool    postmaster_only;
        int64_t wait_ms;
    } steps[] = { { SIGINT, true, 15000 }, { SIGQUIT, false, 5000 }, { SIGKILL, false, 5000 } };
    pid_t  pids[SERVERS_MAX];
    size_t n = find_servers(folder, pids);
    pid_t  postmaster = postmaster_pid(arena, folder);

    if (n == 0) {
        return true;
    }
    bool has_postmaster = contains_pid(pids, n, postmaster);
    log_write("pg", DEPOT_LOG_WARN, "pg.outlived", "%s of an earlier start still runs in %s (pid %d): it is stopped",
              has_postmaster ? "the server" : "a process", folder, (int)(has_postmaster ? postmaster : pids[0]));
    for (size_t step = 0; step < DEPOT_N(steps) && n > 0; step++) {
        for (size_t i = 0; i < n; i++) {
            if (!steps[step].postmaster_only || pids[i] == postmaster) {
                (void)kill(pids[i], steps[step].sig); /* it may just have ended */
            }
        }
        /* Without their postmaster the others end by themselves, most of them at once. */
        if (!wait_gone(folder, pids, &n, step == 0 && !has_postmaster ? 1000 : steps[step].wait_ms, err)) {
            return false;
        }
    }
    return n == 0 || DEPOT_FAIL(err, LOCKED, "process %d still uses %s", (int)pids[0], folder);
}

bool pg_server_clear(depot_arena *arena, const pg_place *place, const pg_address *address, depot_err *err)
{
    const char *const stale[] = { depot_strf(arena, "%s/postmaster.pid", place->data),
                                  depot_strf(arena, "%s/.s.PGSQL.%d", address->socket_dir, address->port),
                                  depot_strf(arena, "%s/.s.PGSQL.%d.lock", address->socket_dir, address->port) };

    if (!pg_server_end_all(arena, place->data, err)) {
        return false;
    }
    /* A new server would trust their process ids, which may belong to somebody else by now. */
    for (size_t i = 0; i < DEPOT_N(stale); i++) {
        if (unlink(stale[i]) != 0 && errno != ENOENT) {
            return DEPOT_FAIL_ERRNO(err, "cannot remove %s", stale[i]);
        }
    }
    return true;
}

/* ---- its log ---- */

static int is_log(const struct dirent *entry)
{
    return strncmp(entry->d_name, "postgresql-", 11) == 0;
}

/* Oldest first: the names are times. */
static int log_list(const pg_place *place, struct dirent ***out)
{
    int n = scandir(place->log, out, is_log, alphasort);

    return n < 0 ? 0 : n;
}

static void log_list_free(struct dirent **list, int n)
{
    for (int i = 0; i < n; i++) {
        free(list[i]);
    }
    if (n > 0) {
        free(list);
    }
}

void pg_server_prune_logs(depot_arena *arena, const pg_place *place)
{
    struct dirent **list = NULL;
    int             n = log_list(place, &list);

    for (int i = 0; i < n - LOGS_KEPT; i++) {
        (void)unlink(depot_strf(arena, "%s/%s", place->log, list[i]->d_name)); /* tried again next time */
    }
    log_list_free(list, n);
}

static const char *file_tail(depot_arena *arena, const char *path)
{
    DEPOT_AUTO(depot_fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    char       *text = depot_alloc(arena, LOG_TAIL_BYTES + 1);

    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return "";
    }
    off_t   from = st.st_size > LOG_TAIL_BYTES ? st.st_size - LOG_TAIL_BYTES : 0;
    ssize_t n = pread(fd, text, LOG_TAIL_BYTES, from);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

/* The last line that says why the server gave up (its messages are not translated: lc_messages is C), or NULL. */
static const char *last_fatal(depot_arena *arena, const char *text)
{
    static const char *const marks[] = { "FATAL:  ", "PANIC:  ", "ERROR:  " };
    const char              *found = NULL;

    for (size_t i = 0; i < DEPOT_N(marks) && found == NULL; i++) {
        for (const char *p = strstr(text, marks[i]); p != NULL; p = strstr(p + 1, marks[i])) {
            found = p + strlen(marks[i]);
        }
    }
    return found == NULL ? NULL : depot_strndup(arena, found, strcspn(found, "\n"));
}

static bool start_failed(depot_arena *arena, const pg_place *place, const char *what, depot_err *err)
{
    const char     *why = last_fatal(arena, file_tail(arena, depot_strf(arena, "%s/startup.log", place->root)));
    struct dirent **list = NULL;
    int             n = log_list(place, &list);

    if (why == NULL && n > 0) {
        why = last_fatal(arena, file_tail(arena, depot_strf(arena, "%s/%s", place->log, list[n - 1]->d_name)));
    }
    log_list_free(list, n);
    if (pg_place_free_bytes(place) < 1024 * 1024) {
        return DEPOT_FAIL(err, NO_SPACE, "the disk of %s is full: PostgreSQL %s", place->root, what);
    }
    DEPOT_FAIL(err, DB_DOWN, "PostgreSQL %s%s%s", what, why == NULL ? "" : ": ", why == NULL ? "" : why);
    return depot_hint(err, "its log: %s/startup.log and %s", place->root, place->log);
}

/* ---- start and stop ---- */

static bool answers(depot_arena *arena, const pg_address *address)
{
    const char *const keys[] = { "host", "port", "user", "dbname", "connect_timeout", "sslmode", NULL };
    const char *const values[] = {
        address->socket_dir, depot_strf(arena, "%d", address->port), PG_SUPER, "postgres", "2", "disable", NULL
    };

    return PQpingParams(keys, values, 0) == PQPING_OK;
}

static bool wait_ready(depot_arena *arena, const pg_place *place, const pg_address *address, int64_t timeout_ms,
                       child *server, depot_err *err)
{
    int64_t until_ms = depot_now_ms() + timeout_ms;
    int     status = 0;

    while (!answers(arena, address)) {
        if (child_wait(server, READY_POLL_MS, &status)) {
            return start_failed(arena, place, "did not start", err);
        }
        if (!unit_check(err)) {
            return depot_wrap(err, "start PostgreSQL");
        }
        if (depot_now_ms() >= until_ms) {
            return start_failed(arena, place, "does not answer", err);
        }
    }
    return true;
}

bool pg_server_start(depot_arena *arena, const pg_place *place, const pg_programs *programs, const pg_address *address,
                     int64_t timeout_ms, child *out, depot_err *err)
{
    const char *const argv[] = { depot_strf(arena, "%s/postgres", programs->bindir), "-D", place->data, NULL };
    const char *log_path = depot_strf(arena, "%s/startup.log", place->root);
    child_spec  spec = pg_place_spec(place, argv, NULL);
    DEPOT_AUTO(depot_fd_close) int log_fd = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (log_fd < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot open %s", log_path);
    }
    spec.out = log_fd;
    spec.err = log_fd;
    spec.die_with_parent = place->throwaway; /* the others live on: what they hold is worth an orderly end */
    if (!child_start(&spec, out, err)) {
        return depot_wrap(err, "start PostgreSQL");
    }
    if (!wait_ready(arena, place, address, timeout_ms, out, err)) {
        pg_server_stop(place, out, 0);
        return false;
    }
    return true;
}

void pg_server_stop(const pg_place *place, child *server, int64_t grace_ms)
{
    pid_t   pids[SERVERS_MAX];
    int     status;
    int64_t until_ms;

    child_kill(server, SIGINT); /* fast: sessions are ended, a checkpoint is written */
    if (!child_wait(server, grace_ms, &status)) {
        child_stop(server, SIGQUIT, 10000, &status); /* immediate: recovery at the next start */
    }
    /* The process that writes the log ends a moment after the server; the folder may be removed next. */
    until_ms = depot_now_ms() + LOGGER_MS;
    while (find_servers(place->data, pids) > 0 && depot_now_ms() < until_ms) {
        (void)poll(NULL, 0, 5);
    }
}
