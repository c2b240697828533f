/* create, run, exec and mounts: get a plan, run it, commit it or undo it. */
#include <string.h>
#include <sys/stat.h>

#include "executor/journal.h"
#include "front/foreground.h"
#include "front/planner.h"
#include "launch/program.h"

static int fail(struct context *c, struct answer *answer, struct failure f) {
    char text[2048], hint[1024], why[1024];
    launch_explain(c, f, text, sizeof(text), hint, sizeof(hint));
    planner_end(answer);
    log_error(text, hint);
    if (launch_undo(c, why, sizeof(why)) < 0)
        log_warning(why);
    return c->mode & MODE_EXEC ? 255 : 1;
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
    unsigned mode = launch_mode(c->plan);
    bool foreground = !(mode & (MODE_CREATE | MODE_DETACH));
    int slot = launch_console_slot(c->plan);
    struct failure f;
    if (foreground)
        foreground_prepare(!(mode & MODE_NO_SUBREAPER));
    if (launch_run(c, &f) < 0)
        return fail(c, answer, f);
    c->planner = -1;
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
    if (launch_load(answer.plan, &plan, why, sizeof(why)) < 0) {
        log_error(why, "corral-runtime and corral-planner are of different versions");
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
