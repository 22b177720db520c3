/* verb.h - what depotctl can do, as data: a verb is a route's `cli` text, a row of depotctl itself, or both.
 *
 * A pattern such as "queue pause <name> [reason] <file>" is words first, then arguments by position: <x> required, [x]
 * optional, a last one that ends in "..." takes all that is left. Every other field is a flag. */
#ifndef CTL_VERB_H
#define CTL_VERB_H

#include "ctl/ctl.h"

typedef struct ctl       ctl;
typedef struct verb      verb;
typedef struct verb_call verb_call;

/* A verb that needs no daemon, or that knows what to do when the daemon is away: then a route has the same words and
 * goes first. */
typedef struct ctl_local {
    const char        *cli;    /* pattern, as in depot_route */
    const depot_field *fields; /* ended by a row without a name; NULL: takes none */
    const depot_field *reply;  /* columns for people, as in depot_route; may be NULL */
    /* Prints; returns the exit status. NULL: the row only refines the pattern or the output of a route's verb. */
    int (*run)(ctl *c, const verb_call *call);
    /* Prints the daemon's reply where the generic way does not do; NULL: the generic way. */
    int (*show)(ctl *c, const verb_call *call, const depot_json *reply);
    const char *doc;
} ctl_local;

typedef struct verb_arg {
    const depot_field *field; /* NULL: the file to upload */
    bool               optional, rest;
} verb_arg;

struct verb {
    const char        *words; /* "queue pause" */
    const char        *pattern;
    size_t             n_words;
    const verb_arg    *args; /* by position */
    size_t             n_args;
    const depot_field *fields; /* all, those by position too */
    size_t             n_fields;
    const depot_field *reply; /* may be NULL */
    const depot_route *route; /* NULL: depotctl alone */
    const ctl_local   *local; /* NULL: the daemon alone */
    const char        *owner; /* plugin that has the route; "depotctl" */
    const char        *doc;
};

typedef struct verb_set {
    depot_arena *arena;
    verb        *rows; /* in order of their words after verb_set_sort */
    size_t       n, capacity;
} verb_set;

verb_set *verb_set_new(depot_arena *arena);
/* BUG with both owners when the words are taken, or when the pattern names what the request does not have. */
bool verb_add_route(verb_set *set, const char *owner, const depot_route *route, depot_err *err) DEPOT_MUST_USE;
/* Joins the route of the same words, if there is one, and its pattern takes the place of the route's: add routes first.
 * A row without `run` whose route is not there is passed over. */
bool verb_add_local(verb_set *set, const ctl_local *local, depot_err *err) DEPOT_MUST_USE;
void verb_set_sort(verb_set *set);

/* The verb with the most words that argv starts with; *out_used says how many. NULL: none. */
const verb *verb_find(const verb_set *set, int argc, char **argv, int *out_used);
/* USAGE error for an argv that verb_find knows nothing about, with the nearest verb as hint. */
bool verb_unknown(const verb_set *set, int argc, char **argv, depot_err *err);
/* True when the verb's words start with these, word by word: "queue" covers "queue list". */
bool verb_in_group(const verb *v, const char *group);
/* Is this field given by position? */
bool verb_is_positional(const verb *v, const depot_field *field);

#endif
