/* What a running plan knows: one struct context per process (front, stage, init), inherited through fork. */
#ifndef CORRAL_CONTEXT_H
#define CORRAL_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "plan.h"

/* Descriptor slots, named by number in plans. 0..63 belong to the front alone and are closed in every child;
 * 64 and above are inherited by stage and init. All are close-on-exec. -1 = empty. */
#define SLOTS        512
#define SLOT_SHARED   64

#define CGROUPS 32 /* at most so many CG_DEFINEs in a plan */

enum cgroup_fate { CG_UNKNOWN = 0, CG_INTENDED, CG_CREATED, CG_JOINED, CG_ABSENT };

struct cgroup {
    bool defined;
    int version;           /* 1 or 2 */
    const char *mount;     /* where the hierarchy is mounted, e.g. "/sys/fs/cgroup/memory" */
    const char *path;      /* below it, starts with '/'; every component is ours to make if missing */
    unsigned flags;        /* CGF_* */
    enum cgroup_fate fate;
    int fd;                /* O_PATH of the leaf directory, or -1 */
};

#define CGF_CPUSET  1u /* v1 cpuset: a fresh directory needs cpus and mems copied from its parent */
#define CGF_FREEZER 2u /* this hierarchy can freeze (v1 freezer, or v2) */
#define CGF_KILL    4u /* v2 with cgroup.kill */
#define CGF_PIDS    8u /* the one hierarchy from which the list of processes is read */

/* Why a step failed; the run loop turns it into an event and a message. */
#define DETAIL_MAX 512
struct context {
    const struct plan *plan;
    enum actor actor;
    int slot[SLOTS];
    struct cgroup cgroup[CGROUPS];

    int record;            /* front: O_PATH|O_DIRECTORY of the container's record, or -1 */
    int journal;           /* front: append-only, or -1 */
    int owner_lock;        /* front: held while the container is being made, or -1 */
    int planner;           /* front: SEQPACKET to the planner, or -1 */
    int peer;              /* front: SEQPACKET to stage/init; stage/init: to the front */

    pid_t stage_pid, init_pid;
    int init_pidfd;
    int born_into;         /* front: id of the v2 group in which init was born, or -1 */
    pid_t holder_pid;      /* front: the process that keeps a scope, 0 = none */
    int holder;            /* front: a byte written here lets it stay; without, it ends with us. -1 = none, or done */
    int private_proc;      /* O_PATH of a private procfs, or -1 */
    int rootfd;            /* init: O_PATH of the rootfs until PIVOT, of "/" after it */
    bool pivoted;
    int console_slave;     /* init: the terminal of the container, or -1 */

    unsigned mode;         /* FRONT_MODE flags, MODE_* */
    unsigned preserve_fds;
    const char *home;      /* init: found by FIND_HOME, or NULL */
    char program[4096];    /* init: found by FIND_PROGRAM */
    const char *hook_stdout, *hook_stderr;

    char detail[DETAIL_MAX]; /* what exactly could not be done, "" = nothing to add to the description */
};

#define MODE_DETACH       1u
#define MODE_TTY          2u
#define MODE_KEEP         4u  /* run --keep */
#define MODE_NO_SUBREAPER 8u
#define MODE_CREATE      16u  /* init waits on the start socket; the front leaves after COMMIT */
#define MODE_EXEC        32u  /* exec: errors exit 255, nothing to delete afterwards */

/* A step returns 0, or a negative errno. detail() adds the object concerned: detail(c, "open '%s'", path). */
int detail(struct context *c, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A warning for the user: goes to the front, which prints or logs it. Never fails. */
void warning(struct context *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define STEP(NAME, fn, number, sig, text) int step_##fn(struct context *c, const struct step *s);
#include "steps.def"
#undef STEP

#endif
