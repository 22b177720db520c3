/* grant.h - capabilities: what reaches outside of depotd is stated by the script (needs) and allowed by conf.d (grants).
 *
 * A capability is a text: "exec:/usr/bin/convert", "http:api.example.org", "http:*.example.org:8443"; without the part
 * behind the colon it is every program, or every host. Grants are JSON: {"<glob of job types and files>": ["http:…"]}. */
#ifndef LUA_GRANT_H
#define LUA_GRANT_H

#include "depot/json.h"

/* INVALID: it is none. */
bool grant_check(const char *text, depot_err *err) DEPOT_MUST_USE;
/* Whether `have` allows everything that `want` does. */
bool grant_covers(const char *have, const char *want);
/* Whether some grant of the job type or file allows it. */
bool grants_allow(const depot_json *grants, const char *name, const char *want);
/* Whether one of them names it outright, without * or ?, and not only all that is alike. */
bool grants_name(const depot_json *grants, const char *name, const char *want);
/* Whether a stated need is met: one of every program or host, by any grant of its kind, as each call is judged by itself. */
bool grants_meet(const depot_json *grants, const char *name, const char *need);
/* Calls fn with each of the needs that are not met. */
void grants_missing(const depot_json *grants, const char *name, const char *const *needs,
                    void (*fn)(void *arg, const char *need), void *arg);

#endif
