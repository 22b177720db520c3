/* test_sqltext.c - where statements begin in a text of several, and pauses between tries. */
#include "db/backoff.h"
#include "db/sqltext.h"

#include "tap.h"

static void statements_are_found_in_text(void)
{
    static const struct {
        const char *sql;
        size_t      index, line;
    } rows[] = {
        { "a;\nb;\nc", 1, 2 }, { ";;\n;a;\n\n b", 1, 4 }, { "-- x;\na; -- y;\n\nb", 1, 4 },
        { "select ';\n;';\nb", 1, 3 }, { "select E'\\';\n';\nb", 1, 3 }, { "select \";\n\";\nb", 1, 3 },
        { "do $$ ;\n $a$ ; $a$ $$;\nb", 1, 3 }, { "select $1;\nb", 1, 2 }, { "create rule r as (a;\nb);\nc", 1, 3 },
        { "/* ; /* ;\n */ ; */\na", 0, 3 }, { "a", 5, 1 }, { "", 0, 1 }, { "select 'open\n", 0, 1 },
        { "begin;\na;\nend;\nb", 3, 4 },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        is_int(sqltext_statement_line(rows[i].sql, rows[i].index), rows[i].line, rows[i].sql);
    }
    is_int(sqltext_line("ä\nb", 3), 2, "positions count characters");
    is_int(sqltext_line("ab", 99), 1, "a position behind the end");
}

static void pauses_grow_to_a_limit(void)
{
    int64_t ms = 0;
    bool    within = true;

    ms = backoff_next(ms);
    is_int(ms, 100, "the first");
    is_int(backoff_next(ms), 200, "the second");
    for (int i = 0; i < 20; i++) {
        ms = backoff_next(ms);
    }
    is_int(ms, BACKOFF_MOST_MS, "the longest");
    for (int i = 0; i < 1000; i++) {
        int64_t some = backoff_jittered(ms);
        within = within && some >= ms / 2 && some <= ms;
    }
    ok(within, "by chance between half and all of it");
    is_int(backoff_jittered(0), 0, "of nothing, nothing");
}

int main(void)
{
    run(statements_are_found_in_text);
    run(pauses_grow_to_a_limit);
    return done();
}
