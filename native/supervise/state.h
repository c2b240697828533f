/* What a monitor leaves to its successor: one file, mapped, in the run directory. It outlives processes, not a reboot. */
#ifndef CORRAL_STATE_H
#define CORRAL_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "supervise/spec.h"

#define COUNTER_TEXT 512

/* One stream's piece of output on its way. IDLE: what lies in the second pipe is not in the log. LOGGING: `raw` bytes of the
 * `held` bytes that lay there are in the log as `formatted` bytes at `offset`, or about to be. */
enum piece_phase { PIECE_IDLE = 0, PIECE_LOGGING = 1 };
struct piece {
    uint32_t phase, raw, held, formatted;
    uint64_t offset, inode; /* in which file */
};

struct state {
    uint32_t magic, init;  /* init: its pid, 0 = not born */
    uint64_t start_time;   /* of init, in clock ticks */
    struct piece piece[2]; /* stdout (or the terminal), stderr */
    uint32_t counters_read;
    char before[COUNTERS][COUNTER_TEXT];
};

/* Maps the file `pump` of the run directory; made anew unless `adopt`. NULL and *error on failure. */
struct state *state_map(int run, bool adopt, int *error);
void state_unmap(struct state *state); /* NULL is fine */

/* What a successor has to do with the piece that it finds: `cut` (>= 0) = the log must be cut to this length, `drain` = so
 * many bytes of the second pipe are in the log. `size`, `inode`: the log's; `held`: what lies in the second pipe. */
struct recovery {
    int64_t cut;
    uint32_t drain;
};
struct recovery piece_recover(const struct piece *p, uint64_t size, uint64_t inode, uint32_t held);

#endif
