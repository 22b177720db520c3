/* test_ctl_render.c - what people read: tables, blocks, sizes, times, colours, the progress line. The files under test
 * are included: depotctl's objects are not part of the core that tests are linked with. */
#include "ctl/progress.c"
#include "ctl/render.c"
#include "ctl/render_text.c"

#include "tap.h"

static const depot_field job_fields[] = {
    { .name = "id", .type = DEPOT_T_UUID },       { .name = "state", .type = DEPOT_T_STRING },
    { .name = "attempts", .type = DEPOT_T_INT },  { .name = "made_at", .type = DEPOT_T_TIME },
    { .name = "took", .type = DEPOT_T_DURATION }, { .name = "held", .type = DEPOT_T_SIZE },
    { .name = "error", .type = DEPOT_T_STRING },  { .name = NULL },
};
static const depot_field job_item[] = { { .name = "job", .type = DEPOT_T_OBJECT, .fields = job_fields },
                                        { .name = NULL } };
static const depot_field page_fields[] = {
    { .name = "total", .type = DEPOT_T_INT },
    { .name = "jobs", .type = DEPOT_T_ARRAY, .fields = job_item },
    { .name = "next", .type = DEPOT_T_STRING },
    { .name = NULL },
};

static const char *shown(depot_arena *arena, const render_style *style, const char *json, const depot_field *reply)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
    depot_err                            err = { 0 };
    depot_json                          *value = depot_json_parse(arena, json, strlen(json), &err);

    if (!ok_err(value != NULL, &err, "the test's JSON is fine")) {
        return "";
    }
    render_value(&out, style, value, reply);
    return depot_strdup(arena, out.data == NULL ? "" : out.data);
}

static const char two_jobs[] = "[{\"error\":null,\"state\":\"succeeded\",\"id\":\"7\",\"attempts\":1,\"made_at\":"
                               "\"2026-11-20T09:23:33.459721Z\",\"took\":90500,"
                               "\"held\":1536,\"extra\":true},"
                               "{\"state\":\"dead\",\"id\":\"12\",\"attempts\":15,\"made_at\":\"2026-11-20T10:23:33+01:"
                               "00\",\"took\":40,\"held\":5,\"error\":\"no disk\\nleft\"}]";

static void arrays_of_objects_are_tables_in_the_order_of_the_reply(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const render_style                        plain = { .colour = false };
    static const char want[] = "id  state      attempts  made_at                took     held  error         extra\n"
                               "7   succeeded         1  2026-11-20 09:23:33Z  1m30s  1.5 KiB                yes\n"
                               "12  dead             15  2026-11-20 09:23:33Z   40ms      5 B  no disk left\n";

    is_str(shown(arena, &plain, two_jobs, job_fields), want, "members as fields");
    is_str(shown(arena, &plain, two_jobs, job_item), want, "one row for the items");
}

static void pages_of_lists_need_no_key(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const render_style                        plain = { .colour = false };

    is_str(shown(arena, &plain, "{\"jobs\":[{\"id\":\"7\",\"took\":1000}],\"next\":null}", page_fields),
           "id  took\n7     1s\n", "a list alone in its object is the table");
    is_str(shown(arena, &plain, "{\"jobs\":[],\"next\":null}", page_fields), "(none)\n", "an empty one says so");
    is_str(shown(arena, &plain, "{\"next\":\"x\",\"jobs\":[{\"id\":\"7\"}],\"total\":2}", page_fields),
           "total: 2\njobs:\n  id\n  7\nnext:  x\n", "with other members it stands below its key");
}

static void objects_are_lines(void)
{
    static const struct {
        const char *json, *want, *name;
    } rows[] = {
        { "{\"name\":\"mail\",\"size_bytes\":1048576,\"wait_ms\":250,\"paused\":false,\"note\":null}",
          "name:       mail\nsize_bytes: 1.0 MiB\nwait_ms:    250ms\npaused:     no\nnote:\n",
          "values by their names" },
        { "{\"a\":{\"b\":1,\"c\":{\"d\":[1,2]}},\"e\":[\"x\",\"y\"]}", "a:\n  b: 1\n  c:\n    d: 1, 2\ne: x, y\n",
          "blocks inside blocks" },
        { "{\"trace\":\"one\\n\\ttwo\\n\",\"n\":1}", "trace:\n  one\n  \ttwo\nn:     1\n", "lines below their key" },
        { "{\"esc\":\"a\\u001b[31mb\\u009bc\\u0007\"}", "esc: a?[31mb?c?\n", "nothing that drives a terminal" },
        { "[{\"kind\":\"listen\",\"options\":[{\"name\":\"address\"},{\"name\":\"port\"},{\"x\":1}]}]",
          "kind    options\nlisten  address, port, {\"x\":1}\n", "objects in a cell by their names" },
        { "{\"empty\":{},\"list\":[]}", "empty: {}\nlist:\n", "empty blocks" },
        { "{}", "", "nothing" },
        { "{\"time\":\"2026-11-20T09:23:33.5+02:00\",\"odd\":\"2026-13-20T09:23:33Z\"}",
          "time: 2026-11-20 07:23:33Z\nodd:  2026-13-20T09:23:33Z\n", "times in UTC, what is none as it is" },
        { "{\"big\":9007199254740993,\"real\":0.1,\"wait_ms\":93784000}",
          "big:     9007199254740993\nreal:    0.1\nwait_ms: 1d2h\n", "numbers" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        const render_style                        plain = { .colour = false };

        is_str(shown(arena, &plain, rows[i].json, NULL), rows[i].want, rows[i].name);
    }
}

static void other_values_are_themselves(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const render_style                        plain = { .colour = false };

    is_str(shown(arena, &plain, "\"text\"", NULL), "text\n", "text gets its line end");
    is_str(shown(arena, &plain, "\"two\\nlines\\n\"", NULL), "two\nlines\n", "and keeps its lines");
    is_str(shown(arena, &plain, "[\"a\",2]", NULL), "a\n2\n", "a list of values is one a line");
    is_str(shown(arena, &plain, "true", NULL), "yes\n", "a boolean is a word");
}

static void wide_tables_are_cut_to_the_terminal(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const render_style                        narrow = { .width = 40 };
    const char *json = "[{\"name\":\"short\",\"message\":\"a message that is much longer than the terminal is wide\"}]";

    is_str(shown(arena, &narrow, json, NULL), "name   message\nshort  a message that is much longer th…\n",
           "the widest column gives way");
    json = "[{\"a\":\"日本語日本語日本語日本語日本語\",\"b\":\"0123456789\"}]";
    is_str(shown(arena, &narrow, json, NULL),
           "a                             b\n日本語日本語日本語日本語日…   0123456789\n",
           "wide characters are counted as two and never cut in half");
}

static void colour_underlines_words(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const render_style                        colour = { .colour = true };

    is_str(shown(arena, &colour, "[{\"state\":\"dead\"}]", NULL), "\033[1mstate\033[0m\n\033[31mdead\033[0m\n",
           "in tables");
    is_str(shown(arena, &colour, "{\"state\":\"ok\"}", NULL), "\033[2mstate:\033[0m \033[32mok\033[0m\n",
           "and behind keys");
}

static void no_colour_without_a_terminal(void)
{
    int ends[2];

    ok(pipe(ends) == 0, "a pipe");
    ok(!render_style_of(ends[1]).colour && render_style_of(ends[1]).width == 0, "is no terminal");
    close(ends[0]);
    close(ends[1]);
}

static void progress_is_one_line(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    is_str(progress_line(arena, 512 << 10, 1 << 20, 1000, 80),
           " 50% [############------------] 512.0 KiB of 1.0 MiB  512.0 KiB/s  1s left",
           "share, bar, bytes, speed and time left");
    is_str(progress_line(arena, 1 << 20, -1, 500, 80), "1.0 MiB  2.0 MiB/s", "without a total no share");
    is_str(progress_line(arena, 2 << 20, 1 << 20, 1000, 20), "100%  2.0 MiB of 1.0 MiB  2.0 MiB/s  0s left",
           "no bar where it is narrow");
}

int main(void)
{
    run(arrays_of_objects_are_tables_in_the_order_of_the_reply);
    run(pages_of_lists_need_no_key);
    run(objects_are_lines);
    run(other_values_are_themselves);
    run(wide_tables_are_cut_to_the_terminal);
    run(colour_underlines_words);
    run(no_colour_without_a_terminal);
    run(progress_is_one_line);
    return done();
}
