/* test_conf_show.c - what people see of a configuration: dumps, schema, sample files, restarts needed, plugins switched. */
#include <dirent.h>
#include <sys/stat.h>

#include "conf_rig.h"
#include "tap.h"

/* "value (origin)" of one option; NULL: not in the dump. */
static const char *shown(depot_arena *arena, const conf *c, const char *section, const char *option)
{
    const depot_json *list = conf_show(arena, c);

    for (size_t i = 0; i < depot_json_len(list); i++) {
        const depot_json *row = depot_json_at(list, i);
        if (strcmp(depot_json_get_str(row, "section", ""), section) == 0 &&
            strcmp(depot_json_get_str(row, "option", ""), option) == 0) {
            return depot_strf(arena, "%s (%s)", depot_json_get_str(row, "value", "none"),
                              depot_json_get_str(row, "origin", "?"));
        }
    }
    return NULL;
}

static void values_are_shown_with_their_origin(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    static const char text[] = "[queue q]\nlease = 90000ms\nmax_body = 2048\nweight = 0.50\ntags = a ,b\non_full = wait\n"
                               "paused = 1\nnote =\n[database]\npool = 3\n[plugin queue]\nrequired = off\n";
    static const struct {
        const char *section, *option, *want;
    } rows[] = {
        { "queue q", "lease", "90s (a.ini:2)" },
        { "queue q", "max_body", "2KiB (a.ini:3)" },
        { "queue q", "weight", "0.5 (a.ini:4)" },
        { "queue q", "tags", "a, b (a.ini:5)" },
        { "queue q", "on_full", "wait (a.ini:6)" },
        { "queue q", "paused", "yes (a.ini:7)" },
        { "queue q", "note", " (a.ini:8)" },
        { "queue q", "workers", "4 (default)" },
        { "queue q", "match", "none (default)" },
        { "database", "pool", "7 (env:RIG_POOL)" },
        { "database", "url", "none (default)" },
        { "plugin queue", "required", "no (a.ini:12)" },
        { "plugin queue", "root", "/state/depot (default)" },
        { "plugin queue", "batch", "100 (default)" },
        { "plugin queue", "lease", NULL },
    };
    const conf *c;

    ok(setenv("RIG_POOL", "7", 1) == 0, "a variable");
    is_str(rig_check(arena, text, "/state", &c), "", "nothing is wrong");
    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        is_str(shown(arena, c, rows[i].section, rows[i].option), rows[i].want, rows[i].option);
    }
    ok(unsetenv("RIG_POOL") == 0, "unset");
    is_str(depot_json_text(arena, depot_json_at(conf_show(arena, c), 0)),
           "{\"section\":\"queue q\",\"option\":\"lease\",\"value\":\"90s\",\"origin\":\"a.ini:2\","
           "\"doc\":\"time for which a worker owns a job\",\"default\":\"10s\",\"reloadable\":true}",
           "a whole row");
}

static void secrets_are_never_shown(void)
{
    static const struct {
        const char *value, *want;
    } urls[] = {
        { "postgres://u:hidden-pw@h:5432/d", "postgres://u:***@h:5432/d (a.ini:2)" },
        { "postgres://u:hidden@pw@h/d", "postgres://u:***@h/d (a.ini:2)" },
        { "postgres://u@h/d?a=b&password=hidden-pw&c=d", "postgres://u@h/d?a=b&password=***&c=d (a.ini:2)" },
        { "host=h password=hidden-pw user=u", "host=h password=*** user=u (a.ini:2)" },
        { "host=h password = 'hidden \\'pw' user=u", "host=h password = '***' user=u (a.ini:2)" },
        { "http://h/a:b@c", "http://h/a:b@c (a.ini:2)" },
        { "http://u@h", "http://u@h (a.ini:2)" },
        { "${env:RIG_HIDDEN}", "http://u:***@h (a.ini:2)" },
    };

    ok(setenv("RIG_HIDDEN", "http://u:hidden-pw@h", 1) == 0, "a variable");
    for (size_t i = 0; i < DEPOT_N(urls); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        const conf *c;
        is_str(rig_check(arena, depot_strf(arena, "[database]\nurl = %s\npassword = hidden-pw\n", urls[i].value), "/state",
                         &c), "", "nothing is wrong");
        is_str(shown(arena, c, "database", "url"), urls[i].want, urls[i].value);
        is_str(shown(arena, c, "database", "password"), "*** (a.ini:3)", "a secret");
        is_str(shown(arena, c, "database", "direct_url"), "none (default)", "nothing is not hidden");
        ok(strstr(depot_json_text(arena, conf_show(arena, c)), "hidden") == NULL, "nowhere in the dump");
    }
}

static void secrets_put_into_other_values_hide_these(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    char        dir[] = "/tmp/depot-conf-XXXXXX";
    depot_err   err = { 0 };
    const conf *c;

    ok(mkdtemp(dir) != NULL, "a state folder");
    ok_err(depot_mkdirs(depot_strf(arena, "%s/secrets", dir), 0700, &err), &err, "for secrets");
    ok_err(depot_write_file(depot_strf(arena, "%s/secrets/x", dir), "hidden", 6, 0600, &err), &err, "a secret");
    is_str(rig_check(arena, "[queue q]\nmatch = a${secret:x}\nnote = b${match}\n", dir, &c), "", "nothing is wrong");
    is_str(shown(arena, c, "queue q", "match"), "*** (a.ini:2)", "the option itself");
    is_str(shown(arena, c, "queue q", "note"), "*** (a.ini:3)", "and those that refer to it");
    ok_err(depot_remove_tree(dir, &err), &err, "cleaned up");
}

static void the_schema_tells_all_about_options(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_json *schema = conf_schema(arena, rig_kinds, DEPOT_N(rig_kinds));

    is_int(depot_json_len(schema), DEPOT_N(rig_kinds), "one row a kind");
    const depot_json *plugin = depot_json_at(schema, 0);
    is_str(depot_json_get_str(plugin, "section", NULL), "[plugin queue]", "a plugin");
    is_str(depot_json_get_str(depot_json_at(depot_json_get(plugin, "options"), 2), "name", NULL), "required",
           "takes the common options too");
    is_str(depot_json_text(arena, depot_json_at(depot_json_get(depot_json_at(schema, 1), "options"), 0)),
           "{\"name\":\"lease\",\"type\":\"duration\",\"default\":\"10s\",\"min\":1000,\"max\":3600000,"
           "\"range\":\"1s..1h\",\"required\":false,\"reloadable\":true,\"env\":[],"
           "\"doc\":\"time for which a worker owns a job\"}",
           "a duration");
    is_str(depot_json_text(arena, depot_json_get(depot_json_at(depot_json_get(depot_json_at(schema, 1), "options"), 2),
                                                 "choices")),
           "[\"reject\",\"wait\",\"drop\"]", "the choices of an enum");
    const depot_json *listen = depot_json_at(schema, 3);
    is_str(depot_json_get_str(listen, "section", NULL), "[listen NAME]", "a kind with names");
    is_str(depot_json_text(arena, depot_json_at(depot_json_get(listen, "options"), 0)),
           "{\"name\":\"address\",\"type\":\"string\",\"default\":null,\"required\":true,\"reloadable\":false,"
           "\"env\":[{\"variable\":\"RIG_API_ADDR\",\"section\":\"api\",\"unit\":null},"
           "{\"variable\":\"RIG_ADMIN_ADDR\",\"section\":\"admin\",\"unit\":null}],\"doc\":\"host:port, or off\"}",
           "variables of single sections");
    is_int(depot_json_get_int(depot_json_at(depot_json_get(depot_json_at(schema, 2), "options"), 3), "max", -1), -1,
           "no upper bound is null");
}

static void samples_show_every_option(void)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };

    conf_sample(&out, rig_kinds, 2, "queue");
    contains(out.data, "\n; A queue of jobs.\n[plugin queue]\n", "the plugin's section");
    contains(out.data, "\n; jobs that one claim takes\n; int, 1..1000; changes apply on reload\n;batch = 100\n", "an int");
    contains(out.data, "\n;file =\n", "an option without default");
    contains(out.data, "\n; One queue and its limits.\n;[queue NAME]\n", "named sections are examples");
    contains(out.data, "; enum: reject, wait, drop; changes apply on reload\n;on_full = reject\n", "an enum");
    depot_buf_reset(&out);
    conf_sample(&out, rig_kinds, DEPOT_N(rig_kinds), "core");
    contains(out.data, "; host:port, or off\n; string, required; environment: RIG_API_ADDR (for api), RIG_ADMIN_ADDR (for "
                       "admin); changes apply after a\n; restart\n;address =\n",
             "variables, in lines that are not too long");
    ok(strstr(out.data, "[plugin queue]") == NULL, "only of the owner");
}

/* Takes the ; from settings that have a value, as an operator would. */
static const char *uncommented(depot_arena *arena, const char *sample)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };

    for (const char *s = sample; *s != '\0';) {
        size_t n = strcspn(s, "\n");
        bool   is_setting = s[0] == ';' && s[1] != ' ' && s[n - 1] != '=';
        depot_buf_add(&out, s + is_setting, n - is_setting);
        depot_buf_adds(&out, "\n");
        s += n + 1;
    }
    return depot_strndup(arena, out.data, out.len);
}

static void samples_are_right(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
    const conf *c;

    conf_sample(&out, rig_kinds, 2, "queue");
    is_str(rig_check(arena, out.data, "/state", &c), "", "as they are");
    is_str(rig_check(arena, uncommented(arena, out.data), "/state", &c), "", "and with every setting uncommented");
    contains(shown(arena, c, "queue NAME", "lease"), "10s (a.ini:", "which then counts");
}

/* The dump of what another process makes of it, and the secrets that its log would hide. */
static void a_configuration_travels_to_another_process(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf      line = { 0 };
    static const char text[] = "[queue q]\nlease = 90s\nnote = $${x} costs ${env:RIG_PRICE} $$${${type}}\n"
                               "[database]\npool = 3\npassword = ${file:RIG_FILE}\n"
                               "[plugin queue]\nroot = sub/dir\n[queue empty]\n";
    char        dir[] = "/tmp/depot-conf-XXXXXX";
    const conf *here, *there;
    depot_err   err = { 0 };

    ok(mkdtemp(dir) != NULL, "a folder");
    char *secret = depot_strf(arena, "%s/secret", dir);
    ok_err(depot_write_file(secret, "travel \"pass\"", 13, 0600, &err), &err, "a secret");
    ok(setenv("RIG_PRICE", "${5}", 1) == 0 && setenv("RIG_POOL", "7", 1) == 0, "variables");
    DEPOT_AUTO(depot_buf_free) depot_buf placed = { 0 };
    const char *mark = strstr(text, "RIG_FILE");
    depot_buf_addf(&placed, "%.*s%s%s", (int)(mark - text), text, secret, mark + 8);
    is_str(rig_check(arena, placed.data, dir, &here), "", "nothing is wrong");

    const char *packed = conf_pack(arena, here);
    ok_err(depot_remove_tree(dir, &err), &err, "the files go");
    ok(unsetenv("RIG_PRICE") == 0, "and a variable");
    conf_raw *raw = conf_unpack(arena, packed, &err);
    ok_err(raw != NULL, &err, "conf_unpack");
    is_str(rig_build(arena, raw, dir, conf_problems_new(arena), &there), "", "nothing is wrong there");
    is_str(depot_json_text(arena, conf_show(arena, there)), depot_json_text(arena, conf_show(arena, here)), "the same values and places");
    is_str(((const rig_queue *)conf_get(there, "queue", "q"))->note, ((const rig_queue *)conf_get(here, "queue", "q"))->note,
           "texts that look like references stay what they are");
    is_str(conf_pack(arena, there), packed, "and it may travel on");
    contains(packed, "travel \\\"pass\\\"", "secrets are part of it");
    ok(conf_unpack(arena, "{", &err) == NULL, "what is cut is refused");
    contains(err.msg, "the configuration in force", "and named");
    ok(unsetenv("RIG_POOL") == 0, "unset");
}

static void changes_that_need_a_restart_are_named(void)
{
    static const struct {
        const char *running, *wanted, *want;
    } rows[] = {
        { "[queue q]\nlease = 10s\nnote = a\n", "[queue q]\nlease = 20s\nnote = b\n", "" },
        { "[queue q]\nmax_body = 1MiB\n", "[queue q]\nmax_body = 1024k\n", "" },
        { "[queue q]\nworkers = 4\n", "\n[queue q]\nworkers = 5\n",
          "a.ini:3: error: [queue q] workers changed from 4 to 5, which needs a restart\n" },
        { "[queue q]\nworkers = 5\n", "\n[queue q]\n",
          "a.ini:2: error: [queue q] workers changed from 5 to 4, which needs a restart\n" },
        { "", "[queue q]\n", "a.ini:1: error: [queue q] is new, which needs a restart\n" },
        { "[queue q]\n", "", "a.ini: error: [queue q] is gone, which needs a restart\n" },
        { "[schedule a]\ncron = x\n", "[schedule b]\ncron = x\n", "" },
        { "[database]\npassword = one\n", "[database]\npassword = two\n",
          "a.ini:2: error: [database] password changed, which needs a restart\n" },
        { "", "[database]\nurl = http://u:pw@h\n",
          "a.ini:2: error: [database] url changed from none to http://u:***@h, which needs a restart\n" },
        { "[database]\npool = 3\n", "", "conf.d: error: [database] pool changed from 3 to 10, which needs a restart\n" },
        { "", "[plugin queue]\n", "a.ini:1: error: [plugin queue] is new, which needs a restart\n" },
        { "[plugin queue]\nroot = /a\n", "", "a.ini: error: [plugin queue] is gone, which needs a restart\n" },
        { "[plugin queue]\nbatch = 5\n", "[plugin queue]\nbatch = 6\n", "" },
        { "[plugin queue]\n", "[plugin queue]\nrequired = no\n",
          "a.ini:2: error: [plugin queue] required changed from yes to no, which needs a restart\n" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        DEPOT_AUTO(depot_buf_free) depot_buf got = { 0 };
        conf_problems *problems = conf_problems_new(arena);
        const conf    *running;
        const conf    *wanted;

        (void)rig_check(arena, rows[i].running, "/state", &running);
        (void)rig_check(arena, rows[i].wanted, "/state", &wanted);
        is_int(conf_needs_restart(running, wanted, problems), rows[i].want[0] == '\0' ? 0 : 1, rows[i].wanted);
        conf_problems_print(problems, &got);
        const char *text = got.data == NULL ? "" : got.data;
        is_str(depot_strf(arena, "%.*s", (int)strlen(rows[i].want), text), rows[i].want, rows[i].wanted);
    }
}

/* ---- plugins on and off ---- */
static const char *listing(depot_arena *arena, const char *dir)
{
    struct dirent **names = NULL;
    int             n = scandir(dir, &names, NULL, alphasort);
    DEPOT_AUTO(depot_buf_free) depot_buf all = { 0 };

    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.') {
            depot_buf_addf(&all, "%s%s", all.len == 0 ? "" : " ", names[i]->d_name);
        }
        free(names[i]);
    }
    free(names);
    return depot_strndup(arena, all.data == NULL ? "" : all.data, all.len);
}

static void put(depot_arena *arena, const char *dir, const char *name, const char *text)
{
    depot_err err = { 0 };

    ok_err(depot_write_file(depot_strf(arena, "%s/%s", dir, name), text, strlen(text), 0644, &err), &err, name);
}

static void plugins_are_switched_on_and_off(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    char        dir[] = "/tmp/depot-conf-XXXXXX";
    char       *file = NULL;
    char       *text = NULL;
    struct stat st;
    depot_err   err = { 0 };

    ok(mkdtemp(dir) != NULL, "a folder");
    ok_err(conf_enable(dir, "queue", "[plugin queue]\n", true, &file, arena, &err), &err, "on for the first time");
    is_str(listing(arena, dir), "50-queue.ini", "writes the sample");
    is_str(file, depot_strf(arena, "%s/50-queue.ini", dir), "and names it");
    ok(stat(file, &st) == 0 && (st.st_mode & 0777) == 0640, "readable by the group");
    ok_err(conf_enable(dir, "queue", "[plugin queue]\n", true, &file, arena, &err), &err, "on again is fine");
    put(arena, dir, "50-queue.ini", "[plugin queue]\nbatch = 3\n");
    ok_err(conf_enable(dir, "queue", "x", false, &file, arena, &err), &err, "off");
    is_str(listing(arena, dir), "50-queue.ini.disabled", "renames");
    is_str(file, depot_strf(arena, "%s/50-queue.ini.disabled", dir), "and names it");
    ok_err(conf_enable(dir, "queue", "x", false, &file, arena, &err), &err, "off again is fine");
    is_str(file, depot_strf(arena, "%s/50-queue.ini.disabled", dir), "with the same answer");
    ok_err(conf_enable(dir, "queue", "x", true, &file, arena, &err), &err, "on once more");
    ok_err(depot_read_file(arena, file, 1000, &text, NULL, &err), &err, "the file");
    is_str(text, "[plugin queue]\nbatch = 3\n", "keeps what the operator wrote");
    put(arena, dir, "20-lone.ini", "[plugin lone]\n");
    put(arena, dir, "30-alone.ini", "[plugin alone]\n");
    ok_err(conf_enable(dir, "lone", "x", false, &file, arena, &err), &err, "other plugins");
    is_str(listing(arena, dir), "20-lone.ini.disabled 30-alone.ini 50-queue.ini", "are told apart");
    ok_err(conf_enable(dir, "never", "x", false, &file, arena, &err), &err, "off what never was on");
    is_str(file, NULL, "is fine and there is no file");
    ok_err(depot_remove_tree(dir, &err), &err, "cleaned up");
}

static void switching_loses_and_hides_nothing(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    char      dir[] = "/tmp/depot-conf-XXXXXX";
    char     *file = NULL;
    depot_err err = { 0 };

    ok(mkdtemp(dir) != NULL, "a folder");
    put(arena, dir, "20-queue.ini", "[plugin queue]\n");
    put(arena, dir, "20-queue.ini.disabled", "[plugin queue]\nbatch = 1\n");
    ok(!conf_enable(dir, "queue", "x", false, &file, arena, &err), "a copy put away is not overwritten");
    is_int(err.code, DEPOT_E_CONFLICT, "but a conflict");
    contains(err.msg, "is there already", "which says so");
    is_str(listing(arena, dir), "20-queue.ini 20-queue.ini.disabled", "both are still there");

    put(arena, dir, "90-all.ini", "[plugin http]\n");
    ok(!conf_enable(dir, "http", "x", false, &file, arena, &err), "a section in a file with another name stays");
    contains(err.msg, "90-all.ini:1, among other things", "its place is named");
    ok_err(conf_enable(dir, "http", "x", true, &file, arena, &err), &err, "it is on already");
    is_str(file, depot_strf(arena, "%s/90-all.ini", dir), "there");

    put(arena, dir, "40-merge.ini", "; [plugin merge]\n");
    ok(!conf_enable(dir, "merge", "x", true, &file, arena, &err), "a file without the section does not switch it on");
    contains(err.msg, "holds no [plugin merge]", "which is said");
    ok(!conf_enable(dir, "../evil", "x", true, &file, arena, &err), "a path is no plugin");
    is_int(err.code, DEPOT_E_INVALID, "but invalid");
    ok_err(depot_remove_tree(dir, &err), &err, "cleaned up");
    ok(!conf_enable(dir, "queue", "x", true, &file, arena, &err), "nor works a folder that is not there");
    ok(!conf_enable(dir, "queue", "x", false, &file, arena, &err), "either way");
    is_int(err.code, DEPOT_E_IO, "an I/O error");
}

int main(void)
{
    run(values_are_shown_with_their_origin);
    run(secrets_are_never_shown);
    run(secrets_put_into_other_values_hide_these);
    run(the_schema_tells_all_about_options);
    run(samples_show_every_option);
    run(samples_are_right);
    run(a_configuration_travels_to_another_process);
    run(changes_that_need_a_restart_are_named);
    run(plugins_are_switched_on_and_off);
    run(switching_loses_and_hides_nothing);
    return done();
}
