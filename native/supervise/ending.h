/* The exit record: how a run ended, on disk before anybody is told. */
#ifndef CORRAL_ENDING_H
#define CORRAL_ENDING_H

#include <stdbool.h>
#include <sys/types.h>

#include "supervise/spec.h"
#include "supervise/state.h"

#define EXIT_FILE "exit"
#define EXIT_MAX 16384

struct ending {
    pid_t pid;
    bool known;         /* the status is; false: nobody could tell */
    bool observed;      /* its parent reaped it; false: the kernel told later */
    int status;         /* wait status */
};

/* Asks the kernel for the wait status of a process that was reaped by somebody else, by a pidfd from before.
 * -EAGAIN: it is not reaped yet. -EOPNOTSUPP: kernel before 6.15. Source: linux/pidfd.h PIDFD_GET_INFO. */
int pidfd_exit_status(int pidfd, int *status);

/* Writes the record: tmp, fsync, rename, fsync of the directory; OOM counters are read now and compared with state->before.
 * The text goes to `text` (EXIT_MAX) too. A record of this run that is there already is left as it is, and read.
 * Returns its length or -errno, with the text in its place all the same. */
int ending_write(const struct spec *spec, const struct state *state, const struct ending *e, char *text);
/* The record of this run if it is on disk: its length, in `text`; 0 if not. */
int ending_read(const struct spec *spec, char *text);

#endif
