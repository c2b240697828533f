/* The run loop: one process walks the plan and runs the steps that carry its actor. */
#include "run.h"

#include <string.h>
#include <sys/socket.h>

#include "sys.h"

static void warn_on_stderr(const char *text) { say(2, "warning: %s\n", text); }
void (*warning_sink)(const char *text) = warn_on_stderr;

void context_init(struct context *c, const struct plan *plan, enum actor actor) {
    memset(c, 0, sizeof(*c));
    c->plan = plan;
    c->actor = actor;
    for (int i = 0; i < SLOTS; i++)
        c->slot[i] = -1;
    for (int i = 0; i < CGROUPS; i++)
        c->cgroup[i].fd = -1;
    c->record = c->journal = c->owner_lock = c->planner = c->peer = c->holder = -1;
    c->init_pidfd = c->born_into = c->private_proc = c->rootfd = c->console_slave = -1;
}

int detail(struct context *c, int err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fmt_list(c->detail, sizeof(c->detail), format, args);
    va_end(args);
    return err;
}

void warning(struct context *c, const char *format, ...) {
    char text[DETAIL_MAX];
    struct message_head head = {.kind = MSG_WARNING};
    va_list args;
    va_start(args, format);
    size_t n = fmt_list(text, sizeof(text), format, args);
    va_end(args);
    if (c->actor == ACTOR_FRONT)
        warning_sink(text);
    else if (c->peer >= 0)
        (void)message_send(c->peer, &head, text, n, -1);
}

int slot_get(struct context *c, uint64_t slot) {
    if (slot >= SLOTS || c->slot[slot] < 0)
        return detail(c, -EBADF, "descriptor %llu of the plan", (unsigned long long)slot);
    return c->slot[slot];
}

int slot_put(struct context *c, uint64_t slot, int fd) {
    if (fd >= 0 && fd <= 2) {
        int high = duplicate_fd(fd, 3);
        close(fd);
        fd = high;
    }
    if (fd < 0)
        return fd;
    if (slot >= SLOTS) {
        close(fd);
        return detail(c, -EBADF, "descriptor %llu of the plan", (unsigned long long)slot);
    }
    close_fd(&c->slot[slot]);
    c->slot[slot] = fd;
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    return 0;
}

void describe_failure(const struct step *s, int error, const char *detail_text, char *buf, size_t size) {
    char what[1024];
    plan_describe(s, what, sizeof(what));
    const char *open = s->pointer[0] ? " (config " : "", *close = s->pointer[0] ? ")" : "";
    const char *colon = detail_text[0] ? ": " : "";
    /* -ECANCELED: the detail is the whole story. */
    if (error == -ECANCELED && detail_text[0])
        fmt(buf, size, "%s%s%s%s: %s", what, open, s->pointer, close, detail_text);
    else
        fmt(buf, size, "%s%s%s%s%s%s: %s", what, open, s->pointer, close, colon, detail_text, error_text(error));
}

static int dispatch(struct context *c, const struct step *s) {
    switch (s->op) {
#define STEP(NAME, fn, number, sig, text)                                                                              \
    case OP_##NAME: return step_##fn(c, s);
#include "steps.def"
#undef STEP
    }
    return -EPROTO;
}

/* Steps at which the front must stand too, although they are the other party's. */
static bool is_rendezvous(const struct step *s) {
    return s->actor != ACTOR_FRONT &&
           (s->op == OP_SYNC || s->op == OP_PASS_FD || s->op == OP_TAKE_FD || s->op == OP_FORK || s->op == OP_CG_ATTACH);
}

/* Tells the peer, once, by SYNC, that nothing but the exec is left: the end of the socket alone does not tell an exec
 * from a death. Before the filter, where nothing more is exchanged after it: it may forbid to send. */
static void announce_exec(struct context *c, const struct step *s) {
    static bool done;
    struct step later;
    if (done || c->actor != ACTOR_INIT || c->peer < 0 || (s->op != OP_SECCOMP && s->op != OP_EXEC))
        return;
    for (unsigned i = s->index + 1; i < c->plan->n_steps; i++) {
        plan_step(c->plan, i, &later);
        if (later.actor == ACTOR_INIT && (is_rendezvous(&later) || later.op == OP_WAIT_START || later.op == OP_SECCOMP))
            return;
    }
    done = true;
    (void)message_tell(c->peer, MSG_SYNC, s->index, 0, 0);
}

static int run_step(struct context *c, const struct step *s) {
    char text[1536];
    c->detail[0] = '\0';
    int r = failpoint_hit(c, s, false);
    if (r == 0)
        announce_exec(c, s);
    if (r == 0)
        r = dispatch(c, s);
    if (r >= 0)
        r = failpoint_hit(c, s, true);
    if (r >= 0)
        return 0;
    if (!(s->flags & STEP_OPTIONAL) || peer_failure.set)
        return r;
    describe_failure(s, r, c->detail, text, sizeof(text));
    warning(c, "%s", text);
    return 0;
}

int run_actor(struct context *c, unsigned first, unsigned *failed) {
    struct step s;
    for (unsigned i = first; i < c->plan->n_steps; i++) {
        plan_step(c->plan, i, &s);
        if (s.actor != c->actor && !(c->actor == ACTOR_FRONT && is_rendezvous(&s)))
            continue;
        int r = run_step(c, &s);
        if (r < 0) {
            *failed = i;
            return r;
        }
    }
    return 0;
}

/* After WAIT_START the peer is a `start` that has no plan to look the step up in: it gets the whole sentence. */
static void describe_to_starter(struct context *c, unsigned failed, int error) {
    char text[DETAIL_MAX];
    struct step s;
    for (unsigned i = 0; i < failed; i++) {
        plan_step(c->plan, i, &s);
        if (s.op != OP_WAIT_START)
            continue;
        plan_step(c->plan, failed, &s);
        describe_failure(&s, error, c->detail, text, sizeof(text));
        memcpy(c->detail, text, sizeof(text));
        return;
    }
}

_Noreturn void run_child(struct context *c, unsigned first) {
    unsigned failed = 0;
    int r = run_actor(c, first, &failed);
    if (r == 0)
        _exit(c->actor == ACTOR_STAGE ? 0 : 1);
    describe_to_starter(c, failed, r);
    struct message_head head = {
        .kind = MSG_FAIL, .step = failed, .error = r, .value = c->actor == ACTOR_INIT};
    (void)message_send(c->peer, &head, c->detail, strlen(c->detail), -1);
    _exit(1);
}
