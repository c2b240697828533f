/* The last steps of the process: its program, the wait for start, its descriptors, the exec. */
#include <linux/limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "run.h"
#include "sys.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* 0 if `path` is a file that this process may execute, else why not. */
static int is_executable(const char *path) {
    struct stat st;
    if (stat(path, &st) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return -EACCES;
    /* With the ids of now, which are those of the exec; real ids equal effective ones here. */
    int r = sys_faccessat2(AT_FDCWD, path, X_OK, AT_EACCESS);
    if (r == -ENOSYS || r == -EINVAL) /* before 5.8 */
        r = access(path, X_OK) < 0 ? -errno : 0;
    /* A root without CAP_DAC_OVERRIDE is told EACCES, rightly; with it, any file will do if one x bit is set. */
    return r;
}

static int search_path(struct context *c, const char *name, const char *path) {
    int answer = -ENOENT;
    while (true) {
        size_t len = strcspn(path, ":");
        const char *dir = len ? path : ".";
        size_t n = fmt(c->program, sizeof c->program, "%.*s/%s", (int)(len ? len : 1), dir, name);
        if (n + 1 < sizeof c->program) {
            int r = is_executable(c->program);
            if (r == 0)
                return 0;
            if (r == -EACCES)
                answer = -EACCES; /* found, but not for us: keep looking, and remember */
        }
        if (!path[len])
            return answer;
        path += len + 1;
    }
}

/* Inside the container, so that a missing program is reported by create, in the words that callers look for. */
int step_find_program(struct context *c, const struct step *s) {
    const char *name = s->arg[0].ptr;
    int r;
    if (strchr(name, '/')) {
        if (s->arg[0].len >= sizeof c->program)
            return detail(c, -ENAMETOOLONG, "stat %s", name);
        memcpy(c->program, name, s->arg[0].len + 1);
        r = is_executable(name);
        return r < 0 ? detail(c, r, "stat %s", name) : 0;
    }
    r = search_path(c, name, s->arg[1].len ? s->arg[1].ptr : DEFAULT_PATH);
    if (r == -ENOENT)
        return detail(c, r, "\"%s\": executable file not found in $PATH", name);
    return r < 0 ? detail(c, r, "\"%s\"", name) : 0;
}

/* Everything is close-on-exec but 0, 1, 2 and the n descriptors after them that the caller passes on. The terminal,
 * if the container has one, becomes 0, 1 and 2 and controls the session. */
int step_prepare_fds(struct context *c, const struct step *s) {
    unsigned keep = (unsigned)s->arg[0].num;
    if (c->console_slave >= 0) {
        for (int fd = 0; fd <= 2; fd++)
            if (dup2(c->console_slave, fd) < 0)
                return detail(c, -errno, "dup2 the terminal to descriptor %d", fd);
        if (ioctl(0, TIOCSCTTY, 0) < 0)
            return detail(c, -errno, "make the terminal control the session");
    }
    int r = sys_close_range(3 + keep, ~0u, CLOSE_RANGE_CLOEXEC);
    if (r == -ENOSYS || r == -EINVAL) { /* before 5.9 and 5.11 */
        for (int fd = 3 + (int)keep; fd < 4096; fd++)
            (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        r = 0;
    }
    for (unsigned fd = 3; fd < 3 + keep; fd++)
        (void)fcntl((int)fd, F_SETFD, 0);
    return r < 0 ? detail(c, r, "close_range") : 0;
}

#define OVERFLOW_UID 65534u

/* The peer must be the container's maker or root. A listening socket carries the credentials of whoever called
 * listen(2), shown in the same user namespace as the peer's; a root that this one does not map shows as the overflow
 * id. All this is a second lock: the record is a directory of mode 0700. */
static bool peer_may_start(int listener, int sock) {
    struct ucred maker, peer;
    socklen_t size = sizeof maker;
    /* A filter with a listener is in force already, and may refuse the question. */
    if (getsockopt(listener, SOL_SOCKET, SO_PEERCRED, &maker, &size) < 0)
        return true;
    size = sizeof peer;
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return true;
    return peer.uid == maker.uid || peer.uid == 0 || peer.uid == OVERFLOW_UID;
}

static void end_unstarted(int sig) { _exit(128 + sig); }

/* The first process of a pid namespace is deaf to signals that it has no handler for, yet what ends a program has to end
 * a container that was created only. The exec takes the handlers away. */
static void hear_ends(void) {
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction action = {.sa_handler = end_unstarted};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        (void)sigaction(ends[i], &action, NULL);
}

/* Blocks until `start` connects. From here on the front is gone, so warnings and failures go down that connection: it
 * becomes the peer. The lock goes with the exec, too: it is what tells created from running. */
int step_wait_start(struct context *c, const struct step *s) {
    int listener = slot_get(c, s->arg[0].num);
    if (listener < 0)
        return listener;
    close_fd(&c->peer);
    hear_ends();
    while (true) {
        cleanup_fd int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (sock < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            return detail(c, -errno, "accept on the start socket");
        }
        if (!peer_may_start(listener, sock))
            continue;
        c->peer = steal_fd(&sock);
        break;
    }
    /* One start only: whoever comes second is refused at once instead of waiting in the queue for ever. */
    close_fd(&c->slot[s->arg[0].num]);
    return 0;
}

static char **make_vector(const struct arg *vec, const char *extra) {
    size_t n = vec_count(vec), i = 0;
    char **out = calloc(n + 2, sizeof *out);
    if (!out)
        return NULL;
    for (const char *item = vec_next(vec, NULL); item; item = vec_next(vec, item))
        if (!extra || strcmp(item, "HOME=") != 0) /* an empty one would be found first */
            out[i++] = (char *)(uintptr_t)item;
    if (extra)
        out[i++] = (char *)(uintptr_t)extra;
    return out;
}

static bool has_home(const struct arg *env) {
    for (const char *item = vec_next(env, NULL); item; item = vec_next(env, item))
        if (text_starts(item, "HOME=") && item[5])
            return true;
    return false;
}

int step_exec(struct context *c, const struct step *s) {
    char home[PATH_MAX + 8];
    const char *extra = NULL;
    if (c->home && !has_home(&s->arg[1])) {
        fmt(home, sizeof home, "HOME=%s", c->home);
        extra = home;
    }
    char **argv = make_vector(&s->arg[0], NULL), **env = make_vector(&s->arg[1], extra);
    if (!argv || !env)
        return -ENOMEM;
    execve(c->program, argv, env);
    int err = -errno;
    struct stat st;
    if (err == -ENOENT && stat(c->program, &st) == 0)
        return detail(c, err, "%s: its interpreter", c->program);
    return detail(c, err, "%s", c->program);
}
