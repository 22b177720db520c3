/* bind_db.h - inside of core/lua: a statement of a script, its parameters and its result. */
#ifndef LUA_BIND_DB_H
#define LUA_BIND_DB_H

#include "lua/run.h"

typedef enum shape { SHAPE_NONE, SHAPE_VALUE, SHAPE_ROW, SHAPE_ROWS, SHAPE_COUNT, SHAPE_LEASE } shape;

/* A statement. Its memory is the arena's. */
typedef struct statement {
    const char *sql;
    depot_val  *vals;
    size_t      n;
    shape       want;
    depot_rows *rows;
} statement;

/* Reads it from the stack into the arena; may raise. */
typedef void statement_reader(lua_State *L, depot_arena *arena, const void *arg, statement *out);
/* Runs it, inside the script's open transaction if there is one: return it. arg must last until it has been read. */
int statement_run(lua_State *L, statement_reader *read, const void *arg);
/* From the stack: sql, parameters. Raises. */
void statement_read(lua_State *L, depot_arena *arena, shape want, statement *out);
int  statement_push(lua_State *L, const statement *st); /* its result in the wanted shape */

#endif
