/* Packets between front, stage, init and planner. */
#include "run.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "sys.h"

#define HEAD_LEN 16u

struct peer_failure peer_failure;

int message_send(int sock, const struct message_head *head, const void *bytes, size_t len, int fd) {
    uint32_t words[4] = {head->kind, head->step, (uint32_t)head->error, head->value};
    struct iovec iov[2] = {{words, sizeof(words)}, {(void *)(uintptr_t)bytes, len}};
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = len ? 2 : 1};
    if (fd >= 0) {
        msg.msg_control = control.buf;
        msg.msg_controllen = sizeof(control.buf);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
    }
    while (sendmsg(sock, &msg, MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

int message_tell(int sock, uint32_t kind, uint32_t step, int32_t error, uint32_t value) {
    struct message_head head = {.kind = kind, .step = step, .error = error, .value = value};
    return message_send(sock, &head, NULL, 0, -1);
}

void message_close_fds(struct message *m) {
    for (int i = 0; i < MSG_FDS; i++)
        close_fd(&m->fds[i]);
}

static void collect_fds(struct msghdr *msg, struct message *ret) {
    int n = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = 0; at + CMSG_LEN(sizeof(int)) <= c->cmsg_len; at += sizeof(int)) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + at, sizeof(fd));
            if (n < MSG_FDS)
                ret->fds[n++] = fd;
            else
                close(fd);
        }
    }
}

static int receive_now(int sock, struct message *ret) {
    uint32_t words[4];
    struct iovec iov[2] = {{words, sizeof(words)}, {ret->bytes, MSG_BYTES}};
    union {
        char buf[CMSG_SPACE(8 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2, .msg_control = control.buf, .msg_controllen = sizeof(control)};
    ssize_t n;
    /* A reset is what a peer's end looks like when it left something of ours unread. It is told once, and before what
     * the peer itself said last. */
    do
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    if (n < 0)
        return -errno;
    collect_fds(&msg, ret);
    if (n == 0) { /* the end, or an empty packet, which may have brought descriptors */
        message_close_fds(ret);
        return 0;
    }
    if ((size_t)n < HEAD_LEN || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        message_close_fds(ret);
        return -EPROTO;
    }
    ret->kind = words[0];
    ret->step = words[1];
    ret->error = (int32_t)words[2];
    ret->value = words[3];
    ret->len = (size_t)n - HEAD_LEN;
    ret->bytes[ret->len] = '\0';
    return 1;
}

int message_receive(int sock, struct message *ret, int timeout_ms) {
    ret->len = 0;
    ret->bytes[0] = '\0';
    for (int i = 0; i < MSG_FDS; i++)
        ret->fds[i] = -1;
    if (timeout_ms >= 0) {
        int r = wait_readable(sock, timeout_ms);
        if (r <= 0)
            return r < 0 ? r : -ETIMEDOUT;
    }
    return receive_now(sock, ret);
}

void note_peer_end(struct context *c, unsigned step) {
    bool stage = c->init_pid <= 0;
    pid_t pid = stage ? c->stage_pid : c->init_pid;
    siginfo_t info = {0};
    peer_failure = (struct peer_failure){
        .set = true, .actor = stage ? ACTOR_STAGE : ACTOR_INIT, .step = step, .error = -ECANCELED};
    const char *who = stage ? "the stage process" : "the container's first process";
    if (pid <= 0 || waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0) {
        fmt(peer_failure.detail, DETAIL_MAX, "%s is gone", who);
    } else if (info.si_code == CLD_EXITED) {
        fmt(peer_failure.detail, DETAIL_MAX, "%s exited with status %d", who, info.si_status);
    } else {
        fmt(peer_failure.detail, DETAIL_MAX, "%s was killed by signal %d", who, info.si_status);
    }
}

/* A foreground front blocks signals, to forward them later. Whoever wants to end it while init hangs in its setup, on
 * a dead file server for instance, must still be able to. */
static int blocked_end_signal(void) {
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    sigset_t pending;
    if (sigpending(&pending) < 0)
        return 0;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (sigismember(&pending, ends[i]))
            return ends[i];
    return 0;
}

#define PATIENCE_MS 1000

int peer_receive(struct context *c, struct message *ret) {
    for (;;) {
        int r = message_receive(c->peer, ret, PATIENCE_MS);
        int sig = r == -ETIMEDOUT ? blocked_end_signal() : 0;
        if (sig)
            return detail(c, -EINTR, "signal %d came first", sig);
        if (r != -ETIMEDOUT)
            return r < 0 ? detail(c, r, "read from the container's first process") : r;
    }
}

#define LAST_WORDS 0u /* no message's kind: all are read up to the end, or to a failure */

static int front_expect(struct context *c, uint32_t kind, unsigned step, struct message *ret) {
    for (;;) {
        int r = peer_receive(c, ret);
        if (r < 0)
            return r;
        if (r == 0) {
            note_peer_end(c, step);
            return -ECANCELED;
        }
        if (ret->kind == MSG_WARNING) {
            warning_sink(ret->bytes);
        } else if (ret->kind == MSG_FAIL) {
            peer_failure = (struct peer_failure){
                .set = true, .actor = ret->value ? ACTOR_INIT : ACTOR_STAGE, .step = ret->step, .error = ret->error};
            fmt(peer_failure.detail, DETAIL_MAX, "%s", ret->bytes);
            message_close_fds(ret);
            return -ECANCELED;
        } else if (ret->kind == kind && ret->step == step) {
            return 0;
        } else if (kind != LAST_WORDS) {
            message_close_fds(ret);
            return detail(c, -EPROTO, "message %u of step %u while waiting for %u of step %u", ret->kind, ret->step, kind, step);
        }
        message_close_fds(ret);
    }
}

int peer_expect(struct context *c, uint32_t kind, unsigned step, struct message *ret) {
    if (c->peer < 0)
        return detail(c, -ENOTCONN, "no process stands at the other end");
    if (c->actor == ACTOR_FRONT)
        return front_expect(c, kind, step, ret);
    /* Nobody is left to tell: without its front, a child has nothing to live for. */
    int r = message_receive(c->peer, ret, -1);
    if (r == 0)
        _exit(1);
    if (r > 0 && (ret->kind != kind || ret->step != step)) {
        message_close_fds(ret);
        r = -EPROTO;
    }
    return r < 0 ? detail(c, r, "read from the front") : 0;
}

int peer_send(struct context *c, const struct message_head *head, const void *bytes, size_t len, int fd) {
    static struct message m;
    int r = c->peer < 0 ? -ESRCH : message_send(c->peer, head, bytes, len, fd);
    if (c->actor == ACTOR_FRONT && (r == -EPIPE || r == -ECONNRESET))
        return front_expect(c, LAST_WORDS, head->step, &m);
    return r;
}

void event_send(struct context *c, uint32_t kind, uint32_t step, int error, uint32_t value, const void *bytes, size_t len) {
    struct message_head head = {.kind = kind, .step = step, .error = error, .value = value};
    if (c->planner >= 0)
        (void)message_send(c->planner, &head, bytes, len < MSG_BYTES ? len : MSG_BYTES, -1);
}
