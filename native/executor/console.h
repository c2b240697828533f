/* The terminal and the standard streams of the container's process. */
#ifndef CORRAL_CONSOLE_H
#define CORRAL_CONSOLE_H

#include "context.h"

/* Gives 0, 1, 2 and the console's slave to the user that the process is about to become: /dev/stdout and the like are
 * opened anew by programs, and the caller's pipes belong to the caller. Where that is not allowed, they stay. */
void own_streams(struct context *c, uid_t uid);

#endif
