/* fields.h - values against rows of depot_field, all faults collected: the work below api_validate and a request's args. */
#ifndef API_FIELDS_H
#define API_FIELDS_H

#include "depot/table.h"

/* Faults of one request: {pointer, message} each; past FAULTS_MAX they are only counted. Start with the arena alone. */
enum { FAULTS_MAX = 50 };
typedef struct faults {
    depot_arena *arena;
    depot_json  *list; /* NULL: none */
    size_t       n;
} faults;

void faults_add(faults *fs, const char *pointer, const char *fmt, ...) DEPOT_PRINTF(3, 4);
/* false with INVALID and the first faults in words when there are any. */
bool faults_check(const faults *fs, depot_err *err) DEPOT_MUST_USE;

/* One value; NULL when a fault was added. pointer is its JSON pointer. */
depot_json *field_from_text(faults *fs, const depot_field *f, const char *text, const char *pointer);
depot_json *field_from_json(faults *fs, const depot_field *f, const depot_json *in, const char *pointer);
/* What stands for a value that was not given: the default; NULL when there is none (a fault if it is required). */
depot_json *field_default(faults *fs, const depot_field *f, const char *pointer);

/* "<parent>/<name>" with the escapes of RFC 6901. */
const char *field_pointer(depot_arena *arena, const char *parent, const char *name);
/* A fault for a member that nobody asked for, with the nearest name that there is. wanted picks rows; NULL: all. */
void field_unknown(faults *fs, const depot_field *fields, bool (*wanted)(const depot_field *f, const void *arg),
                   const void *arg, const char *name, const char *pointer);

#endif
