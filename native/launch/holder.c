/* The holder: a process that does nothing, so that a systemd scope, and the counters of the groups in it, outlive the
 * container's own processes. It holds nothing that anybody needs: kill it, and the scope ends with its other processes. */
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "launch/launch.h"

/* It stays until it is killed, by systemd's SIGTERM as well. */
static _Noreturn void stay_for_ever(void) {
    prctl(PR_SET_NAME, "corral:holder");
    prctl(PR_SET_DUMPABLE, 0);
    int null = open_at(AT_FDCWD, "/dev/null", O_RDWR, 0);
    for (int fd = 0; null > 2 && fd < 3; fd++)
        (void)dup2(null, fd);
    if (null > 2)
        close(null);
    for (;;)
        pause();
}

/* holder [ID]: whoever started it holds the other end of its standard input, and writes one byte once it is to stay. The
 * end of the input without that ends it: then its place was never made. ID is for people who read a list of processes. */
int holder_main(void) {
    char byte;
    reset_signals();
    ssize_t n;
    do
        n = read(0, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        stay_for_ever();
    return 0;
}

static _Noreturn void become_holder(int channel, const char *id) {
    char word[256];
    char *argv[] = {"corral-runtime", "holder", word, NULL}, *envp[] = {NULL};
    fmt(word, sizeof(word), "%s", id);
    reset_signals();
    (void)setsid();
    if (chdir("/") < 0 || dup2(channel, 0) < 0)
        _exit(1);
    /* The caller's own streams would never end while we have them. */
    cleanup_fd int null = open_at(AT_FDCWD, "/dev/null", O_WRONLY, 0);
    if (null < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
        _exit(1);
    (void)sys_close_range(3, ~0u, 0); /* before 5.9, close-on-exec has to do */
    /* The file, not the private copy that this is: its pages are shared by all holders. It enters no container. */
    execve(self_path(), argv, envp);
    _exit(1); /* systemd then finds no process, and says so */
}

/* HOLD(id): born as the front's child, waiting; CG_ATTACH with its flag lets it stay. */
int step_hold(struct context *c, const struct step *s) {
    int pair[2];
    if (c->holder_pid > 0)
        return detail(c, -EPROTO, "a holder was born already");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return detail(c, -errno, "open a socket pair");
    pid_t pid = sys_fork(0);
    if (pid == 0)
        become_holder(pair[1], s->arg[0].ptr);
    close(pair[1]);
    c->holder = pair[0];
    if (pid < 0)
        return detail(c, pid, "clone");
    c->holder_pid = pid;
    return 0;
}
