/* outcome.h - what scripts came to, in frames: written by workers, read by the daemon, which trusts nobody. */
#ifndef LUA_OUTCOME_H
#define LUA_OUTCOME_H

#include "depot/plugin.h"
#include "lua/wire.h"

/* The head of WIRE_DONE; the text below it is res->json. */
depot_json *outcome_head(depot_arena *arena, const depot_script_result *res);
void        outcome_read(depot_arena *arena, const depot_json *head, const char *text, size_t n, depot_script_result *out);

/* The head of WIRE_RANGED; the text below it is res->results. */
depot_json *outcome_range_head(depot_arena *arena, const depot_range_result *res);
/* What was asked for: a range of n jobs from `first` on, whose runs have the ids from `id` + 1 on. */
typedef struct outcome_range {
    int64_t  first, n;
    uint64_t id;
} outcome_range;
/* MALFORMED: it speaks of others. */
bool outcome_range_read(depot_arena *arena, const depot_json *head, const char *results, const outcome_range *of, depot_range_result *out,
                        depot_err *err) DEPOT_MUST_USE;

#endif
