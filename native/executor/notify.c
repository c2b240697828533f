/* NOTIFY_LISTEN and NOTIFY_RELAY: a service manager waits on the host for a READY=1 that is sent in the container.
 *
 * The container gets a socket of ours, never the host's own: of what it says, only its readiness passes, with the pid
 * of its first process as the host sees it. */
#include "notify.h"

#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "sys.h"

static struct {
    int fd;
    const char *host;
} relay = {.fd = -1};

int notify_fd(void) { return relay.host ? relay.fd : -1; }

/* The directory of `path`, made if missing, and the last component. Relative paths are below the record. */
static int open_directory(struct context *c, const char *path, const char **name) {
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int base = path[0] == '/' ? AT_FDCWD : c->record;
    *name = slash ? slash + 1 : path;
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (len >= sizeof(dir) || !**name)
        return -EINVAL;
    memcpy(dir, path, len);
    dir[len] = '\0';
    if (len && mkdirat(base, dir, 0755) < 0 && errno != EEXIST)
        return -errno;
    return open_at(base, len ? dir : ".", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
}

static int listen_at(struct context *c, const char *path) {
    const char *name;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    cleanup_fd int dir = open_directory(c, path, &name);
    if (dir < 0)
        return dir;
    /* Through the descriptor the path is always short enough for a socket's address. */
    const size_t room = sizeof(address.sun_path);
    if (fmt(address.sun_path, room, "/proc/self/fd/%d/%s", dir, name) + 1 >= room)
        return -ENAMETOOLONG;
    cleanup_fd int fd = sys_result(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0)
        return fd;
    (void)unlinkat(dir, name, 0); /* of a create that went before this start */
    mode_t mask = umask(0);       /* any user of the container may report, once it finds the socket */
    int r = sys_result(bind(fd, (struct sockaddr *)&address, sizeof(address)));
    umask(mask);
    return r < 0 ? r : steal_fd(&fd);
}

int step_notify_listen(struct context *c, const struct step *s) {
    int fd = listen_at(c, s->arg[0].ptr);
    if (fd < 0)
        return detail(c, fd, "listen on '%s'", s->arg[0].ptr);
    close_fd(&relay.fd);
    relay.fd = fd;
    return 0;
}

/* A `run` that stays has signals and a terminal to look after as well: its own loop does the relaying. `start` has no
 * socket to init, and no loop. */
static bool stays(const struct context *c) { return c->peer >= 0 && !(c->mode & MODE_DETACH); }

static int send_ready(struct context *c) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[64];
    size_t len = strlen(relay.host);
    if (len >= sizeof(address.sun_path))
        return detail(c, -ENAMETOOLONG, "connect to '%s'", relay.host);
    memcpy(address.sun_path, relay.host, len);
    if (address.sun_path[0] == '@')
        address.sun_path[0] = '\0';
    cleanup_fd int sock = sys_result(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (sock < 0)
        return detail(c, sock, "open a socket");
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (address.sun_path[0] != '\0'));
    /* A service manager watches the process that it started where that stays, and init where nothing else does. */
    pid_t pid = stays(c) ? sys_getpid() : c->init_pid;
    size_t n = fmt(text, sizeof(text), "MAINPID=%d\nREADY=1", pid);
    ssize_t sent = sendto(sock, text, n, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address, size);
    return sent < 0 ? detail(c, -errno, "send to '%s'", relay.host) : 0;
}

/* Whether one of the datagram's lines is READY=1. */
static bool says_ready(const char *text) {
    for (const char *line = text; line; line = strchr(line, '\n')) {
        if (*line == '\n')
            line++;
        if (text_starts(line, "READY=1") && (line[7] == '\0' || line[7] == '\n'))
            return true;
    }
    return false;
}

int notify_pump(struct context *c) {
    char buf[4097];
    ssize_t n = recv(relay.fd, buf, sizeof(buf) - 1, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    buf[n] = '\0';
    if (!says_ready(buf))
        return 0;
    int r = send_ready(c);
    close_fd(&relay.fd);
    return r < 0 ? r : 1;
}

int step_notify_relay(struct context *c, const struct step *s) {
    if (relay.fd < 0) {
        int fd = listen_at(c, s->arg[0].ptr);
        if (fd < 0)
            return detail(c, fd, "listen on '%s'", s->arg[0].ptr);
        relay.fd = fd;
    }
    relay.host = s->arg[1].ptr;
    if (stays(c))
        return 0;
    for (;;) {
        struct pollfd fds[2] = {{.fd = relay.fd, .events = POLLIN}, {.fd = c->init_pidfd, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return detail(c, -errno, "wait for the container's readiness");
        int r = fds[0].revents ? notify_pump(c) : 0;
        if (r != 0)
            return r < 0 ? r : 0;
        if (fds[1].revents) /* it ended and never was ready: its own fault, and not that of start */
            break;
    }
    close_fd(&relay.fd);
    return 0;
}
