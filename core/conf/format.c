/* format.c - values, bounds and types as text: for messages, dumps and the reference. */
#include <string.h>

#include "conf/data.h"

/* ---- bounds, in the option's own unit ---- */
bool conf_has_bounds(const depot_field *f)
{
    return f->min != 0 || f->max != 0;
}

int64_t conf_upper_bound(const depot_field *f)
{
    return f->max == 0 && f->min >= 0 ? INT64_MAX : f->max;
}

static const char *format_size(depot_arena *arena, int64_t bytes)
{
    static const char *const units[] = { "", "KiB", "MiB", "GiB", "TiB" };
    size_t                   unit = 0;

    while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < DEPOT_N(units)) {
        bytes /= 1024;
        unit++;
    }
    return depot_strf(arena, "%lld%s", (long long)bytes, units[unit]);
}

static const char *format_int(depot_arena *arena, int64_t n)
{
    return depot_strf(arena, "%lld", (long long)n);
}

typedef const char *(*bound_format)(depot_arena *arena, int64_t n);

static const struct {
    depot_type   type;
    bound_format format;
    const char  *suffix;
} bound_rows[] = {
    { DEPOT_T_INT, format_int, "" },         { DEPOT_T_NUMBER, format_int, "" },
    { DEPOT_T_SIZE, format_size, "" },       { DEPOT_T_DURATION, depot_format_duration, "" },
    { DEPOT_T_STRING, format_int, " bytes" }, { DEPOT_T_SECRET, format_int, " bytes" },
};

const char *conf_range_text(depot_arena *arena, const depot_field *f)
{
    for (size_t i = 0; i < DEPOT_N(bound_rows) && conf_has_bounds(f); i++) {
        if (bound_rows[i].type != f->type) {
            continue;
        }
        const char *low = bound_rows[i].format(arena, f->min);
        if (conf_upper_bound(f) == INT64_MAX) {
            return depot_strf(arena, "at least %s%s", low, bound_rows[i].suffix);
        }
        return depot_strf(arena, "%s..%s%s", low, bound_rows[i].format(arena, f->max), bound_rows[i].suffix);
    }
    return NULL;
}

/* ---- values ---- */
static const char *text_of_string(depot_arena *arena, const depot_field *f, const void *at)
{
    (void)arena;
    (void)f;
    return *(const char *const *)at;
}

static const char *text_of_bool(depot_arena *arena, const depot_field *f, const void *at)
{
    (void)arena;
    (void)f;
    return *(const bool *)at ? "yes" : "no";
}

static const char *text_of_int(depot_arena *arena, const depot_field *f, const void *at)
{
    (void)f;
    return format_int(arena, *(const int64_t *)at);
}

static const char *text_of_number(depot_arena *arena, const depot_field *f, const void *at)
{
    (void)f;
    return depot_json_text(arena, depot_json_real(arena, *(const double *)at));
}

static const char *text_of_size(depot_arena *arena, const depot_field *f, const void *at)
{
    (void)f;
    return format_size(arena, *(const int64_t *)at);
}

static const char *text_of_duration(depot_arena *arena, const depot_field *f, const void *at)
{
    (void)f;
    return depot_format_duration(arena, *(const int64_t *)at);
}

static const char *text_of_enum(depot_arena *arena, const depot_field *f, const void *at)
{
    (void)arena;
    return f->choices == NULL ? NULL : f->choices[*(const int64_t *)at];
}

static const char *text_of_list(depot_arena *arena, const depot_field *f, const void *at)
{
    DEPOT_AUTO(depot_buf_free) depot_buf all = { 0 };
    const char *const                   *items = *(const char *const *const *)at;

    (void)f;
    for (size_t i = 0; items != NULL && items[i] != NULL; i++) {
        depot_buf_addf(&all, "%s%s", i == 0 ? "" : ", ", items[i]);
    }
    return items == NULL ? NULL : depot_strndup(arena, all.data == NULL ? "" : all.data, all.len);
}

static const struct type_row {
    const char *name;
    const char *(*text_of)(depot_arena *arena, const depot_field *f, const void *at); /* NULL: in JSON only */
} type_rows[] = {
    [DEPOT_T_STRING] = { "string", text_of_string },
    [DEPOT_T_BOOL] = { "bool", text_of_bool },
    [DEPOT_T_INT] = { "int", text_of_int },
    [DEPOT_T_NUMBER] = { "number", text_of_number },
    [DEPOT_T_SIZE] = { "size", text_of_size },
    [DEPOT_T_DURATION] = { "duration", text_of_duration },
    [DEPOT_T_ENUM] = { "enum", text_of_enum },
    [DEPOT_T_LIST] = { "list", text_of_list },
    [DEPOT_T_PATH] = { "path", text_of_string },
    [DEPOT_T_URL] = { "url", text_of_string },
    [DEPOT_T_SECRET] = { "secret", text_of_string },
    [DEPOT_T_CRON] = { "cron", text_of_string },
    [DEPOT_T_REGEX] = { "regex", text_of_string },
    [DEPOT_T_UUID] = { "uuid", text_of_string },
    [DEPOT_T_TIME] = { "time", text_of_string },
    [DEPOT_T_SHA256] = { "sha256", text_of_string },
    [DEPOT_T_OBJECT] = { "object", NULL },
    [DEPOT_T_ARRAY] = { "array", NULL },
    [DEPOT_T_ANY] = { "any", NULL },
};

static const struct type_row *row_of(depot_type type)
{
    size_t i = (size_t)type;

    return i < DEPOT_N(type_rows) ? &type_rows[i] : &type_rows[DEPOT_T_ANY];
}

const char *conf_type_name(depot_type type)
{
    return row_of(type)->name;
}

const char *conf_value_text(depot_arena *arena, const depot_field *f, const void *at)
{
    const struct type_row *row = row_of(f->type);

    return row->text_of == NULL ? NULL : row->text_of(arena, f, at);
}

const char *conf_label(depot_arena *arena, const char *kind, const char *name)
{
    return name == NULL ? depot_strf(arena, "[%s]", kind) : depot_strf(arena, "[%s %s]", kind, name);
}

bool conf_next_env(depot_arena *arena, const char **cursor, conf_env *out)
{
    if (*cursor == NULL || **cursor == '\0') {
        return false;
    }
    size_t      n = strcspn(*cursor, "|");
    const char *alias = depot_strndup(arena, *cursor, n);
    const char *colon = strchr(alias, ':');
    const char *name = colon == NULL ? alias : colon + 1;
    size_t      name_len = strcspn(name, "=");

    *cursor += n + ((*cursor)[n] == '|');
    out->section = colon == NULL ? NULL : depot_strndup(arena, alias, (size_t)(colon - alias));
    out->variable = depot_strndup(arena, name, name_len);
    out->unit = name[name_len] == '=' ? name + name_len + 1 : NULL;
    return true;
}

/* ---- passwords inside URLs ---- */
/* Where the password of scheme://user:PASSWORD@host stands. */
static bool find_userinfo(const char *url, const char **out, size_t *out_n)
{
    const char *scheme = strstr(url, "://");
    const char *host = scheme == NULL ? NULL : scheme + 3;
    const char *at = NULL;

    for (const char *s = host; s != NULL && *s != '\0' && strchr("/?#", *s) == NULL; s++) {
        at = *s == '@' ? s : at;
    }
    const char *colon = at == NULL ? NULL : memchr(host, ':', (size_t)(at - host));
    if (colon == NULL) {
        return false;
    }
    *out = colon + 1;
    *out_n = (size_t)(at - colon) - 1;
    return *out_n > 0;
}

/* Where the password of ?password=PASSWORD&… or of libpq's password=PASSWORD or password='PASS WORD' stands. */
static bool find_parameter(const char *url, const char **out, size_t *out_n)
{
    const char *key = strstr(url, "password");
    const char *s = key == NULL ? NULL : key + strlen("password");

    while (s != NULL && (*s == ' ' || *s == '\t')) {
        s++;
    }
    if (s == NULL || *s != '=') {
        return false;
    }
    s += 1 + strspn(s + 1, " \t");
    if (*s == '\'') {
        *out = ++s;
        while (*s != '\0' && *s != '\'') {
            s += s[0] == '\\' && s[1] != '\0' ? 2 : 1;
        }
        *out_n = (size_t)(s - *out);
    } else {
        *out = s;
        *out_n = strcspn(s, "& \t");
    }
    return *out_n > 0;
}

const char *conf_mask_url(depot_arena *arena, const char *url, const char **out_password)
{
    const char *password = NULL;
    size_t      n = 0;

    *out_password = NULL;
    if (!find_userinfo(url, &password, &n) && !find_parameter(url, &password, &n)) {
        return url;
    }
    *out_password = depot_strndup(arena, password, n);
    return depot_strf(arena, "%.*s" CONF_MASK "%s", (int)(password - url), url, password + n);
}
