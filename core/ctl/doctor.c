/* doctor.c - looks at what can be seen from outside of the daemon, then asks it what it sees from inside.
 *
 * Each finding says how it is (ok, warn, fail), what was seen, how to put it right and the command for that. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include "app/app.h"
#include "config.h"
#include "ctl/call.h"
#include "ctl/internal.h"
#include "ctl/render.h"
#include "lua/scripts.h"
#include "pg/cluster.h"

typedef struct doctor {
    ctl         *c;
    depot_arena *arena;
    depot_json  *checks;
    int          worst; /* 0 ok, 1 warn, 2 fail */
} doctor;

static const char *const ok = "ok", *const warn = "warn", *const fail = "fail";

/* fix and command may be NULL. */
static void found(doctor *d, const char *check, const char *status, const char *message, const char *fix,
                  const char *command)
{
    int level = strcmp(status, "fail") == 0 ? 2 : strcmp(status, "warn") == 0 ? 1 : 0;

    d->worst = level > d->worst ? level : d->worst;
    depot_json_add(d->checks,
                   depot_json_pack(d->arena, "{s:s, s:s, s:s, s:s?, s:s?}", "check", check, "status", status, "message",
                                   message, "fix", level == 0 ? NULL : fix, "command", level == 0 ? NULL : command));
}

/* ---- the installation ---- */
static void check_config(doctor *d)
{
    const app_options places = { .state_dir = d->c->options.state_dir, .conf_dir = d->c->options.conf_dir };
    conf_problems    *problems = conf_problems_new(d->arena);
    host_env          env = { 0 };
    const conf       *configuration = NULL;
    app_paths         paths;
    depot_err         err = { 0 };
    DEPOT_AUTO(depot_buf_free) depot_buf warnings = { 0 };

    if (!app_find_paths(d->arena, &places, &paths, &err)) {
        found(d, "configuration", fail, err.msg, err.hint, NULL);
        return;
    }
    host  *h = app_open(d->arena, &paths, &env, problems, &configuration);
    bool   compiled = scripts_check(paths.lua_dirs, app_grants(d->arena, configuration), problems, &warnings);
    size_t n = conf_problem_count(problems);
    host_free(h);
    if (warnings.len > 0) {
        found(d, "grants", warn, depot_strdup(d->arena, warnings.data),
              "calls for what is not granted fail with CAPABILITY", "depotctl config check");
    }
    if (n == 0 && compiled) {
        found(d, "configuration", ok, paths.conf_dir, NULL, NULL);
        return;
    }
    found(d, "configuration", fail,
          depot_strf(d->arena, "%zu problem%s in %s and the scripts", n, n == 1 ? "" : "s", paths.conf_dir),
          "the daemon refuses to start or to reload with these", "depotctl config check");
}

static void check_plugins(doctor *d)
{
    depot_json *broken = depot_json_array(d->arena);
    size_t      n = host_count(d->c->host) - 1; /* the core is no file */

    ctl_broken_plugins(d->c, broken);
    for (size_t i = 0; i < depot_json_len(broken); i++) {
        const depot_json *row = depot_json_at(broken, i);

        found(d, "plugins", fail, depot_json_get_str(row, "why", ""), "rebuild it for this depotd, or remove its file",
              depot_strf(d->arena, "depotctl disable %s", depot_json_get_str(row, "name", "")));
    }
    if (n == 0) {
        found(d, "plugins", warn, depot_strf(d->arena, "no plugin in %s", host_environment(d->c->host)->plugin_dir),
              "without the plugin http nobody can reach the daemon", "depotctl plugin list");
    } else if (depot_json_len(broken) == 0) {
        found(d, "plugins", ok,
              depot_strf(d->arena, "%zu for plugin interface %u.%u", n, DEPOT_ABI_MAJOR, DEPOT_ABI_MINOR), NULL, NULL);
    }
}

static void check_mode(doctor *d, const char *name, const char *path, mode_t forbidden)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        return; /* absence is another check's business */
    }
    if ((st.st_mode & forbidden) != 0) {
        found(d, name, fail, depot_strf(d->arena, "%s has mode %04o", path, (unsigned)(st.st_mode & 07777)),
              "take the rights of others away",
              depot_strf(d->arena, "chmod %04o %s", (unsigned)(st.st_mode & 07777 & ~forbidden), path));
    } else {
        found(d, name, ok, depot_strf(d->arena, "%s has mode %04o", path, (unsigned)(st.st_mode & 07777)), NULL, NULL);
    }
}

static void check_state(doctor *d)
{
    const char *dir = d->c->options.state_dir;
    struct stat st;

    if (stat(dir, &st) != 0) {
        found(d, "state folder", fail, depot_strf(d->arena, "%s: %m", dir),
              "it is made at the first start; another one is named by --state", "systemctl start depotd");
        return;
    }
    check_mode(d, "state folder", dir, S_IWGRP | S_IWOTH);
    check_mode(d, "admin token", depot_strf(d->arena, "%s/admin.token", dir), S_IRWXG | S_IRWXO);
    check_mode(d, "secrets", depot_strf(d->arena, "%s/secrets", dir), S_IRWXO | S_IWGRP);
}

enum { WARN_PERCENT = 10, FAIL_PERCENT = 3 };

static void check_disk(doctor *d)
{
    const char    *dir = d->c->options.state_dir;
    struct statvfs fs;

    if (statvfs(dir, &fs) != 0 || fs.f_blocks == 0) {
        return; /* no state folder yet */
    }
    int         space = (int)(fs.f_bavail * 100 / fs.f_blocks);
    int         inodes = fs.f_files == 0 ? 100 : (int)(fs.f_favail * 100 / fs.f_files);
    int         least = space < inodes ? space : inodes;
    const char *message =
        depot_strf(d->arena, "%s free in %s (%d %%), %d %% of the inodes",
                   depot_format_size(d->arena, (int64_t)(fs.f_bavail * fs.f_frsize)), dir, space, inodes);

    found(d, "disk",
          least < FAIL_PERCENT   ? fail
          : least < WARN_PERCENT ? warn
                                 : ok,
          message, "make room: PostgreSQL stops when its disk is full",
          depot_strf(d->arena, "du -xh --max-depth=2 %s | sort -h", dir));
}

static void check_postgres(doctor *d)
{
    const app_database_options *db = conf_get(host_conf(d->c->host), "database", NULL);
    char                       *bindir = NULL;
    int                         major = 0;
    depot_err                   err = { 0 };

    if (db == NULL || db->url != NULL) {
        return; /* somebody else runs it */
    }
    if (!pg_find_bindir(d->arena, db->bindir, &bindir, &major, &err)) {
        found(d, "PostgreSQL programs", fail, err.msg, err.hint, "apt-get install postgresql");
        return;
    }
    found(d, "PostgreSQL programs", ok, depot_strf(d->arena, "%s (major %d)", bindir, major), NULL, NULL);
}

/* Leases go by the database's clock, but logs, certificates and tokens do not. */
static void check_clock(doctor *d)
{
    struct timex t = { .modes = 0 };
    int          state = adjtimex(&t);

    if (state < 0) {
        return; /* not allowed to look, in a container for instance */
    }
    if (state == TIME_ERROR && (t.status & STA_UNSYNC) != 0) {
        found(d, "clock", warn, "this machine's clock is not synchronised",
              "run a time service (systemd-timesyncd, chrony)", "timedatectl set-ntp true");
        return;
    }
    found(d, "clock", ok, "synchronised", NULL, NULL);
}

/* ---- the daemon ---- */
static void take_over(doctor *d, const depot_json *reply)
{
    const depot_json *checks = depot_json_get(reply, "checks");
    const char       *version = depot_json_get_str(reply, "version", "?");

    if (strcmp(version, DEPOT_VERSION) != 0) {
        found(d, "version", warn, depot_strf(d->arena, "depotctl is %s, the running depotd %s", DEPOT_VERSION, version),
              "restart depotd after an upgrade", "systemctl restart depotd");
    } else {
        found(d, "version", ok, version, NULL, NULL);
    }
    for (size_t i = 0; checks != NULL && i < depot_json_len(checks); i++) {
        const depot_json *row = depot_json_at(checks, i);

        found(d, depot_json_get_str(row, "check", "?"), depot_json_get_str(row, "status", fail),
              depot_json_get_str(row, "message", ""), depot_json_get_str(row, "fix", NULL),
              depot_json_get_str(row, "command", NULL));
    }
}

static void check_daemon(doctor *d)
{
    const depot_json *reply = NULL;
    bool              away = false;
    depot_err         err = { 0 };

    if (call_get(&d->c->options, "/v1/doctor", d->arena, &reply, &away, &err)) {
        found(d, "daemon", ok, depot_strf(d->arena, "answers at %s", call_place(d->arena, &d->c->options)), NULL, NULL);
        take_over(d, reply);
        return;
    }
    found(d, "daemon", fail, err.msg, err.hint[0] == '\0' ? NULL : err.hint,
          away ? "journalctl -u depotd -n 50" : "depotctl status");
}

static void (*const local_checks[])(doctor *d) = {
    check_config, check_plugins, check_state, check_disk, check_postgres, check_clock,
};

/* ---- for people ---- */
static void add_finding(depot_buf *out, const render_style *style, const depot_json *row, size_t width)
{
    const char *const keys[] = { "message", "fix", "command" };
    const char *const labels[] = { "", "fix: ", "try: " };
    const char       *check = depot_json_get_str(row, "check", "");
    const char       *status = depot_json_get_str(row, "status", "");

    render_add_word(out, style, status);
    depot_buf_addf(out, "%*s%s%*s  ", (int)(6 - strlen(status) % 6), "", check, (int)(width - render_width(check)), "");
    for (size_t i = 0; i < DEPOT_N(keys); i++) {
        const char *text = depot_json_get_str(row, keys[i], "");

        if (i == 0 || text[0] != '\0') {
            depot_buf_addf(out, "%*s%s", i == 0 ? 0 : (int)width + 8, "", labels[i]);
            render_add_safe(out, text, strlen(text), false);
            depot_buf_adds(out, "\n");
        }
    }
}

static int print_findings(const doctor *d, const verb_call *call)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
    const render_style                   style = render_style_of(STDOUT_FILENO);
    size_t                               width = 0, warnings = 0, failures = 0;

    for (size_t i = 0; i < depot_json_len(d->checks); i++) {
        const depot_json *row = depot_json_at(d->checks, i);
        size_t            n = render_width(depot_json_get_str(row, "check", ""));

        width = n > width ? n : width;
        warnings += strcmp(depot_json_get_str(row, "status", ""), warn) == 0 ? 1 : 0;
        failures += strcmp(depot_json_get_str(row, "status", ""), fail) == 0 ? 1 : 0;
    }
    for (size_t i = 0; i < depot_json_len(d->checks); i++) {
        add_finding(&out, &style, depot_json_at(d->checks, i), width);
    }
    depot_buf_addf(&out, "%zu checks, %zu warning%s, %zu failure%s\n", depot_json_len(d->checks), warnings,
                   warnings == 1 ? "" : "s", failures, failures == 1 ? "" : "s");
    return ctl_print_text(d->c, call, out.data, out.len);
}

int local_doctor(ctl *c, const verb_call *call)
{
    static const char *const verdicts[] = { "ok", "warn", "fail" };
    static const int         statuses[] = { 0, EXIT_FAILED, EXIT_UNHEALTHY };
    doctor                   d = { .c = c, .arena = c->arena, .checks = depot_json_array(c->arena) };

    for (size_t i = 0; c->options.url == NULL && i < DEPOT_N(local_checks); i++) {
        local_checks[i](&d); /* of this machine: they say nothing of a daemon behind a URL */
    }
    check_daemon(&d);
    int printed =
        c->options.json
            ? ctl_print(c, call,
                        depot_json_pack(c->arena, "{s:s, s:o}", "verdict", verdicts[d.worst], "checks", d.checks))
            : print_findings(&d, call);
    return printed != 0 ? printed : statuses[d.worst];
}
