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

struct invocation;

/* What a command of one container looks like: its options were all known, and its words are these. */
struct words {
    const char *word[3];
    int n;
    bool flag; /* the command's only option was there */
};

/* Sorts the words after the command. False if there is an option besides `option` and `letter`, or another number of
 * words than from `least` to `most`: then the command is Python's, who knows all options and says what is wrong. */
bool program_words(const struct invocation *inv, const char *option, char letter, int least, int most, struct words *ret);

/* Opens the record of a container. -ENOENT is left to the caller; other errors are logged. */
int program_open(const struct invocation *inv, const char *id);
/* "container 'x': container does not exist". Returns the exit code. */
int program_not_found(const char *id);
/* "container 'x': TEXT". Returns the exit code. */
int program_refuse(const char *id, const char *text, const char *hint);
/* The record's status, or -errno after a log. */
int program_status(int record, const char *id);
/* Loads and runs one program of the record; logs what goes wrong. The context stays valid for the caller. Returns 0 or
 * the error of the step that ended it, whose operation is stored in *op. */
int program_run(int record, const char *id, const char *name, struct context *c, enum step_op *op);

/* What KILL_SCOPE sends. */
struct kill_request {
    int signal;
    bool all;
};
extern struct kill_request kill_request;

/* Kills the first process and waits for its end. 0, also if there is none; -ETIMEDOUT; or another -errno. */
int program_kill_init(struct context *c, int record, int64_t budget_ms);

#endif
