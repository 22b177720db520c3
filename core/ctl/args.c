/* args.c - reads arguments and flags by the types of a verb's fields. */
#include "ctl/args.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { INPUT_MAX = 64 << 20 };

/* Flags that every verb has. A verb's own field of the same name goes first. */
typedef struct general_flag {
    const char *name;
    size_t      offset;
    enum { GENERAL_BOOL, GENERAL_DURATION, GENERAL_OUTPUT } kind;
} general_flag;

static const general_flag general_flags[] = {
    { "json", offsetof(ctl_options, json), GENERAL_BOOL },
    { "quiet", offsetof(ctl_options, quiet), GENERAL_BOOL },
    { "yes", offsetof(ctl_options, yes), GENERAL_BOOL },
    { "timeout", offsetof(ctl_options, timeout_ms), GENERAL_DURATION },
    { "output", 0, GENERAL_OUTPUT },
};

/* The command line while it is being read. */
typedef struct reader {
    verb_call   *call;
    ctl_options *options;
    depot_arena *arena;
    char       **argv;
    int          argc, at;
    size_t       position; /* arguments by position so far */
} reader;

const char *args_flag(depot_arena *arena, const char *field)
{
    char *flag = depot_strf(arena, "--%s", field);

    for (char *p = flag; *p != '\0'; p++) {
        *p = *p == '_' ? '-' : *p;
    }
    return flag;
}

static bool read_stdin(depot_arena *arena, const char **out, size_t *out_n, depot_err *err)
{
    DEPOT_AUTO(depot_buf_free) depot_buf buf = { 0 };
    char                                 chunk[65536];
    ssize_t                              n;

    while ((n = read(STDIN_FILENO, chunk, sizeof(chunk))) != 0) {
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return DEPOT_FAIL_ERRNO(err, "cannot read standard input");
        }
        if (buf.len + (size_t)n > INPUT_MAX) {
            return DEPOT_FAIL(err, TOO_LARGE, "standard input is longer than %d bytes", INPUT_MAX);
        }
        depot_buf_add(&buf, chunk, (size_t)n);
    }
    *out = depot_strndup(arena, buf.data == NULL ? "" : buf.data, buf.len);
    *out_n = buf.len;
    return true;
}

bool args_text(depot_arena *arena, const char *text, const char **out, size_t *out_n, depot_err *err)
{
    char *file = NULL;

    if (strcmp(text, "-") == 0) {
        return read_stdin(arena, out, out_n, err);
    }
    if (text[0] != '@') {
        *out = text;
        *out_n = strlen(text);
        return true;
    }
    if (!depot_read_file(arena, text + 1, INPUT_MAX, &file, out_n, err)) {
        return false;
    }
    *out = file;
    return true;
}

/* ---- values by type ---- */
typedef depot_json *value_fn(depot_arena *arena, const depot_field *field, const char *text, depot_err *err);

/* What conf_parse_value leaves behind. */
typedef union parsed {
    const char        *text;
    bool               flag;
    int64_t            number;
    double             real;
    const char *const *list;
} parsed;

/* Texts are judged as in conf.d and travel as they are: "10s", "64MiB", the name of a choice. */
static depot_json *read_text(depot_arena *arena, const depot_field *field, const char *text, depot_err *err)
{
    parsed value = { .text = NULL };

    if (!depot_utf8_valid(text, strlen(text))) {
        DEPOT_FAIL(err, USAGE, "the value is not UTF-8");
        return NULL;
    }
    return conf_parse_value(arena, field, text, &value, err) ? depot_json_str(arena, text) : NULL;
}

static depot_json *read_bool(depot_arena *arena, const depot_field *field, const char *text, depot_err *err)
{
    parsed value = { .text = NULL };

    return conf_parse_value(arena, field, text, &value, err) ? depot_json_bool(arena, value.flag) : NULL;
}

static depot_json *read_int(depot_arena *arena, const depot_field *field, const char *text, depot_err *err)
{
    parsed value = { .text = NULL };

    return conf_parse_value(arena, field, text, &value, err) ? depot_json_int(arena, value.number) : NULL;
}

static depot_json *read_number(depot_arena *arena, const depot_field *field, const char *text, depot_err *err)
{
    parsed value = { .text = NULL };

    return conf_parse_value(arena, field, text, &value, err) ? depot_json_real(arena, value.real) : NULL;
}

static depot_json *read_list(depot_arena *arena, const depot_field *field, const char *text, depot_err *err)
{
    parsed      value = { .text = NULL };
    depot_json *list = depot_json_array(arena);

    if (!conf_parse_value(arena, field, text, &value, err)) {
        return NULL;
    }
    for (const char *const *item = value.list; item != NULL && *item != NULL; item++) {
        depot_json_add(list, depot_json_str(arena, *item));
    }
    return list;
}

static depot_json *read_json(depot_arena *arena, const depot_field *field, const char *text, depot_err *err)
{
    const char *json = NULL;
    size_t      n = 0;

    (void)field;
    if (!args_text(arena, text, &json, &n, err)) {
        return NULL;
    }
    depot_json *value = depot_json_parse(arena, json, n, err);
    if (value == NULL && err->hint[0] == '\0') {
        depot_hint(err, "give JSON text in quotes, @FILE, or - for standard input");
    }
    return value;
}

/* Command lines are seen by every user of the machine, so secrets do not stand there. */
static depot_json *read_secret(depot_arena *arena, const depot_field *field, const char *text, depot_err *err)
{
    const char *secret = NULL;
    size_t      n = 0;

    if (text[0] != '@' && strcmp(text, "-") != 0) {
        DEPOT_FAIL(err, USAGE, "%s is a secret and must not stand in a command line", field->name);
        depot_hint(err, "give @FILE, or - for standard input");
        return NULL;
    }
    if (!args_text(arena, text, &secret, &n, err)) {
        return NULL;
    }
    while (n > 0 && (secret[n - 1] == '\n' || secret[n - 1] == '\r')) {
        n--;
    }
    return depot_json_strn(arena, secret, n);
}

/* clang-format off */
static value_fn *const readers[] = {
    [DEPOT_T_STRING] = read_text, [DEPOT_T_BOOL] = read_bool,     [DEPOT_T_INT] = read_int,
    [DEPOT_T_NUMBER] = read_number, [DEPOT_T_SIZE] = read_text,   [DEPOT_T_DURATION] = read_text,
    [DEPOT_T_ENUM] = read_text,   [DEPOT_T_LIST] = read_list,     [DEPOT_T_PATH] = read_text,
    [DEPOT_T_URL] = read_text,    [DEPOT_T_SECRET] = read_secret, [DEPOT_T_CRON] = read_text,
    [DEPOT_T_REGEX] = read_text,  [DEPOT_T_UUID] = read_text,     [DEPOT_T_TIME] = read_text,
    [DEPOT_T_SHA256] = read_text, [DEPOT_T_OBJECT] = read_json,   [DEPOT_T_ARRAY] = read_json,
    [DEPOT_T_ANY] = read_json,
};
/* clang-format on */

/* ---- one field ---- */
static bool set_field(reader *r, const depot_field *field, const char *text, depot_err *err)
{
    const char       *shown = verb_is_positional(r->call->verb, field) ? depot_strf(r->arena, "<%s>", field->name)
                                                                       : args_flag(r->arena, field->name);
    const depot_json *before = depot_json_get(r->call->args, field->name);
    depot_json       *value = readers[field->type](r->arena, field, text, err);

    if (value == NULL) {
        err->code = DEPOT_E_USAGE; /* the command line is wrong, whoever found it out */
        return depot_wrap(err, "%s", shown);
    }
    if (before != NULL && field->type != DEPOT_T_LIST) {
        return DEPOT_FAIL(err, USAGE, "%s is given twice", shown);
    }
    if (before != NULL) { /* a list grows with each flag */
        depot_json *joined = depot_json_array(r->arena);
        size_t      n = depot_json_len(before);

        for (size_t i = 0; i < n + depot_json_len(value); i++) {
            const depot_json *item = i < n ? depot_json_at(before, i) : depot_json_at(value, i - n);

            depot_json_add(joined, depot_json_str(r->arena, depot_json_string(item, NULL)));
        }
        value = joined;
    }
    depot_json_set(r->call->args, field->name, value);
    return true;
}

static bool same_name(const char *field, const char *flag, size_t n)
{
    size_t i = 0;

    for (; i < n && field[i] != '\0'; i++) {
        char a = field[i] == '_' ? '-' : field[i];
        char b = flag[i] == '_' ? '-' : flag[i];

        if (a != b) {
            return false;
        }
    }
    return i == n && field[i] == '\0';
}

static const depot_field *find_flag(const verb *v, const char *flag, size_t n)
{
    for (size_t i = 0; i < v->n_fields; i++) {
        if (same_name(v->fields[i].name, flag, n)) {
            return &v->fields[i];
        }
    }
    return NULL;
}

static bool unknown_flag(const verb *v, const char *flag, depot_arena *arena, depot_err *err)
{
    size_t       total = v->n_fields + DEPOT_N(general_flags);
    const char **names = depot_alloc(arena, (total + 1) * sizeof(*names));

    for (size_t i = 0; i < total; i++) {
        names[i] = args_flag(arena, i < v->n_fields ? v->fields[i].name : general_flags[i - v->n_fields].name);
    }
    const char *near = depot_suggest(flag, names, total);
    DEPOT_FAIL(err, USAGE, "\"%s\" has no flag %s", v->words, flag);
    return near != NULL ? depot_hint(err, "did you mean %s?", near)
                        : depot_hint(err,
                                     "depotctl help %s lists its flags; options of depotctl itself stand before "
                                     "the verb",
                                     v->words);
}

/* The value of a flag: behind "=", or the next word. */
static bool flag_value(reader *r, const char *flag, const char *equals, const char **out, depot_err *err)
{
    if (equals != NULL) {
        *out = equals + 1;
        return true;
    }
    if (r->at + 1 >= r->argc) {
        return DEPOT_FAIL(err, USAGE, "%s needs a value", flag);
    }
    *out = r->argv[++r->at];
    return true;
}

static bool set_general(reader *r, const general_flag *g, const char *flag, const char *equals, depot_err *err)
{
    const char *text = NULL;
    char       *place = (char *)r->options + g->offset;

    if (g->kind == GENERAL_BOOL) {
        if (equals != NULL) {
            return DEPOT_FAIL(err, USAGE, "--%s takes no value", g->name);
        }
        *(bool *)(void *)place = true;
        return true;
    }
    if (!flag_value(r, flag, equals, &text, err)) {
        return false;
    }
    if (g->kind == GENERAL_OUTPUT) {
        r->call->output = text;
        return true;
    }
    if (!depot_parse_duration(text, (int64_t *)(void *)place, err)) {
        err->code = DEPOT_E_USAGE;
        return depot_wrap(err, "--%s", g->name);
    }
    return true;
}

static bool read_flag(reader *r, depot_err *err)
{
    const char        *word = r->argv[r->at];
    const char        *equals = strchr(word, '=');
    const char        *flag = equals == NULL ? word : depot_strndup(r->arena, word, (size_t)(equals - word));
    const char        *name = flag + strspn(flag, "-");
    const depot_field *field = word[1] == '-' ? find_flag(r->call->verb, name, strlen(name)) : NULL;
    const char        *text = NULL;

    if (strcmp(flag, "-o") == 0) {
        name = "output";
    } else if (word[1] != '-') {
        return unknown_flag(r->call->verb, flag, r->arena, err);
    }
    if (field == NULL && strncmp(name, "no-", 3) == 0 && equals == NULL) {
        field = find_flag(r->call->verb, name + 3, strlen(name + 3));
        if (field != NULL && field->type == DEPOT_T_BOOL) {
            return set_field(r, field, "no", err);
        }
        field = NULL;
    }
    if (field != NULL && field->type == DEPOT_T_BOOL) {
        return set_field(r, field, equals == NULL ? "yes" : equals + 1, err);
    }
    if (field != NULL) {
        return flag_value(r, flag, equals, &text, err) && set_field(r, field, text, err);
    }
    for (size_t i = 0; i < DEPOT_N(general_flags); i++) {
        if (strcmp(general_flags[i].name, name) == 0) {
            return set_general(r, &general_flags[i], flag, equals, err);
        }
    }
    return unknown_flag(r->call->verb, flag, r->arena, err);
}

static bool read_position(reader *r, depot_err *err)
{
    const verb     *v = r->call->verb;
    const char     *word = r->argv[r->at];
    const verb_arg *arg = r->position < v->n_args ? &v->args[r->position] : NULL;

    if (arg == NULL) {
        DEPOT_FAIL(err, USAGE, "\"%s\" does not take \"%s\"", v->words, word);
        return depot_hint(err, "depotctl help %s shows what it takes", v->words);
    }
    r->position += arg->rest ? 0 : 1;
    if (arg->field == NULL) {
        r->call->file = word;
        return true;
    }
    return set_field(r, arg->field, word, err);
}

static bool check_complete(const reader *r, depot_err *err)
{
    const verb *v = r->call->verb;

    for (size_t i = 0; i < v->n_args; i++) {
        const verb_arg *arg = &v->args[i];
        bool            given =
            arg->field == NULL ? r->call->file != NULL : depot_json_get(r->call->args, arg->field->name) != NULL;

        if (!given && !arg->optional) {
            DEPOT_FAIL(err, USAGE, "<%s> is missing", arg->field == NULL ? "file" : arg->field->name);
            return depot_hint(err, "usage: depotctl %s", v->pattern);
        }
    }
    for (size_t i = 0; i < v->n_fields; i++) {
        const depot_field *f = &v->fields[i];

        if ((f->flags & DEPOT_REQUIRED) != 0 && f->def == NULL && depot_json_get(r->call->args, f->name) == NULL) {
            DEPOT_FAIL(err, USAGE, "%s is missing", args_flag(r->arena, f->name));
            return depot_hint(err, "depotctl help %s shows what it takes", v->words);
        }
    }
    return true;
}

bool args_parse(verb_call *call, ctl_options *options, int argc, char **argv, depot_arena *arena, depot_err *err)
{
    reader r = { .call = call, .options = options, .arena = arena, .argv = argv, .argc = argc };
    bool   flags = true;

    call->args = depot_json_object(arena);
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        call->help = call->help || strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    }
    if (call->help) {
        return true;
    }
    for (; r.at < argc; r.at++) {
        const char *word = argv[r.at];
        bool        is_flag = flags && word[0] == '-' && word[1] != '\0' && strchr("0123456789", word[1]) == NULL;

        if (is_flag && strcmp(word, "--") == 0) {
            flags = false;
        } else if (!(is_flag ? read_flag(&r, err) : read_position(&r, err))) {
            return false;
        }
    }
    return check_complete(&r, err);
}
