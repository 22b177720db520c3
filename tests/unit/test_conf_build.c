/* test_conf_build.c - sections into structs: types, bounds, ${...}, the environment, and what each mistake is called. */
#include <sys/stat.h>

#include "base/log.h"
#include "conf_rig.h"
#include "tap.h"

static bool every_star(const char *text, depot_err *err)
{
    return strcmp(text, "* * * * *") == 0 ? true : DEPOT_FAIL(err, INVALID, "\"%s\" is not a cron expression", text);
}

static void defaults_are_there_without_any_file(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const conf *c;
    const char *file = NULL;
    int         line = 0;

    is_str(rig_check(arena, "", "/state", &c), "", "nothing is wrong with nothing");
    const rig_plugin   *plugin = conf_get(c, "plugin", "queue");
    const rig_database *database = conf_get(c, "database", NULL);
    if (!ok(plugin != NULL && database != NULL, "plugins and sections without name exist")) {
        return;
    }
    is_int(plugin->batch, 100, "an int");
    is_str(plugin->root, "/state/depot", "a path, made absolute");
    is_str(database->url, NULL, "no default is NULL");
    is_int(database->pool, 10, "and 10 is 10");
    ok(conf_get(c, "queue", "default") == NULL, "a named section does not exist by itself");
    ok(conf_get(c, "queue", NULL) == NULL, "not without name either");
    ok(!conf_place(c, "plugin", "queue", NULL, &file, &line), "what stands in no file has no place");
}

static void values_of_all_types_are_filled_in(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const conf *c;
    static const char text[] = "[queue default]\n"
                               "lease = 90s\nworkers = 256\non_full = drop\nmax_body = 64MiB\nweight = 2.5e-1\n"
                               "paused = on\ntags = gpu , big,  fast machine\ntype = thumbnail\nmatch = ^[a-z]{1,8}$\n"
                               "note = a # b ; c\n"
                               "[schedule s]\ncron = * * * * *\nid = 0189D9B0-1111-7222-8333-ABCDEFABCDEF\n"
                               "from = 2026-11-20T09:23:33Z\n"
                               "sum = e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"
                               "[database]\nurl = host=/run/x dbname=depot\ndirect_url = postgres://u@h/d\n"
                               "password = p\n"
                               "[plugin queue]\nroot = /srv/depot\nrequired = no\nfile = x.so\n";

    is_str(rig_check(arena, text, "/state", &c), "", "nothing is wrong");
    const rig_queue    *q = conf_get(c, "queue", "default");
    const rig_schedule *s = conf_get(c, "schedule", "s");
    const rig_database *d = conf_get(c, "database", NULL);
    const rig_plugin   *p = conf_get(c, "plugin", "queue");
    if (!ok(q != NULL && s != NULL && d != NULL && p != NULL, "every section exists")) {
        return;
    }
    is_int(q->lease, 90000, "duration in milliseconds");
    is_int(q->workers, 256, "int");
    is_int(q->on_full, 2, "enum as index");
    is_int(q->max_body, 64 << 20, "size in bytes");
    ok(q->weight > 0.2499 && q->weight < 0.2501, "number");
    ok(q->paused, "bool");
    is_str(q->tags[0], "gpu", "list");
    is_str(q->tags[1], "big", "its items are trimmed");
    is_str(q->tags[2], "fast machine", "and may hold blanks");
    is_str(q->tags[3], NULL, "it ends in NULL");
    is_str(q->type, "thumbnail", "string");
    is_str(q->match, "^[a-z]{1,8}$", "regex");
    is_str(q->note, "a # b ; c", "a value goes to the end of its line");
    is_str(s->id, "0189d9b0-1111-7222-8333-abcdefabcdef", "uuid in lower case");
    is_str(s->from, "2026-11-20T09:23:33Z", "time");
    is_str(s->cron, "* * * * *", "cron");
    is_str(d->url, "host=/run/x dbname=depot", "libpq's keywords are a URL");
    is_str(d->direct_url, "postgres://u@h/d", "URL");
    is_str(p->root, "/srv/depot", "an absolute path stays");
}

/* One option of [queue q] and the message about it; an empty one is accepted. */
static const struct value_case {
    const char *option, *value, *want;
} value_cases[] = {
    { "lease", "1s", "" },
    { "lease", "1h", "" },
    { "lease", "2h", "lease: 2h is out of range 1s..1h" },
    { "lease", "999ms", "lease: 999ms is out of range 1s..1h" },
    { "lease", "10", "lease: \"10\" is not a duration" },
    { "lease", "10 s", "lease: \"10 s\" is not a duration" },
    { "lease", "", "lease: \"\" is not a duration" },
    { "lease", "-5s", "lease: \"-5s\" is not a duration" },
    { "workers", "0", "workers: 0 is out of range 1..256" },
    { "workers", "257", "workers: 257 is out of range 1..256" },
    { "workers", "4x", "workers: \"4x\" is not a whole number" },
    { "workers", "99999999999999999999", "workers: 99999999999999999999 is outside the 64-bit integers" },
    { "on_full", "wait", "" },
    { "on_full", "rejct", "on_full: \"rejct\" is none of reject, wait, drop" },
    { "max_body", "1KiB", "" },
    { "max_body", "65MiB", "max_body: 65MiB is out of range 1KiB..64MiB" },
    { "max_body", "1", "max_body: 1 is out of range 1KiB..64MiB" },
    { "max_body", "1 parsec", "max_body: \"1 parsec\" is not a size" },
    { "weight", "10", "" },
    { "weight", "10.01", "weight: 10.01 is out of range 0..10" },
    { "weight", "-0.1", "weight: -0.1 is out of range 0..10" },
    { "weight", "0x1p3", "weight: \"0x1p3\" is not a number" },
    { "weight", "nan", "weight: \"nan\" is not a number" },
    { "weight", "1e999", "weight: \"1e999\" is not a number" },
    { "weight", "", "weight: \"\" is not a number" },
    { "paused", "maybe", "paused: \"maybe\" is neither yes nor no" },
    { "tags", "", "" },
    { "tags", "a,,b", "tags: item 2 of the list is empty" },
    { "tags", "a,b,", "tags: item 3 of the list is empty" },
    { "tags", ",", "tags: item 1 of the list is empty" },
    { "type", "12345678901234567890", "" },
    { "type", "123456789012345678901", "type: a length of 21 bytes is out of range 1..20 bytes" },
    { "type", "", "type: a length of 0 bytes is out of range 1..20 bytes" },
    { "match", "", "" },
    { "match", "(a", "match: \"(a\" is not a pattern: Unmatched ( or \\(" },
    { "match", "((x{400}){400}){400}", "match: the pattern \"((x{400}){400}){400}\" repeats more than 100000 times in all" },
    { "match", "x{1,400}{1,}{,400}", "match: the pattern \"x{1,400}{1,}{,400}\" repeats more than 100000 times in all" },
    { "match", "x{4}y{99999999999999999999}",
      "match: the pattern \"x{4}y{99999999999999999999}\" repeats more than 100000 times in all" },
    { "match", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "" },
    { "note", "", "" },
};

static void bad_values_are_named_with_their_bounds(void)
{
    for (size_t i = 0; i < DEPOT_N(value_cases); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        const struct value_case *row = &value_cases[i];
        const char              *name = depot_strf(arena, "%s = %s", row->option, row->value);
        const char *got = rig_check(arena, depot_strf(arena, "[queue q]\n%s\n", name), "/state", NULL);

        if (row->want[0] == '\0') {
            is_str(got, "", name);
        } else {
            const char *want = depot_strf(arena, "a.ini:2: error: %s\n", row->want);
            is_str(depot_strf(arena, "%.*s", (int)strlen(want), got), want, name);
        }
    }
}

static void values_of_other_sections_are_checked_too(void)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        { "[database]\npool = 0\n", "a.ini:2: error: pool: 0 is out of range, it must be at least 1\n" },
        { "[database]\npool = 99999999\n", "" },
        { "[database]\nurl =\n", "" },
        { "[database]\nurl = localhost\n",
          "a.ini:2: error: url: this is not a URL (not shown: it may hold a password)\n"
          "a.ini:2: hint: write scheme://host/path, or for PostgreSQL also host=... dbname=...\n" },
        { "[database]\nurl = postgres://u:p w@h/\n",
          "a.ini:2: error: url: this is not a URL (not shown: it may hold a password)\n"
          "a.ini:2: hint: after scheme:// stands a host or path; write blanks and quotes as %20 and %22\n" },
        { "[schedule s]\ncron = 61 * * * *\n", "a.ini:2: error: cron: \"61 * * * *\" is not a cron expression\n" },
        { "[schedule s]\ncron = * * * * *\nid = 0189d9b0\nfrom = yesterday\nsum = E3\n", NULL },
        { "[schedule s]\n", "a.ini:1: error: cron: is required and not set\na.ini:1: hint: cron: when\n" },
        { "[schedule s]\ncron =\n",
          "a.ini:2: error: cron: is required and must not be empty\na.ini:2: hint: cron: when\n" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        const char *got = rig_check(arena, rows[i].text, "/state", NULL);
        if (rows[i].want != NULL) {
            is_str(got, rows[i].want, rows[i].text);
        } else {
            contains(got, "a.ini:3: error: id: \"0189d9b0\" is not a UUID\n", "uuid");
            contains(got, "a.ini:4: error: from: ", "time");
            contains(got, "a.ini:5: error: sum: \"E3\" is not a SHA-256: 64 digits of 0-9 and a-f\n", "digest");
        }
    }
}

static void unknown_names_get_a_suggestion(void)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        { "[queu default]\nx = 1\n",
          "a.ini:1: error: unknown section [queu default]\na.ini:1: hint: did you mean \"queue\"?\n" },
        { "[frobnicate]\n", "a.ini:1: error: unknown section [frobnicate]\n"
                            "a.ini:1: hint: the plugin that declares it may not be enabled\n" },
        { "[plugin quueue]\n",
          "a.ini:1: error: unknown plugin \"quueue\"\na.ini:1: hint: did you mean \"queue\"?\n" },
        { "[plugin other]\n", "a.ini:1: error: unknown plugin \"other\"\n" },
        { "[queue]\n", "a.ini:1: error: [queue] needs a name\na.ini:1: hint: write [queue NAME]\n" },
        { "[database main]\n", "a.ini:1: error: [database] takes no name\na.ini:1: hint: write [database]\n" },
        { "[queue default]\nleese = 1s\n", "a.ini:2: error: unknown option \"leese\" in [queue default]\n"
                                           "a.ini:2: hint: did you mean \"lease\"?\n" },
        { "[database]\nfrobnicate = 1\n", "a.ini:2: error: unknown option \"frobnicate\" in [database]\n" },
        { "[plugin queue]\nlease = 1s\n", "a.ini:2: error: unknown option \"lease\" in [plugin queue]\n"
                                          "a.ini:2: hint: lease is an option of [queue NAME]\n" },
        { "[queue default]\nbatch = 1\n", "a.ini:2: error: unknown option \"batch\" in [queue default]\n"
                                          "a.ini:2: hint: batch is an option of [plugin queue]\n" },
        { "[plugin queue]\nrequierd = 1\n", "a.ini:2: error: unknown option \"requierd\" in [plugin queue]\n"
                                            "a.ini:2: hint: did you mean \"required\"?\n" },
        { "[queue default]\nrequired = yes\n", "a.ini:2: error: unknown option \"required\" in [queue default]\n" },
        { "[plugin queue]\nrequired = 2\n", "a.ini:2: error: required: \"2\" is neither yes nor no\n"
                                            "a.ini:2: hint: write yes, no, on, off, true, false, 1 or 0\n" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        is_str(rig_check(arena, rows[i].text, "/state", NULL), rows[i].want, rows[i].text);
    }
}

static void missing_plugins_are_reported_once(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    conf_problems *problems = conf_problems_new(arena);
    conf_raw      *raw = conf_raw_new(arena);

    conf_read_text(raw, "a.ini", "[plugin gone]\n", 14, problems);
    conf_problem(problems, "a.ini", 1, NULL, "cannot load gone.so");
    is_str(rig_build(arena, raw, "/state", problems, NULL), "a.ini:1: error: cannot load gone.so\n",
           "where it could not be loaded");
}

static void optional_plugins_may_be_missing(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    is_str(rig_check(arena, "[plugin gone]\nrequired = no\nx = 1\n[bucket a]\ny = 2\n", "/state", NULL), "",
           "with their sections");
    is_str(rig_check(arena, "[plugin gone]\nrequired = no\n[quue a]\n", "/state", NULL),
           "a.ini:3: error: unknown section [quue a]\na.ini:3: hint: did you mean \"queue\"?\n",
           "but a typing mistake stays one");
    contains(rig_check(arena, "[plugin gone]\nrequired = yes\n[bucket a]\n", "/state", NULL),
             "a.ini:3: error: unknown section [bucket a]\n", "and required ones may not");
}

static void bad_values_give_way_to_defaults(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const conf *c;

    (void)rig_check(arena, "[queue q]\nlease = 2h\nworkers = x\ntags = ,\nnote = ${env:RIG_NOT_SET}\n", "/state", &c);
    const rig_queue *q = conf_get(c, "queue", "q");
    is_int(q->lease, 10000, "out of range");
    is_int(q->workers, 4, "unreadable");
    ok(q->tags == NULL, "a list");
    is_str(q->note, NULL, "without value");
}

static void sections_are_found_by_kind_and_name(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf seen = { 0 };
    const conf      *c;
    const rig_queue *q;
    const char      *name;
    const char      *file = NULL;
    int              line = 0;

    is_str(rig_check(arena, "[queue b]\nworkers = 1\n[database]\npool = 3\n[queue a]\n\nworkers = 2\n", "/state", &c), "",
           "nothing is wrong");
    for (size_t it = 0; (q = conf_next(c, "queue", &it, &name)) != NULL;) {
        depot_buf_addf(&seen, "%s=%d ", name, (int)q->workers);
    }
    is_str(seen.data, "b=1 a=2 ", "in the order of the files");
    ok(conf_place(c, "queue", "a", NULL, &file, &line), "the place of a section");
    is_int(line, 5, "is its header");
    ok(conf_place(c, "queue", "a", "workers", &file, &line), "the place of an option");
    is_int(line, 7, "is its line");
    ok(conf_place(c, "queue", "a", "lease", &file, &line), "that of one which is not set");
    is_int(line, 5, "is the header");
    is_str(file, "a.ini", "in the file");
    ok(!conf_place(c, "queue", "c", NULL, &file, &line), "an unknown section has none");
}

static void the_configuration_outlives_the_files(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const conf *c;
    const char *file = NULL;
    int         line = 0;
    {
        DEPOT_AUTO(depot_arena_drop) depot_arena *short_lived = depot_arena_new();
        conf_problems *problems = conf_problems_new(short_lived);
        conf_raw      *raw = conf_raw_new(short_lived);
        char          *text = depot_strdup(short_lived, "[queue q]\nnote = hello\ntype = ${note}\n");
        conf_read_text(raw, "a.ini", text, strlen(text), problems);
        c = conf_build(arena, raw, rig_kinds, DEPOT_N(rig_kinds), "/state", problems);
        is_int(conf_problem_count(problems), 0, "nothing is wrong");
    }
    const rig_queue *q = conf_get(c, "queue", "q");
    is_str(q->note, "hello", "a text");
    is_str(q->type, "hello", "a reference");
    ok(conf_place(c, "queue", "q", "note", &file, &line), "a place");
    is_str(file, "a.ini", "with its file");
    ok(depot_json_len(conf_show(arena, c)) > 10, "it can be shown");
}

/* ---- ${...} ---- */
static void put(depot_arena *arena, const char *dir, const char *name, const char *text, unsigned mode)
{
    depot_err err = { 0 };

    ok_err(depot_write_file(depot_strf(arena, "%s/%s", dir, name), text, strlen(text), mode, &err), &err, name);
}

/* A state folder with secrets, and the variables that the cases below use. */
static void prepare(depot_arena *arena, char *dir)
{
    depot_err err = { 0 };

    ok(mkdtemp(dir) != NULL, "a state folder");
    ok_err(depot_mkdirs(depot_strf(arena, "%s/secrets", dir), 0700, &err), &err, "for secrets");
    put(arena, dir, "secrets/good", "s3cret-good\n", 0600);
    put(arena, dir, "secrets/open", "s3cret-open\n", 0640);
    put(arena, dir, "secrets/void", "\n", 0600);
    put(arena, dir, "text", "from a file\r\n\n", 0644);
    put(arena, dir, "private", "from-a-private-file", 0600);
    put(arena, dir, "latin1", "gr\xFC\xDF", 0600);
    put(arena, dir, "credential", "by-systemd\n", 0444);
    ok(setenv("RIG_TEXT", "from the environment", 1) == 0 && setenv("RIG_EMPTY", "", 1) == 0 &&
           setenv("RIG_ODD", "${env:RIG_TEXT} $", 1) == 0 && setenv("CREDENTIALS_DIRECTORY", dir, 1) == 0,
       "variables");
}

static const struct expand_case {
    const char *option, *value, *result, *want; /* want: the message, with %s for the state folder; NULL: none */
} expand_cases[] = {
    { "note", "${env:RIG_TEXT}", "from the environment", NULL },
    { "note", "a${env:RIG_TEXT}b${env:RIG_TEXT}", "afrom the environmentbfrom the environment", NULL },
    { "note", "${env:RIG_ODD}", "${env:RIG_TEXT} $", NULL },
    { "note", "$${env:RIG_TEXT}", "${env:RIG_TEXT}", NULL },
    { "note", "$$${x", "$${x", NULL },
    { "note", "$ $$ $x {y} $", "$ $$ $x {y} $", NULL },
    { "note", "${env:RIG_NOT_SET}", NULL, "note: environment variable RIG_NOT_SET is not set" },
    { "note", "${env:RIG_EMPTY}", NULL, "note: environment variable RIG_EMPTY is empty" },
    { "note", "${env:}", NULL, "note: ${env:} lacks a name" },
    { "note", "${evn:HOME}", NULL, "note: ${evn:HOME} is not known" },
    { "note", "${}", NULL, "note: ${} is not known" },
    { "note", "${env:HOME", NULL, "note: ${ is not closed: } is missing" },
    { "note", "${file:text}", "from a file", NULL },
    { "note", "${file:absent}", NULL, "note: cannot open %s/absent: No such file or directory" },
    { "note", "${file:latin1}", NULL, "note: %s/latin1 is not UTF-8 text" },
    { "note", "${secret:good}", "s3cret-good", NULL },
    { "note", "${secret:credential}", "by-systemd", NULL },
    { "note", "${secret:open}", NULL, "note: others may access %s/secrets/open (mode 0640)" },
    { "note", "${secret:void}", NULL, "note: %s/secrets/void is empty" },
    { "note", "${secret:none}", NULL, "note: there is no secret \"none\"" },
    { "note", "${secret:../text}", NULL, "note: \"../text\" cannot be the name of a secret" },
    { "note", "${secret:..}", NULL, "note: \"..\" cannot be the name of a secret" },
    { "note", "${type}/${on_full}", "any/reject", NULL },
    { "note", "${match}", NULL, "note: ${match} has no value" },
    { "note", "${note}", NULL, "note: ${note} leads back to itself" },
    { "note", "${batch}", NULL, "note: ${batch}: there is no such option in this section" },
    { "type", "${secret:good}${secret:good}", NULL, "type: the value is no good string (not shown: it holds a secret)" },
    { "lease", "${secret:good}", NULL, "lease: the value is no good duration (not shown: it holds a secret)" },
};

static void values_are_put_in_for_references(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *setup = depot_arena_new();
    char      dir[] = "/tmp/depot-conf-XXXXXX";
    depot_err err = { 0 };

    prepare(setup, dir);
    for (size_t i = 0; i < DEPOT_N(expand_cases); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        const struct expand_case *row = &expand_cases[i];
        const char *name = depot_strf(arena, "%s = %s", row->option, row->value);
        const conf *c;
        const char *got = rig_check(arena, depot_strf(arena, "[queue q]\n%s\n", name), dir, &c);
        const char *at = row->want == NULL ? NULL : strstr(row->want, "%s");

        if (row->want == NULL) {
            is_str(got, "", name);
            is_str(((const rig_queue *)conf_get(c, "queue", "q"))->note, row->result, name);
        } else {
            const char *want = at == NULL ? row->want : depot_strf(arena, "%.*s%s%s", (int)(at - row->want), row->want,
                                                                   dir, at + 2);
            want = depot_strf(arena, "a.ini:2: error: %s\n", want);
            is_str(depot_strf(arena, "%.*s", (int)strlen(want), got), want, name);
        }
    }
    ok_err(depot_remove_tree(dir, &err), &err, "cleaned up");
}

static void secrets_come_from_private_files_only(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    char      dir[] = "/tmp/depot-conf-XXXXXX";
    depot_err err = { 0 };
    const conf *c;
    DEPOT_AUTO(depot_buf_free) depot_buf line = { 0 };

    prepare(arena, dir);
    is_str(rig_check(arena, "[database]\npassword = ${file:text}\n", dir, NULL),
           depot_strf(arena, "a.ini:2: error: password: others may access %s/text (mode 0644)\n"
                             "a.ini:2: hint: chmod 600 %s/text\n", dir, dir),
           "a file that others can read is refused, with the cure");
    is_str(rig_check(arena, "[database]\npassword = ${file:private}\nurl = postgres://u:${secret:good}@h/d\n", dir, &c),
           "", "a private one is fine");
    const rig_database *d = conf_get(c, "database", NULL);
    is_str(d->password, "from-a-private-file", "it is read");
    is_str(d->url, "postgres://u:s3cret-good@h/d", "secrets may be a part of other values");
    is_str(rig_check(arena, "[database]\npassword = plain-in-file\ndirect_url = http://u:inside-url@h/\n", dir, NULL), "",
           "a secret may stand in the file itself");
    is_str(rig_check(arena, "[database]\npassword = host=h dbname=d password='within a secret'\n", dir, NULL), "",
           "a secret may be a connection string");
    depot_buf_adds(&line, "from-a-private-file s3cret-good plain-in-file inside-url else: password within a secret");
    log_redact(&line);
    is_str(line.data, "*** *** *** *** else: password ***", "the log knows all of them");
    ok_err(depot_remove_tree(dir, &err), &err, "cleaned up");
}

static void circles_are_found(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    is_str(rig_check(arena, "[queue q]\ntype = ${match}\nmatch = ${note}\nnote = ${type}\nworkers = 3\n", "/state", NULL),
           "a.ini:2: error: type: ${match} has no usable value\n"
           "a.ini:3: error: match: ${note} has no usable value\n"
           "a.ini:4: error: note: ${type} leads back to itself\n",
           "and every option on the way is named");
    is_str(rig_check(arena, "[queue q]\nmatch = ${note}\nnote = ${env:RIG_NOT_SET}\n", "/state", NULL),
           "a.ini:2: error: match: ${note} has no usable value\n"
           "a.ini:3: error: note: environment variable RIG_NOT_SET is not set\n"
           "a.ini:3: hint: set it where depotd is started, or write the value here\n",
           "the cause is told where it is");
}

static void replaced_texts_are_limited_in_length(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };

    depot_buf_adds(&text, "[queue q]\nmatch = ");
    for (int i = 0; i < 100; i++) {
        depot_buf_adds(&text, "0123456789");
    }
    depot_buf_adds(&text, "\nnote = ");
    for (int i = 0; i < 1100; i++) {
        depot_buf_adds(&text, "${match}");
    }
    is_str(rig_check(arena, text.data, "/state", NULL),
           "a.ini:3: error: note: the value is longer than 1 MiB once ${...} is replaced\n", "to 1 MiB");
}

/* ---- the environment ---- */
static void variables_win_over_files(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    static const char text[] = "[database]\nurl = postgres://file/d\npool = 3\n[listen api]\naddress = file:1\n"
                               "[listen admin]\naddress = file:2\n[listen other]\naddress = file:3\n";
    const conf *c;

    ok(setenv("RIG_URL", " \t", 1) == 0 && setenv("RIG_OLD_URL", "postgres://old/${env:X}", 1) == 0 &&
           setenv("RIG_ADMIN_ADDR", "env:2", 1) == 0,
       "variables");
    is_str(rig_check(arena, text, "/state", &c), "", "nothing is wrong");
    is_str(((const rig_database *)conf_get(c, "database", NULL))->url, "postgres://old/${env:X}",
           "the first that is not blank, as it is");
    is_str(((const rig_listen *)conf_get(c, "listen", "admin"))->address, "env:2", "an alias of one section");
    is_str(((const rig_listen *)conf_get(c, "listen", "api"))->address, "file:1", "does not count in others");
    is_str(((const rig_listen *)conf_get(c, "listen", "other"))->address, "file:3", "with other names");
    ok(setenv("RIG_URL", "postgres://new/d", 1) == 0 && setenv("RIG_ADMIN_ADDR", "", 1) == 0, "variables");
    is_str(rig_check(arena, "[listen admin]\n", "/state", &c),
           "a.ini:1: error: address: is required and not set\n"
           "a.ini:1: hint: address: host:port, or off; set it, or the variable RIG_ADMIN_ADDR\n",
           "a blank one is none");
    is_str(((const rig_database *)conf_get(c, "database", NULL))->url, "postgres://new/d", "the first of two wins");
    ok(unsetenv("RIG_URL") == 0 && unsetenv("RIG_OLD_URL") == 0 && unsetenv("RIG_ADMIN_ADDR") == 0, "unset");
}

static void bad_variables_are_errors(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const conf *c;

    ok(setenv("RIG_POOL", "many", 1) == 0, "a variable");
    is_str(rig_check(arena, "[database]\npool = 3\n", "/state", &c),
           "env:RIG_POOL: error: [database] pool: \"many\" is not a whole number\n", "the file does not step in");
    ok(setenv("RIG_POOL", "\xFF", 1) == 0, "a variable");
    is_str(rig_check(arena, "", "/state", &c), "env:RIG_POOL: error: [database] pool: the value is not UTF-8 text\n",
           "nor for one that is no text");
    ok(unsetenv("RIG_POOL") == 0, "unset");
}

static void bare_numbers_in_variables_have_the_units_of_their_names(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const conf *c;

    ok(setenv("RIG_IDLE_SECONDS", "90", 1) == 0, "a variable");
    is_str(rig_check(arena, "[listen api]\naddress = x\n", "/state", &c), "", "a bare number is taken");
    is_int(((const rig_listen *)conf_get(c, "listen", "api"))->idle, 90000, "as seconds");
    ok(setenv("RIG_IDLE_SECONDS", "2m", 1) == 0, "another");
    is_str(rig_check(arena, "[listen api]\naddress = x\n", "/state", &c), "", "a number with a unit is taken");
    is_int(((const rig_listen *)conf_get(c, "listen", "api"))->idle, 120000, "by its own unit");
    ok(setenv("RIG_IDLE_SECONDS", "-9", 1) == 0, "a third");
    ok(strstr(rig_check(arena, "[listen api]\naddress = x\n", "/state", &c), "env:RIG_IDLE_SECONDS: error: ") != NULL,
       "anything else is an error that names the variable");
    ok(unsetenv("RIG_IDLE_SECONDS") == 0, "unset");
}

int main(void)
{
    run(bare_numbers_in_variables_have_the_units_of_their_names);
    conf_set_cron_check(every_star);
    run(defaults_are_there_without_any_file);
    run(values_of_all_types_are_filled_in);
    run(bad_values_are_named_with_their_bounds);
    run(values_of_other_sections_are_checked_too);
    run(unknown_names_get_a_suggestion);
    run(missing_plugins_are_reported_once);
    run(optional_plugins_may_be_missing);
    run(bad_values_give_way_to_defaults);
    run(sections_are_found_by_kind_and_name);
    run(the_configuration_outlives_the_files);
    run(values_are_put_in_for_references);
    run(secrets_come_from_private_files_only);
    run(circles_are_found);
    run(replaced_texts_are_limited_in_length);
    run(variables_win_over_files);
    run(bad_variables_are_errors);
    return done();
}
