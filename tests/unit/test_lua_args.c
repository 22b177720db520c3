/* test_lua_args.c - arguments of jobs: how they are declared, what is refused, what the handler gets. */
#include "lua_rig.h"
#include "tap.h"

#define JOB(args) "depot.job('j') { args = " args ", run = function(job) return job.args end }"

static void declarations_are_checked(void)
{
    static const char *const rows[][2] = {
        { JOB("1"), "args must be a table" },
        { JOB("{ 'string' }"), "must be a table of names" },
        { JOB("{ w = 'integr' }"), "args.w: there is no type \"integr\" (did you mean integer?)" },
        { JOB("{ w = 1 }"), "args.w must be the name of a type" },
        { JOB("{ w = { min = 1 } }"), "args.w: type is missing" },
        { JOB("{ w = { type = 'integer', mni = 1 } }"), "args.w: there is no option 'mni' (did you mean min?)" },
        { JOB("{ w = { type = 'integer', min = 'x' } }"), "args.w: min and max must be integers" },
        { JOB("{ w = { type = 'boolean', min = 1 } }"), "args.w: min and max must be integers" },
        { JOB("{ w = { type = 'integer', min = 5, max = 1 } }"), "args.w: min is above max" },
        { JOB("{ w = { type = 'array', max = 0 } }"), "args.w: max must be above 0" },
        { JOB("{ w = { type = 'integer', min = 0, max = 0 } }"), "args.w: max must be above 0" },
        { JOB("{ w = { type = 'integer', min = 1, default = 0 } }"), "the default of w: w: 0 is out of range" },
        { JOB("{ w = { type = 'integer', choices = { 'a' } } }"), "args.w: choices must be a list of strings, for the type string" },
        { JOB("{ w = { type = 'string', of = 'string' } }"), "args.w: of belongs to the type array" },
        { JOB("{ w = { type = 'object', fields = { a = { type = 'array', of = 'sting' } } } }"), "args.w.a: there is no type \"sting\"" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        rig r;
        rig_init(&r);
        rig_file(&r, "handlers/x.lua", rows[i][0]);
        ok(!rig_start(&r, &(rig_options){ 0 }), rows[i][0]);
        contains(r.faults.data, rows[i][1], rows[i][1]);
        contains(r.faults.data, "handlers/x.lua:1: ", "with its place");
        rig_free(&r);
    }
}

#define ALL                                                                                                            \
    "{ path = 'string', width = { type = 'integer', min = 1, max = 10000, default = 256 }, tags = { type = 'array', "  \
    "of = 'string', optional = true, max = 2 }, mode = { type = 'string', choices = { 'fit', 'crop' }, default = "     \
    "'fit' }, wait = 'duration?', ratio = { type = 'number', min = 0, optional = true }, crop = { type = 'object', "   \
    "optional = true, fields = { left = 'integer', top = { type = 'integer', default = 0 } } } }"

static bool run_job(rig *r, const char *text, const char *args)
{
    rig_init(r);
    rig_file(r, "handlers/x.lua", text);
    ok(rig_start(r, &(rig_options){ 0 }), text);
    return rig_run(r, RUN_HANDLER, "j", args, 5000);
}

static void arguments_are_checked_and_filled(void)
{
    static const char *const good[][2] = {
        { "{\"path\":\"a\"}", "{\"mode\":\"fit\",\"path\":\"a\",\"width\":256}" },
        { "{\"path\":\"a\",\"width\":1,\"tags\":[\"x\"],\"mode\":\"crop\",\"ratio\":1.5,\"wait\":\"2s\"}",
          "{\"mode\":\"crop\",\"path\":\"a\",\"ratio\":1.5,\"tags\":[\"x\"],\"wait\":2000,\"width\":1}" },
        { "{\"path\":\"a\",\"width\":null,\"tags\":null}", "{\"mode\":\"fit\",\"path\":\"a\",\"width\":256}" },
        { "{\"path\":\"a\",\"crop\":{\"left\":3}}", "{\"crop\":{\"left\":3,\"top\":0},\"mode\":\"fit\",\"path\":\"a\",\"width\":256}" },
    };
    static const char *const bad[][2] = {
        { "{}", "arguments: path: is missing" },
        { "[1]", "the arguments must be an object" },
        { "null", "the arguments must be an object" },
        { "{\"path\":null}", "path: must be a string" },
        { "{\"path\":\"a\",\"width\":0}", "width: 0 is out of range 1..10000" },
        { "{\"path\":\"a\",\"width\":\"7\"}", "width: must be an integer" },
        { "{\"path\":\"a\",\"widht\":7}", "widht: there is no such field; did you mean \"width\"?" },
        { "{\"path\":\"a\",\"tags\":[1]}", "tags/0: must be a string" },
        { "{\"path\":\"a\",\"tags\":[\"1\",\"2\",\"3\"]}", "tags: 3 items are out of range" },
        { "{\"path\":\"a\",\"mode\":\"cut\"}", "mode: \"cut\" is none of" },
        { "{\"path\":\"a\",\"ratio\":-1}", "ratio: " },
        { "{\"path\":\"a\",\"crop\":{}}", "crop/left: is missing" },
    };
    rig r;

    for (size_t i = 0; i < DEPOT_N(good); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        ok_err(run_job(&r, JOB(ALL), depot_strf(arena, "{\"args\":%s}", good[i][0])), &r.err, good[i][0]);
        is_str(r.json, good[i][1], "what the handler gets");
        rig_free(&r);
    }
    for (size_t i = 0; i < DEPOT_N(bad); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        ok(!run_job(&r, JOB(ALL), depot_strf(arena, "{\"args\":%s}", bad[i][0])), bad[i][0]);
        is_int(r.err.code, DEPOT_E_BAD_PAYLOAD, "BAD_PAYLOAD");
        is_int(depot_err_retry(&r.err), DEPOT_RETRY_NO, "which is not tried again");
        contains(r.err.msg, bad[i][1], bad[i][1]);
        rig_free(&r);
    }
}

static void others_pass_when_the_declaration_says_so(void)
{
    rig r;

    ok(run_job(&r, "depot.job('j') { args = { a = 'integer' }, args_extra = true, run = function(job) return job.args end }",
               "{\"args\":{\"a\":1,\"b\":[null]}}"), "an unknown argument");
    is_str(r.json, "{\"a\":1,\"b\":[null]}", "is there");
    rig_free(&r);
    ok(run_job(&r, "depot.job('j') { run = function(job) return job.args end }", "{\"args\":[1]}"), "without a declaration");
    is_str(r.json, "[1]", "anything passes");
    rig_free(&r);
    ok(!run_job(&r, JOB("{}"), "{\"args\":{\"a\":1}}"), "an empty declaration takes nothing");
    rig_free(&r);
}

int main(void)
{
    run(declarations_are_checked);
    run(arguments_are_checked_and_filled);
    run(others_pass_when_the_declaration_says_so);
    return done();
}
