/* Descriptors of clients. They are somebody else's terminals, pipes, files and sockets: their flags are not ours to change,
 * and a client that does not read must not stop us. */
#include <poll.h>
#include <sys/socket.h>

#include "monitor/monitor.h"

struct sink sink_open(int fd, int flags) {
    struct stat st;
    char path[40];
    if (fd < 0 || fstat(fd, &st) < 0) {
        if (fd >= 0)
            close(fd);
        return (struct sink){.fd = -1};
    }
    if (S_ISSOCK(st.st_mode))
        return (struct sink){fd, SINK_SOCKET};
    if (S_ISREG(st.st_mode))
        return (struct sink){fd, SINK_NONBLOCKING};
    /* Opened anew, so that O_NONBLOCK is ours alone. (A regular file must not be: it has an offset.) */
    if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
        fd_path(path, fd);
        int own = open_at(AT_FDCWD, path, flags | O_NONBLOCK | O_NOCTTY, 0);
        if (own >= 0) {
            close(fd);
            return (struct sink){own, SINK_NONBLOCKING};
        }
    }
    return (struct sink){fd, SINK_POLLED};
}

void sink_close(struct sink *s) {
    close_fd(&s->fd);
    s->kind = SINK_NONE;
}

/* A pipe that is writable takes PIPE_BUF bytes without blocking; of other things we hope for the same. */
#define POLLED_MAX 4096

static bool is_ready(int fd, short events) {
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, 0) > 0;
}

ssize_t sink_write(const struct sink *s, const char *bytes, size_t len) {
    ssize_t n;
    if (s->kind == SINK_POLLED && !is_ready(s->fd, POLLOUT))
        return -EAGAIN;
    do
        n = s->kind == SINK_SOCKET ? send(s->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL)
                                   : write(s->fd, bytes, s->kind == SINK_POLLED && len > POLLED_MAX ? POLLED_MAX : len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t sink_read(const struct sink *s, char *buf, size_t size) {
    ssize_t n;
    if (s->kind == SINK_POLLED && !is_ready(s->fd, POLLIN))
        return -EAGAIN;
    do
        n = s->kind == SINK_SOCKET ? recv(s->fd, buf, size, MSG_DONTWAIT) : read(s->fd, buf, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}
