/* The pre-rendered programs of a record: start, kill, state, delete. No Python. */
#ifndef CORRAL_PROGRAM_H
#define CORRAL_PROGRAM_H

#include <stddef.h>

#include "executor/context.h"

/* Undoes or deletes a container by its record's delete.plan: first process (verified by its `live` file, through a
 * pidfd), cgroups by the journal, poststop hooks once, then the record itself. `record` is borrowed and may be a
 * record of any age: stale, created, running or stopped. Goes on past failures; returns 0, or the first -errno with
 * all of them in `why` ("" on success). It takes no lock: the caller holds owner.lock of an unfinished record already. */
int program_undo(int record, char *why, size_t size);

#endif
