/* Placeholders for commands without a file yet, so that the program links at every moment. */
#include "front/front.h"
#include "front/program.h"

#define STUB(name)                                                                                                     \
    __attribute__((weak)) int name(const struct invocation *inv) {                                                     \
        (void)inv;                                                                                                     \
        log_error(#name ": not built in", NULL);                                                                       \
        return 1;                                                                                                      \
    }
STUB(cmd_state)
STUB(cmd_start)
STUB(cmd_kill)
STUB(cmd_delete)

__attribute__((weak)) int program_undo(int record, char *why, size_t size) {
    (void)record;
    fmt(why, size, "undo: not built in");
    return -ENOSYS;
}
