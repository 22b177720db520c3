/* audit.h - rows of the append-only audit log. Rows of several threads share a transaction, as each one's commit would have
 * to wait for the chain. */
#ifndef API_AUDIT_H
#define API_AUDIT_H

#include "depot/json.h"

typedef struct audit_row audit_row;

/* One row as depot.audit_add_all takes it, a JSON object. detail is JSON text; target, detail and request_id may be NULL. */
void audit_describe(depot_buf *out, const char *actor, const char *action, const char *target, const char *detail,
                    const char *request_id);
extern const char audit_sql[]; /* $1: an array of them */

/* Copies everything; detail is JSON text. */
audit_row *audit_row_new(const char *actor, const char *action, const char *target, const char *detail, const char *request_id);
void       audit_row_free(audit_row *row);
/* Committed when true. Blocks. */
bool audit_write(audit_row *row, depot_err *err) DEPOT_MUST_USE;
/* The same; what cannot be written stands in the log as an error, whole. */
void audit_keep(audit_row *row);
void audit_lost(const audit_row *row, const depot_err *err);

#endif
