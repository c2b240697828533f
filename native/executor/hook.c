/* HOOK: a program of the bundle, told the container's state on its stdin, within its time. */
#include "run.h"
#include "sys.h"

#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define OUTPUT_KEPT 400u /* the end of what a hook wrote, quoted if it does not succeed; less than DETAIL_MAX */
#define HOOK_FAILURE_WARNS 1u

struct hook {
    const char *kind, *path;
    char *const *argv, *const *envp;
    const char *part[3]; /* the state: head, pid, tail */
    size_t length[3], sent; /* bytes sent of all three */
    int stdin_fd, output_fd, pidfd;
    pid_t pid;
    int64_t deadline; /* ms; 0 = none */
    char output[OUTPUT_KEPT + 1];
    size_t output_len;
};

int step_hook_output(struct context *c, const struct step *s) {
    c->hook_stdout = s->arg[0].len ? s->arg[0].ptr : NULL;
    c->hook_stderr = s->arg[1].len ? s->arg[1].ptr : NULL;
    return 0;
}

static int open_output(const char *path, int otherwise) {
    return path ? open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY, 0600) : otherwise;
}

/* The child, up to execve. Whatever goes wrong travels as an errno through `status`. */
static _Noreturn void hook_child(const struct context *c, const struct hook *h, int in, int out, int status) {
    int err = open_output(c->hook_stdout, out);
    int err2 = err < 0 ? err : open_output(c->hook_stderr, out);
    if (err >= 0 && err2 >= 0) {
        reset_signals();
        (void)setpgid(0, 0);
        /* A supervisor that dies takes its hook with it: nobody would be left to count its time. */
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        int e = err, e2 = err2;
        err = dup2(in, 0) < 0 || dup2(e, 1) < 0 || dup2(e2, 2) < 0 || (status != 3 && dup3(status, 3, O_CLOEXEC) < 0);
        if (!err) {
            status = 3;
            /* Descriptors of the caller that happen to be inheritable are none of the hook's business. */
            if (sys_close_range(4, ~0u, 0) < 0)
                for (int fd = 4; fd < 1024; fd++)
                    close(fd);
            execve(h->path, h->argv, h->envp);
        }
        err = -errno;
    } else
        err = err < 0 ? err : err2;
    (void)write_all(status, &err, sizeof(err));
    _exit(127);
}

static void keep_output(struct hook *h, const char *bytes, size_t n) {
    if (n >= OUTPUT_KEPT) {
        bytes += n - OUTPUT_KEPT;
        n = OUTPUT_KEPT;
        h->output_len = 0;
    }
    if (h->output_len + n > OUTPUT_KEPT) {
        size_t drop = h->output_len + n - OUTPUT_KEPT;
        memmove(h->output, h->output + drop, h->output_len - drop);
        h->output_len -= drop;
    }
    memcpy(h->output + h->output_len, bytes, n);
    h->output_len += n;
}

static void pump_output(struct hook *h) {
    char buf[4096];
    ssize_t n = read(h->output_fd, buf, sizeof(buf));
    if (n > 0)
        keep_output(h, buf, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        close_fd(&h->output_fd);
}

static void pump_stdin(struct hook *h) {
    size_t skip = h->sent;
    for (int i = 0; i < 3; i++) {
        if (skip >= h->length[i]) {
            skip -= h->length[i];
            continue;
        }
        ssize_t n = write(h->stdin_fd, h->part[i] + skip, h->length[i] - skip);
        if (n > 0) {
            h->sent += (size_t)n;
            return;
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        break; /* a hook need not read its state: EPIPE is its right */
    }
    close_fd(&h->stdin_fd);
}

/* Until the hook ends. Returns 0, or -ETIMEDOUT when its time is over. */
static int pump(struct hook *h) {
    for (;;) {
        struct pollfd fds[3] = {{.fd = h->pidfd, .events = POLLIN},
                                {.fd = h->output_fd, .events = POLLIN},
                                {.fd = h->stdin_fd, .events = POLLOUT}};
        int64_t left = h->deadline ? h->deadline - now_ms() : -1;
        if (h->deadline && left <= 0)
            return -ETIMEDOUT;
        int n = poll(fds, 3, left > INT_MAX ? INT_MAX : (int)left);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n <= 0)
            continue;
        if (fds[2].revents)
            pump_stdin(h);
        if (fds[1].revents)
            pump_output(h);
        if (!fds[0].revents)
            continue;
        /* It may have left a daemon behind that holds the pipe: what is there now is all that is read. */
        for (int i = 0, there = 0; i < 64 && h->output_fd >= 0; i++) {
            if (ioctl(h->output_fd, FIONREAD, &there) < 0 || there <= 0)
                break;
            pump_output(h);
        }
        return 0;
    }
}

static int start(struct context *c, struct hook *h) {
    int in[2], out[2], status[2], err = 0;
    if (pipe2(in, O_CLOEXEC) < 0)
        return detail(c, -errno, "make a pipe");
    cleanup_fd int in_read = in[0], in_write = in[1];
    if (pipe2(out, O_CLOEXEC) < 0)
        return detail(c, -errno, "make a pipe");
    cleanup_fd int out_read = out[0], out_write = out[1];
    if (pipe2(status, O_CLOEXEC) < 0)
        return detail(c, -errno, "make a pipe");
    cleanup_fd int status_read = status[0], status_write = status[1];
    (void)fcntl(in_write, F_SETFL, O_NONBLOCK);
    (void)fcntl(out_read, F_SETFL, O_NONBLOCK);
    h->pid = sys_fork(0);
    if (h->pid == 0)
        hook_child(c, h, in_read, out_write, status_write);
    if (h->pid < 0)
        return detail(c, h->pid, "fork");
    close_fd(&status_write);
    int n = read_all(status_read, &err, sizeof(err));
    if (n == sizeof(err)) {
        (void)wait_pid(h->pid, NULL);
        return detail(c, err, "exec '%s'", h->path);
    }
    h->pidfd = sys_pidfd_open(h->pid, 0);
    if (h->pidfd < 0) {
        (void)kill(-h->pid, SIGKILL);
        (void)wait_pid(h->pid, NULL);
        return detail(c, h->pidfd, "watch the hook");
    }
    h->stdin_fd = steal_fd(&in_write);
    h->output_fd = steal_fd(&out_read);
    return 0;
}

/* The last words, on one line. */
static const char *last_words(struct hook *h) {
    size_t n = h->output_len;
    while (n > 0 && (h->output[n - 1] == '\n' || h->output[n - 1] == ' '))
        n--;
    h->output[n] = '\0';
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)h->output[i] < ' ' || h->output[i] == 127)
            h->output[i] = ' ';
    return h->output + strspn(h->output, " ");
}

static int finish(struct context *c, struct hook *h, int r, int64_t timeout_ms) {
    int status = 0;
    if (r < 0) {
        (void)kill(-h->pid, SIGKILL);
        (void)kill(h->pid, SIGKILL); /* where it has left its group */
    }
    int w = wait_pid(h->pid, &status);
    close_fd(&h->pidfd);
    close_fd(&h->stdin_fd);
    close_fd(&h->output_fd);
    const char *words = last_words(h), *colon = words[0] ? ", it wrote: " : "";
    if (r == -ETIMEDOUT)
        return detail(c, -ECANCELED, "killed after its timeout of %lld ms%s%s", (long long)timeout_ms, colon, words);
    if (r < 0 || w < 0)
        return detail(c, r < 0 ? r : w, "wait for the hook");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFSIGNALED(status))
        return detail(c, -ECANCELED, "killed by signal %d%s%s", WTERMSIG(status), colon, words);
    return detail(c, -ECANCELED, "exit status %d%s%s", WEXITSTATUS(status), colon, words);
}

/* Vector argument -> array for execve, which needs one; `first` stands for an empty vector's only element. */
#define VECTOR_MAX 1024
static int fill_vector(struct context *c, const struct arg *vec, const char *first, char *out[VECTOR_MAX]) {
    size_t n = 0;
    for (const char *p = vec_next(vec, NULL); p; p = vec_next(vec, p)) {
        if (n == VECTOR_MAX - 1)
            return detail(c, -E2BIG, "more than %d arguments or variables", VECTOR_MAX - 1);
        out[n++] = (char *)(uintptr_t)p;
    }
    if (n == 0 && first)
        out[n++] = (char *)(uintptr_t)first;
    out[n] = NULL;
    return 0;
}

static int run_hook(struct context *c, const struct step *s) {
    char *argv[VECTOR_MAX], *envp[VECTOR_MAX], pid[16];
    int64_t timeout_ms = (int64_t)s->arg[4].num;
    struct hook h = {.kind = s->arg[0].ptr, .path = s->arg[1].ptr, .argv = argv, .envp = envp,
                     .stdin_fd = -1, .output_fd = -1, .pidfd = -1};
    int r = fill_vector(c, &s->arg[2], h.path, argv);
    if (r == 0)
        r = fill_vector(c, &s->arg[3], NULL, envp); /* no environment means an empty one */
    if (r < 0)
        return r;
    h.part[0] = s->arg[5].ptr;
    h.length[0] = s->arg[5].len;
    h.part[1] = pid;
    h.length[1] = fmt(pid, sizeof(pid), "%d", c->init_pid > 0 ? c->init_pid : 0);
    h.part[2] = s->arg[6].ptr;
    h.length[2] = s->arg[6].len;
    h.deadline = timeout_ms > 0 ? now_ms() + timeout_ms : 0;
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    (void)sigaction(SIGPIPE, &ignore, &before);
    r = start(c, &h);
    if (r == 0)
        r = finish(c, &h, pump(&h), timeout_ms);
    (void)sigaction(SIGPIPE, &before, NULL);
    return r;
}

int step_hook(struct context *c, const struct step *s) {
    int r = run_hook(c, s);
    if (r == 0 || !(s->arg[7].num & HOOK_FAILURE_WARNS))
        return r;
    warning(c, "%s hook %s: %s%s%s", s->arg[0].ptr, s->arg[1].ptr, c->detail, r == -ECANCELED ? "" : ": ",
            r == -ECANCELED ? "" : error_text(r));
    return 0;
}
