/* base/file.h - pieces of durable file work that file.c and tmpfile.c share. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "depot/base.h"

#define FILE_PATH_SIZE 4096

/* open(2) with O_CLOEXEC, tried again when a signal came between; -1 with errno. */
int file_open(const char *path, int flags, unsigned mode);

/* fsync(2), tried again when a signal came between. A folder of a file system that cannot do it counts as done. */
bool file_sync(int fd, const char *path, depot_err *err) DEPOT_MUST_USE;

/* The folder part of path ("." if it has none, "/" for the root). Fails with INVALID when it is too long. */
bool file_folder(const char *path, char out[FILE_PATH_SIZE], depot_err *err) DEPOT_MUST_USE;

#endif
