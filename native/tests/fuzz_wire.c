/* Fuzz target: whatever the bytes are, decoding refuses them or every accessor stays inside them. */
#include "executor/plan.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void walk(const struct plan *plan) {
    char text[256];
    size_t sum = 0;
    for (unsigned i = 0; i < plan->n_steps; i++) {
        struct step s;
        plan_step(plan, i, &s);
        plan_describe(&s, text, sizeof(text));
        sum += strlen(text) + strlen(s.pointer) + strlen(plan_op_name(s.op));
        for (int a = 0; a < PLAN_ARGS; a++) {
            for (uint32_t b = 0; b < s.arg[a].len; b++)
                sum += (unsigned char)s.arg[a].ptr[b];
            if (s.arg[a].len > 0 && s.arg[a].ptr[s.arg[a].len - 1] == '\0')
                sum += vec_count(&s.arg[a]);
        }
    }
    if (sum == (size_t)-1)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    const char *why;
    struct plan plan;
    /* An exact heap copy, so that one byte too far is seen. */
    uint8_t *copy = malloc(len ? len : 1);
    if (!copy)
        return 0;
    memcpy(copy, bytes, len);
    /* The header is made plausible, or nearly every input would die there. */
    if (len >= sizeof(struct plan_header) && len <= PLAN_MAX) {
        struct plan_header h;
        memcpy(&h, copy, sizeof(h));
        h.magic = PLAN_MAGIC;
        h.version = PLAN_VERSION;
        h.reserved = 0;
        h.total_len = (uint32_t)len;
        h.steps_len %= (uint32_t)(len - sizeof(h)) + 1;
        h.data_len = (uint32_t)(len - sizeof(h)) - h.steps_len;
        memcpy(copy, &h, sizeof(h));
        copy[len - 1] = 0;
    }
    if (plan_decode(&plan, copy, len, &why) == 0) {
        walk(&plan);
        plan_free(&plan);
    }
    free(copy);
    return 0;
}
