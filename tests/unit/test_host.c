/* The plugin host without any .so: tables that cannot be used, services, and who is started, reloaded and stopped. */
#include "host/internal.h"
#include "tap.h"

typedef struct wanted {
    int64_t n;
} wanted;

static bool run_task(depot_ctx *ctx, depot_task *task, depot_err *err)
{
    (void)ctx;
    (void)task;
    (void)err;
    return true;
}

static const depot_task_row core_tasks[] = { { .name = "core.sweep", .fn = run_task, .doc = "sweeps" } };
static const depot_plugin   core = { .version = "1", .summary = "core", .tasks = DEPOT_TABLE(core_tasks) };

static bool adopt(host *h, const char *name, const depot_plugin *plugin, depot_ctx **out, depot_err *err)
{
    const depot_entry entry = { DEPOT_ABI_MAJOR, DEPOT_ABI_MINOR, sizeof(*plugin), sizeof(depot_field), name, plugin };

    return host_adopt(h, NULL, &entry, out, err);
}

/* ---- tables ---- */

static const depot_need         no_service[] = { { NULL, 1, false } };
static const depot_section      no_kind[] = { { .doc = "nothing" } };
static const depot_field        nameless[] = { { .type = DEPOT_T_INT, .doc = "a number" } };
static const depot_field        twice[] = { { .name = "n", .type = DEPOT_T_INT }, { .name = "n", .type = DEPOT_T_INT } };
static const depot_section      bad_options[] = { { "pier", false, sizeof(wanted), DEPOT_TABLE(nameless), "a section" } };
static const depot_section      twice_options[] = { { "pier", false, sizeof(wanted), DEPOT_TABLE(twice), "a section" } };
static const depot_section      no_options[] = { { "pier", false, sizeof(wanted), { NULL, 3, 8 }, "a section" } };
static const depot_event_row    no_name[] = { { NULL, NULL, "something happened" } };
static const depot_subscription no_function[] = { { "a.b", NULL } };
static const depot_metric       no_metric[] = { { .doc = "what" } };
static const depot_service      no_version[] = { { "tide", 0, &core } };
static const depot_task_row     taken[] = { { .name = "core.sweep", .fn = run_task, .doc = "sweeps too" } };
static const depot_task_row     doubled[] = { { .name = "x.y", .fn = run_task, .doc = "a" }, { .name = "x.y", .fn = run_task, .doc = "b" } };

static void tables_that_cannot_be_used_are_refused(void)
{
    static const struct {
        const char  *want;
        depot_plugin plugin;
    } rows[] = {
        { "needs row \"\" has no service", { .needs = DEPOT_TABLE(no_service) } },
        { "sections row \"\" has no kind", { .sections = DEPOT_TABLE(no_kind) } },
        { "pier row \"\" has no name", { .sections = DEPOT_TABLE(bad_options) } },
        { "pier row \"n\" stands twice", { .sections = DEPOT_TABLE(twice_options) } },
        { "pier is no table of 3 rows", { .sections = DEPOT_TABLE(no_options) } },
        { "events row \"\" has no name", { .events = DEPOT_TABLE(no_name) } },
        { "subscriptions row \"a.b\" has no event or no function", { .subscriptions = DEPOT_TABLE(no_function) } },
        { "metrics row \"\" has no name", { .metrics = DEPOT_TABLE(no_metric) } },
        { "services row \"tide\" has no name, version", { .services = DEPOT_TABLE(no_version) } },
        { "both have a task core.sweep", { .tasks = DEPOT_TABLE(taken) } },
        { "tasks row \"x.y\" stands twice", { .tasks = DEPOT_TABLE(doubled) } },
        { "tasks is no table of 4000000000 rows", { .tasks = { doubled, 4000000000U, sizeof(doubled[0]) } } },
        { "tasks is no table of 2 rows", { .tasks = { doubled, 2, 0 } } },
        { "lua is no table of 1 rows", { .lua = { NULL, 1, sizeof(depot_lua_fn) } } },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        host_env   env = { 0 };
        host      *h = host_new(&env, &core);
        depot_ctx *ctx = NULL;
        depot_err  err = { 0 };

        ok(!adopt(h, "bad", &rows[i].plugin, &ctx, &err), rows[i].want);
        contains(err.msg, rows[i].want, "and it says why");
        is_int(err.code, DEPOT_E_ABI, "as a fault of the plugin");
        is_int(host_count(h), 1, "it is not among the plugins");
        host_free(h);
    }
}

/* ---- services ---- */

static const struct clock_table {
    uint32_t size;
} clock_one = { sizeof(clock_one) }, clock_two = { sizeof(clock_two) };

static void the_version_that_was_asked_for_is_handed_out(void)
{
    static const depot_service services[] = { { "clock", 1, &clock_one }, { "clock", 2, &clock_two } };
    static const depot_plugin  plugin = { .version = "1", .services = DEPOT_TABLE(services) };
    host_env                   env = { 0 };
    host                      *h = host_new(&env, &core);
    depot_ctx                 *ctx = NULL;
    depot_err                  err = { 0 };

    ok(adopt(h, "clock", &plugin, &ctx, &err) && host_resolve(h, &err) && host_start(h, false, &err), "a plugin with two versions");
    ok(host_service(h, "clock", 1, &err) == &clock_one, "version 1");
    ok(host_service(h, "clock", 2, &err) == &clock_two, "version 2");
    ok(host_service(h, "clock", 3, &err) == NULL, "version 3 is not there");
    host_free(h);
}

/* ---- life cycle ---- */

static char calls[256];
static bool reload_works;

static void note(const char *what)
{
    (void)strncat(calls, what, sizeof(calls) - strlen(calls) - 1);
}

static bool on_start(depot_ctx *ctx, depot_err *err)
{
    (void)ctx;
    (void)err;
    note("start ");
    return true;
}

static bool on_worker(depot_ctx *ctx, depot_err *err)
{
    (void)ctx;
    (void)err;
    note("worker ");
    return true;
}

static bool on_reload(depot_ctx *ctx, depot_err *err)
{
    (void)ctx;
    return reload_works || DEPOT_FAIL(err, INVALID, "not like this");
}

static void on_drain(depot_ctx *ctx)
{
    (void)ctx;
    note("drain ");
}

static void on_stop(depot_ctx *ctx)
{
    (void)ctx;
    note("stop ");
}

static const char *life_of(const depot_plugin *plugin, bool worker)
{
    host_env   env = { .worker = worker };
    host      *h = host_new(&env, &core);
    depot_ctx *ctx = NULL;
    depot_err  err = { 0 };

    calls[0] = '\0';
    ok(adopt(h, "alive", plugin, &ctx, &err) && host_resolve(h, &err) && host_start(h, false, &err), "a plugin starts");
    host_drain(h);
    host_stop(h);
    host_free(h);
    return calls;
}

static void what_was_not_begun_is_not_ended(void)
{
    static const depot_plugin both = { .start = on_start, .worker = on_worker, .drain = on_drain, .stop = on_stop };
    static const depot_plugin daemon_only = { .start = on_start, .drain = on_drain, .stop = on_stop };

    is_str(life_of(&both, false), "start drain stop ", "in the daemon");
    is_str(life_of(&both, true), "worker drain stop ", "in a worker process");
    is_str(life_of(&daemon_only, false), "start drain stop ", "a plugin of the daemon alone");
    is_str(life_of(&daemon_only, true), "", "is not stopped in a worker that never started it");
}

static size_t troubles(host *h)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();

    return depot_json_len(depot_json_get(host_health(h, arena), "degraded"));
}

static void a_reload_that_works_ends_what_a_failed_one_began(void)
{
    static const depot_plugin plugin = { .reload = on_reload };
    host_env                  env = { 0 };
    host                     *h = host_new(&env, &core);
    depot_ctx                *ctx = NULL;
    depot_err                 err = { 0 };

    ok(adopt(h, "alive", &plugin, &ctx, &err) && host_resolve(h, &err) && host_start(h, false, &err), "a plugin starts");
    reload_works = false;
    host_reload(h);
    is_int(troubles(h), 1, "a reload that fails shows in the daemon's health");
    reload_works = true;
    host_reload(h);
    is_int(troubles(h), 0, "until one succeeds");
    host_free(h);
}

int main(void)
{
    run(tables_that_cannot_be_used_are_refused);
    run(the_version_that_was_asked_for_is_handed_out);
    run(what_was_not_begun_is_not_ended);
    run(a_reload_that_works_ends_what_a_failed_one_began);
    return done();
}
