/* Running the plan of a create, run or exec as its front. The host program (corral-runtime, corral-monitor) says what it
 * reports to whom; nothing here prints or exits. */
#ifndef CORRAL_LAUNCH_H
#define CORRAL_LAUNCH_H

#include <limits.h>
#include <stddef.h>

#include "executor/context.h"
#include "executor/run.h"
#include "executor/sys.h"

/* Why a plan ended: the step, its error, and what it said. */
struct failure {
    unsigned step;
    int error;
    const char *detail;
};

/* Maps and checks the plan in a sealed memfd, which is borrowed. 0, or -errno with a text in `why`. */
int launch_load(int fd, struct plan *plan, char *why, size_t size);
/* Frees what launch_load() mapped; strings of the plan are gone then. */
void launch_unload(struct plan *plan);
/* The flags of the plan's FRONT_MODE. */
unsigned launch_mode(const struct plan *plan);
/* The slot of the terminal that stays with the front: made by CONSOLE and not sent away. -1 = none. */
int launch_console_slot(const struct plan *plan);

/* Runs the plan until the process stands: created, or (run, exec) its program executed. 0, or -errno with *f filled;
 * the caller then asks launch_explain() and ends with launch_undo(). */
int launch_run(struct context *c, struct failure *f);
/* The words of a failure: one line in `text`, and what the planner advises in `hint` ("" = nothing). */
void launch_explain(struct context *c, struct failure f, char *text, size_t size, char *hint, size_t hint_size);
/* Kills and reaps what was born, undoes the record unless it is an exec's, lets the owner's lock go. 0, or -errno with
 * the words of the undo in `why`. */
int launch_undo(struct context *c, char *why, size_t size);

/* `corral-runtime holder`: what HOLD executes. Returns its exit code, or never. */
int holder_main(void);

/* ---- this program's file (self.c) ------------------------------------------------------------------------------ */
/* Finds the path of this executable. */
void find_self(void);
/* The path of corral-runtime, "" if /proc is not there; also in a private copy of it. */
const char *self_path(void);
void set_self_path(const char *path);
/* A descriptor to execute, through which nobody can write to the program that `own` is open on (its path: `path`): a sealed
 * memfd, or what comes closest where those may not be executed (CVE-2019-5736). `way` counts from 0, best first, to
 * COPY_WAYS - 1, a copy without a name in `scratch`. Owned by the caller; or -errno. */
#define COPY_WAYS 3u
int private_copy(int own, const char *path, const char *scratch, unsigned way);
/* True if the file that `own` is open on is such a copy. */
bool is_private_copy(int own);

#endif
