/* The monitor of one process tree: what its files share. One struct, one loop, no policy. */
#ifndef CORRAL_MONITOR_H
#define CORRAL_MONITOR_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "launch/launch.h"
#include "monitor/logfile.h"
#include "supervise/ending.h"
#include "supervise/protocol.h"
#include "supervise/spec.h"
#include "supervise/state.h"

#define CLIENTS 64
#define RAW_MAX 32768
#define INPUT_MAX 4096
#define HELPERS 8

/* A descriptor of a client that we write to or read from without ever blocking on it. */
enum sink_kind { SINK_NONE, SINK_NONBLOCKING, SINK_SOCKET, SINK_POLLED };
struct sink {
    int fd;
    enum sink_kind kind;
};

struct client {
    int sock;               /* -1 = free */
    bool attached, watches, attends, is_done;
    bool told;              /* has its EXITED */
    struct sink in, out[2];
    size_t sent[2];         /* of the stream's piece */
};

/* One direction of output: `from` the container, through the second pipe (in, out), to log and clients. */
struct stream {
    const char *name;
    int from, in, out;      /* a terminal has no second pipe */
    bool eof;               /* nothing more comes from the container */
    uint32_t held;          /* bytes in the second pipe */
    size_t len;             /* of the piece that is on its way to clients; 0 = none */
    char raw[RAW_MAX] __attribute__((aligned(4096)));
};

struct monitor {
    struct spec spec;
    int run, dir;           /* directories */
    int spec_lock;          /* says that we live */
    bool removed;           /* our files are gone, and others of their names not ours */
    const char *keeper_run, *keeper_program;
    int keeper, planner, listener, signals;
    struct state *state;
    struct logfile log;
    struct stream stream[2];
    int scratch[2];         /* the pipe through which a piece is read without taking it away */
    int null;
    int input;              /* the writing end of the container's standard input, or the terminal; -1 = closed */
    bool input_is_terminal;
    char typed[INPUT_MAX];  /* from the client that has the input */
    size_t typed_from, typed_to;
    struct client client[CLIENTS];
    bool gate;              /* output waits for the first ATTACH */
    int64_t gate_end;

    pid_t init;
    int init_pidfd;
    bool is_parent, adopted;
    bool exit_seen;         /* init has ended; `ending` may not know how yet */
    int64_t exit_ms, drain_end, attend_end, keeper_retry;
    unsigned keeper_tries;
    bool ending_known, recorded, attended;
    bool asked_keeper, told_keeper; /* to have the engine's command run; it will be */
    struct ending ending;
    char record[EXIT_MAX];  /* the exit record */
    int record_len;
    pid_t helper[HELPERS];  /* children that are no container's: starters, a keeper */

    int counter_event[COUNTERS];
    int inotify;
    char last[COUNTERS][COUNTER_TEXT];
    unsigned recounts;
    bool rests;             /* nothing has happened since monitor_rest() */
};

/* ---- create.c: from nothing to a created container ------------------------------------------------------------------- */
/* Takes the plan from the planner's socket and runs it. 0; on failure everything was undone and told. */
int monitor_create(struct monitor *m);
/* Tells the planner that the process stands, and lets it go. */
void monitor_created(struct monitor *m);
/* Takes the held descriptors from the keeper. 0, or -errno: there is nothing to look after. */
int monitor_adopt(struct monitor *m);

/* ---- places.c -------------------------------------------------------------------------------------------------------- */
/* Opens everything that needs no process yet. 0 or -errno; -EBUSY: another monitor lives. */
int monitor_open_places(struct monitor *m, const char *run, bool adopt);
/* Removes the monitor's files from the run directory: from then on it may have another monitor. */
void monitor_remove_places(struct monitor *m);

/* ---- loop.c --------------------------------------------------------------------------------------------------------------- */
/* Until the process has ended, and everybody knows. Returns true if its end was attended. */
bool monitor_loop(struct monitor *m);
/* Remembers a child that is to be reaped. */
void monitor_add_helper(struct monitor *m, pid_t pid);

/* ---- rest.c ---------------------------------------------------------------------------------------------------------- */
/* Gives memory back. */
void monitor_rest(struct monitor *m);

/* ---- requests.c: what clients say ------------------------------------------------------------------------------------ */
void client_accept(struct monitor *m);
void client_serve(struct monitor *m, struct client *c);
void client_close(struct client *c);
void client_drop_input(struct client *c);

/* ---- pump.c: output and input --------------------------------------------------------------------------------------- */
int pump_open(struct monitor *m);    /* the pipes of a new process; its ends become 0, 1 and 2 of this process */
int pump_resume(struct monitor *m);  /* what a dead predecessor left */
void pump_detach(struct monitor *m); /* 0, 1 and 2 are /dev/null from now on */
/* Moves on as far as that goes without waiting: a piece that waits for slow clients first, then what is new. */
void pump_stream(struct monitor *m, struct stream *s);
/* Gives the buffers back, where nothing is in them. */
void pump_rest(struct monitor *m);
/* True if nothing more comes of it. */
bool stream_is_done(const struct stream *s);
void input_pump(struct monitor *m);
void input_close(struct monitor *m);

/* ---- sinks.c ----------------------------------------------------------------------------------------------------------- */
/* Makes something of a client's descriptor (owned) that never blocks us. `flags`: O_RDONLY or O_WRONLY. */
struct sink sink_open(int fd, int flags);
void sink_close(struct sink *s);
/* As write(2) and read(2): -EAGAIN instead of waiting. */
ssize_t sink_write(const struct sink *s, const char *bytes, size_t len);
ssize_t sink_read(const struct sink *s, char *buf, size_t size);

/* ---- keeping.c: the keeper, and finding another ------------------------------------------------------------------------ */
void keeper_hold(struct monitor *m, enum held which, int fd, pid_t pid);
void keeper_hold_all(struct monitor *m);
void keeper_serve(struct monitor *m);
/* Connects to a keeper, or starts one, when it is time to. */
void keeper_seek(struct monitor *m);

/* ---- ooms.c: OOM while it runs -------------------------------------------------------------------------------------------- */
void ooms_open(struct monitor *m);
/* The kernel announced something, or it is time to look again: what has changed goes to the file `oom`. */
void ooms_note(struct monitor *m, bool is_event);

/* ---- exits.c ---------------------------------------------------------------------------------------------------------- */
/* init has ended: finds out how. */
void exit_seen(struct monitor *m);
/* The keeper reaped init. */
void exit_told(struct monitor *m, int status);
/* Goes on with what follows from the end as far as possible. True when nothing is left to do. */
bool exit_advance(struct monitor *m);
/* When to look again without an event, in ms; -1 = never. */
int exit_timeout(const struct monitor *m);

#endif
