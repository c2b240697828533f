/* The keeper of one run directory: what its files share. */
#ifndef CORRAL_KEEPER_H
#define CORRAL_KEEPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "supervise/ending.h"
#include "supervise/protocol.h"
#include "supervise/spec.h"

#define ENTRIES 4096
#define CONNECTIONS 64
#define DEATHS 3
#define GROUPS 32

/* One monitor, and what it left to us. */
struct entry {
    bool over;              /* its run directory may be another's by now */
    char *run;              /* its run directory: the key */
    char *command;          /* of the engine, or NULL */
    char id[256], exec[256];
    pid_t monitor;          /* 0 = none now */
    bool is_child;
    int conn;               /* -1 = none */
    int held[HELD_COUNT];
    pid_t init;
    bool reaped;            /* by us, */
    int status;             /* like this */
    bool notified;          /* the engine's command was told of the end */
    int64_t died[DEATHS];   /* the last deaths of its monitors */
    int64_t retry;          /* when to start another; 0 = nothing to do */
    int64_t dead_since;     /* init is dead, and we do not know how it ended */
};

/* A command of the engine, to be run: at once (_exited), or at its time (_due). */
struct job {
    struct job *next;
    char verb[16], id[256], exec[256];
    char *command;          /* NULL: keeper.command of the run directory */
    int64_t due, delay;     /* ms of CLOCK_BOOTTIME, and how many that was from when it was asked for */
    unsigned tries;
    pid_t pid;              /* it runs */
};

struct keeper {
    const char *run_path;
    char *command;          /* of the last spec: the same as the file keeper.command */
    int run, lock, listener, signals, log;
    int monitor_program;    /* a private copy of corral-monitor */
    struct stat monitor_file; /* of which file */
    struct entry *entry[ENTRIES];
    unsigned n_entries;
    int conn[CONNECTIONS];  /* of engines, and of monitors that have not said who they are; -1 = free */
    struct job *jobs;
    int64_t idle_since;
    int64_t scan_at, scan_pause; /* when to look for orphans again; 0 = not */
    int containers;         /* the store's directory of containers, once one was named; -1 */
    int64_t look_at;        /* when to see again whether the store is there */
    bool gone;              /* the store was removed: what ran in it is ended, and no command is run */
    const char *group[GROUPS], *parent[GROUPS]; /* directories of the keeper's cgroups, and of those of all containers */
    int n_groups, n_parents;
    bool owns_parents;      /* they are this store's alone */
    bool over;
};

/* ---- entries.c ------------------------------------------------------------------------------------------------------- */
/* A new entry, or NULL: no memory, or too many. */
struct entry *entry_add(struct keeper *k, const struct spec *spec);
struct entry *entry_find(struct keeper *k, const char *run);
/* True if the entry's monitor has put away its files, and so its run directory is free; it is not found any more then. */
bool entry_retire(struct entry *e);
void entry_remove(struct keeper *k, struct entry *e);
/* Starts a monitor; planner -1 = it adopts, and gets what is held. 0 or -errno. */
int entry_start(struct keeper *k, struct entry *e, int planner);
/* The packets of its monitor. */
void entry_serve(struct keeper *k, struct entry *e);
/* A child has ended. True if it was of this entry. */
bool entry_child_ended(struct keeper *k, struct entry *e, pid_t pid, int status);
/* Its monitor is no child of ours, and its connection is gone. */
void entry_lost(struct keeper *k, struct entry *e);
/* What is due: another monitor after a pause, or the end of an init that has none. */
void entry_tick(struct keeper *k, struct entry *e);
/* Looks for containers whose monitor and keeper both died. */
void entries_scan(struct keeper *k);

/* ---- jobs.c ---------------------------------------------------------------------------------------------------------- */
int64_t boot_ms(void);
/* Queues a command; one of the same verb, id and exec is replaced, unless it runs. 0 or -errno. */
int job_add(struct keeper *k, const char *verb, const char *id, const char *exec, const char *command, int64_t delay_ms);
void jobs_load(struct keeper *k);
/* The engine's command from now on, also for the next keeper. */
int command_set(struct keeper *k, const char *command);
/* Starts what is due, as long as not too many run. Returns when to look again, in ms from now; -1 = never. */
int jobs_run(struct keeper *k);
bool job_child_ended(struct keeper *k, pid_t pid, int status);
bool jobs_running(const struct keeper *k);

/* ---- serve.c ---------------------------------------------------------------------------------------------------------- */
void keeper_accept(struct keeper *k);
void connection_serve(struct keeper *k, int *conn);

/* ---- store.c ----------------------------------------------------------------------------------------------------------- */
/* Remembers where the store of a container is. */
void store_know(struct keeper *k, const struct spec *spec);
/* Looks, if it is time to, or at once; ends what runs where the store was removed. When to look again, in ms; -1 = never. */
int store_look(struct keeper *k, bool now);
/* Moves to the keeper's groups, which are made if need be. 0, or -errno with the directory in *which. */
int groups_join(struct keeper *k, const char **which);
/* Leaves them and removes them; and those above, if they are the store's and nobody is in them. */
void groups_leave(struct keeper *k);

/* ---- children.c ------------------------------------------------------------------------------------------------------ */
/* As many descriptors as the caller's hard limit has, for the keeper alone. */
void keeper_raise_limits(void);
/* Default scheduling, CPUs, personality and OOM score, as far as this process may. */
void keeper_forget_caller(void);
/* Makes k->monitor_program of the corral-monitor beside this program, anew if that is another file by now (an upgrade).
 * -errno only if there is none at all. */
int keeper_load_monitor(struct keeper *k);
/* A child with default signals and the caller's limits; 0 in the child. */
pid_t keeper_fork(void);

#endif
