/* worker.c - start of a worker process: the daemon's configuration and plugins, then the script loop. */
#include <stdio.h>

#include "app/app.h"
#include "base/log.h"
#include "lua/scripts.h"

enum { DAEMON_FD = 3, THREADS = 2, QUEUE = 256 };

int app_worker(const app_paths *paths)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    conf_problems                            *problems = conf_problems_new(arena);
    host_env                                  env = { .worker = true };
    const conf                               *c = NULL;
    const char                               *packed;
    depot_err                                 err = { 0 };

    app_protect(); /* the greeting brings the daemon's variables and the database's password */
    if (!worker_greet(DAEMON_FD, &packed, &err)) {
        fprintf(stderr, "depotd: error: %s\n", err.msg);
        return depot_err_exit(&err);
    }
    host *h = app_open_packed(arena, paths, &env, packed, problems, &c);
    if (conf_problem_count(problems) > 0) {
        DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };
        conf_problems_print(problems, &text);
        fputs(text.data, stderr);
        return 78;
    }
    env.executor = executor_new(THREADS, QUEUE);
    int status = worker_main(h, DAEMON_FD);
    executor_free(env.executor);
    db_pool_free(env.db); /* worker_main connected it */
    host_free(h);
    return status;
}
