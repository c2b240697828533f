/* The pre-rendered programs of a record: start, kill, state, delete. No Python. */
#ifndef CORRAL_PROGRAM_H
#define CORRAL_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

#include "executor/context.h"
#include "executor/record.h"

/* Undoes or deletes a container by its record's delete.plan: first process (verified by its `live` file, through a
 * pidfd), cgroups by the journal, poststop hooks once, then the record itself. `record` is borrowed and may be a
 * record of any age: stale, created, running or stopped. Goes on past failures; returns 0, or the first -errno with
 * all of them in `why` ("" on success). It takes no lock: the caller holds owner.lock of an unfinished record already. */
int program_undo(int record, char *why, size_t size);

/* Takes the record's owner.lock within timeout_ms. Returns the locked descriptor, -ENOENT if there is no such file,
 * -EBUSY if another process kept it, or another -errno. */
int program_lock(int record, int timeout_ms);

/* One loaded program. */
struct program {
    struct plan plan;
    void *bytes;
};

/* Reads `name` ("start.plan") from the record. 0, or -errno with a text in `why`. */
int program_load(int record, const char *name, struct program *ret, char *why, size_t size);
void program_free(struct program *p);
/* Makes the context of a program: record (borrowed) and journal. */
void program_context(struct context *c, const struct program *p, int record);

/* Why a program ended early: the step's operation (OP_WARN: it could not be loaded) and one line for people. */
struct reason {
    enum step_op op;
    char text[2048], hint[256];
};

/* Loads and runs one program of the record. Context and program stay valid for the caller. 0, or -errno with *why. */
int program_execute(int record, const char *name, struct context *c, struct program *p, struct reason *why);

/* start: lets a created container's init execute its program, then runs what start.plan says of that moment. 0, or -errno
 * with *why; a container whose poststart hook refused is being killed then. */
int program_start(int record, struct reason *why);

/* Undoes the unfinished record at `path`, unless its maker lives or has committed it meanwhile. 0, also if it is gone; or
 * -errno with a text in `why`. */
int program_reclaim(const char *path, char *why, size_t size);

/* What KILL_SCOPE sends. */
struct kill_request {
    int signal;
    bool all;
};
extern struct kill_request kill_request;

/* Kills the first process and waits for its end. 0, also if there is none; -ETIMEDOUT; or another -errno. */
int program_kill_init(struct context *c, int record, int64_t budget_ms);

#endif
