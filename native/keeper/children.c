/* Children of the keeper: as little as possible of it shows in them. */
#include <limits.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "keeper/keeper.h"
#include "launch/launch.h"

#define CPU_MAX 8192
#define IOPRIO_WHO_PROCESS 1

static struct rlimit files;

/* Whoever happened to be the first must not decide how the containers of all others are scheduled, and whether their
 * addresses are random. What may not be undone here (a nice value without the right to lower it) stays. */
void keeper_forget_caller(void) {
    unsigned long every_cpu[CPU_MAX / (8 * sizeof(unsigned long))];
    uint64_t attr[6] = {sizeof(attr)}; /* struct sched_attr: SCHED_OTHER, nice 0 */
    int oom = open_at(AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY, 0);
    memset(every_cpu, 0xff, sizeof(every_cpu));
    (void)personality(PER_LINUX);
    (void)sys_sched_setattr(0, attr, 0);
    (void)syscall(SYS_sched_setaffinity, 0, sizeof(every_cpu), every_cpu);
    (void)sys_ioprio_set(IOPRIO_WHO_PROCESS, 0, 0);
    (void)prctl(PR_SET_TIMERSLACK, 0);
    if (oom >= 0)
        (void)!write(oom, "0", 1);
    close_fd(&oom);
}

void keeper_raise_limits(void) {
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return;
    struct rlimit most = {files.rlim_max, files.rlim_max};
    (void)setrlimit(RLIMIT_NOFILE, &most);
}

pid_t keeper_fork(void) {
    pid_t pid = sys_fork(0);
    if (pid == 0) {
        reset_signals();
        if (files.rlim_max)
            (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    return pid;
}

static bool is_same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

int keeper_load_monitor(struct keeper *k) {
    char path[PATH_MAX];
    struct stat st;
    const char *self = self_path(), *slash = strrchr(self, '/');
    fmt(path, sizeof(path), "%.*s/corral-monitor", slash ? (int)(slash - self) : 0, self);
    int r = stat(path, &st) < 0 ? -errno : 0;
    if (r == 0 && k->monitor_program >= 0 && is_same_file(&st, &k->monitor_file))
        return 0;
    cleanup_fd int own = r < 0 ? r : open_at(AT_FDCWD, path, O_RDONLY, 0);
    cleanup_fd int copy = own < 0 ? own : -1;
    for (unsigned way = 0; own >= 0 && copy < 0 && way < COPY_WAYS; way++)
        copy = private_copy(own, path, k->run_path, way);
    /* In the middle of an upgrade, the one that we have will do. */
    if (copy < 0)
        return k->monitor_program >= 0 ? 0 : copy;
    close_fd(&k->monitor_program);
    k->monitor_program = steal_fd(&copy);
    k->monitor_file = st;
    return 0;
}
