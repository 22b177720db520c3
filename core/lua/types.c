/* types.c - annotations for editors (LuaLS) of everything that scripts can call, made from the tables that say so. */
#include <stdio.h>
#include <string.h>

#include "lua/run.h"
#include "lua/scripts.h"

enum { NAME_MAX_BYTES = 128 };

static const char head[] =
    "---@meta\n"
    "-- Everything that scripts of depotd can call. Made by depotd from its tables: changes are lost.\n"
    "\n"
    "---@class depot.Error\n"
    "---@field code string\n"
    "---@field message string\n"
    "---@field hint? string\n"
    "---@field where? string file:line\n"
    "---@field retry \"no\"|\"safe\"|\"uncertain\"\n"
    "---@field sqlstate? string\n"
    "\n"
    "---@class depot.Arg\n"
    "---@field type string any, array, boolean, duration, integer, number, object, sha256, size, string, time, url, uuid\n"
    "---@field optional? boolean\n"
    "---@field default? any\n"
    "---@field min? integer of a value, of the bytes of a string, of the items of an array\n"
    "---@field max? integer\n"
    "---@field choices? string[]\n"
    "---@field of? string|depot.Arg what an array holds\n"
    "---@field fields? table<string, string|depot.Arg> what an object holds\n"
    "---@field doc? string\n"
    "\n"
    "---@class depot.Job\n"
    "---@field id string\n"
    "---@field queue string\n"
    "---@field attempt integer from 1\n"
    "---@field args table\n"
    "local Job = {}\n"
    "\n"
    "---Writes to the log.\n"
    "---@param level \"debug\"|\"info\"|\"warn\"|\"error\"\n"
    "---@param message any\n"
    "---@param fields? table\n"
    "function Job:log(level, message, fields) end\n"
    "\n"
    "---Runs f once for the job: what it returned is recorded under this name, and returned without running f in later\n"
    "---attempts. As JSON at most 64 KiB.\n"
    "---@param name string\n"
    "---@param f fun(): any\n"
    "---@return any\n"
    "function Job:checkpoint(name, f) end\n"
    "\n"
    "---Runs f in a transaction that commits only if the job's lease is still held: what a late worker did is undone, and\n"
    "---LEASE_LOST raised.\n"
    "---@param f fun(tx: table): ...\n"
    "---@param opts? {serializable?: boolean}\n"
    "---@return ...\n"
    "function Job:tx(f, opts) end\n"
    "\n"
    "---Ends this attempt; the job runs again after that time and is not charged for it.\n"
    "---@param duration string|number\n"
    "---@param reason? string\n"
    "function Job:snooze(duration, reason) end\n"
    "\n"
    "---Ends this attempt with an error of the script's own code; with retry = \"no\" there is no other attempt.\n"
    "---@param code string\n"
    "---@param message string\n"
    "---@param opts? {retry?: string, hint?: string}\n"
    "function Job:fail(code, message, opts) end\n"
    "\n"
    "depot = {}\n"
    "\n"
    "---What JSON null and SQL null are in tables.\n"
    "---@type userdata\n"
    "depot.null = nil\n"
    "\n";

/* Adds each table on the way to a.b.c once. */
static void add_tables(depot_buf *out, const char *name, depot_buf *seen)
{
    for (const char *dot = strchr(name, '.'); dot != NULL; dot = strchr(dot + 1, '.')) {
        char entry[NAME_MAX_BYTES];
        int  n = (int)(dot - name);
        if (snprintf(entry, sizeof(entry), "\n%.*s\n", n, name) < (int)sizeof(entry) &&
            (seen->data == NULL || strstr(seen->data, entry) == NULL)) {
            depot_buf_adds(seen, entry);
            depot_buf_addf(out, "depot.%.*s = {}\n\n", n, name);
        }
    }
}

/* The end of the part that starts at p: a comma or closing bracket of its own level, or the text's end. */
static const char *part_end(const char *p)
{
    int depth = 0;

    for (; *p != '\0'; p++) {
        if (depth == 0 && (*p == ',' || *p == ')')) {
            return p;
        }
        depth += strchr("({<[", *p) != NULL;
        depth -= strchr(")}>]", *p) != NULL;
    }
    return p;
}

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " ");
}

/* "name?: type" becomes an annotation line, its name goes to names. */
static void add_param(depot_buf *out, depot_buf *names, const char *p, const char *end)
{
    const char *colon = memchr(p, ':', (size_t)(end - p));
    const char *name_end = colon == NULL ? end : colon;
    const char *type = colon == NULL ? "any" : skip_blanks(colon + 1);
    int         type_n = colon == NULL ? 3 : (int)(end - type);

    depot_buf_addf(out, "---@param %.*s %.*s\n", (int)(name_end - p), p, type_n, type);
    if (name_end > p && name_end[-1] == '?') {
        name_end--;
    }
    depot_buf_addf(names, "%s%.*s", names->len > 0 ? ", " : "", (int)(name_end - p), p);
}

static void add_returns(depot_buf *out, const char *p)
{
    p = skip_blanks(p);
    if (*p != ':') {
        return;
    }
    for (p = skip_blanks(p + 1); *p != '\0';) {
        const char *end = part_end(p);
        depot_buf_addf(out, "---@return %.*s\n", (int)(end - p), p);
        p = *end == '\0' ? end : skip_blanks(end + 1);
    }
}

static void add_fn(depot_buf *out, depot_buf *seen, const char *name, const char *text, const char *doc, bool of_job)
{
    depot_buf   names = { 0 };
    const char *p = skip_blanks(text + 1);
    const char *dot = strrchr(name, '.');
    bool        is_method = strncmp(name, "db.", 3) == 0;

    if (!of_job) {
        add_tables(out, name, seen);
    }
    depot_buf_addf(out, "---%s\n", doc);
    while (*p != ')' && *p != '\0') {
        const char *end = part_end(p);
        add_param(out, &names, p, end);
        p = *end == ',' ? skip_blanks(end + 1) : end;
    }
    add_returns(out, *p == ')' ? p + 1 : p);
    if (of_job) {
        depot_buf_addf(out, "function Job:%s(%s) end\n\n", dot + 1, names.len == 0 ? "" : names.data);
    } else if (dot == NULL) {
        depot_buf_addf(out, "function depot.%s(%s) end\n\n", name, names.len == 0 ? "" : names.data);
    } else {
        depot_buf_addf(out, "function depot.%.*s%c%s(%s) end\n\n", (int)(dot - name), name, is_method ? ':' : '.',
                       dot + 1, names.len == 0 ? "" : names.data);
    }
    depot_buf_free(&names);
}

/* conf.d decides the order in which plugins are loaded; a generated file must not change with it. */
static const depot_ctx *next_by_name(host *h, const depot_ctx *last)
{
    const depot_ctx *next = NULL;

    for (size_t i = 0; h != NULL && i < host_count(h); i++) {
        const depot_ctx *ctx = host_plugin(h, i);
        if ((last == NULL || strcmp(ctx->name, last->name) > 0) && (next == NULL || strcmp(ctx->name, next->name) < 0)) {
            next = ctx;
        }
    }
    return next;
}

void scripts_types(host *h, depot_buf *out)
{
    depot_buf seen = { 0 };

    depot_buf_adds(out, head);
    for (size_t i = 0; i < bind_core_count; i++) {
        add_fn(out, &seen, bind_core_fns[i].name, bind_core_fns[i].signature, bind_core_fns[i].doc, false);
    }
    for (size_t i = 0; i < bind_db_count; i++) {
        add_fn(out, &seen, bind_db_fns[i].name, bind_db_fns[i].signature, bind_db_fns[i].doc, false);
    }
    for (size_t i = 0; i < bind_http_count; i++) {
        add_fn(out, &seen, bind_http_fns[i].name, bind_http_fns[i].signature, bind_http_fns[i].doc, false);
    }
    for (size_t i = 0; i < bind_row_count; i++) {
        add_fn(out, &seen, bind_rows[i].name, bind_rows[i].signature, bind_rows[i].doc, false);
    }
    for (const depot_ctx *ctx = NULL; (ctx = next_by_name(h, ctx)) != NULL;) {
        for (size_t f = 0; f < ctx->n_lua; f++) {
            add_fn(out, &seen, ctx->lua[f].name, ctx->lua[f].signature, ctx->lua[f].doc,
                   (ctx->lua[f].flags & DEPOT_LUA_JOB) != 0);
        }
    }
    depot_buf_free(&seen);
}
