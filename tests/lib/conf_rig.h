/* conf_rig.h - a small set of option tables with every type of option, for the tests and the fuzzer of core/conf. */
#ifndef CONF_RIG_H
#define CONF_RIG_H

#include <string.h>

#include "conf/conf.h"

typedef struct rig_plugin {
    int64_t     batch;
    const char *root;
} rig_plugin;

typedef struct rig_queue {
    int64_t            lease, workers, on_full, max_body;
    double             weight;
    bool               paused;
    const char *const *tags;
    const char        *type, *match, *note;
} rig_queue;

typedef struct rig_database {
    const char *url, *direct_url, *password;
    int64_t     pool;
} rig_database;

typedef struct rig_listen {
    const char *address;
    bool        tls;
    int64_t     idle;
} rig_listen;

typedef struct rig_schedule {
    const char *cron, *id, *from, *sum;
} rig_schedule;

static const char *const rig_on_full[] = { "reject", "wait", "drop", NULL };

static const depot_field rig_plugin_options[] = {
    DEPOT_OPT_INT(rig_plugin, batch, "100", 1, 1000, .flags = DEPOT_RELOADABLE, .doc = "jobs that one claim takes"),
    DEPOT_OPT_PATH(rig_plugin, root, "depot", .doc = "folder of the queue's own files"),
};

static const depot_field rig_queue_options[] = {
    DEPOT_OPT_DURATION(rig_queue, lease, "10s", 1000, 3600000, .flags = DEPOT_RELOADABLE,
                       .doc = "time for which a worker owns a job"),
    DEPOT_OPT_INT(rig_queue, workers, "4", 1, 256, .doc = "jobs that run at a time"),
    DEPOT_OPT_ENUM(rig_queue, on_full, "reject", rig_on_full, .flags = DEPOT_RELOADABLE,
                   .doc = "what enqueue does at the limit"),
    DEPOT_OPT_SIZE(rig_queue, max_body, "1MiB", 1024, 64 << 20, .doc = "largest payload"),
    DEPOT_OPT(NUMBER, rig_queue, weight, double, "0.5", .min = 0, .max = 10, .doc = "share among queues"),
    DEPOT_OPT_BOOL(rig_queue, paused, "no", .flags = DEPOT_RELOADABLE, .doc = "start no job"),
    DEPOT_OPT_LIST(rig_queue, tags, NULL, .flags = DEPOT_RELOADABLE, .doc = "labels of its workers"),
    DEPOT_OPT_STRING(rig_queue, type, "any", .min = 1, .max = 20, .doc = "type of jobs"),
    DEPOT_OPT(REGEX, rig_queue, match, const char *, NULL, .doc = "names that it takes"),
    DEPOT_OPT_STRING(rig_queue, note, NULL, .flags = DEPOT_RELOADABLE, .doc = "free text"),
};

static const depot_field rig_database_options[] = {
    DEPOT_OPT_URL(rig_database, url, NULL, .env = "RIG_URL|RIG_OLD_URL", .doc = "where the database is"),
    DEPOT_OPT_URL(rig_database, direct_url, NULL, .doc = "the same without a pooler"),
    DEPOT_OPT_SECRET(rig_database, password, NULL, .env = "RIG_PASSWORD", .doc = "of the daemon's role"),
    DEPOT_OPT_INT(rig_database, pool, "10", 1, 0, .env = "RIG_POOL", .doc = "connections"),
};

static const depot_field rig_listen_options[] = {
    DEPOT_OPT_STRING(rig_listen, address, NULL, .flags = DEPOT_REQUIRED, .env = "api:RIG_API_ADDR|admin:RIG_ADMIN_ADDR",
                     .doc = "host:port, or off"),
    DEPOT_OPT_BOOL(rig_listen, tls, "no", .doc = "encrypted"),
    DEPOT_OPT_DURATION(rig_listen, idle, "60s", 1000, 3600000, .env = "RIG_IDLE_SECONDS=s", .doc = "until it is closed"),
};

static const depot_field rig_schedule_options[] = {
    DEPOT_OPT_CRON(rig_schedule, cron, NULL, .flags = DEPOT_REQUIRED | DEPOT_RELOADABLE, .doc = "when"),
    DEPOT_OPT(UUID, rig_schedule, id, const char *, NULL, .flags = DEPOT_RELOADABLE, .doc = "who"),
    DEPOT_OPT(TIME, rig_schedule, from, const char *, NULL, .flags = DEPOT_RELOADABLE, .doc = "not before"),
    DEPOT_OPT(SHA256, rig_schedule, sum, const char *, NULL, .flags = DEPOT_RELOADABLE, .doc = "of the script"),
};

#define RIG_OPTIONS(rows, type) .options = (rows), .n = DEPOT_N(rows), .size = sizeof(type)

static const conf_kind rig_kinds[] = {
    { .kind = "plugin", .instance = "queue", .owner = "queue", .doc = "A queue of jobs.",
      RIG_OPTIONS(rig_plugin_options, rig_plugin) },
    { .kind = "queue", .named = true, .owner = "queue", .doc = "One queue and its limits.",
      RIG_OPTIONS(rig_queue_options, rig_queue) },
    { .kind = "database", .owner = "core", .doc = "The database.", RIG_OPTIONS(rig_database_options, rig_database) },
    { .kind = "listen", .named = true, .owner = "core", RIG_OPTIONS(rig_listen_options, rig_listen) },
    { .kind = "schedule", .named = true, .owner = "core", RIG_OPTIONS(rig_schedule_options, rig_schedule) },
};

/* What is wrong with raw, as depotd --check prints it; out (may be NULL) gets what was built. */
static inline const char *rig_build(depot_arena *arena, const conf_raw *raw, const char *state_dir,
                                    conf_problems *problems, const conf **out)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };
    const conf *c = conf_build(arena, raw, rig_kinds, DEPOT_N(rig_kinds), state_dir, problems);

    conf_problems_print(problems, &text);
    if (out != NULL) {
        *out = c;
    }
    return depot_strndup(arena, text.data == NULL ? "" : text.data, text.len);
}

/* The same for one text, as the file a.ini. */
static inline const char *rig_check(depot_arena *arena, const char *text, const char *state_dir, const conf **out)
{
    conf_problems *problems = conf_problems_new(arena);
    conf_raw      *raw = conf_raw_new(arena);

    conf_read_text(raw, "a.ini", text, strlen(text), problems);
    return rig_build(arena, raw, state_dir, problems, out);
}

#endif
