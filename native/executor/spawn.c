/* Births: SPAWN, STAGE and FORK, and what a child does before anything else. */
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "cgroup.h"
#include "journal.h"
#include "record.h"
#include "run.h"
#include "sys.h"

/* Stage and init each have a socket to the front. The stage carries init's end until it forks it; the front keeps
 * its own end of it here until then. */
static int init_end = -1, init_front_end = -1;
/* The v2 group into which the stage is to fork init, or -1: its id, and its directory, which only the stage closes. */
static int stage_group = -1, stage_birthplace = -1;

int birth_slots[2] = {-1, -1};
void (*birth_sink)(const struct context *c);

static void sort(int *values, int n) {
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && values[j - 1] > values[j]; j--) {
            int other = values[j];
            values[j] = values[j - 1];
            values[j - 1] = other;
        }
}

/* Closes everything but the standard streams, the preserved descriptors and what the plan hands down. A descriptor of
 * a host directory that reaches the container's namespaces is an escape (CVE-2024-21626). */
static void close_others(struct context *c) {
    int keep[SLOTS + 5], n = 0;
    unsigned from = 3 + c->preserve_fds;
    for (int i = SLOT_SHARED; i < SLOTS; i++)
        if (c->slot[i] >= 0)
            keep[n++] = c->slot[i];
    if (c->peer >= 0)
        keep[n++] = c->peer;
    if (c->actor == ACTOR_STAGE && init_end >= 0)
        keep[n++] = init_end;
    if (c->actor == ACTOR_STAGE && stage_birthplace >= 0)
        keep[n++] = stage_birthplace;
    sort(keep, n);
    for (int i = 0; i < n; i++) {
        if ((unsigned)keep[i] > from)
            (void)sys_close_range(from, (unsigned)keep[i] - 1, 0);
        if ((unsigned)keep[i] >= from)
            from = (unsigned)keep[i] + 1;
    }
    (void)sys_close_range(from, ~0u, 0); /* 5.9 (278a5fbaed89); before it, close-on-exec has to do */
}

/* Kernel ABI of rt_sigaction: libc's own refuses the two signals that it keeps for itself, and a shared handler of
 * the caller must not survive in any of them. SIG_IGN survives exec, so all are reset. */
void reset_signals(void) {
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        uint64_t mask;
    } none = {0};
    uint64_t empty = 0;
    for (int sig = 1; sig <= 64; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            (void)syscall(SYS_rt_sigaction, sig, &none, NULL, 8);
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &empty, NULL, 8);
}

static _Noreturn void be_born(struct context *c, enum actor actor, int peer, unsigned next_step) {
    c->actor = actor;
    c->peer = peer;
    close_others(c);
    for (int i = 0; i < SLOT_SHARED; i++)
        c->slot[i] = -1;
    for (int i = 0; i < CGROUPS; i++)
        c->cgroup[i].fd = -1;
    c->record = c->journal = c->owner_lock = c->planner = c->holder = -1;
    c->init_pidfd = c->private_proc = proc_mounted = -1;
    if (actor == ACTOR_INIT)
        init_end = -1;
    init_front_end = -1;
    reset_signals();
    prctl(PR_SET_NAME, actor == ACTOR_INIT ? "corral:init" : "corral:stage");
    run_child(c, next_step);
}

static int make_channel(int *ours, int *theirs) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    *ours = pair[0];
    *theirs = pair[1];
    return 0;
}

/* What the front does once it knows init's pid, however it was born. */
static int adopt_init(struct context *c, pid_t pid) {
    c->init_pid = pid;
    c->init_pidfd = sys_pidfd_open(pid, 0);
    if (c->init_pidfd < 0)
        return detail(c, c->init_pidfd, "open a pidfd of process %d", pid);
    if (birth_sink)
        birth_sink(c);
    for (int i = 0; i < 2; i++)
        if (birth_slots[i] >= 0)
            close_fd(&c->slot[birth_slots[i]]);
    if (c->record >= 0 && !(c->mode & MODE_EXEC)) {
        int64_t start = process_start_time(-1, pid);
        int r = journal_append(c->journal, JOURNAL_BORN, 0, (uint32_t)pid, start < 0 ? 0 : (uint64_t)start);
        if (r == 0)
            r = record_write_live(c->record, pid, c->init_pidfd);
        if (r < 0)
            return detail(c, r, "write the record's 'live'");
    }
    event_send(c, MSG_BORN, 0, 0, (uint32_t)pid, NULL, 0);
    return 0;
}

static pid_t clone_into(uint64_t flags, int cgroup_fd) {
    /* A sibling's signal is that of its parent's other child, whom it follows: the kernel refuses to be told. */
    struct k_clone_args args = {.flags = flags | CLONE_INTO_CGROUP_FLAG,
                                .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
                                .cgroup = (uint64_t)cgroup_fd};
    return sys_clone3(&args);
}

/* The directory of a group in which a process can be born, or -1. */
static int birthplace(struct context *c, int64_t group) {
    if (group < 0 || group >= CGROUPS || c->cgroup[group].version != 2 || c->cgroup[group].fate == CG_ABSENT)
        return -1;
    return cg_open_leaf(&c->cgroup[group]);
}

/* SPAWN(flags, cgroup): init as a direct child. */
int step_spawn(struct context *c, const struct step *s) {
    uint64_t flags = s->arg[0].num;
    int64_t group = (int64_t)s->arg[1].num;
    pid_t pid = -ENOSYS;
    if (c->init_pid > 0 || c->stage_pid > 0)
        return detail(c, -EPROTO, "a process was born already");
    if (group >= CGROUPS || (flags & (CSIGNAL | CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_THREAD | CLONE_VFORK)))
        return detail(c, -EINVAL, "flags 0x%llx, cgroup %lld", (unsigned long long)flags, (long long)group);
    int ours = -1, theirs = -1, r = make_channel(&ours, &theirs);
    if (r < 0)
        return detail(c, r, "open a socket pair");
    int directory = birthplace(c, group);
    if (directory >= 0)
        pid = clone_into(flags, directory);
    bool inside = pid >= 0;
    /* Refused into the cgroup (no clone3, a threaded or busy group, no right to move there): CG_ATTACH will tell. */
    if (pid < 0)
        pid = sys_fork((unsigned long)flags);
    if (pid == 0)
        be_born(c, ACTOR_INIT, theirs, s->index + 1);
    close(theirs);
    c->born_into = inside ? (int)group : -1;
    c->peer = ours;
    if (pid < 0)
        return detail(c, pid, "clone");
    return adopt_init(c, pid);
}

/* STAGE(cgroup): the child that will join or unshare namespaces and then fork init. */
int step_stage(struct context *c, const struct step *s) {
    int ours = -1, theirs = -1;
    if (c->init_pid > 0 || c->stage_pid > 0)
        return detail(c, -EPROTO, "a process was born already");
    int r = make_channel(&ours, &theirs);
    if (r == 0)
        r = make_channel(&init_front_end, &init_end);
    if (r < 0)
        return detail(c, r, "open a socket pair");
    stage_birthplace = birthplace(c, (int64_t)s->arg[0].num);
    stage_group = stage_birthplace < 0 ? -1 : (int)s->arg[0].num;
    pid_t pid = sys_fork(0);
    if (pid == 0)
        be_born(c, ACTOR_STAGE, theirs, s->index + 1);
    close(theirs);
    close_fd(&init_end);
    c->peer = ours;
    if (pid < 0)
        return detail(c, pid, "clone");
    c->stage_pid = pid;
    return 0;
}

/* The stage's half: init becomes a child of the front. Its pid, as clone returns it, is of the pid namespace that the
 * stage itself lives in: the front's. */
static int fork_as_stage(struct context *c, const struct step *s) {
    uint64_t flags = s->arg[0].num | CLONE_PARENT;
    pid_t pid = stage_birthplace >= 0 ? clone_into(flags, stage_birthplace) : -ENOENT;
    bool inside = pid >= 0;
    if (pid < 0)
        pid = sys_fork((unsigned long)flags);
    if (pid == 0)
        be_born(c, ACTOR_INIT, init_end, s->index + 1);
    if (pid < 0)
        return detail(c, pid, "clone");
    int r = message_tell(c->peer, MSG_PID, s->index, inside, (uint32_t)pid);
    if (r < 0)
        return r;
    _exit(0);
}

/* FORK(flags): the stage forks; the front takes over the socket to init and reaps the stage. */
int step_fork(struct context *c, const struct step *s) {
    struct message m;
    if (c->actor == ACTOR_STAGE)
        return fork_as_stage(c, s);
    int r = peer_expect(c, MSG_PID, s->index, &m);
    if (r < 0)
        return r;
    close_fd(&c->peer);
    c->peer = steal_fd(&init_front_end);
    (void)wait_pid(c->stage_pid, NULL);
    c->stage_pid = 0;
    c->born_into = m.error > 0 ? stage_group : -1;
    return adopt_init(c, (pid_t)m.value);
}

#define REAP_MS 5000
#define ORPHAN_MS 1000

/* An init whose pid the stage never told: it is our child all the same, and ends when it sees the end of its socket. */
static void reap_unknown(void) {
    int64_t end = now_ms() + ORPHAN_MS;
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL) < 0 || now_ms() > end)
            return;
        if (info.si_pid == 0)
            sleep_ms(1);
    }
}

void reap_children(struct context *c) {
    bool unknown = c->stage_pid > 0 && c->init_pid <= 0;
    close_fd(&c->peer);
    close_fd(&init_front_end);
    if (c->stage_pid > 0) {
        kill(c->stage_pid, SIGKILL);
        (void)wait_pid(c->stage_pid, NULL);
        c->stage_pid = 0;
    }
    close_fd(&c->holder);
    if (c->holder_pid > 0) {
        kill(c->holder_pid, SIGKILL);
        (void)wait_pid(c->holder_pid, NULL);
        c->holder_pid = 0;
    }
    if (c->init_pid > 0) {
        kill(c->init_pid, SIGKILL); /* not reaped yet, so the number is still its own */
        if (c->init_pidfd < 0 || wait_readable(c->init_pidfd, REAP_MS) > 0)
            (void)wait_pid(c->init_pid, NULL);
    }
    if (unknown)
        reap_unknown();
}
