/* rows.h - a result by number and type of its columns, for those who do not know the statement (scripts, tools). */
#ifndef DB_ROWS_H
#define DB_ROWS_H

#include "depot/db.h"

/* The column's type as PostgreSQL's OID: 20 int8, 25 text, 3802 jsonb … */
uint32_t db_rows_type(const depot_rows *rows, size_t col);
/* Its text, *out_len bytes and a NUL; NULL for SQL null. Row and column must exist. */
const char *db_rows_value(const depot_rows *rows, size_t row, size_t col, size_t *out_len);

#endif
