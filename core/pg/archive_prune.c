/* archive_prune.c - archived WAL that is older than the operator wants to keep goes. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pg/archive.h"

enum { SEGMENT_NAME = 24 };

/* Segments only: history files are tiny and say which timeline came from which, at any age. */
static bool is_segment(const char *name)
{
    return strlen(name) == SEGMENT_NAME && strspn(name, "0123456789ABCDEF") == SEGMENT_NAME;
}

bool pg_archive_prune(const char *wal_dir, int64_t keep_ms, int64_t *out_removed, depot_err *err)
{
    DIR   *dir = opendir(wal_dir);
    time_t oldest = time(NULL) - (time_t)(keep_ms / 1000);
    bool   ok = true;

    *out_removed = 0;
    if (dir == NULL) {
        return DEPOT_FAIL_ERRNO(err, "cannot read %s", wal_dir);
    }
    for (struct dirent *e; ok && (e = readdir(dir)) != NULL;) { /* NOLINT(concurrency-mt-unsafe): a stream of our own */
        struct stat st;
        if (!is_segment(e->d_name) || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || st.st_mtime >= oldest) {
            continue;
        }
        ok = unlinkat(dirfd(dir), e->d_name, 0) == 0 || DEPOT_FAIL_ERRNO(err, "cannot remove %s/%s", wal_dir, e->d_name);
        *out_removed += ok ? 1 : 0;
    }
    closedir(dir);
    return ok;
}
