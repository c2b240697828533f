/* OVERLAY_FUSE: the stack by fuse-overlayfs, for user namespaces in which the kernel makes none (before 5.11).
 *
 * Its process is a child of init's, in the container's own namespaces and cgroup: it ends with them, and nobody else
 * ever has the mount. */
#include <string.h>

#include "mount.h"
#include "overlay.h"
#include "run.h"

#define WAIT_MS 20000

static _Noreturn void exec_program(const char *program, const char *options, const char *path, int out) {
    static char *environment[] = {NULL};
    char *argv[] = {(char *)(uintptr_t)program, (char *)(uintptr_t) "-o", (char *)(uintptr_t)options,
                    (char *)(uintptr_t)path, NULL};
    int null = open_at(AT_FDCWD, "/dev/null", O_RDWR, 0);
    (void)dup2(null, 0);
    (void)dup2(out, 1);
    (void)dup2(out, 2);
    (void)sys_close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    reset_signals();
    execve(program, argv, environment);
    say(2, "%s", error_text(errno));
    _exit(127);
}

/* Runs it until it has gone to the background, which it does when the mount is there. */
static int run_program(struct context *c, const struct step *s, char *said, size_t size) {
    int pipe_fds[2], status = 0;
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return detail(c, -errno, "open a pipe");
    cleanup_fd int out = pipe_fds[0];
    pid_t pid = sys_fork(0);
    if (pid == 0)
        exec_program(s->arg[0].ptr, s->arg[1].ptr, s->arg[2].ptr, pipe_fds[1]);
    close(pipe_fds[1]);
    if (pid < 0)
        return detail(c, pid, "fork");
    /* The daemon keeps the pipe: its parent's end is what counts. */
    cleanup_fd int pidfd = sys_pidfd_open(pid, 0);
    if (pidfd < 0 || wait_readable(pidfd, WAIT_MS) <= 0)
        (void)kill(pid, SIGKILL);
    int r = wait_pid(pid, &status);
    if (wait_readable(out, 0) > 0) {
        ssize_t n = read(out, said, size - 1);
        while (n > 0 && said[n - 1] == '\n')
            n--;
        said[n > 0 ? n : 0] = '\0';
        char *last = strrchr(said, '\n'); /* warnings come before it */
        if (last)
            memmove(said, last + 1, strlen(last));
    }
    return r < 0 ? r : status == 0 ? 0 : -ECANCELED;
}

int step_overlay_fuse(struct context *c, const struct step *s) {
    const char *path = s->arg[2].ptr;
    char said[512] = "";
    int r = unshare_holder(c, path);
    if (r < 0)
        return r;
    if ((r = run_program(c, s, said, sizeof(said))) < 0)
        return detail(c, r, "%s: %s", s->arg[0].ptr, said[0] ? said : "it ended without a word");
    close_fd(&c->rootfd);
    c->rootfd = open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
    if (c->rootfd < 0)
        return detail(c, c->rootfd, "open '%s'", path);
    return mount_propagation(c, c->rootfd, MS_PRIVATE);
}
