/* The monitor's side of the keeper: what is held there, and finding another one when it is gone. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "monitor/monitor.h"

extern char **environ;

#define RETRY_MS 200
#define RETRY_MAX_MS 30000

void keeper_hold(struct monitor *m, enum held which, int fd, pid_t pid) {
    struct message_head head = {.kind = SUP_HOLD, .step = which, .value = (uint32_t)pid};
    if (m->keeper >= 0 && fd >= 0)
        (void)message_send(m->keeper, &head, NULL, 0, fd);
}

void keeper_hold_all(struct monitor *m) {
    const struct stream *s = m->stream;
    keeper_hold(m, HELD_INIT, m->init_pidfd, m->init);
    keeper_hold(m, m->spec.terminal ? HELD_PTY : HELD_STDOUT, s[0].from, 0);
    keeper_hold(m, HELD_STDOUT_IN, s[0].in, 0);
    keeper_hold(m, HELD_STDOUT_OUT, s[0].out, 0);
    keeper_hold(m, HELD_STDERR, s[1].from, 0);
    keeper_hold(m, HELD_STDERR_IN, s[1].in, 0);
    keeper_hold(m, HELD_STDERR_OUT, s[1].out, 0);
}

void keeper_serve(struct monitor *m) {
    static struct message msg;
    for (;;) {
        int r = message_receive(m->keeper, &msg, -1);
        if (r == -EAGAIN)
            return;
        if (r <= 0) {
            close_fd(&m->keeper);
            m->asked_keeper = false;
            m->keeper_tries = 0;
            /* All monitors see it at once: whoever comes first starts another, the rest find that. */
            m->keeper_retry = now_ms() + sys_getpid() % 64;
            return;
        }
        message_close_fds(&msg);
        if (msg.kind == SUP_REAPED)
            exit_told(m, (int)msg.value);
        if (msg.kind == SUP_OK)
            m->told_keeper = true;
    }
}

static void start_keeper(struct monitor *m) {
    char *argv[] = {(char *)(uintptr_t)m->keeper_program, (char *)(uintptr_t)m->keeper_run, NULL};
    pid_t pid = sys_fork(0);
    if (pid == 0) {
        reset_signals();
        (void)sys_close_range(3, ~0u, 0);
        execve(m->keeper_program, argv, environ);
        _exit(127);
    }
    if (pid > 0)
        monitor_add_helper(m, pid);
}

static int find_keeper(struct monitor *m) {
    struct message_head head = {.kind = SUP_HELLO};
    cleanup_fd int dir = open_at(AT_FDCWD, m->keeper_run, O_PATH | O_DIRECTORY, 0);
    cleanup_fd int sock = dir < 0 ? dir : connect_at(dir, "keeper.sock");
    if (sock < 0)
        return sock;
    int r = peer_is_trusted(sock) ? message_send(sock, &head, m->spec.run, strlen(m->spec.run) + 1, -1) : -EPERM;
    if (r < 0)
        return r;
    m->keeper = steal_fd(&sock);
    return 0;
}

void keeper_seek(struct monitor *m) {
    if (m->keeper >= 0 || now_ms() < m->keeper_retry)
        return;
    if (find_keeper(m) == 0) {
        keeper_hold_all(m);
        return;
    }
    if (directory_is_removed(m->run) || directory_is_removed(m->dir)) {
        /* Nobody can find, stop or start it any more: a process of a store that was removed does not outlive it. */
        if (m->init_pidfd >= 0)
            (void)sys_pidfd_send_signal(m->init_pidfd, SIGKILL);
        m->keeper_retry = now_ms() + RETRY_MAX_MS;
        return;
    }
    start_keeper(m);
    int64_t wait = (int64_t)RETRY_MS << (m->keeper_tries < 8 ? m->keeper_tries : 8);
    m->keeper_tries++;
    m->keeper_retry = now_ms() + (wait < RETRY_MAX_MS ? wait : RETRY_MAX_MS);
}
