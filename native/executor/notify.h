/* sd_notify(3) across the container's border. */
#ifndef CORRAL_NOTIFY_H
#define CORRAL_NOTIFY_H

#include "context.h"

/* A foreground `run` relays while it waits for its container: NOTIFY_RELAY then only arms these. -1 = nothing to do,
 * or done. Poll for reading, then call notify_pump(). */
int notify_fd(void);
/* Reads one datagram and forwards readiness. Never blocks. Returns 1 once READY=1 went to the host (the descriptor is
 * closed then), 0 if there is more to wait for, or -errno with a detail. */
int notify_pump(struct context *c);

#endif
