/* sqltext.h - places in a text of several SQL statements, for messages that name file and line. */
#ifndef DB_SQLTEXT_H
#define DB_SQLTEXT_H

#include "depot/base.h"

/* The line (from 1) of the character at `position` (from 1, as the server counts). */
size_t sqltext_line(const char *sql, size_t position);

/* The line on which the statement number `index` (from 0, empty ones not counted) begins; the last line if there are
 * fewer. Knows quotes, dollar quotes, comments, parentheses and "begin atomic" bodies. */
size_t sqltext_statement_line(const char *sql, size_t index);

#endif
