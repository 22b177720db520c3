/* bind_db.h - inside of core/lua: a statement of a script, its parameters and its result. */
#ifndef LUA_BIND_DB_H
#define LUA_BIND_DB_H

#include "lua/run.h"

typedef enum shape { SHAPE_NONE, SHAPE_VALUE, SHAPE_ROW, SHAPE_ROWS, SHAPE_COUNT } shape;

/* A statement. Its memory is the arena's. */
typedef struct statement {
    const char *sql;
    depot_val  *vals;
    size_t      n;
    shape       want;
    depot_rows *rows;
} statement;

/* From the stack: sql, parameters. Raises. */
void statement_read(lua_State *L, depot_arena *arena, shape want, statement *out);
int  statement_push(lua_State *L, const statement *st); /* its result in the wanted shape */

#endif
