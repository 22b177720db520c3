/* notify.c - sd_notify without a library: one datagram to $NOTIFY_SOCKET. */
#include "app/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_send(const char *fmt, ...)
{
    const char        *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    char               text[512];
    va_list            ap;

    if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(to.sun_path)) {
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    memcpy(to.sun_path, path, strlen(path));
    if (path[0] == '@') {
        to.sun_path[0] = '\0';
    }
    DEPOT_AUTO(depot_fd_close) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return;
    }
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    /* A manager that is busy is given a moment, as one that misses READY=1 ends us; a sign of life comes again soon, and is sent from
     * the loop, which waits for nobody. A manager that is gone is no fault of ours. */
    const struct timeval moment = { .tv_sec = 1 };
    bool                 may_wait = strncmp(text, "WATCHDOG=", 9) != 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &moment, sizeof(moment)) == 0;
    (void)sendto(fd, text, strlen(text), MSG_NOSIGNAL | (may_wait ? 0 : MSG_DONTWAIT), (const struct sockaddr *)&to, len);
}

void notify_reloading(void)
{
    notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)depot_now_us());
}

int64_t notify_watchdog_ms(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    int64_t     n = 0, who = 0;
    depot_err   err = { 0 };

    if (usec == NULL || !depot_parse_int(usec, &n, &err)) {
        return 0;
    }
    if (pid != NULL && (!depot_parse_int(pid, &who, &err) || who != (int64_t)getpid())) {
        return 0;
    }
    return n / 2000;
}
