/* Decoding a plan: every offset is checked here, once; afterwards the accessors cannot fail. */
#include "plan.h"
#include "sys.h"

#include <stdlib.h>
#include <string.h>

#define STEP_HEAD 8u /* u16 op, u8 actor, u8 flags, u32 pointer */

static const struct signature {
    uint16_t number;
    const char *args;
    const char *name;
    const char *text;
} signatures[] = {
#define STEP(NAME, fn, number, sig, text) {number, sig, #NAME, text},
#include "steps.def"
#undef STEP
};

/* Numbers are below 160 and sparse: an index by number spares a search for each step of each plan. */
#define OP_LIMIT 160
static uint8_t signature_index[OP_LIMIT];

static const struct signature *find_signature(unsigned number) {
    if (signature_index[1] == 0)
        for (size_t i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++)
            signature_index[signatures[i].number] = (uint8_t)(i + 1);
    if (number >= OP_LIMIT || signature_index[number] == 0)
        return NULL;
    return &signatures[signature_index[number] - 1];
}

#define STEP(NAME, fn, number, sig, text)                                                                              \
    _Static_assert((number) > 0 && (number) < OP_LIMIT && sizeof(sig) - 1 <= PLAN_ARGS, "step " #NAME);
#include "steps.def"
#undef STEP

static uint16_t load16(const unsigned char *at) {
    uint16_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static uint32_t load32(const unsigned char *at) {
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static uint64_t load64(const unsigned char *at) {
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

struct area {
    const unsigned char *bytes;
    uint32_t len;
};

static const char *check_reference(struct area data, char kind, uint64_t word) {
    uint32_t offset = (uint32_t)word, len = (uint32_t)(word >> 32);
    if (offset > data.len || len > data.len - offset)
        return "an argument lies outside the data area";
    if (kind == 'v') {
        if (len > 0 && data.bytes[offset + len - 1] != '\0')
            return "a vector's last string has no end";
        return NULL;
    }
    if (offset + len >= data.len || data.bytes[offset + len] != '\0')
        return "a string has no end";
    if (kind == 's' && memchr(data.bytes + offset, '\0', len))
        return "a string holds a NUL";
    return NULL;
}

/* Checks one step at `at`, of which `left` bytes exist, and stores its size. */
static const char *check_step(const unsigned char *at, size_t left, struct area data, size_t *size) {
    if (left < STEP_HEAD)
        return "a step is cut off";
    const struct signature *sig = find_signature(load16(at));
    if (!sig)
        return "a step is not known to this version";
    if (at[2] > ACTOR_INIT)
        return "an actor is not known";
    if (at[3] & ~STEP_OPTIONAL)
        return "a step's flag is not known";
    if (load32(at + 4) >= data.len)
        return "a pointer lies outside the data area";
    size_t n = strlen(sig->args);
    if (left - STEP_HEAD < n * 8)
        return "a step's arguments are cut off";
    for (size_t i = 0; i < n; i++) {
        if (sig->args[i] == 'i')
            continue;
        const char *why = check_reference(data, sig->args[i], load64(at + STEP_HEAD + i * 8));
        if (why)
            return why;
    }
    *size = STEP_HEAD + n * 8;
    return NULL;
}

static const char *check_header(const unsigned char *bytes, size_t len, struct plan_header *ret) {
    if (len < sizeof(*ret) || len > PLAN_MAX)
        return "it is too short or too long";
    memcpy(ret, bytes, sizeof(*ret));
    if (ret->magic != PLAN_MAGIC)
        return "it is not a plan";
    if (ret->version != PLAN_VERSION)
        return "it was made by another version";
    if (ret->reserved != 0 || ret->total_len != len || ret->n_steps > PLAN_STEPS)
        return "its header is malformed";
    if ((uint64_t)sizeof(*ret) + ret->steps_len + ret->data_len != len || ret->data_len == 0)
        return "its lengths do not add up";
    /* Ends every pointer string, wherever it starts. */
    if (bytes[sizeof(*ret) + ret->steps_len] != '\0' || bytes[len - 1] != '\0')
        return "its data area does not begin and end with NUL";
    return NULL;
}

int plan_decode(struct plan *ret, const void *bytes, size_t len, const char **why) {
    struct plan_header header;
    *ret = (struct plan){.bytes = bytes, .len = len};
    *why = check_header(bytes, len, &header);
    if (*why)
        return -EPROTO;
    struct area data = {ret->bytes + sizeof(header) + header.steps_len, header.data_len};
    ret->offset = calloc((size_t)header.n_steps + 1, sizeof(uint32_t));
    if (!ret->offset)
        return -ENOMEM;
    size_t at = sizeof(header), end = at + header.steps_len;
    for (uint32_t i = 0; i < header.n_steps && !*why; i++) {
        size_t size = 0;
        ret->offset[i] = (uint32_t)at;
        *why = check_step(ret->bytes + at, end - at, data, &size);
        at += size;
    }
    if (!*why && at != end)
        *why = "bytes follow its last step";
    if (*why) {
        plan_free(ret);
        return -EPROTO;
    }
    ret->n_steps = header.n_steps;
    return 0;
}

void plan_free(struct plan *plan) {
    free(plan->offset);
    plan->offset = NULL;
    plan->n_steps = 0;
}

void plan_step(const struct plan *plan, unsigned index, struct step *ret) {
    const unsigned char *at = plan->bytes + plan->offset[index];
    const char *data = (const char *)plan->bytes + plan->len - load32(plan->bytes + offsetof(struct plan_header, data_len));
    const struct signature *sig = find_signature(load16(at));
    ret->op = (enum step_op)sig->number;
    ret->actor = (enum actor)at[2];
    ret->flags = at[3];
    ret->index = index;
    ret->pointer = data + load32(at + 4);
    for (size_t i = 0; i < PLAN_ARGS; i++)
        ret->arg[i] = (struct arg){.ptr = ""};
    for (size_t i = 0; sig->args[i]; i++) {
        uint64_t word = load64(at + STEP_HEAD + i * 8);
        if (sig->args[i] == 'i')
            ret->arg[i].num = word;
        else
            ret->arg[i] = (struct arg){.ptr = data + (uint32_t)word, .len = (uint32_t)(word >> 32)};
    }
}

const char *vec_next(const struct arg *vec, const char *previous) {
    const char *next = previous ? previous + strlen(previous) + 1 : vec->ptr;
    return next < vec->ptr + vec->len ? next : NULL;
}

size_t vec_count(const struct arg *vec) {
    size_t n = 0;
    for (const char *s = vec_next(vec, NULL); s; s = vec_next(vec, s))
        n++;
    return n;
}

const char *plan_op_name(enum step_op op) {
    const struct signature *sig = find_signature((unsigned)op);
    return sig ? sig->name : "?";
}

static size_t put_argument(char *buf, size_t size, const struct arg *arg, char kind) {
    size_t n = 0;
    if (kind == 'i')
        return fmt(buf, size, "%lld", (long long)arg->num);
    if (kind == 's')
        return fmt(buf, size, "%s", arg->ptr);
    if (kind == 'b')
        return fmt(buf, size, "%u bytes", arg->len);
    for (const char *s = vec_next(arg, NULL); s; s = vec_next(arg, s))
        n += fmt(buf + n, size - n, n ? " %s" : "%s", s);
    return n;
}

void plan_describe(const struct step *step, char *buf, size_t size) {
    const struct signature *sig = find_signature((unsigned)step->op);
    size_t n = 0;
    buf[0] = '\0';
    for (const char *t = sig->text; *t && n + 1 < size;) {
        if (t[0] == '{' && t[1] >= '0' && t[1] <= '9' && t[2] == '}' && (size_t)(t[1] - '0') < strlen(sig->args)) {
            n += put_argument(buf + n, size - n, &step->arg[t[1] - '0'], sig->args[t[1] - '0']);
            t += 3;
            continue;
        }
        buf[n++] = *t++;
        buf[n] = '\0';
    }
}
