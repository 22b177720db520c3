/* run.c - from a command line to an exit status: find the verb, read its arguments, ask the daemon, print the reply. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/call.h"
#include "ctl/internal.h"
#include "ctl/render.h"

/* A verb that takes something away asks on a terminal; scripts are not asked. */
static bool may_go_on(const ctl *c, const verb_call *call)
{
    char answer[16] = "";

    if (call->verb->route == NULL || strcmp(call->verb->route->method, "DELETE") != 0 || c->options.yes ||
        isatty(STDIN_FILENO) != 1 || isatty(STDERR_FILENO) != 1) {
        return true;
    }
    fprintf(stderr, "depotctl: %s", call->verb->words);
    for (size_t i = 0; i < call->verb->n_args; i++) {
        const depot_field *field = call->verb->args[i].field;

        if (field != NULL) {
            fprintf(stderr, " %s", render_cell(c->arena, "", field, depot_json_get(call->args, field->name)));
        }
    }
    fputs(": go on? [y/N] ", stderr);
    (void)fflush(stderr); /* the question is on the terminal or nobody sees it */
    return fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

/* A reply that came may still say no. */
static int verdict(const depot_json *body)
{
    static const struct {
        const char *member;
        int         status;
    } negatives[] = { { "ready", EXIT_UNHEALTHY }, { "ok", EXIT_FAILED } };

    for (size_t i = 0; i < DEPOT_N(negatives); i++) {
        if (!depot_json_get_bool(body, negatives[i].member, true)) {
            return negatives[i].status;
        }
    }
    return 0;
}

static int show_reply(ctl *c, const verb_call *call, const call_reply *reply)
{
    depot_err err = { 0 };

    if (reply->body == NULL) {
        return 0; /* already printed while it arrived */
    }
    if (reply->len == 0) {
        ctl_note(c, "done");
        return 0;
    }
    const depot_json *body = depot_json_parse(c->arena, reply->body, reply->len, &err);
    if (body == NULL) {
        depot_wrap(&err, "the daemon's answer");
        return ctl_error(c, call->verb, &err);
    }
    const ctl_local *local = call->verb->local;
    int              printed;
    if (c->options.json) {
        bool ended = reply->body[reply->len - 1] == '\n';

        printed = ctl_print_text(c, call, ended ? reply->body : depot_strf(c->arena, "%s\n", reply->body),
                                 reply->len + (ended ? 0 : 1));
    } else {
        printed = local != NULL && local->show != NULL ? local->show(c, call, body) : ctl_print(c, call, body);
    }
    return printed != 0 ? printed : verdict(body);
}

static int run_route(ctl *c, const verb_call *call)
{
    const ctl_local *local = call->verb->local;
    ctl_request      request;
    call_reply       reply;
    depot_err        err = { 0 };

    if (!may_go_on(c, call)) {
        ctl_note(c, "nothing was done");
        return EXIT_FAILED;
    }
    args_request(call, c->arena, &request);
    if (!call_daemon(&c->options, &request, c->arena, &reply, &err)) {
        if (reply.away && local != NULL && local->run != NULL && c->options.url == NULL) {
            ctl_note(c, "depotd does not answer; this comes from the files");
            return local->run(c, call);
        }
        return ctl_error(c, call->verb, &err);
    }
    if (reply.status >= 400) {
        const depot_json *problems = call_problems(&reply, c->arena);
        call_refused(&reply, c->arena, &err);
        return problems != NULL ? ctl_config_error(c, &err, problems) : ctl_error(c, call->verb, &err);
    }
    return show_reply(c, call, &reply);
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

static int print_help(ctl *c, const depot_buf *text)
{
    depot_err err = { 0 };

    return depot_write_all(STDOUT_FILENO, text->data, text->len, &err) ? 0 : ctl_error(c, NULL, &err);
}

/* "depotctl queue": not a verb, but the start of some. */
static int run_unknown(ctl *c, int argc, char **argv)
{
    DEPOT_AUTO(depot_buf_free) depot_buf group = { 0 };
    depot_err                            err = { 0 };
    bool                                 is_group = help_group(c, argv[0], &group);

    if (is_group && wants_help(argc, argv)) {
        return print_help(c, &group);
    }
    verb_unknown(c->verbs, argc, argv, &err);
    int status = ctl_error(c, NULL, &err);
    if (is_group && !c->options.json) {
        fwrite(group.data, 1, group.len, stderr);
    }
    return status;
}

static int run_verb(ctl *c, const verb *v, int argc, char **argv)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };
    verb_call                            call = { .verb = v };
    depot_err                            err = { 0 };

    if (!args_parse(&call, &c->options, argc, argv, c->arena, &err)) {
        return ctl_error(c, v, &err);
    }
    if (call.help) {
        help_verb(c->arena, v, &text);
        return print_help(c, &text);
    }
    return v->route != NULL ? run_route(c, &call) : v->local->run(c, &call);
}

int ctl_run(host *h, const ctl_options *options, int argc, char **argv)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf      text = { 0 };
    ctl                                       c = { .host = h, .options = *options, .arena = arena };
    verb_set                                 *verbs = NULL;
    depot_err                                 err = { 0 };
    int                                       used = 0;

    if (!ctl_collect(h, arena, &verbs, &err)) {
        c.verbs = verb_set_new(arena);
        return ctl_error(&c, NULL, &err);
    }
    c.verbs = verbs;
    if (argc == 0 || argv[0][0] == '-') { /* only --help gets here with a dash: main reads the options */
        help_overview(&c, &text);
        if (argc > 0) {
            return print_help(&c, &text);
        }
        fwrite(text.data, 1, text.len, stderr);
        return EXIT_USAGE;
    }
    const verb *v = verb_find(verbs, argc, argv, &used);
    return v == NULL ? run_unknown(&c, argc, argv) : run_verb(&c, v, argc - used, argv + used);
}

int local_help(ctl *c, const verb_call *call)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };
    const depot_json                    *words = depot_json_get(call->args, "verb");
    int                                  n = words == NULL ? 0 : (int)depot_json_len(words);
    char                               **argv = depot_alloc(c->arena, ((size_t)n + 1) * sizeof(*argv));
    int                                  used = 0;

    for (int i = 0; i < n; i++) {
        argv[i] = depot_strdup(c->arena, depot_json_string(depot_json_at(words, (size_t)i), NULL));
    }
    const verb *v = verb_find(c->verbs, n, argv, &used);
    if (n == 0) {
        help_overview(c, &text);
    } else if (v != NULL && used == n) {
        help_verb(c->arena, v, &text);
    } else if (n > 1 || !help_group(c, argv[0], &text)) {
        depot_err err = { 0 };
        verb_unknown(c->verbs, n, argv, &err);
        return ctl_error(c, NULL, &err);
    }
    return print_help(c, &text);
}
