/* settle.c - from a new cluster that was filled without syncs to one that keeps what it acknowledges.
 *
 * A file, depotd.unsettled, lies in the data folder until all is on the disk: a start that finds it makes the cluster anew.
 * Nobody was told of anything in it, and one sync of the whole takes a tenth of the time of a sync for each file and each
 * migration. No checkpoint is needed: what the server holds in memory alone is in its WAL with whole pages, which a commit
 * writes also without a sync (so nothing but fsync is off), and files that it still has to sync are known to its
 * checkpointer.
 * WAL is archived only when the cluster is there to stay: its successor would want the same names for other content. */
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/unit.h"
#include "db/pool.h"
#include "pg/parts.h"

#define CONNECT_MS 10000
#define RELOAD_MS 10000
#define LOOK_MS 2

static const char *mark_in(depot_arena *arena, const char *data)
{
    return depot_strf(arena, "%s/depotd.unsettled", data);
}

bool pg_unsettled(depot_arena *arena, const pg_place *place)
{
    return access(mark_in(arena, place->data), F_OK) == 0;
}

bool pg_unsettled_mark(depot_arena *arena, const char *data, depot_err *err)
{
    return depot_write_file(mark_in(arena, data), "", 0, 0644, err);
}

static bool is_syncing(depot_db *db, depot_arena *arena, bool *out, depot_err *err)
{
    depot_rows *rows = NULL;

    if (!depot_db_sql(db, arena, "select current_setting('fsync')::bool as syncs", DEPOT_NO_VALS, &rows, err)) {
        return false;
    }
    *out = depot_bool(rows, 0, "syncs");
    return true;
}

/* Till a session has seen the new settings: the server hands them to all its processes in one go. */
static bool sync_on(depot_db *db, depot_arena *arena, depot_err *err)
{
    static const struct timespec pause = { .tv_nsec = LOOK_MS * 1000000L };
    int64_t                      until = depot_now_ms() + RELOAD_MS;
    bool                         on = false;

    if (!db_script(db, "select pg_reload_conf()", err)) {
        return false;
    }
    while (unit_check(err) && is_syncing(db, arena, &on, err)) {
        if (on) {
            return true;
        }
        if (depot_now_ms() > until) {
            DEPOT_FAIL(err, DB, "fsync is still off %d s after a reload", RELOAD_MS / 1000);
            return depot_hint(err, "see the server's log; ALTER SYSTEM or a command line may hold it off");
        }
        (void)nanosleep(&pause, NULL); /* cut short: looks a little earlier */
    }
    return false;
}

static bool sync_disk(const char *data, depot_err *err)
{
    DEPOT_AUTO(depot_fd_close) int fd = open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return (fd >= 0 && syncfs(fd) == 0) || DEPOT_FAIL_ERRNO(err, "cannot sync the disk of %s", data);
}

static bool mark_remove(depot_arena *arena, const char *data, depot_err *err)
{
    const char *path = mark_in(arena, data);

    if (unlink(path) != 0 && errno != ENOENT) { /* gone: an earlier try failed after this */
        return DEPOT_FAIL_ERRNO(err, "cannot remove %s", path);
    }
    return depot_fsync_dir(data, err);
}

bool pg_settle(depot_arena *arena, const pg_place *place, const pg_cluster_options *options, const pg_address *address,
               const char *super_url, depot_err *err)
{
    DEPOT_AUTO(db_disconnect) depot_db *db = NULL;

    return db_connect(super_url, "depotd/pg", CONNECT_MS, &db, err) &&
           pg_settings_write(place, options, address, PG_UNARCHIVED, err) && sync_on(db, arena, err) &&
           sync_disk(place->data, err) && mark_remove(arena, place->data, err) &&
           pg_settings_write(place, options, address, PG_SETTLED, err) &&
           db_script(db, "select pg_reload_conf()", err);
}
