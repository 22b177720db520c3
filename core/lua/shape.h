/* shape.h - what a job's arguments are: declared by the handler as a table of names, read into rows of depot_field, and
 * checked against them before the handler runs. */
#ifndef LUA_SHAPE_H
#define LUA_SHAPE_H

#include "depot/json.h"
#include "depot/table.h"

/* declared: {width = "integer", tags = {type = "array", of = "string", optional = true}}. INVALID names the argument. */
bool shape_read(depot_arena *arena, const depot_json *declared, const depot_field **out, depot_err *err) DEPOT_MUST_USE;
/* Checks the arguments and fills in defaults; BAD_PAYLOAD names those that are wrong. extra: others pass as they are.
 * given is changed: a null that stands for an argument that may be left out is taken away. */
bool shape_fill(depot_arena *arena, const depot_field *fields, bool extra, depot_json *given, depot_json **out,
                depot_err *err) DEPOT_MUST_USE;

#endif
