/* The caller's terminal while a container uses it. */
#ifndef CORRAL_TTY_H
#define CORRAL_TTY_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

struct tty {
    int master;        /* the container's end; -1 = there is no relay */
    int terminal;      /* the caller's terminal among 0, 1, 2; -1 = none */
    bool input_open;   /* stdin may still yield bytes */
    struct flow { char buf[4096]; size_t from, to; } in, out; /* stdin to master, master to stdout */
};

/* Takes the master; makes the caller's terminal raw and the container's as large as it. */
void tty_start(struct tty *t, int master);
/* As many as three entries to poll; returns their number. */
int tty_poll_entries(struct tty *t, struct pollfd *fds);
/* Moves what can be moved now. False when the container's end is closed. */
bool tty_pump(struct tty *t, const struct pollfd *fds, int n);
/* What the container wrote before it ended; then the caller's terminal as it was. */
void tty_finish(struct tty *t);
void tty_resize(const struct tty *t);

#endif
