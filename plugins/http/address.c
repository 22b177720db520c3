/* address.c - where to listen: TCP addresses and local sockets, with errors that say what to change. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "http.h"

bool address_is_off(const char *address)
{
    static const char *const words[] = { "off", "none", "false", "no", "0" };

    for (size_t i = 0; i < DEPOT_N(words); i++) {
        if (strcasecmp(address, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

static const char *local_path(const char *address)
{
    if (strncmp(address, "unix:", 5) == 0) {
        return address + 5;
    }
    return address[0] == '/' ? address : NULL;
}

typedef struct tcp_address {
    char host[256], port[8];
} tcp_address;

/* host:port, [v6]:port; "*" and nothing stand for every address. */
static bool split(const char *address, tcp_address *out, depot_err *err)
{
    const char *colon = strrchr(address, ':');
    size_t      n = colon == NULL ? 0 : (size_t)(colon - address);
    const char *host = address;
    int64_t     port = 0;

    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host++;
        n -= 2;
    }
    if (colon == NULL || n >= sizeof(out->host) || strlen(colon + 1) >= sizeof(out->port) ||
        !depot_parse_int(colon + 1, &port, err) || port < 0 || port > 65535) {
        *err = (depot_err){ 0 };
        (void)DEPOT_FAIL(err, CONFIG, "\"%.200s\" is not an address", address);
        return depot_hint(err, "write HOST:PORT, such as 127.0.0.1:8000, unix:/PATH, or off");
    }
    snprintf(out->host, sizeof(out->host), "%.*s", (int)n, n == 1 && host[0] == '*' ? "" : host);
    snprintf(out->port, sizeof(out->port), "%s", colon + 1);
    return true;
}

static bool check_path(const char *path, depot_err *err)
{
    if (path[0] != '/') {
        return DEPOT_FAIL(err, CONFIG, "the local socket \"%.200s\" is not an absolute path", path);
    }
    if (strlen(path) > HTTP_UNIX_PATH_MAX) {
        (void)DEPOT_FAIL(err, CONFIG, "the path of the local socket has %zu bytes, the system allows %d: %.150s", strlen(path),
                         HTTP_UNIX_PATH_MAX, path);
        return depot_hint(err, "use a shorter state folder (--state) or address");
    }
    return true;
}

bool address_check(const char *address, depot_err *err)
{
    const char *path = local_path(address);
    tcp_address tcp;

    if (address_is_off(address)) {
        return true;
    }
    return path != NULL ? check_path(path, err) : split(address, &tcp, err);
}

/* ---- local sockets ---- */

static bool set_path(struct sockaddr_un *un, const char *path, depot_err *err)
{
    *un = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (!check_path(path, err)) {
        return false;
    }
    memcpy(un->sun_path, path, strlen(path) + 1);
    return true;
}

/* Removes a socket that nobody answers on. */
static bool clear_stale(const struct sockaddr_un *un, depot_err *err)
{
    DEPOT_AUTO(depot_fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat                    st;

    if (lstat(un->sun_path, &st) != 0) {
        return errno == ENOENT || DEPOT_FAIL_ERRNO(err, "cannot look at %s", un->sun_path);
    }
    if (!S_ISSOCK(st.st_mode)) {
        return DEPOT_FAIL(err, CONFLICT, "%s exists and is not a socket", un->sun_path);
    }
    if (fd < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot make a socket");
    }
    if (connect(fd, (const struct sockaddr *)un, sizeof(*un)) == 0 || errno == EAGAIN) {
        (void)DEPOT_FAIL(err, LOCKED, "another process answers on %s", un->sun_path);
        return depot_hint(err, "stop the other depotd, or give this one its own folder: --state DIR");
    }
    if (errno != ECONNREFUSED) {
        return DEPOT_FAIL_ERRNO(err, "cannot tell whether %s is in use", un->sun_path);
    }
    return unlink(un->sun_path) == 0 || DEPOT_FAIL_ERRNO(err, "cannot remove the old socket %s", un->sun_path);
}

static bool open_local(const char *path, int *out_fd, depot_err *err)
{
    struct sockaddr_un un;

    if (!set_path(&un, path, err) || !clear_stale(&un, err)) {
        return false;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot make a socket");
    }
    /* the mode of an unbound socket becomes the mode of its file: there is no moment in which others could connect */
    if (fchmod(fd, 0600) != 0 || bind(fd, (const struct sockaddr *)&un, sizeof(un)) != 0 || listen(fd, SOMAXCONN) != 0) {
        (void)DEPOT_FAIL_ERRNO(err, "cannot listen on %s", path);
        depot_fd_close(&fd);
        return false;
    }
    *out_fd = fd;
    return true;
}

void address_remove(const char *address)
{
    const char *path = local_path(address);

    if (path != NULL) {
        (void)unlink(path); /* one that stays is found to be stale at the next start */
    }
}

/* ---- TCP ---- */

/* false with errno. */
static bool listen_on(const struct addrinfo *ai, int *out_fd)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;

    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0) {
        *out_fd = fd;
        return true;
    }
    int why = errno;
    depot_fd_close(&fd);
    errno = why;
    return false;
}

static void describe(int fd, char place[128])
{
    struct sockaddr_storage name;
    socklen_t               size = sizeof(name);
    char                    host[64] = "?", port[8] = "?";

    if (getsockname(fd, (struct sockaddr *)&name, &size) == 0 &&
        getnameinfo((struct sockaddr *)&name, size, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        snprintf(place, 128, strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, port);
    }
}

static bool open_tcp(const char *address, const char *option, int *out_fd, depot_err *err)
{
    struct addrinfo  hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    struct addrinfo *found = NULL;
    tcp_address      tcp;

    if (!split(address, &tcp, err)) {
        return false;
    }
    int rc = getaddrinfo(tcp.host[0] == '\0' ? NULL : tcp.host, tcp.port, &hints, &found);
    if (rc != 0) {
        (void)DEPOT_FAIL(err, CONFIG, "cannot find the address of \"%s\": %s", tcp.host, gai_strerror(rc));
        return depot_hint(err, "change %s", option);
    }
    bool ok = listen_on(found, out_fd);
    int  why = errno;
    freeaddrinfo(found);
    if (ok) {
        return true;
    }
    errno = why;
    if (why == EADDRINUSE) {
        (void)DEPOT_FAIL(err, LOCKED, "cannot listen on %s: another program does", address);
        return depot_hint(err, "stop it (ss -ltnp shows it) or change %s", option);
    }
    (void)DEPOT_FAIL_ERRNO(err, "cannot listen on %s", address);
    return depot_hint(err, "change %s", option);
}

bool address_open(const char *address, const char *option, int *out_fd, char place[128], depot_err *err)
{
    const char *path = local_path(address);

    if (path != NULL) {
        snprintf(place, 128, "unix:%s", path);
        return open_local(path, out_fd, err);
    }
    if (!open_tcp(address, option, out_fd, err)) {
        return false;
    }
    snprintf(place, 128, "%.100s", address);
    describe(*out_fd, place);
    return true;
}
