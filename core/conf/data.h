/* data.h - what the files of this folder share: how raw files, sections and values look inside, and their limits. */
#ifndef CONF_DATA_H
#define CONF_DATA_H

#include "conf/conf.h"

#define CONF_VALUE_MAX ((size_t)1 << 20) /* bytes of one value, as written and after interpolation */
#define CONF_FILE_MAX ((size_t)16 << 20) /* bytes of one file */
#define CONF_NAME_MAX 64U                /* bytes of the NAME in [kind NAME] */
#define CONF_WORD_MAX 48U                /* bytes of a kind and of a key: what libinih passes on uncut */
#define CONF_KEYS_MAX 1000U              /* keys of one section */
#define CONF_SECTIONS_MAX 10000U
#define CONF_OVERRIDE_FILE "99-local.ini"
#define CONF_MASK "***"

typedef struct conf_place_row {
    const char            *file;
    int                    line;
    struct conf_place_row *next;
} conf_place_row;

typedef struct raw_entry {
    const char *key, *value, *file;
    int         line;
} raw_entry;

/* One section: everything that all files say under the same header. */
typedef struct raw_section {
    const char     *kind, *name; /* name NULL: [kind] */
    uint32_t        hash;
    conf_place_row *places, **last_place; /* each header, in order; at least one */
    raw_entry      *entries;
    size_t          n, cap;
} raw_section;

struct conf_raw {
    depot_arena  *arena;
    const char   *dir; /* as messages show it; NULL: read from memory */
    raw_section **sections;
    size_t        n, cap;
};

/* One option of one section and where its value comes from. */
typedef struct conf_value {
    const depot_field *field;
    const char        *raw, *file; /* as written, while the section is filled; file NULL: in no file */
    int                line;
    const char        *env;  /* the variable that overrides the file, or NULL */
    const char        *env_unit; /* what a bare number in it means, or NULL */
    const char        *text; /* after interpolation; NULL: no value */
    bool               holds_secret; /* something secret was put in by interpolation */
    enum { CONF_TODO, CONF_BUSY, CONF_DONE, CONF_FAILED } state; /* of text */
    const depot_err *failure;
} conf_value;

typedef struct conf_section {
    const conf_kind   *kind;
    const char        *name; /* NULL for [kind] */
    const char        *file; /* of the first header; NULL: in no file */
    int                line;
    void              *data, *common;
    conf_value        *values; /* the kind's options in order, then the common ones of [plugin NAME] */
    size_t             n;
} conf_section;

struct conf {
    depot_arena   *arena;
    const char    *state_dir, *dir;
    conf_kind     *kinds;
    size_t         n_kinds;
    conf_section **sections; /* those of the files in order, then those that exist by default */
    size_t         n, cap;
};

/* ---- read.c ---- */
/* Room for one more item: the array itself, or a larger copy of it. */
void        *conf_grow(depot_arena *arena, void *items, size_t n, size_t *cap, size_t item_bytes);
raw_section *raw_find(const conf_raw *raw, const char *kind, const char *name);
/* NULL when there are CONF_SECTIONS_MAX already. */
raw_section *raw_add_section(conf_raw *raw, const char *kind, const char *name, const char *file, int line);
raw_entry   *raw_find_entry(const raw_section *section, const char *key);

/* ---- line.c: the guard between files and libinih ---- */
typedef struct ini_entry {
    const char *key, *value;
    int         line;
} ini_entry;

/* One header and the lines below it, in one file. */
typedef struct ini_block {
    const char *kind, *name;
    int         line, override_line; /* override_line 0: no such key */
    bool        is_override;
    ini_entry  *entries;
    size_t      n, cap;
} ini_block;

/* The blocks of a text in order; whatever cannot be used becomes a problem and is left out. */
ini_block *ini_read(depot_arena *arena, const char *file, const char *text, size_t n, size_t *out_n,
                    conf_problems *problems);

/* ---- problems.c ---- */
bool conf_problem_at(const conf_problems *p, const char *file, int line); /* is there one at this place? */

/* ---- format.c ---- */
bool    conf_has_bounds(const depot_field *f);
int64_t conf_upper_bound(const depot_field *f);
/* The value at `at` in the shortest form that conf_parse_value reads back; NULL for none. */
const char *conf_value_text(depot_arena *arena, const depot_field *f, const void *at);
/* "1s..1h", "at least 1 KiB"; NULL: no bounds. */
const char *conf_range_text(depot_arena *arena, const depot_field *f);
const char *conf_type_name(depot_type type);
/* A URL or libpq keywords with the password replaced; *out_password gets it, or NULL. */
const char *conf_mask_url(depot_arena *arena, const char *url, const char **out_password);
/* One variable of a field's `env`: [SECTION:]NAME[=UNIT]. */
typedef struct conf_env {
    const char *variable;
    const char *section; /* NULL: it counts in every section */
    const char *unit;    /* of a bare number in it ("s"); NULL: none */
} conf_env;
/* One by one: set *cursor to the field's env. */
bool conf_next_env(depot_arena *arena, const char **cursor, conf_env *out);
bool        conf_is_word(const char *s, size_t n, size_t max); /* 1..max of [A-Za-z0-9_.-] */
const char *conf_label(depot_arena *arena, const char *kind, const char *name); /* "[queue default]" */

/* ---- expand.c ---- */
typedef struct conf_scope {
    depot_arena *arena;
    const char  *state_dir;
    bool         for_secret;   /* files must be private */
    bool         holds_secret; /* set when something secret was put in */
    bool (*option)(void *arg, const char *name, const char **out, bool *out_secret, depot_err *err);
    void *arg;
} conf_scope;
/* text with every ${...} replaced. */
bool conf_expand(conf_scope *scope, const char *text, const char **out, depot_err *err) DEPOT_MUST_USE;

/* ---- build.c, fill.c ---- */
#define CONF_COMMON_N 2U
extern const depot_field conf_common_options[CONF_COMMON_N]; /* of every [plugin NAME]: required, file */
size_t             conf_kind_options(const conf_kind *kind); /* how many, common ones included */
const depot_field *conf_kind_option(const conf_kind *kind, size_t i);
void              *conf_value_at(const conf_section *s, size_t i);
conf_section      *conf_find(const conf *c, const char *kind, const char *name);
conf_value        *conf_find_value(const conf_section *s, const char *name);
/* A hint, or NULL when no name is near. */
const char *conf_did_you_mean(depot_arena *arena, const char *word, const char *const *names, size_t n);
/* raw NULL: the section stands in no file. */
void conf_fill(conf *c, conf_section *section, const raw_section *raw, conf_problems *problems);
bool conf_hides(const conf_value *v); /* nothing of the value may be shown */

#endif
