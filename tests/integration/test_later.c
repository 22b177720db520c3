/* test_later.c - requests that their handlers pass on: resumed from other threads, answered by the core when the deadline passes or the
 * daemon stops, never twice; and rows of the audit log that are committed with the change. test-tsan: yes */
#include <stdio.h>
#include <string.h>

#include "api/internal.h"
#include "base/clock.h"
#include "base/metrics.h"

#include "tap.h"

#include "pgtest.h"

enum { DEADLINE_MS = 400, PATIENCE_MS = 10000, CALLERS = 8, CALLS = 40 };

static host_env  env;
static host     *plugins;
static depot_req *handed;      /* by the handler to whoever resumes it */
static char       made[] = "made";
static atomic_int n_called;    /* times that a holder's function ran */
static pthread_mutex_t hand_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  hand_over = PTHREAD_COND_INITIALIZER;

/* ---- a route that passes its requests on ---- */

static bool pass_on(depot_ctx *ctx, depot_req *req, depot_err *err)
{
    (void)ctx;
    (void)err;
    depot_req_later(req);
    pthread_mutex_lock(&hand_lock);
    while (handed != NULL) {
        pthread_cond_wait(&hand_over, &hand_lock);
    }
    handed = req;
    pthread_cond_broadcast(&hand_over);
    pthread_mutex_unlock(&hand_lock);
    return true;
}

static depot_req *receive(void)
{
    pthread_mutex_lock(&hand_lock);
    while (handed == NULL) {
        pthread_cond_wait(&hand_over, &hand_lock);
    }
    depot_req *req = handed;
    handed = NULL;
    pthread_cond_broadcast(&hand_over);
    pthread_mutex_unlock(&hand_lock);
    return req;
}

static bool say_done(depot_ctx *ctx, depot_req *req, void *arg, depot_err *err)
{
    (void)ctx;
    (void)err;
    atomic_fetch_add(&n_called, 1);
    return depot_reply_text(req, 201, "text/plain", arg, strlen(arg));
}

static bool say_no(depot_ctx *ctx, depot_req *req, void *arg, depot_err *err)
{
    (void)ctx;
    (void)req;
    (void)arg;
    atomic_fetch_add(&n_called, 1);
    return DEPOT_FAIL(err, CONFLICT, "there is one already");
}

static const depot_field  no_fields[] = { { .name = NULL } };
static const depot_route  routes[] = {
    { .method = "POST", .path = "/pass", .role = DEPOT_OPERATOR, .request = no_fields, .fn = pass_on, .doc = "on a thread" },
    { .method = "POST", .path = "/inline", .role = DEPOT_OPERATOR, .flags = DEPOT_ROUTE_INLINE, .request = no_fields, .fn = pass_on,
      .doc = "on the connection's" },
};
static const depot_plugin core = { .version = "1", .summary = "test", .routes = DEPOT_TABLE(routes) };

/* ---- a connection ---- */

typedef struct line {
    pthread_mutex_t lock;
    pthread_cond_t  woken;
    bool            is_woken;
    depot_req      *req;
} line;

static void wake(void *conn)
{
    line *l = conn;

    pthread_mutex_lock(&l->lock);
    l->is_woken = true;
    pthread_cond_broadcast(&l->woken);
    pthread_mutex_unlock(&l->lock);
}

static void no_headers(void *conn, void (*fn)(void *arg, const char *name, const char *value), void *arg)
{
    (void)conn;
    (void)fn;
    (void)arg;
}

static void ask(line *l, const char *path)
{
    static const depot_transport transport = { wake };
    const depot_req_head         head = { .listen = "control", .method = "POST", .target = path, .peer = "test", .peer_uid = geteuid(),
                                          .content_length = -1, .headers = no_headers };

    *l = (line){ .is_woken = false };
    pthread_mutex_init(&l->lock, NULL);
    clock_cond_init(&l->woken);
    l->req = depot_req_new(&transport, l, &head);
    depot_req_fed(l->req);
}

/* The status of the reply; 0: none within ms. */
static int reply_within(line *l, int64_t ms)
{
    int64_t until = clock_until(ms);
    bool    in_time = true;

    while (depot_req_poll(l->req) != DEPOT_REQ_REPLY && in_time) {
        pthread_mutex_lock(&l->lock);
        while (!l->is_woken && in_time) {
            in_time = clock_cond_wait(&l->woken, &l->lock, until);
        }
        l->is_woken = false;
        pthread_mutex_unlock(&l->lock);
    }
    return depot_req_poll(l->req) == DEPOT_REQ_REPLY ? depot_req_reply(l->req)->status : 0;
}

static const char *body_of(line *l)
{
    const depot_reply_view *view = depot_req_reply(l->req);

    return depot_strndup(pgt_arena, view->body, view->len);
}

static void hang_up(line *l)
{
    depot_req_free(l->req);
    pthread_cond_destroy(&l->woken);
    pthread_mutex_destroy(&l->lock);
}

static const char *rows_about(const char *request_id)
{
    return pgt_ask(depot_strf(pgt_arena, "select coalesce(string_agg(detail ->> 'status', ' ' order by id), 'none') from depot.audit"
                                         " where request_id = '%s'", request_id));
}

/* ---- tests ---- */

static void the_holder_replies(void)
{
    static const char *const paths[] = { "/pass", "/inline" };

    for (size_t i = 0; i < DEPOT_N(paths); i++) {
        line        l;
        ask(&l, paths[i]);
        depot_req  *req = receive();
        const char *id = depot_strdup(pgt_arena, depot_req_id(req));
        is_int(reply_within(&l, 20), 0, "no reply before it is resumed");
        ok(depot_req_waits(req), "it waits");
        ok(depot_req_resume(req, say_done, made), "it is resumed");
        is_int(reply_within(&l, PATIENCE_MS), 201, "the client has the holder's status");
        is_str(body_of(&l), "made", "and body");
        is_str(rows_about(id), "201", "the audit log has it before the reply goes out");
        hang_up(&l);
    }
}

static void the_holder_refuses(void)
{
    line l;

    ask(&l, "/pass");
    ok(depot_req_resume(receive(), say_no, NULL), "it is resumed");
    is_int(reply_within(&l, PATIENCE_MS), 409, "an error is a problem document, as of a handler");
    contains(body_of(&l), "there is one already", "with its words");
    hang_up(&l);
}

static void the_deadline_passes(void)
{
    line l;
    int  before = atomic_load(&n_called);

    ask(&l, "/pass");
    depot_req *req = receive();
    is_int(reply_within(&l, PATIENCE_MS), 503, "the core replies in the holder's place");
    contains(body_of(&l), "DB_COMMIT_UNKNOWN", "and says that nobody knows what became of it");
    ok(!depot_req_waits(req), "the holder can see that");
    hang_up(&l);
    ok(!depot_req_resume(req, say_done, made), "and comes too late");
    is_int(atomic_load(&n_called), before, "its function is not called");
}

static void the_client_hangs_up(void)
{
    line l;
    int  before = atomic_load(&n_called);

    ask(&l, "/pass");
    depot_req  *req = receive();
    const char *id = depot_strdup(pgt_arena, depot_req_id(req));
    hang_up(&l);
    ok(depot_req_resume(req, say_done, made), "what was begun is carried out");
    is_int(atomic_load(&n_called), before + 1, "by the holder's function");
    is_str(rows_about(id), "201", "and stands in the audit log");
}

static void audit_rows_come_with_the_change(void)
{
    static const char *const wants[] = { "201", "201 409" };

    for (size_t i = 0; i < DEPOT_N(wants); i++) {
        DEPOT_AUTO(depot_db_close) depot_db *db = NULL;
        depot_err err = { 0 };
        line      l;
        ask(&l, "/pass");
        depot_req        *req = receive();
        const char       *id = depot_strdup(pgt_arena, depot_req_id(req));
        const depot_audit row = { req, 201, NULL };
        const depot_stmt  stmts[] = { { "select 1", NULL, 0 }, depot_audit_stmt(pgt_arena, &row, 1) };
        ok_err(depot_db_open(api_self->core, &db, &err) && depot_db_batch(db, pgt_arena, stmts, 2, NULL, &err), &err, "one transaction");
        depot_audit_written(&row, 1);
        ok(depot_req_resume(req, i == 0 ? say_done : say_no, made), "then it is resumed");
        ok(reply_within(&l, PATIENCE_MS) != 0, "the client has a reply");
        hang_up(&l);
        ok(pgt_eventually(depot_strf(pgt_arena, "select string_agg(detail ->> 'status', ' ' order by id) from depot.audit where request_id = '%s'",
                                     id), wants[i]), i == 0 ? "no second row" : "but one more when the reply is another one");
    }
    is_str(pgt_ask("select coalesce(broken_id::text, 'intact') from depot.audit_verify()"), "intact", "the chain holds");
}

static void requests_that_are_alike_share_a_row(void)
{
    DEPOT_AUTO(depot_db_close) depot_db *db = NULL;
    depot_err   err = { 0 };
    line        lines[3];
    depot_audit rows[3] = { { .status = 201 }, { .status = 409 }, { .status = 201 } };

    (void)DEPOT_FAIL(&err, CONFLICT, "there is one already");
    const depot_err refusal = err;
    err = (depot_err){ 0 };
    rows[1].err = &refusal;
    for (size_t i = 0; i < 3; i++) {
        ask(&lines[i], "/pass");
        rows[i].req = receive();
    }
    const char      *ids = depot_strf(pgt_arena, "%s %s", depot_req_id(rows[0].req), depot_req_id(rows[2].req));
    const char      *refused = depot_strdup(pgt_arena, depot_req_id(rows[1].req)), *granted = depot_strdup(pgt_arena, depot_req_id(rows[0].req));
    const depot_stmt stmt = depot_audit_stmt(pgt_arena, rows, 3);
    ok_err(depot_db_open(api_self->core, &db, &err) && depot_db_batch(db, pgt_arena, &stmt, 1, NULL, &err), &err, "one transaction");
    depot_audit_written(rows, 3);
    for (size_t i = 0; i < 3; i++) {
        ok(depot_req_resume(rows[i].req, i == 1 ? say_no : say_done, made), "each is resumed");
        ok(reply_within(&lines[i], PATIENCE_MS) != 0, "its client has a reply");
        hang_up(&lines[i]);
    }
    is_str(pgt_ask("select string_agg(r ->> 'request_id', ' ' order by n) || ' ' || bool_and(r ? 'peer' and r ? 'args') || ' ' ||"
                   " count(distinct a.id) from depot.audit a, jsonb_array_elements(detail -> 'requests') with ordinality x(r, n)"),
           depot_strf(pgt_arena, "%s true 1", ids), "granted ones are one row, which lists them");
    is_str(rows_about(refused), "409", "a refused one has its own");
    is_str(rows_about(granted), "none", "the others have none");
    is_str(pgt_ask("select coalesce(broken_id::text, 'intact') from depot.audit_verify()"), "intact", "the chain holds");
}

/* Resumes all, each after a while that ends before, at or after the deadline. */
static void *hold_all(void *arg)
{
    for (int i = 0; i < CALLERS * CALLS; i++) {
        depot_req *req = receive();
        if (i % 4 == 0) {
            usleep(2000);
        }
        *(int *)arg += depot_req_resume(req, say_no, NULL);
    }
    return NULL;
}

static void *call_often(void *arg)
{
    size_t *replies = arg;

    for (int i = 0; i < CALLS; i++) {
        line l;
        ask(&l, i % 2 == 0 ? "/pass" : "/inline");
        if (i % 5 != 0) {
            int status = reply_within(&l, PATIENCE_MS);
            replies[status == 409 ? 0 : status == 503 ? 1 : 2]++;
        }
        hang_up(&l);
    }
    return NULL;
}

static void many_at_a_time(void)
{
    pthread_t callers[CALLERS], holder;
    size_t    replies[CALLERS][3] = { { 0 } }, refused = 0, late = 0, other = 0;
    int       resumed = 0, before = atomic_load(&n_called);

    pthread_create(&holder, NULL, hold_all, &resumed);
    for (size_t i = 0; i < CALLERS; i++) {
        pthread_create(&callers[i], NULL, call_often, replies[i]);
    }
    for (size_t i = 0; i < CALLERS; i++) {
        pthread_join(callers[i], NULL);
        refused += replies[i][0];
        late += replies[i][1];
        other += replies[i][2];
    }
    pthread_join(holder, NULL);
    is_int(refused + late, CALLERS * CALLS * 4 / 5, "who waits has a reply");
    is_int(other, 0, "of one of the two kinds");
    is_int(atomic_load(&n_called) - before, resumed, "the holder's function ran where it was told so");
    ok((size_t)resumed >= refused, "and nobody has a reply of a holder that did not run");
}

static void a_daemon_that_stops_waits(void)
{
    line l;

    ask(&l, "/pass");
    depot_req *req = receive();
    int64_t    began = depot_now_ms();
    api_settle(100);
    int64_t took = depot_now_ms() - began;
    ok(took >= 90 && took < PATIENCE_MS, "as long as it is told");
    is_int(reply_within(&l, PATIENCE_MS), 503, "then it replies itself");
    contains(body_of(&l), "shutting down", "with the reason");
    ok(!depot_req_resume(req, say_done, made), "the holder comes too late");
    hang_up(&l);
    api_settle(PATIENCE_MS);
    ok(depot_now_ms() - began < PATIENCE_MS, "with nothing left it does not wait");
}

/* ---- the daemon's parts that are needed ---- */

static void open_all(void)
{
    depot_err         err = { 0 };
    const char *const sets[] = { "core", NULL };
    db_pool_options   options = { .url = pg_cluster_url(pgt_cluster), .name = "test", .max = 8, .connect_timeout_ms = 5000,
                                  .acquire_timeout_ms = 5000, .statement_timeout_ms = 10000, .lock_timeout_ms = 5000,
                                  .idle_tx_timeout_ms = 10000 };
    const api_limits  limits = { .max_body = 1000, .request_timeout_ms = DEADLINE_MS };

    pgt_migrate(sets);
    for (size_t i = 0; i < api_metrics_n; i++) {
        ok_err(metrics_register("core", &api_metrics[i], &err), &err, "a metric");
    }
    env = (host_env){ .state_dir = pgt_dir("state"), .node = "n1", .executor = executor_new(CALLERS, 64), .db = db_pool_new(&options) };
    plugins = host_new(&env, &core);
    ok_err(api_open(plugins, &limits, &err), &err, "the API opens");
    api_set_ready(true, NULL);
}

static void close_all(void)
{
    executor_drain(env.executor, 5000);
    api_close();
    executor_free(env.executor);
    db_pool_free(env.db);
    host_free(plugins);
}

int main(void)
{
    pgt_begin();
    open_all();
    run(the_holder_replies);
    run(the_holder_refuses);
    run(the_deadline_passes);
    run(the_client_hangs_up);
    run(audit_rows_come_with_the_change);
    run(requests_that_are_alike_share_a_row);
    run(many_at_a_time);
    run(a_daemon_that_stops_waits);
    close_all();
    pgt_end();
    return done();
}
