/* Placeholders for the steps that have no function yet: refused, so that the program links at every moment. */
#include "context.h"

#include <errno.h>

#define STEP(NAME, fn, number, sig, text)                                                                              \
    __attribute__((weak)) int step_##fn(struct context *c, const struct step *s) {                                    \
        (void)s;                                                                                                       \
        return detail(c, -ENOSYS, "step " #NAME " is not built in");                                                   \
    }
#include "steps.def"
#undef STEP
