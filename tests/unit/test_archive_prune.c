/* test_archive_prune.c - which archived files go, and which stay. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pg/archive.h"
#include "tap.h"

static char dir[] = "/tmp/depot-prune.XXXXXX";

static void put(const char *name, int age_s)
{
    char            path[256];
    depot_err       err = { 0 };
    struct timespec times[2] = { { .tv_sec = time(NULL) - age_s }, { .tv_sec = time(NULL) - age_s } };

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    ok_err(depot_write_file(path, "x", 1, 0600, &err), &err, name);
    ok(utimensat(AT_FDCWD, path, times, 0) == 0, "with an age");
}

static bool there(const char *name)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static void old_segments_go_and_nothing_else(void)
{
    int64_t   removed = -1;
    depot_err err = { 0 };

    ok(mkdtemp(dir) != NULL, "a folder");
    put("000000010000000000000001", 7200);
    put("000000010000000000000002", 60);
    put("00000002.history", 7200);
    put("notes.txt", 7200);
    ok_err(pg_archive_prune(dir, 3600 * 1000, &removed, &err), &err, "pruned");
    is_int(removed, 1, "one file");
    ok(!there("000000010000000000000001"), "the old segment is gone");
    ok(there("000000010000000000000002"), "the young one stays");
    ok(there("00000002.history"), "a history file stays at any age");
    ok(there("notes.txt"), "what is no segment stays");
    ok_err(depot_remove_tree(dir, &err), &err, "the folder");
    ok(!pg_archive_prune(dir, 1, &removed, &err) && err.code == DEPOT_E_IO, "a folder that is not there is an error");
}

int main(void)
{
    run(old_segments_go_and_nothing_else);
    return done();
}
