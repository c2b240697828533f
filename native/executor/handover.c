/* Rendezvous, and everything that the front hands to sockets and files of the caller. */
#include <stddef.h>
#include <stdio.h> /* rename */
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "journal.h"
#include "run.h"
#include "sys.h"

struct verdict verdict;

/* SYNC(name): the child asks and waits, the front answers. */
int step_sync(struct context *c, const struct step *s) {
    struct message m;
    int r;
    if (c->actor == ACTOR_FRONT) {
        r = peer_expect(c, MSG_SYNC, s->index, &m);
        if (r < 0)
            return r;
        struct message_head go = {.kind = MSG_GO, .step = s->index, .value = (uint32_t)c->init_pid};
        r = peer_send(c, &go, NULL, 0, -1);
        return r < 0 ? detail(c, r, "answer the container's first process") : 0;
    }
    r = message_tell(c->peer, MSG_SYNC, s->index, 0, 0);
    if (r < 0)
        _exit(1);
    r = peer_expect(c, MSG_GO, s->index, &m);
    if (r == 0 && m.value > 0)
        c->init_pid = (pid_t)m.value;
    return r;
}

static int give(struct context *c, const struct step *s, uint32_t kind) {
    struct message_head head = {.kind = kind, .step = s->index};
    int fd = slot_get(c, s->arg[0].num);
    if (fd < 0)
        return fd;
    int r = peer_send(c, &head, NULL, 0, fd);
    return r < 0 ? detail(c, r, "send descriptor %llu", (unsigned long long)s->arg[0].num) : 0;
}

static int take(struct context *c, const struct step *s, uint32_t kind) {
    struct message m;
    int r = peer_expect(c, kind, s->index, &m);
    if (r < 0)
        return r;
    int fd = steal_fd(&m.fds[0]);
    message_close_fds(&m);
    if (fd < 0)
        return detail(c, -EPROTO, "a message without its descriptor");
    return slot_put(c, s->arg[0].num, fd);
}

int step_pass_fd(struct context *c, const struct step *s) {
    return c->actor == ACTOR_FRONT ? give(c, s, MSG_GIVE_FD) : take(c, s, MSG_GIVE_FD);
}

int step_take_fd(struct context *c, const struct step *s) {
    return c->actor == ACTOR_FRONT ? take(c, s, MSG_FD) : give(c, s, MSG_FD);
}

int step_warn(struct context *c, const struct step *s) {
    warning(c, "%s", s->arg[0].ptr);
    return 0;
}

int step_front_mode(struct context *c, const struct step *s) {
    c->mode = (unsigned)s->arg[0].num;
    if (s->arg[1].num > 1024)
        return detail(c, -EINVAL, "%llu descriptors to keep", (unsigned long long)s->arg[1].num);
    c->preserve_fds = (unsigned)s->arg[1].num;
    /* What the caller handed down is inheritable, and all of ours is close-on-exec: one of ours in the container would
     * be a door to the host (CVE-2024-21626). */
    for (int fd = 3; fd < 3 + (int)c->preserve_fds; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags < 0 || flags & FD_CLOEXEC)
            return detail(c, -EBADF, "keep descriptor %d, which the caller did not pass", fd);
    }
    return 0;
}

/* An address may hold 107 bytes; longer paths go through a descriptor of their directory. */
static int make_address(const char *path, struct sockaddr_un *ret, int *dir) {
    const char *slash = strrchr(path, '/');
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    *dir = -1;
    if (strlen(path) < sizeof(ret->sun_path)) {
        memcpy(ret->sun_path, path, strlen(path));
        return 0;
    }
    char folder[4096];
    if (!slash || (size_t)(slash - path) >= sizeof(folder) || strlen(slash + 1) > 64)
        return -ENAMETOOLONG;
    fmt(folder, sizeof(folder), "%.*s", (int)(slash - path), path);
    *dir = open_at(AT_FDCWD, folder, O_PATH | O_DIRECTORY, 0);
    fmt(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", *dir, slash + 1);
    return *dir < 0 ? *dir : 0;
}

int connect_unix(const char *path, int type) {
    struct sockaddr_un address;
    cleanup_fd int dir = -1;
    int r = make_address(path, &address, &dir);
    if (r < 0)
        return r;
    cleanup_fd int sock = sys_result(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    if (sock < 0)
        return sock;
    do
        r = sys_result(connect(sock, (struct sockaddr *)&address, sizeof(address)));
    while (r == -EINTR);
    return r < 0 ? r : steal_fd(&sock);
}

/* One sendmsg of bytes and one descriptor: what terminal, seccomp and pidfd receivers expect. */
static int send_fd(int sock, const char *bytes, size_t len, int fd) {
    struct iovec iov = {(void *)(uintptr_t)bytes, len};
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control)};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
    ssize_t n;
    do
        n = sendmsg(sock, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : (size_t)n == len ? 0 : -EMSGSIZE;
}

int step_console_connect(struct context *c, const struct step *s) {
    int fd = connect_unix(s->arg[0].ptr, SOCK_STREAM);
    return fd < 0 ? detail(c, fd, "connect to '%s'", s->arg[0].ptr) : slot_put(c, s->arg[1].num, fd);
}

int step_console_send(struct context *c, const struct step *s) {
    int master = slot_get(c, s->arg[0].num), sock = slot_get(c, s->arg[1].num);
    if (master < 0 || sock < 0)
        return -EBADF;
    int r = send_fd(sock, "/dev/ptmx", strlen("/dev/ptmx"), master);
    close_fd(&c->slot[s->arg[1].num]);
    close_fd(&c->slot[s->arg[0].num]);
    return r < 0 ? detail(c, r, "send the terminal") : 0;
}

int step_pidfd_send(struct context *c, const struct step *s) {
    cleanup_fd int sock = connect_unix(s->arg[0].ptr, SOCK_STREAM);
    if (sock < 0)
        return detail(c, sock, "connect to '%s'", s->arg[0].ptr);
    int r = send_fd(sock, "pidfd", strlen("pidfd"), c->init_pidfd);
    return r < 0 ? detail(c, r, "send to '%s'", s->arg[0].ptr) : 0;
}

int step_seccomp_send(struct context *c, const struct step *s) {
    static char text[65536];
    int notify = slot_get(c, s->arg[4].num);
    if (notify < 0)
        return notify;
    cleanup_fd int sock = connect_unix(s->arg[0].ptr, SOCK_STREAM);
    if (sock < 0)
        return detail(c, sock, "connect to '%s'", s->arg[0].ptr);
    /* An empty middle: the state's pid is another's, and stands in the head already (exec). */
    size_t n = fmt(text, sizeof(text), "%s%d", s->arg[1].ptr, c->init_pid);
    if (s->arg[2].len)
        n += fmt(text + n, sizeof(text) - n, "%s%d", s->arg[2].ptr, c->init_pid);
    n += fmt(text + n, sizeof(text) - n, "%s", s->arg[3].ptr);
    if (n + 1 >= sizeof(text))
        return detail(c, -E2BIG, "the state for '%s'", s->arg[0].ptr);
    int r = send_fd(sock, text, n, notify);
    close_fd(&c->slot[s->arg[4].num]);
    return r < 0 ? detail(c, r, "send to '%s'", s->arg[0].ptr) : 0;
}

/* START_LISTEN(listen slot, lock slot): packet socket start.sock and the lock by which created is told from running. */
int step_start_listen(struct context *c, const struct step *s) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    cleanup_fd int sock = sys_result(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (sock < 0)
        return detail(c, sock, "open a socket");
    fmt(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/start.sock", c->record);
    (void)unlinkat(c->record, "start.sock", 0);
    if (bind(sock, (struct sockaddr *)&address, sizeof(address)) < 0)
        return detail(c, -errno, "bind 'start.sock' in the record");
    if (listen(sock, 1) < 0)
        return detail(c, -errno, "listen on 'start.sock' in the record");
    cleanup_fd int lock = open_at(c->record, "init.lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) < 0)
        return detail(c, lock < 0 ? lock : -errno, "lock 'init.lock' in the record");
    int r = slot_put(c, s->arg[0].num, steal_fd(&sock));
    if (r == 0)
        r = slot_put(c, s->arg[1].num, steal_fd(&lock));
    birth_slots[0] = (int)s->arg[0].num;
    birth_slots[1] = (int)s->arg[1].num;
    return r;
}

/* The pid file that is in its place, borrowed from the plan. */
static const char *pid_file;

/* PID_FILE(path): complete at the moment it appears under its name. */
int step_pid_file(struct context *c, const struct step *s) {
    char text[16], scratch[4200];
    const char *path = s->arg[0].ptr, *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash - path) + 1 : 0;
    size_t n = fmt(text, sizeof(text), "%d", c->init_pid);
    fmt(scratch, sizeof(scratch), "%.*s.%s.%d", folder, path, path + folder, sys_getpid());
    int r = write_file_at(AT_FDCWD, scratch, O_CREAT | O_EXCL | O_NOFOLLOW, text, n);
    if (r == 0 && (chmod(scratch, 0644) < 0 || rename(scratch, path) < 0))
        r = -errno;
    if (r < 0)
        (void)unlink(scratch);
    else
        pid_file = path;
    return r < 0 ? detail(c, r, "open '%s'", path) : 0;
}

void pid_file_withdraw(struct context *c) {
    char text[16];
    int pid;
    if (!pid_file || read_file_at(AT_FDCWD, pid_file, text, sizeof(text)) <= 0)
        return;
    /* Another container's by now, perhaps. */
    if (parse_int(text, 1, INT32_MAX, &pid) && pid == c->init_pid)
        (void)unlink(pid_file);
}

#define VERDICT_MS 30000

/* SCOPE: systemd's units are the planner's, as D-Bus is; the stub it needs at their birth exists here alone. */
int step_scope(struct context *c, const struct step *s) {
    static struct message m;
    if (c->planner < 0)
        return detail(c, -ENOTCONN, "no planner to ask systemd");
    char holder[16];
    size_t len = c->holder_pid > 0 ? fmt(holder, sizeof(holder), "%d", c->holder_pid) : 0;
    event_send(c, MSG_SCOPE, s->index, 0, (uint32_t)c->init_pid, holder, len);
    int r = await_verdict(c, &m);
    if (r < 0)
        return r;
    return verdict.commit ? 0 : detail(c, -ECANCELED, "%s", verdict.message);
}

/* COMMIT: the planner judges what was read back. No planner at all (a program, a test) is a yes; silence is a no. */
int step_commit(struct context *c, const struct step *s) {
    static struct message m;
    if (c->planner < 0)
        return 0;
    event_send(c, MSG_READY, s->index, 0, 0, NULL, 0);
    int r = await_verdict(c, &m);
    if (r < 0)
        return r;
    return verdict.commit ? 0 : detail(c, -ECANCELED, "%s", verdict.message);
}

int await_verdict(struct context *c, struct message *m) {
    int64_t end = now_ms() + VERDICT_MS;
    for (;;) {
        int64_t left = end - now_ms();
        int r = message_receive(c->planner, m, left > 0 ? (int)left : 0);
        if (r <= 0) {
            verdict.silent = true;
            return detail(c, -ECANCELED, r == 0 ? "the planner ended before its verdict" : "the planner gave no verdict");
        }
        message_close_fds(m);
        if (m->kind == MSG_PLAN_WARNING)
            warning_sink(m->bytes);
        if (m->kind != MSG_VERDICT)
            continue;
        size_t first = strnlen(m->bytes, m->len);
        verdict = (struct verdict){.given = true, .commit = m->value == 1};
        fmt(verdict.message, sizeof(verdict.message), "%s", m->bytes);
        if (first < m->len)
            fmt(verdict.hint, sizeof(verdict.hint), "%s", m->bytes + first + 1);
        return 0;
    }
}

/* DONE: from here on the container stands on its own. */
int step_done(struct context *c, const struct step *s) {
    (void)s;
    int r = journal_append(c->journal, JOURNAL_COMMIT, 0, 0, 0);
    if (r < 0)
        return detail(c, r, "write the record's journal");
    close_fd(&c->owner_lock);
    return 0;
}
