/* internal.h - what the verbs of depotctl itself share. For the files of core/ctl only. */
#ifndef CTL_INTERNAL_H
#define CTL_INTERNAL_H

#include "ctl/args.h"

/* One run of depotctl. */
struct ctl {
    host           *host;
    ctl_options     options; /* a copy: flags behind the verb change it */
    depot_arena    *arena;
    const verb_set *verbs;
};

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNHEALTHY = 3, EXIT_CONFIG = 78 };

/* ---- printing (print.c): stdout has data, stderr everything else ---- */
/* As it is with --json, else for people; to the call's output if it has one. Returns the exit status. */
int ctl_print(ctl *c, const verb_call *call, const depot_json *value);
int ctl_print_text(ctl *c, const verb_call *call, const char *text, size_t n); /* the same bytes for both */
/* Message, hint and next command (a problem document with --json). v may be NULL. Returns the exit status. */
int  ctl_error(ctl *c, const verb *v, const depot_err *err);
/* The same with what is wrong with the configuration in place of the message, as depotd --check prints it. */
int  ctl_config_error(ctl *c, const depot_err *err, const depot_json *problems);
void ctl_note(const ctl *c, const char *fmt, ...) DEPOT_PRINTF(2, 3); /* silent with --quiet and --json */

/* ---- help (help.c) ---- */
void help_overview(const ctl *c, depot_buf *out);
/* Every verb whose words start with the group's; false: none. */
bool        help_group(const ctl *c, const char *group, depot_buf *out);
void        help_verb(depot_arena *arena, const verb *v, depot_buf *out);
const char *help_usage(depot_arena *arena, const verb *v);              /* "queue pause <name> [--for DURATION]" */
const char *help_type(depot_arena *arena, const depot_field *field);    /* "DURATION", "a|b|c" */
const char *help_default(depot_arena *arena, const depot_field *field); /* "default 10s, 1..10", "" */

/* ---- verbs that depotctl has itself (locals.c) ---- */
extern const ctl_local ctl_locals[];
extern const size_t    ctl_locals_n;
/* All verbs: routes of the loaded plugins, then depotctl's own. */
bool ctl_collect(host *h, depot_arena *arena, verb_set **out, depot_err *err) DEPOT_MUST_USE;

/* Files of the plugin folder that are no plugin for this depotd: adds {name, state: "broken", why}. */
void ctl_broken_plugins(ctl *c, depot_json *list);

int local_config_check(ctl *c, const verb_call *call);
int local_config_show(ctl *c, const verb_call *call);
int local_config_schema(ctl *c, const verb_call *call);
int show_config(ctl *c, const verb_call *call, const depot_json *reply);
int local_enable(ctl *c, const verb_call *call);
int local_disable(ctl *c, const verb_call *call);
int local_plugin_list(ctl *c, const verb_call *call);
int show_plugins(ctl *c, const verb_call *call, const depot_json *reply);
int local_plugin_show(ctl *c, const verb_call *call);
int local_migrate_status(ctl *c, const verb_call *call);
int local_migrate_up(ctl *c, const verb_call *call);
int local_doctor(ctl *c, const verb_call *call);
int local_completion(ctl *c, const verb_call *call);
int local_docs(ctl *c, const verb_call *call);
int local_help(ctl *c, const verb_call *call);
int local_lua_check(ctl *c, const verb_call *call);
int local_lua_run(ctl *c, const verb_call *call);
int local_lua_repl(ctl *c, const verb_call *call);
int local_lua_test(ctl *c, const verb_call *call);
int local_version(ctl *c, const verb_call *call);

/* ---- documents (document.c and its neighbours) ---- */
/* What generated documents are about: plugins by name, the core first, and all verbs. */
typedef struct library {
    host             *host;
    depot_arena      *arena;
    const depot_ctx **plugins;
    size_t            n_plugins;
    const verb_set   *verbs;
} library;

void document_options(const library *l, depot_buf *out);
void document_routes(const library *l, depot_buf *out);
void document_lua(const library *l, depot_buf *out);
void document_metrics(const library *l, depot_buf *out);
void document_errors(const library *l, depot_buf *out);
void document_events(const library *l, depot_buf *out);
void document_verbs(const library *l, depot_buf *out);
void document_completion(const library *l, depot_buf *out);
void document_man(const library *l, depot_buf *out);
/* Text inside a Markdown table. */
void document_cell(depot_buf *out, const char *text);
/* name, type, default and meaning of each field, as a table; nothing when there are none. */
void document_fields(const library *l, const depot_field *fields, depot_buf *out);

#endif
