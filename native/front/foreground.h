/* run and exec without --detach: the front stays, passes signals and the terminal on, and ends as the process does. */
#ifndef CORRAL_FOREGROUND_H
#define CORRAL_FOREGROUND_H

#include <signal.h>
#include <sys/types.h>

#include "front/front.h"

/* Blocks the signals that will be forwarded, so that none is lost or kills the front while the container is made;
 * becomes subreaper unless told not to. */
void foreground_prepare(bool subreaper);

/* Until init (a child) has ended: forwards signals, relays the terminal (`master`, -1 = none; owned here from now on)
 * and readiness, reaps. Returns the exit code: the process's own, or 128 + its signal. */
int foreground_wait(struct context *c, int master);

#endif
