/* What the commands of one container share: their words, their record, their refusals. */
#ifndef CORRAL_WORDS_H
#define CORRAL_WORDS_H

#include "front/front.h"
#include "launch/program.h"

/* What a command of one container looks like: its options were all known, and its words are these. */
struct words {
    const char *word[3];
    int n;
    bool flag; /* the command's only option was there */
};

/* Sorts the words after the command. False if there is an option besides `option` and `letter`, or another number of
 * words than from `least` to `most`: then the command is Python's, who knows all options and says what is wrong. */
bool program_words(const struct invocation *inv, const char *option, char letter, int least, int most, struct words *ret);

/* Opens the record of a container. -ENOENT is left to the caller; other errors are logged. */
int program_open(const struct invocation *inv, const char *id);
/* "container 'x': container does not exist". Returns the exit code. */
int program_not_found(const char *id);
/* "container 'x': TEXT". Returns the exit code. */
int program_refuse(const char *id, const char *text, const char *hint);
/* The record's status, or -errno after a log. */
int program_status(int record, const char *id);
/* Runs one program of the record; logs what goes wrong. The context stays valid for the caller. Returns 0 or the error of
 * the step that ended it, whose operation is stored in *op. */
int program_run(int record, const char *id, const char *name, struct context *c, enum step_op *op);

#endif
