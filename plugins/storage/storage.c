/* storage.c - the storage plugin: content-addressed files in the seeds' layout. Tables and life cycle. */
#include "storage.h"

/* clang-format off */
static const depot_field options[] = {
    DEPOT_OPT_PATH(storage_options, root, "depot", .env = "ASSET_STORAGE_PATH",
        .doc = "folder of the store, with objects/, refs/ and tmp/ on one file system"),
    DEPOT_OPT_INT(storage_options, level, "1", 1, 9,
        .doc = "gzip level of new objects: 1 is fast, 9 small; objects of all levels can be read"),
    DEPOT_OPT_LIST(storage_options, import, NULL, .flags = DEPOT_RELOADABLE, .env = "DEPOT_IMPORT",
        .doc = "folders whose files scripts may store by path with depot.storage.put_file"),
    DEPOT_OPT_SIZE(storage_options, script_max, "16MiB", 1024, 1LL << 30, .flags = DEPOT_RELOADABLE,
        .doc = "largest content that depot.storage.get returns to a script"),
};

static const depot_field corrupt_payload[] = {
    { .name = "sha", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "name of the damaged object" },
    { .name = "why", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED, .doc = "what is wrong with it" },
    { .name = NULL },
};

static const depot_event_row events[] = {
    { "storage.object_corrupt", corrupt_payload, "a scrub found an object whose content does not match its name" },
};

static const char *const put_labels[] = { "object", NULL };

static const depot_metric metrics[] = {
    { .name = "depot_storage_puts_total", .kind = DEPOT_COUNTER, .labels = put_labels, .doc = "puts by object: new, known" },
    { .name = "depot_storage_put_bytes_total", .kind = DEPOT_COUNTER, .labels = put_labels, .doc = "uncompressed bytes put, by object: new, known" },
    { .name = "depot_storage_objects", .kind = DEPOT_GAUGE, .doc = "objects seen by the last scrub" },
    { .name = "depot_storage_stored_bytes", .kind = DEPOT_GAUGE, .doc = "bytes of the object files seen by the last scrub" },
    { .name = "depot_storage_corrupt_objects", .kind = DEPOT_GAUGE, .doc = "damaged objects found by the last scrub" },
};

static const depot_task_row tasks[] = {
    { .name = "storage.scrub", .timeout_ms = 86400000, .fn = storage_scrub,
      .doc = "read every object against its name; result {objects, stored_bytes, corrupt, bad}" },
    { .name = "storage.sweep", .every = "10m", .fn = storage_sweep,
      .doc = "remove what interrupted puts left in tmp/ more than an hour ago; result {removed}" },
};

static const depot_service services[] = { { "storage", 1, &storage_service } };
/* clang-format on */

DEPOT_PLUGIN(storage) {
    .version = "1.0",
    .summary = "content-addressed store of files: durable puts, verified reads",
    .options_size = sizeof(storage_options),
    .options = DEPOT_TABLE(options),
    .services = DEPOT_TABLE(services),
    .events = DEPOT_TABLE(events),
    .tasks = DEPOT_TABLE(tasks),
    .routes = DEPOT_TABLE(storage_routes),
    .lua = DEPOT_TABLE(storage_lua),
    .metrics = DEPOT_TABLE(metrics),
    .start = store_open,
    .worker = store_open,
};
