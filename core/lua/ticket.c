/* ticket.c - what a script under way has logged, kept for its result: the beginning, within bounds. */
#include <stdlib.h>
#include <string.h>

#include "lua/supervise.h"

enum { SAID_BYTES_MAX = 16 << 10, LINE_BYTES_MAX = 2000 };

static const char *const level_names[] = { "debug", "info", "warn", "error" };

static bool add_line(ticket *t, const depot_json *line)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };

    depot_json_write(&text, line);
    if (t->said.len + text.len > SAID_BYTES_MAX) {
        return false;
    }
    depot_buf_adds(&t->said, t->said.len == 0 ? "" : ",");
    depot_buf_add(&t->said, text.data, text.len);
    return true;
}

void ticket_say(ticket *t, int64_t level, const char *text, size_t n, const depot_json *fields)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    size_t                                    shown = strnlen(text, n < LINE_BYTES_MAX ? n : LINE_BYTES_MAX);
    bool                                      is_known = level >= 0 && level < (int64_t)DEPOT_N(level_names);
    depot_json *line = depot_json_pack(arena, "{s:s, s:s, s:o}", "at", depot_format_time(arena, depot_wall_us()), "level",
                                       level_names[is_known ? level : DEPOT_LOG_INFO], "message", depot_json_strn(arena, text, shown));

    if (fields != NULL) {
        depot_json_set(line, "fields", depot_json_pack(arena, "o", fields));
    }
    if (t->n_unsaid > 0 || !add_line(t, line)) {
        t->n_unsaid++;
    }
}

const char *ticket_said(const ticket *t, depot_arena *arena)
{
    if (t->n_unsaid > 0) {
        return depot_strf(arena, "[%s%s{\"level\":\"info\",\"message\":\"%zu more lines are in the log of the daemon\"}]",
                          t->said.len > 0 ? t->said.data : "", t->said.len > 0 ? "," : "", t->n_unsaid);
    }
    return t->said.len == 0 ? NULL : depot_strf(arena, "[%s]", t->said.data);
}

void ticket_free(ticket *t)
{
    depot_buf_free(&t->said);
    free(t);
}
