/* A plan as the executor sees it: decoded in place, never copied, never trusted before plan_decode() said so. */
#ifndef CORRAL_PLAN_H
#define CORRAL_PLAN_H

#include <stddef.h>
#include <stdint.h>

#define PLAN_MAGIC   0x504c5243u /* "CRLP", little endian */
#define PLAN_VERSION 1u
#define PLAN_MAX     (16u << 20)
#define PLAN_ARGS    10
#define PLAN_STEPS   4096

enum actor { ACTOR_FRONT = 0, ACTOR_STAGE = 1, ACTOR_INIT = 2 };

enum step_op {
#define STEP(NAME, fn, number, sig, text) OP_##NAME = number,
#include "steps.def"
#undef STEP
};

/* All numbers little endian. The file: header, n_steps steps back to back, then the data area.
 * A step: u16 op, u8 actor, u8 flags, u32 pointer (offset of a string in the data area; 0 is always "");
 * then one u64 per argument of its signature: i = the value; s, b, v = u32 offset, u32 length in the data area.
 * Strings and blobs: `length` bytes followed by a NUL (not counted); s holds no NUL.
 * Vectors: `length` bytes = zero or more strings, each ended by its NUL. */
struct plan_header {
    uint32_t magic;
    uint16_t version;
    uint16_t reserved;
    uint32_t total_len;
    uint32_t n_steps;
    uint32_t steps_len;
    uint32_t data_len;
};

struct arg {
    uint64_t num;      /* i: the value */
    const char *ptr;   /* s, b, v: the bytes */
    uint32_t len;      /* s, b, v: their number, without the closing NUL */
};

#define STEP_OPTIONAL 1u /* an error of this step is reported as a warning, the plan goes on */

struct step {
    enum step_op op;
    enum actor actor;
    unsigned flags;
    unsigned index;       /* position in the plan: what events and failpoints name */
    const char *pointer;  /* place in config.json, "" if none */
    struct arg arg[PLAN_ARGS];
};

struct plan {
    const unsigned char *bytes; /* borrowed: the mapped plan */
    size_t len;
    unsigned n_steps;
    uint32_t *offset;           /* offset of each step; owned by the plan */
};

/* Checks every byte of the plan that is ever read. Returns 0, or -EPROTO with *why set to a static text.
 * `bytes` must stay mapped and unchanged (a sealed memfd, or a private copy) while the plan is used. */
int plan_decode(struct plan *ret, const void *bytes, size_t len, const char **why);
void plan_free(struct plan *plan);

/* Step `index` of a decoded plan; cannot fail. */
void plan_step(const struct plan *plan, unsigned index, struct step *ret);

/* Walks a vector argument: next(NULL) is the first string, NULL ends it. */
const char *vec_next(const struct arg *vec, const char *previous);
size_t vec_count(const struct arg *vec);

/* "mount /srv/x on /data": the step's description with its arguments filled in. Always NUL-terminated. */
void plan_describe(const struct step *step, char *buf, size_t size);
const char *plan_op_name(enum step_op op);

#endif
