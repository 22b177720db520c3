/* test_ctl_args.c - depotctl's verbs from a small table of routes, and command lines to requests. The files under test
 * are included: depotctl's objects are not part of the core that tests are linked with. */
#include "ctl/args.c"
#include "ctl/request.c"
#include "ctl/verb.c"

#include <fcntl.h>

#include "tap.h"

static const char *const modes[] = { "fast", "safe", NULL };

static const depot_field pause_fields[] = {
    { .name = "name", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .min = 1, .max = 20 },
    { .name = "hold_for", .type = DEPOT_T_DURATION, .def = "10s", .min = 1000, .max = 3600000 },
    { .name = "mode", .type = DEPOT_T_ENUM, .choices = modes },
    { .name = "dry_run", .type = DEPOT_T_BOOL, .flags = DEPOT_IN_QUERY },
    { .name = "tags", .type = DEPOT_T_LIST },
    { .name = "limit", .type = DEPOT_T_INT, .min = 1, .max = 100, .flags = DEPOT_IN_QUERY },
    { .name = "ratio", .type = DEPOT_T_NUMBER },
    { .name = "payload", .type = DEPOT_T_OBJECT },
    { .name = "password", .type = DEPOT_T_SECRET },
    { .name = NULL },
};
static const depot_field list_fields[] = {
    { .name = "state", .type = DEPOT_T_STRING },
    { .name = "states", .type = DEPOT_T_LIST, .flags = DEPOT_IN_QUERY },
    { .name = "timeout", .type = DEPOT_T_INT },
    { .name = NULL },
};
static const depot_field put_fields[] = {
    { .name = "name", .type = DEPOT_T_STRING },
    { .name = NULL },
};
static const depot_field emit_fields[] = {
    { .name = "name", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED },
    { .name = "payload", .type = DEPOT_T_OBJECT },
    { .name = NULL },
};
static const depot_field token_fields[] = {
    { .name = "name", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED },
    { .name = "role", .type = DEPOT_T_ENUM, .flags = DEPOT_REQUIRED, .choices = modes },
    { .name = NULL },
};

static const depot_route routes[] = {
    { .method = "POST", .path = "/v1/queues/{name}/pause", .request = pause_fields, .cli = "queue pause <name>" },
    { .method = "GET", .path = "/v1/queues", .request = list_fields, .cli = "queue list" },
    { .method = "GET", .path = "/v1/queues/{name}", .cli = "queue show <name>" },
    { .method = "PUT",
      .path = "/v1/refs/{name*}",
      .flags = DEPOT_ROUTE_UPLOAD,
      .request = put_fields,
      .cli = "storage put <name> <file>" },
    { .method = "POST",
      .path = "/v1/objects",
      .flags = DEPOT_ROUTE_UPLOAD,
      .request = put_fields,
      .cli = "storage add <file>" },
    { .method = "POST", .path = "/v1/events", .request = emit_fields, .cli = "event emit <name> [payload]" },
    { .method = "POST", .path = "/v1/tokens", .request = token_fields, .cli = "token create <name>" },
    { .method = "GET", .path = "/v1/status", .cli = "status" },
    { .method = "POST", .path = "/v1/drain", .cli = "drain" },
    { .method = "GET", .path = "/v1/hidden" },
};

static int run_nothing(ctl *c, const verb_call *call)
{
    (void)c;
    (void)call;
    return 0;
}

static const depot_field many_fields[] = { { .name = "words", .type = DEPOT_T_LIST }, { .name = NULL } };
static const depot_field origin_fields[] = { { .name = "origin", .type = DEPOT_T_BOOL }, { .name = NULL } };
static const depot_field now_fields[] = { { .name = "now", .type = DEPOT_T_BOOL }, { .name = NULL } };
static const ctl_local   locals[] = {
      { .cli = "help [words]...", .fields = many_fields, .run = run_nothing },
      { .cli = "queue list", .fields = origin_fields, .run = run_nothing },
      { .cli = "drain [now]", .fields = now_fields },
      { .cli = "zebra <name>", .doc = "refines a route that is not there" },
};

static verb_set *small_set(depot_arena *arena)
{
    verb_set *set = verb_set_new(arena);
    depot_err err = { 0 };

    for (size_t i = 0; i < DEPOT_N(routes); i++) {
        if (routes[i].cli != NULL && !verb_add_route(set, "queue", &routes[i], &err)) {
            ok_err(false, &err, "the table of the test is fine");
        }
    }
    for (size_t i = 0; i < DEPOT_N(locals); i++) {
        if (!verb_add_local(set, &locals[i], &err)) {
            ok_err(false, &err, "the table of the test is fine");
        }
    }
    verb_set_sort(set);
    return set;
}

/* A command line in one text; words are split at blanks, '_' stays. */
static int split(depot_arena *arena, const char *line, char **argv)
{
    int argc = 0;

    for (const char *p = line + strspn(line, " "); *p != '\0'; p += strspn(p, " ")) {
        size_t n = strcspn(p, " ");

        argv[argc++] = depot_strndup(arena, p, n);
        p += n;
    }
    return argc;
}

/* The request that a command line gives: "METHOD target body", or "error: text / hint". */
static const char *request_of(depot_arena *arena, const char *line, ctl_options *options)
{
    const verb_set *set = small_set(arena);
    char           *argv[32];
    int             argc = split(arena, line, argv), used = 0;
    verb_call       call = { .verb = verb_find(set, argc, argv, &used) };
    ctl_request     request;
    depot_err       err = { 0 };

    if (call.verb == NULL) {
        verb_unknown(set, argc, argv, &err);
    }
    if (call.verb == NULL || !args_parse(&call, options, argc - used, argv + used, arena, &err)) {
        return depot_strf(arena, "%d error: %s%s%s", depot_err_exit(&err), err.msg, err.hint[0] == '\0' ? "" : " / ",
                          err.hint);
    }
    if (call.help) {
        return "help";
    }
    args_request(&call, arena, &request);
    return depot_strf(arena, "%s %s%s%s%s%s", request.method, request.target, request.body == NULL ? "" : " ",
                      request.body == NULL ? "" : request.body, request.file == NULL ? "" : " <",
                      request.file == NULL ? "" : request.file);
}

static void command_lines_become_requests(void)
{
    static const struct {
        const char *line, *want;
    } rows[] = {
        { "status", "GET /v1/status" },
        { "drain", "POST /v1/drain" },
        { "drain yes", "POST /v1/drain" },
        { "queue list", "GET /v1/queues" },
        { "queue list --state dead", "GET /v1/queues?state=dead" },
        { "queue list --state=a&b=c", "GET /v1/queues?state=a%26b%3Dc" },
        { "queue list --states=a,b --states c", "GET /v1/queues?states=a%2Cb%2Cc" },
        { "queue list --origin", "GET /v1/queues" }, /* depotctl's own flag does not travel */
        { "queue show a/b", "GET /v1/queues/a%2Fb" },
        { "queue pause mail", "POST /v1/queues/mail/pause {}" },
        { "queue pause m\xC3\xA4il", "POST /v1/queues/m%C3%A4il/pause {}" },
        { "queue pause mail --hold-for 5m --mode=safe",
          "POST /v1/queues/mail/pause {\"hold_for\":\"5m\",\"mode\":\"safe\"}" },
        { "queue pause --hold_for=5m mail", "POST /v1/queues/mail/pause {\"hold_for\":\"5m\"}" },
        { "queue pause mail --dry-run --limit 7", "POST /v1/queues/mail/pause?dry_run=true&limit=7 {}" },
        { "queue pause mail --no-dry-run", "POST /v1/queues/mail/pause?dry_run=false {}" },
        { "queue pause mail --dry-run=off", "POST /v1/queues/mail/pause?dry_run=false {}" },
        { "queue pause mail --tags a,b --tags c", "POST /v1/queues/mail/pause {\"tags\":[\"a\",\"b\",\"c\"]}" },
        { "queue pause mail --ratio 0.5", "POST /v1/queues/mail/pause {\"ratio\":0.5}" },
        { "queue pause mail --payload {\"a\":[1,null]}", "POST /v1/queues/mail/pause {\"payload\":{\"a\":[1,null]}}" },
        { "queue pause -- --mail", "POST /v1/queues/--mail/pause {}" },
        { "event emit file.added {\"n\":9007199254740993}",
          "POST /v1/events {\"name\":\"file.added\",\"payload\":{\"n\":9007199254740993}}" },
        { "event emit file.added", "POST /v1/events {\"name\":\"file.added\"}" },
        { "storage put a/b c.bin", "PUT /v1/refs/a/b <c.bin" },
        { "storage add -", "POST /v1/objects <-" },
        { "storage add x --name y", "POST /v1/objects?name=y <x" },
        { "queue list --timeout 7",
          "GET /v1/queues?timeout=7" }, /* the verb's own field goes before the general flag */
        { "queue pause mail --help", "help" },
        { "queue pause -h", "help" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        ctl_options                               options = { 0 };

        is_str(request_of(arena, rows[i].line, &options), rows[i].want, rows[i].line);
    }
}

static void faults_name_the_word_and_the_way_out(void)
{
    static const struct {
        const char *line, *want;
    } rows[] = {
        { "queue pause", "2 error: <name> is missing / usage: depotctl queue pause <name>" },
        { "queue pause mail more", "2 error: \"queue pause\" does not take \"more\"" },
        { "queue pause mail --mdoe safe", "2 error: \"queue pause\" has no flag --mdoe / did you mean --mode?" },
        { "queue pause mail --mode sfae", "2 error: --mode: " },
        { "queue pause mail --limit 101", "2 error: --limit: " },
        { "queue pause mail --limit seven", "2 error: --limit: " },
        { "queue pause mail --hold-for 10", "2 error: --hold-for: " },
        { "queue pause mail --limit", "2 error: --limit needs a value" },
        { "queue pause mail --limit 1 --limit 2", "2 error: --limit is given twice" },
        { "queue pause mail --payload {", "2 error: --payload: " },
        { "queue pause mail --payload @/nonexistent", "2 error: --payload: cannot open /nonexistent" },
        { "queue pause mail --password secret",
          "2 error: --password: password is a secret and must not stand in a command line" },
        { "queue pause mail -x", "2 error: \"queue pause\" has no flag -x" },
        { "queue pause 123456789012345678901", "2 error: <name>: " },
        { "queue pause mail --json=yes", "2 error: --json takes no value" },
        { "queue pause mail --timeout soon", "2 error: --timeout: " },
        { "storage put a", "2 error: <file> is missing / usage: depotctl storage put <name> <file>" },
        { "token create ci", "2 error: --role is missing" },
        { "queue", "2 error: \"queue\" needs one more word / depotctl help queue lists what it can do" },
        { "queue lsit", "2 error: there is no verb \"queue lsit\" / did you mean \"queue list\"?" },
        { "quue list", "2 error: there is no verb \"quue list\" / did you mean \"queue list\"?" },
        { "sttus", "2 error: there is no verb \"sttus\" / did you mean \"status\"?" },
        { "quue", "2 error: there is no verb \"quue\" / did you mean \"queue\"?" },
        { "queue zzzzzzzz", "2 error: there is no verb \"queue zzzzzzzz\" / depotctl help queue lists what it can do" },
        { "zebra x", "2 error: there is no verb \"zebra x\" / depotctl help lists all verbs" },
        { "frobnicate", "2 error: there is no verb \"frobnicate\" / depotctl help lists all verbs" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        ctl_options                               options = { 0 };
        const char                               *got = request_of(arena, rows[i].line, &options);

        is_str(depot_strf(arena, "%.*s", (int)strlen(rows[i].want), got), rows[i].want, rows[i].line);
    }
}

static void general_flags_go_to_the_options(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    ctl_options                               options = { 0 };

    is_str(request_of(arena, "status --json --quiet --yes --timeout 5s", &options), "GET /v1/status",
           "they are no fields");
    ok(options.json && options.quiet && options.yes, "switches are on");
    is_int(options.timeout_ms, 5000, "and the timeout is read");
}

static void files_give_json_and_secrets(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    char                                      path[] = "/tmp/test_ctl_args.XXXXXX";
    ctl_options                               options = { 0 };
    int                                       fd = mkstemp(path);
    depot_err                                 err = { 0 };

    ok_err(fd >= 0 && depot_write_all(fd, "{\"x\": 1}\n", 9, &err), &err, "a file with JSON");
    close(fd);
    const char *line = depot_strf(arena, "queue pause mail --payload @%s --password=@%s", path, path);
    is_str(request_of(arena, line, &options),
           "POST /v1/queues/mail/pause {\"payload\":{\"x\":1},\"password\":\"{\\\"x\\\": 1}\"}",
           "JSON is parsed, a secret is taken without its line end");
    unlink(path);
}

static void standard_input_gives_json(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    ctl_options                               options = { 0 };
    int                                       ends[2];
    int                                       before = dup(STDIN_FILENO);
    depot_err                                 err = { 0 };

    ok(pipe2(ends, O_CLOEXEC) == 0 && depot_write_all(ends[1], "{\"y\":2}", 7, &err), "a pipe with JSON");
    close(ends[1]);
    dup2(ends[0], STDIN_FILENO);
    is_str(request_of(arena, "event emit a.b -", &options), "POST /v1/events {\"name\":\"a.b\",\"payload\":{\"y\":2}}",
           "- reads it");
    dup2(before, STDIN_FILENO);
    close(before);
    close(ends[0]);
}

static void a_taken_verb_names_both_owners(void)
{
    static const depot_route first = { .method = "GET", .path = "/a", .cli = "job list" };
    static const depot_route second = { .method = "GET", .path = "/b", .cli = "job list [all]", .request = put_fields };
    static const depot_route unknown = { .method = "GET", .path = "/c", .cli = "job show <id>", .request = put_fields };
    static const depot_route third = { .method = "GET", .path = "/b", .cli = "job list" };
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    verb_set                                 *set = verb_set_new(arena);
    depot_err                                 err = { 0 };

    ok_err(verb_add_route(set, "queue", &first, &err), &err, "the first has it");
    ok(!verb_add_route(set, "backup", &third, &err), "the second is refused");
    is_int(err.code, DEPOT_E_BUG, "as a bug");
    is_str(err.msg, "the verb \"job list\" is claimed by queue (GET /a) and by backup (GET /b)", "with both owners");
    ok(!verb_add_route(set, "queue", &second, &err), "an argument that is no field");
    is_str(err.msg, "verb \"job list [all]\" of queue: the request has no field \"all\"", "is a bug too");
    ok(!verb_add_route(set, "queue", &unknown, &err), "and so is a required one");
}

static void a_local_row_joins_its_route(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    verb_set                                 *set = small_set(arena);
    char       *argv[] = { depot_strdup(arena, "queue"), depot_strdup(arena, "list"), NULL };
    int         used = 0;
    const verb *v = verb_find(set, 2, argv, &used);
    depot_err   err = { 0 };

    is_int(used, 2, "two words are the verb");
    ok(v != NULL && v->route == &routes[1] && v->local == &locals[1], "it has both");
    ok(find_flag(v, "origin", 6) != NULL && find_flag(v, "state", 5) != NULL, "and the fields of both");
    ok(!verb_add_local(set, &locals[1], &err), "a second local row of the same words");
    is_int(err.code, DEPOT_E_BUG, "is a bug");
}

static void the_last_argument_may_take_all(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    verb_set                                 *set = small_set(arena);
    char *argv[] = { depot_strdup(arena, "help"), depot_strdup(arena, "queue"), depot_strdup(arena, "pause"), NULL };
    int   used = 0;
    verb_call   call = { .verb = verb_find(set, 3, argv, &used) };
    ctl_options options = { 0 };
    depot_err   err = { 0 };

    ok_err(args_parse(&call, &options, 3 - used, argv + used, arena, &err), &err, "help queue pause");
    is_str(depot_json_text(arena, call.args), "{\"words\":[\"queue\",\"pause\"]}", "both words are in the list");
}

int main(void)
{
    run(command_lines_become_requests);
    run(faults_name_the_word_and_the_way_out);
    run(general_flags_go_to_the_options);
    run(files_give_json_and_secrets);
    run(standard_input_gives_json);
    run(a_taken_verb_names_both_owners);
    run(a_local_row_joins_its_route);
    run(the_last_argument_may_take_all);
    return done();
}
