/* Running a plan in one process, and the channels between front, stage and init. */
#ifndef CORRAL_RUN_H
#define CORRAL_RUN_H

#include "context.h"

/* ---- messages: one struct per packet, then bytes; at most one descriptor ------------------------------------ */
enum message_kind {
    MSG_SYNC = 1, MSG_PID = 2, MSG_FD = 3, MSG_FAIL = 4, MSG_WARNING = 5,
    MSG_GO = 16, MSG_GIVE_FD = 17,
    MSG_REQUEST = 32, MSG_CGROUP = 33, MSG_READBACK = 34, MSG_BORN = 35, MSG_READY = 36, MSG_FAILED = 37,
    MSG_SCOPE = 38, MSG_RESULT = 39, MSG_RECLAIMED = 40,
    MSG_PLAN = 48, MSG_REFUSED = 49, MSG_NOT_MINE = 50, MSG_RECLAIM = 51, MSG_TEXT = 52, MSG_VERDICT = 53,
    MSG_PLAN_WARNING = 54,
};

#define MSG_BYTES 65536 /* a packet is no longer than this after its head */
#define MSG_FDS 3

struct message_head {
    uint32_t kind, step;
    int32_t error;
    uint32_t value;
};

struct message {
    uint32_t kind, step;
    int32_t error;
    uint32_t value;
    size_t len;         /* of bytes */
    int fds[MSG_FDS];   /* received: owned by whoever reads the message; -1 = none */
    char bytes[MSG_BYTES + 1]; /* NUL-ended for convenience */
};

/* Sends one packet; fd < 0: none. Never raises SIGPIPE. Returns 0 or -errno (-EPIPE: the other end is gone). */
int message_send(int sock, const struct message_head *head, const void *bytes, size_t len, int fd);
/* Shorthand for what carries numbers only. */
int message_tell(int sock, uint32_t kind, uint32_t step, int32_t error, uint32_t value);
/* Receives one packet within timeout_ms (-1: no limit). 1 = got one, 0 = the other end closed, or -errno
 * (-ETIMEDOUT, -EPROTO for a malformed packet, whose descriptors are closed). */
int message_receive(int sock, struct message *ret, int timeout_ms);
void message_close_fds(struct message *m);

/* ---- the run loop ------------------------------------------------------------------------------------------- */
void context_init(struct context *c, const struct plan *plan, enum actor actor);

/* Runs the steps of c->actor from `first` on. Returns 0, or the errno of the step that ended it (negative), whose
 * index is then in *failed and whose detail is in c->detail. Optional steps only warn. */
int run_actor(struct context *c, unsigned first, unsigned *failed);

/* A child's life from birth: runs its steps, reports a failure to its peer (the front; after WAIT_START whoever
 * started the container), and never returns. */
_Noreturn void run_child(struct context *c, unsigned first);

/* The front's side of a failure of stage or init, kept until the run loop asks: see messages.c. */
struct peer_failure {
    bool set;
    enum actor actor;
    unsigned step;
    int error;
    char detail[DETAIL_MAX];
};
extern struct peer_failure peer_failure;

/* Waits for a message of `kind` at `step` from the peer, handling WARNING and FAIL on the way (front), or from the
 * front (children). Returns 0, or -ECANCELED if the peer failed or ended (peer_failure says why). */
int peer_expect(struct context *c, uint32_t kind, unsigned step, struct message *ret);
/* message_send to the peer. A peer that is gone has mostly said why, and the front may be steps ahead of it: then
 * -ECANCELED, and peer_failure says it. */
int peer_send(struct context *c, const struct message_head *head, const void *bytes, size_t len, int fd);
/* Fills peer_failure when the peer's socket ended without a word, at `step`: its wait status says what happened. The
 * process is left to be reaped. */
void note_peer_end(struct context *c, unsigned step);

/* "mount /srv/x on /data (config mounts[3]): open '/srv/x': no such file or directory". With -ECANCELED the detail is
 * the whole cause, and no error's words follow it. */
void describe_failure(const struct step *s, int error, const char *detail, char *buf, size_t size);

/* Events to the planner; nothing happens when there is none. */
void event_send(struct context *c, uint32_t kind, uint32_t step, int error, uint32_t value, const void *bytes, size_t len);

/* The front's receive from its peer: as message_receive() without a limit, but -EINTR, with a detail, if the wait is long
 * and a signal that asks us to end is pending. */
int peer_receive(struct context *c, struct message *ret);

/* The planner's last word. */
struct verdict {
    bool given, commit;
    bool silent; /* it did not answer in time, or is gone: not asked again */
    char message[2048], hint[1024];
};
extern struct verdict verdict;
/* Waits for it, at most 30 s, into `verdict`; `m` is scratch. 0, or -ECANCELED with a detail. */
int await_verdict(struct context *c, struct message *m);

/* Takes back the pid file that PID_FILE has written: nobody shall signal the pid of what never became a container. */
void pid_file_withdraw(struct context *c);

/* Connects to a unix socket by a path of any length; type SOCK_STREAM or another. Returns the socket or -errno. */
int connect_unix(const char *path, int type);

/* Where warnings of the front go; set by the front's log, stderr otherwise. */
extern void (*warning_sink)(const char *text);

/* ---- descriptors by slot ------------------------------------------------------------------------------------ */
/* The descriptor in a slot, or -EBADF with a detail. Borrowed. */
int slot_get(struct context *c, uint64_t slot);
/* Stores a descriptor that the context owns from now on, above 2 and close-on-exec; closes what was there. 0 or -errno (then fd is closed). */
int slot_put(struct context *c, uint64_t slot, int fd);

/* ---- /proc ---------------------------------------------------------------------------------------------------- */
/* A descriptor of the proc filesystem to resolve "self/...", "sys/..." and "PID/..." against: c->private_proc, or the
 * mounted /proc after a check that it is procfs. Borrowed. Returns -errno with a detail if there is none. */
int proc_fd(struct context *c);
/* What proc_fd() of the front keeps open; a child closes it at birth. */
extern int proc_mounted;
/* Opens a file below it without following links and without leaving the mount. */
int proc_open(struct context *c, const char *path, int flags);

/* ---- births (spawn.c) ---------------------------------------------------------------------------------------- */
/* Default action for every signal, none blocked: for whatever is born or executed. */
void reset_signals(void);
/* Kills and reaps stage, holder and init of this context, also an init whose pid was never told. Bounded. */
void reap_children(struct context *c);
/* Told of init's birth before anything else happens to it; NULL = nobody. */
extern void (*birth_sink)(const struct context *c);
/* START_LISTEN's slots: the front's copies are closed after the birth, so that only init holds them. */
extern int birth_slots[2];

/* ---- failpoints (CORRAL_FAILPOINT) ----------------------------------------------------------------------------- */
/* ACTOR:STEP-INDEX-or-OP[:Nth][:after]:(errno=N|kill|stop), several joined by ','. Parsed once, by the front, before
 * any child is born. Returns 0 or -EINVAL. */
int failpoints_parse(const char *text);
/* Before (after = false) or after a step. Returns 0 or the negative errno to be simulated; may not return at all. */
int failpoint_hit(const struct context *c, const struct step *s, bool after);

#endif
