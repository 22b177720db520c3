/* verb.c - takes the patterns of verbs apart and finds the verb that a command line means. */
#include "ctl/verb.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FIELDS = 64, MAX_ARGS = 8 };

/* A verb while its pattern is being read. Fields still move to their final place, so arguments know them by index. */
typedef struct draft {
    depot_field fields[MAX_FIELDS];
    size_t      n_fields;
    struct {
        size_t field;
        bool   file, optional, rest;
    } args[MAX_ARGS];
    size_t n_args;
} draft;

verb_set *verb_set_new(depot_arena *arena)
{
    verb_set *set = depot_alloc(arena, sizeof(*set));

    set->arena = arena;
    return set;
}

static bool draft_has(const draft *d, const char *name, size_t *out_at)
{
    for (size_t i = 0; i < d->n_fields; i++) {
        if (strcmp(d->fields[i].name, name) == 0) {
            *out_at = i;
            return true;
        }
    }
    return false;
}

/* The first row of a name wins: path, query and body may each have one. */
static bool draft_add(draft *d, const depot_field *field, depot_err *err)
{
    size_t at;

    if (draft_has(d, field->name, &at)) {
        return true;
    }
    if (d->n_fields == MAX_FIELDS) {
        return DEPOT_FAIL(err, BUG, "more than %d fields in one request", MAX_FIELDS);
    }
    d->fields[d->n_fields++] = *field;
    return true;
}

static bool draft_add_all(draft *d, const depot_field *fields, depot_err *err)
{
    for (const depot_field *f = fields; f != NULL && f->name != NULL; f++) {
        if (!draft_add(d, f, err)) {
            return false;
        }
    }
    return true;
}

/* Parameters of the path that the request's table does not describe are plain text. */
static bool draft_add_path(draft *d, depot_arena *arena, const char *path, depot_err *err)
{
    for (const char *p = strchr(path, '{'); p != NULL; p = strchr(p + 1, '{')) {
        size_t      n = strcspn(p + 1, "}*.:");
        depot_field field = { .name = depot_strndup(arena, p + 1, n), .flags = DEPOT_REQUIRED };

        if (!draft_add(d, &field, err)) {
            return false;
        }
    }
    return true;
}

/* One "<name>", "[name]" or "<name>..." */
static bool draft_position(draft *d, depot_arena *arena, const char *token, size_t n, bool upload, depot_err *err)
{
    const char *end = memchr(token, token[0] == '<' ? '>' : ']', n);

    if (end == NULL || d->n_args == MAX_ARGS) {
        return DEPOT_FAIL(err, BUG, "cannot read \"%.*s\"", (int)n, token);
    }
    const char *name = depot_strndup(arena, token + 1, (size_t)(end - token - 1));
    size_t      i = d->n_args++;

    d->args[i].optional = token[0] == '[';
    d->args[i].rest = (size_t)(end - token) + 1 < n;
    d->args[i].file = !draft_has(d, name, &d->args[i].field);
    if (d->args[i].file && (!upload || strcmp(name, "file") != 0)) {
        return DEPOT_FAIL(err, BUG, "the request has no field \"%s\"", name);
    }
    return true;
}

/* The words in front of the first argument. */
static const char *words_of(depot_arena *arena, const char *pattern, size_t *out_n)
{
    DEPOT_AUTO(depot_buf_free) depot_buf words = { 0 };

    *out_n = 0;
    for (const char *p = pattern + strspn(pattern, " "); *p != '\0' && *p != '<' && *p != '['; p += strspn(p, " ")) {
        size_t n = strcspn(p, " ");

        depot_buf_addf(&words, "%s%.*s", *out_n == 0 ? "" : " ", (int)n, p);
        (*out_n)++;
        p += n;
    }
    return depot_strndup(arena, words.data == NULL ? "" : words.data, words.len);
}

static bool read_arguments(draft *d, depot_arena *arena, const char *pattern, bool upload, depot_err *err)
{
    for (const char *p = pattern + strcspn(pattern, "<["); *p != '\0'; p += strspn(p, " ")) {
        size_t n = strcspn(p, " ");

        if (*p != '<' && *p != '[') {
            return DEPOT_FAIL(err, BUG, "a word stands behind an argument");
        }
        if (!draft_position(d, arena, p, n, upload, err)) {
            return false;
        }
        p += n;
    }
    return true;
}

static void finish(const draft *d, depot_arena *arena, verb *v)
{
    depot_field *fields = depot_alloc(arena, (d->n_fields + 1) * sizeof(*fields));
    verb_arg    *args = depot_alloc(arena, (d->n_args + 1) * sizeof(*args));

    memcpy(fields, d->fields, d->n_fields * sizeof(*fields));
    for (size_t i = 0; i < d->n_args; i++) {
        args[i].field = d->args[i].file ? NULL : &fields[d->args[i].field];
        args[i].optional = d->args[i].optional;
        args[i].rest = d->args[i].rest;
    }
    v->fields = fields;
    v->n_fields = d->n_fields;
    v->args = args;
    v->n_args = d->n_args;
}

/* Route, local row and pattern are set: everything else follows from them. */
static bool build(depot_arena *arena, verb *v, depot_err *err)
{
    draft d = { .n_fields = 0 };
    bool  upload = v->route != NULL && (v->route->flags & DEPOT_ROUTE_UPLOAD) != 0;

    v->words = words_of(arena, v->pattern, &v->n_words);
    bool fine = v->n_words > 0 || DEPOT_FAIL(err, BUG, "a verb needs a word");
    if (v->route != NULL) {
        fine = fine && draft_add_all(&d, v->route->request, err) && draft_add_path(&d, arena, v->route->path, err);
    }
    if (v->local != NULL) {
        fine = fine && draft_add_all(&d, v->local->fields, err);
    }
    if (!fine || !read_arguments(&d, arena, v->pattern, upload, err)) {
        return depot_wrap(err, "verb \"%s\" of %s", v->pattern, v->owner);
    }
    finish(&d, arena, v);
    return true;
}

static verb *find_words(const verb_set *set, const char *words)
{
    for (size_t i = 0; i < set->n; i++) {
        if (strcmp(set->rows[i].words, words) == 0) {
            return &set->rows[i];
        }
    }
    return NULL;
}

static void append(verb_set *set, const verb *v)
{
    if (set->n == set->capacity) {
        size_t capacity = set->capacity == 0 ? 32 : set->capacity * 2;
        verb  *rows = depot_alloc(set->arena, capacity * sizeof(*rows));

        if (set->n > 0) {
            memcpy(rows, set->rows, set->n * sizeof(*rows));
        }
        set->rows = rows;
        set->capacity = capacity;
    }
    set->rows[set->n++] = *v;
}

bool verb_add_route(verb_set *set, const char *owner, const depot_route *route, depot_err *err)
{
    verb v = { .pattern = route->cli, .owner = owner, .route = route, .reply = route->reply, .doc = route->doc };

    if (!build(set->arena, &v, err)) {
        return false;
    }
    const verb *other = find_words(set, v.words);
    if (other != NULL) {
        return DEPOT_FAIL(err, BUG, "the verb \"%s\" is claimed by %s (%s %s) and by %s (%s %s)", v.words, other->owner,
                          other->route->method, other->route->path, owner, route->method, route->path);
    }
    append(set, &v);
    return true;
}

bool verb_add_local(verb_set *set, const ctl_local *local, depot_err *err)
{
    verb   v = { .pattern = local->cli, .owner = "depotctl", .local = local, .reply = local->reply, .doc = local->doc };
    size_t n = 0;
    verb  *route = find_words(set, words_of(set->arena, local->cli, &n));

    if (route == NULL && local->run == NULL) {
        return true;
    }
    if (route == NULL) {
        if (!build(set->arena, &v, err)) {
            return false;
        }
        append(set, &v);
        return true;
    }
    if (route->local != NULL) {
        return DEPOT_FAIL(err, BUG, "the verb \"%s\" stands twice in depotctl's own table", route->words);
    }
    route->local = local;
    route->pattern = local->cli; /* it may take more by position than the route says */
    route->reply = route->reply == NULL ? local->reply : route->reply;
    return build(set->arena, route, err);
}

static int by_words(const void *a, const void *b)
{
    return strcmp(((const verb *)a)->words, ((const verb *)b)->words);
}

void verb_set_sort(verb_set *set)
{
    if (set->n > 0) {
        qsort(set->rows, set->n, sizeof(*set->rows), by_words);
    }
}

/* How many words of argv the verb's words take, 0 when they differ. */
static int match(const verb *v, int argc, char **argv)
{
    const char *p = v->words;
    int         used = 0;

    while (*p != '\0') {
        size_t n = strcspn(p, " ");

        if (used == argc || strlen(argv[used]) != n || memcmp(argv[used], p, n) != 0) {
            return 0;
        }
        used++;
        p += n + strspn(p + n, " ");
    }
    return used;
}

const verb *verb_find(const verb_set *set, int argc, char **argv, int *out_used)
{
    const verb *best = NULL;

    *out_used = 0;
    for (size_t i = 0; i < set->n; i++) {
        int used = match(&set->rows[i], argc, argv);

        if (used > *out_used) {
            best = &set->rows[i];
            *out_used = used;
        }
    }
    return best;
}

bool verb_in_group(const verb *v, const char *group)
{
    size_t n = strlen(group);

    return strncmp(v->words, group, n) == 0 && (v->words[n] == '\0' || v->words[n] == ' ');
}

bool verb_unknown(const verb_set *set, int argc, char **argv, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    const char                              **names = depot_alloc(arena, (set->n + 1) * sizeof(*names));
    const char                               *word = argv[0];
    const char *two = argc > 1 && argv[1][0] != '-' ? depot_strf(arena, "%s %s", argv[0], argv[1]) : argv[0];
    size_t      in_group = 0;

    for (size_t i = 0; i < set->n; i++) {
        names[i] = set->rows[i].words;
        in_group += verb_in_group(&set->rows[i], word) ? 1 : 0;
    }
    if (in_group > 0 && two == word) {
        DEPOT_FAIL(err, USAGE, "\"%s\" needs one more word", word);
        return depot_hint(err, "depotctl help %s lists what it can do", word);
    }
    DEPOT_FAIL(err, USAGE, "there is no verb \"%s\"", two);
    const char *near = depot_suggest(two, names, set->n);
    near = near == NULL ? depot_suggest(word, names, set->n) : near;
    if (near == NULL) {
        for (size_t i = 0; i < set->n; i++) { /* a group on its own may be what was misspelt */
            names[i] = depot_strndup(arena, set->rows[i].words, strcspn(set->rows[i].words, " "));
        }
        near = in_group > 0 ? NULL : depot_suggest(word, names, set->n);
    }
    if (near != NULL) {
        return depot_hint(err, "did you mean \"%s\"?", near);
    }
    return in_group > 0 ? depot_hint(err, "depotctl help %s lists what it can do", word)
                        : depot_hint(err, "depotctl help lists all verbs");
}

bool verb_is_positional(const verb *v, const depot_field *field)
{
    for (size_t i = 0; i < v->n_args; i++) {
        if (v->args[i].field == field) {
            return true;
        }
    }
    return false;
}
