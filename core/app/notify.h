/* notify.h - the service manager's notification socket (sd_notify protocol); silent when there is none. */
#ifndef APP_NOTIFY_H
#define APP_NOTIFY_H

#include "depot/base.h"

/* "READY=1", "STATUS=…", "WATCHDOG=1", "STOPPING=1"; several lines are one message. */
void notify_send(const char *fmt, ...) DEPOT_PRINTF(1, 2);
/* RELOADING=1 with the monotonic time that systemd wants beside it. */
void notify_reloading(void);
/* Half the watchdog interval in ms, 0: no watchdog. */
int64_t notify_watchdog_ms(void);

#endif
