/* depot/table.h - the rows of which a plugin consists. Everything a plugin offers is a row: the core checks it,
 * documents it and exports it (option reference, OpenAPI, Lua types, metric reference, depotctl verbs).
 *
 * Rows only grow at the end; the descriptor tells the core how long a row was when the plugin was built. */
#ifndef DEPOT_TABLE_H
#define DEPOT_TABLE_H

#include "depot/base.h"
#include "depot/json.h"

struct depot_val;                       /* depot/db.h */
typedef struct depot_ctx depot_ctx;     /* one per plugin: valid from check to stop */
typedef struct depot_req depot_req;     /* one HTTP request (depot/http.h) */
typedef struct depot_task depot_task;   /* one run of a task */
typedef struct depot_call depot_call;   /* one call from Lua */
typedef struct depot_event depot_event; /* one event being delivered */

#define DEPOT_TABLE_OF(T)                                                                                              \
    struct {                                                                                                           \
        const T *rows;                                                                                                 \
        uint32_t n, row_size;                                                                                          \
    }
#define DEPOT_TABLE(array) { (array), sizeof(array) / sizeof((array)[0]), sizeof((array)[0]) }

/* ---- one type system for options, request fields, event payloads, task arguments ---- */
typedef enum depot_type {
    DEPOT_T_STRING,   /* const char *; min..max bound its length in bytes when max > 0 */
    DEPOT_T_BOOL,     /* bool */
    DEPOT_T_INT,      /* int64_t in min..max (0..0: the whole range) */
    DEPOT_T_NUMBER,   /* double */
    DEPOT_T_SIZE,     /* int64_t bytes; "64MiB" */
    DEPOT_T_DURATION, /* int64_t milliseconds; "10s" */
    DEPOT_T_ENUM,     /* int64_t index into choices; a string in JSON */
    DEPOT_T_LIST,     /* const char *const *, NULL terminated; comma separated in INI, array of strings in JSON */
    DEPOT_T_PATH,     /* const char *; in INI relative to the state folder unless absolute */
    DEPOT_T_URL,      /* const char * */
    DEPOT_T_SECRET,   /* const char *; masked wherever it is shown */
    DEPOT_T_CRON,     /* const char *, checked */
    DEPOT_T_REGEX,    /* const char *, POSIX extended, checked */
    DEPOT_T_UUID,     /* const char *, 36 characters, lower case */
    DEPOT_T_TIME,     /* const char *, RFC 3339 */
    DEPOT_T_SHA256,   /* const char *, 64 lower case hex digits */
    DEPOT_T_OBJECT,   /* JSON only: members are `fields` (NULL: any) */
    DEPOT_T_ARRAY,    /* JSON only: items have the shape of fields[0] (NULL: any) */
    DEPOT_T_ANY,      /* JSON only */
} depot_type;

enum {
    DEPOT_REQUIRED = 1u << 0,
    DEPOT_RELOADABLE = 1u << 1, /* options: may change while running; a change of any other needs a restart */
    DEPOT_NULLABLE = 1u << 2,   /* JSON: null is fine too */
    DEPOT_IN_QUERY = 1u << 3,   /* request fields: taken from the query; default is the body (path names always win) */
    DEPOT_PRIVATE = 1u << 4,    /* request fields: the audit log keeps their size alone */
};

typedef struct depot_field {
    const char               *name;
    depot_type                type;
    uint32_t                  flags;
    size_t                    offset;  /* options: place in the state struct (use the DEPOT_OPT_* macros) */
    const char               *def;     /* default as text; NULL: none (NULL, 0, false) */
    int64_t                   min, max;
    const char *const        *choices; /* ENUM: NULL terminated */
    const struct depot_field *fields;  /* OBJECT, ARRAY: terminated by a row without a name */
    const char               *env;     /* options: environment variables that override the file, "A|B": first set and not
                                          blank wins; "api:A" counts in the section named api alone; "A=s": a bare
                                          number in A is in seconds */
    const char               *doc;     /* one sentence: meaning and, where it applies, source */
} depot_field;

/* A member of a wrong C type does not compile: the _Generic has one branch. */
#define DEPOT_MEMBER(st, f, ctype) (offsetof(st, f) + 0 * sizeof(char[_Generic(((st *)0)->f, ctype: 1)]))
#define DEPOT_OPT(kind, st, f, ctype, d, ...)                                                                          \
    { .name = #f, .type = DEPOT_T_##kind, .offset = DEPOT_MEMBER(st, f, ctype), .def = (d), __VA_ARGS__ }
#define DEPOT_OPT_STRING(st, f, d, ...) DEPOT_OPT(STRING, st, f, const char *, d, __VA_ARGS__)
#define DEPOT_OPT_PATH(st, f, d, ...) DEPOT_OPT(PATH, st, f, const char *, d, __VA_ARGS__)
#define DEPOT_OPT_URL(st, f, d, ...) DEPOT_OPT(URL, st, f, const char *, d, __VA_ARGS__)
#define DEPOT_OPT_SECRET(st, f, d, ...) DEPOT_OPT(SECRET, st, f, const char *, d, __VA_ARGS__)
#define DEPOT_OPT_CRON(st, f, d, ...) DEPOT_OPT(CRON, st, f, const char *, d, __VA_ARGS__)
#define DEPOT_OPT_BOOL(st, f, d, ...) DEPOT_OPT(BOOL, st, f, bool, d, __VA_ARGS__)
#define DEPOT_OPT_INT(st, f, d, lo, hi, ...) DEPOT_OPT(INT, st, f, int64_t, d, .min = (lo), .max = (hi), __VA_ARGS__)
#define DEPOT_OPT_SIZE(st, f, d, lo, hi, ...) DEPOT_OPT(SIZE, st, f, int64_t, d, .min = (lo), .max = (hi), __VA_ARGS__)
#define DEPOT_OPT_DURATION(st, f, d, lo, hi, ...)                                                                      \
    DEPOT_OPT(DURATION, st, f, int64_t, d, .min = (lo), .max = (hi), __VA_ARGS__)
#define DEPOT_OPT_ENUM(st, f, d, names, ...) DEPOT_OPT(ENUM, st, f, int64_t, d, .choices = (names), __VA_ARGS__)
#define DEPOT_OPT_LIST(st, f, d, ...) DEPOT_OPT(LIST, st, f, const char *const *, d, __VA_ARGS__)

/* A kind of section: [kind] or [kind NAME]. A plugin's own [plugin NAME] section is its descriptor's `options`. */
typedef struct depot_section {
    const char *kind;
    bool        named; /* true: [kind NAME], any number of them; false: [kind], at most one */
    size_t      size;  /* of the struct that its options fill; starts zeroed */
    DEPOT_TABLE_OF(depot_field) options;
    const char *doc;
} depot_section;

typedef struct depot_metric {
    const char       *name; /* depot_<plugin>_<what>_<unit>, counters end in _total */
    depot_metric_kind kind;
    const char *const *labels; /* NULL terminated, or NULL */
    const double     *buckets; /* histograms: ascending, ended by 0; NULL: the seconds scale 1 ms .. 60 s */
    const char       *doc;
} depot_metric;

/* A service is a struct of functions that starts with `uint32_t size`; its type stands in depot/svc_<name>.h. */
typedef struct depot_service {
    const char *name;
    uint32_t    version;
    const void *table;
} depot_service;

typedef struct depot_need {
    const char *service;
    uint32_t    version; /* at least */
    bool        optional;
} depot_need;

/* An event that the plugin emits: noun.verb_past. */
typedef struct depot_event_row {
    const char        *name;
    const depot_field *payload; /* ended by a row without a name */
    const char        *doc;
} depot_event_row;

/* C code that wants to see events (own or others'): runs on the executor. */
typedef struct depot_subscription {
    const char *event; /* name or glob */
    bool (*fn)(depot_ctx *ctx, const depot_event *event, depot_err *err);
} depot_subscription;

enum {
    DEPOT_TASK_SINGLETON = 1u << 0, /* one daemon of the group runs it at a time, judged by database time; else LOCKED */
};

/* What schedules, hooks, HTTP and depotctl may run by name. Runs on the executor. */
typedef struct depot_task_row {
    const char        *name; /* <plugin>.<verb> */
    const depot_field *args; /* ended by a row without a name; NULL: takes none */
    uint32_t           flags;
    const char        *every;      /* housekeeping: runs by itself this often ("5s"); NULL: only when asked for */
    int64_t            timeout_ms; /* 0: 60 s */
    bool (*fn)(depot_ctx *ctx, depot_task *task, depot_err *err);
    const char *doc;
} depot_task_row;

typedef enum depot_role { DEPOT_ANYONE, DEPOT_VIEWER, DEPOT_OPERATOR, DEPOT_ADMIN } depot_role;

enum {
    DEPOT_ROUTE_INLINE = 1u << 0, /* answers from memory in the HTTP thread: must never wait */
    DEPOT_ROUTE_UPLOAD = 1u << 1, /* the body is a stream of bytes: depot_req_read() */
    DEPOT_ROUTE_EARLY = 1u << 2,  /* answers before the database is there */
    DEPOT_ROUTE_LONG = 1u << 3,   /* no request deadline (event streams, large downloads) */
    DEPOT_ROUTE_LIST = 1u << 4,   /* the reply is an array of objects; `reply` says their members */
    DEPOT_ROUTE_JSON = 1u << 5,   /* beside another row for the same requests: this one, unless Accept asks for text; names a listener */
};

typedef struct depot_route {
    const char        *method;
    const char        *path;   /* "/jobs/{id}/replay" */
    const char        *listen; /* "api", "admin"; NULL: both. The control socket serves every route. */
    depot_role         role;
    uint32_t           flags;
    const depot_field *request;  /* path, query (DEPOT_IN_QUERY) and JSON body members; ended by a row without a name */
    const depot_field *reply;    /* members of the JSON reply (LIST: of each item); NULL: no JSON */
    int64_t            max_body; /* bytes; 0: the listener's limit */
    bool (*fn)(depot_ctx *ctx, depot_req *req, depot_err *err);
    const char *cli; /* the depotctl verb: "queue pause <name>"; other request fields become --flags; NULL: none */
    const char *doc;
} depot_route;

enum {
    DEPOT_LUA_WRITE = 1u << 0, /* changes something: refused in read-only scripts */
    DEPOT_LUA_JOB = 1u << 1,   /* with sql: the row job.<name> is a method of the job that runs, not depot.job.<name> */
    DEPOT_LUA_LEASE = 1u << 2, /* with it: false or null says that the job's lease has passed to somebody else (LEASE_LOST) */
};

/* A function that scripts call as depot.<name>(...). The core reads and checks the arguments by the signature, runs fn
 * on a worker's thread pool while the script's coroutine waits, and pushes what fn returned; fn never sees Lua. */
typedef struct depot_lua_fn {
    const char *name;      /* "storage.put" */
    const char *signature; /* "(data: string, opts?: table): string" - types: string integer number boolean table any */
    uint32_t    flags;
    bool (*fn)(depot_ctx *ctx, depot_call *call, depot_err *err);
    const char *doc;
    /* In place of fn: one statement, which runs on the script's connection and so inside its open transaction. It gives one
     * value. Parameters: the arguments in order (table and any as JSON text, null when not given); of a method of the job
     * first the job's id and the token of its lease. The core itself calls the methods job.heartbeat and job.hold around
     * job:tx (still held; held and locked until the end of the transaction) and job.recorded and job.record for
     * job:checkpoint (the value that has this name, in an array of one; record it). */
    const char *sql;
    /* With sql, in the worker, before the statement is sent: may replace parameters, must not wait. NULL: they go as they are. */
    bool (*prepare)(depot_ctx *ctx, depot_arena *arena, struct depot_val *vals, size_t n, depot_err *err);
} depot_lua_fn;

#endif
