/* start ID */
#include "front/words.h"

int cmd_start(const struct invocation *inv) {
    static struct reason why;
    struct words words;
    if (!program_words(inv, "", 0, 1, 1, &words))
        return exec_python(inv);
    const char *id = words.word[0];
    cleanup_fd int record = program_open(inv, id);
    if (record < 0)
        return record == -ENOENT ? program_not_found(id) : 1;
    return program_start(record, &why) < 0 ? program_refuse(id, why.text, why.hint) : 0;
}
