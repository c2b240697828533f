/* Beginnings: the plan, run as its front; or what a dead predecessor left. */
#include <string.h>
#include <termios.h>
#include <sys/wait.h>

#include "executor/journal.h"
#include "executor/record.h"
#include "launch/program.h"
#include "monitor/monitor.h"

#define PLAN_MS 120000
#define HELD_MS 10000

static struct context context;
static struct monitor *self;

/* ---- the plan ------------------------------------------------------------------------------------------------------------- */

static void pass_warning(const char *text) {
    struct message_head head = {.kind = MSG_WARNING};
    if (self->planner >= 0)
        (void)message_send(self->planner, &head, text, strlen(text), -1);
}

/* The keeper has it before anything else happens to it: nobody could tell how it ended otherwise. */
static void note_birth(const struct context *c) {
    int64_t start = process_start_time(-1, c->init_pid);
    self->state->init = (uint32_t)c->init_pid;
    self->state->start_time = start < 0 ? 0 : (uint64_t)start;
    keeper_hold(self, HELD_INIT, c->init_pidfd, c->init_pid);
}

static void tell_result(struct monitor *m, bool created, const char *text, const char *hint) {
    char bytes[4096];
    if (!created)
        monitor_remove_places(m); /* whoever hears of it may try again at once */
    struct message_head head = {.kind = MSG_RESULT, .value = created ? (uint32_t)m->init : 0};
    size_t n = fmt(bytes, sizeof(bytes) - 1, "%s", text) + 1;
    n += fmt(bytes + n, sizeof(bytes) - n, "%s", hint);
    (void)message_send(m->planner, &head, bytes, n, -1);
}

static void reclaim(struct monitor *m, const char *path) {
    char why[1024];
    int r = program_reclaim(path, why, sizeof(why));
    struct message_head head = {.kind = MSG_RECLAIMED, .error = r < 0 ? -r : 0};
    (void)message_send(m->planner, &head, why, r < 0 ? strlen(why) : 0, -1);
}

/* Descriptors of the plan, the record and the owner's lock. -ECANCELED: the planner left without a plan. */
static int await_plan(struct monitor *m, int fds[3]) {
    static struct message msg;
    for (;;) {
        int r = message_receive(m->planner, &msg, PLAN_MS);
        if (r <= 0)
            return -ECANCELED;
        if (msg.kind == MSG_RECLAIM)
            reclaim(m, msg.bytes);
        for (int i = 0; msg.kind == MSG_PLAN && i < 3; i++)
            fds[i] = steal_fd(&msg.fds[i]);
        message_close_fds(&msg);
        if (msg.kind == MSG_PLAN)
            return fds[0] < 0 ? -EPROTO : 0;
    }
}

static int give_up(struct monitor *m, struct context *c, struct failure f) {
    static char text[2048], hint[1024], why[1024];
    launch_explain(c, f, text, sizeof(text), hint, sizeof(hint));
    if (launch_undo(c, why, sizeof(why)) < 0)
        pass_warning(why);
    tell_result(m, false, text, hint);
    return -ECANCELED;
}

/* The executor leaves the pty as runc's callers want it, "\n" as it is. Here the client's terminal is raw and turns
 * nothing into "\r\n", so the container's has to, as every terminal does. */
static void restore_newlines(int pty) {
    struct termios tio;
    if (tcgetattr(pty, &tio) < 0)
        return;
    tio.c_oflag |= ONLCR;
    (void)tcsetattr(pty, TCSANOW, &tio);
}

static void take_over(struct monitor *m, struct context *c) {
    int slot = launch_console_slot(c->plan);
    m->init = c->init_pid;
    m->init_pidfd = c->init_pidfd;
    m->is_parent = true;
    if (slot >= 0 && c->slot[slot] >= 0) {
        m->stream[0].from = steal_fd(&c->slot[slot]);
        m->input = m->stream[0].from;
        m->input_is_terminal = true;
        (void)fcntl(m->input, F_SETFL, O_RDWR | O_NONBLOCK);
        restore_newlines(m->input);
        keeper_hold(m, HELD_PTY, m->input, 0);
    }
    pump_detach(m);
    close_fd(&c->peer);
    close_fd(&c->record);
    close_fd(&c->journal);
    for (int i = 0; i < CGROUPS; i++)
        close_fd(&c->cgroup[i].fd);
    close_fd(&proc_mounted);
    for (int i = 0; i < SLOTS; i++)
        close_fd(&c->slot[i]);
}

static int run_plan(struct monitor *m, struct plan *plan, const int fds[3]) {
    struct context *c = &context;
    struct failure f;
    context_init(c, plan, ACTOR_FRONT);
    c->record = fds[1];
    c->owner_lock = fds[2];
    c->planner = m->planner;
    if (c->record >= 0 && !m->spec.exec[0])
        c->journal = journal_open(c->record);
    if (launch_run(c, &f) < 0)
        return give_up(m, c, f);
    take_over(m, c);
    return 0;
}

int monitor_create(struct monitor *m) {
    struct plan plan;
    char why[256];
    int fds[3] = {-1, -1, -1};
    self = m;
    warning_sink = pass_warning;
    birth_sink = note_birth;
    int r = pump_open(m);
    if (r < 0) {
        tell_result(m, false, "open the container's pipes: out of descriptors", "");
        return r;
    }
    keeper_hold_all(m);
    r = await_plan(m, fds);
    if (r < 0)
        return r;
    r = launch_load(fds[0], &plan, why, sizeof(why));
    close(fds[0]);
    if (r < 0) {
        tell_result(m, false, why, "corral-monitor and corral are of different versions");
        return r;
    }
    r = run_plan(m, &plan, fds);
    launch_unload(&plan);
    return r;
}

void monitor_created(struct monitor *m) {
    tell_result(m, true, "", "");
    close_fd(&m->planner);
}

/* ---- a predecessor's ---------------------------------------------------------------------------------------------------- */

static void take_held(struct monitor *m, struct message *msg) {
    int fd = steal_fd(&msg->fds[0]);
    struct stream *s = m->stream;
    int *const places[HELD_COUNT] = {
        [HELD_INIT] = &m->init_pidfd,   [HELD_STDOUT] = &s[0].from,  [HELD_STDOUT_IN] = &s[0].in, [HELD_STDOUT_OUT] = &s[0].out,
        [HELD_STDERR] = &s[1].from,     [HELD_STDERR_IN] = &s[1].in, [HELD_STDERR_OUT] = &s[1].out, [HELD_PTY] = &s[0].from,
    };
    if (fd < 0 || msg->step >= HELD_COUNT) {
        close_fd(&fd);
        return;
    }
    close_fd(places[msg->step]);
    *places[msg->step] = fd;
    if (msg->step == HELD_PTY) {
        m->input = fd;
        m->input_is_terminal = true;
    }
}

static void receive_held(struct monitor *m) {
    static struct message msg;
    for (;;) {
        int r = message_receive(m->keeper, &msg, HELD_MS);
        if (r == -EAGAIN)
            continue;
        if (r <= 0) { /* it died: what it had is gone with it, and the process is there all the same */
            close_fd(&m->keeper);
            return;
        }
        if (msg.kind == SUP_HOLD)
            take_held(m, &msg);
        if (msg.kind == SUP_HELD && msg.error)
            exit_told(m, (int)msg.step);
        message_close_fds(&msg);
        if (msg.kind == SUP_HELD)
            return;
    }
}

/* A container whose creation was cut off is undone; nobody was told that it is there. */
static bool was_committed(const struct monitor *m) {
    char path[PATH_MAX], why[1024];
    if (m->spec.exec[0])
        return true;
    cleanup_fd int record = record_open(m->spec.runtime_root, m->spec.id);
    if (record < 0 || journal_has(record, JOURNAL_COMMIT))
        return record >= 0;
    fmt(path, sizeof(path), "%s/%s", m->spec.runtime_root, m->spec.id);
    (void)program_reclaim(path, why, sizeof(why)); /* what cannot be undone stays stale, for the next create, delete or gc */
    return false;
}

int monitor_adopt(struct monitor *m) {
    self = m;
    m->init = (pid_t)m->state->init;
    receive_held(m);
    if (!was_committed(m) || m->init <= 0)
        return -ENOENT;
    /* Nobody held it: the process may still be there, and then its end can still be seen. */
    if (m->init_pidfd < 0 && !process_is_dead(-1, m->init, (int64_t)m->state->start_time)) {
        m->init_pidfd = sys_pidfd_open(m->init, 0);
        if (m->init_pidfd >= 0 && process_is_dead(-1, m->init, (int64_t)m->state->start_time))
            close_fd(&m->init_pidfd);
        if (m->init_pidfd >= 0)
            keeper_hold(m, HELD_INIT, m->init_pidfd, m->init);
    }
    if (m->init_pidfd < 0) {
        m->ending.pid = m->init;
        m->ending_known = true;
        exit_seen(m);
    }
    return pump_resume(m);
}
