/* What clients of monitor.sock ask for. */
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "launch/program.h"
#include "monitor/monitor.h"

void client_close(struct client *c) {
    close_fd(&c->sock);
    sink_close(&c->in);
    sink_close(&c->out[0]);
    sink_close(&c->out[1]);
}

void client_accept(struct monitor *m) {
    for (;;) {
        int sock = accept_trusted(m->listener), i = 0;
        if (sock == -EPERM)
            continue;
        if (sock < 0)
            return;
        while (i < CLIENTS && m->client[i].sock >= 0)
            i++;
        if (i == CLIENTS) {
            answer_error(sock, EUSERS, "talk to the monitor: too many clients", "wait until some of them are gone");
            close(sock);
            continue;
        }
        m->client[i] = (struct client){.sock = sock, .in = {.fd = -1}, .out = {{.fd = -1}, {.fd = -1}}};
        /* A piece that is on its way began before this client was there. */
        for (int k = 0; k < 2; k++)
            m->client[i].sent[k] = m->stream[k].len;
    }
}

static void ok(struct client *c) { (void)message_tell(c->sock, SUP_OK, 0, 0, 0); }

/* ---- START ------------------------------------------------------------------------------------------------------------------ */

static int answer_socket;
static void pass_warning(const char *text) {
    struct message_head head = {.kind = MSG_WARNING};
    (void)message_send(answer_socket, &head, text, strlen(text), -1);
}

/* In a child, since hooks take their time and output goes on meanwhile. */
static _Noreturn void run_start(struct monitor *m, int sock) {
    static struct reason why;
    answer_socket = sock;
    warning_sink = pass_warning;
    close_fd(&m->spec_lock); /* it says that the monitor lives, and this is another process */
    int record = record_open(m->spec.runtime_root, m->spec.id);
    if (record < 0) {
        answer_error(sock, record, "start: the container's record is gone", NULL);
        _exit(1);
    }
    int r = program_start(record, &why);
    if (r < 0)
        answer_error(sock, r, why.text, why.hint);
    else
        (void)message_tell(sock, SUP_OK, 0, 0, 0);
    _exit(r < 0);
}

static void start(struct monitor *m, struct client *c) {
    if (m->spec.exec[0] || m->exit_seen) {
        answer_error(c->sock, ESRCH, m->exit_seen ? "cannot start a container that has stopped" : "an exec runs already", NULL);
        return;
    }
    pid_t pid = sys_fork(0);
    if (pid == 0)
        run_start(m, c->sock);
    if (pid < 0)
        answer_error(c->sock, pid, "start: no process for it", NULL);
    else
        monitor_add_helper(m, pid);
}

/* ---- the rest --------------------------------------------------------------------------------------------------------------- */

static bool input_is_taken(const struct monitor *m) {
    for (int i = 0; i < CLIENTS; i++)
        if (m->client[i].sock >= 0 && m->client[i].in.fd >= 0)
            return true;
    return false;
}

static const char *attach_refusal(const struct monitor *m, const struct message *msg) {
    int wanted = 0, given = 0;
    for (unsigned bit = 0; bit < 3; bit++)
        wanted += (msg->value >> bit) & 1;
    for (int i = 0; i < MSG_FDS; i++)
        given += msg->fds[i] >= 0;
    if (msg->value > 15 || wanted != given)
        return "attach: the descriptors do not fit the streams asked for";
    if (msg->value & ATTACH_STDIN && input_is_taken(m))
        return "attach: another client has the container's standard input";
    if (msg->value & ATTACH_STDIN && m->input < 0)
        return "attach: the container's standard input is closed";
    return NULL;
}

static void attach(struct monitor *m, struct client *c, struct message *msg) {
    const char *why = attach_refusal(m, msg);
    int next = 0;
    if (why) {
        answer_error(c->sock, EINVAL, why, NULL);
        return;
    }
    if (msg->value & ATTACH_STDIN)
        c->in = sink_open(steal_fd(&msg->fds[next++]), O_RDONLY);
    for (int k = 0; k < 2; k++)
        if (msg->value & (k ? ATTACH_STDERR : ATTACH_STDOUT)) {
            sink_close(&c->out[k]);
            c->out[k] = sink_open(steal_fd(&msg->fds[next++]), O_WRONLY);
            c->sent[k] = m->stream[k].len;
        }
    c->attached = true;
    c->attends = c->attends || msg->value & ATTACH_ATTEND;
    if (m->gate && m->exit_seen)
        m->drain_end = now_ms() + 1000;
    m->gate = false;
    ok(c);
}

static void resize(struct monitor *m, struct client *c, uint32_t value) {
    struct winsize size = {.ws_row = (unsigned short)(value >> 16), .ws_col = (unsigned short)value};
    if (!m->spec.terminal || ioctl(m->stream[0].from, TIOCSWINSZ, &size) < 0)
        answer_error(c->sock, ENOTTY, "resize: the process has no terminal", NULL);
    else
        ok(c);
}

static void reopen_log(struct monitor *m, struct client *c) {
    int r = log_reopen(&m->log);
    if (r < 0)
        answer_error(c->sock, r, "open the log anew", NULL);
    else
        ok(c);
}

static void handle(struct monitor *m, struct client *c, struct message *msg) {
    switch (msg->kind) {
    case SUP_START: start(m, c); break;
    case SUP_ATTACH: attach(m, c, msg); break;
    case SUP_WATCH: c->watches = true; break;
    case SUP_ATTEND: c->attends = true; break;
    case SUP_DONE:
        c->is_done = true;
        m->attended = m->attended || (c->attends && c->told);
        break;
    case SUP_RESIZE: resize(m, c, msg->value); break;
    case SUP_CLOSE_STDIN:
        input_close(m);
        ok(c);
        break;
    case SUP_REOPEN_LOG: reopen_log(m, c); break;
    default: answer_error(c->sock, EBADRQC, "talk to the monitor: a request that it does not know", NULL);
    }
}

void client_serve(struct monitor *m, struct client *c) {
    static struct message msg;
    while (c->sock >= 0) {
        int r = message_receive(c->sock, &msg, -1);
        if (r == -EAGAIN)
            return;
        if (r <= 0) {
            client_close(c);
            return;
        }
        handle(m, c, &msg);
        message_close_fds(&msg);
    }
}
