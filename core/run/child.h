/* child.h - the one way to start another program: argv, no shell, clean environment, own process group. */
#ifndef RUN_CHILD_H
#define RUN_CHILD_H

#include <sys/types.h>

#include "depot/base.h"

typedef struct child_spec {
    const char *const *argv; /* argv[0] absolute */
    const char *const *env;  /* whole environment, NULL terminated; NULL: PATH, LANG, TZ of ours and nothing else */
    const char        *cwd;  /* NULL: / */
    int   in, out, err;      /* descriptors to become 0, 1, 2; -1: /dev/null */
    int   keep;              /* one more descriptor to become 3 in the child; -1: none. All others are closed. */
    uid_t uid;               /* with gid: drop to this user (initgroups by name below); (uid_t)-1: stay */
    gid_t gid;
    const char *user;        /* name for initgroups; NULL: no supplementary groups */
    int64_t memory_limit;    /* RLIMIT_AS in bytes; 0: none */
    /* die_with_parent: SIGKILL when the thread that started it ends, so start such children from a thread that stays. */
    bool    no_new_privs, die_with_parent;
    bool    own_session; /* not only a group: child_end_session finds what it has started, in whatever group that is */
} child_spec;
#define CHILD_SPEC_INIT { .in = -1, .out = -1, .err = -1, .keep = -1, .uid = (uid_t)-1, .gid = (gid_t)-1 }

/* What a program of a plugin or script gets: PATH, LANG, TZ, and at most CHILD_ENV_MAX more, "NAME=value", which win. */
enum { CHILD_ENV_MAX = 64 };
const char *const *child_env(depot_arena *arena, const char *const *extra);

typedef struct child {
    pid_t pid;   /* 0: none */
    int   pidfd; /* readable when it has ended */
} child;

/* exec failures are reported here, with the program's name. */
bool child_start(const child_spec *spec, child *out, depot_err *err) DEPOT_MUST_USE;
/* true: it has ended, *out_status is its exit status or 128 + signal, and c is empty. false: still runs at the deadline. */
bool child_wait(child *c, int64_t timeout_ms, int *out_status);
void child_kill(child *c, int sig); /* the whole group; no-op when it has ended */
/* Of one with own_session that is ending: waits until it has, kills whoever of its session is left. To be reaped after that. */
void child_end_session(child *c, int64_t grace_ms);
/* TERM, then KILL after grace_ms; reaps. */
void child_stop(child *c, int sig, int64_t grace_ms, int *out_status);

typedef struct child_result {
    int    status;
    char  *out, *err_out;
    size_t out_len, err_len;
    bool   truncated;
} child_result;
/* Start, feed input, collect at most output_max bytes of each stream, wait until the program has ended and everybody in its
 * group has closed both streams. At the deadline (TIMEOUT) or when the unit of work is canceled the group is killed. */
bool child_run(depot_arena *arena, const child_spec *spec, const void *input, size_t input_len, size_t output_max,
               int64_t timeout_ms, child_result *out, depot_err *err) DEPOT_MUST_USE;

#endif
