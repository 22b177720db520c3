/* conf.h - conf.d: INI files in, typed and checked structs out, every problem found in one pass.
 *
 * Two steps, because the [plugin NAME] sections say which plugins to load and the plugins say what the other sections
 * may hold: conf_read takes the files apart, conf_build fills structs by the option tables. */
#ifndef CONF_CONF_H
#define CONF_CONF_H

#include "depot/plugin.h"

/* Collected problems; printed as `file:line: error: text` and, below, `file:line: hint: text`. */
typedef struct conf_problems conf_problems;
conf_problems *conf_problems_new(depot_arena *arena);
/* line 0: no line (prints `file: error: …`). hint may be NULL. */
void   conf_problem(conf_problems *p, const char *file, int line, const char *hint, const char *fmt, ...) DEPOT_PRINTF(5, 6);
size_t conf_problem_count(const conf_problems *p);
void   conf_problems_print(const conf_problems *p, depot_buf *out); /* in order of file and line */
depot_json *conf_problems_texts(depot_arena *arena, const conf_problems *p); /* ["file:line: error: …"], hints as second lines */
depot_json *conf_problems_json(depot_arena *arena, const conf_problems *p); /* [{file, line, message, hint}] */

/* The files as they are: sections and their key = value lines with origin. A key set twice is a problem, unless the later
 * file is 99-local.ini or says `override = yes` in that section. */
typedef struct conf_raw conf_raw;
/* Reads dir's *.ini files in byte order of their names. A folder that cannot be read is a problem, not a failure. */
conf_raw *conf_read(depot_arena *arena, const char *dir, conf_problems *problems);
/* One file's text from memory (tests, fuzzing); file is its name in messages. */
void conf_read_text(conf_raw *raw, const char *file, const char *text, size_t n, conf_problems *problems);
conf_raw *conf_raw_new(depot_arena *arena);
/* Names of the sections of a kind, in order, with place: for (it = 0; conf_raw_next(raw, "plugin", &it, &name, &file, &line);) */
bool conf_raw_next(const conf_raw *raw, const char *kind, size_t *it, const char **name, const char **file, int *line);
const char *conf_raw_get(const conf_raw *raw, const char *kind, const char *name, const char *key); /* uninterpolated */

/* What may stand in a section. kind "plugin" has one conf_kind per plugin, with its name as `instance`. */
typedef struct conf_kind {
    const char        *kind, *instance; /* instance NULL: by `named` */
    bool               named;
    const char        *owner;           /* plugin that declared it, "core" for the core */
    const char        *doc;
    const depot_field *options;         /* already normalised to this depotd's row size */
    size_t             n, size;
} conf_kind;

/* An immutable configuration. Owned by its arena. */
typedef struct conf conf;
/* state_dir makes relative paths absolute and is where ${secret:NAME} looks (state/secrets/NAME). Returns a conf even
 * with problems (defaults in place of bad values), for tools that want to show it. */
conf *conf_build(depot_arena *arena, const conf_raw *raw, const conf_kind *kinds, size_t n, const char *state_dir,
                 conf_problems *problems);
/* The filled struct; for sections that are not named and for [plugin NAME] one with all defaults exists even when no file
 * has the section. NULL: no such named section. name NULL: the section is not a named one. */
const void *conf_get(const conf *c, const char *kind, const char *name);
const void *conf_next(const conf *c, const char *kind, size_t *it, const char **out_name);
/* Where a section first stands, for messages about rules between options; false if in no file. */
bool conf_place(const conf *c, const char *kind, const char *name, const char *key, const char **file, int *line);
/* Changes between two configurations that need a restart: each becomes a problem with place and hint; returns how many.
 * A [plugin NAME] that comes or goes needs one, and so does a section with at least one option that is not RELOADABLE. */
size_t conf_needs_restart(const conf *running, const conf *wanted, conf_problems *problems);

/* [{section, option, value, origin: "conf.d/20-queue.ini:14" | "env:NAME" | "default", doc, default, reloadable}], secrets masked */
depot_json *conf_show(depot_arena *arena, const conf *c);
/* Every kind and option with type, default, range, choices, env, doc: for `depotctl config schema` and the reference. */
depot_json *conf_schema(depot_arena *arena, const conf_kind *kinds, size_t n);
/* The commented sample file of a plugin: every option with its default and meaning (what conf.d/NN-name.ini ships). */
void conf_sample(depot_buf *out, const conf_kind *kinds, size_t n, const char *owner);

/* The same configuration for another process of this program: the values in force as one text, secrets in the clear, and from it
 * what conf_build takes, whatever has become of the files since. conf_unpack also has the log hide what this process hides. */
const char *conf_pack(depot_arena *arena, const conf *c);
/* The values that files give, as one text to compare: same text, same values, wherever they stand. Holds secrets. without: kinds of
 * sections that do not count, ended by NULL. */
const char *conf_values(depot_arena *arena, const conf *c, const char *const *without);
conf_raw   *conf_unpack(depot_arena *arena, const char *packed, depot_err *err) DEPOT_MUST_USE;

/* One text value by an option's row, as conf_build and depotctl do it; out points into the state struct. */
bool conf_parse_value(depot_arena *arena, const depot_field *f, const char *text, void *out, depot_err *err) DEPOT_MUST_USE;
/* Who judges DEPOT_T_CRON values: the layer above sets it once, before the first conf_build and before threads start (the
 * only mutable global here). Without one every text that is not empty passes. */
void conf_set_cron_check(bool (*fn)(const char *text, depot_err *err));

/* Flip a plugin: NN-name.ini <-> NN-name.ini.disabled, written from the sample if there is none. Durable. */
bool conf_enable(const char *dir, const char *plugin, const char *sample, bool on, char **out_file, depot_arena *arena,
                 depot_err *err) DEPOT_MUST_USE;

#endif
