/* rows.c - the result of a statement: libpq's memory, owned by an arena, read by column name. */
#include <stdlib.h>
#include <string.h>

#include "base/abort.h"
#include "db/conn.h"
#include "db/rows.h"

struct depot_rows {
    PGresult *res;
    size_t    rows, cols;
    size_t    mask;  /* size of slots less one; a power of two at least twice the columns */
    int      *slots; /* open addressing by hash of the name: column + 1; 0 is free */
};

static size_t name_hash(const char *name)
{
    size_t hash = 2166136261U;

    for (const char *p = name; *p != '\0'; p++) {
        hash = (hash ^ (unsigned char)*p) * 16777619U;
    }
    return hash;
}

static void rows_clear(void *res)
{
    PQclear(res);
}

depot_rows *db_rows_new(depot_arena *arena, PGresult *res)
{
    depot_rows *rows = depot_alloc(arena, sizeof(*rows));

    depot_defer(arena, rows_clear, res);
    rows->res = res;
    rows->rows = (size_t)PQntuples(res);
    rows->cols = (size_t)PQnfields(res);
    rows->mask = 3;
    while (rows->mask + 1 < 2 * rows->cols) {
        rows->mask = 2 * rows->mask + 1;
    }
    rows->slots = depot_alloc(arena, (rows->mask + 1) * sizeof(*rows->slots));
    for (size_t col = 0; col < rows->cols; col++) {
        size_t at = name_hash(PQfname(res, (int)col)) & rows->mask;
        while (rows->slots[at] != 0) {
            at = (at + 1) & rows->mask;
        }
        rows->slots[at] = (int)col + 1;
    }
    return rows;
}

size_t depot_rows_count(const depot_rows *rows)
{
    return rows->rows;
}

int64_t depot_rows_affected(const depot_rows *rows)
{
    const char *count = PQcmdTuples(rows->res);

    return count[0] == '\0' ? 0 : strtoll(count, NULL, 10);
}

size_t depot_rows_cols(const depot_rows *rows)
{
    return rows->cols;
}

const char *depot_rows_name(const depot_rows *rows, size_t col)
{
    if (col >= rows->cols) {
        base_abort("column %zu was asked for, the statement returned %zu", col, rows->cols);
    }
    return PQfname(rows->res, (int)col);
}

static _Noreturn void no_such_column(const depot_rows *rows, const char *name)
{
    depot_buf names = { 0 };

    for (size_t col = 0; col < rows->cols; col++) {
        depot_buf_addf(&names, "%s%s", col == 0 ? "" : ", ", PQfname(rows->res, (int)col));
    }
    base_abort("the statement returned no column \"%s\"; it has: %s", name, names.len == 0 ? "none" : names.data);
}

/* The column called name; the first one if several are. Aborts for a row or column that is not there. */
static int rows_find(const depot_rows *rows, size_t row, const char *name)
{
    int found = -1;

    if (row >= rows->rows) {
        base_abort("row %zu (column \"%s\") was asked for, the statement returned %zu", row, name, rows->rows);
    }
    for (size_t at = name_hash(name) & rows->mask; rows->slots[at] != 0; at = (at + 1) & rows->mask) {
        int col = rows->slots[at] - 1;
        if (strcmp(PQfname(rows->res, col), name) == 0 && (found < 0 || col < found)) {
            found = col;
        }
    }
    if (found < 0) {
        no_such_column(rows, name);
    }
    return found;
}

bool depot_is_null(const depot_rows *rows, size_t row, const char *col)
{
    return PQgetisnull(rows->res, (int)row, rows_find(rows, row, col)) != 0;
}

const char *depot_text(const depot_rows *rows, size_t row, const char *col)
{
    int at = rows_find(rows, row, col);

    return PQgetisnull(rows->res, (int)row, at) != 0 ? NULL : PQgetvalue(rows->res, (int)row, at);
}

int64_t depot_int(const depot_rows *rows, size_t row, const char *col)
{
    const char *text = depot_text(rows, row, col);

    return text == NULL ? 0 : strtoll(text, NULL, 10);
}

double depot_real(const depot_rows *rows, size_t row, const char *col)
{
    const char *text = depot_text(rows, row, col);

    return text == NULL ? 0 : strtod(text, NULL);
}

bool depot_bool(const depot_rows *rows, size_t row, const char *col)
{
    const char *text = depot_text(rows, row, col);

    return text != NULL && text[0] == 't';
}

depot_json *depot_rows_json(const depot_rows *rows, size_t row, const char *col, depot_arena *arena)
{
    const char *text = depot_text(rows, row, col);
    depot_err   err = { 0 };

    if (text == NULL) {
        return depot_json_null(arena);
    }
    depot_json *value = depot_json_parse(arena, text, strlen(text), &err);
    /* PostgreSQL's json allows more than we do (a key twice, any depth): such a value stays a text. */
    return value != NULL ? value : depot_json_str(arena, text);
}

uint32_t db_rows_type(const depot_rows *rows, size_t col)
{
    return PQftype(rows->res, (int)col);
}

const char *db_rows_value(const depot_rows *rows, size_t row, size_t col, size_t *out_len)
{
    *out_len = (size_t)PQgetlength(rows->res, (int)row, (int)col);
    return PQgetisnull(rows->res, (int)row, (int)col) != 0 ? NULL : PQgetvalue(rows->res, (int)row, (int)col);
}
