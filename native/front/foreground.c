/* Waiting beside a container: signals, terminal, orphans. */
#include "front/foreground.h"

#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "executor/notify.h"
#include "front/tty.h"

/* Not forwarded: what tells of our own faults, our own children, our own terminal, and SIGPIPE of our own output. */
static const int kept[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGKILL, SIGSTOP, SIGPIPE, SIGTTIN, SIGTTOU};

static void forwarded(sigset_t *set) {
    sigfillset(set);
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        sigdelset(set, kept[i]);
}

void foreground_prepare(bool subreaper) {
    sigset_t set;
    forwarded(&set);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    /* tcsetattr from the background must not stop us; the shell that put us there expects it. */
    (void)signal(SIGTTOU, SIG_IGN);
    if (subreaper)
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

/* Reaps whoever ended. True if init was among them. */
static bool reap(pid_t init, int *status) {
    bool ended = false;
    for (;;) {
        int one;
        pid_t pid = waitpid(-1, &one, WNOHANG | __WALL);
        if (pid <= 0)
            return ended;
        if (pid == init) {
            *status = one;
            ended = true;
        }
    }
}

static bool take_signal(struct context *c, int signals, const struct tty *tty, int *status) {
    struct signalfd_siginfo info;
    if (read(signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return false;
    int sig = (int)info.ssi_signo;
    if (sig == SIGCHLD)
        return reap(c->init_pid, status);
    if (sig == SIGWINCH)
        tty_resize(tty);
    else if (sig != SIGURG)
        (void)sys_pidfd_send_signal(c->init_pidfd, sig);
    return false;
}

static int exit_code_of(int status) {
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int foreground_wait(struct context *c, int master) {
    sigset_t set;
    static struct tty tty;
    int status = 0;
    forwarded(&set);
    cleanup_fd int signals = sys_result(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    tty_start(&tty, master);
    /* It may have ended before the signalfd was there; SIGCHLD was blocked, so none is lost after this look. */
    bool ended = reap(c->init_pid, &status);
    while (!ended) {
        struct pollfd fds[5] = {{.fd = signals, .events = POLLIN}, {.fd = notify_fd(), .events = POLLIN}};
        int n = tty_poll_entries(&tty, fds + 2);
        if (poll(fds, (nfds_t)n + 2, signals < 0 ? 50 : -1) < 0 && errno != EINTR)
            break;
        if (fds[0].revents)
            ended = take_signal(c, signals, &tty, &status);
        else if (signals < 0)
            ended = reap(c->init_pid, &status);
        if (fds[1].revents && notify_pump(c) < 0)
            log_warning(c->detail);
        (void)tty_pump(&tty, fds + 2, n);
    }
    tty_finish(&tty);
    return exit_code_of(status);
}
