/* ctl.h - depotctl: verbs come from the tables. A route row's `cli` is a verb; a few verbs work without a daemon and
 * are rows here. Exit status: 0 ok, 1 failed or negative, 2 usage, 3 unhealthy or refused, 78 configuration. */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include "host/host.h"

typedef struct ctl_options {
    const char *state_dir, *conf_dir, *socket, *url, *token_file;
    const char *ca_file; /* PEM: who may have signed the certificate of `url`; NULL: the system's list */
    bool        json, quiet, yes;
    int64_t     timeout_ms; /* of a whole call; 0: until nothing has moved for 60 s */
} ctl_options;

/* Runs the verb in argv (program name not included); prints; returns the exit status. h has all plugins loaded for
 * their tables, not started. */
int ctl_run(host *h, const ctl_options *options, int argc, char **argv);

/* Generated documents: what = "options" | "routes" | "lua" | "metrics" | "errors" | "verbs" | "events" (Markdown),
 * "completion" (bash), "types" (LuaLS), "samples" (conf.d files), "man" (depotctl.1). */
bool ctl_document(host *h, const char *what, depot_buf *out, depot_err *err) DEPOT_MUST_USE;

#endif
