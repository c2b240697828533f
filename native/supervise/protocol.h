/* What keeper, monitors and engines say to each other: packets of struct message_head (executor/run.h) over SOCK_SEQPACKET.
 * docs/design/monitor.md is the description; the numbers are shared with src/corral/engine/keeper.py. */
#ifndef CORRAL_PROTOCOL_H
#define CORRAL_PROTOCOL_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/run.h"
#include "executor/sys.h"

enum supervise_kind {
    /* answers of both */
    SUP_OK = 64,
    SUP_ERROR = 65, /* error = errno, bytes = words NUL hint */
    /* engine to keeper */
    SUP_SPAWN = 66,   /* bytes = spec, fd = the planner's end for the monitor; none: adopt */
    SUP_SPAWNED = 67, /* value = pid */
    SUP_RUN_AT = 68,  /* value = delay in ms, bytes = id */
    SUP_LIST = 69,
    SUP_ITEM = 70, /* value = pid of the monitor (0: none now), error = pid of init, bytes = id NUL exec NUL state */
    SUP_SHUTDOWN = 71,
    SUP_PING = 77, /* OK */
    /* monitor to keeper, and the same back to a monitor that adopts */
    SUP_HELLO = 72,      /* bytes = the run directory: a monitor that the keeper did not start itself */
    SUP_HOLD = 73,       /* step = enum held, value = pid for HELD_INIT, fd */
    SUP_HELD = 74,       /* that was all; value = init's pid, error = 1 if it was reaped already, step = its wait status then */
    SUP_REAPED = 75,     /* value = wait status of init, which the keeper reaped */
    SUP_UNATTENDED = 76, /* the exit record is written, and nobody takes care; OK = the command will be run */
    /* engine to monitor */
    SUP_START = 80,
    SUP_ATTACH = 81,      /* value = ATTACH_* flags, fds in that order */
    SUP_WATCH = 82,
    SUP_ATTEND = 83,
    SUP_EXITED = 84,      /* bytes = the exit record */
    SUP_DONE = 85,
    SUP_RESIZE = 86,      /* value = rows << 16 | columns */
    SUP_CLOSE_STDIN = 87,
    SUP_REOPEN_LOG = 88,
    SUP_LOST = 89, /* to who attached: a descriptor of its takes no more output; value = its ATTACH_* flag, error = why */
};

#define ATTACH_STDIN 1u
#define ATTACH_STDOUT 2u
#define ATTACH_STDERR 4u
#define ATTACH_ATTEND 8u /* and ATTEND, at once */

/* Descriptors that the keeper holds besides the monitor: with them a successor goes on. Standard input is not among them:
 * a second holder of its writing end would mean that the container never sees its end. */
enum held {
    HELD_INIT,                                        /* pidfd */
    HELD_STDOUT, HELD_STDOUT_IN, HELD_STDOUT_OUT,     /* the container's pipe; both ends of the second pipe */
    HELD_STDERR, HELD_STDERR_IN, HELD_STDERR_OUT,
    HELD_PTY,
    HELD_COUNT,
};

#define SPEC_FILE "monitor.spec" /* in the run directory; the monitor holds its flock as long as it lives */
#define MONITOR_SOCKET "monitor.sock"

/* True if the process at the other end is this user's or root's. */
bool peer_is_trusted(int sock);
/* A listening SEQPACKET socket `name` in the directory, made anew, close-on-exec and non-blocking, for its owner only. */
int listen_at(int dir, const char *name, int backlog);
/* Connects to `name` in the directory without blocking; the socket is non-blocking. -errno. */
int connect_at(int dir, const char *name);
/* The next connection of a trusted peer, non-blocking; -EAGAIN if there is none, -EPERM for a stranger. */
int accept_trusted(int listener);
/* A packet of words: SUP_ERROR. Never blocks on a non-blocking socket. */
void answer_error(int sock, int error, const char *text, const char *hint);

#endif
