/* parts.h - what the files of core/pg know of each other. */
#ifndef PG_PARTS_H
#define PG_PARTS_H

#include <sys/types.h>

#include "pg/cluster.h"
#include "run/child.h"

#define PG_SUPER "depot_super"
#define PG_OWNER "depot_owner"
#define PG_ROLE "depot"
#define PG_DATABASE "depot"

/* ---- place.c: where a cluster lives and as whom it runs ---- */
typedef struct pg_place {
    const char *asked; /* absolute, as the caller named it; a link to root when moved */
    const char *root;  /* ours, nobody else may write to it; what follows lies in it */
    const char *data, *run, *secrets, *log;
    const char *user; /* service user; NULL: we are not root and stay who we are */
    uid_t       uid;
    gid_t       gid;
    bool        moved, throwaway;
} pg_place;
/* Finds the service user and makes the folders, elsewhere when that user cannot reach dir. */
bool pg_place_find(depot_arena *arena, const char *dir, const char *user, bool throwaway, pg_place *out, depot_err *err)
    DEPOT_MUST_USE;
/* A folder of the service user (or ours) with exactly this mode. */
bool pg_place_mkdir(const pg_place *place, const char *path, bool of_service, unsigned mode,
                    depot_err *err) DEPOT_MUST_USE;
/* Whether the service user may do it: what is 'x' (enter a folder, run a program) or 'r'. */
bool pg_place_may(depot_arena *arena, const pg_place *place, char what, const char *path, bool *out, depot_err *err)
    DEPOT_MUST_USE;
/* Holds the folder for this process: fails with LOCKED while another one runs a cluster in it. */
bool pg_place_lock(const pg_place *place, int *out_fd, depot_err *err) DEPOT_MUST_USE;
bool pg_place_remove(const pg_place *place, depot_err *err) DEPOT_MUST_USE; /* all of it, the link too */
/* A program of PostgreSQL's as the service user. */
child_spec pg_place_spec(const pg_place *place, const char *const *argv, const char *const *env);
int64_t    pg_place_free_bytes(const pg_place *place); /* room on its disk; INT64_MAX: not known */

/* ---- find.c ---- */
typedef struct pg_programs {
    const char *bindir, *version; /* "15.18" */
    int         major;
} pg_programs;
/* major 0: the newest, or what wanted names. */
bool pg_find_programs(depot_arena *arena, const char *wanted, int major, pg_programs *out,
                      depot_err *err) DEPOT_MUST_USE;
/* 0: no cluster is there. */
bool pg_major_of(depot_arena *arena, const char *data, int *out, depot_err *err) DEPOT_MUST_USE;

/* ---- init.c ---- */
typedef struct pg_secrets {
    char *super, *owner, *role; /* passwords: hex digits */
    bool  super_is_new, owner_is_new, role_is_new;
} pg_secrets;
bool pg_secrets_load(depot_arena *arena, const pg_place *place, pg_secrets *out, depot_err *err) DEPOT_MUST_USE;
/* initdb in data.new, which becomes data when it is complete; not yet settled. */
bool pg_init(depot_arena *arena, const pg_place *place, const pg_programs *programs, const pg_secrets *secrets,
             depot_err *err) DEPOT_MUST_USE;
/* The superuser's lost password is set anew, by the server's single-user mode. */
bool pg_reset_super(depot_arena *arena, const pg_place *place, const pg_programs *programs, const pg_secrets *secrets,
                    depot_err *err) DEPOT_MUST_USE;
/* Roles, database and rights, as far as they are not there yet. */
bool pg_furnish(depot_arena *arena, const char *super_postgres_url, const char *super_url, const pg_secrets *secrets,
                depot_err *err) DEPOT_MUST_USE;

/* ---- settings.c ---- */
typedef struct pg_address {
    const char *socket_dir;
    bool        own_dir; /* a short folder elsewhere, to be removed with the cluster's stop */
    int         port;
} pg_address;
bool pg_address_find(depot_arena *arena, const pg_place *place, bool tcp, pg_address *out,
                     depot_err *err) DEPOT_MUST_USE;
void pg_address_drop(const pg_place *place, const pg_address *address);
/* What a new cluster lacks until it is settled (settle.c). */
typedef enum pg_stage { PG_UNSYNCED, PG_UNARCHIVED, PG_SETTLED } pg_stage;
bool pg_settings_write(const pg_place *place, const pg_cluster_options *options, const pg_address *address,
                       pg_stage stage, depot_err *err) DEPOT_MUST_USE;
char *pg_url(depot_arena *arena, const pg_address *address, const char *role, const char *password,
             const char *database);

/* ---- settle.c: a new cluster is filled without syncs and put on the disk as a whole ---- */
bool pg_unsettled(depot_arena *arena, const pg_place *place); /* whether a new cluster was left before that */
bool pg_unsettled_mark(depot_arena *arena, const char *data, depot_err *err) DEPOT_MUST_USE; /* durable */
/* Afterwards all that the cluster holds is on the disk, and so is what it acknowledges from then on. */
bool pg_settle(depot_arena *arena, const pg_place *place, const pg_cluster_options *options, const pg_address *address,
               const char *super_url, depot_err *err) DEPOT_MUST_USE;

/* ---- server.c ---- */
/* Nothing of an earlier server is left afterwards: a live one is stopped, orphans are ended, stale files removed. */
bool pg_server_clear(depot_arena *arena, const pg_place *place, const pg_address *address,
                     depot_err *err) DEPOT_MUST_USE;
/* Ends every server process that works in the folder. */
bool pg_server_end_all(depot_arena *arena, const char *folder, depot_err *err) DEPOT_MUST_USE;
/* Starts postgres and waits until it answers; fails with what its log says. */
bool pg_server_start(depot_arena *arena, const pg_place *place, const pg_programs *programs, const pg_address *address,
                     int64_t timeout_ms, child *out, depot_err *err) DEPOT_MUST_USE;
void pg_server_stop(const pg_place *place, child *server, int64_t grace_ms);
void pg_server_prune_logs(depot_arena *arena, const pg_place *place);

#endif
