/* The relay between the caller's terminal and the container's. */
#include "front/tty.h"

#include <sys/ioctl.h>
#include <termios.h>

#include "executor/sys.h"

static struct termios saved;
static bool is_raw;

void tty_resize(const struct tty *t) {
    struct winsize size;
    if (t->master >= 0 && t->terminal >= 0 && ioctl(t->terminal, TIOCGWINSZ, &size) == 0)
        (void)ioctl(t->master, TIOCSWINSZ, &size);
}

static void make_raw(int terminal) {
    struct termios raw;
    if (tcgetattr(terminal, &saved) < 0)
        return;
    raw = saved;
    cfmakeraw(&raw);
    is_raw = tcsetattr(terminal, TCSANOW, &raw) == 0;
}

void tty_start(struct tty *t, int master) {
    t->master = master;
    t->terminal = -1;
    t->input_open = true;
    t->in.from = t->in.to = t->out.from = t->out.to = 0;
    if (master < 0)
        return;
    (void)fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK);
    for (int fd = 0; fd <= 2 && t->terminal < 0; fd++)
        if (isatty(fd))
            t->terminal = fd;
    if (isatty(0))
        make_raw(0);
    tty_resize(t);
}

int tty_poll_entries(struct tty *t, struct pollfd *fds) {
    bool in_full = t->in.from < t->in.to, out_full = t->out.from < t->out.to;
    if (t->master < 0)
        return 0;
    fds[0] = (struct pollfd){.fd = t->master, .events = (short)((out_full ? 0 : POLLIN) | (in_full ? POLLOUT : 0))};
    fds[1] = (struct pollfd){.fd = !in_full && t->input_open ? 0 : -1, .events = POLLIN};
    fds[2] = (struct pollfd){.fd = out_full ? 1 : -1, .events = POLLOUT};
    /* Nothing wanted of the master: its hang-up would wake us for ever. */
    if (!fds[0].events)
        fds[0].fd = -1;
    return 3;
}

/* 1 = got some, 0 = not now, -1 = the end. */
static int fill(struct flow *f, int fd) {
    ssize_t n = read(fd, f->buf, sizeof(f->buf));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) /* EIO: no process has the container's side open */
        return -1;
    f->from = 0;
    f->to = (size_t)n;
    return 1;
}

/* False: the other side is gone, and what is left is dropped. */
static bool drain(struct flow *f, int fd) {
    ssize_t n = write(fd, f->buf + f->from, f->to - f->from);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n < 0) {
        f->from = f->to = 0;
        return false;
    }
    f->from += (size_t)n;
    return true;
}

bool tty_pump(struct tty *t, const struct pollfd *fds, int n) {
    if (n < 3 || t->master < 0)
        return true;
    if (fds[2].revents)
        (void)drain(&t->out, 1);
    if (fds[0].revents & POLLOUT)
        (void)drain(&t->in, t->master);
    if (fds[1].revents && fill(&t->in, 0) < 0)
        t->input_open = false;
    if ((fds[0].revents & (POLLIN | POLLHUP | POLLERR)) && t->out.from == t->out.to && fill(&t->out, t->master) < 0) {
        close_fd(&t->master);
        return false;
    }
    return true;
}

#define FLUSH_MS 2000

static void flush_out(struct tty *t, int64_t end) {
    while (t->out.from < t->out.to && now_ms() < end) {
        struct pollfd out = {.fd = 1, .events = POLLOUT};
        if (poll(&out, 1, 100) > 0)
            (void)drain(&t->out, 1);
    }
}

void tty_finish(struct tty *t) {
    int64_t end = now_ms() + FLUSH_MS;
    flush_out(t, end);
    while (t->master >= 0 && now_ms() < end && fill(&t->out, t->master) > 0)
        flush_out(t, end);
    close_fd(&t->master);
    if (is_raw)
        (void)tcsetattr(0, TCSADRAIN, &saved);
    is_raw = false;
}
