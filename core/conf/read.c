/* read.c - conf.d as it stands: the files of a folder taken apart and merged into sections, each value with its place. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/data.h"

void *conf_grow(depot_arena *arena, void *items, size_t n, size_t *cap, size_t item_bytes)
{
    if (n < *cap) {
        return items;
    }
    *cap = *cap == 0 ? 8 : *cap * 2;
    void *larger = depot_alloc(arena, *cap * item_bytes);
    if (n > 0) {
        memcpy(larger, items, n * item_bytes);
    }
    return larger;
}

/* FNV-1a: sections are found among thousands without comparing their texts. */
static uint32_t hash_names(const char *kind, const char *name)
{
    uint32_t    hash = 2166136261U;
    const char *parts[] = { kind, name };

    for (size_t i = 0; i < DEPOT_N(parts); i++) {
        for (const char *s = parts[i]; s != NULL && *s != '\0'; s++) {
            hash = (hash ^ (unsigned char)*s) * 16777619U;
        }
        hash = (hash ^ ' ') * 16777619U;
    }
    return hash;
}

static bool is_same_name(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

raw_section *raw_find(const conf_raw *raw, const char *kind, const char *name)
{
    uint32_t hash = hash_names(kind, name);

    for (size_t i = 0; i < raw->n; i++) {
        raw_section *s = raw->sections[i];
        if (s->hash == hash && strcmp(s->kind, kind) == 0 && is_same_name(s->name, name)) {
            return s;
        }
    }
    return NULL;
}

raw_section *raw_add_section(conf_raw *raw, const char *kind, const char *name, const char *file, int line)
{
    raw_section    *s = raw_find(raw, kind, name);
    conf_place_row *place = depot_alloc(raw->arena, sizeof(*place));

    if (s == NULL) {
        if (raw->n == CONF_SECTIONS_MAX) {
            return NULL;
        }
        s = depot_alloc(raw->arena, sizeof(*s));
        s->kind = kind;
        s->name = name;
        s->hash = hash_names(kind, name);
        s->last_place = &s->places;
        raw->sections = conf_grow(raw->arena, raw->sections, raw->n, &raw->cap, sizeof(*raw->sections));
        raw->sections[raw->n++] = s;
    }
    *place = (conf_place_row){ .file = file, .line = line };
    *s->last_place = place;
    s->last_place = &place->next;
    return s;
}

raw_entry *raw_find_entry(const raw_section *section, const char *key)
{
    for (size_t i = 0; i < section->n; i++) {
        if (strcmp(section->entries[i].key, key) == 0) {
            return &section->entries[i];
        }
    }
    return NULL;
}

/* `override = yes` makes a section's lines win over those of files read before. It is no option of any plugin. */
static void take_override(depot_arena *arena, ini_block *block, const char *file, conf_problems *problems)
{
    size_t kept = 0;

    for (size_t i = 0; i < block->n; i++) {
        ini_entry entry = block->entries[i];
        depot_err err = { 0 };

        if (strcmp(entry.key, "override") != 0) {
            block->entries[kept++] = entry;
        } else if (block->override_line != 0) {
            conf_problem(problems, file, entry.line, NULL, "override is set twice (first on line %d)",
                         block->override_line);
        } else {
            block->override_line = entry.line;
            if (!depot_parse_bool(depot_strf(arena, "%.40s", entry.value), &block->is_override, &err)) {
                conf_problem(problems, file, entry.line, err.hint, "override: %s", err.msg);
            }
        }
    }
    block->n = kept;
}

static void merge_entry(conf_raw *raw, raw_section *section, const char *file, const ini_entry *entry, bool is_override,
                        conf_problems *problems)
{
    raw_entry *first = raw_find_entry(section, entry->key);
    raw_entry  mine = { .key = entry->key, .value = entry->value, .file = file, .line = entry->line };

    if (first == NULL) {
        if (section->n == CONF_KEYS_MAX) {
            conf_problem(problems, file, entry->line, NULL, "a section holds at most %u options", CONF_KEYS_MAX);
            return;
        }
        section->entries = conf_grow(raw->arena, section->entries, section->n, &section->cap, sizeof(mine));
        section->entries[section->n++] = mine;
    } else if (first->file == file) {
        conf_problem(problems, file, entry->line, NULL, "%s is set twice (first on line %d)", entry->key, first->line);
    } else if (is_override) {
        *first = mine;
    } else {
        conf_problem(problems, file, entry->line,
                     "remove one; " CONF_OVERRIDE_FILE " and sections with override = yes win over earlier files",
                     "%s is set twice (first on %s:%d)", entry->key, first->file, first->line);
    }
}

static void merge_block(conf_raw *raw, const char *file, ini_block *block, bool is_local, conf_problems *problems)
{
    if (strcmp(block->kind, "plugin") == 0 && block->name == NULL) {
        conf_problem(problems, file, block->line, "write [plugin NAME]", "[plugin] does not say which plugin");
        return;
    }
    raw_section *section = raw_add_section(raw, block->kind, block->name, file, block->line);
    if (section == NULL) {
        conf_problem(problems, file, block->line, NULL, "there are more than %u sections", CONF_SECTIONS_MAX);
        return;
    }
    take_override(raw->arena, block, file, problems);
    for (size_t i = 0; i < block->n; i++) {
        merge_entry(raw, section, file, &block->entries[i], is_local || block->is_override, problems);
    }
}

conf_raw *conf_raw_new(depot_arena *arena)
{
    conf_raw *raw = depot_alloc(arena, sizeof(*raw));

    raw->arena = arena;
    return raw;
}

void conf_read_text(conf_raw *raw, const char *file, const char *text, size_t n, conf_problems *problems)
{
    const char *name = depot_strdup(raw->arena, file); /* its address tells this file from others */
    const char *slash = strrchr(name, '/');
    bool        is_local = strcmp(slash == NULL ? name : slash + 1, CONF_OVERRIDE_FILE) == 0;
    size_t      count = 0;
    ini_block  *blocks = ini_read(raw->arena, name, text, n, &count, problems);

    for (size_t i = 0; i < count; i++) {
        merge_block(raw, name, &blocks[i], is_local, problems);
    }
}

static int is_ini_file(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);

    return n > 4 && entry->d_name[0] != '.' && strcmp(entry->d_name + n - 4, ".ini") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void read_one(conf_raw *raw, const char *dir, const char *name, conf_problems *problems)
{
    const char *path = depot_strf(raw->arena, "%s/%s", dir, name);
    char       *text = NULL;
    size_t      n = 0;
    depot_err   err = { 0 };

    if (depot_read_file(raw->arena, path, CONF_FILE_MAX, &text, &n, &err)) {
        conf_read_text(raw, path, text, n, problems);
    } else {
        conf_problem(problems, path, 0, err.hint[0] == '\0' ? "check its owner and mode" : err.hint, "%s", err.msg);
    }
}

conf_raw *conf_read(depot_arena *arena, const char *dir, conf_problems *problems)
{
    conf_raw       *raw = conf_raw_new(arena);
    size_t          end = strlen(dir);
    struct dirent **names = NULL;

    while (end > 1 && dir[end - 1] == '/') {
        end--;
    }
    raw->dir = depot_strndup(arena, dir, end);
    int n = scandir(raw->dir, &names, is_ini_file, by_bytes);
    if (n < 0) {
        depot_err err = { 0 };
        (void)DEPOT_FAIL_ERRNO(&err, "cannot read the configuration folder");
        conf_problem(problems, raw->dir, 0, "name it with --config DIR, and check owner and mode", "%s", err.msg);
        return raw;
    }
    for (int i = 0; i < n; i++) {
        read_one(raw, raw->dir, names[i]->d_name, problems);
        free(names[i]);
    }
    free(names);
    return raw;
}

bool conf_raw_next(const conf_raw *raw, const char *kind, size_t *it, const char **name, const char **file, int *line)
{
    while (*it < raw->n) {
        const raw_section *s = raw->sections[(*it)++];
        if (strcmp(s->kind, kind) == 0) {
            *name = s->name;
            *file = s->places->file;
            *line = s->places->line;
            return true;
        }
    }
    return false;
}

const char *conf_raw_get(const conf_raw *raw, const char *kind, const char *name, const char *key)
{
    const raw_section *section = raw_find(raw, kind, name);
    const raw_entry   *entry = section == NULL ? NULL : raw_find_entry(section, key);

    return entry == NULL ? NULL : entry->value;
}
