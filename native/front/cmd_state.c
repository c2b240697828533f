/* state ID */
#include "front/words.h"

int cmd_state(const struct invocation *inv) {
    static struct context c;
    enum step_op op;
    struct words words;
    if (!program_words(inv, "", 0, 1, 1, &words))
        return exec_python(inv);
    cleanup_fd int record = program_open(inv, words.word[0]);
    if (record < 0)
        return record == -ENOENT ? program_not_found(words.word[0]) : 1;
    return program_run(record, words.word[0], "state.plan", &c, &op) < 0;
}
