/* Asking Python for a plan: the resident planner of this state root, or a cold child. */
#include "front/planner.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "executor/journal.h"
#include "launch/program.h"

#define COLD_MS 60000
#define RESIDENT_MS 10000
#define END_MS 2000
#define RECLAIMS 3

/* ---- where the planner is ------------------------------------------------------------------------------------ */

/* The socket is taken only from a directory that is ours alone, and only if our own uid listens on it: a plan is
 * executed with our rights. */
static int connect_resident(const struct invocation *inv) {
    char path[PATH_MAX + 16];
    struct stat st;
    struct ucred peer;
    socklen_t len = sizeof(peer);
    if (lstat(inv->root, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)))
        return -ENOENT;
    fmt(path, sizeof(path), "%s/.planner.sock", inv->root);
    cleanup_fd int sock = connect_unix(path, SOCK_SEQPACKET);
    if (sock < 0)
        return sock;
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != geteuid())
        return -EPERM;
    return steal_fd(&sock);
}

static _Noreturn void exec_cold(const char *interpreter, const char *launcher, int sock) {
    /* Nothing of the caller's environment reaches the interpreter: only what spares it a search for a locale. */
    static char *environment[] = {(char *)(uintptr_t) "LC_CTYPE=C.UTF-8", NULL};
    char *argv[] = {(char *)(uintptr_t)interpreter, (char *)(uintptr_t) "-ISE", (char *)(uintptr_t)launcher,
                    (char *)(uintptr_t) "--planner-fd=3", NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (sock == 3)
        (void)fcntl(3, F_SETFD, 0);
    else
        (void)dup2(sock, 3);
    (void)dup2(null, 0);
    (void)dup2(null, 1);
    (void)sys_close_range(4, ~0u, 0);
    reset_signals();
    execve(interpreter, argv, environment);
    say(2, "run '%s': %s\n", interpreter, error_text(errno));
    _exit(127);
}

static int spawn_cold(struct answer *ret) {
    static char interpreter[PATH_MAX], launcher[PATH_MAX];
    int pair[2];
    int r = find_planner(interpreter, launcher);
    if (r < 0)
        return r;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    pid_t pid = sys_fork(0);
    if (pid == 0)
        exec_cold(interpreter, launcher, pair[1]);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return pid;
    }
    ret->sock = pair[0];
    ret->cold = pid;
    return 0;
}

void planner_end(struct answer *answer) {
    close_fd(&answer->sock);
    if (answer->cold <= 0)
        return;
    cleanup_fd int pidfd = sys_pidfd_open(answer->cold, 0);
    if (pidfd >= 0 && wait_readable(pidfd, END_MS) == 0)
        kill(answer->cold, SIGKILL);
    (void)wait_pid(answer->cold, &answer->cold_status);
    answer->cold = 0;
}

/* ---- what it answers ------------------------------------------------------------------------------------------- */

enum outcome { OUT_DONE, OUT_GONE, OUT_ELSEWHERE, OUT_AGAIN };

static enum outcome take_plan(struct answer *ret, struct message *m) {
    ret->plan = steal_fd(&m->fds[0]);
    ret->record = steal_fd(&m->fds[1]);
    ret->owner_lock = steal_fd(&m->fds[2]);
    message_close_fds(m);
    return ret->plan < 0 ? OUT_GONE : OUT_DONE;
}

static enum outcome take_refusal(struct answer *ret, const struct message *m) {
    char text[MSG_BYTES / 16];
    size_t first = strnlen(m->bytes, m->len);
    const char *hint = first < m->len ? m->bytes + first + 1 : "";
    fmt(text, sizeof(text), "%s", m->bytes);
    log_error(text, hint);
    ret->done = true;
    ret->exit_code = (int)m->value;
    return OUT_DONE;
}

static enum outcome take_reclaim(struct answer *ret, const struct message *m) {
    char why[1024], text[PATH_MAX + 1100];
    if (program_reclaim(m->bytes, why, sizeof(why)) >= 0)
        return OUT_AGAIN;
    fmt(text, sizeof(text), "undo the unfinished container '%s': %s", m->bytes, why);
    log_error(text, "`corral-runtime delete --force` says what is left of it");
    ret->done = true;
    ret->exit_code = 1;
    return OUT_DONE;
}

static int send_request(int sock, int request) {
    struct message_head head = {.kind = MSG_REQUEST};
    (void)lseek(request, 0, SEEK_SET); /* the offset is shared with whoever read it before */
    return message_send(sock, &head, NULL, 0, request);
}

static enum outcome await_answer(struct answer *ret, int timeout_ms) {
    static struct message m;
    for (;;) {
        if (message_receive(ret->sock, &m, timeout_ms) <= 0)
            return OUT_GONE;
        if (m.kind == MSG_PLAN)
            return take_plan(ret, &m);
        message_close_fds(&m);
        if (m.kind == MSG_REFUSED)
            return take_refusal(ret, &m);
        if (m.kind == MSG_NOT_MINE)
            return OUT_ELSEWHERE;
        if (m.kind == MSG_RECLAIM)
            return take_reclaim(ret, &m);
        if (m.kind == MSG_PLAN_WARNING) {
            log_warning(m.bytes);
        } else if (m.kind == MSG_TEXT) {
            (void)write_all(1, m.bytes, m.len);
            ret->done = true;
            ret->exit_code = (int)m.value;
            return OUT_DONE;
        } else {
            return OUT_GONE;
        }
    }
}

static enum outcome converse(struct answer *ret, int request, int timeout_ms) {
    return send_request(ret->sock, request) < 0 ? OUT_GONE : await_answer(ret, timeout_ms);
}

/* A planner that wants a record undone may end after it said so, or go on with the same socket. */
static enum outcome converse_cold(struct answer *ret, int request) {
    if (ret->sock < 0 && spawn_cold(ret) < 0) {
        ret->done = true;
        ret->exit_code = 1;
        if (!log_error_written())
            log_error("start the planner: out of descriptors or processes", NULL);
        return OUT_DONE;
    }
    return converse(ret, request, COLD_MS);
}

static void give_up(const struct answer *ret, bool again) {
    char text[128];
    if (again) {
        log_error("plan the container: its id is taken by an unfinished container again and again",
                  "another create of this id is running");
    } else if (WIFSIGNALED(ret->cold_status)) {
        fmt(text, sizeof(text), "plan the container: the planner was killed by signal %d", WTERMSIG(ret->cold_status));
        log_error(text, "if nobody killed it, the machine or the caller's memory limit is short of memory");
    } else {
        log_error("plan the container: the planner ended before it answered", "its own words stand above");
    }
}

/* ---- asking before this process becomes its copy ----------------------------------------------------------------- */

/* Carries the socket, the request and the cold planner's pid to the copy. */
#define ASKED "CORRAL_ASKED"

int planner_ask_early(const struct invocation *inv) {
    static char mark[80];
    struct answer ask = {.plan = -1, .record = -1, .owner_lock = -1, .sock = -1};
    int request = make_request(inv);
    if (request < 0) /* planner_ask() meets that again, and says it */
        return 0;
    ask.sock = connect_resident(inv);
    if (ask.sock < 0 && spawn_cold(&ask) < 0) {
        close(request);
        return log_error_written() ? -1 : 0;
    }
    if (send_request(ask.sock, request) < 0) {
        close(request);
        planner_end(&ask);
        return 0;
    }
    (void)fcntl(ask.sock, F_SETFD, 0);
    (void)fcntl(request, F_SETFD, 0);
    fmt(mark, sizeof(mark), ASKED "=%d,%d,%d", ask.sock, request, (int)ask.cold);
    putenv(mark);
    return 0;
}

/* "sock,request,pid" -> three numbers. */
static bool parse_asked(const char *text, int numbers[3]) {
    char word[16];
    for (int i = 0; i < 3; i++) {
        size_t n = strcspn(text, ",");
        if (n >= sizeof(word) || (i < 2) != (text[n] == ','))
            return false;
        memcpy(word, text, n);
        word[n] = '\0';
        if (!parse_int(word, i < 2 ? 3 : 0, INT32_MAX, &numbers[i]))
            return false;
        text += n + 1;
    }
    return true;
}

/* What planner_ask_early() began. A socket whose other end is not of our own uid is not ours. */
static bool take_asked(struct answer *ret, int *request) {
    int numbers[3];
    struct ucred peer;
    socklen_t len = sizeof(peer);
    const char *text = getenv(ASKED);
    bool valid = text && parse_asked(text, numbers) && fcntl(numbers[1], F_GETFD) >= 0 &&
                 getsockopt(numbers[0], SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid();
    (void)unsetenv(ASKED);
    if (!valid)
        return false;
    (void)fcntl(numbers[0], F_SETFD, FD_CLOEXEC);
    (void)fcntl(numbers[1], F_SETFD, FD_CLOEXEC);
    ret->sock = numbers[0];
    *request = numbers[1];
    ret->cold = numbers[2];
    return true;
}

void planner_ask(const struct invocation *inv, struct answer *ret) {
    int attempts = 0, reclaims = 0;
    *ret = (struct answer){.exit_code = 1, .plan = -1, .record = -1, .owner_lock = -1, .sock = -1};
    cleanup_fd int request = -1;
    bool asked = take_asked(ret, &request);
    if (!asked)
        request = make_request(inv);
    if (request < 0) {
        log_error(request == -E2BIG ? "read the command line: argument list too long" : "pass the request on: no memory", NULL);
        ret->done = true;
        return;
    }
    if (!asked)
        ret->sock = connect_resident(inv);
    bool resident = ret->sock >= 0 && ret->cold == 0;
    for (;;) {
        enum outcome out = asked      ? await_answer(ret, resident ? RESIDENT_MS : COLD_MS)
                           : resident ? converse(ret, request, RESIDENT_MS)
                                      : converse_cold(ret, request);
        asked = false;
        if (out == OUT_DONE)
            return;
        if (out == OUT_AGAIN && ++reclaims <= RECLAIMS)
            continue;
        planner_end(ret);
        if (out == OUT_AGAIN || (!resident && ++attempts == 2)) {
            give_up(ret, out == OUT_AGAIN);
            ret->done = true;
            return;
        }
        resident = false;
    }
}
