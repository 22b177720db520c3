/* pg-tmp.c - a throw-away PostgreSQL for a shell or Python test: `pg-tmp DIR [name=value ...]` starts one, prints its
 * connection strings as lines "url ...", "owner_url ...", "super_url ...", waits for the end of its input or SIGTERM,
 * and removes it. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "pg/cluster.h"

static void on_signal(int sig)
{
    (void)sig; /* only ends read() */
}

static int fail(const depot_err *err)
{
    fprintf(stderr, "pg-tmp: %s\n", err->msg);
    if (err->hint[0] != '\0') {
        fprintf(stderr, "pg-tmp: hint: %s\n", err->hint);
    }
    return 1;
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_signal }; /* without SA_RESTART */
    depot_err        err = { 0 };
    pg_cluster      *cluster = NULL;
    char             byte;

    if (argc < 2) {
        fprintf(stderr, "usage: pg-tmp DIR [name=value ...]\n");
        return 2;
    }
    if (sigaction(SIGTERM, &action, NULL) != 0 || sigaction(SIGINT, &action, NULL) != 0) {
        perror("pg-tmp: sigaction");
        return 1;
    }
    pg_cluster_options options = { .dir = argv[1], .throwaway = true, .settings = (const char *const *)(argv + 2) };
    if (!pg_cluster_start(&options, &cluster, &err)) {
        return fail(&err);
    }
    printf("url %s\nowner_url %s\nsuper_url %s\n", pg_cluster_url(cluster), pg_cluster_owner_url(cluster),
           pg_cluster_super_url(cluster));
    if (fflush(stdout) == 0) {
        while (read(STDIN_FILENO, &byte, 1) > 0) {
        }
    }
    pg_cluster_free(cluster);
    return 0;
}
