/* local_lua.c - scripts without a daemon: checked, run one at a time, tested. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/app.h"
#include "ctl/internal.h"
#include "lua/grant.h"
#include "lua/offline.h"

static const int64_t session_ms = 30LL * 24 * 3600 * 1000; /* waiting for its next entry is no work */

enum { RUN_MS = 60000, TEST_MS = 600000 };

static const char harness[] = "test/harness.lua", session[] = "test/repl.lua";

/* What scripts say goes where a daemon's log would go: not to the standard output, which has the result. */
static void say(void *arg, depot_level level, const char *where, const char *text, size_t n, const char *fields)
{
    static const char *const names[] = { "debug", "info", "warn", "error" };

    (void)arg;
    fprintf(stderr, "%s: %s: %.*s%s%s\n", where, names[level], (int)n, text, fields == NULL ? "" : " ",
            fields == NULL ? "" : fields);
}

/* Grants of the command line count for every script. */
static const char *grants_of(ctl *c, const verb_call *call)
{
    const depot_json *more = depot_json_get(call->args, "grant");
    const char       *text = app_grants(c->arena, host_conf(c->host));
    depot_err         ignored = { 0 };
    depot_json       *all = depot_json_parse(c->arena, text, strlen(text), &ignored); /* made by us */

    if (more == NULL) {
        return text;
    }
    depot_json_set(all, "?*", depot_json_pack(c->arena, "o", more));
    return depot_json_text(c->arena, all);
}

static bool open_scripts(ctl *c, const verb_call *call, const char *file, bool alone, bool has_db, offline **out, depot_err *err)
{
    const offline_options o = { .host = c->host,
                                .lua_dirs = host_environment(c->host)->lua_dirs,
                                .file = file,
                                .alone = alone,
                                .grants = grants_of(c, call),
                                .url = has_db ? getenv("DATABASE_URL") : NULL,
                                .log = say };

    (void)signal(SIGPIPE, SIG_IGN); /* as in a worker: a program that reads none of its input is no end */
    return offline_new(&o, out, err);
}

/* ---- check ---- */

static void warn_of_need(void *handler_ptr, const char *need)
{
    const handler *h = handler_ptr;

    fprintf(stderr, "%s: warning: the job %s needs %s, which conf.d does not grant\n", h->file, h->name, need);
}

static void warn_of_needs(ctl *c, const offline *o)
{
    const char       *text = app_grants(c->arena, host_conf(c->host));
    depot_err         ignored = { 0 };
    const depot_json *grants = depot_json_parse(c->arena, text, strlen(text), &ignored); /* made by us */

    for (size_t i = 0; i < engine_handlers(offline_engine(o)); i++) {
        handler h = *engine_handler(offline_engine(o), i);
        bool is_meant = offline_path(o) == NULL && strncmp(h.file, "examples/", 9) != 0;
        if (is_meant || (offline_path(o) != NULL && strcmp(h.file, offline_path(o)) == 0)) {
            grants_missing(grants, h.name, h.needs, warn_of_need, &h);
        }
    }
}

static bool check_one(ctl *c, const verb_call *call, const char *file, conf_problems *problems, depot_err *err)
{
    offline *o = NULL;

    if (!open_scripts(c, call, file, file != NULL, false, &o, err)) {
        return false;
    }
    offline_load(o, problems);
    warn_of_needs(c, o);
    offline_free(o);
    return true;
}

static int tell_problems(ctl *c, const verb_call *call, const conf_problems *problems)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };

    if (c->options.json) {
        int status = ctl_print(c, call, conf_problems_json(c->arena, problems));
        return status != 0 || conf_problem_count(problems) == 0 ? status : EXIT_CONFIG;
    }
    if (conf_problem_count(problems) == 0) {
        ctl_note(c, "the scripts are fine");
        return 0;
    }
    conf_problems_print(problems, &out);
    fwrite(out.data, 1, out.len, stderr);
    return EXIT_CONFIG;
}

int local_lua_check(ctl *c, const verb_call *call)
{
    const depot_json *files = depot_json_get(call->args, "file");
    conf_problems    *problems = conf_problems_new(c->arena);
    depot_err         err = { 0 };

    for (size_t i = 0; files != NULL && i < depot_json_len(files); i++) {
        if (!check_one(c, call, depot_json_string(depot_json_at(files, i), NULL), problems, &err)) {
            return ctl_error(c, call->verb, &err);
        }
    }
    if (files == NULL && !check_one(c, call, NULL, problems, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    return tell_problems(c, call, problems);
}

/* ---- run ---- */

/* The job to run: the one that is named, or the only one; NULL: the file is a plain script. */
static bool choose_job(const offline *o, const char *wanted, const char **out, depot_err *err)
{
    const engine *e = offline_engine(o);

    *out = wanted;
    if (wanted != NULL || engine_handlers(e) == 0) {
        return true;
    }
    *out = engine_handler(e, 0)->name;
    if (engine_handlers(e) == 1) {
        return true;
    }
    DEPOT_FAIL(err, USAGE, "%s declares %zu jobs", offline_path(o), engine_handlers(e));
    return depot_hint(err, "--job says which: %s, %s …", engine_handler(e, 0)->name, engine_handler(e, 1)->name);
}

static int tell_end(ctl *c, const verb_call *call, const depot_script_result *res)
{
    depot_err err = res->err;

    if (res->ok) {
        return ctl_print_text(c, call, depot_strf(c->arena, "%s\n", res->json), strlen(res->json) + 1);
    }
    if (!c->options.json && res->trace[0] != '\0') {
        fprintf(stderr, "%s\n", res->trace);
    }
    (void)depot_wrap(&err, "%s%s%s", res->where, res->where[0] == '\0' ? "" : ": ", depot_err_id(&res->err));
    return ctl_error(c, call->verb, &err);
}

static int run_in(ctl *c, const verb_call *call, offline *o)
{
    const char                *args = depot_json_get_str(call->args, "args", "{}");
    conf_problems             *problems = conf_problems_new(c->arena);
    const depot_script_result *res = NULL;
    const char                *job = NULL;
    depot_err                  err = { 0 };

    offline_load(o, problems);
    if (conf_problem_count(problems) > 0) {
        return tell_problems(c, call, problems);
    }
    const depot_json *value = depot_json_parse(c->arena, args, strlen(args), &err);
    if (value == NULL) {
        (void)depot_wrap(&err, "--args");
        return ctl_error(c, call->verb, &err);
    }
    if (!choose_job(o, depot_json_get_str(call->args, "job", NULL), &job, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    const char *arg = job == NULL ? args
                                  : depot_json_text(c->arena, depot_json_pack(c->arena, "{s:s, s:s, s:i, s:i, s:o}", "id",
                                                                              depot_uuid(c->arena), "queue", "run", "attempt", 1,
                                                                              "max_attempts", 1, "args", value));
    if (!offline_run(o, job == NULL ? RUN_FILE : RUN_HANDLER, job == NULL ? offline_path(o) : job, arg,
                     depot_json_get_int(call->args, "limit", RUN_MS), &res, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    return tell_end(c, call, res);
}

int local_lua_run(ctl *c, const verb_call *call)
{
    depot_err err = { 0 };
    offline  *o = NULL;

    if (!open_scripts(c, call, depot_json_get_str(call->args, "file", NULL), true, true, &o, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    int status = run_in(c, call, o);
    offline_free(o);
    return status;
}

/* ---- repl ---- */

/* One session until the input ends, or until an entry is ended for its use of time or memory: *out_again. */
static int run_session(ctl *c, const verb_call *call, offline *o, bool *out_again)
{
    const depot_json          *needs = depot_json_get(call->args, "grant");
    bool                       is_terminal = isatty(STDIN_FILENO) != 0;
    depot_json                *arg = depot_json_pack(c->arena, "{s:b}", "prompt", (int)is_terminal);
    const depot_script_result *res = NULL;
    depot_err                  err = { 0 };

    *out_again = false;
    if (needs != NULL) {
        depot_json_set(arg, "needs", depot_json_pack(c->arena, "o", needs));
    }
    if (!offline_run(o, RUN_FILE, session, depot_json_text(c->arena, arg), session_ms, &res, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    if (res->ok) {
        const depot_json *end = depot_json_parse(c->arena, res->json, strlen(res->json), &err);
        return !is_terminal && depot_json_get_int(end, "failed", 0) > 0 ? EXIT_FAILED : 0;
    }
    *out_again = res->err.code == DEPOT_E_TIMEOUT || res->err.code == DEPOT_E_MEMORY;
    int status = tell_end(c, call, res);
    if (*out_again) {
        ctl_note(c, "the session begins anew: what it had set is gone");
    }
    return status;
}

int local_lua_repl(ctl *c, const verb_call *call)
{
    depot_err err = { 0 };
    offline  *o = NULL;
    int       failed = 0, status;
    bool      again;

    if (!open_scripts(c, call, NULL, false, true, &o, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    do {
        status = run_session(c, call, o, &again);
        failed = failed != 0 ? failed : status;
    } while (again);
    offline_free(o);
    return isatty(STDIN_FILENO) != 0 ? status : failed;
}

/* ---- test ---- */

static bool is_test(const char *path)
{
    size_t n = strlen(path);

    return n > 9 && strcmp(path + n - 9, "_test.lua") == 0;
}

static depot_json *tests_of(ctl *c, const offline *o)
{
    depot_json    *list = depot_json_array(c->arena);
    const sources *s = offline_sources(o);

    for (size_t i = 0; i < s->n; i++) {
        if (is_test(s->files[i].path) && (offline_path(o) == NULL || strcmp(s->files[i].path, offline_path(o)) == 0)) {
            depot_json_add(list, depot_json_str(c->arena, s->files[i].path));
        }
    }
    return list;
}

static void add_results(depot_json *all, depot_arena *arena, const depot_json *some)
{
    for (size_t i = 0; i < depot_json_len(some); i++) {
        depot_json_add(all, depot_json_pack(arena, "o", depot_json_at(some, i)));
    }
}

static bool test_one(ctl *c, const verb_call *call, const char *file, depot_json *all, depot_err *err)
{
    conf_problems             *problems = conf_problems_new(c->arena);
    const depot_script_result *res = NULL;
    offline                   *o = NULL;

    if (!open_scripts(c, call, file, false, false, &o, err)) {
        return false;
    }
    offline_load(o, problems); /* what is wrong with a handler fails its tests */
    const char *arg = depot_json_text(c->arena, depot_json_pack(c->arena, "{s:o}", "files", tests_of(c, o)));
    bool        ok = offline_run(o, RUN_FILE, harness, arg, TEST_MS, &res, err);
    if (ok && !res->ok) {
        *err = res->err;
        ok = false;
    }
    const depot_json *results = ok ? depot_json_parse(c->arena, res->json, strlen(res->json), err) : NULL;
    add_results(all, c->arena, results);
    offline_free(o);
    return results != NULL;
}

/* As the Test Anything Protocol; with --json the rows. */
static int tell_tests(ctl *c, const verb_call *call, const depot_json *all)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
    size_t                               failed = 0;

    for (size_t i = 0; i < depot_json_len(all); i++) {
        const depot_json *row = depot_json_at(all, i);
        bool              good = depot_json_get_bool(row, "ok", false);
        failed += !good;
        depot_buf_addf(&out, "%sok %zu - %s: %s\n", good ? "" : "not ", i + 1, depot_json_get_str(row, "file", ""),
                       depot_json_get_str(row, "name", ""));
        if (!good) {
            depot_buf_addf(&out, "# %s\n", depot_json_get_str(row, "message", ""));
        }
    }
    depot_buf_addf(&out, "1..%zu\n", depot_json_len(all));
    int status = c->options.json ? ctl_print(c, call, all) : ctl_print_text(c, call, out.data, out.len);
    ctl_note(c, "%zu passed, %zu failed", depot_json_len(all) - failed, failed);
    return status != 0 ? status : failed > 0 ? EXIT_FAILED : 0;
}

int local_lua_test(ctl *c, const verb_call *call)
{
    const depot_json *files = depot_json_get(call->args, "file");
    depot_json       *all = depot_json_array(c->arena);
    depot_err         err = { 0 };

    for (size_t i = 0; files != NULL && i < depot_json_len(files); i++) {
        if (!test_one(c, call, depot_json_string(depot_json_at(files, i), NULL), all, &err)) {
            return ctl_error(c, call->verb, &err);
        }
    }
    if (files == NULL && !test_one(c, call, NULL, all, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    return tell_tests(c, call, all);
}
