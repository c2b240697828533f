/* delete [--force] ID */
#include <string.h>

#include "executor/cgroup.h"
#include "front/words.h"

#define LOCK_MS 15000
#define MAKER_MS 1000 /* a maker that was killed leaves a planner behind, which notices, and lets go of the lock, soon */
#define KILL_MS 10000

/* True if the record still has its name: another delete may have been faster. */
static bool still_there(const struct invocation *inv, const char *id, int record) {
    struct stat own, named;
    cleanup_fd int now = record_open(inv->root, id);
    return now >= 0 && fstat(now, &named) == 0 && fstat(record, &own) == 0 && own.st_ino == named.st_ino;
}

/* True for a container that somebody paused: its groups are those that its delete.plan begins with. */
static bool is_paused(int record) {
    static struct context c; /* large; what it opens ends with us */
    static struct program program;
    char why[1024];
    unsigned failed = 0;
    struct step s;
    if (program_load(record, "delete.plan", &program, why, sizeof(why)) < 0)
        return false;
    unsigned n = 0;
    for (; n < program.plan.n_steps; n++) {
        plan_step(&program.plan, n, &s);
        if (s.op != OP_CG_DEFINE)
            break;
    }
    program.plan.n_steps = n;
    program_context(&c, &program, record);
    return run_actor(&c, 0, &failed) == 0 && cg_is_frozen(&c);
}

/* Only what has ended, never began or was half made goes without --force: created containers too, as with runc.
 * `mine`: the owner lock is ours, so nobody is making it. */
static int check_status(int record, const char *id, bool force, bool mine) {
    char text[512];
    const char *name;
    int status = program_status(record, id);
    if (status < 0)
        return status;
    switch ((enum record_status)status) {
    case RECORD_STOPPED:
    case RECORD_STALE: return 0;
    case RECORD_CREATED:
    case RECORD_CREATING:
    case RECORD_RUNNING: break;
    }
    bool paused = !force && status != RECORD_CREATING && is_paused(record);
    if (force || (status == RECORD_CREATED && !paused) || (mine && status == RECORD_CREATING))
        return 0;
    name = paused ? "paused" : record_status_name((enum record_status)status);
    fmt(text, sizeof(text), "cannot delete container %s that is not stopped: %s", id, name);
    log_error(text, "stop it first, or delete it with --force");
    return -EBUSY;
}

static int delete_locked(const struct invocation *inv, const char *id, int record, bool force, bool mine) {
    static char why[4096];
    char text[4400];
    if (!still_there(inv, id, record))
        return force ? 0 : program_not_found(id);
    if (check_status(record, id, force, mine) < 0)
        return 1;
    if (program_undo(record, why, sizeof(why)) == 0)
        return 0;
    fmt(text, sizeof(text), "delete container '%s': %s", id, why);
    log_error(text, "the rest was undone and its record is kept: delete it again when the cause is gone");
    return 1;
}

int cmd_delete(const struct invocation *inv) {
    struct words words;
    if (!program_words(inv, "force", 'f', 1, 1, &words))
        return exec_python(inv);
    const char *id = words.word[0];
    cleanup_fd int record = program_open(inv, id);
    if (record == -ENOENT)
        return words.flag ? 0 : program_not_found(id);
    if (record < 0)
        return 1;
    cleanup_fd int lock = -1;
    if (program_status(record, id) == RECORD_CREATING)
        lock = program_lock(record, MAKER_MS);
    /* Asked before the lock is waited for: while it is being made, its maker has it. */
    if (check_status(record, id, words.flag, lock >= 0) < 0)
        return 1;
    /* A maker that loses its container's process undoes everything itself, and lets go of the lock. */
    if (lock < 0 && record_lock_is_held(record, "owner.lock") == 1)
        (void)program_kill_init(NULL, record, KILL_MS);
    if (lock < 0)
        lock = program_lock(record, LOCK_MS);
    if (lock == -EBUSY)
        return program_refuse(id, "delete it: another process is at work on it", "try again when that has ended");
    return delete_locked(inv, id, record, words.flag, lock >= 0);
}
