/* The life of a plan in its front: decode, run, explain, undo. */
#include "launch/launch.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "launch/program.h"

#ifndef F_GET_SEALS
#define F_GET_SEALS 1034
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW 4
#define F_SEAL_WRITE 8
#endif

/* ---- the plan ---------------------------------------------------------------------------------------------------- */

/* Maps a memfd that nobody can change any more. An unsealed one is refused: it could change after the checks. */
static int map_plan(int fd, const void **bytes, size_t *len) {
    const int needed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & needed) != needed || fstat(fd, &st) < 0)
        return -EPERM;
    if (st.st_size <= 0 || st.st_size > (off_t)PLAN_MAX)
        return -EFBIG;
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    *bytes = map;
    *len = (size_t)st.st_size;
    return 0;
}

/* What holds of every plan for a new process, beyond its encoding: the mode is known first, and init runs nothing
 * before the front said so (S0.10) but its own move into its cgroups. */
static const char *check_order(const struct plan *plan) {
    struct step s;
    if (plan->n_steps == 0)
        return "it has no steps";
    plan_step(plan, 0, &s);
    if (s.op != OP_FRONT_MODE || s.actor != ACTOR_FRONT)
        return "its first step is not FRONT_MODE";
    for (unsigned i = 0; i < plan->n_steps; i++) {
        plan_step(plan, i, &s);
        if (s.actor == ACTOR_INIT && s.op != OP_CG_ATTACH)
            return s.op == OP_SYNC ? NULL : "init's first step is not SYNC";
    }
    return NULL;
}

int launch_load(int fd, struct plan *plan, char *text, size_t size) {
    const void *bytes = NULL;
    size_t len = 0;
    const char *why = NULL;
    int r = map_plan(fd, &bytes, &len);
    if (r == 0)
        r = plan_decode(plan, bytes, len, &why);
    if (r == 0 && (why = check_order(plan)))
        r = -EPROTO;
    if (r < 0)
        fmt(text, size, "read the plan: %s", why ? why : error_text(r));
    return r;
}

void launch_unload(struct plan *plan) {
    (void)munmap((void *)(uintptr_t)plan->bytes, plan->len);
    plan_free(plan);
}

unsigned launch_mode(const struct plan *plan) {
    struct step s;
    plan_step(plan, 0, &s);
    return (unsigned)s.arg[0].num;
}

int launch_console_slot(const struct plan *plan) {
    struct step s;
    int slot = -1;
    for (unsigned i = 0; i < plan->n_steps; i++) {
        plan_step(plan, i, &s);
        if (s.op == OP_CONSOLE)
            slot = (int)s.arg[3].num;
        if (s.op == OP_CONSOLE_SEND)
            return -1;
    }
    return slot >= 0 && slot < SLOTS ? slot : -1;
}

/* ---- running it --------------------------------------------------------------------------------------------------- */

/* Until init has executed its program: it announces that by SYNC, then its end of the socket closes by itself. */
static int await_exec(struct context *c) {
    static struct message m;
    bool announced = false;
    peer_failure.set = false;
    for (;;) {
        int r = peer_receive(c, &m);
        if (r < 0)
            return r;
        if (r == 0 && announced)
            return 0;
        if (r == 0) {
            note_peer_end(c, c->plan->n_steps - 1);
            return -ECANCELED;
        }
        message_close_fds(&m);
        announced = announced || m.kind == MSG_SYNC;
        if (m.kind == MSG_WARNING)
            warning_sink(m.bytes);
        if (m.kind != MSG_FAIL)
            continue;
        peer_failure = (struct peer_failure){.set = true, .actor = ACTOR_INIT, .step = m.step, .error = m.error};
        fmt(peer_failure.detail, DETAIL_MAX, "%s", m.bytes);
        return -ECANCELED;
    }
}

int launch_run(struct context *c, struct failure *f) {
    unsigned failed = 0;
    c->mode = launch_mode(c->plan); /* even if FRONT_MODE itself cannot be done, it tells what a failure means */
    int r = run_actor(c, 0, &failed);
    if (r == 0 && c->init_pid <= 0) /* its end would be waited for, for ever */
        r = detail(c, -EPROTO, "the plan makes no process");
    if (r == 0 && !(c->mode & MODE_CREATE))
        r = await_exec(c);
    *f = (struct failure){failed, r, c->detail};
    return r;
}

/* ---- failure -------------------------------------------------------------------------------------------------------- */

/* The planner may know more about a failure than its errno: a better sentence, a hint. */
static void ask_for_words(struct context *c, const struct failure *f, char *text, size_t size, char *hint, size_t hint_size) {
    static struct message m;
    struct message_head head = {.kind = MSG_FAILED, .step = f->step, .error = f->error};
    hint[0] = '\0';
    if (c->planner < 0 || verdict.silent)
        return;
    if (verdict.given && !verdict.commit) {
        fmt(text, size, "%s", verdict.message);
        fmt(hint, hint_size, "%s", verdict.hint);
        return;
    }
    if (message_send(c->planner, &head, f->detail, strlen(f->detail), -1) < 0 || await_verdict(c, &m) < 0)
        return;
    if (verdict.message[0])
        fmt(text, size, "%s", verdict.message);
    fmt(hint, hint_size, "%s", verdict.hint);
}

void launch_explain(struct context *c, struct failure f, char *text, size_t size, char *hint, size_t hint_size) {
    struct step s;
    if (peer_failure.set)
        f = (struct failure){peer_failure.step, peer_failure.error, peer_failure.detail};
    plan_step(c->plan, f.step, &s);
    describe_failure(&s, f.error, f.detail, text, size);
    ask_for_words(c, &f, text, size, hint, hint_size);
    c->planner = -1;
}

int launch_undo(struct context *c, char *why, size_t size) {
    int r = 0;
    pid_file_withdraw(c);
    reap_children(c);
    /* The lock goes only after: until the record is gone, nobody else may take it for stale. */
    if (!(c->mode & MODE_EXEC) && c->record >= 0)
        r = program_undo(c->record, why, size);
    close_fd(&c->owner_lock);
    return r;
}
