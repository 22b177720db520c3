/* internal.h - the host's own struct, for the files of core/host only. */
#ifndef HOST_INTERNAL_H
#define HOST_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/metrics.h"
#include "host/host.h"

enum { HOST_PLUGINS_MAX = 64, HOST_TROUBLES_MAX = 64 };

/* Something that makes the daemon degraded. */
typedef struct trouble {
    const depot_ctx *ctx; /* NULL: free place */
    char             what[64], why[256];
} trouble;

struct host {
    depot_arena *arena; /* plugins live as long as the process; after the start only under the lock */
    host_env    *env;
    depot_ctx   *plugins[HOST_PLUGINS_MAX]; /* 0 is the core; in order of start after host_resolve */
    size_t       n;
    atomic_bool deaf; /* plugins are being stopped: notifications reach them no more */
    _Atomic(const char *) leaving; /* name of the plugin whose drain or stop is running */
    _Atomic(const conf *) conf;
    pthread_mutex_t       lock; /* guards troubles and, after the start, arena */
    trouble               troubles[HOST_TROUBLES_MAX];
};

/* Normalises tables, checks rows, appends to plugins. */
bool host_adopt(host *h, const char *file, const depot_entry *entry, depot_ctx **out, depot_err *err) DEPOT_MUST_USE;
/* depot_options() and sections of this thread come from c, which is not in force yet; NULL ends it. */
void host_conf_for_thread(const conf *c);
/* Hint: the nearest name among the .so files of the plugin folder. Returns false. */
bool host_hint_plugins(host *h, const char *name, depot_err *err);

#endif
