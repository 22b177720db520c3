/* main.c - depotd: reads its command line and becomes the daemon, a worker, a check or an archiver of WAL. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/app.h"
#include "base/log.h"
#include "config.h"
#include "pg/archive.h"

typedef enum mode { MODE_DAEMON, MODE_WORKER, MODE_CHECK, MODE_ARCHIVE } mode;

typedef struct arguments {
    app_options places;
    mode        mode;
    const char *wal_path, *wal_name, *wal_dir;
} arguments;

static const char usage[] =
    "Usage: depotd [--config DIR] [--state DIR] [--foreground] | --check | --version | --help\n"
    "\n"
    "  --config DIR   folder of the *.ini files (default: /etc/depotd/conf.d; in a source tree ./conf.d)\n"
    "  --state DIR    folder for everything that depotd keeps (default: /var/lib/depotd; in a source tree ./var)\n"
    "  --foreground   stay in the foreground; depotd always does, so that a service manager can watch it\n"
    "  --check        read and check the configuration, plugins and scripts, print every problem, start nothing\n"
    "  --version      print the version\n"
    "\n"
    "Exit status: 0 stopped as asked, 1 failed, 2 usage, 3 refused (another depotd on this state folder, schema too new),\n"
    "78 configuration errors. SIGTERM drains and stops, SIGHUP reloads.\n";

static int bad_usage(const char *arg, const char *what)
{
    fprintf(stderr, "depotd: error: %s %s\ndepotd: hint: see depotd --help\n", arg, what);
    return 2;
}

static bool takes_value(const char *arg, arguments *a, const char ***out_place)
{
    const struct {
        const char  *name;
        const char **place;
    } rows[] = { { "--config", &a->places.conf_dir }, { "--state", &a->places.state_dir }, { "--wal-dir", &a->wal_dir } };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        if (strcmp(arg, rows[i].name) == 0) {
            *out_place = rows[i].place;
            return true;
        }
    }
    return false;
}

/* -1: go on; otherwise the exit status. */
static int parse(int argc, char **argv, arguments *a)
{
    for (int i = 1; i < argc; i++) {
        const char **place = NULL;
        if (takes_value(argv[i], a, &place)) {
            if (++i == argc) {
                return bad_usage(argv[i - 1], "needs a folder");
            }
            *place = argv[i];
        } else if (strcmp(argv[i], "--archive-wal") == 0) {
            if (i + 2 >= argc) {
                return bad_usage(argv[i], "needs a path and a name");
            }
            a->mode = MODE_ARCHIVE;
            a->wal_path = argv[++i];
            a->wal_name = argv[++i];
        } else if (strcmp(argv[i], "--check") == 0) {
            a->mode = MODE_CHECK;
        } else if (strcmp(argv[i], "--worker") == 0) {
            a->mode = MODE_WORKER;
        } else if (strcmp(argv[i], "--version") == 0) {
            puts("depotd " DEPOT_VERSION);
            return 0;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        } else if (strcmp(argv[i], "--foreground") != 0) {
            return bad_usage(argv[i], "is no argument of depotd");
        }
    }
    return -1;
}

static int fail(const depot_err *err)
{
    fprintf(stderr, "depotd: error: %s\n", err->msg);
    if (err->hint[0] != '\0') {
        fprintf(stderr, "depotd: hint: %s\n", err->hint);
    }
    return depot_err_exit(err);
}

/* Started with some of them closed, a file of ours would get their number, and log lines with it. */
static void keep_stdio(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    depot_fd_close(&fd);
}

int main(int argc, char **argv)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    arguments                                 a = { 0 };
    app_paths                                 paths;
    depot_err                                 err = { 0 };
    int                                       status = parse(argc, argv, &a);

    if (status >= 0) {
        return status;
    }
    if (a.mode != MODE_WORKER) { /* whose descriptor 3 is the daemon's, and whose others the daemon has chosen */
        keep_stdio();
    }
    if (a.mode == MODE_ARCHIVE) {
        if (a.wal_dir == NULL) {
            return bad_usage("--archive-wal", "needs --wal-dir");
        }
        return pg_archive_wal(a.wal_dir, a.wal_path, a.wal_name, &err) ? 0 : fail(&err);
    }
    if (!app_find_paths(arena, &a.places, &paths, &err)) {
        return fail(&err);
    }
    switch (a.mode) {
    case MODE_WORKER: return app_worker(&paths);
    case MODE_CHECK: return app_check(&paths);
    case MODE_DAEMON:
    case MODE_ARCHIVE: break;
    }
    return app_daemon(&paths);
}
