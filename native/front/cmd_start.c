/* start ID */
#include "front/words.h"

/* Why a container of this status cannot be started, or NULL. */
static const char *refusal(enum record_status status) {
    switch (status) {
    case RECORD_CREATED: return NULL;
    case RECORD_CREATING: return "cannot start a container that is still being created";
    case RECORD_STALE: return "cannot start a container whose creation was interrupted";
    case RECORD_RUNNING: return "cannot start an already running container";
    case RECORD_STOPPED: return "cannot start a container that has stopped";
    }
    return "cannot start it";
}

int cmd_start(const struct invocation *inv) {
    static struct context c;
    enum step_op op = OP_RELEASE;
    struct words words;
    if (!program_words(inv, "", 0, 1, 1, &words))
        return exec_python(inv);
    const char *id = words.word[0];
    cleanup_fd int record = program_open(inv, id);
    if (record < 0)
        return record == -ENOENT ? program_not_found(id) : 1;
    int status = program_status(record, id);
    if (status < 0)
        return 1;
    const char *why = refusal((enum record_status)status);
    if (why)
        return program_refuse(id, why, status == RECORD_STALE ? "delete it, and create it again" : NULL);
    int r = program_run(record, id, "start.plan", &c, &op);
    /* Source: runtime-spec runtime.md "Lifecycle" step 9: what a poststart hook refuses is stopped. */
    if (r < 0 && op == OP_HOOK && c.init_pidfd >= 0)
        (void)sys_pidfd_send_signal(c.init_pidfd, SIGKILL);
    return r < 0;
}
