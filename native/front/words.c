/* What the commands of one container share: their words, their record, their refusals. */
#include "front/words.h"

#include <string.h>

static bool is_option(const char *word, const char *option, char letter) {
    if (letter && word[0] == '-' && word[1] == letter && word[2] == '\0')
        return true;
    word += word[1] == '-' ? 2 : 1;
    size_t n = strlen(option);
    return n && strncmp(word, option, n) == 0 && (word[n] == '\0' || strcmp(word + n, "=true") == 0);
}

bool program_words(const struct invocation *inv, const char *option, char letter, int least, int most, struct words *ret) {
    bool only_words = false;
    *ret = (struct words){0};
    for (int i = inv->args; i < inv->argc; i++) {
        const char *word = inv->argv[i];
        if (!only_words && strcmp(word, "--") == 0) {
            only_words = true;
        } else if (!only_words && word[0] == '-' && word[1]) {
            if (!is_option(word, option, letter))
                return false;
            ret->flag = true;
        } else {
            if (ret->n == most)
                return false;
            ret->word[ret->n++] = word;
        }
    }
    return ret->n >= least;
}

int program_refuse(const char *id, const char *text, const char *hint) {
    char message[3072];
    fmt(message, sizeof(message), "container '%s': %s", id, text);
    log_error(message, hint);
    return 1;
}

int program_not_found(const char *id) {
    return program_refuse(id, "container does not exist",
                          "`corral-runtime list` shows all of this state root; --root chooses another");
}

int program_open(const struct invocation *inv, const char *id) {
    char text[PATH_MAX + 300];
    int record = record_open(inv->root, id);
    if (record >= 0 || record == -ENOENT)
        return record;
    if (record == -EINVAL) {
        fmt(text, sizeof(text), "container '%s': invalid container id format", id);
        log_error(text, "an id is made of letters, digits and '_', '+', '-', '.', and does not begin with '.'");
    } else if (record == -EPERM) {
        (void)program_refuse(id, "its record is another user's, or others may write to it", "use it as the user who made it");
    } else {
        fmt(text, sizeof(text), "open '%s/%s': %s", inv->root, id, error_text(record));
        log_error(text, NULL);
    }
    return record;
}

int program_status(int record, const char *id) {
    char text[256];
    int status = record_status(record);
    if (status < 0) {
        fmt(text, sizeof(text), "read its status: %s", error_text(status));
        (void)program_refuse(id, text, NULL);
    }
    return status;
}

int program_run(int record, const char *id, const char *name, struct context *c, enum step_op *op) {
    static struct program program;
    static struct reason why;
    int r = program_execute(record, name, c, &program, &why);
    if (r < 0)
        (void)program_refuse(id, why.text, why.hint);
    *op = why.op;
    return r;
}
