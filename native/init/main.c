/* corral-init [--] PROGRAM ARGUMENT...: pid 1 of a container for programs that are not made to be it.
 * corral-init --pause: pid 1 of a pod: holds its namespaces, reaps, and ends when it is asked to.
 *
 * Runs the program in a process group of its own (in the foreground, where there is a terminal), forwards every signal
 * that can be caught to it, reaps whatever becomes its child, and ends as the program ended: with its exit code, or
 * 128 + the signal. Static, without heap; it runs inside the container, so it holds nothing and knows nothing. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NO_PROGRAM 127
#define EXIT_USAGE 125

extern char **environ;

static void say(const char *text) {
    if (write(2, text, strlen(text)) < 0)
        return;
}

/* The child's side. Never returns. */
static void become(char **argv, const sigset_t *before) {
    (void)setpgid(0, 0);
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (terminal >= 0) {
        /* SIGTTOU is blocked until the mask is put back, so this does not stop a process of the background. */
        (void)tcsetpgrp(terminal, getpid());
        close(terminal);
    }
    (void)sigprocmask(SIG_SETMASK, before, NULL);
    (void)execvp(argv[0], argv);
    int code = errno == ENOENT ? EXIT_NO_PROGRAM : EXIT_NOT_EXECUTABLE;
    say("corral-init: run '");
    say(argv[0]);
    say(errno == ENOENT ? "': no such file or directory\n" : "': not executable\n");
    _exit(code);
}

/* Reap all that ended. The exit code once `child` is among them, else -1. */
static int reap(pid_t child) {
    int status, code = -1;
    for (;;) {
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0)
            return code;
        if (pid == child)
            code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
}

static int run(char **argv) {
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &before);
    /* Not pid 1, as in a container that shares a pid namespace: orphans still come here. */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    pid_t child = fork();
    if (child < 0) {
        say("corral-init: start the program: no process can be made\n");
        return EXIT_USAGE;
    }
    if (child == 0)
        become(argv, &before);
    for (;;) {
        siginfo_t info;
        int number = sigwaitinfo(&all, &info);
        if (number < 0)
            continue;
        int code = reap(child);
        if (code >= 0)
            return code;
        /* The kernel's own are about this process: a child's end, the terminal's rules for background groups. */
        if (number == SIGCHLD || number == SIGTTIN || number == SIGTTOU || number == SIGTSTP)
            continue;
        if (number == SIGWINCH || number == SIGHUP || info.si_code != SI_KERNEL)
            (void)kill(child, number);
    }
}

static int hold(void) {
    sigset_t all;
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    for (;;) {
        int number = sigwaitinfo(&all, NULL);
        (void)reap(0);
        if (number == SIGTERM || number == SIGINT || number == SIGQUIT)
            return 0;
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--pause") == 0)
        return hold();
    int first = argc > 1 && strcmp(argv[1], "--") == 0 ? 2 : 1;
    if (first >= argc) {
        say("usage: corral-init [--] PROGRAM [ARGUMENT...] | --pause\n");
        return EXIT_USAGE;
    }
    return run(argv + first);
}
