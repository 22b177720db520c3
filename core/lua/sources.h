/* sources.h - all script files of one revision, in memory: whatever happens to the folders meanwhile, every worker of a
 * revision, also one that is started again, sees the same text. */
#ifndef LUA_SOURCES_H
#define LUA_SOURCES_H

#include "depot/base.h"

typedef struct source {
    const char *path; /* below the script folders: "handlers/store.lua" */
    const char *text;
    size_t      n;
    char        revision[65]; /* SHA-256 of the text, hex */
} source;

typedef struct sources {
    source *files; /* in byte order of their paths */
    size_t  n, cap;
    char    revision[65]; /* of the whole set */
} sources;

/* Reads *.lua below each folder of the colon separated list. A file masks those of the same path in later folders; a
 * folder that is not there is skipped; hidden files and folders too. */
bool sources_read(depot_arena *arena, const char *dirs, sources *out, depot_err *err) DEPOT_MUST_USE;
/* Adds one file (the text is borrowed); sources_seal afterwards. */
void          sources_add(depot_arena *arena, sources *s, const char *path, const char *text, size_t n);
/* Likewise, in place of the one that has this path. */
void          sources_put(depot_arena *arena, sources *s, const char *path, const char *text, size_t n);
void          sources_seal(sources *s); /* sorts and computes revision */
const source *sources_find(const sources *s, const char *path);
bool          source_is_example(const source *s); /* below examples/, and no *_test.lua */
bool          source_is_handler(const source *s); /* below handlers/, and no *_test.lua */

#endif
