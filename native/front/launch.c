/* create, run, exec and mounts: get a plan, run it, commit it or undo it. */
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "executor/journal.h"
#include "front/foreground.h"
#include "front/planner.h"
#include "front/program.h"

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
 * before the front said so (S0.10). */
static const char *check_order(const struct plan *plan) {
    struct step s;
    if (plan->n_steps == 0)
        return "it has no steps";
    plan_step(plan, 0, &s);
    if (s.op != OP_FRONT_MODE || s.actor != ACTOR_FRONT)
        return "its first step is not FRONT_MODE";
    for (unsigned i = 0; i < plan->n_steps; i++) {
        plan_step(plan, i, &s);
        if (s.actor == ACTOR_INIT)
            return s.op == OP_SYNC ? NULL : "init's first step is not SYNC";
    }
    return NULL;
}

static int load_plan(int fd, struct plan *plan) {
    const void *bytes = NULL;
    size_t len = 0;
    char text[256];
    const char *why = NULL;
    int r = map_plan(fd, &bytes, &len);
    if (r == 0)
        r = plan_decode(plan, bytes, len, &why);
    if (r == 0 && (why = check_order(plan)))
        r = -EPROTO;
    if (r < 0) {
        fmt(text, sizeof(text), "read the plan: %s", why ? why : error_text(r));
        log_error(text, "corral-runtime and corral-planner are of different versions");
    }
    return r;
}

static unsigned mode_of(const struct plan *plan) {
    struct step s;
    plan_step(plan, 0, &s);
    return (unsigned)s.arg[0].num;
}

/* The slot of the terminal that stays with us: made by CONSOLE and not sent away. -1 = none. */
static int console_slot(const struct plan *plan) {
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

/* ---- failure -------------------------------------------------------------------------------------------------------- */

struct failure {
    unsigned step;
    int error;
    const char *detail;
};

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

static int fail(struct context *c, struct answer *answer, struct failure f) {
    char text[2048], hint[1024], why[1024];
    struct step s;
    if (peer_failure.set)
        f = (struct failure){peer_failure.step, peer_failure.error, peer_failure.detail};
    plan_step(c->plan, f.step, &s);
    describe_failure(&s, f.error, f.detail, text, sizeof(text));
    ask_for_words(c, &f, text, sizeof(text), hint, sizeof(hint));
    c->planner = -1;
    planner_end(answer);
    reap_children(c);
    log_error(text, hint);
    /* The lock goes only now: until the record is gone, nobody else may take it for stale. */
    if (!(c->mode & MODE_EXEC) && c->record >= 0 && program_undo(c->record, why, sizeof(why)) < 0)
        log_warning(why);
    close_fd(&c->owner_lock);
    return c->mode & MODE_EXEC ? 255 : 1;
}

/* ---- success -------------------------------------------------------------------------------------------------------- */

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
            log_warning(m.bytes);
        if (m.kind != MSG_FAIL)
            continue;
        peer_failure = (struct peer_failure){.set = true, .actor = ACTOR_INIT, .step = m.step, .error = m.error};
        fmt(peer_failure.detail, DETAIL_MAX, "%s", m.bytes);
        return -ECANCELED;
    }
}

/* run is create and start in one: once the program is executed, what its start.plan says of that moment is done, too:
 * readiness and the poststart hooks. Source: runtime-spec runtime.md "Lifecycle" steps 8 and 9. */
static int after_start(struct context *c, struct failure *f) {
    static struct program program;
    static char why[256];
    struct step s;
    int r = program_load(c->record, "start.plan", &program, why, sizeof(why));
    *f = (struct failure){c->plan->n_steps - 1, -ECANCELED, why};
    if (r < 0)
        return r;
    c->plan = &program.plan; /* its strings are used until the end: the program is never freed */
    unsigned next = 0;
    do
        plan_step(&program.plan, next++, &s);
    while (s.op != OP_RELEASE && next < program.plan.n_steps);
    r = run_actor(c, next, &f->step);
    *f = (struct failure){f->step, r, c->detail};
    return r;
}

#define UNDO_LOCK_MS 15000

static int stay(struct context *c, int slot) {
    char why[1024];
    int code = foreground_wait(c, slot >= 0 ? steal_fd(&c->slot[slot]) : -1);
    if (c->mode & (MODE_EXEC | MODE_KEEP) || c->record < 0)
        return code;
    /* `delete --force` may be at it: then the record is gone when its lock is free. */
    struct stat st;
    cleanup_fd int lock = program_lock(c->record, UNDO_LOCK_MS);
    if (lock == -ENOENT || (fstat(c->record, &st) == 0 && st.st_nlink == 0))
        return code;
    if (program_undo(c->record, why, sizeof(why)) < 0)
        log_warning(why);
    return code;
}

static int run_plan(struct context *c, struct answer *answer) {
    unsigned failed = 0, mode = mode_of(c->plan);
    bool foreground = !(mode & (MODE_CREATE | MODE_DETACH));
    int slot = console_slot(c->plan);
    c->mode = mode; /* even if FRONT_MODE itself cannot be done, it tells what a failure means */
    if (foreground)
        foreground_prepare(!(mode & MODE_NO_SUBREAPER));
    int r = run_actor(c, 0, &failed);
    if (r == 0 && c->init_pid <= 0) /* its end would be waited for, for ever */
        r = detail(c, -EPROTO, "the plan makes no process");
    if (r == 0 && !(mode & MODE_CREATE))
        r = await_exec(c);
    if (r < 0)
        return fail(c, answer, (struct failure){failed, r, c->detail});
    c->planner = -1;
    struct failure f;
    if (!(mode & (MODE_CREATE | MODE_EXEC)) && c->record >= 0 && after_start(c, &f) < 0)
        return fail(c, answer, f);
    /* No record: the process is no container's, it came to do its steps and ends by itself (mounts). */
    if (mode & MODE_CREATE && c->record < 0) {
        close_fd(&c->peer);
        (void)wait_pid(c->init_pid, NULL);
    }
    if (!foreground) {
        planner_end(answer);
        return 0;
    }
    /* It ends on its own time; whoever waits for the container reaps it. */
    close_fd(&answer->sock);
    return stay(c, slot);
}

int cmd_launch(const struct invocation *inv) {
    static struct context c;
    struct answer answer;
    struct plan plan;
    char why[1024];
    bool exec = strcmp(inv->command, "exec") == 0;
    planner_ask(inv, &answer);
    if (answer.done) {
        planner_end(&answer);
        return exec && answer.exit_code == 1 ? 255 : answer.exit_code;
    }
    if (load_plan(answer.plan, &plan) < 0) {
        planner_end(&answer);
        if (!exec && answer.record >= 0 && program_undo(answer.record, why, sizeof(why)) < 0)
            log_warning(why);
        return exec ? 255 : 1;
    }
    context_init(&c, &plan, ACTOR_FRONT);
    close_fd(&answer.plan);
    c.record = answer.record;
    c.owner_lock = answer.owner_lock;
    c.planner = answer.sock;
    if (c.record >= 0 && !exec)
        c.journal = journal_open(c.record);
    int code = run_plan(&c, &answer);
    plan_free(&plan);
    return code;
}
