/* schema.h - rows of depot_field as JSON Schema (2020-12). */
#ifndef API_SCHEMA_H
#define API_SCHEMA_H

#include "depot/table.h"

depot_json *schema_of_field(depot_arena *arena, const depot_field *f);
/* An object with these members; wanted picks rows, NULL: all. closed: a request, in which other members are refused. */
depot_json *schema_of_object(depot_arena *arena, const depot_field *fields,
                             bool (*wanted)(const depot_field *f, const void *arg), const void *arg, bool closed);

#endif
