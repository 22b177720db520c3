/* settings.c - how the server is reached and configured: socket folder, port, depotd.conf, connection strings. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "pg/parts.h"

#define PORT_DEFAULT 5432 /* without TCP only a part of the socket's name, in a folder of our own */
#define SOCKET_NAME "/.s.PGSQL.65535"

static bool fits_socket(const char *dir)
{
    return strlen(dir) + strlen(SOCKET_NAME) < sizeof(((struct sockaddr_un *)NULL)->sun_path);
}

/* A folder that an earlier start made: still there, ours, closed to others? */
static bool is_usable(const pg_place *place, const char *dir)
{
    struct stat st;

    return fits_socket(dir) && lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == place->uid &&
           (st.st_mode & 07777) == 0700;
}

/* The system limits a socket's path to 107 bytes: below a deep state folder a short one elsewhere serves. */
static bool short_dir(depot_arena *arena, const pg_place *place, const char **out, depot_err *err)
{
    const char *note = depot_strf(arena, "%s/run.path", place->root);
    char       *known = NULL;
    depot_err   absent = { 0 };

    if (depot_read_file(arena, note, 1024, &known, NULL, &absent)) {
        known[strcspn(known, "\n")] = '\0';
        if (is_usable(place, known)) {
            *out = known;
            return true;
        }
    }
    char *made = depot_strdup(arena, place->user != NULL && access("/run", W_OK) == 0 ? "/run/depotd-XXXXXX"
                                                                                      : "/tmp/depotd-XXXXXX");
    if (mkdtemp(made) == NULL) {
        return DEPOT_FAIL_ERRNO(err, "cannot make a folder for the socket (%s)", made);
    }
    *out = made;
    const char *line = depot_strf(arena, "%s\n", made);
    return pg_place_mkdir(place, made, true, 0700, err) && depot_write_file(note, line, strlen(line), 0600, err);
}

/* The port if it is free on 127.0.0.1 (0: any that is), or 0. */
static int try_port(int port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    socklen_t          size = sizeof(addr);
    DEPOT_AUTO(depot_fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int                on = 1;

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, (struct sockaddr *)&addr, size) != 0 || getsockname(fd, (struct sockaddr *)&addr, &size) != 0) {
        return 0;
    }
    return ntohs(addr.sin_port);
}

/* The port of the last start if nobody else has taken it, else another free one. */
static bool tcp_port(depot_arena *arena, const pg_place *place, int *out, depot_err *err)
{
    const char *note = depot_strf(arena, "%s/port", place->root);
    char       *known = NULL;
    depot_err   absent = { 0 };
    int64_t     port = 0;

    if (depot_read_file(arena, note, 16, &known, NULL, &absent)) {
        known[strcspn(known, "\n")] = '\0';
        if (depot_parse_int(known, &port, &absent) && port > 0 && port < 65536 && try_port((int)port) != 0) {
            *out = (int)port;
            return true;
        }
    }
    *out = try_port(0);
    if (*out == 0) {
        return DEPOT_FAIL_ERRNO(err, "there is no free port on 127.0.0.1");
    }
    const char *line = depot_strf(arena, "%d\n", *out);
    return depot_write_file(note, line, strlen(line), 0644, err);
}

bool pg_address_find(depot_arena *arena, const pg_place *place, bool tcp, pg_address *out, depot_err *err)
{
    *out = (pg_address){ .socket_dir = place->run, .port = PORT_DEFAULT };
    if (!fits_socket(place->run)) {
        out->own_dir = true;
        if (!short_dir(arena, place, &out->socket_dir, err)) {
            return false;
        }
    }
    return !tcp || tcp_port(arena, place, &out->port, err);
}

void pg_address_drop(const pg_place *place, const pg_address *address)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_err err = { 0 };

    if (address->own_dir && depot_remove_tree(address->socket_dir, &err)) {
        (void)unlink(depot_strf(arena, "%s/run.path", place->root)); /* a stale note is checked before use */
    }
}

/* A value for postgresql.conf. */
static void add_quoted(depot_buf *out, const char *name, const char *value)
{
    depot_buf_addf(out, "%s = '", name);
    for (const char *p = value; *p != '\0'; p++) {
        depot_buf_adds(out, *p == '\'' ? "''" : *p == '\\' ? "\\\\" : (const char[]){ *p, '\0' });
    }
    depot_buf_adds(out, "'\n");
}

/* As one entry of a list, which may hold commas and blanks. */
static void add_folder(depot_buf *out, const char *name, const char *dir)
{
    DEPOT_AUTO(depot_buf_free) depot_buf entry = { 0 };

    depot_buf_adds(&entry, "\"");
    for (const char *p = dir; *p != '\0'; p++) {
        depot_buf_adds(&entry, *p == '"' ? "\"\"" : (const char[]){ *p, '\0' });
    }
    depot_buf_adds(&entry, "\"");
    add_quoted(out, name, entry.data);
}

bool pg_settings_write(const pg_place *place, const pg_cluster_options *options, const pg_address *address,
                       pg_stage stage, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };

    depot_buf_adds(&text, "# written by depotd at each start: what is changed here is lost\n");
    add_quoted(&text, "listen_addresses", options->tcp ? "127.0.0.1" : "");
    depot_buf_addf(&text, "port = %d\n", address->port);
    add_folder(&text, "unix_socket_directories", address->socket_dir);
    depot_buf_adds(&text, "cluster_name = 'depotd'\n"
                          "max_connections = 100\n"
                          "password_encryption = 'scram-sha-256'\n"
                          "wal_level = replica\n"
                          "lc_messages = 'C'\n"
                          "timezone = 'UTC'\n"
                          "logging_collector = on\n"
                          "log_timezone = 'UTC'\n"
                          "log_filename = 'postgresql-%Y%m%d-%H%M%S.log'\n"
                          "log_rotation_age = 0\n"
                          "log_rotation_size = 10MB\n"
                          "log_line_prefix = '%m [%p] %q%u@%d %a '\n");
    add_quoted(&text, "log_directory", place->log);
    depot_buf_addf(&text, "archive_mode = %s\n", options->archive_command != NULL ? "on" : "off");
    if (options->archive_command != NULL) {
        add_quoted(&text, "archive_command", stage == PG_SETTLED ? options->archive_command : "");
    }
    if (options->throwaway || stage == PG_UNSYNCED) {
        depot_buf_adds(&text, "fsync = off\n");
    }
    if (options->throwaway) { /* but a commit is written: what a test was told outlives a killed server */
        depot_buf_adds(&text, "full_page_writes = off\n");
    }
    for (const char *const *line = options->settings; line != NULL && *line != NULL; line++) {
        depot_buf_addf(&text, "%s\n", *line);
    }
    return depot_write_file(depot_strf(arena, "%s/depotd.conf", place->root), text.data, text.len, 0644, err);
}

char *pg_url(depot_arena *arena, const pg_address *address, const char *role, const char *password,
             const char *database)
{
    DEPOT_AUTO(depot_buf_free) depot_buf url = { 0 };
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

    depot_buf_addf(&url, "postgresql://%s:%s@/%s?host=", role, password, database);
    for (const char *p = address->socket_dir; *p != '\0'; p++) {
        if (strchr(plain, *p) != NULL) {
            depot_buf_add(&url, p, 1);
        } else {
            depot_buf_addf(&url, "%%%02X", (unsigned)(unsigned char)*p);
        }
    }
    depot_buf_addf(&url, "&port=%d", address->port);
    return depot_strdup(arena, url.data);
}
