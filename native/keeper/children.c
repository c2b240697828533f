/* Children of the keeper: as little as possible of it shows in them. */
#include <sys/resource.h>

#include "keeper/keeper.h"

static struct rlimit files;

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
