/* local_migrate.c - migrations: by the running daemon, which knows the owner role; while it is away as that role, when
 * [database] owner_url names it. */
#include <string.h>

#include "app/app.h"
#include "ctl/call.h"
#include "ctl/internal.h"
#include "db/migrate.h"

enum { CONNECT_MS = 10000, SETS_MAX = 66 };

/* What both verbs work on. */
typedef struct schema {
    depot_db   *db;
    const char *sql_dir;
    const char *sets[SETS_MAX];
    migration  *rows;
    size_t      n;
} schema;

static void schema_close(schema *s)
{
    db_disconnect(&s->db);
}

static void list_sets(const ctl *c, const conf_raw *raw, schema *s)
{
    const char *name, *file;
    size_t      n = 0;
    int         line;

    s->sets[n++] = "core";
    for (size_t i = 1; i < host_count(c->host) && n + 1 < SETS_MAX; i++) {
        const depot_ctx *ctx = host_plugin(c->host, i);

        for (size_t it = 0; ctx->desc.migrations != NULL && conf_raw_next(raw, "plugin", &it, &name, &file, &line);) {
            if (strcmp(name, ctx->name) == 0) {
                s->sets[n++] = ctx->desc.migrations;
                break;
            }
        }
    }
}

/* owner: may change the schema; else reading is enough. */
static bool schema_open(ctl *c, bool owner, schema *s, depot_err *err)
{
    const app_database_options *db = conf_get(host_conf(c->host), "database", NULL);
    const char                 *url = db->owner_url;

    if (url == NULL && !owner) {
        url = db->direct_url != NULL ? db->direct_url : db->url;
    }
    if (url == NULL) {
        DEPOT_FAIL(err, UNAVAILABLE, "depotd does not answer, and [database] owner_url is not set");
        return depot_hint(err, db->url == NULL ? "start depotd: its own PostgreSQL runs only together with it"
                                               : "start depotd, or set owner_url (DATABASE_OWNER_URL)");
    }
    s->sql_dir = depot_strf(c->arena, "%s/sql", host_environment(c->host)->data_dir);
    list_sets(c, conf_read(c->arena, c->options.conf_dir, conf_problems_new(c->arena)), s);
    return db_connect(url, "depotctl", CONNECT_MS, &s->db, err) &&
           migrate_status(s->db, c->arena, s->sql_dir, s->sets, &s->rows, &s->n, err);
}

/* ---- by the daemon ---- */
static depot_json *row_of(ctl *c, const depot_json *reported, bool applied)
{
    return depot_json_pack(c->arena, "{s:s?, s:I, s:s?, s:s, s:s?}", "set", depot_json_get_str(reported, "set", NULL),
                           "number", depot_json_get_int(reported, "number", 0), "name",
                           depot_json_get_str(reported, "name", NULL), "state", applied ? "applied" : "pending",
                           "applied_at", depot_json_get_str(reported, "applied_at", NULL));
}

/* all: every migration; else only those that are pending. */
static depot_json *reported_rows(ctl *c, const depot_json *reply, bool all)
{
    depot_json *list = depot_json_array(c->arena);

    for (size_t i = 0; i < depot_json_len(reply); i++) {
        const depot_json *row = depot_json_at(reply, i);
        bool              applied = depot_json_get_bool(row, "applied", false);

        if (all || !applied) {
            depot_json_add(list, row_of(c, row, applied));
        }
    }
    return list;
}

/* Of the rows that were pending, those that are applied in after. */
static depot_json *newly_applied(ctl *c, const depot_json *pending, const depot_json *after)
{
    depot_json *list = depot_json_array(c->arena);

    for (size_t i = 0; i < depot_json_len(after); i++) {
        const depot_json *row = depot_json_at(after, i);

        for (size_t p = 0; depot_json_get_bool(row, "applied", false) && p < depot_json_len(pending); p++) {
            const depot_json *was = depot_json_at(pending, p);

            if (depot_json_get_int(was, "number", -1) == depot_json_get_int(row, "number", -2) &&
                strcmp(depot_json_get_str(was, "set", ""), depot_json_get_str(row, "set", "-")) == 0) {
                depot_json_add(list, row_of(c, row, true));
            }
        }
    }
    return list;
}

/* The daemon's list. *out stays NULL when the daemon is away and the files may answer instead. */
static bool ask_daemon(ctl *c, const depot_json **out, depot_err *err)
{
    bool away = false;

    if (call_get(&c->options, "/v1/migrations", c->arena, out, &away, err)) {
        return true;
    }
    if (!away || c->options.url != NULL) {
        return false;
    }
    *err = (depot_err){ .code = DEPOT_OK };
    ctl_note(c, "depotd does not answer; connecting to the database");
    return true;
}

static int up_by_daemon(ctl *c, const verb_call *call, const depot_json *before)
{
    const ctl_request request = { .method = "POST", .target = "/v1/migrations", .body = "{}", .is_long = true };
    const depot_json *pending = reported_rows(c, before, false);
    call_reply        reply;
    depot_err         err = { 0 };

    if (depot_json_len(pending) == 0 || depot_json_get_bool(call->args, "dry_run", false)) {
        return ctl_print(c, call, pending);
    }
    if (!call_daemon(&c->options, &request, c->arena, &reply, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    if (reply.status >= 400) {
        call_refused(&reply, c->arena, &err);
        return ctl_error(c, call->verb, &err);
    }
    const depot_json *after = depot_json_parse(c->arena, reply.body, reply.len, &err);
    return after == NULL ? ctl_error(c, call->verb, &err) : ctl_print(c, call, newly_applied(c, pending, after));
}

/* ---- by depotctl ---- */
static depot_json *file_row(ctl *c, const migration *m, bool applied)
{
    return depot_json_pack(c->arena, "{s:s, s:i, s:s, s:s, s:s?}", "set", m->set, "number", m->number, "name", m->name,
                           "state", applied ? "applied" : "pending", "applied_at", m->applied_at);
}

static depot_json *file_rows(ctl *c, const schema *s, bool all)
{
    depot_json *list = depot_json_array(c->arena);

    for (size_t i = 0; i < s->n; i++) {
        if (all || !s->rows[i].applied) {
            depot_json_add(list, file_row(c, &s->rows[i], s->rows[i].applied));
        }
    }
    return list;
}

int local_migrate_status(ctl *c, const verb_call *call)
{
    DEPOT_AUTO(schema_close) schema s = { .db = NULL };
    const depot_json               *reply = NULL;
    depot_err                       err = { 0 };

    if (!ask_daemon(c, &reply, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    if (reply != NULL) {
        return ctl_print(c, call, reported_rows(c, reply, true));
    }
    if (!schema_open(c, false, &s, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    return ctl_print(c, call, file_rows(c, &s, true));
}

typedef struct progress_list {
    ctl        *c;
    depot_json *list;
} progress_list;

static void on_applied(void *arg, const migration *m)
{
    progress_list *p = arg;

    depot_json_add(p->list, file_row(p->c, m, true));
}

int local_migrate_up(ctl *c, const verb_call *call)
{
    DEPOT_AUTO(schema_close) schema s = { .db = NULL };
    progress_list                   done = { c, depot_json_array(c->arena) };
    const depot_json               *reply = NULL;
    size_t                          n = 0;
    depot_err                       err = { 0 };

    if (!ask_daemon(c, &reply, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    if (reply != NULL) {
        return up_by_daemon(c, call, reply);
    }
    if (!schema_open(c, true, &s, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    if (depot_json_get_bool(call->args, "dry_run", false)) {
        return ctl_print(c, call, file_rows(c, &s, false));
    }
    if (!migrate_up(s.db, c->arena, s.sql_dir, s.sets, on_applied, &done, &n, &err)) {
        return ctl_error(c, call->verb, &err);
    }
    return ctl_print(c, call, done.list);
}
