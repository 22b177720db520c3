/* bind_rows.c - values between SQL and Lua: int8 is an integer, numeric the exact text, json a table, null depot.null.
 */
#include <string.h>

#include "db/rows.h"
#include "lua/bind_db.h"

enum { SQL_BYTES_MAX = 1 << 20, PARAMS_MAX = 1000, JSON_PARAM_MAX = 16 << 20 };

static void push_bytes(lua_State *L, const char *text, size_t n)
{
    luaL_Buffer b;
    size_t      bytes = n >= 2 ? (n - 2) / 2 : 0;
    char       *out = luaL_buffinitsize(L, &b, bytes);

    /* \x and two digits a byte: what the server sends for bytea unless told otherwise */
    if (n >= 2 && text[0] == '\\' && text[1] == 'x' && depot_unhex(text + 2, bytes, (uint8_t *)out)) {
        luaL_pushresultsize(&b, bytes);
    } else {
        lua_pushlstring(L, text, n);
    }
}

static void push_json(lua_State *L, const char *text, size_t n)
{
    depot_err         err = { 0 };
    const depot_json *value = depot_json_parse(run_scratch(vm_run(L)), text, n, &err);

    if (value != NULL) {
        value_push(L, value);
    } else {
        lua_pushlstring(L, text, n); /* PostgreSQL's json allows more than ours */
    }
}

static void push_number(lua_State *L, const char *text, size_t n)
{
    if (lua_stringtonumber(L, text) != n + 1) {
        lua_pushlstring(L, text, n); /* NaN, Infinity */
    }
}

static void push_bool(lua_State *L, const char *text, size_t n)
{
    (void)n;
    lua_pushboolean(L, text[0] == 't');
}

/* int8 → integer, float8 → number, numeric stays the exact text. */
static const struct {
    uint32_t type;
    void (*push)(lua_State *L, const char *text, size_t n);
} types[] = {
    { 16, push_bool },   { 17, push_bytes }, { 20, push_number },  { 21, push_number },  { 23, push_number },
    { 26, push_number }, { 114, push_json }, { 700, push_number }, { 701, push_number }, { 3802, push_json },
};

static void push_value(lua_State *L, const depot_rows *rows, size_t row, size_t col)
{
    size_t      n;
    const char *text = db_rows_value(rows, row, col, &n);
    uint32_t    type = db_rows_type(rows, col);

    if (text == NULL) {
        value_push_null(L);
        return;
    }
    for (size_t i = 0; i < DEPOT_N(types); i++) {
        if (types[i].type == type) {
            types[i].push(L, text, n);
            return;
        }
    }
    lua_pushlstring(L, text, n);
}

static void push_row(lua_State *L, const depot_rows *rows, size_t row)
{
    size_t cols = depot_rows_cols(rows);

    lua_createtable(L, 0, (int)cols);
    for (size_t col = 0; col < cols; col++) {
        lua_pushstring(L, depot_rows_name(rows, col));
        push_value(L, rows, row, col);
        lua_rawset(L, -3);
    }
}

int statement_push(lua_State *L, const statement *st)
{
    const depot_rows *rows = st->rows;
    size_t            n = rows == NULL ? 0 : depot_rows_count(rows);

    switch (st->want) {
    case SHAPE_NONE:
        return 0;
    case SHAPE_COUNT:
        lua_pushinteger(L, rows == NULL ? 0 : depot_rows_affected(rows));
        return 1;
    case SHAPE_LEASE:
    case SHAPE_VALUE:
        if (n == 0 || depot_rows_cols(rows) == 0) {
            lua_pushnil(L);
            return 1;
        }
        push_value(L, rows, 0, 0);
        if (value_is_null(L, -1)) {
            lua_pushnil(L);
        }
        if (st->want == SHAPE_LEASE && !lua_toboolean(L, -1)) {
            return fail_raisef(L, DEPOT_E_LEASE_LOST, "the lease of %s has passed to somebody else", vm_run(L)->label);
        }
        return 1;
    case SHAPE_ROW:
        if (n == 0) {
            lua_pushnil(L);
        } else {
            push_row(L, rows, 0);
        }
        return 1;
    case SHAPE_ROWS:
        break;
    }
    lua_createtable(L, n > INT32_MAX ? INT32_MAX : (int)n, 0);
    for (size_t row = 0; row < n; row++) {
        vm_check(L);
        push_row(L, rows, row);
        lua_rawseti(L, -2, (lua_Integer)row + 1);
    }
    return 1;
}

/* ---- values to SQL ---- */

static depot_val read_table(lua_State *L, int index, depot_arena *arena)
{
    run *r = vm_run(L);

    depot_buf_reset(&r->scratch);
    value_encode(L, index, &r->scratch, JSON_PARAM_MAX);
    return DEPOT_TEXT(depot_strndup(arena, r->scratch.data, r->scratch.len));
}

static depot_val read_param(lua_State *L, int index, depot_arena *arena)
{
    size_t      n;
    const char *text;

    switch (lua_type(L, index)) {
    case LUA_TNIL:
        return DEPOT_NULL;
    case LUA_TBOOLEAN:
        return DEPOT_BOOL(lua_toboolean(L, index));
    case LUA_TNUMBER:
        return lua_isinteger(L, index) ? DEPOT_INT(lua_tointeger(L, index)) : DEPOT_REAL(lua_tonumber(L, index));
    case LUA_TTABLE:
        return read_table(L, index, arena);
    case LUA_TSTRING:
        text = lua_tolstring(L, index, &n);
        text = depot_strndup(arena, text, n);
        /* no text of PostgreSQL holds a NUL: such a value can only be meant as bytes */
        return strlen(text) == n ? DEPOT_TEXT(text) : DEPOT_BYTES(text, n);
    default:
        if (!value_is_null(L, index)) {
            fail_raisef(L, DEPOT_E_INVALID, "parameter $%d: a %s cannot go to the database", index - 1,
                        luaL_typename(L, index));
        }
        return DEPOT_NULL;
    }
}

void statement_read(lua_State *L, depot_arena *arena, shape want, statement *out)
{
    size_t      n;
    const char *sql = luaL_checklstring(L, 1, &n);
    int         params = lua_gettop(L) - 1;

    luaL_argcheck(L, n <= SQL_BYTES_MAX && strlen(sql) == n, 1, "a statement is text of at most 1 MiB");
    luaL_argcheck(L, params <= PARAMS_MAX, 1, "more than 1000 parameters");
    *out = (statement){ .sql = depot_strndup(arena, sql, n), .n = (size_t)params, .want = want };
    out->vals = depot_alloc(arena, ((size_t)params + 1) * sizeof(*out->vals));
    for (int i = 0; i < params; i++) {
        out->vals[i] = read_param(L, i + 2, arena);
    }
}
