/* test_cluster.c - a cluster of our own through its life: made, taken over, healed, restarted; and what it says when it
 * cannot be. */
#include <netinet/in.h>
#include <sys/socket.h>
#include <signal.h>
#include <sys/wait.h>

#include "tap.h"

#include "pgtest.h"

#include "clustertest.h"

/* One folder that all tests of a durable cluster go on with: what an operator has. */
static const char        *dir;
static pg_cluster_options durable;

static void a_first_start_makes_everything(void)
{
    depot_err err = { 0 };

    dir = in(pgt_dir("state"), "postgres");
    durable.dir = dir;
    pg_cluster *c = start(&durable, &err);
    if (!ok(c != NULL, "a cluster starts in a folder that is not there")) {
        printf("# %s (%s)\n", err.msg, err.hint);
        return;
    }
    ok(pg_cluster_running(c) && pg_cluster_restarts(c) == 0, "running, never restarted");
    ok(strtol(pg_cluster_version(c), NULL, 10) >= 13, "its version");
    is_str(ask(pg_cluster_super_url(c), "show data_checksums"), "on", "with checksums");
    is_str(ask(pg_cluster_super_url(c), "show server_encoding"), "UTF8", "in UTF-8");
    is_str(ask(pg_cluster_super_url(c), "show password_encryption"), "scram-sha-256", "scram");
    is_str(ask(pg_cluster_super_url(c), "select count(*) from pg_hba_file_rules where auth_method <> 'scram-sha-256'"),
           "0", "nobody gets in without a password");
    is_str(ask(pg_cluster_super_url(c), "show listen_addresses"), "", "on no network");
    is_str(ask(pg_cluster_super_url(c), "show fsync"), "on", "durable");
    is_str(ask(pg_cluster_super_url(c), "show archive_mode"), "off", "archives only when told how");
    is_str(ask(pg_cluster_url(c), "select current_user || '@' || current_database()"), "depot@depot",
           "the daemon's role");
    is_str(ask(pg_cluster_owner_url(c), "select current_user || '@' || current_database()"), "depot_owner@depot",
           "the owner");
    is_str(ask(pg_cluster_super_url(c),
               "select bool_or(rolsuper or rolcreatedb or rolcreaterole or rolbypassrls or"
               " rolreplication)::text from pg_roles where rolname in ('depot', 'depot_owner')"),
           "false", "neither is mighty");
    is_str(ask(pg_cluster_super_url(c), "select pg_get_userbyid(datdba) from pg_database where datname = 'depot'"),
           "depot_owner", "the database is the owner's");
    is_int(mode_of(in(dir, "secrets")), 0700, "secrets are closed to others");
    is_int(mode_of(in(dir, "secrets/depot.pw")), 0600, "each of them");
    is_int(mode_of(in(dir, "data")), 0700, "so are the data");
    is_int(mode_of(in(dir, "run")), 0700, "and the socket");
    pg_cluster_stop(c, 10000);
    ok(!pg_cluster_running(c), "stopped");
    is_int(servers_in(dir), 0, "nothing runs any more");
    pg_cluster_free(c);
    ok(exists(in(dir, "data/PG_VERSION")), "the data stay");
}

static void no_password_is_on_a_command_line(void)
{
    depot_err   err = { 0 };
    pg_cluster *c = start(&durable, &err);

    ok(c != NULL, "it starts again");
    const char *const argv[] = { "/bin/sh", "-c", "cat /proc/[0-9]*/cmdline \"$0\"/log/* \"$0\"/*.* |"
                                 " grep -c -a -F -f \"$0/secrets/super.pw\"", dir, NULL };
    child_spec   spec = CHILD_SPEC_INIT;
    child_result result = { 0 };
    spec.argv = argv;
    ok(child_run(pgt_arena, &spec, NULL, 0, 100, 20000, &result, &err),
       "look through all processes, logs and settings");
    is_str(result.out, "0\n", "none shows the password");
    pg_cluster_free(c);
}

static void a_second_one_is_refused(void)
{
    depot_err   err = { 0 };
    pg_cluster *c = start(&durable, &err);

    ok(c != NULL, "one runs");
    ok(start(&durable, &err) == NULL, "a second one in the same folder is refused");
    is_str(depot_err_id(&err), "LOCKED", "as locked");
    ok(answers(pg_cluster_url(c)), "the first is not disturbed");
    pg_cluster_free(c);
}

/* A process that starts the cluster and is killed: what a daemon's SIGKILL leaves behind. */
static void leave_running(void)
{
    int fds[2];
    char byte = 0;

    if (pipe(fds) != 0) {
        abort();
    }
    pid_t pid = fork();
    if (pid == 0) {
        depot_err   err = { 0 };
        pg_cluster *c = start(&durable, &err);
        byte = c != NULL && answers(pg_cluster_url(c)) ? 'y' : 'n';
        if (write(fds[1], &byte, 1) == 1) {
            pause();
        }
        _exit(1);
    }
    close(fds[1]);
    ok(read(fds[0], &byte, 1) == 1 && byte == 'y', "a daemon starts it");
    close(fds[0]);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    ok(servers_in(dir) > 0, "its SIGKILL leaves the server running");
}

static void what_a_killed_daemon_left_is_taken_over(void)
{
    depot_err err = { 0 };

    leave_running();
    pid_t before = pgt_postmaster(in(dir, "data"));
    pg_cluster *c = start(&durable, &err);
    if (!ok(c != NULL, "the next daemon starts")) {
        printf("# %s (%s)\n", err.msg, err.hint);
        return;
    }
    ok(pgt_postmaster(in(dir, "data")) != before && !exists(depot_strf(pgt_arena, "/proc/%d/cwd/base", (int)before)),
       "with a server of its own, the old one is gone");
    ok(answers(pg_cluster_url(c)), "which answers");
    pg_cluster_free(c);

    leave_running();
    before = pgt_postmaster(in(dir, "data"));
    kill(before, SIGKILL); /* and the postmaster too: its children may still run */
    c = start(&durable, &err);
    ok(c != NULL && answers(pg_cluster_url(c)), "after the SIGKILL of both it starts as well");
    pg_cluster_free(c);
}

static void a_crash_is_healed(void)
{
    depot_err   err = { 0 };
    pg_cluster *c = start(&durable, &err);

    ok(c != NULL, "running");
    for (int i = 1; i <= 3; i++) {
        pid_t before = pgt_postmaster(in(dir, "data"));
        kill(before, SIGKILL);
        for (int k = 0; k < 400 && (pg_cluster_restarts(c) < i || !pg_cluster_running(c)); k++) {
            usleep(25000);
        }
        is_int(pg_cluster_restarts(c), i, "the restart is counted");
        ok(answers(pg_cluster_url(c)), "it answers");
    }
    pg_cluster_free(c);
    is_int(servers_in(dir), 0, "and can be stopped");
}

static void stale_files_do_not_stop_it(void)
{
    static const char *const pids[] = { "1\n/somewhere\n", "garbage\n", "", NULL /* our own pid */ };

    for (size_t i = 0; i < DEPOT_N(pids); i++) {
        const char *text = pids[i] == NULL ? depot_strf(pgt_arena, "%d\n%s/data\n", (int)getpid(), dir) : pids[i];
        depot_err   err = { 0 };
        write_text(in(dir, "data/postmaster.pid"), text);
        write_text(in(dir, "run/.s.PGSQL.5432.lock"), text);
        pg_cluster *c = start(&durable, &err);
        ok(c != NULL && answers(pg_cluster_url(c)), "a stale postmaster.pid and socket lock are put aside");
        pg_cluster_free(c);
    }
}

static void a_half_made_folder_is_made_anew(void)
{
    pg_cluster_options options = { .dir = in(pgt_dir("half"), "postgres") };
    depot_err err = { 0 };
    int       status;

    /* Killed in the middle of initdb. */
    pid_t pid = fork();
    if (pid == 0) {
        (void)start(&options, &err);
        _exit(0);
    }
    for (int i = 0; i < 2000 && !exists(in(options.dir, "data.new/base")); i++) {
        usleep(1000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    ok(!exists(in(options.dir, "data")), "killed before it was complete");
    ok(exists(in(options.dir, "data.new")), "something is left of it");
    pg_cluster *c = start(&options, &err);
    if (!ok(c != NULL && answers(pg_cluster_url(c)), "the next start makes it anew")) {
        printf("# %s (%s)\n", err.msg, err.hint);
    }
    ok(!exists(in(options.dir, "data.new")), "and leaves nothing of the first try");
    pg_cluster_free(c);
}

/* What a new cluster is given before it is settled costs no sync, and is worth nothing if the start is cut off. */
static void a_cluster_that_never_settled_is_made_anew(void)
{
    pg_cluster_options options = { .dir = in(pgt_dir("unsettled"), "postgres"), .archive_command = "true", .settle_later = true };
    depot_err   err = { 0 };
    pg_cluster *c = start(&options, &err);

    ok(c != NULL && exists(in(options.dir, "data/depotd.unsettled")), "a new cluster, to be filled");
    is_str(ask(pg_cluster_super_url(c), "show fsync"), "off", "without syncs");
    is_str(ask(pg_cluster_super_url(c), "select current_setting('full_page_writes') || current_setting('synchronous_commit')"), "onon",
           "but its WAL has all that a sync of the whole must find");
    is_str(ask(pg_cluster_super_url(c), "show archive_command"), "", "and without an archive");
    ok(answers(pg_cluster_owner_url(c)), "it answers");
    is_str(ask(pg_cluster_owner_url(c), "create table t (x int)"), "", "a table");
    pg_cluster_free(c);

    c = start(&options, &err);
    ok(c != NULL, "the next start");
    is_str(ask(pg_cluster_owner_url(c), "select to_regclass('t') is null"), "t", "makes it anew");
    is_str(ask(pg_cluster_owner_url(c), "create table t (x int)"), "", "the table again");
    ok(pg_cluster_settle(c, &err), "and now it is put on the disk");
    ok(!exists(in(options.dir, "data/depotd.unsettled")), "the mark is gone");
    is_str(ask(pg_cluster_super_url(c), "show fsync"), "on", "it syncs");
    is_str(ask(pg_cluster_super_url(c), "show archive_command"), "true", "and archives");
    ok(pg_cluster_settle(c, &err), "which needs to be done once only");
    pg_cluster_free(c);

    c = start(&options, &err);
    ok(c != NULL, "another start");
    is_str(ask(pg_cluster_owner_url(c), "select to_regclass('t') is null"), "f", "keeps what is there");
    is_str(ask(pg_cluster_super_url(c), "show fsync"), "on", "syncing from the beginning");
    pg_cluster_free(c);
}

static void a_lost_password_is_set_anew(void)
{
    static const char *const names[] = { "super", "owner", "depot" };

    for (size_t i = 0; i < DEPOT_N(names); i++) {
        depot_err err = { 0 };
        ok(unlink(in(dir, depot_strf(pgt_arena, "secrets/%s.pw", names[i]))) == 0, names[i]);
        pg_cluster *c = start(&durable, &err);
        if (!ok(c != NULL, "it starts without the file")) {
            printf("# %s (%s)\n", err.msg, err.hint);
            continue;
        }
        ok(answers(pg_cluster_super_url(c)) && answers(pg_cluster_owner_url(c)) && answers(pg_cluster_url(c)),
           "and every role gets in");
        pg_cluster_free(c);
    }
    depot_err err = { 0 };
    write_text(in(dir, "secrets/depot.pw"), "x'; drop\n");
    ok(start(&durable, &err) == NULL && err.code == DEPOT_E_CORRUPT, "a password that is none of ours is refused");
    ok(unlink(in(dir, "secrets/depot.pw")) == 0, "as was");
}

static void settings_and_network_are_as_asked(void)
{
    static const char *const settings[] = { "work_mem = 5MB", NULL };
    pg_cluster_options options = durable;
    depot_err err = { 0 };

    options.tcp = true;
    options.settings = settings;
    options.archive_command = "echo 'it''s' \"%p\" > /dev/null";
    pg_cluster *c = start(&options, &err);
    if (!ok(c != NULL, "with TCP, settings and archiving")) {
        printf("# %s (%s)\n", err.msg, err.hint);
        return;
    }
    const char *port = ask(pg_cluster_super_url(c), "show port");
    is_str(ask(pg_cluster_super_url(c), "show listen_addresses"), "127.0.0.1", "on loopback only");
    is_str(ask(pg_cluster_super_url(c), "show work_mem"), "5MB", "a setting of ours");
    is_str(ask(pg_cluster_super_url(c), "show archive_command"), options.archive_command, "the command is quoted");
    is_str(depot_strf(pgt_arena, "%s\n", port), read_text(in(dir, "port")), "the port is noted");
    const char *pw = depot_strndup(pgt_arena, read_text(in(dir, "secrets/depot.pw")), 48);
    ok(answers(depot_strf(pgt_arena, "postgresql://depot:%s@127.0.0.1:%s/depot", pw, port)), "it answers there");
    pg_cluster_free(c);
    c = start(&options, &err);
    ok(c != NULL, "again");
    is_str(ask(pg_cluster_super_url(c), "show port"), port, "the port stays");
    pg_cluster_free(c);
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons((uint16_t)strtol(port, NULL, 10)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int taken = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int reuse = 1; /* connections to the server that just ended may still be in TIME_WAIT */
    ok(setsockopt(taken, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse)) == 0, "a socket");
    ok(bind(taken, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(taken, 1) == 0, "somebody else takes it");
    c = start(&options, &err);
    ok(c != NULL && strcmp(ask(pg_cluster_super_url(c), "show port"), port) != 0, "another one is found");
    pg_cluster_free(c);
    close(taken);
}

static void logs_do_not_grow_for_ever(void)
{
    depot_err err = { 0 };

    for (int i = 0; i < 9; i++) {
        write_text(in(dir, depot_strf(pgt_arena, "log/postgresql-2001010%d-000000.log", i)), "old");
    }
    pg_cluster *c = start(&durable, &err);
    ok(c != NULL, "a start");
    ok(!exists(in(dir, "log/postgresql-20010101-000000.log")), "old logs are removed");
    const char *const argv[] = { "/bin/sh", "-c", "ls \"$0\"/log | wc -l", dir, NULL };
    child_spec   spec = CHILD_SPEC_INIT;
    child_result result = { 0 };
    spec.argv = argv;
    ok(child_run(pgt_arena, &spec, NULL, 0, 100, 20000, &result, &err), "count them");
    is_str(result.out, "5\n", "five are kept");
    is_str(ask(pg_cluster_super_url(c), "show log_rotation_size"), "10MB", "of a limited size");
    pg_cluster_free(c);
}

static void what_cannot_be_is_said(void)
{
    depot_err err = { 0 };
    pg_cluster_options options = durable;
    const char *version = depot_strdup(pgt_arena, read_text(in(dir, "data/PG_VERSION")));

    options.bindir = "/nowhere";
    ok(start(&options, &err) == NULL, "programs that are not there");
    contains(err.msg, "/nowhere has no PostgreSQL server programs", "the message");
    contains(err.hint, "bindir", "the hint");
    is_int(depot_err_exit(&err), 78, "a fault of the configuration");

    write_text(in(dir, "data/PG_VERSION"), "9\n");
    ok(start(&durable, &err) == NULL, "a cluster of another version");
    contains(err.msg, "PostgreSQL 9", "names it");
    contains(err.hint, "pg_upgrade", "and the way out");
    write_text(in(dir, "data/PG_VERSION"), version);

    static const char *const bad[] = { "no_such_setting = 1", NULL };
    options = durable;
    options.settings = bad;
    ok(start(&options, &err) == NULL, "a setting that PostgreSQL does not know");
    contains(err.msg, "PostgreSQL did not start", "the message");
    contains(err.hint, "startup.log", "where to look");
    is_int(servers_in(dir), 0, "nothing is left running");

    const char *file = in(pgt_dir("file"), "postgres");
    write_text(file, "not a folder");
    options = (pg_cluster_options){ .dir = file };
    ok(start(&options, &err) == NULL && err.msg[0] != '\0', "a file in the way");

    const char *full = in(pgt_dir("foreign"), "postgres");
    ok(chmod(pgt_root, 0755) == 0 && chmod(in(pgt_root, "foreign"), 0755) == 0,
       "a folder that everybody can pass through");
    ok(depot_mkdirs(in(full, "data"), 0700, &err), "a data folder of something else");
    write_text(in(full, "data/precious"), "x");
    options.dir = full;
    ok(start(&options, &err) == NULL && err.code == DEPOT_E_CORRUPT, "is refused");
    ok(exists(in(full, "data/precious")), "and left alone");
}

static void a_deleted_state_folder_means_a_new_cluster(void)
{
    char      before[4096];
    char      after[4096];
    depot_err err = { 0 };

    if (realpath(dir, before) == NULL || strncmp(before, "/var/lib/depotd-embedded/", 25) != 0) {
        skip("a deleted link to a cluster elsewhere", "the cluster is in its place");
        return;
    }
    ok(unlink(dir) == 0, "the state folder is deleted, the cluster elsewhere is not");
    pg_cluster *c = start(&durable, &err);
    ok(c != NULL && answers(pg_cluster_url(c)), "a new cluster is made");
    ok(realpath(dir, after) != NULL && strcmp(before, after) == 0, "at the same place");
    pg_cluster_free(c);
    const char *const argv[] = { "/bin/sh", "-c", "ls -d \"$0\".before-*/data/PG_VERSION && rm -r \"$0\".before-*",
                                 before, NULL };
    child_spec   spec = CHILD_SPEC_INIT;
    child_result result = { 0 };
    spec.argv = argv;
    ok(child_run(pgt_arena, &spec, NULL, 0, 1000, 20000, &result, &err) && result.status == 0,
       "the old one is kept aside");
}

int main(void)
{
    pgt_folders();
    run(a_first_start_makes_everything);
    run(no_password_is_on_a_command_line);
    run(a_second_one_is_refused);
    run(what_a_killed_daemon_left_is_taken_over);
    run(a_crash_is_healed);
    run(stale_files_do_not_stop_it);
    run(a_half_made_folder_is_made_anew);
    run(a_cluster_that_never_settled_is_made_anew);
    run(a_lost_password_is_set_anew);
    run(settings_and_network_are_as_asked);
    run(logs_do_not_grow_for_ever);
    run(what_cannot_be_is_said);
    run(a_deleted_state_folder_means_a_new_cluster);
    remove_moved();
    pgt_end();
    return done();
}
