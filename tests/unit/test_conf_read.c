/* test_conf_read.c - files into sections: what is accepted, what each mistake is called, and on which line. */
#include <sys/stat.h>

#include "conf/conf.h"
#include "tap.h"

static const char *printed(depot_arena *arena, const conf_problems *problems)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };

    conf_problems_print(problems, &text);
    return depot_strndup(arena, text.data == NULL ? "" : text.data, text.len);
}

static void every_line_is_understood_as_written(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    conf_problems    *problems = conf_problems_new(arena);
    conf_raw         *raw = conf_raw_new(arena);
    static const char text[] = "\xEF\xBB\xBF; a comment\r\n"
                               "# another one, with = and [x]\n"
                               "   ; an indented one\n"
                               "\n"
                               "[queue default]\r\n"
                               "lease=10s\r\n"
                               "password = ab ;cd # ef \t\n"
                               "quoted = \"x y\"\n"
                               "equation = a = b : c\n"
                               "empty =\n"
                               "blank =   \t \n"
                               "umlaut = gr\xC3\xBC\xC3\x9F\n"
                               "  \t \n"
                               "[ database ]  \n"
                               "url = x\n"
                               "[queue   other]\n"
                               "no_newline = at the end";
    static const struct {
        const char *kind, *name, *key, *want;
    } rows[] = {
        { "queue", "default", "lease", "10s" },        { "queue", "default", "password", "ab ;cd # ef" },
        { "queue", "default", "quoted", "\"x y\"" },   { "queue", "default", "equation", "a = b : c" },
        { "queue", "default", "empty", "" },           { "queue", "default", "blank", "" },
        { "queue", "default", "umlaut", "gr\xC3\xBC\xC3\x9F" }, { "database", NULL, "url", "x" },
        { "queue", "other", "no_newline", "at the end" }, { "queue", "other", "lease", NULL },
        { "queue", NULL, "lease", NULL },              { "database", "default", "url", NULL },
    };

    conf_read_text(raw, "a.ini", text, sizeof(text) - 1, problems);
    is_str(printed(arena, problems), "", "no problem is found");
    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        is_str(conf_raw_get(raw, rows[i].kind, rows[i].name, rows[i].key), rows[i].want, rows[i].key);
    }
}

static void each_mistake_has_its_line_and_name(void)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        { "[queue\nlease = 1s\n[database]\nurl = x\n",
          "a.ini:1: error: the section header is not closed: ] is missing\n"
          "a.ini:1: hint: the lines below it are passed over until the next header\n" },
        { "\n[]\n", "a.ini:2: error: the section has no name: []\n"
                    "a.ini:2: hint: the lines below it are passed over until the next header\n" },
        { "[a] ; why\n", "a.ini:1: error: \"; why\" stands behind the section header\n"
                         "a.ini:1: hint: a comment stands on a line of its own, which starts with ; or #\n" },
        { "[plugin \"cas\"]\n",
          "a.ini:1: error: \"\"cas\"\" is no name of a section: at most 64 letters, digits, _ . or -\n"
          "a.ini:1: hint: the lines below it are passed over until the next header\n" },
        { "[a/b]\n", "a.ini:1: error: \"a/b\" is no kind of section: at most 48 letters, digits, _ . or -\n"
                     "a.ini:1: hint: the lines below it are passed over until the next header\n" },
        { "[queue a b]\n", "a.ini:1: error: \"a b\" is no name of a section: at most 64 letters, digits, _ . or -\n"
                           "a.ini:1: hint: the lines below it are passed over until the next header\n" },
        { "[plugin]\nrequired = no\n", "a.ini:1: error: [plugin] does not say which plugin\n"
                                       "a.ini:1: hint: write [plugin NAME]\n" },
        { "[a]\nb = 1\n  c = 2\n",
          "a.ini:3: error: this line is indented\n"
          "a.ini:3: hint: remove the blanks in front; a value cannot go on in the next line\n" },
        { "[a]\nnothing\n", "a.ini:2: error: there is no = in \"nothing\"\n"
                            "a.ini:2: hint: write option = value; a value ends at the end of its line\n" },
        { "[a]\nb: c\n", "a.ini:2: error: there is no = in \"b: c\"\n"
                         "a.ini:2: hint: write option = value; a value ends at the end of its line\n" },
        { "[a]\n= c\n", "a.ini:2: error: there is no option in front of =\n" },
        { "[a]\nb c = d\n", "a.ini:2: error: \"b c\" is no name of an option: at most 48 letters, digits, _ . or -\n" },
        { "[a]\nb ;c = d\n",
          "a.ini:2: error: \"b ;c\" is no name of an option: at most 48 letters, digits, _ . or -\n" },
        { "b = c\n", "a.ini:1: error: \"b\" stands in front of the first section\n"
                     "a.ini:1: hint: begin with a header such as [plugin NAME]\n" },
        { "[a]\nb = 1\nc = 2\nb = 3\n", "a.ini:4: error: b is set twice (first on line 2)\n" },
        { "[a]\nb = 1\n[c]\nb = 2\n[a]\nb = 3\n", "a.ini:6: error: b is set twice (first on line 2)\n" },
        { "[a]\noverride = yes\noverride = yes\n", "a.ini:3: error: override is set twice (first on line 2)\n" },
        { "[a]\noverride = perhaps\n", "a.ini:2: error: override: \"perhaps\" is neither yes nor no\n"
                                       "a.ini:2: hint: write yes, no, on, off, true, false, 1 or 0\n" },
        { "[a]\nb = x\x1b[31m\n", "a.ini:2: error: a control character (0x1b) stands in this line\n"
                                  "a.ini:2: hint: a value with control characters comes by ${file:PATH}\n" },
        { "[a]\nb = 1\rc = 2\n", "a.ini:2: error: a control character (0x0d) stands in this line\n"
                                 "a.ini:2: hint: a value with control characters comes by ${file:PATH}\n" },
        { "; gr\xFC\xDF\n[a]\nb = \xC3\n", "a.ini:1: error: this line is not valid UTF-8\n"
                                           "a.ini:1: hint: save the file as UTF-8\n"
                                           "a.ini:3: error: this line is not valid UTF-8\n"
                                           "a.ini:3: hint: save the file as UTF-8\n" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        conf_problems *problems = conf_problems_new(arena);

        conf_read_text(conf_raw_new(arena), "a.ini", rows[i].text, strlen(rows[i].text), problems);
        is_str(printed(arena, problems), rows[i].want, rows[i].text);
    }
}

static void keys_of_a_broken_section_belong_to_none(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    conf_problems    *problems = conf_problems_new(arena);
    conf_raw         *raw = conf_raw_new(arena);
    static const char text[] = "[queue a]\nlease = 1s\n[queue b\nworkers = 2\n=\n[queue c]\nworkers = 3\n";

    conf_read_text(raw, "a.ini", text, sizeof(text) - 1, problems);
    is_str(conf_raw_get(raw, "queue", "a", "workers"), NULL, "they do not go to the section before");
    is_str(conf_raw_get(raw, "queue", "c", "workers"), "3", "the next section is read");
    is_int(conf_problem_count(problems), 2, "mistakes below the broken header are found as well");
}

/* "[a]\nkey = xxx…\nlast = 1\n" with n times x. */
static char *long_text(depot_arena *arena, const char *head, size_t n, size_t *out_n)
{
    static const char tail[] = "\nlast = 1\nbroken\n";
    size_t            head_n = strlen(head);
    char             *text = depot_alloc(arena, head_n + n + sizeof(tail));

    memcpy(text, head, head_n);
    memset(text + head_n, 'x', n);
    memcpy(text + head_n + n, tail, sizeof(tail));
    *out_n = head_n + n + sizeof(tail) - 1;
    return text;
}

static void lines_may_be_long(void)
{
    static const struct {
        const char *head;
        size_t      n, value;
        const char *want;
    } rows[] = {
        { "[a]\nkey = ", 300, 300, "" },
        { "[a]\nkey = ", 1 << 20, 1 << 20, "" },
        { "[a]\n; ", 3 << 20, 0, "" },
        { "[a]\nkey = ", (1 << 20) + 1, 0,
          "a.ini:2: error: key: 1048577 bytes are too long, the limit is 1 MiB\n"
          "a.ini:2: hint: keep large data in a file of its own\n" },
        { "[a]\n", 1 << 20, 0,
          "a.ini:2: error: there is no = in \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...\"\n"
          "a.ini:2: hint: write option = value; a value ends at the end of its line\n" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        conf_problems *problems = conf_problems_new(arena);
        conf_raw      *raw = conf_raw_new(arena);
        size_t         n;
        char          *text = long_text(arena, rows[i].head, rows[i].n, &n);

        conf_read_text(raw, "a.ini", text, n, problems);
        const char *value = conf_raw_get(raw, "a", NULL, "key");
        is_int(value == NULL ? 0 : strlen(value), rows[i].value, "the value is whole");
        is_str(conf_raw_get(raw, "a", NULL, "last"), "1", "the line below is read");
        const char *want = depot_strf(arena, "%sa.ini:4: error: there is no = in \"broken\"\n"
                                             "a.ini:4: hint: write option = value; a value ends at the end of its line\n",
                                      rows[i].want);
        is_str(printed(arena, problems), want, "and line numbers are right");
    }
}

static void names_are_not_cut(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    conf_problems *problems = conf_problems_new(arena);
    conf_raw      *raw = conf_raw_new(arena);
    char           name[66] = { 0 };
    char           key[50] = { 0 };

    memset(name, 'n', 64);
    memset(key, 'k', 48);
    const char *other = depot_strf(arena, "%.63sX", name);
    const char *text = depot_strf(arena, "[plugin %s]\n%s = 1\n[plugin %s]\n%s = 2\n", name, key, other, key);
    conf_read_text(raw, "a.ini", text, strlen(text), problems);
    is_str(conf_raw_get(raw, "plugin", name, key), "1", "a name of 64 and a key of 48 bytes");
    is_str(conf_raw_get(raw, "plugin", other, key), "2", "which differ in the last byte");
    is_int(conf_problem_count(problems), 0, "are fine");
    name[64] = 'n';
    key[48] = 'k';
    text = depot_strf(arena, "[plugin %s]\n[a]\n%s = 1\n", name, key);
    conf_read_text(raw, "a.ini", text, strlen(text), problems);
    is_int(conf_problem_count(problems), 2, "longer ones are not");
}

static void sections_are_listed_in_order_even_if_empty(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf seen = { 0 };
    conf_problems    *problems = conf_problems_new(arena);
    conf_raw         *raw = conf_raw_new(arena);
    static const char one[] = "[plugin b]\n[queue x]\n[plugin a]\nrequired = no\n";
    static const char two[] = "\n[plugin c]\n[plugin b]\nrequired = no\n";
    const char       *name;
    const char       *file;
    int               line;

    conf_read_text(raw, "1.ini", one, sizeof(one) - 1, problems);
    conf_read_text(raw, "2.ini", two, sizeof(two) - 1, problems);
    for (size_t it = 0; conf_raw_next(raw, "plugin", &it, &name, &file, &line);) {
        depot_buf_addf(&seen, "%s %s:%d\n", name, file, line);
    }
    is_str(seen.data, "b 1.ini:1\na 1.ini:3\nc 2.ini:2\n", "each once, where it first stands");
    is_str(conf_raw_get(raw, "plugin", "b", "required"), "no", "what a later file adds counts");
    is_int(conf_problem_count(problems), 0, "and is no problem");
}

static void later_files_win_only_when_they_say_so(void)
{
    static const struct {
        const char *file, *text, *value, *want, *name;
    } rows[] = {
        { "20.ini", "[a]\nb = 2\n", "1",
          "20.ini:2: error: b is set twice (first on 10.ini:3)\n"
          "20.ini:2: hint: remove one; 99-local.ini and sections with override = yes win over earlier files\n",
          "not by itself" },
        { "99-local.ini", "[a]\nb = 2\n", "2", "", "99-local.ini" },
        { "conf.d/99-local.ini", "[a]\nb = 2\n", "2", "", "99-local.ini in a folder" },
        { "20.ini", "[a]\nb = 2\noverride = yes\n", "2", "", "override = yes, wherever it stands in the section" },
        { "20.ini", "[a]\noverride = no\nb = 2\n", "1",
          "20.ini:3: error: b is set twice (first on 10.ini:3)\n"
          "20.ini:3: hint: remove one; 99-local.ini and sections with override = yes win over earlier files\n",
          "override = no" },
        { "20.ini", "[c]\noverride = yes\n[a]\nb = 2\n", "1",
          "20.ini:4: error: b is set twice (first on 10.ini:3)\n"
          "20.ini:4: hint: remove one; 99-local.ini and sections with override = yes win over earlier files\n",
          "not for another section" },
        { "99-local.ini", "[a]\nb = 2\nb = 3\n", "2", "99-local.ini:3: error: b is set twice (first on line 2)\n",
          "not twice in one file" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        conf_problems    *problems = conf_problems_new(arena);
        conf_raw         *raw = conf_raw_new(arena);
        static const char first[] = "[a]\nother = 1\nb = 1\n";

        conf_read_text(raw, "10.ini", first, sizeof(first) - 1, problems);
        conf_read_text(raw, rows[i].file, rows[i].text, strlen(rows[i].text), problems);
        is_str(conf_raw_get(raw, "a", NULL, "b"), rows[i].value, rows[i].name);
        is_str(printed(arena, problems), rows[i].want, rows[i].name);
    }
}

static void binary_files_are_given_up(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    conf_problems    *problems = conf_problems_new(arena);
    conf_raw         *raw = conf_raw_new(arena);
    static const char nul[] = "[a]\nb = 1\nc = x\0y\nd\n";
    DEPOT_AUTO(depot_buf_free) depot_buf noise = { 0 };

    conf_read_text(raw, "nul.ini", nul, sizeof(nul) - 1, problems);
    is_str(printed(arena, problems), "nul.ini:3: error: this is no text file: a NUL byte stands here\n"
                                     "nul.ini:3: hint: save it as plain UTF-8 text, or move it out of this folder\n",
           "at the first NUL byte");
    for (int i = 0; i < 50; i++) {
        depot_buf_adds(&noise, "\xFF\xFE\n");
    }
    problems = conf_problems_new(arena);
    conf_read_text(raw, "noise.ini", noise.data, noise.len, problems);
    is_int(conf_problem_count(problems), 11, "after ten lines that are no text");
    contains(printed(arena, problems), "noise.ini:10: error: this is no text file: the rest of it is not read\n",
             "which is said");
}

static void problems_are_limited_in_number(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };
    conf_problems *problems = conf_problems_new(arena);

    for (int i = 0; i < 1500; i++) {
        depot_buf_adds(&text, "?\n");
    }
    conf_read_text(conf_raw_new(arena), "a.ini", text.data, text.len, problems);
    is_int(conf_problem_count(problems), 1500, "all are counted");
    contains(printed(arena, problems), "\nconfiguration: error: 500 more problems are not shown\n", "not all are shown");
    is_int(depot_json_len(conf_problems_json(arena, problems)), 1000, "a thousand are");
}

static void sections_and_options_are_limited_in_number(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf keys = { 0 };
    DEPOT_AUTO(depot_buf_free) depot_buf sections = { 0 };
    conf_problems *problems = conf_problems_new(arena);

    depot_buf_adds(&keys, "[a]\n");
    for (int i = 0; i < 1001; i++) {
        depot_buf_addf(&keys, "k%d = 1\n", i);
    }
    conf_read_text(conf_raw_new(arena), "a.ini", keys.data, keys.len, problems);
    is_str(printed(arena, problems), "a.ini:1002: error: a section holds at most 1000 options\n", "options");
    for (int i = 0; i < 10001; i++) {
        depot_buf_addf(&sections, "[a %d]\n", i);
    }
    problems = conf_problems_new(arena);
    conf_read_text(conf_raw_new(arena), "a.ini", sections.data, sections.len, problems);
    is_str(printed(arena, problems), "a.ini:10001: error: there are more than 10000 sections\n", "sections");
}

static void problems_are_in_order_and_safe_to_print(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    conf_problems *problems = conf_problems_new(arena);

    conf_problem(problems, "b.ini", 2, NULL, "second of b");
    conf_problem(problems, "b.ini", 1, "do this", "first of b");
    conf_problem(problems, "a.ini", 10, NULL, "ten");
    conf_problem(problems, "a.ini", 9, NULL, "nine, first");
    conf_problem(problems, "a.ini", 9, "", "nine, second");
    conf_problem(problems, "a.ini", 0, NULL, "bad bytes: \x1b[0m\n\xFF");
    is_str(printed(arena, problems), "a.ini: error: bad bytes: \\x1b[0m\\x0a\xEF\xBF\xBD\n"
                                     "a.ini:9: error: nine, first\n"
                                     "a.ini:9: error: nine, second\n"
                                     "a.ini:10: error: ten\n"
                                     "b.ini:1: error: first of b\n"
                                     "b.ini:1: hint: do this\n"
                                     "b.ini:2: error: second of b\n",
           "by file, line and time");
    is_str(depot_json_text(arena, depot_json_at(conf_problems_json(arena, problems), 4)),
           "{\"file\":\"b.ini\",\"line\":1,\"message\":\"first of b\",\"hint\":\"do this\"}", "and as JSON");
}

/* ---- folders ---- */
static void put(depot_arena *arena, const char *dir, const char *name, const char *text, unsigned mode)
{
    depot_err err = { 0 };

    ok_err(depot_write_file(depot_strf(arena, "%s/%s", dir, name), text, strlen(text), mode, &err), &err, name);
}

static void folders_are_read_in_byte_order(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    char           dir[] = "/tmp/depot-conf-XXXXXX";
    conf_problems *problems = conf_problems_new(arena);
    const char    *name;
    const char    *file;
    int            line;
    depot_err      err = { 0 };
    DEPOT_AUTO(depot_buf_free) depot_buf seen = { 0 };

    if (!ok(mkdtemp(dir) != NULL, "a folder")) {
        return;
    }
    put(arena, dir, "9-late.ini", "[plugin late]\n", 0600);
    put(arena, dir, "10-early.ini", "[plugin early]\n", 0600);
    put(arena, dir, "B.ini", "[plugin upper]\n", 0600);
    put(arena, dir, "a.ini", "[plugin lower]\n", 0600);
    put(arena, dir, "20-off.ini.disabled", "nonsense", 0600);
    put(arena, dir, ".hidden.ini", "nonsense", 0600);
    put(arena, dir, "notes.txt", "nonsense", 0600);
    put(arena, dir, "a.ini~", "nonsense", 0600);
    conf_raw *raw = conf_read(arena, depot_strf(arena, "%s//", dir), problems);
    for (size_t it = 0; conf_raw_next(raw, "plugin", &it, &name, &file, &line);) {
        depot_buf_addf(&seen, "%s ", name);
    }
    is_str(seen.data, "early late upper lower ", "files that end in .ini, in byte order");
    is_str(printed(arena, problems), "", "nothing else is looked at");
    is_str(file, depot_strf(arena, "%s/a.ini", dir), "places name the folder as it was given");
    ok_err(depot_remove_tree(dir, &err), &err, "cleaned up");
}

static void what_cannot_be_read_is_a_problem(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    char           dir[] = "/tmp/depot-conf-XXXXXX";
    conf_problems *problems = conf_problems_new(arena);
    depot_err      err = { 0 };

    if (!ok(mkdtemp(dir) != NULL, "a folder")) {
        return;
    }
    ok(mkdir(depot_strf(arena, "%s/10-dir.ini", dir), 0700) == 0, "a folder in place of a file");
    ok(symlink("nowhere", depot_strf(arena, "%s/20-link.ini", dir)) == 0, "a link to nowhere");
    ok(mkfifo(depot_strf(arena, "%s/30-pipe.ini", dir), 0600) == 0, "a pipe");
    put(arena, dir, "40-good.ini", "[plugin good]\n", 0600);
    conf_raw   *raw = conf_read(arena, dir, problems);
    const char *text = printed(arena, problems);
    is_int(conf_problem_count(problems), 3, "three problems");
    contains(text, "/10-dir.ini: error: ", "the folder");
    contains(text, "/20-link.ini: error: ", "the link");
    contains(text, "/30-pipe.ini: error: ", "the pipe");
    size_t      it = 0;
    const char *name = NULL;
    const char *file;
    int         line;
    ok(conf_raw_next(raw, "plugin", &it, &name, &file, &line), "the good file is read");
    ok_err(depot_remove_tree(dir, &err), &err, "cleaned up");

    problems = conf_problems_new(arena);
    (void)conf_read(arena, dir, problems);
    is_str(printed(arena, problems),
           depot_strf(arena, "%s: error: cannot read the configuration folder: No such file or directory\n"
                             "%s: hint: name it with --config DIR, and check owner and mode\n", dir, dir),
           "a folder that is not there");
}

static void unreadable_files_are_a_problem(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    char           dir[] = "/tmp/depot-conf-XXXXXX";
    conf_problems *problems = conf_problems_new(arena);
    depot_err      err = { 0 };

    if (geteuid() == 0) {
        skip("unreadable file", "root reads every file");
        return;
    }
    if (!ok(mkdtemp(dir) != NULL, "a folder")) {
        return;
    }
    put(arena, dir, "a.ini", "[plugin a]\n", 0000);
    (void)conf_read(arena, dir, problems);
    contains(printed(arena, problems), "/a.ini: error: cannot open ", "it is named");
    contains(printed(arena, problems), "Permission denied\n", "with the reason");
    contains(printed(arena, problems), "/a.ini: hint: check its owner and mode\n", "and what to do");
    ok_err(depot_remove_tree(dir, &err), &err, "cleaned up");
}

int main(void)
{
    run(every_line_is_understood_as_written);
    run(each_mistake_has_its_line_and_name);
    run(keys_of_a_broken_section_belong_to_none);
    run(lines_may_be_long);
    run(names_are_not_cut);
    run(sections_are_listed_in_order_even_if_empty);
    run(later_files_win_only_when_they_say_so);
    run(binary_files_are_given_up);
    run(problems_are_limited_in_number);
    run(sections_and_options_are_limited_in_number);
    run(problems_are_in_order_and_safe_to_print);
    run(folders_are_read_in_byte_order);
    run(what_cannot_be_read_is_a_problem);
    run(unreadable_files_are_a_problem);
    return done();
}
