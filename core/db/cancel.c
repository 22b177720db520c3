/* cancel.c - asking the server to stop a statement. libpq opens a second connection for it and waits: on a host that
 * does not answer this takes minutes, so that it gets a thread that nobody waits for. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "db/conn.h"

/* Shared by the thread and whoever asked: the last one frees it. */
struct db_cancel {
    PGcancel   *handle;
    atomic_bool done;
    atomic_int  owners;
};

void db_cancel_release(db_cancel *cancel)
{
    if (cancel != NULL && atomic_fetch_sub(&cancel->owners, 1) == 1) {
        PQfreeCancel(cancel->handle);
        free(cancel);
    }
}

static void *cancel_run(void *arg)
{
    db_cancel *cancel = arg;
    char       reason[256];

    /* A failure shows by the statement going on: its connection is given up then. */
    if (PQcancel(cancel->handle, reason, sizeof(reason)) == 1) {
        atomic_store(&cancel->done, true);
    }
    db_cancel_release(cancel);
    return NULL;
}

db_cancel *db_cancel_start(PGconn *conn)
{
    PGcancel *handle = PQgetCancel(conn);

    if (handle == NULL) {
        return NULL;
    }
    db_cancel *cancel = depot_xalloc(sizeof(*cancel));
    cancel->handle = handle;
    atomic_init(&cancel->owners, 2);
    pthread_t thread;
    if (pthread_create(&thread, NULL, cancel_run, cancel) != 0) {
        atomic_store(&cancel->owners, 1);
        db_cancel_release(cancel);
        return NULL;
    }
    if (pthread_detach(thread) != 0) {
        abort(); /* a thread that was just made can be detached */
    }
    return cancel;
}

bool db_cancel_done(const db_cancel *cancel)
{
    return cancel != NULL && atomic_load(&cancel->done);
}
