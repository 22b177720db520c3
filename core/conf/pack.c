/* pack.c - a configuration as one text for another process of this program: the values that are in force, whatever has become of
 * files and secrets since they were read. */
#include <string.h>

#include "base/log.h"
#include "conf/data.h"

/* Every ${...} has been replaced: what looks like one is meant as it stands. */
static const char *literal(depot_arena *arena, const char *text)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };

    for (const char *dollar; (dollar = strstr(text, "${")) != NULL; text = dollar + 2) {
        depot_buf_add(&out, text, (size_t)(dollar - text));
        depot_buf_adds(&out, "$${");
    }
    depot_buf_adds(&out, text);
    return depot_strndup(arena, out.data == NULL ? "" : out.data, out.len);
}

/* NULL: no file has it, so that it is there by default or by a variable of the environment. */
static depot_json *pack_section(depot_arena *arena, const conf_section *s)
{
    depot_json *values = depot_json_array(arena);

    if (s->file == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < s->n; i++) {
        const conf_value *v = &s->values[i];
        if (v->file != NULL && v->text != NULL) {
            depot_json_add(values, depot_json_pack(arena, "{s:s, s:s, s:s, s:i}", "key", v->field->name, "text",
                                                   literal(arena, v->text), "file", v->file, "line", v->line));
        }
    }
    return depot_json_pack(arena, "{s:s, s:s?, s:s, s:i, s:o}", "kind", s->kind->kind, "name", s->name, "file", s->file,
                           "line", s->line, "values", values);
}

const char *conf_pack(depot_arena *arena, const conf *c)
{
    depot_json        *sections = depot_json_array(arena);
    depot_json        *secrets = depot_json_array(arena);
    size_t             n = 0;
    const char *const *redacted = log_redacted(arena, &n);

    for (size_t i = 0; i < c->n; i++) {
        depot_json *section = pack_section(arena, c->sections[i]);
        if (section != NULL) {
            depot_json_add(sections, section);
        }
    }
    for (size_t i = 0; i < n; i++) {
        depot_json_add(secrets, depot_json_str(arena, redacted[i]));
    }
    return depot_json_text(arena, depot_json_pack(arena, "{s:s, s:o, s:o}", "dir", c->dir, "sections", sections, "secrets",
                                                  secrets));
}

static bool is_among(const char *kind, const char *const *kinds)
{
    while (*kinds != NULL && strcmp(*kinds, kind) != 0) {
        kinds++;
    }
    return *kinds != NULL;
}

const char *conf_values(depot_arena *arena, const conf *c, const char *const *without)
{
    depot_json *all = depot_json_array(arena);

    for (size_t i = 0; i < c->n; i++) {
        const conf_section *s = c->sections[i];
        if (s->file == NULL || is_among(s->kind->kind, without)) {
            continue;
        }
        depot_json *values = depot_json_object(arena);
        for (size_t k = 0; k < s->n; k++) {
            if (s->values[k].file != NULL && s->values[k].text != NULL) {
                depot_json_set(values, s->values[k].field->name, depot_json_str(arena, s->values[k].text));
            }
        }
        if (depot_json_len(values) == 0 && s->name == NULL) {
            continue; /* as if it were in no file */
        }
        depot_json_add(all, depot_json_pack(arena, "{s:s, s:s?, s:o}", "kind", s->kind->kind, "name", s->name, "values", values));
    }
    return depot_json_text(arena, all);
}

static void unpack_section(conf_raw *raw, const depot_json *row)
{
    const depot_json *values = depot_json_get(row, "values");
    raw_section      *s = raw_add_section(raw, depot_json_get_str(row, "kind", ""), depot_json_get_str(row, "name", NULL),
                                          depot_json_get_str(row, "file", ""), (int)depot_json_get_int(row, "line", 0));

    for (size_t i = 0; s != NULL && i < depot_json_len(values); i++) {
        const depot_json *value = depot_json_at(values, i);
        s->entries = conf_grow(raw->arena, s->entries, s->n, &s->cap, sizeof(*s->entries));
        s->entries[s->n++] = (raw_entry){ .key = depot_json_get_str(value, "key", ""),
                                          .value = depot_json_get_str(value, "text", ""),
                                          .file = depot_json_get_str(value, "file", ""),
                                          .line = (int)depot_json_get_int(value, "line", 0) };
    }
}

conf_raw *conf_unpack(depot_arena *arena, const char *packed, depot_err *err)
{
    const depot_json *all = depot_json_parse(arena, packed, strlen(packed), err); /* its texts live as long as the arena */
    conf_raw         *raw = conf_raw_new(arena);

    if (all == NULL) {
        (void)depot_wrap(err, "the configuration in force");
        return NULL;
    }
    const depot_json *sections = depot_json_get(all, "sections"), *secrets = depot_json_get(all, "secrets");
    raw->dir = depot_json_get_str(all, "dir", NULL);
    for (size_t i = 0; i < depot_json_len(sections); i++) {
        unpack_section(raw, depot_json_at(sections, i));
    }
    for (size_t i = 0; i < depot_json_len(secrets); i++) {
        log_redact_add(depot_json_string(depot_json_at(secrets, i), NULL));
    }
    return raw;
}
