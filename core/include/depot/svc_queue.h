/* depot/svc_queue.h - the service "queue", version 1: jobs in PostgreSQL. */
#ifndef DEPOT_SVC_QUEUE_H
#define DEPOT_SVC_QUEUE_H

#include "depot/plugin.h"

typedef struct depot_enqueue {
    const char       *queue;        /* NULL: "default" */
    const char       *type;
    const depot_json *args;         /* one JSON value; NULL: {} */
    const char       *run_at;       /* RFC 3339; NULL: now */
    int64_t           priority;     /* higher first */
    int64_t           max_attempts; /* 0: the queue's */
    const char       *key;          /* at most one job with this key is ever made; NULL: none */
    const char       *actor;        /* who asked: "token:ci", "hook:store-files" */
} depot_enqueue;

typedef struct depot_job {
    const char       *id, *queue, *type;
    int64_t           attempt, max_attempts;
    const depot_json *args;
    const void       *handle; /* the queue's own */
} depot_job;

typedef bool (*depot_job_fn)(void *arg, const depot_job *job, depot_arena *arena, const depot_json **out_result, depot_err *err);

typedef struct depot_queue_v1 {
    uint32_t size;
    /* In the caller's open transaction when db is given, else in one of its own. out_id: 37 bytes; the id of the existing job
     * when the key is known already. */
    bool (*enqueue)(const depot_enqueue *job, depot_db *db, char *out_id, depot_err *err);
    bool (*enqueue_many)(const depot_enqueue *jobs, size_t n, depot_db *db, depot_err *err);
    /* Jobs whose type matches the glob run in C on the executor. Until stop. */
    bool (*serve)(const char *type_glob, depot_job_fn fn, void *arg, depot_err *err);
    /* Since 1.2. Somebody canceled the job that runs, or its lease is lost: a handler that works for long asks now and then, and
     * returns false with CANCELED. A job that was canceled is never run again, whatever its handler returns. */
    bool (*canceled)(const depot_job *job);
} depot_queue_v1;

#endif
